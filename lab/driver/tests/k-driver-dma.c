// SPDX-License-Identifier: GPL-2.0-only
/*
 * DMA and the logs of it: the device's own, with its ranges and granule; that
 * of a type1 container, with pins; and when the device may not write.
 */
#include "raw.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#define MEMORY (4 << 20)
#define IOVA 0x10000000ull
#define FIRST (IOVA / 4096)

static uint64_t *bitmap; /* whole pages of its own (I6) */

static void dma(struct dev *dev, uint32_t page, int want)
{
	set_bar(dev, BAR_DMA, FIRST + page);
	EQ((int)bar(dev, BAR_RESULT), want);
}

static int bits(void)
{
	int count = 0;

	for (int i = 0; i < MEMORY / 4096 / 64; i++)
		count += __builtin_popcountll(bitmap[i]);
	return count;
}

static bool bit(unsigned int n)
{
	return bitmap[n / 64] >> (n % 64) & 1;
}

static void clear(void)
{
	memset(bitmap, 0, MEMORY / 4096 / 8);
}

/* ---- the device's own log -------------------------------------------------------- */

static void device_log(void)
{
	const uint64_t whole[][2] = { { IOVA, MEMORY } };
	const uint64_t two[][2] = { { IOVA, 1 << 20 }, { IOVA + (2 << 20), 1 << 20 } };
	const uint64_t overlap[][2] = { { IOVA, 1 << 20 }, { IOVA, 4096 } };
	uint64_t page = 4096;
	struct dev a;
	int fd;

	start(&a, 1, "dialect=v2 log_ranges=2");
	map_dma(&a, IOVA, MEMORY);

	step("refusals");
	EQ(log_start(&a, &page, whole, 0), -EINVAL);
	EQ(log_start(&a, &page, overlap, 2), -EINVAL);
	{
		const uint64_t three[][2] = { { 0, 4096 }, { 8192, 4096 }, { 16384, 4096 } };

		EQ(log_start(&a, &page, three, 3), -E2BIG);
	}
	page = 0;
	EQ(log_start(&a, &page, whole, 1), -EINVAL);
	EQ(log_stop(&a), 0);

	page = 4096;
	EQ(log_start(&a, &page, whole, 1), 0);
	EQ(page, 4096);
	EQ(log_start(&a, &page, whole, 1), -EINVAL); /* not twice (L1) */
	dma(&a, 3, 0);
	dma(&a, 700, 0);
	clear();
	if (!has_iommufd()) {
		/* Stock Debian: started, and cannot be read. */
		EQ(log_report(&a, IOVA, MEMORY, 4096, bitmap), -EOPNOTSUPP);
		EQ(log_stop(&a), 0);
		goto out;
	}
	step("exact, and cleared by reading");
	EQ(log_report(&a, IOVA, MEMORY, 4096, bitmap), 0);
	EQ(bits(), 2);
	CHECK(bit(3) && bit(700));
	clear();
	EQ(log_report(&a, IOVA, MEMORY, 4096, bitmap), 0);
	EQ(bits(), 0);

	step("a coarser report");
	dma(&a, 17, 0);
	EQ(log_report(&a, IOVA, MEMORY, 65536, bitmap), 0);
	EQ(bits(), 1);
	CHECK(bit(1));

	step("through states and a reset");
	EQ(v2_set(&a, PRE_COPY, &fd), 0);
	dma(&a, 1, 0);
	EQ(v2_set(&a, PRE_COPY_P2P, NULL), 0);
	dma(&a, 2, 0); /* P2P stops no writes to memory */
	EQ(v2_set(&a, STOP_COPY, NULL), 0);
	dma(&a, 4, -EBUSY);
	EQ(v2_set(&a, STOP, NULL), 0);
	VIOLATED(&a, V_LEFT_UNREAD);
	dma(&a, 4, -EBUSY);
	close(fd);
	EQ(reset(&a), 0);
	clear();
	EQ(log_report(&a, IOVA, MEMORY, 4096, bitmap), 0);
	EQ(bits(), 2);
	CHECK(bit(1) && bit(2));

	step("many pages");
	set_bar(&a, BAR_DMA_PAGES, 1000);
	dma(&a, 10, 0);
	set_bar(&a, BAR_DMA_PAGES, 1);
	clear();
	EQ(log_report(&a, IOVA, MEMORY, 4096, bitmap), 0);
	EQ(bits(), 1000);
	CHECK(!bit(9) && bit(10) && bit(1009) && !bit(1010));
	EQ(log_stop(&a), 0);
	EQ(log_stop(&a), 0);
	EQ(log_report(&a, IOVA, MEMORY, 4096, bitmap), -EINVAL);

	step("ranges");
	page = 4096;
	EQ(log_start(&a, &page, two, 2), 0);
	dma(&a, 255, 0);
	dma(&a, 256, 0); /* in none */
	dma(&a, 512, 0);
	dma(&a, 768, 0); /* in none */
	clear();
	EQ(log_report(&a, two[0][0], two[0][1], 4096, bitmap), 0);
	EQ(bits(), 1);
	CHECK(bit(255));
	clear();
	EQ(log_report(&a, two[1][0], two[1][1], 4096, bitmap), 0);
	EQ(bits(), 1);
	CHECK(bit(0));
	CLEAN(&a);
	EQ(log_report(&a, IOVA, MEMORY, 4096, bitmap), 0);
	VIOLATED(&a, V_LOG_RANGE);
	EQ(log_stop(&a), 0);
	finish(&a);

	step("a device with a granule of 64 KiB");
	start(&a, 1, "dialect=v2 log_page=64K");
	map_dma(&a, IOVA, MEMORY);
	page = 4096;
	EQ(log_start(&a, &page, whole, 1), 0);
	EQ(page, 65536);
	dma(&a, 20, 0);
	clear();
	EQ(log_report(&a, IOVA, MEMORY, 4096, bitmap), 0);
	EQ(bits(), 16);
	CHECK(bit(16) && bit(31));
out:
	finish(&a);

	step("a device without a log");
	start(&a, 1, "dialect=v2 dma_log=0");
	EQ(log_start(&a, &page, whole, 1), -ENOTTY);
	finish(&a);
}

