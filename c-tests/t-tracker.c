/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A tracker says which log it reads and why; starts are counted; mappings come and go in the order that loses no page;
 * what is refused changes nothing (P14, P23, P25).
 */
#include "fake.h"

static struct fake_log l, l2;
static struct vfiomig_tracker *t;
static uint64_t bitmap[64];

/* --- which log ---------------------------------------------------------------------------------------------------- */

enum devices { NONE, LOGS, MIXED };

static const struct choice {
	const char *name;
	uint32_t flags;
	enum devices devices;
	uint32_t kind;
	const char *why;
	uint32_t started_as; /* once started; the container and the page tables are /dev/null */
	const char *why_then;
} choices[] = {
	{"nothing", 0, NONE, VFIOMIG_TRACKER_KIND_EVERYTHING, "no device was named", VFIOMIG_TRACKER_KIND_EVERYTHING, "named"},
	{"nothing wanted", VFIOMIG_TRACKER_F_EVERYTHING, LOGS, VFIOMIG_TRACKER_KIND_EVERYTHING, "asked for",
	 VFIOMIG_TRACKER_KIND_EVERYTHING, "asked for"},
	{"two devices with logs", 0, LOGS, VFIOMIG_TRACKER_KIND_DMA_LOG, "every device", VFIOMIG_TRACKER_KIND_DMA_LOG,
	 "every device"},
	{"logs come first", VFIOMIG_TRACKER_F_HWPT | VFIOMIG_TRACKER_F_TYPE1, LOGS, VFIOMIG_TRACKER_KIND_DMA_LOG,
		"every device",
	 VFIOMIG_TRACKER_KIND_DMA_LOG, "every device"},
	{"one has none", 0, MIXED, VFIOMIG_TRACKER_KIND_EVERYTHING, "second keeps no log of its own",
		VFIOMIG_TRACKER_KIND_EVERYTHING,
	 "second"},
	{"switched off", VFIOMIG_TRACKER_F_NO_DEVICE_LOG, LOGS, VFIOMIG_TRACKER_KIND_EVERYTHING, "switched off",
	 VFIOMIG_TRACKER_KIND_EVERYTHING, "switched off"},
	{"a container that is none", VFIOMIG_TRACKER_F_TYPE1, MIXED, VFIOMIG_TRACKER_KIND_EVERYTHING, "container",
	 VFIOMIG_TRACKER_KIND_EVERYTHING, "container"},
	{"page tables that are none", VFIOMIG_TRACKER_F_HWPT, MIXED, VFIOMIG_TRACKER_KIND_HWPT,
		"second keeps no log of its own",
	 VFIOMIG_TRACKER_KIND_EVERYTHING, "second keeps no log of its own; dirty tracking of hwpt 7: start"},
};

static void chosen(const struct choice *c, int null)
{
	struct fake f, g;
	struct vfiomig_device *devices[2];
	const uint32_t hwpts[] = {7};
	struct vfiomig_device_ops ops;
	struct vfiomig_device_options named;
	struct vfiomig_tracker_options o;
	int before = atomic_load(&t_failures);

	fake_init(&f);
	fake_init(&g);
	fake_log_init(&l);
	fake_log_init(&l2);
	f.log = &l;
	g.log = c->devices == MIXED ? NULL : &l2;
	devices[0] = fake_device(&f);
	fake_ops(&g, &ops);
	VFIOMIG_INIT(&named);
	named.name = "second";
	OK(vfiomig_device_new_ops(&ops, &g, &named, &devices[1], ERRP));
	VFIOMIG_INIT(&o);
	o.flags = c->flags;
	o.devices = c->devices == NONE ? NULL : devices;
	o.device_count = c->devices == NONE ? 0 : 2;
	o.hwpt_ids = hwpts;
	o.hwpt_count = 1;
	o.container_fd = o.iommufd = null;
	OK(vfiomig_tracker_new(&o, &t, ERRP));
	OK(map_units(t, 0, 100, 0));

	struct vfiomig_tracker_info info = info_of(t);
	CHECK_EQ(info.kind, c->kind);
	CHECK_EQ(info.flags, c->kind == VFIOMIG_TRACKER_KIND_EVERYTHING ? VFIOMIG_TRACKER_PERPETUAL : 0);
	CHECK_HAS(info.reason, c->why);
	/* The same each time, for what failed once may work the next time. */
	for (int i = 0; i < 2; i++) {
		OK(vfiomig_tracker_start(t, ERRP));
		info = info_of(t);
		CHECK_EQ(info.kind, c->started_as);
		CHECK_HAS(info.reason, c->why_then);
		bool all = c->started_as == VFIOMIG_TRACKER_KIND_EVERYTHING;
		CHECK_EQ(info.flags, all ? VFIOMIG_TRACKER_PERPETUAL : 0);
		CHECK_EQ(info.failed_logs, 0);
		memset(bitmap, 0, sizeof bitmap);
		CHECK_EQ(harvest_units(t, 0, 100, bitmap).newly_dirty_pages, all ? 100 : 0);
		OK(vfiomig_tracker_stop(t, ERRP));
		CHECK_EQ(info_of(t).kind, c->kind);
		CHECK_HAS(info_of(t).reason, c->why);
	}
	if (atomic_load(&t_failures) != before)
		printf("choice: %s\n", c->name);
	LOG_END(&l, t);
	LOG_END(&l2, NULL);
	FAKE_END(&f, devices[0]);
	FAKE_END(&g, devices[1]);
}

