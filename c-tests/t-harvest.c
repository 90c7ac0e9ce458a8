/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * What a log tells reaches whoever asked, at every place in a bitmap and between page sizes, as bits, words or runs;
 * what no destination asked for, or a callback refused, is kept. Nothing is given twice, nothing is lost
 * (docs/design.md, "The harvest").
 */
#include "fake-log.h"
#include <pthread.h>

static struct fake_log l, l2;
static struct vfiomig_tracker *t;

static uint64_t seed = 1;

static uint64_t random_below(uint64_t n)
{
	seed = seed * 6364136223846793005ull + 1442695040888963407ull;
	return (seed >> 33) % n;
}

/* --- bitmaps ------------------------------------------------------------------------------------------------------ */

/* Mapped: two mappings that meet in the middle of everything that could be aligned. */
enum { FIRST = 32, MIDDLE = FIRST + 203, END = MIDDLE + 150, ROOM = 16 };

static bool written[1024];

/* What the log knows of it: its pages, as far as they are mapped. */
static bool logged(uint64_t unit, uint64_t log_page)
{
	uint64_t page = unit / log_page * log_page;

	for (uint64_t u = page; u < page + log_page; u++)
		if (written[u])
			return true;
	return false;
}

/* Whether page `n` of a destination is to be reported. Only what is mapped can be written. */
static bool wanted(uint64_t unit, uint64_t count, uint64_t per_page, uint64_t n, uint64_t log_page)
{
	uint64_t from = unit + n * per_page, to = from + per_page < unit + count ? from + per_page : unit + count;

	for (uint64_t u = from; u < to; u++)
		if (u >= FIRST && u < END && logged(u, log_page))
			return true;
	return false;
}

static void bits(uint64_t log_page, uint64_t per_page, uint64_t first_bit, uint32_t flags)
{
	uint64_t bitmap[2][ROOM], before[2][ROOM];
	/* Cut where it pleases the caller; the second asks for more than is mapped. */
	const uint64_t cut = FIRST + random_below(END - FIRST - 2) + 1;
	struct vfiomig_dest dests[2] = {dest_units(FIRST, cut - FIRST, bitmap[0]), dest_units(cut, END + 9 - cut, bitmap[1])};
	struct vfiomig_harvest_request rq = request_for(dests, 2);
	struct vfiomig_harvest_result out;
	uint64_t newly = 0, reported = 0;

	fake_log_init(&l);
	l.page_size = log_page * UNIT;
	l.spill = true;
	t = fake_log_tracker(&l);
	const struct vfiomig_mapping maps[] = {{.iova = FIRST * UNIT, .size = (MIDDLE - FIRST) * UNIT},
					       {.iova = MIDDLE * UNIT, .size = (END - MIDDLE) * UNIT}};
	OK(vfiomig_tracker_map(t, maps, 2, ERRP));
	OK(vfiomig_tracker_start(t, ERRP));
	memset(written, 0, sizeof written);
	for (uint64_t i = 0, n = random_below(60); i < n; i++) {
		uint64_t unit = FIRST + random_below(END - FIRST);

		written[unit] = true;
		log_write(&l, unit);
	}
	for (int d = 0; d < 2; d++) {
		dests[d].page_size = per_page * UNIT;
		dests[d].first_bit = first_bit;
		dests[d].flags = flags;
		for (int i = 0; i < ROOM; i++)
			before[d][i] = bitmap[d][i] = random_below(4) ? 0 : random_below(UINT32_MAX) * 4294967311ull;
	}
	VFIOMIG_INIT(&out);
	OK(vfiomig_tracker_harvest(t, &rq, &out, ERRP));
	int bad = atomic_load(&t_failures);
	for (int d = 0; d < 2; d++) {
		uint64_t unit = dests[d].iova / UNIT, count = dests[d].size / UNIT, pages = (count + per_page - 1) / per_page;

		for (uint64_t bit = 0; bit < ROOM * 64; bit++) {
			uint64_t n = bit - first_bit;
			bool is = n < pages && wanted(unit, count, per_page, n, log_page);

			reported += is;
			newly += is && !bit_of(before[d], bit);
			if (bit_of(bitmap[d], bit) != (is || bit_of(before[d], bit)))
				T_FAIL("destination %d, bit %llu is %d", d, (unsigned long long)bit, !is);
		}
	}
	CHECK_EQ(out.newly_dirty_pages, newly);
	CHECK(out.dirty_pages >= reported && !out.flags && !out.failed_reads && !out.degraded_bytes && !out.first_errno);
	CHECK_EQ(out.argsz, sizeof out);
	/* Nothing twice. */
	OK(vfiomig_tracker_harvest(t, &rq, &out, ERRP));
	CHECK(!out.newly_dirty_pages && !out.dirty_pages && out.reads);
	if (atomic_load(&t_failures) != bad)
		printf("log page %llu, page %llu, first bit %llu, flags %u\n", (unsigned long long)log_page,
		       (unsigned long long)per_page, (unsigned long long)first_bit, flags);
	LOG_END(&l, t);
}

