/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A device that hangs is seen: while one of three does not answer for 4 s, progress, report and estimate answer at once
 * from another thread, the callback of the group's options names it, and can ask for cancel; it hears of a log that hangs, too;
 * sizes of older and newer callers hold. Times of state changes can be given before a first migration.
 */
#include "fake.h"
#include <pthread.h>
#include <time.h>

enum { DEVICES = 3 };

static struct fake fakes[DEVICES];
static struct vfiomig_device *devices[DEVICES];
static struct vfiomig_group *group;
static struct vfiomig_tracker *tracker;
static struct vfiomig_migration *save;

/* What the callback got. */
static atomic_uint arrivals, named, wrong, logs;
static atomic_int wish;

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void nap_ms(unsigned ms)
{
	struct timespec t = {.tv_sec = ms / 1000, .tv_nsec = (ms % 1000) * 1000000L};

	nanosleep(&t, NULL);
}

static int on_progress(void *opaque, const struct vfiomig_progress_event *e)
{
	size_t total = 0;

	if (e->device->flags & VFIOMIG_PROGRESS_TRACKER) {
		if (e->kind != VFIOMIG_PROGRESS_WAITING || e->arrived || !e->asked || opaque != &wish ||
		    e->device->request != VFIOMIG_REQUEST_LOG || !e->device->since_ns ||
		    !strstr(e->device->name, ": log of the VMM") || vfiomig_group_pause(group, NULL) != -EDEADLK)
			atomic_fetch_add(&wrong, 1);
		atomic_fetch_add(&logs, 1);
		return 0;
	}
	if (opaque != &wish || e->argsz < sizeof *e || e->device->argsz < sizeof *e->device || e->asked != DEVICES ||
	    e->arrived > e->asked)
		atomic_fetch_add(&wrong, 1);
	if (e->kind == VFIOMIG_PROGRESS_ARRIVED)
		atomic_fetch_add(&arrivals, 1);
	if (e->kind == VFIOMIG_PROGRESS_WAITING) {
		/* On a slow machine others are waited for, too. */
		if (!strcmp(e->device->name, "d1") && e->device->request == VFIOMIG_REQUEST_SET_STATE)
			atomic_fetch_add(&named, 1);
	}
	/* A getter answers here, and what would wait for itself says so. */
	if (vfiomig_group_get_progress(group, NULL, 0, &total, NULL) || total != DEVICES ||
	    vfiomig_group_pause(group, NULL) != -EDEADLK)
		atomic_fetch_add(&wrong, 1);
	return e->kind == VFIOMIG_PROGRESS_WAITING ? atomic_load(&wish) : 0;
}

static unsigned hang_ms;

/* The first request for a state hangs. */
static void hangs(struct fake *f, enum fake_call call)
{
	if (call == C_SET) {
		f->hook = NULL;
		nap_ms(hang_ms);
	}
}

static void begin(bool listen)
{
	struct vfiomig_group_options options;
	struct vfiomig_tracker_options log;

	VFIOMIG_INIT(&options);
	if (listen) {
		options.progress = on_progress;
		options.opaque = &wish;
		options.progress_interval_ns = 100000000;
	}
	OK(vfiomig_group_new(&options, &group, ERRP));
	for (int i = 0; i < DEVICES; i++) {
		struct vfiomig_device_options device;
		struct vfiomig_device_ops ops;
		char name[16];

		fake_init(&fakes[i]);
		fakes[i].pre = fakes[i].stop = 1000;
		fake_ops(&fakes[i], &ops);
		ops.flags |= VFIOMIG_OPS_F_ANY_THREAD;
		VFIOMIG_INIT(&device);
		snprintf(name, sizeof name, "d%d", i);
		device.name = name;
		OK(vfiomig_device_new_ops(&ops, &fakes[i], &device, &devices[i], ERRP));
		OK(vfiomig_group_add_device(group, devices[i], ERRP));
	}
	VFIOMIG_INIT(&log);
	log.flags = VFIOMIG_TRACKER_F_EVERYTHING;
	OK(vfiomig_tracker_new(&log, &tracker, ERRP));
	OK(vfiomig_group_add_tracker(group, tracker, ERRP));
	OK(vfiomig_migration_new(group, VFIOMIG_DIRECTION_SAVE, NULL, &save, ERRP));
}

static void end(void)
{
	vfiomig_migration_free(save);
	vfiomig_group_free(group);
	vfiomig_tracker_free(tracker);
	for (int i = 0; i < DEVICES; i++)
		FAKE_END(&fakes[i], devices[i]);
}

static int advanced;

static void *advances(void *opaque)
{
	(void)opaque;
	advanced = vfiomig_migration_advance(save, VFIOMIG_PHASE_SAVE_STOP_COPY, 0, NULL);
	return NULL;
}

