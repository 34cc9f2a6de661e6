"""Writing to a real disk by way of its driver: NVMe behind an IOMMU, in the bed. What survives the death of
the driver, of the keeper and of the machine; and what a driver does not get: the table of interrupts.

tests/guests/disk_writer is the client; `tests.vfio.writing` knows what it does.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hypervisor.abi import generated as abi
from images.bed import BedError
from images.bed.bed import Bed
from images.guests import build
from tests.bed import needs_qemu
from tests.vfio import writing
from tests.vfio.test_devices import NVME, Ending

ROOT = Path(__file__).resolve().parents[2]
pytestmark = needs_qemu
GUESTS = ("reincarnation_server", "nvme_driver", "disk_writer", "prying_driver")
CAREFUL = "0000:00:12.0"  # a second disk, which really holds back what has not been flushed
COUNT, BATCH = 1000, 150  # a batch takes longer than it takes to kill somebody; much is left after the third
LITTLE = 64
LINES = 3  # before the machine ends
SECONDS = 60


class Machine:
    """A bed with two disks, booted when it is wanted: a plain image, and an empty qcow2 one, for which
    QEMU keeps to itself what is where until there is a flush."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.image, self.careful = folder, folder / "disk.img", folder / "disk.qcow2"
        self.image.write_bytes(writing.fresh())
        build(GUESTS, report=lambda _: None)
        size = str(writing.SECTORS * writing.SECTOR)
        words = [
            "qemu-img",
            "create",
            "-q",
            "-f",
            "qcow2",
            "-o",
            "cluster_size=4096",
            str(self.careful),
            size,
        ]
        subprocess.run(words, check=True)
        self._bed: Bed | None = None

    @property
    def bed(self) -> Bed:
        """Booted now if there is none."""
        if self._bed is None:
            kinds = {"plain": (self.image, "raw", NVME), "careful": (self.careful, "qcow2", CAREFUL)}
            drives = [
                f"file={path},if=none,id={name},format={kind},discard=unmap"
                for name, (path, kind, _) in kinds.items()
            ]
            devices = [
                f"nvme,addr=0x{address[8:10]},drive={name},serial={name}"
                for name, (_, _, address) in kinds.items()
            ]
            vfio = [(0x1B36, 0x0010)]
            self._bed = Bed(iommu=True, devices=devices, drives=drives, vfio=vfio, writable=[self.folder])
        return self._bed

    def end(self) -> None:
        """With all that runs in it, at once."""
        if self._bed:
            self._bed.close()
            self._bed = None

    def run(self, *words: str, system: str = "", disk: str = NVME, kill: str = "") -> None:
        """Runs `disk_writer` in a system (by default that of the real driver)."""
        (self.folder / "system.toml").write_text(system or writing.system("nvme_driver"))
        place = [str(self.folder), str(self.folder / "system.toml"), disk]
        command = [sys.executable, "-m", "tests.vfio.inside", *place, kill, "disk_writer", *words]
        assert self.bed.run(command, cwd=ROOT, stdin=None, time_limit=SECONDS) == 0

    def play(self, *words: str, system: str = "", kill: str = "") -> Ending:
        """The same on a plain disk that has never been written to, to its end."""
        self.image.write_bytes(writing.fresh())
        self.run(*words, system=system, kill=kill)
        return Ending(self.output(), json.loads((self.folder / "report.json").read_text()))

    def output(self) -> str:
        """The program's, so far."""
        return (self.folder / "output").read_text()


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    made = Machine(tmp_path_factory.mktemp("writes"))
    yield made
    made.end()


def check(machine: Machine, ending: Ending, count: int, seed: int) -> int:
    """All was written and discarded, 1 to 256 sectors at a time, beginning anywhere, and nothing else has
    changed. How often a write had to be asked for again."""
    assert (ending.report["error"], ending.status) == (None, 0), ending.output
    assert writing.differences(machine.image.read_bytes(), writing.after(count, seed)) == []
    assert ending.faults == []
    *_, last = ending.output.splitlines()
    return int(last.removeprefix("repeated "))


