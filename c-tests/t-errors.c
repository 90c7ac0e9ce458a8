/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* What an error says after a failed state change, for each policy and for the policy's own failure (V2-3). */
#include "fake.h"

#define RETURN_TO_RUNNING VFIOMIG_ON_FAILURE_RETURN_TO(VFIOMIG_STATE_RUNNING)

static const struct scene {
	const char *name;
	uint32_t policy;
	struct fake_fault fault[2];
	uint32_t reset_to, found, action;
} scenes[] = {
	{"keep", VFIOMIG_ON_FAILURE_KEEP,
	 {{.call = C_SET, .at = 1, .error = ETIMEDOUT}}, 0, S_RUNNING, VFIOMIG_ACTION_NONE},
	{"keep, half way", VFIOMIG_ON_FAILURE_KEEP,
	 {{.call = C_SET, .at = 1, .error = ETIMEDOUT, .effect = E_STEP}}, 0, S_RUNNING_P2P, VFIOMIG_ACTION_NONE},
	{"keep, in ERROR", VFIOMIG_ON_FAILURE_KEEP,
	 {{.call = C_SET, .at = 1, .error = ETIMEDOUT, .effect = E_BREAK}}, 0, S_ERROR, VFIOMIG_ACTION_NONE},
	{"keep, descriptor lost", VFIOMIG_ON_FAILURE_KEEP,
	 {{.call = C_SET, .at = 1, .error = EMFILE, .effect = E_MOVE}}, 0, S_STOP_COPY, VFIOMIG_ACTION_NONE},
	{"keep, dead", VFIOMIG_ON_FAILURE_KEEP,
	 {{.call = C_SET, .at = 1, .error = EIO}, {.call = C_GET, .at = 2, .more = 1, .error = EIO}},
	 0, S_ERROR, VFIOMIG_ACTION_DEAD},
	/* The state is looked at twice. */
	{"keep, one look fails", VFIOMIG_ON_FAILURE_KEEP,
	 {{.call = C_SET, .at = 1, .error = EIO}, {.call = C_GET, .at = 2, .error = EIO}},
	 0, S_RUNNING, VFIOMIG_ACTION_NONE},
	{"return", RETURN_TO_RUNNING,
	 {{.call = C_SET, .at = 1, .error = ETIMEDOUT, .effect = E_STEP}}, 0, S_RUNNING, VFIOMIG_ACTION_RECOVERED},
	/* What GET says may be no truth (a suspend that failed half-way): it goes a step further and comes back. */
	{"return, never left", RETURN_TO_RUNNING,
	 {{.call = C_SET, .at = 1, .error = ETIMEDOUT}}, 0, S_RUNNING, VFIOMIG_ACTION_RECOVERED},
	{"return, from the end", RETURN_TO_RUNNING,
	 {{.call = C_SET, .at = 1, .error = EMFILE, .effect = E_MOVE}}, 0, S_RUNNING, VFIOMIG_ACTION_RECOVERED},
	{"return, impossible", RETURN_TO_RUNNING,
	 {{.call = C_SET, .at = 1, .error = ETIMEDOUT, .effect = E_BREAK}}, 0, S_ERROR, VFIOMIG_ACTION_NONE},
	{"return, fails too", RETURN_TO_RUNNING,
	 {{.call = C_SET, .at = 1, .error = ETIMEDOUT, .effect = E_STEP, .sticky = true}},
	 0, S_RUNNING, VFIOMIG_ACTION_NONE},
	{"return, fails in ERROR", RETURN_TO_RUNNING,
	 {{.call = C_SET, .at = 1, .error = ETIMEDOUT, .effect = E_STEP},
	  {.call = C_SET, .at = 2, .error = EIO, .effect = E_BREAK}}, 0, S_ERROR, VFIOMIG_ACTION_NONE},
	{"return, dead", RETURN_TO_RUNNING,
	 {{.call = C_SET, .at = 1, .error = ETIMEDOUT, .effect = E_STEP},
	  {.call = C_GET, .at = 2, .error = EIO, .sticky = true}}, 0, S_ERROR, VFIOMIG_ACTION_DEAD},
	{"reset", VFIOMIG_ON_FAILURE_RESET,
	 {{.call = C_SET, .at = 1, .error = ETIMEDOUT, .effect = E_BREAK}}, 0, S_RUNNING, VFIOMIG_ACTION_RESET},
	{"reset, state was not readable", VFIOMIG_ON_FAILURE_RESET,
	 {{.call = C_SET, .at = 1, .error = EIO}, {.call = C_GET, .at = 2, .more = 1, .error = EIO}},
	 0, S_RUNNING, VFIOMIG_ACTION_RESET},
	{"reset fails", VFIOMIG_ON_FAILURE_RESET,
	 {{.call = C_SET, .at = 1, .error = ETIMEDOUT, .effect = E_BREAK}, {.call = C_RESET, .at = 1, .error = EIO}},
	 0, S_ERROR, VFIOMIG_ACTION_NONE},
	{"reset fails, device stayed", VFIOMIG_ON_FAILURE_RESET,
	 {{.call = C_SET, .at = 1, .error = ETIMEDOUT}, {.call = C_RESET, .at = 1, .error = EIO}},
	 0, S_RUNNING, VFIOMIG_ACTION_NONE},
	/* The former state is gone, wherever the device went (vfio-user servers need not go to RUNNING). */
	{"reset to a wrong state", VFIOMIG_ON_FAILURE_RESET,
	 {{.call = C_SET, .at = 1, .error = ETIMEDOUT, .effect = E_BREAK}}, S_STOP, S_STOP, VFIOMIG_ACTION_RESET},
	/* GET: before the request, after it, twice after the reset. */
	{"reset, then dead", VFIOMIG_ON_FAILURE_RESET,
	 {{.call = C_SET, .at = 1, .error = ETIMEDOUT}, {.call = C_GET, .at = 3, .more = 1, .error = EIO}},
	 0, S_ERROR, VFIOMIG_ACTION_DEAD},
};

