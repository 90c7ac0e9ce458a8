/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A tracker lives as long as its container: it is made before any device is there and is in the group once, hears of
 * each mapping, device and page table, and serves every save; and it goes with its container, also during a save.
 */
#include "fake.h"

static struct fake f, g;
static struct fake_log l, l2;
static struct vfiomig_device *d[2];
static struct vfiomig_tracker *t;
static struct vfiomig_group *group;
static struct vfiomig_migration *m;

/* Dirty pages of the first 64. */
static uint64_t dirty(void)
{
	uint64_t bitmap[64] = {0};

	harvest_units(t, 0, 64, bitmap);
	return bitmap[0];
}

static struct vfiomig_device *device(struct fake *fake, struct fake_log *log, uint32_t flags, const char *name)
{
	struct vfiomig_device_options o;
	struct vfiomig_device_ops ops;
	struct vfiomig_device *made = NULL;

	fake_init(fake);
	fake_log_init(log);
	fake->log = log;
	VFIOMIG_INIT(&o);
	o.name = name;
	o.flags = flags;
	fake_ops(fake, &ops);
	OK(vfiomig_device_new_ops(&ops, fake, &o, &made, ERRP));
	return made;
}

static int unmapped(void *opaque, const struct vfiomig_range *range)
{
	(void)opaque;
	(void)range;
	return 0;
}

static int ignore(void *opaque, uint64_t cookie, uint64_t iova, uint64_t size)
{
	(void)opaque;
	(void)cookie;
	(void)iova;
	(void)size;
	return 0;
}

static void unmap_units(uint64_t first, uint64_t count)
{
	const struct vfiomig_range range = {first * UNIT, count * UNIT};
	struct vfiomig_harvest_request rq;

	VFIOMIG_INIT(&rq);
	rq.run = ignore;
	OK(vfiomig_tracker_unmap(t, &range, unmapped, NULL, 0, &rq, NULL, ERRP));
}

/* The container is made, and mapped, long before any device. */
static void container(void)
{
	struct vfiomig_tracker_options o;

	VFIOMIG_INIT(&o);
	o.name = "container";
	OK(vfiomig_tracker_new(&o, &t, ERRP));
	OK(vfiomig_group_add_tracker(group, t, ERRP));
	OK(map_units(t, 0, 20, 0));
}

static void save(void)
{
	OK(vfiomig_migration_new(group, VFIOMIG_DIRECTION_SAVE, NULL, &m, ERRP));
	OK(vfiomig_migration_advance(m, VFIOMIG_PHASE_SAVE_TRACKING, 0, ERRP));
}

static void ends(void)
{
	OK(vfiomig_migration_abort(m, VFIOMIG_ABORT_TO_RUNNING, 0, ERRP));
	vfiomig_migration_free(m);
	CHECK_EQ(info_of(t).starts, 0);
}

