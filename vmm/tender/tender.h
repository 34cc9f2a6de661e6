/* A tender in C, from the zygote's fork to its end. The structures the zygote fills in are made in Python
 * (plan.py, kvm.py, jail.py), once, so that a child touches none of the interpreter's pages. Functions
 * that return int return 0, or -1 with `errno` set. */
#ifndef R3S3_TENDER_H
#define R3S3_TENDER_H

#include <errno.h>
#include <linux/kvm.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "hypervisor/abi/generated.h"

/* -- vcpu.c: the vCPU loop --------------------------------------------------------------------------- */

/* Why `vcpu_run` returned. */
enum vcpu_event {
    EVENT_HYPERCALL = 1, /* registers hold a hypercall that C does not serve */
    EVENT_EXCEPTION,    /* trap stub: `detail` is the vector */
    EVENT_MISSING,      /* KVM_RUN = EFAULT: memory that is not there; the address is not known yet */
    EVENT_ADDRESS,      /* a store to (`detail` 1) or load from (0) `address`, which means nothing */
    EVENT_DOORBELL,     /* doorbell number `detail` was rung and never given */
    EVENT_SHUTDOWN,     /* triple fault */
    EVENT_UNKNOWN,      /* `detail` is KVM's exit reason, `address` its suberror, `error` an errno */
};

/* Why the vCPU may not enter the guest: bits of `hold`. */
enum vcpu_hold { HOLD_NEW = 1, HOLD_CALL = 2, HOLD_FAULT = 4, HOLD_SPARE = 8 /* at `start` only */ };

/* Words of the statistics page; read by the hypervisor at any time, so each is written whole. */
enum vcpu_stat {
    STAT_EXITS, STAT_CALLS, STAT_WAITS, STAT_DOORBELLS, STAT_SIGNALS, STAT_FAULTS, STAT_WAKES,
    STAT_FIRST_NS, STAT_THREAD, STAT_TIMEOUTS, STAT_STATE, STAT_STATE_NS, STAT_RESTS
};

enum { DOORBELL_NONE = -1 };

struct vcpu {
    struct kvm_run *run;
    struct kvm_regs *regs;  /* inside `run`: valid after each exit, written back when `dirty` */
    uint64_t *stats;
    uint64_t allowed;       /* bit n: hypercall n */
    uint64_t address;
    uint32_t hold;          /* also a futex; changed only by vcpu_hold and vcpu_release */
    uint32_t detail;
    int32_t error;
    int32_t fd, epoll_fd;
    int32_t doorbells[R3_DOORBELLS];  /* the eventfd, or DOORBELL_NONE */
};

int vcpu_run(struct vcpu *vcpu);
int vcpu_step(struct vcpu *vcpu);
void vcpu_hold(struct vcpu *vcpu, uint32_t bits);
void vcpu_release(struct vcpu *vcpu, uint32_t bits);
void vcpu_answer(struct vcpu *vcpu, uint64_t rax, uint64_t rdx);

/* jail.c: what is taken away. `limits` are by resource; all ones leave one as it is. */
struct jail {
    uint64_t namespaces; /* CLONE_NEW* of the fork */
    int32_t as_root;
    uint32_t uid, gid;   /* of an ordinary user, outside its user namespace */
    uint32_t instructions;
    const void *filter;
    uint64_t limits[RLIM_NLIMITS];
};
int jail_confine(const struct jail *jail, const int32_t *keep, uint32_t count);
int jail_seal(const struct jail *jail);

/* machine.c: one VM with one vCPU at CPL3. */
enum { PAGE_FAULT = 14 };
enum slot_number { SLOT_RAM, SLOT_RW, SLOT_RO, SLOTS };
struct slot {
    uint64_t start, size; /* guest addresses */
    char *place;
};
struct kvm_host {
    int32_t fd;
    uint32_t run_size;
    uint64_t xcr0;
    struct kvm_sregs sregs; /* of every new vCPU */
    struct kvm_cpuid2 *cpuid;
};
struct machine {
    const struct kvm_host *kvm;
    int32_t fd;
    struct slot slots[SLOTS];
    struct vcpu vcpu;
};
int machine_make(struct machine *vm, const struct kvm_host *kvm, void *ram, uint64_t memory, uint64_t *stats);
int machine_enter(struct machine *vm, uint64_t entry, uint64_t stack, uint64_t argument);
int machine_warm_up(struct machine *vm);
int machine_settle(struct machine *vm);
int machine_doorbell(struct machine *vm, uint64_t number, int fd, int remove);

/* faults.c: why a VM stopped. From `regs` on it is the body of a FAULT record. */
struct fault {
    uint64_t kind, vector, error_code, address;
    struct kvm_regs regs; /* of the faulting instruction */
    uint64_t cs, ss;      /* 0: not known */
    char text[128];       /* only where the numbers do not say it */
};
void examine(struct machine *vm, int event, struct fault *fault);

/* tender.c */
struct range { uint64_t start, end; };
struct piece { /* of the memory's first contents: from `bytes`, or where there are none from the template */
    uint64_t address, length, offset;
    const char *bytes;
};
struct plan {
    uint64_t memory, entry, slice_ns;
    uint64_t allowed, known; /* bit n: hypercall n */
    uint32_t private_memory, pieces_count, readable_count, writable_count;
    const struct piece *pieces;
    const struct range *readable, *writable; /* the component's own memory, as far as it is in its RAM */
};
enum tender_fd { FD_SOCKET, FD_RAM, FD_TEMPLATE, FD_TELEMETRY, FD_STATS, FDS };
int own_memory(const struct range *ranges, uint32_t count, uint64_t address, uint64_t length);
int tender_fill(const struct plan *plan, char *ram, int template);
long tender_spawn(const struct plan *plan, const struct kvm_host *kvm, const struct jail *jail,
                  const int32_t *fds, const int32_t *keep, uint32_t count);

/* hypervisor/wire.py in C */
enum wire_kind {
    WIRE_APPLY = 10, WIRE_PING = 12, WIRE_RESULT = 13,
    WIRE_ACK = 20, WIRE_PONG = 22, WIRE_HYPERCALL = 30, WIRE_FAULT = 31
};
enum wire_operation {
    WIRE_MAP = 1, WIRE_UNMAP = 2, WIRE_DOORBELL = 3, WIRE_WAKE = 5, WIRE_INFO = 7, WIRE_RUN = 8, WIRE_WARM = 9
};
enum { WIRE_BODY_MAX = 128 * 1024, WIRE_DESCRIPTORS_MAX = 200, WIRE_MAP_WRITABLE = 1 };

/* host.c */
enum { CONTROL_SLICE_NS = 100000 }; /* of threads that carry out a command and sleep again */
extern int32_t host_gate[2];
long host_clone(uint64_t namespaces);
long host_fork(uint64_t namespaces);
int host_set_slice(uint64_t nanoseconds);

#endif
