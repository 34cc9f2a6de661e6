"""What to do about an error in one of our TOML files. The trusted side says only what is wrong.

A remedy is found by the wording of the problem, and speaks of the error's `facts`; a problem that is worded
anew needs its line here (a test has a fixture, and the exact message, for each).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any

_UNITS = {"GiB": 1 << 30, "MiB": 1 << 20, "KiB": 1 << 10, "B": 1}
_KINDS = {
    "str": ("a string", '"text"'),
    "int": ("a whole number", "4"),
    "bool": ("true or false", "true"),
    "list": ("a list", '["a", "b"]'),
    "dict": ("a table", "{ ... }"),
    "float": ("a fraction", "0.5"),
}

# What a problem looks like, and what to do; {name} is a fact of the error or a named group.
_REMEDIES = (
    # vmm.document
    ("larger than 1 MiB", "this is not a file of ours"),
    ("not UTF-8 text", "save it as UTF-8"),
    ("TOML syntax: .*", "correct this line"),
    ("this key is given twice", "remove one of the two"),
    (".*Error: .*", "correct this file"),
    (r"\[.*\] is missing", "add this table"),
    (".* is missing", "add {name} = {example}"),
    (".* where .* is needed", "write {name} = {example}"),
    (".* is not a power of two", "use {nearest}"),
    (".* is not a size", 'write a number and a unit: "32 MiB"'),
    (".* is too much", "use at most {bytes}"),
    (".* is uneven", "use a multiple of {bytes}"),
    ("entry .* is not a string", "put each one in quotes"),
    (".* is given twice", "remove one of the two"),
    (".* is not a name", "use lower-case letters, digits and _, a letter first"),
    ("the name .* is too long", "use at most {longest} characters"),
    # vmm.manifest
    (".* is also served", "give the two interfaces different names"),
    (".* is not the plain name of a file", "name the file, not its folder"),
    (".* is too little", "use at least 4 MiB"),
    ('"backoff" without delays', "add backoff_ms = [0, 10, 100]"),
    ('"pool" without memory to lend', "add [pool.{interface}]"),
    ('"per_request" without memory to lend', "add [grants.{interface}]"),
    ('the hypercall "log" is not allowed, .*', 'add "log" to allow in [hypercalls]'),
    (".* is not a plain absolute path", 'write it as "/usr/share"'),
    ("the path is too long", "use at most {longest} bytes"),
    ("the pool is larger than 64 MiB", "use fewer or smaller buffers"),
    # vmm.system
    (".* is a program too", "rename the component"),
    (".* has a meaning of its own", "choose another name"),
    ("no folder .*", "correct the path; it is relative to this file"),
    (".* is not an interface", 'write "component.interface", in quotes'),
    ("no file .*", 'build the guests with "make setup", or correct the name'),
    ('no route for (?P<route>".*"), which .* needs', 'add {route} = "server.interface"'),
    (".* speaks .*, .* speaks .*", "route it to a server of the same protocol and version"),
    (".* asks for operation .*, which .* does not serve", "change {client} or {server}"),
    (".* would wait for what it supervises", "remove [uses] from {manifest}"),
    ('.* does not serve "supervise"', "name a component that does"),
    ("needs form a cycle: .*", "remove one route"),
    (r"\d+ clients .*, \d+ allowed", "raise clients, or remove routes in {system}"),
    (".* has the device .* already", "remove one of the two"),
    ("no device for .*", "add one under [devices]"),
    ("the components need .*", "raise the limit, or lower memory and spares in the manifests"),
)


def remedy(problem: str, facts: Mapping[str, Any]) -> str:
    """What to do about `problem`, given the error's facts."""
    if "remedy" in facts:
        return str(facts["remedy"])
    if "known" in facts:
        return suggestion(facts["name"], facts["known"], facts["what"])
    if "least" in facts:
        least, most = facts["least"], facts["most"]
        return f"use {least} to {most}" if least < most else f"only {least} is possible"
    spoken = {**facts, "example": facts.get("example") or _KINDS[facts.get("kind", "str")][1]}
    if "bytes" in facts:
        spoken["bytes"] = size_text(facts["bytes"])
    for pattern, text in _REMEDIES:
        if match := re.fullmatch(pattern, problem, re.DOTALL):
            return text.format(**spoken, **match.groupdict())
    return "check the path"  # only the host's own words are left


def types_in_words(problem: str) -> str:
    """`str where int is needed` as people say it."""
    found, needed = problem.removesuffix(" is needed").split(" where ")
    return f"{_KINDS.get(found, ('a date or time', ''))[0]} where {_KINDS[needed][0]} is needed"


def suggestion(name: str, known: Iterable[str], what: str) -> str:
    """The remedy for an unknown name: the nearest known one, or all of them."""
    names = sorted(known)
    for close in get_close_matches(name, names, 1):
        return f'did you mean "{close}"?'
    return f"known {what}: {', '.join(names)}" if names else f"there are no {what}"


def size_text(size: int) -> str:
    """`size` in the largest unit that divides it: "32 MiB"."""
    unit = next(unit for unit in _UNITS if size % _UNITS[unit] == 0)
    return f"{size // _UNITS[unit]} {unit}"
