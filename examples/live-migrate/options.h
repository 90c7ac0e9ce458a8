/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* What the command line says. */
#ifndef OPTIONS_H
#define OPTIONS_H

#include <simdev.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MAX_DEVICES 16

/* Where --fail lets something fail. */
enum step { STEP_NONE, STEP_PRECOPY, STEP_STOP_COPY, STEP_LOAD };

struct options {
    size_t ram_bytes;
    size_t state_bytes; /* of each device */
    unsigned devices;
    uint32_t dialect; /* SIMDEV_V2 ... */
    uint32_t window;  /* SIMDEV_WHOLE ...; v2 has none */
    const char *dialect_name, *window_name;
    uint64_t dirty_rate; /* bytes per second */
    uint64_t link_rate;  /* bytes per second, 0: no limit */
    unsigned max_rounds;
    enum step fail;
    bool vfio_user;        /* the devices are in other processes, */
    char directory[40];    /* whose sockets, reports and words are in here; made before there are two processes */
};

/* 0, or the exit status plus 1 when there is nothing to run (--help, wrong usage). */
int options_parse(struct options *o, int argc, char **argv);

#endif
