// SPDX-License-Identifier: GPL-2.0-only
/*
 * v1: save and load through every kind of window; each violation of the access
 * order; failures, ERROR and reset.
 */
#include "raw.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define ALL 1000000

static double seconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

/* A live migration (V1-3, V1-6, V1-9; the grace states N3, N4 with NDMA). */
static void migrate(const char *config, size_t trapped, bool mappable)
{
	struct dev a, b;
	double from;

	start(&a, 1, config);
	start(&b, 2, config);
	trapped_step = trapped;
	EQ(a.type, 3);
	EQ(map_areas(&a), mappable);
	EQ(map_areas(&b), mappable);
	EQ(reg(&a, R_STATE) & 15, BIT_RUNNING);
	EQ(bar(&a, BAR_STATE), RUNNING);
	set_bar(&a, BAR_FILL, 12345);
	CHECK(bar(&a, BAR_CRC) != bar(&b, BAR_CRC));

	from = seconds();
	EQ(change_state(&b, 7, BIT_RESUMING), 0);
	EQ(change_state(&a, 0, BIT_SAVING), 0);
	EQ(bar(&a, BAR_STATE), PRE_COPY);
	CHECK(move_segments(&a, &b, ALL) > 0);
	set_bar(&a, BAR_INDEX, 77); /* it changes while it runs */
	set_bar(&a, BAR_WORD, 0xabcdef01);
	if (a.ndma) {
		EQ(change_state(&a, 0, BIT_NDMA), 0);
		EQ(bar(&a, BAR_STATE), PRE_COPY_P2P);
		set_bar(&a, BAR_DMA, 5);
		EQ((int)bar(&a, BAR_RESULT), -EBUSY);
	}
	/* A segment begun in pre-copy is carried over (N8). */
	CHECK(reg(&a, R_PENDING));
	(void)reg(&a, R_OFFSET);
	EQ(change_state(&a, BIT_RUNNING, 0), 0);
	EQ(bar(&a, BAR_STATE), STOP_COPY);
	{
		static unsigned char buf[2 << 20];
		uint64_t offset = reg(&a, R_OFFSET), size = reg(&a, R_SIZE);

		read_window(&a, buf, offset, size);
		write_window(&b, buf, reg(&b, R_OFFSET), size);
		EQ(set_reg(&b, R_SIZE, size), 0);
	}
	move_segments(&a, &b, ALL);
	EQ(reg(&a, R_PENDING), 0);
	EQ(change_state(&a, 15, 0), 0);
	if (b.ndma) {
		EQ(change_state(&b, BIT_RESUMING, BIT_NDMA | BIT_RUNNING), 0);
		EQ(bar(&b, BAR_STATE), RUNNING_P2P);
	}
	EQ(change_state(&b, BIT_RESUMING | BIT_NDMA, BIT_RUNNING), 0);
	from = seconds() - from;
	EQ(change_state(&a, 0, BIT_RUNNING), 0);

	EQ(bar(&b, BAR_CRC), bar(&a, BAR_CRC));
	set_bar(&b, BAR_INDEX, 77);
	EQ(bar(&b, BAR_WORD), 0xabcdef01);
	CLEAN(&a);
	CLEAN(&b);
	printf("%.3f s, access %zu: %s\n", from, trapped, config);
	finish(&a);
	finish(&b);
}

/* From RUNNING into a state, and back after what was to be judged. */
static void save_begin(struct dev *a)
{
	EQ(change_state(a, 15, BIT_SAVING | BIT_RUNNING), 0);
}

static void save_cancel(struct dev *a)
{
	EQ(change_state(a, 15, BIT_RUNNING), 0);
}

