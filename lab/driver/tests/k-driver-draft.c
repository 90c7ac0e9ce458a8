// SPDX-License-Identifier: GPL-2.0-only
/*
 * The 2019 draft over both region types: device data and the dirty bitmap
 * through one window, with both forms of the cursor (D16).
 */
#include "raw.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define ALL 1000000
#define MEMORY (8 << 20)
#define PAGES (MEMORY / 4096)

static struct dev a, b;

static bool bit_of(const uint64_t *bitmap, uint64_t bit)
{
	return bitmap[bit / 64] >> (bit % 64) & 1;
}

/*
 * Reads the log of [first, first + total) into `dirty`; chunks, or -1 if the
 * device marks all. `rewrite`: the user has the cursor.
 */
static int read_log(uint64_t first, uint64_t total, bool rewrite, uint64_t *dirty)
{
	uint64_t bitmap[PAGES / 64], count = 0, copied, offset, size;
	int chunks = 0;

	memset(dirty, 0, PAGES / 8);
	EQ(set_reg(&a, R_START_PFN, first), 0);
	EQ(set_reg(&a, R_PAGE_SIZE, 4096), 0);
	EQ(set_reg(&a, R_TOTAL_PFNS, total), 0);
	while (count < total) {
		if (rewrite && count) {
			EQ(set_reg(&a, R_TOTAL_PFNS, total - count), 0);
			EQ(set_reg(&a, R_START_PFN, first + count), 0);
			EQ(set_reg(&a, R_PAGE_SIZE, 4096), 0);
		}
		copied = reg(&a, R_COPIED);
		if (copied == ~0ull)
			return -1;
		if (!copied)
			return chunks;
		CHECK(copied <= total - count);
		offset = reg(&a, R_OFFSET); /* D13: again for each chunk */
		size = reg(&a, R_SIZE);
		EQ(size, (copied + 63) / 64 * 8);
		read_window(&a, bitmap, offset, size);
		for (uint64_t i = 0; i < copied; i++)
			if (bit_of(bitmap, i))
				dirty[(first + count + i) / 64] |= 1ull << ((first + count + i) % 64);
		count += copied;
		chunks++;
	}
	EQ(reg(&a, R_COPIED), 0); /* D11 */
	return chunks;
}

static void dma(uint32_t page)
{
	set_bar(&a, BAR_DMA, page);
	EQ((int)bar(&a, BAR_RESULT), 0);
}

static void expect(const uint64_t *dirty, const uint32_t *pages, int count)
{
	int found = 0;

	for (uint32_t i = 0; i < PAGES; i++) {
		if (!bit_of(dirty, i))
			continue;
		CHECK(found < count);
		EQ(i, pages[found++]);
	}
	EQ(found, count);
}

static void run(const char *config, uint32_t type, bool mappable, bool rewrite, int chunks)
{
	static const uint32_t first[] = { 5, 200, 1023 }, second[] = { 200 };
	uint64_t dirty[PAGES / 64];
	unsigned char *memory;

	start(&a, 1, config);
	start(&b, 2, config);
	EQ(a.type, type);
	EQ(map_areas(&a), mappable);
	EQ(map_areas(&b), mappable);
	memory = map_dma(&a, 0, MEMORY);
	set_bar(&a, BAR_FILL, 4711);
	set_bar(&a, BAR_DMA_VALUE, 77);
	dma(7); /* before SAVING: sent with all RAM later */

	EQ(change_state(&b, 7, BIT_RESUMING), 0);
	EQ(change_state(&a, 0, BIT_SAVING), 0);
	dma(5);
	dma(200);
	dma(1023);
	EQ(((uint32_t *)(memory + 5 * 4096))[0], 5);
	EQ(((uint32_t *)(memory + 5 * 4096))[1], 77);

	/* Data, then the log, then data: whole segments and whole chunks (D5). */
	EQ(move_segments(&a, &b, 3), 3);
	EQ(read_log(0, PAGES, rewrite, dirty), chunks);
	if (chunks >= 0)
		expect(dirty, first, 3);
	EQ(read_log(0, PAGES, rewrite, dirty), 0); /* D14: reading clears */
	EQ(move_segments(&a, &b, 2), 2);

	set_bar(&a, BAR_INDEX, 9);
	set_bar(&a, BAR_WORD, 0x12345678);
	dma(200);
	dma(300);
	EQ(change_state(&a, BIT_RUNNING, 0), 0);
	set_bar(&a, BAR_DMA, 6);
	EQ((int)bar(&a, BAR_RESULT), -EBUSY);
	if (chunks >= 0) {
		CHECK(read_log(150, 100, rewrite, dirty) >= 1);
		expect(dirty, second, 1); /* only what was asked for */
		CHECK(read_log(0, PAGES, rewrite, dirty) >= 1);
		CHECK(bit_of(dirty, 300));
	}
	move_segments(&a, &b, ALL);
	EQ(change_state(&a, 7, 0), 0);
	EQ(change_state(&b, 7, BIT_RUNNING), 0);
	EQ(change_state(&a, 7, BIT_RUNNING), 0);
	EQ(bar(&a, BAR_CRC), bar(&b, BAR_CRC));
	CLEAN(&a);
	CLEAN(&b);

	step("a bitmap passed by");
	EQ(change_state(&a, 0, BIT_SAVING), 0);
	dma(5);
	dma(1000);
	EQ(set_reg(&a, R_START_PFN, 0), 0);
	EQ(set_reg(&a, R_TOTAL_PFNS, PAGES), 0);
	if (chunks > 1) {
		EQ(reg(&a, R_COPIED) > 0, 1);
		(void)reg(&a, R_COPIED);
		VIOLATED(&a, V_BITMAP_UNREAD);
	}
	EQ(change_state(&a, 7, BIT_RUNNING), 0);
	(void)reg(&a, R_COPIED);
	VIOLATED(&a, V_DATA_STATE);
	printf("%s\n", config);
	finish(&a);
	finish(&b);
}

int main(int argc, char **argv)
{
	begin(argc, argv);
	run("dialect=draft2 window=trapped", 2, true, false, 1);
	run("dialect=draft2 window=one bitmap_pfns=512", 2, true, false, 2);
	run("dialect=draft2 window=two skew=12 bitmap_pfns=100", 2, true, false, 11);
	run("dialect=draft3 window=one bitmap_pfns=100", 3, true, true, 11);
	run("dialect=draft3 window=whole bitmap_pfns=1", 3, true, true, 1024);
	run("dialect=draft3 window=nommap", 3, false, true, 1);
	run("dialect=draft3 window=trapped bitmap_all=1", 3, true, true, -1);
	return 0;
}