/* --- callbacks ---------------------------------------------------------------------------------------------------- */

/* More than one window of the words callback. */
enum { MANY = (1 << 18) + 5000 };
static bool wrote[MANY], got[MANY];
static unsigned answers, limit;

static void map_many(void)
{
	fake_log_init(&l);
	t = fake_log_tracker(&l);
	OK(map_units(t, 0, 1000, 7));
	OK(map_units(t, 1000, MANY - 1000, 8));
	OK(vfiomig_tracker_start(t, ERRP));
	memset(wrote, 0, sizeof wrote);
	memset(got, 0, sizeof got);
	for (int i = 0; i < 3000; i++) {
		uint64_t unit = i % 2 ? random_below(MANY) : 990 + random_below(500);

		wrote[unit] = true;
		log_write(&l, unit);
	}
}

static void take(uint64_t unit)
{
	if (unit >= MANY || got[unit])
		T_FAIL("unit %llu twice, or none", (unsigned long long)unit);
	else
		got[unit] = true;
}

static void all_came(const char *what)
{
	for (uint64_t unit = 0; unit < MANY; unit++)
		if (got[unit] != wrote[unit]) {
			T_FAIL("%s: unit %llu: written %d, given %d", what, (unsigned long long)unit, wrote[unit], got[unit]);
			return;
		}
}

static uint64_t shift; /* first_bit of the destination */

static int on_words(void *opaque, void *dest_opaque, uint64_t first_bit, const uint64_t *words, size_t count)
{
	CHECK(opaque == &l && dest_opaque == &shift);
	CHECK(first_bit % 64 == 0 && count > 0 && words[0] && words[count - 1]);
	if (answers == limit)
		return 1;
	answers++;
	for (size_t i = 0; i < count * 64; i++)
		if (bit_of(words, i))
			take(first_bit + i - shift);
	return 0;
}

static uint64_t last_end, last_cookie;

static int on_run(void *opaque, uint64_t cookie, uint64_t iova, uint64_t size)
{
	CHECK(opaque == &l && size && !(iova % UNIT) && !(size % UNIT));
	CHECK_EQ(cookie, iova / UNIT < 1000 ? 7 : 8);
	CHECK(iova / UNIT >= 1000 || (iova + size) / UNIT <= 1000);
	if (answers == limit)
		return -1;
	answers++;
	/* Runs are as long as they can be. */
	CHECK(iova != last_end || cookie != last_cookie);
	last_end = iova + size;
	last_cookie = cookie;
	for (uint64_t at = iova; at < iova + size; at += UNIT)
		take(at / UNIT);
	return 0;
}

