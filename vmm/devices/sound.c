/* One request of a sound device whose sink is a WAV file, 16 bits a sample. The manner is virtio-snd's (virtio 1.2,
 * 5.14): a transfer of PCM frames (5.14.6.8) with a header in front and a status behind, and PCM_SET_PARAMS
 * (5.14.6.6.3), which here goes through the same queue. What is ours is the number of a transfer's first frame,
 * behind its header, and behind every status how many frames there are: frames that are there already are left
 * out, and none can be skipped, so whoever repeats a transfer adds nothing.
 *
 * The file is the device's memory: another process that opens it goes on where this one has ended. Frames are
 * written first, then the header that counts them, so it is a valid recording at every moment. */
#define _GNU_SOURCE
#include "device.h"

#include <endian.h>
#include <errno.h>
#include <linux/virtio_snd.h>
#include <string.h>
#include <unistd.h>

enum { HEADER_BYTES = 44, SAMPLE_BYTES = 2, CHANNELS_MAX = 8 };
#define DATA_BYTES_MAX (UINT32_MAX - (HEADER_BYTES - 8)) /* RIFF counts in 32 bits */

struct transfer {
    struct virtio_snd_pcm_xfer head;
    __le32 reserved;
    __le64 position; /* number of the first frame */
};

struct status {
    struct virtio_snd_pcm_status head;
    __le64 position; /* frames there are */
};

/* By VIRTIO_SND_PCM_RATE_*. */
static const uint32_t rates[] = { 5512, 8000, 11025, 16000, 22050, 32000, 44100, 48000, 64000, 88200, 96000, 176400,
                                  192000, 384000 };

static uint32_t frame_bytes(const struct recording *recording)
{
    return recording->channels * SAMPLE_BYTES;
}

static bool write_at(int file, struct iovec *piece, uint32_t first, uint32_t end, off_t position)
{
    while (first < end) {
        ssize_t done = pwritev(file, &piece[first], (int)(end - first), position);
        if (done < 0 && errno == EINTR)
            continue;
        if (done <= 0)
            return false;
        position += done;
        pieces_take(piece, &first, end, NULL, (size_t)done);
    }
    return true;
}

/* The header of a recording: RIFF, WAVE, "fmt " of 16 bytes (PCM), "data". */
static bool write_header(const struct device *device)
{
    const struct recording *recording = &device->recording;
    uint32_t data = (uint32_t)(recording->frames * frame_bytes(recording));
    uint8_t header[HEADER_BYTES] = "RIFF....WAVEfmt ";
    const struct {
        uint32_t format_bytes;
        uint16_t format, channels;
        uint32_t rate, bytes_a_second;
        uint16_t frame_bytes, sample_bits;
    } format = { 16, 1, (uint16_t)recording->channels, recording->rate, recording->rate * frame_bytes(recording),
                 (uint16_t)frame_bytes(recording), SAMPLE_BYTES * 8 };
    uint32_t all = data + HEADER_BYTES - 8;
    memcpy(header + 4, &all, sizeof all);
    memcpy(header + 16, &format, sizeof format);
    memcpy(header + 36, "data", 4);
    memcpy(header + 40, &data, sizeof data);
    struct iovec piece = { header, sizeof header };
    return write_at(device->file, &piece, 0, 1, 0);
}

static uint32_t set_params(struct device *device, const struct virtio_snd_pcm_set_params *params)
{
    struct recording *recording = &device->recording;
    if (params->hdr.stream_id || params->channels == 0)
        return VIRTIO_SND_S_BAD_MSG;
    if (params->features || params->format != VIRTIO_SND_PCM_FMT_S16 || params->channels > CHANNELS_MAX
        || params->rate >= sizeof rates / sizeof *rates)
        return VIRTIO_SND_S_NOT_SUPP;
    struct recording wanted = { rates[params->rate], params->channels, recording->frames };
    if (wanted.rate == recording->rate && wanted.channels == recording->channels)
        return VIRTIO_SND_S_OK;
    if (recording->frames > 0) /* a file has one format */
        return VIRTIO_SND_S_NOT_SUPP;
    struct recording before = *recording;
    *recording = wanted;
    if (write_header(device))
        return VIRTIO_SND_S_OK;
    *recording = before;
    return VIRTIO_SND_S_IO_ERR;
}

