/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A VMM says that its VM stops and starts, in two halves, and no more: the library pauses, resumes, goes on or aborts
 * by the phase of its migration, and says which streams are void by it (N5, N28, docs/vmm-guide.md).
 */
#include "fake.h"

enum { DEVICES = 2, SIZE = 10000 };

static struct fake fakes[DEVICES];
static struct vfiomig_device *devices[DEVICES];
static struct vfiomig_group *g;
static struct vfiomig_tracker *tracker;
static struct vfiomig_migration *m;
static struct vfiomig_run_state_result result;

static void begin(uint32_t direction, uint32_t phase)
{
	struct vfiomig_tracker_options options;

	OK(vfiomig_group_new(NULL, &g, ERRP));
	for (int i = 0; i < DEVICES; i++) {
		struct vfiomig_device_options device;
		struct vfiomig_device_ops ops;

		fake_init(&fakes[i]);
		fakes[i].pre = SIZE / 2;
		fakes[i].stop = SIZE;
		fake_ops(&fakes[i], &ops);
		VFIOMIG_INIT(&device);
		device.name = i ? "d1" : "d0";
		OK(vfiomig_device_new_ops(&ops, &fakes[i], &device, &devices[i], ERRP));
		OK(vfiomig_group_add_device(g, devices[i], ERRP));
	}
	VFIOMIG_INIT(&options);
	options.flags = VFIOMIG_TRACKER_F_EVERYTHING;
	OK(vfiomig_tracker_new(&options, &tracker, ERRP));
	OK(vfiomig_group_add_tracker(g, tracker, ERRP));
	m = NULL;
	if (direction)
		OK(vfiomig_migration_new(g, direction, NULL, &m, ERRP));
	if (phase == VFIOMIG_PHASE_LOAD_LOADED) {
		OK(vfiomig_migration_advance(m, VFIOMIG_PHASE_LOAD_RESUMING, 0, ERRP));
		for (int i = 0; i < DEVICES; i++)
			CHECK_EQ(OK(vfiomig_migration_load_done(m, devices[i], 0, 0, ERRP)), i == DEVICES - 1);
	} else if (phase) {
		OK(vfiomig_migration_advance(m, phase, 0, ERRP));
	}
}

static void end(void)
{
	vfiomig_migration_free(m);
	vfiomig_group_free(g);
	vfiomig_tracker_free(tracker);
	for (int i = 0; i < DEVICES; i++)
		FAKE_END(&fakes[i], devices[i]);
}

static struct vfiomig_run_state_result *out(void)
{
	VFIOMIG_INIT(&result);
	return &result;
}

static void says(uint32_t action, uint32_t void_streams, uint32_t phase, unsigned state)
{
	CHECK_EQ(result.action, action);
	CHECK_EQ(result.void_streams, void_streams);
	CHECK_EQ(vfiomig_migration_get_phase(m), phase);
	for (int i = 0; i < DEVICES; i++)
		CHECK_EQ(fakes[i].state, state);
}

static void read_some(int i)
{
	char bytes[100];
	uint32_t flags;

	CHECK(OK(vfiomig_device_read(devices[i], bytes, sizeof bytes, &flags, ERRP)) > 0);
}

/* Its user stops the VM in pre-copy, and starts it again. */
static void paused(void)
{
	begin(VFIOMIG_DIRECTION_SAVE, VFIOMIG_PHASE_SAVE_PRE_COPY);
	read_some(1);
	OK(vfiomig_group_stop_begin(g, 0, out(), ERRP));
	says(VFIOMIG_RUN_STATE_ACTION_PAUSED, 0, VFIOMIG_PHASE_SAVE_PRE_COPY, S_PRE_COPY_P2P);
	OK(vfiomig_group_stop(g, 0, out(), ERRP));
	says(VFIOMIG_RUN_STATE_ACTION_PAUSED, 0, VFIOMIG_PHASE_SAVE_PRE_COPY, S_STOP_COPY);
	OK(vfiomig_group_start_begin(g, 0, out(), ERRP));
	says(VFIOMIG_RUN_STATE_ACTION_RESUMED, 1, VFIOMIG_PHASE_SAVE_TRACKING, S_RUNNING_P2P);
	CHECK_EQ(result.first_void, 1);
	OK(vfiomig_group_start(g, 0, out(), ERRP));
	says(VFIOMIG_RUN_STATE_ACTION_RESUMED, 0, VFIOMIG_PHASE_SAVE_TRACKING, S_RUNNING);
	OK(vfiomig_migration_abort(m, VFIOMIG_ABORT_TO_RUN_STATE, 0, ERRP));
	end();
}

