/* Generated from components/protocols/count.toml by `python -m components.protocols.generate`. Do not edit. */
/* A ledger of amounts. Appending twice is wrong, so it is done exactly once whoever dies. */
#ifndef R3_COUNT_H
#define R3_COUNT_H

#include <stddef.h>
#include <stdint.h>

#define R3_COUNT_NUMBER 8
#define R3_COUNT_VERSION 1

/* Append an amount; its number in the ledger, from 1. */
#define R3_COUNT_OP_ADD 1
struct r3_count_add_args {
    uint64_t amount;
} __attribute__((packed));
_Static_assert(offsetof(struct r3_count_add_args, amount) == 0, "amount");
_Static_assert(sizeof(struct r3_count_add_args) <= 40, "size");
struct r3_count_add_returns {
    uint64_t number;
} __attribute__((packed));
_Static_assert(offsetof(struct r3_count_add_returns, number) == 0, "number");
_Static_assert(sizeof(struct r3_count_add_returns) <= 40, "size");

/* An entry by its number; entry 0 is how many there are. */
#define R3_COUNT_OP_ENTRY 2
struct r3_count_entry_args {
    uint64_t number;
} __attribute__((packed));
_Static_assert(offsetof(struct r3_count_entry_args, number) == 0, "number");
_Static_assert(sizeof(struct r3_count_entry_args) <= 40, "size");
struct r3_count_entry_returns {
    uint64_t amount;
} __attribute__((packed));
_Static_assert(offsetof(struct r3_count_entry_returns, amount) == 0, "amount");
_Static_assert(sizeof(struct r3_count_entry_returns) <= 40, "size");

#endif
