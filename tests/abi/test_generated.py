"""The generated Python agrees with itself and with the compiled C and Rust."""

from __future__ import annotations

import struct
import subprocess
from pathlib import Path

import pytest

from hypervisor.abi import generated
from hypervisor.abi.generate import REPOSITORY


def test_slot_packs_to_its_documented_bytes() -> None:
    args = (1, 2, 3, 4, 1 << 63)
    slot = generated.Slot(op=3, tag=0x501, epoch=7, status=generated.Error.DEAD, length=9, args=args)
    packed = slot.pack()
    assert packed == struct.pack("<HHIIiII5Q", 3, 0, 0x501, 7, -200, 9, 0, 1, 2, 3, 4, 1 << 63)
    assert len(packed) == generated.Slot.SIZE == 64
    assert vars(generated.Slot.unpack(b"\xff" * 8 + packed, 8)) == vars(slot)


def test_names_are_padded_and_stripped_and_never_cut() -> None:
    entry = generated.ChannelEntry(name=b"fs", peer=b"file_server", slots=32)
    assert entry.pack()[:18] == b"fs" + bytes(14) + b"fi"
    assert vars(generated.ChannelEntry.unpack(entry.pack())) == vars(entry)
    with pytest.raises(ValueError, match="longer than the 16 bytes"):
        generated.ChannelEntry(name=b"seventeen letters").pack()


def test_numbers_outside_their_field_are_errors() -> None:
    with pytest.raises(struct.error):
        generated.Slot(op=0x10000).pack()


@pytest.mark.parametrize(
    "layout",
    [
        generated.Slot, generated.Info, generated.ChannelEntry, generated.RegionEntry,
        generated.Telemetry, generated.ReplayEntry,
    ],
)  # fmt: skip
def test_offsets_follow_from_the_codes(layout: type[generated.Slot]) -> None:
    position = 0
    for name, code in layout.CODES.items():
        assert layout.OFFSETS[name] >= position, "only gaps between them"
        position = layout.OFFSETS[name] + struct.calcsize("<" + code)
    assert position <= layout.SIZE == len(layout().pack())


def test_hypercall_tables_agree() -> None:
    assert generated.names(generated.Hypercall)[generated.Hypercall.WAIT] == "wait"


def test_c_header_compiles_with_its_assertions(tmp_path: Path) -> None:
    source = tmp_path / "header.c"
    source.write_text(
        '#include "generated.h"\n'
        f"_Static_assert(R3_DOORBELL_PAGE == {generated.DOORBELL_PAGE}, \"address\");\n"
        f"_Static_assert(R3_ERROR_DEAD == {generated.Error.DEAD}, \"error\");\n",
        encoding="utf-8",
    )  # fmt: skip
    include = f"-I{REPOSITORY / 'hypervisor/abi'}"
    subprocess.run(["cc", "-Wall", "-Wextra", "-Werror", "-fsyntax-only", include, str(source)], check=True)
