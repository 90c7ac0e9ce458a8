/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * What the kernel promises of a domain with dirty tracking, and what it does
 * not (I1, I2, I4, I6-I9), asked without the library: the ground under the
 * other programs here.
 */
#include "mock.h"

#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#define SIZE (64 * PAGE)
/* Granules that are marked: the ends, neighbours, one half page and the other. */
static const unsigned int marks[] = { 0, 1, 5, 64, 66, 67, 126, 127 };
#define MARKS (sizeof(marks) / sizeof(marks[0]))

static void mark_all(const struct mock *mock, uint64_t iova)
{
	for (size_t i = 0; i < MARKS; i++)
		mock_mark(mock, mock->hwpt, iova + marks[i] * MOCK_PAGE);
}

/* What a bitmap with this page size must say of them. */
static uint64_t *wanted(uint64_t page_size)
{
	uint64_t *bits = bits_new(SIZE / page_size);

	for (size_t i = 0; i < MARKS; i++)
		bit_set(bits, marks[i] * MOCK_PAGE / page_size);
	return bits;
}

static void expect(const struct mock *mock, uint32_t flags, uint64_t iova, uint64_t page_size,
		   const uint64_t *want)
{
	uint64_t *got = bits_new(SIZE / page_size);

	CHECK_EQ(mock_get(mock, mock->hwpt, flags, iova, SIZE, page_size, got), 0);
	BITS_ARE(got, want, SIZE / page_size);
}

static void capability(void)
{
	static const uint32_t kinds[] = { 0, MOCK_NO_DIRTY };
	struct mock mock;

	lab_step("capability bit 0 (I1)");
	for (unsigned int i = 0; i < 2; i++) {
		struct mock_hw_info info = { .size = sizeof(info) };

		mock_open(&mock, kinds[i]);
		info.device = mock.bound;
		CHECK_EQ(mock_request(&mock, GET_HW_INFO, &info), 0);
		CHECK_EQ(info.capabilities & CAP_DIRTY_TRACKING, kinds[i] ? 0 : CAP_DIRTY_TRACKING);
		mock_close(&mock);
	}
}

static void reading(uint64_t page_size)
{
	uint64_t *none = bits_new(SIZE / page_size), *want = wanted(page_size);
	struct mock mock;

	lab_step("reading in pages of %llu bytes", (unsigned long long)page_size);
	mock_open(&mock, 0);
	mock_map(&mock, MOCK_FIRST, SIZE);
	CHECK_EQ(mock_track(&mock, mock.hwpt, TRACK), 0);
	expect(&mock, 0, MOCK_FIRST, page_size, none);

	mark_all(&mock, MOCK_FIRST);
	expect(&mock, NO_CLEAR, MOCK_FIRST, page_size, want); /* I9 */
	expect(&mock, NO_CLEAR, MOCK_FIRST, page_size, want);
	expect(&mock, 0, MOCK_FIRST, page_size, want);
	expect(&mock, 0, MOCK_FIRST, page_size, none);

	/* I8: what was set stays set. */
	bit_set(none, 3);
	expect(&mock, 0, MOCK_FIRST, page_size, bits_new(SIZE / page_size));
	CHECK_EQ(mock_get(&mock, mock.hwpt, 0, MOCK_FIRST, SIZE, page_size, none), 0);
	CHECK_EQ(bits_count(none, SIZE / page_size), 1);
	mock_close(&mock);
}

