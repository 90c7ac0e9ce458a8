/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Promise: a whole pre-copy loses nothing. A device writes to memory all the
 * time, until it is stopped; its memory is copied once and then page by page as
 * harvests tell, while its state is streamed; mappings go and come back
 * meanwhile. After the final harvest both memories are equal, byte by byte, and
 * the loaded device is its equal. For every log that the kernel has.
 *
 * usage: k-dirty-migrate group|cdev [SEED]
 */
#include "dirty.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define CELLS 5u	     /* mappings, each somewhere in a cell of its own */
#define CELL_PAGES 300u
#define ROUNDS 6
#define DMA_PAGES_MAX 12u

static struct testdev source, target;
static struct space from, to;
static uint64_t seed;

/* xorshift64*: one state for each thread. */
static uint32_t draw(uint64_t *state, uint32_t below)
{
	*state ^= *state >> 12;
	*state ^= *state << 25;
	*state ^= *state >> 27;
	return (uint32_t)((*state * 0x2545f4914f6cdd1dull) >> 32) % below;
}

/* ---- the device at work ------------------------------------------------------------ */

static struct vfiomig_mapping mapped[CELLS];
static atomic_uint written; /* DMAs that did all they should */

/* Writes here and there, also where nothing is mapped any more, until the device stands. */
static void *guest(void *unused)
{
	uint64_t state = seed ^ 0x9e3779b97f4a7c15ull;
	int ret;

	for (uint32_t value = 1;; value++) {
		const struct vfiomig_mapping *m = &mapped[draw(&state, CELLS)];
		uint32_t pages = (uint32_t)(m->size / PAGE);
		uint32_t first = draw(&state, pages), count = 1 + draw(&state, DMA_PAGES_MAX);

		/* Half of it hits the same few pages again and again. */
		if (value % 2)
			first = draw(&state, pages < 9 ? pages : 9);
		testdev_set(&source, TESTDEV_DMA_VALUE, value);
		ret = dma_write(&source, (uint32_t)(m->iova / PAGE) + first,
				count < pages - first ? count : pages - first);
		if (ret == -EBUSY)
			return unused;
		if (!ret)
			written++;
		/* The registers have one lock, and who takes it again at once keeps others out. */
		nanosleep(&(struct timespec){ .tv_nsec = 20000 }, NULL);
	}
}

/* ---- what a VMM does ------------------------------------------------------------------- */

static uint64_t copied;

static void copy_range(uint64_t iova, uint64_t size)
{
	memcpy(to.memory + iova, from.memory + iova, size);
	copied += size / PAGE;
}

static void copy_pages(const struct pages *dirty)
{
	for (uint32_t page = 0; page < SPACE_PAGES; page++) {
		if (pages_have(dirty, page))
			copy_range(page * PAGE, PAGE);
	}
}

static int copy_run(void *opaque, uint64_t cookie, uint64_t iova, uint64_t size)
{
	(void)opaque;
	(void)cookie;
	copy_range(iova, size);
	return 0;
}

static int copy_words(void *opaque, void *dest_opaque, uint64_t first_bit, const uint64_t *words,
		      size_t count)
{
	(void)opaque;
	(void)dest_opaque;
	for (uint64_t bit = 0; bit < count * 64; bit++) {
		if (words[bit / 64] >> bit % 64 & 1)
			copy_range((first_bit + bit) * PAGE, PAGE);
	}
	return 0;
}

enum how { BITMAP, RUNS, WORDS, SECTIONS, HOWS };

/* Harvests in one of the ways a VMM may, and copies. */
static void harvest_and_copy(enum how how)
{
	struct vfiomig_dest dest = { .size = SPACE_PAGES * PAGE, .page_size = PAGE };
	struct vfiomig_harvest_request request;
	struct vfiomig_harvest_result result;
	struct pages got = { 0 };

	VFIOMIG_INIT(&request);
	VFIOMIG_INIT(&result);
	request.dests = &dest;
	request.dest_count = 1;
	switch (how) {
	case BITMAP:
		dest.bitmap = got.word;
		break;
	case RUNS:
		request.dest_count = 0;
		request.run = copy_run;
		break;
	case WORDS:
		request.words = copy_words;
		break;
	default:
		/* Cell by cell, and the kernel is asked once (NO_READ). */
		for (uint32_t cell = 0; cell < CELLS; cell++) {
			dest.iova = cell * CELL_PAGES * PAGE;
			dest.size = CELL_PAGES * PAGE;
			dest.first_bit = cell * CELL_PAGES;
			dest.bitmap = got.word;
			request.flags = cell ? VFIOMIG_HARVEST_F_NO_READ : 0;
			OK(vfiomig_tracker_harvest(from.tracker, &request, &result, ERR));
			CHECK_EQ(result.flags, 0);
		}
		copy_pages(&got);
		return;
	}
	OK(vfiomig_tracker_harvest(from.tracker, &request, &result, ERR));
	CHECK_EQ(result.flags, 0);
	copy_pages(&got);
}

