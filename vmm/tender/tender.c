/* The tender: the jailed process around one VM.
 *
 * Two threads. The control thread waits for the hypervisor's records (hypervisor/wire.py) and ends the
 * process when its socket closes. The vCPU thread runs the guest; where a hypercall needs the hypervisor, or
 * the guest has come to its end, it sends a record and sleeps until the control thread lets it go on. So
 * neither ever waits for the other, and a guest cannot keep either from ending.
 *
 * Everything up to the first APPLY is done beforehand; that makes a warm spare. An operation that cannot be
 * carried out ends the tender, with the reason. */
#include "vmm/tender/tender.h"

#include <pthread.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/socket.h>

struct header {
    uint32_t kind, sequence;
    uint64_t args[6];
};
struct operation {
    uint32_t kind, fd;
    uint64_t a, b, c;
};
static struct { /* the record that is being served: a copy, which nobody else can change */
    struct header header;
    char body[WIRE_BODY_MAX];
    size_t length; /* of the body */
    uint32_t fds_count;
    int fds[WIRE_DESCRIPTORS_MAX]; /* -1: taken */
} record;
static struct {
    const struct plan *plan;
    struct machine vm;
    int sock;
    int wakes[R3_DOORBELLS]; /* 0: none */
} tender;

/* -- records ------------------------------------------------------------------------------------------ */

/* The kernel copies the body once, wherever it lies: also out of the guest's RAM. */
static void send_record(struct header header, const void *body, size_t length) {
    struct iovec parts[] = { { &header, sizeof header }, { (void *)body, length } };
    struct msghdr message = { .msg_iov = parts, .msg_iovlen = 2 };
    if (sendmsg(tender.sock, &message, MSG_NOSIGNAL) < 0)
        _exit(errno == EPIPE || errno == ECONNRESET ? EXIT_SUCCESS : EXIT_FAILURE);
}

static void report(const struct fault *fault) {
    struct header header = { WIRE_FAULT, 0, { fault->kind, fault->vector, fault->error_code, fault->address,
                                              fault->regs.rip, fault->regs.rsp } };
    size_t numbers = offsetof(struct fault, text) - offsetof(struct fault, regs);
    send_record(header, &fault->regs, numbers + strnlen(fault->text, sizeof fault->text));
}

/* Say what went wrong and end the process. */
__attribute__((noreturn, format(printf, 1, 2))) static void fail(const char *format, ...) {
    struct fault fault = { .kind = R3_FAULT_INTERNAL, .text = "the tender failed: " };
    size_t used = strlen(fault.text);
    va_list values;
    va_start(values, format);
    vsnprintf(fault.text + used, sizeof fault.text - used, format, values);
    va_end(values);
    report(&fault);
    _exit(EXIT_FAILURE);
}

/* The next record. The end of the stream ends the process. */
static void receive(void) {
    union {
        char room[CMSG_SPACE(sizeof record.fds)];
        struct cmsghdr aligned;
    } control;
    struct iovec part = { &record, offsetof(__typeof__(record), length) };
    struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1,
                              .msg_control = &control, .msg_controllen = sizeof control };
    ssize_t got = recvmsg(tender.sock, &message, MSG_CMSG_CLOEXEC);
    if (got == 0 || (got < 0 && errno == ECONNRESET))
        _exit(EXIT_SUCCESS);
    if (got < (ssize_t)sizeof record.header || message.msg_flags & (MSG_TRUNC | MSG_CTRUNC))
        fail("record of %zd bytes, flags %#x", got, message.msg_flags);
    record.length = (size_t)got - sizeof record.header;
    record.fds_count = 0;
    const struct cmsghdr *first = CMSG_FIRSTHDR(&message); /* there is only one kind, and only one of it */
    if (first && first->cmsg_level == SOL_SOCKET && first->cmsg_type == SCM_RIGHTS) {
        record.fds_count = (uint32_t)((first->cmsg_len - CMSG_LEN(0)) / sizeof *record.fds);
        memcpy(record.fds, CMSG_DATA(first), record.fds_count * sizeof *record.fds);
    }
}

