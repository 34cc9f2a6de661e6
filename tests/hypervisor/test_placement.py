"""Placement: nothing overlaps, everything has a guard, and the info pages say what is there."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hypervisor import placement
from hypervisor.abi import generated as abi
from hypervisor.channels import Geometry
from hypervisor.placement import (
    GRANT_SLOT,
    GRANT_SLOTS,
    InfoPages,
    Machine,
    Placement,
    PlacementError,
    place,
)
from hypervisor.policy import Channel, Component, Device, GrantObjects, Policy, Pool, StateRegion
from tests.hypervisor.policies import DISK, STATE, channel, component, named, storage, strict

PAGE = abi.PAGE_SIZE


def policy(*channels: Channel, devices: tuple[Device, ...] = (), **changes: object) -> Policy:
    names = sorted({name for each in channels for name in (each.client, each.server)} | {"me"})
    made = [component(name, index, **(changes if name == "me" else {})) for index, name in enumerate(names)]
    return Policy("test", tuple(made), channels, devices)


def extents(made: Placement) -> list[tuple[int, int]]:
    """(start, end) of everything that is mapped, in order."""
    found = [
        (end.address, end.address + Geometry.of(end.channel.slots, end.channel.slot_data).size)
        for end in made.ends
    ]
    found += [(region.address, region.address + region.size) for region in made.regions if region.address]
    found.append((made.grants_writable, made.grants_writable + GRANT_SLOTS * GRANT_SLOT))
    found.append((made.grants_read_only, made.grants_read_only + GRANT_SLOTS // 2 * GRANT_SLOT))
    found.append((abi.RO_WINDOW, abi.RO_WINDOW + PAGE))  # the status page
    return sorted(found)


def check(made: Placement) -> None:
    places = extents(made)
    for (_, end), (start, _) in itertools.pairwise(places):
        assert end + placement._GUARD <= start + PAGE, "room between neighbours"
        assert end <= start
    for start, end in places:
        assert start % PAGE == 0
        writable = start >= abi.RW_WINDOW and end <= abi.RW_WINDOW + abi.RW_WINDOW_SIZE
        assert writable or (start >= abi.RO_WINDOW and end <= abi.RO_WINDOW + abi.RO_WINDOW_SIZE)
    for address in [made.grants_read_only] + [r.address for r in made.regions if r.name == "arguments"]:
        assert address >= abi.RO_WINDOW


channels = st.builds(
    lambda mine, slots, pages, pool, grants: (mine, slots, pages, pool, grants),
    st.booleans(),
    st.sampled_from([1, 4, 64]),
    st.integers(1, 4),
    st.none() | st.builds(Pool, st.integers(1, 8), st.sampled_from([PAGE, 16 * PAGE])),
    st.none() | st.builds(GrantObjects, st.integers(1, 3), st.integers(1, 256), st.just(3)),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(channels, max_size=10), st.integers(0, 3), st.booleans(), st.integers(0, 100_000))
def test_nothing_overlaps(
    wanted: list[tuple[bool, int, int, Pool | None, GrantObjects | None]],
    states: int,
    device: bool,
    arguments: int,
) -> None:
    made = policy(
        *(
            channel(
                index,
                "me" if mine else f"peer{index}",
                f"peer{index}" if mine else "me",
                slots=slots,
                slot_data=pages * PAGE,
                pool=pool,
                grants=grants,
            )
            for index, (mine, slots, pages, pool, grants) in enumerate(wanted)
        ),
        devices=(Device("disk0", "me", "disk", "virtio-blk", 2, 128, "i0"),) if device else (),
        states=tuple(StateRegion(f"s{n}", 100 * (n + 1), 1, frozenset()) for n in range(states)),
    )
    for each in made.components:
        check(place(made, each, arguments))


def test_it_is_the_same_every_time() -> None:
    made = storage()
    for each in made.components:
        assert extents(place(made, each)) == extents(place(made, each))


def test_too_much_for_a_window() -> None:
    made = policy(*(channel(n, "me", "peer", slots=256, slot_data=abi.SLOT_DATA_MAX) for n in range(3)))
    with pytest.raises(PlacementError) as caught:
        place(made, named(made, "me"))
    assert str(caught.value) == (
        "component me: its channels, pools and grants do not fit; lower slots, slot_data, buffers or clients"
    )


def test_too_many_channels() -> None:
    made = policy(*(channel(n, "me", f"p{n}", slots=1) for n in range(abi.CHANNELS + 1)))
    with pytest.raises(PlacementError, match="65 channels and 1 regions; at most 64 and 64 fit"):
        place(made, named(made, "me"))


def test_a_grant_object_that_nobody_could_map() -> None:
    made = strict(pages=GRANT_SLOT // PAGE + 1)
    with pytest.raises(PlacementError, match="component files: a grant object of 1052672 bytes"):
        place(made, named(made, "files"))
    place(strict(pages=GRANT_SLOT // PAGE), named(made, "files"))


def test_arguments_that_are_too_long() -> None:
    made = storage()
    with pytest.raises(PlacementError):
        place(made, named(made, "app"), abi.RO_WINDOW_SIZE)


def info(made: Policy, of: Component, arguments: int = 0) -> tuple[Placement, InfoPages]:
    placed = place(made, of, arguments)
    return placed, InfoPages(placed, (0x400000, 0x1000), Machine(2_600_000, 2, 5000))


def entries(pages: bytes, placed: Placement) -> tuple[list[abi.ChannelEntry], list[abi.RegionEntry]]:
    channels = [
        abi.ChannelEntry.unpack(pages, abi.INFO_CHANNELS + n * abi.ChannelEntry.SIZE)
        for n in range(len(placed.ends))
    ]
    regions = [
        abi.RegionEntry.unpack(pages, abi.INFO_REGIONS + n * abi.RegionEntry.SIZE)
        for n in range(len(placed.regions))
    ]
    return channels, regions


def test_info_pages_of_a_driver() -> None:
    made = storage(driver={"states": (STATE,)})
    placed, pages = info(made, named(made, "driver"))
    pages.set_device(0x55, b"config")
    pages.begin(7, abi.Start.RESTART, 99, [3], (2, 5))
    whole = pages.whole()
    said = abi.Info.unpack(whole)
    assert (said.magic, said.abi_version, said.name) == (abi.INFO_MAGIC, abi.ABI_VERSION, b"driver")
    assert (said.epoch, said.start, said.instance) == (7, abi.Start.RESTART, 99)
    assert (said.channels, said.regions, said.cpus, said.tsc_khz) == (1, 4, 2, 2_600_000)
    assert (said.heap_base, said.heap_size, said.spin_ns) == (0x400000, 0x1000, 5000)
    channels, regions = entries(whole, placed)
    server = channels[0]
    assert (server.name, server.peer, server.role) == (b"i1", b"files", abi.Role.SERVER)
    assert (server.slots, server.slot_data, server.epoch, server.doorbell) == (4, PAGE, 3, 0)
    assert server.address == placed.ends[0].address and server.protocol == 1 << 16 | 1
    assert server.operations == 0b1110 and server.deadline_ms == 500
    assert server.data_offset == Geometry.of(4, PAGE).data and server.size == Geometry.of(4, PAGE).size
    by_kind = {region.kind: region for region in regions}
    assert by_kind[abi.RegionKind.VRING].iova == abi.VRING_IOVA
    pool = by_kind[abi.RegionKind.POOL]
    assert (pool.address, pool.iova, pool.size, pool.unit) == (0, abi.POOL_IOVA, 4 * PAGE, PAGE)
    assert pool.channel == 0, "the component's own number of the channel"
    assert by_kind[abi.RegionKind.STATE].name == STATE.name.encode()
    assert by_kind[abi.RegionKind.STATE].channel == 0xFFFFFFFF
    state = by_kind[abi.RegionKind.STATE]
    assert (state.schema, state.on_corruption) == (STATE.schema, STATE.on_corruption)
    assert (STATE.schema, STATE.on_corruption) == (3, abi.OnCorruption.FRESH)
    device = whole[abi.INFO_DEVICE : abi.INFO_DEVICE + 14]
    assert device == (0x55).to_bytes(8, "little") + b"config"


def test_info_pages_of_a_server_with_parameters() -> None:
    made = storage()
    placed, pages = info(made, named(made, "files"))
    channels, _ = entries(pages.whole(), placed)
    client, server = channels
    assert (client.role, client.parameter_length) == (abi.Role.CLIENT, 0)
    at = abi.INFO + server.parameter_offset - abi.INFO
    assert pages.whole()[at : at + server.parameter_length] == b"/usr"
    _, other = info(made, named(made, "app"), 10)
    assert b"/usr" not in other.whole(), "a client does not see what its server is told about it"


def test_parameters_that_do_not_fit() -> None:
    made = policy(*(channel(n, f"p{n}", "me", slots=1, parameter=bytes(255)) for n in range(40)))
    with pytest.raises(PlacementError, match="channel parameters do not fit"):
        info(made, named(made, "me"))


def test_two_pools_of_a_driver_do_not_overlap_in_the_device() -> None:
    made = policy(
        channel(0, "a", "me", pool=Pool(3, PAGE), server_interface="i1"),
        channel(1, "b", "me", pool=Pool(2, PAGE)),
        channel(2, "c", "me", pool=Pool(2, PAGE)),  # of an interface that the device is not for
        devices=(Device(**{**DISK.__dict__, "component": "me"}),),
    )
    placed = place(made, named(made, "me"))
    one, two = (region for region in placed.regions if region.kind == abi.RegionKind.POOL)
    assert one.iova + one.size < two.iova
    assert placed.region(abi.RegionKind.POOL, 1) is two
