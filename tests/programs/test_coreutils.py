"""Our programs print what coreutils print: output, messages and exit status, byte for byte.

They run on the host here, over `std` (host_system.rs); the same sources run in VMs over channels.
"""

from __future__ import annotations

import itertools
import re
import shlex
from pathlib import Path

import pytest

from tests.programs import command_lines as lines
from tests.programs.conftest import ENVIRONMENT, Outcome, Run, run_command

@pytest.fixture(scope="module")
def place(tree: Path) -> Path:
    """The tree with texts, and lists of digests to check."""
    text = tree / "text"
    text.mkdir(exist_ok=True)
    contents = {
        "a": b"one\ntwo\n\n\n\nsix\twith tab\nno newline at the end", "b": b"\n\nx\n", "none": b"", "blank": b"\n",
        "r1": b"a\r\nb\rc\r", "r2": b"\nz", "r3": b"\n\r", "all": bytes(range(256)) * 2,
        "large": bytes(range(251)) * 3000,
    }  # fmt: skip
    for name, content in contents.items():
        (text / name).write_bytes(content)
    sums = tree / "sums"
    sums.mkdir(exist_ok=True)
    listed = run_command(["bash", "-c", "sha256sum odd/* text/*"], tree).output
    tagged = run_command(["bash", "-c", "sha256sum --tag odd/* text/*"], tree).output
    digest = listed.split()[0].lstrip(b"\\")
    lists = {
        "usual": listed, "tagged": tagged, "crlf": listed.replace(b"\n", b"\r\n"), "none": b"nothing\nto see\n",
        "reversed": digest + b" text/a\n" + digest.upper() + b"  text/b\n" + digest + b" *text/a\n",
        "comments": b"#" + listed, "missing": digest + b"  not there\n" + digest + b"  neither\n",
        "mixed": b"bad line\n" + listed + b"\n" + digest + b"  not there\n" + digest + b" *text/b\n"
        + digest[:-1] + b"  text/a\n" + digest + b"text/a\nSHA256 (text/a) = " + digest + b"\nSHA256(text/r1)= "
        + digest + b"\n \t" + digest.upper() + b"  text/all\n\\" + digest + b"  text/\\a\n" + digest + b" text/a\n"
        + b"SHA256 (text/a) " + digest + b"\nMD5 (text/a) = " + digest + b"\n" + digest + b"\ttext/none",
    }  # fmt: skip
    for name, content in lists.items():
        (sums / name).write_bytes(content)
    return tree


def compare(ours: Run, folder: Path, program: str, options: str, places: str) -> list[str]:
    """Runs ours and theirs on the same command line; what differs."""
    line = f"{program} {options} {places}"
    # The shell only expands names: `echo` is not needed to find out to what.
    expanded = run_command(["bash", "-c", f"printf '%s\\0' {options} {places}"], folder).output
    words = [word for word in expanded.split(b"\0")[:-1]] if shlex.split(f"{options} {places}") else []
    theirs = run_command([f"/usr/bin/{program}", *words], folder)
    own = ours([program, *words], folder)
    errors = re.sub(rb"^/usr/bin/", b"", theirs.errors, flags=re.MULTILINE).replace(b"'/usr/bin/", b"'")
    theirs = theirs._replace(errors=errors)
    return [] if own == theirs else [f"{line}\n{difference(own, theirs)}"]


def difference(own: Outcome, theirs: Outcome) -> str:
    """The first differing line of output and of messages, and the statuses."""
    found = []
    for one, other in ((own.output, theirs.output), (own.errors, theirs.errors)):
        pairs = itertools.zip_longest(one.split(b"\n"), other.split(b"\n"))
        found += [f"    ours {mine!r}\n  theirs {good!r}" for mine, good in pairs if mine != good][:1]
    return "\n".join([*found, f"  status {own.status}, {theirs.status}"])


def _settled(outcome: list[str]) -> None:
    assert not outcome, f"{len(outcome)} command lines differ:\n" + "\n".join(outcome[:9])


