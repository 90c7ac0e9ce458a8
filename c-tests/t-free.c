/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * _free is the last touch: it waits, closes the data session once, leaves device and state alone, and then it is over.
 */
#include "fake.h"
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>

static struct fake f;
static struct vfiomig_device *d;
static sem_t inside, go;
static atomic_bool hold, freed;
static int errors;
static char line[256];

static void on_log(void *opaque, int level, const char *message)
{
	(void)opaque;
	if (level > VFIOMIG_LOG_ERROR)
		return;
	errors++;
	snprintf(line, sizeof line, "%s", message);
}

static void keep(struct fake *fake, enum fake_call call)
{
	(void)fake;
	if (call == C_READ && atomic_exchange(&hold, false)) {
		sem_post(&inside);
		while (sem_wait(&go))
			;
	}
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

static void *freer(void *unused)
{
	(void)unused;
	vfiomig_device_free(d);
	atomic_store(&freed, true);
	return NULL;
}

static void waits(void)
{
	pthread_t a, b;
	const struct timespec t = {0, 200000000};

	fake_init(&f);
	f.hook = keep;
	d = fake_device(&f);
	OK(fake_to(d, S_STOP_COPY));
	atomic_store(&hold, true);
	pthread_create(&a, NULL, reader, NULL);
	sem_wait(&inside);
	pthread_create(&b, NULL, freer, NULL);
	nanosleep(&t, NULL);
	CHECK(!freed && !f.closed);
	sem_post(&go);
	pthread_join(a, NULL);
	pthread_join(b, NULL);
	CHECK(freed);
	CHECK_EQ(f.state, S_STOP_COPY);
	FAKE_END(&f, NULL);
}

/* In every state: the state stays, the session is closed, nothing else is asked. */
static void leaves_alone(uint32_t state)
{
	fake_init(&f);
	d = fake_device(&f);
	if (state != S_RUNNING)
		fake_bring(&f, d, state);
	unsigned calls = f.calls, open = f.opened - f.closed;
	CHECK_EQ(open, fake_saving(state) || state == S_RESUMING);
	vfiomig_device_free(d);
	CHECK_EQ(f.calls - calls, open);
	CHECK_EQ(f.state, state);
	FAKE_END(&f, NULL);
}

/* From a callback: nothing is freed, an error is logged, the handle is as good as before. */
static void from_callback(struct fake *fake, enum fake_call call)
{
	(void)fake;
	if (call == C_READ)
		vfiomig_device_free(d);
}

static void in_callback(void)
{
	unsigned char buf[10];
	uint32_t flags;

	fake_init(&f);
	f.hook = from_callback;
	d = fake_device(&f);
	OK(fake_to(d, S_STOP_COPY));
	errors = 0;
	CHECK_EQ(OK(vfiomig_device_read(d, buf, sizeof buf, &flags, ERRP)), sizeof buf);
	CHECK_EQ(errors, 1);
	CHECK_HAS(line, "fake");
	CHECK_EQ(f.closed, 0);
	f.hook = NULL;
	CHECK_EQ(OK(vfiomig_device_read(d, buf, sizeof buf, &flags, ERRP)), sizeof buf);
	CHECK(fake_right(buf, 10, sizeof buf));
	OK(fake_to(d, S_STOP));
	FAKE_END(&f, d);
}

/* The last callback of all is data_close, from inside _free. */
static unsigned nested;

static void from_close(struct fake *fake, enum fake_call call)
{
	unsigned char buf[10];
	uint32_t flags;

	(void)fake;
	if (call != C_CLOSE)
		return;
	nested++;
	vfiomig_device_free(d);
	CHECK(vfiomig_device_read(d, buf, sizeof buf, &flags, ERRP) < 0);
	CHECK(fake_to(d, S_STOP) < 0);
	CHECK(vfiomig_device_reset(d, ERRP) < 0);
}

static void in_close(void)
{
	fake_init(&f);
	f.hook = from_close;
	d = fake_device(&f);
	OK(fake_to(d, S_STOP_COPY));
	errors = 0;
	vfiomig_device_free(d);
	CHECK(nested == 1 && errors == 1);
	CHECK(f.closed == 1 && f.state == S_STOP_COPY);
	FAKE_END(&f, NULL);
}

/* The handle is gone, its lent memory too: but what the caller has consumed and copied is not. An error outlives it. */
static void with_a_chunk_out(void)
{
	struct vfiomig_chunk chunk;

	fake_init(&f);
	d = fake_device(&f);
	OK(fake_to(d, S_PRE_COPY));
	OK(vfiomig_device_peek(d, 0, &chunk, ERRP));
	FAILS(vfiomig_device_peek(d, 0, &chunk, ERRP), EBUSY, VFIOMIG_ERR_BUSY);
	FAKE_END(&f, d);
	CHECK_EQ(vfiomig_error_code(t_error), VFIOMIG_ERR_BUSY);
}

/* A getter of one number counts nothing: it may be late, and never reads what is gone. */
static _Atomic(struct vfiomig_device *) shown;
static atomic_bool over;
static atomic_uint answers;

static void *looker(void *unused)
{
	while (!atomic_load(&over)) {
		uint32_t state = vfiomig_device_get_state(atomic_load(&shown));
		CHECK(state == S_RUNNING || state == VFIOMIG_STATE_ERROR);
		if (state == S_RUNNING)
			atomic_fetch_add(&answers, 1);
	}
	return unused;
}

static void beside_a_getter(void)
{
	pthread_t lookers[2];

	for (int i = 0; i < 2; i++)
		pthread_create(&lookers[i], NULL, looker, NULL);
	for (int round = 0; round < 200; round++) {
		fake_init(&f);
		d = fake_device(&f);
		atomic_store(&shown, d);
		unsigned before = atomic_load(&answers);
		while (atomic_load(&answers) == before)
			sched_yield();
		vfiomig_device_free(d);
		CHECK_EQ(vfiomig_device_get_state(d), VFIOMIG_STATE_ERROR);
		FAKE_END(&f, NULL);
	}
	atomic_store(&over, true);
	for (int i = 0; i < 2; i++)
		pthread_join(lookers[i], NULL);
}

int main(void)
{
	t_begin();
	sem_init(&inside, 0, 0);
	sem_init(&go, 0, 0);
	vfiomig_set_log(on_log, NULL, VFIOMIG_LOG_ERROR);
	vfiomig_device_free(NULL);
	vfiomig_error_free(NULL);
	CHECK_EQ(errors, 0);
	waits();
	for (uint32_t state = 0; state < S_COUNT; state++)
		leaves_alone(state);
	in_callback();
	in_close();
	with_a_chunk_out();
	beside_a_getter();
	return t_end();
}
