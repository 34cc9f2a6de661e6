"""A directory of the host: its regular files, what in it cannot be compared, and coreutils' digests of it.

Paths are bytes relative to the directory, as the kernel gives them: names need not be text.
"""

from __future__ import annotations

import hashlib
import os
import stat
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

_SPECIAL = {
    stat.S_IFIFO: "named pipe",
    stat.S_IFSOCK: "socket",
    stat.S_IFCHR: "character device",
    stat.S_IFBLK: "block device",
}


class HostTreeError(Exception):
    """The directory cannot be walked, or coreutils failed. The message says what to do."""


@dataclass
class HostTree:
    """What a walk found. `skipped` are (path, why), `fingerprint` changes when anything in it changes."""

    directory: Path
    files: dict[bytes, int] = field(default_factory=dict)  # path -> size
    folders: int = 0
    symlinks: int = 0
    skipped: list[tuple[bytes, str]] = field(default_factory=list)
    unreadable: list[bytes] = field(default_factory=list)  # those of them that no image can contain
    fingerprint: str = ""

    @property
    def bytes(self) -> int:
        """Size of all regular files together."""
        return sum(self.files.values())


def walk(directory: Path) -> HostTree:
    """Look at everything below `directory`, without following symbolic links."""
    if not directory.is_dir():
        raise HostTreeError(f"{directory}: no such directory; name one to verify")
    tree = HostTree(directory)
    top = os.fsencode(directory)
    state = hashlib.sha256(top)
    waiting = [b""]
    while waiting:
        folder = waiting.pop()
        try:
            with os.scandir(os.path.join(top, folder)) as found:
                entries = sorted(found, key=lambda each: each.name)
        except OSError as error:
            tree.skipped.append((folder or b".", f"folder cannot be read: {error.strerror}"))
            tree.unreadable.append(folder)
            continue
        tree.folders += 1
        for entry in entries:
            path = os.path.join(folder, entry.name)
            try:
                status = entry.stat(follow_symlinks=False)
            except OSError as error:
                tree.skipped.append((path, f"cannot be looked at: {error.strerror}"))
                tree.unreadable.append(path)
                continue
            state.update(b"%b\0%d %d %d %d %d\n" % (
                path, status.st_mode, status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino
            ))  # fmt: skip
            kind = stat.S_IFMT(status.st_mode)
            if kind == stat.S_IFDIR:
                waiting.append(path)
            elif kind == stat.S_IFLNK:
                tree.symlinks += 1
            elif kind in _SPECIAL:
                tree.skipped.append((path, f"{_SPECIAL[kind]}: it has no content to compare"))
            elif not os.access(os.path.join(top, path), os.R_OK):
                tree.skipped.append(
                    (path, "no permission to read it on the host: run as its owner or as root")
                )
                tree.unreadable.append(path)
            else:
                tree.files[path] = status.st_size
    tree.fingerprint = state.hexdigest()
    return tree


def digests(tree: HostTree, progress: Callable[[int], None]) -> dict[bytes, str]:
    """coreutils' SHA-256 of every regular file; one that vanished meanwhile is not in it.

    `progress` is called with the bytes done so far.
    """
    result: dict[bytes, str] = {}
    done = 0
    # -z: names end with NUL on both sides, so that none needs escaping.
    command = ["xargs", "-0", "-r", "sha256sum", "-z", "--"]
    with tempfile.TemporaryFile() as names:
        names.writelines(path + b"\0" for path in tree.files)
        names.seek(0)
        try:
            process = subprocess.Popen(
                command, cwd=tree.directory, stdin=names, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
            )
        except FileNotFoundError:
            raise HostTreeError("xargs is missing; install findutils and coreutils") from None
        with process:
            assert process.stdout is not None
            rest = b""
            while data := os.read(process.stdout.fileno(), 1 << 16):
                *lines, rest = (rest + data).split(b"\0")
                for line in lines:
                    digest, _, path = line.partition(b"  ")
                    result[path] = digest.decode()
                    done += tree.files[path]
                progress(done)
    if process.returncode == 127:
        raise HostTreeError("sha256sum is missing; install coreutils")
    return result
