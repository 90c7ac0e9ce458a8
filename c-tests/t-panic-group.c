/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A bug in the library, in any function of groups, migrations and reports: the process lives, the caller gets an error,
 * the handle accepts only _free. And each of these functions with NULL for what it needs: refused in words, nothing
 * done.
 * library: panic
 * variants: plain asan valgrind
 */
#include "fake.h"

static struct fake f;
static struct vfiomig_device *d;
static struct vfiomig_tracker *t;
static struct vfiomig_group *g;
static struct vfiomig_migration *m;
static struct vfiomig_report *r;

static void arm(const char *name)
{
	setenv("VFIOMIG_TEST_PANIC", name, 1);
}

static void disarm(void)
{
	unsetenv("VFIOMIG_TEST_PANIC");
}

static int put(void *opaque, size_t device, const void *data, size_t len, uint32_t flags)
{
	(void)opaque, (void)device, (void)data, (void)len, (void)flags;
	return 0;
}

static int64_t get(void *opaque, size_t device, void *buf, size_t len, uint32_t *flags, uint64_t *total)
{
	(void)opaque, (void)device, (void)buf, (void)len, (void)flags, (void)total;
	return 0;
}

#define IS(function) if (!strcmp(name, #function))

static int64_t call_group(const char *name, struct vfiomig_group *g, struct vfiomig_error **errp)
{
	struct vfiomig_report *report = NULL;
	struct vfiomig_group_abilities abilities;
	size_t many;

	VFIOMIG_INIT(&abilities);
	IS(vfiomig_group_add_device) return vfiomig_group_add_device(g, d, errp);
	IS(vfiomig_group_add_tracker) return vfiomig_group_add_tracker(g, t, errp);
	IS(vfiomig_group_get_abilities) return vfiomig_group_get_abilities(g, &abilities, NULL, errp);
	IS(vfiomig_group_get_progress) return vfiomig_group_get_progress(g, NULL, 0, &many, errp);
	IS(vfiomig_group_get_report) return vfiomig_group_get_report(g, &report, errp);
	IS(vfiomig_group_get_timings) return vfiomig_group_get_timings(g, &report, errp);
	IS(vfiomig_group_harvest) return vfiomig_group_harvest(g, NULL, NULL, errp);
	IS(vfiomig_group_pause) return vfiomig_group_pause(g, errp);
	IS(vfiomig_group_pause_begin) return vfiomig_group_pause_begin(g, errp);
	IS(vfiomig_group_remove_device) return vfiomig_group_remove_device(g, d, errp);
	IS(vfiomig_group_remove_tracker) return vfiomig_group_remove_tracker(g, t, errp);
	IS(vfiomig_group_resume) return vfiomig_group_resume(g, errp);
	IS(vfiomig_group_start) return vfiomig_group_start(g, 0, NULL, errp);
	IS(vfiomig_group_start_begin) return vfiomig_group_start_begin(g, 0, NULL, errp);
	IS(vfiomig_group_stop) return vfiomig_group_stop(g, 0, NULL, errp);
	IS(vfiomig_group_stop_begin) return vfiomig_group_stop_begin(g, 0, NULL, errp);
	IS(vfiomig_group_resume_begin) return vfiomig_group_resume_begin(g, errp);
	IS(vfiomig_group_set_timings) return vfiomig_group_set_timings(g, "vfiomig-timings 1", NULL, errp);
	return 1;
}