static void violations(void)
{
	static unsigned char buf[1 << 16];
	uint64_t offset, size, x = 0;
	struct dev a;

	start(&a, 1, "dialect=v1 window=trapped state=1M segment=6K reserved=0x100");
	EQ(reg(&a, R_STATE), 0x101);

	EQ(pread(a.fd, &x, 4, a.region + R_PENDING), -1);
	EQ(errno, EINVAL);
	VIOLATED(&a, V_WIDTH);
	EQ(pread(a.fd, &x, 8, a.region + 4), -1);
	VIOLATED(&a, V_WIDTH);
	EQ(set_reg(&a, R_PENDING, 1), -EINVAL);
	VIOLATED(&a, V_READONLY);
	EQ(change_state(&a, 0, BIT_RESUMING), -EINVAL);
	VIOLATED(&a, V_STATE);
	EQ(reg(&a, R_STATE), 0x101);
	EQ(set_reg(&a, R_STATE, BIT_RUNNING), 0);
	VIOLATED(&a, V_RESERVED);

	save_begin(&a);
	(void)reg(&a, R_OFFSET);
	VIOLATED(&a, V_NO_PENDING);
	save_cancel(&a);

	save_begin(&a);
	(void)reg(&a, R_PENDING);
	(void)reg(&a, R_SIZE);
	VIOLATED(&a, V_SIZE_EARLY);
	save_cancel(&a);

	save_begin(&a);
	(void)reg(&a, R_PENDING);
	(void)reg(&a, R_OFFSET);
	(void)reg(&a, R_PENDING);
	VIOLATED(&a, V_ACK_UNREAD);
	offset = reg(&a, R_OFFSET);
	size = reg(&a, R_SIZE);
	EQ(reg(&a, R_SIZE), size); /* may be repeated (V1-6) */
	EQ(reg(&a, R_OFFSET), offset);
	EQ(reg(&a, R_SIZE), size);
	read_window(&a, buf, offset, size - 1);
	(void)reg(&a, R_PENDING);
	VIOLATED(&a, V_ACK_UNREAD);
	offset = reg(&a, R_OFFSET);
	read_window(&a, buf, offset, 16);
	VIOLATED(&a, V_DATA_EARLY);
	size = reg(&a, R_SIZE);
	EQ(pread(a.fd, buf, 16, a.region + offset + size - 8), 16);
	VIOLATED(&a, V_DATA_RANGE);
	EQ(pread(a.fd, buf, 16, a.region + a.size - 8), -1);
	VIOLATED(&a, V_DATA_RANGE);
	EQ(pread(a.fd, buf, 16, a.region + 64), -1);
	VIOLATED(&a, V_DATA_RANGE);
	save_cancel(&a);

	EQ(pread(a.fd, buf, 16, a.region + 4096), 16);
	VIOLATED(&a, V_DATA_STATE);
	EQ(set_reg(&a, R_SIZE, 16), -EINVAL);
	VIOLATED(&a, V_NO_OFFSET);

	EQ(change_state(&a, 7, BIT_SAVING), 0);
	(void)bar(&a, BAR_CRC);
	VIOLATED(&a, V_BAR_STOPPED);
	EQ(change_state(&a, 7, 0), 0);
	VIOLATED(&a, V_LEFT_UNREAD);
	EQ(change_state(&a, 0, BIT_RUNNING), 0);

	/* What is not a segment goes into ERROR, from where there is only reset. */
	EQ(change_state(&a, 7, BIT_RESUMING), 0);
	EQ(pwrite(a.fd, buf, 16, a.region + 4096), 16);
	VIOLATED(&a, V_DATA_EARLY);
	(void)reg(&a, R_OFFSET);
	memset(buf, 1, sizeof(buf));
	write_window(&a, buf, reg(&a, R_OFFSET), 1000);
	EQ(set_reg(&a, R_SIZE, 1000), -EINVAL);
	VIOLATED(&a, V_FRAME);
	EQ(reg(&a, R_STATE), 0x100 | BITS_ERROR);
	EQ(change_state(&a, 7, BIT_RUNNING), -EINVAL);
	VIOLATED(&a, V_STATE);
	EQ(reset(&a), 0);
	EQ(reg(&a, R_STATE), 0x101);

	EQ(change_state(&a, 7, BIT_RESUMING), 0);
	EQ(change_state(&a, 7, BIT_RUNNING), -EINVAL);
	VIOLATED(&a, V_INCOMPLETE);
	EQ(reg(&a, R_STATE), 0x100 | BITS_ERROR);
	EQ(reset(&a), 0);
	CLEAN(&a);
	finish(&a);
}

