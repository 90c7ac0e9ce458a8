/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Memory that is unmapped while it is tracked: its log is read without
 * clearing, then it is unmapped, and all of it is dirty unless the VMM says
 * that nothing wrote in between (I9). Nothing else is touched or lost.
 */
#include "guest.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define AREA 1 /* the one that goes */

/* What the VMM's unmap finds, and does. */
struct unmap {
	struct guest *guest;
	int calls;
	int result;
};

static int unmap(void *opaque, const struct vfiomig_range *range)
{
	struct unmap *u = opaque;
	const struct area *area = &u->guest->area[AREA];
	uint64_t *bits = bits_new(area->size / PAGE);

	u->calls++;
	CHECK_EQ(range->iova, area->iova);
	CHECK_EQ(range->size, area->size);
	/* Still mapped; read, but not cleared. */
	CHECK_EQ(mock_get(&u->guest->mock, u->guest->hwpt[0], NO_CLEAR, area->iova, area->size,
			  PAGE, bits),
		 0);
	BITS_ARE(bits, area->want, area->size / PAGE);
	if (u->result)
		return u->result;
	return mock_unmap(&u->guest->mock, range->iova, range->size);
}

static void begin(struct guest *guest)
{
	guest_open(guest, 0, 1);
	guest_map_some(guest);
	OK(vfiomig_tracker_start(guest->t, ERR));
	guest_write_some(guest);
}

static int go(struct unmap *u, uint32_t flags, struct vfiomig_dest *dest,
	      struct vfiomig_harvest_result *result)
{
	const struct area *area = &u->guest->area[AREA];
	struct vfiomig_range range = { .iova = area->iova, .size = area->size };
	struct vfiomig_harvest_request request;

	VFIOMIG_INIT(&request);
	VFIOMIG_INIT(result);
	request.dests = dest;
	request.dest_count = dest ? 1 : 0;
	return vfiomig_tracker_unmap(u->guest->t, &range, unmap, u, flags, dest ? &request : NULL,
				     result, ERR);
}

/* The area is gone: it is no longer asked for. */
static void forget(struct guest *guest)
{
	memset(guest->area[AREA].want, 0, PAGE);
	guest->area[AREA] = guest->area[--guest->areas];
}

static void with_destination(uint32_t flags)
{
	struct guest guest;
	struct unmap u = { .guest = &guest };
	struct vfiomig_harvest_result result;
	struct vfiomig_dest dest;
	uint64_t pages;

	lab_step("unmap, flags %u", flags);
	begin(&guest);
	pages = guest.area[AREA].size / PAGE;
	dest = guest_dest(&guest, AREA);
	OK(go(&u, flags, &dest, &result));
	CHECK_EQ(u.calls, 1);
	if (!flags)
		guest_expect_all(&guest, AREA);
	BITS_ARE(dest.bitmap, guest.area[AREA].want, pages);
	CHECK_EQ(result.newly_dirty_pages, bits_count(dest.bitmap, pages));
	CHECK_EQ(result.flags, 0);

	lab_step("the others have theirs");
	forget(&guest);
	EXPECT(&guest);
	EXPECT(&guest);

	lab_step("memory mapped there again is new");
	guest_expect_all(&guest, guest_map(&guest, dest.iova, dest.size));
	EXPECT(&guest);
	guest_write_some(&guest);
	EXPECT(&guest);
	guest_close(&guest);
}

/* Without a destination the bits wait for the harvest that asks for the addresses. */
static void without_destination(void)
{
	struct guest guest;
	struct unmap u = { .guest = &guest };
	struct vfiomig_harvest_result result;

	lab_step("unmap without a destination");
	begin(&guest);
	OK(go(&u, VFIOMIG_UNMAP_F_NO_DMA, NULL, &result));
	lab_step("nothing of it is lost");
	EXPECT(&guest);
	forget(&guest);
	guest_write_some(&guest);
	EXPECT(&guest);
	guest_close(&guest);
}

