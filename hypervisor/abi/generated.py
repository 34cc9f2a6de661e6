"""Generated from hypervisor/abi/abi.toml by `python -m hypervisor.abi.generate`. Do not edit."""

from __future__ import annotations

from enum import IntEnum
from typing import Final

from hypervisor.abi.layout import Layout
from hypervisor.abi.layout import names as names  # noqa: PLC0414

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
# in the first stride, of a real device: 1 (u64) once it has been set up for this epoch
VRING_STARTED: Final = 0xfff8
VRING_IOVA: Final = 0x100000000  # where the device sees the vring object
POOL_IOVA: Final = 0x200000000  # where it sees the pool
GRANT_IOVA: Final = 0x300000000  # where per-request windows open

# doorbells
DOORBELL_CHANNEL: Final = 0  # + channel index
DOORBELL_QUEUE: Final = 64  # + virtqueue index

# status_page: first page of the read-only window: one entry per channel, written by the hypervisor
STATUS_ENTRY_SIZE: Final = 16  # u32 state, u32 epoch, u64 reserved
# u32: 1 while a live update wants this instance to come to rest (hypercall `quiesce`)
STATUS_QUIESCE: Final = 0x7f8
# u64, ns since 1970 (UTC) when this instance was started: guests print dates, never trust them
STATUS_WALL_CLOCK: Final = 0x800

# telemetry_layout
TELEMETRY_REPLAYS: Final = 0x400
TELEMETRY_REPLAY_SLOTS: Final = 128

# channel_state
ChannelState = IntEnum("ChannelState", {"UNUSED": 0, "OPEN": 1, "DEAD": 2, "REOPEN": 3, "GONE": 4})

# role
Role = IntEnum("Role", {"CLIENT": 1, "SERVER": 2})

# start
Start = IntEnum("Start", {"FRESH": 0, "RESTART": 1, "UPDATE": 2})

# on_restart
OnRestart = IntEnum("OnRestart", {"REPLAY": 0, "FAIL": 1})

# region_kind
RegionKind = IntEnum("RegionKind", {
    "POOL": 1, "VRING": 2, "GRANT_OBJECT": 3, "STATE": 4, "TELEMETRY": 5, "ARGUMENTS": 6, "MMIO": 7,
})

# on_corruption: what to do about state that fails its checksum
OnCorruption = IntEnum("OnCorruption", {"OLDER_COPY": 0, "FRESH": 1})

# cure: what a component does about its poisoned state at its start; see
# components/reincarnation_server/README.md
Cure = IntEnum("Cure", {"NONE": 0, "UNDO": 1, "QUARANTINE": 2, "FRESH": 3, "GIVE_UP": 4})

# log_level
LogLevel = IntEnum("LogLevel", {"ERROR": 0, "WARNING": 1, "INFO": 2, "DEBUG": 3})

# stream
Stream = IntEnum("Stream", {"STDOUT": 1, "STDERR": 2})

# complaint: how a peer broke the protocol, as verified by who complains; components have reasons of their own
# from 100
Complaint = IntEnum("Complaint", {
    "INDEX": 1, "EPOCH": 2, "TAG": 3, "BUFFER": 4, "OPERATION": 5, "LENGTH": 6, "STATUS": 7,
})

# grant_rights
GrantRights = IntEnum("GrantRights", {"READ": 1, "WRITE": 2, "COPY": 4})

# error: results of hypercalls and replies, as negative numbers; Linux's where Linux has one
Error = IntEnum("Error", {
    "PERM": -1, "NOENT": -2, "IO": -5, "TOOBIG": -7, "BADF": -9, "AGAIN": -11, "NOMEM": -12, "ACCESS": -13,
    "BUSY": -16, "EXIST": -17, "NOTDIR": -20, "ISDIR": -21, "INVAL": -22, "NOSPC": -28, "ROFS": -30,
    "RANGE": -34, "NAMETOOLONG": -36, "NOSYS": -38, "LOOP": -40, "OVERFLOW": -75, "TIMEOUT": -110,
    "STALE": -116, "CANCELED": -125, "DEAD": -200, "CORRUPT": -201, "GAP": -202, "PROTOCOL": -203,
    "QUARANTINED": -204,
})

# fault: why an instance ended
Fault = IntEnum("Fault", {
    "NONE": 0, "EXCEPTION": 1, "UNKNOWN_HYPERCALL": 2, "DENIED_HYPERCALL": 3, "WINDOW": 4, "PHYSICAL": 5,
    "DOORBELL": 6, "TRIPLE_FAULT": 7, "PANIC": 8, "EXITED": 9, "KILLED": 10, "TENDER_DIED": 11,
    "TENDER_UNRESPONSIVE": 12, "HUNG": 13, "REVOKE_DEADLINE": 14, "BAD_ARGUMENT": 15, "DEVICE_DIED": 16,
    "DMA": 17, "MEMORY": 18, "PROTOCOL": 19, "INTERNAL": 20, "REPLACED": 21,
})

# hypercall
Hypercall = IntEnum("Hypercall", {
    "START": 17, "READY": 1, "WAIT": 2, "LOG": 3, "PANIC": 4, "EXIT": 5, "RECONNECT": 6, "OUTPUT": 7,
    "GRANT": 8, "REVOKE": 9, "MAP_GRANT": 10, "UNMAP_GRANT": 11, "COPY_FROM_GRANT": 12, "DMA_OPEN": 13,
    "DMA_CLOSE": 14, "COPY_TO_GRANT": 16, "QUIESCE": 18, "COMPLAIN": 15,
})


class Slot(Layout, codes="H H I I i I I 5Q"):
    """A request or a reply, 64 bytes."""

    op: int = 0
    flags: int = 0
    tag: int = 0  # low 8 bits: data buffer; the rest a sequence number
    epoch: int = 0
    status: int = 0
    length: int = 0  # bytes valid in the data buffer
    # of a request: the instance that counted its tag, or that began the state its tag is counted in
    session: int = 0
    args: tuple[int, ...] = (0,) * 5


class Info(Layout, codes="Q I I I I I I Q Q Q Q Q 32s I 4x Q"):
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
    cure: int = 0  # one of `cure`, of poisoned state
    suspect: int = 0  # what the instance before was working on when it died: `working` of its telemetry


class ChannelEntry(Layout, codes="16s 32s I I Q Q I I I I I I Q H H I 16x"):
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


class RegionEntry(Layout, codes="16s I I Q Q Q Q I I"):
    """Layout `region_entry`, 64 bytes."""

    name: bytes = b""
    kind: int = 0
    channel: int = 0  # of a pool or grant object: the channel it belongs to; else all ones
    address: int = 0  # 0: not mapped
    size: int = 0
    iova: int = 0  # 0: the device does not see it
    unit: int = 0  # of a pool: bytes of one buffer; of a vring: its queue size
    schema: int = 0  # of a state region: the version of what is in it
    on_corruption: int = 0  # of a state region


class Telemetry(Layout, codes="Q Q Q Q Q Q Q Q Q Q Q Q Q 24x"):
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
    working: int = 0  # the request that a server is working on; 0: none


class ReplayEntry(Layout, codes="I I Q"):
    """The replay ring: 128 entries at TELEMETRY + 0x400."""

    channel: int = 0
    epoch: int = 0
    tsc: int = 0  # when the first replayed request of that epoch was answered
