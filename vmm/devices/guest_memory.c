/* The windows a device sees: memory objects mapped here, found by bus address.
 * An address outside every window has no translation, so it can not be reached. */
#define _GNU_SOURCE
#include "device.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static bool overlap(uint64_t a, uint64_t a_size, uint64_t b, uint64_t b_size)
{
    return a < b + b_size && b < a + a_size; /* no wrap: checked by window_map */
}

/* The mapping that `old` windows have of the same memory, if one has: a pool of megabytes need not be mapped
 * page by page again only because its driver is a new one. */
static bool window_keep(const struct window_request *request, const struct stat *file, struct window *old,
                        uint32_t old_count, struct window *window)
{
    for (uint32_t i = 0; i < old_count; i++) {
        if (old[i].kept || old[i].device != file->st_dev || old[i].inode != file->st_ino
            || old[i].offset != request->offset || old[i].size != request->size)
            continue;
        old[i].kept = true;
        *window = old[i];
        window->guest = request->guest;
        window->user = request->user;
        return true;
    }
    return false;
}

/* Maps a window, or takes a mapping over from one of the `old` ones; 0 or -errno. */
static int window_map(const struct window_request *request, struct window *old, uint32_t old_count,
                      struct window *window)
{
    struct stat file;
    if (request->size == 0 || request->guest + request->size < request->guest
        || request->user + request->size < request->user || request->offset + request->size < request->offset
        || request->offset + request->size > INT64_MAX)
        return -EINVAL;
    /* Not fstat(): the C library's makes another system call, which the jail does not know. */
    if (syscall(SYS_fstat, request->fd, &file) != 0)
        return -errno;
    /* Beyond the end of the object an access would be a SIGBUS instead of an error. */
    if ((uint64_t)file.st_size < request->offset + request->size)
        return -ERANGE;
    if (window_keep(request, &file, old, old_count, window))
        return 0;
    /* Offsets must be page aligned; on hugetlbfs st_blksize is the huge page size. */
    uint64_t page = file.st_blksize > 4096 ? (uint64_t)file.st_blksize : 4096;
    if (page & (page - 1))
        page = 4096;
    uint64_t slack = request->offset & (page - 1);
    uint64_t size = request->size + slack;
    /* A window that is added is for one request, which touches all of it: a fault for each page would cost more. */
    int flags = MAP_SHARED | MAP_NORESERVE | (old ? 0 : MAP_POPULATE);
    void *mapping = mmap(NULL, size, PROT_READ | PROT_WRITE, flags, request->fd, (off_t)(request->offset - slack));
    if (mapping == MAP_FAILED)
        return -errno;
    *window = (struct window){ request->guest, request->user, request->size,
                               (uint8_t *)mapping + slack, mapping, size,
                               file.st_dev, file.st_ino, request->offset, false };
    return 0;
}

static void window_unmap(struct window *window)
{
    if (!window->kept)
        munmap(window->mapping, window->mapping_size);
}

static void resolve_all(struct device *device)
{
    for (uint32_t i = 0; i < device->queue_count; i++)
        queue_resolve(&device->queues[i]);
}

/* Replaces the whole table. On an error (-errno) the old table stays. */
int device_set_windows(struct device *device, uint32_t count, const struct window_request *requests)
{
    struct guest_memory *memory = &device->memory;
    struct window fresh[WINDOWS_MAX], old[WINDOWS_MAX];
    uint32_t mapped = 0, old_count = memory->count;
    memcpy(old, memory->windows, old_count * sizeof *old);
    int error = count <= WINDOWS_MAX ? 0 : -E2BIG;
    for (; error == 0 && mapped < count; mapped++) {
        const struct window_request *request = &requests[mapped];
        error = window_map(request, old, old_count, &fresh[mapped]);
        if (error)
            break;
        for (uint32_t i = 0; i < mapped; i++)
            if (overlap(fresh[i].guest, fresh[i].size, request->guest, request->size)
                || overlap(fresh[i].user, fresh[i].size, request->user, request->size))
                error = -EEXIST;
    }
    if (error) {
        while (mapped > 0)
            window_unmap(&fresh[--mapped]);
        return error;
    }
    pthread_rwlock_wrlock(&memory->lock);
    for (uint32_t i = 0; i < count; i++) {
        memory->windows[i] = fresh[i];
        memory->windows[i].kept = false;
    }
    memory->count = count;
    resolve_all(device);
    pthread_rwlock_unlock(&memory->lock);
    for (uint32_t i = 0; i < old_count; i++)
        window_unmap(&old[i]);
    return 0;
}

/* Adds one window; 0 or -errno. */
int device_add_window(struct device *device, const struct window_request *request)
{
    struct guest_memory *memory = &device->memory;
    struct window window;
    if (memory->count >= WINDOWS_MAX)
        return -ENOSPC;
    int error = window_map(request, NULL, 0, &window);
    if (error)
        return error;
    /* Only the control thread changes the table, so it may read it without the lock. */
    for (uint32_t i = 0; i < memory->count; i++) {
        const struct window *other = &memory->windows[i];
        if (overlap(other->guest, other->size, window.guest, window.size)
            || overlap(other->user, other->size, window.user, window.size)) {
            window_unmap(&window);
            return -EEXIST;
        }
    }
    pthread_rwlock_wrlock(&memory->lock);
    memory->windows[memory->count++] = window;
    resolve_all(device);
    pthread_rwlock_unlock(&memory->lock);
    return 0;
}

/* Removes the window with exactly these addresses; 0 or -errno. When it returns no request uses it. */
int device_remove_window(struct device *device, uint64_t guest, uint64_t user, uint64_t size)
{
    struct guest_memory *memory = &device->memory;
    for (uint32_t i = 0; i < memory->count; i++) {
        struct window window = memory->windows[i];
        if (window.guest != guest || window.user != user || window.size != size)
            continue;
        pthread_rwlock_wrlock(&memory->lock);
        memory->windows[i] = memory->windows[--memory->count];
        resolve_all(device);
        pthread_rwlock_unlock(&memory->lock);
        window_unmap(&window);
        return 0;
    }
    return -ENOENT;
}

/* Where bus address `guest` is mapped, and in *length how many bytes follow it in its window (the
 * caller's *length at most); NULL outside every window. The lock must be held. */
uint8_t *memory_find(struct guest_memory *memory, uint64_t guest, uint64_t *length)
{
    for (uint32_t i = 0; i < memory->count; i++) {
        const struct window *window = &memory->windows[i];
        uint64_t inside = guest - window->guest; /* wraps to a huge number below the window */
        if (inside >= window->size)
            continue;
        if (*length > window->size - inside)
            *length = window->size - inside;
        return window->host + inside;
    }
    return NULL;
}

/* The same for an address as the front-end names it; all `length` bytes in one window, aligned. */
void *memory_find_user(struct guest_memory *memory, uint64_t user, uint64_t length, uint64_t alignment)
{
    for (uint32_t i = 0; i < memory->count; i++) {
        const struct window *window = &memory->windows[i];
        uint64_t inside = user - window->user;
        if (inside >= window->size || length > window->size - inside)
            continue;
        uint8_t *host = window->host + inside;
        return (uintptr_t)host % alignment == 0 ? host : NULL;
    }
    return NULL;
}
