"""Images that cannot become VMs: one per reason, exact messages; and what a good one becomes."""

from __future__ import annotations

import fcntl
import os
import random
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from hypervisor.abi import generated as abi
from tests.tender.system import MEMORY, assemble
from vmm import loader
from vmm.tender.page_tables import Segment

LIMIT = MEMORY - abi.STACK_SIZE - abi.PAGE_SIZE
GOOD = 'nop\n.section .rodata\n.ascii "ro"\n.data\n.ascii "rw"\n.bss\n.skip 10000'


def elf(
    segments: list[tuple[int, int, int, int, int]],
    *,
    entry: int = 0x200000,
    kind: int = 2,
    contents: bytes = b"\x90" * 8192,
) -> bytes:
    """An image by hand; a segment is (type, flags, address, file size, memory size), all at offset 0x1000."""
    header = struct.pack(
        "<16sHHIQQQIHHHHHH",
        b"\x7fELF\x02\x01\x01",
        kind,
        62,
        1,
        entry,
        64,
        0,
        0,
        64,
        56,
        len(segments),
        0,
        0,
        0,
    )
    for type_, flags, address, file_size, memory_size in segments:
        header += struct.pack(
            "<IIQQQQQQ", type_, flags, 0x1000, address, address, file_size, memory_size, 4096
        )
    return header.ljust(0x1000, b"\0") + contents


TEXT = (1, 5, 0x200000, 16, 16)


def patched(offset: int, value: bytes) -> bytes:
    """A good image with some bytes changed."""
    image = elf([TEXT])
    return image[:offset] + value + image[offset + len(value) :]


