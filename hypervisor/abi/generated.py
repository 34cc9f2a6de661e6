"""Generated from hypervisor/abi/abi.toml by `python -m hypervisor.abi.generate`. Do not edit."""

from __future__ import annotations

from typing import Final

from hypervisor.abi.layout import Layout

ABI_VERSION: Final = 1

# limits
PAGE_SIZE: Final = 4096
CHANNELS: Final = 64  # channels of one VM, client and server ends together
REGIONS: Final = 64  # memory objects of one VM other than channels
DOORBELLS: Final = 128  # doorbell slots of one VM
CHANNEL_SLOTS_MAX: Final = 256  # request slots of one channel; a power of two
SLOT_DATA_MAX: Final = 0x100000  # bytes of data area that belong to one slot
VM_MEMORY_MAX: Final = 0x40000000
NAME_MAX: Final = 16  # bytes of an interface name, NUL padded
ARGS_MAX: Final = 0x200000  # bytes of a program's arguments
LOG_MAX: Final = 1024  # bytes of one log or panic message
OUTPUT_MAX: Final = 0x10000  # bytes of one output hypercall

# memory_map
NULL_GUARD_END: Final = 0x10000  # never mapped
IDT: Final = 0x10000  # trap page, supervisor read-only: 256 gates
GDT: Final = 0x11000  # GDT at +0, TSS at +0x800, supervisor read-only
TRAP_STUBS: Final = 0x12000  # 256 stubs of 16 bytes, supervisor execute
TRAP_STACK: Final = 0x13000  # page the CPU pushes exception frames to, supervisor read-write
TRAP_STACK_IST: Final = 0x14000  # the same for #DF and NMI
PAGE_TABLES: Final = 0x20000  # not mapped; up to PAGE_TABLES_END
PAGE_TABLES_END: Final = 0x100000
INFO: Final = 0x100000  # read-only pages: info, channels, regions, device, parameters
INFO_PAGES: Final = 6
IMAGE_BASE: Final = 0x200000  # lowest address an ELF segment may have
STACK_SIZE: Final = 0x40000  # at the end of memory, an unmapped guard page below it
HYPERCALL_PAGE: Final = 0x60000000
DOORBELL_PAGE: Final = 0x60001000  # doorbell d is the 4-byte store to DOORBELL_PAGE + 8 * d
RW_WINDOW: Final = 0x80000000  # channels, pools, grant objects, vrings, state, telemetry, writable grants
RW_WINDOW_SIZE: Final = 0x20000000
RO_WINDOW: Final = 0xa0000000  # status page, arguments, read-only grants
RO_WINDOW_SIZE: Final = 0x4000000

# info_layout: offsets from INFO
INFO_CHANNELS: Final = 0x1000  # 64 entries of 128 bytes
INFO_REGIONS: Final = 0x3000  # 64 entries of 64 bytes
INFO_DEVICE: Final = 0x4000  # features u64 at +0, configuration space (256 bytes) at +8
INFO_PARAMETERS: Final = 0x4200  # channel parameters (for example the subtree a client may see), to the end
INFO_MAGIC: Final = 0x3353335232494e46

# channel_layout: offsets in a channel's memory object; each index has a cache line and one writer
CHANNEL_REQUEST_TAIL: Final = 0x0  # client: requests published (u32, wraps)
CHANNEL_CLIENT_SLEEP: Final = 0x40  # client: 1 while it sleeps
CHANNEL_CLIENT_WAKE_AT: Final = 0x44  # client: ring only when reply_tail - wake_at >= 0 (as i32)
CHANNEL_REPLY_HEAD: Final = 0x80  # client: replies consumed
CHANNEL_REQUEST_HEAD: Final = 0x100  # server: requests consumed
CHANNEL_SERVER_SLEEP: Final = 0x140  # server: 1 while it sleeps
CHANNEL_REPLY_TAIL: Final = 0x180  # server: replies published
CHANNEL_PARKED: Final = 0x1c0  # server: requests it holds on purpose (long polls)
CHANNEL_REQUESTS: Final = 0x1000  # request slots; the reply slots follow, then (page aligned) the data area

# vring_layout: one virtqueue = one stride in the driver's vring object
VRING_STRIDE: Final = 0x10000
VRING_DESCRIPTORS: Final = 0x0
VRING_AVAILABLE: Final = 0x1000
VRING_USED: Final = 0x2000
VRING_PRIVATE: Final = 0x8000  # 32 KiB the driver may use for request headers and status bytes
VRING_SIZE_MAX: Final = 256
VRING_IOVA: Final = 0x100000000  # where the device sees the vring object
POOL_IOVA: Final = 0x200000000  # where it sees the pool
GRANT_IOVA: Final = 0x300000000  # where per-request windows open