/* Stops after some, again and again, and in the end has everything once. */
static void stopping(bool words, bool whole, uint64_t first_bit, unsigned step)
{
	struct vfiomig_dest dest = dest_units(0, MANY, NULL);
	struct vfiomig_harvest_request rq = request_for(&dest, whole ? 0 : 1);
	struct vfiomig_harvest_result out;
	uint64_t pages = 0, taken = 0, rounds = 0;

	map_many();
	shift = dest.first_bit = first_bit;
	dest.opaque = &shift;
	rq.opaque = &l;
	rq.words = words ? on_words : NULL;
	rq.run = words ? NULL : on_run;
	do {
		answers = 0;
		limit = step;
		last_end = last_cookie = 0;
		VFIOMIG_INIT(&out);
		OK(vfiomig_tracker_harvest(t, &rq, &out, ERRP));
		rq.flags = VFIOMIG_HARVEST_F_NO_READ;
		pages += out.dirty_pages;
		CHECK(!(out.flags & VFIOMIG_HARVEST_DEGRADED));
		CHECK_EQ(out.newly_dirty_pages, out.dirty_pages);
	} while (out.flags & VFIOMIG_HARVEST_STOPPED && ++rounds < 100000);
	CHECK((step == UINT32_MAX) == !rounds);
	all_came(words ? "words" : "runs");
	for (uint64_t unit = 0; unit < MANY; unit++)
		taken += got[unit];
	CHECK_EQ(pages, taken);
	LOG_END(&l, t);
}

/* A page of the log that two destinations cut is dirty in both, and a run callback learns whose cookie it was. */
static void shared_page(void)
{
	uint64_t bitmap[2] = {0, 0};
	struct vfiomig_dest dests[2] = {dest_units(0, 8, &bitmap[0]), dest_units(8, 8, &bitmap[1])};
	struct vfiomig_harvest_request rq = request_for(dests, 2);

	fake_log_init(&l);
	l.page_size = 16 * UNIT;
	t = fake_log_tracker(&l);
	OK(map_units(t, 0, 16, 0));
	OK(vfiomig_tracker_start(t, ERRP));
	log_write(&l, 3);
	OK(vfiomig_tracker_harvest(t, &rq, NULL, ERRP));
	CHECK(bitmap[0] == 0xff && bitmap[1] == 0xff);
	/* The half that was not asked for is not lost. */
	log_write(&l, 12);
	bitmap[0] = bitmap[1] = 0;
	rq.dest_count = 1;
	OK(vfiomig_tracker_harvest(t, &rq, NULL, ERRP));
	CHECK(bitmap[0] == 0xff);
	rq.flags = VFIOMIG_HARVEST_F_NO_READ;
	rq.dests = &dests[1];
	OK(vfiomig_tracker_harvest(t, &rq, NULL, ERRP));
	CHECK(bitmap[1] == 0xff);
	LOG_END(&l, t);
}

/* --- what no one asked for ---------------------------------------------------------------------------------------- */

static void section_by_section(void)
{
	uint64_t bitmap[4];
	struct vfiomig_harvest_result out;

	fake_log_init(&l);
	t = fake_log_tracker(&l);
	OK(map_units(t, 0, 256, 0));
	OK(vfiomig_tracker_start(t, ERRP));
	for (int pass = 0; pass < 2; pass++) {
		unsigned reports = l.calls[L_REPORT];

		log_write(&l, 10);
		log_write(&l, 70);
		log_write(&l, 200);
		memset(bitmap, 0, sizeof bitmap);
		for (uint64_t section = 0; section < 4; section++) {
			struct vfiomig_dest dest = dest_units(section * 64, 64, &bitmap[section]);
			struct vfiomig_harvest_request rq = request_for(&dest, 1);

			rq.flags = section ? VFIOMIG_HARVEST_F_NO_READ : 0;
			VFIOMIG_INIT(&out);
			OK(vfiomig_tracker_harvest(t, &rq, &out, ERRP));
			CHECK_EQ(out.reads, section ? 0 : 1);
			CHECK_EQ(out.dirty_pages, section != 2);
		}
		CHECK_EQ(l.calls[L_REPORT] - reports, 1);
		CHECK(bitmap[0] == 1ull << 10 && bitmap[1] == 1ull << 6 && !bitmap[2] && bitmap[3] == 1ull << 8);
	}
	/* Without anyone who asks, all is read and kept: no request, or one that names nothing. */
	struct vfiomig_harvest_request nothing = request_for(NULL, 0);
	log_write(&l, 1);
	OK(vfiomig_tracker_harvest(t, NULL, NULL, ERRP));
	log_write(&l, 2);
	OK(vfiomig_tracker_harvest(t, &nothing, NULL, ERRP));
	memset(bitmap, 0, sizeof bitmap);
	struct vfiomig_dest all = dest_units(0, 256, bitmap);
	struct vfiomig_harvest_request rq = request_for(&all, 1);
	rq.flags = VFIOMIG_HARVEST_F_NO_READ;
	log_write(&l, 3);
	OK(vfiomig_tracker_harvest(t, &rq, NULL, ERRP));
	CHECK_EQ(bitmap[0], 6);
	rq.flags = 0;
	OK(vfiomig_tracker_harvest(t, &rq, NULL, ERRP));
	CHECK_EQ(bitmap[0], 14);
	LOG_END(&l, t);
}

