/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "kernel.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The log of one device for one range: words with their numbers, and runs of words with all bits set. */
struct log {
	uint64_t iova, size;
	uint64_t words, runs;
	uint32_t *at, *run_at, *run_length;
	uint64_t *value;
};

struct log_list {
	unsigned count, last; /* the one that was asked last */
	struct log *logs;
};

struct kernel {
	const struct guest *guest;
	struct log_list *devices;
	uint64_t ns, reports;
	bool timed;
};

/* The first pass counts, the second one writes. */
static void list_words(struct log *log, const uint64_t *bits, uint64_t length, bool write)
{
	log->words = log->runs = 0;
	for (uint64_t w = 0; w < length; w++) {
		uint64_t run = 0;

		while (w + run < length && bits[w + run] == UINT64_MAX)
			run++;
		if (run > 1) {
			if (write) {
				log->run_at[log->runs] = (uint32_t)w;
				log->run_length[log->runs] = (uint32_t)run;
			}
			log->runs++;
			w += run - 1;
		} else if (bits[w]) {
			if (write) {
				log->at[log->words] = (uint32_t)w;
				log->value[log->words] = bits[w];
			}
			log->words++;
		}
	}
}

/* What the device wrote in the range, wherever sections put it. */
static void collect(const struct guest *g, const uint64_t *written, const struct log *log, uint64_t *bits)
{
	for (unsigned i = 0; i < g->section_count; i++) {
		const struct section *s = &g->sections[i];
		const uint64_t from = s->iova > log->iova ? s->iova : log->iova;
		const uint64_t s_end = s->iova + s->size, log_end = log->iova + log->size;

		for (uint64_t at = from; at < s_end && at < log_end; at += g->host_page) {
			const uint64_t page = (at - s->iova + s->ram) / g->host_page;
			const uint64_t bit = (at - log->iova) / g->host_page;

			bits[bit / 64] |= (written[page / 64] >> page % 64 & 1) << bit % 64;
		}
	}
}

static struct log *prepare(const struct guest *g, struct log_list *list, unsigned device, uint64_t iova, uint64_t size)
{
	const uint64_t length = (size / g->host_page + 63) / 64;
	uint64_t *bits = touched(length * 8);

	list->logs = realloc(list->logs, (list->count + 1) * sizeof *list->logs);
	struct log *log = &list->logs[list->count];

	*log = (struct log){.iova = iova, .size = size};
	list->last = list->count++;
	collect(g, g->written[device], log, bits);
	list_words(log, bits, length, false);
	log->at = calloc(log->words + 1, sizeof *log->at);
	log->value = calloc(log->words + 1, sizeof *log->value);
	log->run_at = calloc(log->runs + 1, sizeof *log->run_at);
	log->run_length = calloc(log->runs + 1, sizeof *log->run_length);
	list_words(log, bits, length, true);
	release(bits, length * 8);
	return log;
}

/* Those who ask go through the ranges in their order: most often the next one is wanted. */
static struct log *find(const struct guest *g, struct log_list *list, unsigned device, uint64_t iova, uint64_t size)
{
	for (unsigned i = 0; i < list->count; i++) {
		const unsigned next = (list->last + 1 + i) % list->count;

		if (list->logs[next].iova == iova && list->logs[next].size == size) {
			list->last = next;
			return &list->logs[next];
		}
	}
	return prepare(g, list, device, iova, size);
}

struct kernel *kernel_new(const struct guest *g)
{
	struct kernel *k = calloc(1, sizeof *k);

	k->guest = g;
	k->devices = calloc(g->c->devices, sizeof *k->devices);
	return k;
}

void kernel_free(struct kernel *k)
{
	for (unsigned d = 0; d < k->guest->c->devices; d++) {
		for (unsigned i = 0; i < k->devices[d].count; i++) {
			struct log *log = &k->devices[d].logs[i];

			free(log->at);
			free(log->value);
			free(log->run_at);
			free(log->run_length);
		}
		free(k->devices[d].logs);
	}
	free(k->devices);
	free(k);
}

static void set_words(const struct log *log, uint64_t *bitmap)
{
	for (uint64_t i = 0; i < log->words; i++)
		bitmap[log->at[i]] |= log->value[i];
	for (uint64_t r = 0; r < log->runs; r++)
		for (uint64_t w = log->run_at[r]; w < (uint64_t)log->run_at[r] + log->run_length[r]; w++)
			bitmap[w] |= UINT64_MAX;
}

void kernel_report(void *opaque, unsigned device, uint64_t iova, uint64_t size, uint64_t page_size, uint64_t *bitmap)
{
	struct kernel *k = opaque;
	const struct guest *g = k->guest;
	const uint64_t begun = k->timed ? cpu_ns() : 0;

	if (page_size != g->host_page || device >= g->c->devices || size % page_size) {
		fprintf(stderr, "bench-qemu: a report of device %u was asked for %llu bytes at pages of %llu\n", device,
			(unsigned long long)size, (unsigned long long)page_size);
		exit(1);
	}
	set_words(find(g, &k->devices[device], device, iova, size), bitmap);
	k->reports++;
	if (k->timed)
		k->ns += cpu_ns() - begun;
}

void kernel_time_reports(struct kernel *k, bool on)
{
	k->timed = on;
}

uint64_t kernel_take_ns(struct kernel *k)
{
	const uint64_t ns = k->ns;

	k->ns = 0;
	return ns;
}

uint64_t kernel_take_reports(struct kernel *k)
{
	const uint64_t reports = k->reports;

	k->reports = 0;
	return reports;
}