/* No function of the VMM: the library unmaps, or the VMM has done so already. */
static void without_function(uint32_t flags, bool exactly)
{
	struct guest guest;
	struct vfiomig_harvest_request request;
	struct vfiomig_harvest_result result;
	struct vfiomig_range range;
	struct vfiomig_dest dest;

	lab_step("unmap without a function, flags %u", flags);
	begin(&guest);
	dest = guest_dest(&guest, AREA);
	range = (struct vfiomig_range){ .iova = dest.iova, .size = dest.size };
	VFIOMIG_INIT(&request);
	VFIOMIG_INIT(&result);
	request.dests = &dest;
	request.dest_count = 1;
	if (!(flags & VFIOMIG_UNMAP_F_LIBRARY))
		CHECK_EQ(mock_unmap(&guest.mock, range.iova, range.size), 0);
	OK(vfiomig_tracker_unmap(guest.t, &range, NULL, NULL, flags, &request, &result, ERR));
	if (!exactly)
		guest_expect_all(&guest, AREA);
	BITS_ARE(dest.bitmap, guest.area[AREA].want, dest.size / PAGE);
	lab_step("it is unmapped");
	CHECK_EQ(mock_unmap(&guest.mock, range.iova, range.size), -ENOENT);
	forget(&guest);
	EXPECT(&guest);
	guest_close(&guest);
}

static void refused_by_the_vmm(void)
{
	struct guest guest;
	struct unmap u = { .guest = &guest, .result = -EBUSY };
	struct vfiomig_harvest_result result;
	struct vfiomig_dest dest;

	lab_step("the VMM's unmap fails");
	begin(&guest);
	dest = guest_dest(&guest, AREA);
	CHECK_EQ(go(&u, 0, &dest, &result), -EBUSY);
	CHECK_EQ(vfiomig_error_errno(lab_error()), EBUSY);
	lab_step("the memory is there, and tracked, and nothing is lost");
	/* What the destination has already need not come again, but may. */
	EXPECT(&guest);
	guest_write_some(&guest);
	EXPECT(&guest);
	guest_close(&guest);
}

static void wrong_ranges(void)
{
	struct guest guest;
	struct unmap u = { .guest = &guest };
	struct vfiomig_range range;

	begin(&guest);
	lab_step("half a mapping");
	range = (struct vfiomig_range){ .iova = guest.area[2].iova, .size = guest.area[2].size / 2 };
	FAILS(vfiomig_tracker_unmap(guest.t, &range, unmap, &u, 0, NULL, NULL, ERR), ARGUMENT, 0);
	CHECK_EQ(u.calls, 0);
	EXPECT(&guest);
	guest_close(&guest);
}

static int unmap_two(void *opaque, const struct vfiomig_range *range)
{
	struct guest *guest = opaque;

	/* The kernel's range may hold several maps. */
	return mock_unmap(&guest->mock, range->iova, range->size);
}

static void two_at_once(void)
{
	struct guest guest;
	struct vfiomig_range range;
	struct vfiomig_harvest_request request;
	struct vfiomig_harvest_result result;
	struct vfiomig_dest dests[2];

	lab_step("two mappings in one range");
	begin(&guest);
	dests[0] = guest_dest(&guest, 2);
	dests[1] = guest_dest(&guest, 3);
	range.iova = guest.area[2].iova;
	range.size = guest.area[2].size + guest.area[3].size;
	VFIOMIG_INIT(&request);
	VFIOMIG_INIT(&result);
	request.dests = dests;
	request.dest_count = 2;
	OK(vfiomig_tracker_unmap(guest.t, &range, unmap_two, &guest, VFIOMIG_UNMAP_F_NO_DMA, &request,
				 &result, ERR));
	BITS_ARE(dests[0].bitmap, guest.area[2].want, guest.area[2].size / PAGE);
	BITS_ARE(dests[1].bitmap, guest.area[3].want, guest.area[3].size / PAGE);
	guest.areas = 2;
	EXPECT(&guest);
	guest_close(&guest);
}

int main(int argc, char **argv)
{
	mock_begin(argc, argv);
	with_destination(0);
	with_destination(VFIOMIG_UNMAP_F_NO_DMA);
	without_destination();
	without_function(VFIOMIG_UNMAP_F_LIBRARY, false);
	without_function(VFIOMIG_UNMAP_F_LIBRARY | VFIOMIG_UNMAP_F_NO_DMA, true);
	without_function(0, false);
	without_function(VFIOMIG_UNMAP_F_NO_DMA, false);
	refused_by_the_vmm();
	wrong_ranges();
	two_at_once();
	puts("ok");
	return 0;
}
