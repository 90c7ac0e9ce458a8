/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * On a device fd, too, signals are blocked in every request of every dialect, registers of a migration region
 * as well, and a state change that a driver has cut short (EINTR) is not asked for a second time: the state is read.
 * The functions of libc that the library calls are replaced by those below.
 */
#include "harness.h"
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>

#define BASE 0x90000000ll
#define DATA 0x1000ll

static int dev = -1;
static uint32_t state = 1;
static bool v2, interrupt;
static unsigned state_writes, requests, not_blocked;

static void look(void)
{
	sigset_t now;

	pthread_sigmask(SIG_BLOCK, NULL, &now);
	requests++;
	not_blocked += !sigismember(&now, SIGUSR1) || !sigismember(&now, SIGCHLD);
}

static int set_state(uint32_t to)
{
	state_writes++;
	if (interrupt) {
		interrupt = false;
		return EINTR;
	}
	state = to;
	return 0;
}

static int feature(uint32_t *w)
{
	int fds[2], error;

	if (!v2)
		return ENOTTY;
	switch (w[1]) {
	case 1 | 1 << 16: w[2] = 5; w[3] = 0; return 0;
	case 2 | 1 << 16: w[2] = state; w[3] = -1u; return 0;
	case 2 | 1 << 17:
		error = set_state(w[2]);
		w[3] = -1u;
		if (!error && state == 3 && !pipe(fds)) {
			CHECK_EQ(write(fds[1], "abc", 3), 3);
			close(fds[1]);
			w[3] = (uint32_t)fds[0];
		}
		return error;
	}
	return ENOTTY;
}

int ioctl(int fd, unsigned long request, ...)
{
	va_list list;

	va_start(list, request);
	uint32_t *w = va_arg(list, void *);
	va_end(list);
	errno = ENOTTY;
	if (fd != dev)
		return -1;
	look();
	switch (request) {
	case 0x3b6b: w[1] = 3; w[2] = 10; w[3] = 0; return 0;
	case 0x3b6c: {
		const uint32_t argsz = w[0], index = w[2];
		const uint64_t place[2] = {index == 9 ? 0x10000 : 0, BASE};

		w[1] = 3;
		w[3] = 0;
		memcpy(w + 4, place, sizeof place);
		w[0] = 32;
		if (index != 9)
			return 0;
		w[0] = 48;
		w[1] |= 8;
		if (argsz >= 48) {
			w[3] = 32; w[8] = 2 | 1 << 16; w[9] = 0; w[10] = 3; w[11] = 1;
		}
		return 0;
	}
	case 0x3b6f: state = v2 ? 2 : 1; return 0;
	case 0x3b75: errno = feature(w); return errno ? -1 : 0;
	}
	return -1;
}

/* A segment of 100 bytes, again and again. */
ssize_t pread64(int fd, void *buf, size_t n, off64_t at)
{
	uint64_t value = 0;

	look();
	CHECK_EQ(fd, dev);
	if (at >= BASE + DATA)
		return (ssize_t)n;
	switch (at - BASE) {
	case 0: value = state; break;
	case 8: case 24: value = 100; break;
	case 16: value = DATA; break;
	}
	memcpy(buf, &value, n > 8 ? 8 : n);
	return (ssize_t)n;
}

ssize_t pwrite64(int fd, const void *buf, size_t n, off64_t at)
{
	uint32_t value;

	look();
	CHECK_EQ(fd, dev);
	if (at != BASE)
		return (ssize_t)n;
	memcpy(&value, buf, 4);
	errno = set_state(value);
	return errno ? -1 : (ssize_t)n;
}

static void course(bool features)
{
	struct vfiomig_device *d = NULL;
	struct vfiomig_device_info info;
	struct vfiomig_device_pending pending;
	sigset_t before, after;
	unsigned char buf[3];
	uint32_t flags;

	v2 = features;
	state = v2 ? 2 : 1;
	requests = state_writes = not_blocked = 0;
	pthread_sigmask(SIG_BLOCK, NULL, &before);
	OK(vfiomig_device_new_kernel(dev, NULL, &d, ERRP));
	VFIOMIG_INIT(&info);
	OK(vfiomig_device_get_info(d, &info, ERRP));
	CHECK_EQ(info.dialect, v2 ? VFIOMIG_DIALECT_V2 : VFIOMIG_DIALECT_V1);
	OK(vfiomig_device_reprobe(d, ERRP));
	interrupt = true;
	FAILS(vfiomig_device_set_state(d, VFIOMIG_STATE_STOP, 0, 0, ERRP), EINTR, VFIOMIG_ERR_DEVICE);
	CHECK_EQ(state_writes, 1);
	CHECK_EQ(RESULT->found, VFIOMIG_STATE_RUNNING);
	OK(vfiomig_device_set_state(d, VFIOMIG_STATE_STOP_COPY, 0, 0, ERRP));
	VFIOMIG_INIT(&pending);
	OK(vfiomig_device_get_pending(d, VFIOMIG_PENDING_F_EXACT, &pending, ERRP));
	CHECK_EQ(OK(vfiomig_device_read(d, buf, sizeof buf, &flags, ERRP)), 3);
	OK(vfiomig_device_reset(d, ERRP));
	vfiomig_device_free(d);
	CHECK(requests > 10);
	CHECK_EQ(not_blocked, 0);
	pthread_sigmask(SIG_BLOCK, NULL, &after);
	for (int signal = 1; signal < 32; signal++)
		CHECK_EQ(sigismember(&before, signal), sigismember(&after, signal));
}

int main(void)
{
	t_begin();
	dev = open("/dev/null", O_RDWR | O_CLOEXEC);
	course(false);
	course(true);
	close(dev);
	return t_end();
}
