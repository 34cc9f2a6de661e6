/* One virtqueue (virtio 1.2, 2.7 split virtqueues): its thread, its chains, its notifications.
 *
 * The thread sleeps in poll() on the kick descriptor. Requests are performed one after another and
 * published at once, in order, so the used index always says exactly what has been done. Whatever
 * breaks the rules of the ring marks the queue broken: it stops until the front-end stops and starts
 * it again, and its error descriptor is signalled. */
#define _GNU_SOURCE
#include "device.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/virtio_config.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

enum { STACK_BYTES = 256 << 10 };

/* Set while this thread touches the windows: a memory object that was truncated under us raises
 * SIGBUS, which must break that queue, not the process. */
static __thread sigjmp_buf *recovery;

static void on_bus_error(int number)
{
    if (recovery)
        siglongjmp(*recovery, 1);
    signal(number, SIG_DFL); /* not ours: the access repeats and ends the process */
}

#define READ_ONCE(field) __atomic_load_n(&(field), __ATOMIC_RELAXED)
#define WRITE_ONCE(field, value) __atomic_store_n(&(field), (value), __ATOMIC_RELAXED)

static void signal_descriptor(int descriptor)
{
    uint64_t one = 1;
    if (descriptor >= 0 && write(descriptor, &one, sizeof one) < 0) {
        /* Non-blocking: a full counter is a signal already, a dead reader needs none. */
    }
}

static void break_queue(struct queue *queue, enum breakage why)
{
    count(queue, COUNT_BROKEN, 1);
    WRITE_ONCE(queue->counters[LAST_BREAKAGE], why);
    WRITE_ONCE(queue->broken, why);
    signal_descriptor(queue->error);
}

void queue_resolve(struct queue *queue)
{
    struct guest_memory *memory = &queue->device->memory;
    uint32_t size = queue->size;
    queue->descriptors = memory_find_user(memory, queue->descriptors_at, 16ull * size, 16);
    queue->available = memory_find_user(memory, queue->available_at, 6 + 2ull * size, 2);
    queue->used = memory_find_user(memory, queue->used_at, 6 + 8ull * size, 4);
    if (!queue->descriptors || !queue->available || !queue->used || size == 0)
        queue->descriptors = NULL;
}

/* Adds the pieces of one descriptor; false if the chain has more pieces than can be handled. */
static bool add_pieces(struct queue *queue, struct chain *chain, uint64_t address, uint64_t length)
{
    while (length > 0) {
        uint64_t part = length;
        if (chain->pieces == IOVECS_MAX)
            return false;
        uint8_t *host = memory_find(&queue->device->memory, address, &part);
        if (!host) {
            chain->outside = true;
            chain->outside_at = address;
        }
        chain->piece[chain->pieces++] = (struct iovec){ host, part };
        address += part;
        length -= part;
    }
    return true;
}

/* Collects the chain that starts at `head`; each descriptor is read once. */
static enum breakage collect(struct queue *queue, uint16_t head, struct chain *chain)
{
    uint32_t index = head;
    chain->pieces = chain->readable = 0;
    chain->readable_bytes = chain->writable_bytes = 0;
    chain->outside = false;
    for (uint32_t walked = 0;; walked++) {
        if (index >= queue->size)
            return walked == 0 ? BAD_HEAD : BAD_NEXT;
        if (walked == queue->size)
            return CHAIN_TOO_LONG; /* a loop */
        struct vring_desc *descriptor = &queue->descriptors[index];
        uint64_t address = READ_ONCE(descriptor->addr);
        uint32_t length = READ_ONCE(descriptor->len);
        uint16_t flags = READ_ONCE(descriptor->flags), next = READ_ONCE(descriptor->next);
        if (flags & VRING_DESC_F_INDIRECT)
            return INDIRECT_NOT_OFFERED;
        if (length == 0)
            return EMPTY_DESCRIPTOR;
        bool writable = flags & VRING_DESC_F_WRITE;
        if (!writable && chain->writable_bytes > 0)
            return READABLE_AFTER_WRITABLE;
        if (!add_pieces(queue, chain, address, length))
            return CHAIN_TOO_LONG;
        if (writable) {
            chain->writable_bytes += length;
        } else {
            chain->readable_bytes += length;
            chain->readable = chain->pieces;
        }
        if (!(flags & VRING_DESC_F_NEXT))
            return INTACT;
        index = next;
    }
}

static void publish(struct queue *queue, uint16_t head, uint32_t written)
{
    struct vring_used *used = queue->used;
    struct vring_used_elem *element = &used->ring[queue->next_used % queue->size];
    WRITE_ONCE(element->id, head);
    WRITE_ONCE(element->len, written);
    __atomic_store_n(&used->idx, ++queue->next_used, __ATOMIC_RELEASE);
    __atomic_thread_fence(__ATOMIC_SEQ_CST); /* the index before the driver's wish for an interrupt */
    bool wanted;
    if (queue->device->event_index) {
        uint16_t event = READ_ONCE(queue->available->ring[queue->size]);
        wanted = vring_need_event(event, queue->next_used, queue->signalled);
        queue->signalled = queue->next_used;
    } else {
        wanted = !(READ_ONCE(queue->available->flags) & VRING_AVAIL_F_NO_INTERRUPT);
    }
    if (wanted) {
        count(queue, COUNT_CALLS, 1);
        signal_descriptor(queue->call);
    }
}

