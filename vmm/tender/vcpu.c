/* The vCPU loop: runs the guest until somebody else is needed.
 *
 * It serves WAIT itself, forwards doorbells that KVM did not take, and counts. Everything else ends the
 * call with an event. What comes out of `run` was chosen by the guest or by KVM: an exit that is not
 * expected here is an event too, never ignored. */
#include "vmm/tender/tender.h"

#include <linux/futex.h>
#include <sys/eventfd.h>
#include <time.h>

enum { STATE_STOPPED = 0, STATE_GUEST = 1, STATE_WAITING = 2 };
enum { CALL_BYTES = 4, REST_MAX_NS = 10000000, WAKES_AT_ONCE = 128, TRAP_FLAG = 0x100 };

static uint64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void store(uint64_t *word, uint64_t value) {
    __atomic_store_n(word, value, __ATOMIC_RELAXED);
}

/* Each word has one writer, so a plain addition and a whole store suffice. */
static void count(struct vcpu *vcpu, enum vcpu_stat which) {
    store(&vcpu->stats[which], vcpu->stats[which] + 1);
}

static void enter_state(struct vcpu *vcpu, uint64_t state) {
    store(&vcpu->stats[STAT_STATE_NS], now_ns());
    store(&vcpu->stats[STAT_STATE], state);
}

/* Keep the vCPU out of the guest from its next exit on. */
void vcpu_hold(struct vcpu *vcpu, uint32_t bits) {
    __atomic_or_fetch(&vcpu->hold, bits, __ATOMIC_SEQ_CST);
}

