/* What happened to a guest, as numbers: events of the vCPU loop turned into fault records. The command line
 * makes words of them (vmm/cli/faults.py).
 *
 * The vCPU is out of the guest for good; only find_missing enters it once more, for at most one instruction. */
#include "vmm/tender/tender.h"

enum { PF_WRITE = 0x2, PF_FETCH = 0x10, CR0_WP = 0x10000 };
enum { WITH_ERROR_CODE = 0x60227D00 }; /* bit n: the CPU pushes one for vector n */
enum { ERROR_CODE, RIP, CS, RFLAGS, RSP, SS, FRAME }; /* what it pushes, upwards */

static int in_window(const struct machine *vm, uint64_t address) {
    for (int number = SLOT_RW; number < SLOTS; number++)
        if (address - vm->slots[number].start < vm->slots[number].size)
            return 1;
    return 0;
}

static void bad_address(const struct machine *vm, uint64_t address, int store, struct fault *fault) {
    fault->kind = in_window(vm, address) ? R3_FAULT_WINDOW : R3_FAULT_PHYSICAL;
    fault->error_code = store ? PF_WRITE : 0;
    fault->address = address;
}

/* The frame lies where the stub's RSP says, if that is on a trap stack. */
static void exception(struct machine *vm, struct fault *fault) {
    uint64_t vector = vm->vcpu.detail, frame[FRAME] = { 0 }, stack = fault->regs.rsp;
    unsigned first = vector < 32 && WITH_ERROR_CODE >> vector & 1 ? ERROR_CODE : RIP;
    size_t size = (FRAME - first) * sizeof *frame;
    fault->vector = vector;
    if (stack < R3_TRAP_STACK || stack > R3_TRAP_STACK_IST + R3_PAGE_SIZE - size) {
        fault->kind = R3_FAULT_INTERNAL;
        snprintf(fault->text, sizeof fault->text, "trap %u without a frame", vm->vcpu.detail);
        return;
    }
    memcpy(&frame[first], vm->slots[SLOT_RAM].place + stack, size);
    fault->kind = R3_FAULT_EXCEPTION;
    fault->error_code = frame[ERROR_CODE];
    fault->regs.rip = frame[RIP];
    fault->regs.rflags = frame[RFLAGS];
    fault->regs.rsp = frame[RSP];
    fault->cs = frame[CS];
    fault->ss = frame[SS];
    if (vector == PAGE_FAULT) {
        struct kvm_sregs sregs = { 0 };
        ioctl(vm->vcpu.fd, KVM_GET_SREGS, &sregs);
        fault->address = sregs.cr2;
        if (in_window(vm, fault->address) && !(fault->error_code & PF_FETCH))
            fault->kind = R3_FAULT_WINDOW;
    }
}

/* The table a page table entry points to: all lie below PAGE_TABLES_END, where no guest can write. */
static char *table(const struct machine *vm, const char *entry) {
    uint64_t value;
    memcpy(&value, entry, sizeof value);
    return vm->slots[SLOT_RAM].place + (value & (R3_PAGE_TABLES_END - R3_PAGE_SIZE));
}

/* KVM forgets what it cached of page tables when CR0 changes: WP, which means nothing to code at CPL3. */
static void unmap_windows(struct machine *vm) {
    struct kvm_sregs sregs = { 0 };
    for (int number = SLOT_RW; number < SLOTS; number++) {
        const struct slot *slot = &vm->slots[number];
        char *pointers = table(vm, vm->slots[SLOT_RAM].place + R3_PAGE_TABLES);
        char *directory = table(vm, pointers + 8 * (slot->start >> 30));
        memset(directory + 8 * (slot->start >> 21 & 511), 0, 8 * (slot->size >> 21));
    }
    ioctl(vm->vcpu.fd, KVM_GET_SREGS, &sregs);
    sregs.cr0 ^= CR0_WP;
    ioctl(vm->vcpu.fd, KVM_SET_SREGS, &sregs);
}

/* KVM_RUN failed with EFAULT and does not say where: make the same instruction say it.
 *
 * The windows leave the guest's page tables; then the instruction runs again, alone (trap flag). If it
 * wanted a window it now takes an ordinary page fault. */
static void find_missing(struct machine *vm, struct fault *fault) {
    struct fault trap = { 0 };
    unmap_windows(vm);
    int event = vcpu_step(&vm->vcpu);
    fault->kind = R3_FAULT_MEMORY;
    if (event == EVENT_EXCEPTION && vm->vcpu.detail == PAGE_FAULT) {
        trap.regs = *vm->vcpu.regs;
        exception(vm, &trap);
        if (in_window(vm, trap.address)) {
            fault->kind = R3_FAULT_WINDOW;
            fault->error_code = trap.error_code;
            fault->address = trap.address;
        }
    } else if (event == EVENT_ADDRESS && in_window(vm, vm->vcpu.address)) {
        bad_address(vm, vm->vcpu.address, (int)vm->vcpu.detail, fault);
    }
}

/* The fault behind an event of vcpu_run other than a hypercall. `fault` is all zeros before. */
void examine(struct machine *vm, int event, struct fault *fault) {
    const struct vcpu *vcpu = &vm->vcpu;
    fault->regs = *vcpu->regs;
    if (event == EVENT_EXCEPTION) {
        exception(vm, fault);
    } else if (event == EVENT_MISSING) {
        find_missing(vm, fault);
    } else if (event == EVENT_ADDRESS) {
        bad_address(vm, vcpu->address, (int)vcpu->detail, fault);
    } else if (event == EVENT_DOORBELL) {
        fault->kind = R3_FAULT_DOORBELL;
        fault->address = vcpu->address;
    } else if (event == EVENT_SHUTDOWN) {
        fault->kind = R3_FAULT_TRIPLE_FAULT;
    } else {
        fault->kind = R3_FAULT_INTERNAL;
        snprintf(fault->text, sizeof fault->text, "KVM cannot run this VM: KVM exit %u, suberror %llu, errno %d",
                 vcpu->detail, (unsigned long long)vcpu->address, vcpu->error);
    }
}