def test_driver_and_keeper_killed_in_the_middle(machine: Machine) -> None:
    """Each while many writes are under way."""
    victims = "lines:nvme_driver,keeper,nvme_driver"
    ending = machine.play("write", str(COUNT), "12", str(BATCH), kill=victims)
    assert check(machine, ending, COUNT, 12) >= 3
    deaths = [each[:2] for each in ending.blamed]
    kinds = abi.Fault.KILLED, abi.Fault.DEVICE_DIED, abi.Fault.KILLED
    assert deaths == [("nvme_driver", kind) for kind in kinds]


def test_read_only(machine: Machine) -> None:
    """Which this driver keeps, not the disk."""
    ending = machine.play("refused", system=writing.system("nvme_driver", read_only=True))
    assert (ending.report["error"], ending.output, ending.status) == (None, "", 0)
    assert machine.image.read_bytes() == writing.fresh()


def test_the_table_of_interrupts_is_out_of_reach(machine: Machine) -> None:
    """It lies right behind the registers. Each try ends a driver; the third gets its interrupts as ever."""
    manifest = ROOT / "tests/guests/prying_driver/manifest.toml"
    ending = machine.play("write", "200", "13", system=writing.system("nvme_driver", manifest=manifest))
    check(machine, ending, 200, 13)
    tries = [(name, kind, message.partition(" ")[0]) for name, kind, message, _ in ending.blamed]
    kind = abi.Fault.WINDOW
    assert tries == [("nvme_driver", kind, "load"), ("nvme_driver", kind, "store")]


def test_a_driver_that_wants_the_table_of_interrupts(machine: Machine) -> None:
    manifest = machine.folder / "manifest.toml"
    text = (ROOT / "components/nvme_driver/manifest.toml").read_text()
    manifest.write_text(text.replace('"8 KiB"', '"12 KiB"'))
    ending = machine.play("refused", system=writing.system("nvme_driver", manifest=manifest))
    there = "8192 bytes up to its end or the table of interrupts"
    assert ending.report["error"] == (
        f"disk pci:{NVME}: of its BAR 0, {there}, the driver wants to map 12288"
    )


def test_what_was_flushed_survives_the_machine(machine: Machine) -> None:
    """It ends at any moment once it has said so a few times. What was written before the last flush that was
    answered is there then, and of later writes any sector or none."""

    def kill(pid: int) -> None:
        while machine.output().count("\n") < LINES:
            time.sleep(0.01)
        os.kill(pid, signal.SIGKILL)

    (machine.folder / "output").write_text("")
    killer = threading.Thread(target=kill, args=[machine.bed.pid], daemon=True)
    killer.start()
    with pytest.raises(BedError, match="ended by itself"):
        machine.run("write", "100000", "14", str(LITTLE), disk=CAREFUL)
    machine.end()
    *_, last, _ = machine.output().split("\n")
    flushed = int(last.removeprefix("flushed "))
    assert flushed >= LINES * LITTLE
    raw = machine.folder / "careful.img"
    subprocess.run(["qemu-img", "convert", "-O", "raw", machine.careful, raw], check=True)
    found = raw.read_bytes()
    possible = [{writing.DISCARDED} for _ in range(writing.SECTORS)]  # zeros at first
    for change in writing.changes(flushed + LITTLE, 14):
        number = writing.DISCARDED if change.discard else change.number
        certain = change.number <= flushed and not change.discard  # to discard is but a hint
        for sector in range(change.first, change.first + change.sectors):
            possible[sector] = {number} | (set() if certain else possible[sector])
    for sector, numbers in enumerate(possible):
        there = found[sector * writing.SECTOR :][: writing.SECTOR]
        assert there in [writing.content(number, sector) for number in numbers], f"sector {sector}"