/* Serves one request if there is one. The memory lock is held shared. */
static bool serve_one(struct queue *queue, struct chain *chain)
{
    enum breakage why = RINGS_OUTSIDE;
    if (!queue->descriptors)
        goto broken;
    uint16_t available = __atomic_load_n(&queue->available->idx, __ATOMIC_ACQUIRE);
    if (available == queue->next_available)
        return false;
    why = BAD_INDEX;
    if ((uint16_t)(available - queue->next_available) > queue->size)
        goto broken;
    uint16_t head = READ_ONCE(queue->available->ring[queue->next_available % queue->size]);
    why = collect(queue, head, chain);
    if (why != INTACT)
        goto broken;
    if (chain->outside) {
        count(queue, COUNT_DMA_FAULTS, 1);
        WRITE_ONCE(queue->counters[LAST_DMA_FAULT], chain->outside_at);
        signal_descriptor(queue->error);
    }
    int64_t written = queue->device->execute(queue, chain, &why);
    if (written < 0)
        goto broken;
    queue->next_available++;
    publish(queue, head, (uint32_t)written);
    return true;
broken:
    break_queue(queue, why);
    return false;
}

/* Tells the driver whether it must kick; true if a request came in the meantime. Lock held. */
static bool want_kicks(struct queue *queue, bool want)
{
    if (!queue->descriptors)
        return true; /* serve_one says what is wrong */
    if (!queue->device->event_index)
        WRITE_ONCE(queue->used->flags, want ? 0 : VRING_USED_F_NO_NOTIFY);
    else if (want) /* avail_event, behind the used ring */
        __atomic_store_n((uint16_t *)(void *)&queue->used->ring[queue->size], queue->next_available, __ATOMIC_RELAXED);
    if (!want)
        return false;
    __atomic_thread_fence(__ATOMIC_SEQ_CST); /* the wish before the last look */
    return READ_ONCE(queue->available->idx) != queue->next_available;
}

static bool going_on(struct queue *queue)
{
    return READ_ONCE(queue->wanted) && READ_ONCE(queue->broken) == INTACT;
}

/* Runs `step` with the windows held still and bus errors caught. */
enum step { BEGIN, SERVE, BUSY, IDLE, REFUSE };

static bool with_memory(struct queue *queue, enum step step, struct chain *chain)
{
    sigjmp_buf here;
    volatile bool result = false;
    pthread_rwlock_rdlock(&queue->device->memory.lock);
    if (sigsetjmp(here, 0) == 0) {
        recovery = &here;
        if (step == SERVE)
            result = serve_one(queue, chain);
        else if (step == REFUSE)
            break_queue(queue, BAD_KICK);
        else if (step != BEGIN)
            result = want_kicks(queue, step == IDLE);
        else if (queue->descriptors)
            queue->next_used = queue->signalled = READ_ONCE(queue->used->idx);
    } else {
        break_queue(queue, MEMORY_VANISHED);
    }
    recovery = NULL;
    pthread_rwlock_unlock(&queue->device->memory.lock);
    return result;
}

static void sleep_until_kicked(struct queue *queue)
{
    uint64_t ignored;
    struct pollfd events[2] = { { queue->kick, POLLIN, 0 }, { queue->control, POLLIN, 0 } };
    if (poll(events, 2, -1) < 0)
        return;
    if (events[1].revents && read(queue->control, &ignored, sizeof ignored) < 0)
        return;
    if (events[0].revents) {
        if (read(queue->kick, &ignored, sizeof ignored) == sizeof ignored)
            count(queue, COUNT_KICKS, 1);
        else if (errno != EAGAIN || (events[0].revents & (POLLERR | POLLHUP | POLLNVAL)))
            with_memory(queue, REFUSE, NULL); /* else it would be readable for ever */
    }
}

static void serve(struct queue *queue, struct chain *chain)
{
    with_memory(queue, BEGIN, chain);
    while (going_on(queue)) {
        with_memory(queue, BUSY, chain);
        while (going_on(queue) && with_memory(queue, SERVE, chain)) {
        }
        if (going_on(queue) && !with_memory(queue, IDLE, chain) && going_on(queue))
            sleep_until_kicked(queue);
    }
}

static void *queue_thread(void *argument)
{
    struct queue *queue = argument;
    struct chain *chain = malloc(sizeof *chain);
    pthread_mutex_lock(&queue->mutex);
    for (;;) {
        while (!queue->wanted || queue->broken != INTACT || !chain) {
            if (!queue->wanted || !chain) {
                queue->running = false;
                pthread_cond_broadcast(&queue->changed);
            }
            pthread_cond_wait(&queue->changed, &queue->mutex);
        }
        pthread_mutex_unlock(&queue->mutex);
        serve(queue, chain);
        pthread_mutex_lock(&queue->mutex);
    }
    return NULL;
}

