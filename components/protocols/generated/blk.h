/* Generated from components/protocols/blk.toml by `python -m components.protocols.generate`. Do not edit. */
/* Blocks of a disk: sectors of 512 bytes, data in the client's pool or in a grant. */
#ifndef R3_BLK_H
#define R3_BLK_H

#include <stddef.h>
#include <stdint.h>

#define R3_BLK_NUMBER 1
#define R3_BLK_VERSION 1
#define R3_BLK_SECTOR_BYTES 512u
#define R3_BLK_FEATURE_READ_ONLY 1u
#define R3_BLK_FEATURE_FLUSH 2u
#define R3_BLK_FEATURE_DISCARD 4u

/* What the disk is like; max_bytes is the most that one request may transfer, block_bytes the best unit. */
#define R3_BLK_OP_INFO 1
struct r3_blk_info_returns {
    uint64_t sectors;
    uint32_t block_bytes;
    uint32_t features;
    uint32_t max_bytes;
} __attribute__((packed));
_Static_assert(offsetof(struct r3_blk_info_returns, sectors) == 0, "sectors");
_Static_assert(offsetof(struct r3_blk_info_returns, block_bytes) == 8, "block_bytes");
_Static_assert(offsetof(struct r3_blk_info_returns, features) == 12, "features");
_Static_assert(offsetof(struct r3_blk_info_returns, max_bytes) == 16, "max_bytes");
_Static_assert(sizeof(struct r3_blk_info_returns) <= 40, "size");

/* Read `bytes` (a multiple of 512) from `sector` into the pool. */
#define R3_BLK_OP_READ 2
struct r3_blk_read_args {
    uint64_t sector;
    uint64_t pool_offset;
    uint32_t bytes;
} __attribute__((packed));
_Static_assert(offsetof(struct r3_blk_read_args, sector) == 0, "sector");
_Static_assert(offsetof(struct r3_blk_read_args, pool_offset) == 8, "pool_offset");
_Static_assert(offsetof(struct r3_blk_read_args, bytes) == 16, "bytes");
_Static_assert(sizeof(struct r3_blk_read_args) <= 40, "size");
struct r3_blk_read_returns {
    uint32_t bytes;
} __attribute__((packed));
_Static_assert(offsetof(struct r3_blk_read_returns, bytes) == 0, "bytes");
_Static_assert(sizeof(struct r3_blk_read_returns) <= 40, "size");

/* Write `bytes` (a multiple of 512) from the pool to `sector`. Durable after the next flush. Not replayed. */
#define R3_BLK_OP_WRITE 3
struct r3_blk_write_args {
    uint64_t sector;
    uint64_t pool_offset;
    uint32_t bytes;
} __attribute__((packed));
_Static_assert(offsetof(struct r3_blk_write_args, sector) == 0, "sector");
_Static_assert(offsetof(struct r3_blk_write_args, pool_offset) == 8, "pool_offset");
_Static_assert(offsetof(struct r3_blk_write_args, bytes) == 16, "bytes");
_Static_assert(sizeof(struct r3_blk_write_args) <= 40, "size");
struct r3_blk_write_returns {
    uint32_t bytes;
} __attribute__((packed));
_Static_assert(offsetof(struct r3_blk_write_returns, bytes) == 0, "bytes");
_Static_assert(sizeof(struct r3_blk_write_returns) <= 40, "size");

/* Everything written and answered before is durable when this is answered. */
#define R3_BLK_OP_FLUSH 4

/* The contents of these sectors are not needed any more. */
#define R3_BLK_OP_DISCARD 5
struct r3_blk_discard_args {
    uint64_t sector;
    uint64_t sectors;
} __attribute__((packed));
_Static_assert(offsetof(struct r3_blk_discard_args, sector) == 0, "sector");
_Static_assert(offsetof(struct r3_blk_discard_args, sectors) == 8, "sectors");
_Static_assert(sizeof(struct r3_blk_discard_args) <= 40, "size");

/* Read `bytes` from `sector` into a grant lent for writing. */
#define R3_BLK_OP_READ_GRANT 6
struct r3_blk_read_grant_args {
    uint64_t sector;
    uint64_t grant;
    uint32_t bytes;
} __attribute__((packed));
_Static_assert(offsetof(struct r3_blk_read_grant_args, sector) == 0, "sector");
_Static_assert(offsetof(struct r3_blk_read_grant_args, grant) == 8, "grant");
_Static_assert(offsetof(struct r3_blk_read_grant_args, bytes) == 16, "bytes");
_Static_assert(sizeof(struct r3_blk_read_grant_args) <= 40, "size");
struct r3_blk_read_grant_returns {
    uint32_t bytes;
} __attribute__((packed));
_Static_assert(offsetof(struct r3_blk_read_grant_returns, bytes) == 0, "bytes");
_Static_assert(sizeof(struct r3_blk_read_grant_returns) <= 40, "size");

/* Write `bytes` from a grant lent for reading to `sector`. */
#define R3_BLK_OP_WRITE_GRANT 7
struct r3_blk_write_grant_args {
    uint64_t sector;
    uint64_t grant;
    uint32_t bytes;
} __attribute__((packed));
_Static_assert(offsetof(struct r3_blk_write_grant_args, sector) == 0, "sector");
_Static_assert(offsetof(struct r3_blk_write_grant_args, grant) == 8, "grant");
_Static_assert(offsetof(struct r3_blk_write_grant_args, bytes) == 16, "bytes");
_Static_assert(sizeof(struct r3_blk_write_grant_args) <= 40, "size");
struct r3_blk_write_grant_returns {
    uint32_t bytes;
} __attribute__((packed));
_Static_assert(offsetof(struct r3_blk_write_grant_returns, bytes) == 0, "bytes");
_Static_assert(sizeof(struct r3_blk_write_grant_returns) <= 40, "size");

#endif
