/* Generated from components/protocols/audio.toml by `python -m components.protocols.generate`. Do not edit. */
/* Sound: one stream of frames, each played exactly once, in the order of their numbers. */
#ifndef R3_AUDIO_H
#define R3_AUDIO_H

#include <stddef.h>
#include <stdint.h>

#define R3_AUDIO_NUMBER 7
#define R3_AUDIO_VERSION 1
#define R3_AUDIO_VOLUME_FULL 65536u
#define R3_AUDIO_CHANNELS_MAX 8u

#define R3_AUDIO_FORMAT_S16 5u

/* Frames a second, channels and format of the stream. Once something has been played only the same again
   (`busy`). */
#define R3_AUDIO_OP_CONFIGURE 1
struct r3_audio_configure_args {
    uint32_t rate;
    uint32_t channels;
    uint32_t format;
} __attribute__((packed));
_Static_assert(offsetof(struct r3_audio_configure_args, rate) == 0, "rate");
_Static_assert(offsetof(struct r3_audio_configure_args, channels) == 4, "channels");
_Static_assert(offsetof(struct r3_audio_configure_args, format) == 8, "format");
_Static_assert(sizeof(struct r3_audio_configure_args) <= 40, "size");

/* Volume of the frames played from now on; not of those asked for before. */
#define R3_AUDIO_OP_SET_VOLUME 2
struct r3_audio_set_volume_args {
    uint32_t volume;
} __attribute__((packed));
_Static_assert(offsetof(struct r3_audio_set_volume_args, volume) == 0, "volume");
_Static_assert(sizeof(struct r3_audio_set_volume_args) <= 40, "size");

/* Play `frames` frames, the input, as number `position` and on. Those played before are left out; none may be
   skipped (`gap`). */
#define R3_AUDIO_OP_PLAY 3
struct r3_audio_play_args {
    uint64_t position;
    uint32_t frames;
} __attribute__((packed));
_Static_assert(offsetof(struct r3_audio_play_args, position) == 0, "position");
_Static_assert(offsetof(struct r3_audio_play_args, frames) == 8, "frames");
_Static_assert(sizeof(struct r3_audio_play_args) <= 40, "size");
struct r3_audio_play_returns {
    uint64_t position;
} __attribute__((packed));
_Static_assert(offsetof(struct r3_audio_play_returns, position) == 0, "position");
_Static_assert(sizeof(struct r3_audio_play_returns) <= 40, "size");

/* The number of the next frame, and what holds for it. */
#define R3_AUDIO_OP_STATUS 4
struct r3_audio_status_returns {
    uint64_t position;
    uint32_t rate;
    uint32_t volume;
    uint32_t channels;
    uint32_t format;
} __attribute__((packed));
_Static_assert(offsetof(struct r3_audio_status_returns, position) == 0, "position");
_Static_assert(offsetof(struct r3_audio_status_returns, rate) == 8, "rate");
_Static_assert(offsetof(struct r3_audio_status_returns, volume) == 12, "volume");
_Static_assert(offsetof(struct r3_audio_status_returns, channels) == 16, "channels");
_Static_assert(offsetof(struct r3_audio_status_returns, format) == 20, "format");
_Static_assert(sizeof(struct r3_audio_status_returns) <= 40, "size");

/* Answered when the device has everything that was asked for before. */
#define R3_AUDIO_OP_DRAIN 5

#endif
