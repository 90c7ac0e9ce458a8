/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Promise: a migration of a device with a region can be given up in every
 * state, between segments and in the middle of one, with a chunk or room out;
 * the device runs on, what was sent is void until restart_stream says that the
 * caller threw it away, and the next migration is whole (V1-6, V1-10, V2-9).
 *
 * usage: k-region-abort group|cdev
 */
#include "testdev.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static struct testdev source, target;
static const char *what;

enum taken { NOTHING, PART, SEGMENTS, MORE_THAN_SEGMENTS, CHUNK_OUT, CHUNK_OUT_LATER, TAKEN };
static const char *const taken_names[TAKEN] = {
	"nothing", "a part of a segment", "two segments", "two segments and a part",
	"a chunk", "two segments and a chunk",
};

static void take_bytes(size_t length)
{
	unsigned char buf[1000];
	uint32_t flags = 0;

	CHECK(length <= sizeof(buf));
	OK_BYTES(vfiomig_device_read(source.d, buf, length, &flags, ERR), (int64_t)length);
	CHECK_EQ(flags, 0);
}

static void take_segments(unsigned int count)
{
	unsigned char buf[4096];

	while (count > 0) {
		uint32_t flags = 0;

		CHECK(vfiomig_device_read(source.d, buf, sizeof(buf), &flags, ERR) > 0);
		count -= !!(flags & VFIOMIG_CHUNK_SEGMENT_END);
	}
}

/* Takes that much of the stream; the chunk that is out, or an empty one. */
static struct vfiomig_chunk take(enum taken taken)
{
	struct vfiomig_chunk chunk = { 0 };

	if (taken == SEGMENTS || taken == MORE_THAN_SEGMENTS || taken == CHUNK_OUT_LATER)
		take_segments(2);
	if (taken == PART || taken == MORE_THAN_SEGMENTS)
		take_bytes(777);
	if (taken == CHUNK_OUT || taken == CHUNK_OUT_LATER) {
		OK(vfiomig_device_peek(source.d, 0, &chunk, ERR));
		CHECK(chunk.len > 0);
	}
	return chunk;
}

/* Every byte can be read, whatever it is now: the device may have taken its memory back. */
static void is_readable(const struct vfiomig_chunk *chunk)
{
	const volatile unsigned char *byte = chunk->data;

	for (size_t i = 0; i < chunk->len; i++)
		(void)byte[i];
}

static void next_migration(enum way way)
{
	lab_step("%s, then a migration", what);
	migrate(&source, &target, way);
}

static void abort_save(uint32_t state, uint32_t way_home, enum taken taken)
{
	static unsigned int turn;
	struct vfiomig_chunk chunk;
	uint32_t crc;
	char text[256];

	snprintf(text, sizeof(text), "device %d given up in %s by %s, taken: %s", source.number,
		 vfiomig_state_name(state), vfiomig_state_name(way_home), taken_names[taken]);
	what = text;
	lab_step("%s", what);
	crc = testdev_get(&source, TESTDEV_CRC);
	testdev_go(&source, state);
	chunk = take(taken);
	GO(source.d, way_home);
	STATE_IS(&source, way_home);
	GO(source.d, VFIOMIG_STATE_RUNNING);
	STATE_IS(&source, VFIOMIG_STATE_RUNNING);
	CHECK_EQ(lab_info(source.d).session_open, 0);
	CHECK_EQ(testdev_get(&source, TESTDEV_CRC), crc);

	if (taken != NOTHING) {
		is_readable(&chunk);
		if (chunk.len)
			FAILS(vfiomig_device_consume(source.d, chunk.len, ERR), STALE, ESTALE);
		save_is_stale(&source);
		/* A second session is never glued to what was sent of the first one. */
		GO(source.d, VFIOMIG_STATE_PRE_COPY);
		save_is_stale(&source);
		GO(source.d, VFIOMIG_STATE_STOP_COPY);
		save_is_stale(&source);
		GO(source.d, VFIOMIG_STATE_RUNNING);
		save_is_stale(&source);
		OK(vfiomig_device_restart_stream(source.d, ERR));
	}
	CLEAN(&source);
	next_migration((enum way)(turn++ % WAYS));
}

static void abort_saves(void)
{
	const uint32_t running = VFIOMIG_STATE_RUNNING, p2p = VFIOMIG_STATE_RUNNING_P2P;

	for (int taken = NOTHING; taken < TAKEN; taken++) {
		abort_save(VFIOMIG_STATE_PRE_COPY, running, (enum taken)taken);
		abort_save(VFIOMIG_STATE_STOP_COPY, running, (enum taken)taken);
		if (!source.p2p)
			continue;
		abort_save(VFIOMIG_STATE_PRE_COPY_P2P, running, (enum taken)taken);
		abort_save(VFIOMIG_STATE_PRE_COPY_P2P, p2p, (enum taken)taken);
		abort_save(VFIOMIG_STATE_STOP_COPY, p2p, (enum taken)taken);
	}
}

