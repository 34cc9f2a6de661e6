/* The audio driver's virtqueue (components/audio_driver/src/queue.c) on the host: the ring object is an array, doorbells are
 * counted, and a panic comes back as its text. */
#include "queue.h"

#include <setjmp.h>

uint8_t rings[R3_VRING_STRIDE] __attribute__((aligned(4096)));
uint64_t features, queue_size;
unsigned doorbells;

static struct queue queue;
static jmp_buf before;
static const char *last_words;

int r3s3_region(uint32_t kind, const char *name, struct r3_region_entry *entry)
{
    *entry = (struct r3_region_entry){ .kind = kind, .address = (uintptr_t)rings, .size = sizeof rings,
                                       .iova = R3_VRING_IOVA, .unit = queue_size };
    return name ? R3_ERROR_NOENT : 0;
}

uint64_t r3s3_device_features(void)
{
    return features;
}

void r3s3_doorbell(uint32_t index)
{
    doorbells += index == R3_DOORBELL_QUEUE;
}

_Noreturn void r3s3_panic(const char *text)
{
    last_words = text;
    longjmp(before, 1);
}

/* What the driver said when it died of `call`; NULL: it did not. */
#define SURVIVED(call) (setjmp(before) ? last_words : ((call), NULL))

const char *try_open(void)
{
    __builtin_memset(rings, 0, sizeof rings);
    doorbells = 0;
    return SURVIVED(queue_open(&queue));
}

unsigned submit(const void *payload, size_t bytes, uint64_t position)
{
    struct transfer transfer = { 0, 0, position };
    queue_submit(&queue, &transfer, sizeof transfer, payload, bytes);
    return queue_outstanding(&queue);
}

void kick(void)
{
    queue_kick(&queue);
}

const char *try_take(struct status *status, int *taken)
{
    return SURVIVED(*taken = queue_take(&queue, status));
}

const char *try_ready(int *ready)
{
    return SURVIVED(*ready = queue_ready(&queue));
}

void sleep_announced(void)
{
    queue_announce_sleep(&queue);
}

void awake_announced(void)
{
    queue_announce_awake(&queue);
}
