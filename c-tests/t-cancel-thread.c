/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A thread that is canceled (pthread_cancel) within the library ends behind the call, which ends as it would
 * have. variants: all but valgrind, which takes part in cancels itself.
 * variants: plain static asan
 */
#include "fake.h"
#include <pthread.h>

static struct vfiomig_device *d;
static atomic_int step;

/* Cancellation points within a callback: the thread goes on. */
static void canceled_inside(struct fake *f, enum fake_call call)
{
	(void)f;
	if (call != C_READ)
		return;
	atomic_store(&step, 1);
	while (atomic_load(&step) != 2)
		usleep(1000);
	usleep(1000);
	pthread_testcancel();
	atomic_store(&step, 3);
}

static void *reads(void *unused)
{
	unsigned char buf[100];
	uint32_t flags;

	(void)unused;
	CHECK_EQ(OK(vfiomig_device_read(d, buf, sizeof buf, &flags, ERRP)), sizeof buf);
	(void)ERRP;
	atomic_store(&step, 4);
	pthread_testcancel();
	atomic_store(&step, 5);
	return NULL;
}

int main(void)
{
	struct fake f;
	pthread_t t;
	void *result;

	t_begin();
	fake_init(&f);
	f.hook = canceled_inside;
	d = fake_device(&f);
	OK(fake_to(d, S_STOP_COPY));
	pthread_create(&t, NULL, reads, NULL);
	while (atomic_load(&step) != 1)
		usleep(1000);
	pthread_cancel(t);
	atomic_store(&step, 2);
	pthread_join(t, &result);
	CHECK(result == PTHREAD_CANCELED);
	CHECK_EQ(step, 4);
	f.hook = NULL;
	/* Who forbade cancels still does. */
	int before;
	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, NULL);
	OK(fake_to(d, S_RUNNING));
	pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, &before);
	CHECK_EQ(before, PTHREAD_CANCEL_DISABLE);
	FAKE_END(&f, d);
	return t_end();
}
