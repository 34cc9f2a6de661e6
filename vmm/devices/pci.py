"""A PCI device behind an IOMMU, opened by VFIO: what a jailed process cannot do, and numbers for both sides.

Source: linux/vfio.h. What may go wrong is explained beforehand, by `vmm.devices.pci_diagnosis`.
"""

from __future__ import annotations

import fcntl
import os
import struct
from collections.abc import Sequence
from typing import NamedTuple

SET_IOMMU, GROUP_SET_CONTAINER, GROUP_GET_DEVICE = 0x3B66, 0x3B68, 0x3B6A
DEVICE_INFO, REGION_INFO, IRQ_INFO, SET_IRQS, RESET = 0x3B6B, 0x3B6C, 0x3B6D, 0x3B6E, 0x3B6F
MAP_DMA, UNMAP_DMA = 0x3B71, 0x3B72
TYPE1_V2 = 3
CAN_MAP = 4  # of a region's flags
CONFIGURATION = 7  # the region of the configuration space
COMMAND = 4  # in it; bits of the register:
MEMORY, MASTER = 2, 4
_REGION = struct.Struct("<IIIIQQ")  # size of this, flags, index, capabilities; size, offset

KMSG = "/dev/kmsg"


class Region(NamedTuple):
    """A part of a device: `size` bytes at `offset` of its descriptor."""

    flags: int
    size: int
    offset: int


def region(device: int, index: int) -> Region:
    """BAR `index` of an open device, or its configuration space."""
    data = bytearray(_REGION.pack(_REGION.size, 0, index, 0, 0, 0))
    fcntl.ioctl(device, REGION_INFO, data)
    _, flags, _, _, size, offset = _REGION.unpack(data)
    return Region(flags, size, offset)


def set_command(device: int, bits: int) -> None:
    """Write the command register. With 0 the device makes no access and has no registers. It is read back, as
    an answer of the device overtakes nothing that it has sent before."""
    place = region(device, CONFIGURATION).offset + COMMAND
    os.pwrite(device, struct.pack("<H", bits), place)
    os.pread(device, 2, place)


class PciDevice:
    """An open device in an IOMMU container of its own; for as long as this process lives."""

    def __init__(self, address: str, identity: tuple[int, int], bars: Sequence[tuple[int, int]]) -> None:
        """`bars`: (BAR, bytes from its start) whose registers are wanted. OSError, ValueError."""
        self.address = address
        group = os.path.basename(os.readlink(f"/sys/bus/pci/devices/{address}/iommu_group"))
        self.container = os.open("/dev/vfio/vfio", os.O_RDWR | os.O_CLOEXEC)
        self._group = os.open(f"/dev/vfio/{group}", os.O_RDWR | os.O_CLOEXEC)
        fcntl.ioctl(self._group, GROUP_SET_CONTAINER, struct.pack("i", self.container))
        fcntl.ioctl(self.container, SET_IOMMU, TYPE1_V2)
        self.fd = fcntl.ioctl(self._group, GROUP_GET_DEVICE, bytearray(address.encode() + b"\0"))
        found = struct.unpack("<HH", os.pread(self.fd, 4, region(self.fd, CONFIGURATION).offset))
        if found != identity:
            text = "the driver is for {:04x}:{:04x}, this is {:04x}:{:04x}; name another device"
            raise ValueError(text.format(*identity, *found))
        self.registers: dict[int, tuple[int, int]] = {}
        for bar, size in bars:
            flags, there, offset = region(self.fd, bar)
            if there < size or not flags & CAN_MAP:
                raise ValueError(f"of its BAR {bar}, {there} bytes, the driver wants to map {size}")
            self.registers[bar] = self.fd, offset
        self.messages = -1  # the kernel's, from now on
        self.why_deaf = ""
        try:
            self.messages = os.open(KMSG, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            os.lseek(self.messages, 0, os.SEEK_END)
        except OSError as error:
            self.why_deaf = f"{KMSG}: {error.strerror}"

    def silence(self) -> None:
        """No access by it any more."""
        set_command(self.fd, 0)
