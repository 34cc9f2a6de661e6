"""The bed's first root: our init, the kernel's modules, and the plan by which init turns it into the host's.

The host's root comes in over 9p, read-only, and lies under an overlay in memory: what is written inside stays
inside. /proc, /sys, /dev and /run are the bed's own.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from images.bed import BedError
from images.bed.cpio import archive
from images.bed.kernel import Kernel, cache

ROOT_TAG = "hostroot"
_SOURCE = Path(__file__).with_name("init.c")
_COMPILER = ("cc", "-std=c11", "-Os", "-Wall", "-Werror", "-static", "-s")
# msize: 128 descriptors of a page each, less what the protocol needs, is what virtio can carry (500 KiB).
_9P = "trans=virtio,version=9p2000.L,msize=512000,access=any"


def plan(modules: Sequence[str], writable: Sequence[tuple[str, str]], start: Sequence[str]) -> bytes:
    """What init is to do. `writable`: tag and path of folders to be seen as they are; `start`: the words of
    the program to become. ValueError if a word cannot be written down."""
    options = "lowerdir=/host,upperdir=/memory/upper,workdir=/memory/work"
    lines: list[Sequence[str]] = [
        *(("module", f"/modules/{name}.ko") for name in modules),
        *(("folder", folder) for folder in ("/host", "/memory", "/root")),
        # The host's files do not change meanwhile, or it does not matter: everything may be kept in memory.
        ("mount", "9p", ROOT_TAG, "/host", f"{_9P},cache=loose"),
        ("mount", "tmpfs", "memory", "/memory", "mode=755"),
        *(("folder", f"/memory/{name}") for name in ("upper", "work")),
        ("mount", "overlay", "overlay", "/root", options),
        ("mount", "proc", "proc", "/root/proc", ""),
        ("mount", "sysfs", "sysfs", "/root/sys", ""),
        ("mount", "cgroup2", "cgroup2", "/root/sys/fs/cgroup", ""),
        ("mount", "devtmpfs", "devtmpfs", "/root/dev", "mode=755"),
        *(("folder", f"/root/dev/{name}") for name in ("pts", "shm")),
        ("mount", "devpts", "devpts", "/root/dev/pts", "mode=600,ptmxmode=666"),
        ("mount", "tmpfs", "shm", "/root/dev/shm", "mode=1777"),
        ("mount", "tmpfs", "run", "/root/run", "mode=755"),
    ]
    for tag, path in writable:
        parents = [str(each) for each in reversed(Path(path).parents)][1:]
        lines += [("folder", f"/root{each}") for each in (*parents, path)]  # in /run there is none
        lines.append(("mount", "9p", tag, f"/root{path}", f"{_9P},cache=mmap"))
    lines += [("root", "/root"), ("start", *start)]
    for word in (word for line in lines for word in line):
        if "\t" in word or "\n" in word:
            raise ValueError(f"{word!r}: a tab or a newline in a path")
    return "".join("\t".join(line) + "\n" for line in lines).encode(errors="surrogateescape")


def build(kernel: Kernel, modules: Sequence[str], the_plan: bytes) -> bytes:
    """The archive for the kernel. BedError if init cannot be compiled."""
    files = {"init": compile_init().read_bytes(), "plan": the_plan}
    return archive(files | {f"modules/{name}.ko": kernel.module(name) for name in modules})


def compile_init() -> Path:
    """Our init, compiled once."""
    digest = hashlib.sha256(_SOURCE.read_bytes() + " ".join(_COMPILER).encode()).hexdigest()
    product = cache() / f"init-{digest[:16]}"
    if product.exists():
        return product
    with tempfile.TemporaryDirectory(dir=cache(), prefix=".init-") as folder:
        output = os.path.join(folder, "init")
        try:
            done = subprocess.run(
                [*_COMPILER, "-o", output, str(_SOURCE)], capture_output=True, text=True, check=False
            )
        except FileNotFoundError:
            raise BedError("no cc to compile the test bed's init; install gcc and libc6-dev") from None
        if done.returncode:
            raise BedError(f"{_SOURCE}: does not compile: {done.stderr.strip()}; is libc6-dev complete?")
        os.replace(output, product)
    return product
