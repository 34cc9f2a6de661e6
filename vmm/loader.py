"""ELF images to templates: hostile files in, page-aligned segments in a sealed memfd out.

The file is read once; only its ELF and program headers mean anything (pyelftools decodes them; section
headers are hidden from it). The zygote checks the segments again (plan.py).

    LoadError
     +- UnreadableImage      the file cannot be read
     +- NotElf               not an ELF file
     +- WrongMachine         not 64-bit x86-64
     +- NotStatic            needs an interpreter or relocation
     +- TruncatedImage       headers or contents end early, or make no sense
     +- WritableExecutable   a segment that is both
     +- OverlappingSegments  two segments share a page
     +- OutsideMemory        a segment outside the VM's memory, or larger than it
     +- BadEntry             the entry point is not in text
"""

from __future__ import annotations

import fcntl
import hashlib
import io
import itertools
import os
from dataclasses import dataclass
from typing import Any

from elftools.common.exceptions import ELFError
from elftools.common.utils import struct_parse
from elftools.elf.elffile import ELFFile

from hypervisor.abi import generated as abi
from vmm.tender.page_tables import Segment

_HEADER, _PROGRAM_HEADER = 64, 56  # bytes
_PROGRAM_HEADERS_MAX = 64
_FILE_MAX = 256 << 20
_PF_X, _PF_W = 1, 2
_PAGE = abi.PAGE_SIZE
_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL


class LoadError(Exception):
    """An image that cannot become a VM. The message names the file, what is wrong, and what to do."""


class UnreadableImage(LoadError):
    """The file cannot be read."""


class NotElf(LoadError):
    """Not an ELF file."""


class WrongMachine(LoadError):
    """ELF, but not for 64-bit x86-64."""


class NotStatic(LoadError):
    """Needs a dynamic linker, or relocation."""


class TruncatedImage(LoadError):
    """The file ends before what its headers promise, or they make no sense."""


class WritableExecutable(LoadError):
    """A segment is both writable and executable."""


class OverlappingSegments(LoadError):
    """Two segments share a page."""


class OutsideMemory(LoadError):
    """A segment lies outside the VM's memory."""


class BadEntry(LoadError):
    """The entry point is not in an executable segment."""


@dataclass(frozen=True)
class Template:
    """An image ready to be copied into VMs. Owns `fd`, a memfd nobody can change any more."""

    fd: int
    segments: tuple[Segment, ...]
    entry: int
    heap_base: int
    heap_size: int  # may be 0
    digest: str  # SHA-256 of the file


def load(path: str, memory: int) -> Template:
    """Read the image at `path` for a VM with `memory` bytes (page aligned). Raises LoadError."""
    try:
        with open(path, "rb") as file:
            data = file.read(_FILE_MAX + 1)
    except OSError as error:
        raise UnreadableImage(f"{path}: {error.strerror}; build the image or correct its path") from error
    if len(data) > _FILE_MAX:
        raise UnreadableImage(f"{path}: larger than {_FILE_MAX >> 20} MiB; strip it")
    return prepare(path, data, memory)


