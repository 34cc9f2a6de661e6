#include "stream.h"

#include "audio.h" /* generated */
#include "queue.h"

/* The state region. Fresh, and after its loss, all zero: nobody has configured the stream. */
struct saved {
    uint64_t position; /* of the next frame */
    uint32_t rate;     /* 0: not configured */
    uint32_t channels;
    uint32_t quieter;  /* VOLUME_FULL - volume, so that full is the beginning */
    uint32_t reserved;
};

/* As many requests as there can be: a client has one for each of its slots (see the manifest). */
enum { CLIENTS = 4, SLOTS = 16, REQUESTS_MAX = CLIENTS * SLOTS };
enum { SAMPLE_BYTES = 2, SAMPLES_MAX = PAYLOAD_BYTES / SAMPLE_BYTES };

/* A request that the device has. */
struct under_way {
    struct r3s3_ticket ticket;
    uint64_t end;            /* of a play: the number of the frame behind the last */
    uint32_t rate, channels; /* of a configure */
};

static const struct saved *saved;
static struct queue queue;
static struct r3s3_port *port;
static const struct r3s3_source source = { &queue, queue_ready, queue_announce_sleep, queue_announce_awake };

static struct r3s3_request waiting[REQUESTS_MAX]; /* a ring, in the order they came */
static unsigned first_waiting, count_waiting;

static struct under_way under_way[PLACES]; /* by place */
static uint64_t next_frame;                /* behind what is under way */
static bool configuring;                   /* a configure is under way, alone */
static bool failed;                        /* a play has failed: those behind it do, too */

/* By VIRTIO_SND_PCM_RATE_* (virtio 1.2, 5.14.6.6.1). */
static const uint32_t rates[] = { 5512, 8000, 11025, 16000, 22050, 32000, 44100, 48000, 64000, 88200, 96000, 176400,
                                  192000, 384000 };
enum { RATES = sizeof rates / sizeof *rates };

static uint8_t rate_code(uint32_t rate)
{
    uint8_t code = 0;
    while (code < RATES && rates[code] != rate)
        code++;
    return code;
}

/* Stores a field in a transaction. */
#define SAVE(transaction, field, value) \
    r3s3_tx_write(transaction, &saved->field, &(__typeof__(saved->field)){ value }, sizeof saved->field)

static void commit(struct r3s3_tx *transaction)
{
    R3S3_KILL_POINT("audio.before_commit");
    R3S3_ASSERT(r3s3_tx_commit(transaction) == 0, "the log of a transaction is full");
    R3S3_KILL_POINT("audio.after_commit");
}

static void answer(struct r3s3_ticket ticket, int status)
{
    r3s3_reply(port, ticket, status, NULL, 0, 0);
}

static void answer_position(struct r3s3_ticket ticket, uint64_t position)
{
    struct r3_audio_play_returns returns = { position };
    r3s3_reply(port, ticket, 0, &returns, sizeof returns, 0);
}

/* ---- to the device */

static void submit_params(uint32_t rate, uint32_t channels)
{
    struct set_params params = { .code = SET_PARAMS, .channels = (uint8_t)channels, .format = R3_AUDIO_FORMAT_S16,
                                 .rate = rate_code(rate) };
    queue_submit(&queue, &params, sizeof params, NULL, 0);
}

/* Each function that begins a request: true, it is answered or the device has it; false, it has to wait. */

static bool configure(const struct r3s3_request *request)
{
    struct r3_audio_configure_args args;
    __builtin_memcpy(&args, request->args, sizeof args);
    if (rate_code(args.rate) == RATES || args.channels == 0 || args.channels > R3_AUDIO_CHANNELS_MAX
        || args.format != R3_AUDIO_FORMAT_S16) {
        answer(request->ticket, R3_ERROR_INVAL);
        return true;
    }
    under_way[queue.submitted % PLACES] = (struct under_way){ request->ticket, 0, args.rate, args.channels };
    submit_params(args.rate, args.channels);
    configuring = true;
    return true;
}

