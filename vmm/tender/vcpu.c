/* The vCPU loop: runs the guest without Python (and without its lock) until Python is needed.
 *
 * It serves WAIT itself, forwards doorbells that KVM did not take, and counts. Everything else ends the
 * call with an event. What comes out of `run` was chosen by the guest or by KVM: an exit that is not
 * expected here is an event too, never ignored. */
#define _GNU_SOURCE
#include "vcpu.h"

#include <errno.h>
#include <linux/futex.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { STATE_STOPPED = 0, STATE_GUEST = 1, STATE_WAITING = 2 };
enum { CALL_BYTES = 4, WAKES_AT_ONCE = 128, TRAP_FLAG = 0x100 };

static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void store(uint64_t *word, uint64_t value)
{
    __atomic_store_n(word, value, __ATOMIC_RELAXED);
}

/* Each word has one writer, so a plain addition and a whole store suffice. */
static void count(struct vcpu *vcpu, enum vcpu_stat which)
{
    store(&vcpu->stats[which], vcpu->stats[which] + 1);
}

static void enter_state(struct vcpu *vcpu, uint64_t state)
{
    store(&vcpu->stats[STAT_STATE_NS], now_ns());
    store(&vcpu->stats[STAT_STATE], state);
}

static int event(struct vcpu *vcpu, enum vcpu_event what)
{
    if (what != EVENT_HYPERCALL && what != EVENT_STOPPED) {
        __atomic_or_fetch(&vcpu->hold, HOLD_FAULT, __ATOMIC_SEQ_CST);
        count(vcpu, STAT_FAULTS);
    }
    enter_state(vcpu, STATE_STOPPED);
    return what;
}

/* Results of a hypercall, taken over by KVM at the next entry. Call only while the vCPU is held. */
void vcpu_answer(struct vcpu *vcpu, uint64_t rax, uint64_t rdx)
{
    vcpu->regs->rax = rax;
    vcpu->regs->rdx = rdx;
    vcpu->run->kvm_dirty_regs = KVM_SYNC_X86_REGS;
}

/* The WAIT hypercall. A signal or the control eventfd wakes it like any doorbell: a guest looks again
 * after every wake-up, so a spurious one costs little and a lost one would cost everything. */
static void wait_for_wake(struct vcpu *vcpu)
{
    struct epoll_event events[WAKES_AT_ONCE];
    uint64_t timeout_ns = vcpu->regs->rdi;
    struct timespec limit = { (time_t)(timeout_ns / 1000000000u), (long)(timeout_ns % 1000000000u) };

    count(vcpu, STAT_WAITS);
    enter_state(vcpu, STATE_WAITING);
    long woken = syscall(SYS_epoll_pwait2, vcpu->epoll_fd, events, WAKES_AT_ONCE,
                         timeout_ns == UINT64_MAX ? NULL : &limit, NULL, 0);
    enter_state(vcpu, STATE_GUEST);
    count(vcpu, woken == 0 ? STAT_TIMEOUTS : STAT_WAKES);
    vcpu->regs->rax = woken == 0;
    vcpu->run->kvm_dirty_regs = KVM_SYNC_X86_REGS;
}

/* A store to the doorbell page that no ioeventfd took: either the doorbell is just being replaced, and
 * must not get lost, or it was withdrawn, and does nothing, or it was never this guest's. */
static int ring(struct vcpu *vcpu, uint64_t offset)
{
    vcpu->detail = (uint32_t)(offset / 8);
    if (offset % 8 || vcpu->run->mmio.len != CALL_BYTES || vcpu->detail >= R3_DOORBELLS)
        return EVENT_ADDRESS;
    int bell = __atomic_load_n(&vcpu->doorbells[vcpu->detail], __ATOMIC_SEQ_CST);
    if (bell == DOORBELL_NEVER)
        return EVENT_DOORBELL;
    count(vcpu, STAT_DOORBELLS);
    uint64_t one = 1;
    /* Full, withdrawn meanwhile: nobody is left to be told. */
    if (bell >= 0 && write(bell, &one, sizeof one) < 0)
        return 0;
    return 0;
}