/* A stream that has its END is whole: nothing is void. */
static void after_end(void)
{
	what = "given up after END";
	lab_step("%s", what);
	fill_both(&source, &target);
	GO(target.d, VFIOMIG_STATE_RESUMING);
	save_to_end(&source, &target, LEND);
	GO(source.d, VFIOMIG_STATE_RUNNING);
	OK(vfiomig_device_reset(target.d, ERR));
	next_migration(COPY);
}

/* A chunk that is out stays valid from PRE_COPY into STOP_COPY, and is a part of the stream. */
static void chunk_across_states(void)
{
	struct traffic traffic = { .most = 2 };
	struct vfiomig_chunk chunk;
	size_t room = 0;
	void *at = NULL;

	lab_step("a chunk out from PRE_COPY into STOP_COPY");
	fill_both(&source, &target);
	GO(target.d, VFIOMIG_STATE_RESUMING);
	GO(source.d, VFIOMIG_STATE_PRE_COPY);
	CHECK_EQ(pump(&source, &target, COPY, &traffic), 0);
	OK(vfiomig_device_peek(source.d, 100, &chunk, ERR));
	if (source.p2p)
		GO(source.d, VFIOMIG_STATE_PRE_COPY_P2P);
	GO(source.d, VFIOMIG_STATE_STOP_COPY);
	OK(vfiomig_device_reserve(target.d, chunk.segment_left, &at, &room, ERR));
	CHECK(room >= 100);
	memcpy(at, chunk.data, 100);
	OK(vfiomig_device_commit(target.d, 100, 0, ERR));
	OK(vfiomig_device_consume(source.d, 100, ERR));
	traffic.most = 0;
	CHECK_EQ(pump(&source, &target, LEND, &traffic), VFIOMIG_CHUNK_END);
	CHECK_EQ(traffic.segments, testdev_segments(&source));
	GO(source.d, VFIOMIG_STATE_STOP);
	finish_load(&source, &target);
	CHECK_EQ(testdev_get(&target, TESTDEV_CRC), testdev_get(&source, TESTDEV_CRC_NOW));
	GO(source.d, VFIOMIG_STATE_RUNNING);
}

/* ---- the other side ------------------------------------------------------------ */

/* Loads are given up by a reset (V2-9), after any number of segments, and with room out. */
static void abort_load(unsigned int segments, bool part, bool room_out)
{
	struct traffic traffic = { .most = segments };
	unsigned char buf[100];
	uint32_t flags = 0;
	size_t room = 0;
	void *at = NULL;

	lab_step("a load is given up after %u segments%s%s", segments, part ? " and a part" : "",
		 room_out ? ", with room out" : "");
	GO(target.d, VFIOMIG_STATE_RESUMING);
	GO(source.d, VFIOMIG_STATE_STOP_COPY);
	if (segments)
		CHECK_EQ(pump(&source, &target, COPY, &traffic), 0);
	if (part) {
		OK_BYTES(vfiomig_device_read(source.d, buf, sizeof(buf), &flags, ERR), sizeof(buf));
		OK_BYTES(vfiomig_device_write(target.d, buf, sizeof(buf), 0, ERR), sizeof(buf));
	}
	if (room_out)
		OK(vfiomig_device_reserve(target.d, target.segment - (part ? sizeof(buf) : 0), &at,
					  &room, ERR));
	REFUSED(target.d, VFIOMIG_STATE_RUNNING, 0);
	OK(vfiomig_device_reset(target.d, ERR));
	STATE_IS(&target, VFIOMIG_STATE_RUNNING);
	if (room_out)
		FAILS(vfiomig_device_commit(target.d, room, 0, ERR), STALE, ESTALE);
	CHECK(vfiomig_device_write(target.d, buf, sizeof(buf), 0, ERR) < 0);
	CHECK(vfiomig_device_finish(target.d, VFIOMIG_UNKNOWN, ERR) < 0);
	GO(source.d, VFIOMIG_STATE_RUNNING);
	if (segments || part)
		OK(vfiomig_device_restart_stream(source.d, ERR));
	CLEAN(&source);
	CLEAN(&target);
}

static void abort_loads(void)
{
	for (unsigned int segments = 0; segments < 6; segments += 5) {
		abort_load(segments, false, false);
		abort_load(segments, true, false);
		abort_load(segments, false, true);
		abort_load(segments, true, true);
	}
	what = "loads given up";
	next_migration(SOCKET);
}

static void all_of(const char *kind, const char *window)
{
	char config[128];

	snprintf(config, sizeof(config), "%s state=64K segment=8K %s", kind, window);
	lab_step("%s", config);
	testdev_open(&source, 1, config, 0);
	testdev_open(&target, 2, config, 0);
	fill_both(&source, &target);
	abort_saves();
	after_end();
	chunk_across_states();
	abort_loads();
	testdev_close(&source);
	testdev_close(&target);
}

int main(int argc, char **argv)
{
	testdev_begin(argc, argv);
	for (int i = 0; i < TESTDEV_REGION_KINDS; i++) {
		all_of(testdev_region_kinds[i], "window=trapped");
		all_of(testdev_region_kinds[i], "window=one");
		all_of(testdev_region_kinds[i], "window=two skew=12");
	}
	puts("ok");
	return 0;
}
