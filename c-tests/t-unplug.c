/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A device goes by vfiomig_device_free() alone, also during a migration, where it cannot be removed from its group: the
 * group is of use with the others, and takes the same name again. One without migration states takes no part in stop
 * and continue.
 */
#include "fake.h"

static struct fake gone, stays, plain;

static struct vfiomig_device *named(struct fake *f, const char *name)
{
	struct vfiomig_device_options options;
	struct vfiomig_device_ops ops;
	struct vfiomig_device *d = NULL;

	VFIOMIG_INIT(&options);
	options.name = name;
	fake_ops(f, &ops);
	OK(vfiomig_device_new_ops(&ops, f, &options, &d, ERRP));
	return d;
}

static int put(void *opaque, size_t device, const void *bytes, size_t len, uint32_t flags)
{
	(void)opaque;
	(void)device;
	(void)bytes;
	(void)flags;
	return len ? 0 : -EINVAL;
}

static void pause_and_resume(struct vfiomig_group *g)
{
	OK(vfiomig_group_pause(g, ERRP));
	CHECK(stays.state == S_STOP || stays.state == S_STOP_COPY);
	OK(vfiomig_group_resume(g, ERRP));
	CHECK_EQ(stays.state, S_RUNNING);
}

/* Freed in that phase; 0 is IDLE. */
static void unplug(uint32_t direction, uint32_t phase)
{
	bool save = direction == VFIOMIG_DIRECTION_SAVE;
	struct vfiomig_tracker_options options;
	struct vfiomig_tracker *t = NULL;
	struct vfiomig_group *g = NULL;
	struct vfiomig_migration *m = NULL;
	struct vfiomig_device *d, *other;
	uint32_t next, flags = 0;

	fake_init(&gone);
	fake_init(&stays);
	d = named(&gone, "vf0");
	other = named(&stays, "vf1");
	VFIOMIG_INIT(&options);
	options.flags = VFIOMIG_TRACKER_F_EVERYTHING;
	OK(vfiomig_tracker_new(&options, &t, ERRP));
	OK(vfiomig_group_new(NULL, &g, ERRP));
	OK(vfiomig_group_add_device(g, d, ERRP));
	OK(vfiomig_group_add_device(g, other, ERRP));
	OK(vfiomig_group_add_tracker(g, t, ERRP));
	OK(vfiomig_migration_new(g, direction, NULL, &m, ERRP));
	if (phase == VFIOMIG_PHASE_LOAD_LOADED) {
		OK(vfiomig_migration_advance(m, VFIOMIG_PHASE_LOAD_RESUMING, 0, ERRP));
		OK(vfiomig_device_finish(d, 0, ERRP));
		OK(vfiomig_device_finish(other, 0, ERRP));
	}
	if (phase)
		OK(vfiomig_migration_advance(m, phase, 0, ERRP));

	FAILS(vfiomig_group_remove_device(g, d, ERRP), 0, VFIOMIG_ERR_ORDER);
	vfiomig_device_free(d);
	CHECK_EQ(gone.closed, gone.opened);
	if (save && phase < VFIOMIG_PHASE_SAVE_P2P_GRACE) {
		struct vfiomig_report *report = NULL;

		OK(vfiomig_group_pause(g, ERRP));
		OK(vfiomig_group_get_report(g, &report, ERRP));
		CHECK_HAS(vfiomig_report_text(report), "vf0: its handle was freed: it takes no part");
		vfiomig_report_free(report);
		OK(vfiomig_group_resume(g, ERRP));
	}
	next = save ? VFIOMIG_PHASE_SAVE_STOP_COPY : VFIOMIG_PHASE_LOAD_RUNNING;
	if (phase == VFIOMIG_PHASE_SAVE_STOP_COPY)
		next = VFIOMIG_PHASE_SAVE_HALTED;
	FAILS(vfiomig_migration_advance(m, next, 0, ERRP), ENODEV, VFIOMIG_ERR_STALE);
	if (next == VFIOMIG_PHASE_SAVE_HALTED) {
		/* Who asks for HALTED has said that the guest may run elsewhere. */
		FAILS(vfiomig_migration_abort(m, VFIOMIG_ABORT_TO_RUNNING, 0, ERRP), 0, VFIOMIG_ERR_ORDER);
		flags = VFIOMIG_ABORT_F_NO_SECOND_GUEST;
	}
	FAILS(vfiomig_migration_abort(m, VFIOMIG_ABORT_TO_RUNNING, flags, ERRP), ENODEV, VFIOMIG_ERR_STALE);
	CHECK_EQ(vfiomig_error_result(t_error, 0)->action, VFIOMIG_ACTION_DEAD);
	CHECK_EQ(vfiomig_error_result(t_error, 0)->found, S_ERROR);
	CHECK_EQ(stays.state, S_RUNNING);
	vfiomig_migration_free(m);

	/* Plugged again, under the same name. */
	pause_and_resume(g);
	fake_init(&gone);
	d = named(&gone, "vf0");
	OK(vfiomig_group_add_device(g, d, ERRP));
	pause_and_resume(g);
	OK(vfiomig_migration_new(g, VFIOMIG_DIRECTION_SAVE, NULL, &m, ERRP));
	OK(vfiomig_migration_advance(m, VFIOMIG_PHASE_SAVE_STOP_COPY, 0, ERRP));
	OK(vfiomig_migration_save_complete(m, DRAIN(.put = put), NULL, 0, ERRP));
	OK(vfiomig_migration_advance(m, VFIOMIG_PHASE_SAVE_HALTED, VFIOMIG_ADVANCE_F_NO_HARVEST, ERRP));
	vfiomig_migration_free(m);
	vfiomig_group_free(g);
	vfiomig_tracker_free(t);
	FAKE_END(&gone, d);
	FAKE_END(&stays, other);
}

