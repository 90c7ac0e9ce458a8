/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A strict dirty log, behind struct vfiomig_tracker_ops or behind the DMA log features of fake.h's device. It knows
 * which pages were written and tells each once, judges every request (rules L1 to L9, I6), fails on demand, counts
 * everything.
 */
#ifndef FAKE_LOG_H
#define FAKE_LOG_H

#include "harness.h"
#include <stdarg.h>
#include <stdbool.h>

#define UNIT 4096ull
/* The log knows so many units of IOVA, from `origin` on. */
#define LOG_UNITS (1u << 19)
/* A unit that is held and read apart from those near 0. */
#define FAR_UNIT (1u << 21)
/* Ranges of one START; the kernel takes no more on 4 KiB pages (L1). */
#define LOG_RANGES 256

enum log_call { L_START, L_REPORT, L_STOP, L_COUNT };

struct log_fault {
	enum log_call call;
	unsigned at;    /* fails the at-th of these calls from now on; 0: no fault */
	int error;
	bool sticky;    /* and all later ones */
	bool late;      /* after its work was done: REPORT has cleared a part of its records (L6) */
	unsigned seen;
};

struct fake_log {
	/* What it is; set before the first call. */
	uint64_t origin;        /* IOVA of unit 0 */
	uint64_t page_size;     /* smallest page of its own; 0: what it is asked for */
	size_t most;            /* ranges that it takes, else E2BIG; 0: LOG_RANGES */
	bool all;               /* everything is dirty at each REPORT */
	bool spill;             /* sets bits past the last page, as kernels do (I6) */
	struct log_fault fault[2];
	void (*hook)(struct fake_log *l, enum log_call call); /* runs in every call, before it is answered */

	/* What became of it. */
	_Atomic uint64_t bits[LOG_UNITS / 64];
	atomic_bool running;
	struct vfiomig_range range[LOG_RANGES];
	size_t count;
	uint64_t page;          /* of the last START */
	atomic_uint calls[L_COUNT];
	atomic_uint violations;
	atomic_bool busy;
	bool freed;
};

static inline void fake_log_init(struct fake_log *l)
{
	memset(l, 0, sizeof *l);
}

static inline void log_violation(struct fake_log *l, const char *format, ...)
{
	va_list list;

	va_start(list, format);
	printf("violation: ");
	vprintf(format, list);
	putchar('\n');
	va_end(list);
	atomic_fetch_add(&l->violations, 1);
}

/* A device writes a page: logged if the log runs, and only within its ranges. */
static inline void log_write(struct fake_log *l, uint64_t unit)
{
	uint64_t iova = l->origin + unit * UNIT;

	if (!atomic_load(&l->running))
		return;
	for (size_t i = 0; i < l->count; i++)
		if (iova - l->range[i].iova < l->range[i].size)
			atomic_fetch_or(&l->bits[unit / 64], 1ull << (unit % 64));
}

static inline const struct log_fault *log_enter(struct fake_log *l, enum log_call call)
{
	const struct log_fault *hit = NULL;

	if (atomic_exchange(&l->busy, true))
		log_violation(l, "two calls of one log at once (kind %d)", call);
	if (l->freed)
		log_violation(l, "a call after _free (kind %d)", call);
	atomic_fetch_add(&l->calls[call], 1);
	if (l->hook)
		l->hook(l, call);
	for (size_t i = 0; i < sizeof l->fault / sizeof *l->fault; i++) {
		struct log_fault *fault = &l->fault[i];

		if (!fault->at || fault->call != call)
			continue;
		fault->seen++;
		if (fault->seen == fault->at || (fault->sticky && fault->seen > fault->at))
			hit = fault;
	}
	return hit;
}

static inline int log_leave(struct fake_log *l, int result)
{
	atomic_store(&l->busy, false);
	return result;
}

static inline bool log_power_of_two(uint64_t n)
{
	return n && !(n & (n - 1));
}

