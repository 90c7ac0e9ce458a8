/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A save with queue_bytes reads all devices at once while the VMM takes chunks device after device: the bytes and
 * their order stay as they are, what was lent stays readable, the report shows the overlap, and a function of a device
 * that calls back is never waited for.
 */
#include "fake.h"
#include <pthread.h>
#include <signal.h>
#include <time.h>

enum { DEVICES = 4, SIZE = 64 << 10, QUEUE = 1 << 20, STEP_US = 2000 };

static struct fake fakes[DEVICES];
static struct vfiomig_device *d[DEVICES];
static struct vfiomig_tracker *tracker;
static struct vfiomig_group *group;
static struct vfiomig_migration *save;
static pthread_t caller;
static atomic_uint on_others, unblocked, calls_back;

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* A slow device; its reads come on a thread of the library, in which signals are blocked (P1). */
static void slow(struct fake *f, enum fake_call call)
{
	sigset_t mask;

	(void)f;
	if (call != C_READ)
		return;
	usleep(STEP_US);
	if (pthread_equal(pthread_self(), caller))
		return;
	atomic_fetch_add(&on_others, 1);
	pthread_sigmask(SIG_BLOCK, NULL, &mask);
	if (!sigismember(&mask, SIGUSR1) || !sigismember(&mask, SIGTERM))
		atomic_fetch_add(&unblocked, 1);
}

/* Calls from within a read: each would wait for that read, and is told so. */
static void meddles(struct fake *f, enum fake_call call)
{
	if (call != C_READ || pthread_equal(pthread_self(), caller) || atomic_fetch_add(&calls_back, 1))
		return;
	CHECK_EQ(vfiomig_device_reset(f->user, NULL), -EDEADLK);
	CHECK_EQ(vfiomig_device_consume(f->user, 1, NULL), -EDEADLK);
	vfiomig_device_free(f->user);
}

static void begin(uint64_t queue_bytes, void (*hook)(struct fake *, enum fake_call))
{
	struct vfiomig_tracker_options tracking;
	struct vfiomig_migration_options options;

	caller = pthread_self();
	OK(vfiomig_group_new(NULL, &group, ERRP));
	for (int i = 0; i < DEVICES; i++) {
		struct vfiomig_device_options device;
		struct vfiomig_device_ops ops;
		char name[16];

		fake_init(&fakes[i]);
		fakes[i].pre = 0;
		fakes[i].stop = SIZE;
		fakes[i].size = SIZE;
		fakes[i].max_io = 2000;
		fakes[i].hook = hook;
		fake_ops(&fakes[i], &ops);
		ops.flags = VFIOMIG_OPS_F_ANY_THREAD;
		VFIOMIG_INIT(&device);
		snprintf(name, sizeof name, "d%d", i);
		device.name = name;
		OK(vfiomig_device_new_ops(&ops, &fakes[i], &device, &d[i], ERRP));
		fakes[i].user = d[i];
		OK(vfiomig_group_add_device(group, d[i], ERRP));
	}
	VFIOMIG_INIT(&tracking);
	tracking.flags = VFIOMIG_TRACKER_F_EVERYTHING;
	OK(vfiomig_tracker_new(&tracking, &tracker, ERRP));
	OK(vfiomig_group_add_tracker(group, tracker, ERRP));
	VFIOMIG_INIT(&options);
	options.queue_bytes = queue_bytes;
	OK(vfiomig_migration_new(group, VFIOMIG_DIRECTION_SAVE, &options, &save, ERRP));
	OK(vfiomig_migration_advance(save, VFIOMIG_PHASE_SAVE_P2P_GRACE, 0, ERRP));
}

static void end(void)
{
	vfiomig_migration_free(save);
	vfiomig_group_free(group);
	vfiomig_tracker_free(tracker);
	for (int i = 0; i < DEVICES; i++)
		FAKE_END(&fakes[i], d[i]);
}

/*
 * A VMM with one stream: device after device, each to its end. The time it took. What is left is known if it is read
 * ahead.
 */
