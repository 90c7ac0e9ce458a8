// SPDX-License-Identifier: GPL-2.0-only
/* See raw.h. */
#include "raw.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#define PARENT "/sys/class/mdev_bus/vfiomig_test"

/* ---- checks ----------------------------------------------------------------- */

static char now[256] = "start";
static bool cdev;

void step(const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(now, sizeof(now), format, arguments);
	va_end(arguments);
}

void fail(const char *file, int line, const char *format, ...)
{
	const char *name = strrchr(file, '/');
	va_list arguments;

	fprintf(stderr, "%s:%d: ", name ? name + 1 : file, line);
	va_start(arguments, format);
	vfprintf(stderr, format, arguments);
	va_end(arguments);
	fprintf(stderr, "\n  during: %s\n", now);
	exit(1);
}

void check_eq(const char *file, int line, const char *what, long long got, long long want)
{
	if (got != want)
		fail(file, line, "%s is %lld (%#llx), not %lld (%#llx)", what, got, got, want, want);
}

/* ---- mdevs -------------------------------------------------------------------- */

void begin(int argc, char **argv)
{
	if (argc < 2 || (strcmp(argv[1], "group") && strcmp(argv[1], "cdev"))) {
		fprintf(stderr, "usage: %s group|cdev\n", argv[0]);
		exit(2);
	}
	cdev = !strcmp(argv[1], "cdev");
	setvbuf(stdout, NULL, _IOLBF, 0);
	if (access(PARENT, F_OK)) {
		puts("this kernel has no test driver");
		exit(77);
	}
}

bool is_cdev(void)
{
	return cdev;
}

bool has_iommufd(void)
{
	return !access("/dev/iommu", F_OK);
}

static const char *uuid_of(int number)
{
	static _Thread_local char uuid[64];

	snprintf(uuid, sizeof(uuid), "00000000-0000-4000-8001-%012d", number);
	return uuid;
}

static const char *sysfs_of(int number, const char *name)
{
	static _Thread_local char path[256];

	snprintf(path, sizeof(path), "/sys/bus/mdev/devices/%s/%s", uuid_of(number), name);
	return path;
}

static int write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY), ret = 0;

	if (fd < 0)
		return -errno;
	if (write(fd, text, strlen(text)) < 0)
		ret = -errno;
	close(fd);
	return ret;
}

void make_mdev(int number, const char *config)
{
	char text[512];

	if (mdev_is_there(number)) /* left behind by a test that failed */
		remove_mdev(number);
	snprintf(text, sizeof(text), "%s %s", uuid_of(number), config);
	EQ(write_file(PARENT "/config", text), 0);
	EQ(write_file(PARENT "/mdev_supported_types/vfiomig_test-1/create", uuid_of(number)), 0);
}

void remove_mdev(int number)
{
	EQ(set_attribute(number, "remove", "1"), 0);
}

bool mdev_is_there(int number)
{
	return !access(sysfs_of(number, ""), F_OK);
}

int get_attribute(int number, const char *name, char *text, size_t size)
{
	int fd = open(sysfs_of(number, name), O_RDONLY);
	size_t have = 0;
	ssize_t n;

	if (fd < 0)
		return -errno;
	while (have < size - 1 && (n = read(fd, text + have, size - 1 - have)) > 0)
		have += n;
	text[have] = 0;
	close(fd);
	return 0;
}

int set_attribute(int number, const char *name, const char *text)
{
	return write_file(sysfs_of(number, name), text);
}

/* ---- open ---------------------------------------------------------------------- */

struct bind_iommufd {
	uint32_t argsz, flags;
	int32_t iommufd;
	uint32_t out_devid;
};
#define DEVICE_BIND_IOMMUFD _IO(VFIO_TYPE, VFIO_BASE + 18)
struct attach_pt {
	uint32_t argsz, flags, pt_id;
};
#define DEVICE_ATTACH_PT _IO(VFIO_TYPE, VFIO_BASE + 19)
struct ioas_alloc {
	uint32_t size, flags, out_id;
};
#define IOAS_ALLOC _IO(VFIO_TYPE, 0x81)
struct ioas_map {
	uint32_t size, flags, ioas_id, reserved;
	uint64_t user_va, length, iova;
};
#define IOAS_MAP _IO(VFIO_TYPE, 0x85)
#define IOAS_MAP_FIXED_RW 7

