/* Generated from components/protocols/fs.toml by `python -m components.protocols.generate`. Do not edit. */
/* Files of a subtree: paths are bytes, handles are numbers the client chooses. */
#ifndef R3_FS_H
#define R3_FS_H

#include <stddef.h>
#include <stdint.h>

#define R3_FS_NUMBER 2
#define R3_FS_VERSION 1
#define R3_FS_HANDLES 64u
#define R3_FS_PATH_MAX 4095u
#define R3_FS_NAME_MAX 255u
#define R3_FS_OPEN_NO_FOLLOW 1u
#define R3_FS_OPEN_DIRECTORY 2u
#define R3_FS_WAIT_MAX_MS 3600000u
#define R3_FS_STAT_NO_FOLLOW 1u

#define R3_FS_KIND_UNKNOWN 0u
#define R3_FS_KIND_FIFO 1u
#define R3_FS_KIND_CHARACTER_DEVICE 2u
#define R3_FS_KIND_DIRECTORY 4u
#define R3_FS_KIND_BLOCK_DEVICE 6u
#define R3_FS_KIND_REGULAR 8u
#define R3_FS_KIND_SYMBOLIC_LINK 10u
#define R3_FS_KIND_SOCKET 12u

#define R3_FS_WHENCE_START 0u
#define R3_FS_WHENCE_CURRENT 1u
#define R3_FS_WHENCE_END 2u

#define R3_FS_LOCK_SHARED 1u
#define R3_FS_LOCK_EXCLUSIVE 2u

/* Open the file named by the input under `handle`, at position 0; a handle in use is given up for it. */
#define R3_FS_OP_OPEN 1
struct r3_fs_open_args {
    uint32_t handle;
    uint32_t flags;
} __attribute__((packed));
_Static_assert(offsetof(struct r3_fs_open_args, handle) == 0, "handle");
_Static_assert(offsetof(struct r3_fs_open_args, flags) == 4, "flags");
_Static_assert(sizeof(struct r3_fs_open_args) <= 40, "size");
struct r3_fs_open_returns {
    uint64_t size;
    uint64_t inode;
    uint32_t mode;
    uint32_t kind;
} __attribute__((packed));
_Static_assert(offsetof(struct r3_fs_open_returns, size) == 0, "size");
_Static_assert(offsetof(struct r3_fs_open_returns, inode) == 8, "inode");
_Static_assert(offsetof(struct r3_fs_open_returns, mode) == 16, "mode");
_Static_assert(offsetof(struct r3_fs_open_returns, kind) == 20, "kind");
_Static_assert(sizeof(struct r3_fs_open_returns) <= 40, "size");

/* Give the handle up, and its lock. */
#define R3_FS_OP_CLOSE 2
struct r3_fs_close_args {
    uint32_t handle;
} __attribute__((packed));
_Static_assert(offsetof(struct r3_fs_close_args, handle) == 0, "handle");
_Static_assert(sizeof(struct r3_fs_close_args) <= 40, "size");

/* Up to `bytes` bytes from `offset`; fewer only at the end of the file. */
#define R3_FS_OP_READ 3
struct r3_fs_read_args {
    uint64_t offset;
    uint32_t handle;
    uint32_t bytes;
} __attribute__((packed));
_Static_assert(offsetof(struct r3_fs_read_args, offset) == 0, "offset");
_Static_assert(offsetof(struct r3_fs_read_args, handle) == 8, "handle");
_Static_assert(offsetof(struct r3_fs_read_args, bytes) == 12, "bytes");
_Static_assert(sizeof(struct r3_fs_read_args) <= 40, "size");
struct r3_fs_read_returns {
    uint32_t bytes;
} __attribute__((packed));
_Static_assert(offsetof(struct r3_fs_read_returns, bytes) == 0, "bytes");
_Static_assert(sizeof(struct r3_fs_read_returns) <= 40, "size");

