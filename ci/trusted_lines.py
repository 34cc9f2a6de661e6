"""`python -m ci.trusted_lines [--json]`: lines of the trusted base, counted from what is really loaded.

The trusted base is every module of ours that a hypervisor process, the zygote, a tender or the keeper of a
real device loads. A fresh Python imports their entry points and tells which modules of this repository it
then has; imports that are only reached inside functions are followed too, except into OUTSIDE. A native
module counts with the C and assembler files beside its builder, or with the builder where there are none
because it holds the code.

Counted are lines with code: no blank lines, no comments, no docstrings. A string that is not a docstring is
code. The C header generated from the ABI is not counted, the Python module generated from it is.
"""

from __future__ import annotations

import argparse
import ast
import io
import json
import re
import subprocess
import sys
import tokenize
from collections.abc import Iterator, Sequence
from pathlib import Path

from ci.layers import imported_modules

REPOSITORY = Path(__file__).resolve().parents[1]
LIMIT = 5000
# What the three kinds of process start from; a tender may load any module of its folder.
ENTRY_MODULES = ("vmm.start", "vmm.system_process", "vmm.tender.zygote")
ENTRY_FOLDERS = ("vmm/tender",)
# Reached from the zygote only in a child that has become a device's own process and never tends a VM.
OUTSIDE = ("vmm.devices",)
# But for these: what opens real devices, and the process that says what one may reach.
KEEPER = ("vmm.devices.process", "vmm.devices.pci", "vmm.devices.pci_keeper")
PACKAGES = ("hypervisor", "vmm", "images", "components", "ci", "tests")
NATIVE_SUFFIXES = (".c", ".h", ".S")

_LOADER = """
import importlib, json, sys
for name in sys.argv[1:]:
    importlib.import_module(name)
print(json.dumps(sorted(sys.modules)))
"""
_IGNORED_TOKENS = {
    tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT,
    tokenize.ENCODING, tokenize.ENDMARKER,
}  # fmt: skip


def count() -> dict[str, int]:
    """Lines of every file of the trusted base, by path relative to the repository."""
    files: set[Path] = set()
    for module in loaded_modules():
        if (source := module_file(module)) is not None:
            files.add(source)
        elif (builder := native_builder(module)) is not None:
            beside = (path for path in builder.parent.iterdir() if path.suffix in NATIVE_SUFFIXES)
            sources = {path for path in beside if not path.name.startswith("_")}
            files |= sources or {builder}
    counted = {path: python_lines(path) if path.suffix == ".py" else c_lines(path) for path in files}
    return {str(path.relative_to(REPOSITORY)): lines for path, lines in sorted(counted.items())}


def loaded_modules() -> list[str]:
    """Names of the modules of this repository in the trusted processes; ImportError if one does not load."""
    wanted = [*ENTRY_MODULES, *KEEPER]
    for folder in ENTRY_FOLDERS:
        names = sorted(path.stem for path in (REPOSITORY / folder).glob("[!_]*.py"))
        wanted += [f"{folder.replace('/', '.')}.{name}" for name in names if not name.startswith("build_")]
    # Repeats until late imports add nothing: a module they reach may itself import more when loaded.
    while True:
        loaded = _load(wanted)
        late = {name for module in loaded for name in _imports(module)} - set(loaded)
        if not late:
            return loaded
        wanted += sorted(late)


def _load(names: Sequence[str]) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", _LOADER, *names], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise ImportError(f"the trusted base cannot be imported:\n{done.stderr}")
    return [name for name in json.loads(done.stdout) if name.split(".")[0] in PACKAGES]


def _imports(module: str) -> Iterator[str]:
    source = module_file(module)
    if source is None:
        return
    tree = ast.parse(source.read_text(encoding="utf-8"))
    for _line, name in imported_modules(tree, module, source.name == "__init__.py"):
        ours = name.split(".")[0] in PACKAGES and not _is_outside(name)
        if ours and (module_file(name) or native_builder(name)):
            yield name


def _is_outside(name: str) -> bool:
    return any(name == package or name.startswith(package + ".") for package in OUTSIDE)


def module_file(module: str) -> Path | None:
    """The Python source of a module, None if it is none of ours or has none."""
    path = REPOSITORY.joinpath(*module.split("."))
    candidates = (path.with_name(path.name + ".py"), path / "__init__.py")
    return next((candidate for candidate in candidates if candidate.is_file()), None)


def native_builder(module: str) -> Path | None:
    """The cffi builder of a native module such as vmm.tender._vcpu; None if there is none."""
    path = REPOSITORY.joinpath(*module.split("."))
    builder = path.with_name(f"build{path.name}.py")
    return builder if path.name.startswith("_") and builder.is_file() else None


def python_lines(path: Path) -> int:
    text = path.read_text(encoding="utf-8")
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in _IGNORED_TOKENS:
            lines.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and (
            ast.get_docstring(node, clean=False) is not None
        ):
            docstring = node.body[0]
            lines -= set(range(docstring.lineno, (docstring.end_lineno or docstring.lineno) + 1))
    return sum(1 for number, line in enumerate(text.splitlines(), 1) if number in lines and line.strip())


def c_lines(path: Path) -> int:
    """Lines of C or assembler with code: comments are blanked first, strings are kept."""
    text = path.read_text(encoding="utf-8")
    pattern = re.compile(r'"(?:\\.|[^"\\\n])*"|/\*.*?\*/|//[^\n]*', re.DOTALL)
    bare = pattern.sub(lambda match: match[0] if match[0][0] == '"' else "\n" * match[0].count("\n"), text)
    return sum(1 for line in bare.splitlines() if line.strip())


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m ci.trusted_lines")
    parser.add_argument("--json", action="store_true", help="print {files, total, limit}")
    options = parser.parse_args(arguments)
    try:
        files = count()
    except ImportError as error:
        print(error, file=sys.stderr)
        return 1
    total = sum(files.values())
    if options.json:
        print(json.dumps({"files": files, "total": total, "limit": LIMIT}, indent=1))
    else:
        for name, lines in files.items():
            print(f"{lines:6} {name}")
        print(f"{total:6} trusted lines, limit {LIMIT}")
    return 1 if total > LIMIT else 0


if __name__ == "__main__":
    raise SystemExit(main())
