/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Thread classes: a state change or reset waits for the data call in progress and goes before those that wait, a data
 * call waits for another one, or gets -EBUSY if that was asked for, getters never wait, different devices do not meet
 * (docs/threading.md).
 */
#include "fake.h"
#include <pthread.h>
#include <semaphore.h>

static struct fake f;
static struct vfiomig_device *d;
static sem_t inside, go, started;
static atomic_bool hold;

/* The device keeps one data_read until the test lets it go on. */
static void keep(struct fake *fake, enum fake_call call)
{
	(void)fake;
	if (call == C_READ && atomic_exchange(&hold, false)) {
		sem_post(&inside);
		while (sem_wait(&go))
			;
	}
}

static void nap(unsigned ms)
{
	const struct timespec t = {ms / 1000, (long)(ms % 1000) * 1000000};

	nanosleep(&t, NULL);
}

static void *reader(void *unused)
{
	unsigned char buf[100];
	uint32_t flags;

	(void)unused;
	CHECK_EQ(OK(vfiomig_device_read(d, buf, sizeof buf, &flags, ERRP)), sizeof buf);
	CHECK(fake_right(buf, 0, sizeof buf));
	return NULL;
}

enum whole { SET_STATE, RESET, REPROBE };
static atomic_int returned;

static void *whole(void *kind)
{
	sem_post(&started);
	switch (*(enum whole *)kind) {
	case SET_STATE: OK(fake_to(d, S_STOP)); break;
	case RESET: OK(vfiomig_device_reset(d, ERRP)); break;
	case REPROBE: OK(vfiomig_device_reprobe(d, ERRP)); break;
	}
	/* What this thread was given is not freed by t_end(). */
	(void)ERRP;
	atomic_fetch_add(&returned, 1);
	return NULL;
}

static void begin_with(uint32_t options)
{
	fake_init(&f);
	f.options = options;
	f.hook = keep;
	d = fake_device(&f);
	OK(fake_to(d, S_STOP_COPY));
	atomic_store(&hold, true);
	atomic_store(&returned, 0);
}

static void begin(void)
{
	begin_with(0);
}

/* Every call of the class "device": none waits. */
static void all_busy(void)
{
	struct vfiomig_chunk chunk;
	struct vfiomig_device_pending pending;
	unsigned char buf[10];
	uint32_t flags;
	void *room;
	size_t fits;

	VFIOMIG_INIT(&pending);
	FAILS(vfiomig_device_peek(d, 0, &chunk, ERRP), EBUSY, VFIOMIG_ERR_BUSY);
	FAILS(vfiomig_device_consume(d, 0, ERRP), EBUSY, VFIOMIG_ERR_BUSY);
	FAILS(vfiomig_device_read(d, buf, sizeof buf, &flags, ERRP), EBUSY, VFIOMIG_ERR_BUSY);
	FAILS(vfiomig_device_send(d, 1, 0, &flags, ERRP), EBUSY, VFIOMIG_ERR_BUSY);
	FAILS(vfiomig_device_restart_stream(d, ERRP), EBUSY, VFIOMIG_ERR_BUSY);
	FAILS(vfiomig_device_reserve(d, VFIOMIG_UNKNOWN, &room, &fits, ERRP), EBUSY, VFIOMIG_ERR_BUSY);
	FAILS(vfiomig_device_commit(d, 0, 0, ERRP), EBUSY, VFIOMIG_ERR_BUSY);
	FAILS(vfiomig_device_write(d, buf, 1, 0, ERRP), EBUSY, VFIOMIG_ERR_BUSY);
	FAILS(vfiomig_device_receive(d, 0, 1, 0, ERRP), EBUSY, VFIOMIG_ERR_BUSY);
	FAILS(vfiomig_device_finish(d, 0, ERRP), EBUSY, VFIOMIG_ERR_BUSY);
	FAILS(vfiomig_device_get_pending(d, VFIOMIG_PENDING_F_EXACT, &pending, ERRP), EBUSY, VFIOMIG_ERR_BUSY);
}

