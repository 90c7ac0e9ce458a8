/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A bug in the library, in any function: the process lives, the caller gets an error, the handle accepts only _free.
 * library: panic
 * variants: plain asan valgrind
 */
#include "fake.h"

static struct fake f;
static struct fake_log l;
static struct vfiomig_device *d;
static struct vfiomig_tracker *t;
static struct vfiomig_error *sample;

static void arm(const char *name)
{
	setenv("VFIOMIG_TEST_PANIC", name, 1);
}

static void disarm(void)
{
	unsetenv("VFIOMIG_TEST_PANIC");
}

/* Each function once. The value is what it returned, as far as it returns one that tells of failure. */
static int64_t call_device(const char *name, struct vfiomig_error **errp)
{
	struct vfiomig_chunk chunk;
	struct vfiomig_device_pending pending;
	struct vfiomig_device_info info;
	unsigned char buf[10] = {0};
	uint32_t flags;
	void *room;
	size_t fits;

	VFIOMIG_INIT(&pending);
	VFIOMIG_INIT(&info);
#define IS(function) if (!strcmp(name, #function))
	IS(vfiomig_device_commit) return vfiomig_device_commit(d, 0, 0, errp);
	IS(vfiomig_device_consume) return vfiomig_device_consume(d, 0, errp);
	IS(vfiomig_device_finish) return vfiomig_device_finish(d, 0, errp);
	IS(vfiomig_device_get_info) return vfiomig_device_get_info(d, &info, errp);
	IS(vfiomig_device_get_pending) return vfiomig_device_get_pending(d, 0, &pending, errp);
	IS(vfiomig_device_peek) return vfiomig_device_peek(d, 0, &chunk, errp);
	IS(vfiomig_device_read) return vfiomig_device_read(d, buf, sizeof buf, &flags, errp);
	IS(vfiomig_device_receive) return vfiomig_device_receive(d, 0, 1, 0, errp);
	IS(vfiomig_device_reprobe) return vfiomig_device_reprobe(d, errp);
	IS(vfiomig_device_reserve) return vfiomig_device_reserve(d, VFIOMIG_UNKNOWN, &room, &fits, errp);
	IS(vfiomig_device_reset) return vfiomig_device_reset(d, errp);
	IS(vfiomig_device_send) return vfiomig_device_send(d, 1, 0, &flags, errp);
	IS(vfiomig_device_set_state) return vfiomig_device_set_state(d, S_STOP, 0, 0, errp);
	IS(vfiomig_device_restart_stream) return vfiomig_device_restart_stream(d, errp);
	IS(vfiomig_device_write) return vfiomig_device_write(d, buf, 1, 0, errp);
	return 1;
}

static int64_t call_tracker(const char *name, struct vfiomig_error **errp)
{
	const struct vfiomig_mapping m = {.iova = 1000 * UNIT, .size = UNIT};
	const struct vfiomig_range range = {0, 64 * UNIT};
	struct vfiomig_tracker_info info;

	VFIOMIG_INIT(&info);
	IS(vfiomig_tracker_add_device) return vfiomig_tracker_add_device(t, d, errp);
	IS(vfiomig_tracker_add_foreign) return vfiomig_tracker_add_foreign(t, "other", -1, errp);
	IS(vfiomig_tracker_add_hwpt) return vfiomig_tracker_add_hwpt(t, 1, errp);
	IS(vfiomig_tracker_remove_device) return vfiomig_tracker_remove_device(t, d, errp);
	IS(vfiomig_tracker_remove_foreign) return vfiomig_tracker_remove_foreign(t, "other", errp);
	IS(vfiomig_tracker_remove_hwpt) return vfiomig_tracker_remove_hwpt(t, 1, errp);
	IS(vfiomig_tracker_get_info) return vfiomig_tracker_get_info(t, &info, errp);
	IS(vfiomig_tracker_harvest) return vfiomig_tracker_harvest(t, NULL, NULL, errp);
	IS(vfiomig_tracker_map) return vfiomig_tracker_map(t, &m, 1, errp);
	IS(vfiomig_tracker_start) return vfiomig_tracker_start(t, errp);
	IS(vfiomig_tracker_stop) return vfiomig_tracker_stop(t, errp);
	IS(vfiomig_tracker_unmap) return vfiomig_tracker_unmap(t, &range, NULL, NULL, 0, NULL, NULL, errp);
	return 1;
}