static void a_vm_s_life(void)
{
	OK(vfiomig_group_new(NULL, &group, ERRP));
	container();
	/* A VMM that never migrates only maps and unmaps. */
	OK(map_units(t, 32, 1, 0));
	unmap_units(32, 1);

	d[0] = device(&f, &l, 0, "nic");
	OK(vfiomig_tracker_add_device(t, d[0], ERRP));
	OK(vfiomig_group_add_device(group, d[0], ERRP));
	CHECK_EQ(l.calls[L_START], 0);
	for (int round = 0; round < 3; round++) {
		/* Whether the VMM starts it as well, and when it stops it, is its own affair. */
		if (round)
			OK(vfiomig_tracker_start(t, ERRP));
		save();
		CHECK_EQ(info_of(t).kind, VFIOMIG_TRACKER_KIND_DMA_LOG);
		dirty();
		log_write(&l, 3);
		CHECK_EQ(dirty(), 1 << 3);
		if (round == 1)
			OK(vfiomig_tracker_stop(t, ERRP));
		CHECK(l.running);
		if (round == 2)
			OK(vfiomig_tracker_stop(t, ERRP));
		FAILS(vfiomig_tracker_stop(t, ERRP), 0, VFIOMIG_ERR_ORDER);
		ends();
		CHECK(!l.running);
	}

	/* A device that the VMM serves by other means: what logs of devices know is not all. */
	OK(vfiomig_tracker_add_foreign(t, "other", -1, ERRP));
	FAILS(vfiomig_tracker_add_foreign(t, "other", -1, ERRP), EEXIST, VFIOMIG_ERR_ARGUMENT);
	FAILS(vfiomig_tracker_add_foreign(t, NULL, -1, ERRP), 0, VFIOMIG_ERR_ARGUMENT);
	FAILS(vfiomig_tracker_add_foreign(t, "third", -2, ERRP), EBADF, VFIOMIG_ERR_ARGUMENT);
	save();
	CHECK_EQ(info_of(t).kind, VFIOMIG_TRACKER_KIND_EVERYTHING);
	CHECK_HAS(info_of(t).reason, "other");
	CHECK_EQ(dirty(), 0xfffff);
	CHECK_EQ(dirty(), 0xfffff);
	/* It goes, and the log that is left is complete again. */
	OK(vfiomig_tracker_remove_foreign(t, "other", ERRP));
	FAILS(vfiomig_tracker_remove_foreign(t, "other", ERRP), 0, VFIOMIG_ERR_ARGUMENT);
	FAILS(vfiomig_tracker_remove_foreign(t, NULL, ERRP), 0, VFIOMIG_ERR_ARGUMENT);
	CHECK_EQ(info_of(t).kind, VFIOMIG_TRACKER_KIND_DMA_LOG);
	CHECK_EQ(dirty(), 0xfffff);
	log_write(&l, 5);
	CHECK_EQ(dirty(), 1 << 5);
	ends();

	/* A device whose log is not to be used. */
	d[1] = device(&g, &l2, VFIOMIG_DEVICE_F_NO_LOG, "quiet");
	OK(vfiomig_tracker_add_device(t, d[1], ERRP));
	save();
	CHECK_EQ(info_of(t).kind, VFIOMIG_TRACKER_KIND_EVERYTHING);
	CHECK_HAS(info_of(t).reason, "quiet");
	CHECK_EQ(l2.calls[L_START], 0);
	ends();
	OK(vfiomig_tracker_remove_device(t, d[1], ERRP));

	/*
	 * The container goes during a save: emptied before, so nothing is lost with it; but its device needs another
	 * tracker.
	 */
	save();
	dirty();
	unmap_units(0, 20);
	vfiomig_tracker_free(t);
	FAILS(vfiomig_migration_advance(m, VFIOMIG_PHASE_SAVE_STOP_COPY, 0, ERRP), 0, VFIOMIG_ERR_ORDER);
	CHECK_HAS(vfiomig_error_message(t_error), "nic: no tracker covers its DMA");
	/* One that comes now is tracked from now on. */
	container();
	CHECK_EQ(info_of(t).starts, 1);
	OK(vfiomig_tracker_add_device(t, d[0], ERRP));
	CHECK_EQ(dirty(), 0xfffff);
	log_write(&l, 7);
	CHECK_EQ(dirty(), 1 << 7);
	OK(vfiomig_migration_advance(m, VFIOMIG_PHASE_SAVE_STOP_COPY, 0, ERRP));
	/* Here nobody could say what was sent of its RAM. */
	{
		struct vfiomig_tracker *late;

		OK(vfiomig_tracker_new(NULL, &late, ERRP));
		FAILS(vfiomig_group_add_tracker(group, late, ERRP), 0, VFIOMIG_ERR_ORDER);
		vfiomig_tracker_free(late);
	}
	ends();
	vfiomig_group_free(group);
	LOG_END(&l, t);
	LOG_END(&l2, NULL);
	FAKE_END(&f, d[0]);
	FAKE_END(&g, d[1]);
}

/* A container of an iommufd has no page table until its first device. */
static void page_tables(void)
{
	struct vfiomig_tracker_options o;
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	VFIOMIG_INIT(&o);
	o.flags = VFIOMIG_TRACKER_F_HWPT | VFIOMIG_TRACKER_F_IOAS;
	o.iommufd = null;
	o.ioas_id = 1;
	OK(vfiomig_tracker_new(&o, &t, ERRP));
	OK(map_units(t, 0, 20, 0));
	/* Each attached device counts. */
	OK(vfiomig_tracker_add_hwpt(t, 7, ERRP));
	OK(vfiomig_tracker_add_hwpt(t, 7, ERRP));
	CHECK_EQ(info_of(t).kind, VFIOMIG_TRACKER_KIND_HWPT);
	/* 0 is what has no page table. */
	OK(vfiomig_tracker_add_hwpt(t, 0, ERRP));
	CHECK_EQ(info_of(t).kind, VFIOMIG_TRACKER_KIND_EVERYTHING);
	CHECK_HAS(info_of(t).reason, "no page table");
	OK(vfiomig_tracker_remove_hwpt(t, 0, ERRP));
	CHECK_EQ(info_of(t).kind, VFIOMIG_TRACKER_KIND_HWPT);
	OK(vfiomig_tracker_remove_hwpt(t, 7, ERRP));
	OK(vfiomig_tracker_remove_hwpt(t, 7, ERRP));
	FAILS(vfiomig_tracker_remove_hwpt(t, 7, ERRP), 0, VFIOMIG_ERR_ARGUMENT);
	/* This is no iommufd, so its page tables cannot be started: the next log is used, and the reason says why. */
	OK(vfiomig_tracker_add_hwpt(t, 8, ERRP));
	OK(vfiomig_tracker_start(t, ERRP));
	CHECK_EQ(info_of(t).kind, VFIOMIG_TRACKER_KIND_EVERYTHING);
	CHECK_HAS(info_of(t).reason, "hwpt 8");
	CHECK_EQ(dirty(), 0xfffff);
	vfiomig_tracker_free(t);
	close(null);
}

int main(void)
{
	t_begin();
	a_vm_s_life();
	page_tables();
	return t_end();
}