static void open_group(struct dev *dev)
{
	char link[256], path[300];
	ssize_t n = readlink(sysfs_of(dev->number, "iommu_group"), link, sizeof(link) - 1);

	CHECK(n > 0);
	link[n] = 0;
	snprintf(path, sizeof(path), "/dev/vfio/%s", strrchr(link, '/') + 1);
	CHECK((dev->group = open(path, O_RDWR)) >= 0);
	CHECK((dev->container = open("/dev/vfio/vfio", O_RDWR)) >= 0);
	EQ(ioctl(dev->group, VFIO_GROUP_SET_CONTAINER, &dev->container), 0);
	EQ(ioctl(dev->container, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU), 0);
	CHECK((dev->fd = ioctl(dev->group, VFIO_GROUP_GET_DEVICE_FD, uuid_of(dev->number))) >= 0);
}

static void open_cdev(struct dev *dev)
{
	struct bind_iommufd bind = { .argsz = sizeof(bind) };
	struct attach_pt attach = { .argsz = sizeof(attach) };
	struct ioas_alloc alloc = { .size = sizeof(alloc) };
	DIR *dir = opendir(sysfs_of(dev->number, "vfio-dev"));
	struct dirent *entry;
	char path[300] = "";

	CHECK(dir);
	while ((entry = readdir(dir)))
		if (entry->d_name[0] != '.')
			snprintf(path, sizeof(path), "/dev/vfio/devices/%s", entry->d_name);
	closedir(dir);
	CHECK((dev->fd = open(path, O_RDWR)) >= 0);
	CHECK((dev->iommufd = open("/dev/iommu", O_RDWR)) >= 0);
	bind.iommufd = dev->iommufd;
	EQ(ioctl(dev->fd, DEVICE_BIND_IOMMUFD, &bind), 0);
	EQ(ioctl(dev->iommufd, IOAS_ALLOC, &alloc), 0);
	dev->ioas = attach.pt_id = alloc.out_id;
	EQ(ioctl(dev->fd, DEVICE_ATTACH_PT, &attach), 0);
}

static void read_capabilities(struct dev *dev, const struct vfio_region_info *info)
{
	const struct vfio_region_info_cap_sparse_mmap *sparse;
	const struct vfio_region_info_cap_type *type;
	const struct vfio_info_cap_header *cap;
	uint32_t at;

	for (at = info->cap_offset; at; at = cap->next) {
		cap = (const void *)((const char *)info + at);
		switch (cap->id) {
		case VFIO_REGION_INFO_CAP_TYPE:
			type = (const void *)cap;
			EQ(type->subtype, 1);
			dev->type = type->type;
			break;
		case VFIO_REGION_INFO_CAP_SPARSE_MMAP:
			sparse = (const void *)cap;
			CHECK(sparse->nr_areas <= 2);
			dev->areas = sparse->nr_areas;
			for (int i = 0; i < dev->areas; i++) {
				dev->area[i].offset = sparse->areas[i].offset;
				dev->area[i].size = sparse->areas[i].size;
			}
			break;
		case 6:
			dev->ndma = true;
			break;
		default:
			fail(__FILE__, __LINE__, "capability %u", cap->id);
		}
	}
	if (!dev->areas && (info->flags & VFIO_REGION_INFO_FLAG_MMAP)) {
		dev->areas = 1;
		dev->area[0].size = info->size;
	}
}

static void find_region(struct dev *dev)
{
	struct vfio_device_info info = { .argsz = sizeof(info) };
	struct {
		struct vfio_region_info info;
		char caps[256];
	} region = { .info = { .argsz = sizeof(region.info), .index = 9 } };

	EQ(ioctl(dev->fd, VFIO_DEVICE_GET_INFO, &info), 0);
	CHECK(info.flags & VFIO_DEVICE_FLAGS_RESET);
	if (info.num_regions <= 9)
		return;
	EQ(ioctl(dev->fd, VFIO_DEVICE_GET_REGION_INFO, &region.info), 0);
	CHECK(region.info.argsz > sizeof(region.info) && !region.info.cap_offset);
	EQ(ioctl(dev->fd, VFIO_DEVICE_GET_REGION_INFO, &region.info), 0);
	CHECK(region.info.cap_offset);
	dev->region = region.info.offset;
	dev->size = region.info.size;
	read_capabilities(dev, &region.info);
}

