/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Several devices side by side: their functions run on workers if they may, never two at once for one device; callbacks
 * and the log stay on the calling thread; everything is joined before a call returns (docs/design.md, "Waiting and
 * threads"). Under ThreadSanitizer the devices' own memory, which no lock protects, shows whether a call on one thread
 * ends before the next one begins.
 */
#include "fake.h"
#include <pthread.h>

enum { DEVICES = 4 };

static struct fake from[DEVICES], to[DEVICES];
static struct vfiomig_device *from_d[DEVICES], *to_d[DEVICES];
static struct vfiomig_tracker *tracker;
static struct vfiomig_group *source, *target;
static pthread_t caller;
static bool pinned;
static unsigned elsewhere; /* calls of pinned devices on other threads */
static atomic_uint on_workers;

/* The streams, as they come and as they go. */
static struct stream {
	unsigned char bytes[32768];
	size_t len, at;
} streams[DEVICES];

static void where(struct fake *f, enum fake_call call)
{
	bool here = pthread_equal(pthread_self(), caller);

	(void)call;
	if (f->user && !here)
		elsewhere++;
	if (!here)
		atomic_fetch_add(&on_workers, 1);
}

static void log_here(void *opaque, int level, const char *msg)
{
	(void)opaque;
	(void)level;
	(void)msg;
	if (!pthread_equal(pthread_self(), caller))
		elsewhere++;
}

static struct vfiomig_device *device(struct fake *f, int i)
{
	struct vfiomig_device_ops ops;
	struct vfiomig_device_options options;
	struct vfiomig_device *d = NULL;
	char name[16];

	fake_init(f);
	f->hook = where;
	f->max_io = 1000;
	f->user = pinned && i == 1 ? f : NULL;
	fake_ops(f, &ops);
	ops.flags = f->user ? 0 : VFIOMIG_OPS_F_ANY_THREAD;
	VFIOMIG_INIT(&options);
	snprintf(name, sizeof name, "d%d", i);
	options.name = name;
	OK(vfiomig_device_new_ops(&ops, f, &options, &d, ERRP));
	return d;
}

static struct vfiomig_group *group(struct fake *fakes, struct vfiomig_device **devices, uint32_t max_workers)
{
	struct vfiomig_group_options options;
	struct vfiomig_group *g = NULL;

	VFIOMIG_INIT(&options);
	options.max_workers = max_workers;
	OK(vfiomig_group_new(&options, &g, ERRP));
	for (int i = 0; i < DEVICES; i++) {
		devices[i] = device(&fakes[i], i);
		OK(vfiomig_group_add_device(g, devices[i], ERRP));
	}
	return g;
}

static void begin(uint32_t max_workers)
{
	struct vfiomig_tracker_options options;

	atomic_store(&on_workers, 0);
	elsewhere = 0;
	source = group(from, from_d, max_workers);
	target = group(to, to_d, max_workers);
	VFIOMIG_INIT(&options);
	options.flags = VFIOMIG_TRACKER_F_EVERYTHING;
	OK(vfiomig_tracker_new(&options, &tracker, ERRP));
	OK(vfiomig_group_add_tracker(source, tracker, ERRP));
}

static void end(void)
{
	vfiomig_group_free(source);
	vfiomig_group_free(target);
	vfiomig_tracker_free(tracker);
	for (int i = 0; i < DEVICES; i++) {
		FAKE_END(&from[i], from_d[i]);
		FAKE_END(&to[i], to_d[i]);
	}
	CHECK_EQ(elsewhere, 0);
}

static int put(void *opaque, size_t i, const void *data, size_t len, uint32_t flags)
{
	struct stream *s = &streams[i];

	(void)opaque;
	(void)flags;
	if (!pthread_equal(pthread_self(), caller) || s->len + len > sizeof s->bytes)
		return -EFBIG;
	memcpy(s->bytes + s->len, data, len);
	s->len += len;
	return 0;
}

static int64_t get(void *opaque, size_t i, void *buf, size_t len, uint32_t *flags, uint64_t *total)
{
	struct stream *s = &streams[i];
	size_t n = s->len - s->at < 700 ? s->len - s->at : 700;

	(void)opaque;
	(void)flags;
	if (!pthread_equal(pthread_self(), caller) || len < n)
		return -EFBIG;
	*total = s->len;
	memcpy(buf, s->bytes + s->at, n);
	s->at += n;
	return (int64_t)n;
}

static int harvest(struct vfiomig_group *g)
{
	struct vfiomig_harvest_request request;
	struct vfiomig_harvest_result result;

	VFIOMIG_INIT(&request);
	VFIOMIG_INIT(&result);
	request.flags = 0;
	return vfiomig_group_harvest(g, &request, &result, ERRP);
}

/* A monitor: what any thread may ask at any time. */
static atomic_bool watching;

static void *watch(void *migration)
{
	struct vfiomig_migration *m = migration;
	struct vfiomig_migration_pending pending;

	while (atomic_load(&watching)) {
		(void)vfiomig_migration_get_phase(m);
		VFIOMIG_INIT(&pending);
		(void)vfiomig_migration_get_pending(m, 0, &pending, NULL);
		for (int i = 0; i < DEVICES; i++)
			(void)vfiomig_device_get_state(from_d[i]);
	}
	return NULL;
}

static void migrate(void)
{
	static const uint32_t phases[] = {VFIOMIG_PHASE_SAVE_TRACKING, VFIOMIG_PHASE_SAVE_PRE_COPY,
					  VFIOMIG_PHASE_SAVE_P2P_GRACE};
	struct vfiomig_migration *save = NULL, *load = NULL;
	pthread_t monitor;

	memset(streams, 0, sizeof streams);
	OK(vfiomig_group_pause(source, ERRP));
	OK(vfiomig_group_resume(source, ERRP));
	OK(vfiomig_migration_new(source, VFIOMIG_DIRECTION_SAVE, NULL, &save, ERRP));
	atomic_store(&watching, true);
	pthread_create(&monitor, NULL, watch, save);
	for (size_t i = 0; i < 3; i++) {
		OK(vfiomig_migration_advance(save, phases[i], 0, ERRP));
		OK(vfiomig_migration_save_iterate(save, DRAIN(.budget_bytes = UINT64_MAX, .put = put), NULL, 0, ERRP));
	}
	OK(vfiomig_migration_advance(save, VFIOMIG_PHASE_SAVE_STOP_COPY, 0, ERRP));
	OK(vfiomig_migration_save_complete(save, DRAIN(.put = put), NULL, 0, ERRP));
	OK(harvest(source));
	OK(vfiomig_migration_advance(save, VFIOMIG_PHASE_SAVE_HALTED, 0, ERRP));
	atomic_store(&watching, false);
	pthread_join(monitor, NULL);
	OK(vfiomig_migration_new(target, VFIOMIG_DIRECTION_LOAD, NULL, &load, ERRP));
	OK(vfiomig_migration_advance(load, VFIOMIG_PHASE_LOAD_RESUMING, 0, ERRP));
	OK(vfiomig_migration_load_complete(load, DRAIN(.get = get), NULL, 0, ERRP));
	OK(vfiomig_migration_advance(load, VFIOMIG_PHASE_LOAD_RUNNING, 0, ERRP));
	for (int i = 0; i < DEVICES; i++) {
		CHECK_EQ(streams[i].len, fake_total(&from[i]));
		CHECK(fake_right(streams[i].bytes, 0, streams[i].len));
		CHECK(to[i].in_len == streams[i].len && !memcmp(to[i].in, streams[i].bytes, streams[i].len));
		CHECK_EQ(atomic_load(&to[i].state), S_RUNNING);
	}
	OK(vfiomig_migration_abort(save, VFIOMIG_ABORT_TO_RUNNING, VFIOMIG_ABORT_F_NO_SECOND_GUEST, ERRP));
	vfiomig_migration_free(save);
	vfiomig_migration_free(load);
}

static void *cancel(void *migration)
{
	vfiomig_migration_cancel(migration);
	return NULL;
}

/* From another thread, at any moment of a phase. */
static void cancels(void)
{
	struct vfiomig_migration *save = NULL;
	pthread_t other;

	OK(vfiomig_migration_new(source, VFIOMIG_DIRECTION_SAVE, NULL, &save, ERRP));
	for (int i = 0; i < 20; i++) {
		int result;

		pthread_create(&other, NULL, cancel, save);
		result = vfiomig_migration_advance(save, VFIOMIG_PHASE_SAVE_STOP_COPY, 0, NULL);
		CHECK(result == 0 || result == -ECANCELED);
		pthread_join(other, NULL);
		OK(vfiomig_migration_abort(save, VFIOMIG_ABORT_TO_RUNNING, 0, ERRP));
		for (int n = 0; n < DEVICES; n++)
			CHECK_EQ(atomic_load(&from[n].state), S_RUNNING);
	}
	vfiomig_migration_free(save);
}

int main(void)
{
	t_begin();
	caller = pthread_self();
	vfiomig_set_log(log_here, NULL, VFIOMIG_LOG_DEBUG);
	for (uint32_t max_workers = 0; max_workers < 3; max_workers++) {
		pinned = max_workers == 2;
		begin(max_workers);
		for (int i = 0; i < 5; i++)
			migrate();
		cancels();
		CHECK_EQ(atomic_load(&on_workers) > 0, max_workers != 1);
		end();
	}
	vfiomig_set_log(NULL, NULL, 0);
	return t_end();
}
