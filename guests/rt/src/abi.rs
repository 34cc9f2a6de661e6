//! Generated from hypervisor/abi/abi.toml by `python -m hypervisor.abi.generate`. Do not edit.

pub const ABI_VERSION: u32 = 1;

// limits
pub const PAGE_SIZE: usize = 4096;
/// channels of one VM, client and server ends together
pub const CHANNELS: usize = 64;
/// memory objects of one VM other than channels
pub const REGIONS: usize = 64;
/// doorbell slots of one VM
pub const DOORBELLS: usize = 128;
/// request slots of one channel; a power of two
pub const CHANNEL_SLOTS_MAX: usize = 256;
/// bytes of data area that belong to one slot
pub const SLOT_DATA_MAX: usize = 0x100000;
pub const VM_MEMORY_MAX: usize = 0x40000000;
/// bytes of an interface name, NUL padded
pub const NAME_MAX: usize = 16;
/// bytes of one log or panic message
pub const LOG_MAX: usize = 1024;
/// bytes of one output hypercall
pub const OUTPUT_MAX: usize = 0x10000;

// memory_map
/// never mapped
pub const NULL_GUARD_END: usize = 0x10000;
/// trap page, supervisor read-only: 256 gates
pub const IDT: usize = 0x10000;
/// GDT at +0, TSS at +0x800, supervisor read-only
pub const GDT: usize = 0x11000;
/// 256 stubs of 16 bytes, supervisor execute
pub const TRAP_STUBS: usize = 0x12000;
/// page the CPU pushes exception frames to, supervisor read-write
pub const TRAP_STACK: usize = 0x13000;
/// the same for #DF and NMI
pub const TRAP_STACK_IST: usize = 0x14000;
/// not mapped; up to PAGE_TABLES_END
pub const PAGE_TABLES: usize = 0x20000;
pub const PAGE_TABLES_END: usize = 0x100000;
/// read-only pages: info, channels, regions, device, parameters
pub const INFO: usize = 0x100000;
pub const INFO_PAGES: usize = 6;
/// lowest address an ELF segment may have
pub const IMAGE_BASE: usize = 0x200000;
/// at the end of memory, an unmapped guard page below it
pub const STACK_SIZE: usize = 0x40000;
pub const HYPERCALL_PAGE: usize = 0x60000000;
/// doorbell d is the 4-byte store to DOORBELL_PAGE + 8 * d
pub const DOORBELL_PAGE: usize = 0x60001000;
/// channels, pools, grant objects, vrings, state, telemetry, writable grants
pub const RW_WINDOW: usize = 0x80000000;
pub const RW_WINDOW_SIZE: usize = 0x20000000;
/// status page, arguments, read-only grants
pub const RO_WINDOW: usize = 0xa0000000;
pub const RO_WINDOW_SIZE: usize = 0x4000000;

// info_layout: offsets from INFO
/// 64 entries of 128 bytes
pub const INFO_CHANNELS: usize = 0x1000;
/// 64 entries of 64 bytes
pub const INFO_REGIONS: usize = 0x3000;
/// features u64 at +0, configuration space (256 bytes) at +8
pub const INFO_DEVICE: usize = 0x4000;
/// channel parameters (for example the subtree a client may see), to the end
pub const INFO_PARAMETERS: usize = 0x4200;
pub const INFO_MAGIC: u64 = 0x3353335232494e46;

// channel_layout: offsets in a channel's memory object; each index has a cache line and one writer
/// client: requests published (u32, wraps)
pub const CHANNEL_REQUEST_TAIL: usize = 0x0;
/// client: 1 while it sleeps
pub const CHANNEL_CLIENT_SLEEP: usize = 0x40;
/// client: ring only when reply_tail - wake_at >= 0 (as i32)
pub const CHANNEL_CLIENT_WAKE_AT: usize = 0x44;
/// client: replies consumed
pub const CHANNEL_REPLY_HEAD: usize = 0x80;
/// server: requests consumed
pub const CHANNEL_REQUEST_HEAD: usize = 0x100;
/// server: 1 while it sleeps
pub const CHANNEL_SERVER_SLEEP: usize = 0x140;
/// server: replies published
pub const CHANNEL_REPLY_TAIL: usize = 0x180;
/// server: requests it holds on purpose (long polls)
pub const CHANNEL_PARKED: usize = 0x1c0;
/// request slots; the reply slots follow, then (page aligned) the data area
pub const CHANNEL_REQUESTS: usize = 0x1000;

