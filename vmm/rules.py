"""Rules in a system file: what its authority must never come to, whoever wires it anew.

    [rules.disk_through_file_server]
    from = ["program"]                      # components, devices, programs; "program" is any program
    to = ["disk0"]
    through = ["file_server"]               # no path from one of `from` to one of `to` but past one of these
    by = ["request", "device"]              # paths of these influences alone (vmm.authority.BY); default: all

    [rules.files_only_read]
    from = ["file_server"]
    to = ["disk_driver"]
    operations = ["info", "read"]           # requests from one of `from` to one of `to`: of these at most

Without `through` (and `operations`) there may be no path at all. For each pair of names only one rule of a
kind decides; two that say different things about it are a mistake. A rule about programs that are not part of
the policies at hand holds.

This checks what the operator wrote against what the operator wrote; it grants nothing and needs no trust.
Errors: SystemFileError.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import NamedTuple

from hypervisor.policy import Policy
from vmm import authority, system
from vmm.authority import BY, PROGRAM, Graph
from vmm.document import Document, SystemFileError, Table

NAME_MAX = 63


class Rule(NamedTuple):
    """One rule as written. `operations` is None in a rule about paths."""

    name: str
    sources: tuple[str, ...]
    targets: tuple[str, ...]
    through: tuple[str, ...]
    by: tuple[str, ...]
    operations: tuple[str, ...] | None


def check(file: Path, policies: Sequence[Policy]) -> list[str]:
    """The names of all rules of the system file, which `policies`, compiled from it, satisfy."""
    document = Document(file, SystemFileError)
    if "rules" not in document.table:
        return []
    found = authority.graph(policies)
    programs = set(system.known_programs(document.table))
    known = {PROGRAM, *programs, *(node for node, kind in found.nodes.items() if kind != PROGRAM)}
    rules = list(document.table.each("rules", NAME_MAX, lambda table: _read(table, known, programs)).values())
    _check_agreement(document, rules, programs)
    for rule in rules:
        _check_rule(document, rule, found)
    return [rule.name for rule in rules]


def _read(table: Table, known: set[str], programs: set[str]) -> Rule:
    """One rule, which makes sense by itself."""
    sources, targets = (_somebody(table, key, known) for key in ("from", "to"))
    for name in sources:
        if name in targets and name not in {PROGRAM, *programs}:
            raise table.error("to", f'"{name}" is on both sides', remedy="remove it from one of the two")
    operations = tuple(table.strings("operations"))
    if "operations" in table:
        for key in ("through", "by"):
            if key in table:
                problem = '"operations" is about direct requests, not about paths'
                raise table.error(key, problem, remedy="write two rules")
        return Rule(table.path[-1], sources, targets, (), (), operations)
    through = tuple(table.names("through", known, "names here", ()))
    for name in through:
        if name in (*sources, *targets):
            raise table.error("through", f'"{name}" is an end of the path', remedy="name who is between")
    by = tuple(table.names("by", BY, "influences", BY))
    if not by:
        raise table.error("by", "no influence is named", remedy="leave it out to mean all of them")
    return Rule(table.path[-1], sources, targets, through, by, None)


def _somebody(table: Table, key: str, known: set[str]) -> tuple[str, ...]:
    names = tuple(table.names(key, known, "names here"))
    if not names:
        raise table.error(key, "the rule names nobody", remedy="name somebody, or remove the rule")
    return names


def _check_agreement(document: Document, rules: Sequence[Rule], programs: set[str]) -> None:
    """No two rules say different things about the same."""
    said: dict[tuple[str, str, str], Rule] = {}
    for rule in rules:
        sources, targets = (_members(names, programs) for names in (rule.sources, rule.targets))
        for pair in product(sources, targets, rule.by or ("operations",)):
            other = said.setdefault(pair, rule)
            if _says(other) != _says(rule):
                problem = f"it contradicts rules.{other.name} about {pair[0]} and {pair[1]}"
                remedy = "let one rule speak of each pair: join the two, or narrow one of them"
                raise document.error(("rules", rule.name), problem, remedy=remedy)


def _says(rule: Rule) -> tuple[frozenset[str], frozenset[str]]:
    """What it allows those whom it is about."""
    return frozenset(rule.through), frozenset(rule.operations or ())


def _members(names: Sequence[str], programs: set[str]) -> list[str]:
    """`names` with every program in place of PROGRAM."""
    return [each for name in names for each in (sorted(programs) if name == PROGRAM else [name])]


def _check_rule(document: Document, rule: Rule, found: Graph) -> None:
    sources, targets = (
        [node for name in names for node in found.named(name)] for names in (rule.sources, rule.targets)
    )
    if rule.operations is not None:
        _check_operations(document, rule, found, set(sources), set(targets))
        return
    without = [node for name in rule.through for node in found.named(name)]
    for source in sources:
        paths = authority.closure(found, source, rule.by, [each for each in without if each != source])
        for target in targets:
            if target != source and target in paths and target not in without:
                past = f" other than through {', '.join(rule.through)}" if rule.through else ""
                problem = f"{source} reaches {target}{past}: {authority.path_text(paths[target])}"
                remedy = "take away one step of this path: a route, or an operation in [uses]"
                raise document.error(("rules", rule.name), problem, remedy=remedy)


def _check_operations(
    document: Document, rule: Rule, found: Graph, sources: set[str], targets: set[str]
) -> None:
    for edge in found.edges:
        if edge.by == "request" and edge.source in sources and edge.target in targets:
            for what in edge.what:
                _, dot, operation = what.rpartition(".")
                if dot and " " not in what and operation not in (rule.operations or ()):
                    problem = f"{edge.source} may ask {edge.target} for {what}"
                    remedy = f"remove it from [uses] of the manifest of {edge.source}, or allow it here"
                    raise document.error(("rules", rule.name), problem, remedy=remedy)
