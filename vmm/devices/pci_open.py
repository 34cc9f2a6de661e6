"""Opens a PCI device for a driver, with the rights of who starts a system. See `vmm.devices.pci`.

What may go wrong is explained beforehand, by `vmm.devices.pci_diagnosis`.
"""

from __future__ import annotations

import fcntl
import os
import struct
from collections.abc import Sequence

from vmm.devices import pci

_SET_IOMMU, _GROUP_SET_CONTAINER, _GROUP_GET_DEVICE = 0x3B66, 0x3B68, 0x3B6A
_TYPE1_V2 = 3
_CAN_MAP = 4  # of a region's flags
_CAPABILITIES, _MSIX = 0x34, 0x11  # the list of the configuration space's beginning; a kind
KMSG = "/dev/kmsg"


def table_of_interrupts(device: int) -> tuple[int, int]:
    """BAR of an open device's MSI-X table, and offset in it; (-1, 0) if it has none."""
    start = pci.region(device, pci.CONFIGURATION)[2]
    (place,) = os.pread(device, 1, start + _CAPABILITIES)
    for _ in range(48):  # as many as there is room for, lest the list has no end
        if not place & -4:
            break
        kind, place, _, where = struct.unpack("<BBHI", os.pread(device, 8, start + (place & -4)))
        if kind == _MSIX:
            return where & 7, where & -8
    return -1, 0


class PciDevice:
    """An open device in an IOMMU container of its own, while somebody has its descriptors open."""

    def __init__(self, address: str, identity: tuple[int, int], bars: Sequence[tuple[int, int]]) -> None:
        """`bars`: (BAR, bytes from its start) whose registers are wanted. OSError, ValueError."""
        self.address = address
        group = os.path.basename(os.readlink(f"/sys/bus/pci/devices/{address}/iommu_group"))
        self.container = os.open("/dev/vfio/vfio", os.O_RDWR | os.O_CLOEXEC)
        self.group = os.open(f"/dev/vfio/{group}", os.O_RDWR | os.O_CLOEXEC)
        fcntl.ioctl(self.group, _GROUP_SET_CONTAINER, struct.pack("i", self.container))
        fcntl.ioctl(self.container, _SET_IOMMU, _TYPE1_V2)
        self.fd = fcntl.ioctl(self.group, _GROUP_GET_DEVICE, bytearray(address.encode() + b"\0"))
        found = struct.unpack("<HH", os.pread(self.fd, 4, pci.region(self.fd, pci.CONFIGURATION)[2]))
        if found != identity:
            text = "the driver is for {:04x}:{:04x}, this is {:04x}:{:04x}; name another device"
            raise ValueError(text.format(*identity, *found))
        self.registers: dict[int, int] = {}  # BAR: offset in the descriptor
        table, place = table_of_interrupts(self.fd)
        for bar, size in bars:
            flags, there, offset = pci.region(self.fd, bar)
            if bar == table:  # VFIO itself would map it, too
                there = min(there, place & -4096)
            if there < size or not flags & _CAN_MAP:
                what = f"{there} bytes up to its end or the table of interrupts"
                raise ValueError(f"of its BAR {bar}, {what}, the driver wants to map {size}")
            self.registers[bar] = offset
        self.messages = -1  # the kernel's, from now on
        self.why_deaf = ""
        try:
            self.messages = os.open(KMSG, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            os.lseek(self.messages, 0, os.SEEK_END)
        except OSError as error:
            self.why_deaf = f"{KMSG}: {error.strerror}"