/* A mapping goes while the device writes to it, and may come back. */
static void remap(uint32_t cell, bool by_library, bool comes_back)
{
	const uint32_t first = (uint32_t)(mapped[cell].iova / PAGE);
	const uint32_t count = (uint32_t)(mapped[cell].size / PAGE);
	struct pages got;

	CHECK_EQ(space_unmap(&from, first, count, by_library ? VFIOMIG_UNMAP_F_LIBRARY : 0,
			     by_library ? NULL : raw_unmap_range, &got).flags, 0);
	copy_pages(&got);
	if (comes_back)
		space_map(&from, first, count);
}

static void memories_are_equal(void)
{
	for (uint32_t page = 0; page < CELLS * CELL_PAGES; page++) {
		const uint32_t *a = (const uint32_t *)(from.memory + page * PAGE);
		const uint32_t *b = (const uint32_t *)(to.memory + page * PAGE);

		if (memcmp(a, b, PAGE))
			lab_fail(__FILE__, __LINE__, "page %u: written %u, copied %u", page, a[1], b[1]);
	}
}

struct kind {
	const char *config;
	uint32_t flags; /* of the tracker */
	uint32_t log;	/* that is read */
	bool by_library; /* unmaps, as only then type1 is exact */
};

static void map_all(uint64_t *state)
{
	for (uint32_t cell = 0; cell < CELLS; cell++) {
		uint32_t count = 1 + draw(state, CELL_PAGES);
		uint32_t first = cell * CELL_PAGES + draw(state, CELL_PAGES - count + 1);

		space_map(&from, first, count);
		space_map(&to, first, count);
		mapped[cell] = (struct vfiomig_mapping){ .iova = first * PAGE, .size = count * PAGE };
		for (uint32_t page = first; page < first + count; page++)
			memset(from.memory + page * PAGE, (int)draw(state, 256), PAGE);
	}
}

static uint64_t smallest_mapping(void)
{
	uint64_t size = UINT64_MAX;

	for (uint32_t cell = 0; cell < CELLS; cell++)
		size = mapped[cell].size < size ? mapped[cell].size : size;
	return size;
}

/* Something happens, however slow the machine. */
static void wait_for_writes(unsigned int count)
{
	unsigned int before = written;

	while (written < before + count)
		nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
}

static void stream_rounds(enum way way, uint64_t *state, const struct kind *kind)
{
	for (int round = 0; round < ROUNDS; round++) {
		wait_for_writes(5);
		if (round == 2)
			remap(draw(state, 2), kind->by_library, true);
		if (round == 4)
			remap(2 + draw(state, 3), kind->by_library, false);
		harvest_and_copy((enum how)draw(state, HOWS));
		testdev_dirty(&source, 2);
		CHECK_EQ(pump(&source, &target, way, &(struct traffic){ 0 }), VFIOMIG_CHUNK_EMPTY);
	}
}

