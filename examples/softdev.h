/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A software device, so that the examples need no hardware.
 *
 * It is what a VFIO driver and the hardware below it are together: it has state of any size that changes while it
 * runs, it writes guest RAM "by DMA" and logs what it wrote, and it speaks the v2 migration protocol with PRE_COPY and
 * P2P. A VMM that has devices of its own (emulated, vfio-user, ...) gives them to the library in the same way: as a
 * table of functions. A VFIO device fd needs none of this, see save.c.
 *
 *   softdev.c            the hardware: memory, a thread that works, DMA, the dirty log, MMIO
 *   softdev-migration.c  the driver: struct vfiomig_device_ops
 */
#ifndef SOFTDEV_H
#define SOFTDEV_H

#include <stddef.h>
#include <stdint.h>
#include <vfiomig.h>

struct softdev;

struct softdev_config {
    size_t state_bytes;     /* rounded up to 4 KiB */
    uint64_t state_rate;    /* bytes of it per second that change while it runs */
    _Atomic uint64_t *ram;  /* guest RAM as the device sees it */
    size_t ram_bytes;
    uint64_t dma_rate;      /* bytes (whole pages) per second that it writes there */
};

/* NULL when memory or threads are short. The device is RUNNING, and idle until the guest enables it. */
struct softdev *softdev_new(const struct softdev_config *config);
void softdev_free(struct softdev *dev);

/* For vfiomig_device_new_ops(); the opaque pointer is the device. */
void softdev_get_ops(struct vfiomig_device_ops *ops);

/* What a driver in the guest does. A device that is not RUNNING or in PRE_COPY must not be touched: that is counted. */
void softdev_mmio_enable(struct softdev *dev);
void softdev_mmio_doorbell(struct softdev *dev, uint64_t value);
uint64_t softdev_violations(struct softdev *dev);

/* How often the device has worked. It grows only while it runs. */
uint64_t softdev_ticks(struct softdev *dev);

/* The log of pages written by DMA. Harvest sets bits in `bitmap` (one per 4 KiB page) and clears the log. */
void softdev_log_start(struct softdev *dev);
void softdev_log_stop(struct softdev *dev);
void softdev_log_harvest(struct softdev *dev, uint64_t *bitmap);

/* Of the whole state; for a stopped device. */
uint64_t softdev_checksum(struct softdev *dev);

/* How long one arc (two neighbouring VFIOMIG_STATE_*) takes, as a device that has work to finish first. */
void softdev_set_delay(struct softdev *dev, uint32_t from, uint32_t to, unsigned microseconds);

/* Make the next passage of an arc, or the next read of the stream after `bytes` of it, fail with this errno, once. */
void softdev_fail_arc(struct softdev *dev, uint32_t from, uint32_t to, int error);
void softdev_fail_read(struct softdev *dev, uint64_t bytes, int error);

#endif
