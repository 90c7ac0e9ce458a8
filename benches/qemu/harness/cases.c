/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "cases.h"

#include <stdio.h>

#define S SCATTERED
#define R RUNS

/* Not every combination: each parameter is varied where the others are at their simplest, and at the largest size. */
const struct bench_case bench_cases[] = {
	/* bits, %, spread, odd, ratio, devices, sections, full */
	{18, 0, S, 0, 1, 1, 1, true},
	{18, 0.01, S, 0, 1, 1, 1, true},
	{18, 1, S, 0, 1, 1, 1, false},
	{18, 10, S, 0, 1, 1, 1, true},
	{18, 100, R, 0, 1, 1, 1, false},
	{18, 1, S, 1, 1, 1, 1, false},
	{18, 1, S, 0, 16, 1, 1, true},
	{22, 0, S, 0, 1, 1, 1, true},
	{22, 0.01, S, 0, 1, 1, 1, true},
	{22, 1, S, 0, 1, 1, 1, false},
	{22, 1, R, 0, 1, 1, 1, false},
	{22, 10, S, 0, 1, 1, 1, true},
	{22, 10, R, 0, 1, 1, 1, true},
	{22, 100, R, 0, 1, 1, 1, false},
	{22, 1, S, 1, 1, 1, 1, false},
	{22, 1, S, 0, 16, 1, 1, false},
	{22, 1, S, 0, 1, 1, 40, false},
	{22, 1, S, 0, 1, 4, 1, false},
	{22, 1, S, 0, 1, 16, 40, false},
	{25, 0, S, 0, 1, 1, 1, false},
	{25, 0.01, S, 0, 1, 1, 1, false},
	{25, 1, S, 0, 1, 1, 1, false},
	{25, 1, R, 0, 1, 1, 1, false},
	{25, 10, S, 0, 1, 1, 1, false},
	{25, 10, R, 0, 1, 1, 1, true},
	{25, 100, R, 0, 1, 1, 1, false},
	{25, 0.01, S, 1, 1, 1, 1, true},
	{25, 1, R, 1, 1, 1, 1, true},
	{25, 10, S, 1, 1, 1, 1, false},
	{25, 100, R, 1, 1, 1, 1, true},
	{25, 10, S, 0, 16, 1, 1, false},
	{25, 1, S, 1, 16, 1, 1, true},
	{25, 1, S, 0, 1, 4, 1, false},
	{25, 1, S, 0, 1, 16, 1, false},
	{25, 1, S, 0, 1, 1, 40, false},
	{25, 1, S, 0, 1, 16, 40, true},
	{28, 0, S, 0, 1, 1, 1, false},
	{28, 0.01, S, 0, 1, 1, 1, false},
	{28, 0.01, R, 0, 1, 1, 1, true},
	{28, 1, S, 0, 1, 1, 1, false},
	{28, 1, R, 0, 1, 1, 1, false},
	{28, 10, S, 0, 1, 1, 1, false},
	{28, 10, R, 0, 1, 1, 1, false},
	{28, 100, R, 0, 1, 1, 1, false},
	{28, 0, S, 1, 1, 1, 1, true},
	{28, 0.01, S, 1, 1, 1, 1, false},
	{28, 1, S, 1, 1, 1, 1, false},
	{28, 1, R, 1, 1, 1, 1, true},
	{28, 10, S, 1, 1, 1, 1, false},
	{28, 100, R, 1, 1, 1, 1, true},
	{28, 0.01, S, 0, 16, 1, 1, true},
	{28, 1, S, 0, 16, 1, 1, false},
	{28, 10, S, 0, 16, 1, 1, false},
	{28, 100, R, 0, 16, 1, 1, false},
	{28, 1, S, 1, 16, 1, 1, true},
	{28, 1, S, 0, 1, 4, 1, false},
	{28, 1, S, 0, 1, 1, 40, false},
	{28, 1, S, 0, 1, 4, 40, true},
};
const size_t bench_case_count = sizeof bench_cases / sizeof *bench_cases;

struct goal case_goal(const struct bench_case *c)
{
	if (c->log2_bits != 28 || c->devices != 1 || c->sections != 1)
		return (struct goal){0, 0};
	if (c->odd || c->ratio > 1)
		return (struct goal){20, 20};
	if (c->percent <= 1)
		return (struct goal){5, 5};
	return (struct goal){3, 2};
}

void case_name(const struct bench_case *c, char *text, size_t size)
{
	const char *spread = c->percent <= 0 || c->percent >= 100 ? "" : c->spread == RUNS ? " in runs" : " scattered";

	snprintf(text, size, "2^%u bits, %g %%%s, %s, ratio %u, %u device%s, %u section%s", c->log2_bits, c->percent, spread,
		 c->odd ? "off by one page" : "aligned", c->ratio, c->devices, c->devices > 1 ? "s" : "", c->sections,
		 c->sections > 1 ? "s" : "");
}