// vring_layout: one virtqueue = one stride in the driver's vring object
pub const VRING_STRIDE: usize = 0x10000;
pub const VRING_DESCRIPTORS: usize = 0x0;
pub const VRING_AVAILABLE: usize = 0x1000;
pub const VRING_USED: usize = 0x2000;
/// 32 KiB the driver may use for request headers and status bytes
pub const VRING_PRIVATE: usize = 0x8000;
pub const VRING_SIZE_MAX: usize = 256;
/// in the first stride, of a real device: 1 (u64) once it has been set up for this epoch
pub const VRING_STARTED: usize = 0xfff8;
/// where the device sees the vring object
pub const VRING_IOVA: u64 = 0x100000000;
/// where it sees the pool
pub const POOL_IOVA: u64 = 0x200000000;
/// where per-request windows open
pub const GRANT_IOVA: u64 = 0x300000000;

// doorbells
/// + channel index
pub const DOORBELL_CHANNEL: usize = 0;
/// + virtqueue index
pub const DOORBELL_QUEUE: usize = 64;

// status_page: first page of the read-only window: one entry per channel, written by the hypervisor
/// u32 state, u32 epoch, u64 reserved
pub const STATUS_ENTRY_SIZE: usize = 16;
/// u32: 1 while a live update wants this instance to come to rest (hypercall `quiesce`)
pub const STATUS_QUIESCE: usize = 0x7f8;
/// u64, ns since 1970 (UTC) when this instance was started: guests print dates, never trust them
pub const STATUS_WALL_CLOCK: usize = 0x800;

// telemetry_layout
pub const TELEMETRY_REPLAYS: usize = 0x400;
pub const TELEMETRY_REPLAY_SLOTS: usize = 128;

// channel_state
pub const CHANNEL_STATE_UNUSED: u32 = 0;
/// usable
pub const CHANNEL_STATE_OPEN: u32 = 1;
/// the peer is dead; deadlines stand still
pub const CHANNEL_STATE_DEAD: u32 = 2;
/// new rings wait: call `reconnect`
pub const CHANNEL_STATE_REOPEN: u32 = 3;
/// the peer will not come back (its manifest said so)
pub const CHANNEL_STATE_GONE: u32 = 4;

// role
pub const ROLE_CLIENT: u32 = 1;
pub const ROLE_SERVER: u32 = 2;

// start
pub const START_FRESH: u32 = 0;
pub const START_RESTART: u32 = 1;
pub const START_UPDATE: u32 = 2;

// on_restart
/// unanswered idempotent requests are sent again
pub const ON_RESTART_REPLAY: u32 = 0;
/// every unanswered request fails with `dead`
pub const ON_RESTART_FAIL: u32 = 1;

// region_kind
/// I/O buffers of a channel (addr 0: offsets only, not mapped here)
pub const REGION_KIND_POOL: u32 = 1;
pub const REGION_KIND_VRING: u32 = 2;
/// memory this component may lend
pub const REGION_KIND_GRANT_OBJECT: u32 = 3;
pub const REGION_KIND_STATE: u32 = 4;
pub const REGION_KIND_TELEMETRY: u32 = 5;
pub const REGION_KIND_ARGUMENTS: u32 = 6;
/// registers of a device; to be touched only once VRING_STARTED says so
pub const REGION_KIND_MMIO: u32 = 7;

// on_corruption: what to do about state that fails its checksum
/// go on with the copy of an earlier commit, if that one is sound
pub const ON_CORRUPTION_OLDER_COPY: u32 = 0;
/// begin anew
pub const ON_CORRUPTION_FRESH: u32 = 1;

