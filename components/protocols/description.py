"""A protocol description: read from its TOML file, checked, and laid out.

Scalars are packed naturally aligned, little-endian, in the order given: arguments and returns into the 40
argument bytes of a slot, records into the bytes of a data buffer (a record has no padding at its end).
All errors are `vmm.document.ProtocolFileError`; `vmm.diagnosis.explain` tells people the line and what to do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hypervisor.abi import generated as abi
from vmm.document import Document, ProtocolFileError, Table, check_name

ARGUMENT_BYTES = 40
OPERATION_MAX = 63  # operations are bits of a 64-bit mask; 0 is never an operation
SLOT = -1  # "slot": as much as a data buffer holds
NAME_MAX = 31
# Names that generated code, a NamedTuple or one of the languages has a use for itself.
RESERVED = frozenset(("connect", "attach", "serve", "dispatch", "session_ended", "answered"))
RESERVED |= frozenset(("count", "index", "pack", "unpack"))
RESERVED |= frozenset(
    ("match", "type", "loop", "move", "import", "fn", "self", "crate", "ref", "static", "struct")
)

SCALARS = {"u8": 1, "u16": 2, "u32": 4, "u64": 8, "i32": 4, "i64": 8}


@dataclass(frozen=True)
class Field:
    """One scalar at `offset` bytes."""

    name: str
    type: str
    offset: int
    note: str = ""

    @property
    def size(self) -> int:
        """Bytes."""
        return SCALARS[self.type]


@dataclass(frozen=True)
class Operation:
    """One numbered request. `input`, `output`: most bytes in the data buffer, 0 none, SLOT all it holds."""

    name: str
    id: int
    doc: str
    idempotent: bool
    exactly_once: bool
    sticky: bool
    ends: str
    args: tuple[Field, ...]
    returns: tuple[Field, ...]
    input: int
    output: int
    errors: tuple[str, ...]


@dataclass(frozen=True)
class Record:
    """A structure that travels in data buffers."""

    name: str
    doc: str
    fields: tuple[Field, ...]

    @property
    def size(self) -> int:
        """Bytes, without padding at the end."""
        last = self.fields[-1]
        return last.offset + last.size


@dataclass(frozen=True)
class Protocol:
    """Everything about one protocol. Operations are in the order of their ids."""

    name: str
    number: int
    version: int
    doc: str
    constants: dict[str, int]
    enums: dict[str, dict[str, int]]
    operations: tuple[Operation, ...]
    records: tuple[Record, ...]


def read(file: Path) -> Protocol:
    """The protocol described in `file`."""
    top = Document(file, ProtocolFileError).table
    name = top.text("name")
    check_name(top, "name", name, NAME_MAX)
    if name != file.stem:
        problem = f'"{name}" is not what the file is called'
        raise top.error("name", problem, remedy=f"rename it to {name}.toml")
    constants = top.table("constants")
    protocol = Protocol(
        name=name,
        number=top.number("number", 1, 0xFFFF),
        version=top.number("version", 1, 0xFFFF),
        doc=top.text("doc"),
        constants={key: _constant(constants, key) for key in constants},
        enums={key: _enum(table) for key, table in top.entries("enum", NAME_MAX).items()},
        operations=_operations(top),
        records=tuple(_record(key, table) for key, table in top.entries("record", NAME_MAX).items()),
    )
    top.end()
    return protocol


def read_all(folder: Path) -> list[Protocol]:
    """Every protocol of a folder, in the order of their numbers."""
    found: dict[int, tuple[Path, Protocol]] = {}
    for file in sorted(folder.glob("*.toml")):
        protocol = read(file)
        if protocol.number in found:
            other = found[protocol.number][0].name
            problem = f"{protocol.number} is the number of {other}"
            raise Document(file, ProtocolFileError).error(
                ["number"], problem, remedy="numbers are unique; take a free one"
            )
        found[protocol.number] = (file, protocol)
    return [protocol for _, (_, protocol) in sorted(found.items())]


def _constant(table: Table, key: str) -> int:
    check_name(table, key, key, NAME_MAX)
    return table.number(key, 0, (1 << 64) - 1)


def _enum(table: Table) -> dict[str, int]:
    members = {key: _constant(table, key) for key in table}
    seen: dict[int, str] = {}
    for key, value in members.items():
        if value in seen:
            raise table.error(key, f"{value} is the value of {seen[value]}", remedy="values are unique")
        seen[value] = key
    return members


def _operations(top: Table) -> tuple[Operation, ...]:
    tables = top.entries("operation", NAME_MAX)
    if not tables:
        raise top.error("operation", "there is no operation", remedy="add [operation.NAME]")
    operations = [_operation(name, table) for name, table in tables.items()]
    by_id: dict[int, Operation] = {}
    for operation in operations:
        table = tables[operation.name]
        if operation.id in by_id:
            problem = f"{operation.id} is the id of {by_id[operation.id].name}"
            remedy = "ids are unique and never used again; take the next free one"
            raise table.error("id", problem, remedy=remedy)
        by_id[operation.id] = operation
        if operation.ends:
            _check_ends(operation, table, operations)
    return tuple(by_id[number] for number in sorted(by_id))


def _check_ends(operation: Operation, table: Table, operations: Sequence[Operation]) -> None:
    names = [other.name for other in operations]
    table.known("ends", operation.ends, names, f'no operation "{operation.ends}"', "operations")
    ended = operations[names.index(operation.ends)]
    if not ended.sticky:
        remedy = "only sticky operations are ended by another"
        raise table.error("ends", f'"{operation.ends}" is not sticky', remedy=remedy)
    first = [(f.name, f.type) for f in operation.args[:1]]
    if first != [(f.name, f.type) for f in ended.args[:1]]:
        problem = f'its first argument is not that of "{operation.ends}"'
        raise table.error("args", problem, remedy="the first argument says which one is ended")


def _operation(name: str, table: Table) -> Operation:
    _check_free(table, "", name)
    operation = Operation(
        name=name,
        id=table.number("id", 1, OPERATION_MAX),
        doc=table.text("doc"),
        idempotent=table.flag("idempotent", False),
        exactly_once=table.flag("exactly_once", False),
        sticky=table.flag("sticky", False),
        ends=table.text("ends", ""),
        args=_fields(table, "args", ARGUMENT_BYTES),
        returns=_fields(table, "returns", ARGUMENT_BYTES),
        input=_bytes(table, "input"),
        output=_bytes(table, "output"),
        errors=tuple(table.names("errors", abi.names(abi.Error).values(), "errors", ())),
    )
    table.end()
    if operation.exactly_once and operation.idempotent:
        problem = "an idempotent operation may be done twice"
        raise table.error("exactly_once", problem, remedy="say one of exactly_once and idempotent")
    if operation.sticky and not (operation.idempotent or operation.exactly_once):
        raise table.error("sticky", "a sticky operation is replayed", remedy="say idempotent = true as well")
    if operation.sticky and not operation.args:
        raise table.error("sticky", "a sticky operation needs an argument", remedy="the first one is its key")
    return operation


def _check_free(table: Table, key: str, name: str) -> None:
    if name in RESERVED:
        problem = f'"{name}" is a name that generated code uses itself'
        raise table.error(key, problem, remedy="choose another")


def _bytes(table: Table, key: str) -> int:
    """0 where absent; "slot" or a number."""
    if key not in table:
        return table.number(key, 0, 0, default=0)
    try:
        table.text(key)
    except ProtocolFileError:
        return table.number(key, 1, abi.SLOT_DATA_MAX)
    table.choice(key, ("slot",))
    return SLOT


def _record(name: str, table: Table) -> Record:
    notes = table.table("notes")
    fields = _fields(table, "fields", abi.SLOT_DATA_MAX)
    if not fields:
        raise table.error("fields", "a record needs fields", remedy='add fields = { size = "u64" }')
    noted = tuple(Field(f.name, f.type, f.offset, notes.text(f.name, "")) for f in fields)
    notes.end()
    record = Record(name, table.text("doc"), noted)
    table.end()
    return record


def _fields(table: Table, key: str, most: int) -> tuple[Field, ...]:
    inner = table.table(key)
    fields: list[Field] = []
    end = 0
    for name in inner:
        check_name(inner, name, name, NAME_MAX)
        _check_free(inner, name, name)
        kind = inner.text(name)
        if kind not in SCALARS:
            raise inner.error(name, f'no such type "{kind}"', remedy=f"use one of {', '.join(SCALARS)}")
        size = SCALARS[kind]
        offset = (end + size - 1) // size * size
        fields.append(Field(name, kind, offset))
        end = offset + size
    if end > most:
        raise table.error(key, f"{end} bytes are too many", remedy=f"a slot has room for {most}")
    return tuple(fields)
