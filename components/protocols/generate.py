"""`python -m components.protocols.generate [--check]`: writes what is generated from the protocols' files.

For each NAME.toml: generated/NAME.rs, NAME.h, NAME.golden, and hypervisor/protocols/NAME.py; generated/lib.rs
for all. With --check nothing is written: the exit status is 1 and the stale files are named if any differs.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from components.protocols import render_c, render_python, render_rust
from components.protocols.description import read_all
from vmm.diagnosis import explain
from vmm.document import ProtocolFileError

SUMMARY = "Writes Rust, Python, C and golden files from the protocols' TOML files."
REPOSITORY = Path(__file__).resolve().parents[2]
SOURCE = Path("components/protocols")
GENERATED = SOURCE / "generated"
PYTHON = Path("hypervisor/protocols")


def texts(folder: Path = REPOSITORY / SOURCE) -> dict[Path, str]:
    """Every generated file, relative to the repository, with the text it should have."""
    protocols = read_all(folder)
    files = {GENERATED / "lib.rs": render_rust.library(protocols)}
    for protocol in protocols:
        files[GENERATED / f"{protocol.name}.rs"] = render_rust.module(protocol)
        files[GENERATED / f"{protocol.name}.h"] = render_c.header(protocol)
        files[GENERATED / f"{protocol.name}.golden"] = render_c.golden(protocol)
        files[PYTHON / f"{protocol.name}.py"] = render_python.module(protocol)
    return files


def leftovers(files: dict[Path, str]) -> list[Path]:
    """Generated files of protocols that are no more, relative to the repository."""
    there = [*(REPOSITORY / GENERATED).glob("*.*"), *(REPOSITORY / PYTHON).glob("*.py")]
    found = {path.relative_to(REPOSITORY) for path in there}
    return sorted(found - files.keys() - {PYTHON / "__init__.py"})


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m components.protocols.generate", description=SUMMARY)
    parser.add_argument("--check", action="store_true", help="write nothing, fail if a file is out of date")
    options = parser.parse_args(arguments)
    try:
        files = texts()
    except ProtocolFileError as error:
        print(explain(vars(error)), file=sys.stderr)
        return 1
    stale = []
    for name, text in files.items():
        path = REPOSITORY / name
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            stale.append(name)
            if not options.check:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text, encoding="utf-8")
                print(f"wrote {name}")
    for name in leftovers(files):
        stale.append(name)
        if not options.check:
            (REPOSITORY / name).unlink()
            print(f"removed {name}")
    if options.check:
        for name in stale:
            print(f"{name} is out of date: run `python -m components.protocols.generate`", file=sys.stderr)
    return 1 if options.check and stale else 0


if __name__ == "__main__":
    raise SystemExit(main())
