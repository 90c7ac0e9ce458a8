/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * What is measured is the processor's time of the thread that does all the work (the library's workers are off): what
 * else runs on the machine, and is given the processor meanwhile, does not count.
 */
#ifndef BENCH_CLOCK_H
#define BENCH_CLOCK_H

#include <stdint.h>

uint64_t cpu_ns(void);

/* What a reading of it costs; measured once. */
uint64_t cpu_ns_cost(void);

/* Processor time of all other threads so far: none may work while something is measured. */
uint64_t other_threads_ns(void);

#endif
