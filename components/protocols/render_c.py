"""C header and golden list of a protocol."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from components.protocols.description import ARGUMENT_BYTES, SLOT, Field, Protocol
from components.protocols.text import commented, notice

_C_TYPES = {
    "u8": "uint8_t",
    "u16": "uint16_t",
    "u32": "uint32_t",
    "u64": "uint64_t",
    "i32": "int32_t",
    "i64": "int64_t",
}


def header(protocol: Protocol) -> str:
    """`NAME.h`."""
    return "\n".join(_header(protocol)) + "\n"


def _header(protocol: Protocol) -> Iterator[str]:
    prefix = f"R3_{protocol.name.upper()}"
    yield f"/* {notice(protocol.name)} */"
    yield from commented(protocol.doc)
    yield f"#ifndef {prefix}_H"
    yield f"#define {prefix}_H"
    yield ""
    yield "#include <stddef.h>"
    yield "#include <stdint.h>"
    yield ""
    yield f"#define {prefix}_NUMBER {protocol.number}"
    yield f"#define {prefix}_VERSION {protocol.version}"
    for name, value in protocol.constants.items():
        yield f"#define {prefix}_{name.upper()} {value}{'u' if value < 1 << 32 else 'ull'}"
    for enum, members in protocol.enums.items():
        yield ""
        for name, value in members.items():
            yield f"#define {prefix}_{enum.upper()}_{name.upper()} {value}u"
    for operation in protocol.operations:
        yield ""
        yield from commented(operation.doc)
        yield f"#define {prefix}_OP_{operation.name.upper()} {operation.id}"
        for suffix, fields in (("args", operation.args), ("returns", operation.returns)):
            if fields:
                yield from _structure(f"r3_{protocol.name}_{operation.name}_{suffix}", fields, ARGUMENT_BYTES)
    for record in protocol.records:
        yield ""
        yield from commented(record.doc)
        yield f"#define {prefix}_{record.name.upper()}_SIZE {record.size}"
        yield from _structure(f"r3_{protocol.name}_{record.name}", record.fields, record.size)
    yield ""
    yield "#endif"


def _structure(name: str, fields: Sequence[Field], most: int) -> Iterator[str]:
    yield f"struct {name} {{"
    end = 0
    for field in fields:
        if field.offset > end:
            yield f"    uint8_t padding_at_{end}[{field.offset - end}];"
        yield f"    {_C_TYPES[field.type]} {field.name};"
        end = field.offset + field.size
    yield "} __attribute__((packed));"
    for field in fields:
        yield f'_Static_assert(offsetof(struct {name}, {field.name}) == {field.offset}, "{field.name}");'
    yield f'_Static_assert(sizeof(struct {name}) <= {most}, "size");'


def golden(protocol: Protocol) -> str:
    """A sorted list, one fact a line, so that a diff shows exactly which part of the protocol has changed."""
    lines = [f"protocol number {protocol.number} version {protocol.version}"]
    lines += [f"constant {name} = {value}" for name, value in protocol.constants.items()]
    lines += [
        f"enum {enum} {name} = {value}"
        for enum, members in protocol.enums.items()
        for name, value in members.items()
    ]
    for operation in protocol.operations:
        what = f"operation {operation.id:02} {operation.name}"
        flags = [word for word in ("idempotent", "exactly_once", "sticky") if getattr(operation, word)]
        flags += [f"ends {operation.ends}"] if operation.ends else []
        lines.append(f"{what}: {', '.join(flags) or 'not repeatable'}")
        lines.append(f"{what} input {_amount(operation.input)} output {_amount(operation.output)}")
        lines.append(f"{what} errors {' '.join(operation.errors) or '-'}")
        lines += [f"{what} args +{f.offset:02} {f.name} {f.type}" for f in operation.args]
        lines += [f"{what} returns +{f.offset:02} {f.name} {f.type}" for f in operation.returns]
    for record in protocol.records:
        lines.append(f"record {record.name} size {record.size}")
        lines += [f"record {record.name} +{f.offset:02} {f.name} {f.type}" for f in record.fields]
    return "\n".join([f"# {notice(protocol.name)}", *sorted(lines)]) + "\n"


def _amount(count: int) -> str:
    return "slot" if count == SLOT else str(count)