/* --- watchers, pieces, and mappings that are gone ----------------------------------------------------------------- */

static struct { uint64_t cookie, unit, units; } runs[8];
static unsigned ran, run_limit;

static int note(void *opaque, uint64_t cookie, uint64_t iova, uint64_t size)
{
	(void)opaque;
	if (ran == run_limit)
		return 1;
	if (ran < 8) {
		runs[ran].cookie = cookie;
		runs[ran].unit = iova / UNIT;
		runs[ran].units = size / UNIT;
	}
	ran++;
	return 0;
}

/* Everything by runs. */
static void everything(uint32_t flags)
{
	struct vfiomig_harvest_request rq = request_for(NULL, 0);

	rq.run = note;
	rq.flags = flags;
	ran = 0;
	run_limit = UINT32_MAX;
	OK(vfiomig_tracker_harvest(t, &rq, NULL, ERRP));
}

static bool run_is(unsigned i, uint64_t cookie, uint64_t unit, uint64_t units)
{
	return i < ran && runs[i].cookie == cookie && runs[i].unit == unit && runs[i].units == units;
}

/* A dirty-rate tool and a migration (reports/f03). */
static void watcher(void)
{
	uint64_t tool[4], ram[4] = {0};
	struct vfiomig_dest dest = dest_units(0, 256, tool), mine = dest_units(0, 256, ram);
	struct vfiomig_harvest_request keep = request_for(&dest, 1), rq = request_for(&mine, 1);
	struct vfiomig_harvest_result out;

	fake_log_init(&l);
	t = fake_log_tracker(&l);
	OK(map_units(t, 0, 256, 3));
	OK(vfiomig_tracker_start(t, ERRP));
	log_write(&l, 5);
	log_write(&l, 200);
	keep.flags = VFIOMIG_HARVEST_F_KEEP;
	for (int i = 0; i < 3; i++) {
		memset(tool, 0, sizeof tool);
		VFIOMIG_INIT(&out);
		OK(vfiomig_tracker_harvest(t, &keep, &out, ERRP));
		CHECK(tool[0] == 1 << 5 && tool[3] == 1 << 8 && out.dirty_pages == 2);
		keep.flags = VFIOMIG_HARVEST_F_KEEP | (i ? VFIOMIG_HARVEST_F_NO_READ : 0);
	}
	everything(VFIOMIG_HARVEST_F_KEEP);
	CHECK(ran == 2 && run_is(0, 3, 5, 1) && run_is(1, 3, 200, 1));
	OK(vfiomig_tracker_harvest(t, &rq, NULL, ERRP));
	CHECK(ram[0] == 1 << 5 && ram[3] == 1 << 8);
	everything(VFIOMIG_HARVEST_F_KEEP);
	CHECK_EQ(ran, 0);
	LOG_END(&l, t);
}