static void starting_twice(void)
{
	uint64_t *none = bits_new(SIZE / PAGE), *want = wanted(PAGE);
	struct mock mock;

	mock_open(&mock, 0);
	mock_map(&mock, MOCK_FIRST, SIZE);
	lab_step("a second ENABLE loses what was dirty (I2)");
	CHECK_EQ(mock_track(&mock, mock.hwpt, TRACK), 0);
	mark_all(&mock, MOCK_FIRST);
	CHECK_EQ(mock_track(&mock, mock.hwpt, TRACK), 0);
	expect(&mock, 0, MOCK_FIRST, PAGE, none);

	lab_step("a read while disabled succeeds and says nothing (I4)");
	mark_all(&mock, MOCK_FIRST);
	CHECK_EQ(mock_track(&mock, mock.hwpt, 0), 0);
	expect(&mock, 0, MOCK_FIRST, PAGE, none);
	CHECK_EQ(mock_track(&mock, mock.hwpt, 0), 0);
	lab_step("the next ENABLE clears what was left (I2)");
	CHECK_EQ(mock_track(&mock, mock.hwpt, TRACK), 0);
	expect(&mock, 0, MOCK_FIRST, PAGE, none);
	mark_all(&mock, MOCK_FIRST);
	expect(&mock, 0, MOCK_FIRST, PAGE, want);
	mock_close(&mock);
}

static void holes(void)
{
	const uint64_t first = MOCK_FIRST, second = MOCK_FIRST + SIZE + PAGE;
	const uint64_t all = 2 * SIZE + PAGE;
	uint64_t *got = bits_new(all / PAGE), *none = bits_new(all / PAGE);
	struct mock mock;

	mock_open(&mock, 0);
	mock_map(&mock, first, SIZE);
	mock_map(&mock, second, SIZE);
	CHECK_EQ(mock_track(&mock, mock.hwpt, TRACK), 0);

	lab_step("a read across a hole succeeds without what follows it (I4)");
	mark_all(&mock, first);
	mark_all(&mock, second);
	CHECK_EQ(mock_get(&mock, mock.hwpt, 0, first, all, PAGE, got), 0);
	BITS_ARE(got, wanted(PAGE), SIZE / PAGE);
	CHECK_EQ(bits_count(got, all / PAGE), bits_count(got, SIZE / PAGE));
	/* It was not read, so it was not cleared. */
	expect(&mock, 0, first, PAGE, none);
	expect(&mock, 0, second, PAGE, wanted(PAGE));

	lab_step("a read that begins in a hole says nothing at all");
	mark_all(&mock, second);
	memset(got, 0, PAGE);
	CHECK_EQ(mock_get(&mock, mock.hwpt, 0, second - PAGE, SIZE + PAGE, PAGE, got), 0);
	CHECK_EQ(bits_count(got, all / PAGE), 0);
	expect(&mock, 0, second, PAGE, wanted(PAGE));

	lab_step("two maps without a hole are read as one");
	mock_map(&mock, second - PAGE, PAGE);
	mark_all(&mock, first);
	mark_all(&mock, second);
	CHECK_EQ(mock_get(&mock, mock.hwpt, 0, first, all, PAGE, got), 0);
	BITS_ARE(got, wanted(PAGE), SIZE / PAGE);
	for (unsigned int bit = 0; bit < SIZE / PAGE; bit++)
		CHECK_EQ(bit_is_set(got, bit + SIZE / PAGE + 1), bit_is_set(got, bit));
	mock_close(&mock);
}

/* With entries of one granule a part can be read; k-hwpt-huge has the others. */
static void parts(void)
{
	uint64_t *want = wanted(PAGE), *half = bits_new(SIZE / PAGE), *got = bits_new(SIZE / PAGE);
	struct mock mock;

	lab_step("a part of a map");
	mock_open(&mock, 0);
	mock_map(&mock, MOCK_FIRST, SIZE);
	CHECK_EQ(mock_track(&mock, mock.hwpt, TRACK), 0);
	mark_all(&mock, MOCK_FIRST);
	CHECK_EQ(mock_get(&mock, mock.hwpt, 0, MOCK_FIRST + SIZE / 2, SIZE / 2, PAGE, got), 0);
	CHECK_EQ(got[0], want[0] >> SIZE / PAGE / 2);
	half[0] = want[0] & 0xffffffff;
	expect(&mock, 0, MOCK_FIRST, PAGE, half);
	mock_close(&mock);
}

