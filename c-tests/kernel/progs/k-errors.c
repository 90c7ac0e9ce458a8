/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Promise: a device that fails, in any dialect, is found where it is,
 * with the errno of its driver, and recovered from as asked; a failure that
 * leaves it where it was harms no stream; ERROR is left by a reset and by
 * nothing else; a segment that the device refuses ends the load (V1-2, F6, F7).
 *
 * usage: k-errors group|cdev
 */
#include "testdev.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static struct testdev source, target;

static const uint32_t states[] = {
	VFIOMIG_STATE_STOP,	VFIOMIG_STATE_RUNNING,	   VFIOMIG_STATE_STOP_COPY,
	VFIOMIG_STATE_RESUMING, VFIOMIG_STATE_RUNNING_P2P, VFIOMIG_STATE_PRE_COPY,
	VFIOMIG_STATE_PRE_COPY_P2P,
};
#define STATES (sizeof(states) / sizeof(states[0]))

static bool has(const struct testdev *t, uint32_t state)
{
	return t->p2p ||
	       (state != VFIOMIG_STATE_RUNNING_P2P && state != VFIOMIG_STATE_PRE_COPY_P2P);
}

/* ---- transitions that fail ------------------------------------------------- */

/* What a migration does, from each state, but for RESUMING, which needs a stream. */
static const struct {
	uint32_t from, to;
} arcs[] = {
	{ VFIOMIG_STATE_RUNNING, VFIOMIG_STATE_STOP },
	{ VFIOMIG_STATE_RUNNING, VFIOMIG_STATE_STOP_COPY },
	{ VFIOMIG_STATE_RUNNING, VFIOMIG_STATE_RESUMING },
	{ VFIOMIG_STATE_RUNNING, VFIOMIG_STATE_PRE_COPY },
	{ VFIOMIG_STATE_RUNNING, VFIOMIG_STATE_RUNNING_P2P },
	{ VFIOMIG_STATE_RUNNING_P2P, VFIOMIG_STATE_STOP },
	{ VFIOMIG_STATE_PRE_COPY, VFIOMIG_STATE_RUNNING },
	{ VFIOMIG_STATE_PRE_COPY, VFIOMIG_STATE_STOP_COPY },
	{ VFIOMIG_STATE_PRE_COPY, VFIOMIG_STATE_PRE_COPY_P2P },
	{ VFIOMIG_STATE_PRE_COPY_P2P, VFIOMIG_STATE_STOP_COPY },
	{ VFIOMIG_STATE_PRE_COPY_P2P, VFIOMIG_STATE_RUNNING_P2P },
	{ VFIOMIG_STATE_STOP_COPY, VFIOMIG_STATE_RUNNING },
	{ VFIOMIG_STATE_STOP, VFIOMIG_STATE_RUNNING },
	{ VFIOMIG_STATE_STOP, VFIOMIG_STATE_RESUMING },
};

/*
 * The same of v2, whose requests may be several transitions: these are one each, so that a failed one
 * leaves the device where it was. From STOP_COPY the way home would be a save that ends with data left.
 */
static const struct {
	uint32_t from, to;
} v2_arcs[] = {
	{ VFIOMIG_STATE_RUNNING, VFIOMIG_STATE_RUNNING_P2P },
	{ VFIOMIG_STATE_RUNNING, VFIOMIG_STATE_PRE_COPY },
	{ VFIOMIG_STATE_RUNNING_P2P, VFIOMIG_STATE_RUNNING },
	{ VFIOMIG_STATE_RUNNING_P2P, VFIOMIG_STATE_STOP },
	{ VFIOMIG_STATE_RUNNING_P2P, VFIOMIG_STATE_PRE_COPY_P2P },
	{ VFIOMIG_STATE_STOP, VFIOMIG_STATE_RUNNING_P2P },
	{ VFIOMIG_STATE_STOP, VFIOMIG_STATE_STOP_COPY },
	{ VFIOMIG_STATE_STOP, VFIOMIG_STATE_RESUMING },
	{ VFIOMIG_STATE_PRE_COPY, VFIOMIG_STATE_RUNNING },
	{ VFIOMIG_STATE_PRE_COPY, VFIOMIG_STATE_PRE_COPY_P2P },
	{ VFIOMIG_STATE_PRE_COPY_P2P, VFIOMIG_STATE_RUNNING_P2P },
	{ VFIOMIG_STATE_PRE_COPY_P2P, VFIOMIG_STATE_STOP_COPY },
};

