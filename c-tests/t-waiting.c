/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * No call waits for ever for anything but a request within the kernel: whatever a thread waits for, a cancel ends it,
 * or it ends by itself, and an abort from another thread reaches the device.
 */
#include "fake.h"
#include <pthread.h>
#include <sys/socket.h>
#include <time.h>

/* What the device or the caller's end does. */
enum way { DATA_FUNCTION, DATA_FD, CALLERS_FD, CALLBACK, OTHER_GATE, WAYS };
static const char *const names[] = {"data function", "data fd", "caller's fd", "callback", "another call"};

struct course {
	struct fake f;
	struct vfiomig_device *d;
	struct vfiomig_group *g;
	struct vfiomig_migration *m;
	enum way way;
	bool load;
	int pair[2];
	atomic_bool let_go;
	int64_t result;
	uint32_t code;
	atomic_bool back, aborted;
};

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void nap(void)
{
	usleep(5000);
}

/* Never ready: the calls of the data functions in this test fail all with EAGAIN. */
static void never_ready(struct fake *f)
{
	f->fault[0] = (struct fake_fault){.call = C_READ, .at = 1, .error = EAGAIN, .effect = E_STAY, .sticky = true};
	f->fault[1] = (struct fake_fault){.call = C_WRITE, .at = 1, .error = EAGAIN, .effect = E_STAY, .sticky = true};
}

/* A request that another thread waits for: it ends when it is let go. */
static void holds(struct fake *f, enum fake_call call)
{
	struct course *c = f->user;

	if (call == C_READ || call == C_WRITE)
		while (!atomic_load(&c->let_go))
			nap();
}

static int put(void *opaque, size_t device, const void *data, size_t len, uint32_t flags)
{
	struct course *c = opaque;

	(void)device; (void)data; (void)len; (void)flags;
	while (!atomic_load(&c->let_go))
		nap();
	return 0;
}

static void *waits(void *opaque)
{
	struct course *c = opaque;
	struct vfiomig_error *e = NULL;
	unsigned char buf[1000] = {0};
	uint32_t flags;
	const size_t much = 1 << 20;

	/* As a VMM does: again, as long as the error says that the device was only not ready. */
	do {
		vfiomig_error_free(e);
		e = NULL;
		if (c->way == CALLERS_FD)
			c->result = c->load ? vfiomig_device_receive(c->d, c->pair[0], much, 0, &e)
					    : vfiomig_device_send(c->d, c->pair[0], 0, &flags, &e);
		else if (c->way == CALLBACK)
			c->result = vfiomig_migration_save_complete(c->m, DRAIN(.put = put, .opaque = c), NULL, 0, &e);
		else
			c->result = c->load ? vfiomig_device_write(c->d, buf, sizeof buf, 0, &e)
					    : vfiomig_device_read(c->d, buf, sizeof buf, &flags, &e);
	} while (c->result == -EAGAIN || (c->way == CALLERS_FD && c->result > 0));
	c->code = vfiomig_error_code(e);
	vfiomig_error_free(e);
	atomic_store(&c->back, true);
	return NULL;
}

static void *aborts(void *opaque)
{
	struct course *c = opaque;

	OK(vfiomig_migration_abort(c->m, VFIOMIG_ABORT_TO_RUNNING, 0, ERRP));
	(void)ERRP;
	atomic_store(&c->aborted, true);
	return NULL;
}

static int feature_with_fd(void *opaque, void *feature, uint32_t argsz)
{
	struct course *c = opaque;
	struct fake_feature *x = feature;
	int result = fake_device_feature(&c->f, feature, argsz);
	int pair[2];

	/* A socket with nothing in it, in blocking mode, as a driver's whose firmware is at work; or one that is full. */
	if (!result && x->flags == (FEATURE_MIG_DEVICE_STATE | FEATURE_SET) &&
	    (x->u.mig.state == S_STOP_COPY || x->u.mig.state == S_RESUMING) &&
	    !socketpair(AF_UNIX, SOCK_STREAM, 0, pair)) {
		static const char zeros[4096];

		if (x->u.mig.state == S_RESUMING)
			while (send(pair[0], zeros, sizeof zeros, MSG_DONTWAIT) > 0)
				;
		c->pair[1] = pair[1];
		x->u.mig.data_fd = pair[0];
	}
	return result;
}

static int reset_with_fd(void *opaque)
{
	return fake_reset(&((struct course *)opaque)->f);
}

static void begin(struct course *c, enum way way, bool load)
{
	struct vfiomig_device_ops ops;
	struct vfiomig_device_options options;

	memset(c, 0, sizeof *c);
	c->way = way;
	c->load = load;
	fake_init(&c->f);
	c->f.user = c;
	c->f.stop = 1 << 20;
	fake_ops(&c->f, &ops);
	if (way == DATA_FD) {
		VFIOMIG_INIT(&ops);
		ops.device_feature = feature_with_fd;
		ops.device_reset = reset_with_fd;
	}
	VFIOMIG_INIT(&options);
	options.name = "vf0";
	OK(vfiomig_device_new_ops(&ops, way == DATA_FD ? (void *)c : (void *)&c->f, &options, &c->d, ERRP));
	OK(vfiomig_group_new(NULL, &c->g, ERRP));
	OK(vfiomig_group_add_device(c->g, c->d, ERRP));
}