/* An access outside every slot. Returns an event, or 0 to go on. */
static int serve_access(struct vcpu *vcpu)
{
    struct kvm_run *run = vcpu->run;
    uint64_t address = run->mmio.phys_addr;

    if (run->mmio.is_write && address == R3_HYPERCALL_PAGE && run->mmio.len == CALL_BYTES) {
        if (vcpu->regs->rax != R3_HYPERCALL_WAIT || !(vcpu->allowed >> R3_HYPERCALL_WAIT & 1)) {
            count(vcpu, STAT_CALLS);
            /* Before anybody hears of the call: its answer may come at once. */
            __atomic_or_fetch(&vcpu->hold, HOLD_CALL, __ATOMIC_SEQ_CST);
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

/* Sleep until Python lets the vCPU go on; EVENT_STOPPED once for each stop, else 0. */
static int wait_while_held(struct vcpu *vcpu)
{
    uint32_t hold;
    while ((hold = __atomic_load_n(&vcpu->hold, __ATOMIC_SEQ_CST))) {
        if (!(hold & HOLD_STOP)) {
            vcpu->stop_reported = 0;
        } else if (!vcpu->stop_reported) {
            vcpu->stop_reported = 1;
            return EVENT_STOPPED;
        }
        syscall(SYS_futex, &vcpu->hold, FUTEX_WAIT_PRIVATE, hold, NULL, NULL, 0);
    }
    vcpu->stop_reported = 0;
    return 0;
}

/* What one KVM_RUN came back with: an event, or 0 to go on. `failed` is what the ioctl returned. */
static int serve_exit(struct vcpu *vcpu, int failed)
{
    struct kvm_run *run = vcpu->run;
    if (failed && errno == EINTR) {
        /* Cleared before `hold` is read, set after `hold` was written: no kick gets lost. */
        __atomic_store_n(&run->immediate_exit, 0, __ATOMIC_SEQ_CST);
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

int vcpu_run(struct vcpu *vcpu)
{
    int what = wait_while_held(vcpu);
    if (what)
        return event(vcpu, what);
    vcpu->run->kvm_valid_regs = KVM_SYNC_X86_REGS;
    enter_state(vcpu, STATE_GUEST);
    if (!vcpu->stats[STAT_FIRST_NS])
        store(&vcpu->stats[STAT_FIRST_NS], vcpu->stats[STAT_STATE_NS]);
    for (;;) {
        int failed = ioctl(vcpu->fd, KVM_RUN, 0);
        count(vcpu, STAT_EXITS);
        what = serve_exit(vcpu, failed);
        if (what)
            return event(vcpu, what);
        if (__atomic_load_n(&vcpu->hold, __ATOMIC_SEQ_CST)) {
            enter_state(vcpu, STATE_STOPPED);
            what = wait_while_held(vcpu);
            if (what)
                return event(vcpu, what);
            enter_state(vcpu, STATE_GUEST);
        }
    }
}

/* Run at most one more instruction of a guest that has faulted, whatever `hold` says. Its event: with the
 * trap flag set, EVENT_EXCEPTION (#DB) if nothing stops it. */
int vcpu_step(struct vcpu *vcpu)
{
    int what;
    vcpu->run->kvm_valid_regs = KVM_SYNC_X86_REGS;
    vcpu->regs->rflags |= TRAP_FLAG;
    vcpu->run->kvm_dirty_regs = KVM_SYNC_X86_REGS;
    do
        what = serve_exit(vcpu, ioctl(vcpu->fd, KVM_RUN, 0));
    while (!what);
    return what;
}

/* Give KVM the results of the last exit without entering the guest, so that its state can be saved or
 * replaced. Only while no thread is in vcpu_run. */
void vcpu_settle(struct vcpu *vcpu)
{
    __atomic_store_n(&vcpu->run->immediate_exit, 1, __ATOMIC_SEQ_CST);
    ioctl(vcpu->fd, KVM_RUN, 0); /* EINTR, by design */
    __atomic_store_n(&vcpu->run->immediate_exit, 0, __ATOMIC_SEQ_CST);
}

static void nothing(int number)
{
    (void)number;
}

/* The kick: interrupts KVM_RUN and epoll (no SA_RESTART), does nothing by itself. */
void vcpu_catch_kicks(void)
{
    struct sigaction action = { .sa_handler = nothing };
    sigaction(SIGUSR1, &action, NULL);
}

/* Keep the vCPU out of the guest. It is certainly out only after EVENT_STOPPED. */
void vcpu_hold(struct vcpu *vcpu, uint32_t bits)
{
    uint64_t one = 1;
    __atomic_or_fetch(&vcpu->hold, bits, __ATOMIC_SEQ_CST);
    __atomic_store_n(&vcpu->run->immediate_exit, 1, __ATOMIC_SEQ_CST);
    /* Whichever it is in: a wait, the guest, or (futex) an earlier hold. */
    if (write(vcpu->control_fd, &one, sizeof one) < 0)
        one = 0;
    syscall(SYS_futex, &vcpu->hold, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
    if (vcpu->thread_id)
        syscall(SYS_tgkill, getpid(), vcpu->thread_id, SIGUSR1);
}

void vcpu_release(struct vcpu *vcpu, uint32_t bits)
{
    __atomic_and_fetch(&vcpu->hold, ~bits, __ATOMIC_SEQ_CST);
    syscall(SYS_futex, &vcpu->hold, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

/* Where the synchronised registers lie in the structure shared with KVM. */
struct kvm_regs *vcpu_registers(struct kvm_run *run)
{
    return &run->s.regs.regs;
}
