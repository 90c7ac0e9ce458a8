/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Promise: a device's own DMA log is read exactly: at its page size, over
 * folded ranges, through mappings that come and go, through states and a reset,
 * and beside a thread that reads the stream; one that starts but cannot be
 * read is found out at start, and another log takes its place (L1 to L9).
 *
 * usage: k-dirty-devlog group|cdev
 */
#include "dirty.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

static struct testdev t;
static struct space s;

static void begin(const char *config)
{
	lab_step("%s", config);
	testdev_open(&t, 1, config, 0);
	space_open(&s, &t.device);
}

/* Of the log nothing is left: this driver starts no second one (L1). */
static void log_is_off(void)
{
	const struct vfiomig_range range = { .size = PAGE };
	uint64_t page_size = PAGE;

	CHECK_EQ(raw_log_start(&t.device, &page_size, &range, 1), 0);
	CHECK_EQ(raw_log_stop(&t.device), 0);
}

static void log_is_on(void)
{
	const struct vfiomig_range range = { .size = PAGE };
	uint64_t page_size = PAGE;

	CHECK_EQ(raw_log_start(&t.device, &page_size, &range, 1), -EINVAL);
}

static void end(void)
{
	space_close(&s);
	log_is_off();
	WARNINGS(0);
	testdev_close(&t);
}

static void start(void)
{
	READS(&s, DMA_LOG, "a log of its own");
	OK(vfiomig_tracker_start(s.tracker, ERR));
	READS(&s, DMA_LOG, "a log of its own");
	CHECK_EQ(space_info(&s).flags, 0);
	CHECK_EQ(space_info(&s).failed_logs, 0);
	log_is_on();
}

/* ---- Debian's kernel: START works and REPORT does not ------------------------------ */

static void falls_back(uint32_t flags, uint32_t kind)
{
	begin("dialect=v2");
	space_map(&s, 0, 100);
	space_map(&s, 200, 100);
	space_track(&s, t.d, flags);
	CHECK_EQ(space_info(&s).kind, VFIOMIG_TRACKER_KIND_DMA_LOG);
	OK(vfiomig_tracker_start(s.tracker, ERR));
	WARNINGS(1);
	printf("reason: %s\n", space_info(&s).reason);
	space_check_kind(__FILE__, __LINE__, &s, kind, "DMA log of");
	space_check_kind(__FILE__, __LINE__, &s, kind, strerror(EOPNOTSUPP));
	log_is_off();
	DMA(&t, 3, 2);
	DMA(&t, 250, 1);
	if (kind == VFIOMIG_TRACKER_KIND_TYPE1) {
		CHECK_EQ(space_info(&s).flags, 0);
		DIRTY_ARE(&s, "3-4 250");
		DIRTY_ARE(&s, "");
	} else {
		CHECK_EQ(space_info(&s).flags, VFIOMIG_TRACKER_PERPETUAL);
		ALL_DIRTY(&s);
		ALL_DIRTY(&s);
	}
	OK(vfiomig_tracker_stop(s.tracker, ERR));

	/* The next migration tries again, and comes to the same end. */
	OK(vfiomig_tracker_start(s.tracker, ERR));
	CHECK_EQ(space_info(&s).kind, kind);
	WARNINGS(0); /* told once: the reason is the same, and still in the information */
	CHECK(strstr(space_info(&s).reason, strerror(EOPNOTSUPP)) != NULL);
	log_is_off();
	end();
}

/* ---- what the log tells -------------------------------------------------------------- */

static void exact(void)
{
	begin("dialect=v2");
	space_map(&s, 0, 256);
	space_map(&s, 256, 44);
	space_map(&s, 1000, 65);
	space_track(&s, t.d, 0);
	DMA(&t, 2, 1);
	start();
	CHECK_EQ(space_info(&s).page_size, PAGE);
	CHECK_EQ(space_info(&s).mapped_ranges, 2); /* neighbours are one */
	CHECK_EQ(space_info(&s).logged_ranges, 1);  /* rounded out to a GiB */
	DIRTY_ARE(&s, "");
	DMA(&t, 0, 1);
	DMA(&t, 255, 2);
	DMA(&t, 299, 1);
	DMA(&t, 1000, 65);
	CHECK(dma_write(&t, 300, 1) < 0);
	DIRTY_ARE(&s, "0 255-256 299 1000-1064");
	DIRTY_ARE(&s, "");

	lab_step("counted");
	DMA(&t, 10, 1);
	OK(vfiomig_tracker_start(s.tracker, ERR));
	CHECK_EQ(space_info(&s).starts, 2);
	DMA(&t, 11, 1);
	OK(vfiomig_tracker_stop(s.tracker, ERR));
	DMA(&t, 12, 1);
	DIRTY_ARE(&s, "10-12");
	log_is_on();
	OK(vfiomig_tracker_stop(s.tracker, ERR));
	log_is_off();
	OK(vfiomig_tracker_start(s.tracker, ERR));
	DIRTY_ARE(&s, "");
	DMA(&t, 13, 1);
	DIRTY_ARE(&s, "13");
	end(); /* freed while it runs */
}

