/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Wrong parameters, in every state a device can be in: refused with ARGUMENT, with nothing done and nothing written;
 * and right parameters in every state: the documented answer, never a crash, never a request that is forbidden.
 */
#include "fake.h"

static struct fake f;
static struct vfiomig_device *d;
static char where[64];

#define ANY_FD 1

/* Places for outputs; all of them must look the same after a failure. */
static struct outputs {
	struct vfiomig_chunk chunk;
	struct vfiomig_device_pending pending;
	struct vfiomig_device_info info;
	unsigned char buf[64];
	uint32_t flags;
	void *room;
	size_t fits;
} out, untouched;

static void set_outputs(void)
{
	memset(&out, 0x5a, sizeof out);
	out.pending.argsz = sizeof out.pending;
	out.info.argsz = sizeof out.info;
	untouched = out;
}

/* Wrong by itself, whatever the device does. `e` may be NULL. */
enum { WRONG_COUNT = 36 };
static int64_t wrong(int i, struct vfiomig_error **e)
{
	const uint32_t U = UINT32_MAX;
	struct vfiomig_device *const none = NULL;

	switch (i) {
	case 0: return vfiomig_device_set_state(none, S_STOP, 0, 0, e);
	case 1: return vfiomig_device_set_state(d, S_COUNT, 0, 0, e);
	case 2: return vfiomig_device_set_state(d, U, 0, 0, e);
	case 3: return vfiomig_device_set_state(d, S_STOP, 2, 0, e);
	case 4: return vfiomig_device_set_state(d, S_STOP, U, 0, e);
	case 5: return vfiomig_device_set_state(d, S_STOP, VFIOMIG_ON_FAILURE_RETURN_TO(S_COUNT), 0, e);
	case 6: return vfiomig_device_set_state(d, S_STOP, VFIOMIG_ON_FAILURE_RETURN_TO(S_ERROR), 0, e);
	case 7: return vfiomig_device_set_state(d, S_STOP, 0, 2, e);
	case 8: return vfiomig_device_set_state(d, S_STOP, 0, U, e);
	case 9: return vfiomig_device_reset(none, e);
	case 10: return vfiomig_device_reprobe(none, e);
	case 11: return vfiomig_device_get_info(none, &out.info, e);
	case 12: return vfiomig_device_get_info(d, NULL, e);
	case 13: return vfiomig_device_get_pending(none, 0, &out.pending, e);
	case 14: return vfiomig_device_get_pending(d, 0, NULL, e);
	case 15: return vfiomig_device_get_pending(d, VFIOMIG_PENDING_F_EXACT, NULL, e);
	case 16: return vfiomig_device_get_pending(d, 2, &out.pending, e);
	case 17: return vfiomig_device_restart_stream(none, e);
	case 18: return vfiomig_device_peek(none, 0, &out.chunk, e);
	case 19: return vfiomig_device_peek(d, 0, NULL, e);
	case 20: return vfiomig_device_consume(none, 0, e);
	case 21: return vfiomig_device_read(none, out.buf, 1, &out.flags, e);
	case 22: return vfiomig_device_read(d, NULL, 1, &out.flags, e);
	case 23: return vfiomig_device_read(d, out.buf, 1, NULL, e);
	case 24: return vfiomig_device_read(d, out.buf, SIZE_MAX, &out.flags, e);
	case 25: return vfiomig_device_send(none, ANY_FD, 0, &out.flags, e);
	case 26: return vfiomig_device_send(d, -1, 0, &out.flags, e);
	case 27: return vfiomig_device_send(d, ANY_FD, 0, NULL, e);
	case 28: return vfiomig_device_reserve(none, VFIOMIG_UNKNOWN, &out.room, &out.fits, e);
	case 29: return vfiomig_device_reserve(d, VFIOMIG_UNKNOWN, NULL, &out.fits, e);
	case 30: return vfiomig_device_reserve(d, VFIOMIG_UNKNOWN, &out.room, NULL, e);
	case 31: return vfiomig_device_commit(d, 0, 1, e);
	case 32: return vfiomig_device_write(d, NULL, 1, 0, e);
	case 33: return vfiomig_device_write(d, out.buf, 1, 1, e);
	case 34: return vfiomig_device_receive(d, -1, 1, 0, e);
	case 35: return vfiomig_device_receive(d, ANY_FD, 1, U, e);
	default: return 0;
	}
}