/* Metadata of the file named by the input, as a stat record. */
#define R3_FS_OP_STAT 4
struct r3_fs_stat_args {
    uint32_t flags;
} __attribute__((packed));
_Static_assert(offsetof(struct r3_fs_stat_args, flags) == 0, "flags");
_Static_assert(sizeof(struct r3_fs_stat_args) <= 40, "size");

/* Entries after `cookie` (0: the first): entry records, each with its name, padded to 8 bytes. `end`: no
   more. */
#define R3_FS_OP_READDIR 5
struct r3_fs_readdir_args {
    uint64_t cookie;
    uint32_t handle;
} __attribute__((packed));
_Static_assert(offsetof(struct r3_fs_readdir_args, cookie) == 0, "cookie");
_Static_assert(offsetof(struct r3_fs_readdir_args, handle) == 8, "handle");
_Static_assert(sizeof(struct r3_fs_readdir_args) <= 40, "size");
struct r3_fs_readdir_returns {
    uint32_t bytes;
    uint32_t end;
} __attribute__((packed));
_Static_assert(offsetof(struct r3_fs_readdir_returns, bytes) == 0, "bytes");
_Static_assert(offsetof(struct r3_fs_readdir_returns, end) == 4, "end");
_Static_assert(sizeof(struct r3_fs_readdir_returns) <= 40, "size");

/* The target of the symbolic link named by the input. */
#define R3_FS_OP_READLINK 6
struct r3_fs_readlink_returns {
    uint32_t bytes;
} __attribute__((packed));
_Static_assert(offsetof(struct r3_fs_readlink_returns, bytes) == 0, "bytes");
_Static_assert(sizeof(struct r3_fs_readlink_returns) <= 40, "size");

/* The file system as a whole. */
#define R3_FS_OP_STATFS 7
struct r3_fs_statfs_returns {
    uint64_t blocks;
    uint64_t inodes;
    uint32_t block_bytes;
    uint32_t name_max;
} __attribute__((packed));
_Static_assert(offsetof(struct r3_fs_statfs_returns, blocks) == 0, "blocks");
_Static_assert(offsetof(struct r3_fs_statfs_returns, inodes) == 8, "inodes");
_Static_assert(offsetof(struct r3_fs_statfs_returns, block_bytes) == 16, "block_bytes");
_Static_assert(offsetof(struct r3_fs_statfs_returns, name_max) == 20, "name_max");
_Static_assert(sizeof(struct r3_fs_statfs_returns) <= 40, "size");

/* As `read`, from the handle's position, which moves behind what is read when it is; `offset`: where that
   was. */
#define R3_FS_OP_READ_NEXT 8
struct r3_fs_read_next_args {
    uint32_t handle;
    uint32_t bytes;
} __attribute__((packed));
_Static_assert(offsetof(struct r3_fs_read_next_args, handle) == 0, "handle");
_Static_assert(offsetof(struct r3_fs_read_next_args, bytes) == 4, "bytes");
_Static_assert(sizeof(struct r3_fs_read_next_args) <= 40, "size");
struct r3_fs_read_next_returns {
    uint32_t bytes;
    uint32_t reserved;
    uint64_t offset;
} __attribute__((packed));
_Static_assert(offsetof(struct r3_fs_read_next_returns, bytes) == 0, "bytes");
_Static_assert(offsetof(struct r3_fs_read_next_returns, reserved) == 4, "reserved");
_Static_assert(offsetof(struct r3_fs_read_next_returns, offset) == 8, "offset");
_Static_assert(sizeof(struct r3_fs_read_next_returns) <= 40, "size");

/* Move the handle's position to `offset` from `whence`, a whence; where it is now. */
#define R3_FS_OP_SEEK 9
struct r3_fs_seek_args {
    uint32_t handle;
    uint32_t whence;
    int64_t offset;
} __attribute__((packed));
_Static_assert(offsetof(struct r3_fs_seek_args, handle) == 0, "handle");
_Static_assert(offsetof(struct r3_fs_seek_args, whence) == 4, "whence");
_Static_assert(offsetof(struct r3_fs_seek_args, offset) == 8, "offset");
_Static_assert(sizeof(struct r3_fs_seek_args) <= 40, "size");
struct r3_fs_seek_returns {
    uint64_t position;
} __attribute__((packed));
_Static_assert(offsetof(struct r3_fs_seek_returns, position) == 0, "position");
_Static_assert(sizeof(struct r3_fs_seek_returns) <= 40, "size");

