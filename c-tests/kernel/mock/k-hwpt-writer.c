/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A device that never pauses writes while another thread starts, stops, maps
 * and unmaps, and a third one harvests: every write is reported once, and
 * nothing that was not written.
 *
 * The mock IOMMU warns when a page is marked in the moment in which its mark is
 * cleared. So the writer takes only pages whose last write was harvested.
 */
#include "guest.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#define WRITES 8000u
#define HWPTS 2

static struct guest guest;
static _Atomic unsigned char outstanding[GUEST_AREAS][256];
static atomic_bool done;

static uint32_t random_number(void)
{
	static uint32_t x = 0x2545f491;

	x ^= x << 13;
	x ^= x >> 17;
	x ^= x << 5;
	return x;
}

static void *writer(void *unused)
{
	unsigned int left = WRITES;

	(void)unused;
	while (left) {
		uint32_t number = random_number();
		size_t i = number % 4;
		uint64_t page = (number >> 8) % (guest.area[i].size / PAGE);

		if (atomic_load(&outstanding[i][page]))
			continue;
		/* Before the write: the harvest may see it at once. */
		atomic_store(&outstanding[i][page], 1);
		mock_mark(&guest.mock, guest.hwpt[number >> 30 & 1],
			  guest.area[i].iova + page * PAGE + (number >> 29 & 1) * MOCK_PAGE);
		left--;
	}
	atomic_store(&done, true);
	return NULL;
}

static int unmap(void *unused, const struct vfiomig_range *range)
{
	(void)unused;
	return mock_unmap(&guest.mock, range->iova, range->size);
}

/* Elsewhere in the address space; the errors of the threads are not lab_error(). */
static void *meddler(void *rounds)
{
	const struct vfiomig_mapping mapping = {
		.iova = MOCK_FIRST + 5000 * PAGE, .size = 16 * PAGE, .cookie = 7
	};
	const struct vfiomig_range range = { .iova = mapping.iova, .size = mapping.size };
	uint64_t *memory = bits_new(mapping.size * 8 - 1);

	while (!atomic_load(&done)) {
		CHECK_EQ(vfiomig_tracker_start(guest.t, NULL), 0);
		mock_map_memory(&guest.mock, mapping.iova, mapping.size, memory);
		CHECK_EQ(vfiomig_tracker_map(guest.t, &mapping, 1, NULL), 0);
		CHECK_EQ(vfiomig_tracker_stop(guest.t, NULL), 0);
		CHECK_EQ(vfiomig_tracker_unmap(guest.t, &range, unmap, NULL, 0, NULL, NULL, NULL), 0);
		++*(unsigned int *)rounds;
	}
	return NULL;
}

static unsigned int harvest(void)
{
	struct vfiomig_dest dests[4];
	struct vfiomig_harvest_result result;
	unsigned int found = 0;

	for (size_t i = 0; i < 4; i++)
		dests[i] = guest_dest(&guest, i);
	result = guest_harvest(&guest, 0, dests, 4);
	CHECK_EQ(result.flags, 0);
	for (size_t i = 0; i < 4; i++) {
		for (uint64_t page = 0; page < guest.area[i].size / PAGE; page++) {
			if (!bit_is_set(dests[i].bitmap, page))
				continue;
			/* Cleared last: from now on the writer may take it again. */
			if (atomic_exchange(&outstanding[i][page], 0))
				found++;
			else if (mock_is_exact())
				lab_fail(__FILE__, __LINE__, "page %llu of area %zu was not written",
					 (unsigned long long)page, i);
		}
		bits_free(dests[i].bitmap, guest.area[i].size / PAGE);
	}
	return found;
}

int main(int argc, char **argv)
{
	unsigned int found = 0, harvests = 0, rounds = 0;
	pthread_t threads[2];

	mock_begin(argc, argv);
	guest_open(&guest, 0, HWPTS);
	guest_map_some(&guest);
	OK(vfiomig_tracker_start(guest.t, ERR));
	lab_step("harvests while everything else goes on");
	CHECK_EQ(pthread_create(&threads[0], NULL, writer, NULL), 0);
	CHECK_EQ(pthread_create(&threads[1], NULL, meddler, &rounds), 0);
	while (!atomic_load(&done)) {
		found += harvest();
		harvests++;
	}
	CHECK_EQ(pthread_join(threads[0], NULL), 0);
	CHECK_EQ(pthread_join(threads[1], NULL), 0);
	lab_step("the last one");
	found += harvest();
	CHECK_EQ(found, WRITES);
	printf("%u writes in %u harvests, %u maps and unmaps\n", found, harvests, rounds);
	CHECK(harvests > 10 && rounds > 10);
	guest_close(&guest);
	puts("ok");
	return 0;
}