static void unwritable(const struct mock *mock, void *data)
{
	mark_all(mock, MOCK_FIRST);
	CHECK_EQ(mock_get(mock, mock->hwpt, 0, MOCK_FIRST, SIZE, PAGE, data), 0);
	expect(mock, 0, MOCK_FIRST, PAGE, bits_new(SIZE / PAGE));
}

static void bad_pointers(void)
{
	uint64_t *want = wanted(PAGE);
	unsigned char *memory = (unsigned char *)bits_new(3 * PAGE * 8);
	struct mock mock;
	uint64_t got;

	mock_open(&mock, 0);
	mock_map(&mock, MOCK_FIRST, SIZE);
	CHECK_EQ(mock_track(&mock, mock.hwpt, TRACK), 0);

	lab_step("no memory: success, and the bits are gone (I7)");
	unwritable(&mock, NULL);
	unwritable(&mock, (void *)(uintptr_t)PAGE);
	CHECK_EQ(munmap(memory + PAGE, PAGE), 0);
	unwritable(&mock, memory + PAGE);
	lab_step("memory that cannot be written: the same");
	CHECK_EQ(mprotect(memory + 2 * PAGE, PAGE, PROT_READ), 0);
	unwritable(&mock, memory + 2 * PAGE);

	lab_step("a pointer that is not aligned works on this machine (I8)");
	mark_all(&mock, MOCK_FIRST);
	CHECK_EQ(mock_get(&mock, mock.hwpt, 0, MOCK_FIRST, SIZE, PAGE, memory + 3), 0);
	memcpy(&got, memory + 3, sizeof(got));
	BITS_ARE(&got, want, SIZE / PAGE);
	mock_close(&mock);
}

static void unmapping(void)
{
	struct mock mock;

	lab_step("NO_CLEAR, then unmap (I9)");
	mock_open(&mock, 0);
	mock_map(&mock, MOCK_FIRST, SIZE);
	CHECK_EQ(mock_track(&mock, mock.hwpt, TRACK), 0);
	mark_all(&mock, MOCK_FIRST);
	expect(&mock, NO_CLEAR, MOCK_FIRST, PAGE, wanted(PAGE));
	CHECK_EQ(mock_unmap(&mock, MOCK_FIRST, SIZE), 0);
	lab_step("what is mapped there afterwards is clean");
	mock_map(&mock, MOCK_FIRST, SIZE);
	expect(&mock, 0, MOCK_FIRST, PAGE, bits_new(SIZE / PAGE));
	lab_step("a map made while tracking is tracked");
	mark_all(&mock, MOCK_FIRST);
	expect(&mock, 0, MOCK_FIRST, PAGE, wanted(PAGE));
	mock_close(&mock);
}

static void two_domains(void)
{
	struct mock mock, other;

	lab_step("two domains of one IOAS have logs of their own");
	mock_open(&mock, 0);
	other = mock;
	other.hwpt = mock_add_hwpt(&mock);
	mock_map(&mock, MOCK_FIRST, SIZE);
	CHECK_EQ(mock_track(&mock, mock.hwpt, TRACK), 0);
	CHECK_EQ(mock_track(&other, other.hwpt, TRACK), 0);
	mark_all(&other, MOCK_FIRST);
	expect(&mock, 0, MOCK_FIRST, PAGE, bits_new(SIZE / PAGE));
	expect(&other, 0, MOCK_FIRST, PAGE, wanted(PAGE));
	mock_close(&mock);
}

int main(int argc, char **argv)
{
	mock_begin(argc, argv);
	capability();
	reading(MOCK_PAGE);
	reading(PAGE);
	reading(16 * PAGE);
	starting_twice();
	holes();
	parts();
	bad_pointers();
	unmapping();
	two_domains();
	puts("ok");
	return 0;
}