/* --- counted starts ----------------------------------------------------------------------------------------------- */

static void counted(void)
{
	fake_log_init(&l);
	t = fake_log_tracker(&l);
	OK(map_units(t, 0, 64, 0));
	FAILS(vfiomig_tracker_stop(t, ERRP), 0, VFIOMIG_ERR_ORDER);
	CHECK_EQ(info_of(t).starts, 0);
	OK(vfiomig_tracker_start(t, ERRP));
	log_write(&l, 5);
	/* A dirty-rate tool comes and goes; the log of the migration goes on (P14). */
	OK(vfiomig_tracker_start(t, ERRP));
	CHECK_EQ(info_of(t).starts, 2);
	log_write(&l, 6);
	OK(vfiomig_tracker_stop(t, ERRP));
	CHECK_EQ(info_of(t).starts, 1);
	CHECK_EQ(l.calls[L_START], 1);
	CHECK_EQ(l.calls[L_STOP], 0);
	memset(bitmap, 0, sizeof bitmap);
	CHECK_EQ(harvest_units(t, 0, 64, bitmap).newly_dirty_pages, 2);
	CHECK_EQ(bitmap[0], 3ull << 5);
	OK(vfiomig_tracker_stop(t, ERRP));
	CHECK(!l.running);
	FAILS(vfiomig_tracker_stop(t, ERRP), 0, VFIOMIG_ERR_ORDER);
	/* Without the log there is nothing to harvest, and what it held is gone. */
	struct vfiomig_dest dest = dest_units(0, 64, bitmap);
	struct vfiomig_harvest_request rq = request_for(&dest, 1);
	FAILS(vfiomig_tracker_harvest(t, &rq, NULL, ERRP), 0, VFIOMIG_ERR_ORDER);
	OK(vfiomig_tracker_start(t, ERRP));
	CHECK_EQ(harvest_units(t, 0, 64, bitmap).dirty_pages, 0);
	/* _free stops what runs. */
	LOG_END(&l, t);
	CHECK_EQ(l.calls[L_STOP], 2);
}

static void described(void)
{
	struct vfiomig_tracker_info info;

	fake_log_init(&l);
	l.page_size = 16 * UNIT;
	t = fake_log_tracker_with(&l, 2 * UNIT, 0);
	info = info_of(t);
	CHECK_EQ(info.kind, VFIOMIG_TRACKER_KIND_OPS);
	CHECK_HAS(info.reason, "VMM");
	CHECK(info.page_size == 2 * UNIT && !info.mapped_ranges && !info.logged_ranges && !info.flags && !info.reserved);
	for (int i = 0; i < 20; i++)
		OK(map_units(t, (uint64_t)i * 1000, 16, 0));
	OK(map_units(t, 16, 16, 0)); /* joins the first */
	l.most = 5;
	OK(vfiomig_tracker_start(t, ERRP));
	info = info_of(t);
	CHECK(info.page_size == 16 * UNIT && info.mapped_ranges == 20 && info.logged_ranges <= 5 && info.logged_ranges >= 1);
	/* Folded ranges hold more than was asked for, never less. */
	uint64_t one = 0;
	for (int i = 0; i < 20; i++)
		log_write(&l, (uint64_t)i * 1000 + 3);
	for (int i = 0; i < 20; i++, one = 0) {
		struct vfiomig_dest dest = dest_units((uint64_t)i * 1000, 16, &one);
		struct vfiomig_harvest_request rq = request_for(&dest, 1);
		OK(vfiomig_tracker_harvest(t, &rq, NULL, ERRP));
		if (!one)
			T_FAIL("page %d was lost", i);
	}
	LOG_END(&l, t);
}

