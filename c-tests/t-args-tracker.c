/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Wrong parameters of the tracker functions, whether the tracker runs or not: refused with ARGUMENT, with nothing asked
 * of the log, nothing changed and nothing written; and structs of every size.
 */
#include "fake-log.h"
#include <fcntl.h>

static struct fake_log l;
static struct vfiomig_tracker *t, *t2;
static uint64_t words[8];

static int no_words(void *opaque, void *dest_opaque, uint64_t first_bit, const uint64_t *given, size_t count)
{
	(void)opaque, (void)dest_opaque, (void)first_bit, (void)given, (void)count;
	T_FAIL("words came");
	return 0;
}

static int no_run(void *opaque, uint64_t cookie, uint64_t iova, uint64_t size)
{
	(void)opaque, (void)cookie, (void)iova, (void)size;
	T_FAIL("a run came");
	return 0;
}

static int no_unmap(void *opaque, const struct vfiomig_range *range)
{
	(void)opaque, (void)range;
	T_FAIL("unmap was called");
	return 0;
}

/* --- mappings and ranges ------------------------------------------------------------------------------------------ */

#define TOP (UINT64_MAX - UNIT + 1)

static const struct vfiomig_mapping bad_mappings[] = {
	{.size = 0},
	{.iova = UNIT, .size = 0},
	{.iova = 1, .size = UNIT},
	{.size = 1},
	{.size = UNIT + 1},
	{.iova = UNIT / 2, .size = UNIT},
	{.iova = UNIT, .size = UNIT / 2},
	{.iova = UINT64_MAX, .size = 1},
	{.iova = TOP, .size = 2 * UNIT},
	{.iova = TOP, .size = UINT64_MAX},
	{.iova = UNIT, .size = UINT64_MAX - UNIT + 1},
	{.size = UINT64_MAX},
	{.iova = 550 * UNIT, .size = UNIT, .flags = 1},
	{.iova = 550 * UNIT, .size = UNIT, .reserved = 1},
};

/* Mapped are units 0 to 63 and 100 to 163. */
static const struct vfiomig_range bad_ranges[] = {
	{0, 0}, {UINT64_MAX, 2}, {TOP, 2 * UNIT}, {1, UINT64_MAX}, {0, 63 * UNIT}, {UNIT, 63 * UNIT}, {0, 101 * UNIT},
	{163 * UNIT, UNIT}, {0, 64 * UNIT - 1}, {1, 64 * UNIT}, {150 * UNIT, 1},
};

/* --- destinations ------------------------------------------------------------------------------------------------- */

static const struct bad_dest {
	const char *name;
	struct vfiomig_dest dest; /* bitmap NULL: the words of the test */
} bad_dests[] = {
	{"no bytes", {.iova = 0, .size = 0, .page_size = UNIT}},
	{"iova", {.iova = 1, .size = UNIT, .page_size = UNIT}},
	{"size", {.iova = 0, .size = UNIT + 1, .page_size = UNIT}},
	{"too far", {.iova = TOP, .size = 2 * UNIT, .page_size = UNIT}},
	{"page size 0", {.iova = 0, .size = UNIT}},
	{"page size 1", {.iova = 0, .size = UNIT, .page_size = 1}},
	{"page size 2048", {.iova = 0, .size = UNIT, .page_size = 2048}},
	{"page size 12288", {.iova = 0, .size = UNIT, .page_size = 3 * UNIT}},
	{"page size max", {.iova = 0, .size = UNIT, .page_size = UINT64_MAX}},
	{"first bit max", {.iova = 0, .size = UNIT, .page_size = UNIT, .first_bit = UINT64_MAX}},
	{"first bit near max", {.iova = 0, .size = 64 * UNIT, .page_size = UNIT, .first_bit = UINT64_MAX - 63}},
	{"flag 2", {.iova = 0, .size = UNIT, .page_size = UNIT, .flags = 2}},
	{"flag max", {.iova = 0, .size = UNIT, .page_size = UNIT, .flags = UINT32_MAX}},
	{"reserved", {.iova = 0, .size = UNIT, .page_size = UNIT, .reserved = 1}},
	{"not aligned", {.iova = 0, .size = UNIT, .page_size = UNIT, .bitmap = (uint64_t *)((char *)words + 1)}},
	{"not aligned, atomic",
	 {.iova = 0, .size = UNIT, .page_size = UNIT, .bitmap = (uint64_t *)((char *)words + 4),
	 	.flags = VFIOMIG_DEST_F_ATOMIC}},
};

