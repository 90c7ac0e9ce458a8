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
    "Migrates a small virtual machine with devices from one process to another.\n"
    "\n"
    "  --dialect NAME    what the devices speak: draft, v1, v1-ndma or v2 (default v2)\n"
    "  --devices N       how many there are, 1 to 16 (default 4)\n"
    "  --vfio-user       the devices are in processes of their own, a vfiomig-simdev for each (v1 or v2; default\n"
    "                    1 device)\n"
    "  --window KIND     draft and v1, where state appears: mapped (all of the region), sparse (in two mapped\n"
    "                    areas with a gap between them) or trapped (default mapped)\n"
    "  --state-size MIB  state of each device (default 16)\n"
    "  --ram MIB         guest RAM (default 256)\n"
    "  --rate MIB        RAM that the guest dirties per second (default 64)\n"
    "  --link MIB        bandwidth between the two per second, 0: no limit (default 200)\n"
    "  --rounds N        stop the guest after this many rounds at the latest (default 20)\n"
    "  --fail STEP       let STEP fail on the first device, and show that the source goes on running:\n"
    "                    precopy    its data cannot be read while it runs\n"
    "                    stop-copy  it refuses to stop\n"
    "                    load       the destination's first device refuses the state\n"
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

struct choice {
    const char *name;
    uint32_t value;
};

static const struct choice *choose(const struct choice *choices, const char *text)
{
    while (choices->name != NULL && strcmp(choices->name, text) != 0) {
        choices++;
    }
    return choices->name != NULL ? choices : NULL;
}

static const struct choice dialects[] = {
    /* Region type 3, which v1 has too: only who says so gets a draft. */
    {"draft", SIMDEV_DRAFT_REWRITE}, {"v1", SIMDEV_V1}, {"v1-ndma", SIMDEV_V1_NDMA}, {"v2", SIMDEV_V2}, {0}};
static const struct choice windows[] = {
    {"mapped", SIMDEV_WHOLE}, {"sparse", SIMDEV_GAP}, {"trapped", SIMDEV_TRAPPED}, {0}};
static const struct choice steps[] = {
    {"precopy", STEP_PRECOPY}, {"stop-copy", STEP_STOP_COPY}, {"load", STEP_LOAD}, {0}};

int options_parse(struct options *o, int argc, char **argv)
{
    static const struct option longs[] = {
        {"dialect", required_argument, NULL, 'd'}, {"devices", required_argument, NULL, 'c'},
        {"window", required_argument, NULL, 'w'}, {"state-size", required_argument, NULL, 's'},
        {"ram", required_argument, NULL, 'm'},
        {"rate", required_argument, NULL, 'r'}, {"link", required_argument, NULL, 'l'},
        {"rounds", required_argument, NULL, 'n'}, {"fail", required_argument, NULL, 'f'},
        {"vfio-user", no_argument, NULL, 'u'},  {"help", no_argument, NULL, 'h'},
        {0},
    };
    uint64_t ram = 256, state = 16, devices = 0, rate = 64, link = 200, rounds = 20;
    const struct choice *dialect = choose(dialects, "v2"), *window = choose(windows, "mapped"), *step = NULL;
    bool vfio_user = false;
    int option;
    while ((option = getopt_long(argc, argv, "", longs, NULL)) != -1) {
        bool good = true;
        switch (option) {
        case 'm': good = number(optarg, 1, 65536, &ram); break;
        case 's': good = number(optarg, 1, 4096, &state); break;
        case 'c': good = number(optarg, 1, MAX_DEVICES, &devices); break;
        case 'd': good = (dialect = choose(dialects, optarg)) != NULL; break;
        case 'w': good = (window = choose(windows, optarg)) != NULL; break;
        case 'r': good = number(optarg, 0, 65536, &rate); break;
        case 'l': good = number(optarg, 0, 65536, &link); break;
        case 'n': good = number(optarg, 1, 10000, &rounds); break;
        case 'f': good = (step = choose(steps, optarg)) != NULL; break;
        case 'u': vfio_user = true; break;
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
    if (vfio_user && dialect->value != SIMDEV_V1 && dialect->value != SIMDEV_V2) {
        fprintf(stderr, "live-migrate: vfio-user has v1 and v2 only, not %s (see --help)\n", dialect->name);
        return 3;
    }
    if (devices == 0) {
        devices = vfio_user ? 1 : 4;
    }
    *o = (struct options){.vfio_user = vfio_user};
    o->dialect = dialect->value;
    o->dialect_name = dialect->name;
    o->window = vfio_user ? SIMDEV_TRAPPED : window->value;
    o->window_name = vfio_user ? "trapped" : window->name;
    o->devices = (unsigned)devices;
    o->fail = step != NULL ? (enum step)step->value : STEP_NONE;
    o->ram_bytes = ram * MIB;
    o->state_bytes = state * MIB;
    o->dirty_rate = rate * MIB;
    o->link_rate = link * MIB;
    o->max_rounds = (unsigned)rounds;
    return 0;
}
