/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A device that others changed: STALE once, nothing requested, then the state found is the one to go on from. */
#include "fake.h"

/* Moved from `from` to `now` behind the library's back. */
static void moved(uint32_t from, uint32_t now, bool by_reprobe)
{
	struct fake f;
	struct vfiomig_device *d;
	struct vfiomig_device_info info;

	fake_init(&f);
	d = fake_device(&f);
	if (from != S_RUNNING)
		fake_bring(&f, d, from);
	f.state = now;
	unsigned sets = f.count[C_SET], resets = f.count[C_RESET];
	CHECK_EQ(vfiomig_device_get_state(d), from);
	if (by_reprobe) {
		OK(vfiomig_device_reprobe(d, ERRP));
	} else {
		/* Whatever is asked for, and whatever should follow a failure: this is none of the device's. */
		uint32_t to = now == S_STOP ? S_STOP_COPY : S_STOP;

		FAILS(vfiomig_device_set_state(d, to, VFIOMIG_ON_FAILURE_RESET, 0, ERRP), ESTALE, VFIOMIG_ERR_STALE);
	}
	CHECK(f.count[C_SET] == sets && f.count[C_RESET] == resets);
	CHECK_EQ(vfiomig_device_get_state(d), now);
	VFIOMIG_INIT(&info);
	OK(vfiomig_device_get_info(d, &info, ERRP));
	CHECK_EQ(info.state, now);
	CHECK(!info.session_open);
	if (now == S_ERROR || now == S_RESUMING) {
		/* What a foreign RESUMING holds is not known. */
		FAILS(fake_to(d, S_STOP), 0, VFIOMIG_ERR_ORDER);
		OK(vfiomig_device_reset(d, ERRP));
	}
	OK(vfiomig_device_set_state(d, S_STOP, 0, VFIOMIG_SET_STATE_F_RAW, ERRP));
	CHECK_EQ(f.state, S_STOP);
	FAKE_END(&f, d);
}

/* A reprobe takes over what the device has become. */
static void becomes_another(void)
{
	struct fake f;
	struct vfiomig_device *d;
	struct vfiomig_device_info info;

	fake_init(&f);
	d = fake_device(&f);
	VFIOMIG_INIT(&info);
	OK(vfiomig_device_get_info(d, &info, ERRP));
	CHECK_EQ(info.caps, VFIOMIG_CAP_PRE_COPY | VFIOMIG_CAP_P2P | VFIOMIG_CAP_RESET);
	f.flags = MIG_STOP_COPY;
	f.optin = true;
	OK(vfiomig_device_reprobe(d, ERRP));
	OK(vfiomig_device_get_info(d, &info, ERRP));
	CHECK_EQ(info.caps, VFIOMIG_CAP_RESET);
	FAILS(fake_to(d, S_PRE_COPY), 0, VFIOMIG_ERR_ORDER);
	f.absent = true;
	OK(vfiomig_device_reprobe(d, ERRP));
	OK(vfiomig_device_get_info(d, &info, ERRP));
	CHECK(info.dialect == VFIOMIG_DIALECT_NONE && info.reason[0] && info.state == S_ERROR);
	FAILS(fake_to(d, S_STOP), 0, VFIOMIG_ERR_UNSUPPORTED);
	f.absent = false;
	f.flags = MIG_ALL;
	OK(vfiomig_device_reprobe(d, ERRP));
	OK(vfiomig_device_get_info(d, &info, ERRP));
	CHECK_EQ(info.caps, VFIOMIG_CAP_PRE_COPY | VFIOMIG_CAP_P2P | VFIOMIG_CAP_RESET | VFIOMIG_CAP_REINIT);
	CHECK(info.dialect == VFIOMIG_DIALECT_V2 && !info.reason[0] && info.state == S_RUNNING);
	OK(fake_to(d, S_STOP));
	/* One that fails changes nothing that is known. */
	f.fault[0] = (struct fake_fault){.call = C_FLAGS, .at = 1, .error = EIO};
	FAILS(vfiomig_device_reprobe(d, ERRP), EIO, VFIOMIG_ERR_DEVICE);
	CHECK_EQ(vfiomig_device_get_state(d), S_STOP);
	FAKE_END(&f, d);
}

/*
 * A reprobe is for after a reset, so a session is over also where the device has kept its state; what was lent
 * stays readable.
 */
static void is_over(void)
{
	struct fake f;
	struct vfiomig_device *d;
	struct vfiomig_chunk chunk;
	unsigned char buf[10];
	uint32_t flags;

	fake_init(&f);
	d = fake_device(&f);
	OK(fake_to(d, S_PRE_COPY));
	OK(vfiomig_device_read(d, buf, sizeof buf, &flags, ERRP));
	OK(vfiomig_device_peek(d, 5, &chunk, ERRP));
	OK(vfiomig_device_reprobe(d, ERRP));
	CHECK_EQ(f.closed, 1);
	CHECK(fake_right(chunk.data, 10, 5));
	FAILS(vfiomig_device_consume(d, 5, ERRP), ESTALE, VFIOMIG_ERR_STALE);
	FAILS(vfiomig_device_read(d, buf, sizeof buf, &flags, ERRP), ESTALE, VFIOMIG_ERR_STALE);
	OK(fake_to(d, S_RUNNING));
	OK(vfiomig_device_restart_stream(d, ERRP));
	OK(fake_to(d, S_PRE_COPY));
	OK(vfiomig_device_read(d, buf, sizeof buf, &flags, ERRP));
	CHECK(fake_right(buf, 0, sizeof buf));
	FAKE_END(&f, d);
}

/* A device in RUNNING that was reset by others in the middle of a load is not one that was loaded. */
static void not_loaded(void)
{
	struct fake f;
	struct vfiomig_device *d;

	fake_init(&f);
	d = fake_device(&f);
	OK(fake_to(d, S_RESUMING));
	OK(vfiomig_device_write(d, "x", 1, 0, ERRP));
	OK(vfiomig_device_finish(d, 1, ERRP));
	f.state = S_RUNNING;
	FAILS(fake_to(d, S_RUNNING), ESTALE, VFIOMIG_ERR_STALE);
	OK(fake_to(d, S_RUNNING));
	FAKE_END(&f, d);
}

int main(void)
{
	t_begin();
	for (uint32_t from = 0; from < S_COUNT; from++)
		for (uint32_t now = 0; now < S_COUNT; now++) {
			int before = atomic_load(&t_failures);

			if (from != now)
				moved(from, now, false);
			if (from != now)
				moved(from, now, true);
			if (atomic_load(&t_failures) != before) {
				printf("%s -> %s\n", vfiomig_state_name(from), vfiomig_state_name(now));
				return t_end();
			}
		}
	becomes_another();
	is_over();
	not_loaded();
	return t_end();
}
