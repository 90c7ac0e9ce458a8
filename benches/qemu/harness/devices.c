/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Constants and layouts are the kernel's, written out: headers of the build machine may be older than the features. */
#include "devices.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define FEATURE_MASK 0xffffu
#define FEATURE_PROBE (1u << 18)

#define MIGRATION 1u
#define MIG_DEVICE_STATE 2u
#define DMA_LOGGING_START 6u
#define DMA_LOGGING_STOP 7u
#define DMA_LOGGING_REPORT 8u

#define MIGRATION_STOP_COPY 1u
#define STATE_RUNNING 2u

struct feature {
	uint32_t argsz, flags;
	union {
		uint64_t migration_flags;
		struct {
			uint32_t state;
			int32_t data_fd;
		} mig;
		struct {
			uint64_t page_size;
			uint32_t num_ranges, reserved;
			uint64_t ranges;
		} start;
		struct {
			uint64_t iova, length, page_size, bitmap;
		} report;
	} u;
};

struct one {
	const struct guest *guest;
	struct kernel *kernel;
	unsigned number;
};

struct devices {
	unsigned count;
	struct one *ones;
	struct vfiomig_device **handles;
};

static int device_feature(void *opaque, void *argument, uint32_t argsz)
{
	const struct one *one = opaque;
	struct feature *f = argument;
	const uint32_t feature = f->flags & FEATURE_MASK;

	(void)argsz;
	if (f->flags & FEATURE_PROBE)
		return feature == MIGRATION || feature == MIG_DEVICE_STATE ||
				       (feature >= DMA_LOGGING_START && feature <= DMA_LOGGING_REPORT) ?
			       0 :
			       -ENOTTY;
	switch (feature) {
	case MIGRATION:
		f->u.migration_flags = MIGRATION_STOP_COPY;
		return 0;
	case MIG_DEVICE_STATE:
		f->u.mig.state = STATE_RUNNING;
		f->u.mig.data_fd = -1;
		return 0;
	case DMA_LOGGING_START:
		f->u.start.page_size = one->guest->host_page;
		return 0;
	case DMA_LOGGING_STOP:
		return 0;
	case DMA_LOGGING_REPORT:
		/* A pointer in a number, as in the kernel's struct. */
		kernel_report(one->kernel, one->number, f->u.report.iova, f->u.report.length, f->u.report.page_size,
			      (uint64_t *)(uintptr_t)f->u.report.bitmap);
		return 0;
	default:
		return -ENOTTY;
	}
}

struct devices *devices_new(const struct guest *g, struct kernel *k)
{
	struct devices *d = calloc(1, sizeof *d);

	d->count = g->c->devices;
	d->ones = calloc(d->count, sizeof *d->ones);
	d->handles = calloc(d->count, sizeof *d->handles);
	for (unsigned i = 0; i < d->count; i++) {
		struct vfiomig_device_options options;
		struct vfiomig_device_ops ops;
		struct vfiomig_error *error = NULL;
		char name[24];

		d->ones[i] = (struct one){.guest = g, .kernel = k, .number = i};
		VFIOMIG_INIT(&options);
		VFIOMIG_INIT(&ops);
		snprintf(name, sizeof name, "device%u", i);
		options.name = name;
		/* As the kernel's, and as QEMU expects: its devices report into one buffer. */
		ops.flags = VFIOMIG_OPS_F_REPORT_ADDS_BITS;
		ops.device_feature = device_feature;
		if (vfiomig_device_new_ops(&ops, &d->ones[i], &options, &d->handles[i], &error)) {
			fprintf(stderr, "bench-qemu: %s: %s\n", name, vfiomig_error_message(error));
			exit(1);
		}
	}
	return d;
}

void devices_free(struct devices *d)
{
	if (!d)
		return;
	for (unsigned i = 0; i < d->count; i++)
		vfiomig_device_free(d->handles[i]);
	free(d->handles);
	free(d->ones);
	free(d);
}

struct vfiomig_device *const *devices_handles(const struct devices *d)
{
	return d->handles;
}