# doorbells
DOORBELL_CHANNEL: Final = 0  # + channel index
DOORBELL_QUEUE: Final = 64  # + virtqueue index

# status_page: first page of the read-only window: one entry per channel, written by the hypervisor
STATUS_ENTRY_SIZE: Final = 16  # u32 state, u32 epoch, u64 reserved

# telemetry_layout
TELEMETRY_REPLAYS: Final = 0x400
TELEMETRY_REPLAY_SLOTS: Final = 128

# channel_state
CHANNEL_STATE_UNUSED: Final = 0
CHANNEL_STATE_OPEN: Final = 1  # usable
CHANNEL_STATE_DEAD: Final = 2  # the peer is dead; deadlines stand still
CHANNEL_STATE_REOPEN: Final = 3  # new rings wait: call `reconnect`
CHANNEL_STATE_GONE: Final = 4  # the peer will not come back (its manifest said so)
CHANNEL_STATE_NAMES: Final[dict[int, str]] = {0: "unused", 1: "open", 2: "dead", 3: "reopen", 4: "gone"}

# role
ROLE_CLIENT: Final = 1
ROLE_SERVER: Final = 2
ROLE_NAMES: Final[dict[int, str]] = {1: "client", 2: "server"}

# start
START_FRESH: Final = 0
START_RESTART: Final = 1
START_UPDATE: Final = 2
START_NAMES: Final[dict[int, str]] = {0: "fresh", 1: "restart", 2: "update"}

# on_restart
ON_RESTART_REPLAY: Final = 0  # unanswered idempotent requests are sent again
ON_RESTART_FAIL: Final = 1  # every unanswered request fails with `dead`
ON_RESTART_NAMES: Final[dict[int, str]] = {0: "replay", 1: "fail"}

# region_kind
REGION_KIND_POOL: Final = 1  # I/O buffers of a channel (addr 0: offsets only, not mapped here)
REGION_KIND_VRING: Final = 2
REGION_KIND_GRANT_OBJECT: Final = 3  # memory this component may lend
REGION_KIND_STATE: Final = 4
REGION_KIND_TELEMETRY: Final = 5
REGION_KIND_ARGUMENTS: Final = 6
REGION_KIND_NAMES: Final[dict[int, str]] = {
    1: "pool", 2: "vring", 3: "grant_object", 4: "state", 5: "telemetry", 6: "arguments",
}

# log_level
LOG_LEVEL_ERROR: Final = 0
LOG_LEVEL_WARNING: Final = 1
LOG_LEVEL_INFO: Final = 2
LOG_LEVEL_DEBUG: Final = 3
LOG_LEVEL_NAMES: Final[dict[int, str]] = {0: "error", 1: "warning", 2: "info", 3: "debug"}

# stream
STREAM_STDOUT: Final = 1
STREAM_STDERR: Final = 2
STREAM_NAMES: Final[dict[int, str]] = {1: "stdout", 2: "stderr"}

# complaint: how a peer broke the protocol, as verified by who complains; components have reasons of their own
# from 100
COMPLAINT_INDEX: Final = 1  # a ring index that runs ahead of what fits
COMPLAINT_EPOCH: Final = 2  # a slot of another epoch than the channel's
COMPLAINT_TAG: Final = 3  # a request whose data buffer is in use, or a reply to nothing
COMPLAINT_BUFFER: Final = 4  # a data buffer the channel does not have
COMPLAINT_OPERATION: Final = 5  # a reply to another operation than the one requested
COMPLAINT_LENGTH: Final = 6  # more bytes than a data buffer has
COMPLAINT_STATUS: Final = 7  # a reply with a positive status
COMPLAINT_NAMES: Final[dict[int, str]] = {
    1: "index", 2: "epoch", 3: "tag", 4: "buffer", 5: "operation", 6: "length", 7: "status",
}

# grant_rights
GRANT_RIGHTS_READ: Final = 1
GRANT_RIGHTS_WRITE: Final = 2
GRANT_RIGHTS_COPY: Final = 4  # by `copy_from_grant` and `copy_to_grant` only, never mapped
GRANT_RIGHTS_NAMES: Final[dict[int, str]] = {1: "read", 2: "write", 4: "copy"}

