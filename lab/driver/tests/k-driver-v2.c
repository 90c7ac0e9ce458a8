// SPDX-License-Identifier: GPL-2.0-only
/*
 * v2: save and load in all four capability sets; each violation; failures in
 * the middle of an arc, ERROR and reset; delays.
 */
#include "raw.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

static double seconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

static size_t io_size = 1 << 20;

/* Writes all, in as many calls as the driver likes. */
static void put(int fd, const unsigned char *buf, size_t size)
{
	while (size) {
		ssize_t n = write(fd, buf, size);

		CHECK(n > 0);
		buf += n;
		size -= n;
	}
}

/* From one to the other until nothing comes; *end is 0 or ENOMSG. */
static size_t pump(int from, int to, int *end)
{
	static unsigned char buf[1 << 20];
	size_t total = 0;
	ssize_t n;

	while ((n = read(from, buf, io_size)) > 0) {
		put(to, buf, n);
		total += n;
	}
	*end = n < 0 ? errno : 0;
	return total;
}

static struct precopy_info precopy_info(int fd)
{
	struct precopy_info info = { .argsz = sizeof(info) };

	EQ(ioctl(fd, GET_PRECOPY_INFO, &info), 0);
	return info;
}

static void migrate(const char *config, uint64_t flags, bool enomsg)
{
	int save, load, end;
	size_t first = 0, total;
	uint64_t value = 0;
	struct dev a, b;
	double from;

	start(&a, 1, config);
	start(&b, 2, config);
	EQ(feature(&a, FEATURE_MIGRATION | VFIO_DEVICE_FEATURE_GET, &value, 8), 0);
	EQ(value, flags);
	EQ(v2_state(&a), RUNNING);
	set_bar(&a, BAR_FILL, 99);
	CHECK(bar(&a, BAR_CRC) != bar(&b, BAR_CRC));
	EQ(feature(&a, FEATURE_DATA_SIZE | VFIO_DEVICE_FEATURE_GET, &value, 8), 0);

	from = seconds();
	EQ(v2_set(&b, RESUMING, &load), 0);
	CHECK(load >= 0);
	if (flags & 4) {
		struct precopy_info info;

		EQ(v2_set(&a, PRE_COPY, &save), 0);
		CHECK(save >= 0);
		info = precopy_info(save);
		CHECK(info.initial_bytes > 0);
		EQ(info.dirty_bytes, 0);
		first = pump(save, load, &end);
		EQ(end, enomsg ? ENOMSG : 0);
		EQ(first, info.initial_bytes);
		EQ(precopy_info(save).initial_bytes, 0);
		set_bar(&a, BAR_INDEX, 3); /* it changes while it runs */
		set_bar(&a, BAR_WORD, 0x55aa55aa);
		CHECK(precopy_info(save).dirty_bytes > 0);
		EQ(precopy_info(save).initial_bytes, 0);
		if (flags & 2)
			EQ(v2_set(&a, PRE_COPY_P2P, NULL), 0);
		EQ(v2_set(&a, STOP_COPY, NULL), 0); /* the same fd goes on (V2-4) */
	} else {
		EQ(v2_set(&a, STOP_COPY, &save), 0);
		CHECK(save >= 0);
	}
	total = first + pump(save, load, &end);
	EQ(end, 0);
	if (!(flags & 4))
		EQ(total, value);
	EQ(read(save, &value, 8), 0); /* the end stays the end (F2) */
	EQ(v2_set(&a, STOP, NULL), 0);
	EQ(read(save, &value, 8), -1);
	EQ(errno, ENODEV);
	EQ(v2_set(&b, STOP, NULL), 0);
	EQ(v2_set(&b, RUNNING, NULL), 0);
	from = seconds() - from;
	EQ(v2_set(&a, RUNNING, NULL), 0);
	close(save);
	close(load);

	EQ(bar(&b, BAR_CRC), bar(&a, BAR_CRC));
	CLEAN(&a);
	CLEAN(&b);
	printf("%.3f s, %zu bytes in pre-copy of %zu: %s\n", from, first, total, config);
	finish(&a);
	finish(&b);
}