/* Segments may not be split, left out or changed, though no read is visible. */
static void judged_by_content(void)
{
	static unsigned char one[1 << 16], two[1 << 16];
	uint64_t offset, size;
	struct dev a, b;

	start(&a, 1, "dialect=v1 state=1M");
	start(&b, 2, "dialect=v1 state=1M");
	CHECK(map_areas(&a) && map_areas(&b));
	save_begin(&a);

	step("an acknowledged window is overwritten");
	CHECK(reg(&a, R_PENDING));
	offset = reg(&a, R_OFFSET);
	size = reg(&a, R_SIZE);
	read_window(&a, one, offset, size);
	CHECK(reg(&a, R_PENDING));
	read_window(&a, two, offset, 16);
	for (int i = 0; i < 16; i++)
		EQ(two[i], 0xdb);
	(void)reg(&a, R_OFFSET);
	read_window(&a, two, offset, reg(&a, R_SIZE));

	step("a segment left out");
	EQ(change_state(&b, 7, BIT_RESUMING), 0);
	write_window(&b, two, reg(&b, R_OFFSET), size);
	EQ(set_reg(&b, R_SIZE, size), -EINVAL);
	VIOLATED(&b, V_FRAME);
	EQ(reset(&b), 0);

	step("a segment split");
	EQ(change_state(&b, 7, BIT_RESUMING), 0);
	write_window(&b, one, reg(&b, R_OFFSET), size / 2);
	EQ(set_reg(&b, R_SIZE, size / 2), -EINVAL);
	VIOLATED(&b, V_FRAME);
	EQ(reset(&b), 0);

	step("a bit turned");
	EQ(change_state(&b, 7, BIT_RESUMING), 0);
	one[size - 1] ^= 4;
	write_window(&b, one, reg(&b, R_OFFSET), size);
	EQ(set_reg(&b, R_SIZE, size), -EINVAL);
	VIOLATED(&b, V_FRAME);
	EQ(reset(&b), 0);

	step("a size beyond the region");
	EQ(change_state(&b, 7, BIT_RESUMING), 0);
	(void)reg(&b, R_OFFSET);
	EQ(set_reg(&b, R_SIZE, ~0ull), -EINVAL);
	VIOLATED(&b, V_FRAME);
	save_cancel(&a);
	finish(&a);
	finish(&b);
}

static void failures(void)
{
	static char text[4096];
	struct dev a;

	start(&a, 1, "dialect=v1 fail_to=STOP_COPY fail_errno=28 fail_count=2");
	save_begin(&a);
	EQ(change_state(&a, BIT_RUNNING, 0), -ENOSPC);
	EQ(reg(&a, R_STATE), BIT_SAVING | BIT_RUNNING);
	EQ(change_state(&a, BIT_RUNNING, 0), -ENOSPC);
	EQ(change_state(&a, BIT_RUNNING, 0), 0);
	save_cancel(&a);

	set_bar(&a, BAR_FAIL, EIO | 1u << 31);
	EQ(change_state(&a, 0, BIT_SAVING), -EIO);
	EQ(reg(&a, R_STATE), BITS_ERROR);
	EQ(reset(&a), 0);
	EQ(reg(&a, R_STATE), BIT_RUNNING);

	step("each time");
	EQ(set_attribute(1, "config", "fail_to=PRE_COPY fail_count=each fail_errno=11"), 0);
	for (int i = 0; i < 3; i++)
		EQ(change_state(&a, 0, BIT_SAVING), -EAGAIN);
	EQ(set_attribute(1, "config", "fail_count=0 delay_ms=100"), 0);
	EQ(change_state(&a, 0, BIT_SAVING), 0);
	save_cancel(&a);
	EQ(set_attribute(1, "config", "window=one"), -EPERM);
	EQ(set_attribute(1, "config", "delay_ms=x"), -EINVAL);

	step("transitions");
	EQ(get_attribute(1, "transitions", text, sizeof(text)), 0);
	{
		static const char *const want[][5] = {
			{ "set", "RUNNING", "PRE_COPY", "PRE_COPY", "0" },
			{ "set", "PRE_COPY", "STOP_COPY", "PRE_COPY", "28" },
			{ "set", "PRE_COPY", "STOP_COPY", "PRE_COPY", "28" },
			{ "set", "PRE_COPY", "STOP_COPY", "STOP_COPY", "0" },
			{ "set", "STOP_COPY", "RUNNING", "RUNNING", "0" },
			{ "set", "RUNNING", "PRE_COPY", "ERROR", "5" },
			{ "reset", "ERROR", "RUNNING", "RUNNING", "0" },
			{ "set", "RUNNING", "PRE_COPY", "RUNNING", "11" },
			{ "set", "RUNNING", "PRE_COPY", "RUNNING", "11" },
			{ "set", "RUNNING", "PRE_COPY", "RUNNING", "11" },
			{ "set", "RUNNING", "PRE_COPY", "PRE_COPY", "0" },
			{ "set", "PRE_COPY", "RUNNING", "RUNNING", "0" },
		};
		char *line = strtok(text, "\n"), word[5][32];
		unsigned long long begin, end = 0, last = 0;
		unsigned int number;

		for (unsigned int i = 0; i < sizeof(want) / sizeof(*want); i++) {
			CHECK(line);
			EQ(sscanf(line, "%u %31s %31s %31s %31s %31s %llu %llu", &number, word[0],
				  word[1], word[2], word[3], word[4], &begin, &end), 8);
			EQ(number, i);
			for (int w = 0; w < 5; w++)
				if (strcmp(word[w], want[i][w]))
					fail(__FILE__, __LINE__, "line %u: %s", i, line);
			CHECK(begin >= last && end >= begin);
			if (i >= 10)
				CHECK(end - begin >= 100000000);
			last = end;
			line = strtok(NULL, "\n");
		}
		CHECK(!line);
	}
	EQ(set_attribute(1, "transitions", "0"), 0);
	EQ(get_attribute(1, "transitions", text, sizeof(text)), 0);
	EQ(text[0], 0);
	finish(&a);
}

