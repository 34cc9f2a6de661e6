"""The trusted base stays under its limit, and lines are counted as stated."""

from __future__ import annotations

from pathlib import Path

from ci import trusted_lines


def test_trusted_base_is_small() -> None:
    files = trusted_lines.count()
    for needed in ("hypervisor/wire.py", "hypervisor/abi/generated.py", "vmm/tender/zygote.py"):
        assert needed in files, "the count misses what is certainly loaded"
    assert sum(files.values()) <= trusted_lines.LIMIT


def test_python_lines_leave_out_blanks_comments_and_docstrings(tmp_path: Path) -> None:
    source = tmp_path / "example.py"
    source.write_text(
        '"""Two lines\nof docstring."""\n'
        "\n"
        "# comment\n"
        "X = 1  # counts\n"
        "def f() -> str:\n"
        '    """Docstring."""\n'
        '    return """a\n'
        "\n"
        '    string"""\n',
        encoding="utf-8",
    )
    assert trusted_lines.python_lines(source) == 4


def test_c_lines_leave_out_blanks_and_comments(tmp_path: Path) -> None:
    source = tmp_path / "example.c"
    source.write_text(
        '/* two\n * lines */\nint x; /* counts */\n// no\n\nchar *s = "/* counts */";\n', encoding="utf-8"
    )
    assert trusted_lines.c_lines(source) == 2
