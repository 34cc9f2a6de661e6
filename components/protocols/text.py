"""Small things the renderers share."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

LINE = 110


def notice(name: str) -> str:
    """The first line of a generated file; `name` of the protocol, or "*"."""
    command = "python -m components.protocols.generate"
    return f"Generated from components/protocols/{name}.toml by `{command}`. Do not edit."


def camel(name: str) -> str:
    """read_grant -> ReadGrant"""
    return "".join(part.capitalize() for part in name.split("_"))


def commented(text: str) -> Iterator[str]:
    """`text` as one C comment."""
    yield from textwrap.wrap(f"{text} */", LINE, initial_indent="/* ", subsequent_indent="   ")


def wrapped(text: str, prefix: str) -> Iterator[str]:
    """`text` in lines that begin with `prefix`."""
    yield from textwrap.wrap(text, LINE, initial_indent=prefix, subsequent_indent=prefix)
