/* Generated from components/protocols/supervise.toml by `python -m components.protocols.generate`. Do not edit. */
/* What is to happen to a component that failed. */
#ifndef R3_SUPERVISE_H
#define R3_SUPERVISE_H

#include <stddef.h>
#include <stdint.h>

#define R3_SUPERVISE_NUMBER 4
#define R3_SUPERVISE_VERSION 1
#define R3_SUPERVISE_STEPS_MAX 64u

#define R3_SUPERVISE_POLICY_ALWAYS 0u
#define R3_SUPERVISE_POLICY_NEVER 1u
#define R3_SUPERVISE_POLICY_BACKOFF 2u

#define R3_SUPERVISE_ACTION_RESTART 0u
#define R3_SUPERVISE_ACTION_RESTART_AFTER_DELAY 1u
#define R3_SUPERVISE_ACTION_GIVE_UP 2u

/* How a component wants to be treated: given up after more than `restarts` restarts within `within_ms` (0:
   never). The input is the backoff table: `steps` delays, u32 milliseconds each. A repeat replaces.
   `foreseen`: 1 if the next death, whenever it comes, will be answered by a restart at once, so that nobody
   has to wait for the verdict on it. `poisoned`: 0, or what to try against poisoned state: bits 0 to 15 up to
   four numbers of the ABI's `cure`, four bits each, the first lowest; bits 16 to 31 from which death in a row
   on; bits 32 to 63 within how many milliseconds after a restart a death belongs to the row. */
#define R3_SUPERVISE_OP_CONFIGURE 1
struct r3_supervise_configure_args {
    uint32_t component;
    uint32_t policy;
    uint32_t restarts;
    uint32_t within_ms;
    uint32_t steps;
    uint32_t reserved;
    uint64_t poisoned;
} __attribute__((packed));
_Static_assert(offsetof(struct r3_supervise_configure_args, component) == 0, "component");
_Static_assert(offsetof(struct r3_supervise_configure_args, policy) == 4, "policy");
_Static_assert(offsetof(struct r3_supervise_configure_args, restarts) == 8, "restarts");
_Static_assert(offsetof(struct r3_supervise_configure_args, within_ms) == 12, "within_ms");
_Static_assert(offsetof(struct r3_supervise_configure_args, steps) == 16, "steps");
_Static_assert(offsetof(struct r3_supervise_configure_args, reserved) == 20, "reserved");
_Static_assert(offsetof(struct r3_supervise_configure_args, poisoned) == 24, "poisoned");
_Static_assert(sizeof(struct r3_supervise_configure_args) <= 40, "size");
struct r3_supervise_configure_returns {
    uint32_t foreseen;
} __attribute__((packed));
_Static_assert(offsetof(struct r3_supervise_configure_returns, foreseen) == 0, "foreseen");
_Static_assert(sizeof(struct r3_supervise_configure_returns) <= 40, "size");

/* A component's instance of this epoch has ended. Asked again about the same epoch, the verdict is the same.
   `foreseen`: of the death after this one, as above. `cure`: what the successor is to do about poisoned
   state. */
#define R3_SUPERVISE_OP_FAULT 2
struct r3_supervise_fault_args {
    uint32_t component;
    uint32_t kind;
    uint32_t epoch;
    uint32_t reserved;
    uint64_t now_ns;
} __attribute__((packed));
_Static_assert(offsetof(struct r3_supervise_fault_args, component) == 0, "component");
_Static_assert(offsetof(struct r3_supervise_fault_args, kind) == 4, "kind");
_Static_assert(offsetof(struct r3_supervise_fault_args, epoch) == 8, "epoch");
_Static_assert(offsetof(struct r3_supervise_fault_args, reserved) == 12, "reserved");
_Static_assert(offsetof(struct r3_supervise_fault_args, now_ns) == 16, "now_ns");
_Static_assert(sizeof(struct r3_supervise_fault_args) <= 40, "size");
struct r3_supervise_fault_returns {
    uint32_t action;
    uint32_t delay_ms;
    uint32_t foreseen;
    uint32_t cure;
} __attribute__((packed));
_Static_assert(offsetof(struct r3_supervise_fault_returns, action) == 0, "action");
_Static_assert(offsetof(struct r3_supervise_fault_returns, delay_ms) == 4, "delay_ms");
_Static_assert(offsetof(struct r3_supervise_fault_returns, foreseen) == 8, "foreseen");
_Static_assert(offsetof(struct r3_supervise_fault_returns, cure) == 12, "cure");
_Static_assert(sizeof(struct r3_supervise_fault_returns) <= 40, "size");

#endif
