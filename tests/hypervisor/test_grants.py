"""The grant table and single devices, without a system around them."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from hypervisor.abi import generated as abi
from hypervisor.channels import Connection
from hypervisor.dma import LiveDevice
from hypervisor.grants import Grant, GrantTable
from hypervisor.instances import Instance
from hypervisor.memory import MemoryObject
from tests.hypervisor.policies import DISK, RW, channel, component
from tests.hypervisor.world import FakeBackend


class Lending:
    """An owner, a grantee and one object on a channel between them."""

    def __init__(self) -> None:
        self.table = GrantTable()
        self.owner, self.grantee = Instance(component("files")), Instance(component("driver"))
        self.connection = Connection(channel(0, "files", "driver"))
        self.memory = MemoryObject("grant", abi.PAGE_SIZE)
        self.done: list[str] = []

    def add(self, index: int = 0, rights: int = RW) -> Grant:
        grant = self.table.add(self.owner, index, self.memory, self.connection, rights)
        assert grant
        return grant

    def revoke(self, grant: Grant, name: str = "revoked") -> None:
        self.table.revoke(grant, lambda: self.done.append(name))


@pytest.fixture
def lending() -> Iterator[Lending]:
    made = Lending()
    yield made
    for instance in (made.owner, made.grantee):
        instance.close()
        instance.ram.close()
    made.memory.close()
    made.connection.rings.close()
    os.close(made.connection.client_wake)
    os.close(made.connection.server_wake)


def test_an_object_is_lent_once_at_a_time(lending: Lending) -> None:
    grant = lending.add()
    assert lending.table.add(lending.owner, 0, lending.memory, lending.connection, RW) is None
    lending.add(1)
    lending.revoke(grant)
    assert lending.done == ["revoked"] and not grant.active
    again = lending.add()
    assert again.number != grant.number and len(lending.table._grants) == 2


def test_who_may_do_what_with_a_number(lending: Lending) -> None:
    grant = lending.add(rights=abi.GrantRights.READ)
    other = Connection(channel(1, "x", "y"))
    table, number = lending.table, grant.number
    assert table.owned(number, lending.owner) is grant
    assert table.owned(number, lending.grantee) is None
    assert table.offered(number, lending.connection) is grant
    assert table.offered(number, other) is None
    assert table.offered(number, lending.connection, abi.GrantRights.READ) is grant
    assert table.offered(number, lending.connection, RW) is None
    lending.revoke(grant)
    assert table.owned(number, lending.owner) is None
    assert table.offered(number, lending.connection) is None
    other.rings.close()
    os.close(other.client_wake)
    os.close(other.server_wake)


def test_a_revocation_waits_for_every_use(lending: Lending) -> None:
    grant = lending.add()
    grant.mapped = (lending.grantee, 0x1000)
    grant.iova, grant.busy = 5, 1
    lending.revoke(grant)
    assert not grant.active
    assert lending.table.offered(grant.number, lending.connection) is None, "no new use"
    assert lending.table.owned(grant.number, lending.owner) is None, "nor a second revocation"
    for change in ("mapped", "iova", "busy"):
        assert lending.done == []
        setattr(grant, change, None if change == "mapped" else 0)
        grant.settle()
    assert lending.done == ["revoked"] and not len(lending.table._grants)
    grant.settle()
    assert lending.done == ["revoked"]


def test_revoked_by_its_owner_and_by_its_death(lending: Lending) -> None:
    grant = lending.add()
    grant.busy = 1
    lending.revoke(grant, "asked")
    lending.revoke(grant, "died")
    grant.busy = 0
    grant.settle()
    assert lending.done == ["asked", "died"]


def test_an_orphaned_mapping(lending: Lending) -> None:
    grant = lending.add()
    grant.orphan()
    assert not grant.busy, "nobody had it mapped"
    grant.mapped = (lending.grantee, 0x1000)
    grant.orphan()
    assert grant.mapped is None and grant.busy == 1
    lending.revoke(grant)
    assert lending.done == []
    for hold in lending.grantee.holds:
        hold()
    assert lending.done == ["revoked"]


def test_addresses_in_use(lending: Lending) -> None:
    for index, address in enumerate((0x1000, 0x3000, 0x7000)):
        lending.add(index).mapped = (lending.grantee, address)
    lending.add(3)
    table = lending.table
    assert table.addresses_in_use(lending.grantee) == {0x1000, 0x3000, 0x7000}
    assert table.addresses_in_use(lending.owner) == set()
    assert len(list(table.touching(lending.owner))) == 4
    assert len(list(table.touching(lending.grantee))) == 3
    assert len(list(table.over(lending.connection))) == 4


# -- a device -------------------------------------------------------------------------------------------


@pytest.fixture
def device() -> Iterator[LiveDevice]:
    made = LiveDevice(DISK)
    made.backend = FakeBackend(lambda _: None, lambda _: None)
    yield made
    made.rings.close()
    for pair in made.eventfds:
        for fd in pair:
            os.close(fd)


def fake(device: LiveDevice) -> FakeBackend:
    assert isinstance(device.backend, FakeBackend)
    return device.backend


def test_without_a_backend_everything_is_answered(device: LiveDevice, lending: Lending) -> None:
    device.backend = None
    answers: list[object] = []
    device.start([])
    device.open(lending.memory, answers.append)
    device.shut(5, answers.append)
    device.stop(answers.append)
    assert answers == [0, True, False] and (device.features, device.config) == (0, b"")


def test_an_epoch_of_a_device(device: LiveDevice, lending: Lending) -> None:
    answers: list[object] = []
    device.start([(abi.POOL_IOVA, lending.memory)])
    first = device.rings
    assert set(fake(device).windows) == {abi.VRING_IOVA, abi.POOL_IOVA} and fake(device).queues == 1
    device.open(lending.memory, answers.append)
    device.open(lending.memory, answers.append)
    one, two = (int(str(each)) for each in answers)
    assert two >= one + lending.memory.size + abi.PAGE_SIZE, "a gap: running off a window is a fault"
    device.shut(one, answers.append)
    device.shut(one, answers.append)
    device.shut(12345, answers.append)
    assert answers[2:] == [True] * 3 and fake(device).calls.count("close window") == 1
    ahead = device.next_rings
    device.renew()
    device.stop(answers.append)
    # The windows of requests are closed; what came with the start stays until the next one replaces it.
    assert set(fake(device).windows) == {abi.VRING_IOVA, abi.POOL_IOVA}
    assert device.rings is ahead is not first and first.fd == -1
    device.stop(answers.append)
    assert answers[5:] == [True, True] and fake(device).calls.count("stop") == 1


def test_a_window_that_opens_after_its_driver_has_died(device: LiveDevice, lending: Lending) -> None:
    answers: list[object] = []
    device.start([])
    backend = fake(device)
    backend.slow = True
    device.open(lending.memory, lambda iova: answers.append(f"opened {iova}"))
    device.renew()
    device.stop(lambda drained: answers.append(f"drained {drained}"))
    opening = backend.waiting.pop(0)
    opening(True)
    assert answers == [] and len(backend.windows) == 2
    backend.finish()
    assert answers == ["drained True", "opened 0"] and set(backend.windows) == {abi.VRING_IOVA}
