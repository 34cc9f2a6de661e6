"""Every mistake in a protocol description has its own message, which says where and what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from components.protocols.description import SLOT, read, read_all
from vmm.diagnosis import explain
from vmm.document import ProtocolFileError

GOOD = """name = "toy"
number = 9
version = 2
doc = "A toy."
[constants]
limit = 5
[enum.colour]
red = 0
blue = 7
[operation.open]
id = 1
doc = "Open."
idempotent = true
sticky = true
args = { handle = "u32", flags = "u8", offset = "u64" }
input = 16
errors = ["noent"]
[operation.close]
id = 3
doc = "Close."
ends = "open"
args = { handle = "u32" }
[operation.read]
id = 2
doc = "Read."
returns = { a = "u8", b = "u16", c = "i64" }
output = "slot"
[record.entry]
doc = "An entry."
fields = { size = "u64", kind = "u8" }
notes = { kind = "as in mode" }
"""


def _read(tmp_path: Path, text: str) -> object:
    file = tmp_path / "toy.toml"
    file.write_text(text, encoding="utf-8")
    return read(file)


def test_a_good_description_is_laid_out(tmp_path: Path) -> None:
    file = tmp_path / "toy.toml"
    file.write_text(GOOD, encoding="utf-8")
    protocol = read(file)
    opened, reading, closing = protocol.operations
    assert [each.id for each in protocol.operations] == [1, 2, 3]
    assert [(f.name, f.offset) for f in opened.args] == [("handle", 0), ("flags", 4), ("offset", 8)]
    assert [(f.name, f.offset) for f in reading.returns] == [("a", 0), ("b", 2), ("c", 8)]
    assert (opened.input, opened.output, reading.output) == (16, 0, SLOT)
    assert (opened.sticky, closing.ends, closing.idempotent) == (True, "open", False)
    assert protocol.records[0].size == 9
    assert protocol.records[0].fields[1].note == "as in mode"
    assert protocol.enums == {"colour": {"red": 0, "blue": 7}}


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('name = "toy"', 'name = "boy"',
         '1: name: "boy" is not what the file is called; rename it to boy.toml'),
        ("number = 9", "number = 0", "2: number: 0 is out of range; use 1 to 65535"),
        ("version = 2", "versio = 2", '3: versio: unknown key; did you mean "version"?'),
        ('doc = "A toy."', 'docs = "A toy."', '4: docs: unknown key; did you mean "doc"?'),
        ("[constants]", "[konstants]", '5: konstants: unknown key; did you mean "constants"?'),
        ("limit = 5", "limit = -5", "6: constants.limit: -5 is out of range; use 0 to 18446744073709551615"),
        ("blue = 7", "blue = 0", "9: enum.colour.blue: 0 is the value of red; values are unique"),
        ("id = 2", "id = 3",
         "24: operation.read.id: 3 is the id of close; "
         "ids are unique and never used again; take the next free one"),
        ("id = 2", "id = 64", "24: operation.read.id: 64 is out of range; use 1 to 63"),
        ('doc = "Read."', "", '23: operation.read: "doc" is missing; add doc = "text"'),
        ("idempotent = true", "idempotent = 1",
         "13: operation.open.idempotent: a whole number where true or false is needed; "
         "write idempotent = true"),
        ("idempotent = true", "idempotnt = true",
         "13: operation.open.idempotnt: unknown key; did you mean \"idempotent\"?"),
        ("idempotent = true", "",
         "14: operation.open.sticky: a sticky operation is replayed; say idempotent = true as well"),
        ("sticky = true", "exactly_once = true",
         "14: operation.open.exactly_once: an idempotent operation may be done twice; "
         "say one of exactly_once and idempotent"),
        ('flags = "u8"', 'flags = "u33"',
         '15: operation.open.args.flags: no such type "u33"; use one of u8, u16, u32, u64, i32, i64'),
        ('flags = "u8"', 'Flags = "u8"',
         '15: operation.open.args.Flags: "Flags" is not a name; '
         "use lower-case letters, digits and _, a letter first"),
        ('offset = "u64"', 'a = "u64", b = "u64", c = "u64", d = "u64", e = "u8"',
         "15: operation.open.args: 41 bytes are too many; a slot has room for 40"),
        ("input = 16", "input = 0", "16: operation.open.input: 0 is out of range; use 1 to 1048576"),
        ("input = 16", 'input = "all"',
         '16: operation.open.input: no such choice "all"; known choices: slot'),
        ("input = 16", "input = true",
         "16: operation.open.input: true or false where a whole number is needed; write input = 4"),
        ('errors = ["noent"]', 'errors = ["noet"]',
         '17: operation.open.errors: no such name "noet"; did you mean "noent"?'),
        ('errors = ["noent"]', 'errors = ["io", "io"]',
         '17: operation.open.errors: "io" is given twice; remove one of the two'),
        ('ends = "open"', 'ends = "opem"',
         '21: operation.close.ends: no operation "opem"; did you mean "open"?'),
        ('ends = "open"', 'ends = "read"',
         '21: operation.close.ends: "read" is not sticky; only sticky operations are ended by another'),
        ('args = { handle = "u32" }', 'args = { handle = "u64" }',
         '22: operation.close.args: its first argument is not that of "open"; '
         "the first argument says which one is ended"),
        ("[operation.read]", "[operation.serve]",
         '23: operation.serve: "serve" is a name that generated code uses itself; choose another'),
        ('fields = { size = "u64", kind = "u8" }', "fields = {}",
         '30: record.entry.fields: a record needs fields; add fields = { size = "u64" }'),
        ('notes = { kind = "as in mode" }', 'notes = { kin = "as in mode" }',
         '31: record.entry.notes.kin: unknown key; did you mean "kind"?'),
    ],
)  # fmt: skip
def test_every_mistake_has_its_message(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert GOOD.count(old) == 1
    with pytest.raises(ProtocolFileError) as caught:
        _read(tmp_path, GOOD.replace(old, new))
    file = tmp_path / "toy.toml"
    assert explain(vars(caught.value)) == f"{file}:{message}"


def test_a_description_without_operations(tmp_path: Path) -> None:
    with pytest.raises(ProtocolFileError, match="there is no operation"):
        _read(tmp_path, 'name = "toy"\nnumber = 9\nversion = 2\ndoc = "A toy."\n')


def test_numbers_are_unique(tmp_path: Path) -> None:
    (tmp_path / "toy.toml").write_text(GOOD, encoding="utf-8")
    (tmp_path / "yot.toml").write_text(GOOD.replace('"toy"', '"yot"'), encoding="utf-8")
    with pytest.raises(ProtocolFileError) as caught:
        read_all(tmp_path)
    problem = "9 is the number of toy.toml; numbers are unique; take a free one"
    assert explain(vars(caught.value)) == f"{tmp_path / 'yot.toml'}:2: number: {problem}"
