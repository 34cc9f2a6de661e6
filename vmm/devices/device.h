/* Virtual devices served over shared memory: what their C files know of each other.
 *
 *   guest_memory.c   the windows: which addresses the driver may name, and where they are mapped here
 *   ring.c           one virtqueue: its thread, its descriptor chains, its notifications
 *   pieces.c         bytes out of a chain and into it
 *   block.c          one virtio-blk request on the backing file
 *   sound.c          one request of a sound device: frames go to a recording
 *
 * Everything in the windows (rings, headers, data) is hostile and may change while it is read: each
 * field is read once into a local variable and validated there. Python calls only the functions
 * declared in build_ring.py, from one control thread; each virtqueue has a thread of its own, which
 * never enters Python. */
#ifndef R3S3_DEVICE_H
#define R3S3_DEVICE_H

#include <linux/virtio_ring.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

enum {
    WINDOWS_MAX = 256,        /* memory slots offered to the front-end */
    QUEUE_SIZE_MAX = 1024,    /* descriptors of one virtqueue; also the longest chain */
    IOVECS_MAX = 1024,        /* IOV_MAX of Linux */
    QUEUES_MAX = 16,
    SERIAL_BYTES = 20,        /* VIRTIO_BLK_ID_BYTES */
    REQUEST_BYTES_MAX = 64 << 20, /* bounds how long one request can delay a drain */
};

/* Counters of one queue, as they lie in the status page (128 bytes apart, one writer each). */
enum counter {
    COUNT_REQUESTS, COUNT_BYTES_READ, COUNT_BYTES_WRITTEN, COUNT_FLUSHES, COUNT_ERRORS,
    COUNT_DMA_FAULTS, LAST_DMA_FAULT, COUNT_BROKEN, LAST_BREAKAGE, COUNT_KICKS, COUNT_CALLS,
    COUNTERS = 16
};

/* Why a queue broke (LAST_BREAKAGE). */
enum breakage {
    INTACT, BAD_INDEX, BAD_HEAD, CHAIN_TOO_LONG, BAD_NEXT, EMPTY_DESCRIPTOR, READABLE_AFTER_WRITABLE,
    INDIRECT_NOT_OFFERED, NO_STATUS_BYTE, STATUS_OUTSIDE, RINGS_OUTSIDE, MEMORY_VANISHED, BAD_KICK
};

struct window {
    uint64_t guest, user, size; /* bus address, address the front-end names rings by, bytes */
    uint8_t *host;              /* where the first byte of the window is mapped here */
    void *mapping;
    uint64_t mapping_size;
    uint64_t device, inode, offset; /* what is mapped: two windows on the same memory are equal in these */
    bool kept;                      /* while the table is replaced: the new one has it, too */
};

struct window_request {
    int fd;
    uint64_t guest, user, size, offset;
};

/* Queue threads hold the lock shared during one request; the control thread takes it exclusively to
 * change the table, so when a change returns nothing uses the old windows any more. */
struct guest_memory {
    pthread_rwlock_t lock;
    uint32_t count;
    struct window windows[WINDOWS_MAX];
};

struct device;
struct queue;
struct chain;

/* Performs a request and stores its status; returns the bytes written to the chain (the used length), or -1 with
 * *why set if there is no place to store a status to. */
typedef int64_t execute(struct queue *queue, struct chain *chain, enum breakage *why);

struct queue {
    struct device *device;
    uint64_t *counters;
    pthread_mutex_t mutex; /* guards wanted, running, exists */
    pthread_cond_t changed;
    bool exists, wanted, running;
    enum breakage broken;
    int control;            /* eventfd that ends the thread's sleep */
    int kick, call, error;  /* owned; -1: none */
    uint32_t size;
    uint64_t descriptors_at, available_at, used_at; /* as the front-end names them */
    struct vring_desc *descriptors; /* resolved; NULL while the windows do not cover the rings */
    struct vring_avail *available;
    struct vring_used *used;
    uint16_t next_available, next_used;
    uint16_t signalled;     /* used index when the driver was last considered for an interrupt */
};

/* What a sound device has recorded. One queue, so one thread, uses it. */
struct recording {
    uint32_t rate, channels;
    uint64_t frames; /* taken so far: the number of the next one */
};

struct device {
    struct guest_memory memory;
    execute *execute;
    int file;
    bool event_index; /* negotiated */
    uint64_t sectors; /* of a disk, as the next three */
    bool read_only, write_back; /* negotiated: FLUSH (else each write is made durable) */
    char serial[SERIAL_BYTES];
    struct recording recording; /* of a sound device */
    uint32_t queue_count;
    struct queue queues[QUEUES_MAX];
};

/* One request: device-readable pieces first, then device-writable ones. */
struct chain {
    uint32_t pieces, readable; /* all, and how many of them are readable */
    uint64_t readable_bytes, writable_bytes;
    bool outside;              /* a piece lies (partly) outside the windows; its base is NULL */
    uint64_t outside_at;
    struct iovec piece[IOVECS_MAX];
};

static inline void count(struct queue *queue, enum counter which, uint64_t amount)
{
    __atomic_store_n(&queue->counters[which], queue->counters[which] + amount, __ATOMIC_RELAXED);
}

/* guest_memory.c */
uint8_t *memory_find(struct guest_memory *memory, uint64_t guest, uint64_t *length);
void *memory_find_user(struct guest_memory *memory, uint64_t user, uint64_t length, uint64_t alignment);

/* ring.c: a device that executes as a disk does, and what is called with the memory lock held exclusively */
struct device *device_open(int file, uint64_t sectors, bool read_only, uint32_t queues, uint64_t *counters,
                           const char *serial);
void queue_resolve(struct queue *queue);

/* pieces.c */
void pieces_take(struct iovec *piece, uint32_t *first, uint32_t end, void *to, size_t bytes);
void pieces_give(const struct iovec *piece, uint32_t first, uint32_t end, const void *from, size_t bytes);

/* What devices do */
execute block_execute, sound_execute;

#endif
