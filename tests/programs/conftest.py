"""The native programs compiled for the host, and trees of files to run them on beside coreutils."""

from __future__ import annotations

import os
import re
import shlex
import socket
import subprocess
from collections.abc import Callable, Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import NamedTuple

import pytest

from images.rustc import find

REPOSITORY = Path(__file__).resolve().parents[2]
SOURCE = Path("tests/programs/host_system.rs")
LINES = Path(__file__).with_name("command_lines.txt")
ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"}
NOTHING = "·"

ODD_NAMES = (
    b"plain", b"with space", b" leading", b"trailing ", b"tab\there", b"new\nline", b"back\\slash",
    b"it's", b"it's\nnot", b'double"quote', b"dollar$HOME", b"star*", b"#hash", b"a#b", b"~tilde", b"{",
    b"}", b"{}", b"colon:in", b"\xc3\xbcml", b"\xff\xfe", b"ret\rurn", b"bell\x07", b"del\x7f", b"-dash",
    b"--double", b"a=b", b"back`tick", b"semi;colon", b"it's;", b"(x)", b"a,b", b"[x]", b"^x", b"?", b"%s",
    b"\x1b[0m", b"'", b"''", b"a9", b"a10", b"a09", b"a", b"a~", b"v1.2.tar.gz", b"v1.10.tar.gz",
    b"v1.2~rc.tar.gz", b"v1.2b.tar", b"v1.2.0", b"v001.2.tar.gz", b"x.1", b"x.b1", b"x.b1~", b"x'\xff",
    b"\xffx'\xff", b".hidden", b"..almost", b"backup~", b"a.b.c", b"noext.", b"A", b"B.c", b"_", b"@",
    b"it's@",
)  # fmt: skip
SIZES = (
    0, 1, 9, 10, 99, 100, 511, 512, 999, 1000, 1023, 1024, 1025, 9_949, 9_950, 9_999, 10_000, 10_137, 10_239,
    10_240, 10_241, 99_999, 102_400, 999_999, 1_000_000, 1_047_552, 1_047_553, 1_048_575, 1_048_576, 10**9,
    5 * 2**30 + 1, 2**40 - 1, 2**42,
)  # fmt: skip
SECONDS = (
    -(2**31), -86_401, -86_400, -1, 0, 1, 59, 951_782_399, 951_782_400, 951_868_799, 951_868_800,
    1_078_012_800, 1_709_164_800, 1_709_251_199, 1_735_689_599, 1_735_689_600, 2**31 - 1, 2**31,
    4_107_542_399, 4_107_542_400,
)  # fmt: skip
MODES = (0o000, 0o644, 0o755, 0o4755, 0o4644, 0o2755, 0o2644, 0o1777, 0o1666, 0o7777, 0o7000)
OWNERS = (("nobody", 65534, 65534), ("unknown", 123_456, 7), ("stranger", 1, 4_000_000))


class Outcome(NamedTuple):
    """What a program printed, what it complained about, how it ended."""

    output: bytes
    errors: bytes
    status: int


Run = Callable[..., Outcome]
Words = Sequence[str] | Sequence[bytes] | Sequence[str | bytes]


def section(title: str) -> list[str]:
    """The lines of one section of command_lines.txt."""
    text = LINES.read_text()
    found = re.search(rf"^\[{re.escape(title)}\]\n(.*?)\n(?:\n|\Z)", text, re.DOTALL | re.MULTILINE)
    assert found, title
    return ["" if line == NOTHING else line for line in found[1].split("\n")]


def run_command(
    command: Words, folder: Path, settings: Mapping[str, str] | None = None, stdin: bytes = b""
) -> Outcome:
    """Runs a command in `folder`, in the C locale and UTC."""
    environment = ENVIRONMENT | dict(settings or {})
    done = subprocess.run(
        command, cwd=folder, env=environment, input=stdin, capture_output=True, check=False, timeout=60
    )
    return Outcome(done.stdout, done.stderr, done.returncode)


def expand(line: str, folder: Path) -> list[bytes]:
    """The words that a shell in `folder` makes of a line."""
    if not shlex.split(line):
        return []
    return run_command(["bash", "-c", f"printf '%s\\0' {line}"], folder).output.split(b"\0")[:-1]


def coreutils(words: Words, folder: Path) -> Outcome:
    """What the real program says; as if it had been called by its plain name."""
    program, *arguments = words
    done = run_command([f"/usr/bin/{program!s}", *arguments], folder)
    errors = re.sub(rb"^/usr/bin/", b"", done.errors, flags=re.MULTILINE).replace(b"'/usr/bin/", b"'")
    return done._replace(errors=errors)


def difference(own: Outcome, theirs: Outcome) -> str:
    """The first differing line of output and of messages, and the statuses."""
    found = []
    for one, other in ((own.output, theirs.output), (own.errors, theirs.errors)):
        pairs = zip_longest(one.split(b"\n"), other.split(b"\n"))
        found += [f"    ours {mine!r}\n  theirs {good!r}" for mine, good in pairs if mine != good][:1]
    return "\n".join([*found, f"  status {own.status}, {theirs.status}"])


