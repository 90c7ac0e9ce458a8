/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "hardware.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#define BAR0 0
#define ALWAYS UINT64_MAX
#define SEGMENT_BYTES ((uint64_t)256 << 10) /* the longest; v1 and draft */
#define DMA_LOG_PAGE ((uint64_t)4 << 10)
#define SKEW_BYTES 1000                     /* v1 and draft: data_offset moves, and is no whole page */

int hardware_new(struct hardware *h, const struct options *o, uint64_t seed)
{
    const struct simdev_options options = {
        .argsz = sizeof options,
        .dialect = o->dialect,
        .flags = SIMDEV_F_P2P | SIMDEV_F_PRE_COPY | SIMDEV_F_PRECOPY_BYTES | SIMDEV_F_VARY_SEGMENTS |
                 (seed != 0 ? SIMDEV_F_SEEDED : 0),
        .window = o->window,
        .state_size = o->state_bytes,
        .seed = seed,
        .segment_size = SEGMENT_BYTES,
        .skew = SKEW_BYTES,
        .precopy_bytes = o->state_bytes - o->state_bytes / 8, /* the rest can be had only when it has stopped */
        .dma_log_page_size = o->dialect == SIMDEV_V2 ? DMA_LOG_PAGE : 0,
        	/* the draft has registers for it, v1 nothing */
    };
    *h = (struct hardware){.device = simdev_new(&options)};
    return h->device == NULL ? -1 : simdev_get_ops(h->device, &h->ops, &h->opaque);
}

void hardware_free(struct hardware *h)
{
    server_free(&h->server);
    simdev_free(h->device);
    h->device = NULL;
}

uint64_t hardware_checksum(const struct hardware *h)
{
    return h->device != NULL ? simdev_checksum(h->device) : 0;
}

void hardware_allow_abort(const struct hardware *h)
{
    if (h->device != NULL) {
        simdev_allow_abort(h->device, 1);
    }
}

static void delay(const struct hardware *h, uint32_t state, uint64_t times, uint64_t us)
{
    simdev_inject(h->device, SIMDEV_ENTER + state, 0, times, SIMDEV_DELAY, us);
}

void hardware_make_slow(const struct hardware *h, bool source)
{
    if (h->device == NULL) {
        return; /* its server was told when it began */
    }
    if (source) {
        /* Once: N15 lets a write of several bits pass through STOP_COPY twice. */
        delay(h, VFIOMIG_STATE_PRE_COPY_P2P, 1, 4000);
        delay(h, VFIOMIG_STATE_STOP_COPY, 1, 8000);
    } else {
        /* Where RESUMING is left, of which STOP is a part also on v1 (N15); there the driver validates. */
        delay(h, VFIOMIG_STATE_STOP, ALWAYS, 10000);
        delay(h, VFIOMIG_STATE_RUNNING_P2P, ALWAYS, 3000);
        delay(h, VFIOMIG_STATE_RUNNING, ALWAYS, 1000);
    }
}

void hardware_let_fail(const struct hardware *h, uint32_t dialect, enum step step)
{
    if (h->device == NULL) {
        return; /* as above */
    }
    switch (step) {
    case STEP_NONE: break;
    case STEP_PRECOPY:
        /* v1 and draft: the register, for mapped data are read without the device's knowledge. */
        simdev_inject(h->device, dialect == SIMDEV_V2 ? SIMDEV_DATA_READ : SIMDEV_DATA_OFFSET_READ, 1, 1, SIMDEV_ERRNO,
                      EIO);
        break;
    case STEP_STOP_COPY:
        simdev_inject(h->device, SIMDEV_ENTER + VFIOMIG_STATE_STOP_COPY, 0, 1, SIMDEV_ERRNO, EBUSY);
        break;
    case STEP_LOAD:
        /* The first passage is the one into RESUMING. */
        simdev_inject(h->device, SIMDEV_ENTER + VFIOMIG_STATE_STOP, 1, 1, SIMDEV_ERRNO, EINVAL);
        break;
    }
}

void hardware_ring(struct hardware *h, uint64_t value)
{
    if (h->device == NULL) {
        server_ring(&h->server);
        return;
    }
    h->ops.region_write(h->opaque, BAR0, 0, &value, sizeof value);
}

uint64_t hardware_print_violations(const struct hardware *h, const char *who, const char *name)
{
    uint64_t count = h->device == NULL ? 0 : simdev_violations(h->device);
    const char *text;
    for (uint64_t i = 0; i < count && (text = simdev_violation_text(h->device, i)) != NULL; i++) {
        fprintf(stderr, "%s: %s: VIOLATION of %s\n", who, name, text);
    }
    return count;
}
