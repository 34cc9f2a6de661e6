/* Generated from hypervisor/abi/abi.toml by `python -m hypervisor.abi.generate`. Do not edit. */
#ifndef R3_ABI_GENERATED_H
#define R3_ABI_GENERATED_H

#include <stddef.h>
#include <stdint.h>

#define R3_ABI_VERSION 1

/* limits */
#define R3_PAGE_SIZE 4096
#define R3_CHANNELS 64 /* channels of one VM, client and server ends together */
#define R3_REGIONS 64 /* memory objects of one VM other than channels */
#define R3_DOORBELLS 128 /* doorbell slots of one VM */
#define R3_CHANNEL_SLOTS_MAX 256 /* request slots of one channel; a power of two */
#define R3_SLOT_DATA_MAX 0x100000 /* bytes of data area that belong to one slot */
#define R3_VM_MEMORY_MAX 0x40000000
#define R3_NAME_MAX 16 /* bytes of an interface name, NUL padded */
#define R3_LOG_MAX 1024 /* bytes of one log or panic message */
#define R3_OUTPUT_MAX 0x10000 /* bytes of one output hypercall */

/* memory_map */
#define R3_NULL_GUARD_END 0x10000ULL /* never mapped */
#define R3_IDT 0x10000ULL /* trap page, supervisor read-only: 256 gates */
#define R3_GDT 0x11000ULL /* GDT at +0, TSS at +0x800, supervisor read-only */
#define R3_TRAP_STUBS 0x12000ULL /* 256 stubs of 16 bytes, supervisor execute */
#define R3_TRAP_STACK 0x13000ULL /* page the CPU pushes exception frames to, supervisor read-write */
#define R3_TRAP_STACK_IST 0x14000ULL /* the same for #DF and NMI */
#define R3_PAGE_TABLES 0x20000ULL /* not mapped; up to PAGE_TABLES_END */
#define R3_PAGE_TABLES_END 0x100000ULL
#define R3_INFO 0x100000ULL /* read-only pages: info, channels, regions, device, parameters */
#define R3_INFO_PAGES 6ULL
#define R3_IMAGE_BASE 0x200000ULL /* lowest address an ELF segment may have */
#define R3_STACK_SIZE 0x40000ULL /* at the end of memory, an unmapped guard page below it */
#define R3_HYPERCALL_PAGE 0x60000000ULL
#define R3_DOORBELL_PAGE 0x60001000ULL /* doorbell d is the 4-byte store to DOORBELL_PAGE + 8 * d */
#define R3_RW_WINDOW 0x80000000ULL /* channels, pools, grant objects, vrings, state, telemetry, writable grants */
#define R3_RW_WINDOW_SIZE 0x20000000ULL
#define R3_RO_WINDOW 0xa0000000ULL /* status page, arguments, read-only grants */
#define R3_RO_WINDOW_SIZE 0x4000000ULL

/* info_layout: offsets from INFO */
#define R3_INFO_CHANNELS 0x1000 /* 64 entries of 128 bytes */
#define R3_INFO_REGIONS 0x3000 /* 64 entries of 64 bytes */
#define R3_INFO_DEVICE 0x4000 /* features u64 at +0, configuration space (256 bytes) at +8 */
#define R3_INFO_PARAMETERS 0x4200 /* channel parameters (for example the subtree a client may see), to the end */
#define R3_INFO_MAGIC 0x3353335232494e46ULL

/* channel_layout: offsets in a channel's memory object; each index has a cache line and one writer */
#define R3_CHANNEL_REQUEST_TAIL 0x0 /* client: requests published (u32, wraps) */
#define R3_CHANNEL_CLIENT_SLEEP 0x40 /* client: 1 while it sleeps */
#define R3_CHANNEL_CLIENT_WAKE_AT 0x44 /* client: ring only when reply_tail - wake_at >= 0 (as i32) */
#define R3_CHANNEL_REPLY_HEAD 0x80 /* client: replies consumed */
#define R3_CHANNEL_REQUEST_HEAD 0x100 /* server: requests consumed */
#define R3_CHANNEL_SERVER_SLEEP 0x140 /* server: 1 while it sleeps */
#define R3_CHANNEL_REPLY_TAIL 0x180 /* server: replies published */
#define R3_CHANNEL_PARKED 0x1c0 /* server: requests it holds on purpose (long polls) */
#define R3_CHANNEL_REQUESTS 0x1000 /* request slots; the reply slots follow, then (page aligned) the data area */

