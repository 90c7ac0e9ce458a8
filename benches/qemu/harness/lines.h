/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The ways to harvest that are measured beside each other, and the fill alone. */
#ifndef BENCH_LINES_H
#define BENCH_LINES_H

#include "guest.h"
#include "kernel.h"
#include "ours.h"

enum line {
	FILL,       /* the reports alone, into a buffer that is there and zero */
	QEMU_VGA_A, /* QEMU as it is */
	QEMU_A,     /* without the VGA bitmap; "QEMU cold" of the goals */
	QEMU_AB,    /* the same and the sync pass into the RAM block's bitmap */
	QEMU_POOL,  /* the same as QEMU_A with a kept buffer */
	OURS_PLAIN,
	OURS_ATOMIC,
	OURS_BLOCKS,  /* into QEMU's dirty memory blocks: stage A of a QEMU with the library */
	QEMU_A_AGAIN, /* for the noise */
	OURS_PLAIN_AGAIN,
	LINES
};
extern const char *const line_names[LINES];

/* Everything that a line needs, made before anything is measured. */
struct bench {
	const struct guest *guest;
	struct kernel *kernel;
	struct ours *ours;
	uint64_t *warm;   /* for FILL */
	uint64_t *bitmap; /* the VMM's */
	bool reports_timed;
};
void bench_open(struct bench *b, const struct guest *g);
void bench_close(struct bench *b);

struct sample {
	uint64_t ns, fill_ns, faults, reports;
};

/*
 * One run. Outside of the measured time, what came out is compared with what must come out, and then cleared for the
 * next run; a difference ends the program. `thorough`: look also that nothing else was written to.
 */
struct sample line_run(struct bench *b, enum line line, bool thorough);

#endif
