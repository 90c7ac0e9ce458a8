/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "options.h"

#include <errno.h>
#include <getopt.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MIB (UINT64_C(1) << 20)

static const char usage[] =
    "usage: live-migrate [OPTION...]\n"
    "Migrates a small virtual machine with one device from one process to another.\n"
    "\n"
    "  --ram MIB         guest RAM (default 256)\n"
    "  --state-size MIB  state of the device (default 16)\n"
    "  --rate MIB        RAM that the guest dirties per second (default 64)\n"
    "  --link MIB        bandwidth between the two per second, 0: no limit (default 200)\n"
    "  --rounds N        stop the guest after this many rounds at the latest (default 20)\n"
    "  --fail STEP       let STEP fail, and show that the source goes on running:\n"
    "                    precopy    the device's data cannot be read while it runs\n"
    "                    stop-copy  the device refuses to stop\n"
    "                    load       the destination's device refuses the state\n"
    "  --help\n"
    "\n"
    "Exit status: 0 if what was asked for happened (with --fail: if STEP failed and the source runs again);\n"
    "1 if not; 2 for wrong usage.\n";

static bool number(const char *text, uint64_t min, uint64_t max, uint64_t *out)
{
    char *end;
    errno = 0;
    unsigned long long value = strtoull(text, &end, 10);
    if (errno != 0 || end == text || *end != '\0' || text[0] == '-' || value < min || value > max) {
        return false;
    }
    *out = value;
    return true;
}

static bool fail_step(const char *text, enum step *out)
{
    static const char *const names[] = {
        [STEP_PRECOPY] = "precopy", [STEP_STOP_COPY] = "stop-copy", [STEP_LOAD] = "load"};
    for (enum step step = STEP_PRECOPY; step <= STEP_LOAD; step++) {
        if (strcmp(text, names[step]) == 0) {
            *out = step;
            return true;
        }
    }
    return false;
}

int options_parse(struct options *o, int argc, char **argv)
{
    static const struct option longs[] = {
        {"ram", required_argument, NULL, 'm'},  {"state-size", required_argument, NULL, 's'},
        {"rate", required_argument, NULL, 'r'}, {"link", required_argument, NULL, 'l'},
        {"rounds", required_argument, NULL, 'n'}, {"fail", required_argument, NULL, 'f'},
        {"help", no_argument, NULL, 'h'},       {0},
    };
    uint64_t ram = 256, state = 16, rate = 64, link = 200, rounds = 20;
    o->fail = STEP_NONE;
    int option;
    while ((option = getopt_long(argc, argv, "", longs, NULL)) != -1) {
        bool good = true;
        switch (option) {
        case 'm': good = number(optarg, 1, 65536, &ram); break;
        case 's': good = number(optarg, 0, 4096, &state); break;
        case 'r': good = number(optarg, 0, 65536, &rate); break;
        case 'l': good = number(optarg, 0, 65536, &link); break;
        case 'n': good = number(optarg, 1, 10000, &rounds); break;
        case 'f': good = fail_step(optarg, &o->fail); break;
        case 'h': fputs(usage, stdout); return 1;
        default: return 3; /* getopt has said why */
        }
        if (!good) {
            fprintf(stderr, "live-migrate: %s is not a value for this option (see --help)\n", optarg);
            return 3;
        }
    }
    if (optind < argc) {
        fprintf(stderr, "live-migrate: %s: what is this? (see --help)\n", argv[optind]);
        return 3;
    }
    o->ram_bytes = ram * MIB;
    o->state_bytes = state * MIB;
    o->dirty_rate = rate * MIB;
    o->link_rate = link * MIB;
    o->max_rounds = (unsigned)rounds;
    return 0;
}
