/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Promise: over a type1 container a tracker tells exactly the pages that were
 * written or are pinned, each once, through starts and stops, mappings that
 * come and go, and holes; with a device that reports nothing it says that all
 * is dirty for ever; where the container has no log it says so (T1 to T7).
 *
 * usage: k-dirty-type1 group|cdev
 * What a real PCI device does is left out if none is bound to vfio-pci.
 */
#include "dirty.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Speaks v1: it has no log of its own. */
#define CONFIG "dialect=v1 state=64K segment=8K"

static struct testdev t;
static struct space s;

static void begin(void)
{
	testdev_open(&t, 1, CONFIG, 0);
	space_open(&s, &t.device);
	space_map(&s, 0, 256);
	space_map(&s, 256, 256); /* touches the first */
	space_map(&s, 1024, 100); /* behind a hole, no multiple of 64 */
	space_map(&s, 5001, 1);
	space_track(&s, t.d, 0);
}

static void end(void)
{
	space_close(&s);
	testdev_close(&t);
}

static void harvest_before_start_is_refused(void)
{
	struct vfiomig_harvest_request request;

	VFIOMIG_INIT(&request);
	FAILS(vfiomig_tracker_harvest(s.tracker, &request, NULL, ERR), ORDER, 0);
	FAILS(vfiomig_tracker_stop(s.tracker, ERR), ORDER, 0);
}

static void exact(void)
{
	struct vfiomig_harvest_result result;
	struct pages got;

	lab_step("exact bits");
	READS(&s, TYPE1, "keeps no log of its own");
	harvest_before_start_is_refused();
	DMA(&t, 3, 1); /* sent with all RAM later */
	OK(vfiomig_tracker_start(s.tracker, ERR));
	READS(&s, TYPE1, "keeps no log of its own");
	CHECK_EQ(space_info(&s).starts, 1);
	CHECK_EQ(space_info(&s).flags, 0);
	CHECK_EQ(space_info(&s).page_size, PAGE);
	DIRTY_ARE(&s, "");
	DMA(&t, 5, 2);
	DMA(&t, 255, 2); /* over the edge of two mappings */
	DMA(&t, 511, 1);
	DMA(&t, 1024, 1);
	DMA(&t, 1123, 1);
	DMA(&t, 5001, 1);
	CHECK(dma_write(&t, 512, 1) < 0); /* the hole */

	/*
	 * Mappings in one request (T3): holes cost nothing and give nothing. But
	 * one that begins within a word of the bitmap has a request of its own,
	 * for Linux tells strays of such ones.
	 */
	result = space_harvest(&s, &got);
	CHECK_EQ(result.reads, 2);
	CHECK_EQ(result.flags, 0);
	CHECK_EQ(result.dirty_pages, 8);
	PAGES_ARE(&got, "5-6 255-256 511 1024 1123 5001");
	DIRTY_ARE(&s, ""); /* T5: reading clears */
	DMA(&t, 6, 1);
	DIRTY_ARE(&s, "6");
}

/* T5: the device may write to a pinned page at any time, so it is dirty in every harvest. */
static void pinned(void)
{
	lab_step("pinned pages");
	CHECK_EQ(dma_pin(&t, 9), 0);
	CHECK_EQ(dma_pin(&t, 1100), 0);
	DMA(&t, 20, 1);
	DIRTY_ARE(&s, "9 20 1100");
	DIRTY_ARE(&s, "9 1100");
	DIRTY_ARE(&s, "9 1100");
	CHECK_EQ(dma_unpin(&t, 9), 0);
	DIRTY_ARE(&s, "9 1100"); /* what was written up to then */
	DIRTY_ARE(&s, "1100");
	CHECK_EQ(dma_unpin(&t, 1100), 0);
	DIRTY_ARE(&s, "1100");
	DIRTY_ARE(&s, "");
	CHECK_EQ(space_info(&s).flags, 0);
}

/* Whether the container's log runs; 0 or the errno. */
static int raw_get(void)
{
	uint64_t *bitmap = raw_new_bitmap();

	return raw_dirty_pages(&t.device, RAW_GET, 5001 * PAGE, PAGE,
			       (struct raw_bitmap){ PAGE, 8, bitmap });
}

static void counted(void)
{
	lab_step("started twice");
	DMA(&t, 30, 1);
	OK(vfiomig_tracker_start(s.tracker, ERR));
	CHECK_EQ(space_info(&s).starts, 2);
	DMA(&t, 31, 1);
	OK(vfiomig_tracker_stop(s.tracker, ERR));
	DMA(&t, 32, 1);
	DIRTY_ARE(&s, "30-32");
	CHECK_EQ(raw_get(), 0);
	DMA(&t, 33, 1);
	OK(vfiomig_tracker_stop(s.tracker, ERR));
	CHECK_EQ(raw_get(), -EINVAL);
	harvest_before_start_is_refused();
	/* What was not harvested went with the log: RAM is sent anew. */
	OK(vfiomig_tracker_start(s.tracker, ERR));
	DIRTY_ARE(&s, "");
	DMA(&t, 34, 1);
	DIRTY_ARE(&s, "34");
}