static void all_wrong(uint32_t state)
{
	unsigned calls = f.calls;

	for (int i = 0; i < WRONG_COUNT; i++) {
		int before = atomic_load(&t_failures);

		set_outputs();
		int64_t result = wrong(i, ERRP);
		FAILS(result, 0, VFIOMIG_ERR_ARGUMENT);
		/* Without errp it is the same. */
		CHECK_EQ(wrong(i, NULL), result);
		CHECK(!memcmp(&out, &untouched, sizeof out));
		if (atomic_load(&t_failures) != before)
			printf("wrong call %d, %s\n", i, where);
	}
	/* NULL handles of the rest. */
	FAILS(vfiomig_device_commit(NULL, 0, 0, ERRP), 0, VFIOMIG_ERR_ARGUMENT);
	FAILS(vfiomig_device_write(NULL, out.buf, 1, 0, ERRP), 0, VFIOMIG_ERR_ARGUMENT);
	FAILS(vfiomig_device_receive(NULL, ANY_FD, 1, 0, ERRP), 0, VFIOMIG_ERR_ARGUMENT);
	FAILS(vfiomig_device_finish(NULL, 0, ERRP), 0, VFIOMIG_ERR_ARGUMENT);
	CHECK_EQ(vfiomig_device_get_state(NULL), VFIOMIG_STATE_ERROR);
	CHECK_EQ(f.calls, calls);
	CHECK_EQ(f.state, state);
}

/* One right call: code 0 is success; on failure nothing is written, on success errp is left alone. */
#define ANSWERS(call, code) answers((set_outputs(), (int64_t)(call)), (code), #call, __LINE__)

static void answers(int64_t result, uint32_t code, const char *call, int line)
{
	bool good;

	if (code)
		good = t_fails(result, 0, code, call, __FILE__, line) && !memcmp(&out, &untouched, sizeof out);
	else
		good = t_ok(result, call, __FILE__, line) >= 0;
	if (!good) {
		atomic_fetch_add(&t_failures, 1);
		printf("    %s\n", where);
	}
}

/* `mine`: the session, if the state has one, was opened by this handle. */
static void all_right(uint32_t state, bool mine)
{
	const uint32_t O = VFIOMIG_ERR_ORDER, lost = VFIOMIG_ERR_STALE;
	uint32_t save = !fake_saving(state) ? O : mine ? 0 : lost;
	uint32_t load = state != S_RESUMING ? O : mine ? 0 : lost;
	int null = open("/dev/null", O_RDWR | O_CLOEXEC), zero = open("/dev/zero", O_RDONLY | O_CLOEXEC);

	ANSWERS(vfiomig_device_get_info(d, &out.info, ERRP), 0);
	CHECK_EQ(out.info.state, state);
	ANSWERS(vfiomig_device_get_pending(d, 0, &out.pending, ERRP), 0);
	ANSWERS(vfiomig_device_get_pending(d, VFIOMIG_PENDING_F_EXACT, &out.pending, ERRP), 0);
	ANSWERS(vfiomig_device_restart_stream(d, ERRP), 0);
	ANSWERS(vfiomig_device_consume(d, 1, ERRP), save ? save : O);
	ANSWERS(vfiomig_device_peek(d, 7, &out.chunk, ERRP), save);
	ANSWERS(vfiomig_device_consume(d, 7, ERRP), save);
	ANSWERS(vfiomig_device_read(d, out.buf, sizeof out.buf, &out.flags, ERRP), save);
	ANSWERS(vfiomig_device_send(d, null, 0, &out.flags, ERRP), save);
	ANSWERS(vfiomig_device_commit(d, 1, 0, ERRP), load ? load : O);
	ANSWERS(vfiomig_device_reserve(d, VFIOMIG_UNKNOWN, &out.room, &out.fits, ERRP), load);
	ANSWERS(vfiomig_device_commit(d, 7, 0, ERRP), load);
	ANSWERS(vfiomig_device_write(d, out.buf, sizeof out.buf, 0, ERRP), load);
	ANSWERS(vfiomig_device_write(d, out.buf, 0, 0, ERRP), load);
	ANSWERS(vfiomig_device_receive(d, zero, 100, 0, ERRP), load);
	ANSWERS(vfiomig_device_finish(d, 7 + 64 + 100, ERRP), load);
	/* There already: no request, whatever flags and policy. */
	unsigned sets = f.count[C_SET];
	ANSWERS(vfiomig_device_set_state(d, state, VFIOMIG_ON_FAILURE_RESET, VFIOMIG_SET_STATE_F_RAW, ERRP),
		state == S_ERROR ? O : 0);
	ANSWERS(fake_to(d, S_ERROR), O);
	CHECK_EQ(f.count[C_SET], sets);
	ANSWERS(vfiomig_device_reprobe(d, ERRP), 0);
	CHECK_EQ(vfiomig_device_get_state(d), state);
	ANSWERS(vfiomig_device_reset(d, ERRP), 0);
	CHECK_EQ(vfiomig_device_get_state(d), S_RUNNING);
	close(null);
	close(zero);
}