/* --- requests ----------------------------------------------------------------------------------------------------- */

static struct vfiomig_dest good[3];

enum { REQUESTS = 13 };
static void bad_request(int i, struct vfiomig_harvest_request *rq)
{
	*rq = request_for(good, 2);
	switch (i) {
	case 0: rq->flags = VFIOMIG_HARVEST_F_WITHOUT_DMA; break; /* of groups */
	case 1: rq->flags = UINT32_MAX; break;
	case 2: rq->reserved = 1; break;
	case 3: rq->dests = NULL; break;
	case 4: rq->dest_count = SIZE_MAX; break;
	case 5: rq->dests = (void *)((char *)good + 1); break;
	case 6: rq->argsz = 0; break;
	case 7: rq->argsz = 7; break;
	case 8: rq->argsz = UINT32_MAX; break;
	case 9: rq->dest_count = 3; break;     /* the third overlaps the second */
	case 10: good[1].bitmap = NULL; break; /* and nobody to give it to */
	case 12: rq->flags = 0x10; break;
	case 11: good[1].iova = good[0].iova + good[0].size - UNIT; break;
	}
}

static void good_dests(void)
{
	good[0] = dest_units(0, 64, &words[0]);
	good[1] = dest_units(100, 64, &words[1]);
	good[2] = dest_units(163, 64, &words[2]);
}

/* Whatever takes a request refuses it, before anything is done. */
static void refuse(const struct vfiomig_harvest_request *rq, const char *what)
{
	const struct vfiomig_range range = {0, 64 * UNIT};
	struct vfiomig_harvest_result out, before;
	int failures = atomic_load(&t_failures);

	memset(&out, 0x5a, sizeof out);
	out.argsz = sizeof out;
	before = out;
	FAILS(vfiomig_tracker_harvest(t, rq, &out, ERRP), 0, VFIOMIG_ERR_ARGUMENT);
	FAILS(vfiomig_tracker_harvest_many(&t, 1, rq, &out, ERRP), 0, VFIOMIG_ERR_ARGUMENT);
	FAILS(vfiomig_tracker_unmap(t, &range, no_unmap, NULL, 0, rq, &out, ERRP), 0, VFIOMIG_ERR_ARGUMENT);
	CHECK(!memcmp(&out, &before, sizeof out));
	CHECK(vfiomig_tracker_harvest(t, rq, NULL, NULL) < 0);
	if (atomic_load(&t_failures) != failures)
		printf("request: %s\n", what);
}

/* --- calls that are wrong by themselves --------------------------------------------------------------------------- */

