"""A TOML file of ours: a key nobody asked for is an error. `vmm.diagnosis` tells people what to do about one.

Exceptions:

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
NAME = re.compile(r"[a-z][a-z0-9_]*")

Entry = TypeVar("Entry")

_SIZE = re.compile(r"([1-9][0-9]*) (B|KiB|MiB|GiB)")
_UNITS = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}


class ConfigurationError(Exception):
    """A file that says something that cannot be meant, at `key`.

    `vars()` of it is all that `vmm.diagnosis` needs; `facts` (values that JSON has) are what it may have to
    speak of when it says what to do.
    """

    status = 125

    def __init__(self, file: Path, key: Sequence[str], problem: str, **facts: object) -> None:
        self.file, self.key, self.problem, self.facts = str(file), list(key), problem, facts
        super().__init__(f"{file}: {'.'.join(key)}: {problem}")


class ManifestError(ConfigurationError):
    """A component's manifest is wrong."""


class ProtocolFileError(ConfigurationError):
    """A protocol description is wrong."""


class SystemFileError(ConfigurationError):
    """A system file is wrong, or does not fit the manifests it names."""


class ProgramNotFoundError(SystemFileError):
    """The system has no program of that name."""

    status = 127


class Document:
    """One TOML file; `table` is its top. `kind` is the class of everything wrong in it."""

    def __init__(self, file: Path, kind: type[ConfigurationError]) -> None:
        self.file, self.kind = file, kind
        try:
            with file.open("rb") as stream:
                data = stream.read(FILE_MAX + 1)
            if len(data) > FILE_MAX:
                raise self.error((), "larger than 1 MiB")
            self.table = Table(self, (), tomllib.loads(data.decode()))
        except OSError as problem:
            raise self.error((), f"{problem.strerror}") from None
        except (ValueError, RecursionError) as problem:  # not UTF-8, or not TOML
            raise self.error((), f"{type(problem).__name__}: {problem}") from None

    def relative(self, path: str) -> Path:
        """`path`, as written in this file, for this process."""
        return Path(os.path.normpath(self.file.parent / path))

    def error(self, key: Sequence[str], problem: str, **facts: object) -> ConfigurationError:
        """An error at the path `key`."""
        return self.kind(self.file, key, problem, **facts)