static void in_state(uint32_t state, bool mine)
{
	snprintf(where, sizeof where, "in %s, %s", vfiomig_state_name(state), mine ? "brought there" : "found there");
	fake_init(&f);
	if (!mine)
		f.state = state;
	d = fake_device(&f);
	if (mine && state != S_RUNNING)
		fake_bring(&f, d, state);
	all_wrong(state);
	all_right(state, mine);
	FAKE_END(&f, d);
}

/* A device that cannot be migrated answers UNSUPPORTED to what needs a dialect, and the rest as ever. */
static void not_migratable(void)
{
	const uint32_t U = VFIOMIG_ERR_UNSUPPORTED;

	snprintf(where, sizeof where, "not migratable");
	fake_init(&f);
	f.absent = true;
	d = fake_device(&f);
	all_wrong(S_RUNNING);
	ANSWERS(vfiomig_device_get_info(d, &out.info, ERRP), 0);
	ANSWERS(vfiomig_device_get_pending(d, 0, &out.pending, ERRP), 0);
	ANSWERS(vfiomig_device_get_pending(d, VFIOMIG_PENDING_F_EXACT, &out.pending, ERRP), U);
	ANSWERS(fake_to(d, S_RUNNING), U);
	ANSWERS(vfiomig_device_peek(d, 0, &out.chunk, ERRP), U);
	ANSWERS(vfiomig_device_read(d, out.buf, 1, &out.flags, ERRP), U);
	ANSWERS(vfiomig_device_send(d, ANY_FD, 0, &out.flags, ERRP), U);
	ANSWERS(vfiomig_device_reserve(d, VFIOMIG_UNKNOWN, &out.room, &out.fits, ERRP), U);
	ANSWERS(vfiomig_device_write(d, out.buf, 1, 0, ERRP), U);
	ANSWERS(vfiomig_device_receive(d, ANY_FD, 1, 0, ERRP), U);
	ANSWERS(vfiomig_device_finish(d, 0, ERRP), U);
	ANSWERS(vfiomig_device_restart_stream(d, ERRP), 0);
	ANSWERS(vfiomig_device_reset(d, ERRP), 0);
	ANSWERS(vfiomig_device_reprobe(d, ERRP), 0);
	FAKE_END(&f, d);
}

/* Functions that make a device. */
static int make(const struct vfiomig_device_ops *ops, const struct vfiomig_device_options *o,
		struct vfiomig_device **made)
{
	return vfiomig_device_new_ops(ops, &f, o, made, ERRP);
}

