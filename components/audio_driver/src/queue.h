/* The sound device's one virtqueue (virtio 1.2, 2.7 split virtqueues), of whose requests as many may be under way as
 * there are places in the ring object. The device carries them out in order. */
#ifndef QUEUE_H
#define QUEUE_H

#include "r3s3.h"

enum {
    PLACES = 7,          /* what fits the 32 KiB of the ring object that are ours */
    PAYLOAD_BYTES = 4096 /* most of one request, beside its header */
};

/* A transfer's header: virtio_snd_pcm_xfer (virtio 1.2, 5.14.6.8), and behind it what R3S3's device has in addition. */
struct transfer {
    uint32_t stream; /* 0 */
    uint32_t reserved;
    uint64_t position; /* number of the first frame */
};

/* virtio_snd_pcm_set_params (5.14.6.6.3), which this device takes through the same queue. */
struct set_params {
    uint32_t code; /* 0x0101 */
    uint32_t stream; /* 0 */
    uint32_t buffer_bytes, period_bytes, features; /* 0 */
    uint8_t channels, format, rate, padding;
};

/* The device's answer: virtio_snd_pcm_status, and how many frames it has taken since it was made. */
struct status {
    uint32_t code; /* DEVICE_* */
    uint32_t latency_bytes;
    uint64_t position;
};

enum { SET_PARAMS = 0x0101, DEVICE_OK = 0x8000, DEVICE_NOT_SUPPORTED = 0x8002, DEVICE_IO_ERROR = 0x8003 };

struct queue {
    uint8_t *memory;
    uint64_t bus_address; /* where the device sees it */
    uint16_t size;
    bool event_index;
    /* Requests passed on, told of, ended; never wrap, as 2^16, where the ring's indices do, is no multiple of PLACES. */
    uint64_t submitted, announced, taken;
};

/* Over the zeroed rings of this epoch. */
void queue_open(struct queue *queue);
/* Requests the device has. */
unsigned queue_outstanding(const struct queue *queue);
/* Passes a request on, of which there are fewer than PLACES: header (of 8 or more bytes) and payload, copied. */
void queue_submit(struct queue *queue, const void *header, size_t header_bytes, const void *payload, size_t bytes);
/* Tells the device of what was submitted, if it wants to be told. */
void queue_kick(struct queue *queue);
/* Whether the oldest request has ended, and then its status. A device that breaks the rules is the end of us: a
 * restart resets it, which is all that can help. */
bool queue_take(struct queue *queue, struct status *status);

/* What `r3s3_wait` wants to know; `self` is the queue. */
bool queue_ready(void *self);
void queue_announce_sleep(void *self);
void queue_announce_awake(void *self);

#endif
