"""Everything at random, seeded: hostile calls, deaths, stalls, lost devices; then all must come back.

What a system of fakes does is decided by the seed alone but for timers, so that a failure can be looked into.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable

import pytest

from hypervisor import hypercalls, process
from hypervisor.abi import generated as abi
from tests.hypervisor.policies import RW, STATE, storage, strict
from tests.hypervisor.world import World

NAMES = ("rs", "driver", "files")
STEPS = 300
NUMBERS = (0, 1, 2, 3, 4, 63, 64, 0xFFFF, 0x10000, 0x10001, 0x20000, 1 << 32, 1 << 63, (1 << 64) - 1)
LENDER = (abi.Hypercall.GRANT,) * 4 + (abi.Hypercall.REVOKE,) * 2 + (abi.Hypercall.COMPLAIN,)
BORROWER = (
    abi.Hypercall.MAP_GRANT,
    abi.Hypercall.UNMAP_GRANT,
    abi.Hypercall.COPY_FROM_GRANT,
    abi.Hypercall.COPY_TO_GRANT,
    abi.Hypercall.DMA_OPEN,
    abi.Hypercall.DMA_OPEN,
    abi.Hypercall.DMA_CLOSE,
)
SENSIBLE = {"rs": (abi.Hypercall.LOG,), "driver": BORROWER, "files": LENDER}
ANY = (abi.Hypercall.RECONNECT, abi.Hypercall.LOG, abi.Hypercall.OUTPUT)


class Chaos:
    """One seeded run."""

    def __init__(self, world: World, seed: int) -> None:
        self.world = world
        self.random = random.Random(seed)

    def step(self) -> None:
        """Something happens; mostly a hypercall."""
        name = self.random.choice(NAMES)
        tender = self.world.tender(name)
        if self.random.random() < 0.85:
            self.hypercall(name)
            self.world.turns(self.random.randrange(3))
            return
        match self.random.randrange(14):
            case 0 | 1:
                self.world.system.blame(self.world.live(name), abi.Fault.KILLED, "")
            case 2:
                tender.fault(self.random.choice(NUMBERS), *self.random.choices(NUMBERS, k=5))
            case 3:
                tender.die()
            case 4 | 5:
                tender.stopped = not tender.stopped
            case 6:
                tender.immortal = True
            case 7:
                self.bury()
            case 8:
                self.world.backend.die()
            case 9 | 10:
                self.world.backend.slow = not self.world.backend.slow
                self.world.backend.finish()
            case 11:
                for spare in self.world.spares(name):
                    spare.die()
            case 12:
                assert self.world.supervisor
                self.world.supervisor.alive = not self.world.supervisor.alive
            case 13:
                self.world.launcher.away = not self.world.launcher.away
        self.world.turns(self.random.randrange(20))

    def bury(self) -> None:
        """The kills that had no effect yet have it now."""
        for each in self.world.launcher.tenders:
            each.immortal = False
            if each.killed:
                each.die()

    def hypercall(self, name: str) -> None:
        """A call that is more often sensible than not, if the guest may make one."""
        tender = self.world.tender(name)
        if not tender.started or tender.instance.calling:
            return
        if not tender.instance.ready_ns:
            tender.hypercall(abi.Hypercall.READY)
            return
        args = self.random.choices(NUMBERS, k=5)
        if self.random.random() < 0.05:
            tender.hypercall(self.random.choice(sorted(abi.names(abi.Hypercall))), *args)
            return
        call = self.random.choice(SENSIBLE[name] if self.random.random() < 0.8 else ANY)
        args[0] = self.random.randrange(2) if name == "files" else 0
        if call in BORROWER or call == abi.Hypercall.REVOKE:
            args[0] = self.random.choice([*self.world.system.grants._grants, 0])
        args[1], args[2] = 0, RW if call == abi.Hypercall.GRANT else self.random.choice((0, 4095, 4096))
        tender.hypercall(call, *args, body=bytes(args[4]) if args[4] <= 4096 else b"")

    def calm(self) -> None:
        """Nothing hinders anybody any more."""
        world = self.world
        assert world.supervisor
        world.supervisor.alive = True
        world.launcher.back()
        for backend in world.launcher.backends:
            backend.slow = False
            backend.finish()
        for tender in world.launcher.tenders:
            tender.stopped = False
        self.bury()

        def settled() -> bool:
            live = [world.live(name) for name in NAMES]
            if not all(each.running and world.tender(each.name).started for each in live):
                return False
            for each in live:
                tender = world.tender(each.name)
                if not tender.instance.ready_ns and not tender.instance.calling:
                    tender.hypercall(abi.Hypercall.READY)
                    return False
            return not world.system.recoveries

        world.until(settled)
        world.turn(0.02)
        world.until(lambda: settled() and not any(world.tender(n).instance.calling for n in NAMES))
        world.turns(2)  # the last answers are read


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("kind", ["pool", "strict"])
def test_it_always_comes_back(
    make_world: Callable[..., World], monkeypatch: pytest.MonkeyPatch, kind: str, seed: int
) -> None:
    monkeypatch.setattr(hypercalls, "REVOKE_DEADLINE_S", 0.01)
    monkeypatch.setattr(process, "DEVICE_RETRY_S", 0.001)
    monkeypatch.setattr(process, "COMPLAINT_DELAYS_S", (0.0, 0.001))
    monkeypatch.setattr("hypervisor.recovery.HASTY_SHIFT_MAX", 2)
    monkeypatch.setattr("hypervisor.supervision.ANSWER_DEADLINE_NS", 30_000_000)
    world = make_world(strict() if kind == "strict" else storage(files={"states": (STATE,)}))
    chaos = Chaos(world, seed)
    for _ in range(STEPS):
        chaos.step()
    chaos.calm()

    # Both ends of each channel have, or are offered, the same rings.
    for index, connection in world.system.connections.items():
        for name in (connection.policy.client, connection.policy.server):
            if name in NAMES:
                state, epoch = world.state(name, index)
                assert state in ("open", "reopen") and epoch == connection.epoch, (name, index)
                if state == "reopen":
                    ends = [end.index for end, each in world.live(name).connections if each is connection]
                    assert world.status(name, abi.Hypercall.RECONNECT, ends[0]) == 0
                mapped = world.tender(name).windows[world.address(name, index)]
                assert mapped.inode == os.fstat(connection.rings.fd).st_ino
    assert world.status("rs", abi.Hypercall.LOG, 2, 0, 0, body=b"well") == 0

    # What the device reaches is the present epoch's, and what is lent just now.
    device = world.system.devices["driver"]
    expected = {abi.VRING_IOVA: os.fstat(device.rings.fd).st_ino}
    pool = world.system.connections[1].pool
    if pool:
        expected[abi.POOL_IOVA] = os.fstat(pool.fd).st_ino
    lent = {g.iova: os.fstat(g.memory.fd).st_ino for g in world.system.grants._grants.values() if g.iova}
    assert world.backend.windows == expected | lent

    # The owner gets back everything that it has lent.
    for grant in list(world.system.grants._grants.values()):
        assert grant.active and grant.owner is world.live("files").instance
        assert world.status("files", abi.Hypercall.REVOKE, grant.number) == 0
    assert not len(world.system.grants._grants) and world.backend.windows == expected
    world.until(lambda: len(world.system._instances) == 7)  # four running, three spares
