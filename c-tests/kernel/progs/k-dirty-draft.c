/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Promise: the draft's registers tell a tracker exactly what was written since
 * the device saves, with both cursors and in any number of parts; before that
 * everything is dirty, and nobody says otherwise; a harvest waits for the
 * segment that another thread has out, and never for its own (D5, D8 to D16).
 *
 * usage: k-dirty-draft group|cdev
 */
#include "dirty.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

static struct testdev t, to;
static struct space s;

static void begin(const char *dialect)
{
	char config[160];

	lab_step("%s", dialect);
	snprintf(config, sizeof(config), "%s state=64K segment=8K", dialect);
	testdev_open(&t, 1, config, 0);
	testdev_open(&to, 2, config, 0);
	space_open(&s, &t.device);
	space_map(&s, 0, 300);
	space_map(&s, 300, 100);
	space_map(&s, 1000, 65);
	space_map(&s, 9000, 1);
	space_track(&s, t.d, 0);
	READS(&s, DRAFT, "a log of its own");
	fill_both(&t, &to);
}

/* The whole stream arrives, whatever was read of the log in between (D5). */
static void end(void)
{
	GO(t.d, VFIOMIG_STATE_STOP);
	finish_load(&t, &to);
	CHECK_EQ(testdev_get(&to, TESTDEV_CRC), testdev_get(&t, TESTDEV_CRC_NOW));
	OK(vfiomig_tracker_stop(s.tracker, ERR));
	GO(t.d, VFIOMIG_STATE_RUNNING);
	WARNINGS(0);
	space_close(&s);
	testdev_close(&to);
	testdev_close(&t);
}

static void all_dirty_and_degraded(int number)
{
	struct vfiomig_harvest_result result;
	struct pages got;

	result = space_harvest(&s, &got);
	CHECK_EQ(result.flags, VFIOMIG_HARVEST_DEGRADED);
	if (number)
		CHECK_EQ(result.first_errno, number);
	CHECK(result.first_errno > 0);
	CHECK_EQ(result.failed_reads, result.reads);
	CHECK_EQ(result.degraded_bytes, pages_count(&s.mapped) * PAGE);
	PAGES_EQUAL(&got, &s.mapped);
}

static void move(unsigned int segments)
{
	struct traffic traffic = { .most = segments };
	uint32_t flags = pump(&t, &to, COPY, &traffic);

	CHECK_EQ(flags, segments ? 0 : VFIOMIG_CHUNK_END);
}

static void exact(const char *config)
{
	struct pages got;

	begin(config);
	OK(vfiomig_tracker_start(s.tracker, ERR));
	DMA(&t, 1, 1);
	all_dirty_and_degraded(0);
	all_dirty_and_degraded(0);
	WARNINGS(1); /* told once, when it begins */
	CLEAN(&t); /* the registers were not touched before SAVING */
	GO(to.d, VFIOMIG_STATE_RESUMING);
	GO(t.d, VFIOMIG_STATE_PRE_COPY);
	all_dirty_and_degraded(ESTALE); /* what was written before this session is in no log */
	DIRTY_ARE(&s, "");
	DMA(&t, 0, 1);
	DMA(&t, 299, 2);
	DMA(&t, 399, 1);
	DMA(&t, 1000, 65);
	DMA(&t, 9000, 1);
	DIRTY_ARE(&s, "0 299-300 399 1000-1064 9000");
	DIRTY_ARE(&s, "");
	move(2);
	DMA(&t, 17, 1);
	DIRTY_ARE(&s, "17");
	move(1);

	lab_step("%s: unmapped, then read", config);
	DMA(&t, 18, 1);
	DMA(&t, 1010, 2);
	CHECK_EQ(space_unmap(&s, 1000, 65, 0, raw_unmap_range, &got).flags, 0);
	PAGES_ARE(&got, "1010-1011");
	DIRTY_ARE(&s, "18");
	space_map(&s, 1000, 65);
	DIRTY_ARE(&s, "1000-1064");
	DMA(&t, 1064, 1);
	DIRTY_ARE(&s, "1064");

	lab_step("%s: the last harvest", config);
	DMA(&t, 77, 2);
	GO(t.d, VFIOMIG_STATE_STOP_COPY);
	CHECK_EQ(dma_write(&t, 80, 1), -EBUSY);
	move(1);
	DIRTY_ARE(&s, "77-78");
	move(0);
	DIRTY_ARE(&s, "");
	end();
}

/* D12: a device that has no bits says "all" of what it was asked for. */
static void all_bits(const char *config)
{
	begin(config);
	GO(to.d, VFIOMIG_STATE_RESUMING);
	GO(t.d, VFIOMIG_STATE_PRE_COPY);
	OK(vfiomig_tracker_start(s.tracker, ERR)); /* the session knows all since */
	DIRTY_ARE(&s, "");
	DMA(&t, 305, 1);
	DIRTY_ARE(&s, "0-399"); /* one range, two mappings */
	DIRTY_ARE(&s, "");
	DMA(&t, 9000, 1);
	DIRTY_ARE(&s, "9000");
	GO(t.d, VFIOMIG_STATE_STOP_COPY);
	move(0);
	end();
}

