/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Every request to the device fails once, in a whole life: probe, save, abort, load, reset. After each the library says
 * the truth about the state, a reset mends the device, nothing leaks, and no request went out that must not (V2-1).
 */
#include "fake.h"

static struct fake f;
static bool hit; /* a call failed that told of the fault */
static int fault_error;

static int64_t tell(int64_t result)
{
	if (result < 0 && result == -fault_error && vfiomig_error_code(t_error) == VFIOMIG_ERR_DEVICE)
		hit = true;
	return result;
}

/* What a step may say about itself once the fault has struck; nothing else may come out. */
static bool orderly(int64_t result)
{
	uint32_t code = vfiomig_error_code(t_error);

	if (result < 0 && !code)
		return false;
	return result >= 0 || code == VFIOMIG_ERR_DEVICE || code == VFIOMIG_ERR_ORDER || code == VFIOMIG_ERR_STALE ||
	       code == VFIOMIG_ERR_INCOMPLETE || code == VFIOMIG_ERR_UNSUPPORTED;
}
#define STEP(call) step(tell(call), #call, __LINE__)

static int64_t step(int64_t result, const char *call, int line)
{
	atomic_fetch_add(&t_checks, 1);
	if (!orderly(result))
		T_FAIL("%d: %s: %lld, %s", line, call, (long long)result, vfiomig_error_message(t_error));
	return result;
}

static void life(struct vfiomig_device *d)
{
	unsigned char buf[30000];
	struct vfiomig_device_pending pending;
	uint32_t flags, policy = VFIOMIG_ON_FAILURE_RETURN_TO(S_RUNNING);
	int64_t n;
	int calls;

	VFIOMIG_INIT(&pending);
	STEP(vfiomig_device_set_state(d, S_PRE_COPY, policy, 0, ERRP));
	STEP(vfiomig_device_get_pending(d, VFIOMIG_PENDING_F_EXACT, &pending, ERRP));
	for (calls = 0, n = 1; n > 0 && calls < 20; calls++)
		n = STEP(vfiomig_device_read(d, buf, sizeof buf, &flags, ERRP));
	STEP(vfiomig_device_set_state(d, S_STOP_COPY, VFIOMIG_ON_FAILURE_KEEP, 0, ERRP));
	for (calls = 0, n = 1; n > 0 && calls < 20; calls++)
		n = STEP(vfiomig_device_read(d, buf, sizeof buf, &flags, ERRP));
	STEP(vfiomig_device_set_state(d, S_STOP, VFIOMIG_ON_FAILURE_RESET, 0, ERRP));
	STEP(vfiomig_device_restart_stream(d, ERRP));
	STEP(vfiomig_device_set_state(d, S_RESUMING, VFIOMIG_ON_FAILURE_RESET, 0, ERRP));
	STEP(vfiomig_device_write(d, buf, 1000, 0, ERRP));
	STEP(vfiomig_device_finish(d, 1000, ERRP));
	STEP(vfiomig_device_set_state(d, S_RUNNING, VFIOMIG_ON_FAILURE_RESET, 0, ERRP));
	STEP(vfiomig_device_reprobe(d, ERRP));
	STEP(vfiomig_device_set_state(d, S_STOP_COPY, policy, 0, ERRP));
	STEP(vfiomig_device_reset(d, ERRP));
}

/* Returns the number of requests that the life took. */
static unsigned with_fault(unsigned at, enum fake_effect effect, int error, bool real_fd)
{
	struct vfiomig_device_ops ops;
	struct vfiomig_device *d = NULL;
	int before = atomic_load(&t_failures), fds = fake_open_fds();
	unsigned calls;

	fake_init(&f);
	f.real_fd = real_fd;
	f.optin = true;
	fake_ops(&f, &ops);
	fault_error = error;
	hit = false;
	f.fault[0] = (struct fake_fault){.call = C_ANY, .at = at, .error = error, .effect = effect};
	if (STEP(vfiomig_device_new_ops(&ops, &f, NULL, &d, ERRP)) < 0) {
		CHECK(!d && hit);
		calls = f.calls;
	} else {
		life(d);
		calls = f.calls;
		/*
		 * The truth, after one look at most: whatever happened, the next request starts from where the device
		 * is.
		 */
		f.fault[0].at = at ? UINT32_MAX : 0;
		STEP(vfiomig_device_reprobe(d, ERRP));
		CHECK_EQ(vfiomig_device_get_state(d), f.state);
		OK(vfiomig_device_reset(d, ERRP));
		CHECK_EQ(f.state, S_RUNNING);
		OK(vfiomig_device_restart_stream(d, ERRP));
		OK(fake_to(d, S_STOP_COPY));
		OK(fake_to(d, S_RUNNING));
	}
	CHECK(!at || f.fault[0].done == 1);
	FAKE_END(&f, d);
	CHECK_EQ(fake_open_fds(), fds);
	if (atomic_load(&t_failures) != before)
		printf("request %u, effect %d, errno %d, %s\n", at, effect, error, real_fd ? "real fd" : "functions");
	return calls;
}

int main(void)
{
	static const int errors[] = {EIO, ENODEV, EMFILE};

	t_begin();
	for (int real_fd = 0; real_fd < 2; real_fd++) {
		unsigned reported = 0, total = with_fault(0, E_STAY, 0, real_fd);

		CHECK(total >= 20 && !hit);
		for (unsigned at = 1; at <= total; at++)
			for (int effect = E_STAY; effect <= E_BREAK; effect++)
				for (int e = 0; e < 3; e++) {
					with_fault(at, (enum fake_effect)effect, errors[e], real_fd);
					reported += hit;
				}
		/* Not all of them have somebody to tell: an opt-in that fails, a close. But most have. */
		CHECK(reported > total * 12 * 2 / 3);
		printf("%u requests in a life, %u of %u faults were told\n", total, reported, total * 12);
	}
	return t_end();
}
