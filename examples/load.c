/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * load: the state of a VFIO device out of a file that save made.
 *
 *   RUNNING -> RESUMING: the stream, and how long it is
 *           -> STOP: here the driver takes it, or says no
 *           -> RUNNING
 *
 * A VMM completes RAM, config space and interrupts between STOP and RUNNING; live-migrate shows where. Devices of v1
 * and the draft have no STOP here (V1-3): they stay in RESUMING, and say yes or no when they run.
 */
#include "one-device.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char usage[] =
    "usage: load [OPTION...] FILE DEVICE\n"
    "Loads FILE, made by save, into DEVICE (a PCI address as 0000:00:10.0, the UUID of an mdev, or unix:PATH, the\n"
    "socket of a vfio-user server) and lets it run.\n"
    "\n"
    "  --cdev, --group   how to open it (default: the cdev if there is one, else the group)\n"
    "  --draft           it speaks the draft of 2019, whose region v1 has too\n"
    "  --leave-stopped   leave it in STOP\n"
    "  --help\n";

static int reader_new(int fd, struct vfiomig_reader **reader, struct vfiomig_error **error)
{
    struct vfiomig_reader_options options;
    VFIOMIG_INIT(&options);
    options.flags = VFIOMIG_READER_F_FD;
    options.fd = fd;
    return vfiomig_reader_new(&options, reader, error);
}

/* A file is not to be trusted with a terminal. */
static void print_word(const struct vfiomig_wire_word *word)
{
    printf("load: %s: ", word->key);
    for (const char *c = word->value; *c != '\0'; c++) {
        putchar((unsigned char)*c < ' ' || *c == 0x7f ? '?' : *c);
    }
    putchar('\n');
}

/* Reads all of the file, with no device in sight: what is cut or damaged is known before one is touched. */
static int check_file(int fd, struct vfiomig_error **error)
{
    struct vfiomig_reader *reader = NULL;
    struct vfiomig_record record = {0};
    struct vfiomig_wire_device device;
    int result = reader_new(fd, &reader, error);
    while (result == 0 && record.record != VFIOMIG_RECORD_FINISH) {
        result = vfiomig_reader_next(reader, &record, error);
    }
    if (result == 0 && vfiomig_reader_get_device(reader, 0, &device, NULL) == 0) {
        for (size_t i = 0; i < device.word_count; i++) {
            if (strcmp(device.words[i].key, "saved-from") == 0) {
                print_word(&device.words[i]);
            }
        }
    }
    vfiomig_reader_free(reader);
    return result;
}

/* The file, at its beginning and found whole; or -1 after saying why not. */
static int open_file(const char *file)
{
    struct stat status;
    struct vfiomig_error *error = NULL;
    int fd = open(file, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &status) < 0) {
        fprintf(stderr, "load: %s: %s\n", file, strerror(errno));
        goto bad;
    }
    if (!S_ISREG(status.st_mode)) {
        fprintf(stderr, "load: %s: not a regular file\n", file);
        goto bad;
    }
    if (check_file(fd, &error) < 0) {
        fprintf(stderr, "load: %s: %s\n", file, vfiomig_error_message(error));
        vfiomig_error_free(error);
        goto bad;
    }
    /* No byte behind the last record was read, so what is there is none of a save. */
    if (lseek(fd, 0, SEEK_CUR) != status.st_size || lseek(fd, 0, SEEK_SET) != 0) {
        fprintf(stderr, "load: %s: there is something behind its end\n", file);
        goto bad;
    }
    return fd;
bad:
    if (fd >= 0) {
        close(fd);
    }
    return -1;
}

static int load(struct one_device *d, int fd, bool leave_stopped)
{
    struct vfiomig_error *error = NULL;
    struct vfiomig_reader *reader = NULL;
    int result = reader_new(fd, &reader, &error);
    if (result == 0) {
        /* The device by its name, with the dialect of the one that was saved; then its stream, and its length (F7). */
        result = vfiomig_migration_load_from(d->migration, &reader, 1, NULL, &error);
    }
    if (result == 0 && !leave_stopped) {
        result = vfiomig_migration_advance(d->migration, VFIOMIG_PHASE_LOAD_RUNNING, 0, &error);
    }
    vfiomig_reader_free(reader);
    if (result < 0) {
        one_device_failed(d, error);
        /* V2-9: a reset is the only way out of RESUMING. It is made only if the device was touched. */
        error = NULL;
        if (vfiomig_migration_abort(d->migration, VFIOMIG_ABORT_TO_RUNNING, 0, &error) < 0) {
            return one_device_failed(d, error);
        }
        fprintf(stderr, "load: %s: is in %s\n", d->name, vfiomig_state_name(vfiomig_device_get_state(d->device)));
        return -1;
    }
    VFIOMIG_INIT(&d->info);
    if (vfiomig_device_get_info(d->device, &d->info, &error) < 0) {
        return one_device_failed(d, error);
    }
    printf("load: %s: %llu bytes; the device is in %s\n", d->name, (unsigned long long)d->info.loaded_bytes,
           vfiomig_state_name(d->info.state));
    return 0;
}

int main(int argc, char **argv)
{
    static const struct option longs[] = {
        {"cdev", no_argument, NULL, 'c'},          {"group", no_argument, NULL, 'g'}, {"draft", no_argument, NULL, 'd'},
        {"leave-stopped", no_argument, NULL, 's'}, {"help", no_argument, NULL, 'h'},  {0},
    };
    struct one_device d = ONE_DEVICE_INIT("load");
    bool leave_stopped = false;
    int option;
    while ((option = getopt_long(argc, argv, "", longs, NULL)) != -1) {
        switch (option) {
        case 'c': d.way = VFIO_CDEV; break;
        case 'g': d.way = VFIO_GROUP; break;
        case 'd': d.draft = true; break;
        case 's': leave_stopped = true; break;
        case 'h': fputs(usage, stdout); return 0;
        default: return 2; /* getopt has said why */
        }
    }
    if (argc - optind != 2) {
        fputs(usage, stderr);
        return 2;
    }
    int file = open_file(argv[optind]);
    if (file < 0) {
        return EXIT_FAILURE;
    }
    d.name = argv[optind + 1];
    int result = one_device_open(&d, VFIOMIG_DIRECTION_LOAD);
    if (result == 0) {
        result = load(&d, file, leave_stopped);
    }
    one_device_close(&d);
    close(file);
    return result < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