/* The device answers START with its own page: ranges become whole pages of it (L1, L7). */
static void coarse(void)
{
	begin("dialect=v2 log_page=64K");
	space_map(&s, 3, 38);	 /* 3-40: begins and ends within a page of the device */
	space_map(&s, 45, 30);	 /* 45-74: begins in the page where the first one ends */
	space_map(&s, 1024, 64); /* whole pages */
	space_track(&s, t.d, 0);
	start();
	CHECK_EQ(space_info(&s).page_size, 65536);
	DIRTY_ARE(&s, "");
	DMA(&t, 5, 1);
	DIRTY_ARE(&s, "3-15"); /* never what is not mapped */
	DMA(&t, 20, 1);
	DMA(&t, 40, 1);
	DMA(&t, 1087, 1);
	DIRTY_ARE(&s, "16-40 45-47 1072-1087");
	DMA(&t, 74, 1);
	DIRTY_ARE(&s, "64-74");

	lab_step("asked for piece by piece: a page of two pieces is in both");
	DMA(&t, 36, 1);
	{
		struct pages got = { 0 };
		struct vfiomig_dest dest = { .size = 38 * PAGE, .page_size = PAGE,
					     .bitmap = got.word };
		struct vfiomig_harvest_request request;

		VFIOMIG_INIT(&request);
		request.dests = &dest;
		request.dest_count = 1;
		OK(vfiomig_tracker_harvest(s.tracker, &request, NULL, ERR));
		PAGES_ARE(&got, "32-37");
		request.flags = VFIOMIG_HARVEST_F_NO_READ;
		dest.iova = 38 * PAGE;
		dest.first_bit = 38;
		dest.size = 100 * PAGE;
		OK(vfiomig_tracker_harvest(s.tracker, &request, NULL, ERR));
		PAGES_ARE(&got, "32-40 45-47");
	}
	DIRTY_ARE(&s, "");

	lab_step("a mapping in a page of the device that is logged");
	space_map(&s, 42, 2);
	DIRTY_ARE(&s, "42-43");
	DMA(&t, 42, 1);
	DIRTY_ARE(&s, "32-40 42-43 45-47");
	end();
}

/* Only the tracker knows it, and no range that is rounded out for the space holds it. */
static void map_far(uint64_t gib)
{
	struct vfiomig_mapping far = { .iova = gib << 30, .size = PAGE };

	OK(vfiomig_tracker_map(s.tracker, &far, 1, ERR));
}

/* Fewer ranges than mappings: gaps are logged too, and never a page less (L1). */
static void folded(unsigned int most)
{
	static const uint32_t at[] = { 0, 20, 100, 140, 2000 };
	char config[64];

	snprintf(config, sizeof(config), "dialect=v2 log_ranges=%u", most);
	begin(config);
	for (int i = 0; i < 5; i++)
		space_map(&s, at[i], 10);
	space_track(&s, t.d, 0);
	for (uint64_t i = 1; i < 5; i++)
		map_far(4 * i);
	start();
	CHECK_EQ(space_info(&s).mapped_ranges, 9);
	CHECK(space_info(&s).logged_ranges <= most);
	CHECK(space_info(&s).logged_ranges * 2 >= most); /* no more than it takes */
	DIRTY_ARE(&s, "");
	for (int i = 0; i < 5; i++)
		DMA(&t, at[i] + 9, 1);
	DIRTY_ARE(&s, "9 29 109 149 2009");

	lab_step("%s: mapped in a filled gap", config);
	DMA(&t, 0, 1);
	space_map(&s, 12, 4);
	CHECK_EQ(space_info(&s).mapped_ranges, 10);
	DIRTY_ARE(&s, "0 12-15"); /* not anew: 1 to 9 are clean */
	DMA(&t, 12, 4);
	DIRTY_ARE(&s, "12-15");

	lab_step("%s: mapped beyond", config);
	DMA(&t, 1, 1);
	map_far(1000);
	CHECK(space_info(&s).logged_ranges <= most);
	ALL_DIRTY(&s); /* once */
	DIRTY_ARE(&s, "");
	DMA(&t, 2000, 1);
	DIRTY_ARE(&s, "2000");
	end();
}

