"""A TOML file of ours: every key knows its line, and a key nobody asked for is an error.

Exceptions (each message is `file:line: key: what is wrong; what to do`):

    ConfigurationError            .status is the exit status of a command that meets it (125)
    ├── ManifestError             in a component's manifest
    ├── ProtocolFileError         in a protocol description
    └── SystemFileError           in a system file
        └── ProgramNotFoundError  the system has no such program (127)
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar, cast

FILE_MAX = 1 << 20  # bytes; configuration is read by trusted code, so it is bounded
Entry = TypeVar("Entry")
NAME = re.compile(r"[a-z][a-z0-9_]*")

_KEY = r"(?:[A-Za-z0-9_-]+|\"[^\"\n]*\"|'[^'\n]*')"
_LINE = rf"\s*(\[)?\s*({_KEY}(?:\s*\.\s*{_KEY})*)\s*(\]|=)"  # compiled at the first error only
_TOKEN = r'"""|\'\'\'|"(?:[^"\\]|\\.)*"|\'[^\']*\'|#.*|[\[\]{}]'
_SIZE = re.compile(r"([1-9][0-9]*) (B|KiB|MiB|GiB)")
_UNITS = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
_KINDS = {
    str: ("a string", '"text"'),
    int: ("a whole number", "4"),
    bool: ("true or false", "true"),
    list: ("a list", '["a", "b"]'),
    dict: ("a table", "{ ... }"),
    float: ("a fraction", "0.5"),
}


class ConfigurationError(Exception):
    """A file that says something that cannot be meant."""

    status = 125

    def __init__(self, file: Path, line: int, key: str, problem: str, remedy: str) -> None:
        place = f"{file}:{line}" if line else f"{file}"
        super().__init__(f"{place}: {key + ': ' if key else ''}{problem}; {remedy}")


class ManifestError(ConfigurationError):
    """A component's manifest is wrong."""


class ProtocolFileError(ConfigurationError):
    """A protocol description is wrong."""


class SystemFileError(ConfigurationError):
    """A system file is wrong, or does not fit the manifests it names."""


class ProgramNotFoundError(SystemFileError):
    """The system has no program of that name."""

    status = 127


def key_lines(text: str) -> dict[tuple[str, ...], int]:
    """The line of every table header and key of `text`, a valid TOML file, by its path.

    A scan, not a parser: keys inside inline tables and arrays have no entry (`Document.line` falls back
    to the key that holds them), and escapes in quoted keys are not decoded.
    """
    lines: dict[tuple[str, ...], int] = {}
    table: tuple[str, ...] = ()
    depth, quote = 0, ""
    for number, line in enumerate(text.split("\n"), 1):
        start = 0
        if not depth and not quote and (match := re.match(_LINE, line)):
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
        match = re.compile(_TOKEN).search(line, position)
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


def dotted(path: Sequence[str]) -> str:
    """`path` as one would write it in TOML."""
    return ".".join(part if re.fullmatch(r"[A-Za-z0-9_-]+", part) else f'"{part}"' for part in path)


def suggestion(name: str, known: Iterable[str], what: str) -> str:
    """The remedy for an unknown name: the nearest known one, or all of them."""
    from difflib import get_close_matches  # only needed once something is wrong

    names = sorted(known)
    close = get_close_matches(name, names, 1)
    if close:
        return f'did you mean "{close[0]}"?'
    return f"known {what}: {', '.join(names)}" if names else f"there are no {what}"


