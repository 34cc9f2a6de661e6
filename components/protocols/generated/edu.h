/* Generated from components/protocols/edu.toml by `python -m components.protocols.generate`. Do not edit. */
/* QEMU's device for teaching: factorials, and DMA within the memory that the client has lent. */
#ifndef R3_EDU_H
#define R3_EDU_H

#include <stddef.h>
#include <stdint.h>

#define R3_EDU_NUMBER 5
#define R3_EDU_VERSION 1
#define R3_EDU_COPY_MAX 2048u

/* The device's identification register, after a look whether it is alive. */
#define R3_EDU_OP_IDENTIFY 1
struct r3_edu_identify_returns {
    uint32_t identification;
} __attribute__((packed));
_Static_assert(offsetof(struct r3_edu_identify_returns, identification) == 0, "identification");
_Static_assert(sizeof(struct r3_edu_identify_returns) <= 40, "size");

/* number! modulo 2^32, computed by the device, which interrupts at its end. */
#define R3_EDU_OP_FACTORIAL 2
struct r3_edu_factorial_args {
    uint32_t number;
} __attribute__((packed));
_Static_assert(offsetof(struct r3_edu_factorial_args, number) == 0, "number");
_Static_assert(sizeof(struct r3_edu_factorial_args) <= 40, "size");
struct r3_edu_factorial_returns {
    uint32_t value;
} __attribute__((packed));
_Static_assert(offsetof(struct r3_edu_factorial_returns, value) == 0, "value");
_Static_assert(sizeof(struct r3_edu_factorial_returns) <= 40, "size");

/* Copy within the client's pool, by DMA into the device and out of it. */
#define R3_EDU_OP_COPY 3
struct r3_edu_copy_args {
    uint64_t source;
    uint64_t target;
    uint32_t bytes;
} __attribute__((packed));
_Static_assert(offsetof(struct r3_edu_copy_args, source) == 0, "source");
_Static_assert(offsetof(struct r3_edu_copy_args, target) == 8, "target");
_Static_assert(offsetof(struct r3_edu_copy_args, bytes) == 16, "bytes");
_Static_assert(sizeof(struct r3_edu_copy_args) <= 40, "size");

/* Write `word` to the beginning of a grant by DMA. */
#define R3_EDU_OP_FILL 4
struct r3_edu_fill_args {
    uint64_t grant;
    uint64_t word;
} __attribute__((packed));
_Static_assert(offsetof(struct r3_edu_fill_args, grant) == 0, "grant");
_Static_assert(offsetof(struct r3_edu_fill_args, word) == 8, "word");
_Static_assert(sizeof(struct r3_edu_fill_args) <= 40, "size");

/* For tests: have the device access an I/O address that is not in its windows (direction 0: read, 1: write).
   */
#define R3_EDU_OP_OUTSIDE 5
struct r3_edu_outside_args {
    uint64_t address;
    uint32_t direction;
} __attribute__((packed));
_Static_assert(offsetof(struct r3_edu_outside_args, address) == 0, "address");
_Static_assert(offsetof(struct r3_edu_outside_args, direction) == 8, "direction");
_Static_assert(sizeof(struct r3_edu_outside_args) <= 40, "size");

/* For tests: open the window on a grant and close it again, then have the device write there. */
#define R3_EDU_OP_FILL_CLOSED 6
struct r3_edu_fill_closed_args {
    uint64_t grant;
    uint64_t word;
} __attribute__((packed));
_Static_assert(offsetof(struct r3_edu_fill_closed_args, grant) == 0, "grant");
_Static_assert(offsetof(struct r3_edu_fill_closed_args, word) == 8, "word");
_Static_assert(sizeof(struct r3_edu_fill_closed_args) <= 40, "size");

/* For tests: open the window on a grant and leave it open. */
#define R3_EDU_OP_KEEP 7
struct r3_edu_keep_args {
    uint64_t grant;
} __attribute__((packed));
_Static_assert(offsetof(struct r3_edu_keep_args, grant) == 0, "grant");
_Static_assert(sizeof(struct r3_edu_keep_args) <= 40, "size");

/* For tests: write `word` to where the window on the kept grant is, or was. */
#define R3_EDU_OP_FILL_KEPT 8
struct r3_edu_fill_kept_args {
    uint64_t word;
} __attribute__((packed));
_Static_assert(offsetof(struct r3_edu_fill_kept_args, word) == 0, "word");
_Static_assert(sizeof(struct r3_edu_fill_kept_args) <= 40, "size");

#endif
