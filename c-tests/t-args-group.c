/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Wrong parameters for each function of groups, migrations and reports: refused with ARGUMENT, with no device asked,
 * nothing written and the phase as it was. The functions come from the header, so that a new one cannot be left out.
 */
#include "fake.h"

static struct fake f;
static struct vfiomig_device *d, *stranger;
static struct vfiomig_tracker *t;
static struct vfiomig_group *g;
static struct vfiomig_migration *m;
static struct vfiomig_report *r;

/* Places for outputs; all of them must look the same after a failure. */
static struct outputs {
	struct vfiomig_group *group;
	struct vfiomig_migration *migration;
	struct vfiomig_report *report;
	struct vfiomig_group_abilities abilities;
	struct vfiomig_migration_pending pending;
	struct vfiomig_migration_estimate estimate;
	struct vfiomig_progress progress;
	struct vfiomig_run_state_result run_state;
	struct vfiomig_harvest_result harvest;
	size_t total;
} out, before;

static unsigned tried;

static void set_outputs(uint32_t argsz)
{
	memset(&out, 0x5a, sizeof out);
	out.abilities.argsz = out.pending.argsz = out.estimate.argsz = out.progress.argsz = argsz;
	out.run_state.argsz = out.harvest.argsz = argsz;
	before = out;
}

#define WRONG(call)                                               \
	do {                                                      \
		const unsigned asked = f.calls;                   \
		tried++;                                          \
		before = out;                                     \
		FAILS(call, 0, VFIOMIG_ERR_ARGUMENT);             \
		CHECK(!memcmp(&out, &before, sizeof out));        \
		CHECK_EQ(f.calls, asked);                         \
		CHECK_EQ(vfiomig_migration_get_phase(m), VFIOMIG_PHASE_IDLE); \
	} while (0)

/* As WRONG, with a struct of the caller: its argsz is wrong, then a flag that no version has. */
#define WRONG_STRUCT(type, call)                                  \
	do {                                                      \
		struct type s;                                    \
		VFIOMIG_INIT(&s);                                 \
		s.argsz = 4;                                      \
		WRONG(call);                                      \
		VFIOMIG_INIT(&s);                                 \
		s.flags = 1u << 31;                               \
		WRONG(call);                                      \
	} while (0)

#define IS(function) else if (!strcmp(name, #function))

static int put(void *opaque, size_t device, const void *data, size_t len, uint32_t flags)
{
	(void)opaque, (void)device, (void)data, (void)len, (void)flags;
	return 0;
}

static int64_t get(void *opaque, size_t device, void *buf, size_t len, uint32_t *flags, uint64_t *total)
{
	(void)opaque, (void)device, (void)buf, (void)len, (void)flags, (void)total;
	return -EIO;
}

/* The options of a progress interval that calls nothing. */
static const struct vfiomig_group_options *interval_alone(void)
{
	static struct vfiomig_group_options options;

	VFIOMIG_INIT(&options);
	options.progress_interval_ns = 1;
	return &options;
}

static void group_changes(const char *name)
{
	const uint32_t bad = 1u << 31;

	if (!strcmp(name, "vfiomig_group_new")) {
		WRONG(vfiomig_group_new(NULL, NULL, ERRP));
		WRONG(vfiomig_group_new(interval_alone(), &out.group, ERRP));
		WRONG_STRUCT(vfiomig_group_options, vfiomig_group_new(&s, &out.group, ERRP));
	}
	IS(vfiomig_group_add_device) {
		WRONG(vfiomig_group_add_device(NULL, d, ERRP));
		WRONG(vfiomig_group_add_device(g, NULL, ERRP));
	}
	IS(vfiomig_group_remove_device) {
		WRONG(vfiomig_group_remove_device(NULL, d, ERRP));
		WRONG(vfiomig_group_remove_device(g, NULL, ERRP));
	}
	IS(vfiomig_group_add_tracker) {
		WRONG(vfiomig_group_add_tracker(NULL, t, ERRP));
		WRONG(vfiomig_group_add_tracker(g, NULL, ERRP));
		WRONG(vfiomig_group_add_tracker(g, t, ERRP)); /* it is in it */
	}
	IS(vfiomig_group_remove_tracker) {
		WRONG(vfiomig_group_remove_tracker(NULL, t, ERRP));
		WRONG(vfiomig_group_remove_tracker(g, NULL, ERRP));
	}
	IS(vfiomig_group_pause) WRONG(vfiomig_group_pause(NULL, ERRP));
	IS(vfiomig_group_pause_begin) WRONG(vfiomig_group_pause_begin(NULL, ERRP));
	IS(vfiomig_group_resume) WRONG(vfiomig_group_resume(NULL, ERRP));
	IS(vfiomig_group_resume_begin) WRONG(vfiomig_group_resume_begin(NULL, ERRP));
#define RUN_STATE(function, most)                                                  \
	IS(function) {                                                             \
		WRONG(function(NULL, 0, NULL, ERRP));                              \
		WRONG(function(g, (most) + 1, NULL, ERRP));                        \
		WRONG(function(g, bad, &out.run_state, ERRP));                     \
		set_outputs(4);                                                    \
		WRONG(function(g, 0, &out.run_state, ERRP));                       \
	}
	RUN_STATE(vfiomig_group_stop_begin, VFIOMIG_STOP_F_HAND_OVER)
	RUN_STATE(vfiomig_group_stop, VFIOMIG_STOP_F_HAND_OVER)
	RUN_STATE(vfiomig_group_start_begin, 0)
	RUN_STATE(vfiomig_group_start, 0)
}

