/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The guest's devices, in software: simdev's, which judge every access that the library makes to them.
 *
 * A VMM that has devices of its own (emulated, vfio-user, ...) gives them to the library in the same way: as a table of
 * functions. A VFIO device fd needs none of this, see save.c.
 */
#ifndef HARDWARE_H
#define HARDWARE_H

#include "options.h"
#include "server.h"

#include <stdbool.h>
#include <vfiomig.h>

struct hardware {
    struct simdev *device; /* NULL: it is in another process */
    struct server server;
    struct vfiomig_device_ops ops; /* for the library; the vCPU uses the device's BAR through it */
    void *opaque;
};

/* Makes a device that holds something (`seed`), or a fresh one (0). 0, or -1 when that cannot be. */
int hardware_new(struct hardware *h, const struct options *o, uint64_t seed);
void hardware_free(struct hardware *h); /* after the library's handle */

/* The device takes its time, as real ones do: it finishes what it has begun. */
void hardware_make_slow(const struct hardware *h, bool source);

/* Lets something fail, once: of the source's device, or of the destination's (STEP_LOAD). */
void hardware_let_fail(const struct hardware *h, uint32_t dialect, enum step step);

/* What a driver in the guest does: a write to BAR 0. */
void hardware_ring(struct hardware *h, uint64_t value);

/* Of its state; 0 if only its server knows. */
uint64_t hardware_checksum(const struct hardware *h);

/* It judges a stream that is left before its END; not from here on. */
void hardware_allow_abort(const struct hardware *h);

/* Prints what the device has to say against its user, which is nothing; how much it was. */
uint64_t hardware_print_violations(const struct hardware *h, const char *who, const char *name);

#endif
