/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A piece of the guest's memory that is mapped for DMA; all three in bytes. */
#ifndef BENCH_SECTION_H
#define BENCH_SECTION_H

#include <stdint.h>

struct section {
	uint64_t iova, size, ram;
};

#endif
