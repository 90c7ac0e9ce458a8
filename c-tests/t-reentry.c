/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A call from a callback of the same handle gets -EDEADLK, whichever callback and whichever call; getters answer. */
#include "fake.h"
#include <pthread.h>

static struct vfiomig_device *d, *other;
static unsigned reentered[C_COUNT];
static bool armed;

static void reenter(struct fake *f, enum fake_call call)
{
	struct vfiomig_chunk chunk;
	struct vfiomig_device_pending pending;
	struct vfiomig_device_info info;
	struct vfiomig_error *e[14] = {NULL};
	unsigned char buf[10];
	uint32_t flags = 7;
	void *room;
	size_t fits;
	int64_t result[14];
	int n = 0;

	(void)f;
	if (!armed)
		return;
	reentered[call]++;
	VFIOMIG_INIT(&pending);
	VFIOMIG_INIT(&info);
	/* Not ERRP: the outer call is using it. */
#define TRY(call_) (result[n] = (call_), n++)
	TRY(vfiomig_device_set_state(d, S_STOP, 0, 0, &e[n]));
	TRY(vfiomig_device_reset(d, &e[n]));
	TRY(vfiomig_device_reprobe(d, &e[n]));
	TRY(vfiomig_device_get_pending(d, VFIOMIG_PENDING_F_EXACT, &pending, &e[n]));
	TRY(vfiomig_device_restart_stream(d, &e[n]));
	TRY(vfiomig_device_peek(d, 0, &chunk, &e[n]));
	TRY(vfiomig_device_consume(d, 0, &e[n]));
	TRY(vfiomig_device_read(d, buf, sizeof buf, &flags, &e[n]));
	TRY(vfiomig_device_send(d, 1, 0, &flags, &e[n]));
	TRY(vfiomig_device_reserve(d, VFIOMIG_UNKNOWN, &room, &fits, &e[n]));
	TRY(vfiomig_device_commit(d, 0, 0, &e[n]));
	TRY(vfiomig_device_write(d, buf, 1, 0, &e[n]));
	TRY(vfiomig_device_receive(d, 0, 1, 0, &e[n]));
	TRY(vfiomig_device_finish(d, 0, &e[n]));
	for (int i = 0; i < n; i++) {
		if (!CHECK_EQ(result[i], -EDEADLK) || !CHECK_EQ(vfiomig_error_code(e[i]), VFIOMIG_ERR_BUSY))
			printf("call %d from callback %d: %s\n", i, call, vfiomig_error_message(e[i]));
		vfiomig_error_free(e[i]);
	}
	CHECK_EQ(flags, 7);
	CHECK_EQ(vfiomig_device_get_info(d, &info, NULL), 0);
	CHECK_EQ(vfiomig_device_get_pending(d, 0, &pending, NULL), 0);
	CHECK(vfiomig_device_get_state(d) == info.state);
	/* Another device is no stranger to a callback. */
	CHECK_EQ(vfiomig_device_reprobe(other, NULL), 0);
	CHECK_EQ(vfiomig_device_set_state(other, info.session & 1 ? S_STOP : S_RUNNING, 0, 0, NULL), 0);
}

/*
 * Through a group. A callback of a device calls a function of the group, whose call in another thread
 * waits for that device: who of the two came first makes no difference, the callback gets -EDEADLK, the other goes on.
 */
static struct vfiomig_group *group;
static atomic_int stage;
static int reported;

static void nap(void)
{
	usleep(100000);
}

static void *pauses(void *unused)
{
	while (!atomic_load(&stage))
		usleep(1000);
	OK(vfiomig_group_pause_begin(group, ERRP));
	(void)ERRP;
	return unused;
}

static void asks_the_group(struct fake *f, enum fake_call call)
{
	struct vfiomig_group_abilities policy;

	/* The requests of the group's call come from there, and are none of this. */
	if (call != C_READ && call != C_SIZE)
		return;
	f->hook = NULL;
	atomic_store(&stage, 1);
	nap();
	VFIOMIG_INIT(&policy);
	reported = vfiomig_group_get_abilities(group, &policy, NULL, NULL);
}

static void through_a_group(void)
{
	struct fake f;
	struct vfiomig_device *one;
	pthread_t t;
	unsigned char buf[10];
	uint32_t flags;

	fake_init(&f);
	one = fake_device(&f);
	OK(vfiomig_group_new(NULL, &group, ERRP));
	OK(vfiomig_group_add_device(group, one, ERRP));
	OK(fake_to(one, S_PRE_COPY));
	f.hook = asks_the_group;
	pthread_create(&t, NULL, pauses, NULL);
	CHECK_EQ(OK(vfiomig_device_read(one, buf, sizeof buf, &flags, ERRP)), sizeof buf);
	pthread_join(t, NULL);
	CHECK_EQ(reported, -EDEADLK);
	CHECK_EQ(f.state, S_PRE_COPY_P2P);
	/* Where no call waits for the device the same callback is in order. */
	struct vfiomig_device_pending pending;
	VFIOMIG_INIT(&pending);
	f.hook = asks_the_group;
	OK(vfiomig_device_get_pending(one, VFIOMIG_PENDING_F_EXACT, &pending, ERRP));
	CHECK_EQ(reported, 0);
	vfiomig_group_free(group);
	OK(fake_to(one, S_RUNNING));
	FAKE_END(&f, one);
}

int main(void)
{
	struct fake f, g;
	struct vfiomig_device_pending pending;
	unsigned char buf[20000];
	uint32_t flags;

	t_begin();
	fake_init(&g);
	other = fake_device(&g);
	fake_init(&f);
	f.hook = reenter;
	f.other_region = f.absent = true;
	d = fake_device(&f);
	armed = true;
	OK(vfiomig_device_reprobe(d, ERRP));
	f.absent = false;
	OK(vfiomig_device_reprobe(d, ERRP));
	OK(fake_to(d, S_PRE_COPY));
	VFIOMIG_INIT(&pending);
	OK(vfiomig_device_get_pending(d, VFIOMIG_PENDING_F_EXACT, &pending, ERRP));
	CHECK(OK(vfiomig_device_read(d, buf, sizeof buf, &flags, ERRP)) > 0);
	OK(fake_to(d, S_RUNNING));
	OK(fake_to(d, S_RESUMING));
	OK(vfiomig_device_write(d, buf, 10, 0, ERRP));
	OK(vfiomig_device_reset(d, ERRP));
	for (int call = 0; call < C_COUNT; call++)
		if (!reentered[call])
			T_FAIL("callback %d was never called", call);
	armed = false;
	FAKE_END(&f, d);
	FAKE_END(&g, other);
	through_a_group();
	return t_end();
}
