/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* What was measured, the progress line, and the table at the end. */
#ifndef REPORT_H
#define REPORT_H

#include "options.h"
#include "wire.h"

#include <vfiomig.h>

struct report {
    uint64_t started_at, stopped_at; /* ns: the first byte, the vCPU stopped */
    struct step_time phase[VFIOMIG_PHASE_SAVE_HALTED + 1]; /* how the source's devices got into each phase */

    enum step failed_in; /* the phase that failed, if one did */

    unsigned devices;
    unsigned round;
    uint64_t round_sent; /* bytes on the wire when the round began */
    uint64_t round_at;
    uint64_t ram_bytes, device_bytes; /* sent so far */

    uint64_t last_ram_bytes, last_ram_ns; /* with everything stopped */
    uint64_t last_device_bytes, last_device_ns;
    struct vfiomig_migration_estimate estimate; /* of the downtime, the last before the guest was stopped */
    uint64_t compare_ns; /* what the demo adds to a migration: checksums of both sides */

    struct loaded loaded; /* from the destination */
    struct running running;
};

/* One line per round, rewritten in place on a terminal; `dirty_bytes` are those still to be sent. */
void report_progress(const struct report *r, const struct wire *wire, uint64_t dirty_bytes, bool round_is_over);
void report_line_end(void); /* before anything else is printed */
void report_estimate(const struct report *r); /* what the library expects, before the guest is stopped */
void report_table(const struct report *r);

#endif