static int64_t call_migration(const char *name, struct vfiomig_migration *m, struct vfiomig_error **errp)
{
	struct vfiomig_migration_pending pending;
	struct vfiomig_migration_estimate estimate;
	struct vfiomig_report *report = NULL;

	VFIOMIG_INIT(&pending);
	VFIOMIG_INIT(&estimate);
	IS(vfiomig_migration_abort) return vfiomig_migration_abort(m, VFIOMIG_ABORT_TO_RUNNING, 0, errp);
	IS(vfiomig_migration_advance) return vfiomig_migration_advance(m, VFIOMIG_PHASE_SAVE_TRACKING, 0, errp);
	IS(vfiomig_migration_advance_device)
		return vfiomig_migration_advance_device(m, d, VFIOMIG_PHASE_SAVE_TRACKING, 0, errp);
	IS(vfiomig_migration_end) return vfiomig_migration_end(m, 0, 0, errp);
	IS(vfiomig_migration_get_estimate) return vfiomig_migration_get_estimate(m, NULL, &estimate, NULL, errp);
	IS(vfiomig_migration_get_pending) return vfiomig_migration_get_pending(m, 0, &pending, errp);
	IS(vfiomig_migration_get_report) return vfiomig_migration_get_report(m, &report, errp);
	IS(vfiomig_migration_load_complete) return vfiomig_migration_load_complete(m, DRAIN(.get = get), NULL, 0, errp);
	IS(vfiomig_migration_load_from) return vfiomig_migration_load_from(m, NULL, 0, NULL, errp);
	IS(vfiomig_migration_save_to) return vfiomig_migration_save_to(m, NULL, 0, NULL, errp);
	IS(vfiomig_migration_load_done) return vfiomig_migration_load_done(m, d, 0, 0, errp);
	IS(vfiomig_migration_save_complete)
		return vfiomig_migration_save_complete(m, DRAIN(.put = put), NULL, 0, errp);
	IS(vfiomig_migration_save_iterate)
		return vfiomig_migration_save_iterate(m, DRAIN(.budget_bytes = 1, .budget_ns = 1, .put = put),
						      NULL, 0, errp);
	return 1;
}

static void begin(void)
{
	struct vfiomig_tracker_options o;

	fake_init(&f);
	d = fake_device(&f);
	VFIOMIG_INIT(&o);
	o.flags = VFIOMIG_TRACKER_F_EVERYTHING;
	OK(vfiomig_tracker_new(&o, &t, ERRP));
	OK(vfiomig_group_new(NULL, &g, ERRP));
	OK(vfiomig_group_add_device(g, d, ERRP));
	OK(vfiomig_group_add_tracker(g, t, ERRP));
	OK(vfiomig_migration_new(g, VFIOMIG_DIRECTION_SAVE, NULL, &m, ERRP));
	OK(vfiomig_migration_get_report(m, &r, ERRP));
}

static void end(void)
{
	vfiomig_report_free(r);
	vfiomig_migration_free(m);
	vfiomig_group_free(g);
	vfiomig_tracker_free(t);
	FAKE_END(&f, d);
}

/* Those that cannot say it with an error; false if the name is not among them. */
static bool call_other(const char *name)
{
	struct vfiomig_group *made_group = NULL;
	struct vfiomig_migration *made = NULL;

	arm(name);
	IS(vfiomig_group_new) FAILS(vfiomig_group_new(NULL, &made_group, ERRP), ENOTRECOVERABLE, VFIOMIG_ERR_PANIC);
	else IS(vfiomig_migration_new)
		FAILS(vfiomig_migration_new(g, VFIOMIG_DIRECTION_SAVE, NULL, &made, ERRP), ENOTRECOVERABLE,
		      VFIOMIG_ERR_PANIC);
	else IS(vfiomig_migration_get_phase) CHECK_EQ(vfiomig_migration_get_phase(m), VFIOMIG_PHASE_FAILED);
	else IS(vfiomig_migration_cancel) vfiomig_migration_cancel(m);
	else IS(vfiomig_phase_name) CHECK(!strcmp(vfiomig_phase_name(1), "?"));
	else IS(vfiomig_report_text) CHECK(!strcmp(vfiomig_report_text(r), ""));
	else IS(vfiomig_report_phase) CHECK(!vfiomig_report_phase(r, 0));
	else IS(vfiomig_report_phase_count) CHECK_EQ(vfiomig_report_phase_count(r), 0);
	else IS(vfiomig_report_json) CHECK(!strcmp(vfiomig_report_json(r), ""));
	else IS(vfiomig_report_entry) CHECK(!vfiomig_report_entry(r, 0));
	else IS(vfiomig_report_entry_count) CHECK_EQ(vfiomig_report_entry_count(r), 0);
	else IS(vfiomig_report_counters) CHECK(!vfiomig_report_counters(r));
	/* Nothing was freed: end() does it. */
	else IS(vfiomig_report_free) vfiomig_report_free(r);
	else IS(vfiomig_migration_free) vfiomig_migration_free(m);
	else IS(vfiomig_group_free) vfiomig_group_free(g);
	else {
		disarm();
		return false;
	}
	disarm();
	CHECK(!made && !made_group);
	return true;
}