static bool set_volume(const struct r3s3_request *request)
{
    struct r3_audio_set_volume_args args;
    __builtin_memcpy(&args, request->args, sizeof args);
    bool good = args.volume <= R3_AUDIO_VOLUME_FULL;
    if (good) {
        struct r3s3_tx *transaction = r3s3_tx_begin();
        SAVE(transaction, quieter, R3_AUDIO_VOLUME_FULL - args.volume);
        commit(transaction);
    }
    answer(request->ticket, good ? 0 : R3_ERROR_INVAL);
    return true;
}

static bool tell_status(const struct r3s3_request *request)
{
    struct r3_audio_status_returns returns = { saved->position, saved->rate, R3_AUDIO_VOLUME_FULL - saved->quieter,
                                               saved->channels, R3_AUDIO_FORMAT_S16 };
    r3s3_reply(port, request->ticket, 0, &returns, sizeof returns, 0);
    return true;
}

/* Frames from the client's data buffer, `offset` bytes in, as they are to sound; false: the client has gone. */
static bool fetch(const struct r3s3_request *request, size_t offset, int16_t *samples, size_t bytes)
{
    if (r3s3_input(port, request->ticket, offset, samples, bytes) != 0)
        return false;
    int32_t volume = (int32_t)(R3_AUDIO_VOLUME_FULL - saved->quieter);
    if ((uint32_t)volume != R3_AUDIO_VOLUME_FULL)
        for (size_t i = 0; i < bytes / SAMPLE_BYTES; i++)
            samples[i] = (int16_t)(samples[i] * volume >> 16); /* volume_full is 1 << 16 */
    return true;
}

static bool play(const struct r3s3_request *request)
{
    static int16_t samples[SAMPLES_MAX];
    struct r3_audio_play_args args;
    __builtin_memcpy(&args, request->args, sizeof args);
    uint64_t unit = saved->channels * SAMPLE_BYTES, bytes = args.frames * unit, end = args.position + args.frames;
    bool idle = queue_outstanding(&queue) == 0;
    if (idle) { /* what failed has been answered */
        next_frame = saved->position;
        failed = false;
    }
    /* What is not simply the next waits until it is known what was played. */
    if (!idle && (failed || args.position != next_frame || queue_outstanding(&queue) == PLACES))
        return false;
    if (saved->rate == 0 || bytes == 0 || bytes != request->length || bytes > sizeof samples)
        answer(request->ticket, R3_ERROR_INVAL);
    else if (args.position > next_frame)
        answer(request->ticket, R3_ERROR_GAP);
    else if (end <= next_frame)
        answer_position(request->ticket, end);
    else {
        size_t skipped = (size_t)((next_frame - args.position) * unit);
        if (fetch(request, skipped, samples, bytes - skipped)) {
            struct transfer transfer = { 0, 0, next_frame };
            under_way[queue.submitted % PLACES] = (struct under_way){ request->ticket, end, 0, 0 };
            next_frame = end;
            R3S3_KILL_POINT("audio.before_submit");
            queue_submit(&queue, &transfer, sizeof transfer, samples, bytes - skipped);
            R3S3_KILL_POINT("audio.before_kick");
        }
    }
    return true;
}

/* Requests are begun in the order in which they came. All but plays wait until those before have ended: the volume
 * of a frame is that which was asked for before it, however often both are sent again after a death. */
static bool begin(const struct r3s3_request *request)
{
    if (configuring)
        return false;
    if (request->op == R3_AUDIO_OP_PLAY)
        return play(request);
    if (queue_outstanding(&queue))
        return false;
    switch (request->op) {
    case R3_AUDIO_OP_CONFIGURE:
        return configure(request);
    case R3_AUDIO_OP_SET_VOLUME:
        return set_volume(request);
    case R3_AUDIO_OP_STATUS:
        return tell_status(request);
    case R3_AUDIO_OP_DRAIN:
        answer(request->ticket, 0);
        return true;
    }
    answer(request->ticket, R3_ERROR_NOSYS);
    return true;
}