/* More mappings than one page of ranges holds: the kernel would say E2BIG (L1). */
static void many_ranges(void)
{
	struct pages want = { 0 }, got;

	begin("dialect=v2 state=64K segment=8K");
	for (uint32_t i = 0; i < 300; i++)
		space_map(&s, i * 50, 1 + i % 3);
	space_track(&s, t.d, 0);
	for (uint64_t i = 1; i <= 300; i++)
		map_far(2 * i);
	start();
	CHECK_EQ(space_info(&s).mapped_ranges, 600);
	CHECK_EQ(space_info(&s).logged_ranges, 256);
	for (uint32_t i = 0; i < 300; i += 7) {
		DMA(&t, i * 50 + i % 3, 1);
		pages_add(&want, i * 50 + i % 3, 1);
	}
	CHECK_EQ(space_harvest(&s, &got).flags, 0);
	PAGES_EQUAL(&got, &want);
	end();
}

/* ---- mappings that come and go ----------------------------------------------------------- */

/* The device still writes when the VMM is asked to unmap: what it wrote then is reported (P23). */
static int write_then_unmap(void *opaque, const struct vfiomig_range *range)
{
	DMA(&t, (uint32_t)(range->iova / PAGE) + 1, 1);
	return raw_unmap_range(opaque, range);
}

static void come_and_go(void)
{
	struct vfiomig_harvest_result result;
	struct pages got;

	begin("dialect=v2");
	space_map(&s, 0, 100);
	space_map(&s, 200, 100);
	space_map(&s, 300, 100);
	space_track(&s, t.d, 0);
	start();

	lab_step("unmapped, then read");
	DMA(&t, 50, 1);
	DMA(&t, 205, 1);
	DMA(&t, 350, 1);
	result = space_unmap(&s, 200, 100, 0, write_then_unmap, &got);
	CHECK_EQ(result.flags, 0);
	/* What lies in words of the log with it was read as well; the rest was not. */
	PAGES_ARE(&got, "201 205");
	CHECK(dma_write(&t, 205, 1) < 0);
	DIRTY_ARE(&s, "50 350");
	DMA(&t, 351, 1);
	space_unmap(&s, 300, 100, 0, write_then_unmap, NULL);
	DIRTY_ARE(&s, "301 351");

	lab_step("unmapped by others before the call");
	DMA(&t, 60, 1);
	CHECK_EQ(raw_unmap(&t.device, 0, 100 * PAGE), 0);
	space_unmap(&s, 0, 100, 0, NULL, &got);
	PAGES_ARE(&got, "60"); /* the log outlives the mapping */

	lab_step("mapped where the log was started");
	space_map(&s, 210, 20);
	DIRTY_ARE(&s, "210-229");
	DMA(&t, 229, 1);
	DIRTY_ARE(&s, "229");
	end();
}

/* Nothing writes while the device stands: a restart makes nothing dirty, and loses nothing. */
static void mapped_while_stopped(void)
{
	begin("dialect=v2");
	space_map(&s, 0, 100);
	space_map(&s, 5000, 10);
	space_track(&s, t.d, 0);
	start();
	DMA(&t, 7, 1);
	DMA(&t, 5009, 1);
	GO(t.d, VFIOMIG_STATE_STOP);
	CHECK_EQ(dma_write(&t, 8, 1), -EBUSY);
	space_map(&s, 200, 10);
	map_far(2);
	DIRTY_ARE(&s, "7 200-209 5009");
	GO(t.d, VFIOMIG_STATE_RUNNING);
	DMA(&t, 205, 1);
	DMA(&t, 9, 1);
	DIRTY_ARE(&s, "9 205");
	/* Running, it may have written between the read and the restart. */
	map_far(200);
	ALL_DIRTY(&s);
	DIRTY_ARE(&s, "");
	end();
}

/* ---- states -------------------------------------------------------------------------------- */