/* Hold a lock of `kind`, a lock, in place of the handle's present one; wait so long if others hold it, 0: not
   at all. */
#define R3_FS_OP_LOCK 10
struct r3_fs_lock_args {
    uint32_t handle;
    uint32_t kind;
    uint32_t wait_ms;
} __attribute__((packed));
_Static_assert(offsetof(struct r3_fs_lock_args, handle) == 0, "handle");
_Static_assert(offsetof(struct r3_fs_lock_args, kind) == 4, "kind");
_Static_assert(offsetof(struct r3_fs_lock_args, wait_ms) == 8, "wait_ms");
_Static_assert(sizeof(struct r3_fs_lock_args) <= 40, "size");

/* Give the handle's lock up; it may have none. */
#define R3_FS_OP_UNLOCK 11
struct r3_fs_unlock_args {
    uint32_t handle;
} __attribute__((packed));
_Static_assert(offsetof(struct r3_fs_unlock_args, handle) == 0, "handle");
_Static_assert(sizeof(struct r3_fs_unlock_args) <= 40, "size");

/* Metadata of one file. */
#define R3_FS_STAT_SIZE 80
struct r3_fs_stat {
    uint32_t mode;
    uint32_t links;
    uint32_t user;
    uint32_t group;
    uint64_t size;
    uint64_t inode;
    int64_t modified_s;
    uint32_t modified_ns;
    uint32_t block_bytes;
    uint64_t blocks;
    uint32_t device;
    uint32_t kind;
    uint64_t file_system;
    uint64_t reserved;
} __attribute__((packed));
_Static_assert(offsetof(struct r3_fs_stat, mode) == 0, "mode");
_Static_assert(offsetof(struct r3_fs_stat, links) == 4, "links");
_Static_assert(offsetof(struct r3_fs_stat, user) == 8, "user");
_Static_assert(offsetof(struct r3_fs_stat, group) == 12, "group");
_Static_assert(offsetof(struct r3_fs_stat, size) == 16, "size");
_Static_assert(offsetof(struct r3_fs_stat, inode) == 24, "inode");
_Static_assert(offsetof(struct r3_fs_stat, modified_s) == 32, "modified_s");
_Static_assert(offsetof(struct r3_fs_stat, modified_ns) == 40, "modified_ns");
_Static_assert(offsetof(struct r3_fs_stat, block_bytes) == 44, "block_bytes");
_Static_assert(offsetof(struct r3_fs_stat, blocks) == 48, "blocks");
_Static_assert(offsetof(struct r3_fs_stat, device) == 56, "device");
_Static_assert(offsetof(struct r3_fs_stat, kind) == 60, "kind");
_Static_assert(offsetof(struct r3_fs_stat, file_system) == 64, "file_system");
_Static_assert(offsetof(struct r3_fs_stat, reserved) == 72, "reserved");
_Static_assert(sizeof(struct r3_fs_stat) <= 80, "size");

/* One directory entry; the name follows, without a NUL, and the whole is padded to 8 bytes. */
#define R3_FS_ENTRY_SIZE 20
struct r3_fs_entry {
    uint64_t next_cookie;
    uint64_t inode;
    uint8_t kind;
    uint8_t reserved;
    uint16_t name_length;
} __attribute__((packed));
_Static_assert(offsetof(struct r3_fs_entry, next_cookie) == 0, "next_cookie");
_Static_assert(offsetof(struct r3_fs_entry, inode) == 8, "inode");
_Static_assert(offsetof(struct r3_fs_entry, kind) == 16, "kind");
_Static_assert(offsetof(struct r3_fs_entry, reserved) == 17, "reserved");
_Static_assert(offsetof(struct r3_fs_entry, name_length) == 18, "name_length");
_Static_assert(sizeof(struct r3_fs_entry) <= 20, "size");

#endif
