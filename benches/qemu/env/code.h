/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The doors of QEMU's code, one set for each of the objects that code.c becomes. */
#ifndef BENCH_QEMU_CODE_H
#define BENCH_QEMU_CODE_H

#include "env.h"

struct qemu_code {
	/* Stage A, for one section. */
	int (*get_dirty_bitmap)(const VFIOContainerBase *container, uint64_t iova, uint64_t size, ram_addr_t ram,
				Error **errp);
	/* Stage B, for one RAM block; newly dirty pages. */
	uint64_t (*sync_dirty_bitmap)(RAMBlock *block, ram_addr_t start, ram_addr_t length);
	RAMBlock *(*new_block)(uint64_t pages);
	void (*free_block)(RAMBlock *block);
	unsigned long *(*bits)(RAMBlock *block);
};
extern const struct qemu_code qemu_code_with_vga, qemu_code_without_vga;

#endif
