/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Each refusal of the kernel, with the errno that is documented for it
 * (I1-I3, I9, I10), without the library.
 */
#include "mock.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define SIZE (64 * PAGE)
#define NO_SUCH_ID 4711u

static struct mock mock;
static uint64_t *bitmap;

static int get(uint32_t hwpt, uint32_t flags, uint64_t iova, uint64_t length, uint64_t page_size)
{
	return mock_get(&mock, hwpt, flags, iova, length, page_size, bitmap);
}

static void set_dirty(void)
{
	struct mock_set_dirty set = { .size = sizeof(set), .flags = TRACK, .hwpt = mock.hwpt };
	struct {
		struct mock_set_dirty known;
		uint64_t tail;
	} longer = { .known = set };

	lab_step("SET_DIRTY_TRACKING");
	CHECK_EQ(mock_track(&mock, mock.hwpt, 2), -EOPNOTSUPP);
	CHECK_EQ(mock_track(&mock, mock.hwpt, TRACK | 1u << 31), -EOPNOTSUPP);
	CHECK_EQ(mock_track(&mock, mock.plain_hwpt, TRACK), -EOPNOTSUPP);
	CHECK_EQ(mock_track(&mock, mock.plain_hwpt, 0), -EOPNOTSUPP);
	CHECK_EQ(mock_track(&mock, NO_SUCH_ID, TRACK), -ENOENT);
	CHECK_EQ(mock_track(&mock, mock.ioas, TRACK), -ENOENT);
	CHECK_EQ(mock_track(&mock, mock.bound, TRACK), -ENOENT);

	lab_step("sizes of structs (I10)");
	set.size = sizeof(set) - 4;
	CHECK_EQ(mock_request(&mock, SET_DIRTY, &set), -EINVAL);
	set.size = 0;
	CHECK_EQ(mock_request(&mock, SET_DIRTY, &set), -EINVAL);
	longer.known.size = sizeof(longer);
	CHECK_EQ(mock_request(&mock, SET_DIRTY, &longer), 0);
	longer.tail = 1;
	CHECK_EQ(mock_request(&mock, SET_DIRTY, &longer), -E2BIG);
	CHECK_EQ(mock_request(&mock, SET_DIRTY, NULL), -EFAULT);
}

static void get_dirty(void)
{
	struct mock_get_dirty reserved = {
		.size = sizeof(reserved),
		.hwpt = mock.hwpt,
		.reserved = 1,
		.iova = MOCK_FIRST,
		.length = SIZE,
		.page_size = PAGE,
		.data = (uintptr_t)bitmap,
	};

	lab_step("GET_DIRTY_BITMAP: flags and ids");
	CHECK_EQ(get(mock.hwpt, 2, MOCK_FIRST, SIZE, PAGE), -EOPNOTSUPP);
	CHECK_EQ(mock_request(&mock, GET_DIRTY, &reserved), -EOPNOTSUPP);
	CHECK_EQ(get(mock.plain_hwpt, 0, MOCK_FIRST, SIZE, PAGE), -EOPNOTSUPP);
	CHECK_EQ(get(NO_SUCH_ID, 0, MOCK_FIRST, SIZE, PAGE), -ENOENT);
	CHECK_EQ(get(mock.ioas, 0, MOCK_FIRST, SIZE, PAGE), -ENOENT);

	lab_step("GET_DIRTY_BITMAP: ranges (I3)");
	CHECK_EQ(get(mock.hwpt, 0, MOCK_FIRST, 0, PAGE), -EINVAL);
	CHECK_EQ(get(mock.hwpt, 0, MOCK_FIRST, SIZE, 0), -EINVAL);
	CHECK_EQ(get(mock.hwpt, 0, MOCK_FIRST + MOCK_PAGE, SIZE, PAGE), -EINVAL);
	CHECK_EQ(get(mock.hwpt, 0, MOCK_FIRST, SIZE + MOCK_PAGE, PAGE), -EINVAL);
	CHECK_EQ(get(mock.hwpt, 0, MOCK_FIRST, SIZE, 2 * SIZE), -EINVAL);
	CHECK_EQ(get(mock.hwpt, 0, MOCK_FIRST + 512, SIZE, 512), -EINVAL);
	CHECK_EQ(get(mock.hwpt, 0, MOCK_FIRST, SIZE + 512, 512), -EINVAL);
	CHECK_EQ(get(mock.hwpt, 0, UINT64_MAX - PAGE + 1, 2 * PAGE, PAGE), -EOVERFLOW);

	lab_step("GET_DIRTY_BITMAP: what is not refused");
	/* Nothing mapped; only holes. */
	CHECK_EQ(get(mock.hwpt, 0, MOCK_LAST + 1, SIZE, PAGE), 0);
	CHECK_EQ(get(mock.hwpt, 0, UINT64_MAX - PAGE + 1, PAGE, PAGE), 0);
	/* A page size that is no power of two: its lowest bit counts. */
	CHECK_EQ(get(mock.hwpt, 0, MOCK_FIRST, 3 * PAGE * 4, 3 * PAGE), 0);
}

