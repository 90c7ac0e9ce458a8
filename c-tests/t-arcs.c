/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Every state x every request x every capability set: what is refused never reaches the device, what is never used
 * reaches it only with RAW, what is legal arrives, and the state where the device is already costs no request (V2-1,
 * V2-12).
 */
#include "fake.h"

/*
 * Rows from, columns to, in the order ERROR STOP RUNNING STOP_COPY RESUMING RUNNING_P2P PRE_COPY PRE_COPY_P2P.
 * x refused, = there already, + legal, - never used: legal for the kernel, but it throws a session away on the way, or
 * starts a stopped device.
 */
static const char *const table[S_COUNT] = {
	"xxxxxxxx", /* ERROR: only a reset leaves it */
	"x=++++--", /* STOP */
	"x+=+++++", /* RUNNING */
	"x++=-+xx", /* STOP_COPY: to PRE_COPY some kernels loop for ever */
	"x++-=+--", /* RESUMING */
	"x++++=++", /* RUNNING_P2P */
	"x-++--=+", /* PRE_COPY: STOP would throw it away (V2-2) */
	"x-++-++=", /* PRE_COPY_P2P */
};

static void request(unsigned flags, uint32_t from, uint32_t to, bool raw)
{
	struct fake f;
	struct vfiomig_device *d;
	bool legal = false;
	char expect = fake_has(flags, to) && fake_has(flags, from) ? table[from][to] : 'x';

	fake_init(&f);
	f.flags = flags;
	d = fake_device(&f);
	if (from != S_RUNNING)
		fake_bring(&f, d, from);
	/* Leaving RESUMING needs the caller's word that the stream is whole (F7); t-load has the tests of that. */
	if (from == S_RESUMING)
		OK(vfiomig_device_finish(d, VFIOMIG_UNKNOWN, ERRP));
	unsigned sets = f.count[C_SET];
	int result = vfiomig_device_set_state(d, to, VFIOMIG_ON_FAILURE_KEEP, raw ? VFIOMIG_SET_STATE_F_RAW : 0, ERRP);

	switch (expect) {
	case '=':
		OK(result);
		break;
	case 'x':
		FAILS(result, 0, VFIOMIG_ERR_ORDER);
		break;
	case '-':
		if (!raw) {
			FAILS(result, 0, VFIOMIG_ERR_ORDER);
			break;
		}
		/* fall through */
	default:
		OK(result);
		legal = true;
	}
	CHECK_EQ(f.count[C_SET] - sets, legal);
	if (legal)
		CHECK(f.last_from == from && f.last_to == to);
	CHECK_EQ(f.state, legal ? to : from);
	CHECK_EQ(vfiomig_device_get_state(d), f.state);
	if (atomic_load(&t_failures))
		printf("flags %u, %s -> %s, raw %d, expected %c\n", flags, vfiomig_state_name(from),
		       vfiomig_state_name(to), raw, expect);
	FAKE_END(&f, d);
}

int main(void)
{
	static const unsigned sets[] = {MIG_STOP_COPY, MIG_STOP_COPY | MIG_P2P, MIG_STOP_COPY | MIG_PRE_COPY, MIG_ALL};

	t_begin();
	for (size_t i = 0; i < 4; i++)
		for (uint32_t from = 0; from < S_COUNT; from++)
			for (uint32_t to = 0; to < S_COUNT; to++)
				if (fake_has(sets[i], from)) {
					request(sets[i], from, to, false);
					request(sets[i], from, to, true);
					if (atomic_load(&t_failures))
						return t_end();
				}
	return t_end();
}
