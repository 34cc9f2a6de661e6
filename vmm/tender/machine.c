/* One VM: RAM at 0, two windows, one vCPU at CPL3. */
#include "vmm/tender/tender.h"

enum { RFLAGS = 0x2, DOORBELL_BYTES = 4 };

/* `stats` is what the vCPU loop counts in. Its descriptors and mappings live as long as the process. */
int machine_make(struct machine *vm, const struct kvm_host *kvm, void *ram, uint64_t memory, uint64_t *stats)
{
    *vm = (struct machine){ .kvm = kvm, .slots = {
        { 0, memory, ram }, { R3_RW_WINDOW, R3_RW_WINDOW_SIZE, NULL }, { R3_RO_WINDOW, R3_RO_WINDOW_SIZE, NULL },
    } };
    if ((vm->fd = ioctl(kvm->fd, KVM_CREATE_VM, 0)) < 0)
        return -1;
    for (int number = SLOT_RAM; number < SLOTS; number++) {
        struct slot *slot = &vm->slots[number];
        if (!slot->place)
            slot->place = mmap(NULL, slot->size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        struct kvm_userspace_memory_region region = {
            .slot = (uint32_t)number, .flags = number == SLOT_RO ? KVM_MEM_READONLY : 0,
            .guest_phys_addr = slot->start, .memory_size = slot->size, .userspace_addr = (uintptr_t)slot->place,
        };
        if (slot->place == MAP_FAILED || ioctl(vm->fd, KVM_SET_USER_MEMORY_REGION, &region))
            return -1;
    }
    vm->vcpu.fd = ioctl(vm->fd, KVM_CREATE_VCPU, 0);
    if (vm->vcpu.fd < 0 || ioctl(vm->vcpu.fd, KVM_SET_CPUID2, kvm->cpuid))
        return -1;
    vm->vcpu.run = mmap(NULL, kvm->run_size, PROT_READ | PROT_WRITE, MAP_SHARED, vm->vcpu.fd, 0);
    vm->vcpu.stats = stats;
    if (vm->vcpu.run == MAP_FAILED)
        return -1;
    vm->vcpu.regs = &vm->vcpu.run->s.regs.regs;
    vm->vcpu.hold = HOLD_NEW | HOLD_SPARE;
    memset(vm->vcpu.doorbells, DOORBELL_NONE, sizeof vm->vcpu.doorbells);
    return 0;
}

/* Set all registers for the first instruction: CPL3, long mode, RDI = `argument`. */
int machine_enter(struct machine *vm, uint64_t entry, uint64_t stack, uint64_t argument) {
    struct kvm_xcrs xcrs = { .nr_xcrs = 1, .xcrs = { { .value = vm->kvm->xcr0 } } };
    *vm->vcpu.regs = (struct kvm_regs){ .rip = entry, .rsp = stack, .rdi = argument, .rflags = RFLAGS };
    return ioctl(vm->vcpu.fd, KVM_SET_SREGS, &vm->kvm->sregs)
        || (vm->kvm->xcr0 && ioctl(vm->vcpu.fd, KVM_SET_XCRS, &xcrs))
        || ioctl(vm->vcpu.fd, KVM_SET_REGS, vm->vcpu.regs) ? -1 : 0;
}

/* Enter the guest once, at NULL, which faults at once: what KVM does at the first entry is then done. (It
 * builds its tables; newer kernels also start a worker, which the sealed jail would refuse.) The trap page
 * must be in place; machine_enter must come afterwards. */
int machine_warm_up(struct machine *vm) {
    if (machine_enter(vm, 0, 0, 0))
        return -1;
    if (vcpu_step(&vm->vcpu) != EVENT_EXCEPTION || vm->vcpu.detail != PAGE_FAULT) {
        errno = ENOTSUP;
        return -1;
    }
    return machine_settle(vm);
}

/* Give KVM the results of the last exit without entering the guest, so that its state can be saved or
 * replaced. Only while no thread is in vcpu_run. */
int machine_settle(struct machine *vm) {
    vm->vcpu.run->immediate_exit = 1;
    int result = ioctl(vm->vcpu.fd, KVM_RUN, 0);
    vm->vcpu.run->immediate_exit = 0;
    return result && errno == EINTR ? 0 : -1; /* by design */
}

/* Let a store to doorbell `number` signal the eventfd `fd`, or no longer. */
int machine_doorbell(struct machine *vm, uint64_t number, int fd, int remove) {
    struct kvm_ioeventfd request = {
        .addr = R3_DOORBELL_PAGE + 8 * number, .len = DOORBELL_BYTES, .fd = fd,
        .flags = remove ? KVM_IOEVENTFD_FLAG_DEASSIGN : 0,
    };
    return ioctl(vm->fd, KVM_IOEVENTFD, &request);
}
