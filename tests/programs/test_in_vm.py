"""The programs in their VMs print what coreutils print over the same image, mounted by the host's kernel."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from images import guests
from images.image import build
from tests.bed import IN_BED
from tests.programs.conftest import REPOSITORY, Outcome, coreutils, difference, expand, run_command

pytestmark = [pytest.mark.kvm, pytest.mark.slow]

COMMANDS = (
    "ls",
    "ls -la deep odd",
    "ls -lR .",
    "ls -li kinds",
    "ls -lLF kinds",
    "ls -ls text dates",
    "ls -lh sizes",
    "ls -ln kinds",
    "ls -Q odd",
    "ls nothing deep/z kinds/loop",
    "ls -ltr dates",
    "ls --full-time dates",
    "ls -Y",
    "stat kinds/* odd/*",
    "stat -L kinds/link kinds/loop",
    "stat -c '%n %s %Y %a %U %G %i %b %h' text/* sizes/*",
    "stat -t deep nothing",
    "stat",
    "cat text/*",
    "cat -n text/a nothing text/a",
    "cat -A text/all",
    "cat deep text/b",
    "sha256sum text/* odd/*",
    "sha256sum -c sums/usual",
    "sha256sum -c -w sums/mixed nothing",
    "sha256sum --tag odd/*",
    "sha256sum deep nothing text/large kinds/loop",
    "sha256sum kinds/nowhere deep/z/x",
)


class Machine:
    """An image and a way to run programs over it."""

    def __init__(self, image: Path, runtime: Path) -> None:
        self.image, self.runtime = image, runtime

    def run(self, *words: str | bytes) -> Outcome:
        """Runs a program in its VM."""
        command = [
            sys.executable,
            "-m",
            "images.cli",
            "run",
            "images/default.toml",
            "--disk",
            str(self.image),
            "--",
        ]
        paths = {"PYTHONPATH": str(REPOSITORY), "R3S3_RUNTIME_DIR": str(self.runtime)}
        done = subprocess.run(
            [*command, *words],
            cwd=REPOSITORY,
            env=os.environ | paths,
            capture_output=True,
            timeout=60,
            check=False,
        )
        return Outcome(done.stdout, done.stderr, done.returncode)


@pytest.fixture(scope="module")
def machine(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Machine:
    """The tree with the host's accounts, as an image. Giants would take their time to be copied."""
    components = ["console", "disk_driver", "file_server", "reincarnation_server"]
    guests.build([*components, "cat", "ls", "sha256sum", "sha256tree", "stat"], report=lambda _: None)
    folder = tmp_path_factory.mktemp("vm")
    source = folder / "source"
    shutil.copytree(tree, source, symlinks=True, ignore=_without_giants, copy_function=_copy)
    (source / "etc").mkdir()
    for name in ("passwd", "group"):
        shutil.copy(f"/etc/{name}", source / "etc" / name)
    for folder_in_tree, _, names in os.walk(tree):
        for name in names:
            _copy_special(Path(folder_in_tree) / name, source / Path(folder_in_tree).relative_to(tree) / name)
    image = folder / "tree.img"
    build(source, image)
    return Machine(image, folder)


def _without_giants(folder: str, names: list[str]) -> list[str]:
    paths = {name: Path(folder) / name for name in names}
    special = [n for n, p in paths.items() if not (p.is_symlink() or p.is_file() or p.is_dir())]
    return special + [n for n, p in paths.items() if p.is_file() and p.stat().st_size > 2 << 20]


def _copy(source: str, target: str) -> None:
    shutil.copy2(source, target, follow_symlinks=False)
    status = os.lstat(source)
    os.chown(target, status.st_uid, status.st_gid, follow_symlinks=False)
    os.chmod(target, status.st_mode & 0o7777)


def _copy_special(source: Path, target: Path) -> None:
    status = source.lstat()
    if source.is_fifo() or source.is_char_device() or source.is_block_device():
        os.mknod(target, status.st_mode, status.st_rdev)
        os.chown(target, status.st_uid, status.st_gid)


@pytest.fixture(scope="module")
def mounted(machine: Machine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The same image as the host's kernel sees it."""
    place = tmp_path_factory.mktemp("mounted")
    command = ["mount", "-t", "erofs", "-o", "loop,ro", str(machine.image), str(place)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"the host cannot mount an EROFS image: {done.stderr.strip()}")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def neutral(outcome: Outcome) -> Outcome:
    """Without the number of the device that the file system is on: a loop device has one of its own."""
    output = re.sub(rb"Device: \d+,\d+", b"Device: -", outcome.output)
    # The terse form: name, size, blocks, mode, user, group, device, inode, links, ...
    output = re.sub(
        rb"(?m)^(\S+ \d+ \d+ [0-9a-f]+ \d+ \d+ )[0-9a-f]+( \d+ \d+ [0-9a-f]+ [0-9a-f]+ )", rb"\1-\2", output
    )
    return outcome._replace(output=output)


@pytest.mark.parametrize("line", COMMANDS[:: 4 if IN_BED else 1])  # each program at least once
def test_a_command_line(machine: Machine, mounted: Path, line: str) -> None:
    program, _, rest = line.partition(" ")
    words: list[str | bytes] = [program, *expand(rest, mounted)]
    own, theirs = neutral(machine.run(*words)), neutral(coreutils(words, mounted))
    assert own == theirs, difference(own, theirs)


def test_sha256tree(machine: Machine, mounted: Path) -> None:
    script = "find . -type f -print0 | sed -z 's/^.//' | sort -z"
    paths = run_command(["bash", "-c", script], mounted).output.split(b"\0")[:-1]
    lines = []
    for path in paths:
        line = coreutils(["sha256sum", b"." + path], mounted).output
        lines.append(line.replace(b"  .", b"  ", 1))
    assert machine.run("sha256tree", "/") == Outcome(b"".join(lines), b"", 0)