/* Home from any state, without a violation: a save that was begun is cancelled by RUNNING. */
static void go_home(struct testdev *t)
{
	OK(vfiomig_device_reset(t->d, ERR));
	STATE_IS(t, VFIOMIG_STATE_RUNNING);
	CHECK_EQ(lab_info(t->d).session_open, 0);
}

static void only_reset_helps(struct testdev *t)
{
	unsigned char byte = 0;
	uint32_t flags = 0;

	STATE_IS(t, VFIOMIG_STATE_ERROR);
	CHECK_EQ(lab_info(t->d).session_open, 0);
	for (size_t i = 0; i < STATES; i++) {
		REFUSED(t->d, states[i], 0);
		REFUSED(t->d, states[i], VFIOMIG_SET_STATE_F_RAW);
	}
	CHECK(vfiomig_device_read(t->d, &byte, 1, &flags, ERR) < 0);
	CHECK(vfiomig_device_write(t->d, &byte, 1, 0, ERR) < 0);
	CHECK(vfiomig_device_finish(t->d, VFIOMIG_UNKNOWN, ERR) < 0);
	STATE_IS(t, VFIOMIG_STATE_ERROR);
	go_home(t);
}

/* A request fails with the errno; where the device is then, and what was done. */
static void fails_and_is_found(struct testdev *t, uint32_t to, uint32_t policy, int number,
			       uint32_t found, uint32_t action)
{
	const uint32_t from = vfiomig_device_get_state(t->d);
	const struct vfiomig_device_result *result;

	FAILS(vfiomig_device_set_state(t->d, to, policy, 0, ERR), DEVICE, number);
	RESULT_IS(found, action);
	result = vfiomig_error_result(lab_error(), 0);
	CHECK_EQ(result->saved_errno, number);
	CHECK_EQ(result->from, from);
	CHECK_EQ(result->to, to);
	STATE_IS(t, found);
}

static void fail_next(const struct testdev *t, uint32_t to, int number, const char *rest)
{
	testdev_config(t, "fail_to=%s fail_errno=%d %s", vfiomig_state_name(to), number, rest);
}

static bool is_suspend(const struct testdev *t, uint32_t to)
{
	return lab_info(t->d).dialect == VFIOMIG_DIALECT_V2 && to != VFIOMIG_STATE_PRE_COPY;
}

static void one_arc(uint32_t from, uint32_t to, int number)
{
	const uint32_t running = VFIOMIG_STATE_RUNNING;
	struct testdev *t = &source;

	/* The device stays where it was. */
	testdev_go(t, from);
	fail_next(t, to, number, "fail_count=2 fail_error=0");
	fails_and_is_found(t, to, VFIOMIG_ON_FAILURE_KEEP, number, from, VFIOMIG_ACTION_NONE);
	fails_and_is_found(t, to, VFIOMIG_ON_FAILURE_KEEP, number, from, VFIOMIG_ACTION_NONE);
	GO(t->d, to);
	STATE_IS(t, to);
	go_home(t);

	testdev_go(t, from);
	fail_next(t, to, number, "fail_count=1");
	/* RUNNING may be no truth behind a step towards rest: a v2 device goes a step further and comes back. */
	fails_and_is_found(t, to, VFIOMIG_ON_FAILURE_RETURN_TO(running), number, running,
			   from == running && !is_suspend(t, to) ? VFIOMIG_ACTION_NONE : VFIOMIG_ACTION_RECOVERED);

	testdev_go(t, from);
	fail_next(t, to, number, "fail_count=1");
	fails_and_is_found(t, to, VFIOMIG_ON_FAILURE_RESET, number, running, VFIOMIG_ACTION_RESET);

	/* The way back fails, too. */
	testdev_go(t, from);
	testdev_config(t, "fail_to=any fail_count=each");
	fails_and_is_found(t, to, VFIOMIG_ON_FAILURE_RETURN_TO(running), number, from,
			   VFIOMIG_ACTION_NONE);
	testdev_config(t, "fail_count=0");
	go_home(t);

	/* The device is broken. */
	testdev_go(t, from);
	fail_next(t, to, number, "fail_count=1 fail_error=1");
	fails_and_is_found(t, to, VFIOMIG_ON_FAILURE_KEEP, number, VFIOMIG_STATE_ERROR,
			   VFIOMIG_ACTION_NONE);
	only_reset_helps(t);

	testdev_go(t, from);
	fail_next(t, to, number, "fail_count=1 fail_error=1");
	fails_and_is_found(t, to, VFIOMIG_ON_FAILURE_RETURN_TO(running), number,
			   VFIOMIG_STATE_ERROR, VFIOMIG_ACTION_NONE);
	only_reset_helps(t);

	testdev_go(t, from);
	fail_next(t, to, number, "fail_count=1 fail_error=1");
	fails_and_is_found(t, to, VFIOMIG_ON_FAILURE_RESET, number, running, VFIOMIG_ACTION_RESET);
	testdev_config(t, "fail_error=0");
	CLEAN(t);
}