/* vring_layout: one virtqueue = one stride in the driver's vring object */
#define R3_VRING_STRIDE 0x10000
#define R3_VRING_DESCRIPTORS 0x0
#define R3_VRING_AVAILABLE 0x1000
#define R3_VRING_USED 0x2000
#define R3_VRING_PRIVATE 0x8000 /* 32 KiB the driver may use for request headers and status bytes */
#define R3_VRING_SIZE_MAX 256
#define R3_VRING_STARTED 0xfff8 /* in the first stride, of a real device: 1 (u64) once it has been set up for this epoch */
#define R3_VRING_IOVA 0x100000000ULL /* where the device sees the vring object */
#define R3_POOL_IOVA 0x200000000ULL /* where it sees the pool */
#define R3_GRANT_IOVA 0x300000000ULL /* where per-request windows open */

/* doorbells */
#define R3_DOORBELL_CHANNEL 0 /* + channel index */
#define R3_DOORBELL_QUEUE 64 /* + virtqueue index */

/* status_page: first page of the read-only window: one entry per channel, written by the hypervisor */
#define R3_STATUS_ENTRY_SIZE 16 /* u32 state, u32 epoch, u64 reserved */
#define R3_STATUS_QUIESCE 0x7f8 /* u32: 1 while a live update wants this instance to come to rest (hypercall `quiesce`) */
#define R3_STATUS_WALL_CLOCK 0x800 /* u64, ns since 1970 (UTC) when this instance was started: guests print dates, never trust them */

/* telemetry_layout */
#define R3_TELEMETRY_REPLAYS 0x400
#define R3_TELEMETRY_REPLAY_SLOTS 128

/* channel_state */
#define R3_CHANNEL_STATE_UNUSED 0
#define R3_CHANNEL_STATE_OPEN 1 /* usable */
#define R3_CHANNEL_STATE_DEAD 2 /* the peer is dead; deadlines stand still */
#define R3_CHANNEL_STATE_REOPEN 3 /* new rings wait: call `reconnect` */
#define R3_CHANNEL_STATE_GONE 4 /* the peer will not come back (its manifest said so) */

/* role */
#define R3_ROLE_CLIENT 1
#define R3_ROLE_SERVER 2

/* start */
#define R3_START_FRESH 0
#define R3_START_RESTART 1
#define R3_START_UPDATE 2

/* on_restart */
#define R3_ON_RESTART_REPLAY 0 /* unanswered idempotent requests are sent again */
#define R3_ON_RESTART_FAIL 1 /* every unanswered request fails with `dead` */

/* region_kind */
#define R3_REGION_KIND_POOL 1 /* I/O buffers of a channel (addr 0: offsets only, not mapped here) */
#define R3_REGION_KIND_VRING 2
#define R3_REGION_KIND_GRANT_OBJECT 3 /* memory this component may lend */
#define R3_REGION_KIND_STATE 4
#define R3_REGION_KIND_TELEMETRY 5
#define R3_REGION_KIND_ARGUMENTS 6
#define R3_REGION_KIND_MMIO 7 /* registers of a device; to be touched only once VRING_STARTED says so */

/* on_corruption: what to do about state that fails its checksum */
#define R3_ON_CORRUPTION_OLDER_COPY 0 /* go on with the copy of an earlier commit, if that one is sound */
#define R3_ON_CORRUPTION_FRESH 1 /* begin anew */

/* cure: what a component does about its poisoned state at its start; see components/reincarnation_server/README.md */
#define R3_CURE_NONE 0
#define R3_CURE_UNDO 1 /* the last commit is undone */
#define R3_CURE_QUARANTINE 2 /* the request that the instance before was working on is answered with `quarantined` */
#define R3_CURE_FRESH 3 /* the state begins anew */
#define R3_CURE_GIVE_UP 4 /* it is not started any more */

/* log_level */
#define R3_LOG_LEVEL_ERROR 0
#define R3_LOG_LEVEL_WARNING 1
#define R3_LOG_LEVEL_INFO 2
#define R3_LOG_LEVEL_DEBUG 3

/* stream */
#define R3_STREAM_STDOUT 1
#define R3_STREAM_STDERR 2

