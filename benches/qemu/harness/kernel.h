/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * What stands for the kernel, the same for both sides: a report sets the bits of one device's log in the caller's
 * bitmap, as the kernel does it, by an OR into the words that have any. What it sets is prepared when a range is asked
 * for the first time, so that a report costs as little as one can, and the same each time. Which ranges are asked is
 * the business of those who ask: QEMU goes section by section, the library may join and cut them.
 */
#ifndef BENCH_KERNEL_H
#define BENCH_KERNEL_H

#include "clock.h"
#include "guest.h"

struct kernel;
struct kernel *kernel_new(const struct guest *g);
void kernel_free(struct kernel *k);

/* `opaque` is a struct kernel; bit 0 of `bitmap` is the page at `iova`. */
void kernel_report(void *opaque, unsigned device, uint64_t iova, uint64_t size, uint64_t page_size, uint64_t *bitmap);

/* Whether reports look at the clock. */
void kernel_time_reports(struct kernel *k, bool on);

/* What was spent in reports since the last time, in nanoseconds. */
uint64_t kernel_take_ns(struct kernel *k);

/* How many reports there were since the last time. */
uint64_t kernel_take_reports(struct kernel *k);

#endif