/* The functions that have another way to say it, or none; false if the name is not among them. */
static bool call_other(const char *name)
{
	struct vfiomig_device *made = NULL;
	struct vfiomig_device_ops ops;
	struct vfiomig_tracker_ops log_ops;
	struct vfiomig_tracker *made_tracker = NULL;
	struct vfiomig_range range;
	uint64_t word = 0, other = 1, next = 7;

	fake_ops(&f, &ops);
	fake_log_ops(&log_ops);
	arm(name);
	IS(vfiomig_device_new_ops)
		FAILS(vfiomig_device_new_ops(&ops, &f, NULL, &made, ERRP), ENOTRECOVERABLE, VFIOMIG_ERR_PANIC);
	else IS(vfiomig_device_new_kernel)
		FAILS(vfiomig_device_new_kernel(0, NULL, &made, ERRP), ENOTRECOVERABLE, VFIOMIG_ERR_PANIC);
	else IS(vfiomig_device_new_vfio_user)
		FAILS(vfiomig_device_new_vfio_user(NULL, NULL, NULL, &made, ERRP), ENOTRECOVERABLE, VFIOMIG_ERR_PANIC);
	else IS(vfiomig_device_new_connection)
		FAILS(vfiomig_device_new_connection(NULL, NULL, &made, ERRP), ENOTRECOVERABLE, VFIOMIG_ERR_PANIC);
	else IS(vfiomig_tracker_new)
		FAILS(vfiomig_tracker_new(NULL, &made_tracker, ERRP), ENOTRECOVERABLE, VFIOMIG_ERR_PANIC);
	else IS(vfiomig_tracker_new_ops)
		FAILS(vfiomig_tracker_new_ops(&log_ops, &l, NULL, &made_tracker, ERRP), ENOTRECOVERABLE, VFIOMIG_ERR_PANIC);
	else IS(vfiomig_bitmap_count) CHECK_EQ(vfiomig_bitmap_count(&word, 0, 1), -ENOTRECOVERABLE);
	else IS(vfiomig_bitmap_get_ranges)
		CHECK_EQ(vfiomig_bitmap_get_ranges(&word, 1, 0, 0, 1, &range, 1, &next), -ENOTRECOVERABLE);
	else IS(vfiomig_bitmap_merge) CHECK_EQ(vfiomig_bitmap_merge(&word, 0, &other, 0, 1, 0), -ENOTRECOVERABLE);
	else IS(vfiomig_bitmap_next_run)
		CHECK_EQ(vfiomig_bitmap_next_run(&word, 1, 0, &next, &other), -ENOTRECOVERABLE);
	else IS(vfiomig_bitmap_rescale) CHECK_EQ(vfiomig_bitmap_rescale(&word, 1, &other, 1, 1, 0), -ENOTRECOVERABLE);
	else IS(vfiomig_bitmap_take) CHECK_EQ(vfiomig_bitmap_take(&word, 0, &other, 0, 1, 0), -ENOTRECOVERABLE);
	else IS(vfiomig_error_code) CHECK_EQ(vfiomig_error_code(sample), 0);
	else IS(vfiomig_error_errno) CHECK_EQ(vfiomig_error_errno(sample), 0);
	else IS(vfiomig_error_message) CHECK(!strcmp(vfiomig_error_message(sample), "no error"));
	else IS(vfiomig_error_result) CHECK(!vfiomig_error_result(sample, 0));
	else IS(vfiomig_error_result_count) CHECK_EQ(vfiomig_error_result_count(sample), 0);
	/* Nothing was freed: the test frees it at the end. */
	else IS(vfiomig_error_free) vfiomig_error_free(sample);
	else IS(vfiomig_has_feature) CHECK_EQ(vfiomig_has_feature(VFIOMIG_FEATURE_DIALECT_V2), 0);
	else IS(vfiomig_set_log) vfiomig_set_log(NULL, NULL, 0);
	else IS(vfiomig_state_name) CHECK(!strcmp(vfiomig_state_name(1), "?"));
	else IS(vfiomig_version) CHECK_EQ(vfiomig_version(), 0);
	else {
		disarm();
		return false;
	}
	disarm();
	CHECK(!made && !made_tracker);
	CHECK(word == 0 && other == 1 && next == 7);
	return true;
}

/* After the panic the handle refuses everything, even to look at the device. */
static void poisoned(void)
{
	static const char *const names[] = {
#define FUNCTION(name) #name,
#include "functions.inc"
#undef FUNCTION
	};
	unsigned calls = f.calls;

	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		int64_t result = call_device(names[i], ERRP);

		if (result != 1)
			FAILS(result, ENOTRECOVERABLE, VFIOMIG_ERR_PANIC);
	}
	CHECK_EQ(f.calls, calls);
	CHECK(vfiomig_device_get_state(d) < S_COUNT);
}

static void begin_tracker(void)
{
	fake_log_init(&l);
	t = fake_log_tracker(&l);
	OK(map_units(t, 0, 64, 0));
	OK(vfiomig_tracker_start(t, ERRP));
}

static unsigned log_calls(void)
{
	return l.calls[L_START] + l.calls[L_REPORT] + l.calls[L_STOP];
}