/* ---- a segment is out ---------------------------------------------------------------- */

static atomic_bool lent, give_back;
static bool forgets; /* the thread holds it for longer than anybody waits */

#define HOLD_NS 200000000

static void nap(long ns)
{
	nanosleep(&(struct timespec){ .tv_sec = ns / 1000000000, .tv_nsec = ns % 1000000000 }, NULL);
}

static int64_t now(void)
{
	struct timespec at;

	clock_gettime(CLOCK_MONOTONIC, &at);
	return at.tv_sec * 1000000000ll + at.tv_nsec;
}

/* Takes a segment in two parts, with time between them. */
static void *lender(void *unused)
{
	struct vfiomig_chunk chunk;
	size_t room = 0, length;
	void *at = NULL;

	OK(vfiomig_device_peek(t.d, 0, &chunk, ERR));
	length = chunk.len;
	CHECK(length > 100 && length == chunk.segment_left);
	OK(vfiomig_device_reserve(to.d, length, &at, &room, ERR));
	CHECK(room >= length);
	memcpy(at, chunk.data, length);
	OK(vfiomig_device_consume(t.d, 100, ERR));
	lent = true;
	while (forgets && !give_back)
		nap(1000000);
	nap(HOLD_NS);
	OK(vfiomig_device_peek(t.d, 0, &chunk, ERR));
	CHECK_EQ(chunk.len, length - 100);
	OK(vfiomig_device_consume(t.d, chunk.len, ERR));
	OK(vfiomig_device_commit(to.d, length, VFIOMIG_CHUNK_SEGMENT_END, ERR));
	return unused;
}

static pthread_t lend_out(void)
{
	pthread_t thread;

	lent = give_back = false;
	CHECK_EQ(pthread_create(&thread, NULL, lender, NULL), 0);
	while (!lent)
		nap(1000000);
	return thread;
}

static void waits_in_vain(const char *config)
{
	pthread_t thread;

	lab_step("%s: another thread forgets its segment", config);
	DMA(&t, 6, 1);
	forgets = true;
	thread = lend_out();
	all_dirty_and_degraded(EBUSY);
	give_back = true;
	pthread_join(thread, NULL);
	DIRTY_ARE(&s, "6"); /* not read, so not forgotten */
}

static void waits(const char *config, bool in_vain)
{
	struct vfiomig_chunk chunk;
	pthread_t thread;
	size_t room = 0;
	void *at = NULL;
	int64_t begun;

	begin(config);
	GO(to.d, VFIOMIG_STATE_RESUMING);
	GO(t.d, VFIOMIG_STATE_PRE_COPY);
	OK(vfiomig_tracker_start(s.tracker, ERR));

	lab_step("%s: another thread's segment", config);
	DMA(&t, 5, 1);
	forgets = false;
	thread = lend_out();
	begun = now();
	DIRTY_ARE(&s, "5");
	CHECK(now() - begun >= HOLD_NS / 2);
	pthread_join(thread, NULL);

	if (in_vain)
		waits_in_vain(config);
	lab_step("%s: the segment of this thread", config);
	DMA(&t, 7, 1);
	OK(vfiomig_device_peek(t.d, 0, &chunk, ERR));
	begun = now();
	all_dirty_and_degraded(EBUSY);
	CHECK(now() - begun < 500000000); /* it would wait for itself */
	OK(vfiomig_device_reserve(to.d, chunk.segment_left, &at, &room, ERR));
	memcpy(at, chunk.data, chunk.len);
	OK(vfiomig_device_commit(to.d, chunk.len, VFIOMIG_CHUNK_SEGMENT_END, ERR));
	OK(vfiomig_device_consume(t.d, chunk.len, ERR));
	DIRTY_ARE(&s, "7");

	GO(t.d, VFIOMIG_STATE_STOP_COPY);
	move(0);
	DIRTY_ARE(&s, "");
	WARNINGS(in_vain ? 2 : 1); /* each harvest that could not have the registers */
	end();
}

int main(int argc, char **argv)
{
	/* Parts of the bitmap of 100 pages are no whole words. */
	static const char *const configs[] = {
		"dialect=draft2 window=one",
		"dialect=draft2 window=trapped bitmap_pfns=64",
		"dialect=draft3 window=trapped",
		"dialect=draft3 window=one bitmap_pfns=100",
	};

	testdev_begin(argc, argv);
	warnings_count();
	for (size_t i = 0; i < sizeof(configs) / sizeof(configs[0]); i++)
		exact(configs[i]);
	all_bits("dialect=draft2 bitmap_all=1");
	all_bits("dialect=draft3 bitmap_all=1");
	waits("dialect=draft2", true); /* takes seconds */
	waits("dialect=draft3", false);
	puts("ok");
	return 0;
}
