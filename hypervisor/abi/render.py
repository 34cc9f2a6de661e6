"""Turns a checked description into Python, C, Rust and the golden list. Pure functions of the description."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

from hypervisor.abi.description import (
    ARGUMENT_REGISTERS,
    SCALARS,
    Constant,
    Description,
    Field,
    Group,
    Layout,
)

NOTICE = "Generated from hypervisor/abi/abi.toml by `python -m hypervisor.abi.generate`. Do not edit."
LINE = 110
C_INT_MAX = 0x7FFFFFFF


def python(description: Description) -> str:
    """`generated.py`: constants, names, and a class per layout."""
    return "\n".join(_python_lines(description)) + "\n"


def c_header(description: Description) -> str:
    """`generated.h`: R3_* macros and checked structures."""
    return "\n".join(_c_lines(description)) + "\n"


def rust(description: Description) -> str:
    """`abi.rs`: constants and `repr(C)` structures; compiles with rustc 1.63."""
    return "\n".join(_rust_lines(description)) + "\n"


def golden(description: Description) -> str:
    """A sorted list, one fact a line, so that a diff shows exactly which part of the ABI has changed."""
    lines = [f"version {description.version}"]
    for group in description.constants:
        lines += [f"constant {group.name} {item.name} = {item.value:#x}" for item in group.members]
    for group in (*description.enums, description.errors, description.faults):
        lines += [f"number {group.name} {item.name} = {item.value}" for item in group.members]
    for call in description.hypercalls:
        pairs = zip(ARGUMENT_REGISTERS, call.arguments, strict=False)
        registers = "".join(f" {register}={name}" for register, name in pairs)
        lines.append(f"hypercall {call.number:02} {call.name} rax={call.number}{registers}")
    for layout in description.layouts:
        lines.append(f"layout {layout.name} size {layout.size}")
        for field in layout.fields:
            kind = _array(field, "{0}[{1}]")
            lines.append(f"layout {layout.name} +{field.offset:03} {field.name} {kind} ({field.size} bytes)")
    return "\n".join([f"# {NOTICE}", *sorted(lines)]) + "\n"


def _number(item: Constant) -> str:
    return f"{item.value:#x}" if item.hexadecimal else str(item.value)


def _sentence(layout: Layout) -> str:
    text = layout.comment or f"layout `{layout.name}`, {layout.size} bytes"
    return text[0].upper() + text[1:] + "."


def _array(field: Field, pattern: str, scalar: str | None = None) -> str:
    kind = scalar or field.scalar
    return pattern.format(kind, field.length) if field.length else kind


def _prefixed(description: Description) -> Iterator[tuple[Group, str]]:
    """Groups whose members get a prefix: enumerations, errors, faults."""
    for group in (*description.enums, description.errors, description.faults):
        yield group, group.name.upper()


def _camel(name: str) -> str:
    return "".join(part.capitalize() for part in name.split("_"))


# --- Python


def _python_lines(description: Description) -> Iterator[str]:
    yield f'"""{NOTICE}"""'
    yield ""
    yield "from __future__ import annotations"
    yield ""
    yield "from enum import IntEnum"
    yield "from typing import Final"
    yield ""
    yield "from hypervisor.abi.layout import Layout"
    yield "from hypervisor.abi.layout import names as names  # noqa: PLC0414"
    yield ""
    yield f"ABI_VERSION: Final = {description.version}"
    for group in description.constants:
        yield from _python_heading(group)
        for item in group.members:
            yield from _python_constant(item.name, item)
    calls = tuple(Constant(call.name, call.number, call.doc) for call in description.hypercalls)
    enums = (*description.enums, description.errors, description.faults, Group("hypercall", "", calls))
    for group in enums:
        yield from _python_enum(group)
    for layout in description.layouts:
        yield from _python_layout(layout)


def _python_heading(group: Group) -> Iterator[str]:
    yield ""
    text = f"{group.name}: {group.comment}" if group.comment else group.name
    yield from textwrap.wrap(text, LINE, initial_indent="# ", subsequent_indent="# ")


def _python_constant(name: str, item: Constant) -> Iterator[str]:
    yield from _python_commented(f"{name}: Final = {_number(item)}", item.comment)


def _python_commented(line: str, comment: str) -> Iterator[str]:
    """The line with its comment behind it, or above it where that would be too long."""
    if comment and len(line) + 4 + len(comment) <= LINE:
        line += f"  # {comment}"
    elif comment:
        start = " " * (len(line) - len(line.lstrip())) + "# "
        yield from textwrap.wrap(comment, LINE, initial_indent=start, subsequent_indent=start)
    yield line


def _python_enum(group: Group) -> Iterator[str]:
    """The numbers of a group, several a line: the description, C and Rust say what each means."""
    name = _camel(group.name)
    yield from _python_heading(group)
    items = [f'"{item.name.upper()}": {item.value}' for item in group.members]
    yield from _python_wrapped(f'{name} = IntEnum("{name}", ', "{", items, "})")


def _python_wrapped(start: str, opening: str, items: list[str], closing: str) -> Iterator[str]:
    """A literal on one line, or wrapped with several items a line: these lines count as trusted ones."""
    if len(line := start + opening + ", ".join(items) + closing) <= LINE:
        yield line
        return
    indent = " " * (len(start) - len(start.lstrip()))
    yield start + opening
    line = indent + "   "
    for item in items:
        if len(line) + len(item) + 2 > LINE:
            yield line
            line = indent + "   "
        line += f" {item},"
    yield line
    yield indent + closing


def _python_layout(layout: Layout) -> Iterator[str]:
    codes = " ".join(_python_code(field) for field in layout.fields)
    named = [field for field in layout.fields if field.name != "reserved"]
    yield ""
    yield ""
    yield f'class {_camel(layout.name)}(Layout, codes="{codes}"):'
    yield f'    """{_sentence(layout)}"""'
    yield ""
    for field in named:
        yield from _python_commented(f"    {field.name}: {_python_default(field)}", field.comment)


def _python_code(field: Field) -> str:
    if field.name == "reserved":
        return f"{field.size}x"
    if field.scalar == "u8" and field.length:
        return f"{field.length}s"
    code = SCALARS[field.scalar][1]
    return f"{field.length}{code}" if field.length else code


def _python_default(field: Field) -> str:
    if field.scalar == "u8" and field.length:
        return 'bytes = b""'
    return f"tuple[int, ...] = (0,) * {field.length}" if field.length else "int = 0"


# --- C


def _c_lines(description: Description) -> Iterator[str]:
    yield f"/* {NOTICE} */"
    yield "#ifndef R3_ABI_GENERATED_H"
    yield "#define R3_ABI_GENERATED_H"
    yield ""
    yield "#include <stddef.h>"
    yield "#include <stdint.h>"
    yield ""
    yield f"#define R3_ABI_VERSION {description.version}"
    for group in description.constants:
        yield from _c_heading(group)
        wide = group.name == "memory_map"
        for item in group.members:
            yield _c_constant(item.name, item, "ULL" if wide or item.value > C_INT_MAX else "")
    for group, prefix in _prefixed(description):
        yield from _c_heading(group)
        for item in group.members:
            yield _c_constant(f"{prefix}_{item.name.upper()}", item, "")
    yield ""
    yield "/* hypercall */"
    for call in description.hypercalls:
        yield _c_constant(f"HYPERCALL_{call.name.upper()}", Constant(call.name, call.number, call.doc), "")
    for layout in description.layouts:
        struct = f"struct r3_{layout.name}"
        yield ""
        yield f"/* {_sentence(layout)} */"
        yield f"{struct} {{"
        for field in layout.fields:
            kind = f"{'uint' if field.scalar[0] == 'u' else 'int'}{field.scalar[1:]}_t"
            array = f"[{field.length}]" if field.length else ""
            comment = f" /* {field.comment} */" if field.comment else ""
            yield f"\t{kind} {field.name}{array};{comment}"
        yield "};"
        yield f'_Static_assert(sizeof({struct}) == {layout.size}, "size of r3_{layout.name}");'
        for field in layout.fields:
            offset = f"offsetof({struct}, {field.name}) == {field.offset}"
            yield f'_Static_assert({offset}, "r3_{layout.name}.{field.name}");'
    yield ""
    yield "#endif"


def _c_heading(group: Group) -> Iterator[str]:
    yield ""
    yield f"/* {group.name}" + (f": {group.comment}" if group.comment else "") + " */"


def _c_constant(name: str, item: Constant, suffix: str) -> str:
    value = f"({item.value})" if item.value < 0 else _number(item) + suffix
    return f"#define R3_{name} {value}" + (f" /* {item.comment} */" if item.comment else "")


# --- Rust


def _rust_lines(description: Description) -> Iterator[str]:
    yield f"//! {NOTICE}"
    yield ""
    yield f"pub const ABI_VERSION: u32 = {description.version};"
    for group in description.constants:
        yield from _rust_heading(group)
        for item in group.members:
            # Addresses, sizes and counts are usize; what only the device or the host interprets is u64.
            kind = "u64" if item.name.endswith(("_IOVA", "_MAGIC")) else "usize"
            yield from _rust_constant(item.name, item, kind)
    for group, prefix in _prefixed(description):
        yield from _rust_heading(group)
        for item in group.members:
            kind = "i32" if group.name == "error" else "u32"
            yield from _rust_constant(f"{prefix}_{item.name.upper()}", item, kind)
    yield ""
    yield "// hypercall"
    for call in description.hypercalls:
        item = Constant(call.name, call.number, f"({', '.join(call.arguments)}) {call.doc}")
        yield from _rust_constant(f"HYPERCALL_{call.name.upper()}", item, "u64")
    for layout in description.layouts:
        yield from _rust_layout(layout)


def _rust_heading(group: Group) -> Iterator[str]:
    yield ""
    yield f"// {group.name}" + (f": {group.comment}" if group.comment else "")


def _rust_constant(name: str, item: Constant, kind: str) -> Iterator[str]:
    if item.comment:
        yield f"/// {item.comment}"
    yield f"pub const {name}: {kind} = {_number(item)};"


def _rust_layout(layout: Layout) -> Iterator[str]:
    name = _camel(layout.name)
    yield ""
    yield f"/// {_sentence(layout)}"
    yield "#[repr(C)]"
    yield "#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]"
    yield f"pub struct {name} {{"
    for field in layout.fields:
        if field.comment:
            yield f"    /// {field.comment}"
        yield f"    pub {field.name}: {_array(field, '[{0}; {1}]')},"
    yield "}"
    yield ""
    yield f"impl {name} {{"
    yield f"    pub const SIZE: usize = {layout.size};"
    for field in layout.fields:
        yield f"    pub const OFFSET_{field.name.upper()}: usize = {field.offset};"
    yield "}"
    yield ""
    # Fields are naturally aligned (the description is checked for it), so the size implies the offsets.
    yield f"const _: () = assert!(core::mem::size_of::<{name}>() == {name}::SIZE);"
