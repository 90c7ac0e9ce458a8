/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Devices and page tables that come and go while a tracker lives, an aperture in which mappings restart nothing, and a
 * log that two trackers want.
 */
#include "fake.h"

static struct fake f, g;
static struct fake_log l, l2;
static struct vfiomig_device *d[2];
static struct vfiomig_tracker *t;
static uint64_t bitmap[64];

static void devices(void)
{
	fake_init(&f);
	fake_init(&g);
	fake_log_init(&l);
	fake_log_init(&l2);
	f.log = &l;
	g.log = &l2;
	d[0] = fake_device(&f);
	d[1] = fake_device(&g);
}

static void end(void)
{
	LOG_END(&l, t);
	LOG_END(&l2, NULL);
	FAKE_END(&f, d[0]);
	FAKE_END(&g, d[1]);
}

static uint64_t reported(void)
{
	memset(bitmap, 0, sizeof bitmap);
	harvest_units(t, 0, 64, bitmap);
	return bitmap[0];
}

static void make(size_t count)
{
	struct vfiomig_tracker_options o;

	VFIOMIG_INIT(&o);
	o.name = "ram";
	o.devices = d;
	o.device_count = count;
	OK(vfiomig_tracker_new(&o, &t, ERRP));
}

static void plugged(void)
{
	devices();
	make(1);
	OK(map_units(t, 0, 20, 0));
	OK(vfiomig_tracker_start(t, ERRP));
	CHECK_EQ(reported(), 0);
	OK(vfiomig_tracker_add_device(t, d[1], ERRP));
	FAILS(vfiomig_tracker_add_device(t, d[1], ERRP), EEXIST, VFIOMIG_ERR_ARGUMENT);
	CHECK(l2.running && l.calls[L_START] == 1);
	/* What it wrote before is not known. */
	CHECK_EQ(reported(), 0xfffff);
	log_write(&l, 3);
	log_write(&l2, 4);
	CHECK_EQ(reported(), 3 << 3);
	/* Its last pages are reported, and then it may go. */
	log_write(&l2, 7);
	OK(vfiomig_tracker_remove_device(t, d[1], ERRP));
	FAILS(vfiomig_tracker_remove_device(t, d[1], ERRP), 0, VFIOMIG_ERR_ARGUMENT);
	CHECK(!l2.running);
	CHECK_EQ(reported(), 1 << 7);
	log_write(&l, 5);
	CHECK_EQ(reported(), 1 << 5);
	CHECK(l.calls[L_START] == 1 && l.calls[L_STOP] == 0);
	FAILS(vfiomig_tracker_add_hwpt(t, 1, ERRP), 0, VFIOMIG_ERR_ARGUMENT);
	end();
}

/* Reading clears, so a log has one tracker. */
static void one_tracker(void)
{
	struct vfiomig_tracker_options o;
	struct vfiomig_tracker *other = NULL;
	const uint32_t hwpts[] = {7, 8};
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	devices();
	make(1);
	VFIOMIG_INIT(&o);
	o.name = "rate";
	o.devices = d;
	o.device_count = 1;
	FAILS(vfiomig_tracker_new(&o, &other, ERRP), EBUSY, VFIOMIG_ERR_BUSY);
	CHECK(!other);
	CHECK_HAS(vfiomig_error_message(t_error), "rate");
	CHECK_HAS(vfiomig_error_message(t_error), "ram");
	CHECK_HAS(vfiomig_error_message(t_error), "DMA log of fake");
	o.flags = VFIOMIG_TRACKER_F_HWPT | VFIOMIG_TRACKER_F_NO_DEVICE_LOG;
	o.iommufd = null;
	o.hwpt_ids = hwpts;
	o.hwpt_count = 1;
	OK(vfiomig_tracker_new(&o, &other, ERRP));
	vfiomig_tracker_free(t);
	t = NULL;
	FAILS(vfiomig_tracker_new(&o, &t, ERRP), EBUSY, VFIOMIG_ERR_BUSY);
	CHECK_HAS(vfiomig_error_message(t_error), "hwpt 7");
	o.hwpt_ids = hwpts + 1;
	OK(vfiomig_tracker_new(&o, &t, ERRP));
	FAILS(vfiomig_tracker_add_hwpt(t, 7, ERRP), EBUSY, VFIOMIG_ERR_BUSY);
	/* Each attached device counts. */
	OK(vfiomig_tracker_add_hwpt(t, 8, ERRP));
	OK(vfiomig_tracker_remove_hwpt(t, 8, ERRP));
	/* The claim ends with the tracker. */
	vfiomig_tracker_free(other);
	OK(vfiomig_tracker_add_hwpt(t, 7, ERRP));
	OK(vfiomig_tracker_remove_hwpt(t, 7, ERRP));
	FAILS(vfiomig_tracker_remove_hwpt(t, 7, ERRP), 0, VFIOMIG_ERR_ARGUMENT);
	end();
	close(null);
	/* Functions of the VMM: the same with the same opaque. */
	struct vfiomig_tracker_ops ops;
	fake_log_init(&l);
	t = fake_log_tracker(&l);
	fake_log_ops(&ops);
	FAILS(vfiomig_tracker_new_ops(&ops, &l, NULL, &other, ERRP), EBUSY, VFIOMIG_ERR_BUSY);
	OK(vfiomig_tracker_new_ops(&ops, &l2, NULL, &other, ERRP));
	vfiomig_tracker_free(other);
	LOG_END(&l, t);
}

static int unmapped(void *opaque, const struct vfiomig_range *range)
{
	(void)opaque;
	(void)range;
	return 0;
}

/* A guest with an IOMMU of its own maps one page a round. */
static void aperture(void)
{
	const struct vfiomig_range space = {0, 1ull << 39};
	struct vfiomig_tracker_options o;
	struct vfiomig_tracker_ops ops;

	fake_log_init(&l);
	fake_log_ops(&ops);
	VFIOMIG_INIT(&o);
	o.apertures = &space;
	o.aperture_count = 1;
	OK(vfiomig_tracker_new_ops(&ops, &l, &o, &t, ERRP));
	OK(map_units(t, 0, 20, 0));
	OK(vfiomig_tracker_start(t, ERRP));
	for (uint64_t k = 0; k < 20; k++) {
		const struct vfiomig_range gone = {((5ull << 30) + k * 0x200000), UNIT};

		OK(map_units(t, gone.iova / UNIT, 1, 0));
		CHECK_EQ(reported(), 0);
		log_write(&l, k);
		CHECK_EQ(reported(), 1ull << k);
		OK(vfiomig_tracker_unmap(t, &gone, unmapped, NULL, 0, NULL, NULL, ERRP));
	}
	CHECK(l.calls[L_START] == 1 && l.calls[L_STOP] == 0);
	CHECK_EQ(info_of(t).logged_ranges, 1);
	LOG_END(&l, t);
}

int main(void)
{
	t_begin();
	plugged();
	one_tracker();
	aperture();
	return t_end();
}