static void group_looks(const char *name)
{
	if (!strcmp(name, "vfiomig_group_get_abilities")) {
		WRONG(vfiomig_group_get_abilities(NULL, &out.abilities, NULL, ERRP));
		WRONG(vfiomig_group_get_abilities(g, NULL, NULL, ERRP));
		set_outputs(4);
		WRONG(vfiomig_group_get_abilities(g, &out.abilities, &out.report, ERRP));
	}
	IS(vfiomig_group_get_progress) {
		WRONG(vfiomig_group_get_progress(NULL, &out.progress, 1, &out.total, ERRP));
		WRONG(vfiomig_group_get_progress(g, NULL, 1, &out.total, ERRP));
		WRONG(vfiomig_group_get_progress(g, &out.progress, 1, NULL, ERRP));
		set_outputs(4);
		WRONG(vfiomig_group_get_progress(g, &out.progress, 1, &out.total, ERRP));
	}
	IS(vfiomig_group_get_report) {
		WRONG(vfiomig_group_get_report(NULL, &out.report, ERRP));
		WRONG(vfiomig_group_get_report(g, NULL, ERRP));
	}
	IS(vfiomig_group_get_timings) {
		WRONG(vfiomig_group_get_timings(NULL, &out.report, ERRP));
		WRONG(vfiomig_group_get_timings(g, NULL, ERRP));
	}
	IS(vfiomig_group_set_timings) {
		WRONG(vfiomig_group_set_timings(NULL, "vfiomig-timings 1", &out.report, ERRP));
		WRONG(vfiomig_group_set_timings(g, NULL, NULL, ERRP));
		WRONG(vfiomig_group_set_timings(g, "", &out.report, ERRP));
		WRONG(vfiomig_group_set_timings(g, "vfiomig-timings 2", &out.report, ERRP));
		WRONG(vfiomig_group_set_timings(g, "vfiomig-timings 1\nSTOP RUNNING", &out.report, ERRP));
	}
	IS(vfiomig_group_harvest) {
		WRONG(vfiomig_group_harvest(NULL, NULL, NULL, ERRP));
		set_outputs(4);
		WRONG(vfiomig_group_harvest(g, NULL, &out.harvest, ERRP));
		WRONG_STRUCT(vfiomig_harvest_request, vfiomig_group_harvest(g, &s, NULL, ERRP));
	}
}