@pytest.fixture(scope="session")
def host_programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The executable that holds all programs."""
    product = tmp_path_factory.mktemp("programs") / "host_programs"
    compiler = find()
    flags = ["--crate-name", "host_programs", "-C", "opt-level=2", "-C", "overflow-checks=yes"]
    arguments = [*compiler.common_flags(), *flags, "-D", "warnings", "-o", str(product)]
    compiler.run([str(SOURCE), *arguments], REPOSITORY)
    return product


@pytest.fixture(scope="session")
def ours(host_programs: Path) -> Run:
    """Runs one of our programs: ours(words, folder, settings=None, stdin=b"")."""

    def run(
        words: Words, folder: Path, settings: Mapping[str, str] | None = None, stdin: bytes = b""
    ) -> Outcome:
        return run_command([str(host_programs), *words], folder, settings, stdin)

    return run


@pytest.fixture(scope="session")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files of every kind, with odd names, sizes, dates, modes and owners; texts; lists of digests."""
    top = tmp_path_factory.mktemp("tree")
    for name in ("odd", "sizes", "dates", "kinds", "deep/a/b", "deep/a-b", "deep/a.c", "empty", ".dot"):
        (top / name).mkdir(parents=True)
    for odd in ODD_NAMES:
        with open(os.path.join(os.fsencode(top / "odd"), odd), "wb") as file:
            file.write(odd * 3)
    for size in SIZES:
        with (top / "sizes" / str(size)).open("wb") as file:
            file.truncate(size)
    for number, seconds in enumerate(SECONDS):
        path = top / "dates" / f"date{number}"
        path.touch()
        os.utime(path, ns=(seconds * 10**9 + 5, seconds * 10**9 + 123_456_789 * (number % 3)))
    _special_files(top / "kinds")
    for name in ("deep/a/b/file", "deep/a/file", "deep/a-b/file", "deep/a.c/file", "deep/ab", "deep/z"):
        (top / name).write_text(f"content of {name}\n")
    _texts(top / "text")
    _digest_lists(top)
    return top


def _special_files(folder: Path) -> None:
    (folder / "link").symlink_to("../deep/z")
    (folder / "to_directory").symlink_to("../deep")
    (folder / "nowhere").symlink_to("it's not there")
    (folder / "loop").symlink_to("loop")
    os.mkfifo(folder / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        descriptor = os.open(folder, os.O_PATH)
        listener.bind(f"/proc/self/fd/{descriptor}/socket")
        os.close(descriptor)
    for mode in MODES:
        path = folder / f"mode{mode:04o}"
        path.touch()
        path.chmod(mode)
    if os.geteuid() == 0:
        os.mknod(folder / "device", 0o020644, os.makedev(5, 1))
        os.mknod(folder / "large_device", 0o060600, os.makedev(259, 70_000))
        for name, user, group in OWNERS:
            (folder / name).touch()
            os.chown(folder / name, user, group)


def _texts(folder: Path) -> None:
    folder.mkdir()
    contents = {
        "a": b"one\ntwo\n\n\n\nsix\twith tab\nno newline at the end",
        "b": b"\n\nx\n",
        "none": b"",
        "blank": b"\n",
        "r1": b"a\r\nb\rc\r",
        "r2": b"\nz",
        "r3": b"\n\r",
        "all": bytes(range(256)) * 2,
        "large": bytes(range(251)) * 3000,
    }
    for name, content in contents.items():
        (folder / name).write_bytes(content)


def _digest_lists(top: Path) -> None:
    (top / "sums").mkdir()
    listed = run_command(["bash", "-c", "sha256sum odd/* text/*"], top).output
    tagged = run_command(["bash", "-c", "sha256sum --tag odd/* text/*"], top).output
    digest = listed.split()[0].lstrip(b"\\")
    mixed = [
        b"bad line",
        *listed.splitlines(),
        b"",
        digest + b"  not there",
        digest + b" *text/b",
        digest[:-1] + b"  text/a",
        digest + b"text/a",
        b"SHA256 (text/a) = " + digest,
        b"SHA256(text/r1)= " + digest,
        b" \t" + digest.upper() + b"  text/all",
        b"\\" + digest + b"  text/\\a",
        digest + b" text/a",
        b"SHA256 (text/a) " + digest,
        b"MD5 (text/a) = " + digest,
        digest + b"\ttext/none",
    ]
    lists = {
        "usual": listed,
        "tagged": tagged,
        "crlf": listed.replace(b"\n", b"\r\n"),
        "none": b"nothing\nto see\n",
        "reversed": digest + b" text/a\n" + digest.upper() + b"  text/b\n" + digest + b" *text/a\n",
        "comments": b"#" + listed,
        "missing": digest + b"  not there\n" + digest + b"  neither\n",
        "mixed": b"\n".join(mixed),
    }
    for name, content in lists.items():
        (top / "sums" / name).write_bytes(content)