/* Calls of the class "any" answer at once, with what is known. */
static void all_cached(void)
{
	struct vfiomig_device_info info;
	struct vfiomig_device_pending pending;

	VFIOMIG_INIT(&info);
	VFIOMIG_INIT(&pending);
	CHECK_EQ(vfiomig_device_get_state(d), S_STOP_COPY);
	OK(vfiomig_device_get_info(d, &info, ERRP));
	CHECK(info.state == S_STOP_COPY && info.session_open == 1 && info.session == 1);
	OK(vfiomig_device_get_pending(d, 0, &pending, ERRP));
}

static void waits_and_goes_first(enum whole kind)
{
	pthread_t a, b;
	unsigned char buf[10];
	uint32_t flags;
	int64_t n;

	begin_with(VFIOMIG_DEVICE_F_NO_WAIT);
	pthread_create(&a, NULL, reader, NULL);
	sem_wait(&inside);
	all_busy();
	all_cached();
	unsigned calls = f.calls;
	pthread_create(&b, NULL, whole, &kind);
	sem_wait(&started);
	nap(200);
	/* It waits, has asked nothing, and no call overtakes it. */
	CHECK_EQ(returned, 0);
	CHECK_EQ(f.calls, calls);
	all_busy();
	all_cached();
	sem_post(&go);
	/* Whoever is let in first after that comes after the state change. */
	do
		n = vfiomig_device_read(d, buf, sizeof buf, &flags, ERRP);
	while (n == -EBUSY);
	FAILS(n, ESTALE, VFIOMIG_ERR_STALE);
	if (kind == REPROBE) /* It is for behind a reset by others, which the state need not show: the session is over. */
		CHECK_EQ(f.count[C_FLAGS], 2);
	pthread_join(a, NULL);
	pthread_join(b, NULL);
	CHECK_EQ(returned, 1);
	CHECK_EQ(f.state, kind == SET_STATE ? S_STOP : kind == RESET ? S_RUNNING : S_STOP_COPY);
	FAKE_END(&f, d);
}

/* Data calls of several threads: each byte is given once, and none is turned away. */
static atomic_uint bytes;

static void *all_of_it(void *unused)
{
	unsigned char buf[100];
	uint32_t flags = 0;

	while (!(flags & VFIOMIG_CHUNK_END))
		atomic_fetch_add(&bytes, (unsigned)OK(vfiomig_device_read(d, buf, sizeof buf, &flags, ERRP)));
	(void)ERRP;
	return unused;
}

static void *sizes(void *unused)
{
	struct vfiomig_device_pending pending;

	VFIOMIG_INIT(&pending);
	OK(vfiomig_device_get_pending(d, VFIOMIG_PENDING_F_EXACT, &pending, ERRP));
	(void)ERRP;
	atomic_fetch_add(&returned, 1);
	return unused;
}

static void data_calls_wait(void)
{
	pthread_t a, b, c[4];

	begin();
	pthread_create(&a, NULL, reader, NULL);
	sem_wait(&inside);
	pthread_create(&b, NULL, sizes, NULL);
	for (int i = 0; i < 4; i++)
		pthread_create(&c[i], NULL, all_of_it, NULL);
	nap(100);
	CHECK_EQ(returned, 0);
	CHECK_EQ(bytes, 0);
	sem_post(&go);
	pthread_join(a, NULL);
	pthread_join(b, NULL);
	for (int i = 0; i < 4; i++)
		pthread_join(c[i], NULL);
	CHECK_EQ(returned, 1);
	CHECK_EQ(bytes + 100, fake_total(&f));
	OK(fake_to(d, S_RUNNING));
	FAKE_END(&f, d);
}

/* Several that wait all get their turn. */
static void many_wait(void)
{
	static enum whole kinds[] = {REPROBE, RESET, REPROBE, RESET, REPROBE};
	pthread_t a, b[5];

	begin();
	pthread_create(&a, NULL, reader, NULL);
	sem_wait(&inside);
	for (int i = 0; i < 5; i++)
		pthread_create(&b[i], NULL, whole, &kinds[i]);
	for (int i = 0; i < 5; i++)
		sem_wait(&started);
	nap(50);
	CHECK_EQ(returned, 0);
	sem_post(&go);
	pthread_join(a, NULL);
	for (int i = 0; i < 5; i++)
		pthread_join(b[i], NULL);
	CHECK_EQ(returned, 5);
	CHECK(f.count[C_RESET] == 2 && f.count[C_FLAGS] == 4);
	FAKE_END(&f, d);
}

