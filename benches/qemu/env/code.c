/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * QEMU's code as one object. It is compiled twice: with the bitmap of the VGA device, as QEMU is, and without
 * (BENCH_VGA 1 and 0); names that QEMU makes public get a suffix, so that both objects can be linked.
 */
#include "code.h"

#if BENCH_VGA
#define BENCH_NAME(name) name##_with_vga
#else
#define BENCH_NAME(name) name##_without_vga
#endif
#define vfio_bitmap_alloc BENCH_NAME(vfio_bitmap_alloc)
#define vfio_get_dirty_bitmap BENCH_NAME(vfio_get_dirty_bitmap)
#define vfio_devices_query_dirty_bitmap BENCH_NAME(vfio_devices_query_dirty_bitmap)

#include "qemu-code.h"

/* migration/options.c: what clear_bmap_shift is unless somebody sets it. */
#define CLEAR_BMAP_SHIFT 18

static RAMBlock *new_block(uint64_t pages)
{
	RAMBlock *block = calloc(1, sizeof *block);

	block->used_length = pages << TARGET_PAGE_BITS;
	block->bmap = bitmap_new((long)pages);
	block->clear_bmap_shift = CLEAR_BMAP_SHIFT;
	block->clear_bmap = bitmap_new(clear_bmap_size(pages, CLEAR_BMAP_SHIFT));
	return block;
}

static void free_block(RAMBlock *block)
{
	free(block->bmap);
	free(block->clear_bmap);
	free(block);
}

static unsigned long *bits(RAMBlock *block)
{
	return block->bmap;
}

const struct qemu_code BENCH_NAME(qemu_code) = {
	.get_dirty_bitmap = vfio_get_dirty_bitmap,
	.sync_dirty_bitmap = cpu_physical_memory_sync_dirty_bitmap,
	.new_block = new_block,
	.free_block = free_block,
	.bits = bits,
};