/* complaint: how a peer broke the protocol, as verified by who complains; components have reasons of their own from 100 */
#define R3_COMPLAINT_INDEX 1 /* a ring index that runs ahead of what fits */
#define R3_COMPLAINT_EPOCH 2 /* a slot of another epoch than the channel's */
#define R3_COMPLAINT_TAG 3 /* a request whose data buffer is in use, or a reply to nothing */
#define R3_COMPLAINT_BUFFER 4 /* a data buffer the channel does not have */
#define R3_COMPLAINT_OPERATION 5 /* a reply to another operation than the one requested */
#define R3_COMPLAINT_LENGTH 6 /* more bytes than a data buffer has */
#define R3_COMPLAINT_STATUS 7 /* a reply with a positive status */

/* grant_rights */
#define R3_GRANT_RIGHTS_READ 1
#define R3_GRANT_RIGHTS_WRITE 2
#define R3_GRANT_RIGHTS_COPY 4 /* by `copy_from_grant` and `copy_to_grant` only, never mapped */

/* error: results of hypercalls and replies, as negative numbers; Linux's where Linux has one */
#define R3_ERROR_PERM (-1)
#define R3_ERROR_NOENT (-2)
#define R3_ERROR_IO (-5)
#define R3_ERROR_TOOBIG (-7)
#define R3_ERROR_BADF (-9)
#define R3_ERROR_AGAIN (-11)
#define R3_ERROR_NOMEM (-12)
#define R3_ERROR_ACCESS (-13)
#define R3_ERROR_BUSY (-16)
#define R3_ERROR_EXIST (-17)
#define R3_ERROR_NOTDIR (-20)
#define R3_ERROR_ISDIR (-21)
#define R3_ERROR_INVAL (-22)
#define R3_ERROR_NOSPC (-28)
#define R3_ERROR_ROFS (-30)
#define R3_ERROR_RANGE (-34)
#define R3_ERROR_NAMETOOLONG (-36)
#define R3_ERROR_NOSYS (-38)
#define R3_ERROR_LOOP (-40)
#define R3_ERROR_OVERFLOW (-75)
#define R3_ERROR_TIMEOUT (-110)
#define R3_ERROR_STALE (-116)
#define R3_ERROR_CANCELED (-125)
#define R3_ERROR_DEAD (-200) /* the peer died and the request is not repeatable */
#define R3_ERROR_CORRUPT (-201) /* a checksum or a structure is wrong */
#define R3_ERROR_GAP (-202) /* events were lost */
#define R3_ERROR_PROTOCOL (-203) /* the peer broke the protocol */
#define R3_ERROR_QUARANTINED (-204) /* the server has died of this request, and will not try again */

/* fault: why an instance ended */
#define R3_FAULT_NONE 0
#define R3_FAULT_EXCEPTION 1 /* vector, error code, address */
#define R3_FAULT_UNKNOWN_HYPERCALL 2
#define R3_FAULT_DENIED_HYPERCALL 3 /* not in its manifest */
#define R3_FAULT_WINDOW 4 /* touched a window address where nothing is mapped (never granted, or revoked) */
#define R3_FAULT_PHYSICAL 5 /* touched a guest-physical address outside every slot */
#define R3_FAULT_DOORBELL 6 /* rang a doorbell it does not have */
#define R3_FAULT_TRIPLE_FAULT 7
#define R3_FAULT_PANIC 8
#define R3_FAULT_EXITED 9 /* a component returned although it serves */
#define R3_FAULT_KILLED 10 /* by the operator */
#define R3_FAULT_TENDER_DIED 11
#define R3_FAULT_TENDER_UNRESPONSIVE 12
#define R3_FAULT_HUNG 13
#define R3_FAULT_REVOKE_DEADLINE 14 /* did not give a grant back */
#define R3_FAULT_BAD_ARGUMENT 15 /* a hypercall argument no correct program sends */
#define R3_FAULT_DEVICE_DIED 16
#define R3_FAULT_DMA 17 /* the device was sent outside its window */
#define R3_FAULT_MEMORY 18 /* out of memory */
#define R3_FAULT_PROTOCOL 19 /* broke a channel's protocol, as verified by the hypervisor */
#define R3_FAULT_INTERNAL 20 /* KVM refused to run the VM */
#define R3_FAULT_REPLACED 21 /* by an update */