void open_dev(struct dev *dev, int number)
{
	*dev = (struct dev){ .number = number, .container = -1, .group = -1, .iommufd = -1 };
	if (cdev)
		open_cdev(dev);
	else
		open_group(dev);
	find_region(dev);
}

void close_dev(struct dev *dev)
{
	int fds[] = { dev->fd, dev->group, dev->container, dev->iommufd };

	for (int i = 0; i < dev->areas; i++)
		if (dev->area[i].map)
			munmap(dev->area[i].map, dev->area[i].size);
	for (size_t i = 0; i < sizeof(fds) / sizeof(*fds); i++)
		if (fds[i] >= 0)
			close(fds[i]);
	dev->fd = dev->group = dev->container = dev->iommufd = -1;
}

void start(struct dev *dev, int number, const char *config)
{
	step("%s", config);
	make_mdev(number, config);
	open_dev(dev, number);
}

void finish(struct dev *dev)
{
	close_dev(dev);
	remove_mdev(dev->number);
}

uint32_t bar(const struct dev *dev, unsigned int offset)
{
	uint32_t value = 0;

	EQ(pread(dev->fd, &value, 4, offset), 4);
	return value;
}

void set_bar(const struct dev *dev, unsigned int offset, uint32_t value)
{
	EQ(pwrite(dev->fd, &value, 4, offset), 4);
}

int reset(const struct dev *dev)
{
	return ioctl(dev->fd, VFIO_DEVICE_RESET) ? -errno : 0;
}

void violated(const char *file, int line, const struct dev *dev, uint32_t code)
{
	uint32_t total = bar(dev, BAR_VIOLATIONS), last = bar(dev, BAR_VIOLATION);

	if (total != (code ? 1 : 0) || last != code)
		fail(file, line, "%u violations, the last is %u; expected %u", total, last, code);
	set_bar(dev, BAR_VIOLATIONS, 0);
}

/* ---- memory ------------------------------------------------------------------- */

unsigned char *map_dma(struct dev *dev, uint64_t iova, uint64_t size)
{
	void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	CHECK(memory != MAP_FAILED);
	if (cdev) {
		struct ioas_map map = { .size = sizeof(map), .flags = IOAS_MAP_FIXED_RW,
					.ioas_id = dev->ioas, .user_va = (uintptr_t)memory,
					.length = size, .iova = iova };

		EQ(ioctl(dev->iommufd, IOAS_MAP, &map), 0);
	} else {
		struct vfio_iommu_type1_dma_map map = {
			.argsz = sizeof(map),
			.flags = VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE,
			.vaddr = (uintptr_t)memory, .iova = iova, .size = size };

		EQ(ioctl(dev->container, VFIO_IOMMU_MAP_DMA, &map), 0);
	}
	return memory;
}

/* ---- v2 ------------------------------------------------------------------------ */

int feature(const struct dev *dev, uint32_t flags, void *payload, size_t size)
{
	union {
		struct vfio_device_feature feature;
		char bytes[64];
	} request = { .feature = { .argsz = sizeof(request.feature) + size, .flags = flags } };
	int ret;

	CHECK(sizeof(request.feature) + size <= sizeof(request));
	if (size)
		memcpy(request.feature.data, payload, size);
	ret = ioctl(dev->fd, VFIO_DEVICE_FEATURE, &request) ? -errno : 0;
	if (size)
		memcpy(payload, request.feature.data, size);
	return ret;
}

struct mig_state {
	uint32_t state;
	int32_t fd;
};

uint32_t v2_state(const struct dev *dev)
{
	struct mig_state mig = { .fd = -1 };

	EQ(feature(dev, FEATURE_STATE | VFIO_DEVICE_FEATURE_GET, &mig, sizeof(mig)), 0);
	return mig.state;
}

int v2_set(const struct dev *dev, uint32_t state, int *fd)
{
	struct mig_state mig = { .state = state, .fd = -1 };
	int ret = feature(dev, FEATURE_STATE | VFIO_DEVICE_FEATURE_SET, &mig, sizeof(mig));

	if (fd)
		*fd = mig.fd;
	else
		EQ(mig.fd, -1);
	return ret;
}

