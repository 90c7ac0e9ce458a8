/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The source, phase by phase; docs/vmm-guide.md says what a VMM must do before each of them, and why:
 *
 *   TRACKING -> PRE_COPY: all RAM, the devices' data, rounds of what became dirty -> vCPUs stop -> P2P_GRACE ->
 *   STOP_COPY: last harvest, last RAM, the devices' streams to their END -> trailer -> the destination agrees ->
 *   it runs; here: HALTED
 *
 * Each phase is a barrier: all devices are in it before one goes on. Until the destination's vCPU runs, every failure
 * leads back to RUNNING here.
 */
#include "source.h"

#include "util.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define WHO "source"
#define RUN_PAGES ((size_t)64)          /* pages in one frame */
#define CHUNK_BYTES ((size_t)1 << 20)   /* most of a device's stream in one frame */
#define TARGET_DOWNTIME_NS 30000000u    /* for the data; the device's own transitions come on top */

struct source {
    struct vm *vm;
    struct wire *wire;
    struct report *report;
    struct vfiomig_device_pending pending[MAX_DEVICES];
    bool refused;                /* the destination has said that the guest does not and will not run there */
    uint64_t *todo;              /* pages to be sent */
    uint64_t *run;               /* room for RUN_PAGES of them */
};

static int lost_peer(void)
{
    report_line_end();
    perror(WHO ": the destination is gone");
    return -1;
}

static int library_failed(struct vfiomig_error *error)
{
    report_line_end();
    return fail(WHO, error);
}

/* The destination's next frame must be `type`, with `len` bytes. */
static int expect(struct source *s, enum frame_type type, void *to, size_t len)
{
    struct frame frame;
    char text[256] = "";
    if (wire_receive_frame(s->wire, &frame) < 0) {
        return lost_peer();
    }
    if (frame.type == type && frame.len == len) {
        return wire_receive(s->wire, to, len) < 0 ? lost_peer() : 0;
    }
    if (frame.type != FRAME_FAILED || frame.len >= sizeof text || wire_receive(s->wire, text, frame.len) < 0) {
        return lost_peer();
    }
    s->refused = true;
    report_line_end();
    fprintf(stderr, WHO ": the destination has failed: %s\n", text);
    return -1;
}

static int send_frame(struct source *s, const struct frame *frame, const void *payload)
{
    /* It speaks before it is asked only if it has failed. */
    if (wire_has_news(s->wire)) {
        return expect(s, FRAME_FAILED, NULL, SIZE_MAX);
    }
    return wire_send(s->wire, frame, payload) < 0 ? lost_peer() : 0;
}

/* The devices hold the only copy of the guest's state, so the library resets none of a save, whatever fails. */
static int advance(struct source *s, uint32_t phase)
{
    struct vfiomig_error *error = NULL;
    return vm_advance(s->vm, phase, &s->report->phase[phase], &error) < 0 ? library_failed(error) : 0;
}

/* --- RAM ---------------------------------------------------------------------------------------------------------- */

static int harvest(struct source *s)
{
    struct vfiomig_error *error = NULL;
    return vm_log_harvest(s->vm, s->todo, &error) < 0 ? library_failed(error) : 0;
}

static bool is_todo(const struct source *s, size_t page)
{
    return (s->todo[page / 64] >> (page % 64) & 1) != 0;
}

static uint64_t todo_bytes(const struct source *s)
{
    uint64_t pages = 0;
    for (size_t word = 0; word < s->vm->bitmap_words; word++) {
        pages += (unsigned)__builtin_popcountll(s->todo[word]);
    }
    return pages * PAGE_BYTES;
}

/* Sends the pages in `todo` and empties it. */
static int send_ram(struct source *s)
{
    const size_t pages = s->vm->pages;
    uint64_t left = todo_bytes(s);
    for (size_t page = 0; page < pages;) {
        size_t count = 0;
        while (count < RUN_PAGES && page + count < pages && is_todo(s, page + count)) {
            count++;
        }
        if (count == 0) {
            page++;
            continue;
        }
        vm_copy_pages(s->vm, page, count, s->run);
        const struct frame frame = {.type = FRAME_RAM, .len = (uint32_t)(count * PAGE_BYTES), .arg = page};
        if (send_frame(s, &frame, s->run) < 0) {
            return -1;
        }
        page += count;
        left -= count * PAGE_BYTES;
        s->report->ram_bytes += count * PAGE_BYTES;
        report_progress(s->report, s->wire, left, false);
    }
    memset(s->todo, 0, s->vm->bitmap_words * sizeof *s->todo);
    return 0;
}

