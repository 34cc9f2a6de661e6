"""`python -m ci.build [--generate]`: builds all that is built, in order; what is up to date costs no time.

1. Generated files are checked against their sources (--generate: written).
2. Native modules: every `build_NAME.py` of NATIVE_FOLDERS holds a cffi builder and is run as a module
   (`python -m vmm.tender.build_vcpu`) when it, a C file beside it, or the ABI header has changed.
3. Guest programs (images/guests.py).
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from images import guests
from images.rustc import CompilerError

REPOSITORY = Path(__file__).resolve().parents[1]
GENERATORS = ("hypervisor.abi.generate", "components.protocols.generate")
NATIVE_FOLDERS = ("hypervisor", "vmm", "images")
STAMPS = REPOSITORY / "build/native"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m ci.build", description="Builds what is out of date.")
    parser.add_argument("--generate", action="store_true", help="only write the generated files")
    options = parser.parse_args(arguments)
    if failed := generate(check=not options.generate):
        return failed
    if options.generate:
        return 0
    try:
        build_native()
        guests.build()
    except subprocess.CalledProcessError as error:
        print(f"{' '.join(error.cmd[1:])} failed:\n{error.stdout}", file=sys.stderr)
        return 1
    except (guests.GuestError, CompilerError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def generate(check: bool) -> int:
    """Runs every generator's `main`; the first nonzero status, or 0."""
    for name in GENERATORS:
        status: int = importlib.import_module(name).main(["--check"] if check else [])
        if status:
            return status
    return 0


def native_modules() -> list[Path]:
    """Every builder of a native module: paths relative to the repository."""
    found = [path for folder in NATIVE_FOLDERS for path in (REPOSITORY / folder).rglob("build_*.py")]
    return sorted(path.relative_to(REPOSITORY) for path in found)


def native_sources(builder: Path) -> list[Path]:
    """What a native module is made from, absolute paths: builder, C and assembler beside it, ABI header."""
    folder = (REPOSITORY / builder).parent
    beside = [path for suffix in ("c", "h", "S") for path in folder.glob(f"*.{suffix}")]
    # cffi's own output, `_NAME.c`, is no source.
    hand_written = sorted(path for path in beside if not path.name.startswith("_"))
    return [REPOSITORY / builder, *hand_written, REPOSITORY / "hypervisor/abi/generated.h"]


def build_native() -> None:
    """Runs the builders whose module is missing or out of date; CalledProcessError with the output."""
    for builder in native_modules():
        name = builder.stem.removeprefix("build_")
        module = ".".join(builder.with_suffix("").parts)
        digest = hashlib.sha256(sys.version.encode())
        for source in native_sources(builder):
            digest.update(source.name.encode() + b"\0" + source.read_bytes())
        stamp = STAMPS / f"{module}.json"
        content = json.dumps({"sources": digest.hexdigest()})
        built = list((REPOSITORY / builder).parent.glob(f"_{name}.*so"))
        if built and stamp.is_file() and stamp.read_text(encoding="ascii") == content:
            continue
        subprocess.run(
            [sys.executable, "-m", module], cwd=REPOSITORY, check=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        STAMPS.mkdir(parents=True, exist_ok=True)
        stamp.write_text(content, encoding="ascii")
        print(f"built {builder.parent}/_{name}")


if __name__ == "__main__":
    raise SystemExit(main())
