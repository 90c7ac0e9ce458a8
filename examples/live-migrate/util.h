/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Clock, and errors for people. */
#ifndef UTIL_H
#define UTIL_H

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <time.h>
#include <vfiomig.h>

static inline uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static inline void sleep_us(uint64_t us)
{
    struct timespec t = {.tv_sec = (time_t)(us / 1000000), .tv_nsec = (long)(us % 1000000) * 1000};
    while (nanosleep(&t, &t) < 0 && errno == EINTR) {
    }
}

/* Says what the library says, and gives the error back. Returns -1. */
static inline int fail(const char *who, struct vfiomig_error *error)
{
    fprintf(stderr, "%s: %s\n", who, vfiomig_error_message(error));
    vfiomig_error_free(error);
    return -1;
}

#endif
