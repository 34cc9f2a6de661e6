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


class Terminal(io.StringIO):
    """Something that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def drawn(table: Table, columns: int, monkeypatch: pytest.MonkeyPatch) -> str:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")
    table.show()
    return terminal.getvalue()


def test_table_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    text = drawn(make_table(), 80, monkeypatch)
    assert "long\\nname" in text
    assert "─" in text
    assert "not shown" not in text


def test_table_on_a_narrow_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Numbers that do not fit are left out, and said to be; names stay whole."""
    table = Table(["name", "first", "second"], right=["first", "second"])
    table.row("a_rather_long_name", 1, 2)
    text = drawn(table, 30, monkeypatch)
    assert "a_rather_long_name" in text
    assert "first" in text
    assert "not shown: second" in " ".join(text.split())
