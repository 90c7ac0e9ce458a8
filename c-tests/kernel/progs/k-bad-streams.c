/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Promise: a stream that is short, damaged, too long or of another kind of
 * device never makes a device that is taken for loaded (F6, F7).
 *
 * usage: k-bad-streams group|cdev
 */
#include "lab.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define GOOD 11u  /* seed of the stream's UARTs */
#define OTHER 12u /* seed of what the target has before */

static struct vfiomig_device *d;
static struct lab_device device;
static int ports;
static size_t size;
static unsigned char good[MTTY_MAX], of_other_kind[MTTY_MAX];
static size_t size_of_other_kind;

static void begin(void)
{
	RAW_IS(&device, VFIOMIG_STATE_RUNNING);
	uart_fill(&device, ports, OTHER);
	GO(d, VFIOMIG_STATE_RESUMING);
	RAW_IS(&device, VFIOMIG_STATE_RESUMING);
}

static void write_ok(const unsigned char *bytes, size_t length)
{
	if (length)
		OK_BYTES(vfiomig_device_write(d, bytes, length, 0, ERR), (int64_t)length);
}

static void still_resuming(void)
{
	RAW_IS(&device, VFIOMIG_STATE_RESUMING);
	CHECK_EQ(vfiomig_device_get_state(d), VFIOMIG_STATE_RESUMING);
}

/* Nothing leaves RESUMING, and the kernel is not asked. */
static void cannot_leave(void)
{
	static const uint32_t states[] = {
		VFIOMIG_STATE_STOP, VFIOMIG_STATE_RUNNING, VFIOMIG_STATE_RUNNING_P2P,
		VFIOMIG_STATE_STOP_COPY, VFIOMIG_STATE_PRE_COPY,
	};

	for (size_t i = 0; i < sizeof(states) / sizeof(states[0]); i++) {
		REFUSED(d, states[i], 0);
		REFUSED(d, states[i], VFIOMIG_SET_STATE_F_RAW);
	}
	still_resuming();
}

/* Only a reset is left, and it helps; nothing of the stream is in the device. */
static void reset_helps(void)
{
	OK(vfiomig_device_reset(d, ERR));
	RAW_IS(&device, VFIOMIG_STATE_RUNNING);
	CHECK_EQ(lab_info(d).session_open, 0);
	CHECK(uart_holds(&device, ports, OTHER));
}

static void loads(void)
{
	GO(d, VFIOMIG_STATE_STOP);
	RAW_IS(&device, VFIOMIG_STATE_STOP);
	GO(d, VFIOMIG_STATE_RUNNING);
	CHECK(uart_holds(&device, ports, GOOD));
}

static void good_still_loads(void)
{
	begin();
	write_ok(good, size);
	OK(vfiomig_device_finish(d, size, ERR));
	loads();
}

