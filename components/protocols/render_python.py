"""Python of a protocol: numbers, and a `hypervisor.abi.layout.Layout` per structure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from components.protocols.description import ARGUMENT_BYTES, Field, Protocol
from components.protocols.text import camel, notice, wrapped

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
    yield "from typing import Final"
    yield ""
    yield "from hypervisor.abi.layout import Layout"
    yield ""
    yield f'NAME: Final = "{protocol.name}"'
    yield f"NUMBER: Final = {protocol.number}"
    yield f"VERSION: Final = {protocol.version}"
    yield ""
    yield "# operations"
    for operation in protocol.operations:
        yield f"{operation.name.upper()}: Final = {operation.id}"
    if protocol.constants:
        yield ""
        yield "# constants"
        for name, value in protocol.constants.items():
            yield f"{name.upper()}: Final = {value}"
    for enum, members in protocol.enums.items():
        yield ""
        yield f"# {enum}"
        for name, value in members.items():
            yield f"{enum.upper()}_{name.upper()}: Final = {value}"
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
    yield ""
    yield ""
    yield f'class {name}(Layout, codes="{_codes(fields, size)}"):'
    if len(doc) < 90:
        yield f'    """{doc}"""'
    else:
        yield from wrapped(f'"""{doc}', "    ")
        yield '    """'
    yield ""
    for field in fields:
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