static void failing_arcs(const char *kind)
{
	static const int errnos[] = { EIO, ENOMEM, EBUSY, EINVAL, ENODEV };

	for (size_t i = 0; i < sizeof(arcs) / sizeof(arcs[0]); i++) {
		if (!has(&source, arcs[i].from) || !has(&source, arcs[i].to))
			continue;
		lab_step("%s: %s -> %s fails", kind, vfiomig_state_name(arcs[i].from),
			 vfiomig_state_name(arcs[i].to));
		one_arc(arcs[i].from, arcs[i].to,
			errnos[i % (sizeof(errnos) / sizeof(errnos[0]))]);
	}
}

static bool ends_precopy(size_t arc)
{
	const uint32_t from = v2_arcs[arc].from, to = v2_arcs[arc].to;
	const bool precopy = from == VFIOMIG_STATE_PRE_COPY || from == VFIOMIG_STATE_PRE_COPY_P2P;

	return precopy && (to == VFIOMIG_STATE_RUNNING || to == VFIOMIG_STATE_RUNNING_P2P);
}

/* EIO from the end of a pre-copy: the next request could crash the host (mlx5), so it is not made. */
static void precopy_ends_with_eio(uint32_t from, uint32_t to)
{
	struct testdev *t = &source;

	lab_step("v2: %s -> %s: nothing but a reset behind EIO", vfiomig_state_name(from), vfiomig_state_name(to));
	testdev_go(t, from);
	fail_next(t, to, EIO, "fail_count=1 fail_error=0");
	fails_and_is_found(t, to, VFIOMIG_ON_FAILURE_KEEP, EIO, from, VFIOMIG_ACTION_NONE);
	CHECK_EQ(lab_info(t->d).session_open, 0);
	REFUSED(t->d, to, 0);
	REFUSED(t->d, VFIOMIG_STATE_STOP_COPY, 0);
	STATE_IS(t, from);
	go_home(t);
}

static void failing_v2_arcs(void)
{
	lab_step("dialect=v2");
	testdev_open(&source, 1, "dialect=v2 state=256K", 0);
	testdev_open(&target, 2, "dialect=v2 state=256K", 0);
	for (size_t i = 0; i < sizeof(v2_arcs) / sizeof(v2_arcs[0]); i++) {
		lab_step("v2: %s -> %s fails", vfiomig_state_name(v2_arcs[i].from),
			 vfiomig_state_name(v2_arcs[i].to));
		/* Behind EIO from the end of a pre-copy nothing but a reset is let through. */
		one_arc(v2_arcs[i].from, v2_arcs[i].to, i % 2 || ends_precopy(i) ? EBUSY : EIO);
		if (ends_precopy(i))
			precopy_ends_with_eio(v2_arcs[i].from, v2_arcs[i].to);
	}
	for (size_t i = 0; i < STATES; i++) {
		lab_step("v2: reset from %s", vfiomig_state_name(states[i]));
		testdev_go(&source, states[i]);
		go_home(&source);
	}
	lab_step("v2: and then a migration");
	migrate(&source, &target, COPY);
	testdev_close(&source);
	testdev_close(&target);
}

