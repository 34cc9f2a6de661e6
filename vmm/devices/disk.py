"""A raw disk image as a virtio-blk device: features, configuration space, and the C half behind them."""

from __future__ import annotations

import fcntl
import os
import stat
import struct
from typing import Any, Self

from vmm.devices._ring import ffi, lib
from vmm.devices.device import QUEUES_MAX, BackingFileError, Device
from vmm.vhost_user_messages import Feature

SECTOR = 512
SEGMENTS_MAX = 126  # data pieces of one request
SEGMENT_BYTES_MAX = 1 << 20

# struct virtio_blk_config (virtio 1.2, 5.2.4) as far as write zeroes: capacity; size_max, seg_max; geometry
# (3 fields); blk_size; topology (4); writeback; unused; num_queues; max_discard_sectors, max_discard_seg,
# discard_sector_alignment; max_write_zeroes_sectors, max_write_zeroes_seg; may_unmap; unused.
CONFIG = struct.Struct("<QIIHBBIBBHIBxHIIIIIB3x")


def check_image(file_fd: int, name: str, queues: int, read_only: bool) -> int:
    """Size of the backing file in sectors; BackingFileError if the disk can not be made from it."""
    mode = os.fstat(file_fd).st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISBLK(mode)):
        raise BackingFileError(f"{name}: the disk image is neither a regular file nor a block device")
    size = os.lseek(file_fd, 0, os.SEEK_END)
    if size == 0:
        raise BackingFileError(
            f"{name}: the disk image is empty; build one with r3s3 image build DIR -o FILE"
        )
    if size % SECTOR:
        raise BackingFileError(
            f"{name}: the disk image has {size} bytes, which is not a multiple of {SECTOR}: "
            f"it is truncated, or needs truncate -s {-(-size // SECTOR) * SECTOR} FILE"
        )
    if not read_only and fcntl.fcntl(file_fd, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
        raise BackingFileError(
            f"{name}: the disk image is open for reading only, but the disk is not read_only"
        )
    if not 1 <= queues <= QUEUES_MAX:
        raise BackingFileError(f"{name}: {queues} queues are not possible; a disk has 1 to {QUEUES_MAX}")
    return size // SECTOR


class Disk(Device):
    """The disk."""

    def __init__(
        self,
        file_fd: int,
        *,
        name: str = "disk",
        queues: int = 1,
        read_only: bool = False,
        status_fd: int = -1,
    ) -> None:
        super().__init__(queues, status_fd)
        self.sectors = check_image(file_fd, name, queues, read_only)
        more = Feature.BLK_RO if read_only else Feature.BLK_DISCARD | Feature.BLK_WRITE_ZEROES
        self.features |= (
            more
            | Feature.BLK_SIZE_MAX
            | Feature.BLK_SEG_MAX
            | Feature.BLK_SIZE
            | Feature.BLK_FLUSH
            | Feature.BLK_MQ
        )
        self._device = lib.device_open(
            file_fd, self.sectors, read_only, queues, self._counters, name.encode()[:20]
        )
        if self._device == ffi.NULL:
            raise BackingFileError(f"{name}: out of memory or descriptors")

    @staticmethod
    def check(file_fd: int, name: str, config: dict[str, Any]) -> None:
        check_image(file_fd, name, int(config.get("queues", 1)), bool(config.get("read_only", False)))

    @classmethod
    def from_config(cls, file_fd: int, name: str, config: dict[str, Any]) -> Self:
        return cls(
            file_fd,
            name=name,
            queues=int(config.get("queues", 1)),
            read_only=bool(config.get("read_only", False)),
            status_fd=int(config.get("status_fd", -1)),
        )

    def config(self) -> bytes:
        """The configuration space, 60 bytes."""
        most = lib.REQUEST_BYTES_MAX // SECTOR
        return CONFIG.pack(
            self.sectors,
            SEGMENT_BYTES_MAX,
            SEGMENTS_MAX,
            0,
            0,
            0,
            SECTOR,
            0,
            0,
            0,
            0,
            0,
            self.queues,
            most,
            1,
            1,
            most,
            1,
            1,
        )