class Document:
    """One TOML file; `table` is its top. `error` is the class of everything wrong in it."""

    def __init__(self, file: Path, error: type[ConfigurationError]) -> None:
        self.file = file
        self._error = error
        try:
            with file.open("rb") as stream:
                data = stream.read(FILE_MAX + 1)
            if len(data) > FILE_MAX:
                raise error(file, 0, "", "larger than 1 MiB", "this is not a file of ours")
            self._text = data.decode()
            values = tomllib.loads(self._text)
        except OSError as problem:
            raise error(file, 0, "", f"{problem.strerror}", "check the path") from None
        except UnicodeDecodeError:
            raise error(file, 0, "", "not UTF-8 text", "save it as UTF-8") from None
        except tomllib.TOMLDecodeError as problem:
            raise self._syntax(str(problem)) from None
        self._lines: dict[tuple[str, ...], int] | None = None
        self.table = Table(self, (), values)

    def _syntax(self, message: str) -> ConfigurationError:
        what, _, where = message.partition(" (at ")
        found = re.match(r"line ([0-9]+)", where)
        line = int(found[1]) if found else self._text.count("\n") + 1
        if what.startswith(("Cannot overwrite", "Cannot declare")):
            return self._error(self.file, line, "", "this key is given twice", "remove one of the two")
        return self._error(self.file, line, "", f"TOML syntax: {what}", "correct this line")

    def relative(self, path: str) -> Path:
        """`path`, as written in this file, for this process."""
        return Path(os.path.normpath(self.file.parent / path))

    def line(self, path: Sequence[str]) -> int:
        """The line of the key, or of the nearest key above it that has one; 0 where there is none."""
        if self._lines is None:
            self._lines = key_lines(self._text)
        known = tuple(path)
        while known and known not in self._lines:
            known = known[:-1]
        return self._lines.get(known, 0)

    def error(self, path: Sequence[str], problem: str, remedy: str) -> ConfigurationError:
        """An error at the key `path`."""
        return self._error(self.file, self.line(path), dotted(path), problem, remedy)