/* A VMM that draws the guest's screen reads what holds it. */
static void only_dests(void)
{
	uint64_t bitmap = 0;
	struct vfiomig_dest dest = dest_units(FAR_UNIT, 1, &bitmap);
	struct vfiomig_harvest_request rq = request_for(&dest, 1);
	struct vfiomig_harvest_result out;

	fake_log_init(&l);
	t = fake_log_tracker(&l);
	OK(map_units(t, 0, 64, 0));
	OK(map_units(t, FAR_UNIT, 1, 0));
	OK(vfiomig_tracker_start(t, ERRP));
	log_write(&l, 5);
	rq.flags = VFIOMIG_HARVEST_F_ONLY_DESTS;
	for (unsigned reports = l.calls[L_REPORT], i = 0; i < 2; i++) {
		VFIOMIG_INIT(&out);
		OK(vfiomig_tracker_harvest(t, &rq, &out, ERRP));
		CHECK(out.reads == 1 && !out.dirty_pages && l.calls[L_REPORT] - reports == i + 1);
	}
	everything(VFIOMIG_HARVEST_F_NO_READ);
	CHECK_EQ(ran, 0);
	everything(0);
	CHECK(ran == 1 && run_is(0, 0, 5, 1));
	LOG_END(&l, t);
}

static int unmapped;

static int unmap(void *opaque, const struct vfiomig_range *range)
{
	CHECK(opaque == &l && range->size == 4 * UNIT);
	return unmapped;
}

/* A dirty page belongs to the mapping through which it was written (reports/f05). */
static void addresses_used_again(void)
{
	uint64_t bitmap = 0;
	struct vfiomig_dest dest = dest_units(0, 16, &bitmap);
	struct vfiomig_harvest_request rq = request_for(&dest, 1), stops = request_for(NULL, 0);
	const struct vfiomig_range range = {0, 4 * UNIT};
	const struct vfiomig_range odd = {0, 4 * UNIT - 1};

	stops.run = note;
	for (int i = 0; i < 2; i++) {
		fake_log_init(&l);
		t = fake_log_tracker(&l);
		OK(map_units(t, 0, 4, 0xA));
		OK(vfiomig_tracker_start(t, ERRP));
		log_write(&l, 2);
		unmapped = ran = run_limit = 0;
		FAILS(vfiomig_tracker_unmap(t, &odd, unmap, &l, 0, NULL, NULL, ERRP), EINVAL, VFIOMIG_ERR_ARGUMENT);
		OK(vfiomig_tracker_unmap(t, &range, unmap, &l, 0, i ? &stops : NULL, NULL, ERRP));
		OK(map_units(t, 0, 4, 0xB));
		bitmap = 0;
		OK(vfiomig_tracker_harvest(t, &rq, NULL, ERRP));
		CHECK_EQ(bitmap, 15); /* the new one */
		everything(VFIOMIG_HARVEST_F_NO_READ);
		CHECK(ran == 1 && run_is(0, 0xA, 2, 1));
		everything(0);
		CHECK_EQ(ran, 0);
		LOG_END(&l, t);
	}
}

/* An unmapping that fails after something was given says what: it is not reported again. */
static void failed_unmapping(void)
{
	struct vfiomig_harvest_request rq = request_for(NULL, 0);
	struct vfiomig_harvest_result out;
	const struct vfiomig_range range = {0, 4 * UNIT};

	fake_log_init(&l);
	t = fake_log_tracker(&l);
	OK(map_units(t, 0, 4, 0xA));
	OK(vfiomig_tracker_start(t, ERRP));
	log_write(&l, 2);
	OK(vfiomig_tracker_harvest(t, NULL, NULL, ERRP));
	rq.run = note;
	ran = 0;
	run_limit = UINT32_MAX;
	unmapped = -EBUSY;
	VFIOMIG_INIT(&out);
	FAILS(vfiomig_tracker_unmap(t, &range, unmap, &l, 0, &rq, &out, ERRP), EBUSY, VFIOMIG_ERR_SYSTEM);
	CHECK(ran == 1 && run_is(0, 0xA, 2, 1));
	CHECK(out.argsz == sizeof out && out.dirty_pages == 1);
	/* Misuse writes nothing. */
	out.dirty_pages = 77;
	FAILS(vfiomig_tracker_unmap(t, NULL, unmap, &l, 0, &rq, &out, ERRP), EINVAL, VFIOMIG_ERR_ARGUMENT);
	CHECK_EQ(out.dirty_pages, 77);
	everything(0);
	CHECK_EQ(ran, 0);
	LOG_END(&l, t);
}

