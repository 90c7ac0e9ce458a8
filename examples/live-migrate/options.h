/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* What the command line says. */
#ifndef OPTIONS_H
#define OPTIONS_H

#include <stddef.h>
#include <stdint.h>

/* Where --fail lets something fail. */
enum step { STEP_NONE, STEP_PRECOPY, STEP_STOP_COPY, STEP_LOAD };

struct options {
    size_t ram_bytes;
    size_t state_bytes;
    uint64_t dirty_rate; /* bytes per second */
    uint64_t link_rate;  /* bytes per second, 0: no limit */
    unsigned max_rounds;
    enum step fail;
};

/* 0, or the exit status plus 1 when there is nothing to run (--help, wrong usage). */
int options_parse(struct options *o, int argc, char **argv);

#endif
