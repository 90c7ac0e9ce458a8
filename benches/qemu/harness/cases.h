/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* What is measured. */
#ifndef BENCH_CASES_H
#define BENCH_CASES_H

#include <stdbool.h>
#include <stddef.h>

#define TARGET_PAGE 4096ull

enum spread { SCATTERED, RUNS };

struct bench_case {
	unsigned log2_bits; /* pages of 4096 bytes, so bits in the VMM's bitmap */
	double percent;     /* dirty */
	enum spread spread; /* single pages, or runs of 2 MiB */
	unsigned odd;       /* host pages that the memory is off a multiple of 64 pages in the bitmap */
	unsigned ratio;     /* host page / 4096 */
	unsigned devices, sections;
	bool full; /* only with --full */
};

extern const struct bench_case bench_cases[];
extern const size_t bench_case_count;

/* How many times faster than "QEMU cold" the two lines of the library shall be; 0: there is no goal. */
struct goal {
	double plain, atomic;
};
struct goal case_goal(const struct bench_case *c);

/* "2^28 bits, 1 % scattered, ..." */
void case_name(const struct bench_case *c, char *text, size_t size);

#endif