static void a_device_hangs(void)
{
	struct vfiomig_progress all[DEVICES];
	struct vfiomig_migration_estimate estimate;
	struct vfiomig_report *report = NULL;
	uint64_t begun, seen;
	size_t total = 0;
	pthread_t t;

	begin(true);
	OK(vfiomig_migration_advance(save, VFIOMIG_PHASE_SAVE_PRE_COPY, 0, ERRP));
	hang_ms = 4000;
	fakes[1].hook = hangs;
	arrivals = named = 0;
	begun = now_ns();
	pthread_create(&t, NULL, advances, NULL);
	nap_ms(1000);
	seen = now_ns();
	memset(all, 0x5a, sizeof all);
	VFIOMIG_INIT(&all[0]);
	OK(vfiomig_group_get_progress(group, all, DEVICES, &total, ERRP));
	CHECK_EQ(total, DEVICES);
	VFIOMIG_INIT(&estimate);
	OK(vfiomig_migration_get_estimate(save, NULL, &estimate, NULL, ERRP));
	OK(vfiomig_migration_get_report(save, &report, ERRP));
	CHECK_HAS(vfiomig_report_text(report), "SAVE_PRE_COPY");
	vfiomig_report_free(report);
	OK(vfiomig_group_get_report(group, &report, ERRP));
	vfiomig_report_free(report);
	CHECK(now_ns() - seen < 1000000000);
	for (int i = 0; i < DEVICES; i++) {
		char name[16];

		snprintf(name, sizeof name, "d%d", i);
		CHECK(!strcmp(all[i].name, name));
		CHECK_EQ(all[i].argsz, sizeof all[i]);
		CHECK_EQ(all[i].request, i == 1 ? VFIOMIG_REQUEST_SET_STATE : VFIOMIG_REQUEST_NONE);
		CHECK_EQ(all[i].target, VFIOMIG_STATE_PRE_COPY_P2P);
		CHECK_EQ(all[i].state, i == 1 ? VFIOMIG_STATE_PRE_COPY : VFIOMIG_STATE_PRE_COPY_P2P);
		CHECK_EQ(all[i].log_since_ns, 0);
	}
	CHECK(all[1].since_ns >= begun - 256 && all[1].since_ns < seen);
	CHECK_EQ(all[0].since_ns, 0);
	CHECK(now_ns() - begun < 3500000000);
	pthread_join(t, NULL);
	CHECK(now_ns() - begun >= 4000000000);
	CHECK_EQ(advanced, 0);
	CHECK(named >= 10);
	CHECK_EQ(arrivals, 2 * DEVICES);
	CHECK_EQ(wrong, 0);
	OK(vfiomig_migration_abort(save, VFIOMIG_ABORT_TO_RUNNING, 0, ERRP));
	end();
}

/* The one that hangs cannot be helped, but nothing new begins behind it. */
static void a_callback_cancels(void)
{
	begin(true);
	OK(vfiomig_migration_advance(save, VFIOMIG_PHASE_SAVE_PRE_COPY, 0, ERRP));
	hang_ms = 1000;
	fakes[1].hook = hangs;
	atomic_store(&wish, 1);
	FAILS(vfiomig_migration_advance(save, VFIOMIG_PHASE_SAVE_STOP_COPY, 0, ERRP), ECANCELED, VFIOMIG_ERR_CANCELED);
	CHECK_EQ(vfiomig_migration_get_phase(save), VFIOMIG_PHASE_SAVE_P2P_GRACE);
	atomic_store(&wish, 0);
	OK(vfiomig_migration_abort(save, VFIOMIG_ABORT_TO_RUNNING, 0, ERRP));
	CHECK_EQ(wrong, 0);
	end();
}