/* -- the vCPU thread ---------------------------------------------------------------------------------- */

/* Whether `length` bytes at a guest's address are the component's own memory: all in one of its ranges. */
int own_memory(const struct range *ranges, uint32_t count, uint64_t address, uint64_t length) {
    for (; count; count--, ranges++)
        if (ranges->start <= address && address <= ranges->end && length <= ranges->end - address)
            return 1;
    return 0;
}

/* Hypercalls whose bytes go along: which argument is the address, which the length, most bytes. */
static const struct { uint8_t address, length; uint32_t most; } carries[] = {
    [R3_HYPERCALL_LOG] = { 1, 2, R3_LOG_MAX },
    [R3_HYPERCALL_PANIC] = { 0, 1, R3_LOG_MAX },
    [R3_HYPERCALL_OUTPUT] = { 1, 2, R3_OUTPUT_MAX },
    [R3_HYPERCALL_COPY_TO_GRANT] = { 3, 4, R3_OUTPUT_MAX },
};

static void answer(uint64_t rax, uint64_t rdx) {
    vcpu_answer(&tender.vm.vcpu, rax, rdx);
    vcpu_release(&tender.vm.vcpu, HOLD_CALL);
}

/* Tell the hypervisor of a hypercall; what is wrong with it is returned as a kind of fault, else 0. */
static int serve_hypercall(struct fault *fault) {
    const struct plan *plan = tender.plan;
    const struct kvm_regs *regs = &fault->regs;
    uint64_t arguments[] = { regs->rdi, regs->rsi, regs->rdx, regs->r10, regs->r8, regs->r9 };
    uint64_t number = regs->rax, address = 0, length = 0;
    struct header header = { WIRE_HYPERCALL, 0, { number } };

    fault->address = number;
    if (number >= 64 || !(plan->known >> number & 1))
        return R3_FAULT_UNKNOWN_HYPERCALL;
    if (!(plan->allowed >> number & 1))
        return R3_FAULT_DENIED_HYPERCALL;
    if (number < sizeof carries / sizeof *carries && carries[number].most) {
        address = arguments[carries[number].address];
        length = arguments[carries[number].length];
        if (length > carries[number].most
            || !own_memory(plan->readable, plan->readable_count, address, length)) {
            fault->vector = number;
            fault->error_code = length;
            fault->address = address;
            if (number != R3_HYPERCALL_PANIC) /* a panic stays one, even without its message */
                return R3_FAULT_BAD_ARGUMENT;
            length = 0;
        }
    }
    if (number == R3_HYPERCALL_READY)
        answer(0, 0); /* there is nothing to wait for: the guest goes on at once */
    memcpy(&header.args[1], arguments, 5 * sizeof *arguments);
    send_record(header, length ? tender.vm.slots[SLOT_RAM].place + address : NULL, length);
    return 0;
}

static void *run_vcpu(void *unused) {
    struct vcpu *vcpu = &tender.vm.vcpu;
    __atomic_store_n(&vcpu->stats[STAT_THREAD], (uint64_t)gettid(), __ATOMIC_RELAXED);
    for (;;) {
        struct fault fault = { 0 };
        int event = vcpu_run(vcpu);
        if (event == EVENT_HYPERCALL) {
            fault.regs = *vcpu->regs;
            fault.kind = (uint64_t)serve_hypercall(&fault);
        } else {
            examine(&tender.vm, event, &fault);
        }
        if (fault.kind) {
            vcpu_hold(vcpu, HOLD_FAULT);
            report(&fault);
        }
    }
    return unused;
}

/* -- the control thread ------------------------------------------------------------------------------- */

/* Map over a page-aligned range of a window; nothing where there is no descriptor. */
static int map(uint64_t address, uint64_t length, int protection, int fd, uint64_t offset) {
    int flags = fd < 0 ? MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE : MAP_SHARED;
    if ((address | length) % R3_PAGE_SIZE || !length)
        return -1;
    for (int number = SLOT_RW; number < SLOTS; number++) {
        const struct slot *slot = &tender.vm.slots[number];
        uint64_t at = address - slot->start;
        if (at < slot->size && length <= slot->size - at && (number == SLOT_RW || !(protection & PROT_WRITE)))
            return mmap(slot->place + at, length, protection, flags | MAP_FIXED, fd, (off_t)offset) == MAP_FAILED;
    }
    return -1;
}

