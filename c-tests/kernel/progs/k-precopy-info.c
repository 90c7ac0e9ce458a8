/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Promise: the figures of a device in pre-copy are the kernel's, fall as the
 * stream is read, and are unknown, which is not 0, everywhere else (C2-C7).
 *
 * usage: k-precopy-info group|cdev
 */
#include "lab.h"

#include <stdio.h>

static struct lab_device device;
static struct vfiomig_device *d;

static void figures(uint64_t initial, uint64_t dirty, uint64_t stop_copy)
{
	/* Twice: asking changes nothing on mtty; and the cache keeps the answer. */
	for (int i = 0; i < 3; i++) {
		struct vfiomig_device_pending pending = lab_pending(d, i < 2 ? VFIOMIG_PENDING_F_EXACT : 0);

		CHECK_EQ(pending.initial_bytes, initial);
		CHECK_EQ(pending.dirty_bytes, dirty);
		CHECK_EQ(pending.stop_copy_bytes, stop_copy);
		CHECK_EQ(pending.reinit_count, 0);
	}
}

static void cached_is_unknown(void)
{
	struct vfiomig_device_pending pending = lab_pending(d, 0);

	CHECK_EQ(pending.initial_bytes, VFIOMIG_UNKNOWN);
	CHECK_EQ(pending.dirty_bytes, VFIOMIG_UNKNOWN);
}

static void unknown(uint32_t state, uint64_t stop_copy)
{
	lab_step("figures in %s", vfiomig_state_name(state));
	/* First without asking: what was known in pre-copy must be forgotten. */
	cached_is_unknown();
	figures(VFIOMIG_UNKNOWN, VFIOMIG_UNKNOWN, stop_copy);
	RAW_IS(&device, state);
}

static void one(int number, int ports)
{
	const uint64_t size = MTTY_SIZE(ports);
	unsigned char buf[MTTY_MAX];
	size_t length;

	lab_open_mdev(&device, number);
	d = lab_new(&device);
	unknown(VFIOMIG_STATE_RUNNING, size);

	lab_step("figures at the beginning of PRE_COPY");
	GO(d, VFIOMIG_STATE_PRE_COPY);
	cached_is_unknown();
	figures(MTTY_HEADER, 0, size);
	GO(d, VFIOMIG_STATE_PRE_COPY_P2P);
	lab_step("figures in PRE_COPY_P2P");
	figures(MTTY_HEADER, 0, size);
	GO(d, VFIOMIG_STATE_PRE_COPY);

	lab_step("figures when the initial data was read");
	length = stream_read(d, VFIOMIG_CHUNK_EMPTY, buf, 0);
	CHECK_EQ(length, MTTY_HEADER);
	figures(0, 0, size);
	GO(d, VFIOMIG_STATE_PRE_COPY_P2P);
	figures(0, 0, size);
	RAW_IS(&device, VFIOMIG_STATE_PRE_COPY_P2P);

	/* Asking between two reads takes no byte of the stream. */
	GO(d, VFIOMIG_STATE_STOP_COPY);
	unknown(VFIOMIG_STATE_STOP_COPY, size);
	CHECK_EQ(stream_read(d, VFIOMIG_CHUNK_END, buf, length), size);
	unknown(VFIOMIG_STATE_STOP_COPY, 0);

	GO(d, VFIOMIG_STATE_STOP);
	unknown(VFIOMIG_STATE_STOP, size);
	GO(d, VFIOMIG_STATE_RESUMING);
	unknown(VFIOMIG_STATE_RESUMING, size);
	OK(vfiomig_device_reset(d, ERR));
	GO(d, VFIOMIG_STATE_RUNNING_P2P);
	unknown(VFIOMIG_STATE_RUNNING_P2P, size);

	/* Given up, and begun again: the figures are of the new session. */
	GO(d, VFIOMIG_STATE_RUNNING);
	GO(d, VFIOMIG_STATE_PRE_COPY);
	lab_step("figures before and after a pre-copy that was given up");
	figures(MTTY_HEADER, 0, size);
	GO(d, VFIOMIG_STATE_RUNNING);
	unknown(VFIOMIG_STATE_RUNNING, size);
	GO(d, VFIOMIG_STATE_PRE_COPY);
	cached_is_unknown();
	figures(MTTY_HEADER, 0, size);
	OK(vfiomig_device_reset(d, ERR));
	unknown(VFIOMIG_STATE_RUNNING, size);

	vfiomig_device_free(d);
	lab_close(&device);
}

int main(int argc, char **argv)
{
	lab_begin(argc, argv);
	one(1, 2);
	one(3, 1);
	puts("ok");
	return 0;
}