static void sizes_of_callers(void)
{
	struct {
		struct vfiomig_progress known;
		uint64_t later;
	} longer[DEVICES];
	struct {
		uint32_t argsz, flags, request, state;
	} shorter[DEVICES];
	struct vfiomig_progress one;
	struct vfiomig_group_options options;
	struct vfiomig_group *other;
	size_t total = 9;

	begin(false);
	memset(longer, 0x5a, sizeof longer);
	longer[0].known.argsz = sizeof longer[0];
	OK(vfiomig_group_get_progress(group, (void *)longer, DEVICES, &total, ERRP));
	CHECK(!strcmp(longer[2].known.name, "d2"));
	CHECK_EQ(longer[2].known.argsz, sizeof longer[0]);
	CHECK_EQ(longer[2].later, 0);
	memset(shorter, 0x5a, sizeof shorter);
	shorter[0].argsz = sizeof shorter[0];
	OK(vfiomig_group_get_progress(group, (void *)shorter, DEVICES, &total, ERRP));
	CHECK_EQ(shorter[2].state, VFIOMIG_STATE_RUNNING);
	memset(&one, 0, sizeof one);
	FAILS(vfiomig_group_get_progress(group, &one, 1, &total, ERRP), EINVAL, VFIOMIG_ERR_ARGUMENT);
	VFIOMIG_INIT(&one);
	total = 0;
	OK(vfiomig_group_get_progress(group, &one, 1, &total, ERRP));
	CHECK_EQ(total, DEVICES);
	FAILS(vfiomig_group_get_progress(group, NULL, 1, &total, ERRP), EINVAL, VFIOMIG_ERR_ARGUMENT);
	FAILS(vfiomig_group_get_progress(group, NULL, 0, NULL, ERRP), EINVAL, VFIOMIG_ERR_ARGUMENT);
	FAILS(vfiomig_group_get_progress(NULL, NULL, 0, &total, ERRP), EINVAL, VFIOMIG_ERR_ARGUMENT);
	VFIOMIG_INIT(&options);
	options.progress_interval_ns = 1;
	FAILS(vfiomig_group_new(&options, &other, ERRP), EINVAL, VFIOMIG_ERR_ARGUMENT);
	end();
}

/* Times that are given hold for the estimate of a first migration, and come back as they were. */
static void timings_are_given(void)
{
	static const char given[] = "vfiomig-timings 1\n# by a vendor\nPRE_COPY PRE_COPY_P2P 180ms d0\n"
				    "PRE_COPY PRE_COPY_P2P 20ms d1\nPRE_COPY PRE_COPY_P2P 20ms d2\n"
				    "PRE_COPY_P2P STOP_COPY 40ms d0\nPRE_COPY_P2P STOP_COPY 50ms d1\n"
				    "PRE_COPY_P2P STOP_COPY 1s gone\nPRE_COPY_P2P STOP_COPY 30ms d2\n";
	struct vfiomig_migration_estimate_options options;
	struct vfiomig_migration_estimate estimate;
	struct vfiomig_report *report = NULL;

	begin(false);
	OK(vfiomig_migration_advance(save, VFIOMIG_PHASE_SAVE_PRE_COPY, 0, ERRP));
	VFIOMIG_INIT(&options);
	options.bytes_per_second = 1000000;
	VFIOMIG_INIT(&estimate);
	OK(vfiomig_migration_get_estimate(save, &options, &estimate, NULL, ERRP));
	CHECK(estimate.unknown & VFIOMIG_ESTIMATE_TRANSITION);
	OK(vfiomig_group_set_timings(group, given, &report, ERRP));
	CHECK(!strcmp(vfiomig_report_text(report), "gone"));
	vfiomig_report_free(report);
	OK(vfiomig_migration_get_estimate(save, &options, &estimate, NULL, ERRP));
	CHECK(!(estimate.unknown & VFIOMIG_ESTIMATE_TRANSITION));
	CHECK_EQ(estimate.transition_ns, 230000000);
	OK(vfiomig_group_get_timings(group, &report, ERRP));
	CHECK_HAS(vfiomig_report_text(report), "\nPRE_COPY_P2P STOP_COPY 50000000ns d1\n");
	OK(vfiomig_group_set_timings(group, vfiomig_report_text(report), NULL, ERRP));
	vfiomig_report_free(report);
	FAILS(vfiomig_group_set_timings(group, "vfiomig-timings 1\nPRE_COPY STOP_COPY 1ms d0\nPRE_COPY HALT 1ms d0", NULL,
					ERRP), EINVAL, VFIOMIG_ERR_ARGUMENT);
	CHECK_HAS(vfiomig_error_message(t_error), "timings, line 3: \"HALT\"");
	FAILS(vfiomig_group_set_timings(group, "vfiomig-timings 2", NULL, ERRP), EINVAL, VFIOMIG_ERR_ARGUMENT);
	FAILS(vfiomig_group_set_timings(group, "vfiomig-timings 1\n\xff", NULL, ERRP), EINVAL, VFIOMIG_ERR_ARGUMENT);
	CHECK_HAS(vfiomig_error_message(t_error), "line 2: it is not UTF-8");
	FAILS(vfiomig_group_set_timings(group, NULL, NULL, ERRP), EINVAL, VFIOMIG_ERR_ARGUMENT);
	FAILS(vfiomig_group_get_timings(group, NULL, ERRP), EINVAL, VFIOMIG_ERR_ARGUMENT);
	OK(vfiomig_group_get_timings(group, &report, ERRP));
	CHECK(!strstr(vfiomig_report_text(report), "PRE_COPY STOP_COPY"));
	vfiomig_report_free(report);
	OK(vfiomig_migration_abort(save, VFIOMIG_ABORT_TO_RUNNING, 0, ERRP));
	end();
}

