"""`r3s3 policy`: what a system allows, and what follows from it. What is not listed does not exist.

Exit status: 0; 1 where `reach` finds no path, `diff` a difference, `check` a broken rule or a wrong file.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from hypervisor.abi.generated import Hypercall, names
from hypervisor.policy import Policy, Protocol, rebuild
from vmm import authority
from vmm.authority import BY, Graph
from vmm.cli.command import CommandError, Parser, Table, add_system_option, print_json, unit
from vmm.cli.control import Control
from vmm.poisoned import cures

NO = 1


class Subject(NamedTuple):
    """What is asked about: the graph of a system; programs that cannot run in it, as no route serves them."""

    name: str
    graph: Graph
    left_out: list[str]


def add_arguments(parser: Parser) -> None:
    """The arguments of `r3s3 policy`."""
    _add_json(parser, False)
    add_system_option(parser)
    actions = parser.add_subparsers(dest="action", metavar="ACTION")
    _add(actions, "show", "the policy of a running system, as tables (the default)")
    graph = _add(actions, "graph", "who influences whom, by what", "file")
    graph.add_argument("--svg", action="store_true", help="a picture, on standard output")
    reach = _add(actions, "reach", "whether A can influence B, and how; exit status 0 or 1", "a", "b", "file")
    closure = _add(actions, "closure", "all that A can influence, by which paths", "a", "file")
    for each in (reach, closure):
        each.add_argument(
            "--by", action="append", choices=BY, metavar="INFLUENCE",
            help=f"count these alone (repeatable): {', '.join(BY)}",
        )  # fmt: skip
        each.add_argument(
            "--without", action="append", default=[], metavar="NAME", help="not through NAME (repeatable)"
        )
    _add(actions, "diff", "authority gained and lost from OLD to NEW; exit status 0 or 1", "old", "new")
    check = _add(actions, "check", "the rules of system files, with every program; exit status 0 or 1")
    check.add_argument("files", nargs="+", metavar="FILE", help="a system file")


_WORDS: dict[str, dict[str, Any]] = {
    "a": {"metavar": "A", "help": 'a component, device or program; "program" is any program'},
    "b": {"metavar": "B", "help": "another"},
    "file": {"metavar": "FILE", "nargs": "?", "help": "a system file (default: the running system)"},
    "old": {"metavar": "OLD", "help": "a system file"},
    "new": {"metavar": "NEW", "help": "another"},
}


def _add(actions: Any, name: str, summary: str, *words: str) -> Parser:
    parser: Parser = actions.add_parser(name, help=summary, description=f"{summary[0].upper()}{summary[1:]}.")
    for word in words:
        parser.add_argument(word, **_WORDS[word])
    _add_json(parser, argparse.SUPPRESS)
    add_system_option(parser, argparse.SUPPRESS)
    return parser


def _add_json(parser: argparse.ArgumentParser, default: Any) -> None:
    parser.add_argument("--json", action="store_true", default=default, help="for machines, with every field")


def run(options: argparse.Namespace) -> int:
    """Do it; returns the exit status."""
    return {
        "graph": _graph, "reach": _reach, "closure": _closure, "diff": _diff, "check": _check
    }.get(options.action, _show)(options)  # fmt: skip


def _show(options: argparse.Namespace) -> int:
    with Control(options.system) as control:
        policy = control.execute("policy")
    if options.json:
        print_json(policy)
    else:
        show(policy)
    return 0


def _graph(options: argparse.Namespace) -> int:
    subject = _subject(options)
    if options.svg:
        if options.json:
            raise CommandError("--svg and --json exclude each other; leave one out")
        from vmm.authority_drawing import svg

        sys.stdout.write(svg(authority.alike(subject.graph), f"What the system {subject.name} allows"))
    elif options.json:
        edges = [edge._asdict() for edge in subject.graph.edges]
        nodes = [
            {"name": node, "kind": kind, "own": subject.graph.own[node]}
            for node, kind in subject.graph.nodes.items()
        ]
        print_json({"system": subject.name, "nodes": nodes, "edges": edges, "left_out": subject.left_out})
    else:
        table = Table(["from", "to", "by", "what"])
        for edge in authority.alike(subject.graph).edges:
            table.row(edge.source, edge.target, edge.by, _briefly(edge.what))
        table.show()
        if subject.left_out:
            print(f"\nno route serves these programs, they cannot run here: {', '.join(subject.left_out)}")
    return 0


def _briefly(what: Sequence[str]) -> str:
    """Operations with their protocol once."""
    protocol, dot, _ = what[0].partition(".")
    return " ".join([what[0], *(each.removeprefix(f"{protocol}.") if dot else each for each in what[1:])])


def _reach(options: argparse.Namespace) -> int:
    subject = _subject(options)
    targets = _known(subject, options.b)
    found = [
        paths[target]
        for source in _known(subject, options.a)
        for paths in [_paths(subject, source, options)]
        for target in targets
        if target in paths
    ]
    path = min(found, key=len, default=None)
    if options.json:
        print_json({"reachable": path is not None, "path": [edge._asdict() for edge in path or ()]})
    elif path:
        print(authority.path_text(path))
    else:
        print(f"{options.a} cannot influence {options.b}")
    return 0 if path else NO


def _closure(options: argparse.Namespace) -> int:
    subject = _subject(options)
    shortest: dict[str, tuple[authority.Influence, ...]] = {}
    for source in _known(subject, options.a):
        for target, path in _paths(subject, source, options).items():
            if target not in shortest or len(path) < len(shortest[target]):
                shortest[target] = path
    ordered = sorted(shortest.items(), key=lambda each: (len(each[1]), each[0]))
    if options.json:
        print_json({target: [edge._asdict() for edge in path] for target, path in ordered})
        return 0
    table = Table(["steps", "influences", "path"], ["steps"])
    for target, path in ordered:
        table.row(len(path), target, authority.path_text(path))
    table.show()
    return 0


def _paths(
    subject: Subject, source: str, options: argparse.Namespace
) -> dict[str, tuple[authority.Influence, ...]]:
    without = {node for name in options.without for node in _known(subject, name)} - {source}
    return authority.closure(subject.graph, source, options.by or BY, without)


def _known(subject: Subject, name: str) -> list[str]:
    """The nodes that `name` stands for; CommandError if there are none."""
    if not (nodes := subject.graph.named(name)):
        from vmm.remedies import suggestion

        problem = f'nobody is called "{name}" in the system {subject.name}'
        if name in subject.left_out:
            raise CommandError(f"{problem}: no route serves that program; add one under [routes]")
        raise CommandError(f"{problem}; {suggestion(name, subject.graph.nodes, 'names')}")
    return nodes


def _diff(options: argparse.Namespace) -> int:
    old, new = (_of_file(file) for file in (options.old, options.new))
    gained, lost = authority.differences(old.graph, new.graph)
    if options.json:
        print_json({"gained": [each._asdict() for each in gained], "lost": [each._asdict() for each in lost]})
    elif gained or lost:
        table = Table(["", "from", "to", "by", "what"])
        for sign, changes in (("+", gained), ("-", lost)):
            for each in changes:
                table.row(sign, each.source, each.target or None, each.by, each.what)
        table.show()
    else:
        print("both allow the same")
    return NO if gained or lost else 0


def _check(options: argparse.Namespace) -> int:
    from vmm import rules
    from vmm.diagnosis import explain
    from vmm.document import ConfigurationError

    results: list[dict[str, Any]] = []
    for file in options.files:
        error = None
        held: list[str] = []
        try:
            held = rules.check(Path(file), _policies(file)[0])
        except ConfigurationError as problem:
            error = explain(vars(problem))
        results.append({"file": file, "rules": held, "error": error})
    if options.json:
        print_json(results)
    else:
        for each in results:
            print(each["error"] or f"{each['file']}: {', '.join(each['rules']) or 'no rules'}: ok")
    return NO if any(each["error"] for each in results) else 0


def _subject(options: argparse.Namespace) -> Subject:
    """The system in the file that is named, or else the running one."""
    if options.file:
        return _of_file(options.file)
    with Control(options.system) as control:
        policy = control.execute("policy")
    for channel in policy["channels"]:  # which came as text
        channel["parameter"] = channel["parameter"].encode().hex()
    return Subject(policy["name"], authority.graph([rebuild(Policy, policy)]), [])


def _of_file(file: str) -> Subject:
    from vmm.diagnosis import explain
    from vmm.document import ConfigurationError

    try:
        policies, left_out = _policies(file)
    except ConfigurationError as error:
        raise CommandError(explain(vars(error)), error.status) from None
    return Subject(policies[0].name, authority.graph(policies), left_out)


def _policies(file: str) -> tuple[list[Policy], list[str]]:
    """The policy of the system in `file` without a program and with each; programs that no route serves."""
    from vmm import needs, system
    from vmm.document import Document, SystemFileError

    needs.check(file)
    policies, left_out = [system.compile(Path(file))], []
    for program in sorted(system.known_programs(Document(Path(file), SystemFileError).table)):
        try:
            policies.append(system.compile(Path(file), program))
        except SystemFileError as error:
            if error.key != ["routes"]:
                raise
            left_out.append(program)
    return policies, left_out


def show(policy: dict[str, Any]) -> None:
    """The policy as three tables: components, channels, devices."""
    supervisor = policy["supervisor"]
    components = Table(["component", "version", "memory", "restart", "hypercalls"], ["memory"])
    for each in policy["components"]:
        restart = "program" if each["is_program"] else _restart(each["restart"])
        role = " (supervisor)" if each["name"] == supervisor else ""
        components.row(
            each["name"] + role,
            each["version"],
            unit(each["memory"]),
            restart,
            " ".join(names(Hypercall)[number] for number in each["hypercalls"]),
        )
    components.show()
    channels = Table(["client", "server", "protocol", "operations", "sees", "lends"])
    for each in policy["channels"]:
        protocol = Protocol(**each["protocol"])
        channels.row(
            f"{each['client']}.{each['client_interface']}",
            f"{each['server']}.{each['server_interface']}",
            protocol,
            " ".join(protocol.names(each["operations"])),
            each["parameter"] or None,
            _lends(each),
        )
    print()
    channels.show()
    if policy["devices"]:
        devices = Table(["device", "kind", "driver", "queues", "access"], ["queues"])
        for each in policy["devices"]:
            access = "read" if each["read_only"] else "read, write"
            devices.row(each["name"], each["kind"], each["component"], each["queues"], access)
        print()
        devices.show()


def _restart(restart: dict[str, Any]) -> str:
    """When it is restarted, what is tried against poisoned state, and who begins anew with it."""
    tried = cures(restart["poisoned"])
    poisoned = [f"poisoned: {', '.join(tried)}"] if tried else []
    group = [f"group: {', '.join(restart['group'])}"] if restart["group"] else []
    return "; ".join([restart["policy"], *poisoned, *group])


def _lends(channel: dict[str, Any]) -> str | None:
    """What the client lends to the server."""
    if channel["dma"] == "per_request" and channel["grants"]:
        return f"{channel['grants']['pages']} pages for each request"
    if channel["pool"]:
        return f"a pool of {channel['pool']['buffers']} x {unit(channel['pool']['buffer'])}"
    return None
