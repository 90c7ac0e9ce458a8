/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* FNV-1a over 64-bit words: tells accidents, not attacks. Enough to see whether two memories are equal. */
#ifndef CHECKSUM_H
#define CHECKSUM_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* `len` is a multiple of 8. */
static inline uint64_t checksum(const void *data, size_t len)
{
    const unsigned char *bytes = data;
    uint64_t hash = UINT64_C(0xcbf29ce484222325);
    for (size_t at = 0; at + sizeof hash <= len; at += sizeof hash) {
        uint64_t word;
        memcpy(&word, bytes + at, sizeof word);
        hash = (hash ^ word) * UINT64_C(0x100000001b3);
    }
    return hash;
}

#endif
