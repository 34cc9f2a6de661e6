/* Generated from components/protocols/log.toml by `python -m components.protocols.generate`. Do not edit. */
/* Output of programs and lines for the structured log. */
#ifndef R3_LOG_H
#define R3_LOG_H

#include <stddef.h>
#include <stdint.h>

#define R3_LOG_NUMBER 3
#define R3_LOG_VERSION 1
#define R3_LOG_RECORD_MAX 900u

#define R3_LOG_STREAM_STDOUT 1u
#define R3_LOG_STREAM_STDERR 2u

/* Bytes of a stream at an absolute position, counted per client and stream from 0; a repeat is harmless.
   Returns the position reached. */
#define R3_LOG_OP_WRITE 1
struct r3_log_write_args {
    uint64_t position;
    uint32_t stream;
} __attribute__((packed));
_Static_assert(offsetof(struct r3_log_write_args, position) == 0, "position");
_Static_assert(offsetof(struct r3_log_write_args, stream) == 8, "stream");
_Static_assert(sizeof(struct r3_log_write_args) <= 40, "size");
struct r3_log_write_returns {
    uint64_t position;
} __attribute__((packed));
_Static_assert(offsetof(struct r3_log_write_returns, position) == 0, "position");
_Static_assert(sizeof(struct r3_log_write_returns) <= 40, "size");

/* A line for the structured log (levels as in the ABI). A replay may write it twice, which a log can bear. */
#define R3_LOG_OP_RECORD 2
struct r3_log_record_args {
    uint32_t level;
} __attribute__((packed));
_Static_assert(offsetof(struct r3_log_record_args, level) == 0, "level");
_Static_assert(sizeof(struct r3_log_record_args) <= 40, "size");

#endif
