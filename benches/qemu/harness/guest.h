/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The guest of a case: its memory, what each device has written in it, and the bitmap that a VMM must have after a
 * harvest, made bit by bit and by nobody's code but this.
 */
#ifndef BENCH_GUEST_H
#define BENCH_GUEST_H

#include "cases.h"
#include "section.h"

struct guest {
	const struct bench_case *c;
	uint64_t host_page;
	uint64_t first, end; /* of the mapped memory, in bytes from the begin of the guest's RAM */
	uint64_t words;      /* of a bitmap of all that, one bit for 4096 bytes */
	struct section *sections;
	unsigned section_count;
	uint64_t **written;  /* for each device, one bit for each host page from the begin of RAM */
	uint64_t host_words; /* of such a bitmap */
	uint64_t *expected;
	uint64_t dirty_host_pages, dirty_pages; /* the latter of 4096 bytes */
	uint64_t dirty_words;                   /* in `expected` */
};

struct guest *guest_new(const struct bench_case *c);
void guest_free(struct guest *g);

/* Zeroed memory, in whole pages, and touched: no page fault is left for those who use it. */
void *touched(uint64_t bytes);
void release(void *memory, uint64_t bytes);

/* A random number; the same ones in every run of the program. */
uint64_t random_next(uint64_t *state);

#endif