// cure: what a component does about its poisoned state at its start; see components/reincarnation_server/README.md
pub const CURE_NONE: u32 = 0;
/// the last commit is undone
pub const CURE_UNDO: u32 = 1;
/// the request that the instance before was working on is answered with `quarantined`
pub const CURE_QUARANTINE: u32 = 2;
/// the state begins anew
pub const CURE_FRESH: u32 = 3;
/// it is not started any more
pub const CURE_GIVE_UP: u32 = 4;

// log_level
pub const LOG_LEVEL_ERROR: u32 = 0;
pub const LOG_LEVEL_WARNING: u32 = 1;
pub const LOG_LEVEL_INFO: u32 = 2;
pub const LOG_LEVEL_DEBUG: u32 = 3;

// stream
pub const STREAM_STDOUT: u32 = 1;
pub const STREAM_STDERR: u32 = 2;

// complaint: how a peer broke the protocol, as verified by who complains; components have reasons of their own from 100
/// a ring index that runs ahead of what fits
pub const COMPLAINT_INDEX: u32 = 1;
/// a slot of another epoch than the channel's
pub const COMPLAINT_EPOCH: u32 = 2;
/// a request whose data buffer is in use, or a reply to nothing
pub const COMPLAINT_TAG: u32 = 3;
/// a data buffer the channel does not have
pub const COMPLAINT_BUFFER: u32 = 4;
/// a reply to another operation than the one requested
pub const COMPLAINT_OPERATION: u32 = 5;
/// more bytes than a data buffer has
pub const COMPLAINT_LENGTH: u32 = 6;
/// a reply with a positive status
pub const COMPLAINT_STATUS: u32 = 7;

// grant_rights
pub const GRANT_RIGHTS_READ: u32 = 1;
pub const GRANT_RIGHTS_WRITE: u32 = 2;
/// by `copy_from_grant` and `copy_to_grant` only, never mapped
pub const GRANT_RIGHTS_COPY: u32 = 4;

// error: results of hypercalls and replies, as negative numbers; Linux's where Linux has one
pub const ERROR_PERM: i32 = -1;
pub const ERROR_NOENT: i32 = -2;
pub const ERROR_IO: i32 = -5;
pub const ERROR_TOOBIG: i32 = -7;
pub const ERROR_BADF: i32 = -9;
pub const ERROR_AGAIN: i32 = -11;
pub const ERROR_NOMEM: i32 = -12;
pub const ERROR_ACCESS: i32 = -13;
pub const ERROR_BUSY: i32 = -16;
pub const ERROR_EXIST: i32 = -17;
pub const ERROR_NOTDIR: i32 = -20;
pub const ERROR_ISDIR: i32 = -21;
pub const ERROR_INVAL: i32 = -22;
pub const ERROR_NOSPC: i32 = -28;
pub const ERROR_ROFS: i32 = -30;
pub const ERROR_RANGE: i32 = -34;
pub const ERROR_NAMETOOLONG: i32 = -36;
pub const ERROR_NOSYS: i32 = -38;
pub const ERROR_LOOP: i32 = -40;
pub const ERROR_OVERFLOW: i32 = -75;
pub const ERROR_TIMEOUT: i32 = -110;
pub const ERROR_STALE: i32 = -116;
pub const ERROR_CANCELED: i32 = -125;
/// the peer died and the request is not repeatable
pub const ERROR_DEAD: i32 = -200;
/// a checksum or a structure is wrong
pub const ERROR_CORRUPT: i32 = -201;
/// events were lost
pub const ERROR_GAP: i32 = -202;
/// the peer broke the protocol
pub const ERROR_PROTOCOL: i32 = -203;
/// the server has died of this request, and will not try again
pub const ERROR_QUARANTINED: i32 = -204;