/* While neither eventfd is registered, the vCPU loop sends rings to the new one. */
static int doorbell(uint64_t number, int fd) {
    if (number >= R3_DOORBELLS)
        return -1;
    int old = __atomic_exchange_n(&tender.vm.vcpu.doorbells[number], fd, __ATOMIC_SEQ_CST);
    if (old != DOORBELL_NONE && (machine_doorbell(&tender.vm, number, old, 1) || close(old)))
        return -1;
    return machine_doorbell(&tender.vm, number, fd, 0);
}

/* A doorbell is an edge: nobody has to read the eventfd. */
static int wake(uint64_t number, int fd) {
    struct epoll_event edge = { .events = EPOLLIN | EPOLLET };
    int epoll = tender.vm.vcpu.epoll_fd;
    if (number >= R3_DOORBELLS || epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &edge))
        return -1;
    int old = tender.wakes[number];
    tender.wakes[number] = fd;
    return old && (epoll_ctl(epoll, EPOLL_CTL_DEL, old, NULL) || close(old));
}

static int set_info(uint64_t offset, uint64_t length, size_t *rest) {
    uint64_t size = R3_INFO_PAGES * R3_PAGE_SIZE;
    if (offset > size || length > size - offset || length > record.length - *rest)
        return -1;
    memcpy(tender.vm.slots[SLOT_RAM].place + R3_INFO + offset, record.body + *rest, length);
    *rest += length;
    return 0;
}

/* Nonzero if it makes no sense or is refused. A descriptor that stays open is taken out of the record. */
static int operate(const struct operation *op, size_t *rest) {
    int fd = -1;
    if (op->kind == WIRE_MAP || op->kind == WIRE_DOORBELL || op->kind == WIRE_WAKE) {
        if (op->fd >= record.fds_count || (fd = record.fds[op->fd]) < 0)
            return -1;
        if (op->kind != WIRE_MAP)
            record.fds[op->fd] = -1;
    }
    switch (op->kind) {
    case WIRE_MAP:
        return map(op->a, op->b, op->c & WIRE_MAP_WRITABLE ? PROT_READ | PROT_WRITE : PROT_READ, fd,
                   op->c & -(uint64_t)R3_PAGE_SIZE);
    case WIRE_UNMAP:
        return map(op->a, op->b, PROT_NONE, -1, 0);
    case WIRE_DOORBELL:
        return doorbell(op->a, fd);
    case WIRE_WAKE:
        return wake(op->a, fd);
    case WIRE_INFO:
        return set_info(op->a, op->b, rest);
    case WIRE_WARM:
        vcpu_release(&tender.vm.vcpu, HOLD_NEW);
        return 0;
    case WIRE_RUN:
        vcpu_release(&tender.vm.vcpu, HOLD_NEW | HOLD_SPARE);
        return 0;
    default:
        return -1;
    }
}

/* Carry out the record's first `count` operations in order; returns where the rest of its body begins. */
static size_t apply(uint64_t count) {
    const struct operation *op = (const struct operation *)record.body;
    if (count > record.length / sizeof *op)
        fail("%llu operations in %zu bytes", (unsigned long long)count, record.length);
    size_t rest = count * sizeof *op;
    for (; count; count--, op++) {
        errno = EINVAL;
        if (operate(op, &rest))
            fail("operation %u: %m", op->kind);
    }
    for (uint32_t i = 0; i < record.fds_count; i++)
        if (record.fds[i] >= 0)
            close(record.fds[i]);
    return rest;
}

