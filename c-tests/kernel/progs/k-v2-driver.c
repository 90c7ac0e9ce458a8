/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Promise: v2 devices of every capability set, with either answer to a read
 * that finds nothing in pre-copy, and with reads and writes that are as short
 * as a driver likes, migrate a large state by every pair of calls; a truncated
 * stream is stopped by finish even where the driver takes it (F7); a slow
 * transition is waited for, and other calls meanwhile get an error (F1-F3, V2-1).
 *
 * usage: k-v2-driver group|cdev
 */
#include "testdev.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

static void pair(const char *config, enum way only)
{
	struct testdev from, to;

	lab_step("%s", config);
	testdev_open(&from, 1, config, 0);
	testdev_open(&to, 2, config, 0);
	for (int way = 0; way < WAYS; way++) {
		if (only != WAYS && only != (enum way)way)
			continue;
		lab_step("%s, %s", config, way_names[way]);
		migrate(&from, &to, (enum way)way);
	}
	testdev_close(&from);
	testdev_close(&to);
}

static void capability_sets(void)
{
	char config[128];

	for (int bits = 0; bits < 8; bits++) {
		snprintf(config, sizeof(config), "dialect=v2 p2p=%d precopy=%d enomsg=%d", bits & 1,
			 bits >> 1 & 1, bits >> 2);
		pair(config, WAYS);
	}
}

/* Capability sets are no matter of the pair: the stream is the same. */
static void short_transfers(void)
{
	pair("dialect=v2 short_io=1 state=8K segment=1K", WAYS);
	pair("dialect=v2 short_io=23 state=64K segment=8K enomsg=0", WAYS);
	pair("dialect=v2 short_io=4097 state=1000004 segment=3K", WAYS);
	pair("dialect=v2 precopy_share=50", WAYS);
	pair("dialect=v2 precopy_share=0", WAYS);
	pair("dialect=v2 state=16M", WAYS);
	pair("dialect=v2 state=16M segment=5M short_io=100000", LEND);
}

/* ---- truncated streams ------------------------------------------------------- */

#define MISSING 4 /* a word, which differs in the two devices for certain */

static void truncated(const char *config, bool lax)
{
	static unsigned char buf[1 << 20];
	struct testdev from, to;
	uint32_t flags = 0;
	uint64_t total, loaded = 0;
	size_t last = 0;
	int64_t got;

	lab_step("%s: the last word is missing", config);
	testdev_open(&from, 1, config, 0);
	testdev_open(&to, 2, config, 0);
	fill_both(&from, &to);
	GO(to.d, VFIOMIG_STATE_RESUMING);
	GO(from.d, VFIOMIG_STATE_STOP_COPY);
	/* All but the last word, which stays in the buffer. */
	while ((got = vfiomig_device_read(from.d, buf + last, sizeof(buf) - last, &flags, ERR)) > 0) {
		last += (size_t)got;
		CHECK(last > MISSING);
		last -= MISSING;
		OK_BYTES(vfiomig_device_write(to.d, buf, last, 0, ERR), (int64_t)last);
		loaded += last;
		memmove(buf, buf + last, MISSING);
		last = MISSING;
	}
	OK(got);
	CHECK_EQ(flags, VFIOMIG_CHUNK_END);
	total = lab_info(from.d).saved_bytes;
	GO(from.d, VFIOMIG_STATE_STOP);
	CHECK_EQ(loaded, total - MISSING);

	REFUSED(to.d, VFIOMIG_STATE_STOP, 0);
	FAILS(vfiomig_device_finish(to.d, total, ERR), INCOMPLETE, 0);
	REFUSED(to.d, VFIOMIG_STATE_STOP, 0);
	REFUSED(to.d, VFIOMIG_STATE_RUNNING, VFIOMIG_SET_STATE_F_RAW);
	STATE_IS(&to, VFIOMIG_STATE_RESUMING);
	/* Nothing reached the driver that it could have judged, or taken. */
	CLEAN(&to);

	if (lax) {
		/* The caller's word: such a driver believes it, and the state is wrong. */
		OK(vfiomig_device_finish(to.d, VFIOMIG_UNKNOWN, ERR));
		GO(to.d, VFIOMIG_STATE_RUNNING);
		CHECK(testdev_get(&to, TESTDEV_CRC) != testdev_get(&from, TESTDEV_CRC_NOW));
	} else {
		OK(vfiomig_device_finish(to.d, VFIOMIG_UNKNOWN, ERR));
		FAILS(vfiomig_device_set_state(to.d, VFIOMIG_STATE_STOP, VFIOMIG_ON_FAILURE_KEEP, 0,
					       ERR),
		      DEVICE, EINVAL);
		RESULT_IS(VFIOMIG_STATE_RESUMING, VFIOMIG_ACTION_NONE);
		VIOLATED(&to, "INCOMPLETE");
		OK(vfiomig_device_reset(to.d, ERR));
	}
	GO(from.d, VFIOMIG_STATE_RUNNING);
	testdev_close(&from);
	testdev_close(&to);
}

