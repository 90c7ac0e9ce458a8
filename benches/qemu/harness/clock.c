/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "clock.h"

#include <time.h>

static uint64_t read_clock(clockid_t clock)
{
	struct timespec t;

	clock_gettime(clock, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

uint64_t cpu_ns(void)
{
	return read_clock(CLOCK_THREAD_CPUTIME_ID);
}

uint64_t other_threads_ns(void)
{
	const uint64_t mine = cpu_ns(), all = read_clock(CLOCK_PROCESS_CPUTIME_ID);

	return all > mine ? all - mine : 0;
}

static uint64_t measure(void)
{
	enum { TRIES = 50, READINGS = 200 };
	uint64_t least = UINT64_MAX;

	/* The least of some tries, so that an interrupt is not taken for the clock's cost. */
	for (int try = 0; try < TRIES; try++) {
		const uint64_t begun = cpu_ns();

		for (int i = 1; i < READINGS; i++)
			cpu_ns();
		const uint64_t one = (cpu_ns() - begun) / READINGS;

		if (one < least)
			least = one;
	}
	return least;
}

uint64_t cpu_ns_cost(void)
{
	static uint64_t cost;

	if (!cost)
		cost = measure();
	return cost;
}
