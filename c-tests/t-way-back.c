/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * What comes after a pause, a resume, a reset, an abort or the end of a migration: no stream is glued to another, a new
 * beginning is a statement, a second guest runs only by the caller's word, and no device is moved under a call.
 */
#include "fake.h"

static struct fake f;
static struct vfiomig_device *d;
static struct vfiomig_tracker *t;
static struct vfiomig_group *g;
static struct vfiomig_migration *m;
static size_t came;
static int64_t inside; /* what vfiomig_device_set_state() said in put */

static int put(void *opaque, size_t device, const void *bytes, size_t len, uint32_t flags)
{
	(void)opaque;
	(void)device;
	(void)bytes;
	(void)flags;
	inside = vfiomig_device_set_state(d, S_RUNNING, VFIOMIG_ON_FAILURE_KEEP, 0, NULL);
	came += len;
	return 0;
}

static void begin(uint32_t direction)
{
	struct vfiomig_tracker_options o;

	came = 0;
	d = fake_device(&f);
	VFIOMIG_INIT(&o);
	o.flags = VFIOMIG_TRACKER_F_EVERYTHING;
	OK(vfiomig_tracker_new(&o, &t, ERRP));
	OK(vfiomig_group_new(NULL, &g, ERRP));
	OK(vfiomig_group_add_device(g, d, ERRP));
	OK(vfiomig_group_add_tracker(g, t, ERRP));
	OK(vfiomig_migration_new(g, direction, NULL, &m, ERRP));
}

static void end(void)
{
	vfiomig_migration_free(m);
	vfiomig_group_free(g);
	vfiomig_tracker_free(t);
	FAKE_END(&f, d);
}

#define GO(phase) OK(vfiomig_migration_advance(m, (phase), 0, ERRP))
#define PHASE_IS(phase) CHECK_EQ(vfiomig_migration_get_phase(m), (phase))
#define ROUND() vfiomig_migration_save_iterate(m, DRAIN(.budget_bytes = UINT64_MAX, .put = put), NULL, 0, ERRP)

static void halted(void)
{
	GO(VFIOMIG_PHASE_SAVE_STOP_COPY);
	came = 0;
	OK(vfiomig_migration_save_complete(m, DRAIN(.put = put), NULL, 0, ERRP));
	OK(vfiomig_migration_advance(m, VFIOMIG_PHASE_SAVE_HALTED, VFIOMIG_ADVANCE_F_NO_HARVEST, ERRP));
	CHECK_EQ(f.state, S_STOP);
}

static void streams(void)
{
	unsigned char buf[16];
	uint32_t flags;

	fake_init(&f);
	begin(VFIOMIG_DIRECTION_SAVE);
	/* Pause and resume in SAVE_PRE_COPY, with the whole stream read in between. */
	GO(VFIOMIG_PHASE_SAVE_PRE_COPY);
	CHECK(OK(ROUND()) > 0);
	CHECK_EQ(inside, -EDEADLK);
	OK(vfiomig_group_pause(g, ERRP));
	CHECK(OK(ROUND()) > 0);
	CHECK_EQ(f.state, S_STOP_COPY);
	CHECK_EQ(came, fake_total(&f));
	OK(vfiomig_group_resume(g, ERRP));
	PHASE_IS(VFIOMIG_PHASE_SAVE_TRACKING);
	/* Straight on: refused while the guest runs, and nothing is glued to it. */
	FAILS(vfiomig_migration_advance(m, VFIOMIG_PHASE_SAVE_STOP_COPY, 0, ERRP), 0, VFIOMIG_ERR_ORDER);
	PHASE_IS(VFIOMIG_PHASE_SAVE_TRACKING);
	CHECK_EQ(f.state, S_RUNNING);
	OK(vfiomig_device_set_state(d, S_STOP_COPY, VFIOMIG_ON_FAILURE_KEEP, 0, ERRP));
	FAILS(vfiomig_device_read(d, buf, sizeof buf, &flags, ERRP), ESTALE, VFIOMIG_ERR_STALE);
	OK(vfiomig_migration_abort(m, VFIOMIG_ABORT_TO_RUNNING, 0, ERRP));
	/* SAVE_PRE_COPY again: a new stream. */
	GO(VFIOMIG_PHASE_SAVE_PRE_COPY);
	CHECK(OK(ROUND()) > 0);
	OK(vfiomig_group_pause(g, ERRP));
	OK(vfiomig_group_resume(g, ERRP));
	GO(VFIOMIG_PHASE_SAVE_PRE_COPY);
	came = 0;
	CHECK(OK(ROUND()) > 0);
	CHECK_EQ(came, f.pre);
	/* An abort, and another migration: no restart_stream. AS_IT_WAS is what the VM is now. */
	OK(vfiomig_group_pause(g, ERRP));
	OK(vfiomig_migration_abort(m, VFIOMIG_ABORT_TO_RUN_STATE, 0, ERRP));
	CHECK_EQ(f.state, S_STOP);
	OK(vfiomig_group_resume(g, ERRP));
	vfiomig_migration_free(m);
	OK(vfiomig_migration_new(g, VFIOMIG_DIRECTION_SAVE, NULL, &m, ERRP));
	halted();
	CHECK_EQ(came, fake_total(&f));
	end();
}