@pytest.mark.parametrize("places", lines.LS_PLACES)
def test_ls(ours: Run, place: Path, places: str) -> None:
    _settled([problem for options in lines.LS for problem in compare(ours, place, "ls", options, places)])


@pytest.mark.parametrize("places", lines.CAT_PLACES)
def test_cat(ours: Run, place: Path, places: str) -> None:
    _settled([problem for options in lines.CAT for problem in compare(ours, place, "cat", options, places)])


@pytest.mark.parametrize("places", lines.STAT_PLACES)
def test_stat(ours: Run, place: Path, places: str) -> None:
    _settled([problem for options in lines.STAT for problem in compare(ours, place, "stat", options, places)])


@pytest.mark.parametrize("places", lines.SHA_PLACES)
def test_sha256sum(ours: Run, place: Path, places: str) -> None:
    _settled([problem for options in lines.SHA for problem in compare(ours, place, "sha256sum", options, places)])


@pytest.mark.parametrize("places", lines.CHECK_PLACES)
def test_sha256sum_checks(ours: Run, place: Path, places: str) -> None:
    _settled([problem for options in lines.CHECK for problem in compare(ours, place, "sha256sum", options, places)])


@pytest.mark.parametrize("now", [1_735_689_600, 951_782_400, 951_782_400 + 31_556_952 // 2, 2**31])
def test_ls_dates_of_another_time(ours: Run, place: Path, now: int, tmp_path: Path) -> None:
    """What counts as recent follows the time of day that the host tells."""
    half = 31_556_952 // 2
    shown = ours(["ls", "-l", "dates"], place, {"NOW": str(now)}).output.splitlines()[1:]
    exact = ours(["ls", "-l", "--time-style=+%s", "dates"], place).output.splitlines()[1:]
    assert len(shown) == len(exact) > 10
    for line, seconds in zip(shown, (int(text.split()[5]) for text in exact), strict=True):
        has_clock = re.search(rb" \d\d:\d\d date", line) is not None
        if abs(seconds - now) > 1 and abs(now - half - seconds) > 1:
            assert has_clock == (now - half < seconds < now), line


def test_sha256tree_is_find_sort_sha256sum(ours: Run, place: Path) -> None:
    script = 'find "$PWD" -type f -size -2M -print0 | sort -z | xargs -0 sha256sum'
    for folder in ("odd", "text", "deep", "kinds", "sums"):
        expected = run_command(["bash", "-c", script], place / folder).output
        assert ours(["sha256tree", str(place / folder)], place) == Outcome(expected, b"", 0)
    one_file = str(place / "deep" / "z")
    assert ours(["sha256tree", one_file], place).output == run_command(["sha256sum", one_file], place).output


def test_sha256tree_tells_what_it_cannot_read(ours: Run, place: Path) -> None:
    outcome = ours(["sha256tree", "/no/such", str(place / "empty"), str(place / "kinds" / "loop")], place)
    loop = f"{place}/kinds/loop"
    errors = f"sha256tree: /no/such: No such file or directory\nsha256tree: {loop}: Too many levels of symbolic links\n"
    assert outcome == Outcome(b"", errors.encode(), 1)
    missing = b"sha256tree: missing operand\nTry 'sha256tree --help' for more information.\n"
    assert ours(["sha256tree"], place) == Outcome(b"", missing, 1)


@pytest.mark.parametrize("program", ["cat", "ls", "sha256sum", "sha256tree", "stat"])
def test_help_and_version(ours: Run, place: Path, program: str) -> None:
    usage = ours([program, "--help"], place)
    assert usage.status == 0 and not usage.errors and usage.output.startswith(f"Usage: {program} ".encode())
    assert ours([program, "--version"], place) == Outcome(f"{program} (R3S3)\n".encode(), b"", 0)


def test_the_environment_is_fixed() -> None:
    """Everything here holds in the C locale and UTC alone."""
    assert ENVIRONMENT["LC_ALL"] == "C" and ENVIRONMENT["TZ"] == "UTC"
