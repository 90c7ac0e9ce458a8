/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "vfio-open.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/vfio.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

/* Linux 6.6; <linux/iommufd.h> and these parts of <linux/vfio.h> are missing from the headers of some distributions. */
struct bind_iommufd {
    uint32_t argsz;
    uint32_t flags;
    int32_t iommufd;
    uint32_t out_devid;
};
struct attach_pt {
    uint32_t argsz;
    uint32_t flags;
    uint32_t pt_id;
};
struct ioas_alloc {
    uint32_t size;
    uint32_t flags;
    uint32_t out_ioas_id;
};
#define BIND_IOMMUFD _IO(VFIO_TYPE, VFIO_BASE + 18)
#define ATTACH_PT _IO(VFIO_TYPE, VFIO_BASE + 19)
#define IOAS_ALLOC _IO(VFIO_TYPE, 0x81)

static int failed(const char *name, const char *what)
{
    fprintf(stderr, "%s: %s: %s\n", name, what, strerror(errno));
    return -1;
}

/* The device's directory in sysfs. */
static int find_in_sysfs(const char *name, char *path, size_t size)
{
    static const char *const buses[] = {"pci", "mdev"};
    if (name[0] == '.' || strchr(name, '/') != NULL) {
        fprintf(stderr, "%s: a PCI address or the UUID of an mdev is wanted\n", name);
        return -1;
    }
    for (size_t i = 0; i < sizeof buses / sizeof buses[0]; i++) {
        snprintf(path, size, "/sys/bus/%s/devices/%.64s", buses[i], name);
        if (access(path, F_OK) == 0) {
            return 0;
        }
    }
    fprintf(stderr, "%s: no PCI device and no mdev has this name\n", name);
    return -1;
}

/* The path in /dev of the cdev that SYSFS/vfio-dev/vfioN names. -1 if the kernel made none. */
static int find_cdev(const char *sysfs, char *path, size_t size)
{
    char directory[PATH_MAX];
    int found = -1;
    snprintf(directory, sizeof directory, "%s/vfio-dev", sysfs);
    DIR *dir = opendir(directory);
    if (dir == NULL) {
        return -1;
    }
    for (const struct dirent *entry; found < 0 && (entry = readdir(dir)) != NULL;) {
        if (strncmp(entry->d_name, "vfio", 4) == 0) {
            snprintf(path, size, "/dev/vfio/devices/%s", entry->d_name);
            found = access(path, F_OK);
        }
    }
    closedir(dir);
    return found;
}

static int open_cdev(struct vfio_device *d, const char *name, const char *path)
{
    d->iommufd = open("/dev/iommu", O_RDWR | O_CLOEXEC);
    if (d->iommufd < 0) {
        return failed(name, "/dev/iommu");
    }
    d->fd = open(path, O_RDWR | O_CLOEXEC);
    if (d->fd < 0) {
        return failed(name, path);
    }
    /* Before it is bound, a cdev answers every other request with EINVAL. */
    struct bind_iommufd bind = {.argsz = sizeof bind, .iommufd = d->iommufd};
    if (ioctl(d->fd, BIND_IOMMUFD, &bind) < 0) {
        return failed(name, "VFIO_DEVICE_BIND_IOMMUFD");
    }
    /* An address space, empty here: a VMM maps guest RAM in it. Some devices are of no use without one. */
    struct ioas_alloc ioas = {.size = sizeof ioas};
    if (ioctl(d->iommufd, IOAS_ALLOC, &ioas) < 0) {
        return failed(name, "IOMMU_IOAS_ALLOC");
    }
    struct attach_pt attach = {.argsz = sizeof attach, .pt_id = ioas.out_ioas_id};
    if (ioctl(d->fd, ATTACH_PT, &attach) < 0) {
        return failed(name, "VFIO_DEVICE_ATTACH_IOMMUFD_PT");
    }
    return 0;
}

static int open_group(struct vfio_device *d, const char *name, const char *sysfs)
{
    /* SYSFS/iommu_group links to .../NUMBER, and the group is /dev/vfio/NUMBER. */
    char link[PATH_MAX], target[PATH_MAX], path[PATH_MAX];
    snprintf(link, sizeof link, "%s/iommu_group", sysfs);
    ssize_t len = readlink(link, target, sizeof target - 1);
    if (len < 0) {
        return failed(name, "it has no IOMMU group");
    }
    target[len] = '\0';
    const char *slash = strrchr(target, '/');
    snprintf(path, sizeof path, "/dev/vfio/%.64s", slash != NULL ? slash + 1 : target);

    d->group = open(path, O_RDWR | O_CLOEXEC);
    if (d->group < 0) {
        return failed(name, path);
    }
    struct vfio_group_status status = {.argsz = sizeof status};
    if (ioctl(d->group, VFIO_GROUP_GET_STATUS, &status) < 0) {
        return failed(name, "VFIO_GROUP_GET_STATUS");
    }
    if ((status.flags & VFIO_GROUP_FLAGS_VIABLE) == 0) {
        fprintf(stderr, "%s: a device of its IOMMU group is bound to a driver that is not VFIO's\n", name);
        return -1;
    }

    d->container = open("/dev/vfio/vfio", O_RDWR | O_CLOEXEC);
    if (d->container < 0) {
        return failed(name, "/dev/vfio/vfio");
    }
    if (ioctl(d->container, VFIO_GET_API_VERSION) != VFIO_API_VERSION ||
        ioctl(d->container, VFIO_CHECK_EXTENSION, VFIO_TYPE1v2_IOMMU) != 1) {
        fprintf(stderr, "%s: this kernel has no VFIO type1 v2\n", name);
        return -1;
    }
    /* In this order: a container has an IOMMU type only after a group is in it, a device only after that. */
    if (ioctl(d->group, VFIO_GROUP_SET_CONTAINER, &d->container) < 0) {
        return failed(name, "VFIO_GROUP_SET_CONTAINER");
    }
    if (ioctl(d->container, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU) < 0) {
        return failed(name, "VFIO_SET_IOMMU");
    }
    d->fd = ioctl(d->group, VFIO_GROUP_GET_DEVICE_FD, name);
    if (d->fd < 0) {
        return failed(name, "VFIO_GROUP_GET_DEVICE_FD");
    }
    return 0;
}

int vfio_open(struct vfio_device *d, const char *name, enum vfio_way way)
{
    char sysfs[128], cdev[PATH_MAX];
    *d = (struct vfio_device){-1, -1, -1, -1};
    if (find_in_sysfs(name, sysfs, sizeof sysfs) < 0) {
        return -1;
    }
    int result;
    if (way != VFIO_GROUP && find_cdev(sysfs, cdev, sizeof cdev) == 0) {
        result = open_cdev(d, name, cdev);
    } else if (way == VFIO_CDEV) {
        fprintf(stderr, "%s: it has no cdev in /dev/vfio/devices; is it bound to a VFIO driver?\n", name);
        result = -1;
    } else {
        result = open_group(d, name, sysfs);
    }
    if (result < 0) {
        vfio_close(d);
    }
    return result;
}

static void close_if_open(int *fd)
{
    if (*fd >= 0) {
        close(*fd);
    }
    *fd = -1;
}

void vfio_close(struct vfio_device *d)
{
    /* The device first, then what it stands on. */
    close_if_open(&d->fd);
    close_if_open(&d->group);
    close_if_open(&d->container);
    close_if_open(&d->iommufd);
}