static void second_guest(void)
{
	struct vfiomig_report *report = NULL;

	fake_init(&f);
	begin(VFIOMIG_DIRECTION_SAVE);
	halted();
	for (uint32_t to = VFIOMIG_ABORT_TO_RUNNING; to <= VFIOMIG_ABORT_TO_RUN_STATE; to++)
		FAILS(vfiomig_migration_abort(m, to, 0, ERRP), 0, VFIOMIG_ERR_ORDER);
	CHECK_HAS(vfiomig_error_message(t_error), "VFIOMIG_ABORT_F_NO_SECOND_GUEST");
	FAILS(vfiomig_migration_abort(m, VFIOMIG_ABORT_TO_RUNNING, 2, ERRP), 0, VFIOMIG_ERR_ARGUMENT);
	PHASE_IS(VFIOMIG_PHASE_SAVE_HALTED);
	FAILS(vfiomig_group_resume(g, ERRP), 0, VFIOMIG_ERR_ORDER);
	CHECK_EQ(f.state, S_STOP);
	OK(vfiomig_migration_abort(m, VFIOMIG_ABORT_TO_RUNNING, VFIOMIG_ABORT_F_NO_SECOND_GUEST, ERRP));
	CHECK_EQ(f.state, S_RUNNING);
	/* Freed, it is the caller's decision, but never a silent one. */
	halted();
	vfiomig_migration_free(m);
	m = NULL;
	OK(vfiomig_group_resume(g, ERRP));
	CHECK_EQ(f.state, S_RUNNING);
	OK(vfiomig_group_get_report(g, &report, ERRP));
	CHECK_HAS(vfiomig_report_text(report), "if it does, two run now");
	vfiomig_report_free(report);
	OK(vfiomig_group_pause(g, ERRP));
	OK(vfiomig_group_resume(g, ERRP));
	end();
}

/* A guest that waits in LOADED is continued as any other, with its migration or without. */
static void loaded(bool freed)
{
	fake_init(&f);
	begin(VFIOMIG_DIRECTION_LOAD);
	GO(VFIOMIG_PHASE_LOAD_RESUMING);
	FAILS(vfiomig_group_resume(g, ERRP), 0, VFIOMIG_ERR_ORDER);
	OK(vfiomig_device_write(d, "x", 1, 0, ERRP));
	OK(vfiomig_device_finish(d, 1, ERRP));
	GO(VFIOMIG_PHASE_LOAD_LOADED);
	OK(vfiomig_group_pause(g, ERRP));
	if (freed) {
		vfiomig_migration_free(m);
		m = NULL;
	}
	OK(vfiomig_group_resume_begin(g, ERRP));
	CHECK_EQ(f.state, S_RUNNING_P2P);
	OK(vfiomig_group_resume(g, ERRP));
	CHECK_EQ(f.state, S_RUNNING);
	if (!freed)
		PHASE_IS(VFIOMIG_PHASE_LOAD_RUNNING);
	end();
}

