/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Promise: the kernel refuses requests to its dirty logs with the errno that is
 * documented for each; the library, given the same situation, provokes none of
 * them, or turns it into a reason, a fallback or a degraded harvest (L1 to L6,
 * T2, T3, T7). What the test driver's own tests show is not repeated here.
 *
 * usage: k-dirty-errno group|cdev
 */
#include "dirty.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define BAD_POINTER ((void *)PAGE)
#define TOP_PAGE (~0ull - PAGE + 1)

static struct testdev t;
static struct space s;
static uint64_t *bitmap;

static void begin(const char *config)
{
	testdev_open(&t, 1, config, 0);
	space_open(&s, &t.device);
}

static void end(void)
{
	space_close(&s);
	WARNINGS(0);
	testdev_close(&t);
}

/* ---- START and REPORT ----------------------------------------------------------- */

static int start_log(uint64_t page_size, uint64_t iova, uint64_t size)
{
	const struct vfiomig_range range = { iova, size };

	return raw_log_start(&t.device, &page_size, &range, 1);
}

static int start_many(uint32_t count)
{
	static struct vfiomig_range ranges[300];
	uint64_t page_size = PAGE;

	for (uint32_t i = 0; i < count; i++)
		ranges[i] = (struct vfiomig_range){ i * 2 * PAGE, PAGE };
	return raw_log_start(&t.device, &page_size, ranges, count);
}

static int report(uint64_t iova, uint64_t size, uint64_t page_size, void *to)
{
	return raw_log_report(&t.device, iova, size, page_size, to);
}

static void device_log(bool works)
{
	uint64_t page_size = PAGE;

	lab_step("START");
	begin("dialect=v2");
	CHECK_EQ(start_log(PAGE, 100, PAGE), -EINVAL);
	CHECK_EQ(start_log(PAGE, 0, 100), -EINVAL);
	CHECK_EQ(start_log(65536, PAGE, 65536), -EINVAL);
	CHECK_EQ(start_log(PAGE, TOP_PAGE, PAGE), -EOVERFLOW);
	CHECK_EQ(raw_log_start(&t.device, &page_size, BAD_POINTER, 1), -EFAULT);
	CHECK_EQ(start_many(257), -E2BIG);
	CHECK_EQ(start_many(256), 0);
	CHECK_EQ(raw_log_stop(&t.device), 0);

	lab_step("REPORT");
	space_map(&s, 0, 64);
	CHECK_EQ(start_log(PAGE, 0, 64 * PAGE), 0);
	CHECK_EQ(report(0, PAGE, 2048, bitmap), -EINVAL);
	CHECK_EQ(report(0, PAGE, 0, bitmap), -EINVAL);
	CHECK_EQ(report(0, 3 * PAGE, 3 * PAGE, bitmap), -EINVAL);
	CHECK_EQ(report(TOP_PAGE, 2 * PAGE, PAGE, bitmap), -EOVERFLOW);
	CLEAN(&t);
	if (!works) {
		CHECK_EQ(report(0, 64 * PAGE, PAGE, bitmap), -EOPNOTSUPP);
	} else {
		/* L5: bits are added, those that were there stay. */
		DMA(&t, 5, 1);
		bitmap[0] = 1ull << 60;
		CHECK_EQ(report(0, 64 * PAGE, PAGE, bitmap), 0);
		CHECK_EQ(bitmap[0], 1ll << 60 | 1 << 5);
		bitmap[0] = 0;
		/* I7: memory that is not there is no error, and the bits are lost. */
		DMA(&t, 6, 1);
		CHECK_EQ(report(0, 64 * PAGE, PAGE, BAD_POINTER), 0);
		CHECK_EQ(report(0, 64 * PAGE, PAGE, bitmap), 0);
		CHECK_EQ(bitmap[0], 0);
	}
	CHECK_EQ(raw_log_stop(&t.device), 0);
	if (works)
		CHECK_EQ(report(0, 64 * PAGE, PAGE, bitmap), -EINVAL);
	end();

	lab_step("a device without a log");
	begin("dialect=v2 dma_log=0");
	CHECK_EQ(start_log(PAGE, 0, PAGE), -ENOTTY);
	CHECK_EQ(report(0, PAGE, PAGE, bitmap), -ENOTTY);
	CHECK_EQ(raw_log_stop(&t.device), -ENOTTY);
	space_track(&s, t.d, NO_CONTAINER);
	READS(&s, EVERYTHING, "keeps no log of its own");
	end();
}

