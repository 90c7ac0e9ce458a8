/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A log that cannot be read is never "no dirt": what it may have hidden is dirty, the result says DEGRADED with the
 * errno, and the log is started anew. One that does not work at all is found out at the start (L6, P13).
 */
#include "fake.h"

static struct fake_log l, l2;
static struct fake f, g;
static struct vfiomig_device *d[2];
static struct vfiomig_tracker *t;
static uint64_t bitmap[4];
static unsigned lines;
static char last_line[256];

static void on_log(void *opaque, int level, const char *message)
{
	(void)opaque;
	(void)level;
	lines++;
	snprintf(last_line, sizeof last_line, "%s", message);
}

/* Two mappings, 30 units of 4096 bytes, with a hole between, and a unit so far away that it is read apart. */
static void mapped(void)
{
	OK(map_units(t, 0, 20, 0));
	OK(map_units(t, 50, 10, 0));
	OK(map_units(t, FAR_UNIT, 1, 0));
}
#define MAPPED (31 * UNIT)
#define ALL0 (0xfffffull | 0x3ffull << 50)

static struct vfiomig_harvest_result harvest(void)
{
	memset(bitmap, 0, sizeof bitmap);
	return harvest_units(t, 0, 256, bitmap);
}

static void exact(void)
{
	struct vfiomig_harvest_result out;

	log_write(&l, 7);
	out = harvest();
	CHECK(!out.flags && !out.failed_reads && !out.first_errno && !out.degraded_bytes && out.dirty_pages == 1);
	CHECK_EQ(bitmap[0], 1 << 7);
	CHECK_EQ(info_of(t).failed_logs, 0);
}

static void degraded(const struct vfiomig_harvest_result *out, int error)
{
	CHECK_EQ(out->flags, VFIOMIG_HARVEST_DEGRADED);
	CHECK_EQ(out->first_errno, error);
	CHECK_EQ(out->failed_reads, 1);
	CHECK_EQ(out->degraded_bytes, MAPPED);
	CHECK_EQ(bitmap[0], ALL0);
	CHECK(!bitmap[1] && !bitmap[2] && !bitmap[3]);
}

/* --- a report fails ----------------------------------------------------------------------------------------------- */

static void one_fails(unsigned at, int error, bool late)
{
	struct vfiomig_harvest_result out;

	fake_log_init(&l);
	t = fake_log_tracker(&l);
	mapped();
	OK(vfiomig_tracker_start(t, ERRP));
	exact();
	log_write(&l, 3);
	log_write(&l, 55);
	l.fault[0] = (struct log_fault){.call = L_REPORT, .at = at, .error = error, .late = late};
	out = harvest();
	/* A positive value is no errno, and no success either. */
	degraded(&out, error < 0 ? EIO : error);
	CHECK_EQ(out.newly_dirty_pages, 30);
	/* Started anew, as L6 asks for; so it is right again. */
	CHECK(l.calls[L_START] == 2 && l.calls[L_STOP] == 1);
	exact();
	LOG_END(&l, t);
}

/* What is dirty because of a failure is kept like anything else, and reported for the part that asks. */
static void kept(void)
{
	struct vfiomig_dest dest = dest_units(50, 10, bitmap);
	struct vfiomig_harvest_request rq = request_for(&dest, 1);
	struct vfiomig_harvest_result out;

	fake_log_init(&l);
	t = fake_log_tracker(&l);
	mapped();
	OK(vfiomig_tracker_start(t, ERRP));
	l.fault[0] = (struct log_fault){.call = L_REPORT, .at = 1, .error = EIO};
	memset(bitmap, 0, sizeof bitmap);
	VFIOMIG_INIT(&out);
	OK(vfiomig_tracker_harvest(t, &rq, &out, ERRP));
	CHECK(out.flags == VFIOMIG_HARVEST_DEGRADED && out.degraded_bytes == MAPPED && out.dirty_pages == 10);
	CHECK_EQ(bitmap[0], 0x3ff);
	/* The rest comes without a failure of its own. */
	dest = dest_units(0, 50, bitmap);
	rq.flags = VFIOMIG_HARVEST_F_NO_READ;
	memset(bitmap, 0, sizeof bitmap);
	OK(vfiomig_tracker_harvest(t, &rq, &out, ERRP));
	CHECK(!out.flags && !out.degraded_bytes && !out.first_errno && out.dirty_pages == 20);
	CHECK_EQ(bitmap[0], 0xfffff);
	LOG_END(&l, t);
}