/* --- mappings ----------------------------------------------------------------------------------------------------- */

static void maps(void)
{
	fake_log_init(&l);
	t = fake_log_tracker(&l);
	/* Nothing is mapped yet: nothing can be started, and that is no error (L1). */
	OK(vfiomig_tracker_start(t, ERRP));
	CHECK_EQ(l.calls[L_START], 0);
	/* A new mapping is dirty once: what was written before it was known is not in the log. */
	OK(map_units(t, 0, 10, 0));
	CHECK_EQ(l.calls[L_START], 1);
	memset(bitmap, 0, sizeof bitmap);
	CHECK_EQ(harvest_units(t, 0, 64, bitmap).newly_dirty_pages, 10);
	CHECK_EQ(harvest_units(t, 0, 64, bitmap).dirty_pages, 0);
	/* What lies near is held: ranges are rounded out. */
	OK(map_units(t, 20, 10, 0));
	CHECK_EQ(l.calls[L_START], 1);
	CHECK_EQ(harvest_units(t, 0, 64, bitmap).dirty_pages, 10);
	/* For this one the log has to be started anew, so everything is dirty once (P25). */
	log_write(&l, 3);
	OK(map_units(t, FAR_UNIT, 10, 0));
	CHECK_EQ(l.calls[L_START], 2);
	memset(bitmap, 0, sizeof bitmap);
	CHECK_EQ(harvest_units(t, 0, 64, bitmap).newly_dirty_pages, 20);
	CHECK_EQ(bitmap[0], 0x3ffull | 0x3ffull << 20);
	CHECK_EQ(harvest_units(t, 0, 64, bitmap).dirty_pages, 0);
	log_write(&l, 25);
	CHECK_EQ(harvest_units(t, 0, 64, bitmap).dirty_pages, 1);
	/* No elements are no mapping. */
	OK(vfiomig_tracker_map(t, NULL, 0, ERRP));
	CHECK_EQ(info_of(t).mapped_ranges, 3);
	LOG_END(&l, t);
}

/* Nothing writes while a device is stopped: what its log holds is all there is, also across a restart. */
static void stopped_device(void)
{
	struct fake f;
	struct vfiomig_device *d;
	struct vfiomig_tracker_options o;

	fake_init(&f);
	fake_log_init(&l);
	f.log = &l;
	d = fake_device(&f);
	VFIOMIG_INIT(&o);
	o.devices = &d;
	o.device_count = 1;
	OK(vfiomig_tracker_new(&o, &t, ERRP));
	OK(map_units(t, 0, 10, 0));
	OK(vfiomig_tracker_start(t, ERRP));
	log_write(&l, 3);
	OK(fake_to(d, S_STOP_COPY));
	OK(map_units(t, 20, 2, 0));
	OK(map_units(t, FAR_UNIT, 2, 0));
	CHECK_EQ(l.calls[L_START], 2);
	memset(bitmap, 0, sizeof bitmap);
	CHECK_EQ(harvest_units(t, 0, 64, bitmap).newly_dirty_pages, 3);
	CHECK_EQ(bitmap[0], 1ull << 3 | 3ull << 20);
	LOG_END(&l, t);
	FAKE_END(&f, d);
}

static struct vfiomig_range seen;
static unsigned unmaps, reports_before;
static int unmap_answer;

/* The last DMA comes while the VMM unmaps. */
static int on_unmap(void *opaque, const struct vfiomig_range *range)
{
	CHECK(opaque == &seen);
	seen = *range;
	unmaps++;
	reports_before = l.calls[L_REPORT];
	log_write(&l, 4);
	return unmap_answer;
}

