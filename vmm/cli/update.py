"""`r3s3 update`: replace components of a running system by new versions, which take over their state.

Everything that can be wrong with what is asked for is found here, before anything is started. What happens
then `hypervisor/update.py` describes; it is all or nothing.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from itertools import zip_longest
from pathlib import Path
from typing import Any

from hypervisor.abi.generated import Hypercall, names
from hypervisor.policy import Component, Protocol, rebuild
from vmm.cli.command import CommandError, Parser, add_system_option
from vmm.cli.compile import as_json, load_images
from vmm.cli.control import Control

POLL_S = 0.005


def add_arguments(parser: Parser) -> None:
    """The arguments of `r3s3 update`."""
    parser.add_argument("component", metavar="COMPONENT", nargs="+", help="its name, as r3s3 ps shows it")
    parser.add_argument(
        "--image", metavar="FILE", action="append", default=[],
        help="the new ELF file; for several components one each (default: the same file, read again)",
    )  # fmt: skip
    parser.add_argument(
        "--manifest", metavar="FILE", action="append", default=[],
        help="the new manifest; for several components one each (default: nothing changes)",
    )  # fmt: skip
    parser.add_argument(
        "--allow-new-authority",
        action="store_true",
        help="the new version may be given more than the old had",
    )
    add_system_option(parser)


def run(options: argparse.Namespace) -> int:
    """Update them; returns the exit status."""
    for what in ("image", "manifest"):
        count = len(getattr(options, what))
        if count not in (0, len(options.component)):
            raise CommandError(
                f"{count} times --{what} for {len(options.component)} components; one for each"
            )
    if len(set(options.component)) < len(options.component):
        raise CommandError("a component is named twice")
    with Control(options.system) as control:
        policy = control.execute("policy")
        known = {each["name"]: rebuild(Component, each) for each in policy["components"]}
        wanted = []
        for name, image, manifest in zip_longest(options.component, options.image, options.manifest):
            if name not in known:
                raise CommandError(f"no component {name!r} in this system; there are {', '.join(known)}")
            new = known[name] if manifest is None else read(manifest, known[name], policy["channels"])
            if image is not None:
                new = replace(new, image=os.path.abspath(image))
            check(known[name], new, options.allow_new_authority)
            wanted.append(new)
        images = load_images(in_order(wanted, policy))
        try:
            components = [as_message(each) for each in images.components]
            templates = [images.templates[images.numbers[each.name]] for each in images.components]
            fds = [images.fds[images.numbers[each.name]] for each in images.components]
            control.execute_with(fds, "update", components=components, templates=templates)
            while (failed := control.execute("updated")) is None:
                time.sleep(POLL_S)
        finally:
            for fd in images.fds:
                os.close(fd)
    if failed:
        raise CommandError(f"{', '.join(options.component)}: not updated, and unchanged: {failed}")
    return 0


def read(file: str, old: Component, channels: list[dict[str, Any]]) -> Component:
    """What the manifest in `file` makes of the component `old`. CommandError where it does not fit."""
    from vmm import manifest as manifests
    from vmm.diagnosis import explain
    from vmm.document import ConfigurationError

    try:
        manifest = manifests.read(Path(file), manifests.read_protocols())
    except ConfigurationError as error:
        raise CommandError(explain(vars(error)), error.status) from None
    for problem in misfits(manifest, old.name, channels):
        raise CommandError(f"{file}: {problem}")
    folder = os.path.dirname(old.image)
    image = os.path.join(folder, manifest.component.image)
    restart = replace(manifest.component.restart, group=old.restart.group)  # that is the system's
    return replace(manifest.component, name=old.name, index=old.index, image=image, restart=restart)


def misfits(manifest: Any, name: str, channels: list[dict[str, Any]]) -> Iterator[str]:
    """Why channels that exist would not do: their number and kind cannot change while a system runs."""
    remedy = "that takes a new start of the system"
    mine = {each["client_interface"]: each for each in channels if each["client"] == name}
    for interface, uses in manifest.uses.items():
        channel = mine.get(interface)
        if channel is None:
            yield f"it uses {interface}, which the running version does not; {remedy}"
        elif Protocol(**channel["protocol"]) != uses.protocol:
            yield f"{interface} speaks {uses.protocol}, the running version another protocol; {remedy}"
        elif more := uses.protocol.names(uses.operations & ~channel["operations"]):
            yield f"{interface} asks for {', '.join(more)} more than the running version; {remedy}"
    for channel in (each for each in channels if each["server"] == name):
        interface, protocol = channel["server_interface"], Protocol(**channel["protocol"])
        serves = manifest.serves.get(interface)
        if serves is None or serves.protocol != protocol:
            yield f"it does not serve {interface} ({protocol}), which {channel['client']} uses"
        elif missing := protocol.names(channel["operations"] & ~serves.operations):
            yield f"{interface} does not serve {', '.join(missing)}, which {channel['client']} uses"


def check(old: Component, new: Component, allow: bool) -> None:
    """CommandError if the new version asks for more than the old one has, or cannot read its state."""
    more = [names(Hypercall)[number] for number in sorted(new.hypercalls - old.hypercalls)]
    grown = [f"{new.memory} bytes of memory instead of {old.memory}"] if new.memory > old.memory else []
    asked = [*(f"hypercall {each}" for each in more), *grown]
    if asked and not allow:
        raise CommandError(
            f"{new.name}: asks for more: {', '.join(asked)}; allow it with --allow-new-authority"
        )
    schemas = {state.name: state.schema for state in old.states}
    for state in new.states:
        if state.schema < schemas.get(state.name, 0):
            known = f"the new version knows schema {state.schema}"
            raise CommandError(f"{new.name}: state {state.name} has schema {schemas[state.name]}, {known}")


def in_order(wanted: list[Component], policy: dict[str, Any]) -> list[Component]:
    """Clients before their servers, so that who comes to rest can still finish what it has begun."""
    waits = {each.name: set[str]() for each in wanted}
    for channel in policy["channels"]:
        if channel["client"] in waits and channel["server"] in waits:
            waits[channel["server"]].add(channel["client"])
    ordered: list[Component] = []
    left = {each.name: each for each in wanted}
    while left:
        free = [name for name in left if not waits[name] & left.keys()] or list(left)
        ordered.append(left.pop(free[0]))
    return ordered


def as_message(component: Component) -> dict[str, Any]:
    """The component as JSON has it."""
    return {
        name: as_json(value) if isinstance(value, frozenset) else value
        for name, value in asdict(component).items()
    } | {"states": [{**asdict(each), "survives": sorted(each.survives)} for each in component.states]}