/* ---- type1 ------------------------------------------------------------------------ */

static int type1_dirty(const struct dev *dev, uint32_t flag)
{
	struct {
		struct vfio_iommu_type1_dirty_bitmap header;
		struct vfio_iommu_type1_dirty_bitmap_get get;
	} request = { .header = { .argsz = sizeof(request), .flags = flag },
		      .get = { .iova = IOVA, .size = MEMORY,
			       .bitmap = { .pgsize = 4096, .size = MEMORY / 4096 / 8,
					   .data = (void *)bitmap } } };

	clear();
	if (flag != VFIO_IOMMU_DIRTY_PAGES_FLAG_GET_BITMAP)
		request.header.argsz = sizeof(request.header);
	return ioctl(dev->container, VFIO_IOMMU_DIRTY_PAGES, &request) ? -errno : 0;
}

static void pin(struct dev *dev, unsigned int what, uint32_t page, int want)
{
	set_bar(dev, what, FIRST + page);
	EQ((int)bar(dev, BAR_RESULT), want);
}

static void type1_log(void)
{
	struct {
		struct vfio_iommu_type1_dma_unmap unmap;
		struct vfio_bitmap bitmap;
	} unmap = { .unmap = { .argsz = sizeof(unmap), .flags = VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP,
			       .iova = IOVA, .size = MEMORY },
		    .bitmap = { .pgsize = 4096, .size = MEMORY / 4096 / 8, .data = (void *)bitmap } };
	struct dev a;

	start(&a, 1, "dialect=v1");
	map_dma(&a, IOVA, MEMORY);
	EQ(type1_dirty(&a, VFIO_IOMMU_DIRTY_PAGES_FLAG_START), 0);
	/* Until a page is pinned, or one was written, the scope is all of memory. */
	dma(&a, 0, 0);
	EQ(type1_dirty(&a, VFIO_IOMMU_DIRTY_PAGES_FLAG_GET_BITMAP), 0);
	dma(&a, 5, 0);
	dma(&a, 6, 0);
	dma(&a, 1000, 0);
	EQ(type1_dirty(&a, VFIO_IOMMU_DIRTY_PAGES_FLAG_GET_BITMAP), 0);
	EQ(bits(), 3);
	CHECK(bit(5) && bit(6) && bit(1000));
	EQ(type1_dirty(&a, VFIO_IOMMU_DIRTY_PAGES_FLAG_GET_BITMAP), 0);
	EQ(bits(), 0);

	step("a pinned page is always dirty");
	pin(&a, BAR_PIN, 9, 0);
	pin(&a, BAR_PIN, 9, -EEXIST);
	for (int i = 0; i < 3; i++) {
		EQ(type1_dirty(&a, VFIO_IOMMU_DIRTY_PAGES_FLAG_GET_BITMAP), 0);
		EQ(bits(), 1);
		CHECK(bit(9));
	}
	pin(&a, BAR_UNPIN, 9, 0);
	pin(&a, BAR_UNPIN, 9, -ENOENT);
	EQ(type1_dirty(&a, VFIO_IOMMU_DIRTY_PAGES_FLAG_GET_BITMAP), 0); /* once more */
	EQ(type1_dirty(&a, VFIO_IOMMU_DIRTY_PAGES_FLAG_GET_BITMAP), 0);
	EQ(bits(), 0);

	step("unmap with bitmap, a page being pinned");
	pin(&a, BAR_PIN, 11, 0);
	dma(&a, 12, 0);
	clear();
	EQ(ioctl(a.container, VFIO_IOMMU_UNMAP_DMA, &unmap), 0);
	EQ(unmap.unmap.size, MEMORY);
	EQ(bits(), 2);
	CHECK(bit(11) && bit(12));
	pin(&a, BAR_UNPIN, 11, -ENOENT); /* it was told to let go */
	CHECK((int)bar(&a, BAR_RESULT) < 0);
	set_bar(&a, BAR_DMA, FIRST);
	CHECK((int)bar(&a, BAR_RESULT) < 0); /* nothing is mapped */
	EQ(type1_dirty(&a, VFIO_IOMMU_DIRTY_PAGES_FLAG_STOP), 0);
	CLEAN(&a);
	finish(&a);
}

