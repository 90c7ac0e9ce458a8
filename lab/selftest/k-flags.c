/*
 * Proves that the lab's VM has a migratable device: opens an mtty mdev through
 * its group and a type1 container, asks for its migration flags with a raw
 * ioctl and prints them. Uses no library.
 *
 * usage: k-flags [group]     exit status: 0 pass, 77 skip, 1 fail
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <linux/vfio.h>

#define MDEV "00000000-0000-4000-8000-000000000001"

/* Newer than the system headers of Debian bookworm. */
#define MIGRATION_PRE_COPY (1 << 2)

static void fail(const char *what)
{
	fprintf(stderr, "k-flags: %s: %s\n", what, strerror(errno));
	exit(1);
}

/* Opens the group of the mdev: /dev/vfio/N, where sysfs names N. */
static int open_group(const char *mdev)
{
	char link[PATH_MAX], target[PATH_MAX], path[PATH_MAX];
	const char *number;
	ssize_t length;
	int fd;

	snprintf(link, sizeof(link), "/sys/bus/mdev/devices/%s/iommu_group", mdev);
	length = readlink(link, target, sizeof(target) - 1);
	if (length < 0)
		fail(link);
	target[length] = '\0';
	number = strrchr(target, '/');
	snprintf(path, sizeof(path), "/dev/vfio%.16s", number ? number : "/?");
	fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		fail(path);
	return fd;
}

int main(int argc, char **argv)
{
	struct {
		struct vfio_device_feature header;
		struct vfio_device_feature_migration migration;
	} feature = {
		.header = {
			.argsz = sizeof(feature),
			.flags = VFIO_DEVICE_FEATURE_GET | VFIO_DEVICE_FEATURE_MIGRATION,
		},
	};
	int container, group, device;
	unsigned long long flags;

	if (argc > 1 && strcmp(argv[1], "group") != 0) {
		puts("only the group transport is tried here");
		return 77;
	}

	container = open("/dev/vfio/vfio", O_RDWR | O_CLOEXEC);
	if (container < 0)
		fail("/dev/vfio/vfio");
	group = open_group(MDEV);
	if (ioctl(group, VFIO_GROUP_SET_CONTAINER, &container))
		fail("VFIO_GROUP_SET_CONTAINER");
	if (ioctl(container, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU))
		fail("VFIO_SET_IOMMU");
	device = ioctl(group, VFIO_GROUP_GET_DEVICE_FD, MDEV);
	if (device < 0)
		fail("VFIO_GROUP_GET_DEVICE_FD");
	if (ioctl(device, VFIO_DEVICE_FEATURE, &feature))
		fail("VFIO_DEVICE_FEATURE (migration)");

	flags = feature.migration.flags;
	printf("migration flags 0x%llx:%s%s%s\n", flags,
	       flags & VFIO_MIGRATION_STOP_COPY ? " STOP_COPY" : "",
	       flags & VFIO_MIGRATION_P2P ? " P2P" : "",
	       flags & MIGRATION_PRE_COPY ? " PRE_COPY" : "");

	close(device);
	close(group);
	close(container);
	return flags & VFIO_MIGRATION_STOP_COPY ? 0 : 1;
}