static void hwpt_alloc(void)
{
	uint32_t hwpt;
	struct mock_hwpt_alloc alloc = {
		.size = sizeof(alloc),
		.flags = ALLOC_DIRTY_TRACKING,
		.device = mock.bound,
		.parent = NO_SUCH_ID,
	};
	struct mock_hw_info info = { .size = sizeof(info), .device = NO_SUCH_ID };

	lab_step("HWPT_ALLOC");
	CHECK_EQ(mock_new_hwpt(&mock, 1u << 31, &hwpt), -EOPNOTSUPP);
	CHECK_EQ(mock_request(&mock, HWPT_ALLOC, &alloc), -EINVAL);
	alloc.device = NO_SUCH_ID;
	alloc.parent = mock.ioas;
	CHECK_EQ(mock_request(&mock, HWPT_ALLOC, &alloc), -ENOENT);
	CHECK_EQ(mock_request(&mock, GET_HW_INFO, &info), -ENOENT);
}

static void maps(void)
{
	struct mock_ioas_map map = {
		.size = sizeof(map),
		.flags = MAP_FIXED_IOVA | MAP_WRITEABLE | MAP_READABLE,
		.ioas = mock.ioas,
		.memory = (uintptr_t)bitmap,
		.length = PAGE,
		.iova = MOCK_FIRST,
	};

	lab_step("IOAS_MAP");
	CHECK_EQ(mock_request(&mock, IOAS_MAP, &map), -EEXIST);
	map.iova = MOCK_FIRST - PAGE; /* outside the domain's aperture */
	CHECK_EQ(mock_request(&mock, IOAS_MAP, &map), -EINVAL);
	map.ioas = mock.hwpt;
	CHECK_EQ(mock_request(&mock, IOAS_MAP, &map), -ENOENT);

	lab_step("IOAS_UNMAP (I9)");
	CHECK_EQ(mock_unmap(&mock, MOCK_FIRST, SIZE / 2), -ENOENT);
	CHECK_EQ(mock_unmap(&mock, MOCK_FIRST + SIZE / 2, SIZE / 2), -ENOENT);
	CHECK_EQ(mock_unmap(&mock, MOCK_FIRST + SIZE, PAGE), -ENOENT);
	CHECK_EQ(mock_unmap(&mock, MOCK_FIRST, 0), -EINVAL);
	CHECK_EQ(mock_unmap(&mock, UINT64_MAX - PAGE, 2 * PAGE), -EOVERFLOW);
}

static void no_dirty(void)
{
	struct mock_test test = {
		.size = sizeof(test),
		.operation = TEST_DOMAIN_OF_KIND,
		.id = mock.hwpt,
		.domain.kind = MOCK_NO_DIRTY,
	};
	struct mock plain;
	uint32_t hwpt;

	lab_step("a device without dirty tracking (I1)");
	mock_open(&plain, MOCK_NO_DIRTY);
	CHECK_EQ(mock_new_hwpt(&plain, ALLOC_DIRTY_TRACKING, &hwpt), -EOPNOTSUPP);
	CHECK_EQ(mock_new_hwpt(&plain, 0, &hwpt), 0);
	CHECK_EQ(mock_track(&plain, hwpt, TRACK), -EOPNOTSUPP);
	mock_close(&plain);
	/* It cannot join a domain that has it. */
	CHECK_EQ(mock_request(&mock, MOCK_TEST, &test), -EINVAL);
}

/* The old container interface on an iommufd has no dirty log (I10). */
static void compat(void)
{
	struct {
		uint32_t size, ioas;
		uint16_t operation, reserved;
	} ioas = { .size = sizeof(ioas), .ioas = mock.ioas, .operation = 1 };
	struct {
		uint32_t argsz, flags;
		uint64_t iova, size;
		uint64_t page_size, bitmap_size, data;
	} unmap = {
		.argsz = sizeof(unmap),
		.flags = 1,
		.iova = MOCK_FIRST,
		.size = SIZE,
		.page_size = PAGE,
		.bitmap_size = 8,
		.data = (uintptr_t)bitmap,
	};
	struct {
		uint32_t argsz, flags;
	} dirty = { .argsz = sizeof(dirty), .flags = 1 };

	lab_step("the container interface of an iommufd (I10)");
	CHECK_EQ(mock_request(&mock, MOCK_REQUEST(8), &ioas), 0);
	CHECK_EQ(mock_request(&mock, _IO(';', 117), &dirty), -ENOTTY);
	CHECK_EQ(mock_request(&mock, _IO(';', 114), &unmap), -EINVAL);
}

int main(int argc, char **argv)
{
	mock_begin(argc, argv);
	bitmap = bits_new(PAGE * 8);
	mock_open(&mock, 0);
	mock_map(&mock, MOCK_FIRST, SIZE);
	CHECK_EQ(mock_track(&mock, mock.hwpt, TRACK), 0);
	set_dirty();
	get_dirty();
	hwpt_alloc();
	maps();
	no_dirty();
	compat();
	mock_close(&mock);
	puts("ok");
	return 0;
}