static void truncated(size_t length)
{
	lab_step("truncated to %zu of %zu bytes: finish with the count", length, size);
	begin();
	write_ok(good, length);
	FAILS(vfiomig_device_finish(d, size, ERR), INCOMPLETE, 0);
	still_resuming();
	cannot_leave();
	reset_helps();

	lab_step("truncated to %zu of %zu bytes: the rest comes late", length, size);
	begin();
	write_ok(good, length);
	FAILS(vfiomig_device_finish(d, size, ERR), INCOMPLETE, 0);
	write_ok(good + length, size - length);
	OK(vfiomig_device_finish(d, size, ERR));
	loads();

	/* The caller's word that its format cannot know: then the driver must notice, and mtty does. */
	lab_step("truncated to %zu of %zu bytes: finish without a count", length, size);
	begin();
	write_ok(good, length);
	OK(vfiomig_device_finish(d, VFIOMIG_UNKNOWN, ERR));
	FAILS(vfiomig_device_set_state(d, VFIOMIG_STATE_STOP, VFIOMIG_ON_FAILURE_KEEP, 0, ERR),
	      DEVICE, EINVAL);
	RESULT_IS(VFIOMIG_STATE_RESUMING, VFIOMIG_ACTION_NONE);
	CHECK_EQ(vfiomig_error_result(lab_error(), 0)->saved_errno, EINVAL);
	CHECK_EQ(vfiomig_error_result(lab_error(), 0)->from, VFIOMIG_STATE_RESUMING);
	CHECK_EQ(vfiomig_error_result(lab_error(), 0)->to, VFIOMIG_STATE_STOP);
	still_resuming();
	CHECK_EQ(lab_info(d).session_open, 1);
	/* The stream was stated to be all. */
	FAILS(vfiomig_device_write(d, good + length, size - length, 0, ERR), ORDER, 0);
	reset_helps();

	/* A combination arc stops at its first step (V2-3), and the policy is done. */
	lab_step("truncated to %zu of %zu bytes: on_failure", length, size);
	begin();
	write_ok(good, length);
	OK(vfiomig_device_finish(d, VFIOMIG_UNKNOWN, ERR));
	FAILS(vfiomig_device_set_state(d, VFIOMIG_STATE_RUNNING,
				       VFIOMIG_ON_FAILURE_RETURN_TO(VFIOMIG_STATE_RESUMING), 0, ERR),
	      DEVICE, EINVAL);
	RESULT_IS(VFIOMIG_STATE_RESUMING, VFIOMIG_ACTION_NONE);
	still_resuming();
	FAILS(vfiomig_device_set_state(d, VFIOMIG_STATE_RUNNING, VFIOMIG_ON_FAILURE_RESET, 0, ERR),
	      DEVICE, EINVAL);
	RESULT_IS(VFIOMIG_STATE_RUNNING, VFIOMIG_ACTION_RESET);
	RAW_IS(&device, VFIOMIG_STATE_RUNNING);
	CHECK(uart_holds(&device, ports, OTHER));
}

/*
 * A count that says otherwise takes the caller's word back: after INCOMPLETE
 * the device may not leave, and what is missing may be written (F7).
 */
static void count_after_no_count(void)
{
	lab_step("finish without a count, then with one that is not reached");
	begin();
	write_ok(good, size - 1);
	OK(vfiomig_device_finish(d, VFIOMIG_UNKNOWN, ERR));
	FAILS(vfiomig_device_finish(d, size, ERR), INCOMPLETE, 0);
	cannot_leave();
	write_ok(good + size - 1, 1);
	OK(vfiomig_device_finish(d, size, ERR));
	loads();
}

/* After the device refused bytes the session is dead. */
static void session_is_dead(void)
{
	unsigned char byte = 0;
	void *room = NULL;
	size_t length = 0;

	RESULT_IS(VFIOMIG_STATE_RESUMING, VFIOMIG_ACTION_NONE);
	still_resuming();
	FAILS(vfiomig_device_write(d, &byte, 1, 0, ERR), STALE, ESTALE);
	FAILS(vfiomig_device_reserve(d, VFIOMIG_UNKNOWN, &room, &length, ERR), STALE, ESTALE);
	FAILS(vfiomig_device_finish(d, size, ERR), STALE, ESTALE);
	FAILS(vfiomig_device_finish(d, VFIOMIG_UNKNOWN, ERR), STALE, ESTALE);
	cannot_leave();
}

/*
 * A header that mtty refuses. The trap: mtty has counted the bytes by then,
 * and would take the device out of RESUMING with them.
 */
static void corrupted(size_t at, const char *what)
{
	unsigned char bad[MTTY_MAX];
	void *room = NULL;
	size_t length = 0;

	memcpy(bad, good, size);
	bad[at] ^= 0x01;

	lab_step("corrupted %s, in one write", what);
	begin();
	FAILS(vfiomig_device_write(d, bad, size, 0, ERR), DEVICE, EFAULT);
	session_is_dead();
	reset_helps();

	lab_step("corrupted %s, by reserve and commit", what);
	begin();
	OK(vfiomig_device_reserve(d, VFIOMIG_UNKNOWN, &room, &length, ERR));
	CHECK(length >= size);
	memcpy(room, bad, size);
	FAILS(vfiomig_device_commit(d, size, 0, ERR), DEVICE, EFAULT);
	session_is_dead();
	reset_helps();

	lab_step("corrupted %s, byte by byte", what);
	begin();
	for (size_t i = 0; i < MTTY_HEADER - 1; i++)
		write_ok(bad + i, 1);
	FAILS(vfiomig_device_write(d, bad + MTTY_HEADER - 1, 1, 0, ERR), DEVICE, EFAULT);
	session_is_dead();
	reset_helps();
}