/* ---- in the middle of a migration -------------------------------------------- */

/* Failures that leave the devices where they are: the stream goes on and is whole. */
static void migration_survives(const char *kind)
{
	struct traffic traffic = { 0 };

	lab_step("%s: failures in the middle of a migration", kind);
	fill_both(&source, &target);
	GO(target.d, VFIOMIG_STATE_RESUMING);
	GO(source.d, VFIOMIG_STATE_PRE_COPY);
	traffic.most = 2;
	CHECK_EQ(pump(&source, &target, COPY, &traffic), 0);
	fail_next(&source, VFIOMIG_STATE_STOP_COPY, EIO, "fail_count=1 fail_error=0");
	fails_and_is_found(&source, VFIOMIG_STATE_STOP_COPY, VFIOMIG_ON_FAILURE_KEEP, EIO,
			   VFIOMIG_STATE_PRE_COPY, VFIOMIG_ACTION_NONE);
	traffic.most = 4;
	CHECK_EQ(pump(&source, &target, LEND, &traffic), 0);
	GO(source.d, VFIOMIG_STATE_STOP_COPY);
	traffic.most = 0;
	CHECK_EQ(pump(&source, &target, LEND, &traffic), VFIOMIG_CHUNK_END);
	fail_next(&source, VFIOMIG_STATE_STOP, EBUSY, "fail_count=1");
	fails_and_is_found(&source, VFIOMIG_STATE_STOP, VFIOMIG_ON_FAILURE_KEEP, EBUSY,
			   VFIOMIG_STATE_STOP_COPY, VFIOMIG_ACTION_NONE);
	GO(source.d, VFIOMIG_STATE_STOP);
	OK(vfiomig_device_finish(target.d, lab_info(source.d).saved_bytes, ERR));
	fail_next(&target, VFIOMIG_STATE_RUNNING, EBUSY, "fail_count=1");
	fails_and_is_found(&target, VFIOMIG_STATE_RUNNING, VFIOMIG_ON_FAILURE_KEEP, EBUSY,
			   VFIOMIG_STATE_RESUMING, VFIOMIG_ACTION_NONE);
	GO(target.d, VFIOMIG_STATE_RUNNING);
	STATE_IS(&target, VFIOMIG_STATE_RUNNING);
	CHECK_EQ(testdev_get(&target, TESTDEV_CRC), testdev_get(&source, TESTDEV_CRC_NOW));
	GO(source.d, VFIOMIG_STATE_RUNNING);
}

/* Leaving RESUMING fails into ERROR, with each policy. */
static void load_breaks(const char *kind, uint32_t policy, uint32_t found, uint32_t action)
{
	lab_step("%s: the load breaks, policy %#x", kind, policy);
	fill_both(&source, &target);
	GO(target.d, VFIOMIG_STATE_RESUMING);
	save_to_end(&source, &target, COPY);
	OK(vfiomig_device_finish(target.d, lab_info(source.d).saved_bytes, ERR));
	fail_next(&target, VFIOMIG_STATE_RUNNING, EIO, "fail_count=1 fail_error=1");
	fails_and_is_found(&target, VFIOMIG_STATE_RUNNING, policy, EIO, found, action);
	if (found == VFIOMIG_STATE_ERROR)
		only_reset_helps(&target);
	GO(source.d, VFIOMIG_STATE_RUNNING);
	CLEAN(&target);
}

/* ---- reset --------------------------------------------------------------------- */

static void reset_from_each_state(const char *kind)
{
	for (size_t i = 0; i < STATES; i++) {
		if (!has(&source, states[i]))
			continue;
		lab_step("%s: reset in %s", kind, vfiomig_state_name(states[i]));
		testdev_go(&source, states[i]);
		go_home(&source);

		/* V2-10: one by somebody else is noticed before anything is requested. */
		if (states[i] == VFIOMIG_STATE_RUNNING)
			continue;
		lab_step("%s: somebody else's reset in %s", kind, vfiomig_state_name(states[i]));
		testdev_go(&source, states[i]);
		CHECK_EQ(raw_reset(&source.device), 0);
		FAILS(vfiomig_device_set_state(source.d, VFIOMIG_STATE_STOP_COPY,
					       VFIOMIG_ON_FAILURE_KEEP, 0, ERR),
		      STALE, ESTALE);
		STATE_IS(&source, VFIOMIG_STATE_RUNNING);
	}
}

