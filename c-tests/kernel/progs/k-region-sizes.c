/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Promise: asking a device with a migration region how much is left never
 * acknowledges a segment: in the middle of one the last figures are given, and
 * said to be such; between segments they are the device's own, also while its
 * state changes; where a figure is not known it is unknown, not 0 (V1-7, P21).
 *
 * usage: k-region-sizes group|cdev
 */
#include "testdev.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>

static struct testdev source, target;

/* pending_bytes of this driver: its largest segment for each that is left. */
static uint64_t left(uint64_t segments)
{
	return segments * source.segment;
}

enum place { BEFORE_STOP, STOPPED };

static void figures_are(uint32_t flags, enum place place, uint64_t segments, bool cached)
{
	struct vfiomig_device_pending pending = lab_pending(source.d, flags);
	const bool running = place == BEFORE_STOP;

	CHECK_EQ(pending.flags, cached ? VFIOMIG_PENDING_CACHED : 0);
	CHECK_EQ(pending.initial_bytes, VFIOMIG_UNKNOWN);
	CHECK_EQ(pending.dirty_bytes, running ? left(segments) : VFIOMIG_UNKNOWN);
	CHECK_EQ(pending.stop_copy_bytes, running ? VFIOMIG_UNKNOWN : left(segments));
	CHECK_EQ(pending.reinit_count, 0);
}

/* As often as a curious caller may ask; no answer changes anything. */
static void exact_is(enum place place, uint64_t segments, bool cached)
{
	for (int i = 0; i < 20; i++)
		figures_are(VFIOMIG_PENDING_F_EXACT, place, segments, cached);
	figures_are(0, place, segments, cached);
}

static void nothing_is_known(void)
{
	const uint32_t flags[] = { 0, VFIOMIG_PENDING_F_EXACT };

	for (int i = 0; i < 2; i++) {
		struct vfiomig_device_pending pending = lab_pending(source.d, flags[i]);

		CHECK_EQ(pending.initial_bytes, VFIOMIG_UNKNOWN);
		CHECK_EQ(pending.dirty_bytes, VFIOMIG_UNKNOWN);
	}
}

static void one_segment(void)
{
	struct traffic traffic = { .most = 1 };

	CHECK_EQ(pump(&source, &target, COPY, &traffic), 0);
}

/* Asks before, in the middle of, and after a segment; `segments` are left before it. */
static void around_a_segment(enum place place, uint64_t segments)
{
	struct vfiomig_chunk chunk;

	exact_is(place, segments, false);
	OK(vfiomig_device_peek(source.d, 1000, &chunk, ERR));
	/* With a chunk out, and after it was given back unused. */
	exact_is(place, segments, true);
	OK(vfiomig_device_consume(source.d, 0, ERR));
	exact_is(place, segments, true);
	one_segment();
	exact_is(place, segments - 1, false);
}

static void figures(const char *config)
{
	uint64_t segments;

	lab_step("%s: figures", config);
	fill_both(&source, &target);
	nothing_is_known();
	segments = testdev_segments(&source);
	GO(target.d, VFIOMIG_STATE_RESUMING);
	GO(source.d, VFIOMIG_STATE_PRE_COPY);
	lab_step("%s: figures in pre-copy", config);
	for (int i = 0; i < 3; i++)
		around_a_segment(BEFORE_STOP, segments--);
	/* The device changes what was saved already. */
	testdev_dirty(&source, 2);
	segments += 2;
	exact_is(BEFORE_STOP, segments, false);
	one_segment();
	segments--;
	exact_is(BEFORE_STOP, segments, false);
	around_a_segment(BEFORE_STOP, segments--);
	CHECK_EQ(pump(&source, &target, LEND, &(struct traffic){ 0 }), VFIOMIG_CHUNK_EMPTY);
	exact_is(BEFORE_STOP, 0, false);
	testdev_dirty(&source, 3);
	exact_is(BEFORE_STOP, 3, false);

	lab_step("%s: figures in STOP_COPY", config);
	GO(source.d, VFIOMIG_STATE_STOP_COPY);
	CHECK_EQ(lab_pending(source.d, 0).dirty_bytes, VFIOMIG_UNKNOWN);
	around_a_segment(STOPPED, 3);
	around_a_segment(STOPPED, 2);
	CHECK_EQ(pump(&source, &target, COPY, &(struct traffic){ 0 }), VFIOMIG_CHUNK_END);
	exact_is(STOPPED, 0, false);

	lab_step("%s: figures afterwards", config);
	GO(source.d, VFIOMIG_STATE_STOP);
	nothing_is_known();
	finish_load(&source, &target);
	CHECK_EQ(testdev_get(&target, TESTDEV_CRC), testdev_get(&source, TESTDEV_CRC_NOW));
	GO(source.d, VFIOMIG_STATE_RUNNING);
	CLEAN(&source);
	CLEAN(&target);
}

/* A statistics thread that asks all the time, without EXACT: it never meets the device. */
static atomic_bool done;

static void *statistics(void *unused)
{
	(void)unused;
	while (!atomic_load(&done)) {
		struct vfiomig_device_pending pending;
		struct vfiomig_device_info info;

		VFIOMIG_INIT(&pending);
		VFIOMIG_INIT(&info);
		CHECK(!vfiomig_device_get_pending(source.d, 0, &pending, NULL));
		CHECK(!vfiomig_device_get_info(source.d, &info, NULL));
		CHECK(pending.dirty_bytes == VFIOMIG_UNKNOWN || pending.dirty_bytes <= left(1000));
	}
	return NULL;
}

static void with_statistics(const char *config)
{
	pthread_t thread;

	lab_step("%s: a thread asks during migrations", config);
	atomic_store(&done, false);
	CHECK_EQ(pthread_create(&thread, NULL, statistics, NULL), 0);
	for (int way = 0; way < WAYS; way++)
		migrate(&source, &target, (enum way)way);
	atomic_store(&done, true);
	CHECK_EQ(pthread_join(thread, NULL), 0);
}

static void all_of(const char *kind, const char *window)
{
	char config[128];

	snprintf(config, sizeof(config), "%s state=256K segment=16K window=%s", kind, window);
	lab_step("%s", config);
	testdev_open(&source, 1, config, 0);
	testdev_open(&target, 2, config, 0);
	figures(config);
	with_statistics(config);
	testdev_close(&source);
	testdev_close(&target);
}

int main(int argc, char **argv)
{
	testdev_begin(argc, argv);
	for (int i = 0; i < TESTDEV_REGION_KINDS; i++) {
		all_of(testdev_region_kinds[i], "trapped");
		all_of(testdev_region_kinds[i], "one");
		all_of(testdev_region_kinds[i], "two");
	}
	puts("ok");
	return 0;
}
