"""`python -m hypervisor.abi.generate [--check]`: writes the ABI's Python, C, Rust and golden files.

With --check nothing is written: the exit status is 1 and the stale files are named if any differs.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from hypervisor.abi import render
from hypervisor.abi.description import DescriptionError, read

SUMMARY = "Writes the ABI's Python, C, Rust and golden files from abi.toml."
REPOSITORY = Path(__file__).resolve().parents[2]
SOURCE = REPOSITORY / "hypervisor/abi/abi.toml"
RENDERERS = {
    "hypervisor/abi/generated.py": render.python,
    "hypervisor/abi/generated.h": render.c_header,
    "guests/rt/src/abi.rs": render.rust,
    "hypervisor/abi/abi.golden": render.golden,
}


def stale_files(source: Path = SOURCE, repository: Path = REPOSITORY) -> list[tuple[Path, str]]:
    """The generated files that are missing or out of date, with the text they should have."""
    description = read(source)
    stale = []
    for name, renderer in RENDERERS.items():
        path, text = repository / name, renderer(description)
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            stale.append((path, text))
    return stale


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m hypervisor.abi.generate", description=SUMMARY)
    parser.add_argument("--check", action="store_true", help="write nothing, fail if a file is out of date")
    options = parser.parse_args(arguments)
    try:
        stale = stale_files()
    except DescriptionError as error:
        print(error, file=sys.stderr)
        return 1
    for path, text in stale:
        name = path.relative_to(REPOSITORY)
        if options.check:
            print(f"{name} is out of date: run `python -m hypervisor.abi.generate`", file=sys.stderr)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
            print(f"wrote {name}")
    return 1 if options.check and stale else 0


if __name__ == "__main__":
    raise SystemExit(main())