/* ---- either ------------------------------------------------------------------------ */

static void states_and_pins(void)
{
	unsigned char *memory;
	struct dev a;

	start(&a, 1, "dialect=v1 ndma=1");
	memory = map_dma(&a, IOVA, MEMORY);
	set_bar(&a, BAR_DMA_VALUE, 0xfeedbeef);
	dma(&a, 2, 0);
	EQ(((uint32_t *)(memory + 2 * 4096))[0], FIRST + 2);
	EQ(((uint32_t *)(memory + 2 * 4096))[1], 0xfeedbeef);
	EQ(change_state(&a, 0, BIT_NDMA), 0);
	dma(&a, 2, -EBUSY); /* N12 */
	EQ(change_state(&a, BIT_NDMA, 0), 0);
	dma(&a, 2, 0);
	EQ(change_state(&a, BIT_RUNNING, 0), 0);
	dma(&a, 2, -EBUSY);
	EQ(change_state(&a, 0, BIT_RUNNING), 0);
	set_bar(&a, BAR_DMA, 1);
	CHECK((int)bar(&a, BAR_RESULT) < 0); /* not mapped */

	step("closed with pages pinned");
	for (int i = 0; i < 20; i++)
		pin(&a, BAR_PIN, i, 0);
	CLEAN(&a);
	finish(&a);
}

int main(int argc, char **argv)
{
	begin(argc, argv);
	bitmap = mmap(NULL, 1 << 16, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHECK(bitmap != MAP_FAILED);
	states_and_pins();
	device_log();
	if (!is_cdev())
		type1_log();
	return 0;
}