/* --- the devices -------------------------------------------------------------------------------------------------- */

/* Sends a device's stream until there is nothing now (EMPTY, in pre-copy) or it is complete (END, in STOP_COPY). */
static int send_device(struct source *s, unsigned i, uint64_t max)
{
    struct vfiomig_device *device = s->vm->device[i].handle;
    struct vfiomig_error *error = NULL;
    struct vfiomig_chunk chunk;
    bool within = false; /* a segment (v1, draft): the draft's window shows the dirty log only between two of them (D5) */
    for (uint64_t sent = 0; sent < max || within; sent += chunk.len) {
        /* The bytes are sent from where the library read them to; of a mapped window, from the device's own memory. */
        const int result = vfiomig_device_peek(device, CHUNK_BYTES, &chunk, &error);
        if (result == -EAGAIN) {
            /* Nothing was moved: a firmware may take longer to save than one call waits. */
            vfiomig_error_free(error);
            error = NULL;
            chunk.len = 0;
            continue;
        }
        if (result < 0) {
            return library_failed(error);
        }
        if (chunk.len == 0) {
            return 0;
        }
        const struct frame frame = {
            .type = FRAME_DEVICE,
            .len = (uint32_t)chunk.len,
            .device = i,
            .flags = chunk.flags & VFIOMIG_CHUNK_SEGMENT_END,
            /* V1-10. The first chunk of a segment says how long all of it is; v2 has no segments. */
            .arg = chunk.segment_left,
        };
        if (send_frame(s, &frame, chunk.data) < 0) {
            return -1; /* the chunk stays out; leaving the session takes it back */
        }
        if (vfiomig_device_consume(device, chunk.len, &error) < 0) {
            return library_failed(error);
        }
        within = chunk.segment_left != VFIOMIG_UNKNOWN && (chunk.flags & VFIOMIG_CHUNK_SEGMENT_END) == 0;
        s->report->device_bytes += chunk.len;
    }
    return 0;
}

static int get_pending(struct source *s)
{
    for (unsigned i = 0; i < s->vm->devices; i++) {
        struct vfiomig_error *error = NULL;
        VFIOMIG_INIT(&s->pending[i]);
        /* EXACT asks the device, so it belongs to the thread that moves its data (P2); on v1 and the draft within a
         * segment it answers from memory, for asking would acknowledge what was not sent yet (V1-6, P21). */
        if (vfiomig_device_get_pending(s->vm->device[i].handle, VFIOMIG_PENDING_F_EXACT, &s->pending[i], &error) < 0) {
            return library_failed(error);
        }
    }
    return 0;
}

static uint64_t known(uint64_t bytes)
{
    return bytes == VFIOMIG_UNKNOWN ? 0 : bytes;
}

/* How much of a device's stream to send in a round. C5: some devices offer data for ever; "until EMPTY" may not end. */
static uint64_t round_budget(const struct vfiomig_device_pending *pending)
{
    uint64_t bytes = known(pending->initial_bytes) + known(pending->dirty_bytes);
    const uint64_t least = 8 << 20; /* for a driver that gives no figures */
    return bytes > least ? bytes : least;
}

/* --- phases ------------------------------------------------------------------------------------------------------- */

/* The devices in turn, so that none waits for another to have nothing left. */
static int send_devices(struct source *s)
{
    for (unsigned i = 0; i < s->vm->devices; i++) {
        if (send_device(s, i, round_budget(&s->pending[i])) < 0) {
            return -1;
        }
    }
    return 0;
}