/* The frames are the pieces [first, end): `bytes` bytes. */
static uint32_t play(struct queue *queue, const struct transfer *transfer, struct iovec *piece, uint32_t first,
                     uint32_t end, uint64_t bytes)
{
    struct device *device = queue->device;
    struct recording *recording = &device->recording;
    uint32_t unit = frame_bytes(recording);
    uint64_t position = le64toh(transfer->position), frames = bytes / unit;
    if (transfer->head.stream_id || transfer->reserved || bytes == 0 || bytes % unit || bytes > REQUEST_BYTES_MAX
        || position > recording->frames)
        return VIRTIO_SND_S_BAD_MSG;
    uint64_t known = recording->frames - position;
    if (known >= frames)
        return VIRTIO_SND_S_OK;
    uint64_t more = (frames - known) * unit, at = recording->frames * unit;
    if (more > DATA_BYTES_MAX - at)
        return VIRTIO_SND_S_IO_ERR;
    pieces_take(piece, &first, end, NULL, known * unit);
    if (!write_at(device->file, piece, first, end, (off_t)(HEADER_BYTES + at)))
        return VIRTIO_SND_S_IO_ERR;
    recording->frames += frames - known;
    if (!write_header(device)) {
        recording->frames -= frames - known;
        return VIRTIO_SND_S_IO_ERR;
    }
    count(queue, COUNT_BYTES_WRITTEN, more);
    return VIRTIO_SND_S_OK;
}

static uint32_t perform(struct queue *queue, struct chain *chain)
{
    uint32_t first = 0;
    union {
        struct transfer transfer;
        struct virtio_snd_pcm_set_params params;
    } request;
    if (chain->outside)
        return VIRTIO_SND_S_IO_ERR;
    if (chain->readable_bytes < sizeof request.transfer)
        return VIRTIO_SND_S_BAD_MSG;
    pieces_take(chain->piece, &first, chain->readable, &request, sizeof request.transfer);
    if (le32toh(request.transfer.head.stream_id) != VIRTIO_SND_R_PCM_SET_PARAMS)
        return play(queue, &request.transfer, chain->piece, first, chain->readable,
                    chain->readable_bytes - sizeof request.transfer);
    if (chain->readable_bytes != sizeof request.params)
        return VIRTIO_SND_S_BAD_MSG;
    pieces_take(chain->piece, &first, chain->readable, (uint8_t *)&request + sizeof request.transfer,
                sizeof request.params - sizeof request.transfer);
    return set_params(queue->device, &request.params);
}

int64_t sound_execute(struct queue *queue, struct chain *chain, enum breakage *why)
{
    struct status status = { 0 };
    if (chain->writable_bytes < sizeof status) {
        *why = NO_STATUS_BYTE;
        return -1;
    }
    for (uint32_t i = chain->readable; i < chain->pieces; i++)
        if (chain->piece[i].iov_base == NULL) {
            *why = STATUS_OUTSIDE;
            return -1;
        }
    uint32_t result = perform(queue, chain);
    status.head.status = htole32(result);
    status.position = htole64(queue->device->recording.frames);
    count(queue, COUNT_REQUESTS, 1);
    if (result != VIRTIO_SND_S_OK)
        count(queue, COUNT_ERRORS, 1);
    pieces_give(chain->piece, chain->readable, chain->pieces, &status, sizeof status);
    return sizeof status;
}

/* Called from Python: a device that goes on with a recording, and writes the header of one that has no frames. */
struct device *sound_open(int file, uint32_t rate, uint32_t channels, uint64_t frames, uint64_t *counters)
{
    struct device *device = device_open(file, 0, false, 1, counters, "");
    if (!device)
        return NULL;
    device->execute = sound_execute;
    device->recording = (struct recording){ rate, channels, frames };
    return frames > 0 || write_header(device) ? device : NULL;
}