// fault: why an instance ended
pub const FAULT_NONE: u32 = 0;
/// vector, error code, address
pub const FAULT_EXCEPTION: u32 = 1;
pub const FAULT_UNKNOWN_HYPERCALL: u32 = 2;
/// not in its manifest
pub const FAULT_DENIED_HYPERCALL: u32 = 3;
/// touched a window address where nothing is mapped (never granted, or revoked)
pub const FAULT_WINDOW: u32 = 4;
/// touched a guest-physical address outside every slot
pub const FAULT_PHYSICAL: u32 = 5;
/// rang a doorbell it does not have
pub const FAULT_DOORBELL: u32 = 6;
pub const FAULT_TRIPLE_FAULT: u32 = 7;
pub const FAULT_PANIC: u32 = 8;
/// a component returned although it serves
pub const FAULT_EXITED: u32 = 9;
/// by the operator
pub const FAULT_KILLED: u32 = 10;
pub const FAULT_TENDER_DIED: u32 = 11;
pub const FAULT_TENDER_UNRESPONSIVE: u32 = 12;
pub const FAULT_HUNG: u32 = 13;
/// did not give a grant back
pub const FAULT_REVOKE_DEADLINE: u32 = 14;
/// a hypercall argument no correct program sends
pub const FAULT_BAD_ARGUMENT: u32 = 15;
pub const FAULT_DEVICE_DIED: u32 = 16;
/// the device was sent outside its window
pub const FAULT_DMA: u32 = 17;
/// out of memory
pub const FAULT_MEMORY: u32 = 18;
/// broke a channel's protocol, as verified by the hypervisor
pub const FAULT_PROTOCOL: u32 = 19;
/// KVM refused to run the VM
pub const FAULT_INTERNAL: u32 = 20;
/// by an update
pub const FAULT_REPLACED: u32 = 21;

// hypercall
/// () a warm spare waits here, all prepared, until it is adopted; what the info pages say is valid only from then on
pub const HYPERCALL_START: u64 = 17;
/// () initialisation is over; the service loop begins
pub const HYPERCALL_READY: u64 = 1;
/// (timeout_ns, rest_ns) rest (10 ms at most, whatever happens), then block until a doorbell, an interrupt or the time-out (all ones: none); result 0 woken, 1 time-out
pub const HYPERCALL_WAIT: u64 = 2;
/// (level, address, length) append to the structured log
pub const HYPERCALL_LOG: u64 = 3;
/// (address, length) die with a message; does not return
pub const HYPERCALL_PANIC: u64 = 4;
/// (status) end of a program; does not return
pub const HYPERCALL_EXIT: u64 = 5;
/// (channel) map the new rings (and pool) of a channel whose state is reopen; RDX = its epoch
pub const HYPERCALL_RECONNECT: u64 = 6;
/// (stream, address, length, position) bytes of the system's standard output or error at an absolute position; a repeat is harmless; RDX = position reached
pub const HYPERCALL_OUTPUT: u64 = 7;
/// (object, channel, rights) lend a grant object to the channel's peer; RDX = grant
pub const HYPERCALL_GRANT: u64 = 8;
/// (grant) take it back: when it returns nobody can reach it
pub const HYPERCALL_REVOKE: u64 = 9;
/// (grant, channel) map a grant of the channel's peer; RDX = address
pub const HYPERCALL_MAP_GRANT: u64 = 10;
/// (grant, channel) give a mapped grant back
pub const HYPERCALL_UNMAP_GRANT: u64 = 11;
/// (grant, channel, offset, address, length) copy from a grant of the channel's peer
pub const HYPERCALL_COPY_FROM_GRANT: u64 = 12;
/// (grant, channel) open the device's DMA window on a grant; RDX = I/O address
pub const HYPERCALL_DMA_OPEN: u64 = 13;
/// (grant, channel) close it: when it returns the device cannot reach it
pub const HYPERCALL_DMA_CLOSE: u64 = 14;
/// (grant, channel, offset, address, length) copy to a grant of the channel's peer
pub const HYPERCALL_COPY_TO_GRANT: u64 = 16;
/// () every request taken is answered, as a live update wants it; waits until that is over: 0 if it was called off
pub const HYPERCALL_QUIESCE: u64 = 18;
/// (channel, reason) close the own connection to a peer that breaks the protocol
pub const HYPERCALL_COMPLAIN: u64 = 15;

