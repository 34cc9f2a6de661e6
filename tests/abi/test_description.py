"""What the ABI generator refuses: one broken description per error, exact message."""

from __future__ import annotations

import pytest

from hypervisor.abi import description
from hypervisor.abi.generate import SOURCE

SOUND = SOURCE.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("[hypercall]", "[syscall]", "[syscall]: unknown section; known are constants, enum, error, fault, "
         "hypercall, layout, version"),
        ("number = 2, ", "number = 1, ", "[hypercall]: number 1 is used twice"),
        ("number = 2, ", "number = 64, ", "[hypercall] wait: 0x40 is outside 0x1..0x3f"),
        ('["timeout_ns", "rest_ns"]', '["a", "b", "c", "d", "e", "f", "g"]',
         "[hypercall] wait: more than 6 arguments"),
        ("noent = -2", "noent = 2", "[error] noent: 0x2 is outside -0xfff..-0x1"),
        ("noent = -2", "noent = -1", "[error]: number -1 is used twice"),
        ("PAGE_SIZE = 4096", 'PAGE_SIZE = "4096"',
         "[constants.limits] PAGE_SIZE: must be an integer, not '4096'"),
        ("PAGE_SIZE = 4096", "page_size = 4096",
         "[constants.limits] page_size: a constant's name is upper case letters, digits and _"),
        ('op = "u16"', 'op = "u8"', "[layout.slot] flags: offset 1 is not a multiple of 2: pad before it"),
        ('op = "u16"', 'op = "f32"',
         "[layout.slot] op: type must be one of u8, u16, u32, u64, i32, i64 or an array like u8[16]"),
        ('args = "u64[5]"', 'args = "u64[6]"', "[layout.slot]: a slot is 64 bytes, this one has 72"),
        ('args = "u64[5]"', 'args = "u64[0]"', "[layout.slot] args: an array has at least one element"),
        ('reserved = "u64[2]"', 'reserved = "u64[4]"',
         "[layout.channel_entry]: 9216 bytes at offset 0x1000 run past 0x3000"),
        ("open = 1 ", "open = 0 ", "[enum.channel_state]: number 0 is used twice"),
    ],
)  # fmt: skip
def test_refused(old: str, new: str, message: str) -> None:
    assert old in SOUND
    with pytest.raises(description.DescriptionError) as caught:
        description.parse(SOUND.replace(old, new, 1))
    assert str(caught.value) == f"abi.toml: {message}"


def test_invalid_toml_is_reported_with_its_line() -> None:
    with pytest.raises(description.DescriptionError, match=r"^abi\.toml: .*line 1"):
        description.parse("version =\n")