/* Whether it is time to stop the guest; -1: the library has failed. */
static int converged(const struct source *s)
{
    struct vfiomig_migration_pending pending;
    struct vfiomig_migration_estimate_options given;
    struct vfiomig_migration_estimate estimate;
    struct vfiomig_error *error = NULL;
    VFIOMIG_INIT(&pending);
    VFIOMIG_INIT(&given);
    VFIOMIG_INIT(&estimate);
    given.bytes_per_second = (uint64_t)((double)s->wire->sent * 1e9 / (double)(now_ns() - s->report->started_at)) + 1;
    given.other_bytes = todo_bytes(s);
    if (vfiomig_migration_get_pending(s->vm->migration, 0, &pending, &error) < 0 ||
        vfiomig_migration_get_estimate(s->vm->migration, &given, &estimate, NULL, &error) < 0) {
        return library_failed(error);
    }
    /* C4: a device with initial data left is not ready; stopping it now costs more downtime than its size says. */
    if (!pending.ready) {
        return 0;
    }
    /* Not what only STOP_COPY brings: that is downtime which no further round can save. Nor what is ungiven (C5). */
    const uint64_t left = todo_bytes(s) + (pending.dirty_bytes == VFIOMIG_UNKNOWN ? 0 : pending.dirty_bytes);
    s->report->estimate = estimate;
    return (double)left <= (double)given.bytes_per_second / 1e9 * TARGET_DOWNTIME_NS;
}

static int pre_copy(struct source *s, unsigned max_rounds)
{
    struct report *r = s->report;

    /* P14: the log comes first. A page that is written between "sent" and "logged" would be lost. */
    vm_log_clear(s->vm);
    if (advance(s, VFIOMIG_PHASE_SAVE_TRACKING) < 0) {
        return -1;
    }
    memset(s->todo, 0xff, s->vm->bitmap_words * sizeof *s->todo);
    for (size_t page = s->vm->pages; page < s->vm->bitmap_words * 64; page++) {
        s->todo[page / 64] &= ~(UINT64_C(1) << (page % 64));
    }
    r->started_at = now_ns();
    if (advance(s, VFIOMIG_PHASE_SAVE_PRE_COPY) < 0 || get_pending(s) < 0) {
        return -1;
    }
    int done;
    do {
        r->round++;
        r->round_at = now_ns();
        r->round_sent = s->wire->sent;
        if (send_ram(s) < 0 || send_devices(s) < 0 || get_pending(s) < 0) {
            return -1;
        }
        if (harvest(s) < 0) {
            return -1;
        }
        report_progress(r, s->wire, todo_bytes(s), true);
        done = converged(s);
    } while (r->round < max_rounds && done == 0);
    return done < 0 ? -1 : 0;
}

static int stop_and_copy(struct source *s)
{
    struct report *r = s->report;

    /* N20: with page requests there is one more barrier before, in which devices start no DMA, and vCPUs run on to answer
     * what was asked. A VMM without a vIOMMU goes past it. */
    if (s->vm->page_requests && advance(s, VFIOMIG_PHASE_SAVE_VIOMMU_GRACE) < 0) {
        return -1;
    }

    /* W5, N24: vCPUs before devices, and the VMM's own emulation with them: what writes RAM must be quiet, or in a log.
     * From here to RUNNING nobody may touch the devices' registers (W1, N18, V2-8). */
    report_estimate(r);
    vm_stop_vcpu(s->vm);
    r->stopped_at = now_ns();

    /* N5, V2-6: all reach P2P before one goes on, for a stopped device does not answer its peers. */
    if (advance(s, VFIOMIG_PHASE_SAVE_P2P_GRACE) < 0) {
        return -1;
    }
    /* N17: what belongs to the kernel and not to the device's stream is saved now: PCI configuration, MSI state. The
     * devices of this demo have none; the vCPU's registers go with the trailer. */
    if (advance(s, VFIOMIG_PHASE_SAVE_STOP_COPY) < 0) {
        return -1;
    }

    /* P12: only now are all devices quiet; in PRE_COPY_P2P v2's may still write RAM. So this is the last harvest. */
    uint64_t begun = now_ns(), before = r->ram_bytes;
    if (harvest(s) < 0 || send_ram(s) < 0) {
        return -1;
    }
    r->last_ram_ns = now_ns() - begun;
    r->last_ram_bytes = r->ram_bytes - before;

    before = r->device_bytes;
    begun = now_ns();
    for (unsigned i = 0; i < s->vm->devices; i++) {
        if (send_device(s, i, UINT64_MAX) < 0) {
            return -1;
        }
    }
    r->last_device_ns = now_ns() - begun;
    r->last_device_bytes = r->device_bytes - before;
    return 0;
}