/* A server that answers a reset and keeps the migration state. */
static void reset_keeps(void)
{
	fake_init(&f);
	begin(VFIOMIG_DIRECTION_SAVE);
	GO(VFIOMIG_PHASE_SAVE_PRE_COPY);
	f.reset_to = S_PRE_COPY;
	FAILS(vfiomig_device_reset(d, ERRP), 0, VFIOMIG_ERR_PROTOCOL);
	CHECK_HAS(vfiomig_error_message(t_error), "is in PRE_COPY, not in RUNNING");
	FAILS(vfiomig_migration_advance(m, VFIOMIG_PHASE_SAVE_STOP_COPY, 0, ERRP), ESTALE, VFIOMIG_ERR_STALE);
	OK(vfiomig_migration_abort(m, VFIOMIG_ABORT_TO_RUNNING, 0, ERRP));
	CHECK_EQ(f.state, S_RUNNING);
	end();

	fake_init(&f);
	begin(VFIOMIG_DIRECTION_LOAD);
	GO(VFIOMIG_PHASE_LOAD_RESUMING);
	f.reset_to = S_RESUMING;
	f.fault[0] = (struct fake_fault){.call = C_WRITE, .at = 1, .error = EINVAL};
	FAILS(vfiomig_device_write(d, "x", 1, 0, ERRP), EINVAL, VFIOMIG_ERR_DEVICE);
	FAILS(vfiomig_device_reset(d, ERRP), 0, VFIOMIG_ERR_PROTOCOL);
	CHECK_HAS(vfiomig_error_message(t_error), "what it was loaded with is gone");
	OK(vfiomig_migration_abort(m, VFIOMIG_ABORT_TO_STOP, 0, ERRP));
	CHECK_EQ(f.state, S_STOP);
	OK(vfiomig_migration_abort(m, VFIOMIG_ABORT_TO_RUNNING, 0, ERRP));
	CHECK_EQ(f.state, S_RUNNING);
	end();
}

/* Parts that are known stay known. */
static void estimate(void)
{
	struct vfiomig_migration_estimate_options o;
	struct vfiomig_migration_estimate e;
	struct vfiomig_migration_pending p;

	fake_init(&f);
	f.pre = 9000;
	f.size = 10000; /* 9000 of them in pre-copy */
	begin(VFIOMIG_DIRECTION_SAVE);
	GO(VFIOMIG_PHASE_SAVE_PRE_COPY);
	VFIOMIG_INIT(&p);
	OK(vfiomig_migration_get_pending(m, VFIOMIG_PENDING_F_EXACT, &p, ERRP));
	VFIOMIG_INIT(&o);
	VFIOMIG_INIT(&e);
	o.bytes_per_second = 1000000;
	OK(vfiomig_migration_get_estimate(m, &o, &e, NULL, ERRP));
	CHECK_EQ(e.bytes, 10000);
	CHECK_EQ(e.transfer_ns, 10000000);
	CHECK_EQ(e.downtime_ns, 10000000);
	CHECK_EQ(e.transition_ns, VFIOMIG_UNKNOWN);
	CHECK_EQ(e.unknown, VFIOMIG_ESTIMATE_TRANSITION);
	CHECK_EQ(e.unknown_devices, 1);
	o.transition_ns = 1;
	OK(vfiomig_migration_get_estimate(m, &o, &e, NULL, ERRP));
	CHECK_EQ(e.downtime_ns, 10000001);
	CHECK_EQ(e.unknown, 0);
	halted();
	VFIOMIG_INIT(&p);
	OK(vfiomig_migration_get_pending(m, 0, &p, ERRP));
	CHECK_EQ(p.stop_copy_bytes, 0);
	end();
}

int main(void)
{
	t_begin();
	streams();
	second_guest();
	loaded(false);
	loaded(true);
	reset_keeps();
	estimate();
	return t_end();
}