static void unmapping(void)
{
	struct vfiomig_range range = {0, 10 * UNIT};
	struct vfiomig_dest dest = dest_units(0, 64, bitmap);
	struct vfiomig_harvest_request rq = request_for(&dest, 1);
	struct vfiomig_harvest_result out;

	fake_log_init(&l);
	t = fake_log_tracker(&l);
	OK(map_units(t, 0, 4, 1));
	OK(map_units(t, 4, 6, 2));
	OK(map_units(t, 20, 10, 3));
	OK(vfiomig_tracker_start(t, ERRP));
	log_write(&l, 3);
	log_write(&l, 22);
	/* P23: this log outlives the mapping, so it is read after it. */
	unsigned reports = l.calls[L_REPORT];
	VFIOMIG_INIT(&out);
	memset(bitmap, 0, sizeof bitmap);
	OK(vfiomig_tracker_unmap(t, &range, on_unmap, &seen, 0, &rq, &out, ERRP));
	CHECK(unmaps == 1 && seen.iova == range.iova && seen.size == range.size);
	CHECK_EQ(reports_before, reports);
	/* The destination asked for more than the range. */
	CHECK_EQ(bitmap[0] & 0x3ff, 3ull << 3);
	CHECK_EQ(info_of(t).mapped_ranges, 1);
	harvest_units(t, 0, 64, bitmap);
	CHECK_EQ(bitmap[0], 3ull << 3 | 1ull << 22);

	/* Without a request what was written is kept under its IOVA. Holes are fine. */
	log_write(&l, 29);
	range = (struct vfiomig_range){10 * UNIT, 1000 * UNIT};
	memset(bitmap, 0, sizeof bitmap);
	OK(vfiomig_tracker_unmap(t, &range, NULL, NULL, 0, NULL, NULL, ERRP));
	CHECK_EQ(info_of(t).mapped_ranges, 0);
	CHECK_EQ(harvest_units(t, 0, 64, bitmap).newly_dirty_pages, 1);
	CHECK_EQ(bitmap[0], 1ull << 29);
	LOG_END(&l, t);
}

static void refused_unmaps(void)
{
	struct vfiomig_range range = {0, 10 * UNIT};

	fake_log_init(&l);
	t = fake_log_tracker(&l);
	OK(map_units(t, 0, 10, 1));
	OK(map_units(t, 20, 10, 2));
	OK(vfiomig_tracker_start(t, ERRP));
	log_write(&l, 3);
	unmaps = 0;
	/* The VMM cannot unmap: the mapping is known as before, and its dirt with it. */
	unmap_answer = -EBUSY;
	FAILS(vfiomig_tracker_unmap(t, &range, on_unmap, &seen, 0, NULL, NULL, ERRP), EBUSY, VFIOMIG_ERR_SYSTEM);
	unmap_answer = 1; /* nonsense is a failure too */
	FAILS(vfiomig_tracker_unmap(t, &range, on_unmap, &seen, 0, NULL, NULL, ERRP), EIO, VFIOMIG_ERR_SYSTEM);
	unmap_answer = 0;
	CHECK_EQ(unmaps, 2);
	/* A range that cuts a mapping, at either end. */
	range.size = 9 * UNIT;
	FAILS(vfiomig_tracker_unmap(t, &range, on_unmap, &seen, 0, NULL, NULL, ERRP), 0, VFIOMIG_ERR_ARGUMENT);
	range = (struct vfiomig_range){25 * UNIT, 100 * UNIT};
	FAILS(vfiomig_tracker_unmap(t, &range, on_unmap, &seen, 0, NULL, NULL, ERRP), 0, VFIOMIG_ERR_ARGUMENT);
	/* Nothing to unmap with. */
	range = (struct vfiomig_range){0, 10 * UNIT};
	FAILS(vfiomig_tracker_unmap(t, &range, NULL, NULL, VFIOMIG_UNMAP_F_LIBRARY, NULL, NULL, ERRP), 0,
	      VFIOMIG_ERR_ARGUMENT);
	CHECK_EQ(unmaps, 2);
	CHECK_EQ(info_of(t).mapped_ranges, 2);
	/* One new mapping of several overlaps: none is taken. */
	const struct vfiomig_mapping three[] = {{.iova = 40 * UNIT, .size = UNIT},
						{.iova = 29 * UNIT, .size = UNIT},
						{.iova = 41 * UNIT, .size = UNIT}};
	FAILS(vfiomig_tracker_map(t, three, 3, ERRP), EEXIST, VFIOMIG_ERR_ARGUMENT);
	const struct vfiomig_mapping twice[] = {{.iova = 40 * UNIT, .size = 2 * UNIT}, {.iova = 41 * UNIT, .size = UNIT}};
	FAILS(vfiomig_tracker_map(t, twice, 2, ERRP), EEXIST, VFIOMIG_ERR_ARGUMENT);
	CHECK_EQ(info_of(t).mapped_ranges, 2);
	CHECK_EQ(l.calls[L_START], 1);
	memset(bitmap, 0, sizeof bitmap);
	CHECK_EQ(harvest_units(t, 0, 64, bitmap).newly_dirty_pages, 2);
	CHECK_EQ(bitmap[0], 3ull << 3); /* 4 came from on_unmap() */
	LOG_END(&l, t);
}