static void serve_result(void) {
    struct vcpu *vcpu = &tender.vm.vcpu;
    if (!(__atomic_load_n(&vcpu->hold, __ATOMIC_SEQ_CST) & HOLD_CALL))
        fail("an answer to no call");
    size_t rest = apply(record.header.args[2]), length = record.length - rest;
    if (length && vcpu->regs->rax == R3_HYPERCALL_COPY_FROM_GRANT) {
        uint64_t address = vcpu->regs->r10;
        if (length > vcpu->regs->r8)
            length = vcpu->regs->r8;
        if (!own_memory(tender.plan->writable, tender.plan->writable_count, address, length))
            fail("%zu bytes for %#llx, which the guest cannot write to", length, (unsigned long long)address);
        memcpy(tender.vm.slots[SLOT_RAM].place + address, record.body + rest, length);
    }
    answer(record.header.args[0], record.header.args[1]);
}

__attribute__((noreturn)) static void serve(void) {
    for (;;) {
        receive();
        struct header reply = record.header;
        if (reply.kind == WIRE_APPLY) {
            apply(reply.args[0]);
            send_record((struct header){ WIRE_ACK, reply.sequence, { 0 } }, NULL, 0);
        } else if (reply.kind == WIRE_RESULT) {
            serve_result();
        } else if (reply.kind == WIRE_PING) {
            reply.kind = WIRE_PONG;
            send_record(reply, NULL, 0);
        } else {
            fail("record of kind %u", reply.kind);
        }
    }
}

/* -- from the fork to the first record ---------------------------------------------------------------- */

/* The first contents of the memory. */
int tender_fill(const struct plan *plan, char *ram, int template) {
    for (uint32_t i = 0; i < plan->pieces_count; i++) {
        const struct piece *piece = &plan->pieces[i];
        if (piece->bytes)
            memcpy(ram + piece->address, piece->bytes, piece->length);
        else if (pread(template, ram + piece->address, piece->length, (off_t)piece->offset)
                 != (ssize_t)piece->length)
            return -1;
    }
    return 0;
}

/* Everything up to the first instruction. Private memory is copy-on-write memory of the tender's own;
 * nothing of it is in the hypervisor's memfd. */
static int build(const struct plan *plan, const struct kvm_host *kvm, const int32_t *fds) {
    struct machine *vm = &tender.vm;
    int writable = PROT_READ | PROT_WRITE, flags = MAP_SHARED, ram_fd = fds[FD_RAM];
    if (plan->private_memory) {
        flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
        ram_fd = -1;
    }
    void *ram = mmap(NULL, plan->memory, writable, flags, ram_fd, 0);
    void *stats = mmap(NULL, R3_PAGE_SIZE, writable, MAP_SHARED, fds[FD_STATS], 0);
    if (ram == MAP_FAILED || stats == MAP_FAILED || tender_fill(plan, ram, fds[FD_TEMPLATE])
        || machine_make(vm, kvm, ram, plan->memory, stats) || machine_warm_up(vm))
        return -1;
    vm->vcpu.allowed = plan->allowed;
    vm->vcpu.epoll_fd = epoll_create1(EPOLL_CLOEXEC); /* what the guest waits on */
    return vm->vcpu.epoll_fd < 0 || machine_enter(vm, plan->entry, plan->memory, R3_INFO);
}

/* Fork a tender; its pid. `fds` are those of SPAWN_TENDER; `keep` are these and KVM's, ascending. The child
 * never returns to Python. */
long tender_spawn(const struct plan *plan, const struct kvm_host *kvm, const struct jail *jail,
                  const int32_t *fds, const int32_t *keep, uint32_t count) {
    pthread_t thread;
    long pid = host_clone(jail->namespaces);
    if (pid)
        return pid;
    tender.plan = plan;
    tender.sock = fds[FD_SOCKET];
    if (jail_confine(jail, keep, count))
        fail("the jail: %m");
    if (build(plan, kvm, fds))
        fail("the VM: %m");
    host_set_slice(plan->slice_ns); /* which the thread takes over */
    if ((errno = pthread_create(&thread, NULL, run_vcpu, NULL)))
        fail("the thread: %m");
    host_set_slice(CONTROL_SLICE_NS);
    for (uint32_t i = 0; i < count; i++)
        if (keep[i] != tender.sock)
            close(keep[i]);
    if (jail_seal(jail))
        fail("the filter: %m");
    serve();
}
