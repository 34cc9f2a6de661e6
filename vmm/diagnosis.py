"""What people are told about an error in one of our TOML files: the file, the line, the key, what to do.

The trusted side (`vmm.document`) says only which key is wrong, and how. Finding its line and what to do about
it (`vmm.remedies`) needs no trust, so it happens here, afterwards.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from vmm.remedies import remedy, types_in_words

_KEY = r"(?:[A-Za-z0-9_-]+|\"[^\"\n]*\"|'[^'\n]*')"
_LINE = re.compile(rf"\s*(\[)?\s*({_KEY}(?:\s*\.\s*{_KEY})*)\s*(\]|=)")
_TOKEN = re.compile(r'"""|\'\'\'|"(?:[^"\\]|\\.)*"|\'[^\']*\'|#.*|[\[\]{}]')
_PLACE = r"\(at (?:line ([0-9]+), column [0-9]+|end of document)\)"
_SYNTAX = re.compile(rf"TOMLDecodeError: (.*) {_PLACE}", re.DOTALL)


def explain(error: Mapping[str, Any]) -> str:
    """`file:line: key: what is wrong; what to do` of the `vars` of a ConfigurationError."""
    file, key, problem, facts = error["file"], list(error["key"]), error["problem"], dict(error["facts"])
    place = None
    if syntax := _SYNTAX.fullmatch(problem):
        problem = f"TOML syntax: {syntax[1]}"
        place = f"{file}:{syntax[2] or _read(file).count(chr(10)) + 1}"
        if syntax[1].startswith(("Cannot overwrite", "Cannot declare")):
            problem = "this key is given twice"
    elif "client" in facts and "server" in facts:
        for side, table in (("client", "uses"), ("server", "serves")):
            facts[side] = _operations(Path(file), facts[side], table)
    elif problem.startswith("UnicodeDecodeError: "):
        problem = "not UTF-8 text"
    elif problem.endswith(" is needed"):
        problem = types_in_words(problem)
    elif problem.endswith(" is missing"):
        if near := get_close_matches(facts["name"], facts["others"], 1):
            key, problem, facts["remedy"] = [*key, *near], "unknown key", f'did you mean "{facts["name"]}"?'
        elif facts["kind"] == "dict":
            problem = f"[{dotted([*key, facts['name']])}] is missing"
    where = f"{place or _place(file, key)}: {dotted(key)}".rstrip(": ")
    return f"{where}: {problem}; {remedy(problem, facts)}"


def dotted(path: Sequence[str]) -> str:
    """`path` as one would write it in TOML."""
    return ".".join(part if re.fullmatch(r"[A-Za-z0-9_-]+", part) else f'"{part}"' for part in path)


def _place(file: str, key: Sequence[str]) -> str:
    """The file and the line of the key, or of the nearest key above it that has one."""
    lines, known = key_lines(_read(file)), tuple(key)
    while known and known not in lines:
        known = known[:-1]
    return f"{file}:{lines[known]}" if known else file


def _operations(system: Path, end: Sequence[str], table: str) -> str:
    """Where the manifest of `end` (component, interface) of the system file says which operations."""
    read = tomllib.loads(_read(str(system)))
    program, _, _ = end[0].partition(".")  # an instance is called NAME.2
    files = [folder + f"/{program}/manifest.toml" for folder in read.get("programs", {}).get("folders", ())]
    if end[0] in read.get("components", {}):
        files = [read["components"][end[0]]["manifest"]]
    for file in (Path(os.path.normpath(system.parent / each)) for each in files):
        if file.is_file():
            return _place(str(file), (table, end[1], "operations"))
    return f"the manifest of {end[0]}"


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
