/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A load takes the end of each device as it comes, takes that device to LOADED at once, and enters the phase with the
 * last (F7, W7); a save is ended by one word, committed or not, and a guest that may run elsewhere is brought back only
 * by the caller's own.
 */
#include "fake.h"

enum { DEVICES = 3, SIZE = 10000 };

static struct fake fakes[DEVICES];
static struct vfiomig_device *devices[DEVICES];
static struct vfiomig_group *group;
static struct vfiomig_tracker *tracker;

static void begin(void)
{
	const struct vfiomig_mapping ram = { .size = 1 << 20 };
	struct vfiomig_tracker_options options;

	OK(vfiomig_group_new(NULL, &group, ERRP));
	for (int i = 0; i < DEVICES; i++) {
		struct vfiomig_device_options device;
		struct vfiomig_device_ops ops;
		char name[16];

		fake_init(&fakes[i]);
		fakes[i].pre = SIZE / 2;
		fakes[i].stop = SIZE;
		fake_ops(&fakes[i], &ops);
		VFIOMIG_INIT(&device);
		snprintf(name, sizeof name, "d%d", i);
		device.name = name;
		OK(vfiomig_device_new_ops(&ops, &fakes[i], &device, &devices[i], ERRP));
		OK(vfiomig_group_add_device(group, devices[i], ERRP));
	}
	VFIOMIG_INIT(&options);
	options.flags = VFIOMIG_TRACKER_F_EVERYTHING;
	OK(vfiomig_tracker_new(&options, &tracker, ERRP));
	/* Without memory no final harvest could be missing. */
	OK(vfiomig_tracker_map(tracker, &ram, 1, ERRP));
	OK(vfiomig_group_add_tracker(group, tracker, ERRP));
}

static void end(struct vfiomig_migration *m)
{
	vfiomig_migration_free(m);
	vfiomig_group_free(group);
	vfiomig_tracker_free(tracker);
	for (int i = 0; i < DEVICES; i++)
		FAKE_END(&fakes[i], devices[i]);
}

static int put(void *opaque, size_t device, const void *bytes, size_t len, uint32_t flags)
{
	(void)opaque;
	(void)device;
	(void)bytes;
	(void)flags;
	return len ? 0 : -EINVAL;
}

static void load(void)
{
	static const unsigned char bytes[SIZE];
	struct vfiomig_migration *m = NULL;
	struct vfiomig_report *report = NULL;
	struct vfiomig_device *d;
	int loaded = 0;

	begin();
	OK(vfiomig_migration_new(group, VFIOMIG_DIRECTION_LOAD, NULL, &m, ERRP));
	d = devices[2];
	FAILS(vfiomig_migration_load_done(m, d, SIZE, 0, ERRP), 0, VFIOMIG_ERR_ORDER);
	OK(vfiomig_migration_advance(m, VFIOMIG_PHASE_LOAD_RESUMING, 0, ERRP));
	for (int i = 0; i < DEVICES; i++)
		OK(vfiomig_device_write(devices[i], bytes, SIZE, 0, ERRP));
	FAILS(vfiomig_migration_load_done(NULL, d, SIZE, 0, ERRP), 0, VFIOMIG_ERR_ARGUMENT);
	FAILS(vfiomig_migration_load_done(m, NULL, SIZE, 0, ERRP), 0, VFIOMIG_ERR_ARGUMENT);
	FAILS(vfiomig_migration_load_done(m, d, SIZE, 1, ERRP), 0, VFIOMIG_ERR_ARGUMENT);
	FAILS(vfiomig_migration_load_done(m, d, SIZE + 1, 0, ERRP), 0, VFIOMIG_ERR_INCOMPLETE);
	CHECK_EQ(fakes[2].state, S_RESUMING);
	CHECK_EQ(OK(vfiomig_migration_load_done(m, d, SIZE, 0, ERRP)), 0);
	/* It validates now, and not when the others have their streams. */
	CHECK_EQ(fakes[2].state, S_STOP);
	CHECK_EQ(fakes[0].state, S_RESUMING);
	FAILS(vfiomig_migration_load_done(m, d, SIZE, 0, ERRP), 0, VFIOMIG_ERR_ORDER);
	CHECK_EQ(OK(vfiomig_migration_load_done(m, devices[0], VFIOMIG_UNKNOWN, 0, ERRP)), 0);
	CHECK_EQ(vfiomig_migration_get_phase(m), VFIOMIG_PHASE_LOAD_RESUMING);
	CHECK_EQ(OK(vfiomig_migration_load_done(m, devices[1], SIZE, 0, ERRP)), 1);
	CHECK_EQ(vfiomig_migration_get_phase(m), VFIOMIG_PHASE_LOAD_LOADED);
	OK(vfiomig_migration_get_report(m, &report, ERRP));
	for (size_t i = 0; i < vfiomig_report_entry_count(report); i++) {
		const struct vfiomig_entry_report *e = vfiomig_report_entry(report, i);

		if (e->kind == VFIOMIG_ENTRY_LOADED && e->part_count == 1 && e->parts[0].bytes == SIZE)
			loaded++;
	}
	CHECK_EQ(loaded, DEVICES);
	vfiomig_report_free(report);
	FAILS(vfiomig_migration_end(m, 0, 0, ERRP), 0, VFIOMIG_ERR_ARGUMENT);
	OK(vfiomig_migration_advance(m, VFIOMIG_PHASE_LOAD_RUNNING, 0, ERRP));
	end(m);
}