/* The log cannot be started anew: all is dirty each time, until that works again. */
static void broken_for_a_while(void)
{
	struct vfiomig_harvest_result out;

	fake_log_init(&l);
	t = fake_log_tracker(&l);
	mapped();
	OK(vfiomig_tracker_start(t, ERRP));
	l.fault[0] = (struct log_fault){.call = L_REPORT, .at = 1, .error = EIO};
	l.fault[1] = (struct log_fault){.call = L_START, .at = 1, .error = ENOMEM, .sticky = true};
	out = harvest();
	degraded(&out, EIO);
	for (int i = 0; i < 2; i++) {
		CHECK_EQ(info_of(t).failed_logs, 1);
		out = harvest();
		degraded(&out, ENOMEM);
	}
	CHECK_EQ(info_of(t).kind, VFIOMIG_TRACKER_KIND_OPS);
	/* What is mapped meanwhile is no exception. */
	OK(map_units(t, 64, 1, 0));
	out = harvest();
	CHECK(out.degraded_bytes == MAPPED + UNIT && bitmap[1] == 1);
	l.fault[1].at = 0;
	/* It runs from this harvest on, which still tells of the time without it. */
	out = harvest();
	CHECK(out.flags == VFIOMIG_HARVEST_DEGRADED && bitmap[0] == ALL0 && bitmap[1] == 1);
	exact();
	/* A log that is broken is not stopped again at the end. */
	l.fault[0] = (struct log_fault){.call = L_REPORT, .at = 1, .error = EIO};
	l.fault[1] = (struct log_fault){.call = L_START, .at = 1, .error = ENOMEM, .sticky = true};
	harvest();
	OK(vfiomig_tracker_stop(t, ERRP));
	CHECK_EQ(info_of(t).failed_logs, 0);
	l.fault[1].at = 0;
	OK(vfiomig_tracker_start(t, ERRP));
	exact();
	LOG_END(&l, t);
}

static int no_unmap(void *opaque, const struct vfiomig_range *range)
{
	(void)opaque;
	(void)range;
	return 0;
}

/* The report that belongs to an unmapping fails: the range is dirty, and gone. */
static void while_unmapping(void)
{
	const struct vfiomig_range range = {50 * UNIT, 10 * UNIT};
	struct vfiomig_dest dest = dest_units(0, 256, bitmap);
	struct vfiomig_harvest_request rq = request_for(&dest, 1);
	struct vfiomig_harvest_result out;

	fake_log_init(&l);
	t = fake_log_tracker(&l);
	mapped();
	OK(vfiomig_tracker_start(t, ERRP));
	l.fault[0] = (struct log_fault){.call = L_REPORT, .at = 1, .error = EIO};
	VFIOMIG_INIT(&out);
	memset(bitmap, 0, sizeof bitmap);
	OK(vfiomig_tracker_unmap(t, &range, no_unmap, NULL, 0, &rq, &out, ERRP));
	degraded(&out, EIO);
	CHECK_EQ(info_of(t).mapped_ranges, 2);
	exact();
	LOG_END(&l, t);
}

