/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A call from a callback of the same handle gets -EDEADLK, whichever callback and whichever call; getters answer. */
#include "fake.h"

static struct vfiomig_device *d, *other;
static unsigned reentered[C_COUNT];
static bool armed;

static void reenter(struct fake *f, enum fake_call call)
{
	struct vfiomig_chunk chunk;
	struct vfiomig_pending pending;
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
	TRY(vfiomig_device_get_pending(d, VFIOMIG_PENDING_EXACT, &pending, &e[n]));
	TRY(vfiomig_device_start_stream(d, &e[n]));
	TRY(vfiomig_device_peek(d, 0, &chunk, &e[n]));
	TRY(vfiomig_device_consume(d, 0, &e[n]));
	TRY(vfiomig_device_read(d, buf, sizeof buf, &flags, &e[n]));
	TRY(vfiomig_device_send(d, 1, 0, &flags, &e[n]));
	TRY(vfiomig_device_reserve(d, 0, &room, &fits, &e[n]));
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

int main(void)
{
	struct fake f, g;
	struct vfiomig_pending pending;
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
	OK(vfiomig_device_get_pending(d, VFIOMIG_PENDING_EXACT, &pending, ERRP));
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
	return t_end();
}