/* The trap is real: what session_is_dead() relies on is the library, not the kernel. */
static void kernel_would_accept(void)
{
	unsigned char bad[MTTY_MAX];

	memcpy(bad, good, size);
	bad[0] ^= 0x01;
	lab_step("the kernel accepts what the device refused");
	begin();
	FAILS(vfiomig_device_write(d, bad, size, 0, ERR), DEVICE, EFAULT);
	cannot_leave();
	CHECK_EQ(raw_set_state(&device, VFIOMIG_STATE_STOP, NULL), 0);
	RAW_IS(&device, VFIOMIG_STATE_STOP);
	FAILS(vfiomig_device_set_state(d, VFIOMIG_STATE_RUNNING, VFIOMIG_ON_FAILURE_KEEP, 0, ERR),
	      STALE, ESTALE);
	OK(vfiomig_device_reset(d, ERR));
}

static void overlong(void)
{
	unsigned char bad[MTTY_MAX + 1] = { 0 };

	memcpy(bad, good, size);
	lab_step("one byte too long, in one write");
	begin();
	FAILS(vfiomig_device_write(d, bad, size + 1, 0, ERR), DEVICE, ENOMEM);
	session_is_dead();
	CHECK_EQ(lab_info(d).loaded_bytes, 0);
	reset_helps();

	lab_step("one byte too long, at the end");
	begin();
	write_ok(bad, size);
	FAILS(vfiomig_device_write(d, bad + size, 1, 0, ERR), DEVICE, ENOMEM);
	session_is_dead();
	CHECK_EQ(lab_info(d).loaded_bytes, size);
	reset_helps();

	lab_step("longer than its saver said");
	begin();
	write_ok(good, size);
	FAILS(vfiomig_device_finish(d, size - 1, ERR), INCOMPLETE, 0);
	cannot_leave();
	OK(vfiomig_device_finish(d, size, ERR));
	loads();
}

static void wrong_ports(void)
{
	lab_step("a stream of %zu bytes into a device of %zu", size_of_other_kind, size);
	begin();
	FAILS(vfiomig_device_write(d, of_other_kind, size_of_other_kind, 0, ERR), DEVICE,
	      size_of_other_kind > size ? ENOMEM : EFAULT);
	session_is_dead();
	reset_helps();

	lab_step("its header");
	begin();
	FAILS(vfiomig_device_write(d, of_other_kind, MTTY_HEADER, 0, ERR), DEVICE, EFAULT);
	session_is_dead();
	reset_helps();
}

static size_t sample(int number, int number_of_ports, unsigned char *buf)
{
	size_t length;

	lab_open_mdev(&device, number);
	d = lab_new(&device);
	uart_fill(&device, number_of_ports, GOOD);
	length = stream_save(&device, d, buf);
	CHECK_EQ(length, MTTY_SIZE(number_of_ports));
	vfiomig_device_free(d);
	lab_close(&device);
	return length;
}

static void target(int number, int number_of_ports, int number_of_other_kind)
{
	static const size_t lengths[] = { 0, 1, 23, 24, 25, 59, 60, 95 };

	ports = number_of_ports;
	size = sample(number, ports, good);
	size_of_other_kind = sample(number_of_other_kind, 3 - ports, of_other_kind);
	lab_open_mdev(&device, number + 1);
	d = lab_new(&device);
	good_still_loads();
	for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
		if (lengths[i] < size)
			truncated(lengths[i]);
	}
	corrupted(0, "magic");
	corrupted(7, "magic");
	corrupted(8, "major version");
	corrupted(12, "minor version");
	corrupted(16, "number of ports");
	corrupted(20, "flags");
	kernel_would_accept();
	overlong();
	wrong_ports();
	count_after_no_count();
	good_still_loads();
	vfiomig_device_free(d);
	lab_close(&device);
}

int main(int argc, char **argv)
{
	lab_begin(argc, argv);
	target(1, 2, 3);
	target(3, 1, 1);
	puts("ok");
	return 0;
}
