/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Opens a VFIO device, by group and container or by cdev and iommufd. A VMM has this already: the library takes the
 * device fd, and never opens a group, binds an iommufd or maps memory itself.
 */
#ifndef VFIO_OPEN_H
#define VFIO_OPEN_H

enum vfio_way {
    VFIO_ANY, /* the cdev if there is one, else the group */
    VFIO_GROUP,
    VFIO_CDEV,
};

struct vfio_device {
    int fd;        /* for vfiomig_device_new_kernel(), and to be closed after vfiomig_device_free() */
    int group;     /* the rest keeps the device open for us; -1 where the way has none */
    int container;
    int iommufd;
};

/* `name` is a PCI address (0000:00:10.0) or the UUID of an mdev. 0, or -1 after saying why not. */
int vfio_open(struct vfio_device *device, const char *name, enum vfio_way way);
void vfio_close(struct vfio_device *device);

#endif