def prepare(path: str, data: bytes, memory: int) -> Template:
    """As `load`, for the bytes of an image; `path` is only named in messages."""
    headers, entry = _program_headers(path, data)
    limit = memory - abi.STACK_SIZE - _PAGE
    segments: list[Segment] = []
    contents = bytearray()
    for number, header in enumerate(headers):
        what = f"{path}: segment {number} at {header['p_vaddr']:#x}"
        if header["p_type"] in ("PT_INTERP", "PT_DYNAMIC"):
            raise NotStatic(f"{path}: dynamically linked ({header['p_type']}); link it with -static -no-pie")
        if header["p_type"] != "PT_LOAD" or header["p_memsz"] == 0:
            continue
        offset, file_size = header["p_offset"], header["p_filesz"]
        if header["p_flags"] & (_PF_W | _PF_X) == _PF_W | _PF_X:
            raise WritableExecutable(f"{what} is writable and executable; link text and data apart")
        if file_size > header["p_memsz"] or offset + file_size > len(data):
            raise TruncatedImage(f"{what} promises {file_size} bytes that are not there; rebuild it")
        start = header["p_vaddr"] & -_PAGE
        end = (header["p_vaddr"] + header["p_memsz"] + _PAGE - 1) & -_PAGE
        if start < abi.IMAGE_BASE or end > limit:
            what += f" is not within {abi.IMAGE_BASE:#x}-{limit:#x}"
            raise OutsideMemory(f"{what}; link it there, or give the component more memory")
        lead = header["p_vaddr"] - start
        segments.append(Segment(start, len(contents), lead + file_size, end - start, header["p_flags"] & 7))
        contents += bytes(lead) + data[offset : offset + file_size]
        contents += bytes(-len(contents) % _PAGE)
    if not segments:
        raise TruncatedImage(f"{path}: no loadable segment; rebuild it")
    segments.sort()
    for lower, upper in itertools.pairwise(segments):
        if upper.address < lower.address + lower.memory_size:
            both = f"segments at {lower.address:#x} and {upper.address:#x}"
            raise OverlappingSegments(f"{path}: {both} share a page; align segments to 4096 bytes")
    if not any(s.flags & _PF_X and s.address <= entry < s.address + s.file_size for s in segments):
        raise BadEntry(f"{path}: the entry point {entry:#x} is not in text; define _start there")
    # The heap: from the image to the stack, with an unmapped guard page on either side.
    heap = segments[-1].address + segments[-1].memory_size + _PAGE
    digest = hashlib.sha256(data).hexdigest()
    return Template(_sealed(path, contents), tuple(segments), entry, heap, max(0, limit - heap), digest)


def _program_headers(path: str, data: bytes) -> tuple[list[dict[str, Any]], int]:
    """The program headers and the entry point of an x86-64 ET_EXEC image."""
    if data[:4] != b"\x7fELF":
        raise NotElf(f"{path}: not an ELF file; name the image that the build produced")
    if len(data) < _HEADER:
        raise TruncatedImage(f"{path}: the ELF header is cut off at {len(data)} bytes; rebuild it")
    if data[4:6] != b"\x02\x01" or data[18:20] != b"\x3e\x00":
        raise WrongMachine(f"{path}: not a 64-bit x86-64 image; build it for x86_64-unknown-linux-gnu")
    header = bytearray(data[:_HEADER])
    header[40:48] = bytes(8)  # e_shoff, e_shnum, e_shstrndx: there are no sections
    header[60:64] = bytes(4)
    stream = io.BytesIO(bytes(header) + data[_HEADER:])
    try:
        elf = ELFFile(stream)
        if elf["e_type"] != "ET_EXEC":
            raise NotStatic(f"{path}: {elf['e_type']} instead of ET_EXEC; link it with -static -no-pie")
        offset, count, size = elf["e_phoff"], elf["e_phnum"], elf["e_phentsize"]
        if count > _PROGRAM_HEADERS_MAX or (count and size != _PROGRAM_HEADER):
            raise TruncatedImage(f"{path}: {count} program headers of {size} bytes; rebuild it")
        places = range(offset, offset + count * size, _PROGRAM_HEADER)
        return [dict(struct_parse(elf.structs.Elf_Phdr, stream, place)) for place in places], elf["e_entry"]
    except (ELFError, ArithmeticError, LookupError, ValueError, TypeError) as error:
        raise TruncatedImage(f"{path}: headers that make no sense; rebuild it") from error


def _sealed(path: str, contents: bytearray) -> int:
    fd = os.memfd_create(f"r3s3:{os.path.basename(path)[:64]}", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    with open(fd, "wb", closefd=False) as file:
        file.write(contents)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)
    return fd
