/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A harvest reports exactly the pages that were written, once, of each mapped
 * area and over no hole (I4); a second start loses nothing (I2); what was read
 * and not asked for is kept.
 */
#include "guest.h"

#include <stdio.h>
#include <string.h>

static void exact(void)
{
	struct vfiomig_harvest_result result;
	struct guest guest;

	guest_open(&guest, 0, 1);
	guest_map_some(&guest);
	lab_step("nothing was written");
	CHECK(!guest_tracks(&guest, 0));
	OK(vfiomig_tracker_start(guest.t, ERR));
	CHECK(guest_tracks(&guest, 0));
	EXPECT(&guest);

	lab_step("what was written, in every area, once");
	guest_write_some(&guest);
	result = EXPECT(&guest);
	CHECK(result.newly_dirty_pages > 0);
	/* Three areas, for two of the four mappings touch; or one read for each mapping. */
	CHECK(result.reads == 3 || result.reads == 4);
	EXPECT(&guest);
	guest_write(&guest, 0, 2, 199);
	guest_write(&guest, 0, 3, 0);
	EXPECT(&guest);

	lab_step("memory mapped while tracking is dirty once");
	guest_expect_all(&guest, guest_map(&guest, MOCK_FIRST + 1000 * PAGE, 9 * PAGE));
	EXPECT(&guest);
	guest_write(&guest, 0, 4, 8);
	EXPECT(&guest);
	guest_close(&guest);
}

static void counted(void)
{
	struct guest guest;

	guest_open(&guest, 0, 1);
	guest_map_some(&guest);
	OK(vfiomig_tracker_start(guest.t, ERR));
	lab_step("a second start (I2)");
	guest_write_some(&guest);
	OK(vfiomig_tracker_start(guest.t, ERR));
	EXPECT(&guest);
	guest_write_some(&guest);
	lab_step("one stop of two");
	OK(vfiomig_tracker_stop(guest.t, ERR));
	CHECK(guest_tracks(&guest, 0));
	EXPECT(&guest);
	lab_step("the last stop");
	OK(vfiomig_tracker_stop(guest.t, ERR));
	CHECK(!guest_tracks(&guest, 0));
	lab_step("a new start begins with nothing");
	OK(vfiomig_tracker_start(guest.t, ERR));
	EXPECT(&guest);
	guest_write_some(&guest);
	EXPECT(&guest);
	lab_step("_free stops what was started");
	vfiomig_tracker_free(guest.t);
	CHECK(!guest_tracks(&guest, 0));
	mock_close(&guest.mock);
}

static void kept(void)
{
	struct vfiomig_dest part;
	struct guest guest;
	uint64_t *want;

	guest_open(&guest, 0, 1);
	guest_map_some(&guest);
	OK(vfiomig_tracker_start(guest.t, ERR));
	guest_write_some(&guest);

	lab_step("a part is asked for");
	want = guest.area[2].want;
	part = guest_dest(&guest, 2);
	part.iova += 64 * PAGE;
	part.size = 64 * PAGE;
	guest_harvest(&guest, 0, &part, 1);
	BITS_ARE(part.bitmap, want + 1, 64);
	want[1] = 0;
	lab_step("the rest is kept, and given without a read");
	EXPECT_UNREAD(&guest);
	EXPECT(&guest);

	lab_step("NO_READ does not see what is new");
	guest_write(&guest, 0, 0, 7);
	memset(guest.area[0].want, 0, 8);
	EXPECT_UNREAD(&guest);
	bit_set(guest.area[0].want, 7);
	EXPECT(&guest);
	guest_close(&guest);
}