# error: results of hypercalls and replies, as negative numbers; Linux's where Linux has one
ERROR_PERM: Final = -1
ERROR_NOENT: Final = -2
ERROR_IO: Final = -5
ERROR_TOOBIG: Final = -7
ERROR_BADF: Final = -9
ERROR_AGAIN: Final = -11
ERROR_NOMEM: Final = -12
ERROR_ACCESS: Final = -13
ERROR_BUSY: Final = -16
ERROR_EXIST: Final = -17
ERROR_NOTDIR: Final = -20
ERROR_ISDIR: Final = -21
ERROR_INVAL: Final = -22
ERROR_NOSPC: Final = -28
ERROR_ROFS: Final = -30
ERROR_RANGE: Final = -34
ERROR_NAMETOOLONG: Final = -36
ERROR_NOSYS: Final = -38
ERROR_LOOP: Final = -40
ERROR_OVERFLOW: Final = -75
ERROR_TIMEOUT: Final = -110
ERROR_STALE: Final = -116
ERROR_CANCELED: Final = -125
ERROR_DEAD: Final = -200  # the peer died and the request is not repeatable
ERROR_CORRUPT: Final = -201  # a checksum or a structure is wrong
ERROR_GAP: Final = -202  # events were lost
ERROR_PROTOCOL: Final = -203  # the peer broke the protocol
ERROR_NAMES: Final[dict[int, str]] = {
    -1: "perm", -2: "noent", -5: "io", -7: "toobig", -9: "badf", -11: "again", -12: "nomem", -13: "access",
    -16: "busy", -17: "exist", -20: "notdir", -21: "isdir", -22: "inval", -28: "nospc", -30: "rofs",
    -34: "range", -36: "nametoolong", -38: "nosys", -40: "loop", -75: "overflow", -110: "timeout",
    -116: "stale", -125: "canceled", -200: "dead", -201: "corrupt", -202: "gap", -203: "protocol",
}

# fault: why an instance ended
FAULT_NONE: Final = 0
FAULT_EXCEPTION: Final = 1  # vector, error code, address
FAULT_UNKNOWN_HYPERCALL: Final = 2
FAULT_DENIED_HYPERCALL: Final = 3  # not in its manifest
FAULT_WINDOW: Final = 4  # touched a window address where nothing is mapped (never granted, or revoked)
FAULT_PHYSICAL: Final = 5  # touched a guest-physical address outside every slot
FAULT_DOORBELL: Final = 6  # rang a doorbell it does not have
FAULT_TRIPLE_FAULT: Final = 7
FAULT_PANIC: Final = 8
FAULT_EXITED: Final = 9  # a component returned although it serves
FAULT_KILLED: Final = 10  # by the operator
FAULT_TENDER_DIED: Final = 11
FAULT_TENDER_UNRESPONSIVE: Final = 12
FAULT_HUNG: Final = 13
FAULT_REVOKE_DEADLINE: Final = 14  # did not give a grant back
FAULT_BAD_ARGUMENT: Final = 15  # a hypercall argument no correct program sends
FAULT_DEVICE_DIED: Final = 16
FAULT_DMA: Final = 17  # the device was sent outside its window
FAULT_MEMORY: Final = 18  # out of memory
FAULT_PROTOCOL: Final = 19  # broke a channel's protocol, as verified by the hypervisor
FAULT_INTERNAL: Final = 20  # KVM refused to run the VM
FAULT_REPLACED: Final = 21  # by an update
FAULT_NAMES: Final[dict[int, str]] = {
    0: "none", 1: "exception", 2: "unknown_hypercall", 3: "denied_hypercall", 4: "window", 5: "physical",
    6: "doorbell", 7: "triple_fault", 8: "panic", 9: "exited", 10: "killed", 11: "tender_died",
    12: "tender_unresponsive", 13: "hung", 14: "revoke_deadline", 15: "bad_argument", 16: "device_died",
    17: "dma", 18: "memory", 19: "protocol", 20: "internal", 21: "replaced",
}