/* Another device works meanwhile. */
static void others_work(void)
{
	struct fake g;
	struct vfiomig_device *e;
	pthread_t a;
	unsigned char buf[100];
	uint32_t flags;

	begin();
	pthread_create(&a, NULL, reader, NULL);
	sem_wait(&inside);
	fake_init(&g);
	e = fake_device(&g);
	OK(fake_to(e, S_STOP_COPY));
	CHECK_EQ(OK(vfiomig_device_read(e, buf, sizeof buf, &flags, ERRP)), sizeof buf);
	OK(fake_to(e, S_RUNNING));
	FAKE_END(&g, e);
	sem_post(&go);
	pthread_join(a, NULL);
	FAKE_END(&f, d);
}

/* Threads that call whatever they like: the fake sees one call at a time, and nothing that is forbidden. */
static atomic_bool stop;
static atomic_uint lines;

static void on_log(void *opaque, int level, const char *message)
{
	(void)level;
	atomic_fetch_add((atomic_uint *)opaque, message[0] != 0);
}

static void *anything(void *seed)
{
	unsigned r = *(unsigned *)seed;
	unsigned char buf[5000];
	struct vfiomig_chunk chunk;
	struct vfiomig_device_info info;
	struct vfiomig_device_pending pending;
	uint32_t flags;

	while (!stop) {
		r = r * 1103515245u + 12345u;
		switch (r >> 16 & 15) {
		case 0: case 1: case 2: (void)fake_to(d, r >> 24 & 7); break;
		case 3: (void)vfiomig_device_restart_stream(d, ERRP); break;
		case 4: (void)vfiomig_device_peek(d, 0, &chunk, ERRP); break;
		case 5: (void)vfiomig_device_consume(d, r >> 20 & 255, ERRP); break;
		case 6: case 7: (void)vfiomig_device_read(d, buf, sizeof buf, &flags, ERRP); break;
		case 8: (void)vfiomig_device_write(d, buf, 100, 0, ERRP); break;
		case 9: (void)vfiomig_device_finish(d, VFIOMIG_UNKNOWN, ERRP); break;
		case 10: (void)vfiomig_device_reset(d, ERRP); break;
		case 11: (void)vfiomig_device_reprobe(d, ERRP); break;
		case 12:
			VFIOMIG_INIT(&pending);
			(void)vfiomig_device_get_pending(d, r >> 24 & 1, &pending, ERRP);
			break;
		case 13: vfiomig_set_log(r >> 24 & 1 ? on_log : NULL, &lines, VFIOMIG_LOG_DEBUG); break;
		default:
			VFIOMIG_INIT(&info);
			OK(vfiomig_device_get_info(d, &info, ERRP));
			CHECK(info.state < S_COUNT);
			(void)vfiomig_device_get_state(d);
		}
		/* Nothing but these may come out, whatever meets whatever. */
		uint32_t code = vfiomig_error_code(t_error);
		CHECK(code == 0 || code == VFIOMIG_ERR_BUSY || code == VFIOMIG_ERR_ORDER || code == VFIOMIG_ERR_STALE ||
		      code == VFIOMIG_ERR_ARGUMENT);
		if (code == VFIOMIG_ERR_DEVICE || code == VFIOMIG_ERR_PROTOCOL)
			printf("%s\n", vfiomig_error_message(t_error));
	}
	(void)ERRP;
	return NULL;
}

static void storm(void)
{
	unsigned seeds[4] = {1, 22, 333, 4444};
	pthread_t t[4];

	fake_init(&f);
	d = fake_device(&f);
	for (int i = 0; i < 4; i++)
		pthread_create(&t[i], NULL, anything, &seeds[i]);
	nap(700);
	stop = true;
	for (int i = 0; i < 4; i++)
		pthread_join(t[i], NULL);
	vfiomig_set_log(NULL, NULL, 0);
	CHECK(f.calls > 100 && f.opened > 1 && lines);
	FAKE_END(&f, d);
}

int main(void)
{
	t_begin();
	sem_init(&inside, 0, 0);
	sem_init(&go, 0, 0);
	sem_init(&started, 0, 0);
	waits_and_goes_first(SET_STATE);
	waits_and_goes_first(RESET);
	waits_and_goes_first(REPROBE);
	data_calls_wait();
	many_wait();
	others_work();
	storm();
	return t_end();
}