int log_start(const struct dev *dev, uint64_t *page_size, const uint64_t (*ranges)[2], int count)
{
	struct {
		uint64_t page_size;
		uint32_t count, reserved;
		uint64_t ranges;
	} control = { *page_size, count, 0, (uintptr_t)ranges };
	int ret = feature(dev, FEATURE_LOG_START | VFIO_DEVICE_FEATURE_SET, &control,
			  sizeof(control));

	*page_size = control.page_size;
	return ret;
}

int log_stop(const struct dev *dev)
{
	return feature(dev, FEATURE_LOG_STOP | VFIO_DEVICE_FEATURE_SET, NULL, 0);
}

int log_report(const struct dev *dev, uint64_t iova, uint64_t length, uint64_t page_size,
	       uint64_t *bitmap)
{
	uint64_t report[] = { iova, length, page_size, (uintptr_t)bitmap };

	return feature(dev, FEATURE_LOG_REPORT | VFIO_DEVICE_FEATURE_GET, report, sizeof(report));
}

/* ---- the region ------------------------------------------------------------------ */

size_t trapped_step = 1 << 20;

uint64_t reg(const struct dev *dev, unsigned int offset)
{
	uint64_t value = 0;
	int width = offset < 8 ? 4 : 8;

	EQ(pread(dev->fd, &value, width, dev->region + offset), width);
	return value;
}

int set_reg(const struct dev *dev, unsigned int offset, uint64_t value)
{
	int width = offset < 8 ? 4 : 8;

	return pwrite(dev->fd, &value, width, dev->region + offset) == width ? 0 : -errno;
}

int change_state(const struct dev *dev, uint32_t clear, uint32_t set)
{
	return set_reg(dev, R_STATE, (reg(dev, R_STATE) & ~clear) | set);
}

bool map_areas(struct dev *dev)
{
	for (int i = 0; i < dev->areas; i++) {
		void *map = mmap(NULL, dev->area[i].size, PROT_READ | PROT_WRITE, MAP_SHARED, dev->fd,
				 dev->region + dev->area[i].offset);

		if (map == MAP_FAILED)
			return false;
		dev->area[i].map = map;
	}
	return true;
}

/*
 * The mapped place of an offset, or NULL; *size is cut to where the next area,
 * mapped or not, begins.
 */
static unsigned char *place(const struct dev *dev, uint64_t offset, uint64_t *size)
{
	for (int i = 0; i < dev->areas; i++) {
		const struct area *area = &dev->area[i];

		if (!area->map)
			continue;
		if (offset >= area->offset && offset - area->offset < area->size) {
			if (*size > area->size - (offset - area->offset))
				*size = area->size - (offset - area->offset);
			return area->map + (offset - area->offset);
		}
		if (offset < area->offset && *size > area->offset - offset)
			*size = area->offset - offset;
	}
	if (*size > trapped_step)
		*size = trapped_step;
	return NULL;
}

void read_window(const struct dev *dev, void *buf, uint64_t offset, uint64_t size)
{
	unsigned char *map, *to = buf;
	uint64_t part;

	for (; size; size -= part, offset += part, to += part) {
		part = size;
		map = place(dev, offset, &part);
		if (map)
			memcpy(to, map, part);
		else
			EQ(pread(dev->fd, to, part, dev->region + offset), part);
	}
}

void write_window(const struct dev *dev, const void *buf, uint64_t offset, uint64_t size)
{
	const unsigned char *from = buf;
	unsigned char *map;
	uint64_t part;

	for (; size; size -= part, offset += part, from += part) {
		part = size;
		map = place(dev, offset, &part);
		if (map)
			memcpy(map, from, part);
		else
			EQ(pwrite(dev->fd, from, part, dev->region + offset), part);
	}
}

int move_segments(const struct dev *from, const struct dev *to, int most)
{
	static unsigned char buf[2 << 20];
	uint64_t offset, size;
	int count = 0;

	while (count < most && reg(from, R_PENDING)) {
		offset = reg(from, R_OFFSET);
		size = reg(from, R_SIZE);
		CHECK(size && size <= sizeof(buf) && offset + size <= from->size);
		read_window(from, buf, offset, size);
		write_window(to, buf, reg(to, R_OFFSET), size);
		EQ(set_reg(to, R_SIZE, size), 0);
		count++;
	}
	return count;
}