# hypercall
HYPERCALL_READY: Final = 1  # initialisation is over; the service loop begins
# rest (10 ms at most, whatever happens), then block until a doorbell, an interrupt or the time-out (all ones:
# none); result 0 woken, 1 time-out
HYPERCALL_WAIT: Final = 2
HYPERCALL_LOG: Final = 3  # append to the structured log
HYPERCALL_PANIC: Final = 4  # die with a message; does not return
HYPERCALL_EXIT: Final = 5  # end of a program; does not return
# map the new rings (and pool) of a channel whose state is reopen; RDX = its epoch
HYPERCALL_RECONNECT: Final = 6
# bytes of the system's standard output or error at an absolute position; a repeat is harmless; RDX = position
# reached
HYPERCALL_OUTPUT: Final = 7
HYPERCALL_GRANT: Final = 8  # lend a grant object to the channel's peer; RDX = grant
HYPERCALL_REVOKE: Final = 9  # take it back: when it returns nobody can reach it
HYPERCALL_MAP_GRANT: Final = 10  # map a grant of the channel's peer; RDX = address
HYPERCALL_UNMAP_GRANT: Final = 11  # give a mapped grant back
HYPERCALL_COPY_FROM_GRANT: Final = 12  # copy from a grant of the channel's peer
HYPERCALL_DMA_OPEN: Final = 13  # open the device's DMA window on a grant; RDX = I/O address
HYPERCALL_DMA_CLOSE: Final = 14  # close it: when it returns the device cannot reach it
HYPERCALL_COPY_TO_GRANT: Final = 16  # copy to a grant of the channel's peer
HYPERCALL_COMPLAIN: Final = 15  # close the own connection to a peer that breaks the protocol
HYPERCALL_NAMES: Final[dict[int, str]] = {
    1: "ready", 2: "wait", 3: "log", 4: "panic", 5: "exit", 6: "reconnect", 7: "output", 8: "grant",
    9: "revoke", 10: "map_grant", 11: "unmap_grant", 12: "copy_from_grant", 13: "dma_open", 14: "dma_close",
    16: "copy_to_grant", 15: "complain",
}
HYPERCALL_NUMBERS: Final[dict[str, int]] = {
    "ready": 1, "wait": 2, "log": 3, "panic": 4, "exit": 5, "reconnect": 6, "output": 7, "grant": 8,
    "revoke": 9, "map_grant": 10, "unmap_grant": 11, "copy_from_grant": 12, "dma_open": 13, "dma_close": 14,
    "copy_to_grant": 16, "complain": 15,
}


class Slot(Layout, codes="H H I I i I I 5Q"):
    """A request or a reply, 64 bytes."""

    op: int = 0
    flags: int = 0
    tag: int = 0  # low 8 bits: data buffer; the rest a sequence number
    epoch: int = 0
    status: int = 0
    length: int = 0  # bytes valid in the data buffer
    reserved: int = 0
    args: tuple[int, ...] = (0,) * 5


class Info(Layout, codes="Q I I I I I I Q Q Q Q Q 32s Q Q"):
    """Layout `info`, 120 bytes."""

    magic: int = 0
    abi_version: int = 0
    epoch: int = 0
    start: int = 0
    channels: int = 0
    regions: int = 0
    cpus: int = 0  # host CPUs this system may use: with one, spinning never pays
    instance: int = 0
    tsc_khz: int = 0
    heap_base: int = 0
    heap_size: int = 0
    spin_ns: int = 0  # longest spin before a wait
    name: bytes = b""
    # CLOCK_REALTIME (ns since 1970, UTC) at tick wall_clock_tsc: guests print dates, never trust them
    wall_clock_ns: int = 0
    wall_clock_tsc: int = 0


class ChannelEntry(Layout, codes="16s 32s I I Q Q I I I I I I Q H H I 2Q"):
    """Layout `channel_entry`, 128 bytes."""

    name: bytes = b""  # the interface, as in the manifest
    peer: bytes = b""
    role: int = 0
    slots: int = 0
    address: int = 0
    size: int = 0
    data_offset: int = 0
    slot_data: int = 0  # bytes of data area per slot
    epoch: int = 0
    doorbell: int = 0
    deadline_ms: int = 0  # 0: none
    on_restart: int = 0
    operations: int = 0  # bit n: operation n is allowed
    parameter_offset: int = 0  # from INFO
    parameter_length: int = 0
    protocol: int = 0  # protocol number << 16 | version
    reserved: tuple[int, ...] = (0,) * 2


class RegionEntry(Layout, codes="16s I I Q Q Q Q Q"):
    """Layout `region_entry`, 64 bytes."""

    name: bytes = b""
    kind: int = 0
    channel: int = 0  # of a pool or grant object: the channel it belongs to; else all ones
    address: int = 0  # 0: not mapped
    size: int = 0
    iova: int = 0  # 0: the device does not see it
    unit: int = 0  # of a pool: bytes of one buffer; of a vring: its queue size
    reserved: int = 0


class Telemetry(Layout, codes="Q Q Q Q Q Q Q Q Q Q Q Q 4Q"):
    """Counters a guest keeps for whoever wants to look; never trusted."""

    calls: int = 0
    replies: int = 0
    failed: int = 0  # replies with an error
    replayed: int = 0
    bytes: int = 0  # payload read by a program's file calls
    doorbells: int = 0
    waits: int = 0
    spins: int = 0  # ticks burnt spinning
    reconnects: int = 0
    served: int = 0
    replay_count: int = 0  # entries ever written to the replay ring at +0x400
    start_tsc: int = 0  # the guest's TSC at its first instruction
    reserved: tuple[int, ...] = (0,) * 4


class ReplayEntry(Layout, codes="I I Q"):
    """The replay ring: 128 entries at TELEMETRY + 0x400."""

    channel: int = 0
    epoch: int = 0
    tsc: int = 0  # when the first replayed request of that epoch was answered