/*
 * The same situations, met by the library: the end of the address space, and
 * its log taken or stopped by others.
 */
static void device_log_by_library(void)
{
	/* Not mapped in the kernel: a device behind an IOMMU of 48 bits could not be. */
	struct vfiomig_mapping top = { .iova = TOP_PAGE - PAGE, .size = 2 * PAGE };
	struct vfiomig_dest dest = { .iova = top.iova, .size = top.size, .page_size = PAGE };
	struct vfiomig_harvest_request request;
	struct vfiomig_harvest_result result;
	struct pages got;
	uint64_t word = 0;

	lab_step("the last page of the address space");
	begin("dialect=v2");
	space_map(&s, 0, 64);
	space_track(&s, t.d, NO_CONTAINER);
	OK(vfiomig_tracker_map(s.tracker, &top, 1, ERR));
	OK(vfiomig_tracker_start(s.tracker, ERR));
	READS(&s, DMA_LOG, "");
	CHECK_EQ(space_info(&s).logged_ranges, 2);
	VFIOMIG_INIT(&request);
	VFIOMIG_INIT(&result);
	dest.bitmap = &word;
	request.dests = &dest;
	request.dest_count = 1;
	OK(vfiomig_tracker_harvest(s.tracker, &request, &result, ERR));
	CHECK_EQ(result.flags, 0);
	CHECK_EQ(word, 2); /* L2: no log can hold it, so it is dirty; the one before it is not */

	lab_step("the log is stopped by others");
	DMA(&t, 3, 1);
	CHECK_EQ(raw_log_stop(&t.device), 0);
	DMA(&t, 4, 1);
	result = space_harvest(&s, &got);
	CHECK_EQ(result.flags, VFIOMIG_HARVEST_DEGRADED);
	CHECK_EQ(result.first_errno, EINVAL);
	PAGES_EQUAL(&got, &s.mapped); /* L6 */
	CHECK_EQ(space_info(&s).failed_logs, 0);
	DMA(&t, 5, 1);
	DIRTY_ARE(&s, "5"); /* it was started anew */
	WARNINGS(1);
	OK(vfiomig_tracker_stop(s.tracker, ERR));

	/* A VMM that died may have left it running: it is stopped and started, once (L1). */
	lab_step("the log was left running by others");
	CHECK_EQ(start_log(PAGE, 0, PAGE), 0);
	OK(vfiomig_tracker_start(s.tracker, ERR));
	READS(&s, DMA_LOG, "");
	DMA(&t, 6, 1);
	DIRTY_ARE(&s, "6");
	OK(vfiomig_tracker_stop(s.tracker, ERR));
	CHECK_EQ(start_log(PAGE, 0, PAGE), 0);
	CHECK_EQ(raw_log_stop(&t.device), 0);
	OK(vfiomig_tracker_start(s.tracker, ERR));
	READS(&s, DMA_LOG, "");
	end();
}

/* ---- type1 ------------------------------------------------------------------------ */

static int dirty(uint32_t flags)
{
	return raw_dirty_pages(&t.device, flags, 0, 0, (struct raw_bitmap){ 0 });
}

static int get(uint64_t iova, uint64_t size, uint64_t page_size, uint64_t room, void *to)
{
	return raw_dirty_pages(&t.device, RAW_GET, iova, size,
			       (struct raw_bitmap){ page_size, room, to });
}