/* The same for a tracker: refused by all of its functions, and by one that takes several. _free still stops the log. */
static void poisoned_tracker(unsigned calls)
{
	static const char *const names[] = {
#define FUNCTION(name) #name,
#include "functions.inc"
#undef FUNCTION
	};

	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		int64_t result = call_tracker(names[i], ERRP);

		if (result != 1)
			FAILS(result, ENOTRECOVERABLE, VFIOMIG_ERR_PANIC);
	}
	FAILS(vfiomig_tracker_harvest_many(&t, 1, NULL, NULL, ERRP), ENOTRECOVERABLE, VFIOMIG_ERR_PANIC);
	CHECK_EQ(log_calls(), calls);
}

static void one_of_a_tracker(const char *name)
{
	unsigned calls;

	begin_tracker();
	calls = log_calls();
	arm(name);
	IS(vfiomig_tracker_free) {
		/* It said nothing, so that cannot be known; if it did free, a second one would be the caller's bug. */
		vfiomig_tracker_free(t);
		disarm();
		LOG_END(&l, l.running ? t : NULL);
		return;
	}
	/* Of several trackers it is not known to which the bug belongs: all are poisoned. */
	IS(vfiomig_tracker_harvest_many)
		FAILS(vfiomig_tracker_harvest_many(&t, 1, NULL, NULL, ERRP), ENOTRECOVERABLE, VFIOMIG_ERR_PANIC);
	else
		FAILS(call_tracker(name, ERRP), ENOTRECOVERABLE, VFIOMIG_ERR_PANIC);
	disarm();
	CHECK_HAS(vfiomig_error_message(t_error), name);
	CHECK_EQ(log_calls(), calls);
	poisoned_tracker(calls);
	LOG_END(&l, t);
}

static void one(const char *name)
{
	static const char *const elsewhere[] = {"vfiomig_group_",  "vfiomig_migration_", "vfiomig_report_", "vfiomig_phase_",
						"vfiomig_vfio_user_", "vfiomig_writer_", "vfiomig_reader_"};
	int before = atomic_load(&t_failures);

	for (size_t i = 0; i < sizeof elsewhere / sizeof *elsewhere; i++)
		if (!strncmp(name, elsewhere[i], strlen(elsewhere[i])))
			return; /* t-panic-group.c, t-panic-vfio-user.c and t-panic-wire.c have them */
	if (call_other(name))
		goto out;
	if (!strncmp(name, "vfiomig_tracker_", 16)) {
		one_of_a_tracker(name);
		goto out;
	}
	fake_init(&f);
	d = fake_device(&f);
	OK(fake_to(d, S_PRE_COPY));
	if (!strcmp(name, "vfiomig_device_free")) {
		arm(name);
		vfiomig_device_free(d);
		disarm();
		/* It said nothing, so that cannot be known; if it did free, a second one would be the caller's bug. */
		if (f.closed) {
			FAKE_END(&f, NULL);
			goto out;
		}
	} else if (!strcmp(name, "vfiomig_device_get_state")) {
		arm(name);
		CHECK_EQ(vfiomig_device_get_state(d), VFIOMIG_STATE_ERROR);
		disarm();
		/* It has no way to say so, but the bug was there: the handle is not to be trusted any more. */
		struct vfiomig_device_info info;
		VFIOMIG_INIT(&info);
		FAILS(vfiomig_device_get_info(d, &info, ERRP), ENOTRECOVERABLE, VFIOMIG_ERR_PANIC);
	} else {
		unsigned calls = f.calls;

		arm(name);
		int64_t result = call_device(name, ERRP);
		disarm();
		CHECK(result != 1);
		FAILS(result, ENOTRECOVERABLE, VFIOMIG_ERR_PANIC);
		CHECK_HAS(vfiomig_error_message(t_error), name);
		CHECK_EQ(f.calls, calls);
		poisoned();
	}
	FAKE_END(&f, d);
out:
	if (atomic_load(&t_failures) != before)
		printf("in %s\n", name);
}

int main(void)
{
	t_begin();
	/* With errp NULL nothing else can tell; and a library without the feature makes this test worthless. */
	arm("vfiomig_version");
	if (vfiomig_version()) {
		puts("this library does not panic on demand");
		return 77;
	}
	disarm();
	CHECK(vfiomig_version());
	(void)vfiomig_device_new_kernel(-1, NULL, NULL, &sample);
#define FUNCTION(name) one(#name);
#include "functions.inc"
	fake_init(&f);
	d = fake_device(&f);
	arm("vfiomig_device_reset");
	CHECK_EQ(vfiomig_device_reset(d, NULL), -ENOTRECOVERABLE);
	disarm();
	CHECK_EQ(vfiomig_device_reset(d, NULL), -ENOTRECOVERABLE);
	FAKE_END(&f, d);
	CHECK_EQ(vfiomig_error_code(sample), VFIOMIG_ERR_ARGUMENT);
	vfiomig_error_free(sample);
	return t_end();
}