static void only_what_is_asked(void)
{
	struct vfiomig_dest dest = { .iova = 256 * PAGE, .size = 256 * PAGE, .page_size = PAGE };
	struct vfiomig_harvest_request request;
	struct vfiomig_harvest_result result;
	struct pages got = { 0 };

	lab_step("a part is asked for");
	DMA(&t, 255, 2);
	VFIOMIG_INIT(&request);
	VFIOMIG_INIT(&result);
	dest.bitmap = got.word;
	dest.first_bit = 256;
	request.dests = &dest;
	request.dest_count = 1;
	OK(vfiomig_tracker_harvest(s.tracker, &request, &result, ERR));
	PAGES_ARE(&got, "256");
	/* The kernel was asked for all, so the rest is there without it. */
	request.flags = VFIOMIG_HARVEST_F_NO_READ;
	dest.iova = 0;
	dest.first_bit = 0;
	OK(vfiomig_tracker_harvest(s.tracker, &request, &result, ERR));
	PAGES_ARE(&got, "255-256");
	CHECK_EQ(result.reads, 0);
	DIRTY_ARE(&s, "");
}

/* ---- mappings that come and go -------------------------------------------------- */

static void mapped_while_tracking(void)
{
	lab_step("mapped while tracking");
	DMA(&t, 40, 1);
	space_map(&s, 2000, 5);
	DIRTY_ARE(&s, "40 2000-2004"); /* a new mapping counts as dirty once */
	DIRTY_ARE(&s, "");
	DMA(&t, 2004, 1);
	DIRTY_ARE(&s, "2004");
}

static void unmapped_by_library(void)
{
	struct vfiomig_harvest_result result;
	struct pages got;

	lab_step("unmapped with the bitmap");
	DMA(&t, 50, 1);
	DMA(&t, 1030, 3);
	CHECK_EQ(dma_pin(&t, 1050), 0);
	result = space_unmap(&s, 1024, 100, VFIOMIG_UNMAP_F_LIBRARY, NULL, &got);
	CHECK_EQ(result.flags, 0);
	CHECK_EQ(result.reads, 1);
	PAGES_ARE(&got, "1030-1032 1050");
	CHECK(dma_write(&t, 1024, 1) < 0);
	DIRTY_ARE(&s, "50");

	/* Two mappings and the holes around them; what no destination asks for now is left over. */
	DMA(&t, 2001, 1);
	DMA(&t, 5001, 1);
	DMA(&t, 51, 1);
	space_unmap(&s, 1024, 5000, VFIOMIG_UNMAP_F_LIBRARY, NULL, NULL);
	CHECK(dma_write(&t, 2001, 1) < 0);
	CHECK(dma_write(&t, 5001, 1) < 0);
	DIRTY_ARE(&s, "51 2001 5001");
	DIRTY_ARE(&s, "");
	space_map(&s, 1024, 100);
	DIRTY_ARE(&s, "1024-1123");
	DMA(&t, 1024, 1);
	DIRTY_ARE(&s, "1024");
}

static int busy(void *opaque, const struct vfiomig_range *range)
{
	(void)opaque;
	(void)range;
	return -EBUSY;
}

/* A VMM whose own call unmaps gets all of the range: who wrote last cannot be known. */
static void unmapped_by_others(void)
{
	const struct vfiomig_range cut = { 10 * PAGE, 10 * PAGE }, whole = { 1024 * PAGE, 100 * PAGE };
	struct pages got;

	lab_step("unmapping that fails");
	DMA(&t, 1025, 1);
	FAILS(vfiomig_tracker_unmap(s.tracker, &cut, NULL, NULL, VFIOMIG_UNMAP_F_LIBRARY, NULL, NULL, ERR),
	      ARGUMENT, 0);
	FAILS(vfiomig_tracker_unmap(s.tracker, &whole, busy, NULL, 0, NULL, NULL, ERR), SYSTEM, EBUSY);
	DMA(&t, 1026, 1); /* it is still there */
	space_harvest(&s, &got);
	CHECK(pages_have(&got, 1025) && pages_have(&got, 1026));
	DMA(&t, 1027, 1);
	DIRTY_ARE(&s, "1027");

	lab_step("unmapped by the VMM's function");
	DMA(&t, 60, 1);
	space_unmap(&s, 1024, 100, 0, raw_unmap_range, &got);
	PAGES_ARE(&got, "1024-1123");
	CHECK(dma_write(&t, 1024, 1) < 0);
	DIRTY_ARE(&s, "60");

	lab_step("unmapped before the call");
	CHECK_EQ(raw_unmap(&t.device, 256 * PAGE, 256 * PAGE), 0);
	space_unmap(&s, 256, 256, 0, NULL, &got);
	PAGES_ARE(&got, "256-511");
	DIRTY_ARE(&s, "");
	DMA(&t, 61, 1);
	DIRTY_ARE(&s, "61");
}

