/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Promise: a reset brings the device from every state to RUNNING and ends its
 * session; a reset or another change that others made behind the library's
 * back is noticed before the next request, and never mistaken for the end of a
 * stream (V2-3, V2-10, P3).
 *
 * usage: k-reset group|cdev
 */
#include "lab.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static struct lab_device device;
static struct vfiomig_device *d;
static unsigned char stream[MTTY_MAX];

static void is_home(void)
{
	struct vfiomig_device_info info = lab_info(d);

	RAW_IS(&device, VFIOMIG_STATE_RUNNING);
	CHECK_EQ(info.state, VFIOMIG_STATE_RUNNING);
	CHECK_EQ(vfiomig_device_get_state(d), VFIOMIG_STATE_RUNNING);
	CHECK_EQ(info.session_open, 0);
}

/* A save of the device works, from nothing. */
static void works(void)
{
	unsigned char buf[MTTY_MAX];

	OK(vfiomig_device_restart_stream(d, ERR));
	CHECK_EQ(stream_save(&device, d, buf), MTTY_MAX);
	is_home();
}

static void from_state(uint32_t state)
{
	const uint64_t fds = (uint64_t)lab_count_fds();

	lab_step("reset from %s", vfiomig_state_name(state));
	lab_go_from_running(&device, d, state);
	OK(vfiomig_device_reset(d, ERR));
	is_home();
	CHECK_EQ(lab_count_fds(), fds);
	works();
}

static void with_chunk_out(uint32_t state)
{
	unsigned char copy[MTTY_MAX], buf[MTTY_MAX];
	struct vfiomig_chunk chunk;
	uint32_t flags = 0;

	lab_step("reset from %s with a chunk out", vfiomig_state_name(state));
	lab_go_from_running(&device, d, state);
	OK(vfiomig_device_peek(d, 0, &chunk, ERR));
	CHECK(chunk.len >= MTTY_HEADER && chunk.len <= sizeof(copy));
	memcpy(copy, chunk.data, chunk.len);
	OK(vfiomig_device_reset(d, ERR));
	is_home();
	CHECK(!memcmp(copy, chunk.data, chunk.len));
	FAILS(vfiomig_device_consume(d, 1, ERR), STALE, ESTALE);
	FAILS(vfiomig_device_read(d, buf, sizeof(buf), &flags, ERR), STALE, ESTALE);
	works();
}

static void with_room_out(void)
{
	void *room = NULL;
	size_t length = 0;

	lab_step("reset from RESUMING with room out");
	lab_go_from_running(&device, d, VFIOMIG_STATE_RESUMING);
	OK(vfiomig_device_reserve(d, VFIOMIG_UNKNOWN, &room, &length, ERR));
	memset(room, 0x5a, length);
	OK(vfiomig_device_reset(d, ERR));
	is_home();
	memset(room, 0xa5, length); /* the memory is still there */
	FAILS(vfiomig_device_commit(d, 1, 0, ERR), STALE, ESTALE);
	works();
}

/* The next request is not made, and says what was found; the one after it is. */
static void behind_the_back(uint32_t state)
{
	lab_step("reset by others in %s, then set_state", vfiomig_state_name(state));
	lab_go_from_running(&device, d, state);
	CHECK_EQ(raw_reset(&device), 0);
	FAILS(vfiomig_device_set_state(d, VFIOMIG_STATE_STOP, VFIOMIG_ON_FAILURE_KEEP,
				       VFIOMIG_SET_STATE_F_RAW, ERR),
	      STALE, ESTALE);
	is_home();
	GO(d, VFIOMIG_STATE_STOP);
	RAW_IS(&device, VFIOMIG_STATE_STOP);
	GO(d, VFIOMIG_STATE_RUNNING);

	lab_step("reset by others in %s, then reprobe", vfiomig_state_name(state));
	lab_go_from_running(&device, d, state);
	CHECK_EQ(raw_reset(&device), 0);
	OK(vfiomig_device_reprobe(d, ERR));
	is_home();
	works();

	/* A policy for failures is none for changes by others: nothing was requested. */
	lab_step("reset by others in %s, on_failure RESET", vfiomig_state_name(state));
	lab_go_from_running(&device, d, state);
	CHECK_EQ(raw_reset(&device), 0);
	CHECK_EQ(raw_set_state(&device, VFIOMIG_STATE_RUNNING_P2P, NULL), 0);
	if (state != VFIOMIG_STATE_RUNNING_P2P) {
		FAILS(vfiomig_device_set_state(d, VFIOMIG_STATE_RUNNING, VFIOMIG_ON_FAILURE_RESET,
					       VFIOMIG_SET_STATE_F_RAW, ERR),
		      STALE, ESTALE);
		RAW_IS(&device, VFIOMIG_STATE_RUNNING_P2P);
		CHECK_EQ(vfiomig_device_get_state(d), VFIOMIG_STATE_RUNNING_P2P);
	}
	GO(d, VFIOMIG_STATE_RUNNING);
}

/* Moved by others without a reset: the same. */
static void moved_by_others(void)
{
	lab_step("stopped by others");
	CHECK_EQ(raw_set_state(&device, VFIOMIG_STATE_STOP, NULL), 0);
	FAILS(vfiomig_device_set_state(d, VFIOMIG_STATE_PRE_COPY, VFIOMIG_ON_FAILURE_KEEP, 0, ERR),
	      STALE, ESTALE);
	RAW_IS(&device, VFIOMIG_STATE_STOP);
	CHECK_EQ(vfiomig_device_get_state(d), VFIOMIG_STATE_STOP);
	GO(d, VFIOMIG_STATE_RUNNING);
}

