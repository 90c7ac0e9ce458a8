/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A load with queue_bytes takes one stream after another from one thread while slow devices consume and validate side
 * by side; no success is said of a device that failed, and its threads end with the load (F6, F7, P1).
 */
#include "fake.h"
#include <dirent.h>
#include <pthread.h>
#include <signal.h>
#include <time.h>

enum { DEVICES = 4, SIZE = 40000, WRITES = 10, SLOW_NS = 5000000, QUEUE = 1 << 20 };

static struct fake fakes[DEVICES];
static struct vfiomig_device *devices[DEVICES];
static struct vfiomig_group *group;
static unsigned char bytes[SIZE];
static pthread_t home;
static bool slow;
static long write_ns;
static atomic_uint elsewhere;
static struct fake_log *first_log; /* of the first device */

static void nap(long ns)
{
	struct timespec t = { 0, ns };

	nanosleep(&t, NULL);
}

static long now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* Threads of the library that stay. */
static int stayers(void)
{
	DIR *tasks = opendir("/proc/self/task");
	struct dirent *task;
	int found = 0;

	while (tasks && (task = readdir(tasks))) {
		char path[300], name[32] = "";
		FILE *f;

		snprintf(path, sizeof path, "/proc/self/task/%s/comm", task->d_name);
		f = fopen(path, "r");
		if (f && fgets(name, sizeof name, f))
			found += !strncmp(name, "vfiomig-d", 9);
		if (f)
			fclose(f);
	}
	if (tasks)
		closedir(tasks);
	return found;
}

static void all_gone(void)
{
	for (int i = 0; stayers() && i < 500; i++)
		nap(10000000);
	CHECK_EQ(stayers(), 0);
}

static void before(struct fake *f, enum fake_call call)
{
	(void)f;
	if (call != C_WRITE && call != C_SET)
		return;
	if (!pthread_equal(pthread_self(), home)) {
		sigset_t blocked;

		CHECK(!pthread_sigmask(SIG_BLOCK, NULL, &blocked) && sigismember(&blocked, SIGTERM) == 1);
		if (call == C_WRITE)
			elsewhere++;
	}
	if (slow)
		nap(call == C_WRITE ? write_ns : WRITES * write_ns);
}

static struct vfiomig_migration *begin(uint64_t queue_bytes, unsigned max_workers)
{
	struct vfiomig_group_options options;
	struct vfiomig_migration_options how;
	struct vfiomig_migration *m = NULL;

	home = pthread_self();
	slow = false;
	write_ns = SLOW_NS;
	elsewhere = 0;
	VFIOMIG_INIT(&options);
	options.max_workers = max_workers;
	OK(vfiomig_group_new(&options, &group, ERRP));
	for (int i = 0; i < DEVICES; i++) {
		struct vfiomig_device_options device;
		struct vfiomig_device_ops ops;
		char name[16];

		fake_init(&fakes[i]);
		fakes[i].expect = SIZE;
		fakes[i].max_io = SIZE / WRITES;
		fakes[i].hook = before;
		fakes[i].log = i ? NULL : first_log;
		fake_ops(&fakes[i], &ops);
		ops.flags = VFIOMIG_OPS_F_ANY_THREAD;
		VFIOMIG_INIT(&device);
		snprintf(name, sizeof name, "d%d", i);
		device.name = name;
		OK(vfiomig_device_new_ops(&ops, &fakes[i], &device, &devices[i], ERRP));
		OK(vfiomig_group_add_device(group, devices[i], ERRP));
	}
	VFIOMIG_INIT(&how);
	how.queue_bytes = queue_bytes;
	OK(vfiomig_migration_new(group, VFIOMIG_DIRECTION_LOAD, &how, &m, ERRP));
	OK(vfiomig_migration_advance(m, VFIOMIG_PHASE_LOAD_RESUMING, 0, ERRP));
	return m;
}

