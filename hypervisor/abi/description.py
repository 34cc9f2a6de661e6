"""Reads `abi.toml` and checks it, so that the renderers may assume a sound description.

Not loaded at run time: only `python -m hypervisor.abi.generate` and tests use it.

Exceptions:
    DescriptionError(ValueError)    the file says something that cannot be an ABI; names file, section and key
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

SCALARS: Mapping[str, tuple[int, str]] = {
    # type -> (bytes, code of Python's struct module)
    "u8": (1, "B"),
    "u16": (2, "H"),
    "u32": (4, "I"),
    "u64": (8, "Q"),
    "i32": (4, "i"),
    "i64": (8, "q"),
}
ARGUMENT_REGISTERS = ("rdi", "rsi", "rdx", "r10", "r8", "r9")
SLOT_BYTES = 64
SECTIONS = {"version", "constants", "enum", "hypercall", "error", "fault", "layout"}

_FIELD_TYPE = re.compile(r"^([ui]\d+)(?:\[(\d+)\])?$")
_SECTION_LINE = re.compile(r"^\[([\w.]+)\]\s*(?:#\s*(.*))?$")
_KEY_LINE = re.compile(r'^(\w+)\s*=\s*(?:"[^"]*"|[^#"\[{]*)\s*#\s*(.*)$')
_HEXADECIMAL_LINE = re.compile(r"^(\w+)\s*=\s*0x")
_CONSTANT_NAME = re.compile(r"^[A-Z][A-Z0-9_]*$")
_LOWER_NAME = re.compile(r"^[a-z][a-z0-9_]*$")


class DescriptionError(ValueError):
    """`abi.toml` is wrong; the message says where and why."""


class Constant(NamedTuple):
    """A number; `hexadecimal` if the description writes it so, for the renderers to do the same."""

    name: str
    value: int
    comment: str
    hexadecimal: bool = False


class Group(NamedTuple):
    """Constants under one heading; for enumerations, errors and faults the names lack their prefix."""

    name: str
    comment: str
    members: tuple[Constant, ...]


class Hypercall(NamedTuple):
    name: str
    number: int
    arguments: tuple[str, ...]
    doc: str


class Field(NamedTuple):
    """One field of a layout; `length` is 0 for a scalar, otherwise that of the array."""

    name: str
    scalar: str
    length: int
    offset: int
    size: int
    comment: str


class Layout(NamedTuple):
    name: str
    comment: str
    fields: tuple[Field, ...]
    size: int


class Description(NamedTuple):
    version: int
    constants: tuple[Group, ...]
    enums: tuple[Group, ...]
    hypercalls: tuple[Hypercall, ...]
    errors: Group
    faults: Group
    layouts: tuple[Layout, ...]

    def constant(self, name: str) -> int:
        """The value of a constant by its name; KeyError if there is none."""
        return {member.name: member.value for group in self.constants for member in group.members}[name]

    def layout(self, name: str) -> Layout:
        return next(layout for layout in self.layouts if layout.name == name)


def read(path: Path) -> Description:
    """The checked description in `path`; DescriptionError if it is not sound, OSError if it is not there."""
    return parse(path.read_text(encoding="utf-8"), path.name)


def parse(text: str, file_name: str = "abi.toml") -> Description:
    """The checked description in `text`; `file_name` only appears in messages."""
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise DescriptionError(f"{file_name}: {error}") from error
    return _Reader(file_name, table, text).description()


class _Reader:
    def __init__(self, file_name: str, table: dict[str, Any], text: str) -> None:
        self.file_name = file_name
        self.table = table
        self.comments: dict[tuple[str, str], str] = {}
        self.hexadecimal: set[tuple[str, str]] = set()
        self.read_notation(text)

    def read_notation(self, text: str) -> None:
        """What a TOML parser drops: end-of-line comments (a heading's has the key '') and number bases."""
        section = ""
        for line in text.splitlines():
            if heading := _SECTION_LINE.match(line):
                section = heading[1]
                self.comments[section, ""] = heading[2] or ""
            elif entry := _KEY_LINE.match(line):
                self.comments[section, entry[1]] = entry[2].strip()
            if number := _HEXADECIMAL_LINE.match(line):
                self.hexadecimal.add((section, number[1]))

    def description(self) -> Description:
        for section in self.table:
            if section not in SECTIONS:
                self.fail(section, "", f"unknown section; known are {', '.join(sorted(SECTIONS))}")
        for section in sorted(SECTIONS - set(self.table)):
            self.fail(section, "", "missing section")
        version = self.integer("", "version", self.table["version"], 1, 0xFFFFFFFF)
        constants = tuple(self.constants(name) for name in self.section("constants"))
        self.unique("constants", [member.name for group in constants for member in group.members], "name")
        description = Description(
            version=version,
            constants=constants,
            enums=tuple(
                self.numbers(f"enum.{name}", name, self.section("enum")[name], 0, 0xFFFFFFFF)
                for name in self.section("enum")
            ),
            hypercalls=self.hypercalls(),
            errors=self.numbers("error", "error", self.section("error"), -4095, -1),
            faults=self.numbers("fault", "fault", self.section("fault"), 0, 0xFFFF),
            layouts=tuple(self.layout(name) for name in self.section("layout")),
        )
        self.check_sizes(description)
        return description

    def fail(self, section: str, key: str, message: str) -> NoReturn:
        place = f"[{section}]" + (f" {key}" if key else "")
        raise DescriptionError(f"{self.file_name}: {place}: {message}")

    def section(self, name: str) -> dict[str, Any]:
        value = self.table[name]
        if not isinstance(value, dict) or not value:
            self.fail(name, "", "must be a table with at least one entry")
        return value

    def integer(self, section: str, key: str, value: object, low: int, high: int) -> int:
        if not isinstance(value, int) or isinstance(value, bool):
            self.fail(section, key, f"must be an integer, not {value!r}")
        if not low <= value <= high:
            self.fail(section, key, f"{value:#x} is outside {low:#x}..{high:#x}")
        return value

    def unique(self, section: str, values: Iterable[object], what: str) -> None:
        seen: set[object] = set()
        for value in values:
            if value in seen:
                self.fail(section, "", f"{what} {value} is used twice")
            seen.add(value)

    def constants(self, group: str) -> Group:
        section = f"constants.{group}"
        table = self.table["constants"][group]
        if not isinstance(table, dict):
            self.fail("constants", group, f"must be a table [{section}]")
        members = []
        for key, value in table.items():
            if not _CONSTANT_NAME.match(key):
                self.fail(section, key, "a constant's name is upper case letters, digits and _")
            number = self.integer(section, key, value, 0, (1 << 64) - 1)
            place = (section, key)
            members.append(Constant(key, number, self.comments.get(place, ""), place in self.hexadecimal))
        return Group(group, self.comments.get((section, ""), ""), tuple(members))

    def numbers(self, section: str, name: str, table: object, low: int, high: int) -> Group:
        if not isinstance(table, dict):
            self.fail(section, "", "must be a table")
        members = []
        for key, value in table.items():
            self.lower_name(section, key)
            number = self.integer(section, key, value, low, high)
            members.append(Constant(key, number, self.comments.get((section, key), "")))
        self.unique(section, [member.value for member in members], "number")
        return Group(name, self.comments.get((section, ""), ""), tuple(members))

    def lower_name(self, section: str, key: str) -> None:
        if not _LOWER_NAME.match(key):
            self.fail(section, key, "a name is lower case letters, digits and _")

    def hypercalls(self) -> tuple[Hypercall, ...]:
        calls = []
        for name, entry in self.section("hypercall").items():
            self.lower_name("hypercall", name)
            if not isinstance(entry, dict) or set(entry) != {"number", "args", "doc"}:
                self.fail("hypercall", name, "must be { number = ..., args = [...], doc = ... }")
            # The tender keeps the allowed hypercalls in one 64-bit mask.
            number = self.integer("hypercall", name, entry["number"], 1, 63)
            arguments = entry["args"]
            if not isinstance(arguments, list) or not all(isinstance(item, str) for item in arguments):
                self.fail("hypercall", name, "args must be a list of names")
            if len(arguments) > len(ARGUMENT_REGISTERS):
                self.fail("hypercall", name, f"more than {len(ARGUMENT_REGISTERS)} arguments")
            for item in arguments:
                self.lower_name("hypercall", item)
            self.unique("hypercall", arguments, f"argument of {name}")
            if not isinstance(entry["doc"], str) or not entry["doc"]:
                self.fail("hypercall", name, "doc must say what it does")
            calls.append(Hypercall(name, number, tuple(arguments), entry["doc"]))
        self.unique("hypercall", [call.number for call in calls], "number")
        return tuple(calls)

    def layout(self, name: str) -> Layout:
        section = f"layout.{name}"
        self.lower_name("layout", name)
        table = self.table["layout"][name]
        if not isinstance(table, dict) or not table:
            self.fail(section, "", "must be a table with at least one field")
        offset, alignment, fields = 0, 1, []
        for key, kind in table.items():
            self.lower_name(section, key)
            match = _FIELD_TYPE.match(kind) if isinstance(kind, str) else None
            if match is None or match[1] not in SCALARS:
                self.fail(section, key, f"type must be one of {', '.join(SCALARS)} or an array like u8[16]")
            scalar, length = match[1], int(match[2] or 0)
            if match[2] is not None and length == 0:
                self.fail(section, key, "an array has at least one element")
            unit = SCALARS[scalar][0]
            if offset % unit:
                self.fail(section, key, f"offset {offset} is not a multiple of {unit}: pad before it")
            size = unit * max(length, 1)
            fields.append(Field(key, scalar, length, offset, size, self.comments.get((section, key), "")))
            offset += size
            alignment = max(alignment, unit)
        if offset % alignment:
            self.fail(section, "", f"size {offset} is not a multiple of {alignment}: pad at the end")
        return Layout(name, self.comments.get((section, ""), ""), tuple(fields), offset)

    def check_sizes(self, description: Description) -> None:
        """What other parts rely on: a slot is a cache line, and the tables of the info pages fit."""
        names = {layout.name for layout in description.layouts}
        for needed in ("slot", "info", "channel_entry", "region_entry", "telemetry", "replay_entry"):
            if needed not in names:
                self.fail("layout", needed, "missing layout")
        if (size := description.layout("slot").size) != SLOT_BYTES:
            self.fail("layout.slot", "", f"a slot is {SLOT_BYTES} bytes, this one has {size}")
        constant, layout = description.constant, description.layout
        page = constant("PAGE_SIZE")
        areas = (
            ("layout.info", 0, layout("info").size, constant("INFO_CHANNELS")),
            ("layout.channel_entry", constant("INFO_CHANNELS"),
             constant("CHANNELS") * layout("channel_entry").size, constant("INFO_REGIONS")),
            ("layout.region_entry", constant("INFO_REGIONS"),
             constant("REGIONS") * layout("region_entry").size, constant("INFO_DEVICE")),
            ("layout.telemetry", 0, layout("telemetry").size, constant("TELEMETRY_REPLAYS")),
            ("layout.replay_entry", constant("TELEMETRY_REPLAYS"),
             constant("TELEMETRY_REPLAY_SLOTS") * layout("replay_entry").size, page),
            ("constants.status_page", 0, constant("CHANNELS") * constant("STATUS_ENTRY_SIZE"), page),
            ("constants.info_layout", constant("INFO_PARAMETERS"), 1, constant("INFO_PAGES") * page),
        )  # fmt: skip
        for section, start, size, end in areas:
            if start + size > end:
                self.fail(section, "", f"{size} bytes at offset {start:#x} run past {end:#x}")