/* --- several address spaces --------------------------------------------------------------------------------------- */

static pthread_t main_thread;
static atomic_uint elsewhere;

static void where(struct fake_log *log, enum log_call call)
{
	(void)log;
	if (call == L_REPORT && !pthread_equal(pthread_self(), main_thread))
		atomic_fetch_add(&elsewhere, 1);
}

static void many(uint32_t flags, uint32_t workers)
{
	uint64_t bitmap[2] = {0, 0};
	struct vfiomig_tracker *both[2];
	struct vfiomig_dest dests[2] = {dest_units(0, 64, &bitmap[0]), dest_units(1000, 64, &bitmap[1])};
	struct vfiomig_harvest_request rq = request_for(dests, 2);
	struct vfiomig_harvest_result out;

	fake_log_init(&l);
	fake_log_init(&l2);
	both[0] = fake_log_tracker_with(&l, 0, flags);
	both[1] = fake_log_tracker_with(&l2, 0, flags);
	for (int i = 0; i < 2; i++) {
		OK(map_units(both[i], 0, 64, 0));
		FAILS(vfiomig_tracker_harvest_many(both, 2, &rq, NULL, ERRP), 0, VFIOMIG_ERR_ORDER);
		OK(vfiomig_tracker_start(both[i], ERRP));
	}
	/* The second address space has something that the first has not. */
	OK(map_units(both[1], 1000, 64, 0));
	OK(map_units(both[1], FAR_UNIT, 1, 0));
	memset(bitmap, 0, sizeof bitmap);
	OK(vfiomig_tracker_harvest_many(both, 2, &rq, NULL, ERRP));
	CHECK(bitmap[0] == UINT64_MAX && bitmap[1] == UINT64_MAX);
	log_write(&l, 5);
	log_write(&l2, 5);
	log_write(&l2, 6);
	log_write(&l2, 1010);
	memset(bitmap, 0, sizeof bitmap);
	VFIOMIG_INIT(&out);
	atomic_store(&elsewhere, 0);
	l.hook = l2.hook = where;
	rq.max_workers = workers;
	OK(vfiomig_tracker_harvest_many(both, 2, &rq, &out, ERRP));
	CHECK(bitmap[0] == 3ull << 5 && bitmap[1] == 1ull << 10);
	CHECK(out.newly_dirty_pages == 3 && out.dirty_pages == 4);
	CHECK_EQ(out.reads, 3); /* l2 has two ranges */
	/* Only with consent do functions of the VMM run on threads of the library. */
	CHECK_EQ(elsewhere != 0, flags && workers != 1);
	/* None is legal, and does nothing. */
	OK(vfiomig_tracker_harvest_many(NULL, 0, &rq, &out, ERRP));
	CHECK(!out.reads && !out.dirty_pages);
	LOG_END(&l, both[0]);
	LOG_END(&l2, both[1]);
}

int main(void)
{
	static const uint64_t pages[] = {1, 2, 16, 64};

	t_begin();
	main_thread = pthread_self();
	for (int i = 0; i < 4; i++)
		for (int k = 0; k < 4; k++)
			for (uint64_t first_bit = 0; first_bit < 140; first_bit += 1 + random_below(45))
				bits(pages[i], pages[k], first_bit, random_below(2) ? VFIOMIG_DEST_F_ATOMIC : 0);
	for (int words = 0; words < 2; words++)
		for (int i = 0; i < 3; i++)
			stopping(words, false, (uint64_t)i * 33, i == 2 ? UINT32_MAX : words ? 1 : i ? 400 : 60);
	stopping(false, true, 0, 200);
	stopping(false, true, 0, UINT32_MAX);
	shared_page();
	section_by_section();
	watcher();
	only_dests();
	addresses_used_again();
	failed_unmapping();
	many(0, 0);
	many(VFIOMIG_OPS_F_ANY_THREAD, 0);
	many(VFIOMIG_OPS_F_ANY_THREAD, 1);
	many(VFIOMIG_OPS_F_ANY_THREAD, 2);
	return t_end();
}
