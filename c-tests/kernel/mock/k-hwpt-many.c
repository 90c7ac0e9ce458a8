/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Several domains of one address space are one log, and several address spaces
 * can be harvested in one call; a start or stop reaches all of them.
 */
#include "guest.h"

#include <stdio.h>
#include <string.h>

static void domains(void)
{
	struct vfiomig_harvest_result result;
	struct guest guest;

	guest_open(&guest, 0, GUEST_HWPTS);
	guest_map_some(&guest);
	OK(vfiomig_tracker_start(guest.t, ERR));
	lab_step("three domains");
	for (int i = 0; i < 3; i++) {
		guest_write_some(&guest);
		EXPECT(&guest);
	}
	lab_step("each of them alone");
	for (size_t hwpt = 0; hwpt < GUEST_HWPTS; hwpt++) {
		guest_write(&guest, hwpt, 1, 36);
		guest_write(&guest, hwpt, 2, 10 * hwpt);
		EXPECT(&guest);
	}
	lab_step("the same page through all of them is one page");
	for (size_t hwpt = 0; hwpt < GUEST_HWPTS; hwpt++)
		guest_write(&guest, hwpt, 0, 20);
	result = EXPECT(&guest);
	if (mock_is_exact())
		CHECK_EQ(result.newly_dirty_pages, 1);
	lab_step("a second start in the middle (I2)");
	guest_write_some(&guest);
	OK(vfiomig_tracker_start(guest.t, ERR));
	EXPECT(&guest);
	guest_close(&guest);
}

static void address_spaces(void)
{
	struct vfiomig_harvest_request request;
	struct vfiomig_harvest_result result;
	struct vfiomig_tracker *trackers[3];
	struct guest guests[3];
	struct vfiomig_dest dest;
	uint64_t *want, bits, dirty;

	lab_step("three address spaces in one call");
	for (int i = 0; i < 3; i++) {
		guest_open(&guests[i], 0, 1 + i % 2);
		guest_map_some(&guests[i]);
		OK(vfiomig_tracker_start(guests[i].t, ERR));
		trackers[i] = guests[i].t;
	}
	guest_write_some(&guests[0]);
	guest_write(&guests[1], 1, 2, 11);
	guest_write(&guests[1], 0, 2, 199);
	guest_write(&guests[2], 0, 2, 12);
	dest = guest_dest(&guests[0], 2);
	bits = dest.size / PAGE;
	want = bits_new(bits);
	for (int i = 0; i < 3; i++)
		for (uint64_t bit = 0; bit < bits; bit++)
			if (bit_is_set(guests[i].area[2].want, bit))
				bit_set(want, bit);
	VFIOMIG_INIT(&request);
	VFIOMIG_INIT(&result);
	request.dests = &dest;
	request.dest_count = 1;
	OK(vfiomig_tracker_harvest_many(trackers, 3, &request, &result, ERR));
	BITS_ARE(dest.bitmap, want, bits);
	dirty = bits_count(dest.bitmap, bits);
	CHECK_EQ(result.newly_dirty_pages, dirty);

	lab_step("what was not asked for stays with its tracker");
	for (int i = 0; i < 3; i++) {
		memset(guests[i].area[2].want, 0, bits / 8 + 8);
		EXPECT_UNREAD(&guests[i]);
		EXPECT(&guests[i]);
		guest_close(&guests[i]);
	}
}

int main(int argc, char **argv)
{
	mock_begin(argc, argv);
	domains();
	address_spaces();
	puts("ok");
	return 0;
}