static void refusals(void)
{
	struct dev a;

	start(&a, 1, "dialect=v1 window=two state=1M max_access=8");
	EQ(a.areas, 2);
	CHECK(a.area[0].offset > a.area[1].offset + a.area[1].size);
	EQ(mmap(NULL, 4096, PROT_READ, MAP_SHARED, a.fd, 0) == MAP_FAILED, 1);
	EQ(mmap(NULL, 4096, PROT_READ, MAP_SHARED, a.fd, a.region) == MAP_FAILED, 1);
	EQ(mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, a.fd, a.region + 4096) == MAP_FAILED, 1);
	EQ(mmap(NULL, a.size, PROT_READ, MAP_SHARED, a.fd, a.region + 4096) == MAP_FAILED, 1);
	EQ(mmap(NULL, 4096, PROT_READ, MAP_SHARED, a.fd, a.region + a.size) == MAP_FAILED, 1);
	EQ(mmap(NULL, 4096, PROT_READ, MAP_SHARED, a.fd,
		a.region + a.area[1].offset + a.area[1].size) == MAP_FAILED, 1);
	EQ(mmap(NULL, 4096, PROT_READ, MAP_SHARED, a.fd,
		a.region + a.area[1].offset + a.area[1].size + 4096) == MAP_FAILED, 1);
	{
		char x[16];

		save_begin(&a);
		(void)reg(&a, R_PENDING);
		(void)reg(&a, R_OFFSET);
		(void)reg(&a, R_SIZE);
		EQ(pread(a.fd, x, 16, a.region + 4096), -1);
		EQ(pread(a.fd, x, 8, a.region + 4096), 8);
		save_cancel(&a);
	}
	/* No v2 here: neither the library nor a VMM may find both (P22). */
	{
		uint64_t flags;

		EQ(feature(&a, FEATURE_MIGRATION | VFIO_DEVICE_FEATURE_GET, &flags, 8), -ENOTTY);
	}
	finish(&a);
}

int main(int argc, char **argv)
{
	char config[128];

	begin(argc, argv);
	for (int ndma = 0; ndma < 2; ndma++) {
		static const char *const windows[] = { "trapped", "whole", "one", "two skew=12",
						       "one skew=4096", "nommap" };

		for (size_t i = 0; i < sizeof(windows) / sizeof(*windows); i++) {
			snprintf(config, sizeof(config),
				 "dialect=v1 state=1M segment=64K ndma=%d window=%s", ndma,
				 windows[i]);
			migrate(config, 1 << 20, strcmp(windows[i], "nommap"));
		}
	}
	migrate("dialect=v1 state=256K window=trapped max_access=8", 8, true);
	migrate("dialect=v1 state=1000000 segment=5K window=two skew=100", 8, true);
	migrate("dialect=v1 state=16M segment=1M window=trapped", 1 << 20, true);
	migrate("dialect=v1 state=16M segment=1M window=one", 1 << 20, true);
	migrate("dialect=v1 state=16M segment=1M window=two ndma=1", 1 << 20, true);
	violations();
	judged_by_content();
	failures();
	refusals();
	return 0;
}
