/* Bytes out of the pieces of a chain, and into them. The pieces were translated by ring.c and are inside the
 * windows; what they contain is hostile and copied once. */
#include "device.h"

#include <string.h>

/* Moves `bytes` out of the pieces [*first, end), consuming them, into `to`, or nowhere if that is NULL. */
void pieces_take(struct iovec *piece, uint32_t *first, uint32_t end, void *to, size_t bytes)
{
    uint8_t *out = to;
    while (bytes > 0 && *first < end) {
        size_t part = piece[*first].iov_len < bytes ? piece[*first].iov_len : bytes;
        if (out) {
            memcpy(out, piece[*first].iov_base, part);
            out += part;
        }
        piece[*first].iov_base = (uint8_t *)piece[*first].iov_base + part;
        piece[*first].iov_len -= part;
        if (piece[*first].iov_len == 0)
            ++*first;
        bytes -= part;
    }
}

/* Copies `bytes` at `from` into the pieces [first, end). */
void pieces_give(const struct iovec *piece, uint32_t first, uint32_t end, const void *from, size_t bytes)
{
    const uint8_t *in = from;
    for (; bytes > 0 && first < end; first++) {
        size_t part = piece[first].iov_len < bytes ? piece[first].iov_len : bytes;
        memcpy(piece[first].iov_base, in, part);
        in += part;
        bytes -= part;
    }
}
