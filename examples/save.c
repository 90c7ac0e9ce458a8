/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * save: the state of a VFIO device into a file.
 *
 *   RUNNING -> PRE_COPY (if the device has it): what can be had while it runs
 *           -> STOP_COPY: the rest, to the END of the stream
 *           -> STOP
 *
 * On any failure it goes back to where it was. There is one device and no guest, so no RAM to send and no vCPU to stop;
 * live-migrate shows where they belong.
 */
#include "state-file.h"
#include "vfio-open.h"

#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <vfiomig.h>

#define PRE_COPY_MAX_CALLS 100000

static const char usage[] =
    "usage: save [OPTION...] DEVICE FILE\n"
    "Saves the migration state of DEVICE (a PCI address as 0000:00:10.0, or the UUID of an mdev) to FILE.\n"
    "\n"
    "  --cdev, --group   how to open it (default: the cdev if there is one, else the group)\n"
    "  --resume          let it run again afterwards (default: it is left in STOP)\n"
    "  --help\n";

/* Says what the library says (it names the device) and gives the error back. */
static int failed(struct vfiomig_error *error)
{
    fprintf(stderr, "save: %s\n", vfiomig_error_message(error));
    vfiomig_error_free(error);
    return -1;
}

/* KEEP: a device that holds the only copy of its state is never reset behind the caller's back. */
static int set_state(struct vfiomig_device *device, uint32_t state)
{
    struct vfiomig_error *error = NULL;
    return vfiomig_device_set_state(device, state, VFIOMIG_ON_FAILURE_KEEP, 0, &error) < 0 ? failed(error) : 0;
}

/* Sends the stream to `fd` until it says `until`, at most `max_calls` times a buffer. */
static int send_until(struct vfiomig_device *device, int fd, uint32_t until, uint64_t max_calls)
{
    struct vfiomig_error *error = NULL;
    uint32_t flags = 0;
    for (uint64_t calls = 0; (flags & until) == 0 && calls < max_calls; calls++) {
        /* At most one buffer a call, so that a thread that wants to change the state never waits long. */
        const int64_t sent = vfiomig_device_send(device, fd, 0, &flags, &error);
        if (sent == -EAGAIN) {
            /* Device or reader had no time, and nothing was moved: a firmware may take longer to save than one call waits. */
            vfiomig_error_free(error);
            error = NULL;
        } else if (sent < 0) {
            return failed(error);
        }
    }
    return 0;
}

static int save_stream(struct vfiomig_device *device, const struct vfiomig_device_info *info, int fd)
{
    if (info->state == VFIOMIG_STATE_RUNNING && (info->caps & VFIOMIG_CAP_PRE_COPY) != 0) {
        if (set_state(device, VFIOMIG_STATE_PRE_COPY) < 0) {
            return -1;
        }
        /* EMPTY is "nothing now". C5: a device may always find something more to send, hence the bound. */
        if (send_until(device, fd, VFIOMIG_CHUNK_EMPTY, PRE_COPY_MAX_CALLS) < 0) {
            return -1;
        }
    }
    /* The same session and the same stream: STOP_COPY brings what is left of it. */
    if (set_state(device, VFIOMIG_STATE_STOP_COPY) < 0) {
        return -1;
    }
    return send_until(device, fd, VFIOMIG_CHUNK_END, UINT64_MAX);
}

static int write_trailer(struct vfiomig_device *device, int fd, uint64_t *bytes)
{
    struct vfiomig_error *error = NULL;
    struct vfiomig_device_info info;
    VFIOMIG_INIT(&info);
    if (vfiomig_device_get_info(device, &info, &error) < 0) {
        return failed(error);
    }
    unsigned char trailer[TRAILER_SIZE];
    trailer_put(trailer, info.saved_bytes); /* the stream's length, for END was seen */
    if (write(fd, trailer, sizeof trailer) != (ssize_t)sizeof trailer || fsync(fd) < 0) {
        perror("save: writing the trailer");
        return -1;
    }
    *bytes = info.saved_bytes;
    return 0;
}

