/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Devices with a DMA log, as the library sees them: functions that answer VFIO_DEVICE_FEATURE as a kernel does. */
#ifndef BENCH_DEVICES_H
#define BENCH_DEVICES_H

#include <vfiomig.h>

#include "kernel.h"

struct devices;
struct devices *devices_new(const struct guest *g, struct kernel *k);
void devices_free(struct devices *d);
struct vfiomig_device *const *devices_handles(const struct devices *d);

#endif
