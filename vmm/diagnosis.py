"""What people are told about an error in one of our TOML files: the file, the line, the key, what to do.

The trusted side (`vmm.document`) knows only which key is wrong; finding its line needs no trust, so it is
found here, afterwards.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vmm.document import dotted

_KEY = r"(?:[A-Za-z0-9_-]+|\"[^\"\n]*\"|'[^'\n]*')"
_LINE = re.compile(rf"\s*(\[)?\s*({_KEY}(?:\s*\.\s*{_KEY})*)\s*(\]|=)")
_TOKEN = re.compile(r'"""|\'\'\'|"(?:[^"\\]|\\.)*"|\'[^\']*\'|#.*|[\[\]{}]')
_SYNTAX = re.compile(r"(TOML syntax: .*) \(at (?:line ([0-9]+), column [0-9]+|end of document)\)", re.DOTALL)


def explain(error: Mapping[str, Any]) -> str:
    """`file:line: key: what is wrong; what to do` of the `vars` of a ConfigurationError."""
    file, key, problem, remedy = error["file"], error["key"], error["problem"], error["remedy"]
    if syntax := _SYNTAX.fullmatch(problem):
        problem = syntax[1]
        place = f"{file}:{syntax[2] or _read(file).count(chr(10)) + 1}"
        if problem.startswith(("TOML syntax: Cannot overwrite", "TOML syntax: Cannot declare")):
            problem, remedy = "this key is given twice", "remove one of the two"
    else:
        place = _place(file, key)
    if error["places"]:
        remedy = remedy.format(*(_place(*each) for each in error["places"]))
    return f"{place}: {dotted(key) + ': ' if key else ''}{problem}; {remedy}"


def _place(file: str, key: Sequence[str]) -> str:
    """The file and the line of the key, or of the nearest key above it that has one."""
    lines, known = key_lines(_read(file)), tuple(key)
    while known and known not in lines:
        known = known[:-1]
    return f"{file}:{lines[known]}" if known else file


def _read(file: str) -> str:
    try:
        return Path(file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""


def key_lines(text: str) -> dict[tuple[str, ...], int]:
    """The line of every table header and key of `text`, a valid TOML file, by its path.

    A scan, not a parser: keys inside inline tables and arrays have no entry, and escapes in quoted keys are
    not decoded.
    """
    lines: dict[tuple[str, ...], int] = {}
    table: tuple[str, ...] = ()
    depth, quote = 0, ""
    for number, line in enumerate(text.split("\n"), 1):
        start = 0
        if not depth and not quote and (match := _LINE.match(line)):
            names = tuple(part.strip("\"'") for part in re.findall(_KEY, match[2]))
            if match[1]:
                table = names
                for length in range(1, len(table) + 1):  # a table above may have no header of its own
                    lines.setdefault(table[:length], number)
                continue
            lines.setdefault(table + names, number)
            start = match.end()
        depth, quote = _follow(line, start, depth, quote)
    return lines


def _follow(line: str, position: int, depth: int, quote: str) -> tuple[int, str]:
    """Bracket depth and open multi-line quote at the end of `line`, of which `position` is passed already."""
    while True:
        if quote:
            end = line.find(quote, position)
            if end < 0:
                return depth, quote
            position, quote = end + 3, ""
        match = _TOKEN.search(line, position)
        if not match:
            return depth, quote
        position = match.end()
        token = match[0]
        if token in ('"""', "'''"):
            quote = token
        elif token in "[{":
            depth += 1
        elif token in "]}":
            depth -= 1