static double drain_all(bool reads_ahead)
{
	const double begun = now();

	OK(vfiomig_migration_advance(save, VFIOMIG_PHASE_SAVE_STOP_COPY, 0, ERRP));
	for (int i = 0; i < DEVICES; i++) {
		struct vfiomig_device_pending pending;
		size_t at = 0;

		for (;;) {
			struct vfiomig_chunk chunk;
			int result = vfiomig_device_peek(d[i], 0, &chunk, NULL);

			if (result == -EAGAIN)
				continue;
			CHECK_EQ(result, 0);
			if (chunk.flags & VFIOMIG_CHUNK_END)
				break;
			CHECK(chunk.len && fake_right(chunk.data, at, chunk.len) && chunk.segment_left == VFIOMIG_UNKNOWN);
			/* Not all of it, so that a chunk is lent again. */
			size_t part = chunk.len > 100 ? chunk.len - 7 : chunk.len;
			OK(vfiomig_device_consume(d[i], part, ERRP));
			at += part;
			if (!reads_ahead)
				continue;
			VFIOMIG_INIT(&pending);
			OK(vfiomig_device_get_pending(d[i], VFIOMIG_PENDING_F_EXACT, &pending, ERRP));
			CHECK_EQ(pending.stop_copy_bytes, SIZE - at);
		}
		CHECK_EQ(at, SIZE);
	}
	return now() - begun;
}

static void overlap(void)
{
	double alone, ahead;
	bool quick = false;

	/* A machine that is busy with something else has three tries. */
	for (int try = 0; try < 3 && !quick; try++) {
		struct vfiomig_report *report = NULL;
		const struct vfiomig_entry_report *e = NULL;

		begin(0, slow);
		alone = drain_all(false);
		CHECK_EQ(atomic_load(&on_others), 0);
		OK(vfiomig_migration_advance(save, VFIOMIG_PHASE_SAVE_HALTED, VFIOMIG_ADVANCE_F_NO_HARVEST, ERRP));
		end();
		begin(QUEUE, slow);
		ahead = drain_all(true);
		CHECK(atomic_exchange(&on_others, 0) > 0);
		OK(vfiomig_migration_get_report(save, &report, ERRP));
		for (size_t i = 0; i < vfiomig_report_entry_count(report); i++)
			if (vfiomig_report_entry(report, i)->kind == VFIOMIG_ENTRY_READ_AHEAD)
				e = vfiomig_report_entry(report, i);
		CHECK(e && e->bytes == (uint64_t)DEVICES * SIZE && e->part_count == DEVICES);
		if (e)
			CHECK(e->parts[0].time_ns + e->parts[1].time_ns + e->parts[2].time_ns + e->parts[3].time_ns > e->duration_ns);
		vfiomig_report_free(report);
		OK(vfiomig_migration_advance(save, VFIOMIG_PHASE_SAVE_HALTED, VFIOMIG_ADVANCE_F_NO_HARVEST, ERRP));
		end();
		quick = ahead <= 0.5 * alone;
	}
	printf("device after device: %.3f s, read ahead: %.3f s\n", alone, ahead);
	CHECK(quick);
	CHECK_EQ(atomic_load(&unblocked), 0);
}

/* What is lent stays as it is when its session ends, until something is lent again or the handle is freed. */
static void lent_memory_outlives_its_session(void)
{
	struct vfiomig_chunk chunk;

	begin(QUEUE, NULL);
	OK(vfiomig_migration_advance(save, VFIOMIG_PHASE_SAVE_STOP_COPY, 0, ERRP));
	OK(vfiomig_device_peek(d[0], 1000, &chunk, ERRP));
	CHECK(fake_right(chunk.data, 0, chunk.len));
	OK(vfiomig_migration_abort(save, VFIOMIG_ABORT_TO_RUNNING, 0, ERRP));
	CHECK(fake_right(chunk.data, 0, chunk.len));
	FAILS(vfiomig_device_consume(d[0], chunk.len, ERRP), ESTALE, VFIOMIG_ERR_STALE);
	end();
}

static void no_callback_is_waited_for(void)
{
	begin(QUEUE, meddles);
	drain_all(true);
	CHECK(atomic_load(&calls_back) > 0);
	OK(vfiomig_migration_abort(save, VFIOMIG_ABORT_TO_RUNNING, 0, ERRP));
	end();
}

int main(void)
{
	t_begin();
	overlap();
	lent_memory_outlives_its_session();
	no_callback_is_waited_for();
	return t_end();
}
