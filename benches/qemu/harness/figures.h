/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* What the runs of one case come to. */
#ifndef BENCH_FIGURES_H
#define BENCH_FIGURES_H

#include "lines.h"

#define MAX_ROUNDS 30

struct samples {
	unsigned count;
	bool reports_timed;
	struct sample of[LINES][MAX_ROUNDS];
};

struct figures {
	double least, median, p95; /* ns, of whole runs */
	double net;                /* ns; the median without the fill */
	double faults, reports;
};

/*
 * The net time is what the side itself costs: the time outside of reports, and of the time in reports what is above
 * that of a fill into warm memory (a fresh buffer's page faults come there). The same rule for both sides; a fill that
 * is faster than the warm one is no gain here. Where reports are not timed it is the whole time without the warm fill.
 */
void figures_make(const struct samples *s, struct figures out[LINES]);

#endif
