/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Mapping, and the kernel's dirty logs, without the library. See dirty.h. The
 * structs are written out here as in device.c, and for the same reason.
 */
#include "dirty.h"

#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#define VFIO(number) _IO(';', 100 + (number))
#define MAP_DMA VFIO(13)
#define UNMAP_DMA VFIO(14)
#define DEVICE_FEATURE VFIO(17)
#define DIRTY_PAGES VFIO(17) /* of a container */
#define IOAS_MAP _IO(';', 0x85)
#define IOAS_UNMAP _IO(';', 0x86)
#define VFIO_IOAS _IO(';', 0x88)

#define READ_AND_WRITE 3u
#define IOAS_FIXED_READ_WRITE 7u
#define VFIO_IOAS_SET 1u
#define LOG_START 6u
#define LOG_STOP 7u
#define LOG_REPORT 8u

struct dma_map {
	uint32_t argsz, flags;
	uint64_t vaddr, iova, size;
};
struct dma_unmap {
	uint32_t argsz, flags;
	uint64_t iova, size;
	uint64_t bitmap_page_size, bitmap_size, bitmap; /* with RAW_WITH_BITMAP only */
};
struct ioas_map {
	uint32_t size, flags, ioas, reserved;
	uint64_t user_va, length, iova;
};
struct ioas_unmap {
	uint32_t size, ioas;
	uint64_t iova, length;
};
struct vfio_ioas {
	uint32_t size, ioas;
	uint16_t operation, reserved;
};
struct dirty_pages {
	uint32_t argsz, flags;
	uint64_t iova, size;
	uint64_t bitmap_page_size, bitmap_size, bitmap;
};
struct log_start {
	uint32_t argsz, flags;
	uint64_t page_size;
	uint32_t num_ranges, reserved;
	uint64_t ranges;
};
struct log_stop {
	uint32_t argsz, flags;
};
struct log_report {
	uint32_t argsz, flags;
	uint64_t iova, length, page_size, bitmap;
};

static int request(int fd, unsigned long number, void *argument)
{
	return ioctl(fd, number, argument) < 0 ? -errno : 0;
}

int raw_map(const struct lab_device *device, uint64_t iova, uint64_t size, void *at)
{
	struct ioas_map ioas = { .size = sizeof(ioas), .flags = IOAS_FIXED_READ_WRITE,
				 .ioas = device->ioas, .user_va = (uintptr_t)at, .length = size,
				 .iova = iova };
	struct dma_map map = { .argsz = sizeof(map), .flags = READ_AND_WRITE,
			       .vaddr = (uintptr_t)at, .iova = iova, .size = size };

	if (device->container < 0)
		return request(device->iommufd, IOAS_MAP, &ioas);
	return request(device->container, MAP_DMA, &map);
}

int raw_unmap(const struct lab_device *device, uint64_t iova, uint64_t size)
{
	struct ioas_unmap ioas = { .size = sizeof(ioas), .ioas = device->ioas, .iova = iova,
				   .length = size };

	if (device->container < 0)
		return request(device->iommufd, IOAS_UNMAP, &ioas);
	return raw_unmap_dirty(device, 0, iova, &size, (struct raw_bitmap){ 0 });
}

void raw_show_as_container(const struct lab_device *device)
{
	struct vfio_ioas set = { .size = sizeof(set), .ioas = device->ioas,
				 .operation = VFIO_IOAS_SET };

	CHECK_EQ(request(device->iommufd, VFIO_IOAS, &set), 0);
}

int raw_unmap_dirty(const struct lab_device *device, uint32_t flags, uint64_t iova, uint64_t *size,
		    struct raw_bitmap bitmap)
{
	struct dma_unmap unmap = {
		.argsz = flags & RAW_WITH_BITMAP ? sizeof(unmap) :
						   offsetof(struct dma_unmap, bitmap_page_size),
		.flags = flags, .iova = iova, .size = *size,
		.bitmap_page_size = bitmap.page_size, .bitmap_size = bitmap.size,
		.bitmap = (uintptr_t)bitmap.data,
	};
	int ret = request(device->container, UNMAP_DMA, &unmap);

	*size = unmap.size;
	return ret;
}

int raw_dirty_pages(const struct lab_device *device, uint32_t flags, uint64_t iova, uint64_t size,
		    struct raw_bitmap bitmap)
{
	struct dirty_pages dirty = {
		.argsz = flags & RAW_GET ? sizeof(dirty) : offsetof(struct dirty_pages, iova),
		.flags = flags, .iova = iova, .size = size,
		.bitmap_page_size = bitmap.page_size, .bitmap_size = bitmap.size,
		.bitmap = (uintptr_t)bitmap.data,
	};

	return request(device->container, DIRTY_PAGES, &dirty);
}

int raw_log_start(const struct lab_device *device, uint64_t *page_size,
		  const struct vfiomig_range *ranges, uint32_t count)
{
	struct log_start start = { .argsz = sizeof(start), .flags = LAB_FEATURE_SET | LOG_START,
				   .page_size = *page_size, .num_ranges = count,
				   .ranges = (uintptr_t)ranges };
	int ret = request(device->fd, DEVICE_FEATURE, &start);

	*page_size = start.page_size;
	return ret;
}

int raw_log_stop(const struct lab_device *device)
{
	struct log_stop stop = { .argsz = sizeof(stop), .flags = LAB_FEATURE_SET | LOG_STOP };

	return request(device->fd, DEVICE_FEATURE, &stop);
}

int raw_log_report(const struct lab_device *device, uint64_t iova, uint64_t size,
		   uint64_t page_size, void *bitmap)
{
	struct log_report report = { .argsz = sizeof(report),
				     .flags = LAB_FEATURE_GET | LOG_REPORT,
				     .iova = iova, .length = size, .page_size = page_size,
				     .bitmap = (uintptr_t)bitmap };

	return request(device->fd, DEVICE_FEATURE, &report);
}

bool raw_log_works(const struct lab_device *device)
{
	const struct vfiomig_range range = { .size = PAGE };
	uint64_t *bitmap = raw_new_bitmap(), page_size = PAGE;
	int ret;

	CHECK_EQ(raw_log_start(device, &page_size, &range, 1), 0);
	ret = raw_log_report(device, 0, PAGE, PAGE, bitmap);
	CHECK(ret == 0 || ret == -EOPNOTSUPP);
	CHECK_EQ(raw_log_stop(device), 0);
	munmap(bitmap, RAW_BITMAP_SIZE);
	return !ret;
}

uint64_t *raw_new_bitmap(void)
{
	void *memory = mmap(NULL, RAW_BITMAP_SIZE, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	CHECK(memory != MAP_FAILED);
	return memset(memory, 0, RAW_BITMAP_SIZE);
}
