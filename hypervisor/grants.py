"""Grants: memory objects one component lends to the peer of a channel, until revoked.

A grant is one whole object (a descriptor is authority over all of it). Only the channel's peer may use it:
map it (once), copy, or open its device's DMA window on it. Revocation first makes new uses impossible, then
takes back what is in use, and answers the owner only when nobody can reach the object; a grantee's tender
that has not given it back by the deadline is killed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from hypervisor.channels import Connection
from hypervisor.instances import Instance
from hypervisor.memory import MemoryObject

GRANTS_MAX = 256  # of one owner
_INDEX_BITS = 16


@dataclass
class Grant:
    """One lent object. `mapped`: (grantee, address); `iova`: not 0 while a device sees it."""

    number: int
    owner: Instance
    object_index: int
    memory: MemoryObject
    connection: Connection
    rights: int
    active: bool = True  # False from the moment it is revoked
    mapped: tuple[Instance, int] | None = None
    iova: int = 0
    busy: int = 0  # operations under way that still refer to the object
    on_idle: list[Callable[[], None]] = field(default_factory=list)

    def orphan(self) -> None:
        """The grantee that has it mapped is dying: its successor may map it, but it stays in use."""
        if self.mapped is None:
            return
        instance, self.mapped = self.mapped[0], None
        self.busy += 1

        def gone() -> None:
            self.busy -= 1
            self.settle()

        instance.holds.append(gone)

    def settle(self) -> None:
        """Run what waits for the object to be out of use: nobody but the owner can reach it any more."""
        while self.on_idle and not (self.mapped or self.iova or self.busy):
            self.on_idle.pop(0)()


class GrantTable:
    """All grants of one system. Numbers carry a generation: a stale one is never taken for a new one."""

    def __init__(self) -> None:
        self._grants: dict[int, Grant] = {}
        self._generation = 0

    def add(
        self, owner: Instance, index: int, memory: MemoryObject, connection: Connection, rights: int
    ) -> Grant | None:
        """Lend object `index` of `owner`; None if it is lent already or the owner has too many grants."""
        own = [grant for grant in self._grants.values() if grant.owner is owner]
        if len(own) >= GRANTS_MAX or any(grant.object_index == index for grant in own):
            return None
        self._generation += 1
        number = self._generation << _INDEX_BITS | index
        grant = Grant(number, owner, index, memory, connection, rights)
        self._grants[number] = grant
        return grant

    def owned(self, number: int, owner: Instance) -> Grant | None:
        """The active grant `number` if `owner` made it."""
        grant = self._grants.get(number)
        return grant if grant and grant.owner is owner and grant.active else None

    def offered(self, number: int, connection: Connection, rights: int = 0) -> Grant | None:
        """The active grant `number` if it was lent over `connection` with all of `rights`."""
        grant = self._grants.get(number)
        lent = grant and grant.active and grant.connection is connection
        return grant if grant and lent and grant.rights & rights == rights else None

    def revoke(self, grant: Grant, done: Callable[[], None]) -> None:
        """Allow no new use; `done` once nothing uses the object. The caller takes back what is in use."""
        grant.active = False

        def free() -> None:
            self._grants.pop(grant.number, None)
            done()

        grant.on_idle.append(free)
        grant.settle()

    def touching(self, instance: Instance) -> Iterator[Grant]:
        """Grants `instance` owns or has mapped."""
        for grant in list(self._grants.values()):
            if grant.owner is instance or (grant.mapped and grant.mapped[0] is instance):
                yield grant

    def over(self, connection: Connection) -> Iterator[Grant]:
        """Grants lent over `connection`."""
        return (grant for grant in list(self._grants.values()) if grant.connection is connection)

    def addresses_in_use(self, instance: Instance) -> set[int]:
        """Where `instance` has grants mapped."""
        mapped = [grant.mapped for grant in self._grants.values() if grant.mapped]
        return {address for grantee, address in mapped if grantee is instance}
