/* One virtio-blk request (virtio 1.2, 5.2.6) on the backing file, straight between the file and the
 * driver's windows. The pieces of the chain were translated by ring.c and are inside the windows; what
 * they contain is hostile and copied once. */
#define _GNU_SOURCE
#include "device.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/virtio_blk.h>
#include <string.h>
#include <unistd.h>

enum { SECTOR = 512 };

static const uint8_t zeroes[64 << 10];

/* Whether `sectors` from `sector` lie on the disk; nothing here can overflow. */
static bool on_disk(const struct device *device, uint64_t sector, uint64_t sectors)
{
    return sector <= device->sectors && sectors <= device->sectors - sector;
}

static uint8_t transfer(struct queue *queue, bool write, uint64_t sector, struct iovec *piece, uint32_t pieces,
                        uint64_t bytes)
{
    struct device *device = queue->device;
    if (bytes == 0 || bytes % SECTOR || bytes > REQUEST_BYTES_MAX || !on_disk(device, sector, bytes / SECTOR)
        || (write && device->read_only))
        return VIRTIO_BLK_S_IOERR;
    off_t position = (off_t)(sector * SECTOR);
    ssize_t done;
    do
        done = write ? pwritev2(device->file, piece, (int)pieces, position, device->write_back ? 0 : RWF_DSYNC)
                     : preadv(device->file, piece, (int)pieces, position);
    while (done < 0 && errno == EINTR);
    if (done < 0 || (uint64_t)done != bytes)
        return VIRTIO_BLK_S_IOERR;
    count(queue, write ? COUNT_BYTES_WRITTEN : COUNT_BYTES_READ, bytes);
    return VIRTIO_BLK_S_OK;
}

static uint8_t flush(struct queue *queue)
{
    count(queue, COUNT_FLUSHES, 1);
    if (queue->device->read_only)
        return VIRTIO_BLK_S_OK;
    return fdatasync(queue->device->file) == 0 ? VIRTIO_BLK_S_OK : VIRTIO_BLK_S_IOERR;
}

static bool write_zeroes(const struct device *device, uint64_t sector, uint64_t sectors)
{
    for (uint64_t position = sector * SECTOR, end = position + sectors * SECTOR; position < end;) {
        size_t part = end - position < sizeof zeroes ? (size_t)(end - position) : sizeof zeroes;
        ssize_t done = pwrite(device->file, zeroes, part, (off_t)position);
        if (done <= 0)
            return false;
        position += (uint64_t)done;
    }
    return device->write_back || fdatasync(device->file) == 0;
}

/* DISCARD is a hint: a file system that can not punch holes has done its duty. WRITE_ZEROES is not. */
static uint8_t discard(struct queue *queue, bool zero, struct iovec *piece, uint32_t first, uint32_t end, uint64_t bytes)
{
    struct device *device = queue->device;
    struct virtio_blk_discard_write_zeroes range;
    if (device->read_only || bytes != sizeof range) /* one range: max_discard_seg is 1 */
        return VIRTIO_BLK_S_IOERR;
    pieces_take(piece, &first, end, &range, sizeof range);
    if (range.flags & ~(zero ? VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP : 0u))
        return VIRTIO_BLK_S_UNSUPP;
    if (range.num_sectors == 0 || range.num_sectors > REQUEST_BYTES_MAX / SECTOR
        || !on_disk(device, range.sector, range.num_sectors))
        return VIRTIO_BLK_S_IOERR;
    int how = FALLOC_FL_KEEP_SIZE | (zero && !range.flags ? FALLOC_FL_ZERO_RANGE : FALLOC_FL_PUNCH_HOLE);
    if (fallocate(device->file, how, (off_t)(range.sector * SECTOR), (off_t)range.num_sectors * SECTOR) == 0)
        return VIRTIO_BLK_S_OK;
    if (errno != EOPNOTSUPP && errno != ENOSYS && errno != EPERM)
        return VIRTIO_BLK_S_IOERR;
    return !zero || write_zeroes(device, range.sector, range.num_sectors) ? VIRTIO_BLK_S_OK : VIRTIO_BLK_S_IOERR;
}

int64_t block_execute(struct queue *queue, struct chain *chain, enum breakage *why)
{
    struct virtio_blk_outhdr header;
    uint32_t first = 0, readable = chain->readable, pieces = chain->pieces;
    uint8_t status = VIRTIO_BLK_S_IOERR;
    if (chain->writable_bytes == 0) {
        *why = NO_STATUS_BYTE;
        return -1;
    }
    struct iovec *last = &chain->piece[pieces - 1];
    if (last->iov_base == NULL) {
        *why = STATUS_OUTSIDE;
        return -1;
    }
    uint8_t *status_byte = (uint8_t *)last->iov_base + --last->iov_len;
    if (last->iov_len == 0)
        pieces--;
    uint64_t room = chain->writable_bytes - 1;
    int64_t written = 1;
    if (!chain->outside && chain->readable_bytes >= sizeof header) {
        pieces_take(chain->piece, &first, readable, &header, sizeof header);
        uint64_t payload = chain->readable_bytes - sizeof header;
        switch (header.type) {
        case VIRTIO_BLK_T_IN:
            status = transfer(queue, false, header.sector, &chain->piece[readable], pieces - readable, room);
            if (status == VIRTIO_BLK_S_OK)
                written += (int64_t)room;
            break;
        case VIRTIO_BLK_T_OUT:
            status = transfer(queue, true, header.sector, &chain->piece[first], readable - first, payload);
            break;
        case VIRTIO_BLK_T_FLUSH:
            status = flush(queue);
            break;
        case VIRTIO_BLK_T_GET_ID:
            if (room >= SERIAL_BYTES) {
                pieces_give(chain->piece, readable, pieces, queue->device->serial, SERIAL_BYTES);
                written += SERIAL_BYTES;
                status = VIRTIO_BLK_S_OK;
            }
            break;
        case VIRTIO_BLK_T_DISCARD:
        case VIRTIO_BLK_T_WRITE_ZEROES:
            status = discard(queue, header.type == VIRTIO_BLK_T_WRITE_ZEROES, chain->piece, first, readable, payload);
            break;
        default:
            status = VIRTIO_BLK_S_UNSUPP;
        }
    }
    count(queue, COUNT_REQUESTS, 1);
    if (status != VIRTIO_BLK_S_OK)
        count(queue, COUNT_ERRORS, 1);
    __atomic_store_n(status_byte, status, __ATOMIC_RELAXED);
    return written;
}