enum { WRONG_COUNT = 37 };
static int wrong(int i, struct vfiomig_error **e)
{
	static struct vfiomig_harvest_result out;
	static struct vfiomig_tracker_info info;
	static const struct vfiomig_range range = {0, 64 * UNIT};
	struct vfiomig_tracker *const none = NULL;
	struct vfiomig_tracker *twice[] = {t, t}, *hole[] = {t, NULL};
	const struct vfiomig_mapping m = {.iova = 1000 * UNIT, .size = UNIT};
	const struct vfiomig_mapping mapped = {.iova = 63 * UNIT, .size = UNIT};

	VFIOMIG_INIT(&out);
	VFIOMIG_INIT(&info);
	switch (i) {
	case 0: return vfiomig_tracker_get_info(none, &info, e);
	case 1: return vfiomig_tracker_get_info(t, NULL, e);
	case 2: return vfiomig_tracker_map(none, &m, 1, e);
	case 3: return vfiomig_tracker_map(t, NULL, 1, e);
	case 4: return vfiomig_tracker_map(t, &m, SIZE_MAX, e);
	case 5: return vfiomig_tracker_map(t, (const void *)((const char *)&m + 4), 1, e);
	case 6: return vfiomig_tracker_map(t, &mapped, 1, e);
	case 7: return vfiomig_tracker_start(none, e);
	case 8: return vfiomig_tracker_stop(none, e);
	case 9: return vfiomig_tracker_harvest(none, NULL, &out, e);
	case 10: out.argsz = 0; return vfiomig_tracker_harvest(t, NULL, &out, e);
	case 11: out.argsz = 7; return vfiomig_tracker_harvest(t, NULL, &out, e);
	case 12: out.argsz = UINT32_MAX; return vfiomig_tracker_harvest(t, NULL, &out, e);
	case 13: return vfiomig_tracker_harvest_many(NULL, 1, NULL, &out, e);
	case 14: return vfiomig_tracker_harvest_many(&t, SIZE_MAX, NULL, &out, e);
	case 15: return vfiomig_tracker_harvest_many(twice, 2, NULL, &out, e);
	case 16: return vfiomig_tracker_harvest_many(hole, 2, NULL, &out, e);
	case 17: return vfiomig_tracker_unmap(none, &range, no_unmap, NULL, 0, NULL, &out, e);
	case 18: return vfiomig_tracker_unmap(t, NULL, no_unmap, NULL, 0, NULL, &out, e);
	case 19: return vfiomig_tracker_unmap(t, &range, no_unmap, NULL, 4, NULL, &out, e);
	case 20: return vfiomig_tracker_unmap(t, &range, no_unmap, NULL, UINT32_MAX, NULL, &out, e);
	case 21: return vfiomig_tracker_unmap(t, &range, no_unmap, NULL, VFIOMIG_UNMAP_F_LIBRARY, NULL, &out, e);
	case 22: return vfiomig_tracker_unmap(t, &range, NULL, NULL, VFIOMIG_UNMAP_F_LIBRARY, NULL, &out, e);
	case 23: out.argsz = 3; return vfiomig_tracker_unmap(t, &range, no_unmap, NULL, 0, NULL, &out, e);
	case 24: info.argsz = 7; return vfiomig_tracker_get_info(t, &info, e);
	case 25: info.argsz = UINT32_MAX; return vfiomig_tracker_get_info(t, &info, e);
	case 26: return vfiomig_tracker_harvest_many((struct vfiomig_tracker *const[]){t2, t, t2}, 3, NULL, &out, e);
	case 27: return vfiomig_tracker_add_device(t, NULL, e);
	case 28: return vfiomig_tracker_remove_device(t, NULL, e);
	case 29: return vfiomig_tracker_add_hwpt(none, 1, e);
	case 30: return vfiomig_tracker_add_hwpt(t, 1, e); /* it has no iommufd */
	case 31: return vfiomig_tracker_remove_hwpt(none, 1, e);
	case 32: return vfiomig_tracker_remove_hwpt(t, 1, e);
	case 33: return vfiomig_tracker_add_foreign(t, NULL, -1, e);
	case 34: return vfiomig_tracker_add_foreign(none, "x", -1, e);
	case 35: return vfiomig_tracker_remove_foreign(t, NULL, e);
	case 36: return vfiomig_tracker_remove_foreign(t, "x", e); /* it is not in it */
	default: return 0;
	}
}