static void play(const struct scene *scene)
{
	struct fake f;
	struct vfiomig_device *d;
	const struct vfiomig_device_result *r;
	struct vfiomig_error *e = NULL;
	int before = atomic_load(&t_failures), result;

	fake_init(&f);
	d = fake_device(&f);
	memcpy(f.fault, scene->fault, sizeof f.fault);
	/* From here on GET 1 is the check before the request, GET 2 the look after the failure. */
	f.reset_to = scene->reset_to;
	result = vfiomig_device_set_state(d, S_STOP_COPY, scene->policy, 0, &e);

	CHECK_EQ(result, -scene->fault[0].error);
	CHECK_EQ(vfiomig_error_code(e), VFIOMIG_ERR_DEVICE);
	CHECK_EQ(vfiomig_error_errno(e), -result);
	CHECK_HAS(vfiomig_error_message(e), "fake");
	CHECK_HAS(vfiomig_error_message(e), "RUNNING");
	CHECK_HAS(vfiomig_error_message(e), "STOP_COPY");
	CHECK_HAS(vfiomig_error_message(e), strerror(scene->fault[0].error));
	CHECK_EQ(vfiomig_error_result_count(e), 1);
	CHECK(!vfiomig_error_result(e, 1) && !vfiomig_error_result(e, SIZE_MAX));
	r = vfiomig_error_result(e, 0);
	CHECK(r);
	if (r) {
		CHECK(!strcmp(r->device, "fake"));
		CHECK_EQ(r->saved_errno, scene->fault[0].error);
		CHECK(r->from == S_RUNNING && r->to == S_STOP_COPY);
		CHECK_EQ(r->flags, 0); /* an ETIMEDOUT of the driver's own */
		CHECK_EQ(r->found, scene->found);
		CHECK_EQ(r->action, scene->action);
		CHECK(r->message && r->message[0] && !strchr(vfiomig_error_message(e), '\n'));
		/* The clock runs in nanoseconds: a step is longer than none and shorter than the test. */
		CHECK(r->duration_ns > 0 && r->duration_ns < 100000000000ull);
	}
	CHECK_EQ(vfiomig_device_get_state(d), scene->found);
	for (int i = 0; i < 2; i++)
		CHECK(!f.fault[i].at || f.fault[i].done);
	vfiomig_error_free(e);
	if (atomic_load(&t_failures) != before)
		printf("scene: %s\n", scene->name);
	FAKE_END(&f, d);
}

/* The error outlives the handle, and a handle has no last error: two errors are two objects. */
static void lives_alone(void)
{
	struct fake f;
	struct vfiomig_device *d;
	struct vfiomig_error *a = NULL, *b = NULL;

	fake_init(&f);
	d = fake_device(&f);
	f.fault[0] = (struct fake_fault){.call = C_SET, .at = 1, .error = EIO};
	CHECK_EQ(vfiomig_device_set_state(d, S_STOP, 0, 0, &a), -EIO);
	CHECK(vfiomig_device_set_state(d, S_ERROR, 0, 0, &b) < 0);
	FAKE_END(&f, d);
	CHECK_EQ(vfiomig_error_code(a), VFIOMIG_ERR_DEVICE);
	CHECK_EQ(vfiomig_error_code(b), VFIOMIG_ERR_ORDER);
	CHECK(a != b && !strcmp(vfiomig_error_result(a, 0)->device, "fake"));
	CHECK_EQ(vfiomig_error_result_count(b), 0);
	vfiomig_error_free(b);
	CHECK_HAS(vfiomig_error_message(a), "fake");
	vfiomig_error_free(a);
}

/* The state is read before the request, too. If that fails the device failed, and the policy stands. */
static void fails_before(void)
{
	struct fake f;
	struct vfiomig_device *d;

	fake_init(&f);
	d = fake_device(&f);
	f.fault[0] = (struct fake_fault){.call = C_GET, .at = 1, .error = ENODEV};
	FAILS(fake_to(d, S_STOP), ENODEV, VFIOMIG_ERR_DEVICE);
	CHECK_EQ(f.count[C_SET], 0);
	f.fault[0].at = 0;
	OK(fake_to(d, S_STOP));
	FAKE_END(&f, d);
}

int main(void)
{
	t_begin();
	for (size_t i = 0; i < sizeof scenes / sizeof *scenes; i++)
		play(&scenes[i]);
	lives_alone();
	fails_before();

	CHECK_EQ(vfiomig_error_code(NULL), 0);
	CHECK_EQ(vfiomig_error_errno(NULL), 0);
	CHECK(!strcmp(vfiomig_error_message(NULL), "no error"));
	CHECK_EQ(vfiomig_error_result_count(NULL), 0);
	CHECK(!vfiomig_error_result(NULL, 0));
	vfiomig_error_free(NULL);
	return t_end();
}