WRONG: dict[str, tuple[bytes, type[loader.LoadError], str]] = {
    "empty": (b"", loader.NotElf, "x: not an ELF file; name the image that the build produced"),
    "script": (b"#!/bin/sh\n", loader.NotElf, "x: not an ELF file; name the image that the build produced"),
    "cut_header": (
        elf([TEXT])[:40],
        loader.TruncatedImage,
        "x: the ELF header is cut off at 40 bytes; rebuild it",
    ),
    "32_bit": (
        patched(4, b"\x01"),
        loader.WrongMachine,
        "x: not a 64-bit x86-64 image; build it for x86_64-unknown-linux-gnu",
    ),
    "arm": (
        patched(18, b"\xb7\x00"),
        loader.WrongMachine,
        "x: not a 64-bit x86-64 image; build it for x86_64-unknown-linux-gnu",
    ),
    "big_endian": (
        patched(5, b"\x02"),
        loader.WrongMachine,
        "x: not a 64-bit x86-64 image; build it for x86_64-unknown-linux-gnu",
    ),
    "position_independent": (
        elf([TEXT], kind=3),
        loader.NotStatic,
        "x: ET_DYN instead of ET_EXEC; link it with -static -no-pie",
    ),
    "object_file": (
        elf([TEXT], kind=1),
        loader.NotStatic,
        "x: ET_REL instead of ET_EXEC; link it with -static -no-pie",
    ),
    "interpreter": (
        elf([(3, 4, 0x200000, 8, 8), TEXT]),
        loader.NotStatic,
        "x: dynamically linked (PT_INTERP); link it with -static -no-pie",
    ),
    "dynamic": (
        elf([TEXT, (2, 6, 0x202000, 8, 8)]),
        loader.NotStatic,
        "x: dynamically linked (PT_DYNAMIC); link it with -static -no-pie",
    ),
    "no_segments": (elf([]), loader.TruncatedImage, "x: no loadable segment; rebuild it"),
    "many_headers": (
        patched(56, b"\xff\xff"),
        loader.TruncatedImage,
        "x: 65535 program headers of 56 bytes; rebuild it",
    ),
    "odd_headers": (
        patched(54, b"\x10\x00"),
        loader.TruncatedImage,
        "x: 1 program headers of 16 bytes; rebuild it",
    ),
    "headers_outside": (
        patched(32, b"\xff" * 8),
        loader.TruncatedImage,
        "x: headers that make no sense; rebuild it",
    ),
    "headers_cut": (
        elf([TEXT])[:100],
        loader.TruncatedImage,
        "x: headers that make no sense; rebuild it",
    ),
    "contents_cut": (
        elf([(1, 5, 0x200000, 9000, 9000)]),
        loader.TruncatedImage,
        "x: segment 0 at 0x200000 promises 9000 bytes that are not there; rebuild it",
    ),
    "more_file_than_memory": (
        elf([(1, 5, 0x200000, 16, 8)]),
        loader.TruncatedImage,
        "x: segment 0 at 0x200000 promises 16 bytes that are not there; rebuild it",
    ),
    "writable_executable": (
        elf([TEXT, (1, 7, 0x201000, 16, 16)]),
        loader.WritableExecutable,
        "x: segment 1 at 0x201000 is writable and executable; link text and data apart",
    ),
    "overlap": (
        elf([TEXT, (1, 6, 0x200800, 16, 16)]),
        loader.OverlappingSegments,
        "x: segments at 0x200000 and 0x200000 share a page; align segments to 4096 bytes",
    ),
    "overlap_later": (
        elf([(1, 4, 0x203000, 8, 8), (1, 5, 0x200000, 16, 0x3001)]),
        loader.OverlappingSegments,
        "x: segments at 0x200000 and 0x203000 share a page; align segments to 4096 bytes",
    ),
    "below": (
        elf([(1, 5, 0x1FFFFF, 16, 16)]),
        loader.OutsideMemory,
        f"x: segment 0 at 0x1fffff is not within 0x200000-{LIMIT:#x}; "
        "link it there, or give the component more memory",
    ),
    "huge": (
        elf([TEXT, (1, 6, 0x300000, 16, 1 << 40)]),
        loader.OutsideMemory,
        f"x: segment 1 at 0x300000 is not within 0x200000-{LIMIT:#x}; "
        "link it there, or give the component more memory",
    ),
    "wraps": (
        elf([TEXT, (1, 6, 0xFFFFFFFFFFFFF000, 16, 0x2000)]),
        loader.OutsideMemory,
        f"x: segment 1 at 0xfffffffffffff000 is not within 0x200000-{LIMIT:#x}; "
        "link it there, or give the component more memory",
    ),
    "into_the_stack": (
        elf([TEXT, (1, 6, LIMIT, 16, 16)]),
        loader.OutsideMemory,
        f"x: segment 1 at {LIMIT:#x} is not within 0x200000-{LIMIT:#x}; "
        "link it there, or give the component more memory",
    ),
    "entry_in_data": (
        elf([TEXT, (1, 6, 0x201000, 16, 16)], entry=0x201000),
        loader.BadEntry,
        "x: the entry point 0x201000 is not in text; define _start there",
    ),
    "entry_nowhere": (
        elf([TEXT], entry=0),
        loader.BadEntry,
        "x: the entry point 0x0 is not in text; define _start there",
    ),
    "entry_behind_text": (
        elf([TEXT], entry=0x200010),
        loader.BadEntry,
        "x: the entry point 0x200010 is not in text; define _start there",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_image(name: str) -> None:
    image, kind, message = WRONG[name]
    with pytest.raises(loader.LoadError) as error:
        loader.prepare("x", image, MEMORY)
    assert type(error.value) is kind
    assert str(error.value) == message


def test_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(loader.UnreadableImage) as error:
        loader.load(str(tmp_path / "none"), MEMORY)
    assert (
        str(error.value) == f"{tmp_path}/none: No such file or directory; build the image or correct its path"
    )
    with pytest.raises(loader.UnreadableImage, match="Is a directory"):
        loader.load(str(tmp_path), MEMORY)


def test_file_that_is_too_large(tmp_path: Path) -> None:
    path = tmp_path / "big"
    with path.open("wb") as file:
        file.truncate((256 << 20) + 1)
    with pytest.raises(loader.UnreadableImage) as error:
        loader.load(str(path), MEMORY)
    assert str(error.value) == f"{path}: larger than 256 MiB; strip it"


def test_template_of_a_linked_image(tmp_path: Path) -> None:
    path = tmp_path / "good"
    path.write_bytes(assemble(GOOD))
    template = loader.load(str(path), MEMORY)
    rights = [segment.flags for segment in template.segments]
    assert sorted(rights) == [4, 4, 5, 6]
    text = next(segment for segment in template.segments if segment.flags == 5)
    data = next(segment for segment in template.segments if segment.flags == 6)
    assert template.entry == text.address
    assert os.pread(template.fd, 1, text.offset) == b"\x90"
    assert os.pread(template.fd, data.file_size, data.offset).endswith(b"rw")
    assert data.memory_size == 0x3000
    for segment in template.segments:
        assert (segment.address | segment.offset | segment.memory_size) % abi.PAGE_SIZE == 0
    # A guard page on either side of the heap.
    assert template.heap_base == data.address + data.memory_size + abi.PAGE_SIZE
    assert template.heap_base + template.heap_size == MEMORY - abi.STACK_SIZE - abi.PAGE_SIZE
    os.close(template.fd)


def test_template_cannot_be_changed() -> None:
    template = loader.prepare("x", elf([TEXT]), MEMORY)
    seals = fcntl.fcntl(template.fd, fcntl.F_GET_SEALS)
    assert seals == fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL
    with pytest.raises(PermissionError):
        os.pwrite(template.fd, b"x", 0)
    os.close(template.fd)


def test_unaligned_segment_keeps_its_place_in_the_page() -> None:
    template = loader.prepare("x", elf([(1, 5, 0x200123, 16, 5000)], entry=0x200123), MEMORY)
    assert template.segments[0] == Segment(0x200000, 0, 0x123 + 16, 0x2000, 5)
    assert os.pread(template.fd, 4096, 0) == (bytes(0x123) + b"\x90" * 16).ljust(4096, b"\0")
    os.close(template.fd)


def test_image_may_leave_no_heap() -> None:
    size = LIMIT - 0x201000
    template = loader.prepare("x", elf([TEXT, (1, 6, 0x201000, 0, size)]), MEMORY)
    assert template.heap_size == 0
    os.close(template.fd)


def mutations() -> list[Callable[[random.Random, bytearray], None]]:
    """Ways to spoil an image."""

    def flip(source: random.Random, image: bytearray) -> None:
        for _ in range(source.randint(1, 8)):
            image[source.randrange(64 + 56 * 6)] = source.randrange(256)

    def number(source: random.Random, image: bytearray) -> None:
        at = source.randrange(0, 64 + 56 * 6 - 8)
        value = source.choice((0, 1, 2**63, 2**64 - 1, 2**32 - 1, 4095, 0x200000, len(image)))
        image[at : at + 8] = value.to_bytes(8, "little")

    def cut(source: random.Random, image: bytearray) -> None:
        del image[source.randrange(len(image)) :]

    return [flip, number, cut]


@pytest.mark.parametrize("seed", range(4))
def test_mutated_images_give_a_template_or_an_error(seed: int) -> None:
    """Nothing but LoadError ever comes out, and what loads obeys the rules."""
    source = random.Random(seed)
    good = assemble(GOOD)
    ways = mutations()
    for _ in range(500):
        image = bytearray(good)
        for _ in range(source.randint(1, 3)):
            source.choice(ways)(source, image)
            if not image:
                break
            image.extend(bytes(max(0, 64 + 56 * 6 - len(image))))
        try:
            template = loader.prepare("x", bytes(image), MEMORY)
        except loader.LoadError as error:
            assert str(error).startswith("x: ")
            continue
        for segment in template.segments:
            assert segment.flags & 3 != 3
            assert abi.IMAGE_BASE <= segment.address <= segment.address + segment.memory_size <= LIMIT
        os.close(template.fd)
