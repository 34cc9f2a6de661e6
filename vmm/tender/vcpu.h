/* The vCPU thread of one VM, as the tender and tests see it. */
#ifndef R3S3_VCPU_H
#define R3S3_VCPU_H

#include <linux/kvm.h>
#include <stdint.h>

#include "hypervisor/abi/generated.h"

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

void vcpu_init(struct vcpu *vcpu);
int vcpu_run(struct vcpu *vcpu);
int vcpu_step(struct vcpu *vcpu);
void vcpu_hold(struct vcpu *vcpu, uint32_t bits);
void vcpu_release(struct vcpu *vcpu, uint32_t bits);
void vcpu_answer(struct vcpu *vcpu, uint64_t rax, uint64_t rdx);

#endif