class Table:
    """A table being read: each method takes one key, `end` complains about those that nobody took.

    A `default` of None means that the key must be there. All raise the document's error class.
    """

    def __init__(self, document: Document, path: tuple[str, ...], values: dict[str, Any]) -> None:
        self.document = document
        self.path = path
        self._values = values
        self._asked: set[str] = set()

    def error(self, key: str, problem: str, remedy: str) -> ConfigurationError:
        """An error at `key` of this table; "" is the table itself."""
        return self.document.error((*self.path, key) if key else self.path, problem, remedy)

    def __contains__(self, key: str) -> bool:
        return key in self._values

    def end(self) -> None:
        """Every key has been taken, or there is an unknown one."""
        for key in self._values:
            if key not in self._asked:
                raise self.error(key, "unknown key", suggestion(key, self._asked, "keys"))

    def _take(self, key: str, kind: type, default: object, example: str = "") -> Any:
        self._asked.add(key)
        if key not in self._values:
            if default is None:
                raise self._missing(key, f'"{key}" is missing', f"add {key} = {example or _KINDS[kind][1]}")
            return default
        value = self._values[key]
        if type(value) is not kind:
            name = _KINDS.get(type(value), ("a date or time", ""))[0]
            wanted, usual = _KINDS[kind]
            raise self.error(key, f"{name} where {wanted} is needed", f"write {key} = {example or usual}")
        return value

    def _missing(self, key: str, problem: str, remedy: str) -> ConfigurationError:
        """The error for a key that is not there: more helpful where one looks like a misspelling of it."""
        from difflib import get_close_matches

        for near in get_close_matches(key, self._values.keys() - self._asked, 1):
            return self.error(near, "unknown key", f'did you mean "{key}"?')
        return self.error("", problem, remedy)

    def text(self, key: str, default: str | None = None) -> str:
        """A string."""
        return cast(str, self._take(key, str, default))

    def flag(self, key: str, default: bool) -> bool:
        """true or false."""
        return cast(bool, self._take(key, bool, default))

    def number(self, key: str, minimum: int, maximum: int, default: int | None = None) -> int:
        """A whole number within the bounds."""
        value = cast(int, self._take(key, int, default))
        if key in self._values and not minimum <= value <= maximum:
            remedy = f"use {minimum} to {maximum}" if minimum < maximum else f"only {minimum} is possible"
            raise self.error(key, f"{value} is out of range", remedy)
        return value

    def power(self, key: str, maximum: int) -> int:
        """A power of two up to `maximum`."""
        value = self.number(key, 1, maximum)
        if value & (value - 1):
            raise self.error(key, f"{value} is not a power of two", f"use {1 << value.bit_length() - 1}")
        return value

    def size(self, key: str, maximum: int, unit: int, default: str | None = None) -> int:
        """Bytes written as "32 MiB": a positive multiple of `unit`, at most `maximum`."""
        text = cast(str, self._take(key, str, default, '"32 MiB"'))
        match = _SIZE.fullmatch(text)
        if not match:
            raise self.error(key, f'"{text}" is not a size', 'write a number and a unit: "32 MiB"')
        value = int(match[1]) * _UNITS[match[2]]
        if value > maximum:
            raise self.error(key, f"{text} is too much", f"use at most {size_text(maximum)}")
        if value % unit:
            raise self.error(key, f"{text} is uneven", f"use a multiple of {size_text(unit)}")
        return value

    def choice(self, key: str, options: Sequence[str], default: str | None = None) -> str:
        """One of `options`."""
        value = self.text(key, default)
        if key in self._values and value not in options:
            raise self.error(key, f'no such choice "{value}"', f"use one of {', '.join(options)}")
        return value

    def names(self, key: str, known: Iterable[str], what: str, required: bool = True) -> list[str]:
        """A list of names, each out of `known` and given once; `what` they are, in the plural."""
        if required:
            self._take(key, list, None)
        value = self.strings(key) or []
        for name in value:
            if name not in known:
                raise self.error(key, f'no such name "{name}"', suggestion(name, known, what))
        if len(set(value)) != len(value):
            twice = next(name for name in value if value.count(name) > 1)
            raise self.error(key, f'"{twice}" is given twice', "remove one of the two")
        return value

    def numbers(self, key: str, minimum: int, maximum: int) -> tuple[int, ...]:
        """A list of whole numbers within the bounds; absent is empty."""
        value = self._take(key, list, ())
        for number in value:
            if type(number) is not int or not minimum <= number <= maximum:
                remedy = f"use whole numbers, {minimum} to {maximum}"
                raise self.error(key, f"{number!r} is out of range", remedy)
        return tuple(value)

    def table(self, key: str, required: bool = False) -> Table:
        """The table `key`; an absent one is empty unless `required`."""
        self._asked.add(key)
        if key not in self._values and required:
            raise self._missing(key, f"[{dotted((*self.path, key))}] is missing", "add this table")
        return Table(self.document, (*self.path, key), self._take(key, dict, {}))

    def entries(self, key: str, longest: int) -> dict[str, Table]:
        """The tables of table `key`, by name: well-formed, at most `longest` bytes."""
        inner = self.table(key)
        found = {}
        for name in inner._values:
            check_name(inner, name, name, longest)
            found[name] = inner.table(name)
        return found

    def each(self, key: str, longest: int, read: Callable[[Table], Entry]) -> dict[str, Entry]:
        """What `read` makes of each table of table `key`, by name; it takes all their keys."""
        found = {}
        for name, table in self.entries(key, longest).items():
            found[name] = read(table)
            table.end()
        return found

    def __iter__(self) -> Iterator[str]:
        """Every key, for tables whose keys are the user's choice."""
        return iter(self._values)

    def is_table(self, key: str) -> bool:
        """Whether `key` holds a table."""
        return isinstance(self._values.get(key), dict)

    def strings(self, key: str) -> list[str] | None:
        """A list of strings, or None where the key is absent."""
        value = cast(list[str], self._take(key, list, []))
        for position, entry in enumerate(value):
            if not isinstance(entry, str):
                raise self.error(key, f"entry {position + 1} is not a string", "put each one in quotes")
        return value if key in self else None

    def path_to(self, key: str) -> Path:
        """A path, relative to the document's folder."""
        return self.document.relative(self.text(key))


def check_name(table: Table, key: str, name: str, longest: int) -> None:
    """A name of a component, interface, device or region: lower case, at most `longest` bytes."""
    if not NAME.fullmatch(name):
        remedy = "use lower-case letters, digits and _, a letter first"
        raise table.error(key, f'"{name}" is not a name', remedy)
    if len(name) > longest:
        raise table.error(key, f'the name "{name}" is too long', f"use at most {longest} characters")


def size_text(size: int) -> str:
    """`size` in the largest unit that divides it: "32 MiB"."""
    for unit in ("GiB", "MiB", "KiB"):
        if size and size % _UNITS[unit] == 0:
            return f"{size // _UNITS[unit]} {unit}"
    return f"{size} B"
