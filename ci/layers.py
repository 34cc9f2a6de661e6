"""`python -m ci.layers`: an import may only point down. Exit status 1 and a line per wrong import otherwise.

    tests, ci  ->  images  ->  components, guests  ->  vmm  ->  hypervisor

A module may import its own layer and every lower one. Within `vmm`, what is in the trusted base must not
depend on the tools around it: FORBIDDEN lists those pairs. Imports inside functions and under
`if TYPE_CHECKING` count like any other: a late import is still a dependency.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
RANK = {"hypervisor": 0, "vmm": 1, "components": 2, "guests": 2, "images": 3, "ci": 4, "tests": 4}
FORBIDDEN = (
    ("vmm.tender", "vmm.cli"),
    ("vmm.devices", "vmm.cli"),
    ("vmm.start", "vmm.cli"),
    ("vmm.system_process", "vmm.cli"),
    ("vmm.system", "vmm.diagnosis"),
)


def violations(repository: Path = REPOSITORY) -> list[str]:
    """One line per import that points up or is forbidden: `file:line: module imports other: reason`."""
    found = []
    for top in RANK:
        for path in sorted((repository / top).rglob("*.py")):
            relative = path.relative_to(repository)
            tree = ast.parse(path.read_text(encoding="utf-8"), str(relative))
            for line, target in imported_modules(tree, module_name(relative), path.name == "__init__.py"):
                if reason := why_not(module_name(relative), target):
                    found.append(f"{relative}:{line}: {module_name(relative)} imports {target}: {reason}")
    return found


def module_name(relative: Path) -> str:
    parts = relative.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported_modules(tree: ast.AST, importer: str, is_package: bool) -> Iterator[tuple[int, str]]:
    """(line, dotted name) of every import; `from a import b` gives a and a.b, for b may be a module."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                package = importer.split(".") if is_package else importer.split(".")[:-1]
                kept = package[: len(package) - node.level + 1]
                base = ".".join([*kept, base] if base else kept)
            yield node.lineno, base
            for alias in node.names:
                yield node.lineno, f"{base}.{alias.name}"


def why_not(importer: str, target: str) -> str | None:
    """The reason why this import is wrong, or None."""
    own, other = importer.split(".")[0], target.split(".")[0]
    if other not in RANK or own not in RANK:
        return None
    if RANK[other] > RANK[own]:
        return f"{own} is below {other}, imports only point down"
    if RANK[other] == RANK[own] and {own, other} == {"ci", "tests"} and own == "ci":
        return "ci runs tests, it does not import them"
    for low, high in FORBIDDEN:
        if _within(importer, low) and _within(target, high):
            return f"{low} must not depend on {high}"
    return None


def _within(module: str, package: str) -> bool:
    return module == package or module.startswith(package + ".")


def main() -> int:
    found = violations()
    for line in dict.fromkeys(found):
        print(line, file=sys.stderr)
    if not found:
        print("layers: every import points down")
    return 1 if found else 0


if __name__ == "__main__":
    raise SystemExit(main())