static void migration_calls(const char *name)
{
	const uint32_t bad = 1u << 31, phase = VFIOMIG_PHASE_SAVE_TRACKING;

	if (!strcmp(name, "vfiomig_migration_new")) {
		WRONG(vfiomig_migration_new(NULL, VFIOMIG_DIRECTION_SAVE, NULL, &out.migration, ERRP));
		WRONG(vfiomig_migration_new(g, VFIOMIG_DIRECTION_SAVE, NULL, NULL, ERRP));
		WRONG(vfiomig_migration_new(g, 0, NULL, &out.migration, ERRP));
		WRONG(vfiomig_migration_new(g, VFIOMIG_DIRECTION_LOAD + 1, NULL, &out.migration, ERRP));
		WRONG_STRUCT(vfiomig_migration_options,
			     vfiomig_migration_new(g, VFIOMIG_DIRECTION_SAVE, &s, &out.migration, ERRP));
	}
	IS(vfiomig_migration_advance) {
		WRONG(vfiomig_migration_advance(NULL, phase, 0, ERRP));
		WRONG(vfiomig_migration_advance(m, phase, bad, ERRP));
		WRONG(vfiomig_migration_advance(m, VFIOMIG_PHASE_FAILED, 0, ERRP));
		WRONG(vfiomig_migration_advance(m, 99, 0, ERRP));
	}
	IS(vfiomig_migration_advance_device) {
		WRONG(vfiomig_migration_advance_device(NULL, d, phase, 0, ERRP));
		WRONG(vfiomig_migration_advance_device(m, NULL, phase, 0, ERRP));
		WRONG(vfiomig_migration_advance_device(m, stranger, phase, 0, ERRP));
		WRONG(vfiomig_migration_advance_device(m, d, 99, 0, ERRP));
		WRONG(vfiomig_migration_advance_device(m, d, phase, bad, ERRP));
	}
	IS(vfiomig_migration_abort) {
		WRONG(vfiomig_migration_abort(NULL, VFIOMIG_ABORT_TO_RUNNING, 0, ERRP));
		WRONG(vfiomig_migration_abort(m, VFIOMIG_ABORT_TO_RUN_STATE + 1, 0, ERRP));
		WRONG(vfiomig_migration_abort(m, VFIOMIG_ABORT_TO_RUNNING, bad, ERRP));
	}
	IS(vfiomig_migration_end) {
		WRONG(vfiomig_migration_end(NULL, 0, 0, ERRP));
		WRONG(vfiomig_migration_end(m, 2, 0, ERRP));
		WRONG(vfiomig_migration_end(m, 0, bad, ERRP));
		WRONG(vfiomig_migration_end(m, 0, VFIOMIG_END_F_NO_HARVEST, ERRP));
		WRONG(vfiomig_migration_end(m, 1, VFIOMIG_END_F_NO_SECOND_GUEST, ERRP));
	}
	IS(vfiomig_migration_load_done) {
		WRONG(vfiomig_migration_load_done(NULL, d, 0, 0, ERRP));
		WRONG(vfiomig_migration_load_done(m, NULL, 0, 0, ERRP));
		WRONG(vfiomig_migration_load_done(m, d, 0, bad, ERRP));
	}
	/* With a wire: t-wire-group.c. */
	IS(vfiomig_migration_save_to) {
		WRONG(vfiomig_migration_save_to(NULL, NULL, 0, NULL, ERRP));
		WRONG(vfiomig_migration_save_to(m, NULL, 0, NULL, ERRP));
		WRONG(vfiomig_migration_save_to(m, NULL, 1, NULL, ERRP));
		WRONG_STRUCT(vfiomig_save_to_request, vfiomig_migration_save_to(m, NULL, 0, &s, ERRP));
	}
	IS(vfiomig_migration_load_from) {
		WRONG(vfiomig_migration_load_from(NULL, NULL, 0, NULL, ERRP));
		WRONG(vfiomig_migration_load_from(m, NULL, 1, NULL, ERRP));
		WRONG_STRUCT(vfiomig_load_from_request, vfiomig_migration_load_from(m, NULL, 0, &s, ERRP));
	}
#define DRAINS(function, ...)                                                                         \
	IS(function) {                                                                                \
		WRONG(function(NULL, DRAIN(__VA_ARGS__), NULL, 0, ERRP));                             \
		WRONG(function(m, NULL, NULL, 0, ERRP));                                              \
		WRONG(function(m, DRAIN(__VA_ARGS__, .flags = bad), NULL, 0, ERRP));                  \
		WRONG(function(m, &(struct vfiomig_drain_request){.argsz = 4, __VA_ARGS__}, NULL, 0, ERRP)); \
		WRONG(function(m, DRAIN(__VA_ARGS__, .channel_count = 7), NULL, 0, ERRP));            \
	}
	DRAINS(vfiomig_migration_save_iterate, .put = put, .budget_bytes = 1)
	DRAINS(vfiomig_migration_save_complete, .put = put)
	DRAINS(vfiomig_migration_load_complete, .get = get)
}