static void all_wrong(void)
{
	struct vfiomig_harvest_request rq;
	struct vfiomig_dest dest;
	unsigned calls[L_COUNT];
	struct vfiomig_tracker_info before = info_of(t);
	const struct vfiomig_range unmappable = {0, 64 * UNIT};

	for (int i = 0; i < L_COUNT; i++)
		calls[i] = atomic_load(&l.calls[i]);
	memset(words, 0x5a, sizeof words);
	for (int i = 0; i < WRONG_COUNT; i++) {
		int failures = atomic_load(&t_failures);
		int result = wrong(i, ERRP);

		FAILS(result, 0, VFIOMIG_ERR_ARGUMENT);
		CHECK_EQ(wrong(i, NULL), result);
		if (atomic_load(&t_failures) != failures)
			printf("wrong call %d\n", i);
	}
	for (size_t i = 0; i < sizeof bad_mappings / sizeof *bad_mappings; i++) {
		/* One bad one of three: none is taken. */
		const struct vfiomig_mapping good_one = {.iova = 500 * UNIT, .size = UNIT};
		const struct vfiomig_mapping good_too = {.iova = 600 * UNIT, .size = UNIT};
		const struct vfiomig_mapping three[] = {good_one, bad_mappings[i], good_too};

		if (!FAILS(vfiomig_tracker_map(t, three, 3, ERRP), 0, VFIOMIG_ERR_ARGUMENT))
			printf("mapping %zu\n", i);
	}
	for (size_t i = 0; i < sizeof bad_ranges / sizeof *bad_ranges; i++)
		if (!FAILS(vfiomig_tracker_unmap(t, &bad_ranges[i], no_unmap, NULL, 0, NULL, NULL, ERRP), 0,
			   VFIOMIG_ERR_ARGUMENT))
			printf("range %zu\n", i);
	for (size_t i = 0; i < sizeof bad_dests / sizeof *bad_dests; i++) {
		dest = bad_dests[i].dest;
		if (!dest.bitmap)
			dest.bitmap = words;
		rq = request_for(&dest, 1);
		refuse(&rq, bad_dests[i].name);
	}
	for (int i = 0; i < REQUESTS; i++) {
		char name[16];

		good_dests();
		bad_request(i, &rq);
		snprintf(name, sizeof name, "%d", i);
		refuse(&rq, name);
	}
	/* Only destinations, and there is none; a group's flag. */
	good_dests();
	rq = request_for(good, 0);
	rq.flags = VFIOMIG_HARVEST_F_ONLY_DESTS;
	refuse(&rq, "only destinations");
	rq.flags = VFIOMIG_HARVEST_F_WITHOUT_DMA;
	refuse(&rq, "without DMA");
	/* An unmapping reads and takes all that it unmaps. */
	for (int i = 0; i < 2; i++) {
		rq = request_for(good, 1);
		rq.flags = i ? VFIOMIG_HARVEST_F_NO_READ : VFIOMIG_HARVEST_F_ONLY_DESTS;
		FAILS(vfiomig_tracker_unmap(t, &unmappable, no_unmap, NULL, 0, &rq, NULL, ERRP), 0, VFIOMIG_ERR_ARGUMENT);
		CHECK_HAS(vfiomig_error_message(t_error), "means nothing in this call");
	}
	for (size_t i = 0; i < sizeof words; i++)
		if (((unsigned char *)words)[i] != 0x5a) {
			T_FAIL("a refused call wrote to byte %zu of the bitmap", i);
			break;
		}
	for (int i = 0; i < L_COUNT; i++)
		CHECK_EQ(atomic_load(&l.calls[i]), calls[i]);
	struct vfiomig_tracker_info after = info_of(t);
	CHECK(!memcmp(&before, &after, sizeof before));
	/* Two destinations may share a word, and even a bitmap's bits; only their IOVA must not overlap. */
	good_dests();
	good[1].bitmap = words;
	rq = request_for(good, 2);
	rq.words = no_words;
	rq.run = no_run;
	rq.flags = VFIOMIG_HARVEST_F_NO_READ;
	if (info_of(t).starts)
		OK(vfiomig_tracker_harvest(t, &rq, NULL, ERRP));
	else
		FAILS(vfiomig_tracker_harvest(t, &rq, NULL, ERRP), 0, VFIOMIG_ERR_ORDER);
}

/* --- makers ------------------------------------------------------------------------------------------------------- */

