#include "queue.h"

/* A place: the status, then header and payload, which are one descriptor. Place p has descriptors 2p and 2p + 1. */
enum { STATUS_BYTES = sizeof(struct status), PLACE_BYTES = STATUS_BYTES + 32 + PAYLOAD_BYTES };
_Static_assert(R3_VRING_PRIVATE + PLACES * PLACE_BYTES <= R3_VRING_STARTED, "the places fit");

enum { NEXT = 1, DEVICE_WRITES = 2, NO_INTERRUPT = 1, NO_NOTIFY = 1 };
#define EVENT_INDEX (1ull << 29)

/* The device may write all of the ring object at any time. So what is read from it is read once and compared with
 * what we know; nothing else is ever read back. */
static volatile uint16_t *word(const struct queue *queue, size_t offset)
{
    return (volatile uint16_t *)(queue->memory + offset);
}

static volatile uint16_t *available_flags(const struct queue *queue)
{
    return word(queue, R3_VRING_AVAILABLE);
}

static volatile uint16_t *used_event(const struct queue *queue)
{
    return word(queue, R3_VRING_AVAILABLE + 4 + 2u * queue->size);
}

static volatile uint16_t *available_event(const struct queue *queue)
{
    return word(queue, R3_VRING_USED + 4 + 8u * queue->size);
}

static size_t place_of(uint64_t number)
{
    return R3_VRING_PRIVATE + number % PLACES * (size_t)PLACE_BYTES;
}

void queue_open(struct queue *queue)
{
    struct r3_region_entry rings;
    R3S3_ASSERT(r3s3_region(R3_REGION_KIND_VRING, NULL, &rings) == 0 && rings.address, "no [device] in the manifest");
    R3S3_ASSERT(rings.unit >= 2 * PLACES && rings.unit <= R3_VRING_SIZE_MAX, "the queue is too small");
    *queue = (struct queue){
        .memory = (uint8_t *)rings.address,
        .bus_address = rings.iova,
        .size = (uint16_t)rings.unit,
        .event_index = r3s3_device_features() & EVENT_INDEX,
    };
    queue_announce_awake(queue);
}

unsigned queue_outstanding(const struct queue *queue)
{
    return (unsigned)(queue->submitted - queue->taken);
}

static void describe(const struct queue *queue, size_t index, size_t offset, size_t bytes, uint64_t flags, size_t next)
{
    volatile uint64_t *descriptor = (volatile uint64_t *)(queue->memory + R3_VRING_DESCRIPTORS + 16 * index);
    descriptor[0] = queue->bus_address + offset;
    descriptor[1] = bytes | flags << 32 | (uint64_t)next << 48;
}

void queue_submit(struct queue *queue, const void *header, size_t header_bytes, const void *payload, size_t bytes)
{
    size_t place = place_of(queue->submitted), first = 2 * (queue->submitted % PLACES);
    uint8_t *request = queue->memory + place + STATUS_BYTES;
    __builtin_memset(queue->memory + place, 0, STATUS_BYTES);
    __builtin_memcpy(request, header, header_bytes);
    if (bytes)
        __builtin_memcpy(request + header_bytes, payload, bytes);
    describe(queue, first, place + STATUS_BYTES, header_bytes + bytes, NEXT, first + 1);
    describe(queue, first + 1, place, STATUS_BYTES, DEVICE_WRITES, 0);
    *word(queue, R3_VRING_AVAILABLE + 4 + 2 * (queue->submitted % queue->size)) = (uint16_t)first;
    queue->submitted++;
    __atomic_thread_fence(__ATOMIC_RELEASE); /* the request before the index that covers it */
    *word(queue, R3_VRING_AVAILABLE + 2) = (uint16_t)queue->submitted;
}

void queue_kick(struct queue *queue)
{
    uint16_t before = (uint16_t)queue->announced, now = (uint16_t)queue->submitted;
    if (queue->announced == queue->submitted)
        return;
    queue->announced = queue->submitted;
    __atomic_thread_fence(__ATOMIC_SEQ_CST); /* the index before the device's wish */
    bool wanted = queue->event_index ? (uint16_t)(now - *available_event(queue) - 1) < (uint16_t)(now - before)
                                     : !(*word(queue, R3_VRING_USED) & NO_NOTIFY);
    if (wanted)
        r3s3_doorbell(R3_DOORBELL_QUEUE);
}

/* How many requests have ended that were not taken. */
static unsigned ended(const struct queue *queue)
{
    unsigned count = (uint16_t)(*word(queue, R3_VRING_USED + 2) - (uint16_t)queue->taken);
    R3S3_ASSERT(count <= queue_outstanding(queue), "the device broke the rules: its used index ran ahead");
    return count;
}

bool queue_take(struct queue *queue, struct status *status)
{
    if (ended(queue) == 0)
        return false;
    __atomic_thread_fence(__ATOMIC_ACQUIRE); /* the index before what it covers */
    size_t element = R3_VRING_USED + 4 + 8 * (queue->taken % queue->size);
    uint32_t id = *(volatile uint32_t *)(queue->memory + element);
    R3S3_ASSERT(id == 2 * (queue->taken % PLACES), "the device broke the rules: it ended another request");
    __builtin_memcpy(status, queue->memory + place_of(queue->taken), sizeof *status);
    queue->taken++;
    return true;
}

bool queue_ready(void *self)
{
    return ended(self) > 0;
}

/* Asks for an interrupt when all that is outstanding has ended: few wake-ups, and a short wait. */
void queue_announce_sleep(void *self)
{
    struct queue *queue = self;
    if (!queue->event_index)
        *available_flags(queue) = 0;
    else if (queue_outstanding(queue))
        *used_event(queue) = (uint16_t)(queue->submitted - 1);
}

/* With EVENT_IDX the wish is used up when it is fulfilled. */
void queue_announce_awake(void *self)
{
    struct queue *queue = self;
    if (!queue->event_index)
        *available_flags(queue) = NO_INTERRUPT;
}
