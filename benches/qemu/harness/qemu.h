/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * QEMU's side of the benchmark: a VM with one RAM block and some VFIO devices in one container. One VM at a time. No
 * type of QEMU's is in here, so that the harness shares nothing with QEMU's code but these calls.
 */
#ifndef BENCH_QEMU_H
#define BENCH_QEMU_H

#include <stdbool.h>
#include <stdint.h>

#include "section.h"

/* What stands for the kernel: sets the bits of one device's log in `bitmap`. */
typedef void qemu_fill_fn(void *opaque, unsigned device, uint64_t iova, uint64_t size, uint64_t page_size,
			  uint64_t *bitmap);

void qemu_setup(uint64_t pages, unsigned devices, uint64_t page_size, qemu_fill_fn *fill, void *opaque);
void qemu_teardown(void);

/* The buffer of a section: kept and zeroed, or, as QEMU does it, allocated for each section. */
void qemu_pool(bool on);

/* Stage A: every section's log into the dirty memory blocks; the number of dirty (host) pages. */
uint64_t qemu_copy_out(bool vga, const struct section *sections, unsigned count);

/* Stage B: the migration's dirty memory blocks into the RAM block's bitmap; the number of newly dirty pages. */
uint64_t qemu_sync(void);

enum qemu_bitmap { QEMU_MIGRATION, QEMU_VGA, QEMU_CODE, QEMU_RAM_BLOCK, QEMU_BITMAPS };
extern const char *const qemu_bitmap_names[QEMU_BITMAPS];

void qemu_clear(enum qemu_bitmap which);

/* Whether a bitmap has exactly the bits of `expected`; NULL is a bitmap without any. */
bool qemu_equals(enum qemu_bitmap which, const uint64_t *expected);

/* The block of the migration's bitmap that has the page, and how many pages there are in a block. */
uint64_t *qemu_migration_block(uint64_t page);
uint64_t qemu_block_pages(void);

/* What another thread of QEMU does at the same time, KVM's dirty log for one. */
void qemu_set_migration_bit(uint64_t page);

#endif