static void makers(void)
{
	struct vfiomig_tracker_ops ops_good, ops;
	struct vfiomig_tracker_options o_good, o;
	struct vfiomig_tracker *const mark = (void *)&l;
	struct vfiomig_tracker *made = mark;
	struct vfiomig_device *no_device = NULL;
	char name[300];
	const uint32_t hwpt = 1;
	const struct vfiomig_range odd = {4096, 4095}, even = {0, 1ull << 39};
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	fake_log_init(&l);
	fake_log_ops(&ops_good);
	VFIOMIG_INIT(&o_good);
	memset(name, 'x', sizeof name);
	name[256] = 0;
#define NEW vfiomig_tracker_new(&o, &made, ERRP)
#define NEW_OPS vfiomig_tracker_new_ops(&ops, &l, &o, &made, ERRP)
#define REFUSED(call, change, error)                              \
	(ops = ops_good, o = o_good, change, FAILS(call, error, VFIOMIG_ERR_ARGUMENT), CHECK(made == mark))
	FAILS(vfiomig_tracker_new(NULL, NULL, ERRP), 0, VFIOMIG_ERR_ARGUMENT);
	FAILS(vfiomig_tracker_new_ops(NULL, &l, NULL, &made, ERRP), 0, VFIOMIG_ERR_ARGUMENT);
	FAILS(vfiomig_tracker_new_ops(&ops_good, &l, NULL, NULL, ERRP), 0, VFIOMIG_ERR_ARGUMENT);
	/* What both refuse. */
	for (int with_ops = 0; with_ops < 2; with_ops++) {
#define BOTH(change, error) (with_ops ? REFUSED(NEW_OPS, change, error) : REFUSED(NEW, change, error))
		BOTH(o.flags = 0x40, 0);
		BOTH(o.flags = 0x20, 0);
		BOTH(o.aperture_count = 1, 0);
		BOTH((o.apertures = &odd, o.aperture_count = 1), 0);
		BOTH((o.apertures = &even, o.aperture_count = SIZE_MAX), 0);
		BOTH(o.flags = 1u << 31, 0);
		BOTH(o.name = name, 0);
		BOTH(o.page_size = 1, 0);
		BOTH(o.page_size = 2048, 0);
		BOTH(o.page_size = 3 * UNIT, 0);
		BOTH(o.page_size = 1ull << 31, 0);
		BOTH(o.page_size = UINT64_MAX, 0);
		BOTH(o.device_count = 1, 0);
		BOTH((o.devices = &no_device, o.device_count = 1), 0);
		BOTH((o.devices = &no_device, o.device_count = SIZE_MAX), 0);
		BOTH((o.flags = VFIOMIG_TRACKER_F_TYPE1, o.container_fd = -1), EBADF);
		BOTH((o.flags = VFIOMIG_TRACKER_F_TYPE1, o.container_fd = INT32_MIN), EBADF);
		BOTH((o.flags = VFIOMIG_TRACKER_F_HWPT, o.iommufd = -1, o.hwpt_ids = &hwpt, o.hwpt_count = 1), EBADF);
		BOTH((o.flags = VFIOMIG_TRACKER_F_HWPT, o.iommufd = null, o.hwpt_count = 1), 0);
		BOTH((o.flags = VFIOMIG_TRACKER_F_IOAS, o.ioas_id = 1), 0);
	}
	REFUSED(NEW_OPS, ops.start = NULL, 0);
	REFUSED(NEW_OPS, ops.report = NULL, 0);
	REFUSED(NEW_OPS, ops.flags = 2, 0);
	REFUSED(NEW_OPS, ops.flags = UINT32_MAX, 0);
	/* A log of the VMM is no alternative to others. */
	REFUSED(NEW_OPS, o.flags = VFIOMIG_TRACKER_F_EVERYTHING, 0);
	REFUSED(NEW_OPS, (o.flags = VFIOMIG_TRACKER_F_TYPE1, o.container_fd = null), 0);
	REFUSED(NEW_OPS, (o.flags = VFIOMIG_TRACKER_F_HWPT, o.iommufd = null, o.hwpt_ids = &hwpt, o.hwpt_count = 1), 0);

#define MADE(call, change) (ops = ops_good, o = o_good, change, OK(call), CHECK(made != mark), vfiomig_tracker_free(made), made = mark)
	MADE(NEW, (void)0);
	MADE(NEW, o.page_size = UNIT);
	MADE(NEW, o.page_size = 1ull << 30);
	MADE(NEW, o.name = name + 1);
	MADE(NEW, (o.container_fd = o.iommufd = -1)); /* an fd counts only with its flag */
	MADE(NEW, o.max_workers = UINT32_MAX);
	MADE(NEW, (o.apertures = &even, o.aperture_count = 1));
	MADE(NEW, o.apertures = &odd); /* none are given */
	MADE(NEW_OPS, ops.stop = NULL);
	MADE(NEW_OPS, ops.flags = VFIOMIG_OPS_F_ANY_THREAD);
	MADE(vfiomig_tracker_new(NULL, &made, ERRP), (void)0);
	MADE(vfiomig_tracker_new_ops(&ops, NULL, NULL, &made, ERRP), (void)0);
	CHECK(!l.calls[L_START] && !l.calls[L_REPORT] && !l.calls[L_STOP]);
	close(null);
}

/* --- structs in memory of just the size that they say ------------------------------------------------------------- */

static void *sized(const void *from, size_t known, uint32_t argsz)
{
	unsigned char *p = calloc(1, argsz < 4 ? 4 : argsz);

	memcpy(p, from, argsz < known ? (argsz < 4 ? 4 : argsz) : known);
	memcpy(p, &argsz, 4);
	return p;
}

enum input { OPTIONS, OPS, REQUEST, INPUTS };

static int try_input(enum input which, void *p)
{
	struct vfiomig_tracker *made = NULL;
	struct vfiomig_tracker_ops ops;
	int result;

	fake_log_ops(&ops);
	switch (which) {
	/* Nothing is called, so any pointer will do; `l` has a tracker. */
	case OPTIONS: result = vfiomig_tracker_new_ops(&ops, p, p, &made, ERRP); break;
	case OPS: result = vfiomig_tracker_new_ops(p, p, NULL, &made, ERRP); break;
	default: result = vfiomig_tracker_harvest(t, p, NULL, ERRP);
	}
	vfiomig_tracker_free(made);
	return result;
}