static void makers(void)
{
	struct vfiomig_device_ops good, ops;
	struct vfiomig_device_options o, o_good;
	struct vfiomig_device *const mark = (void *)&f;
	struct vfiomig_device *made = mark;

	snprintf(where, sizeof where, "makers");
	fake_init(&f);
	fake_ops(&f, &good);
	VFIOMIG_INIT(&o_good);
#define REFUSED(change, code)                                 \
	(ops = good, o = o_good, change, FAILS(make(&ops, &o, &made), 0, code), CHECK(made == mark), \
	 CHECK_EQ(f.calls, 0))
	FAILS(make(NULL, NULL, &made), 0, VFIOMIG_ERR_ARGUMENT);
	FAILS(make(&good, NULL, NULL), 0, VFIOMIG_ERR_ARGUMENT);
	FAILS(vfiomig_device_new_kernel(-1, NULL, &made, ERRP), EBADF, VFIOMIG_ERR_ARGUMENT);
	FAILS(vfiomig_device_new_kernel(-1, NULL, NULL, ERRP), 0, VFIOMIG_ERR_ARGUMENT);
	FAILS(vfiomig_device_new_kernel(INT32_MIN, NULL, &made, ERRP), EBADF, VFIOMIG_ERR_ARGUMENT);
	REFUSED(ops.flags = 4, VFIOMIG_ERR_ARGUMENT);
	REFUSED(ops.flags = 1u << 31, VFIOMIG_ERR_ARGUMENT);
	REFUSED(o.flags = 0x40, VFIOMIG_ERR_ARGUMENT);
	REFUSED(o.draft_cursor = 3, VFIOMIG_ERR_ARGUMENT);
	REFUSED(o.buffer_size = 4095, VFIOMIG_ERR_ARGUMENT);
	REFUSED(o.buffer_size = (1u << 30) + 1, VFIOMIG_ERR_ARGUMENT);
	REFUSED(o.buffer_size = VFIOMIG_UNKNOWN, VFIOMIG_ERR_ARGUMENT);
	REFUSED(o.dialect = 4, VFIOMIG_ERR_UNSUPPORTED);
	REFUSED(o.dialect = UINT32_MAX, VFIOMIG_ERR_UNSUPPORTED);
	/* Tables that are neither one thing nor the other. */
	REFUSED(ops.data_read = NULL, VFIOMIG_ERR_ARGUMENT);
	REFUSED(ops.data_write = NULL, VFIOMIG_ERR_ARGUMENT);
	REFUSED(ops.data_close = NULL, VFIOMIG_ERR_ARGUMENT);
	REFUSED((ops.data_read = NULL, ops.data_write = NULL), VFIOMIG_ERR_ARGUMENT);
	REFUSED(memset((char *)&ops + 8, 0, sizeof ops - 8), VFIOMIG_ERR_ARGUMENT);

#define MADE(change) (ops = good, o = o_good, change, OK(make(&ops, &o, &made)), vfiomig_device_free(made), made = mark)
	MADE((void)0);
	MADE(o.dialect = VFIOMIG_DIALECT_V2);
	MADE(o.dialect = VFIOMIG_DIALECT_V1); /* a device that does not speak it is made, and says so */
	MADE(o.dialect = VFIOMIG_DIALECT_DRAFT);
	MADE(o.flags = VFIOMIG_DEVICE_F_NO_MMAP | VFIOMIG_DEVICE_F_ZERO_DATA_SIZE | VFIOMIG_DEVICE_F_SPLIT_SEGMENTS |
		       VFIOMIG_DEVICE_F_ALIGNED_ACCESS | VFIOMIG_DEVICE_F_NO_WAIT);
	MADE(o.buffer_size = 4096);
	MADE(o.buffer_size = 1u << 30); /* taken when it is needed, not before */
	MADE(ops.flags = VFIOMIG_OPS_F_ANY_THREAD);
	MADE(ops.flags = VFIOMIG_OPS_F_ANY_THREAD | VFIOMIG_OPS_F_REPORT_ADDS_BITS);
	MADE(ops.data_precopy_info = NULL);
	MADE(ops.device_info = NULL);
	MADE((ops.region_info = NULL, ops.device_reset = NULL));
	MADE((ops.data_read = NULL, ops.data_write = NULL, ops.data_close = NULL, ops.data_precopy_info = NULL));
	/* Only pointers: errp is never read. */
	struct vfiomig_error *garbage = (void *)1;
	CHECK(vfiomig_device_new_ops(NULL, NULL, NULL, &made, &garbage) < 0);
	CHECK_EQ(vfiomig_error_code(garbage), VFIOMIG_ERR_ARGUMENT);
	vfiomig_error_free(garbage);
	garbage = (void *)1;
	OK(make(&good, NULL, &made));
	CHECK_EQ(vfiomig_device_reprobe(made, &garbage), 0);
	CHECK(garbage == (void *)1);
	FAKE_END(&f, made);
}

/*
 * A struct in memory of just the size that its argsz says: one byte more that is looked at is seen by ASan and
 * valgrind. Shorter ones are extended with zeros, longer ones must end in zeros.
 */
static void *sized(const void *from, size_t known, uint32_t argsz)
{
	unsigned char *p = calloc(1, argsz < 4 ? 4 : argsz);

	memcpy(p, from, argsz < known ? (argsz < 4 ? 4 : argsz) : known);
	memcpy(p, &argsz, 4);
	return p;
}

