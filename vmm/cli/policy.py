"""`r3s3 policy show`: what a running system allows. What is not listed does not exist."""

from __future__ import annotations

import argparse
from typing import Any

from hypervisor.abi.generated import Hypercall, names
from hypervisor.policy import Protocol
from vmm.cli.command import Parser, Table, add_system_option, print_json, unit
from vmm.cli.control import Control
from vmm.poisoned import cures


def add_arguments(parser: Parser) -> None:
    """The arguments of `r3s3 policy`."""
    parser.add_argument("action", choices=["show"], nargs="?", help="show it")
    parser.add_argument("--json", action="store_true", help="for machines, with every field")
    add_system_option(parser)


def run(options: argparse.Namespace) -> int:
    """Show it; returns the exit status."""
    with Control(options.system) as control:
        policy = control.execute("policy")
    if options.json:
        print_json(policy)
    else:
        show(policy)
    return 0


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
