/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Page table entries larger than what is asked for, through the library: a
 * harvest of a few pages loses no mark of the others (I5), and writes no bit
 * beside the destination (I6). k-hwpt-huge shows what the kernel alone does.
 */
#include "guest.h"

#include <stdio.h>
#include <string.h>

#define IOVA 0x10000000ull
#define SIZE 0x200000ull /* one huge page of the CPU, two of the domain */
#define ENTRY_PAGES (MOCK_HUGE_PAGE / PAGE)

/* Pages of the area that a harvest of these pages of it names. */
static uint64_t *look(struct guest *guest, uint32_t flags, uint64_t first, uint64_t count)
{
	uint64_t *bits = bits_new(SIZE / PAGE);
	struct vfiomig_dest dest = {
		.iova = IOVA + first * PAGE,
		.size = count * PAGE,
		.first_bit = first,
		.page_size = PAGE,
		.bitmap = bits,
	};

	CHECK_EQ(guest_harvest(guest, flags, &dest, 1).flags, 0);
	for (uint64_t bit = 0; bit < SIZE / PAGE; bit++)
		if (bit_is_set(bits, bit))
			CHECK(bit >= first && bit < first + count);
	return bits;
}

static void part(struct guest *guest, uint64_t page, uint64_t first, uint64_t count)
{
	const uint64_t entry = page / ENTRY_PAGES * ENTRY_PAGES;
	uint64_t *asked, *rest;

	lab_step("page %llu is written, pages from %llu on are asked for", (unsigned long long)page,
		 (unsigned long long)first);
	mock_mark(&guest->mock, guest->hwpt[0], IOVA + page * PAGE);
	asked = look(guest, 0, first, count);
	rest = look(guest, VFIOMIG_HARVEST_F_NO_READ, 0, SIZE / PAGE);
	CHECK(bit_is_set(asked, page) || bit_is_set(rest, page));
	/* A bit of an entry stands for all of it; none is given twice, none of another entry. */
	if (mock_is_exact()) {
		for (uint64_t bit = 0; bit < SIZE / PAGE; bit++) {
			bool within = bit >= entry && bit < entry + ENTRY_PAGES;

			CHECK_EQ(bit_is_set(asked, bit) + bit_is_set(rest, bit), within);
		}
	}
	CHECK_EQ(bits_count(look(guest, 0, 0, SIZE / PAGE), SIZE / PAGE), 0);
}

int main(int argc, char **argv)
{
	const struct vfiomig_mapping mapping = { .iova = IOVA, .size = SIZE, .cookie = 1 };
	struct guest guest;

	mock_begin(argc, argv);
	guest_open(&guest, MOCK_HUGE, 1);
	if (!mock_map_huge(&guest.mock, IOVA, SIZE))
		lab_skip("this kernel gives no huge pages");
	OK(vfiomig_tracker_map(guest.t, &mapping, 1, ERR));
	OK(vfiomig_tracker_start(guest.t, ERR));
	part(&guest, 5, 0, 4);
	part(&guest, 5, 128, 4);
	part(&guest, 200, 128, 64);
	part(&guest, ENTRY_PAGES - 1, ENTRY_PAGES - 2, 4);
	part(&guest, ENTRY_PAGES, ENTRY_PAGES - 2, 4);
	part(&guest, ENTRY_PAGES + 3, 0, ENTRY_PAGES);
	guest_close(&guest);
	puts("ok");
	return 0;
}