static struct vfiomig_tracker *everything(struct course *c)
{
	struct vfiomig_tracker_options options;
	struct vfiomig_tracker *t = NULL;

	VFIOMIG_INIT(&options);
	options.flags = VFIOMIG_TRACKER_F_EVERYTHING;
	options.devices = &c->d;
	options.device_count = 1;
	OK(vfiomig_tracker_new(&options, &t, ERRP));
	OK(vfiomig_group_add_tracker(c->g, t, ERRP));
	return t;
}

/* How long until `done`, at most so long. */
static double until(atomic_bool *done, double most)
{
	const double begun = now();

	while (!atomic_load(done) && now() - begun < most)
		nap();
	return now() - begun;
}

static void course(enum way way, bool load, bool cancels)
{
	static struct course c;
	struct vfiomig_tracker *t;
	pthread_t waiter, aborter;

	begin(&c, way, load);
	t = everything(&c);
	OK(vfiomig_migration_new(c.g, load ? VFIOMIG_DIRECTION_LOAD : VFIOMIG_DIRECTION_SAVE, NULL, &c.m, ERRP));
	OK(vfiomig_migration_advance(c.m, load ? VFIOMIG_PHASE_LOAD_RESUMING : VFIOMIG_PHASE_SAVE_STOP_COPY, 0, ERRP));
	if (way == DATA_FUNCTION)
		never_ready(&c.f);
	if (way == OTHER_GATE)
		c.f.hook = holds;
	if (way == CALLERS_FD)
		CHECK(!socketpair(AF_UNIX, SOCK_STREAM, 0, c.pair));
	pthread_create(&waiter, NULL, waits, &c);
	usleep(200000);
	CHECK(!atomic_load(&c.back));
	double took = 0;
	if (cancels) {
		vfiomig_migration_cancel(c.m);
		/* What hangs in the caller's own functions ends with them, and nothing is begun behind. */
		atomic_store(&c.let_go, way == CALLBACK || way == OTHER_GATE);
		took = until(&c.back, 3);
		if (!atomic_load(&c.back))
			T_FAIL("%s, %s: a cancel does not end the wait", names[way], load ? "load" : "save");
		if (way != OTHER_GATE)
			CHECK_EQ(c.code, VFIOMIG_ERR_CANCELED);
		CHECK(took < 1);
	}
	pthread_create(&aborter, NULL, aborts, &c);
	if (!cancels && (way == CALLBACK || way == OTHER_GATE)) {
		usleep(100000);
		CHECK(!atomic_load(&c.aborted));
		atomic_store(&c.let_go, true);
	}
	/* The call in progress is short, whatever the device says: about a second. */
	took = until(&c.aborted, 5);
	if (!atomic_load(&c.aborted))
		T_FAIL("%s, %s: an abort does not reach the device", names[way], load ? "load" : "save");
	CHECK(took < 3);
	CHECK_EQ(c.f.state, S_RUNNING);
	until(&c.back, 5);
	CHECK(atomic_load(&c.back));
	pthread_join(waiter, NULL);
	pthread_join(aborter, NULL);
	if (way == CALLERS_FD)
		close(c.pair[0]);
	if (way == CALLERS_FD || way == DATA_FD)
		close(c.pair[1]);
	c.f.fault[0].at = c.f.fault[1].at = 0;
	vfiomig_migration_free(c.m);
	vfiomig_group_free(c.g);
	vfiomig_tracker_free(t);
	if (way == DATA_FD) {
		vfiomig_device_free(c.d);
		CHECK_EQ(c.f.violations, 0);
		free(c.f.in);
	} else {
		FAKE_END(&c.f, c.d);
	}
}

/* EAGAIN with nothing taken leaves the session as it was, and a byte now and then buys no more time. */
static void patience(void)
{
	struct course c;
	double begun;
	unsigned char buf[400] = {0};

	begin(&c, DATA_FUNCTION, true);
	OK(fake_to(c.d, S_RESUMING));
	never_ready(&c.f);
	begun = now();
	FAILS(vfiomig_device_write(c.d, buf, sizeof buf, 0, ERRP), EAGAIN, VFIOMIG_ERR_DEVICE);
	CHECK(now() - begun > 0.9 && now() - begun < 3);
	c.f.fault[1].at = 0;
	CHECK_EQ(OK(vfiomig_device_write(c.d, buf, sizeof buf, 0, ERRP)), sizeof buf);
	OK(vfiomig_device_finish(c.d, sizeof buf, ERRP));
	OK(fake_to(c.d, S_STOP));
	CHECK_EQ(c.f.in_len, sizeof buf);
	vfiomig_group_free(c.g);
	FAKE_END(&c.f, c.d);
}

int main(void)
{
	t_begin();
	patience();
	for (int way = 0; way < WAYS; way++)
		for (int load = 0; load < 2; load++)
			for (int cancels = 0; cancels < 2; cancels++)
				if (!(way == CALLBACK && load))
					course((enum way)way, load, cancels);
	return t_end();
}
