"""Why a PCI device cannot be driven by a component, in words, and what to do about it.

Asked by the command line, before anything is opened; `vmm.devices.pci` itself only fails.
"""

from __future__ import annotations

import os
import re
import resource
from pathlib import Path

ADDRESS = re.compile(r"[0-9a-f]{4}:[0-9a-f]{2}:[01][0-9a-f]\.[0-7]")
DRIVER = "vfio-pci"
_HARMLESS = ("", DRIVER, "pci-stub", "pcieport")  # drivers beside which VFIO gives away a device
_LOCKED_BYTES = 64 << 20  # the largest pool there may be


def problem(address: str, system: Path = Path("/sys"), devices: Path = Path("/dev")) -> str | None:
    """What is in the way of driving the device at `address`, and the remedy; None: nothing to be seen."""
    folder = system / "bus/pci/devices" / address
    if not ADDRESS.fullmatch(address):
        return "not a PCI address; write it in full and in small letters, as in pci:0000:00:04.0"
    if not folder.is_dir():
        return "no such PCI device; lspci -D lists those there are"
    if not (folder / "iommu_group").exists():
        return (
            "it is behind no IOMMU, or that is off; switch on VT-d or AMD-Vi in the firmware, and on Intel "
            "boot with intel_iommu=on"
        )
    if (driver := _driver(folder)) != DRIVER:
        unbind = f"echo {address} > {folder}/driver/unbind; " if driver else ""
        return (
            f"it is bound to {driver or 'no driver'}, not to {DRIVER}; as root: modprobe {DRIVER}; "
            f"echo {DRIVER} > {folder}/driver_override; {unbind}"
            f"echo {address} > {system}/bus/pci/drivers_probe"
        )
    for other in sorted((folder / "iommu_group/devices").iterdir()):
        if (driver := _driver(other)) not in _HARMLESS:
            return (
                f"it shares its IOMMU group with {other.name}, which the host drives by {driver}; bind that "
                f"to {DRIVER}, too, or put the device into another slot"
            )
    for node in (devices / "vfio/vfio", devices / "vfio" / (folder / "iommu_group").resolve().name):
        try:
            os.close(os.open(node, os.O_RDWR | os.O_CLOEXEC))
        except FileNotFoundError:
            return f"no {node}; as root: modprobe {DRIVER}"
        except PermissionError:
            return f"no permission for {node}; as root: chown {os.geteuid()} {node}"
        except OSError as error:
            return f"{node}: {error.strerror}; does another process use the device?"
    locked = resource.getrlimit(resource.RLIMIT_MEMLOCK)[0]
    if os.geteuid() != 0 and 0 <= locked < _LOCKED_BYTES:
        return (
            f"this user may lock only {locked >> 10} KiB of memory, and a device's is locked; as root: "
            f"prlimit --memlock={_LOCKED_BYTES} --pid $$ in this shell"
        )
    return None


def _driver(folder: Path) -> str:
    """The name of the driver that a device is bound to, "" if to none."""
    link = folder / "driver"
    return link.resolve().name if link.exists() else ""
