/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * load: the state of a VFIO device out of a file that save made.
 *
 *   RUNNING -> RESUMING: the stream, and how long it is
 *           -> STOP: here the driver takes it, or says no
 *           -> RUNNING
 *
 * A VMM completes RAM, config space and interrupts between STOP and RUNNING; live-migrate shows where.
 */
#include "state-file.h"
#include "vfio-open.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include <vfiomig.h>

#define PIECE ((uint64_t)1 << 30)

static const char usage[] =
    "usage: load [OPTION...] FILE DEVICE\n"
    "Loads FILE, made by save, into DEVICE (a PCI address as 0000:00:10.0, or the UUID of an mdev) and lets it run.\n"
    "\n"
    "  --cdev, --group   how to open it (default: the cdev if there is one, else the group)\n"
    "  --leave-stopped   leave it in STOP\n"
    "  --help\n";

/* Says what the library says (it names the device) and gives the error back. */
static int failed(struct vfiomig_error *error)
{
    fprintf(stderr, "load: %s\n", vfiomig_error_message(error));
    vfiomig_error_free(error);
    return -1;
}

/* Opens the file and checks it as a whole before any device is touched. */
static int open_file(const char *file, uint64_t *bytes)
{
    struct stat status;
    unsigned char trailer[TRAILER_SIZE];
    int fd = open(file, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &status) < 0) {
        fprintf(stderr, "load: %s: %s\n", file, strerror(errno));
        goto bad;
    }
    if (!S_ISREG(status.st_mode)) {
        fprintf(stderr, "load: %s: not a regular file\n", file);
        goto bad;
    }
    unsigned long long size = (unsigned long long)status.st_size;
    if (size < TRAILER_SIZE ||
        pread(fd, trailer, sizeof trailer, (off_t)(size - TRAILER_SIZE)) != (ssize_t)sizeof trailer ||
        trailer_get(trailer, bytes) < 0) {
        fprintf(stderr, "load: %s: %llu bytes without the trailer of a complete save\n", file, size);
        goto bad;
    }
    if (*bytes != size - TRAILER_SIZE) {
        fprintf(stderr, "load: %s: too %s: it has %llu bytes, its trailer says %llu\n", file,
                *bytes > size - TRAILER_SIZE ? "short" : "long", size - TRAILER_SIZE, (unsigned long long)*bytes);
        goto bad;
    }
    return fd;
bad:
    if (fd >= 0) {
        close(fd);
    }
    return -1;
}

static int load_stream(struct vfiomig_device *device, int fd, uint64_t bytes)
{
    struct vfiomig_error *error = NULL;
    /* RESET: while it loads, a device holds nothing that is not in the file. */
    if (vfiomig_device_set_state(device, VFIOMIG_STATE_RESUMING, VFIOMIG_ON_FAILURE_RESET, 0, &error) < 0) {
        return failed(error);
    }
    for (uint64_t left = bytes; left > 0;) {
        int64_t n = vfiomig_device_receive(device, fd, (size_t)(left < PIECE ? left : PIECE), 0, &error);
        if (n < 0) {
            return failed(error);
        }
        if (n == 0) {
            break; /* the file shrank; finish() will say it with both numbers */
        }
        left -= (uint64_t)n;
    }
    /* F7: without this word the library refuses to leave RESUMING. */
    if (vfiomig_device_finish(device, bytes, &error) < 0) {
        return failed(error);
    }
    if (vfiomig_device_set_state(device, VFIOMIG_STATE_STOP, VFIOMIG_ON_FAILURE_RESET, 0, &error) < 0) {
        return failed(error);
    }
    return 0;
}

static int load(struct vfiomig_device *device, const char *name, int fd, uint64_t bytes, bool leave_stopped)
{
    struct vfiomig_error *error = NULL;
    struct vfiomig_device_info info;
    VFIOMIG_INIT(&info);
    if (vfiomig_device_get_info(device, &info, &error) < 0) {
        return failed(error);
    }
    if (info.dialect == VFIOMIG_DIALECT_NONE) {
        fprintf(stderr, "load: %s: not migratable: %s\n", name, info.reason);
        return -1;
    }
    if (info.dialect != VFIOMIG_DIALECT_V2) {
        /* V1-10: its stream is made of segments whose lengths must survive; this file keeps only bytes. */
        fprintf(stderr, "load: %s: speaks v1 or the draft; a file of plain bytes cannot hold its segments\n", name);
        return -1;
    }
    if (load_stream(device, fd, bytes) < 0) {
        /* V2-9: a reset is the only way out of RESUMING. Tried also where VFIOMIG_CAP_RESET is not set: mtty can. */
        if (vfiomig_device_get_state(device) != VFIOMIG_STATE_RUNNING) {
            if (vfiomig_device_reset(device, &error) < 0) {
                return failed(error);
            }
            fprintf(stderr, "load: %s: reset, now %s\n", name, vfiomig_state_name(vfiomig_device_get_state(device)));
        }
        return -1;
    }
    /* KEEP: the state is whole now. With P2P the library's request leads through RUNNING_P2P. */
    if (!leave_stopped &&
        vfiomig_device_set_state(device, VFIOMIG_STATE_RUNNING, VFIOMIG_ON_FAILURE_KEEP, 0, &error) < 0) {
        return failed(error);
    }
    printf("load: %s: %llu bytes; the device is in %s\n", name, (unsigned long long)bytes,
           vfiomig_state_name(vfiomig_device_get_state(device)));
    return 0;
}

int main(int argc, char **argv)
{
    static const struct option longs[] = {
        {"cdev", no_argument, NULL, 'c'},          {"group", no_argument, NULL, 'g'},
        {"leave-stopped", no_argument, NULL, 's'}, {"help", no_argument, NULL, 'h'},
        {0},
    };
    enum vfio_way way = VFIO_ANY;
    bool leave_stopped = false;
    int option;
    while ((option = getopt_long(argc, argv, "", longs, NULL)) != -1) {
        switch (option) {
        case 'c': way = VFIO_CDEV; break;
        case 'g': way = VFIO_GROUP; break;
        case 's': leave_stopped = true; break;
        case 'h': fputs(usage, stdout); return 0;
        default: return 2; /* getopt has said why */
        }
    }
    if (argc - optind != 2) {
        fputs(usage, stderr);
        return 2;
    }
    const char *name = argv[optind + 1];

    uint64_t bytes = 0;
    int file = open_file(argv[optind], &bytes);
    if (file < 0) {
        return EXIT_FAILURE;
    }
    struct vfio_device opened;
    if (vfio_open(&opened, name, way) < 0) {
        close(file);
        return EXIT_FAILURE;
    }
    struct vfiomig_device *device = NULL;
    struct vfiomig_error *error = NULL;
    struct vfiomig_device_options options;
    VFIOMIG_INIT(&options);
    options.name = name;
    int result = vfiomig_device_new_kernel(opened.fd, &options, &device, &error) < 0
                     ? failed(error)
                     : load(device, name, file, bytes, leave_stopped);
    vfiomig_device_free(device);
    vfio_close(&opened);
    close(file);
    return result < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