static void end(struct vfiomig_migration *m)
{
	vfiomig_migration_free(m);
	all_gone();
	vfiomig_group_free(group);
	for (int i = 0; i < DEVICES; i++)
		FAKE_END(&fakes[i], devices[i]);
}

/* One stream after another, from one thread; how long it took. */
static long all_streams(struct vfiomig_migration *m)
{
	long begun = now_ms();

	slow = true;
	for (int i = 0; i < DEVICES; i++) {
		CHECK_EQ(OK(vfiomig_device_write(devices[i], bytes, SIZE, 0, ERRP)), SIZE);
		FAILS(vfiomig_migration_load_done(m, devices[i], SIZE + 1, 0, ERRP), 0, VFIOMIG_ERR_INCOMPLETE);
		CHECK_EQ(OK(vfiomig_migration_load_done(m, devices[i], SIZE, 0, ERRP)), i == DEVICES - 1);
	}
	CHECK_EQ(vfiomig_migration_get_phase(m), VFIOMIG_PHASE_LOAD_LOADED);
	slow = false;
	for (int i = 0; i < DEVICES; i++)
		CHECK_EQ(fakes[i].state, S_STOP);
	return now_ms() - begun;
}

/* Behind the caller; the shortest time of three, for a machine that is busy with something else. */
static long behind_the_caller(void)
{
	long best = 0;

	for (int i = 0; i < 3; i++) {
		struct vfiomig_migration *m = begin(QUEUE, 0);
		long took = all_streams(m);

		CHECK(elsewhere >= DEVICES * WRITES);
		OK(vfiomig_migration_advance(m, VFIOMIG_PHASE_LOAD_RUNNING, 0, ERRP));
		end(m);
		if (i == 0 || took < best)
			best = took;
	}
	return best;
}

static void side_by_side(void)
{
	struct vfiomig_migration *m = begin(0, 0);
	long serial = all_streams(m), behind;

	CHECK_EQ(elsewhere, 0);
	end(m);
	behind = behind_the_caller();
	printf("%ld ms one after another, %ld ms behind the caller\n", serial, behind);
	/*
	 * The devices' own time is 400 ms. Where the machine needs as much again, as under valgrind, the figures say
	 * nothing.
	 */
	if (serial < 800)
		CHECK(behind * 10 <= serial * 4);
	/* A VMM that has no threads gets the same, one after another. */
	m = begin(QUEUE, 1);
	all_streams(m);
	CHECK_EQ(elsewhere, 0);
	CHECK_EQ(stayers(), 0);
	end(m);
}

/* By lent buffers, and what a device call says of the end. */
static void lent(void)
{
	struct vfiomig_migration *m = begin(QUEUE, 0);

	for (int i = 0; i < DEVICES; i++) {
		size_t done = 0;

		while (done < SIZE) {
			void *ptr = NULL;
			size_t len = 0;

			OK(vfiomig_device_reserve(devices[i], VFIOMIG_UNKNOWN, &ptr, &len, ERRP));
			FAILS(vfiomig_device_reserve(devices[i], VFIOMIG_UNKNOWN, &ptr, &len, ERRP), EBUSY, VFIOMIG_ERR_BUSY);
			FAILS(vfiomig_device_commit(devices[i], len + 1, 0, ERRP), EINVAL, VFIOMIG_ERR_ARGUMENT);
			if (len > SIZE - done)
				len = SIZE - done;
			memcpy(ptr, bytes + done, len);
			OK(vfiomig_device_commit(devices[i], len, 0, ERRP));
			done += len;
		}
		FAILS(vfiomig_device_commit(devices[i], 0, 0, ERRP), 0, VFIOMIG_ERR_ORDER);
		OK(vfiomig_device_finish(devices[i], SIZE, ERRP));
	}
	OK(vfiomig_migration_advance(m, VFIOMIG_PHASE_LOAD_RUNNING, 0, ERRP));
	end(m);
}

