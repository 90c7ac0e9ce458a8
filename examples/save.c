/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * save: the state of a VFIO device into a file, in the library's own format (docs/wire.md).
 *
 *   RUNNING -> PRE_COPY (if the device has it): what can be had while it runs
 *           -> STOP_COPY: the rest, to the END of the stream
 *           -> STOP, or RUNNING again
 *
 * On any failure it goes back to where it was. There is one device and no guest, so no RAM to send and no vCPU to stop;
 * live-migrate shows where they belong.
 */
#include "one-device.h"

#include <getopt.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define MAX_ROUNDS 100

static const char usage[] =
    "usage: save [OPTION...] DEVICE FILE\n"
    "Saves the migration state of DEVICE (a PCI address as 0000:00:10.0, the UUID of an mdev, or unix:PATH, the\n"
    "socket of a vfio-user server) to FILE.\n"
    "\n"
    "  --cdev, --group   how to open it (default: the cdev if there is one, else the group)\n"
    "  --draft           it speaks the draft of 2019, whose region v1 has too\n"
    "  --resume          let it run again afterwards (default: it is left in STOP)\n"
    "  --help\n";

/* What is this program's own in a save: nothing but the word that there were enough rounds. */
static int step(void *opaque, uint32_t what, const struct vfiomig_wire_progress *progress)
{
    const bool terminal = isatty(STDERR_FILENO);
    (void)opaque;
    if (what == VFIOMIG_STEP_PROGRESS && terminal) {
        fprintf(stderr, "\rsave: %llu KiB", (unsigned long long)progress->bytes >> 10);
    } else if (what == VFIOMIG_STEP_LAST && terminal) {
        fprintf(stderr, "\r");
    }
    /* C4: a device that is not ready stops longer than its size says. C5: one may never be, hence the bound. */
    return what == VFIOMIG_STEP_ROUND && !progress->ready && progress->round < MAX_ROUNDS ? 1 : 0;
}

static int write_wire(struct one_device *d, int fd, struct vfiomig_error **error)
{
    /* Words say what the device is. load shows it and demands none: addresses of devices differ from host to host. */
    const struct vfiomig_wire_word word = {"saved-from", d->name};
    const struct vfiomig_wire_device device = {.name = DEVICE_NAME, .words = &word, .word_count = 1};
    struct vfiomig_writer_options options;
    struct vfiomig_save_to_request request;
    struct vfiomig_writer *writer = NULL;
    VFIOMIG_INIT(&options);
    VFIOMIG_INIT(&request);
    options.flags = VFIOMIG_WRITER_F_FD;
    options.fd = fd;
    options.devices = &device;
    options.device_count = 1;
    request.flags = VFIOMIG_SAVE_TO_F_ROUNDS;
    request.step = step;
    int result = vfiomig_writer_new(d->group, &options, &writer, error);
    if (result == 0) {
        result = vfiomig_migration_save_to(d->migration, &writer, 1, &request, error);
    }
    vfiomig_writer_free(writer);
    return result;
}

/* Under another name first, so that a save that was cut off leaves nothing that looks like a file of state. */
static int save_to_file(struct one_device *d, const char *file)
{
    char temporary[PATH_MAX];
    struct vfiomig_error *error = NULL;
    if (snprintf(temporary, sizeof temporary, "%s.XXXXXX", file) >= (int)sizeof temporary) {
        fprintf(stderr, "save: %s: the name is too long\n", file);
        return -1;
    }
    int fd = mkstemp(temporary); /* mode 0600: the state of a device can hold a guest's secrets */
    if (fd < 0) {
        perror(temporary);
        return -1;
    }
    int result = write_wire(d, fd, &error) < 0 ? one_device_failed(d, error) : 0;
    if (result == 0 && fsync(fd) < 0) {
        perror(temporary);
        result = -1;
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

static int save(struct one_device *d, const char *file, bool resume)
{
    struct vfiomig_error *error = NULL;
    /* Most devices are RUNNING when they are opened; a device of a paused guest, and mtty after a save, is in STOP. */
    if (d->info.state != VFIOMIG_STATE_RUNNING && d->info.state != VFIOMIG_STATE_STOP) {
        fprintf(stderr, "save: %s: found in %s, not in RUNNING or STOP\n", d->name, vfiomig_state_name(d->info.state));
        return -1;
    }
    int result = save_to_file(d, file);
    /* The file has everything: the device may rest. Else, or if it is to run on, it goes back. */
    if (result == 0 && !resume) {
        result = vfiomig_migration_end(d->migration, 1, VFIOMIG_END_F_NO_HARVEST, &error);
        result = result < 0 ? one_device_failed(d, error) : 0;
    }
    if (result < 0 || resume) {
        /* Nothing is lost: each state of a save has a way back to where the device was, with all that it held. */
        const bool runs = d->info.state == VFIOMIG_STATE_RUNNING || (result == 0 && resume);
        const uint32_t to = runs ? VFIOMIG_ABORT_TO_RUNNING : VFIOMIG_ABORT_TO_STOP;
        error = NULL;
        if (vfiomig_migration_abort(d->migration, to, 0, &error) < 0) {
            return one_device_failed(d, error);
        }
    }
    if (result < 0) {
        fprintf(stderr, "save: %s: is in %s again\n", d->name, vfiomig_state_name(vfiomig_device_get_state(d->device)));
        return -1;
    }
    VFIOMIG_INIT(&d->info);
    if (vfiomig_device_get_info(d->device, &d->info, &error) < 0) {
        return one_device_failed(d, error);
    }
    printf("save: %s: %llu bytes to %s; the device is in %s\n", d->name, (unsigned long long)d->info.saved_bytes, file,
           vfiomig_state_name(d->info.state));
    return 0;
}

int main(int argc, char **argv)
{
    static const struct option longs[] = {
        {"cdev", no_argument, NULL, 'c'},   {"group", no_argument, NULL, 'g'}, {"draft", no_argument, NULL, 'd'},
        {"resume", no_argument, NULL, 'r'}, {"help", no_argument, NULL, 'h'},  {0},
    };
    struct one_device d = ONE_DEVICE_INIT("save");
    bool resume = false;
    int option;
    while ((option = getopt_long(argc, argv, "", longs, NULL)) != -1) {
        switch (option) {
        case 'c': d.way = VFIO_CDEV; break;
        case 'g': d.way = VFIO_GROUP; break;
        case 'd': d.draft = true; break;
        case 'r': resume = true; break;
        case 'h': fputs(usage, stdout); return 0;
        default: return 2; /* getopt has said why */
        }
    }
    if (argc - optind != 2) {
        fputs(usage, stderr);
        return 2;
    }
    d.name = argv[optind];
    int result = one_device_open(&d, VFIOMIG_DIRECTION_SAVE);
    if (result == 0) {
        result = save(&d, argv[optind + 1], resume);
    }
    one_device_close(&d);
    return result < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