/* hypercall */
#define R3_HYPERCALL_START 17 /* a warm spare waits here, all prepared, until it is adopted; what the info pages say is valid only from then on */
#define R3_HYPERCALL_READY 1 /* initialisation is over; the service loop begins */
#define R3_HYPERCALL_WAIT 2 /* rest (10 ms at most, whatever happens), then block until a doorbell, an interrupt or the time-out (all ones: none); result 0 woken, 1 time-out */
#define R3_HYPERCALL_LOG 3 /* append to the structured log */
#define R3_HYPERCALL_PANIC 4 /* die with a message; does not return */
#define R3_HYPERCALL_EXIT 5 /* end of a program; does not return */
#define R3_HYPERCALL_RECONNECT 6 /* map the new rings (and pool) of a channel whose state is reopen; RDX = its epoch */
#define R3_HYPERCALL_OUTPUT 7 /* bytes of the system's standard output or error at an absolute position; a repeat is harmless; RDX = position reached */
#define R3_HYPERCALL_GRANT 8 /* lend a grant object to the channel's peer; RDX = grant */
#define R3_HYPERCALL_REVOKE 9 /* take it back: when it returns nobody can reach it */
#define R3_HYPERCALL_MAP_GRANT 10 /* map a grant of the channel's peer; RDX = address */
#define R3_HYPERCALL_UNMAP_GRANT 11 /* give a mapped grant back */
#define R3_HYPERCALL_COPY_FROM_GRANT 12 /* copy from a grant of the channel's peer */
#define R3_HYPERCALL_DMA_OPEN 13 /* open the device's DMA window on a grant; RDX = I/O address */
#define R3_HYPERCALL_DMA_CLOSE 14 /* close it: when it returns the device cannot reach it */
#define R3_HYPERCALL_COPY_TO_GRANT 16 /* copy to a grant of the channel's peer */
#define R3_HYPERCALL_QUIESCE 18 /* every request taken is answered, as a live update wants it; waits until that is over: 0 if it was called off */
#define R3_HYPERCALL_COMPLAIN 15 /* close the own connection to a peer that breaks the protocol */

/* A request or a reply, 64 bytes. */
struct r3_slot {
	uint16_t op;
	uint16_t flags;
	uint32_t tag; /* low 8 bits: data buffer; the rest a sequence number */
	uint32_t epoch;
	int32_t status;
	uint32_t length; /* bytes valid in the data buffer */
	uint32_t session; /* of a request: the instance that counted its tag, or that began the state its tag is counted in */
	uint64_t args[5];
};
_Static_assert(sizeof(struct r3_slot) == 64, "size of r3_slot");
_Static_assert(offsetof(struct r3_slot, op) == 0, "r3_slot.op");
_Static_assert(offsetof(struct r3_slot, flags) == 2, "r3_slot.flags");
_Static_assert(offsetof(struct r3_slot, tag) == 4, "r3_slot.tag");
_Static_assert(offsetof(struct r3_slot, epoch) == 8, "r3_slot.epoch");
_Static_assert(offsetof(struct r3_slot, status) == 12, "r3_slot.status");
_Static_assert(offsetof(struct r3_slot, length) == 16, "r3_slot.length");
_Static_assert(offsetof(struct r3_slot, session) == 20, "r3_slot.session");
_Static_assert(offsetof(struct r3_slot, args) == 24, "r3_slot.args");

