/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "race.h"

#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lines.h"
#include "qemu.h"

#define ROUNDS 200
/* Of the guest's pages the other thread sets so many in a round, each once: a lost one is not set again by chance. */
#define PART 2
#define END UINT_MAX

struct writer {
	struct bench *bench;
	bool qemu;
	uint64_t pages; /* a power of two */
	atomic_uint go, done; /* number of the round */
};

/* The i-th page of a round. An odd factor and a power of two: no page comes twice. */
static uint64_t page_of(uint64_t pages, unsigned round, unsigned i)
{
	return (i * 0x9e3779b1ull + round * 0x85ebca77ull) & (pages - 1);
}

static void *write_bits(void *opaque)
{
	struct writer *w = opaque;
	cpu_set_t all;

	/* Not only where the harvest is pinned to; the kernel ignores processors that do not exist. */
	memset(&all, 0xff, sizeof all);
	sched_setaffinity(0, sizeof all, &all);
	for (unsigned round = 1;; round++) {
		unsigned go;

		while ((go = atomic_load(&w->go)) < round)
			sched_yield();
		if (go == END)
			return NULL;
		for (unsigned i = 0; i < w->pages / PART; i++) {
			const uint64_t page = page_of(w->pages, round, i);

			if (w->qemu)
				qemu_set_migration_bit(page);
			else
				__atomic_fetch_or(&w->bench->bitmap[page / 64], 1ull << page % 64, __ATOMIC_SEQ_CST);
		}
		atomic_store(&w->done, round);
	}
}

static void wrong(const struct guest *g, bool qemu)
{
	char name[128];

	case_name(g->c, name, sizeof name);
	fprintf(stderr, "bench-qemu: WRONG RESULT: %s: %s lost or invented a bit beside another thread\n", name,
		qemu ? "QEMU" : "ours atomic");
	exit(1);
}

/* What a VMM does between harvests: takes the bits away, each once. */
static void take(struct bench *b, bool qemu, uint64_t *taken)
{
	if (qemu) {
		qemu_sync();
		return;
	}
	for (uint64_t i = 0; i < b->guest->words; i++)
		if (__atomic_load_n(&b->bitmap[i], __ATOMIC_RELAXED))
			taken[i] |= __atomic_exchange_n(&b->bitmap[i], 0, __ATOMIC_SEQ_CST);
}

static void harvest(struct bench *b, bool qemu)
{
	if (qemu)
		qemu_copy_out(false, b->guest->sections, b->guest->section_count);
	else
		ours_harvest(b->ours, ATOMIC);
}

static uint64_t race(struct bench *b, bool qemu)
{
	const struct guest *g = b->guest;
	struct writer w = {.bench = b, .qemu = qemu, .pages = 1ull << g->c->log2_bits};
	uint64_t *both = touched(g->words * 8), *taken = touched(g->words * 8), harvests = 0;
	pthread_t thread;

	qemu_pool(false);
	if (pthread_create(&thread, NULL, write_bits, &w)) {
		fprintf(stderr, "bench-qemu: no thread can be made\n");
		exit(1);
	}
	for (unsigned round = 1; round <= ROUNDS; round++) {
		memcpy(both, g->expected, g->words * 8);
		for (unsigned i = 0; i < w.pages / PART; i++) {
			const uint64_t page = page_of(w.pages, round, i);

			both[page / 64] |= 1ull << page % 64;
		}
		atomic_store(&w.go, round);
		do {
			harvest(b, qemu);
			take(b, qemu, taken);
			harvests++;
		} while (atomic_load(&w.done) < round);
		take(b, qemu, taken);
		if (qemu ? !qemu_equals(QEMU_RAM_BLOCK, both) : !!memcmp(taken, both, g->words * 8))
			wrong(g, qemu);
		qemu_clear(QEMU_RAM_BLOCK);
		memset(taken, 0, g->words * 8);
	}
	atomic_store(&w.go, END);
	pthread_join(thread, NULL);
	release(both, g->words * 8);
	release(taken, g->words * 8);
	return harvests;
}

void race_check(void)
{
	static const struct bench_case cases[] = {
		{16, 50, SCATTERED, 0, 1, 1, 1, false}, {16, 50, SCATTERED, 1, 1, 1, 1, false},
		{16, 20, SCATTERED, 0, 16, 1, 1, false}, {16, 50, RUNS, 0, 1, 1, 1, false},
		{16, 50, SCATTERED, 0, 1, 4, 40, false},
	};

	uint64_t beside_qemu = 0, beside_ours = 0;

	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct guest *g = guest_new(&cases[i]);
		struct bench b;

		bench_open(&b, g);
		beside_qemu += race(&b, true);
		beside_ours += race(&b, false);
		bench_close(&b);
		guest_free(g);
	}
	printf("Beside a thread that sets bits meanwhile, %llu harvests of QEMU's and %llu of ours (atomic) lost and invented none.\n\n",
	       (unsigned long long)beside_qemu, (unsigned long long)beside_ours);
}
