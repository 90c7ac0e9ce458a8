/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Class "tracker": the calls of one tracker wait for each other, whatever they are; device data calls and getters go on
 * meanwhile; a callback that calls back gets -EDEADLK; _free waits; and a bitmap that others change at the same time
 * loses no bit (P2).
 */
#include "fake.h"
#include <pthread.h>
#include <semaphore.h>
#include <time.h>

static struct fake_log l, l2;
static struct vfiomig_tracker *t, *other;
static sem_t inside, go, begun;
static atomic_bool hold;
static atomic_int returned;

static void nap(unsigned ms)
{
	const struct timespec time = {ms / 1000, (long)(ms % 1000) * 1000000};

	nanosleep(&time, NULL);
}

/* The log keeps one REPORT until the test lets it go on. */
static void keep(struct fake_log *log, enum log_call call)
{
	(void)log;
	if (call == L_REPORT && atomic_exchange(&hold, false)) {
		sem_post(&inside);
		while (sem_wait(&go))
			;
	}
}

static void begin(void)
{
	fake_log_init(&l);
	l.hook = keep;
	t = fake_log_tracker(&l);
	OK(map_units(t, 0, 64, 0));
	OK(vfiomig_tracker_start(t, ERRP));
	atomic_store(&hold, true);
	atomic_store(&returned, 0);
}

static atomic_bool harvested;

static void *harvester(void *to)
{
	uint64_t word = 0;

	CHECK(!harvest_units(t, 0, 64, to ? to : &word).flags);
	(void)ERRP;
	atomic_store(&harvested, true);
	return NULL;
}

enum call { MAP, UNMAP, START, STOP, HARVEST, MANY, FREE, CALLS };

static void *caller(void *kind)
{
	const struct vfiomig_range range = {0, 64 * UNIT};
	uint64_t word = 0;

	sem_post(&begun);
	switch (*(enum call *)kind) {
	case MAP: OK(map_units(t, FAR_UNIT, 1, 0)); break;
	case UNMAP: OK(vfiomig_tracker_unmap(t, &range, NULL, NULL, 0, NULL, NULL, ERRP)); break;
	case START: OK(vfiomig_tracker_start(t, ERRP)); break;
	case STOP: OK(vfiomig_tracker_stop(t, ERRP)); break;
	case HARVEST: harvest_units(t, 0, 64, &word); break;
	case MANY: OK(vfiomig_tracker_harvest_many(&t, 1, NULL, NULL, ERRP)); break;
	default: vfiomig_tracker_free(t);
	}
	(void)ERRP;
	atomic_fetch_add(&returned, 1);
	return NULL;
}

static void waits(enum call kind)
{
	pthread_t a, b;

	begin();
	pthread_create(&a, NULL, harvester, NULL);
	sem_wait(&inside);
	unsigned reports = l.calls[L_REPORT], starts = l.calls[L_START];
	pthread_create(&b, NULL, caller, &kind);
	sem_wait(&begun);
	nap(100);
	CHECK_EQ(returned, 0);
	CHECK(l.calls[L_REPORT] == reports && l.calls[L_START] == starts && l.calls[L_STOP] == 0);
	/* Getters never wait. */
	CHECK(info_of(t).starts == 1 && info_of(t).mapped_ranges == 1);
	sem_post(&go);
	pthread_join(a, NULL);
	pthread_join(b, NULL);
	CHECK_EQ(returned, 1);
	LOG_END(&l, kind == FREE ? NULL : t);
}

/* All of them wait, and all get their turn. */
static void many_wait(void)
{
	static enum call kinds[] = {MAP, START, HARVEST, MANY, STOP, HARVEST};
	pthread_t a, b[6];

	begin();
	/* A stop may come before the start, and harvests behind both. */
	OK(vfiomig_tracker_start(t, ERRP));
	pthread_create(&a, NULL, harvester, NULL);
	sem_wait(&inside);
	for (int i = 0; i < 6; i++)
		pthread_create(&b[i], NULL, caller, &kinds[i]);
	for (int i = 0; i < 6; i++)
		sem_wait(&begun);
	nap(50);
	CHECK_EQ(returned, 0);
	OK(vfiomig_tracker_start(other, ERRP)); /* another address space does not care */
	OK(vfiomig_tracker_stop(other, ERRP));
	sem_post(&go);
	pthread_join(a, NULL);
	for (int i = 0; i < 6; i++)
		pthread_join(b[i], NULL);
	CHECK_EQ(returned, 6);
	LOG_END(&l, t);
}

/*
 * Devices move their data while their logs are read. Functions of a VMM are called one at a time per device, so a data
 * call may have to wait for one of them, never for the harvest, and never with -EBUSY. The other way round it is the
 * same.
 */