/* A device refuses a part of a stream whose end was taken. */
static void refused(void)
{
	struct vfiomig_migration *m = begin(QUEUE, 0);

	slow = true;
	fakes[1].fault[0] = (struct fake_fault){ .call = C_WRITE, .at = WRITES / 2, .error = EIO };
	for (int i = 0; i < DEVICES - 1; i++) {
		OK(vfiomig_device_write(devices[i], bytes, SIZE, 0, ERRP));
		CHECK_EQ(OK(vfiomig_migration_load_done(m, devices[i], SIZE, 0, ERRP)), 0);
	}
	vfiomig_device_write(devices[3], bytes, SIZE, 0, NULL);
	FAILS(vfiomig_migration_load_done(m, devices[3], SIZE, 0, ERRP), EIO, VFIOMIG_ERR_DEVICE);
	CHECK(strstr(vfiomig_error_message(t_error), "d1: writing the stream"));
	CHECK_EQ(vfiomig_migration_get_phase(m), VFIOMIG_PHASE_FAILED);
	OK(vfiomig_migration_abort(m, VFIOMIG_ABORT_TO_RUNNING, 0, ERRP));
	all_gone();
	for (int i = 0; i < DEVICES; i++)
		CHECK_EQ(fakes[i].state, S_RUNNING);
	end(m);
}

static void frees(struct fake_log *l, enum log_call call)
{
	(void)l;
	if (call == L_REPORT)
		vfiomig_device_free(devices[0]);
}

/* A _free from a callback of the device's log frees nothing, and so ends nothing: what is on its way arrives. */
static void freed_by_its_log(void)
{
	static struct fake_log log;
	struct vfiomig_tracker_options options;
	struct vfiomig_tracker *tracker = NULL;
	struct vfiomig_migration *m;

	fake_log_init(&log);
	first_log = &log;
	m = begin(QUEUE, 0);
	VFIOMIG_INIT(&options);
	options.devices = devices;
	options.device_count = 1;
	OK(vfiomig_tracker_new(&options, &tracker, ERRP));
	OK(map_units(tracker, 0, 64, 0));
	OK(vfiomig_tracker_start(tracker, ERRP));
	slow = true;
	OK(vfiomig_device_write(devices[0], bytes, SIZE, 0, ERRP));
	log.hook = frees;
	OK(vfiomig_tracker_harvest(tracker, NULL, NULL, ERRP));
	log.hook = NULL;
	for (int i = 0; i < DEVICES; i++) {
		if (i)
			OK(vfiomig_device_write(devices[i], bytes, SIZE, 0, ERRP));
		CHECK_EQ(OK(vfiomig_migration_load_done(m, devices[i], SIZE, 0, ERRP)), i == DEVICES - 1);
	}
	LOG_END(&log, tracker);
	first_log = NULL;
	end(m);
}

/* What ends a load ends its threads, with bytes on their way. */
static void ended(int how)
{
	struct vfiomig_migration *m = begin(QUEUE, 0);

	slow = true;
	write_ns = 10 * SLOW_NS;
	for (int i = 0; i < DEVICES * WRITES; i++)
		OK(vfiomig_device_write(devices[i / WRITES], bytes + i % WRITES * (SIZE / WRITES), SIZE / WRITES, 0, ERRP));
	if (how == 0) {
		OK(vfiomig_migration_abort(m, VFIOMIG_ABORT_TO_RUNNING, 0, ERRP));
	} else if (how == 1) {
		vfiomig_migration_cancel(m);
	} else if (how == 2) {
		vfiomig_migration_free(m);
		m = NULL;
		FAILS(vfiomig_device_finish(devices[DEVICES - 1], SIZE, ERRP), 0, VFIOMIG_ERR_STALE);
	} else {
		for (int i = 0; i < DEVICES; i++)
			OK(vfiomig_device_reset(devices[i], ERRP));
	}
	all_gone();
	end(m);
}

int main(void)
{
	for (size_t i = 0; i < SIZE; i++)
		bytes[i] = fake_byte(i);
	side_by_side();
	lent();
	refused();
	freed_by_its_log();
	for (int how = 0; how < 4; how++)
		ended(how);
	return t_end();
}