/* Says how long the devices' streams were, and waits for the destination's word that it has everything. */
static int hand_over(struct source *s)
{
    const uint64_t begun = now_ns();
    struct end end = {
        .ram_checksum = vm_ram_checksum(s->vm),
        .vcpu_random = s->vm->vcpu.random,
        .vcpu_steps = s->vm->vcpu.steps,
    };
    for (unsigned i = 0; i < s->vm->devices; i++) {
        struct vfiomig_error *error = NULL;
        struct vfiomig_device_info info;
        VFIOMIG_INIT(&info);
        if (vfiomig_device_get_info(s->vm->device[i].handle, &info, &error) < 0) {
            return library_failed(error);
        }
        end.device[i].stream_bytes = info.saved_bytes; /* the stream's length, for END was seen */
        end.device[i].checksum = simdev_checksum(s->vm->device[i].hardware.device);
    }
    s->report->compare_ns = now_ns() - begun;
    const struct frame frame = {.type = FRAME_END, .len = sizeof end};
    if (send_frame(s, &frame, &end) < 0 ||
        expect(s, FRAME_LOADED, &s->report->loaded, sizeof s->report->loaded) < 0) {
        return -1;
    }
    s->report->compare_ns += s->report->loaded.compare_ns;
    return 0;
}

/*
 * Once GO may have arrived, the source must not run again unless the destination says that it will not. It can say so:
 * v1 and the draft validate only on the way from RESUMING to RUNNING (W7). So the devices here keep what they have.
 */
static enum outcome let_go(struct source *s)
{
    const struct frame frame = {.type = FRAME_GO};
    if (wire_send(s->wire, &frame, NULL) < 0) {
        lost_peer();
        return LOST;
    }
    advance(s, VFIOMIG_PHASE_SAVE_HALTED); /* out of the downtime */
    if (expect(s, FRAME_RUNNING, &s->report->running, sizeof s->report->running) < 0) {
        return s->refused ? GOES_ON : LOST;
    }
    s->report->compare_ns += s->report->running.compare_ns;
    return MIGRATED;
}

/* Whatever has failed: the devices go back to RUNNING, then the vCPU runs, and the guest has only lost time. */
static enum outcome go_on(struct source *s)
{
    struct vm *vm = s->vm;
    const struct frame frame = {.type = FRAME_ABORT};
    wire_send(s->wire, &frame, NULL); /* it may be gone: no matter */
    for (unsigned i = 0; i < vm->devices; i++) {
        simdev_allow_abort(vm->device[i].hardware.device, 1); /* it judges a stream that is left before its END */
    }
    /*
     * V2-9. From PRE_COPY the way is RUNNING, from everywhere else it leads through the P2P states, where all have to
     * meet before one goes on; the library knows it, and reads where each device is. What was sent of a stream is void:
     * the next try begins new ones. vCPUs stay stopped until it returns.
     */
    struct vfiomig_error *error = NULL;
    if (vm_abort(vm, &error) < 0) {
        library_failed(error);
        return LOST;
    }
    if (!vm->vcpu_runs && vm_start_vcpu(vm) < 0) {
        return LOST;
    }
    return GOES_ON;
}

enum outcome source_run(struct vm *vm, struct wire *wire, const struct options *o, struct report *report)
{
    enum outcome outcome = GOES_ON; /* before the first step the VM is untouched */
    enum step failed_in = STEP_NONE;
    struct vfiomig_error *error = NULL;
    struct source s = {.vm = vm, .wire = wire, .report = report};
    report->devices = vm->devices;
    s.todo = malloc(vm->bitmap_words * sizeof *s.todo);
    s.run = malloc(RUN_PAGES * PAGE_BYTES);
    if (s.todo == NULL || s.run == NULL) {
        fprintf(stderr, WHO ": no memory\n");
    } else if (vm_begin(vm, VFIOMIG_DIRECTION_SAVE, &error) < 0) {
        library_failed(error);
    } else if (pre_copy(&s, o->max_rounds) < 0) {
        failed_in = STEP_PRECOPY;
    } else if (stop_and_copy(&s) < 0) {
        failed_in = STEP_STOP_COPY;
    } else if (hand_over(&s) < 0) {
        failed_in = STEP_LOAD;
    } else if ((outcome = let_go(&s)) == GOES_ON) {
        failed_in = STEP_LOAD;
    }
    if (failed_in != STEP_NONE) {
        report->failed_in = failed_in;
        outcome = go_on(&s);
    }
    free(s.todo);
    free(s.run);
    return outcome;
}
