/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "ours.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <vfiomig.h>

#include "devices.h"
#include "qemu.h"

struct ours {
	const struct guest *guest;
	struct kernel *kernel;
	struct devices *devices; /* NULL: the log is that of functions of the VMM */
	struct vfiomig_tracker *tracker;
	struct {
		struct vfiomig_dest *list;
		size_t count;
	} dests[DESTINATIONS];
};

static _Noreturn void failed(const char *what, struct vfiomig_error *error)
{
	fprintf(stderr, "bench-qemu: %s: %s\n", what, error ? vfiomig_error_message(error) : "no reason given");
	exit(1);
}

static int log_start(void *opaque, const struct vfiomig_range *ranges, size_t count, uint64_t *page_size)
{
	const struct ours *o = opaque;

	(void)ranges, (void)count;
	*page_size = o->guest->host_page;
	return 0;
}

static int log_report(void *opaque, uint64_t iova, uint64_t size, uint64_t page_size, uint64_t *bitmap)
{
	const struct ours *o = opaque;

	kernel_report(o->kernel, 0, iova, size, page_size, bitmap);
	return 0;
}

/* One device: the log is that of functions of the VMM. Several: each device has a DMA log, as with QEMU. */
static void make_tracker(struct ours *o)
{
	struct vfiomig_tracker_options options;
	struct vfiomig_tracker_ops ops;
	struct vfiomig_error *error = NULL;
	int result;

	VFIOMIG_INIT(&options);
	options.name = "bench";
	/* Everything is pinned to one processor, on which workers would only cost. */
	options.max_workers = 1;
	if (o->guest->c->devices == 1) {
		VFIOMIG_INIT(&ops);
		ops.start = log_start;
		ops.report = log_report;
		result = vfiomig_tracker_new_ops(&ops, o, &options, &o->tracker, &error);
	} else {
		o->devices = devices_new(o->guest, o->kernel);
		options.devices = devices_handles(o->devices);
		options.device_count = o->guest->c->devices;
		result = vfiomig_tracker_new(&options, &o->tracker, &error);
	}
	if (result)
		failed("the tracker", error);
}

static void add_dest(struct ours *o, enum destination to, struct vfiomig_dest dest)
{
	o->dests[to].list = realloc(o->dests[to].list, (o->dests[to].count + 1) * sizeof dest);
	o->dests[to].list[o->dests[to].count++] = dest;
}

/* A section is one destination in one bitmap, and one for each of QEMU's blocks that it touches. */
static void make_dests(struct ours *o, const struct section *s, uint64_t *bitmap)
{
	struct vfiomig_dest whole = {
		.iova = s->iova,
		.size = s->size,
		.first_bit = s->ram / TARGET_PAGE,
		.page_size = TARGET_PAGE,
		.bitmap = bitmap,
	};
	const uint64_t block_size = qemu_block_pages() * TARGET_PAGE;

	add_dest(o, PLAIN, whole);
	whole.flags = VFIOMIG_DEST_F_ATOMIC;
	add_dest(o, ATOMIC, whole);
	for (uint64_t at = s->ram, end; at < s->ram + s->size; at = end) {
		struct vfiomig_dest part = whole;

		end = (at / block_size + 1) * block_size;
		if (end > s->ram + s->size)
			end = s->ram + s->size;
		part.iova = s->iova + at - s->ram;
		part.size = end - at;
		part.first_bit = at / TARGET_PAGE % qemu_block_pages();
		part.bitmap = qemu_migration_block(at / TARGET_PAGE);
		add_dest(o, BLOCKS, part);
	}
}

struct ours *ours_new(const struct guest *g, struct kernel *k, uint64_t *bitmap)
{
	struct ours *o = calloc(1, sizeof *o);
	struct vfiomig_mapping *maps = calloc(g->section_count, sizeof *maps);
	struct vfiomig_error *error = NULL;

	o->guest = g;
	o->kernel = k;
	for (unsigned i = 0; i < g->section_count; i++) {
		const struct section *s = &g->sections[i];

		maps[i] = (struct vfiomig_mapping){.iova = s->iova, .size = s->size, .cookie = s->ram};
		make_dests(o, s, bitmap);
	}
	make_tracker(o);
	if (vfiomig_tracker_map(o->tracker, maps, g->section_count, &error))
		failed("vfiomig_tracker_map", error);
	if (vfiomig_tracker_start(o->tracker, &error))
		failed("vfiomig_tracker_start", error);
	free(maps);
	/*
	 * The library has tried the log when it started it, and keeps what came. This log is never cleared, so the first
	 * harvest would have all twice: it goes nowhere that counts.
	 */
	ours_harvest(o, PLAIN);
	memset(bitmap, 0, g->words * 8);
	return o;
}

void ours_free(struct ours *o)
{
	struct vfiomig_error *error = NULL;

	if (vfiomig_tracker_stop(o->tracker, &error))
		failed("vfiomig_tracker_stop", error);
	vfiomig_tracker_free(o->tracker);
	devices_free(o->devices);
	for (int to = 0; to < DESTINATIONS; to++)
		free(o->dests[to].list);
	free(o);
}

struct counts ours_harvest(struct ours *o, enum destination to)
{
	struct vfiomig_harvest_request request;
	struct vfiomig_harvest_result result;
	struct vfiomig_error *error = NULL;

	VFIOMIG_INIT(&request);
	VFIOMIG_INIT(&result);
	request.dests = o->dests[to].list;
	request.dest_count = o->dests[to].count;
	request.max_workers = 1;
	if (vfiomig_tracker_harvest(o->tracker, &request, &result, &error))
		failed("vfiomig_tracker_harvest", error);
	if (result.flags) {
		fprintf(stderr, "bench-qemu: a harvest said flags %#x, errno %d\n", result.flags, result.first_errno);
		exit(1);
	}
	return (struct counts){.dirty = result.dirty_pages, .fresh = result.newly_dirty_pages};
}

const char *ours_version(void)
{
	static char text[32];
	const uint32_t version = vfiomig_version();

	snprintf(text, sizeof text, "%u.%u.%u", version >> 16, version >> 8 & 0xff, version & 0xff);
	return text;
}