/* ---- what Python calls, all from the control thread ---- */

struct device *device_open(int file, uint64_t sectors, bool read_only, uint32_t queues, uint64_t *counters,
                           const char *serial)
{
    struct device *device = calloc(1, sizeof *device);
    pthread_rwlockattr_t attributes;
    struct sigaction action = { .sa_handler = on_bus_error, .sa_flags = SA_NODEFER };
    if (!device || queues > QUEUES_MAX)
        return NULL;
    /* Writers first: a busy queue must not keep the control thread from withdrawing a window. */
    pthread_rwlockattr_init(&attributes);
    pthread_rwlockattr_setkind_np(&attributes, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
    pthread_rwlock_init(&device->memory.lock, &attributes);
    sigaction(SIGBUS, &action, NULL);
    device->execute = block_execute;
    device->file = file;
    device->sectors = sectors;
    device->read_only = read_only;
    device->queue_count = queues;
    memcpy(device->serial, serial, strnlen(serial, SERIAL_BYTES)); /* NUL padded, not terminated */
    for (uint32_t i = 0; i < queues; i++) {
        struct queue *queue = &device->queues[i];
        queue->device = device;
        queue->counters = counters + i * COUNTERS;
        queue->kick = queue->call = queue->error = -1;
        pthread_mutex_init(&queue->mutex, NULL);
        pthread_cond_init(&queue->changed, NULL);
        queue->control = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        if (queue->control < 0)
            return NULL;
    }
    return device;
}

void device_negotiated(struct device *device, bool event_index, bool write_back)
{
    device->event_index = event_index;
    device->write_back = write_back;
}

/* Takes ownership of `descriptor` (-1: none), which must not be able to block its user. In the jail fcntl is
 * refused; there the front-end is the hypervisor, whose descriptors are non-blocking already. */
static void replace(int *slot, int descriptor)
{
    if (*slot >= 0)
        close(*slot);
    if (descriptor >= 0)
        fcntl(descriptor, F_SETFL, fcntl(descriptor, F_GETFL) | O_NONBLOCK);
    *slot = descriptor;
}

/* The queue must be stopped for this one. */
void queue_set_kick(struct device *device, uint32_t index, int descriptor)
{
    replace(&device->queues[index].kick, descriptor);
}

/* These may change while the queue runs; the lock keeps its thread from using a closed descriptor. */
void queue_set_call(struct device *device, uint32_t index, int descriptor)
{
    pthread_rwlock_wrlock(&device->memory.lock);
    replace(&device->queues[index].call, descriptor);
    pthread_rwlock_unlock(&device->memory.lock);
}

void queue_set_error(struct device *device, uint32_t index, int descriptor)
{
    pthread_rwlock_wrlock(&device->memory.lock);
    replace(&device->queues[index].error, descriptor);
    pthread_rwlock_unlock(&device->memory.lock);
}

/* Starts a stopped queue; 0, or -errno (-EFAULT: its rings are not inside the windows). */
int queue_start(struct device *device, uint32_t index, uint32_t size, uint64_t descriptors, uint64_t available,
                uint64_t used, uint16_t next_available)
{
    struct queue *queue = &device->queues[index];
    queue->size = size;
    queue->descriptors_at = descriptors;
    queue->available_at = available;
    queue->used_at = used;
    queue->next_available = next_available;
    pthread_rwlock_wrlock(&device->memory.lock);
    queue_resolve(queue);
    pthread_rwlock_unlock(&device->memory.lock);
    if (!queue->descriptors)
        return -EFAULT;
    pthread_mutex_lock(&queue->mutex);
    queue->broken = INTACT;
    queue->wanted = queue->running = true;
    int error = 0;
    if (!queue->exists) {
        pthread_t thread; /* lives as long as the process */
        pthread_attr_t attributes;
        pthread_attr_init(&attributes);
        pthread_attr_setstacksize(&attributes, STACK_BYTES);
        error = pthread_create(&thread, &attributes, queue_thread, queue);
        pthread_attr_destroy(&attributes);
        queue->exists = error == 0;
        queue->wanted = queue->running = error == 0;
    }
    pthread_cond_broadcast(&queue->changed);
    pthread_mutex_unlock(&queue->mutex);
    return -error;
}

/* Stops the queue: returns the index of the next request when the request under way has ended. */
uint16_t queue_stop(struct device *device, uint32_t index)
{
    struct queue *queue = &device->queues[index];
    pthread_mutex_lock(&queue->mutex);
    WRITE_ONCE(queue->wanted, false);
    pthread_cond_broadcast(&queue->changed);
    signal_descriptor(queue->control);
    while (queue->exists && queue->running)
        pthread_cond_wait(&queue->changed, &queue->mutex);
    pthread_mutex_unlock(&queue->mutex);
    return queue->next_available;
}
