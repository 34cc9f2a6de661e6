"""Small policies for tests."""

from __future__ import annotations

from dataclasses import replace

from hypervisor.abi import generated as abi
from hypervisor.policy import (
    Channel,
    Component,
    Device,
    GrantObjects,
    Policy,
    Pool,
    Protocol,
    RestartPolicy,
    StateRegion,
)

EVERY_CALL = frozenset(abi.names(abi.Hypercall))
PAGE = abi.PAGE_SIZE
RW = abi.GrantRights.READ | abi.GrantRights.WRITE


def component(name: str, index: int = 0, **changes: object) -> Component:
    """A component of 64 KiB that may do everything."""
    plain = Component(
        name=name,
        index=index,
        image=f"{name}.elf",
        version="1.0.0",
        vendor="r3s3",
        memory=16 * PAGE,
        memory_kind="shared",
        hypercalls=EVERY_CALL,
        restart=RestartPolicy(),
        heartbeat_ms=0,
    )
    return replace(plain, **changes)  # type: ignore[arg-type]


def named(policy: Policy, name: str) -> Component:
    """The component of `policy` called `name`."""
    return next(each for each in policy.components if each.name == name)


def channel(index: int, client: str, server: str, **changes: object) -> Channel:
    """A channel `client`.i<index> -> `server`.i<index> of 4 slots with a page of data each."""
    plain = Channel(
        index=index,
        client=client,
        client_interface=f"i{index}",
        server=server,
        server_interface=f"i{index}",
        protocol=Protocol("blk", 1, 1, {"read": 2, "write": 3}),
        slots=4,
        slot_data=PAGE,
        operations=0b1110,
        deadline_ms=500,
        on_restart=abi.OnRestart.REPLAY,
    )
    return replace(plain, **changes)  # type: ignore[arg-type]


SUPERVISE = channel(0, "hypervisor", "rs", protocol=Protocol("supervise", 4, 1, {}))
DISK = Device(
    name="disk0",
    component="driver",
    interface="disk",
    kind="virtio-blk",
    queues=1,
    queue_size=128,
    channel_interface="i1",
)


def storage(**changes: object) -> Policy:
    """rs; driver (with a disk); files -> driver, with a pool; the program app -> files.

    Changes to single components and channels by name: driver={"states": ...}, blk={"dma": ...}.
    """

    def changed(name: str) -> dict[str, object]:
        value = changes.pop(name, {})
        assert isinstance(value, dict)
        return value

    policy = Policy(
        name="storage",
        components=(
            component("rs", 0, **changed("rs")),
            component("driver", 1, **changed("driver")),
            component("files", 2, **changed("files")),
            component("app", 3, is_program=True, restart=RestartPolicy("never", spares=0), **changed("app")),
        ),
        channels=(
            SUPERVISE,
            channel(1, "files", "driver", **({"pool": Pool(4, PAGE), "dma": "pool"} | changed("blk"))),
            channel(2, "app", "files", parameter=b"/usr", **changed("fs")),
        ),
        devices=(DISK,),
        supervisor="rs",
    )
    return replace(policy, **changes)  # type: ignore[arg-type]


def strict(
    count: int = 2, pages: int = 1, rights: int = RW | abi.GrantRights.COPY, **changes: object
) -> Policy:
    """`storage`, but files lends single objects to the driver instead of a pool."""
    lent = {"pool": None, "grants": GrantObjects(count, pages, rights), "dma": "per_request"}
    return storage(blk=lent, **changes)


STATE = StateRegion("open_files", 2 * PAGE, 3, frozenset({"crash", "update"}), abi.OnCorruption.FRESH)
