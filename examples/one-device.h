/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * What save.c and load.c have in common: one device, in a group as a VMM's devices are, and no guest. It is the
 * kernel's, or that of a vfio-user server.
 */
#ifndef ONE_DEVICE_H
#define ONE_DEVICE_H

#include "vfio-open.h"

#include <stdbool.h>
#include <stddef.h>
#include <vfiomig.h>

/* Devices of a wire are found by name. A VMM gives the same one on both sides: the role in the machine, no address. */
#define DEVICE_NAME "device"

struct one_device {
    const char *who, *name; /* for messages: the program, and what the command line calls the device */
    enum vfio_way way;
    bool draft; /* v1 has the same region: only who says so gets the draft of 2019 */
    struct vfio_device opened;
    struct vfiomig_vfio_user *connection; /* or this: unix:PATH, the socket of a vfio-user server */
    struct vfiomig_device *device;
    struct vfiomig_tracker *tracker;
    struct vfiomig_group *group;
    struct vfiomig_migration *migration;
    struct vfiomig_device_info info; /* as it was found */
};

#define ONE_DEVICE_INIT(program) {.who = (program), .opened = {-1, -1, -1, -1}}

/* 0, or -1 after saying why not; to be closed in either case. */
int one_device_open(struct one_device *d, uint32_t direction);
void one_device_close(struct one_device *d);

/* Says what the library says and gives the error back. Returns -1. */
int one_device_failed(const struct one_device *d, struct vfiomig_error *error);

#endif
