"""Python of a protocol: numbers, and a `hypervisor.abi.layout.Layout` per structure.

Its lines count as trusted ones, so there is nothing that Python has no use for.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence

from components.protocols.description import ARGUMENT_BYTES, Field, Protocol
from components.protocols.text import LINE, camel, notice, wrapped

_FORMATS = {"u8": "B", "u16": "H", "u32": "I", "u64": "Q", "i32": "i", "i64": "q"}


def module(protocol: Protocol) -> str:
    """`NAME.py`."""
    return "\n".join(_module(protocol)) + "\n"


def _module(protocol: Protocol) -> Iterator[str]:
    yield from wrapped(f'"""{protocol.doc}', "")
    yield ""
    yield notice(protocol.name)
    yield '"""'
    yield ""
    yield "from __future__ import annotations"
    yield ""
    yield "from enum import IntEnum"
    yield ""
    yield "from hypervisor.abi.layout import Layout"
    yield ""
    operations = {operation.name: operation.id for operation in protocol.operations}
    for enum, members in {"operation": operations, **protocol.enums}.items():
        numbers = ", ".join(f'"{name.upper()}": {value}' for name, value in members.items())
        line = f'{camel(enum)} = IntEnum("{camel(enum)}", {{{numbers}}})'
        yield from textwrap.wrap(line, LINE, subsequent_indent="    ", break_on_hyphens=False)
    for operation in protocol.operations:
        for suffix, title, fields in (
            ("Args", "Arguments", operation.args),
            ("Returns", "Returned values", operation.returns),
        ):
            if fields:
                doc = f"{title} of `{operation.name}`."
                yield from _structure(camel(operation.name) + suffix, doc, fields, ARGUMENT_BYTES)
    for record in protocol.records:
        yield from _structure(camel(record.name) + "Record", record.doc, record.fields, record.size)


def _structure(name: str, doc: str, fields: Sequence[Field], size: int) -> Iterator[str]:
    named = [field for field in fields if field.name != "reserved"]
    yield ""
    yield ""
    yield f'class {name}(Layout, codes="{_codes(named, size)}"):'
    if len(doc) < 90:
        yield f'    """{doc}"""'
    else:
        yield from wrapped(f'"""{doc}', "    ")
        yield '    """'
    yield ""
    for field in named:
        yield f"    {field.name}: int = 0"


def _codes(fields: Sequence[Field], size: int) -> str:
    """The codes of a layout of `size` bytes, with every gap spelled out."""
    parts, end = [], 0
    for field in fields:
        if field.offset > end:
            parts.append(f"{field.offset - end}x")
        parts.append(_FORMATS[field.type])
        end = field.offset + field.size
    if size > end:
        parts.append(f"{size - end}x")
    return " ".join(parts)