static int unmap(uint32_t flags, uint64_t iova, uint64_t size, uint64_t room)
{
	uint64_t before = size;
	int ret = raw_unmap_dirty(&t.device, flags, iova, &size,
				  (struct raw_bitmap){ PAGE, room, bitmap });

	if (ret)
		CHECK_EQ(size, before);
	return ret;
}

static void type1(void)
{
	const uint64_t size = 64 * PAGE;

	lab_step("DIRTY_PAGES");
	begin("dialect=v1");
	space_map(&s, 0, 64);
	CHECK_EQ(raw_map(&t.device, 0, PAGE, s.memory), -EEXIST);
	CHECK_EQ(get(0, size, PAGE, 8, bitmap), -EINVAL); /* not started */
	CHECK_EQ(unmap(RAW_WITH_BITMAP, 0, size, 8), -EINVAL);
	CHECK_EQ(dirty(0), -EINVAL);
	CHECK_EQ(dirty(RAW_START | RAW_STOP), -EINVAL);
	CHECK_EQ(dirty(8), -EINVAL);
	CHECK_EQ(dirty(RAW_STOP), 0);
	CHECK_EQ(dirty(RAW_START), 0);
	DMA(&t, 3, 1);
	CHECK_EQ(dirty(RAW_START), 0);
	CHECK_EQ(get(0, size, 2 * PAGE, 8, bitmap), -EINVAL);
	CHECK_EQ(get(0, 0, PAGE, 8, bitmap), -EINVAL);
	CHECK_EQ(get(100, size, PAGE, 8, bitmap), -EINVAL);
	CHECK_EQ(get(0, size - 100, PAGE, 8, bitmap), -EINVAL);
	CHECK_EQ(get(0, size + PAGE, PAGE, 8, bitmap), -EINVAL); /* 65 pages are two words */
	CHECK_EQ(get(0, size / 2, PAGE, 8, bitmap), -EINVAL);
	CHECK_EQ(get(size / 2, size, PAGE, 16, bitmap), -EINVAL);
	CHECK_EQ(get(TOP_PAGE, PAGE, PAGE, 8, bitmap), -EINVAL); /* T3: up to 6.x */
	CHECK_EQ(get(0, size, PAGE, 8, bitmap), 0);
	CHECK_EQ(bitmap[0], 1 << 3); /* the second START lost nothing, no refusal either */
	CHECK_EQ(get(size, size, PAGE, 8, bitmap), 0); /* not mapped: untouched (T4) */
	CHECK_EQ(bitmap[0], 1 << 3);
	CHECK_EQ(get(0, 2 * size, PAGE, 16, bitmap), 0);
	CHECK_EQ(bitmap[0], 0);
	CHECK_EQ(get(0, size, PAGE, 8, BAD_POINTER), -EFAULT);

	lab_step("UNMAP_DMA");
	DMA(&t, 7, 1);
	CHECK_EQ(unmap(RAW_WITH_BITMAP | RAW_UNMAP_ALL, 0, 0, 8), -EINVAL);
	CHECK_EQ(unmap(RAW_WITH_BITMAP, 0, size, 4), -EINVAL);
	CHECK_EQ(unmap(0, 0, size / 2, 0), -EINVAL);
	CHECK_EQ(unmap(RAW_WITH_BITMAP, 0, size / 2, 8), -EINVAL);
	DMA(&t, 8, 1); /* all is still there */
	{
		uint64_t nothing = size;

		CHECK_EQ(raw_unmap_dirty(&t.device, 0, 4 * size, &nothing, (struct raw_bitmap){ 0 }), 0);
		CHECK_EQ(nothing, 0);
	}
	CHECK_EQ(unmap(RAW_WITH_BITMAP, 0, size, 8), 0);
	CHECK_EQ(bitmap[0], 3 << 7);
	bitmap[0] = 0;
	CHECK_EQ(dirty(RAW_STOP), 0);
	CHECK_EQ(dirty(RAW_STOP), 0);
	end();
}