static struct fake f, g;
static struct vfiomig_device *d[2];

/* A call of the class "device" that asks the device each time. */
static void *asker(void *which)
{
	struct vfiomig_device_pending pending;

	VFIOMIG_INIT(&pending);
	OK(vfiomig_device_get_pending(d[*(int *)which], VFIOMIG_PENDING_F_EXACT, &pending, ERRP));
	(void)ERRP;
	atomic_fetch_add(&returned, 1);
	return NULL;
}

static void keep_asking(struct fake *fake, enum fake_call call)
{
	(void)fake;
	if (call == C_PRECOPY && atomic_exchange(&hold, false)) {
		sem_post(&inside);
		while (sem_wait(&go))
			;
	}
}

static void devices_go_on(void)
{
	static int first = 0, second = 1;
	struct vfiomig_tracker_options o;
	pthread_t a, b;
	uint64_t word = 0;

	fake_init(&f);
	fake_init(&g);
	fake_log_init(&l);
	fake_log_init(&l2);
	f.log = &l;
	g.log = &l2;
	d[0] = fake_device(&f);
	d[1] = fake_device(&g);
	VFIOMIG_INIT(&o);
	o.devices = d;
	o.device_count = 2;
	OK(vfiomig_tracker_new(&o, &t, ERRP));
	OK(map_units(t, 0, 64, 0));
	OK(vfiomig_tracker_start(t, ERRP));
	OK(fake_to(d[0], S_PRE_COPY));
	OK(fake_to(d[1], S_PRE_COPY));

	l2.hook = keep; /* a harvest hangs in the second device */
	atomic_store(&hold, true);
	atomic_store(&returned, 0);
	pthread_create(&a, NULL, harvester, NULL);
	sem_wait(&inside);
	for (int i = 0; i < 3; i++)
		asker(&first);
	OK(fake_to(d[0], S_STOP_COPY));
	pthread_create(&b, NULL, asker, &second);
	nap(50);
	CHECK_EQ(returned, 3);
	sem_post(&go);
	pthread_join(a, NULL);
	pthread_join(b, NULL);
	CHECK_EQ(returned, 4);

	g.hook = keep_asking; /* a data call hangs in it */
	atomic_store(&hold, true);
	atomic_store(&returned, 0);
	pthread_create(&a, NULL, asker, &second);
	sem_wait(&inside);
	log_write(&l2, 9);
	atomic_store(&harvested, false);
	pthread_create(&b, NULL, harvester, &word);
	nap(50);
	CHECK(!returned && !harvested);
	sem_post(&go);
	pthread_join(a, NULL);
	pthread_join(b, NULL);
	CHECK_EQ(word, 1 << 9);
	LOG_END(&l, t);
	LOG_END(&l2, NULL);
	FAKE_END(&f, d[0]);
	FAKE_END(&g, d[1]);
}

/* --- re-entry ----------------------------------------------------------------------------------------------------- */

static unsigned reentered, errors;
static bool armed;
static atomic_bool nested;

static void on_log(void *opaque, int level, const char *message)
{
	(void)opaque;
	(void)message;
	errors += level <= VFIOMIG_LOG_ERROR;
}

static void try_all(struct vfiomig_tracker *mine)
{
	const struct vfiomig_range range = {0, 64 * UNIT};
	const struct vfiomig_mapping m = {.iova = 1000 * UNIT, .size = UNIT};
	struct vfiomig_error *e[6] = {NULL};
	int result[6], n = 0;

	if (!armed || atomic_exchange(&nested, true))
		return;
	reentered++;
	/* Not ERRP: the outer call is using it. */
#define TRY(call_) (result[n] = (call_), n++)
	TRY(vfiomig_tracker_map(mine, &m, 1, &e[n]));
	TRY(vfiomig_tracker_unmap(mine, &range, NULL, NULL, 0, NULL, NULL, &e[n]));
	TRY(vfiomig_tracker_start(mine, &e[n]));
	TRY(vfiomig_tracker_stop(mine, &e[n]));
	TRY(vfiomig_tracker_harvest(mine, NULL, NULL, &e[n]));
	TRY(vfiomig_tracker_harvest_many(&mine, 1, NULL, NULL, &e[n]));
	for (int i = 0; i < n; i++) {
		if (!CHECK_EQ(result[i], -EDEADLK) || !CHECK_EQ(vfiomig_error_code(e[i]), VFIOMIG_ERR_BUSY))
			printf("call %d: %s\n", i, vfiomig_error_message(e[i]));
		vfiomig_error_free(e[i]);
	}
	vfiomig_tracker_free(mine); /* frees nothing */
	struct vfiomig_tracker_info info;
	VFIOMIG_INIT(&info);
	CHECK_EQ(vfiomig_tracker_get_info(mine, &info, NULL), 0);
	/* Another address space is no stranger to a callback. */
	CHECK_EQ(vfiomig_tracker_start(other, NULL), 0);
	CHECK_EQ(vfiomig_tracker_harvest(other, NULL, NULL, NULL), 0);
	CHECK_EQ(vfiomig_tracker_stop(other, NULL), 0);
	atomic_store(&nested, false);
}