/* ---- from the device */

static void configured(const struct under_way *what, const struct status *status)
{
    configuring = false;
    if (status->code == DEVICE_OK) {
        struct r3s3_tx *transaction = r3s3_tx_begin();
        SAVE(transaction, rate, what->rate);
        SAVE(transaction, channels, what->channels);
        SAVE(transaction, position, status->position);
        commit(transaction);
    }
    answer(what->ticket, status->code == DEVICE_OK              ? 0
                         : status->code == DEVICE_NOT_SUPPORTED ? R3_ERROR_BUSY
                                                                : R3_ERROR_IO);
}

static void played(const struct under_way *what, const struct status *status)
{
    if (status->code != DEVICE_OK) {
        if (!failed)
            r3s3_log(R3_LOG_LEVEL_WARNING, "device error at frame", saved->position);
        failed = true;
        answer(what->ticket, R3_ERROR_IO);
        return;
    }
    R3S3_ASSERT(status->position == what->end, "the device broke the rules: it has taken other frames");
    struct r3s3_tx *transaction = r3s3_tx_begin();
    SAVE(transaction, position, what->end);
    commit(transaction);
    answer_position(what->ticket, what->end);
}

static void collect(void)
{
    struct status status;
    for (;;) {
        const struct under_way *what = &under_way[queue.taken % PLACES];
        if (!queue_take(&queue, &status))
            return;
        if (configuring)
            configured(what, &status);
        else
            played(what, &status);
    }
}

/* ---- the service */

static void forget(uint32_t client)
{
    unsigned kept = 0;
    for (unsigned i = 0; i < count_waiting; i++) {
        struct r3s3_request request = waiting[(first_waiting + i) % REQUESTS_MAX];
        if (request.ticket.client != client)
            waiting[(first_waiting + kept++) % REQUESTS_MAX] = request;
    }
    count_waiting = kept;
}

static void accept(void)
{
    r3s3_begin_round(port);
    for (;;) {
        struct r3s3_request request;
        switch (r3s3_next(port, &request)) {
        case R3S3_REQUEST:
            R3S3_ASSERT(count_waiting < REQUESTS_MAX, "more requests than slots");
            waiting[(first_waiting + count_waiting++) % REQUESTS_MAX] = request;
            break;
        case R3S3_ENDED:
            forget(request.ticket.client);
            break;
        case R3S3_NOTHING:
            return;
        }
    }
}

static void advance(void)
{
    while (count_waiting && begin(&waiting[first_waiting])) {
        first_waiting = (first_waiting + 1) % REQUESTS_MAX;
        count_waiting--;
    }
}

void stream_open(void)
{
    const void *data;
    size_t size = sizeof *saved;
    int found;
    R3S3_ASSERT(r3s3_state_open("stream", &data, &size, &found) == 0, "no [state.stream] in the manifest");
    saved = data;
    queue_open(&queue);
}

void stream_restore(void)
{
    if (saved->rate == 0) /* fresh, or lost: the stream has to be configured (again) */
        return;
    /* The device knows best what was played: whoever died may not have come to noting it. */
    struct status status;
    submit_params(saved->rate, saved->channels);
    queue_kick(&queue);
    while (!queue_take(&queue, &status))
        r3s3_wait(NULL, &source);
    R3S3_ASSERT(status.code == DEVICE_OK, "the device refuses the format it had");
    if (status.position != saved->position) {
        struct r3s3_tx *transaction = r3s3_tx_begin();
        SAVE(transaction, position, status.position);
        commit(transaction);
    }
}

void stream_ready(void)
{
    port = r3s3_serve("audio", R3_AUDIO_NUMBER << 16 | R3_AUDIO_VERSION);
    r3s3_ready();
}

void stream_serve(void)
{
    for (;;) {
        accept();
        collect();
        advance();
        queue_kick(&queue);
        r3s3_wait(port, &source);
    }
}