static void inputs(bool options)
{
	static const uint32_t sizes[] = {0, 1, 4, 7, 8, 12, 16, 24, 31, 32, 33, 40, 103, 104, 105, 112, 200, 4096};
	struct vfiomig_device_ops ops;
	struct vfiomig_device_options o;
	struct vfiomig_device *made;
	size_t known = options ? sizeof o : sizeof ops;

	snprintf(where, sizeof where, "%s", options ? "options" : "ops");
	for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
		fake_init(&f);
		fake_ops(&f, &ops);
		VFIOMIG_INIT(&o);
		unsigned char *p = options ? sized(&o, known, sizes[i]) : sized(&ops, known, sizes[i]);
#define TRY() (made = NULL, options ? make(&ops, (void *)p, &made) : make((void *)p, NULL, &made))
		int result = TRY();

		if (sizes[i] < 8 || sizes[i] % 8) { /* or it cuts a field */
			FAILS(result, 0, VFIOMIG_ERR_ARGUMENT);
		} else if (!options && sizes[i] < known) {
			/*
			 * Too short for some of what belongs together; what it means is the table's to say. Never a
			 * crash.
			 */
			CHECK(result == 0 || vfiomig_error_code(t_error) == VFIOMIG_ERR_ARGUMENT);
		} else {
			OK(result);
		}
		vfiomig_device_free(made);
		/* A caller newer than the library that wants something new is refused, wherever it stands. */
		for (size_t at = known; sizes[i] % 8 == 0 && at < sizes[i]; at += 1 + (sizes[i] > 300) * 500) {
			p[at] = 1;
			FAILS(TRY(), E2BIG, VFIOMIG_ERR_ARGUMENT);
			CHECK(!made);
			p[at] = 0;
		}
		free(p);
		FAKE_END(&f, NULL);
	}
	fake_init(&f);
	fake_ops(&f, &ops);
	VFIOMIG_INIT(&o);
	*(options ? &o.argsz : &ops.argsz) = UINT32_MAX;
	FAILS(make(&ops, &o, &made), 0, VFIOMIG_ERR_ARGUMENT);
}

static void outputs(bool info)
{
	static const uint32_t sizes[] = {0, 3, 4, 7, 8, 9, 12, 20, 39, 40, 41, 48, 100, 176, 192, 303, 304, 305,
					 312, 1000, 4096};
	unsigned char whole[512], copy[4096 + 8];
	uint32_t known = info ? (uint32_t)sizeof(struct vfiomig_device_info) : (uint32_t)sizeof(struct vfiomig_device_pending);

	fake_init(&f);
	d = fake_device(&f);
	OK(fake_to(d, S_PRE_COPY));
	memset(whole, 0, sizeof whole);
	memcpy(whole, &known, 4);
#define GET(p) (info ? vfiomig_device_get_info(d, (void *)(p), ERRP) : \
		vfiomig_device_get_pending(d, VFIOMIG_PENDING_F_EXACT, (void *)(p), ERRP))
	OK(GET(whole));
	for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
		uint32_t size = sizes[i];
		unsigned char *p = malloc(size < 4 ? 4 : size);

		memset(p, 0x5a, size < 4 ? 4 : size);
		memcpy(p, &size, 4);
		memcpy(copy, p, size);
		unsigned calls = f.calls;
		if (size < 8 || size % 8) { /* or it cuts a field */
			FAILS(GET(p), 0, VFIOMIG_ERR_ARGUMENT);
			CHECK(!memcmp(p, copy, size));
			CHECK_EQ(f.calls, calls);
		} else {
			OK(GET(p));
			CHECK(!memcmp(p, &size, 4));
			CHECK(!memcmp(p + 4, whole + 4, (size < known ? size : known) - 4));
			for (size_t at = known; at < size; at++)
				if (p[at]) {
					T_FAIL("byte %zu of %u is not zero", at, size);
					break;
				}
		}
		free(p);
	}
	uint32_t huge = UINT32_MAX;
	FAILS(GET(&huge), 0, VFIOMIG_ERR_ARGUMENT);
	FAKE_END(&f, d);
}

int main(void)
{
	t_begin();
	for (uint32_t state = 0; state < S_COUNT; state++) {
		in_state(state, true);
		in_state(state, false);
	}
	not_migratable();
	makers();
	inputs(true);
	inputs(false);
	outputs(true);
	outputs(false);
	return t_end();
}
