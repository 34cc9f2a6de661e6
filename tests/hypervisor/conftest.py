"""Worlds that end with their test."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator

import pytest

from hypervisor.policy import Policy
from tests.hypervisor.policies import storage
from tests.hypervisor.world import World


@pytest.fixture
def make_world(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., World]]:
    """`World` of a policy."""
    worlds: list[World] = []

    def make(policy: Policy | None = None, *, spares: bool = True, foreseen: Collection[int] = ()) -> World:
        worlds.append(World(policy or storage(), monkeypatch, spares=spares, foreseen=foreseen))
        return worlds[-1]

    yield make
    for world in worlds:
        for tender in world.launcher.tenders:
            tender.immortal = tender.stopped = False
        world.close()


@pytest.fixture
def world(make_world: Callable[..., World]) -> World:
    """A booted `storage` system."""
    return make_world()