class Table:
    """A table being read: each method takes one key, `end` complains about those that nobody took.

    A `default` of None means that the key must be there. All raise the document's kind of error.
    """

    def __init__(self, document: Document, path: tuple[str, ...], values: dict[str, Any]) -> None:
        self.document, self.path = document, path
        self._values = values
        self._asked: set[str] = set()

    def error(self, key: str, problem: str, **facts: object) -> ConfigurationError:
        """An error at `key` of this table; "" is the table itself."""
        return self.document.error((*self.path, key) if key else self.path, problem, **facts)

    def known(self, key: str, name: str, names: Iterable[str], problem: str, what: str) -> None:
        """An error of `problem` at `key` unless `name` is one of `names`; `what` they are, in the plural."""
        if name not in names:
            raise self.error(key, problem, name=name, known=sorted(names), what=what)

    def __contains__(self, key: str) -> bool:
        return key in self._values

    def __iter__(self) -> Iterator[str]:
        """Every key, for tables whose keys are the user's choice."""
        return iter(self._values)

    def end(self) -> None:
        """Every key has been taken, or there is an unknown one."""
        for key in self._values:
            self.known(key, key, self._asked, "unknown key", "keys")

    def _take(self, key: str, kind: type, default: object, **facts: object) -> Any:
        self._asked.add(key)
        facts |= {"name": key, "kind": kind.__name__, "others": sorted(self._values.keys() - self._asked)}
        if key not in self._values and default is None:
            raise self.error("", f'"{key}" is missing', **facts)
        value = self._values.get(key, default)
        if key in self._values and type(value) is not kind:
            raise self.error(key, f"{type(value).__name__} where {kind.__name__} is needed", **facts)
        return value

    def text(self, key: str, default: str | None = None) -> str:
        """A string."""
        return cast(str, self._take(key, str, default))

    def flag(self, key: str, default: bool) -> bool:
        """true or false."""
        return cast(bool, self._take(key, bool, default))

    def number(self, key: str, minimum: int, maximum: int, default: int | None = None) -> int:
        """A whole number within the bounds."""
        value = cast(int, self._take(key, int, default))
        if key in self and not minimum <= value <= maximum:
            raise self.error(key, f"{value} is out of range", least=minimum, most=maximum)
        return value

    def power(self, key: str, maximum: int) -> int:
        """A power of two up to `maximum`."""
        value = self.number(key, 1, maximum)
        if value & (value - 1):
            raise self.error(key, f"{value} is not a power of two", nearest=1 << value.bit_length() - 1)
        return value

    def size(self, key: str, maximum: int, unit: int, default: str | None = None) -> int:
        """Bytes written as "32 MiB": a positive multiple of `unit`, at most `maximum`."""
        text = cast(str, self._take(key, str, default, example='"32 MiB"'))
        match = _SIZE.fullmatch(text)
        if not match:
            raise self.error(key, f'"{text}" is not a size')
        value = int(match[1]) * _UNITS[match[2]]
        if value > maximum:
            raise self.error(key, f"{text} is too much", bytes=maximum)
        if value % unit:
            raise self.error(key, f"{text} is uneven", bytes=unit)
        return value

    def choice(self, key: str, options: Sequence[str], default: str | None = None) -> str:
        """One of `options`."""
        value = self.text(key, default)
        self.known(key, value, options, f'no such choice "{value}"', "choices")
        return value

    def strings(self, key: str, default: Sequence[str] | None = ()) -> Sequence[str]:
        """A list of strings."""
        value = cast(Sequence[str], self._take(key, list, default))
        for position, entry in enumerate(value, 1):
            if not isinstance(entry, str):
                raise self.error(key, f"entry {position} is not a string")
        return value

    def names(
        self, key: str, known: Iterable[str], what: str, default: Sequence[str] | None = None
    ) -> Sequence[str]:
        """A list of names, each out of `known` and given once; `what` they are, in the plural."""
        value = self.strings(key, default)
        for position, name in enumerate(value):
            self.known(key, name, known, f'no such name "{name}"', what)
            if name in value[:position]:
                raise self.error(key, f'"{name}" is given twice')
        return value

    def numbers(self, key: str, minimum: int, maximum: int) -> tuple[int, ...]:
        """A list of whole numbers within the bounds; absent is empty."""
        value = self._take(key, list, ())
        for number in value:
            if type(number) is not int or not minimum <= number <= maximum:
                raise self.error(key, f"{number!r} is out of range", least=minimum, most=maximum)
        return tuple(value)

    def table(self, key: str, required: bool = False) -> Table:
        """The table `key`; an absent one is empty unless `required`."""
        return Table(self.document, (*self.path, key), self._take(key, dict, None if required else {}))

    def entries(self, key: str, longest: int) -> dict[str, Table]:
        """The tables of table `key`, by name: well-formed, at most `longest` bytes."""
        inner = self.table(key)
        return {check_name(inner, name, name, longest): inner.table(name) for name in inner}

    def each(self, key: str, longest: int, read: Callable[[Table], Entry]) -> dict[str, Entry]:
        """What `read` makes of each table of table `key`, by name; it takes all their keys."""
        found = {}
        for name, table in self.entries(key, longest).items():
            found[name] = read(table)
            table.end()
        return found


def check_name(table: Table, key: str, name: str, longest: int) -> str:
    """A name of a component, interface, device or region: lower case, at most `longest` bytes."""
    if not NAME.fullmatch(name):
        raise table.error(key, f'"{name}" is not a name')
    if len(name) > longest:
        raise table.error(key, f'the name "{name}" is too long', longest=longest)
    return name
