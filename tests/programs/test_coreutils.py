"""Our programs print what coreutils print: output, messages and exit status, byte for byte.

They run on the host here, over `std` (host_system.rs); the same sources run in VMs over channels.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.programs.conftest import Outcome, Run, coreutils, difference, expand, run_command, section

HALF_A_YEAR = 31_556_952 // 2


def check(ours: Run, folder: Path, program: str, places: str, title: str = "") -> None:
    """Compares ours and theirs on all options of the program with the same operands."""
    problems = []
    for options in section(f"{title or program}: options"):
        words: list[str | bytes] = [program, *expand(f"{options} {places}", folder)]
        own, theirs = ours(words, folder), coreutils(words, folder)
        if own != theirs:
            problems.append(f"{program} {options} {places}\n{difference(own, theirs)}")
    assert not problems, f"{len(problems)} command lines differ:\n" + "\n".join(problems[:9])


@pytest.mark.parametrize("places", section("ls: places"))
def test_ls(ours: Run, tree: Path, places: str) -> None:
    check(ours, tree, "ls", places)


@pytest.mark.parametrize("places", section("cat: places"))
def test_cat(ours: Run, tree: Path, places: str) -> None:
    check(ours, tree, "cat", places)


@pytest.mark.parametrize("places", section("stat: places"))
def test_stat(ours: Run, tree: Path, places: str) -> None:
    check(ours, tree, "stat", places)


@pytest.mark.parametrize("places", section("sha256sum: places"))
def test_sha256sum(ours: Run, tree: Path, places: str) -> None:
    check(ours, tree, "sha256sum", places)


@pytest.mark.parametrize("places", section("sha256sum -c: places"))
def test_sha256sum_checks(ours: Run, tree: Path, places: str) -> None:
    check(ours, tree, "sha256sum", places, "sha256sum -c")


@pytest.mark.parametrize("now", [1_735_689_600, 951_782_400, 951_782_400 + HALF_A_YEAR, 2**31])
def test_ls_dates_of_another_time(ours: Run, tree: Path, now: int) -> None:
    """What counts as recent follows the time of day that the host tells."""
    shown = ours(["ls", "-l", "dates"], tree, {"NOW": str(now)}).output.splitlines()[1:]
    exact = ours(["ls", "-l", "--time-style=+%s", "dates"], tree).output.splitlines()[1:]
    assert len(shown) == len(exact) > 10
    for line, seconds in zip(shown, (int(text.split()[5]) for text in exact), strict=True):
        has_clock = re.search(rb" \d\d:\d\d date", line) is not None
        if abs(seconds - now) > 1 and abs(now - HALF_A_YEAR - seconds) > 1:
            assert has_clock == (now - HALF_A_YEAR < seconds < now), line


def test_sha256tree_is_find_sort_sha256sum(ours: Run, tree: Path) -> None:
    script = 'find "$PWD" -type f -print0 | sort -z | xargs -0 sha256sum'
    for folder in ("odd", "text", "deep", "kinds", "sums"):
        expected = run_command(["bash", "-c", script], tree / folder).output
        assert ours(["sha256tree", str(tree / folder)], tree) == Outcome(expected, b"", 0)
    one_file = str(tree / "deep" / "z")
    assert ours(["sha256tree", one_file], tree).output == run_command(["sha256sum", one_file], tree).output


def test_sha256tree_tells_what_it_cannot_read(ours: Run, tree: Path) -> None:
    loop = f"{tree}/kinds/loop"
    outcome = ours(["sha256tree", "/no/such", str(tree / "empty"), loop], tree)
    errors = [
        "sha256tree: /no/such: No such file or directory",
        f"sha256tree: {loop}: Too many levels of symbolic links",
    ]
    assert outcome == Outcome(b"", "".join(f"{line}\n" for line in errors).encode(), 1)
    missing = b"sha256tree: missing operand\nTry 'sha256tree --help' for more information.\n"
    assert ours(["sha256tree"], tree) == Outcome(b"", missing, 1)


@pytest.mark.parametrize("program", ["cat", "ls", "sha256sum", "sha256tree", "stat"])
def test_help_and_version(ours: Run, tree: Path, program: str) -> None:
    usage = ours([program, "--help"], tree)
    assert usage.status == 0 and not usage.errors and usage.output.startswith(f"Usage: {program} ".encode())
    assert ours([program, "--version"], tree) == Outcome(f"{program} (R3S3)\n".encode(), b"", 0)