/* The data fd is dead: the read fails with the kernel's ENODEV, and the state is read, not assumed. */
static void dead_data_fd(uint32_t state, size_t taken)
{
	unsigned char buf[MTTY_MAX];
	struct vfiomig_chunk chunk;
	uint32_t flags = 0;

	lab_step("reset by others in %s after %zu bytes, then read", vfiomig_state_name(state), taken);
	lab_go_from_running(&device, d, state);
	if (taken)
		OK_BYTES(vfiomig_device_read(d, buf, taken, &flags, ERR), (int64_t)taken);
	CHECK_EQ(raw_reset(&device), 0);
	/* What the library holds already may still come; the end may not. */
	for (;;) {
		int64_t got = vfiomig_device_read(d, buf, sizeof(buf), &flags, ERR);

		if (got < 0)
			break;
		CHECK(got > 0);
	}
	CHECK_EQ(vfiomig_error_code(lab_error()), VFIOMIG_ERR_DEVICE);
	CHECK_EQ(vfiomig_error_errno(lab_error()), ENODEV);
	RESULT_IS(VFIOMIG_STATE_RUNNING, VFIOMIG_ACTION_NONE);
	CHECK_EQ(vfiomig_error_result(lab_error(), 0)->saved_errno, ENODEV);
	is_home();
	if (taken) {
		FAILS(vfiomig_device_read(d, buf, sizeof(buf), &flags, ERR), STALE, ESTALE);
		FAILS(vfiomig_device_peek(d, 0, &chunk, ERR), STALE, ESTALE);
	} else {
		CHECK(vfiomig_device_read(d, buf, sizeof(buf), &flags, ERR) < 0);
	}
	works();
}

/* Others reset the device and brought it back to the same state: the old data fd is dead all the same. */
static void same_state_other_session(void)
{
	unsigned char buf[MTTY_MAX];
	uint32_t flags = 0;
	int64_t got;

	lab_step("another session of others in PRE_COPY");
	lab_go_from_running(&device, d, VFIOMIG_STATE_PRE_COPY);
	CHECK_EQ(raw_reset(&device), 0);
	CHECK_EQ(raw_set_state(&device, VFIOMIG_STATE_PRE_COPY, NULL), 0);
	got = vfiomig_device_set_state(d, VFIOMIG_STATE_STOP_COPY, VFIOMIG_ON_FAILURE_KEEP, 0, ERR);
	CHECK(got <= 0);
	got = vfiomig_device_read(d, buf, sizeof(buf), &flags, ERR);
	/* Neither bytes nor an end. */
	CHECK(got < 0);
	OK(vfiomig_device_reset(d, ERR));
	works();
}

static void dead_load_fd(void)
{
	lab_step("reset by others in RESUMING, then write");
	lab_go_from_running(&device, d, VFIOMIG_STATE_RESUMING);
	OK_BYTES(vfiomig_device_write(d, stream, 30, 0, ERR), 30);
	CHECK_EQ(raw_reset(&device), 0);
	FAILS(vfiomig_device_write(d, stream + 30, MTTY_MAX - 30, 0, ERR), DEVICE, ENODEV);
	RESULT_IS(VFIOMIG_STATE_RUNNING, VFIOMIG_ACTION_NONE);
	is_home();

	/* A device that was reset must not be taken for one that was loaded. */
	lab_step("reset by others after finish");
	lab_go_from_running(&device, d, VFIOMIG_STATE_RESUMING);
	OK_BYTES(vfiomig_device_write(d, stream, MTTY_MAX, 0, ERR), MTTY_MAX);
	OK(vfiomig_device_finish(d, MTTY_MAX, ERR));
	CHECK_EQ(raw_reset(&device), 0);
	FAILS(vfiomig_device_set_state(d, VFIOMIG_STATE_RUNNING, VFIOMIG_ON_FAILURE_KEEP, 0, ERR),
	      STALE, ESTALE);
	is_home();
	works();
}

int main(int argc, char **argv)
{
	lab_begin(argc, argv);
	lab_open_mdev(&device, 1);
	d = lab_new(&device);
	lab_step("a stream for RESUMING");
	uart_fill(&device, 2, 3);
	CHECK_EQ(stream_save(&device, d, stream), MTTY_MAX);

	for (uint32_t state = VFIOMIG_STATE_STOP; state <= VFIOMIG_STATE_PRE_COPY_P2P; state++) {
		from_state(state);
		if (state != VFIOMIG_STATE_RUNNING)
			behind_the_back(state);
	}
	with_chunk_out(VFIOMIG_STATE_PRE_COPY);
	with_chunk_out(VFIOMIG_STATE_PRE_COPY_P2P);
	with_chunk_out(VFIOMIG_STATE_STOP_COPY);
	with_room_out();
	moved_by_others();
	for (size_t taken = 0; taken <= 10; taken += 10) {
		dead_data_fd(VFIOMIG_STATE_PRE_COPY, taken);
		dead_data_fd(VFIOMIG_STATE_PRE_COPY_P2P, taken);
		dead_data_fd(VFIOMIG_STATE_STOP_COPY, taken);
	}
	same_state_other_session();
	dead_load_fd();

	vfiomig_device_free(d);
	lab_close(&device);
	puts("ok");
	return 0;
}
