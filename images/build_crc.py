"""Builds `images._crc`, the CRC32C of blocks in C: `python -m images.build_crc` (in place).

CRC32C is the polynomial 0x1EDC6F41 of RFC 3720 (iSCSI), reflected, started from and ended by all
ones; "123456789" gives 0xE3069283. x86 CPUs with SSE4.2 have an instruction for it, others get a
table of 8 x 256 entries ("slicing by eight").
"""

from __future__ import annotations

from pathlib import Path

from cffi import FFI

DECLARATIONS = """
void crc32c_blocks(const uint8_t *data, size_t blocks, size_t block_bytes, uint32_t *result);
uint32_t crc32c_portable(const uint8_t *data, size_t bytes);
"""

SOURCE = r"""
#include <stdint.h>
#include <stddef.h>
#include <string.h>

static uint32_t table[8][256];

/* Runs once, when the module is loaded. */
__attribute__((constructor)) static void fill_table(void)
{
    for (unsigned byte = 0; byte < 256; byte++) {
        uint32_t crc = byte;
        for (int bit = 0; bit < 8; bit++)
            crc = (crc >> 1) ^ (crc & 1 ? 0x82f63b78u : 0);
        table[0][byte] = crc;
    }
    for (unsigned byte = 0; byte < 256; byte++)
        for (int slice = 1; slice < 8; slice++)
            table[slice][byte] = (table[slice - 1][byte] >> 8) ^ table[0][table[slice - 1][byte] & 0xff];
}

/* The caller guarantees that `bytes` bytes can be read; little-endian hosts only. */
uint32_t crc32c_portable(const uint8_t *data, size_t bytes)
{
    uint32_t crc = 0xffffffffu;
    for (; bytes >= 8; data += 8, bytes -= 8) {
        uint64_t word;
        memcpy(&word, data, 8);
        word ^= crc;
        crc = table[7][word & 0xff] ^ table[6][(word >> 8) & 0xff] ^ table[5][(word >> 16) & 0xff] ^
              table[4][(word >> 24) & 0xff] ^ table[3][(word >> 32) & 0xff] ^ table[2][(word >> 40) & 0xff] ^
              table[1][(word >> 48) & 0xff] ^ table[0][word >> 56];
    }
    for (; bytes; data++, bytes--)
        crc = (crc >> 8) ^ table[0][(crc ^ *data) & 0xff];
    return ~crc;
}

#ifdef __x86_64__
#include <nmmintrin.h>

__attribute__((target("sse4.2")))
static uint32_t crc32c_sse42(const uint8_t *data, size_t bytes)
{
    uint64_t crc = 0xffffffffu;
    for (; bytes >= 8; data += 8, bytes -= 8) {
        uint64_t word;
        memcpy(&word, data, 8);
        crc = _mm_crc32_u64(crc, word);
    }
    for (; bytes; data++, bytes--)
        crc = _mm_crc32_u8((uint32_t)crc, *data);
    return ~(uint32_t)crc;
}
#endif

/* `data` holds `blocks` blocks of `block_bytes` bytes, `result` room for as many checksums. */
void crc32c_blocks(const uint8_t *data, size_t blocks, size_t block_bytes, uint32_t *result)
{
    uint32_t (*checksum)(const uint8_t *, size_t) = crc32c_portable;
#ifdef __x86_64__
    if (__builtin_cpu_supports("sse4.2"))
        checksum = crc32c_sse42;
#endif
    for (size_t block = 0; block < blocks; block++)
        result[block] = checksum(data + block * block_bytes, block_bytes);
}
"""

ffibuilder = FFI()
ffibuilder.cdef(DECLARATIONS)
ffibuilder.set_source("images._crc", SOURCE, extra_compile_args=["-O2"])


def main() -> None:
    """Compile into the source tree, beside this file."""
    ffibuilder.compile(tmpdir=str(Path(__file__).parents[1]))


if __name__ == "__main__":
    main()
