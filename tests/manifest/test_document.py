"""Where a key of a TOML file is: the scan agrees with what the parser read."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from vmm.diagnosis import dotted, key_lines
from vmm.remedies import size_text, suggestion

EXAMPLE = """\
# a comment with a [header] and a key = 1
top = 1
[a]
b = "text with [bracket and # hash"
c = [
    "d = 1",  # not a key
    { e = 2 },
]
f = '''
[not.a.table]
g = 3
'''
[a . "h.i"]
"j k" = { l = 4 }
m.n = 5
"""

NAMES = st.from_regex(r"[a-z][a-z0-9_-]{0,5}|[a-z]{1,3} [a-z]{1,3}\.[a-z]", fullmatch=True)
VALUES = st.one_of(
    st.integers(0, 99).map(str),
    st.sampled_from(['"[x"', '"#"', "[\n 1,\n]", "'''\na = 1\n'''", '"""\n[b]\n"""', "[[1], [\n2]]"]),
)


def paths(values: dict[str, Any], above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for key, value in values.items():
        yield (*above, key)
        if isinstance(value, dict):
            yield from paths(value, (*above, key))


def test_lines_of_an_awkward_file() -> None:
    assert key_lines(EXAMPLE) == {
        ("top",): 2,
        ("a",): 3,
        ("a", "b"): 4,
        ("a", "c"): 5,
        ("a", "f"): 9,
        ("a", "h.i"): 13,
        ("a", "h.i", "j k"): 14,
        ("a", "h.i", "m", "n"): 15,
    }


@given(st.dictionaries(NAMES, st.dictionaries(NAMES, VALUES, max_size=4), max_size=5))
def test_every_key_has_its_line(tables: dict[str, dict[str, str]]) -> None:
    text = ""
    expected: dict[tuple[str, ...], int] = {}
    for table, keys in tables.items():
        expected[(table,)] = text.count("\n") + 1
        text += f"[{dotted([table])}]\n"
        for key, value in keys.items():
            expected[(table, key)] = text.count("\n") + 1
            text += f"{dotted([key])} = {value}\n"
    assert set(paths(tomllib.loads(text))) == set(expected)
    assert key_lines(text) == expected


def test_suggestions() -> None:
    assert suggestion("raed", ["read", "write"], "operations") == 'did you mean "read"?'
    assert suggestion("x", ["write", "read"], "operations") == "known operations: read, write"
    assert suggestion("x", [], "operations") == "there are no operations"


def test_sizes_for_people() -> None:
    assert [size_text(size) for size in (1, 4096, 6 << 20, 1 << 30)] == ["1 B", "4 KiB", "6 MiB", "1 GiB"]
