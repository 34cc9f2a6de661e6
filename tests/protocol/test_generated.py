"""The generated files: up to date, sound in each language, and the same in all of them."""

from __future__ import annotations

import importlib
import shutil
import subprocess
from pathlib import Path

import pytest

from components.protocols import description, generate
from components.protocols.text import camel
from hypervisor.protocols import blk, fs, supervise

PROTOCOLS = description.read_all(generate.REPOSITORY / generate.SOURCE)
NAMES = [protocol.name for protocol in PROTOCOLS]


def test_nothing_is_out_of_date() -> None:
    assert generate.main(["--check"]) == 0


def test_check_names_what_is_stale(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(generate, "REPOSITORY", tmp_path)
    files = generate.texts(tmp_path / "nothing")
    assert list(files) == [generate.GENERATED / "lib.rs"]
    (tmp_path / generate.SOURCE).mkdir(parents=True)
    (tmp_path / generate.GENERATED).mkdir()
    (tmp_path / generate.GENERATED / "old.rs").touch()
    monkeypatch.setattr(generate, "texts", lambda: files)
    assert generate.main(["--check"]) == 1
    remedy = "is out of date: run `python -m components.protocols.generate`"
    assert capsys.readouterr().err == (
        f"components/protocols/generated/lib.rs {remedy}\ncomponents/protocols/generated/old.rs {remedy}\n"
    )
    assert generate.main([]) == 0
    assert generate.main(["--check"]) == 0
    assert not (tmp_path / generate.GENERATED / "old.rs").exists()


@pytest.mark.parametrize("protocol", PROTOCOLS, ids=NAMES)
def test_python_structures_have_the_described_layout(protocol: description.Protocol) -> None:
    module = importlib.import_module(f"hypervisor.protocols.{protocol.name}")
    structures = [(each.name, "Args", each.args, 40) for each in protocol.operations]
    structures += [(each.name, "Returns", each.returns, 40) for each in protocol.operations]
    structures += [(each.name, "Record", each.fields, each.size) for each in protocol.records]
    for name, suffix, described, size in structures:
        fields = [field for field in described if field.name != "reserved"]
        if not fields:
            continue
        structure = getattr(module, camel(name) + suffix)
        values = structure(*range(1, len(fields) + 1))
        packed = values.pack()
        assert len(packed) == size
        assert vars(structure.unpack(packed)) == vars(values)
        for number, field in enumerate(fields, 1):
            assert packed[field.offset : field.offset + field.size] == number.to_bytes(field.size, "little")
    operations = {operation.name: operation.id for operation in protocol.operations}
    for enum, members in {"operation": operations, **protocol.enums}.items():
        numbers = {each.name.lower(): each.value for each in getattr(module, camel(enum))}
        assert numbers == members


def test_what_the_hypervisor_says_is_what_the_server_hears() -> None:
    # The same words are asserted of the Rust structures in guests/rt/host_tests/protocols.rs.
    fault = supervise.FaultArgs(component=1, kind=2, epoch=3, now_ns=5)
    assert fault.pack() == b"".join(word.to_bytes(8, "little") for word in (1 | 2 << 32, 3, 5, 0, 0))
    read = blk.ReadArgs(sector=1, pool_offset=2, bytes=3)
    assert read.pack() == b"".join(word.to_bytes(8, "little") for word in (1, 2, 3, 0, 0))
    assert len(fs.StatRecord(*[0] * 13).pack()) == 80
    assert len(fs.EntryRecord(1, 2, 3, 5).pack()) == 20


@pytest.mark.parametrize("name", NAMES)
def test_headers_compile_and_their_assertions_hold(name: str, tmp_path: Path) -> None:
    compiler = shutil.which("gcc")
    assert compiler
    header = generate.REPOSITORY / generate.GENERATED / f"{name}.h"
    source = tmp_path / "twice.c"
    source.write_text(f'#include "{header}"\n#include "{header}"\n', encoding="ascii")
    command = [compiler, "-std=c11", "-Wall", "-Wextra", "-Werror", "-fsyntax-only", str(source)]
    subprocess.run(command, check=True, timeout=60)


def test_golden_files_state_every_number() -> None:
    text = (generate.REPOSITORY / generate.GENERATED / "fs.golden").read_text(encoding="ascii")
    assert "protocol number 2 version 1\n" in text
    assert "operation 01 open: exactly_once, sticky\n" in text
    assert "operation 02 close: exactly_once, ends open\n" in text
    assert "operation 03 read input 0 output slot\n" in text
    count = (generate.REPOSITORY / generate.GENERATED / "count.golden").read_text(encoding="ascii")
    assert "operation 01 add: exactly_once\n" in count
    assert "operation 03 read args +08 handle u32\n" in text
    assert "record entry size 20\n" in text
