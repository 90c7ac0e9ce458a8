/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* See guest.h. */
#include "guest.h"

#include <errno.h>
#include <string.h>

static uint64_t pages(const struct area *area)
{
	return area->size / PAGE;
}

struct vfiomig_tracker *guest_tracker(const struct guest *guest, const uint32_t *hwpts, size_t count)
{
	struct vfiomig_tracker_options options;
	struct vfiomig_tracker *t = NULL;

	VFIOMIG_INIT(&options);
	options.name = "guest";
	options.flags = VFIOMIG_TRACKER_F_HWPT | VFIOMIG_TRACKER_F_IOAS;
	options.iommufd = guest->mock.iommufd;
	options.ioas_id = guest->mock.ioas;
	options.hwpt_ids = hwpts;
	options.hwpt_count = count;
	OK(vfiomig_tracker_new(&options, &t, ERR));
	CHECK(t);
	return t;
}

void guest_open(struct guest *guest, uint32_t kind, size_t hwpts)
{
	memset(guest, 0, sizeof(*guest));
	mock_open(&guest->mock, kind);
	guest->hwpts = hwpts;
	guest->hwpt[0] = guest->mock.hwpt;
	for (size_t i = 1; i < hwpts; i++)
		guest->hwpt[i] = mock_add_hwpt(&guest->mock);
	guest->t = guest_tracker(guest, guest->hwpt, hwpts);
}

void guest_close(struct guest *guest)
{
	vfiomig_tracker_free(guest->t);
	mock_close(&guest->mock);
}

bool guest_tracks(const struct guest *guest, size_t hwpt)
{
	uint8_t none = 0;
	struct mock_test test = {
		.size = sizeof(test),
		.operation = TEST_DIRTY,
		.id = guest->hwpt[hwpt],
		.dirty = {
			.iova = MOCK_FIRST,
			.length = MOCK_PAGE,
			.page_size = MOCK_PAGE,
			.bits = (uintptr_t)&none,
		},
	};
	int result = mock_request(&guest->mock, MOCK_TEST, &test);

	/* Marking, even nothing, is refused where nothing is tracked. */
	CHECK(result == 0 || result == -EINVAL);
	return result == 0;
}

size_t guest_area(struct guest *guest, uint64_t iova, uint64_t size)
{
	struct area *area = &guest->area[guest->areas];

	CHECK(guest->areas < GUEST_AREAS);
	*area = (struct area){ .iova = iova, .size = size, .want = bits_new(size / PAGE) };
	return guest->areas++;
}

size_t guest_map(struct guest *guest, uint64_t iova, uint64_t size)
{
	size_t area = guest_area(guest, iova, size);
	struct vfiomig_mapping mapping = { .iova = iova, .size = size, .cookie = COOKIE(area) };

	mock_map(&guest->mock, iova, size);
	OK(vfiomig_tracker_map(guest->t, &mapping, 1, ERR));
	return area;
}

void guest_map_some(struct guest *guest)
{
	static const uint64_t sizes[] = { 64, 37, 200, 5 };
	static const uint64_t holes[] = { 1, 70, 0, 0 };
	uint64_t iova = MOCK_FIRST;

	for (int i = 0; i < 4; i++) {
		guest_map(guest, iova, sizes[i] * PAGE);
		iova += (sizes[i] + holes[i]) * PAGE;
	}
}

void guest_write(struct guest *guest, size_t hwpt, size_t area, uint64_t page)
{
	uint64_t iova = guest->area[area].iova + page * PAGE;

	/* Now the first half, now the second. */
	mock_mark(&guest->mock, guest->hwpt[hwpt], iova + page % 2 * MOCK_PAGE);
	bit_set(guest->area[area].want, page);
}

void guest_write_some(struct guest *guest)
{
	for (size_t i = 0; i < guest->areas; i++) {
		uint64_t last = pages(&guest->area[i]) - 1;

		guest_write(guest, 0, i, 0);
		guest_write(guest, 0, i, last);
		for (size_t hwpt = 0; hwpt < guest->hwpts; hwpt++)
			for (uint64_t page = 3 + hwpt; page < last; page += 13 + hwpt)
				guest_write(guest, hwpt, i, page);
	}
}

void guest_expect_all(struct guest *guest, size_t area)
{
	for (uint64_t page = 0; page < pages(&guest->area[area]); page++)
		bit_set(guest->area[area].want, page);
}

struct vfiomig_dest guest_dest(const struct guest *guest, size_t area)
{
	const struct area *of = &guest->area[area];

	return (struct vfiomig_dest){
		.iova = of->iova, .size = of->size, .page_size = PAGE, .bitmap = bits_new(pages(of))
	};
}

struct vfiomig_harvest_result guest_harvest(struct guest *guest, uint32_t flags,
					    const struct vfiomig_dest *dests, size_t count)
{
	struct vfiomig_harvest_request request;
	struct vfiomig_harvest_result result;

	VFIOMIG_INIT(&request);
	VFIOMIG_INIT(&result);
	request.flags = flags;
	request.dests = dests;
	request.dest_count = count;
	OK(vfiomig_tracker_harvest(guest->t, &request, &result, ERR));
	return result;
}

struct vfiomig_harvest_result guest_expect(const char *file, int line, struct guest *guest,
					   uint32_t flags)
{
	struct vfiomig_dest dests[GUEST_AREAS];
	struct vfiomig_harvest_result result;
	uint64_t dirty = 0;

	for (size_t i = 0; i < guest->areas; i++)
		dests[i] = guest_dest(guest, i);
	result = guest_harvest(guest, flags, dests, guest->areas);
	for (size_t i = 0; i < guest->areas; i++) {
		const struct area *area = &guest->area[i];

		bits_check(file, line, dests[i].bitmap, area->want, pages(area));
		dirty += bits_count(dests[i].bitmap, pages(area));
		memset(area->want, 0, (pages(area) + 63) / 64 * 8);
		bits_free(dests[i].bitmap, pages(area));
	}
	CHECK_EQ(result.newly_dirty_pages, dirty);
	/* A page that two domains wrote was reported twice. */
	CHECK(result.dirty_pages >= dirty);
	if (guest->hwpts == 1)
		CHECK_EQ(result.dirty_pages, dirty);
	CHECK_EQ(result.flags, 0);
	CHECK_EQ(result.degraded_bytes, 0);
	CHECK_EQ(result.failed_reads, 0);
	CHECK_EQ(result.first_errno, 0);
	if (flags & VFIOMIG_HARVEST_F_NO_READ)
		CHECK_EQ(result.reads, 0);
	return result;
}
