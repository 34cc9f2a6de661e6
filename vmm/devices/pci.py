"""A PCI device behind an IOMMU, by VFIO: numbers, and what is done to an open device.

Source: linux/vfio.h. `vmm.devices.pci_open` opens one.
"""

from __future__ import annotations

import fcntl
import os
import struct

DEVICE_INFO, REGION_INFO, IRQ_INFO, SET_IRQS, RESET = 0x3B6B, 0x3B6C, 0x3B6D, 0x3B6E, 0x3B6F
MAP_DMA, UNMAP_DMA = 0x3B71, 0x3B72
CONFIGURATION = 7  # the region of the configuration space
COMMAND = 4  # in it; bits of the register:
MEMORY, MASTER = 2, 4
_REGION = struct.Struct("<IIIIQQ")  # size of this, flags, index, capabilities; size, offset


def region(device: int, index: int) -> tuple[int, int, int]:
    """Flags, bytes, and offset in the descriptor, of an open device's BAR `index` or configuration space."""
    data = bytearray(_REGION.pack(_REGION.size, 0, index, 0, 0, 0))
    fcntl.ioctl(device, REGION_INFO, data)
    _, flags, _, _, size, offset = _REGION.unpack(data)
    return flags, size, offset


def set_command(device: int, bits: int) -> None:
    """Write the command register. With 0 the device makes no access and has no registers. It is read back, as
    an answer of the device overtakes nothing that it has sent before."""
    place = region(device, CONFIGURATION)[2] + COMMAND
    os.pwrite(device, struct.pack("<H", bits), place)
    os.pread(device, 2, place)
