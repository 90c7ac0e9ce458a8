/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The file of save.c and load.c: the bytes of the device's stream as they came, then a trailer.
 *
 *   offset  size
 *   0       n     the stream, opaque
 *   n       8     "vfiomig1"
 *   n + 8   8     n, little endian
 *
 * The library hands out bytes and has no file format. A format must say how long the stream is, for some drivers accept
 * one that was cut off (rule F7). The length stands behind the stream because nobody knows it before.
 */
#ifndef STATE_FILE_H
#define STATE_FILE_H

#include <stdint.h>
#include <string.h>

#define TRAILER_SIZE 16
#define TRAILER_MAGIC "vfiomig1"

static inline void trailer_put(unsigned char trailer[TRAILER_SIZE], uint64_t bytes)
{
    memcpy(trailer, TRAILER_MAGIC, 8);
    for (int i = 0; i < 8; i++) {
        trailer[8 + i] = (unsigned char)(bytes >> 8 * i);
    }
}

/* -1 if this is no trailer. */
static inline int trailer_get(const unsigned char trailer[TRAILER_SIZE], uint64_t *bytes)
{
    if (memcmp(trailer, TRAILER_MAGIC, 8) != 0) {
        return -1;
    }
    *bytes = 0;
    for (int i = 0; i < 8; i++) {
        *bytes |= (uint64_t)trailer[8 + i] << 8 * i;
    }
    return 0;
}

#endif
