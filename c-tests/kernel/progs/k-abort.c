/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Promise: a migration can be given up in every state; the device runs again,
 * what was sent of its stream is void and never continued by another session,
 * and the next migration works.
 *
 * usage: k-abort group|cdev
 */
#include "lab.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define TAKEN 10 /* bytes that were on the wire when the save was given up */

static struct vfiomig_device *source, *target;
static struct lab_device source_device, target_device;
static unsigned char stream[MTTY_MAX];
static unsigned int seed = 1;

/* Every save call says that the stream is void. */
static void save_calls_are_stale(void)
{
	unsigned char buf[MTTY_MAX];
	struct vfiomig_chunk chunk;
	uint32_t flags = 0;
	int null = open("/dev/null", O_WRONLY | O_CLOEXEC);

	CHECK(null >= 0);
	FAILS(vfiomig_device_read(source, buf, sizeof(buf), &flags, ERR), STALE, ESTALE);
	FAILS(vfiomig_device_peek(source, 0, &chunk, ERR), STALE, ESTALE);
	FAILS(vfiomig_device_consume(source, 1, ERR), STALE, ESTALE);
	FAILS(vfiomig_device_send(source, null, 0, &flags, ERR), STALE, ESTALE);
	close(null);
}

static void full_migration(void)
{
	size_t length;

	lab_step("the next migration, number %u", ++seed);
	uart_fill(&source_device, 2, seed);
	uart_fill(&target_device, 2, seed + 1000);
	GO(source, VFIOMIG_STATE_PRE_COPY);
	length = stream_read(source, VFIOMIG_CHUNK_EMPTY, stream, 0);
	CHECK_EQ(length, MTTY_HEADER);
	GO(source, VFIOMIG_STATE_STOP_COPY);
	length = stream_read(source, VFIOMIG_CHUNK_END, stream, length);
	CHECK_EQ(length, MTTY_MAX);
	GO(source, VFIOMIG_STATE_STOP);
	stream_load(&target_device, target, stream, length);
	CHECK(uart_holds(&target_device, 2, seed));
	GO(source, VFIOMIG_STATE_RUNNING);
}

static void is_home(const struct lab_device *device, const struct vfiomig_device *d)
{
	struct vfiomig_device_info info = lab_info(d);

	RAW_IS(device, VFIOMIG_STATE_RUNNING);
	CHECK_EQ(info.state, VFIOMIG_STATE_RUNNING);
	CHECK_EQ(info.session_open, 0);
}

/* Gives up a save in `state` with a part of its stream taken; `way` is the first state on the way home. */
static void abort_save(uint32_t state, uint32_t way)
{
	unsigned char buf[TAKEN];
	uint32_t flags = 0;

	lab_step("a save is given up in %s by way of %s", vfiomig_state_name(state),
		 vfiomig_state_name(way));
	uart_fill(&source_device, 2, ++seed);
	lab_go_from_running(&source_device, source, state);
	OK_BYTES(vfiomig_device_read(source, buf, sizeof(buf), &flags, ERR), TAKEN);
	GO(source, way);
	RAW_IS(&source_device, way);
	GO(source, VFIOMIG_STATE_RUNNING);
	is_home(&source_device, source);
	save_calls_are_stale();

	/* The guest runs on with what it had. */
	CHECK(uart_holds(&source_device, 2, seed));

	/* A second session is never appended to what was sent of the first one. */
	GO(source, VFIOMIG_STATE_PRE_COPY);
	CHECK_EQ(lab_info(source).session_open, 1);
	save_calls_are_stale();
	GO(source, VFIOMIG_STATE_STOP_COPY);
	save_calls_are_stale();
	GO(source, VFIOMIG_STATE_RUNNING);
	save_calls_are_stale();

	OK(vfiomig_device_restart_stream(source, ERR));
	full_migration();
}

/* restart_stream may also come when the new session is open already. */
static void start_in_session(void)
{
	unsigned char buf[TAKEN];
	uint32_t flags = 0;

	lab_step("restart_stream in the new session");
	GO(source, VFIOMIG_STATE_PRE_COPY);
	OK_BYTES(vfiomig_device_read(source, buf, sizeof(buf), &flags, ERR), TAKEN);
	/* Its stream has begun: it cannot begin from nothing. */
	FAILS(vfiomig_device_restart_stream(source, ERR), ORDER, 0);
	GO(source, VFIOMIG_STATE_RUNNING);
	GO(source, VFIOMIG_STATE_STOP_COPY);
	save_calls_are_stale();
	OK(vfiomig_device_restart_stream(source, ERR));
	CHECK_EQ(stream_read(source, VFIOMIG_CHUNK_END, stream, 0), MTTY_MAX);
	GO(source, VFIOMIG_STATE_STOP);
	GO(source, VFIOMIG_STATE_RUNNING);
	full_migration();
}