static void sixty_four_kilobytes(void)
{
	const uint64_t big = 16 * PAGE, first_bit = 5;
	struct vfiomig_dest dest;
	struct guest guest;

	guest_open(&guest, 0, 1);
	guest_map(&guest, MOCK_FIRST, 64 * PAGE);
	OK(vfiomig_tracker_start(guest.t, ERR));
	lab_step("a destination in pages of 64 KiB");
	guest_write(&guest, 0, 0, 15);
	guest_write(&guest, 0, 0, 32);
	guest_write(&guest, 0, 0, 33);
	guest_write(&guest, 0, 0, 63);
	dest = guest_dest(&guest, 0);
	dest.page_size = big;
	dest.first_bit = first_bit;
	guest_harvest(&guest, 0, &dest, 1);
	CHECK_EQ(dest.bitmap[0], 0xdull << first_bit);
	memset(guest.area[0].want, 0, 8);

	lab_step("and one of 4 KiB beside it, of other pages");
	guest_write_some(&guest);
	{
		struct vfiomig_dest two[2] = { guest_dest(&guest, 0), guest_dest(&guest, 0) };

		two[0].size = 32 * PAGE;
		two[0].page_size = big;
		two[1].iova += 32 * PAGE;
		two[1].size = 32 * PAGE;
		two[1].first_bit = 32;
		guest_harvest(&guest, 0, two, 2);
		CHECK_EQ(two[0].bitmap[0], 3);
		CHECK_EQ(two[1].bitmap[0], guest.area[0].want[0] & ~0xffffffffull);
	}
	memset(guest.area[0].want, 0, 8);
	EXPECT(&guest);
	guest_close(&guest);
}

/* A bitmap of more than one page, which the kernel pins page by page. */
static void large(void)
{
	static const uint64_t pages[] = { 0, 32767, 32768, 32769, 36863, 49151 };
	struct guest guest;

	lab_step("192 MiB in one mapping");
	guest_open(&guest, 0, 1);
	guest_map(&guest, MOCK_FIRST, 49152 * PAGE);
	OK(vfiomig_tracker_start(guest.t, ERR));
	for (size_t i = 0; i < sizeof(pages) / sizeof(pages[0]); i++)
		guest_write(&guest, 0, 0, pages[i]);
	EXPECT(&guest);
	guest_write(&guest, 0, 0, 40000);
	EXPECT(&guest);
	guest_close(&guest);
}

static int run(void *opaque, uint64_t cookie, uint64_t iova, uint64_t size)
{
	struct guest *seen = opaque;
	size_t i = cookie - COOKIE(0);

	CHECK(i < seen->areas);
	CHECK(iova >= seen->area[i].iova && size % PAGE == 0 && size > 0);
	CHECK(iova + size <= seen->area[i].iova + seen->area[i].size);
	for (uint64_t at = iova; at < iova + size; at += PAGE)
		bit_set(seen->area[i].want, (at - seen->area[i].iova) / PAGE);
	return 0;
}

static void runs(void)
{
	struct vfiomig_harvest_request request;
	struct vfiomig_harvest_result result;
	struct guest guest, seen;

	guest_open(&guest, 0, 1);
	guest_map_some(&guest);
	OK(vfiomig_tracker_start(guest.t, ERR));
	lab_step("runs of everything that is mapped, with the cookies of the mappings");
	guest_write_some(&guest);
	guest_write(&guest, 0, 2, 100);
	guest_write(&guest, 0, 2, 101);
	guest_write(&guest, 0, 2, 199);
	guest_write(&guest, 0, 3, 0);
	memset(&seen, 0, sizeof(seen));
	for (size_t i = 0; i < guest.areas; i++)
		guest_area(&seen, guest.area[i].iova, guest.area[i].size);
	VFIOMIG_INIT(&request);
	VFIOMIG_INIT(&result);
	request.run = run;
	request.opaque = &seen;
	OK(vfiomig_tracker_harvest(guest.t, &request, &result, ERR));
	for (size_t i = 0; i < guest.areas; i++)
		BITS_ARE(seen.area[i].want, guest.area[i].want, guest.area[i].size / PAGE);
	guest_close(&guest);
}

int main(int argc, char **argv)
{
	mock_begin(argc, argv);
	exact();
	counted();
	kept();
	sixty_four_kilobytes();
	large();
	runs();
	puts("ok");
	return 0;
}