static void from_log(struct fake_log *log, enum log_call call)
{
	(void)log;
	(void)call;
	try_all(t);
}

static int from_words(void *opaque, void *dest_opaque, uint64_t first_bit, const uint64_t *words, size_t count)
{
	(void)opaque, (void)dest_opaque, (void)first_bit, (void)words, (void)count;
	try_all(t);
	return 0;
}

static int from_run(void *opaque, uint64_t cookie, uint64_t iova, uint64_t size)
{
	(void)opaque, (void)cookie, (void)iova, (void)size;
	try_all(t);
	return 0;
}

static int from_unmap(void *opaque, const struct vfiomig_range *range)
{
	(void)opaque, (void)range;
	try_all(t);
	return 0;
}

static void reentry(void)
{
	const struct vfiomig_range range = {64 * UNIT, 64 * UNIT};
	struct vfiomig_dest dest = dest_units(0, 64, NULL);
	struct vfiomig_harvest_request rq = request_for(&dest, 1);

	vfiomig_set_log(on_log, NULL, VFIOMIG_LOG_ERROR);
	fake_log_init(&l);
	t = fake_log_tracker(&l);
	OK(map_units(t, 0, 64, 0));
	OK(map_units(t, 64, 64, 0));
	l.hook = from_log;
	armed = true;
#define REENTERS(call) (reentered = errors = 0, OK(call), CHECK(reentered && errors == reentered))
	REENTERS(vfiomig_tracker_start(t, ERRP)); /* start, report */
	REENTERS(vfiomig_tracker_harvest(t, NULL, NULL, ERRP));
	REENTERS(map_units(t, FAR_UNIT, 1, 0)); /* stop, start */
	l.hook = NULL;
	rq.words = from_words;
	REENTERS(vfiomig_tracker_harvest(t, &rq, NULL, ERRP));
	rq.words = NULL;
	rq.run = from_run;
	log_write(&l, 1);
	REENTERS(vfiomig_tracker_harvest(t, &rq, NULL, ERRP));
	REENTERS(vfiomig_tracker_unmap(t, &range, from_unmap, NULL, 0, NULL, NULL, ERRP));
	l.hook = from_log;
	REENTERS(vfiomig_tracker_stop(t, ERRP));
	OK(vfiomig_tracker_start(t, ERRP));
	/* The last callback of all is stop, from inside _free. */
	reentered = errors = 0;
	vfiomig_tracker_free(t);
	CHECK(reentered == 1 && errors == 1);
	armed = false;
	LOG_END(&l, NULL);
	vfiomig_set_log(NULL, NULL, 0);
}

/* Also where a worker of the library made the callback: the call that waits for the worker has the tracker. */
static void reentry_from_a_worker(void)
{
	struct vfiomig_tracker *both[2];

	vfiomig_set_log(on_log, NULL, VFIOMIG_LOG_ERROR);
	fake_log_init(&l);
	fake_log_init(&l2);
	both[0] = t = fake_log_tracker_with(&l, 0, VFIOMIG_OPS_F_ANY_THREAD);
	both[1] = fake_log_tracker_with(&l2, 0, VFIOMIG_OPS_F_ANY_THREAD);
	for (int i = 0; i < 2; i++) {
		OK(map_units(both[i], 0, 64, 0));
		OK(vfiomig_tracker_start(both[i], ERRP));
	}
	/* From one log on the other's tracker, which the same call has: it would wait for itself. */
	l2.hook = from_log;
	armed = true;
	reentered = errors = 0;
	OK(vfiomig_tracker_harvest_many(both, 2, NULL, NULL, ERRP));
	CHECK(reentered == 1 && errors == 1);
	armed = false;
	l2.hook = NULL;
	LOG_END(&l, both[0]);
	LOG_END(&l2, both[1]);
	vfiomig_set_log(NULL, NULL, 0);
}

/* --- a bitmap that others change ---------------------------------------------------------------------------------- */