/* To STOP_COPY, with every stream read. */
static struct vfiomig_migration *saved(bool paused)
{
	struct vfiomig_migration *m = NULL;

	begin();
	if (paused)
		OK(vfiomig_group_pause(group, ERRP));
	OK(vfiomig_migration_new(group, VFIOMIG_DIRECTION_SAVE, NULL, &m, ERRP));
	OK(vfiomig_migration_advance(m, VFIOMIG_PHASE_SAVE_STOP_COPY, 0, ERRP));
	OK(vfiomig_migration_save_complete(m, DRAIN(.put = put), NULL, 0, ERRP));
	return m;
}

static void committed(void)
{
	struct vfiomig_migration *m = saved(false);

	FAILS(vfiomig_migration_end(NULL, 1, 0, ERRP), 0, VFIOMIG_ERR_ARGUMENT);
	FAILS(vfiomig_migration_end(m, 2, 0, ERRP), 0, VFIOMIG_ERR_ARGUMENT);
	FAILS(vfiomig_migration_end(m, 1, 4, ERRP), 0, VFIOMIG_ERR_ARGUMENT);
	FAILS(vfiomig_migration_end(m, 1, VFIOMIG_END_F_NO_SECOND_GUEST, ERRP), 0, VFIOMIG_ERR_ARGUMENT);
	/* No final harvest. */
	FAILS(vfiomig_migration_end(m, 1, 0, ERRP), 0, VFIOMIG_ERR_ORDER);
	CHECK_EQ(vfiomig_migration_get_phase(m), VFIOMIG_PHASE_SAVE_STOP_COPY);
	OK(vfiomig_migration_end(m, 1, VFIOMIG_END_F_NO_HARVEST, ERRP));
	CHECK_EQ(vfiomig_migration_get_phase(m), VFIOMIG_PHASE_SAVE_HALTED);
	OK(vfiomig_migration_end(m, 1, 0, ERRP));
	CHECK_EQ(fakes[0].state, S_STOP);
	/* The destination never ran it. */
	FAILS(vfiomig_migration_end(m, 0, 0, ERRP), 0, VFIOMIG_ERR_ORDER);
	CHECK_EQ(fakes[0].state, S_STOP);
	OK(vfiomig_migration_end(m, 0, VFIOMIG_END_F_NO_SECOND_GUEST, ERRP));
	CHECK_EQ(vfiomig_migration_get_phase(m), VFIOMIG_PHASE_IDLE);
	CHECK_EQ(fakes[0].state, S_RUNNING);
	end(m);
}

static void not_committed(bool paused)
{
	struct vfiomig_migration *m = saved(paused);

	FAILS(vfiomig_migration_end(m, 0, VFIOMIG_END_F_NO_HARVEST, ERRP), 0, VFIOMIG_ERR_ARGUMENT);
	OK(vfiomig_migration_end(m, 0, 0, ERRP));
	CHECK_EQ(vfiomig_migration_get_phase(m), VFIOMIG_PHASE_IDLE);
	for (int i = 0; i < DEVICES; i++)
		CHECK_EQ(fakes[i].state, paused ? S_STOP : S_RUNNING);
	/* Too early. */
	FAILS(vfiomig_migration_end(m, 1, 0, ERRP), 0, VFIOMIG_ERR_ORDER);
	OK(vfiomig_migration_end(m, 0, 0, ERRP));
	end(m);
}

int main(void)
{
	t_begin();
	load();
	committed();
	not_committed(false);
	not_committed(true);
	return t_end();
}
