// SPDX-License-Identifier: GPL-2.0-only
/*
 * data_ms: a driver that is slow to give and to take its data is so by the
 * time that was asked for, on both sides and in every dialect, and by no
 * processor time.
 */
#include "raw.h"

#include <stdio.h>
#include <time.h>
#include <unistd.h>

#define MIB 1
#define MS 600 /* per MiB */

static double seconds(clockid_t clock)
{
	struct timespec t;

	clock_gettime(clock, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

/* The time of one side: it slept for all of its data, and did not work meanwhile. */
static void slept(const char *what, double real, double processor, bool slow)
{
	const double asked = MIB * MS / 1e3;

	printf("%s: %.3f s, %.3f s of them processor time; asked for: %.3f s\n", what, real, processor,
	       slow ? asked : 0);
	if (!slow)
		return;
	/* The last sleep may be owed still; a busy host has the rest. */
	CHECK(real >= asked * 0.95);
	CHECK(processor < asked * 0.75); /* which has the work, too */
}

struct watch {
	double real, processor;
};

static void begin_watch(struct watch *w)
{
	w->real -= seconds(CLOCK_MONOTONIC);
	w->processor -= seconds(CLOCK_PROCESS_CPUTIME_ID);
}

static void end_watch(struct watch *w)
{
	w->real += seconds(CLOCK_MONOTONIC);
	w->processor += seconds(CLOCK_PROCESS_CPUTIME_ID);
}

static void set_both(const char *keys)
{
	EQ(set_attribute(1, "config", keys), 0);
	EQ(set_attribute(2, "config", keys), 0);
}

/* By calls of `size` bytes, which need not be whole segments. */
static void by_data_fd(struct dev *a, struct dev *b, size_t size, struct watch *save, struct watch *load)
{
	static unsigned char buf[1 << 20];
	int from, to;
	ssize_t n;

	EQ(v2_set(a, STOP_COPY, &from), 0);
	EQ(v2_set(b, RESUMING, &to), 0);
	for (;;) {
		begin_watch(save);
		n = read(from, buf, size);
		end_watch(save);
		CHECK(n >= 0);
		if (!n)
			break;
		begin_watch(load);
		EQ(write(to, buf, n), n);
		end_watch(load);
	}
	EQ(v2_set(a, RUNNING, NULL), 0);
	EQ(v2_set(b, RUNNING, NULL), 0);
	close(from);
	close(to);
}

/* The driver sees no access to a mapped window, so the time is that of the registers. */
static void by_region(struct dev *a, struct dev *b, struct watch *save, struct watch *load)
{
	static unsigned char buf[1 << 20];
	uint64_t offset, size;

	EQ(change_state(a, BIT_RUNNING, BIT_SAVING), 0);
	EQ(change_state(b, BIT_RUNNING, BIT_RESUMING), 0);
	while (reg(a, R_PENDING)) {
		begin_watch(save);
		offset = reg(a, R_OFFSET);
		end_watch(save);
		size = reg(a, R_SIZE);
		CHECK(size && size <= sizeof(buf));
		read_window(a, buf, offset, size);
		write_window(b, buf, reg(b, R_OFFSET), size);
		begin_watch(load);
		EQ(set_reg(b, R_SIZE, size), 0);
		end_watch(load);
	}
	EQ(change_state(a, BIT_SAVING, BIT_RUNNING), 0);
	EQ(change_state(b, BIT_RESUMING, BIT_RUNNING), 0);
}

static void migrate(const char *config, size_t size, bool slow)
{
	struct watch save = { 0, 0 }, load = { 0, 0 };
	struct dev a, b;
	char keys[64];

	step("%s, %zu, %s", config, size, slow ? "slow" : "fast");
	start(&a, 1, config);
	start(&b, 2, config);
	set_bar(&a, BAR_FILL, 7);
	snprintf(keys, sizeof(keys), "data_ms=%d", slow ? MS : 0);
	set_both(keys);
	if (a.size)
		by_region(&a, &b, &save, &load);
	else
		by_data_fd(&a, &b, size, &save, &load);
	puts(config);
	slept("save", save.real, save.processor, slow);
	slept("load", load.real, load.processor, slow);
	EQ(bar(&b, BAR_CRC), bar(&a, BAR_CRC));
	CLEAN(&a);
	CLEAN(&b);
	finish(&a);
	finish(&b);
}

int main(int argc, char **argv)
{
	struct dev a;

	begin(argc, argv);
	migrate("dialect=v2 state=1M", 1 << 20, true);
	migrate("dialect=v2 state=1M", 1000, true);
	migrate("dialect=v2 state=1M", 1 << 20, false);
	migrate("dialect=v1 state=1M", 0, true);
	migrate("dialect=v1 state=1M", 0, false);
	migrate("dialect=draft2 state=1M", 0, true);

	start(&a, 1, "dialect=v2");
	EQ(set_attribute(1, "config", "data_ms=100001"), -EINVAL);
	EQ(set_attribute(1, "config", "data_ms=100000"), 0);
	finish(&a);
	return 0;
}
