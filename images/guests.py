"""`python -m images.guests [--rustc PATH] [NAMES...]`: builds guest programs into build/guests/NAME.elf.

What is built:
    rlib `rt`           guests/rt/src/lib.rs
    rlib `protocols`    components/protocols/generated/lib.rs, uses rt
    programs            every NAME/src/main.rs in PROGRAM_FOLDERS; a program is called like its folder
    programs in C       every NAME/src/main.c: all of src/*.c, compiled freestanding by `cc`, and
                        guests/c/glue.rs, the runtime's face to C, in one image (conditions: in capitals)
With --host-tests: every src/host_tests.rs in the folders of TEST_FOLDERS is compiled for the host with
`rustc --test` (and crates rt and protocols compiled with `--cfg host_test`) and run.

A crate is rebuilt when the compiler, the flags or the content of any file it was made from has changed; the
compiler itself says which files those were (dep-info), so `#[path]` and `include_bytes!` are covered.

Exceptions:
    GuestError(Exception)       a name that does not exist or is used twice, a missing linker script
    CompilerError               see images/rustc.py
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from images.rustc import CODE_FLAGS, HOST_TEST_FLAGS, Compiler, CompilerError, compile_c, find

REPOSITORY = Path(__file__).resolve().parents[1]
OUTPUT = REPOSITORY / "build/guests"
LINK_SCRIPT = Path("guests/rt/link.ld")
LIBRARIES = {"rt": Path("guests/rt/src/lib.rs"), "protocols": Path("components/protocols/generated/lib.rs")}
GLUE = Path("guests/c/glue.rs")  # the root of every program in C
C_INCLUDES = ("guests/c", "components/protocols/generated", "hypervisor/abi")
PROGRAM_FOLDERS = ("components", "guests/programs", "guests/misbehaving", "tests/guests")
TEST_FOLDERS = ("components", "guests", "guests/programs", "tests/guests")
JOBS = 2  # a fat LTO link takes about 200 MB; more jobs than CPUs gain nothing
TEST_SECONDS = 120


class GuestError(Exception):
    """The tree or the command line does not say what to build."""


class Crate(NamedTuple):
    """One run of the compiler: everything the result depends on."""

    name: str
    root: Path  # relative to the repository
    flags: tuple[str, ...]
    libraries: tuple[Path, ...]  # rlibs it may use, in build order
    product: Path
    extra_inputs: tuple[Path, ...] = ()  # files the compiler does not report: the linker script, C
    c_sources: tuple[Path, ...] = ()  # linked with it
    c_flags: tuple[str, ...] = ()

    @property
    def stamp(self) -> Path:
        return self.product.with_name(self.product.name + ".json")


def programs() -> dict[str, Path]:
    """Every guest program in the tree: name -> its main.rs or main.c, relative to the repository."""
    found: dict[str, Path] = {}
    for folder in PROGRAM_FOLDERS:
        for main_file in sorted((REPOSITORY / folder).glob("*/src/main.[rc]*")):
            root = main_file.relative_to(REPOSITORY)
            name = root.parts[-3]
            if name in found:
                raise GuestError(f"two guests are called {name}: {found[name]} and {root}; rename one folder")
            found[name] = root
    return found


def host_tests() -> dict[str, Path]:
    """Every host_tests.rs in the tree: name of its folder -> the file, relative to the repository."""
    found = {}
    for folder in TEST_FOLDERS:
        for file in sorted((REPOSITORY / folder).glob("*/src/host_tests.rs")):
            found[file.parts[-3]] = file.relative_to(REPOSITORY)
    return found


def build(
    names: Sequence[str] = (),
    rustc: str | None = None,
    output: Path = OUTPUT,
    report: Callable[[str], None] = print,
    cfgs: Sequence[str] = (),
) -> list[Path]:
    """Builds the named guests (all if none is named) where out of date, and returns their paths.

    `cfgs` are conditions set with `--cfg`: builds with different ones belong into different folders.

    GuestError for an unknown name, CompilerError with the compiler's own messages. Safe to run concurrently.
    """
    known = programs()
    if unknown := [name for name in names if name not in known]:
        raise GuestError(f"no guest is called {', '.join(unknown)}; there are: {', '.join(sorted(known))}")
    if not (REPOSITORY / LINK_SCRIPT).is_file():
        raise GuestError(f"{LINK_SCRIPT} is missing")
    compiler = find(rustc)
    with _locked(output):
        builder = _Builder(compiler, report)
        code_flags = (*CODE_FLAGS, *(f"--cfg={cfg}" for cfg in cfgs))
        rlibs = builder.libraries(output / "lib", code_flags)
        flags = (*code_flags, "--crate-type", "bin", *compiler.link_flags(REPOSITORY / LINK_SCRIPT))
        crates = []
        for name in names or sorted(known):
            crate = Crate(name, known[name], flags, rlibs, output / f"{name}.elf", (LINK_SCRIPT,))
            crates.append(_in_c(crate, cfgs) if crate.root.suffix == ".c" else crate)
        with ThreadPoolExecutor(max_workers=min(JOBS, os.cpu_count() or 1)) as pool:
            # All of them are tried, so that one run shows every error.
            errors = [error for error in pool.map(builder.try_compile, crates) if error]
    if errors:
        raise CompilerError("\n".join(errors))
    return [crate.product for crate in crates]


def run_host_tests(
    names: Sequence[str] = (),
    rustc: str | None = None,
    output: Path = OUTPUT,
    report: Callable[[str], None] = print,
) -> None:
    """Compiles and runs the host tests of the named folders (default: all); CompilerError if any fails."""
    known = host_tests()
    if unknown := [name for name in names if name not in known]:
        raise GuestError(f"no host tests for {', '.join(unknown)}; there are: {', '.join(sorted(known))}")
    compiler = find(rustc)
    with _locked(output):
        builder = _Builder(compiler, report)
        rlibs = builder.libraries(output / "host", HOST_TEST_FLAGS)
        failed = []
        for name in names or sorted(known):
            flags = ("--test", *HOST_TEST_FLAGS)
            crate = Crate(f"{name}_tests", known[name], flags, rlibs, output / "host" / f"{name}_tests")
            builder.compile(crate)
            done = subprocess.run([crate.product, "--quiet"], cwd=REPOSITORY, text=True, check=False,
                                  capture_output=True, timeout=TEST_SECONDS)  # fmt: skip
            lines = [line for line in done.stdout.splitlines() if line.startswith("test result:")]
            report(f"{known[name]}: {lines[0].removeprefix('test result: ') if lines else 'no result'}")
            if done.returncode:
                failed.append(f"{known[name]}: exit status {done.returncode}\n{done.stdout}{done.stderr}")
    if failed:
        raise CompilerError("\n".join(failed))


def _in_c(crate: Crate, cfgs: Sequence[str]) -> Crate:
    """The crate of a program whose root is a main.c."""
    folder = REPOSITORY / crate.root.parent
    sources = tuple(path.relative_to(REPOSITORY) for path in sorted(folder.glob("*.c")))
    folders = (folder, *(REPOSITORY / each for each in C_INCLUDES))
    headers = sorted(path.relative_to(REPOSITORY) for each in folders for path in each.glob("*.h"))
    inputs = (*crate.extra_inputs, *sources, *headers)
    flags = (*(f"-I{each}" for each in C_INCLUDES), *(f"-D{cfg.upper()}" for cfg in cfgs))
    return crate._replace(root=GLUE, extra_inputs=inputs, c_sources=sources, c_flags=flags)


class _Builder:
    def __init__(self, compiler: Compiler, report: Callable[[str], None]) -> None:
        self.compiler = compiler
        self.report = report

    def libraries(self, folder: Path, flags: tuple[str, ...]) -> tuple[Path, ...]:
        """Builds rt and protocols into `folder`; each may use those before it."""
        rlibs: tuple[Path, ...] = ()
        for name, root in LIBRARIES.items():
            crate_flags = ("--crate-type", "lib", *flags)
            crate = Crate(name, root, crate_flags, rlibs, folder / f"lib{name}.rlib")
            self.compile(crate)
            rlibs = (*rlibs, crate.product)
        return rlibs

    def try_compile(self, crate: Crate) -> str | None:
        """Compiles and returns the error message, if any."""
        try:
            self.compile(crate)
        except CompilerError as error:
            return str(error)
        return None

    def compile(self, crate: Crate) -> None:
        """Runs the compiler if need be; the product appears under its name only when it is whole."""
        arguments = self.arguments(crate)
        command = _digest("\0".join([self.compiler.identity, *arguments, *crate.c_flags]).encode())
        if _up_to_date(crate, command):
            return
        scratch = crate.product.parent / f".{crate.product.name}.tmp"
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir(parents=True)
        product, dependencies = scratch / crate.product.name, scratch / "inputs.d"
        # Without a folder of its own the compiler puts what it makes in between where it was started, and two
        # builds of crates of one name take each other's.
        emit = [f"--emit=link={product},dep-info={dependencies}", f"--out-dir={scratch}"]
        try:
            objects = [compile_c(source, scratch, crate.c_flags, REPOSITORY) for source in crate.c_sources]
            linked = [f"-Clink-arg={each}" for each in objects]
            warnings = self.compiler.run([*arguments, *linked, *emit], REPOSITORY)
        except CompilerError as error:
            what = crate.c_sources[0].parent if crate.c_sources else crate.root
            raise CompilerError(f"{what} does not compile:\n{error}") from None
        inputs = [*_dependencies(dependencies), *crate.libraries, *crate.extra_inputs]
        digests = {str(path): _digest((REPOSITORY / path).read_bytes()) for path in inputs}
        crate.stamp.unlink(missing_ok=True)
        product.replace(crate.product)
        crate.stamp.write_text(json.dumps({"command": command, "inputs": digests}), encoding="utf-8")
        shutil.rmtree(scratch)
        self.report(f"built {_shown(crate.product)}" + (f"\n{warnings}" if warnings else ""))

    def arguments(self, crate: Crate) -> list[str]:
        arguments = [str(crate.root), "--crate-name", crate.name, *self.compiler.common_flags(), *crate.flags]
        for rlib in crate.libraries:
            name = rlib.name.removeprefix("lib").removesuffix(".rlib")
            arguments += ["--extern", f"{name}={rlib}"]
        if crate.libraries:
            arguments += ["-L", str(crate.libraries[0].parent)]
        return arguments


def _up_to_date(crate: Crate, command: str) -> bool:
    try:
        stamp = json.loads(crate.stamp.read_text(encoding="utf-8"))
        return (
            crate.product.is_file()
            and stamp["command"] == command
            and all(_digest((REPOSITORY / path).read_bytes()) == old for path, old in stamp["inputs"].items())
        )
    except (OSError, ValueError, KeyError):
        return False  # no stamp, a damaged one, or an input that is gone: build


def _dependencies(path: Path) -> list[Path]:
    """The source files in a dep-info file: the lines 'FILE:' without prerequisites name one each."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return [Path(line[:-1].replace("\\ ", " ")) for line in lines if line.endswith(":")]


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _shown(path: Path) -> str:
    return str(path.relative_to(REPOSITORY)) if path.is_relative_to(REPOSITORY) else str(path)


@contextlib.contextmanager
def _locked(output: Path) -> Iterator[None]:
    """One build at a time per output folder: tests and `make` may run side by side."""
    output.mkdir(parents=True, exist_ok=True)
    with (output / ".lock").open("w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m images.guests", description="Builds guest programs.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="programs to build (default: all)")
    parser.add_argument("--rustc", metavar="PATH", help="the compiler (default: $RUSTC, then rustc on PATH)")
    parser.add_argument("--output", type=Path, default=OUTPUT, metavar="DIR", help="default: build/guests")
    parser.add_argument("--cfg", action="append", default=[], metavar="NAME", help="set a condition")
    parser.add_argument("--host-tests", action="store_true", help="compile and run the tests that need no VM")
    parser.add_argument("--list", action="store_true", help="print the programs and their source files")
    options = parser.parse_args(arguments)
    try:
        if options.list:
            for name, root in sorted(programs().items()):
                print(f"{name:24} {root}")
        elif options.host_tests:
            run_host_tests(options.names, options.rustc, options.output.resolve())
        else:
            build(options.names, options.rustc, options.output.resolve(), cfgs=options.cfg)
    except (GuestError, CompilerError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
