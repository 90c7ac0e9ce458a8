/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Promise: of all 8x8 requests the library lets through those that the arc
 * table calls legal, and the device is then where it was asked to be; the
 * others are refused before the kernel sees them and change nothing (V2-1).
 * RESUMING is left only after finish (F7).
 *
 * The row of ERROR is missing: mtty never enters it (no request may name it,
 * and mtty never fails into it).
 *
 * usage: k-arcs group|cdev
 */
#include "lab.h"

#include <errno.h>
#include <stdio.h>

/*
 * The table for a device with P2P and PRE_COPY, written down from the uAPI and
 * the library's documents, not from its code:
 *   .  there already: 0 and nothing happens
 *   L  legal
 *   n  never used: legal for the kernel, but it passes through RUNNING with a
 *      stopped device, or throws a session away on the way to something else
 *      (V2-2); only the raw flag reaches it
 *   x  refused: the kernel blocks it, or loops for ever on it (V2-1)
 */
static const char table[8][9] = {
	/* to:              ESRCUPQT   E ERROR, S STOP, R RUNNING, C STOP_COPY, U RESUMING, */
	/* ERROR        */ "xxxxxxxx", /* P RUNNING_P2P, Q PRE_COPY, T PRE_COPY_P2P */
	/* STOP         */ "x.LLLLnn",
	/* RUNNING      */ "xL.LLLLL",
	/* STOP_COPY    */ "xLL.nLxx",
	/* RESUMING     */ "xLLn.Lnn",
	/* RUNNING_P2P  */ "xLLLL.LL",
	/* PRE_COPY     */ "xnLLnn.L",
	/* PRE_COPY_P2P */ "xnLLnLL.",
};

static const bool saves[8] = {
	[VFIOMIG_STATE_STOP_COPY] = true,
	[VFIOMIG_STATE_PRE_COPY] = true,
	[VFIOMIG_STATE_PRE_COPY_P2P] = true,
};

static struct lab_device device;
static struct vfiomig_device *d;
static unsigned char stream[MTTY_MAX];

static int set(uint32_t to, uint32_t flags)
{
	return vfiomig_device_set_state(d, to, VFIOMIG_ON_FAILURE_KEEP, flags, ERR);
}

/* A refusal changes nothing: neither the device nor the session. */
static void is_refused(uint32_t from, uint32_t to, uint32_t flags)
{
	const struct vfiomig_device_info before = lab_info(d);
	struct vfiomig_device_info after;

	FAILS(set(to, flags), ORDER, 0);
	RAW_IS(&device, from);
	after = lab_info(d);
	CHECK_EQ(after.state, from);
	CHECK_EQ(after.session_open, before.session_open);
	CHECK_EQ(after.session, before.session);
}

static void is_taken(uint32_t from, uint32_t to, uint32_t flags)
{
	const struct vfiomig_device_info before = lab_info(d);
	const bool holds = saves[to] || to == VFIOMIG_STATE_RESUMING;
	/* V2-4: pre-copy and stop-copy are one session with one data fd, as long as no step leaves it. */
	const bool same = (saves[from] && saves[to]) || from == to;
	struct vfiomig_device_info after;

	OK(set(to, flags));
	RAW_IS(&device, to);
	after = lab_info(d);
	CHECK_EQ(after.state, to);
	CHECK_EQ(after.session_open, holds);
	CHECK_EQ(after.session, before.session + (holds && !same));
}

/* Everything that RESUMING may be left for, before finish: refused, raw or not. */
static void needs_finish(uint32_t to)
{
	is_refused(VFIOMIG_STATE_RESUMING, to, 0);
	is_refused(VFIOMIG_STATE_RESUMING, to, VFIOMIG_SET_STATE_F_RAW);
	OK_BYTES(vfiomig_device_write(d, stream, MTTY_MAX, 0, ERR), MTTY_MAX);
	is_refused(VFIOMIG_STATE_RESUMING, to, 0);
	is_refused(VFIOMIG_STATE_RESUMING, to, VFIOMIG_SET_STATE_F_RAW);
	OK(vfiomig_device_finish(d, MTTY_MAX, ERR));
}

static void arc(uint32_t from, uint32_t to)
{
	const char expected = table[from][to];

	OK(vfiomig_device_reset(d, ERR));
	lab_go_from_running(&device, d, from);
	lab_step("%s -> %s (%c)", vfiomig_state_name(from), vfiomig_state_name(to), expected);
	if (from == VFIOMIG_STATE_RESUMING && expected != '.' && expected != 'x')
		needs_finish(to);
	switch (expected) {
	case '.':
		is_taken(from, to, 0);
		is_taken(from, to, VFIOMIG_SET_STATE_F_RAW);
		break;
	case 'L':
		is_taken(from, to, 0);
		break;
	case 'n':
		is_refused(from, to, 0);
		is_taken(from, to, VFIOMIG_SET_STATE_F_RAW);
		break;
	default:
		is_refused(from, to, 0);
		is_refused(from, to, VFIOMIG_SET_STATE_F_RAW);
		break;
	}
}

/* A legal arc with the raw flag is what it is without. */
static void raw_changes_nothing_else(void)
{
	OK(vfiomig_device_reset(d, ERR));
	lab_step("legal arcs with the raw flag");
	is_taken(VFIOMIG_STATE_RUNNING, VFIOMIG_STATE_PRE_COPY, VFIOMIG_SET_STATE_F_RAW);
	is_taken(VFIOMIG_STATE_PRE_COPY, VFIOMIG_STATE_STOP_COPY, VFIOMIG_SET_STATE_F_RAW);
	is_taken(VFIOMIG_STATE_STOP_COPY, VFIOMIG_STATE_RUNNING, VFIOMIG_SET_STATE_F_RAW);
}

static void wrong_arguments(void)
{
	lab_step("no state, no policy, no flag");
	FAILS(set(8, 0), ARGUMENT, EINVAL);
	FAILS(set(0xffffffff, VFIOMIG_SET_STATE_F_RAW), ARGUMENT, EINVAL);
	FAILS(set(VFIOMIG_STATE_STOP, 2), ARGUMENT, EINVAL);
	FAILS(vfiomig_device_set_state(d, VFIOMIG_STATE_STOP, 2, 0, ERR), ARGUMENT, EINVAL);
	FAILS(vfiomig_device_set_state(d, VFIOMIG_STATE_STOP, VFIOMIG_ON_FAILURE_RETURN_TO(8), 0, ERR),
	      ARGUMENT, EINVAL);
	RAW_IS(&device, VFIOMIG_STATE_RUNNING);
}

int main(int argc, char **argv)
{
	int arcs = 0;

	lab_begin(argc, argv);
	lab_open_mdev(&device, 1);
	d = lab_new(&device);
	wrong_arguments();
	lab_step("a stream for RESUMING");
	uart_fill(&device, 2, 1);
	CHECK_EQ(stream_save(&device, d, stream), MTTY_MAX);

	for (uint32_t from = VFIOMIG_STATE_STOP; from <= VFIOMIG_STATE_PRE_COPY_P2P; from++) {
		for (uint32_t to = VFIOMIG_STATE_ERROR; to <= VFIOMIG_STATE_PRE_COPY_P2P; to++) {
			arc(from, to);
			arcs++;
		}
	}
	raw_changes_nothing_else();

	OK(vfiomig_device_reset(d, ERR));
	RAW_IS(&device, VFIOMIG_STATE_RUNNING);
	vfiomig_device_free(d);
	lab_close(&device);
	printf("%d arcs\n", arcs);
	return 0;
}