/* ---- segments that are refused ---------------------------------------------------- */

static unsigned char segment[64 << 10];

/* The first segment of a save, which is then given up. */
static size_t first_segment(void)
{
	uint32_t flags = 0;
	size_t have = 0;

	GO(source.d, VFIOMIG_STATE_STOP_COPY);
	while (!(flags & VFIOMIG_CHUNK_SEGMENT_END)) {
		int64_t got = vfiomig_device_read(source.d, segment + have, sizeof(segment) - have,
						  &flags, ERR);

		CHECK(got > 0);
		have += (size_t)got;
	}
	GO(source.d, VFIOMIG_STATE_RUNNING);
	OK(vfiomig_device_restart_stream(source.d, ERR));
	return have;
}

static void by_write(size_t length)
{
	FAILS(vfiomig_device_write(target.d, segment, length, VFIOMIG_CHUNK_SEGMENT_END, ERR), DEVICE,
	      EINVAL);
}

static void by_commit(size_t length)
{
	size_t done = 0, room = 0;
	void *at = NULL;

	for (;;) {
		OK(vfiomig_device_reserve(target.d, length - done, &at, &room, ERR));
		if (room >= length - done)
			break;
		memcpy(at, segment + done, room);
		OK(vfiomig_device_commit(target.d, room, 0, ERR));
		done += room;
	}
	memcpy(at, segment + done, length - done);
	FAILS(vfiomig_device_commit(target.d, length - done, VFIOMIG_CHUNK_SEGMENT_END, ERR), DEVICE,
	      EINVAL);
}

static void by_receive(size_t length)
{
	int fds[2];
	int64_t got;

	CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
	CHECK_EQ(write(fds[0], segment, length), (long long)length);
	/* In as many calls as the window has parts; only the last one can be refused. */
	while ((got = vfiomig_device_receive(target.d, fds[1], length, VFIOMIG_CHUNK_SEGMENT_END,
					     ERR)) > 0)
		length -= (size_t)got;
	FAILS(got, DEVICE, EINVAL);
	close(fds[0]);
	close(fds[1]);
}

static void refused_segment(const char *kind, const char *what, void (*load)(size_t length),
			    size_t flip, size_t cut)
{
	size_t length;

	lab_step("%s: a segment is refused: %s", kind, what);
	testdev_set(&source, TESTDEV_FILL, 99);
	length = first_segment();
	segment[flip] ^= 1;
	GO(target.d, VFIOMIG_STATE_RESUMING);
	load(length - cut);
	/* The device's own verdict is ERROR (V1-2), and the library has seen it. */
	RESULT_IS(VFIOMIG_STATE_ERROR, VFIOMIG_ACTION_NONE);
	only_reset_helps(&target);
	VIOLATED(&target, "FRAME");
	CLEAN(&source);
}

static void refused_segments(const char *kind)
{
	const size_t last = sizeof(segment) - 1;

	refused_segment(kind, "a byte of its content, write", by_write, last, 0);
	refused_segment(kind, "a byte of its content, commit", by_commit, last / 2, 0);
	refused_segment(kind, "a byte of its content, receive", by_receive, TESTDEV_HEADER, 0);
	refused_segment(kind, "a byte of its header", by_write, 5, 0);
	refused_segment(kind, "the last byte is not there", by_write, 0, 1);
}

