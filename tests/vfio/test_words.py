"""What can be tried without a real device: words of the command line, and what the kernel says."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from hypervisor.policy import Component, Device, Policy, RestartPolicy
from vmm.cli.command import CommandError
from vmm.cli.compile import open_files
from vmm.devices import pci_diagnosis
from vmm.devices.pci_keeper import refused

ROOT = Path(__file__).resolve().parents[2]
ADDRESS = "0000:00:04.0"


class Host:
    """The parts of /sys and /dev that are looked at. Everything is in order at first."""

    def __init__(self, folder: Path) -> None:
        self.system, self.devices = folder / "sys", folder / "dev"
        self.device = self.system / "bus/pci/devices" / ADDRESS
        self.group = self.system / "kernel/iommu_groups/5"
        (self.devices / "vfio").mkdir(parents=True)
        for node in ("vfio", "5"):
            (self.devices / "vfio" / node).touch()
        (self.group / "devices").mkdir(parents=True)
        self.add(ADDRESS, "vfio-pci")

    def add(self, address: str, driver: str) -> None:
        """A device of group 5."""
        folder = self.system / "bus/pci/devices" / address
        folder.mkdir(parents=True)
        (folder / "iommu_group").symlink_to(self.group)
        (self.group / "devices" / address).symlink_to(folder)
        if driver:
            (self.system / "drivers" / driver).mkdir(parents=True, exist_ok=True)
            (folder / "driver").symlink_to(self.system / "drivers" / driver)

    def problem(self, address: str = ADDRESS) -> str | None:
        """What is said."""
        found = pci_diagnosis.problem(address, self.system, self.devices)
        return found and found.replace(str(self.system), "/sys").replace(str(self.devices), "/dev")


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def test_nothing_is_wrong(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert host.problem() is None


@pytest.mark.parametrize(
    "address", ["", "04.0", "00:04.0", "0000:00:04.8", "0000:00:4.0", "../0000:00:04.0", "0000:0A:04.0"]
)
def test_no_address(host: Host, address: str) -> None:
    assert host.problem(address) == (
        "not a PCI address; write it in full and in small letters, as in pci:0000:00:04.0"
    )


def test_no_device(host: Host) -> None:
    assert host.problem("0000:00:05.0") == "no such PCI device; lspci -D lists those there are"


def test_no_iommu(host: Host) -> None:
    (host.device / "iommu_group").unlink()
    assert host.problem() == (
        "it is behind no IOMMU, or that is off; switch on VT-d or AMD-Vi in the firmware, and on Intel boot "
        "with intel_iommu=on"
    )


@pytest.mark.parametrize(("driver", "what", "unbind"), [
    ("nvme", "nvme", f"echo {ADDRESS} > /sys/bus/pci/devices/{ADDRESS}/driver/unbind; "),
    ("", "no driver", ""),
])  # fmt: skip
def test_another_driver(host: Host, driver: str, what: str, unbind: str) -> None:
    (host.device / "driver").unlink()
    if driver:
        (host.device / "driver").symlink_to(host.system / "drivers" / driver)
        (host.system / "drivers" / driver).mkdir()
    assert host.problem() == (
        f"it is bound to {what}, not to vfio-pci; as root: modprobe vfio-pci; echo vfio-pci > "
        f"/sys/bus/pci/devices/{ADDRESS}/driver_override; {unbind}echo {ADDRESS} > /sys/bus/pci/drivers_probe"
    )


def test_a_group_with_others(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    host.add("0000:00:04.1", "pcieport")
    host.add("0000:00:04.2", "")
    assert host.problem() is None
    host.add("0000:00:04.3", "e1000e")
    assert host.problem() == (
        "it shares its IOMMU group with 0000:00:04.3, which the host drives by e1000e; bind that to "
        "vfio-pci, too, or put the device into another slot"
    )


@pytest.mark.parametrize("node", ["vfio", "5"])
def test_no_node(host: Host, node: str) -> None:
    (host.devices / "vfio" / node).unlink()
    assert host.problem() == f"no /dev/vfio/{node}; as root: modprobe vfio-pci"


@pytest.mark.parametrize(("error", "text"), [
    (PermissionError(13, ""), f"no permission for /dev/vfio/5; as root: chown {os.geteuid()} /dev/vfio/5"),
    (OSError(16, "in use"), "/dev/vfio/5: in use; does another process use the device?"),
])  # fmt: skip
def test_a_node_that_does_not_open(
    host: Host, monkeypatch: pytest.MonkeyPatch, error: OSError, text: str
) -> None:
    real = os.open

    def fake(path: Path, flags: int) -> int:
        if path.name == "5":
            raise error
        return real(path, flags)

    monkeypatch.setattr(os, "open", fake)
    assert host.problem() == text


def test_too_little_memory_to_lock(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(resource, "getrlimit", lambda _: (8 << 20, 8 << 20))
    assert host.problem() == (
        "this user may lock only 8192 KiB of memory, and a device's is locked; as root: "
        "prlimit --memlock=67108864 --pid $$ in this shell"
    )


def test_the_command_line_says_so() -> None:
    words = [
        sys.executable,
        "-m",
        "vmm.cli",
        "run",
        "images/edu.toml",
        "--disk",
        "pci:here",
        "--",
        "edu",
        "copy",
    ]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (125, "")
    assert done.stderr == (
        "r3s3: pci:here: not a PCI address; write it in full and in small letters, as in pci:0000:00:04.0\n"
    )


def policy(kind: str) -> Policy:
    """Of one driver of a device of that kind."""
    driver = Component("driver", 0, "", "", "", 1 << 22, "shared", frozenset(), RestartPolicy(), 0)
    device = Device("disk0", "driver", "disk", kind, 1, 1, "blk", identity=(1, 2))  # type: ignore[arg-type]
    return Policy("test", (driver,), (), (device,))


@pytest.mark.parametrize(("kind", "disk", "text"), [
    ("pci", None, "disk none: driver drives a PCI device: --disk pci:ADDRESS"),
    ("pci", "/disk.img", "disk /disk.img: driver drives a PCI device: --disk pci:ADDRESS"),
    ("virtio-blk", "pci:0000:00:04.0", "disk pci:0000:00:04.0: driver drives a virtual disk"),
])  # fmt: skip
def test_a_disk_of_the_wrong_kind(kind: str, disk: str | None, text: str) -> None:
    with pytest.raises(CommandError) as caught:
        open_files(policy(kind), disk, None)
    assert str(caught.value) == text


def intel(prefix: str, what: str, device: str, address: int) -> str:
    """A line of /dev/kmsg as drivers/iommu/intel/dmar.c has it."""
    return f"{prefix}DMAR: [{what}] Request device [{device}] fault addr {address:#x} [fault reason 0x05] x"


def amd(device: str, address: int, flags: int) -> str:
    """As drivers/iommu/amd/iommu.c has it."""
    event = f"IO_PAGE_FAULT domain=0x000a address={address:#x} flags={flags:#06x}"
    return f"3,1,2,c;vfio-pci {device}: AMD-Vi: Event logged [{event}]"


@pytest.mark.parametrize(("line", "seen"), [
    (intel("4,1,2,-;", "DMA Read NO_PASID", "00:04.0", 0x12345000), 0x12345001),
    (intel("3,1,2,-;", "DMA Write NO_PASID", "00:04.0", 0x300000000), 0x300000002),
    (intel("3,1,2,-;", "DMA Write", "00:04.0", 0x300000FFF), 0x300000002),
    (amd(ADDRESS, 0x5000, 0x20), 0x5002),
    (amd(ADDRESS, 0x5008, 0), 0x5001),
    # another device, segment or message, and whatever a program has written there (facility 1)
    (intel("3,1,2,-;", "DMA Write", "00:04.1", 0x300000000), 0),
    (amd("0001:00:04.0", 0x5000, 0x20), 0),
    ("3,1,2,-;DMAR: DRHD: handling fault status reg 2", 0),
    (intel("12,1,2,-;", "DMA Write", "00:04.0", 0x300000000), 0),
    (intel("3,1,2,-;x ", "DMA Write", "00:04.0", 0x300000000), 0),
])  # fmt: skip
def test_what_the_kernel_says(line: str, seen: int) -> None:
    assert refused(line, ADDRESS) == seen