static void inputs(enum input which)
{
	static const uint32_t sizes[] = {0, 1, 4, 7, 8, 12, 16, 24, 31, 32, 33, 40, 55, 56, 57, 71, 72, 73, 80, 88, 96, 200,
		4096};
	struct vfiomig_tracker_options o;
	struct vfiomig_tracker_ops ops;
	struct vfiomig_harvest_request rq;
	const void *from[] = {&o, &ops, &rq};
	const size_t knowns[] = {sizeof o, sizeof ops, sizeof rq};
	size_t known = knowns[which];

	VFIOMIG_INIT(&o);
	VFIOMIG_INIT(&rq);
	fake_log_ops(&ops);
	for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
		unsigned char *p = sized(from[which], known, sizes[i]);
		int result = try_input(which, p);

		if (sizes[i] < 8 || sizes[i] % 8) { /* or it cuts a field */
			FAILS(result, 0, VFIOMIG_ERR_ARGUMENT);
		} else if (which == OPS && sizes[i] < known) {
			/* Without stop it is a table, without report it is none. */
			if (sizes[i] < 24)
				FAILS(result, 0, VFIOMIG_ERR_ARGUMENT);
			else
				CHECK(result == 0 || vfiomig_error_code(t_error) == VFIOMIG_ERR_ARGUMENT);
		} else {
			OK(result);
		}
		for (size_t at = known; sizes[i] % 8 == 0 && at < sizes[i]; at += 1 + (sizes[i] > 300) * 500) {
			p[at] = 1;
			FAILS(try_input(which, p), E2BIG, VFIOMIG_ERR_ARGUMENT);
			p[at] = 0;
		}
		free(p);
	}
}

static void outputs(bool info)
{
	static const uint32_t sizes[] = {0, 3, 4, 7, 8, 9, 12, 20, 39, 40, 47, 48, 49, 60, 100, 303, 304, 305, 320, 1000,
		4096};
	unsigned char whole[512], copy[4096 + 8];
	uint32_t known =
		info ? (uint32_t)sizeof(struct vfiomig_tracker_info) : (uint32_t)sizeof(struct vfiomig_harvest_result);

	memset(whole, 0, sizeof whole);
	memcpy(whole, &known, 4);
#define GET(p) (info ? vfiomig_tracker_get_info(t, (void *)(p), ERRP) : vfiomig_tracker_harvest(t, NULL, (void *)(p), ERRP))
	OK(GET(whole));
	for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
		uint32_t size = sizes[i];
		unsigned char *p = malloc(size < 4 ? 4 : size);

		memset(p, 0x5a, size < 4 ? 4 : size);
		memcpy(p, &size, 4);
		memcpy(copy, p, size);
		unsigned reports = l.calls[L_REPORT];
		if (size < 8 || size % 8) { /* or it cuts a field */
			FAILS(GET(p), 0, VFIOMIG_ERR_ARGUMENT);
			CHECK(!memcmp(p, copy, size));
			CHECK_EQ(l.calls[L_REPORT], reports);
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
}

int main(void)
{
	t_begin();
	makers();
	fake_log_init(&l);
	t = fake_log_tracker(&l);
	OK(vfiomig_tracker_new(NULL, &t2, ERRP));
	OK(map_units(t, 0, 64, 0));
	OK(map_units(t, 100, 64, 0));
	all_wrong();
	OK(vfiomig_tracker_start(t, ERRP));
	OK(vfiomig_tracker_harvest(t, NULL, NULL, ERRP));
	all_wrong();
	inputs(OPTIONS);
	inputs(OPS);
	inputs(REQUEST);
	outputs(true);
	outputs(false);
	/* Only pointers: errp is never read. */
	struct vfiomig_error *garbage = (void *)1;
	CHECK(vfiomig_tracker_map(NULL, NULL, 0, &garbage) < 0);
	CHECK_EQ(vfiomig_error_code(garbage), VFIOMIG_ERR_ARGUMENT);
	vfiomig_error_free(garbage);
	vfiomig_tracker_free(t2);
	LOG_END(&l, t);
	return t_end();
}