/* Every function of a poisoned handle, and none of them touches the device. */
static void poisoned(bool of_group)
{
	static const char *const names[] = {
#define FUNCTION(name) #name,
#include "functions.inc"
#undef FUNCTION
	};
	unsigned calls = f.calls;

	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		int64_t result = of_group ? call_group(names[i], g, ERRP) : call_migration(names[i], m, ERRP);

		if (result != 1)
			FAILS(result, ENOTRECOVERABLE, VFIOMIG_ERR_PANIC);
	}
	CHECK_EQ(f.calls, calls);
}

static void one(const char *name)
{
	const bool of_group = !strncmp(name, "vfiomig_group_", 14);
	int before = atomic_load(&t_failures);
	int64_t result;

	if (!of_group && strncmp(name, "vfiomig_migration_", 18) && strncmp(name, "vfiomig_report_", 15) &&
	    strcmp(name, "vfiomig_phase_name"))
		return;
	begin();
	if (!call_other(name)) {
		result = of_group ? call_group(name, NULL, ERRP) : call_migration(name, NULL, ERRP);
		CHECK(result != 1); /* the tables above have every function */
		FAILS(result, EINVAL, VFIOMIG_ERR_ARGUMENT);
		arm(name);
		result = of_group ? call_group(name, g, ERRP) : call_migration(name, m, ERRP);
		disarm();
		FAILS(result, ENOTRECOVERABLE, VFIOMIG_ERR_PANIC);
		CHECK_HAS(vfiomig_error_message(t_error), name);
		poisoned(of_group);
	}
	end();
	if (atomic_load(&t_failures) != before)
		printf("in %s\n", name);
}

/* docs/faults.md: what is left after a bug was caught in the middle of a save, and that the guest goes on by it. */
static void guest_goes_on(void)
{
	struct vfiomig_migration *again = NULL;

	begin();
	OK(vfiomig_migration_advance(m, VFIOMIG_PHASE_SAVE_STOP_COPY, 0, ERRP));
	arm("vfiomig_migration_advance");
	FAILS(vfiomig_migration_advance(m, VFIOMIG_PHASE_SAVE_HALTED, 0, ERRP), ENOTRECOVERABLE, VFIOMIG_ERR_PANIC);
	disarm();
	CHECK_EQ(f.state, S_STOP_COPY);
	FAILS(vfiomig_migration_abort(m, VFIOMIG_ABORT_TO_RUNNING, 0, ERRP), ENOTRECOVERABLE, VFIOMIG_ERR_PANIC);
	FAILS(vfiomig_group_resume(g, ERRP), 0, VFIOMIG_ERR_ORDER);
	vfiomig_migration_free(m);
	m = NULL;
	OK(vfiomig_group_resume(g, ERRP));
	CHECK_EQ(f.state, S_RUNNING);
	OK(vfiomig_migration_new(g, VFIOMIG_DIRECTION_SAVE, NULL, &again, ERRP));
	OK(vfiomig_migration_advance(again, VFIOMIG_PHASE_SAVE_PRE_COPY, 0, ERRP));
	OK(vfiomig_migration_abort(again, VFIOMIG_ABORT_TO_RUNNING, 0, ERRP));
	vfiomig_migration_free(again);
	/* The group's own: its devices are there. */
	arm("vfiomig_group_pause");
	FAILS(vfiomig_group_pause(g, ERRP), ENOTRECOVERABLE, VFIOMIG_ERR_PANIC);
	disarm();
	OK(fake_to(d, S_STOP));
	OK(fake_to(d, S_RUNNING));
	end();
}

int main(void)
{
	t_begin();
	arm("vfiomig_version");
	if (vfiomig_version()) {
		puts("this library does not panic on demand");
		return 77;
	}
	disarm();
#define FUNCTION(name) one(#name);
#include "functions.inc"
#undef FUNCTION
	guest_goes_on();
	return t_end();
}
