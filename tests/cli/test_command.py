"""Output for people and for pipes."""

from __future__ import annotations

import io
import sys

import pytest

from vmm.cli.command import Table, printable, unit


def test_printable() -> None:
    assert printable("a b ü\n\x1b\udcff\\") == "a b ü\\n\\x1b\\xff\\"


def test_units() -> None:
    assert [unit(size) for size in (0, 1023, 1024, 5 << 20, 3 << 40)] == [
        "0 B", "1023 B", "1.0 KiB", "5.0 MiB", "3.0 TiB"
    ]  # fmt: skip


def make_table() -> Table:
    table = Table(["name", "bytes"], right=["bytes"])
    table.row("a", 5)
    table.row("long\nname", None)
    return table


def test_table_in_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    make_table().show()
    assert capsys.readouterr().out == "name        bytes\na               5\nlong\\nname      -\n"


def test_table_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    make_table().show()
    text = terminal.getvalue()
    assert "long\\nname" in text
    assert "─" in text
