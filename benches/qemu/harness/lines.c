/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "lines.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "qemu.h"

/* With more of them the clock would cost as much as what is measured. */
#define MOST_TIMED_REPORTS 64

const char *const line_names[LINES] = {
	[FILL] = "fill alone, warm buffer",
	[QEMU_VGA_A] = "QEMU cold, with VGA bitmap",
	[QEMU_A] = "QEMU cold",
	[QEMU_AB] = "QEMU cold, and sync (A + B)",
	[QEMU_POOL] = "QEMU pooled buffer",
	[OURS_PLAIN] = "ours plain",
	[OURS_ATOMIC] = "ours atomic",
	[OURS_BLOCKS] = "ours in QEMU's blocks",
	[QEMU_A_AGAIN] = "QEMU cold, again",
	[OURS_PLAIN_AGAIN] = "ours plain, again",
};

void bench_open(struct bench *b, const struct guest *g)
{
	b->guest = g;
	b->kernel = kernel_new(g);
	b->reports_timed = g->c->devices * g->section_count <= MOST_TIMED_REPORTS;
	kernel_time_reports(b->kernel, b->reports_timed);
	b->warm = touched((g->host_words + 1) * 8);
	b->bitmap = touched((g->words + 1) * 8);
	qemu_setup(g->words * 64, g->c->devices, g->host_page, kernel_report, b->kernel);
	b->ours = ours_new(g, b->kernel, b->bitmap);
}

void bench_close(struct bench *b)
{
	ours_free(b->ours);
	qemu_teardown();
	release(b->warm, (b->guest->host_words + 1) * 8);
	release(b->bitmap, (b->guest->words + 1) * 8);
	kernel_free(b->kernel);
}

/* Each section into a place of its own, as far apart as in the guest's memory. */
static struct counts fill(struct bench *b)
{
	const struct guest *g = b->guest;

	for (unsigned i = 0; i < g->section_count; i++) {
		const struct section *s = &g->sections[i];

		for (unsigned d = 0; d < g->c->devices; d++)
			kernel_report(b->kernel, d, s->iova, s->size, g->host_page,
				      b->warm + s->ram / g->host_page / 64);
	}
	return (struct counts){0, 0};
}

static struct counts run(struct bench *b, enum line line)
{
	const struct guest *g = b->guest;
	struct counts counts = {0, 0};

	switch (line) {
	case FILL:
		return fill(b);
	case OURS_PLAIN:
	case OURS_PLAIN_AGAIN:
		return ours_harvest(b->ours, PLAIN);
	case OURS_ATOMIC:
		return ours_harvest(b->ours, ATOMIC);
	case OURS_BLOCKS:
		return ours_harvest(b->ours, BLOCKS);
	default:
		counts.dirty = qemu_copy_out(line == QEMU_VGA_A, g->sections, g->section_count);
		if (line == QEMU_AB)
			counts.fresh = qemu_sync();
		return counts;
	}
}

static void must(bool good, const struct guest *g, enum line line, const char *what)
{
	char name[128];

	if (good)
		return;
	case_name(g->c, name, sizeof name);
	fprintf(stderr, "bench-qemu: WRONG RESULT: %s: %s: %s is not what it must be\n", name, line_names[line], what);
	exit(1);
}

static void must_be(uint64_t number, uint64_t expected, const struct guest *g, enum line line, const char *what)
{
	if (number != expected)
		fprintf(stderr, "bench-qemu: %llu instead of %llu\n", (unsigned long long)number,
			(unsigned long long)expected);
	must(number == expected, g, line, what);
}

/* What a line of QEMU's leaves behind in which bitmap; NULL is nothing. */
static const uint64_t *left_in(const struct guest *g, enum line line, enum qemu_bitmap which)
{
	switch (which) {
	case QEMU_MIGRATION:
		return line == QEMU_AB ? NULL : g->expected;
	case QEMU_RAM_BLOCK:
		return line == QEMU_AB ? g->expected : NULL;
	case QEMU_VGA:
		return line == QEMU_VGA_A ? g->expected : NULL;
	default:
		return NULL;
	}
}

static void check_qemu(const struct guest *g, enum line line, struct counts counts, bool thorough)
{
	for (enum qemu_bitmap which = 0; which < QEMU_BITMAPS; which++) {
		const uint64_t *left = left_in(g, line, which);

		if (left || thorough)
			must(qemu_equals(which, left), g, line, qemu_bitmap_names[which]);
		if (left)
			qemu_clear(which);
	}
	/* QEMU counts the bits of the report, which are host pages. */
	must_be(counts.dirty, g->dirty_host_pages, g, line, "the number of dirty pages");
	must_be(counts.fresh, line == QEMU_AB ? g->dirty_pages : 0, g, line, "the number of newly dirty pages");
}

static void check_ours(struct bench *b, enum line line, struct counts counts)
{
	const struct guest *g = b->guest;

	if (line == OURS_BLOCKS) {
		must(qemu_equals(QEMU_MIGRATION, g->expected), g, line, qemu_bitmap_names[QEMU_MIGRATION]);
		qemu_clear(QEMU_MIGRATION);
	} else {
		must(!memcmp(b->bitmap, g->expected, g->words * 8), g, line, "the bitmap");
		memset(b->bitmap, 0, g->words * 8);
	}
	must_be(counts.dirty, g->dirty_pages, g, line, "the number of dirty pages");
	must_be(counts.fresh, g->dirty_pages, g, line, "the number of newly dirty pages");
}

static bool is_ours(enum line line)
{
	return line == OURS_PLAIN || line == OURS_ATOMIC || line == OURS_BLOCKS || line == OURS_PLAIN_AGAIN;
}

static uint64_t faults(void)
{
	struct rusage usage;

	getrusage(RUSAGE_SELF, &usage);
	return (uint64_t)(usage.ru_minflt + usage.ru_majflt);
}

static uint64_t without(uint64_t ns, uint64_t cost)
{
	return ns > cost ? ns - cost : 1;
}

struct sample line_run(struct bench *b, enum line line, bool thorough)
{
	struct sample sample;

	qemu_pool(line == QEMU_POOL);
	kernel_take_ns(b->kernel);
	kernel_take_reports(b->kernel);

	const uint64_t faults_before = faults(), begun = cpu_ns();
	const struct counts counts = run(b, line);

	sample.ns = cpu_ns() - begun;
	sample.faults = faults() - faults_before;
	sample.fill_ns = kernel_take_ns(b->kernel);
	sample.reports = kernel_take_reports(b->kernel);
	if (b->reports_timed) {
		/* Two readings for each report, of which the report's own time has one. */
		sample.ns = without(sample.ns, 2 * sample.reports * cpu_ns_cost());
		sample.fill_ns = without(sample.fill_ns, sample.reports * cpu_ns_cost());
	}
	if (line == FILL)
		memset(b->warm, 0, b->guest->host_words * 8);
	else if (is_ours(line))
		check_ours(b, line, counts);
	else
		check_qemu(b->guest, line, counts, thorough);
	return sample;
}
