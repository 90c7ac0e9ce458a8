/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The library's side: one tracker over the guest's devices, harvested into one bitmap for the whole of RAM. */
#ifndef BENCH_OURS_H
#define BENCH_OURS_H

#include "guest.h"
#include "kernel.h"

struct ours;
/* `bitmap` is for PLAIN and ATOMIC; the VM of qemu.h is set up. */
struct ours *ours_new(const struct guest *g, struct kernel *k, uint64_t *bitmap);
void ours_free(struct ours *o);

struct counts {
	uint64_t dirty, fresh;
};

enum destination {
	PLAIN,  /* one bitmap for all of RAM */
	ATOMIC, /* the same, by atomic operations */
	BLOCKS, /* the dirty memory blocks of QEMU's migration, by atomic operations */
	DESTINATIONS
};

/* One harvest of everything. A call of the library that fails ends the program. */
struct counts ours_harvest(struct ours *o, enum destination to);

/* The name and version of what runs. */
const char *ours_version(void);

#endif