/*
 * A migration in small. A device and a vCPU write pages; the page is written first, then its bit is set: the device's
 * in its log, the vCPU's in the migration's bitmap. The migration takes bits away and copies the pages.
 *
 * Each bit that was set by the vCPU or by a harvest where none was is taken once: one that is lost, or put back after
 * it was taken, shows in the sums. In the end each copy is equal to its page.
 *
 * Two threads, which run side by side also on small machines, and a bitmap of a few cache lines: vCPU and migration in
 * one, harvests in the other, which also plays the device and has something for most words each time.
 */
enum { PAGES = 4096 };
static atomic_uint ram[PAGES], copy[PAGES];
static _Atomic uint64_t dirty[PAGES / 64];
static uint64_t set, taken;
static atomic_bool over;

static void take_dirty(unsigned word)
{
	uint64_t bits = atomic_exchange_explicit(&dirty[word], 0, memory_order_acquire);

	taken += (unsigned)__builtin_popcountll(bits);
	for (unsigned page = word * 64; bits; page++, bits >>= 1)
		if (bits & 1)
			atomic_store_explicit(&copy[page], atomic_load_explicit(&ram[page], memory_order_relaxed),
					      memory_order_relaxed);
}

/* Pages of the device are even, without those divisible by 8, at which the other thread takes bits away. */
static void device_writes(void)
{
	static unsigned step;

	for (unsigned word = 0; word < PAGES / 64; word++) {
		unsigned page = word * 64 + (step + word) % 8 * 8 + 2 + (step + word) % 3 * 2;

		atomic_fetch_add_explicit(&ram[page], 1, memory_order_relaxed);
		log_write(&l, page);
	}
	step++;
}

static void *rest_of_the_vm(void *unused)
{
	(void)unused;
	for (unsigned r = 1; !atomic_load_explicit(&over, memory_order_relaxed); r = r * 1103515245u + 12345u) {
		unsigned page = r >> 8 & (PAGES - 1);
		uint64_t bit = 1ull << (page % 64);

		if (page % 8 == 0)
			take_dirty(page / 64);
		if (page % 2 == 0)
			continue;
		atomic_fetch_add_explicit(&ram[page], 1, memory_order_relaxed);
		set += !(atomic_fetch_or_explicit(&dirty[page / 64], bit, memory_order_release) & bit);
	}
	return NULL;
}

/* Page 0 is never written. Misaligned by one bit: the library merges words, and parts of them. */
static uint64_t harvest_dirty(void)
{
	struct vfiomig_dest dest = dest_units(1, PAGES - 1, (uint64_t *)(void *)dirty);
	struct vfiomig_harvest_request rq = request_for(&dest, 1);
	struct vfiomig_harvest_result out;

	dest.first_bit = 1;
	dest.flags = VFIOMIG_DEST_F_ATOMIC;
	VFIOMIG_INIT(&out);
	OK(vfiomig_tracker_harvest(t, &rq, &out, ERRP));
	return out.newly_dirty_pages;
}

static unsigned since_ms(const struct timespec *begun)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (unsigned)((now.tv_sec - begun->tv_sec) * 1000 + (now.tv_nsec - begun->tv_nsec) / 1000000);
}

static void no_bit_is_lost(void)
{
	pthread_t thread;
	uint64_t reported = 0, different = 0;
	struct timespec begun;

	fake_log_init(&l);
	t = fake_log_tracker(&l);
	OK(map_units(t, 0, PAGES, 0));
	OK(vfiomig_tracker_start(t, ERRP));
	pthread_create(&thread, NULL, rest_of_the_vm, NULL);
	clock_gettime(CLOCK_MONOTONIC, &begun);
	do {
		device_writes();
		reported += harvest_dirty();
	} while (since_ms(&begun) < 2000);
	atomic_store(&over, true);
	pthread_join(thread, NULL);
	reported += harvest_dirty();
	for (unsigned word = 0; word < PAGES / 64; word++)
		take_dirty(word);
	for (unsigned page = 0; page < PAGES; page++)
		different += ram[page] != copy[page];
	CHECK_EQ(taken, set + reported);
	CHECK_EQ(different, 0);
	CHECK(set > 1000 && reported > 100);
	printf("%llu bits set by others, %llu by harvests\n", (unsigned long long)set, (unsigned long long)reported);
	LOG_END(&l, t);
}

int main(void)
{
	enum call kind;

	t_begin();
	sem_init(&inside, 0, 0);
	sem_init(&go, 0, 0);
	sem_init(&begun, 0, 0);
	OK(vfiomig_tracker_new(NULL, &other, ERRP));
	for (kind = MAP; kind < CALLS; kind++)
		waits(kind);
	many_wait();
	devices_go_on();
	reentry();
	reentry_from_a_worker();
	no_bit_is_lost();
	vfiomig_tracker_free(other);
	return t_end();
}