/* Under another name first, so that a save that was cut off leaves nothing that looks like a file of state. */
static int save_to(struct vfiomig_device *device, const struct vfiomig_device_info *info, const char *file,
                   uint64_t *bytes)
{
    char temporary[PATH_MAX];
    if (snprintf(temporary, sizeof temporary, "%s.XXXXXX", file) >= (int)sizeof temporary) {
        fprintf(stderr, "save: %s: the name is too long\n", file);
        return -1;
    }
    int fd = mkstemp(temporary); /* mode 0600: the state of a device can hold a guest's secrets */
    if (fd < 0) {
        perror(temporary);
        return -1;
    }
    int result = save_stream(device, info, fd);
    if (result == 0) {
        result = write_trailer(device, fd, bytes);
    }
    if (close(fd) < 0 && result == 0) {
        perror(temporary);
        result = -1;
    }
    if (result == 0 && rename(temporary, file) < 0) {
        perror(file);
        result = -1;
    }
    if (result < 0) {
        unlink(temporary);
    }
    return result;
}

static int save(struct vfiomig_device *device, const char *name, const char *file, bool resume)
{
    struct vfiomig_error *error = NULL;
    struct vfiomig_device_info info;
    VFIOMIG_INIT(&info);
    if (vfiomig_device_get_info(device, &info, &error) < 0) {
        return failed(error);
    }
    if (info.dialect == VFIOMIG_DIALECT_NONE) {
        fprintf(stderr, "save: %s: not migratable: %s\n", name, info.reason);
        return -1;
    }
    if (info.dialect != VFIOMIG_DIALECT_V2) {
        /* V1-10: its stream is made of segments whose lengths must survive; this file keeps only bytes. */
        fprintf(stderr, "save: %s: speaks v1 or the draft; a file of plain bytes cannot hold its segments\n", name);
        return -1;
    }
    /* Most devices are RUNNING when they are opened; a device of a paused guest, and mtty after a save, is in STOP. */
    if (info.state != VFIOMIG_STATE_RUNNING && info.state != VFIOMIG_STATE_STOP) {
        fprintf(stderr, "save: %s: found in %s, not in RUNNING or STOP\n", name, vfiomig_state_name(info.state));
        return -1;
    }

    uint64_t bytes = 0;
    int result = save_to(device, &info, file, &bytes);
    if (result == 0) {
        result = set_state(device, resume ? VFIOMIG_STATE_RUNNING : VFIOMIG_STATE_STOP);
    }
    if (result < 0) {
        /* Nothing is lost: each state of a save has a way back to where the device was, with all that it held. */
        if (set_state(device, info.state) == 0) {
            fprintf(stderr, "save: %s: is in %s again\n", name, vfiomig_state_name(info.state));
        }
        return -1;
    }
    printf("save: %s: %llu bytes to %s; the device is in %s\n", name, (unsigned long long)bytes, file,
           vfiomig_state_name(vfiomig_device_get_state(device)));
    return 0;
}

int main(int argc, char **argv)
{
    static const struct option longs[] = {
        {"cdev", no_argument, NULL, 'c'},   {"group", no_argument, NULL, 'g'},
        {"resume", no_argument, NULL, 'r'}, {"help", no_argument, NULL, 'h'},
        {0},
    };
    enum vfio_way way = VFIO_ANY;
    bool resume = false;
    int option;
    while ((option = getopt_long(argc, argv, "", longs, NULL)) != -1) {
        switch (option) {
        case 'c': way = VFIO_CDEV; break;
        case 'g': way = VFIO_GROUP; break;
        case 'r': resume = true; break;
        case 'h': fputs(usage, stdout); return 0;
        default: return 2; /* getopt has said why */
        }
    }
    if (argc - optind != 2) {
        fputs(usage, stderr);
        return 2;
    }
    const char *name = argv[optind];

    struct vfio_device opened;
    if (vfio_open(&opened, name, way) < 0) {
        return EXIT_FAILURE;
    }
    struct vfiomig_device *device = NULL;
    struct vfiomig_error *error = NULL;
    struct vfiomig_device_options options;
    VFIOMIG_INIT(&options);
    options.name = name;
    int result = vfiomig_device_new_kernel(opened.fd, &options, &device, &error) < 0
                     ? failed(error)
                     : save(device, name, argv[optind + 1], resume);
    /* In this order. What the device holds does not outlive its last fd on most hardware; a VMM goes on with it. */
    vfiomig_device_free(device);
    vfio_close(&opened);
    return result < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