/* Of several address spaces only the one whose log failed is all dirty. */
static void one_of_two(uint32_t flags)
{
	struct vfiomig_tracker *both[2];
	struct vfiomig_dest dest = dest_units(0, 256, bitmap);
	struct vfiomig_harvest_request rq = request_for(&dest, 1);
	struct vfiomig_harvest_result out;

	fake_log_init(&l);
	fake_log_init(&l2);
	both[0] = t = fake_log_tracker_with(&l, 0, flags);
	mapped();
	both[1] = fake_log_tracker_with(&l2, 0, flags);
	OK(map_units(both[1], 128, 64, 0));
	OK(vfiomig_tracker_start(both[0], ERRP));
	OK(vfiomig_tracker_start(both[1], ERRP));
	log_write(&l2, 130);
	l.fault[0] = (struct log_fault){.call = L_REPORT, .at = 1, .error = EIO};
	memset(bitmap, 0, sizeof bitmap);
	VFIOMIG_INIT(&out);
	OK(vfiomig_tracker_harvest_many(both, 2, &rq, &out, ERRP));
	CHECK(out.flags == VFIOMIG_HARVEST_DEGRADED && out.failed_reads == 1 && out.degraded_bytes == MAPPED);
	CHECK(bitmap[0] == ALL0 && !bitmap[1] && bitmap[2] == 4 && !bitmap[3]);
	CHECK(l.calls[L_START] == 2 && l2.calls[L_START] == 1);
	exact();
	LOG_END(&l2, both[1]);
	LOG_END(&l, t);
}

/* --- devices ------------------------------------------------------------------------------------------------------ */

static void two_devices(void)
{
	struct vfiomig_tracker_options o;

	fake_init(&f);
	fake_init(&g);
	fake_log_init(&l);
	fake_log_init(&l2);
	f.log = &l;
	g.log = &l2;
	d[0] = fake_device(&f);
	d[1] = fake_device(&g);
	VFIOMIG_INIT(&o);
	o.devices = d;
	o.device_count = 2;
	OK(vfiomig_tracker_new(&o, &t, ERRP));
	mapped();
}

static void device_log_fails(void)
{
	struct vfiomig_harvest_result out;

	two_devices();
	OK(vfiomig_tracker_start(t, ERRP));
	exact();
	log_write(&l2, 9);
	l.fault[0] = (struct log_fault){.call = L_REPORT, .at = 2, .error = EIO, .late = true};
	out = harvest();
	degraded(&out, EIO);
	/* The other one is as it was. */
	CHECK(l.calls[L_START] == 2 && l2.calls[L_START] == 1);
	log_write(&l2, 59);
	out = harvest();
	CHECK(!out.flags && bitmap[0] == 1ull << 59);
	LOG_END(&l, t);
	LOG_END(&l2, NULL);
	FAKE_END(&f, d[0]);
	FAKE_END(&g, d[1]);
}

/*
 * A device that is freed while a tracker refers to it was unplugged: everything is dirty once, and it is never
 * called again.
 */
static void freed_device(void)
{
	struct vfiomig_harvest_result out;

	two_devices();
	OK(vfiomig_tracker_start(t, ERRP));
	exact();
	FAKE_END(&f, d[0]);
	l.freed = true;
	log_write(&l2, 3);
	out = harvest();
	degraded(&out, ENODEV);
	/* The other log goes on, and everything else does too. */
	log_write(&l2, 3);
	out = harvest();
	CHECK(!out.flags && bitmap[0] == 1ull << 3);
	CHECK_EQ(info_of(t).failed_logs, 0);
	CHECK(l2.calls[L_START] == 1 && l2.running);
	OK(map_units(t, 64, 1, 0));
	out = harvest();
	CHECK(!out.flags && !bitmap[0] && bitmap[1] == 1);
	OK(vfiomig_tracker_stop(t, ERRP));
	CHECK(!l2.running);
	OK(vfiomig_tracker_start(t, ERRP));
	CHECK_EQ(info_of(t).kind, VFIOMIG_TRACKER_KIND_DMA_LOG);
	/* A device's _free leaves its log as it is: it changes no device. */
	CHECK(l.running);
	l.running = false;
	LOG_END(&l, t);
	LOG_END(&l2, NULL);
	FAKE_END(&g, d[1]);
}

/* --- found out at the start --------------------------------------------------------------------------------------- */