static void without_states(void)
{
	struct vfiomig_group *g = NULL;
	struct vfiomig_device *gpu, *other;
	struct vfiomig_report *report = NULL;

	fake_init(&plain);
	plain.absent = true;
	fake_init(&stays);
	gpu = named(&plain, "gpu");
	other = named(&stays, "vf1");
	OK(vfiomig_group_new(NULL, &g, ERRP));
	OK(vfiomig_group_add_device(g, gpu, ERRP));
	OK(vfiomig_group_add_device(g, other, ERRP));
	pause_and_resume(g);
	OK(vfiomig_group_get_report(g, &report, ERRP));
	CHECK_HAS(vfiomig_report_text(report), "gpu: not migratable");
	CHECK_HAS(vfiomig_report_text(report), "takes no part");
	vfiomig_report_free(report);
	/* Only a failure of those that take part is one. */
	stays.fault[0] = (struct fake_fault){.call = C_SET, .at = 1, .error = EBUSY};
	FAILS(vfiomig_group_pause(g, ERRP), EBUSY, VFIOMIG_ERR_DEVICE);
	CHECK(!strstr(vfiomig_error_message(t_error), "gpu"));
	pause_and_resume(g);
	vfiomig_group_free(g);
	FAKE_END(&plain, gpu);
	FAKE_END(&stays, other);
}

int main(void)
{
	static const uint32_t saves[] = {0, VFIOMIG_PHASE_SAVE_TRACKING, VFIOMIG_PHASE_SAVE_PRE_COPY,
					 VFIOMIG_PHASE_SAVE_STOP_COPY};
	static const uint32_t loads[] = {VFIOMIG_PHASE_LOAD_RESUMING, VFIOMIG_PHASE_LOAD_LOADED};

	t_begin();
	for (size_t i = 0; i < sizeof saves / sizeof *saves; i++)
		unplug(VFIOMIG_DIRECTION_SAVE, saves[i]);
	for (size_t i = 0; i < sizeof loads / sizeof *loads; i++)
		unplug(VFIOMIG_DIRECTION_LOAD, loads[i]);
	without_states();
	return t_end();
}