/// A request or a reply, 64 bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Slot {
    pub op: u16,
    pub flags: u16,
    /// low 8 bits: data buffer; the rest a sequence number
    pub tag: u32,
    pub epoch: u32,
    pub status: i32,
    /// bytes valid in the data buffer
    pub length: u32,
    /// of a request: the instance that counted its tag, or that began the state its tag is counted in
    pub session: u32,
    pub args: [u64; 5],
}

impl Slot {
    pub const SIZE: usize = 64;
    pub const OFFSET_OP: usize = 0;
    pub const OFFSET_FLAGS: usize = 2;
    pub const OFFSET_TAG: usize = 4;
    pub const OFFSET_EPOCH: usize = 8;
    pub const OFFSET_STATUS: usize = 12;
    pub const OFFSET_LENGTH: usize = 16;
    pub const OFFSET_SESSION: usize = 20;
    pub const OFFSET_ARGS: usize = 24;
}

const _: () = assert!(core::mem::size_of::<Slot>() == Slot::SIZE);

/// Layout `info`, 120 bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Info {
    pub magic: u64,
    pub abi_version: u32,
    pub epoch: u32,
    pub start: u32,
    pub channels: u32,
    pub regions: u32,
    /// host CPUs this system may use: with one, spinning never pays
    pub cpus: u32,
    pub instance: u64,
    pub tsc_khz: u64,
    pub heap_base: u64,
    pub heap_size: u64,
    /// longest spin before a wait
    pub spin_ns: u64,
    pub name: [u8; 32],
    /// one of `cure`, of poisoned state
    pub cure: u32,
    pub reserved: u32,
    /// what the instance before was working on when it died: `working` of its telemetry
    pub suspect: u64,
}

impl Info {
    pub const SIZE: usize = 120;
    pub const OFFSET_MAGIC: usize = 0;
    pub const OFFSET_ABI_VERSION: usize = 8;
    pub const OFFSET_EPOCH: usize = 12;
    pub const OFFSET_START: usize = 16;
    pub const OFFSET_CHANNELS: usize = 20;
    pub const OFFSET_REGIONS: usize = 24;
    pub const OFFSET_CPUS: usize = 28;
    pub const OFFSET_INSTANCE: usize = 32;
    pub const OFFSET_TSC_KHZ: usize = 40;
    pub const OFFSET_HEAP_BASE: usize = 48;
    pub const OFFSET_HEAP_SIZE: usize = 56;
    pub const OFFSET_SPIN_NS: usize = 64;
    pub const OFFSET_NAME: usize = 72;
    pub const OFFSET_CURE: usize = 104;
    pub const OFFSET_RESERVED: usize = 108;
    pub const OFFSET_SUSPECT: usize = 112;
}

const _: () = assert!(core::mem::size_of::<Info>() == Info::SIZE);

/// Layout `channel_entry`, 128 bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChannelEntry {
    /// the interface, as in the manifest
    pub name: [u8; 16],
    pub peer: [u8; 32],
    pub role: u32,
    pub slots: u32,
    pub address: u64,
    pub size: u64,
    pub data_offset: u32,
    /// bytes of data area per slot
    pub slot_data: u32,
    pub epoch: u32,
    pub doorbell: u32,
    /// 0: none
    pub deadline_ms: u32,
    pub on_restart: u32,
    /// bit n: operation n is allowed
    pub operations: u64,
    /// from INFO
    pub parameter_offset: u16,
    pub parameter_length: u16,
    /// protocol number << 16 | version
    pub protocol: u32,
    pub reserved: [u64; 2],
}

impl ChannelEntry {
    pub const SIZE: usize = 128;
    pub const OFFSET_NAME: usize = 0;
    pub const OFFSET_PEER: usize = 16;
    pub const OFFSET_ROLE: usize = 48;
    pub const OFFSET_SLOTS: usize = 52;
    pub const OFFSET_ADDRESS: usize = 56;
    pub const OFFSET_SIZE: usize = 64;
    pub const OFFSET_DATA_OFFSET: usize = 72;
    pub const OFFSET_SLOT_DATA: usize = 76;
    pub const OFFSET_EPOCH: usize = 80;
    pub const OFFSET_DOORBELL: usize = 84;
    pub const OFFSET_DEADLINE_MS: usize = 88;
    pub const OFFSET_ON_RESTART: usize = 92;
    pub const OFFSET_OPERATIONS: usize = 96;
    pub const OFFSET_PARAMETER_OFFSET: usize = 104;
    pub const OFFSET_PARAMETER_LENGTH: usize = 106;
    pub const OFFSET_PROTOCOL: usize = 108;
    pub const OFFSET_RESERVED: usize = 112;
}

