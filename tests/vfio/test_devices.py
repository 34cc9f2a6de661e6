"""Real devices behind a real IOMMU: QEMU's edu and nvme, driven by components in one test bed.

The bed is booted once; each test runs a system in it.
"""

from __future__ import annotations

import hashlib
import json
import random
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from hypervisor.abi import generated as abi
from images.bed import BedStalled
from images.bed.bed import Bed
from images.guests import build
from images.image import build as build_image
from tests.bed import needs_qemu
from vmm.cli.faults import meaning

ROOT = Path(__file__).resolve().parents[2]
pytestmark = needs_qemu
EDU, NVME = "0000:00:10.0", "0000:00:11.0"
OUTSIDE = 0x12345000  # where guests/programs/edu sends the device
FILES, FILE_BYTES, TIMES = 6, 3 << 20, 4
SEED = 17
SECONDS = 60


@dataclass
class Ending:
    """How a system has ended: `tests.vfio.inside`."""

    output: str
    report: dict[str, Any]

    @property
    def status(self) -> int | None:
        """The program's; None if the system has not come so far."""
        status: int | None = self.report["status"]
        return status

    @property
    def blamed(self) -> list[tuple[str, int, str, int]]:
        """Component, kind, message and address of each fault record."""
        numbers = "kind", "vector", "error_code", "address"
        return [
            (each["component"], each["kind"], each["message"] or meaning(*(each[key] for key in numbers)),
             each["address"])
            for each in self.report["records"]
        ]  # fmt: skip

    @property
    def faults(self) -> list[str]:
        """What the kernel has said about refused DMA."""
        return [line for line in self.report["kernel"] if "DMAR: [DMA" in line]

    def texts(self, component: str) -> list[str]:
        """What the system's log says about a component."""
        return [text for name, _, text in self.report["log"] if name == component]


Play = Callable[..., Ending]


def contents() -> Iterator[bytes]:
    """Of file0, file1, ...: more together than the file server's cache holds."""
    dice = random.Random(SEED)
    return (dice.randbytes(FILE_BYTES) for _ in range(FILES))


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that the bed may write to, with the disk's image."""
    build()
    folder = tmp_path_factory.mktemp("vfio")
    source = folder / "source"
    source.mkdir()
    for number, data in enumerate(contents()):
        (source / f"file{number}").write_bytes(data)
    build_image(source, folder / "disk.img")
    return folder


class Machine:
    """The bed, booted when it is wanted."""

    def __init__(self, shared: Path) -> None:
        self.shared, self.bed = shared, boot(shared)

    def run(self, command: list[str]) -> int:
        """Runs a command in it. Now and then QEMU's processors get stuck in its interrupt handling, with all
        that runs in them, in runs with its edu device; then the machine is booted again, once, and a warning
        says so. A command that hangs in a machine that lives is not tried again."""
        try:
            return self.bed.run(command, cwd=ROOT, stdin=None, time_limit=SECONDS)
        except BedStalled as error:
            warnings.warn(f"the bed was booted again: {error}", stacklevel=2)
            self.bed.close()
            self.bed = boot(self.shared)
            return self.bed.run(command, cwd=ROOT, stdin=None, time_limit=SECONDS)


def boot(shared: Path) -> Bed:
    """A bed with both devices."""
    drives = [f"file={shared}/disk.img,if=none,id=disk,format=raw"]
    devices = ["edu,addr=0x10,dma_mask=0xffffffffffffffff", "nvme,addr=0x11,drive=disk,serial=r3s3"]
    vfio = [(0x1234, 0x11E8), (0x1B36, 0x0010)]
    return Bed(iommu=True, devices=devices, drives=drives, vfio=vfio, writable=[shared])


@pytest.fixture(scope="module")
def machine(shared: Path) -> Iterator[Machine]:
    made = Machine(shared)
    yield made
    made.bed.close()


@pytest.fixture
def play(machine: Machine, shared: Path) -> Play:
    """Runs a program in a system of images/ that drives the device at an address."""

    def play_it(system: str, address: str, *words: str, kill: str = "") -> Ending:
        command = [sys.executable, "-m", "tests.vfio.inside", str(shared), system, address, kill, *words]
        assert machine.run(command) == 0
        return Ending((shared / "output").read_text(), json.loads((shared / "report.json").read_text()))

    return play_it