/* Layout `info`, 120 bytes. */
struct r3_info {
	uint64_t magic;
	uint32_t abi_version;
	uint32_t epoch;
	uint32_t start;
	uint32_t channels;
	uint32_t regions;
	uint32_t cpus; /* host CPUs this system may use: with one, spinning never pays */
	uint64_t instance;
	uint64_t tsc_khz;
	uint64_t heap_base;
	uint64_t heap_size;
	uint64_t spin_ns; /* longest spin before a wait */
	uint8_t name[32];
	uint32_t cure; /* one of `cure`, of poisoned state */
	uint32_t reserved;
	uint64_t suspect; /* what the instance before was working on when it died: `working` of its telemetry */
};
_Static_assert(sizeof(struct r3_info) == 120, "size of r3_info");
_Static_assert(offsetof(struct r3_info, magic) == 0, "r3_info.magic");
_Static_assert(offsetof(struct r3_info, abi_version) == 8, "r3_info.abi_version");
_Static_assert(offsetof(struct r3_info, epoch) == 12, "r3_info.epoch");
_Static_assert(offsetof(struct r3_info, start) == 16, "r3_info.start");
_Static_assert(offsetof(struct r3_info, channels) == 20, "r3_info.channels");
_Static_assert(offsetof(struct r3_info, regions) == 24, "r3_info.regions");
_Static_assert(offsetof(struct r3_info, cpus) == 28, "r3_info.cpus");
_Static_assert(offsetof(struct r3_info, instance) == 32, "r3_info.instance");
_Static_assert(offsetof(struct r3_info, tsc_khz) == 40, "r3_info.tsc_khz");
_Static_assert(offsetof(struct r3_info, heap_base) == 48, "r3_info.heap_base");
_Static_assert(offsetof(struct r3_info, heap_size) == 56, "r3_info.heap_size");
_Static_assert(offsetof(struct r3_info, spin_ns) == 64, "r3_info.spin_ns");
_Static_assert(offsetof(struct r3_info, name) == 72, "r3_info.name");
_Static_assert(offsetof(struct r3_info, cure) == 104, "r3_info.cure");
_Static_assert(offsetof(struct r3_info, reserved) == 108, "r3_info.reserved");
_Static_assert(offsetof(struct r3_info, suspect) == 112, "r3_info.suspect");

/* Layout `channel_entry`, 128 bytes. */
struct r3_channel_entry {
	uint8_t name[16]; /* the interface, as in the manifest */
	uint8_t peer[32];
	uint32_t role;
	uint32_t slots;
	uint64_t address;
	uint64_t size;
	uint32_t data_offset;
	uint32_t slot_data; /* bytes of data area per slot */
	uint32_t epoch;
	uint32_t doorbell;
	uint32_t deadline_ms; /* 0: none */
	uint32_t on_restart;
	uint64_t operations; /* bit n: operation n is allowed */
	uint16_t parameter_offset; /* from INFO */
	uint16_t parameter_length;
	uint32_t protocol; /* protocol number << 16 | version */
	uint64_t reserved[2];
};
_Static_assert(sizeof(struct r3_channel_entry) == 128, "size of r3_channel_entry");
_Static_assert(offsetof(struct r3_channel_entry, name) == 0, "r3_channel_entry.name");
_Static_assert(offsetof(struct r3_channel_entry, peer) == 16, "r3_channel_entry.peer");
_Static_assert(offsetof(struct r3_channel_entry, role) == 48, "r3_channel_entry.role");
_Static_assert(offsetof(struct r3_channel_entry, slots) == 52, "r3_channel_entry.slots");
_Static_assert(offsetof(struct r3_channel_entry, address) == 56, "r3_channel_entry.address");
_Static_assert(offsetof(struct r3_channel_entry, size) == 64, "r3_channel_entry.size");
_Static_assert(offsetof(struct r3_channel_entry, data_offset) == 72, "r3_channel_entry.data_offset");
_Static_assert(offsetof(struct r3_channel_entry, slot_data) == 76, "r3_channel_entry.slot_data");
_Static_assert(offsetof(struct r3_channel_entry, epoch) == 80, "r3_channel_entry.epoch");
_Static_assert(offsetof(struct r3_channel_entry, doorbell) == 84, "r3_channel_entry.doorbell");
_Static_assert(offsetof(struct r3_channel_entry, deadline_ms) == 88, "r3_channel_entry.deadline_ms");
_Static_assert(offsetof(struct r3_channel_entry, on_restart) == 92, "r3_channel_entry.on_restart");
_Static_assert(offsetof(struct r3_channel_entry, operations) == 96, "r3_channel_entry.operations");
_Static_assert(offsetof(struct r3_channel_entry, parameter_offset) == 104, "r3_channel_entry.parameter_offset");
_Static_assert(offsetof(struct r3_channel_entry, parameter_length) == 106, "r3_channel_entry.parameter_length");
_Static_assert(offsetof(struct r3_channel_entry, protocol) == 108, "r3_channel_entry.protocol");
_Static_assert(offsetof(struct r3_channel_entry, reserved) == 112, "r3_channel_entry.reserved");