/* The missing byte may still come. */
static void completed_late(void)
{
	static unsigned char buf[1 << 20];
	struct testdev from, to;
	uint32_t flags = 0;
	size_t have = 0;
	int64_t got;

	lab_step("the rest of a stream comes after a first finish");
	testdev_open(&from, 1, "dialect=v2 state=64K segment=8K", 0);
	testdev_open(&to, 2, "dialect=v2 state=64K segment=8K", 0);
	fill_both(&from, &to);
	GO(to.d, VFIOMIG_STATE_RESUMING);
	GO(from.d, VFIOMIG_STATE_STOP_COPY);
	while ((got = vfiomig_device_read(from.d, buf + have, sizeof(buf) - have, &flags, ERR)) > 0)
		have += (size_t)got;
	OK(got);
	GO(from.d, VFIOMIG_STATE_STOP);
	OK_BYTES(vfiomig_device_write(to.d, buf, have - 1, 0, ERR), (int64_t)have - 1);
	FAILS(vfiomig_device_finish(to.d, have, ERR), INCOMPLETE, 0);
	OK_BYTES(vfiomig_device_write(to.d, buf + have - 1, 1, 0, ERR), 1);
	finish_load(&from, &to);
	CHECK_EQ(testdev_get(&to, TESTDEV_CRC), testdev_get(&from, TESTDEV_CRC_NOW));

	lab_step("a byte of a stream is wrong");
	buf[have / 2] ^= 1;
	GO(to.d, VFIOMIG_STATE_RESUMING);
	FAILS(vfiomig_device_write(to.d, buf, have, 0, ERR), DEVICE, EINVAL);
	RESULT_IS(VFIOMIG_STATE_RESUMING, VFIOMIG_ACTION_NONE);
	FAILS(vfiomig_device_write(to.d, buf, 1, 0, ERR), STALE, ESTALE);
	FAILS(vfiomig_device_finish(to.d, have, ERR), STALE, ESTALE);
	REFUSED(to.d, VFIOMIG_STATE_STOP, 0);
	STATE_IS(&to, VFIOMIG_STATE_RESUMING);
	OK(vfiomig_device_reset(to.d, ERR));
	STATE_IS(&to, VFIOMIG_STATE_RUNNING);
	VIOLATED(&to, "FRAME");
	GO(from.d, VFIOMIG_STATE_RUNNING);
	testdev_close(&from);
	testdev_close(&to);
}

/* ---- slow transitions ------------------------------------------------------------ */

#define DELAY_MS 400

static struct testdev slow;
static atomic_bool changing;

static uint64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static void *change(void *unused)
{
	(void)unused;
	atomic_store(&changing, true);
	if (vfiomig_device_set_state(slow.d, VFIOMIG_STATE_STOP_COPY, VFIOMIG_ON_FAILURE_KEEP, 0, NULL))
		lab_fail(__FILE__, __LINE__, "the slow transition failed");
	return NULL;
}

/*
 * While one thread is in a transition, calls of another thread that need the
 * device wait for it, and those that do not are answered at once.
 */
static void slow_transition(const char *config)
{
	const struct timespec pause = { .tv_nsec = DELAY_MS / 4 * 1000000 };
	unsigned char buf[16];
	uint32_t flags = 0;
	uint64_t begin;
	pthread_t thread;

	lab_step("%s: a slow transition", config);
	testdev_open(&slow, 1, config, 0);
	GO(slow.d, VFIOMIG_STATE_PRE_COPY);
	CHECK(vfiomig_device_read(slow.d, buf, sizeof(buf), &flags, ERR) > 0);
	testdev_config(&slow, "delay_ms=%d", DELAY_MS);

	atomic_store(&changing, false);
	begin = now_ms();
	CHECK_EQ(pthread_create(&thread, NULL, change, NULL), 0);
	while (!atomic_load(&changing))
		nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
	nanosleep(&pause, NULL);
	lab_pending(slow.d, 0);
	CHECK_EQ(lab_info(slow.d).state, VFIOMIG_STATE_PRE_COPY);
	/* All this in the middle of it. */
	CHECK(now_ms() - begin < DELAY_MS);
	SYSFS_IS(&slow, VFIOMIG_STATE_PRE_COPY);
	CHECK(vfiomig_device_read(slow.d, buf, sizeof(buf), &flags, ERR) > 0);
	CHECK(now_ms() - begin >= DELAY_MS);

	CHECK_EQ(pthread_join(thread, NULL), 0);
	STATE_IS(&slow, VFIOMIG_STATE_STOP_COPY);
	CHECK(vfiomig_device_read(slow.d, buf, sizeof(buf), &flags, ERR) > 0);
	testdev_config(&slow, "delay_ms=0");
	GO(slow.d, VFIOMIG_STATE_RUNNING);
	testdev_close(&slow);
}

int main(int argc, char **argv)
{
	testdev_begin(argc, argv);
	capability_sets();
	short_transfers();
	truncated("dialect=v2 lax_load=1", true);
	truncated("dialect=v2 lax_load=0", false);
	completed_late();
	slow_transition("dialect=v2");
	slow_transition("dialect=v2 p2p=0");
	/* One write of device_state is no different. */
	slow_transition("dialect=v1");
	puts("ok");
	return 0;
}
