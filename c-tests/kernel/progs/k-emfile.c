/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Promise: when the kernel cannot make the data fd (EMFILE) the device has
 * moved all the same, and the library says where it is, does what the caller
 * asked for in that case, leaks nothing and works on (V2-3, V2-5).
 *
 * usage: k-emfile group|cdev
 */
#include "lab.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

static struct lab_device device;
static struct vfiomig_device *d;
static struct rlimit limit;

/* No descriptor can be made any more: the limit is the lowest free number. */
static void no_more_fds(void)
{
	struct rlimit low = limit;
	int lowest = fcntl(device.fd, F_DUPFD_CLOEXEC, 0);

	CHECK(lowest >= 0);
	close(lowest);
	low.rlim_cur = (rlim_t)lowest;
	CHECK_EQ(setrlimit(RLIMIT_NOFILE, &low), 0);
	CHECK_EQ(dup(device.fd), -1);
	CHECK_EQ(errno, EMFILE);
}

static void fds_again(void)
{
	CHECK_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
}

static int set(uint32_t to, uint32_t on_failure)
{
	int result;

	no_more_fds();
	result = vfiomig_device_set_state(d, to, on_failure, 0, ERR);
	fds_again();
	return result;
}

/* The device is in a state with a session, and no handle has its data fd. */
static void data_calls_are_stale(uint32_t state)
{
	struct vfiomig_chunk chunk;
	unsigned char buf[MTTY_MAX];
	size_t length = 0;
	void *room = NULL;
	uint32_t flags = 0;

	CHECK_EQ(lab_info(d).session_open, 0);
	if (state == VFIOMIG_STATE_RESUMING) {
		FAILS(vfiomig_device_write(d, buf, sizeof(buf), 0, ERR), STALE, ESTALE);
		FAILS(vfiomig_device_reserve(d, VFIOMIG_UNKNOWN, &room, &length, ERR), STALE, ESTALE);
		FAILS(vfiomig_device_finish(d, 0, ERR), STALE, ESTALE);
		FAILS(vfiomig_device_finish(d, VFIOMIG_UNKNOWN, ERR), STALE, ESTALE);
		/* V2-9: nothing was loaded, so this is no way to STOP. */
		REFUSED(d, VFIOMIG_STATE_STOP, 0);
		REFUSED(d, VFIOMIG_STATE_STOP, VFIOMIG_SET_STATE_F_RAW);
	} else {
		FAILS(vfiomig_device_read(d, buf, sizeof(buf), &flags, ERR), STALE, ESTALE);
		FAILS(vfiomig_device_peek(d, 0, &chunk, ERR), STALE, ESTALE);
	}
	RAW_IS(&device, state);
}

static void home(uint32_t state)
{
	if (state == VFIOMIG_STATE_RESUMING)
		OK(vfiomig_device_reset(d, ERR));
	else
		GO(d, VFIOMIG_STATE_RUNNING);
	RAW_IS(&device, VFIOMIG_STATE_RUNNING);
}

/* Every way out works, and the session that was never there is not in the way of the next one. */
static void works(int fds)
{
	unsigned char buf[MTTY_MAX];

	CHECK_EQ(lab_count_fds(), fds);
	GO(d, VFIOMIG_STATE_RUNNING);
	CHECK_EQ(stream_save(&device, d, buf), MTTY_MAX);
	stream_load(&device, d, buf, MTTY_MAX);
	CHECK_EQ(lab_count_fds(), fds);
}