static void container_without_iommu(void)
{
	struct vfiomig_tracker_options options;
	struct vfiomig_tracker_info info;
	struct vfiomig_tracker *tracker = NULL;
	int fd = open("/dev/vfio/vfio", O_RDWR | O_CLOEXEC);

	lab_step("a container without an IOMMU");
	CHECK(fd >= 0);
	t.device.container = fd;
	CHECK_EQ(dirty(RAW_START), -EINVAL);
	t.device.container = -1;
	VFIOMIG_INIT(&options);
	VFIOMIG_INIT(&info);
	options.flags = VFIOMIG_TRACKER_F_TYPE1;
	options.container_fd = fd;
	OK(vfiomig_tracker_new(&options, &tracker, ERR));
	OK(vfiomig_tracker_get_info(tracker, &info, ERR));
	CHECK_EQ(info.kind, VFIOMIG_TRACKER_KIND_EVERYTHING);
	CHECK(strstr(info.reason, "container"));
	vfiomig_tracker_free(tracker);
	close(fd);

	lab_step("a descriptor that is no container");
	options.container_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	OK(vfiomig_tracker_new(&options, &tracker, ERR));
	OK(vfiomig_tracker_get_info(tracker, &info, ERR));
	CHECK_EQ(info.kind, VFIOMIG_TRACKER_KIND_EVERYTHING);
	CHECK(strstr(info.reason, strerror(ENOTTY)));
	vfiomig_tracker_free(tracker);
	close(options.container_fd);
}

static void type1_by_library(void)
{
	struct vfiomig_harvest_result result;
	struct pages got;

	lab_step("the container's log is stopped by others");
	begin("dialect=v1");
	space_map(&s, 0, 64);
	space_map(&s, 100, 64);
	space_track(&s, t.d, 0);
	OK(vfiomig_tracker_start(s.tracker, ERR));
	DMA(&t, 3, 1);
	CHECK_EQ(dirty(RAW_STOP), 0);
	for (int i = 0; i < 2; i++) {
		result = space_harvest(&s, &got);
		CHECK_EQ(result.flags, VFIOMIG_HARVEST_DEGRADED);
		CHECK_EQ(result.first_errno, EINVAL);
		CHECK_EQ(result.degraded_bytes, 128 * PAGE);
		PAGES_EQUAL(&got, &s.mapped);
	}
	lab_step("unmapped while its log is stopped");
	result = space_unmap(&s, 100, 64, VFIOMIG_UNMAP_F_LIBRARY, NULL, &got);
	WARNINGS(2); /* the log that cannot be read, once, and this */
	CHECK_EQ(result.flags, VFIOMIG_HARVEST_DEGRADED);
	PAGES_ARE(&got, "100-163"); /* T7 */
	CHECK(dma_write(&t, 100, 1) < 0);
	CHECK_EQ(dirty(RAW_START), 0);
	DMA(&t, 4, 1);
	DIRTY_ARE(&s, "4");

	lab_step("a mapping that the tracker was never told");
	/* A range that cuts it is EINVAL (T3): what the tracker knows of it is dirty, the rest exact. */
	CHECK_EQ(raw_unmap(&t.device, 0, 64 * PAGE), 0);
	CHECK_EQ(raw_map(&t.device, 0, 100 * PAGE, s.memory), 0);
	result = space_harvest(&s, &got);
	CHECK_EQ(result.flags, VFIOMIG_HARVEST_DEGRADED);
	CHECK_EQ(result.first_errno, EINVAL);
	PAGES_ARE(&got, "0-63");
	WARNINGS(1);
	OK(vfiomig_tracker_stop(s.tracker, ERR));
	end();
}

int main(int argc, char **argv)
{
	bool works;

	testdev_begin(argc, argv);
	warnings_count();
	bitmap = raw_new_bitmap();
	begin("dialect=v2");
	works = raw_log_works(&t.device);
	end();
	device_log(works);
	if (works)
		device_log_by_library();
	if (!lab_is_cdev()) {
		type1();
		container_without_iommu();
		type1_by_library();
	}
	puts("ok");
	return 0;
}