static inline int fake_log_start(void *opaque, const struct vfiomig_range *ranges, size_t count, uint64_t *page_size)
{
	struct fake_log *l = opaque;
	const struct log_fault *fault = log_enter(l, L_START);
	uint64_t hint = *page_size;

	if (atomic_load(&l->running))
		log_violation(l, "L1: START while started");
	if (!count || count > LOG_RANGES)
		log_violation(l, "L1: START with %zu ranges", count);
	if (hint < UNIT || !log_power_of_two(hint))
		log_violation(l, "L2: START with a page size of %#llx", (unsigned long long)hint);
	for (size_t i = 0; i < count; i++) {
		uint64_t end = ranges[i].iova + ranges[i].size;

		if (!ranges[i].size || end <= ranges[i].iova)
			log_violation(l, "L2: a range of no bytes, or up to 2^64");
		if ((ranges[i].iova | ranges[i].size) & (hint - 1))
			log_violation(l, "L2: a range that is not whole pages of the hint");
		for (size_t k = 0; k < i; k++)
			if (ranges[i].iova < ranges[k].iova + ranges[k].size && ranges[k].iova < end)
				log_violation(l, "L2: ranges overlap");
	}
	if (fault)
		return log_leave(l, -fault->error);
	if (count > (l->most ? l->most : LOG_RANGES))
		return log_leave(l, -E2BIG);
	memcpy(l->range, ranges, count * sizeof *ranges);
	l->count = count;
	l->page = hint > l->page_size ? hint : l->page_size;
	*page_size = l->page;
	/* N25: starting clears. */
	for (size_t i = 0; i < LOG_UNITS / 64; i++)
		atomic_store(&l->bits[i], 0);
	atomic_store(&l->running, true);
	return log_leave(l, 0);
}

/* Takes the records of a started range, up to `most` of them. */
static inline void log_take(struct fake_log *l, uint64_t iova, uint64_t size, uint64_t *bitmap, unsigned most)
{
	/* Ranges may begin before the first unit and end behind the last. */
	size_t from = iova > l->origin ? (size_t)((iova - l->origin) / UNIT / 64) : 0;
	size_t to = (size_t)((iova - l->origin + size - 1) / UNIT / 64) + 1;

	for (size_t word = from; word < to && word < LOG_UNITS / 64; word++) {
		uint64_t first = l->origin + word * 64 * UNIT, mask = 0;

		if (!atomic_load(&l->bits[word]))
			continue;
		for (unsigned bit = 0; bit < 64; bit++)
			if (first + bit * UNIT - iova < size)
				mask |= 1ull << bit;
		uint64_t taken = atomic_fetch_and(&l->bits[word], ~mask) & mask;
		for (unsigned bit = 0; bit < 64; bit++) {
			uint64_t n = (first + bit * UNIT - iova) / l->page;

			if (taken >> bit & 1 && most) {
				bitmap[n / 64] |= 1ull << (n % 64);
				most--;
			}
		}
	}
}

static inline int fake_log_report(void *opaque, uint64_t iova, uint64_t size, uint64_t page_size, uint64_t *bitmap)
{
	struct fake_log *l = opaque;
	const struct log_fault *fault = log_enter(l, L_REPORT);
	/* To the end of the memory page: kernels write there (I6), so it must be the library's own. */
	const uint64_t pages = size / l->page, words = (pages + 32767) / 32768 * 512;
	bool known = false, clean = true;

	if (!atomic_load(&l->running)) {
		log_violation(l, "L5: REPORT although nothing was started");
		return log_leave(l, -EINVAL);
	}
	/* A started range, or a part of one that is whole words of its bitmap. */
	for (size_t i = 0; i < l->count; i++) {
		uint64_t skip = iova - l->range[i].iova;
		bool inside = iova >= l->range[i].iova && skip < l->range[i].size && size <= l->range[i].size - skip;

		known |= inside && skip % (64 * page_size) == 0 &&
			 (size % (64 * page_size) == 0 || skip + size == l->range[i].size);
	}
	if (!known || page_size != l->page) {
		log_violation(l, "L7: REPORT of %#llx + %#llx with pages of %#llx is no part of a started range",
			      (unsigned long long)iova, (unsigned long long)size, (unsigned long long)page_size);
		return log_leave(l, -EINVAL);
	}
	if ((uintptr_t)bitmap % 4096)
		log_violation(l, "I6: the bitmap is no whole page");
	for (size_t i = 0; i < words; i++)
		clean &= !bitmap[i];
	if (!clean)
		log_violation(l, "L5: the bitmap has bits in it");
	if (fault && !fault->late)
		return log_leave(l, -fault->error);
	if (l->all)
		memset(bitmap, 0xff, words * 8);
	else
		log_take(l, iova, size, bitmap, fault ? 1 : UINT32_MAX);
	if (l->spill && pages < words * 64)
		bitmap[words - 1] |= 1ull << 63;
	return log_leave(l, fault ? -fault->error : 0);
}