const _: () = assert!(core::mem::size_of::<ChannelEntry>() == ChannelEntry::SIZE);

/// Layout `region_entry`, 64 bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RegionEntry {
    pub name: [u8; 16],
    pub kind: u32,
    /// of a pool or grant object: the channel it belongs to; else all ones
    pub channel: u32,
    /// 0: not mapped
    pub address: u64,
    pub size: u64,
    /// 0: the device does not see it
    pub iova: u64,
    /// of a pool: bytes of one buffer; of a vring: its queue size
    pub unit: u64,
    /// of a state region: the version of what is in it
    pub schema: u32,
    /// of a state region
    pub on_corruption: u32,
}

impl RegionEntry {
    pub const SIZE: usize = 64;
    pub const OFFSET_NAME: usize = 0;
    pub const OFFSET_KIND: usize = 16;
    pub const OFFSET_CHANNEL: usize = 20;
    pub const OFFSET_ADDRESS: usize = 24;
    pub const OFFSET_SIZE: usize = 32;
    pub const OFFSET_IOVA: usize = 40;
    pub const OFFSET_UNIT: usize = 48;
    pub const OFFSET_SCHEMA: usize = 56;
    pub const OFFSET_ON_CORRUPTION: usize = 60;
}

const _: () = assert!(core::mem::size_of::<RegionEntry>() == RegionEntry::SIZE);

/// Counters a guest keeps for whoever wants to look; never trusted.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Telemetry {
    pub calls: u64,
    pub replies: u64,
    /// replies with an error
    pub failed: u64,
    pub replayed: u64,
    /// payload read by a program's file calls
    pub bytes: u64,
    pub doorbells: u64,
    pub waits: u64,
    /// ticks burnt spinning
    pub spins: u64,
    pub reconnects: u64,
    pub served: u64,
    /// entries ever written to the replay ring at +0x400
    pub replay_count: u64,
    /// the guest's TSC at its first instruction
    pub start_tsc: u64,
    /// the request that a server is working on; 0: none
    pub working: u64,
    pub reserved: [u64; 3],
}

impl Telemetry {
    pub const SIZE: usize = 128;
    pub const OFFSET_CALLS: usize = 0;
    pub const OFFSET_REPLIES: usize = 8;
    pub const OFFSET_FAILED: usize = 16;
    pub const OFFSET_REPLAYED: usize = 24;
    pub const OFFSET_BYTES: usize = 32;
    pub const OFFSET_DOORBELLS: usize = 40;
    pub const OFFSET_WAITS: usize = 48;
    pub const OFFSET_SPINS: usize = 56;
    pub const OFFSET_RECONNECTS: usize = 64;
    pub const OFFSET_SERVED: usize = 72;
    pub const OFFSET_REPLAY_COUNT: usize = 80;
    pub const OFFSET_START_TSC: usize = 88;
    pub const OFFSET_WORKING: usize = 96;
    pub const OFFSET_RESERVED: usize = 104;
}

const _: () = assert!(core::mem::size_of::<Telemetry>() == Telemetry::SIZE);

/// The replay ring: 128 entries at TELEMETRY + 0x400.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReplayEntry {
    pub channel: u32,
    pub epoch: u32,
    /// when the first replayed request of that epoch was answered
    pub tsc: u64,
}

impl ReplayEntry {
    pub const SIZE: usize = 16;
    pub const OFFSET_CHANNEL: usize = 0;
    pub const OFFSET_EPOCH: usize = 4;
    pub const OFFSET_TSC: usize = 8;
}

const _: () = assert!(core::mem::size_of::<ReplayEntry>() == ReplayEntry::SIZE);