/* It is handed over, the destination side refuses, and it starts again. */
static void handed_over(void)
{
	begin(VFIOMIG_DIRECTION_SAVE, VFIOMIG_PHASE_SAVE_PRE_COPY);
	read_some(0);
	OK(vfiomig_group_stop_begin(g, VFIOMIG_STOP_F_HAND_OVER, out(), ERRP));
	says(VFIOMIG_RUN_STATE_ACTION_ADVANCED, 0, VFIOMIG_PHASE_SAVE_P2P_GRACE, S_PRE_COPY_P2P);
	OK(vfiomig_group_stop(g, VFIOMIG_STOP_F_HAND_OVER, out(), ERRP));
	says(VFIOMIG_RUN_STATE_ACTION_ADVANCED, 0, VFIOMIG_PHASE_SAVE_STOP_COPY, S_STOP_COPY);
	OK(vfiomig_group_start_begin(g, 0, out(), ERRP));
	says(VFIOMIG_RUN_STATE_ACTION_NOTHING, 0, VFIOMIG_PHASE_SAVE_STOP_COPY, S_STOP_COPY);
	OK(vfiomig_group_start(g, 0, out(), ERRP));
	says(VFIOMIG_RUN_STATE_ACTION_ABORTED, 1, VFIOMIG_PHASE_IDLE, S_RUNNING);
	CHECK_EQ(result.first_void, 0);
	end();
}

static void loaded(void)
{
	begin(VFIOMIG_DIRECTION_LOAD, VFIOMIG_PHASE_LOAD_LOADED);
	FAILS(vfiomig_group_stop(g, VFIOMIG_STOP_F_HAND_OVER, out(), ERRP), 0, VFIOMIG_ERR_ORDER);
	OK(vfiomig_group_stop(g, 0, out(), ERRP));
	says(VFIOMIG_RUN_STATE_ACTION_PAUSED, 0, VFIOMIG_PHASE_LOAD_LOADED, S_STOP);
	OK(vfiomig_group_start_begin(g, 0, out(), ERRP));
	says(VFIOMIG_RUN_STATE_ACTION_ADVANCED, 0, VFIOMIG_PHASE_LOAD_P2P_GRACE, S_RUNNING_P2P);
	OK(vfiomig_group_start(g, 0, out(), ERRP));
	says(VFIOMIG_RUN_STATE_ACTION_ADVANCED, 0, VFIOMIG_PHASE_LOAD_RUNNING, S_RUNNING);
	end();
}

static void alone_and_misuse(void)
{
	begin(0, 0);
	FAILS(vfiomig_group_stop(NULL, 0, NULL, ERRP), 0, VFIOMIG_ERR_ARGUMENT);
	FAILS(vfiomig_group_stop(g, 2, NULL, ERRP), 0, VFIOMIG_ERR_ARGUMENT);
	FAILS(vfiomig_group_stop_begin(g, 2, NULL, ERRP), 0, VFIOMIG_ERR_ARGUMENT);
	FAILS(vfiomig_group_start(g, VFIOMIG_STOP_F_HAND_OVER, NULL, ERRP), 0, VFIOMIG_ERR_ARGUMENT);
	FAILS(vfiomig_group_start_begin(g, 1, NULL, ERRP), 0, VFIOMIG_ERR_ARGUMENT);
	out()->argsz = 4;
	FAILS(vfiomig_group_stop(g, 0, &result, ERRP), 0, VFIOMIG_ERR_ARGUMENT);
	CHECK_EQ(fakes[0].state, S_RUNNING);
	OK(vfiomig_group_stop(g, 0, NULL, ERRP));
	CHECK_EQ(fakes[0].state, S_STOP);
	/* What was tried is said with the failure. */
	fakes[1].fault[0] = (struct fake_fault){.call = C_SET, .at = 1, .error = EBUSY};
	FAILS(vfiomig_group_start(g, 0, out(), ERRP), EBUSY, VFIOMIG_ERR_DEVICE);
	CHECK_EQ(result.action, VFIOMIG_RUN_STATE_ACTION_RESUMED);
	OK(vfiomig_group_start(g, 0, out(), ERRP));
	CHECK_EQ(fakes[1].state, S_RUNNING);
	end();
}

int main(void)
{
	t_begin();
	paused();
	handed_over();
	loaded();
	alone_and_misuse();
	return t_end();
}