/* Layout `region_entry`, 64 bytes. */
struct r3_region_entry {
	uint8_t name[16];
	uint32_t kind;
	uint32_t channel; /* of a pool or grant object: the channel it belongs to; else all ones */
	uint64_t address; /* 0: not mapped */
	uint64_t size;
	uint64_t iova; /* 0: the device does not see it */
	uint64_t unit; /* of a pool: bytes of one buffer; of a vring: its queue size */
	uint32_t schema; /* of a state region: the version of what is in it */
	uint32_t on_corruption; /* of a state region */
};
_Static_assert(sizeof(struct r3_region_entry) == 64, "size of r3_region_entry");
_Static_assert(offsetof(struct r3_region_entry, name) == 0, "r3_region_entry.name");
_Static_assert(offsetof(struct r3_region_entry, kind) == 16, "r3_region_entry.kind");
_Static_assert(offsetof(struct r3_region_entry, channel) == 20, "r3_region_entry.channel");
_Static_assert(offsetof(struct r3_region_entry, address) == 24, "r3_region_entry.address");
_Static_assert(offsetof(struct r3_region_entry, size) == 32, "r3_region_entry.size");
_Static_assert(offsetof(struct r3_region_entry, iova) == 40, "r3_region_entry.iova");
_Static_assert(offsetof(struct r3_region_entry, unit) == 48, "r3_region_entry.unit");
_Static_assert(offsetof(struct r3_region_entry, schema) == 56, "r3_region_entry.schema");
_Static_assert(offsetof(struct r3_region_entry, on_corruption) == 60, "r3_region_entry.on_corruption");

/* Counters a guest keeps for whoever wants to look; never trusted. */
struct r3_telemetry {
	uint64_t calls;
	uint64_t replies;
	uint64_t failed; /* replies with an error */
	uint64_t replayed;
	uint64_t bytes; /* payload read by a program's file calls */
	uint64_t doorbells;
	uint64_t waits;
	uint64_t spins; /* ticks burnt spinning */
	uint64_t reconnects;
	uint64_t served;
	uint64_t replay_count; /* entries ever written to the replay ring at +0x400 */
	uint64_t start_tsc; /* the guest's TSC at its first instruction */
	uint64_t working; /* the request that a server is working on; 0: none */
	uint64_t reserved[3];
};
_Static_assert(sizeof(struct r3_telemetry) == 128, "size of r3_telemetry");
_Static_assert(offsetof(struct r3_telemetry, calls) == 0, "r3_telemetry.calls");
_Static_assert(offsetof(struct r3_telemetry, replies) == 8, "r3_telemetry.replies");
_Static_assert(offsetof(struct r3_telemetry, failed) == 16, "r3_telemetry.failed");
_Static_assert(offsetof(struct r3_telemetry, replayed) == 24, "r3_telemetry.replayed");
_Static_assert(offsetof(struct r3_telemetry, bytes) == 32, "r3_telemetry.bytes");
_Static_assert(offsetof(struct r3_telemetry, doorbells) == 40, "r3_telemetry.doorbells");
_Static_assert(offsetof(struct r3_telemetry, waits) == 48, "r3_telemetry.waits");
_Static_assert(offsetof(struct r3_telemetry, spins) == 56, "r3_telemetry.spins");
_Static_assert(offsetof(struct r3_telemetry, reconnects) == 64, "r3_telemetry.reconnects");
_Static_assert(offsetof(struct r3_telemetry, served) == 72, "r3_telemetry.served");
_Static_assert(offsetof(struct r3_telemetry, replay_count) == 80, "r3_telemetry.replay_count");
_Static_assert(offsetof(struct r3_telemetry, start_tsc) == 88, "r3_telemetry.start_tsc");
_Static_assert(offsetof(struct r3_telemetry, working) == 96, "r3_telemetry.working");
_Static_assert(offsetof(struct r3_telemetry, reserved) == 104, "r3_telemetry.reserved");

/* The replay ring: 128 entries at TELEMETRY + 0x400. */
struct r3_replay_entry {
	uint32_t channel;
	uint32_t epoch;
	uint64_t tsc; /* when the first replayed request of that epoch was answered */
};
_Static_assert(sizeof(struct r3_replay_entry) == 16, "size of r3_replay_entry");
_Static_assert(offsetof(struct r3_replay_entry, channel) == 0, "r3_replay_entry.channel");
_Static_assert(offsetof(struct r3_replay_entry, epoch) == 4, "r3_replay_entry.epoch");
_Static_assert(offsetof(struct r3_replay_entry, tsc) == 8, "r3_replay_entry.tsc");

#endif