static void violations(void)
{
	struct precopy_info info = { .argsz = sizeof(info), .initial_bytes = 7 };
	static unsigned char buf[1 << 21];
	int save, load;
	struct dev a, b;
	size_t size;

	start(&a, 1, "dialect=v2 state=1M short_io=100000");
	start(&b, 2, "dialect=v2 state=1M");
	EQ(v2_set(&a, PRE_COPY, &save), 0);
	EQ(ioctl(save, GET_PRECOPY_INFO, &info), 0);
	VIOLATED(&a, V_INFO_DIRTY);
	EQ(ioctl(save, 0x1234), -1);
	EQ(errno, ENOTTY);
	EQ(v2_set(&a, STOP_COPY, NULL), 0);
	info.initial_bytes = info.dirty_bytes = 0;
	EQ(ioctl(save, GET_PRECOPY_INFO, &info), -1);
	EQ(errno, EINVAL);
	EQ(v2_set(&a, PRE_COPY, NULL), -EINVAL);
	VIOLATED(&a, V_BAD_ARC);
	EQ(v2_set(&a, ERROR, NULL), -EINVAL);
	VIOLATED(&a, V_BAD_ARC);
	EQ(v2_set(&a, 8, NULL), -EINVAL);
	VIOLATED(&a, V_BAD_ARC);
	set_bar(&a, BAR_INDEX, 0);
	VIOLATED(&a, V_BAR_STOPPED);
	EQ(pread(save, buf, 8, 0), -1);
	EQ(errno, ESPIPE);
	EQ(read(save, buf, sizeof(buf)), 100000); /* a short read */
	EQ(v2_set(&a, STOP, NULL), 0);
	VIOLATED(&a, V_LEFT_UNREAD);
	close(save);

	step("a cancelled save");
	EQ(v2_set(&a, STOP_COPY, &save), 0);
	EQ(read(save, buf, 1000), 1000);
	EQ(v2_set(&a, RUNNING, NULL), 0);
	EQ(read(save, buf, 1000), -1);
	EQ(errno, ENODEV);
	CLEAN(&a);
	close(save);

	step("a truncated stream");
	EQ(v2_set(&a, STOP_COPY, &save), 0);
	for (size = 0;;) {
		ssize_t n = read(save, buf + size, sizeof(buf) - size);

		CHECK(n >= 0);
		if (!n)
			break;
		size += n;
	}
	EQ(v2_set(&b, RESUMING, &load), 0);
	EQ(read(load, buf, 8), -1);
	EQ(errno, EBADF);
	put(load, buf, size - 1);
	EQ(v2_set(&b, STOP, NULL), -EINVAL);
	VIOLATED(&b, V_INCOMPLETE);
	EQ(v2_state(&b), RESUMING);
	put(load, buf + size - 1, 1);
	EQ(v2_set(&b, STOP, NULL), 0);
	EQ(write(load, buf, 8), -1);
	EQ(errno, ENODEV);
	CLEAN(&b);
	close(load);

	step("a damaged stream");
	EQ(v2_set(&b, RESUMING, &load), 0);
	buf[size / 2] ^= 1;
	EQ(write(load, buf, size), -1);
	EQ(errno, EINVAL);
	VIOLATED(&b, V_FRAME);
	EQ(write(load, buf, 8), -1);
	EQ(errno, ENODEV);
	EQ(reset(&b), 0);
	EQ(v2_state(&b), RUNNING);
	close(load);
	close(save);
	finish(&a);
	finish(&b);

	step("a device that accepts a truncated stream");
	start(&b, 2, "dialect=v2 lax_load=1");
	EQ(v2_set(&b, RESUMING, &load), 0);
	EQ(v2_set(&b, RUNNING, NULL), 0);
	CLEAN(&b);
	close(load);
	finish(&b);
}