static void states(void)
{
	struct testdev to;

	begin("dialect=v2");
	testdev_open(&to, 2, "dialect=v2", 0);
	space_map(&s, 0, 100);
	space_track(&s, t.d, 0);
	start();
	fill_both(&t, &to);
	DMA(&t, 1, 1);
	GO(t.d, VFIOMIG_STATE_PRE_COPY);
	DMA(&t, 2, 1);
	DIRTY_ARE(&s, "1-2");
	DMA(&t, 3, 1);
	GO(t.d, VFIOMIG_STATE_PRE_COPY_P2P);
	DMA(&t, 4, 1); /* to memory it still writes */
	GO(t.d, VFIOMIG_STATE_STOP_COPY);
	DIRTY_ARE(&s, "3-4");
	GO(to.d, VFIOMIG_STATE_RESUMING);
	CHECK_EQ(pump(&t, &to, COPY, &(struct traffic){ 0 }), VFIOMIG_CHUNK_END);
	GO(t.d, VFIOMIG_STATE_STOP);
	DIRTY_ARE(&s, "");
	finish_load(&t, &to);
	GO(t.d, VFIOMIG_STATE_RUNNING);
	DMA(&t, 5, 1);
	lab_step("a reset (L9)");
	OK(vfiomig_device_reset(t.d, ERR));
	DMA(&t, 6, 1);
	DIRTY_ARE(&s, "5-6");
	OK(vfiomig_tracker_stop(s.tracker, ERR));
	log_is_off();
	testdev_close(&to);
	end();
}

/* ---- beside a thread that reads the stream ----------------------------------------------------- */

static struct testdev target;
static atomic_bool streaming_ends;
static atomic_uint pumped;

static void *stream(void *unused)
{
	/* The device never has no more to give: its state changes all the time. */
	while (!streaming_ends) {
		testdev_dirty(&t, 3);
		CHECK_EQ(pump(&t, &target, COPY, &(struct traffic){ 0 }), VFIOMIG_CHUNK_EMPTY);
		pumped++;
	}
	return unused;
}

static void beside_the_stream(void)
{
	struct pages want = { 0 }, all = { 0 }, got;
	pthread_t thread;

	begin("dialect=v2 state=64K segment=8K");
	testdev_open(&target, 2, "dialect=v2 state=64K segment=8K", 0);
	space_map(&s, 0, 4096);
	space_track(&s, t.d, 0);
	start();
	fill_both(&t, &target);
	GO(target.d, VFIOMIG_STATE_RESUMING);
	GO(t.d, VFIOMIG_STATE_PRE_COPY);
	streaming_ends = false;
	CHECK_EQ(pthread_create(&thread, NULL, stream, NULL), 0);
	for (uint32_t round = 0; round < 60 || pumped < 5; round++) {
		uint32_t first = round * 619 % 4000, count = 1 + round % 50;

		/* The registers of a DMA are this thread's, those of the state the other's. */
		DMA(&t, first, count);
		pages_add(&want, first, count);
		if (round % 4)
			continue;
		CHECK_EQ(space_harvest(&s, &got).flags, 0);
		pages_join(&all, &got);
	}
	streaming_ends = true;
	pthread_join(thread, NULL);
	GO(t.d, VFIOMIG_STATE_STOP_COPY);
	CHECK_EQ(space_harvest(&s, &got).flags, 0);
	pages_join(&all, &got);
	PAGES_EQUAL(&all, &want);
	CHECK_EQ(pump(&t, &target, COPY, &(struct traffic){ 0 }), VFIOMIG_CHUNK_END);
	GO(t.d, VFIOMIG_STATE_STOP);
	finish_load(&t, &target);
	CHECK_EQ(testdev_get(&target, TESTDEV_CRC), testdev_get(&t, TESTDEV_CRC_NOW));
	GO(t.d, VFIOMIG_STATE_RUNNING);
	testdev_close(&target);
	end();
}

int main(int argc, char **argv)
{
	bool works;

	testdev_begin(argc, argv);
	warnings_count();
	begin("dialect=v2");
	works = raw_log_works(&t.device);
	end();
	if (!works) {
		CHECK(!lab_is_cdev());
		falls_back(0, VFIOMIG_TRACKER_KIND_TYPE1);
		falls_back(NO_CONTAINER, VFIOMIG_TRACKER_KIND_EVERYTHING);
		puts("ok: the log cannot be read here");
		return 0;
	}
	exact();
	coarse();
	for (unsigned int most = 1; most <= 4; most++)
		folded(most);
	many_ranges();
	come_and_go();
	mapped_while_stopped();
	states();
	beside_the_stream();
	puts("ok");
	return 0;
}