@pytest.mark.parametrize(("words", "output"), [("factorial 10", "3628800\n"), ("copy", ""), ("fill", "")])
def test_dma_inside_the_windows(play: Play, words: str, output: str) -> None:
    ending = play("images/edu.toml", EDU, "edu", *words.split())
    assert (ending.report["error"], ending.output, ending.status) == (None, output, 0)
    assert (ending.blamed, ending.faults) == ([], [])


@pytest.mark.parametrize("direction", ["read", "write"])
def test_dma_outside_is_refused_and_its_driver_replaced(play: Play, direction: str) -> None:
    """The program asks again afterwards, so it has been served by the successor."""
    ending = play("images/edu.toml", EDU, "edu", "outside", direction)
    assert (ending.output, ending.status) == ("", 0)
    what = f"the IOMMU refused a {direction} by it at I/O address {OUTSIDE:#x}"
    assert ending.blamed == [("edu_driver", abi.Fault.DMA, what, OUTSIDE)]
    (line,) = ending.faults
    assert f"[DMA {direction.title()} " in line
    assert f" addr {OUTSIDE:#x} " in line
    texts = ending.texts("edu_driver")
    assert f"died: dma: {what}" in texts
    assert any(text.startswith("recovered from dma: ") for text in texts)


def test_nothing_lands_where_a_window_has_been_closed(play: Play) -> None:
    """The program looks at its memory afterwards, and says if it has changed."""
    ending = play("images/edu.toml", EDU, "edu", "closed")
    assert (ending.output, ending.status) == ("", 0)
    assert [each[:2] + each[3:] for each in ending.blamed] == [("edu_driver", abi.Fault.DMA, abi.GRANT_IOVA)]
    assert len(ending.faults) == 1


def test_nothing_lands_in_memory_that_was_taken_back(play: Play) -> None:
    """The program looks, and says. Nobody is blamed: the driver may not have known yet. (The emulated IOMMU
    may keep the refusal to itself, after another by the same device.)"""
    ending = play("images/edu.toml", EDU, "edu", "revoked")
    assert (ending.output, ending.status, ending.blamed) == ("", 0, [])
    wanted = f"[DMA Write NO_PASID] Request device [{EDU[5:]}] fault addr {abi.GRANT_IOVA:#x} "
    assert all(wanted in line for line in ending.faults)


def read_everything(play: Play, kill: str) -> Ending:
    """All files, several times, while something is killed; the digests are those of what was written."""
    names = [f"/file{number}" for number in range(FILES)] * TIMES
    ending = play("images/nvme.toml", NVME, "sha256sum", *names, kill=kill)
    assert (ending.report["error"], ending.status) == (None, 0)
    digests = [hashlib.sha256(data).hexdigest() for data in contents()] * TIMES
    assert ending.output.splitlines() == [
        f"{digest}  {name}" for digest, name in zip(digests, names, strict=True)
    ]
    assert ending.report["failed_requests"] == 0
    assert ending.faults == []
    return ending


def test_files_on_a_real_disk(play: Play) -> None:
    assert read_everything(play, "").blamed == []


def test_a_driver_killed_in_the_middle(play: Play) -> None:
    ending = read_everything(play, "nvme_driver@5")
    deaths = [each[:2] for each in ending.blamed]
    assert deaths == [("nvme_driver", abi.Fault.KILLED)] * ending.report["kills"]
    assert deaths


def test_a_keeper_killed_in_the_middle(play: Play) -> None:
    """The device is silenced, then kept by another."""
    ending = read_everything(play, "keeper")
    assert [each[:2] for each in ending.blamed] == [("nvme_driver", abi.Fault.DEVICE_DIED)]


def test_a_driver_for_another_device(play: Play) -> None:
    ending = play("images/edu.toml", NVME, "edu", "copy")
    assert ending.report["error"] == (
        f"disk pci:{NVME}: the driver is for 1234:11e8, this is 1b36:0010; name another device"
    )


def test_a_device_of_the_host(play: Play) -> None:
    """The bed's own first device is bound to virtio-pci."""
    ending = play("images/edu.toml", "0000:00:01.0", "edu", "copy")
    assert ending.report["error"].startswith(
        "pci:0000:00:01.0: it is bound to virtio-pci, not to vfio-pci; as root: modprobe vfio-pci; echo "
    )
