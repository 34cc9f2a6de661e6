"""The compilers for guests: which Rust compiler, its version, its flags; the C compiler.

Guests need no crates and no cargo: `core` and `alloc` come with the compiler, everything else is ours.

Exceptions:
    CompilerError(Exception)    there is no usable compiler, or it refused a crate; says what to do
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

TARGET = "x86_64-unknown-linux-gnu"
OLDEST = (1, 63)  # Debian 12
STABLE_ALLOC = (1, 68)  # from here on `alloc` works in a no_std program without a nightly feature
RUST_LLD = (1, 90)  # from here on rustc links with its own lld, which would lay images out differently
INSTALL = "install one with `apt-get install rustc` (Debian 12 or later), or name one with --rustc PATH"

CODE_FLAGS = ("-C", "panic=abort", "-C", "opt-level=3", "-C", "relocation-model=static")
# Tests need unwinding, and shall notice overflows. `host_test` leaves out what only a VM can have.
HOST_TEST_FLAGS = ("--cfg", "host_test", "-C", "opt-level=1", "-C", "overflow-checks=yes")
LINK_FLAGS = (
    "-C", "lto=fat",
    "-C", "link-arg=-nostartfiles",
    "-C", "link-arg=-nostdlib",
    "-C", "link-arg=-static",
    "-C", "link-arg=-no-pie",
    "-C", "link-arg=-Wl,--build-id=none",
    "-C", "link-arg=-Wl,-z,max-page-size=4096",
)  # fmt: skip

# Freestanding C11. Frames are as Rust's: no canary, no unwinding tables, one address.
C_FLAGS = (
    "-std=c11", "-ffreestanding", "-O2", "-Wall", "-Wextra", "-Werror", "-fno-pic", "-fno-stack-protector",
    "-fcf-protection=none", "-fno-asynchronous-unwind-tables", "-ffunction-sections", "-fdata-sections",
)  # fmt: skip


class CompilerError(Exception):
    """No usable compiler, or a crate that does not compile."""


class Compiler(NamedTuple):
    path: str
    version: tuple[int, int]
    identity: str  # all of `rustc -vV`: two compilers with the same identity make the same code

    def common_flags(self) -> list[str]:
        """Flags of every crate, for guests and for tests on the host."""
        flags = ["--edition", "2021", "--target", TARGET]
        if self.version < STABLE_ALLOC:
            flags += ["--cfg", "old_alloc"]
        if self.version >= (1, 80):
            flags += ["--check-cfg", "cfg(old_alloc, kill_points, layout_a, layout_b)"]
            flags += ["--check-cfg", "cfg(host_test, test)"]
        return flags

    def link_flags(self, script: Path) -> list[str]:
        """Flags that make a crate a guest image laid out by the linker script."""
        flags = [*LINK_FLAGS, "-C", f"link-arg=-Wl,-T{script}"]
        return flags + (["-C", "linker-features=-lld"] if self.version >= RUST_LLD else [])

    def environment(self) -> Mapping[str, str]:
        """Debian's 1.63 needs RUSTC_BOOTSTRAP for `alloc_error_handler`; newer ones must do without."""
        environment = {key: value for key, value in os.environ.items() if not key.startswith("RUSTC_")}
        return environment | ({"RUSTC_BOOTSTRAP": "1"} if self.version < STABLE_ALLOC else {})

    def run(self, arguments: Sequence[str], directory: Path) -> str:
        """Runs the compiler in `directory`; its warnings, or CompilerError with its messages."""
        done = subprocess.run(
            [self.path, *arguments], cwd=directory, env=self.environment(), text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
        )  # fmt: skip
        if done.returncode:
            raise CompilerError(done.stdout.rstrip())
        return done.stdout.rstrip()


def find(path: str | None = None) -> Compiler:
    """The compiler named by `path`, else by $RUSTC, else `rustc` on PATH; CompilerError if unusable.

    $RUSTC and PATH are what cargo goes by, so whoever has chosen a compiler for other projects gets it here.
    """
    wanted = path or os.environ.get("RUSTC") or "rustc"
    found = shutil.which(wanted)
    if found is None:
        raise CompilerError(f"no Rust compiler: {wanted} not found; {INSTALL}")
    try:
        done = subprocess.run([found, "-vV"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        detail = getattr(error, "stderr", "") or error
        raise CompilerError(f"{found} -vV failed ({str(detail).strip()}); {INSTALL}") from error
    match = re.match(r"rustc (\d+)\.(\d+)", done.stdout)
    if match is None:
        raise CompilerError(f"{found} is not a Rust compiler: it says {done.stdout[:60]!r}; {INSTALL}")
    version = (int(match[1]), int(match[2]))
    if version < OLDEST:
        oldest = ".".join(map(str, OLDEST))
        raise CompilerError(f"{found} is version {match[1]}.{match[2]}, {oldest} is needed; {INSTALL}")
    if shutil.which("cc") is None:
        raise CompilerError("no linker: cc not found; install it with `apt-get install gcc libc6-dev`")
    return Compiler(found, version, done.stdout)


def compile_c(source: Path, folder: Path, flags: Sequence[str], directory: Path) -> Path:
    """Compiles one C file, seen from `directory`, into an object in `folder`, or CompilerError."""
    product = folder / f"{source.stem}.o"
    command = ["cc", *C_FLAGS, *flags, "-c", str(source), "-o", str(product)]
    done = subprocess.run(command, cwd=directory, text=True, check=False, capture_output=True)
    if done.returncode:
        raise CompilerError(done.stderr.rstrip())
    return product