static const struct bad_start {
	const char *name;
	struct log_fault fault;
	uint64_t page_size;
	const char *why;
} starts[] = {
	{"START is refused", {.call = L_START, .at = 1, .error = EOPNOTSUPP, .sticky = true}, 0,
		"start: Operation not supported"},
	{"no list is short enough", {.call = L_START, .at = 1, .error = E2BIG, .sticky = true}, 0,
		"start: Argument list too long"},
	{"it cannot be read", {.call = L_REPORT, .at = 1, .error = EOPNOTSUPP, .sticky = true}, 0,
	 "reading: Operation not supported"},
	{"it fails in the first read", {.call = L_REPORT, .at = 1, .error = EIO, .late = true}, 0,
		"reading: Input/output error"},
	{"its page is none", {.call = L_START, .at = 0}, 3 * UNIT, "start: Protocol error"},
};

static void bad_start(const struct bad_start *b, bool devices)
{
	int before = atomic_load(&t_failures);
	struct vfiomig_harvest_result out;

	if (devices) {
		two_devices();
		l2.fault[0] = b->fault;
		l2.page_size = b->page_size;
	} else {
		fake_log_init(&l);
		fake_log_init(&l2);
		l.fault[0] = b->fault;
		l.page_size = b->page_size;
		t = fake_log_tracker(&l);
		mapped();
	}
	lines = 0;
	OK(vfiomig_tracker_start(t, ERRP));
	struct vfiomig_tracker_info info = info_of(t);
	CHECK(info.kind == VFIOMIG_TRACKER_KIND_EVERYTHING && info.flags == VFIOMIG_TRACKER_PERPETUAL && info.starts == 1);
	CHECK_HAS(info.reason, b->why);
	CHECK(lines);
	CHECK_HAS(last_line, b->why);
	/* Both logs are off, also the one that works. */
	CHECK(!l.running && !l2.running);
	for (int i = 0; i < 2; i++) {
		out = harvest();
		/* Nothing has failed: there is no log, and it was said. */
		CHECK(!out.flags && !out.failed_reads && bitmap[0] == ALL0 && out.newly_dirty_pages == 30);
	}
	OK(vfiomig_tracker_stop(t, ERRP));
	/* The next start tries it again. */
	l.fault[0].at = l2.fault[0].at = 0;
	l.page_size = l2.page_size = 0;
	CHECK(info_of(t).kind != VFIOMIG_TRACKER_KIND_EVERYTHING);
	OK(vfiomig_tracker_start(t, ERRP));
	CHECK(info_of(t).kind != VFIOMIG_TRACKER_KIND_EVERYTHING);
	exact();
	if (atomic_load(&t_failures) != before)
		printf("start: %s, %s\n", b->name, devices ? "devices" : "functions");
	LOG_END(&l, t);
	LOG_END(&l2, NULL);
	if (devices) {
		FAKE_END(&f, d[0]);
		FAKE_END(&g, d[1]);
	}
}

/* For the caller it is over in any case; what could not be stopped is stopped before the next start. */
static void bad_stop(void)
{
	fake_log_init(&l);
	t = fake_log_tracker(&l);
	mapped();
	OK(vfiomig_tracker_start(t, ERRP));
	l.fault[0] = (struct log_fault){.call = L_STOP, .at = 1, .error = EINVAL};
	lines = 0;
	OK(vfiomig_tracker_stop(t, ERRP));
	CHECK(lines == 1 && info_of(t).starts == 0);
	CHECK_HAS(last_line, "stop: Invalid argument");
	OK(vfiomig_tracker_start(t, ERRP));
	exact();
	LOG_END(&l, t);
}

int main(void)
{
	t_begin();
	vfiomig_set_log(on_log, NULL, VFIOMIG_LOG_WARNING);
	for (unsigned at = 1; at <= 2; at++)
		for (int late = 0; late < 2; late++)
			one_fails(at, EIO, late);
	one_fails(1, EOPNOTSUPP, false);
	one_fails(1, -5, false);
	kept();
	broken_for_a_while();
	while_unmapping();
	one_of_two(0);
	one_of_two(VFIOMIG_OPS_F_ANY_THREAD);
	device_log_fails();
	freed_device();
	for (size_t i = 0; i < sizeof starts / sizeof *starts; i++) {
		bad_start(&starts[i], false);
		bad_start(&starts[i], true);
	}
	bad_stop();
	vfiomig_set_log(NULL, NULL, 0);
	return t_end();
}
