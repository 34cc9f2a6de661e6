"""A policy on its way to the hypervisor process: it arrives as it was compiled, or not at all."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from hypervisor.policy import Channel, Component, Policy, RestartPolicy, rebuild
from vmm import system
from vmm.cli.compile import as_json

ROOT = Path(__file__).parents[2]
SYSTEMS = sorted((ROOT / "images").glob("*.toml"))


def sent(policy: Policy) -> Any:
    return json.loads(json.dumps(asdict(policy), default=as_json))


@pytest.mark.parametrize("file", SYSTEMS, ids=lambda file: file.stem)
def test_arrives_as_it_was(file: Path) -> None:
    policy = system.compile(file)
    assert rebuild(Policy, sent(policy)) == policy


def test_every_kind_of_field_arrives() -> None:
    policy = system.compile(ROOT / "images" / "default.toml", "cat", 2)
    again = rebuild(Policy, sent(policy))
    assert again == policy
    channel = next(each for each in again.channels if each.pool)
    assert isinstance(channel.parameter, bytes)
    assert isinstance(again.components[0].hypercalls, frozenset)
    assert [each.name for each in again.components if each.is_program] == ["cat", "cat.2"]


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (RestartPolicy, {"policy": "sometimes"}),
        (RestartPolicy, {"spares": "1"}),
        (RestartPolicy, {"spares": True}),
        (RestartPolicy, {"backoff_ms": [1, "2"]}),
        (RestartPolicy, {"unknown": 1}),
        (RestartPolicy, []),
        (Component, {"name": "too few"}),
        (Channel, {"parameter": "no hex"}),
        (Policy, {"name": "x", "components": [1], "channels": [], "devices": []}),
        (Policy, None),
    ],
)
def test_nonsense_is_refused(kind: type, value: object) -> None:
    with pytest.raises((TypeError, ValueError, AttributeError)):
        rebuild(kind, value)