void vcpu_release(struct vcpu *vcpu, uint32_t bits) {
    __atomic_and_fetch(&vcpu->hold, ~bits, __ATOMIC_SEQ_CST);
    syscall(SYS_futex, &vcpu->hold, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

/* Sleep as long as any of `bits` holds the vCPU. */
static void sleep_while(struct vcpu *vcpu, uint32_t bits) {
    uint32_t hold;
    while ((hold = __atomic_load_n(&vcpu->hold, __ATOMIC_SEQ_CST)) & bits)
        syscall(SYS_futex, &vcpu->hold, FUTEX_WAIT_PRIVATE, hold, NULL, NULL, 0);
}

/* Results of a hypercall, taken over by KVM at the next entry. Call only while the vCPU is held. */
void vcpu_answer(struct vcpu *vcpu, uint64_t rax, uint64_t rdx) {
    vcpu->regs->rax = rax;
    vcpu->regs->rdx = rdx;
    vcpu->run->kvm_dirty_regs = KVM_SYNC_X86_REGS;
}

/* The WAIT hypercall. A signal wakes it like any doorbell: a guest looks again after every wake-up, so a
 * spurious one costs little and a lost one would cost everything. Only a guest knows which doorbells were for
 * nothing, so it asks for the rest that keeps a storm of them from eating its CPU time. */
static void wait_for_wake(struct vcpu *vcpu) {
    struct epoll_event events[WAKES_AT_ONCE];
    uint64_t timeout_ns = vcpu->regs->rdi, rest_ns = vcpu->regs->rsi;
    struct timespec limit = { (time_t)(timeout_ns / 1000000000u), (long)(timeout_ns % 1000000000u) };

    count(vcpu, STAT_WAITS);
    enter_state(vcpu, STATE_WAITING);
    if (rest_ns) {
        struct timespec rest = { 0, rest_ns < REST_MAX_NS ? (long)rest_ns : REST_MAX_NS };
        count(vcpu, STAT_RESTS);
        clock_nanosleep(CLOCK_MONOTONIC, 0, &rest, NULL);
    }
    long woken = syscall(SYS_epoll_pwait2, vcpu->epoll_fd, events, WAKES_AT_ONCE,
                         timeout_ns == UINT64_MAX ? NULL : &limit, NULL, 0);
    enter_state(vcpu, STATE_GUEST);
    count(vcpu, woken == 0 ? STAT_TIMEOUTS : STAT_WAKES);
    vcpu_answer(vcpu, woken == 0, vcpu->regs->rdx);
}

/* The START hypercall: a spare has prepared itself, and waits for its adoption. */
static void wait_for_adoption(struct vcpu *vcpu) {
    enter_state(vcpu, STATE_WAITING);
    sleep_while(vcpu, HOLD_SPARE);
    enter_state(vcpu, STATE_GUEST);
    store(&vcpu->stats[STAT_FIRST_NS], vcpu->stats[STAT_STATE_NS]);
}

/* A store to the doorbell page that no ioeventfd took: either the doorbell is just being replaced, and
 * must not get lost, or it was never this guest's. */
static int ring(struct vcpu *vcpu, uint64_t offset) {
    vcpu->detail = (uint32_t)(offset / 8);
    if (offset % 8 || vcpu->run->mmio.len != CALL_BYTES || vcpu->detail >= R3_DOORBELLS)
        return EVENT_ADDRESS;
    int bell = __atomic_load_n(&vcpu->doorbells[vcpu->detail], __ATOMIC_SEQ_CST);
    if (bell < 0)
        return EVENT_DOORBELL;
    count(vcpu, STAT_DOORBELLS);
    eventfd_write(bell, 1); /* full: rung enough */
    return 0;
}

/* An access outside every slot. Returns an event, or 0 to go on. */
static int serve_access(struct vcpu *vcpu) {
    struct kvm_run *run = vcpu->run;
    uint64_t address = run->mmio.phys_addr;

    if (run->mmio.is_write && address == R3_HYPERCALL_PAGE && run->mmio.len == CALL_BYTES) {
        if (vcpu->regs->rax == R3_HYPERCALL_START) {
            wait_for_adoption(vcpu);
            return 0;
        }
        if (vcpu->regs->rax != R3_HYPERCALL_WAIT || !(vcpu->allowed >> R3_HYPERCALL_WAIT & 1)) {
            count(vcpu, STAT_CALLS);
            /* Before anybody hears of the call: its answer may come at once. */
            vcpu_hold(vcpu, HOLD_CALL);
            return EVENT_HYPERCALL;
        }
        wait_for_wake(vcpu);
        return 0;
    }
    vcpu->address = address;
    if (run->mmio.is_write && address >= R3_DOORBELL_PAGE && address < R3_DOORBELL_PAGE + R3_PAGE_SIZE) {
        int what = ring(vcpu, address - R3_DOORBELL_PAGE);
        if (what != EVENT_ADDRESS)
            return what;
    }
    vcpu->detail = run->mmio.is_write;
    return EVENT_ADDRESS;
}

/* What one KVM_RUN came back with: an event, or 0 to go on. `failed` is what the ioctl returned. */
static int serve_exit(struct vcpu *vcpu, int failed) {
    struct kvm_run *run = vcpu->run;
    if (failed && errno == EINTR) { /* the process was stopped and goes on */
        count(vcpu, STAT_SIGNALS);
        return 0;
    }
    if (failed && errno == EFAULT)
        return EVENT_MISSING;
    if (!failed && run->exit_reason == KVM_EXIT_MMIO)
        return serve_access(vcpu);
    if (!failed && run->exit_reason == KVM_EXIT_IO && run->io.direction == KVM_EXIT_IO_OUT) {
        vcpu->detail = run->io.port; /* only trap stubs can do I/O: IOPL is 0 */
        return EVENT_EXCEPTION;
    }
    if (!failed && run->exit_reason == KVM_EXIT_SHUTDOWN)
        return EVENT_SHUTDOWN;
    vcpu->error = failed ? errno : 0;
    vcpu->detail = run->exit_reason;
    vcpu->address = run->exit_reason == KVM_EXIT_INTERNAL_ERROR ? run->internal.suberror : 0;
    return EVENT_UNKNOWN;
}

/* Sleep until the control thread lets the vCPU go on, then run the guest to its next event. */
int vcpu_run(struct vcpu *vcpu) {
    int what;
    sleep_while(vcpu, ~(uint32_t)HOLD_SPARE);
    vcpu->run->kvm_valid_regs = KVM_SYNC_X86_REGS;
    enter_state(vcpu, STATE_GUEST);
    if (!vcpu->stats[STAT_FIRST_NS])
        store(&vcpu->stats[STAT_FIRST_NS], vcpu->stats[STAT_STATE_NS]);
    do {
        int failed = ioctl(vcpu->fd, KVM_RUN, 0);
        count(vcpu, STAT_EXITS);
        what = serve_exit(vcpu, failed);
    } while (!what);
    if (what != EVENT_HYPERCALL) {
        vcpu_hold(vcpu, HOLD_FAULT);
        count(vcpu, STAT_FAULTS);
    }
    enter_state(vcpu, STATE_STOPPED);
    return what;
}

/* Run at most one more instruction of a guest that has faulted, whatever `hold` says. Its event: with the
 * trap flag set, EVENT_EXCEPTION (#DB) if nothing stops it. */
int vcpu_step(struct vcpu *vcpu) {
    int what;
    vcpu->run->kvm_valid_regs = KVM_SYNC_X86_REGS;
    vcpu->regs->rflags |= TRAP_FLAG;
    vcpu->run->kvm_dirty_regs = KVM_SYNC_X86_REGS;
    do
        what = serve_exit(vcpu, ioctl(vcpu->fd, KVM_RUN, 0));
    while (!what);
    return what;
}
