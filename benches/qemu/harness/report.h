/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* What is printed. */
#ifndef BENCH_REPORT_H
#define BENCH_REPORT_H

#include "figures.h"

/* The machine, the compilers' flags, how to read the tables. */
void report_head(int cpu);

/* The table of a case; it is kept for the end, too. */
void report_case(const struct guest *g, const struct samples *s);

/* One line for each case, in the form of docs/performance.md, and what became of the goals. */
void report_end(void);

#endif