/* Before the start, and after the stop, the VMM's function is called all the same, and nothing is asked of the log. */
static void while_stopped(void)
{
	struct vfiomig_range range = {0, 10 * UNIT};
	struct vfiomig_harvest_result out;

	fake_log_init(&l);
	t = fake_log_tracker(&l);
	OK(map_units(t, 0, 10, 1));
	unmaps = 0;
	VFIOMIG_INIT(&out);
	OK(vfiomig_tracker_unmap(t, &range, on_unmap, &seen, VFIOMIG_UNMAP_F_NO_DMA, NULL, &out, ERRP));
	CHECK(unmaps == 1 && !out.reads && !out.dirty_pages && !out.flags);
	CHECK_EQ(info_of(t).mapped_ranges, 0);
	OK(map_units(t, 0, 10, 1));
	CHECK(!l.calls[L_START] && !l.calls[L_REPORT]);
	LOG_END(&l, t);
	CHECK_EQ(l.calls[L_STOP], 0);
}

/* Ranges up to 2^64 can be mapped, and the page that no log can hold is dirty each time (L2, P11). */
static void end_of_the_space(void)
{
	const uint64_t last = UINT64_MAX - UNIT + 1;
	const struct vfiomig_mapping m = {.iova = last - 3 * UNIT, .size = 4 * UNIT};
	struct vfiomig_dest dest = {.iova = m.iova, .size = m.size, .page_size = UNIT, .bitmap = bitmap};
	struct vfiomig_harvest_request rq = request_for(&dest, 1);
	const struct vfiomig_range range = {m.iova, m.size};

	fake_log_init(&l);
	l.origin = m.iova;
	t = fake_log_tracker(&l);
	OK(vfiomig_tracker_map(t, &m, 1, ERRP));
	OK(vfiomig_tracker_start(t, ERRP));
	log_write(&l, 1);
	for (int i = 0; i < 2; i++) {
		memset(bitmap, 0, sizeof bitmap);
		OK(vfiomig_tracker_harvest(t, &rq, NULL, ERRP));
		CHECK_EQ(bitmap[0], i ? 8 : 10);
	}
	OK(vfiomig_tracker_unmap(t, &range, NULL, NULL, 0, NULL, NULL, ERRP));
	LOG_END(&l, t);
}

/* A page that is busy from the start says nothing of all others: waiting for less helps (T5 speaks of containers). */
static void busy_page(struct fake_log *log, enum log_call call)
{
	if (call == L_REPORT)
		log_write(log, 5);
}

static void not_perpetual(void)
{
	fake_log_init(&l);
	l.hook = busy_page;
	t = fake_log_tracker(&l);
	OK(map_units(t, 5, 1, 0));
	OK(vfiomig_tracker_start(t, ERRP));
	CHECK_EQ(info_of(t).flags, 0);
	l.hook = NULL;
	memset(bitmap, 0, sizeof bitmap);
	CHECK_EQ(harvest_units(t, 0, 64, bitmap).newly_dirty_pages, 1);
	CHECK_EQ(bitmap[0], 1 << 5);
	LOG_END(&l, t);
}

int main(void)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	t_begin();
	for (size_t i = 0; i < sizeof choices / sizeof *choices; i++)
		chosen(&choices[i], null);
	close(null);
	counted();
	described();
	maps();
	stopped_device();
	unmapping();
	refused_unmaps();
	while_stopped();
	not_perpetual();
	end_of_the_space();
	vfiomig_tracker_free(NULL);
	return t_end();
}