/* Freed while it runs: the container's log is off. */
static void freed(void)
{
	lab_step("freed");
	space_map(&s, 5001, 1);
	vfiomig_tracker_free(s.tracker);
	s.tracker = NULL;
	CHECK_EQ(raw_get(), -EINVAL);
}

static void type1(void)
{
	begin();
	exact();
	pinned();
	counted();
	only_what_is_asked();
	mapped_while_tracking();
	unmapped_by_library();
	unmapped_by_others();
	freed();
	CLEAN(&t);
	end();
}

/* ---- a device that tells the kernel nothing --------------------------------------- */

static void is_perpetual(struct space *space)
{
	OK(vfiomig_tracker_start(space->tracker, ERR));
	CHECK_EQ(space_info(space).flags, VFIOMIG_TRACKER_PERPETUAL);
	for (int i = 0; i < 3; i++)
		ALL_DIRTY(space);
}

/* T5: behind a physical device everything is dirty in every harvest, holes or not. */
static void real_device(const char *address)
{
	struct lab_device device;
	struct vfiomig_device *d;
	struct pages got;

	lab_step("a device of vfio-pci");
	lab_open_pci(&device, address);
	d = lab_new(&device);
	space_open(&s, &device);
	space_map(&s, 0, 128);
	space_map(&s, 300, 65);
	space_map(&s, 4000, 1);
	space_track(&s, d, 0);
	is_perpetual(&s);
	READS(&s, TYPE1, "keeps no log of its own");
	space_unmap(&s, 300, 65, VFIOMIG_UNMAP_F_LIBRARY, NULL, &got);
	PAGES_ARE(&got, "300-364");
	ALL_DIRTY(&s);
	space_map(&s, 300, 65);
	ALL_DIRTY(&s);
	OK(vfiomig_tracker_stop(s.tracker, ERR));
	CHECK_EQ(space_info(&s).flags, 0);

	lab_step("a start with nothing mapped: what the device is shows at the first harvest");
	space_unmap(&s, 0, 4096, VFIOMIG_UNMAP_F_LIBRARY, NULL, &got);
	OK(vfiomig_tracker_start(s.tracker, ERR));
	CHECK_EQ(space_info(&s).flags, 0);
	space_map(&s, 0, 128);
	ALL_DIRTY(&s);
	CHECK_EQ(space_info(&s).flags, VFIOMIG_TRACKER_PERPETUAL);
	OK(vfiomig_tracker_stop(s.tracker, ERR));
	space_close(&s);
	vfiomig_device_free(d);
	lab_close(&device);
}

/* ---- iommufd: the container has no log ----------------------------------------------- */

static struct vfiomig_tracker_options options_of(struct vfiomig_device **d)
{
	struct vfiomig_tracker_options options;

	VFIOMIG_INIT(&options);
	options.devices = d;
	options.device_count = 1;
	return options;
}

static void falls_back(const struct vfiomig_tracker_options *options, uint32_t before,
		       const char *words)
{
	lab_step("falls back: %s", words);
	OK(vfiomig_tracker_new(options, &s.tracker, ERR));
	CHECK_EQ(space_info(&s).kind, before);
	OK(vfiomig_tracker_map(s.tracker, &(struct vfiomig_mapping){ .size = 70 * PAGE }, 1, ERR));
	is_perpetual(&s);
	printf("reason: %s\n", space_info(&s).reason);
	READS(&s, EVERYTHING, words);
	OK(vfiomig_tracker_stop(s.tracker, ERR));
	vfiomig_tracker_free(s.tracker);
	s.tracker = NULL;
}

static void no_log(void)
{
	struct vfiomig_tracker_options options;

	testdev_open(&t, 1, CONFIG, 0);
	space_open(&s, &t.device);
	space_map(&s, 0, 70);

	/* /dev/iommu in the place of a container, before and after it has an address space to show. */
	options = options_of(&t.d);
	options.flags = VFIOMIG_TRACKER_F_TYPE1;
	options.container_fd = t.device.iommufd;
	falls_back(&options, VFIOMIG_TRACKER_KIND_EVERYTHING, "asking the container failed");
	raw_show_as_container(&t.device);
	falls_back(&options, VFIOMIG_TRACKER_KIND_EVERYTHING, "the container keeps no log");

	/* An object of iommufd that is no page table. */
	options = options_of(&t.d);
	options.flags = VFIOMIG_TRACKER_F_HWPT;
	options.iommufd = t.device.iommufd;
	options.hwpt_ids = &t.device.ioas;
	options.hwpt_count = 1;
	falls_back(&options, VFIOMIG_TRACKER_KIND_HWPT, "start");

	options = options_of(&t.d);
	falls_back(&options, VFIOMIG_TRACKER_KIND_EVERYTHING, "keeps no log of its own");
	end();
}

int main(int argc, char **argv)
{
	const char *address = getenv("VFIOMIG_LAB_PCI");

	testdev_begin(argc, argv);
	if (lab_is_cdev()) {
		no_log();
		puts("ok");
		return 0;
	}
	type1();
	if (address && strchr(address, ':'))
		real_device(address);
	else
		puts("no PCI device: left out");
	puts("ok");
	return 0;
}