/* What never reaches the device. */
static void refused_before(const char *kind)
{
	size_t length, room = 0;
	void *at = NULL;

	lab_step("%s: segments that the library refuses", kind);
	length = first_segment();
	GO(target.d, VFIOMIG_STATE_RESUMING);
	FAILS(vfiomig_device_reserve(target.d, 1ull << 40, &at, &room, ERR), UNSUPPORTED, EMSGSIZE);
	STATE_IS(&target, VFIOMIG_STATE_RESUMING);
	/* A stream that is cut in a segment is no stream, whatever the caller says of its length. */
	OK_BYTES(vfiomig_device_write(target.d, segment, 1000, 0, ERR), 1000);
	FAILS(vfiomig_device_finish(target.d, 1000, ERR), INCOMPLETE, 0);
	FAILS(vfiomig_device_finish(target.d, VFIOMIG_UNKNOWN, ERR), INCOMPLETE, 0);
	REFUSED(target.d, VFIOMIG_STATE_RUNNING, 0);
	/* And its rest may still come. */
	OK_BYTES(vfiomig_device_write(target.d, segment + 1000, length - 1000,
				      VFIOMIG_CHUNK_SEGMENT_END, ERR),
		 (int64_t)(length - 1000));
	FAILS(vfiomig_device_finish(target.d, length + 1, ERR), INCOMPLETE, 0);
	REFUSED(target.d, VFIOMIG_STATE_RUNNING, 0);
	STATE_IS(&target, VFIOMIG_STATE_RESUMING);
	CLEAN(&target);

	/* N11: the caller vouched for a stream that the device finds short. */
	OK(vfiomig_device_finish(target.d, VFIOMIG_UNKNOWN, ERR));
	fails_and_is_found(&target, VFIOMIG_STATE_RUNNING, VFIOMIG_ON_FAILURE_KEEP, EINVAL,
			   VFIOMIG_STATE_ERROR, VFIOMIG_ACTION_NONE);
	only_reset_helps(&target);
	VIOLATED(&target, "INCOMPLETE");
}

/* A driver that wants 8 bytes at a time, and a caller who does not know it. */
static void narrow_window(const char *kind)
{
	unsigned char buf[64];
	struct testdev t;
	char config[128];
	uint32_t flags = 0;

	snprintf(config, sizeof(config), "%s window=trapped max_access=8", kind);
	lab_step("%s", config);
	testdev_open(&t, 3, config, 0);
	GO(t.d, VFIOMIG_STATE_STOP_COPY);
	FAILS(vfiomig_device_read(t.d, buf, sizeof(buf), &flags, ERR), DEVICE, EINVAL);
	RESULT_IS(VFIOMIG_STATE_STOP_COPY, VFIOMIG_ACTION_NONE);
	STATE_IS(&t, VFIOMIG_STATE_STOP_COPY);
	GO(t.d, VFIOMIG_STATE_RUNNING);
	testdev_close(&t);
}

static void all_of(const char *kind, const char *window)
{
	char config[128];

	snprintf(config, sizeof(config), "%s window=%s", kind, window);
	lab_step("%s", config);
	testdev_open(&source, 1, config, 0);
	testdev_open(&target, 2, config, 0);
	failing_arcs(config);
	migration_survives(config);
	load_breaks(config, VFIOMIG_ON_FAILURE_KEEP, VFIOMIG_STATE_ERROR, VFIOMIG_ACTION_NONE);
	load_breaks(config, VFIOMIG_ON_FAILURE_RESET, VFIOMIG_STATE_RUNNING, VFIOMIG_ACTION_RESET);
	load_breaks(config, VFIOMIG_ON_FAILURE_RETURN_TO(VFIOMIG_STATE_STOP), VFIOMIG_STATE_ERROR,
		    VFIOMIG_ACTION_NONE);
	testdev_config(&target, "fail_error=0");
	reset_from_each_state(config);
	refused_segments(config);
	refused_before(config);
	lab_step("%s: and then a migration", config);
	for (int way = 0; way < WAYS; way++)
		migrate(&source, &target, (enum way)way);
	testdev_close(&source);
	testdev_close(&target);
}

int main(int argc, char **argv)
{
	testdev_begin(argc, argv);
	for (int i = 0; i < TESTDEV_REGION_KINDS; i++) {
		all_of(testdev_region_kinds[i], "one");
		narrow_window(testdev_region_kinds[i]);
	}
	failing_v2_arcs();
	all_of(testdev_region_kinds[0], "trapped");
	all_of(testdev_region_kinds[1], "two");
	puts("ok");
	return 0;
}