static void migrate_memory(const struct kind *kind, enum way way)
{
	uint64_t state = ++seed;
	pthread_t thread;
	uint32_t total;

	lab_step("%s, flags %#x, %s, seed %llu", kind->config, kind->flags, way_names[way],
		 (unsigned long long)seed);
	testdev_open(&source, 1, kind->config, 0);
	testdev_open(&target, 2, kind->config, 0);
	space_open(&from, &source.device);
	space_open(&to, &target.device);
	map_all(&state);
	space_track(&from, source.d, kind->flags);
	fill_both(&source, &target);
	written = 0;
	copied = 0;
	CHECK_EQ(pthread_create(&thread, NULL, guest, NULL), 0);
	wait_for_writes(1);

	GO(target.d, VFIOMIG_STATE_RESUMING);
	/*
	 * The draft's log begins with the session, which knows everything only if it is open before the tracker starts
	 * (D8, P14).
	 */
	if (kind->log == VFIOMIG_TRACKER_KIND_DRAFT)
		GO(source.d, VFIOMIG_STATE_PRE_COPY);
	OK(vfiomig_tracker_start(from.tracker, ERR));
	CHECK_EQ(space_info(&from).kind, kind->log);
	/*
	 * Of a container the start reads the smallest mapping: a DMA or two at this moment may dirty all of a small one
	 * (T5).
	 */
	if (kind->log != VFIOMIG_TRACKER_KIND_TYPE1 || smallest_mapping() > 2 * DMA_PAGES_MAX * PAGE)
		CHECK_EQ(space_info(&from).flags, 0);
	if (kind->log != VFIOMIG_TRACKER_KIND_DRAFT)
		GO(source.d, VFIOMIG_STATE_PRE_COPY);
	for (uint32_t cell = 0; cell < CELLS; cell++)
		copy_range(mapped[cell].iova, mapped[cell].size);
	total = (uint32_t)copied;
	stream_rounds(way, &state, kind);
	CHECK_EQ(space_info(&from).flags, 0);

	if (source.p2p)
		GO(source.d, VFIOMIG_STATE_PRE_COPY_P2P);
	GO(source.d, VFIOMIG_STATE_STOP_COPY);
	pthread_join(thread, NULL);
	harvest_and_copy((enum how)draw(&state, HOWS));
	CHECK_EQ(pump(&source, &target, way, &(struct traffic){ 0 }), VFIOMIG_CHUNK_END);
	DIRTY_ARE(&from, "");
	memories_are_equal();
	OK(vfiomig_tracker_stop(from.tracker, ERR));
	GO(source.d, VFIOMIG_STATE_STOP);
	finish_load(&source, &target);
	CHECK_EQ(testdev_get(&target, TESTDEV_CRC), testdev_get(&source, TESTDEV_CRC_NOW));
	printf("%s: %u pages, %llu sent again, %u DMAs\n", kind->config, total,
	       (unsigned long long)copied - total, written);

	/* The loaded device writes to the memory that came with it. */
	DMA(&target, (uint32_t)(mapped[0].iova / PAGE), 1);
	CHECK(!memcmp(to.memory + mapped[0].iova, &(uint32_t){ (uint32_t)(mapped[0].iova / PAGE) }, 4));
	space_close(&from);
	space_close(&to);
	GO(source.d, VFIOMIG_STATE_RUNNING);
	testdev_close(&source);
	testdev_close(&target);
}

#define SMALL " state=64K segment=8K"

static const struct kind device_logs[] = {
	{ "dialect=v2" SMALL, 0, VFIOMIG_TRACKER_KIND_DMA_LOG, false },
	{ "dialect=v2 log_ranges=2" SMALL, 0, VFIOMIG_TRACKER_KIND_DMA_LOG, false },
	{ "dialect=v2 log_page=64K" SMALL, 0, VFIOMIG_TRACKER_KIND_DMA_LOG, false },
};
static const struct kind containers[] = {
	{ "dialect=v2" SMALL, VFIOMIG_TRACKER_F_NO_DEVICE_LOG, VFIOMIG_TRACKER_KIND_TYPE1, true },
	{ "dialect=v1" SMALL, 0, VFIOMIG_TRACKER_KIND_TYPE1, true },
	{ "dialect=v1 ndma=1" SMALL, 0, VFIOMIG_TRACKER_KIND_TYPE1, false },
};
static const struct kind drafts[] = {
	{ "dialect=draft2" SMALL, 0, VFIOMIG_TRACKER_KIND_DRAFT, false },
	{ "dialect=draft3 bitmap_pfns=100" SMALL, 0, VFIOMIG_TRACKER_KIND_DRAFT, false },
	{ "dialect=draft3 bitmap_all=1" SMALL, 0, VFIOMIG_TRACKER_KIND_DRAFT, false },
};
#define KINDS 3

/* Debian's kernel cannot read the device's log: the container's is taken instead. */
static const struct kind fallback = { "dialect=v2" SMALL, 0, VFIOMIG_TRACKER_KIND_TYPE1, true };

int main(int argc, char **argv)
{
	bool works;

	testdev_begin(argc, argv);
	seed = argc > 2 ? strtoull(argv[2], NULL, 0) : (uint64_t)time(NULL);
	printf("seed %llu\n", (unsigned long long)seed);
	testdev_open(&source, 1, "dialect=v2", 0);
	works = raw_log_works(&source.device);
	testdev_close(&source);
	for (int i = 0; i < KINDS; i++) {
		enum way way = (enum way)(((uint64_t)i + seed) % WAYS);

		if (works)
			migrate_memory(&device_logs[i], way);
		if (!lab_is_cdev())
			migrate_memory(&containers[i], way);
		migrate_memory(&drafts[i], way);
	}
	if (!works)
		migrate_memory(&fallback, LEND);
	puts("ok");
	return 0;
}