static inline int fake_log_stop(void *opaque)
{
	struct fake_log *l = opaque;
	const struct log_fault *fault = log_enter(l, L_STOP);

	/* A log that a device stopped itself is no error (L8), but this one does not. */
	if (!atomic_load(&l->running))
		log_violation(l, "STOP although nothing was started");
	if (!fault || fault->late)
		atomic_store(&l->running, false);
	return log_leave(l, fault ? -fault->error : 0);
}

static inline void fake_log_ops(struct vfiomig_tracker_ops *ops)
{
	VFIOMIG_INIT(ops);
	ops->start = fake_log_start;
	ops->report = fake_log_report;
	ops->stop = fake_log_stop;
}

/* A tracker named "fake log"; `flags`: VFIOMIG_OPS_F_ANY_THREAD or 0. */
static inline struct vfiomig_tracker *fake_log_tracker_with(struct fake_log *l, uint64_t page_size, uint32_t flags)
{
	struct vfiomig_tracker_ops ops;
	struct vfiomig_tracker_options options;
	struct vfiomig_tracker *t = NULL;

	fake_log_ops(&ops);
	ops.flags = flags;
	VFIOMIG_INIT(&options);
	options.name = "fake log";
	options.page_size = page_size;
	OK(vfiomig_tracker_new_ops(&ops, l, &options, &t, ERRP));
	if (!t) {
		printf("no tracker to test with\n");
		exit(1);
	}
	/* They were copied: the library must not look at them any more. */
	memset(&ops, 0x5a, sizeof ops);
	memset(&options, 0x5a, sizeof options);
	return t;
}

static inline struct vfiomig_tracker *fake_log_tracker(struct fake_log *l)
{
	return fake_log_tracker_with(l, 0, 0);
}

/* Frees the tracker, and judges: nothing forbidden was asked, the log was stopped, no call is left. */
#define LOG_END(l, t) log_end((l), (t), __FILE__, __LINE__)

static inline void log_end(struct fake_log *l, struct vfiomig_tracker *t, const char *file, int line)
{
	vfiomig_tracker_free(t);
	l->freed = true;
	t_eq(atomic_load(&l->running), 0, "the log was stopped", file, line);
	t_eq(atomic_load(&l->violations), 0, "no violations", file, line);
}

/* --- what tests say in units of 4096 bytes ------------------------------------------------------------------------ */

static inline int map_units(struct vfiomig_tracker *t, uint64_t unit, uint64_t count, uint64_t cookie)
{
	const struct vfiomig_mapping m = {.iova = unit * UNIT, .size = count * UNIT, .cookie = cookie};

	return vfiomig_tracker_map(t, &m, 1, ERRP);
}

static inline struct vfiomig_dest dest_units(uint64_t unit, uint64_t count, uint64_t *bitmap)
{
	return (struct vfiomig_dest){.iova = unit * UNIT, .size = count * UNIT, .page_size = UNIT, .bitmap = bitmap};
}

static inline struct vfiomig_harvest_request request_for(const struct vfiomig_dest *dests, size_t count)
{
	struct vfiomig_harvest_request rq;

	VFIOMIG_INIT(&rq);
	rq.dests = dests;
	rq.dest_count = count;
	return rq;
}

static inline bool bit_of(const uint64_t *bitmap, uint64_t n)
{
	return bitmap[n / 64] >> (n % 64) & 1;
}

static inline uint64_t bits_in(const uint64_t *bitmap, size_t words)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < words; i++)
		sum += (unsigned)__builtin_popcountll(bitmap[i]);
	return sum;
}

/* Harvests into a plain bitmap, bit n for unit `unit` + n, and checks that it could. */
static inline struct vfiomig_harvest_result harvest_units(struct vfiomig_tracker *t, uint64_t unit, uint64_t count,
							  uint64_t *bitmap)
{
	const struct vfiomig_dest dest = dest_units(unit, count, bitmap);
	const struct vfiomig_harvest_request rq = request_for(&dest, 1);
	struct vfiomig_harvest_result out;

	VFIOMIG_INIT(&out);
	OK(vfiomig_tracker_harvest(t, &rq, &out, ERRP));
	return out;
}

static inline struct vfiomig_tracker_info info_of(const struct vfiomig_tracker *t)
{
	struct vfiomig_tracker_info info;

	VFIOMIG_INIT(&info);
	OK(vfiomig_tracker_get_info(t, &info, ERRP));
	return info;
}

#endif
