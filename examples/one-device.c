/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "one-device.h"

#include <stdio.h>
#include <string.h>

#define SOCKET "unix:"

int one_device_failed(const struct one_device *d, struct vfiomig_error *error)
{
    fprintf(stderr, "%s: %s: %s\n", d->who, d->name, vfiomig_error_message(error));
    vfiomig_error_free(error);
    return -1;
}

static int make_device(struct one_device *d, struct vfiomig_error **error)
{
    struct vfiomig_device_options options;
    VFIOMIG_INIT(&options);
    options.name = DEVICE_NAME;
    options.dialect = d->draft ? VFIOMIG_DIALECT_DRAFT : VFIOMIG_DIALECT_NONE;
    if (strncmp(d->name, SOCKET, strlen(SOCKET)) != 0) {
        return vfio_open(&d->opened, d->name, d->way) < 0
                   ? -1
                   : vfiomig_device_new_kernel(d->opened.fd, &options, &d->device, error);
    }
    const int result = vfiomig_vfio_user_connect(d->name + strlen(SOCKET), NULL, &d->connection, error);
    return result < 0 ? result : vfiomig_device_new_connection(d->connection, &options, &d->device, error);
}

static int make(struct one_device *d, uint32_t direction, struct vfiomig_error **error)
{
    struct vfiomig_tracker_options log;
    VFIOMIG_INIT(&log);
    VFIOMIG_INIT(&d->info);
    /* There is no guest, so nobody asks which pages the device wrote: no log is read. A VMM has a tracker for each
     * address space, with its mappings; live-migrate shows it. */
    log.flags = VFIOMIG_TRACKER_F_EVERYTHING;
    if (make_device(d, error) < 0 || vfiomig_device_get_info(d->device, &d->info, error) < 0) {
        return -1;
    }
    if (d->info.dialect == VFIOMIG_DIALECT_NONE) {
        fprintf(stderr, "%s: %s: not migratable: %s\n", d->who, d->name, d->info.reason);
        return -1;
    }
    if (vfiomig_group_new(NULL, &d->group, error) < 0 || vfiomig_group_add_device(d->group, d->device, error) < 0 ||
        vfiomig_tracker_new(&log, &d->tracker, error) < 0 ||
        vfiomig_group_add_tracker(d->group, d->tracker, error) < 0) {
        return -1;
    }
    return vfiomig_migration_new(d->group, direction, NULL, &d->migration, error);
}

int one_device_open(struct one_device *d, uint32_t direction)
{
    struct vfiomig_error *error = NULL;
    if (make(d, direction, &error) < 0) {
        return error != NULL ? one_device_failed(d, error) : -1;
    }
    return 0;
}

/* In this order. What the device holds does not outlive its last fd on most hardware; a VMM goes on with it. */
void one_device_close(struct one_device *d)
{
    vfiomig_migration_free(d->migration);
    vfiomig_group_free(d->group);
    vfiomig_tracker_free(d->tracker);
    vfiomig_device_free(d->device);
    vfiomig_vfio_user_free(d->connection);
    vfio_close(&d->opened);
}
