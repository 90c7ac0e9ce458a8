/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Opening devices, and asking them without the library. See lab.h.
 *
 * The structs are the kernel's; they are written out here because the system
 * headers of Debian bookworm know neither iommufd nor pre-copy. They share no
 * line with the library, so that both must agree with the kernel.
 */
#include "lab.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define VFIO(number) _IO(';', 100 + (number))
#define GROUP_GET_STATUS VFIO(3)
#define GROUP_SET_CONTAINER VFIO(4)
#define GROUP_GET_DEVICE_FD VFIO(6)
#define SET_IOMMU VFIO(2)
#define DEVICE_GET_INFO VFIO(7)
#define DEVICE_RESET VFIO(11)
#define DEVICE_FEATURE VFIO(17)
#define DEVICE_BIND VFIO(18)
#define DEVICE_ATTACH VFIO(19)
#define IOAS_ALLOC _IO(';', 0x81)

#define SYSFS_MAX 256 /* /sys/bus/BUS/devices/NAME, and what its links point to */

#define TYPE1V2 3
#define GROUP_VIABLE 1u
#define FEATURE_PROBE (1u << 18)
#define FEATURE_DEVICE_STATE 2u
#define FEATURE_DATA_SIZE 9u

struct group_status {
	uint32_t argsz, flags;
};
struct bind {
	uint32_t argsz, flags;
	int32_t iommufd;
	uint32_t out_devid;
};
struct attach {
	uint32_t argsz, flags, pt_id;
};
struct ioas_alloc {
	uint32_t size, flags, out_ioas_id;
};
struct device_info {
	uint32_t argsz, flags, num_regions, num_irqs;
};
struct feature_header {
	uint32_t argsz, flags;
};
struct feature_state {
	uint32_t argsz, flags, state;
	int32_t data_fd;
};
struct feature_u64 {
	uint32_t argsz, flags;
	uint64_t value;
};

static bool use_cdev;

void lab_begin(int argc, char **argv)
{
	CHECK(argc > 1);
	use_cdev = !strcmp(argv[1], "cdev");
	CHECK(use_cdev || !strcmp(argv[1], "group"));
	setvbuf(stdout, NULL, _IOLBF, 0);
}

bool lab_is_cdev(void)
{
	return use_cdev;
}

static int open_node(const char *path)
{
	int fd = open(path, O_RDWR | O_CLOEXEC);

	if (fd < 0)
		lab_fail(__FILE__, __LINE__, "%s: %s", path, strerror(errno));
	return fd;
}

static void request(int fd, unsigned long number, void *argument, const char *what)
{
	if (ioctl(fd, number, argument) < 0)
		lab_fail(__FILE__, __LINE__, "%s: %s", what, strerror(errno));
}

/* sysfs names the cdev: DEVICE/vfio-dev/vfioN. */
static int open_cdev(const char *sysfs)
{
	char path[PATH_MAX];
	struct dirent *entry;
	DIR *dir;
	int fd = -1;

	snprintf(path, sizeof(path), "%s/vfio-dev", sysfs);
	dir = opendir(path);
	if (!dir)
		lab_fail(__FILE__, __LINE__, "%s: %s", path, strerror(errno));
	while (fd < 0 && (entry = readdir(dir))) {
		if (strncmp(entry->d_name, "vfio", 4))
			continue;
		snprintf(path, sizeof(path), "/dev/vfio/devices/%.32s", entry->d_name);
		fd = open_node(path);
	}
	closedir(dir);
	CHECK(fd >= 0);
	return fd;
}

static void bind_cdev(struct lab_device *device, const char *sysfs)
{
	struct bind bind = { .argsz = sizeof(bind) };
	struct ioas_alloc ioas = { .size = sizeof(ioas) };
	struct attach attach = { .argsz = sizeof(attach) };

	device->fd = open_cdev(sysfs);
	device->iommufd = open_node("/dev/iommu");
	bind.iommufd = device->iommufd;
	request(device->fd, DEVICE_BIND, &bind, "VFIO_DEVICE_BIND_IOMMUFD");
	request(device->iommufd, IOAS_ALLOC, &ioas, "IOMMU_IOAS_ALLOC");
	attach.pt_id = device->ioas = ioas.out_ioas_id;
	request(device->fd, DEVICE_ATTACH, &attach, "VFIO_DEVICE_ATTACH_IOMMUFD_PT");
}