/* A log that hangs is named, too, as long as it does. */
static struct fake_log hanging;

static void log_hangs(struct fake_log *l, enum log_call call)
{
	(void)l;
	if (call == L_START)
		nap_ms(1500);
}

static void *starts(void *t)
{
	return (void *)(intptr_t)vfiomig_tracker_start(t, NULL);
}

static void a_log_hangs(void)
{
	struct vfiomig_progress all[DEVICES + 1];
	struct vfiomig_tracker *ram;
	uint64_t begun, seen;
	size_t total = 0;
	pthread_t t;
	void *result;

	begin(false);
	fake_log_init(&hanging);
	hanging.hook = log_hangs;
	ram = fake_log_tracker(&hanging);
	OK(map_units(ram, 0, 16, 0));
	OK(vfiomig_group_add_tracker(group, ram, ERRP));
	OK(vfiomig_group_get_progress(group, NULL, 0, &total, ERRP));
	CHECK_EQ(total, DEVICES);
	begun = now_ns();
	pthread_create(&t, NULL, starts, ram);
	nap_ms(500);
	seen = now_ns();
	memset(all, 0x5a, sizeof all);
	VFIOMIG_INIT(&all[0]);
	OK(vfiomig_group_get_progress(group, all, DEVICES + 1, &total, ERRP));
	CHECK_EQ(total, DEVICES + 1);
	CHECK_EQ(all[0].flags, 0);
	CHECK_EQ(all[DEVICES].flags, VFIOMIG_PROGRESS_TRACKER);
	CHECK_EQ(all[DEVICES].request, VFIOMIG_REQUEST_LOG);
	CHECK_HAS(all[DEVICES].name, ": log of the VMM");
	/* The clock of a log is some milliseconds behind. */
	CHECK(all[DEVICES].since_ns + 50000000 > begun && all[DEVICES].since_ns < seen);
	pthread_join(t, &result);
	CHECK(!result);
	OK(vfiomig_group_get_progress(group, NULL, 0, &total, ERRP));
	CHECK_EQ(total, DEVICES);
	LOG_END(&hanging, ram);
	OK(vfiomig_migration_abort(save, VFIOMIG_ABORT_TO_RUNNING, 0, ERRP));
	end();
}

/* The library reads it on a thread of its own then, so that the callback hears of it. */
static void any_log_hangs(struct fake_log *l, enum log_call call)
{
	(void)l;
	(void)call;
	nap_ms(350);
}

/* The callback hears of a log of a tracker that is read or stopped, and the tracker goes in the middle of the save. */
static void a_callback_hears_of_a_log(void)
{
	struct vfiomig_tracker_ops ops;
	struct vfiomig_harvest_request everything;
	const struct vfiomig_range all = {0, 16 * 4096};
	struct vfiomig_tracker *ram;

	begin(true);
	fake_log_init(&hanging);
	fake_log_ops(&ops);
	ops.flags |= VFIOMIG_OPS_F_ANY_THREAD;
	OK(vfiomig_tracker_new_ops(&ops, &hanging, NULL, &ram, ERRP));
	OK(map_units(ram, 0, 16, 0));
	OK(vfiomig_group_add_tracker(group, ram, ERRP));
	OK(vfiomig_migration_advance(save, VFIOMIG_PHASE_SAVE_TRACKING, 0, ERRP));
	CHECK_EQ(logs, 0);
	hanging.hook = any_log_hangs;
	VFIOMIG_INIT(&everything);
	OK(vfiomig_group_harvest(group, &everything, NULL, ERRP));
	CHECK(logs >= 2);
	hanging.hook = NULL;
	FAILS(vfiomig_group_remove_tracker(group, ram, ERRP), EINVAL, VFIOMIG_ERR_ORDER);
	OK(vfiomig_tracker_unmap(ram, &all, NULL, NULL, 0, NULL, NULL, ERRP));
	hanging.hook = any_log_hangs;
	atomic_store(&logs, 0);
	OK(vfiomig_group_remove_tracker(group, ram, ERRP));
	CHECK(logs >= 2);
	CHECK_EQ(wrong, 0);
	hanging.hook = NULL;
	LOG_END(&hanging, ram);
	OK(vfiomig_migration_abort(save, VFIOMIG_ABORT_TO_RUNNING, 0, ERRP));
	end();
}

int main(void)
{
	t_begin();
	sizes_of_callers();
	a_log_hangs();
	a_callback_hears_of_a_log();
	timings_are_given();
	a_callback_cancels();
	a_device_hangs();
	return t_end();
}
