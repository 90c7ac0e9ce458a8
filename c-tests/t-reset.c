/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Reset: from every state to RUNNING, with patience for EAGAIN, and with the truth where it does not work
 * (V2-14, W8).
 */
#include "fake.h"

static void from(uint32_t state)
{
	struct fake f;
	struct vfiomig_device *d;
	struct vfiomig_device_info info;

	fake_init(&f);
	d = fake_device(&f);
	if (state != S_RUNNING)
		fake_bring(&f, d, state);
	f.reset_again = 3;
	OK(vfiomig_device_reset(d, ERRP));
	CHECK_EQ(f.count[C_RESET], 4);
	CHECK_EQ(f.closed, f.opened);
	VFIOMIG_INIT(&info);
	OK(vfiomig_device_get_info(d, &info, ERRP));
	CHECK(info.state == S_RUNNING && !info.session_open);
	OK(fake_to(d, S_STOP));
	FAKE_END(&f, d);
}

int main(void)
{
	struct fake f;
	struct vfiomig_device *d;
	struct vfiomig_device_info info;
	struct vfiomig_device_ops ops;

	t_begin();
	for (uint32_t state = 0; state < S_COUNT; state++)
		from(state);
	VFIOMIG_INIT(&info);

	/* A device that cannot be reset says so; its session lives on. */
	fake_init(&f);
	f.no_reset = true;
	d = fake_device(&f);
	OK(fake_to(d, S_PRE_COPY));
	FAILS(vfiomig_device_reset(d, ERRP), 0, VFIOMIG_ERR_UNSUPPORTED);
	OK(vfiomig_device_get_info(d, &info, ERRP));
	CHECK(info.state == S_PRE_COPY && info.session_open && !(info.caps & VFIOMIG_CAP_RESET));
	FAKE_END(&f, d);

	/* No function for it: a needed reset is reported, not done. */
	fake_init(&f);
	fake_ops(&f, &ops);
	ops.device_reset = NULL;
	OK(vfiomig_device_new_ops(&ops, &f, NULL, &d, ERRP));
	FAILS(vfiomig_device_reset(d, ERRP), 0, VFIOMIG_ERR_UNSUPPORTED);
	f.fault[0] = (struct fake_fault){.call = C_SET, .at = 1, .error = EIO, .effect = E_BREAK};
	FAILS(vfiomig_device_set_state(d, S_STOP, VFIOMIG_ON_FAILURE_RESET, 0, ERRP), EIO, VFIOMIG_ERR_DEVICE);
	CHECK_EQ(RESULT->action, VFIOMIG_ACTION_NONE);
	CHECK_EQ(RESULT->found, S_ERROR);
	FAKE_END(&f, d);

	/* The kernel's errno; nothing is assumed about the device. */
	fake_init(&f);
	d = fake_device(&f);
	OK(fake_to(d, S_STOP_COPY));
	f.fault[0] = (struct fake_fault){.call = C_RESET, .at = 1, .error = EIO};
	FAILS(vfiomig_device_reset(d, ERRP), EIO, VFIOMIG_ERR_DEVICE);
	CHECK_EQ(vfiomig_device_get_state(d), S_STOP_COPY);
	/* Not RUNNING afterwards: an error, and known. */
	f.reset_to = S_STOP;
	FAILS(vfiomig_device_reset(d, ERRP), EPROTO, VFIOMIG_ERR_PROTOCOL);
	CHECK_EQ(vfiomig_device_get_state(d), S_STOP);
	CHECK_EQ(f.closed, 1);
	OK(fake_to(d, S_RUNNING));
	/* Reset, and then it cannot be read: the session is over all the same. */
	OK(fake_to(d, S_RESUMING));
	f.reset_to = 0;
	f.fault[0] = (struct fake_fault){.call = C_GET, .at = 1, .more = 1, .error = ENODEV};
	FAILS(vfiomig_device_reset(d, ERRP), ENODEV, VFIOMIG_ERR_DEVICE);
	CHECK_EQ(f.closed, 2);
	OK(vfiomig_device_reprobe(d, ERRP));
	CHECK_EQ(vfiomig_device_get_state(d), S_RUNNING);
	FAKE_END(&f, d);
	return t_end();
}