/* The bytes of a chunk that is out stay readable; giving it back is refused. */
static void abort_with_chunk(uint32_t state)
{
	unsigned char copy[MTTY_MAX];
	struct vfiomig_chunk chunk;

	lab_step("given up in %s with a chunk out", vfiomig_state_name(state));
	lab_go_from_running(&source_device, source, state);
	OK(vfiomig_device_peek(source, 0, &chunk, ERR));
	CHECK(chunk.len >= MTTY_HEADER && chunk.len <= sizeof(copy));
	memcpy(copy, chunk.data, chunk.len);
	GO(source, VFIOMIG_STATE_RUNNING);
	is_home(&source_device, source);
	CHECK(!memcmp(copy, chunk.data, chunk.len));
	FAILS(vfiomig_device_consume(source, chunk.len, ERR), STALE, ESTALE);
	CHECK(!memcmp(copy, chunk.data, chunk.len));
	/* What was lent may be on the wire. */
	save_calls_are_stale();
	OK(vfiomig_device_restart_stream(source, ERR));
	full_migration();
}

/*
 * A stream that was saved to its END is whole, and STOP is where it ends. Let run from there, the device is
 * another one.
 */
static void after_end(void)
{
	lab_step("given up after END");
	GO(source, VFIOMIG_STATE_STOP_COPY);
	CHECK_EQ(stream_read(source, VFIOMIG_CHUNK_END, stream, 0), MTTY_MAX);
	GO(source, VFIOMIG_STATE_STOP);
	GO(source, VFIOMIG_STATE_RUNNING);
	is_home(&source_device, source);
	full_migration();
	GO(source, VFIOMIG_STATE_STOP_COPY);
	CHECK_EQ(stream_read(source, VFIOMIG_CHUNK_END, stream, 0), MTTY_MAX);
	GO(source, VFIOMIG_STATE_RUNNING_P2P);
	GO(source, VFIOMIG_STATE_RUNNING);
	is_home(&source_device, source);
	save_calls_are_stale();
	OK(vfiomig_device_restart_stream(source, ERR));
	full_migration();
}

/* V2-9: a load is given up by a reset, whether none, some or all of the stream was written. */
static void abort_load(size_t written, bool finish)
{
	lab_step("a load is given up after %zu bytes%s", written, finish ? " and finish" : "");
	GO(target, VFIOMIG_STATE_RESUMING);
	if (written)
		OK_BYTES(vfiomig_device_write(target, stream, written, 0, ERR), (int64_t)written);
	if (finish)
		OK(vfiomig_device_finish(target, written, ERR));
	else
		REFUSED(target, VFIOMIG_STATE_RUNNING, 0);
	OK(vfiomig_device_reset(target, ERR));
	is_home(&target_device, target);
	CHECK(vfiomig_device_write(target, stream, MTTY_MAX, 0, ERR) < 0);
	CHECK(vfiomig_device_finish(target, MTTY_MAX, ERR) < 0);
	is_home(&target_device, target);
	full_migration();
}

/* LOADED is STOP: the device holds the new state, and may run or be reset. */
static void abort_loaded(bool reset)
{
	lab_step("given up when loaded, by %s", reset ? "reset" : "RUNNING");
	GO(target, VFIOMIG_STATE_RESUMING);
	OK_BYTES(vfiomig_device_write(target, stream, MTTY_MAX, 0, ERR), MTTY_MAX);
	OK(vfiomig_device_finish(target, MTTY_MAX, ERR));
	GO(target, VFIOMIG_STATE_STOP);
	if (reset)
		OK(vfiomig_device_reset(target, ERR));
	else
		GO(target, VFIOMIG_STATE_RUNNING);
	is_home(&target_device, target);
	full_migration();
}

int main(int argc, char **argv)
{
	lab_begin(argc, argv);
	lab_open_mdev(&source_device, 1);
	lab_open_mdev(&target_device, 2);
	source = lab_new(&source_device);
	target = lab_new(&target_device);

	full_migration();
	abort_save(VFIOMIG_STATE_PRE_COPY, VFIOMIG_STATE_RUNNING);
	abort_save(VFIOMIG_STATE_PRE_COPY_P2P, VFIOMIG_STATE_RUNNING_P2P);
	abort_save(VFIOMIG_STATE_PRE_COPY_P2P, VFIOMIG_STATE_RUNNING);
	abort_save(VFIOMIG_STATE_STOP_COPY, VFIOMIG_STATE_RUNNING_P2P);
	abort_save(VFIOMIG_STATE_STOP_COPY, VFIOMIG_STATE_STOP);
	start_in_session();
	abort_with_chunk(VFIOMIG_STATE_PRE_COPY);
	abort_with_chunk(VFIOMIG_STATE_PRE_COPY_P2P);
	abort_with_chunk(VFIOMIG_STATE_STOP_COPY);
	after_end();
	abort_load(0, false);
	abort_load(30, false);
	abort_load(MTTY_MAX, false);
	abort_load(MTTY_MAX, true);
	abort_loaded(false);
	abort_loaded(true);

	vfiomig_device_free(source);
	vfiomig_device_free(target);
	lab_close(&source_device);
	lab_close(&target_device);
	puts("ok");
	return 0;
}