static void arc(uint32_t from, uint32_t to)
{
	const uint64_t sessions = lab_info(d).session;
	const int fds = lab_count_fds();

	lab_step("%s -> %s without a free fd, KEEP", vfiomig_state_name(from), vfiomig_state_name(to));
	GO(d, from);
	FAILS(set(to, VFIOMIG_ON_FAILURE_KEEP), DEVICE, EMFILE);
	RESULT_IS(to, VFIOMIG_ACTION_NONE);
	CHECK_EQ(vfiomig_error_result(lab_error(), 0)->saved_errno, EMFILE);
	CHECK_EQ(vfiomig_error_result(lab_error(), 0)->from, from);
	CHECK_EQ(vfiomig_error_result(lab_error(), 0)->to, to);
	RAW_IS(&device, to);
	CHECK_EQ(vfiomig_device_get_state(d), to);
	CHECK_EQ(lab_info(d).session, sessions);
	data_calls_are_stale(to);
	home(to);
	works(fds);

	lab_step("%s -> %s without a free fd, RETURN_TO", vfiomig_state_name(from),
		 vfiomig_state_name(to));
	GO(d, from);
	FAILS(set(to, VFIOMIG_ON_FAILURE_RETURN_TO(from)), DEVICE, EMFILE);
	if (to == VFIOMIG_STATE_RESUMING) {
		/* The table allows STOP only for a stream that is complete: the device stays. */
		RESULT_IS(VFIOMIG_STATE_RESUMING, VFIOMIG_ACTION_NONE);
		data_calls_are_stale(to);
		home(to);
	} else {
		RESULT_IS(from, VFIOMIG_ACTION_RECOVERED);
		RAW_IS(&device, from);
		CHECK_EQ(vfiomig_device_get_state(d), from);
	}
	works(fds);

	lab_step("%s -> %s without a free fd, RESET", vfiomig_state_name(from), vfiomig_state_name(to));
	GO(d, from);
	FAILS(set(to, VFIOMIG_ON_FAILURE_RESET), DEVICE, EMFILE);
	RESULT_IS(VFIOMIG_STATE_RUNNING, VFIOMIG_ACTION_RESET);
	RAW_IS(&device, VFIOMIG_STATE_RUNNING);
	works(fds);
}

/* Arcs of a session that is open need no descriptor (V2-4): they work. */
static void same_session(void)
{
	const int fds = lab_count_fds();
	unsigned char buf[MTTY_MAX];
	size_t length;

	lab_step("PRE_COPY -> STOP_COPY without a free fd");
	GO(d, VFIOMIG_STATE_PRE_COPY);
	length = stream_read(d, VFIOMIG_CHUNK_EMPTY, buf, 0);
	OK(set(VFIOMIG_STATE_PRE_COPY_P2P, VFIOMIG_ON_FAILURE_KEEP));
	OK(set(VFIOMIG_STATE_STOP_COPY, VFIOMIG_ON_FAILURE_KEEP));
	CHECK_EQ(stream_read(d, VFIOMIG_CHUNK_END, buf, length), MTTY_MAX);
	OK(set(VFIOMIG_STATE_STOP, VFIOMIG_ON_FAILURE_KEEP));
	OK(set(VFIOMIG_STATE_RUNNING, VFIOMIG_ON_FAILURE_KEEP));
	works(fds);
}

/* Without a free fd a handle can be made, looked at and freed. */
static void handle(void)
{
	struct vfiomig_device *other = NULL;

	lab_step("a handle without a free fd");
	no_more_fds();
	OK(vfiomig_device_new_kernel(device.fd, NULL, &other, ERR));
	CHECK_EQ(lab_info(other).dialect, VFIOMIG_DIALECT_V2);
	vfiomig_device_free(other);
	fds_again();
}

int main(int argc, char **argv)
{
	int fds;

	lab_begin(argc, argv);
	lab_open_mdev(&device, 1);
	CHECK_EQ(getrlimit(RLIMIT_NOFILE, &limit), 0);
	fds = lab_count_fds();
	d = lab_new(&device);

	arc(VFIOMIG_STATE_RUNNING, VFIOMIG_STATE_STOP_COPY);
	arc(VFIOMIG_STATE_RUNNING, VFIOMIG_STATE_PRE_COPY);
	arc(VFIOMIG_STATE_RUNNING, VFIOMIG_STATE_PRE_COPY_P2P);
	arc(VFIOMIG_STATE_STOP, VFIOMIG_STATE_STOP_COPY);
	arc(VFIOMIG_STATE_STOP, VFIOMIG_STATE_RESUMING);
	same_session();
	handle();

	vfiomig_device_free(d);
	CHECK_EQ(lab_count_fds(), fds);
	lab_close(&device);
	puts("ok");
	return 0;
}