static void failures(void)
{
	uint64_t flags;
	struct dev a;
	int fd;

	start(&a, 1, "dialect=v2 fail_to=STOP fail_errno=16 fail_count=1");
	/* RUNNING, RUNNING_P2P, then STOP fails: left in the middle (V2-3). */
	EQ(v2_set(&a, STOP_COPY, NULL), -EBUSY);
	EQ(v2_state(&a), RUNNING_P2P);
	EQ(v2_set(&a, STOP_COPY, &fd), 0);
	close(fd); /* closing it early changes nothing (F5) */
	EQ(v2_state(&a), STOP_COPY);
	EQ(v2_set(&a, RUNNING, NULL), 0);

	step("ERROR");
	set_bar(&a, BAR_FAIL, EIO | 1u << 31);
	EQ(v2_set(&a, PRE_COPY, NULL), -EIO);
	EQ(v2_state(&a), ERROR);
	EQ(v2_set(&a, RUNNING, NULL), -EINVAL);
	VIOLATED(&a, V_BAD_ARC);
	EQ(reset(&a), 0);
	EQ(v2_state(&a), RUNNING);

	step("reset from each state");
	for (uint32_t state = STOP; state <= PRE_COPY_P2P; state++) {
		char x;

		EQ(v2_set(&a, state, &fd), 0);
		EQ(v2_state(&a), state);
		EQ(reset(&a), 0);
		EQ(v2_state(&a), RUNNING);
		if (fd >= 0) {
			EQ(state == RESUMING ? write(fd, "", 1) : read(fd, &x, 1), -1);
			EQ(errno, ENODEV);
			close(fd);
		}
	}
	CLEAN(&a);
	EQ(a.size, 0);
	EQ(feature(&a, 11 | VFIO_DEVICE_FEATURE_GET, &flags, 8), -ENOTTY);

	step("closing returns to RUNNING");
	EQ(v2_set(&a, PRE_COPY, &fd), 0);
	close_dev(&a);
	EQ(read(fd, &flags, 8), -1);
	EQ(errno, ENODEV);
	open_dev(&a, 1);
	EQ(v2_state(&a), RUNNING);
	close(fd);
	finish(&a);
}

static void *to_stop_copy(void *argument)
{
	int fd;

	EQ(v2_set(argument, STOP_COPY, &fd), 0);
	close(fd);
	return NULL;
}

static void delays(void)
{
	struct dev a, b;
	pthread_t thread[2];
	double from;

	start(&a, 1, "dialect=v2 delay_ms=300 delay_to=STOP_COPY");
	start(&b, 2, "dialect=v2 delay_ms=300 delay_to=STOP_COPY");
	from = seconds();
	EQ(pthread_create(&thread[0], NULL, to_stop_copy, &a), 0);
	EQ(pthread_create(&thread[1], NULL, to_stop_copy, &b), 0);
	usleep(100000);
	EQ(v2_state(&a), STOP); /* answers while the last step is under way */
	for (int i = 0; i < 2; i++)
		pthread_join(thread[i], NULL);
	from = seconds() - from;
	CHECK(from >= 0.3 && from < 0.58);
	EQ(v2_set(&a, RUNNING, NULL), 0);
	EQ(v2_set(&b, RUNNING, NULL), 0);
	finish(&a);
	finish(&b);
}

int main(int argc, char **argv)
{
	begin(argc, argv);
	migrate("dialect=v2 state=1M", 7, true);
	migrate("dialect=v2 state=1M precopy_share=30", 7, true);
	migrate("dialect=v2 state=1M enomsg=0 short_io=1000", 7, false);
	migrate("dialect=v2 state=1M p2p=0", 5, true);
	migrate("dialect=v2 state=1M precopy=0", 3, true);
	migrate("dialect=v2 state=1M precopy=0 p2p=0", 1, true);
	io_size = 777;
	migrate("dialect=v2 state=100000 segment=1K", 7, true);
	io_size = 1 << 20;
	migrate("dialect=v2 state=16M segment=1M", 7, true);
	violations();
	failures();
	delays();
	return 0;
}
