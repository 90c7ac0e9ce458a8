/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "guest.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define RUN_BYTES (2ull << 20)
#define FOUR_GIB (4ull << 30)

void *touched(uint64_t bytes)
{
	void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (memory == MAP_FAILED) {
		perror("bench-qemu: mmap");
		exit(1);
	}
	return memset(memory, 0, bytes);
}

void release(void *memory, uint64_t bytes)
{
	munmap(memory, bytes);
}

/* splitmix64 */
uint64_t random_next(uint64_t *state)
{
	uint64_t z = *state += 0x9e3779b97f4a7c15;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
	z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
	return z ^ (z >> 31);
}

static bool get(const uint64_t *bits, uint64_t at)
{
	return bits[at / 64] >> at % 64 & 1;
}

static void set(uint64_t *bits, uint64_t at)
{
	bits[at / 64] |= 1ull << at % 64;
}

/*
 * The sections of a VM on x86: many small ones below 1 MiB, then the memory below 4 GiB, here a quarter of all, and the
 * memory above, whose IOVAs leave a hole. Only as many as the case asks for.
 */
static void cut(struct guest *g)
{
	static const unsigned small[] = {1, 3, 8, 2, 16, 5, 4, 12};
	const unsigned count = g->c->sections, small_count = count > 2 ? count - 2 : 0;
	uint64_t at = g->first;

	g->section_count = count;
	g->sections = calloc(count, sizeof *g->sections);
	for (unsigned i = 0; i < count; i++) {
		uint64_t to = i + 2 == count ? g->first + (g->end - g->first) / 4 : g->end;

		if (i < small_count)
			to = at + small[i % (sizeof small / sizeof *small)] * g->host_page;
		/* The last of the small ones ends where a bitmap word does, so that the large ones are as aligned as
		 * the case says. */
		if (i + 1 == small_count)
			to = g->first + 512 * g->host_page;
		g->sections[i] = (struct section){.iova = at, .size = to - at, .ram = at};
		if (i && i + 1 == count)
			g->sections[i].iova += FOUR_GIB;
		at = to;
	}
}

/* Writes to `length` host pages at `at`, by a device that is drawn. */
static void write_to(struct guest *g, uint64_t at, uint64_t length, uint64_t *random)
{
	const uint64_t device = random_next(random) % g->c->devices;

	for (uint64_t i = at; i < at + length; i++)
		set(g->written[device], i);
}

static void make_dirt(struct guest *g)
{
	const uint64_t first = g->first / g->host_page, pages = (g->end - g->first) / g->host_page;
	const uint64_t length = g->c->spread == RUNS ? RUN_BYTES / g->host_page : 1, places = pages / length;
	uint64_t *taken = touched(places / 8 + 8);
	uint64_t wanted = (uint64_t)(g->c->percent / 100 * (double)places + 0.5), random = 1;

	if (!wanted && g->c->percent > 0)
		wanted = 1;
	for (uint64_t place = 0; wanted == places && place < places; place++)
		write_to(g, first + place * length, length, &random);
	while (wanted < places && wanted) {
		const uint64_t place = random_next(&random) % places;

		if (get(taken, place))
			continue;
		set(taken, place);
		write_to(g, first + place * length, length, &random);
		wanted--;
	}
	release(taken, places / 8 + 8);
}

static void expect(struct guest *g)
{
	for (uint64_t w = 0; w < g->host_words; w++) {
		uint64_t any = 0;

		for (unsigned d = 0; d < g->c->devices; d++)
			any |= g->written[d][w];
		for (uint64_t bit = 0; any && bit < 64; bit++) {
			if (!(any >> bit & 1))
				continue;
			g->dirty_host_pages++;
			for (uint64_t i = 0; i < g->c->ratio; i++)
				set(g->expected, (w * 64 + bit) * g->c->ratio + i);
		}
	}
	g->dirty_pages = g->dirty_host_pages * g->c->ratio;
	for (uint64_t w = 0; w < g->words; w++)
		g->dirty_words += g->expected[w] != 0;
}

struct guest *guest_new(const struct bench_case *c)
{
	struct guest *g = calloc(1, sizeof *g);

	g->c = c;
	g->host_page = TARGET_PAGE * c->ratio;
	g->first = c->odd * g->host_page;
	g->end = g->first + (TARGET_PAGE << c->log2_bits);
	g->words = (g->end / TARGET_PAGE + 63) / 64;
	g->host_words = (g->end / g->host_page + 63) / 64;
	g->expected = touched(g->words * 8);
	g->written = calloc(c->devices, sizeof *g->written);
	for (unsigned d = 0; d < c->devices; d++)
		g->written[d] = touched(g->host_words * 8);
	cut(g);
	make_dirt(g);
	expect(g);
	return g;
}

void guest_free(struct guest *g)
{
	for (unsigned d = 0; d < g->c->devices; d++)
		release(g->written[d], g->host_words * 8);
	release(g->expected, g->words * 8);
	free(g->written);
	free(g->sections);
	free(g);
}
