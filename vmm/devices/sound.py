"""A WAV file as a sound device: what it takes is appended to the recording in the file.

The device takes transfers in the manner of virtio-snd (see sound.c), from one queue. All that it has to
remember is in the file: one that has been killed is replaced by another that goes on where the file ends.
"""

from __future__ import annotations

import fcntl
import os
import stat
import struct
from typing import Any, NamedTuple, Self

from vmm.devices._ring import ffi, lib
from vmm.devices.device import BackingFileError, Device

# struct virtio_snd_config (virtio 1.2, 5.14.4): jacks, streams, channel maps.
CONFIG = struct.Struct("<III")
# RIFF, its size, WAVE, "fmt ", its size, format (1: PCM), channels, rate, bytes a second, bytes of a frame,
# bits of a sample, "data", its size.
HEADER = struct.Struct("<4sI4s4sIHHIIHH4sI")
SAMPLE_BYTES = 2
CHANNELS_MAX = 8


class Recording(NamedTuple):
    """What is in a file. The default is what the device starts with until it is told something else."""

    rate: int = 48000
    channels: int = 2
    frames: int = 0


def check_recording(file_fd: int, name: str) -> Recording:
    """What the file holds, which is empty or was written by this device; else BackingFileError."""
    if not stat.S_ISREG(os.fstat(file_fd).st_mode):
        raise BackingFileError(f"{name}: the recording is not a regular file")
    if fcntl.fcntl(file_fd, fcntl.F_GETFL) & os.O_ACCMODE != os.O_RDWR:
        raise BackingFileError(f"{name}: the recording is not open for reading and writing")
    head = os.pread(file_fd, HEADER.size, 0)
    if not head:
        return Recording()
    problem = f"{name}: the file is no recording of this device; give another one, or an empty one"
    if len(head) < HEADER.size:
        raise BackingFileError(problem)
    _, _, _, _, _, _, channels, rate, _, unit, _, _, data = HEADER.unpack(head)
    found = Recording(rate, channels, data // unit if unit else 0)
    if not 1 <= channels <= CHANNELS_MAX or head != header(found) or os.fstat(file_fd).st_size < data:
        raise BackingFileError(problem)
    return found


def header(recording: Recording) -> bytes:
    """The first bytes of a WAV file that holds `recording`."""
    unit = recording.channels * SAMPLE_BYTES
    data = recording.frames * unit
    form = 16, 1, recording.channels, recording.rate, recording.rate * unit, unit, SAMPLE_BYTES * 8
    return HEADER.pack(b"RIFF", data + HEADER.size - 8, b"WAVE", b"fmt ", *form, b"data", data)


class Sound(Device):
    """The device."""

    def __init__(self, file_fd: int, *, name: str = "sound", status_fd: int = -1) -> None:
        super().__init__(1, status_fd)
        self._device = lib.sound_open(file_fd, *check_recording(file_fd, name), self._counters)
        if self._device == ffi.NULL:
            raise BackingFileError(f"{name}: out of memory or descriptors, or the file cannot be written")

    @staticmethod
    def check(file_fd: int, name: str, config: dict[str, Any]) -> None:
        fcntl.lockf(file_fd, fcntl.LOCK_EX)  # a killed device may have a write to finish
        check_recording(file_fd, name)

    @classmethod
    def from_config(cls, file_fd: int, name: str, config: dict[str, Any]) -> Self:
        return cls(file_fd, name=name, status_fd=int(config.get("status_fd", -1)))

    def config(self) -> bytes:
        return CONFIG.pack(0, 1, 0)
