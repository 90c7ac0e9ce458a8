/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * What the kernel does when an IO page table entry is larger than what is
 * asked for (I5, I6): the reasons why the library reads whole maps into whole
 * pages of memory. Without the library. The figures are those of Linux 6.12;
 * on a newer kernel a difference is printed, not failed.
 */
#include "mock.h"

#include <stdio.h>
#include <string.h>

#define IOVA 0x10000000ull
#define SIZE 0x200000ull /* one huge page of the CPU, two of the domain */
#define ENTRY_PAGES (MOCK_HUGE_PAGE / PAGE)

static void as_on_6_12(const char *what, uint64_t got, uint64_t want)
{
	if (got == want)
		return;
	if (mock_is_exact())
		lab_fail(__FILE__, __LINE__, "%s: %llu, not %llu", what, (unsigned long long)got,
			 (unsigned long long)want);
	printf("this kernel differs: %s: %llu, not %llu\n", what, (unsigned long long)got,
	       (unsigned long long)want);
}

/* Bits that a read of [iova, iova+length) sets, by their IOVA, up to a page of them. */
static uint64_t *look(const struct mock *mock, uint64_t iova, uint64_t length)
{
	uint64_t *bits = bits_new(PAGE * 8);

	CHECK_EQ(mock_get(mock, mock->hwpt, 0, iova, length, PAGE, bits), 0);
	return bits;
}

static void whole_map(const struct mock *mock)
{
	uint64_t *bits;

	lab_step("a whole map");
	mock_mark(mock, mock->hwpt, IOVA + 5 * PAGE);
	bits = look(mock, IOVA, SIZE);
	CHECK(bit_is_set(bits, 5));
	as_on_6_12("pages reported for one that was marked", bits_count(bits, PAGE * 8), ENTRY_PAGES);
	CHECK_EQ(bits_count(look(mock, IOVA, SIZE), PAGE * 8), 0);
}

static void first_part(const struct mock *mock)
{
	const uint64_t asked = 4;
	uint64_t *bits;

	lab_step("the first part of an entry: bits past the end of the bitmap (I6)");
	mock_mark(mock, mock->hwpt, IOVA + 100 * PAGE);
	bits = look(mock, IOVA, asked * PAGE);
	as_on_6_12("bits within what was asked", bits_count(bits, asked), asked);
	as_on_6_12("bits beyond it", bits_count(bits, PAGE * 8) - asked, ENTRY_PAGES - asked);
	lab_step("and the whole entry is clean (I5)");
	as_on_6_12("left", bits_count(look(mock, IOVA, SIZE), PAGE * 8), 0);
}

static void middle_part(const struct mock *mock)
{
	const uint64_t offset = 128, asked = 4;
	uint64_t *bits;

	lab_step("the middle of an entry whose dirty page is before it: lost (I5)");
	mock_mark(mock, mock->hwpt, IOVA + 5 * PAGE);
	bits = look(mock, IOVA + offset * PAGE, asked * PAGE);
	as_on_6_12("bits, of pages that nobody wrote", bits_count(bits, PAGE * 8), ENTRY_PAGES);
	as_on_6_12("left", bits_count(look(mock, IOVA, SIZE), PAGE * 8), 0);
}

/*
 * A bitmap that fills its page: 16 bytes for a bit make half an entry 4096
 * bytes of bitmap. The page behind it is not written, but only because the
 * bitmap begins with a page: else the kernel pins, and writes, one more.
 */
static void page_behind(const struct mock *mock)
{
	const uint64_t half = MOCK_HUGE_PAGE / 2, fine = 16;
	const size_t last = PAGE / 8 - 1; /* the last word of a page */
	uint64_t *bits = bits_new(3 * PAGE * 8 - 1);

	lab_step("an aligned bitmap: no bit in the page behind it (I6)");
	mock_mark(mock, mock->hwpt, IOVA + 5 * PAGE);
	CHECK_EQ(mock_get(mock, mock->hwpt, 0, IOVA, half, fine, bits), 0);
	as_on_6_12("bits in it", bits_count(bits, half / fine), half / fine);
	CHECK_EQ(bits_count(bits + PAGE / 8, PAGE * 8), 0);

	lab_step("a bitmap that is not aligned: bits in the page behind it");
	memset(bits, 0, 3 * PAGE);
	mock_mark(mock, mock->hwpt, IOVA + 5 * PAGE);
	CHECK_EQ(mock_get(mock, mock->hwpt, 0, IOVA, 64 * PAGE, PAGE, bits + last), 0);
	as_on_6_12("bits in the word that was given", bits_count(bits + last, 64), 64);
	as_on_6_12("bits before it", bits_count(bits, last * 64), 0);
	as_on_6_12("bits behind it", bits_count(bits + last + 1, PAGE * 8), ENTRY_PAGES - 64);
}

int main(int argc, char **argv)
{
	struct mock mock;

	mock_begin(argc, argv);
	mock_open(&mock, MOCK_HUGE);
	if (!mock_map_huge(&mock, IOVA, SIZE))
		lab_skip("this kernel gives no huge pages");
	CHECK_EQ(mock_track(&mock, mock.hwpt, TRACK), 0);
	whole_map(&mock);
	first_part(&mock);
	middle_part(&mock);
	page_behind(&mock);
	mock_close(&mock);
	puts("ok");
	return 0;
}