/* sysfs names the group: DEVICE/iommu_group -> .../N is /dev/vfio/N. */
static void open_by_group(struct lab_device *device, const char *sysfs)
{
	struct group_status status = { .argsz = sizeof(status) };
	char path[PATH_MAX], target[SYSFS_MAX];
	const char *number;
	ssize_t length;

	snprintf(path, sizeof(path), "%s/iommu_group", sysfs);
	length = readlink(path, target, sizeof(target) - 1);
	if (length < 0)
		lab_fail(__FILE__, __LINE__, "%s: %s", path, strerror(errno));
	target[length] = '\0';
	number = strrchr(target, '/');
	CHECK(number);
	snprintf(path, sizeof(path), "/dev/vfio%.32s", number);
	device->group = open_node(path);
	device->container = open_node("/dev/vfio/vfio");
	request(device->group, GROUP_GET_STATUS, &status, "VFIO_GROUP_GET_STATUS");
	CHECK(status.flags & GROUP_VIABLE);
	request(device->group, GROUP_SET_CONTAINER, &device->container, "VFIO_GROUP_SET_CONTAINER");
	if (ioctl(device->container, SET_IOMMU, TYPE1V2))
		lab_fail(__FILE__, __LINE__, "VFIO_SET_IOMMU (type1 v2): %s", strerror(errno));
	device->fd = ioctl(device->group, GROUP_GET_DEVICE_FD, device->name);
	if (device->fd < 0)
		lab_fail(__FILE__, __LINE__, "VFIO_GROUP_GET_DEVICE_FD: %s", strerror(errno));
	/* The kernel does not set it for devices of a group. */
	CHECK_EQ(fcntl(device->fd, F_SETFD, FD_CLOEXEC), 0);
}

void lab_open_device(struct lab_device *device, const char *bus, const char *name)
{
	char sysfs[SYSFS_MAX];

	memset(device, 0, sizeof(*device));
	snprintf(device->name, sizeof(device->name), "%s", name);
	device->fd = device->container = device->group = device->iommufd = -1;
	snprintf(sysfs, sizeof(sysfs), "/sys/bus/%s/devices/%s", bus, name);
	if (use_cdev)
		bind_cdev(device, sysfs);
	else
		open_by_group(device, sysfs);
}

static void mdev_name(char *name, size_t size, int number)
{
	snprintf(name, size, "00000000-0000-4000-8000-%012d", number);
}

void lab_open_mdev(struct lab_device *device, int number)
{
	char name[64];

	mdev_name(name, sizeof(name), number);
	lab_open_device(device, "mdev", name);
	CHECK_EQ(raw_reset(device), 0);
	RAW_IS(device, VFIOMIG_STATE_RUNNING);
}

void lab_open_pci(struct lab_device *device, const char *address)
{
	lab_open_device(device, "pci", address);
}

void lab_close(struct lab_device *device)
{
	int *fds[] = { &device->fd, &device->group, &device->container, &device->iommufd };

	for (size_t i = 0; i < sizeof(fds) / sizeof(fds[0]); i++) {
		if (*fds[i] >= 0)
			close(*fds[i]);
		*fds[i] = -1;
	}
}

int lab_open_unbound_cdev(int number)
{
	char name[64], sysfs[SYSFS_MAX];

	mdev_name(name, sizeof(name), number);
	snprintf(sysfs, sizeof(sysfs), "/sys/bus/mdev/devices/%s", name);
	return open_cdev(sysfs);
}

uint32_t raw_state(const struct lab_device *device)
{
	struct feature_state feature = {
		.argsz = sizeof(feature),
		.flags = LAB_FEATURE_GET | FEATURE_DEVICE_STATE,
	};

	request(device->fd, DEVICE_FEATURE, &feature, "VFIO_DEVICE_FEATURE (get state)");
	return feature.state;
}

int raw_set_state(const struct lab_device *device, uint32_t state, int *data_fd)
{
	struct feature_state feature = {
		.argsz = sizeof(feature),
		.flags = LAB_FEATURE_SET | FEATURE_DEVICE_STATE,
		.state = state,
		.data_fd = -1, /* V2-5 */
	};

	if (ioctl(device->fd, DEVICE_FEATURE, &feature) < 0)
		return -errno;
	if (data_fd)
		*data_fd = feature.data_fd;
	else if (feature.data_fd >= 0)
		close(feature.data_fd);
	return 0;
}

int raw_reset(const struct lab_device *device)
{
	return ioctl(device->fd, DEVICE_RESET) < 0 ? -errno : 0;
}

uint64_t raw_data_size(const struct lab_device *device)
{
	struct feature_u64 feature = {
		.argsz = sizeof(feature),
		.flags = LAB_FEATURE_GET | FEATURE_DATA_SIZE,
	};

	request(device->fd, DEVICE_FEATURE, &feature, "VFIO_DEVICE_FEATURE (data size)");
	return feature.value;
}

int raw_probe(const struct lab_device *device, uint32_t feature_and_operation)
{
	struct feature_header feature = {
		.argsz = sizeof(feature),
		.flags = FEATURE_PROBE | feature_and_operation,
	};

	return ioctl(device->fd, DEVICE_FEATURE, &feature) < 0 ? -errno : 0;
}

uint32_t raw_info_flags(const struct lab_device *device)
{
	struct device_info info = { .argsz = sizeof(info) };

	request(device->fd, DEVICE_GET_INFO, &info, "VFIO_DEVICE_GET_INFO");
	return info.flags;
}