static void migration_looks(const char *name)
{
	if (!strcmp(name, "vfiomig_migration_get_pending")) {
		WRONG(vfiomig_migration_get_pending(NULL, 0, &out.pending, ERRP));
		WRONG(vfiomig_migration_get_pending(m, 0, NULL, ERRP));
		WRONG(vfiomig_migration_get_pending(m, 1u << 31, &out.pending, ERRP));
		set_outputs(4);
		WRONG(vfiomig_migration_get_pending(m, 0, &out.pending, ERRP));
	}
	IS(vfiomig_migration_get_estimate) {
		WRONG(vfiomig_migration_get_estimate(NULL, NULL, &out.estimate, NULL, ERRP));
		WRONG(vfiomig_migration_get_estimate(m, NULL, NULL, NULL, ERRP));
		WRONG_STRUCT(vfiomig_migration_estimate_options,
			     vfiomig_migration_get_estimate(m, &s, &out.estimate, &out.report, ERRP));
		set_outputs(4);
		WRONG(vfiomig_migration_get_estimate(m, NULL, &out.estimate, &out.report, ERRP));
	}
	IS(vfiomig_migration_get_report) {
		WRONG(vfiomig_migration_get_report(NULL, &out.report, ERRP));
		WRONG(vfiomig_migration_get_report(m, NULL, ERRP));
	}
}

#define SAME(condition) (tried++, CHECK(condition))

/* Those that have no error to return: NULL and a number too large have an answer, too. */
static void without_errors(const char *name)
{
	if (!strcmp(name, "vfiomig_migration_get_phase"))
		SAME(vfiomig_migration_get_phase(NULL) == VFIOMIG_PHASE_FAILED);
	IS(vfiomig_phase_name) SAME(!strcmp(vfiomig_phase_name(99), "?") && !strcmp(vfiomig_phase_name(1), "SAVE_TRACKING"));
	IS(vfiomig_migration_cancel) SAME((vfiomig_migration_cancel(NULL), 1));
	IS(vfiomig_migration_free) SAME((vfiomig_migration_free(NULL), 1));
	IS(vfiomig_group_free) SAME((vfiomig_group_free(NULL), 1));
	IS(vfiomig_report_free) SAME((vfiomig_report_free(NULL), 1));
	IS(vfiomig_report_text) SAME(!strcmp(vfiomig_report_text(NULL), ""));
	IS(vfiomig_report_json) SAME(!strcmp(vfiomig_report_json(NULL), ""));
	IS(vfiomig_report_phase_count) SAME(!vfiomig_report_phase_count(NULL));
	IS(vfiomig_report_entry_count) SAME(!vfiomig_report_entry_count(NULL));
	IS(vfiomig_report_counters) SAME(!vfiomig_report_counters(NULL));
	IS(vfiomig_report_phase)
		SAME(!vfiomig_report_phase(NULL, 0) && !vfiomig_report_phase(r, vfiomig_report_phase_count(r)));
	IS(vfiomig_report_entry)
		SAME(!vfiomig_report_entry(NULL, 0) && !vfiomig_report_entry(r, vfiomig_report_entry_count(r)));
}

static void one(const char *name)
{
	static const char *const here[] = {"vfiomig_group_", "vfiomig_migration_", "vfiomig_report_", "vfiomig_phase_"};
	const int failures = atomic_load(&t_failures);
	bool mine = false;

	for (size_t i = 0; i < sizeof here / sizeof *here; i++)
		mine |= !strncmp(name, here[i], strlen(here[i]));
	if (!mine)
		return; /* t-args.c and t-args-tracker.c have them */
	tried = 0;
	void (*const tables[])(const char *) = {group_changes, group_looks, migration_calls, migration_looks, without_errors};
	for (size_t i = 0; i < sizeof tables / sizeof *tables; i++) {
		set_outputs(sizeof out); /* larger than any: what is beyond is left as it is */
		tables[i](name);
	}
	CHECK(tried); /* the tables above have every function */
	if (atomic_load(&t_failures) != failures)
		printf("in %s\n", name);
}

int main(void)
{
	struct vfiomig_tracker_options o;
	struct fake other;

	t_begin();
	fake_init(&f);
	d = fake_device(&f);
	fake_init(&other);
	stranger = fake_device(&other);
	VFIOMIG_INIT(&o);
	o.flags = VFIOMIG_TRACKER_F_EVERYTHING;
	OK(vfiomig_tracker_new(&o, &t, ERRP));
	OK(vfiomig_group_new(NULL, &g, ERRP));
	OK(vfiomig_group_add_device(g, d, ERRP));
	OK(vfiomig_group_add_tracker(g, t, ERRP));
	OK(vfiomig_migration_new(g, VFIOMIG_DIRECTION_SAVE, NULL, &m, ERRP));
	OK(vfiomig_migration_get_report(m, &r, ERRP));
#define FUNCTION(name) one(#name);
#include "functions.inc"
	vfiomig_report_free(r);
	vfiomig_migration_free(m);
	vfiomig_group_free(g);
	vfiomig_tracker_free(t);
	FAKE_END(&f, d);
	FAKE_END(&other, stranger);
	return t_end();
}
