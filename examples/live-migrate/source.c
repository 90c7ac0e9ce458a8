/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The source, in the order that protects the guest:
 *
 *   log dirty pages -> device in PRE_COPY, all RAM, rounds -> vCPUs stop -> PRE_COPY_P2P -> STOP_COPY ->
 *   last harvest, last RAM, device's stream to its END -> trailer -> the destination agrees -> it runs; here: STOP
 *
 * Until the destination is told to run, every failure leads back to RUNNING here.
 *
 * This device has PRE_COPY and P2P. With one that has not (VFIOMIG_CAP_*) the steps into these states are left out.
 */
#include "source.h"

#include "util.h"

#include <stdlib.h>
#include <string.h>

#define WHO "source"
#define RUN_PAGES ((size_t)64)          /* pages in one frame */
#define TARGET_DOWNTIME_NS 30000000u    /* for the data; the device's own transitions come on top */

struct source {
    struct vm *vm;
    struct wire *wire;
    struct report *report;
    bool was_empty; /* the device had nothing more to send, once at least */
    uint64_t *todo; /* pages to be sent */
    uint64_t *run;  /* room for RUN_PAGES of them */
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
    report_line_end();
    fprintf(stderr, WHO ": the destination has failed: %s\n", text);
    return -1;
}

static int send_frame(struct source *s, enum frame_type type, uint64_t arg, const void *payload, size_t len)
{
    /* It speaks before it is asked only if it has failed. */
    if (wire_has_news(s->wire)) {
        return expect(s, FRAME_FAILED, NULL, SIZE_MAX);
    }
    return wire_send(s->wire, type, arg, payload, len) < 0 ? lost_peer() : 0;
}

/* VFIOMIG_ON_FAILURE_KEEP: the device holds the only copy of the guest's state, so no failure may reset it. */
static int set_state(struct source *s, uint32_t state)
{
    struct vfiomig_error *error = NULL;
    uint64_t begun = now_ns();
    if (vfiomig_device_set_state(s->vm->device, state, VFIOMIG_ON_FAILURE_KEEP, 0, &error) < 0) {
        return library_failed(error);
    }
    s->report->state_ns[state] = now_ns() - begun;
    return 0;
}

/* --- RAM ---------------------------------------------------------------------------------------------------------- */

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
        if (send_frame(s, FRAME_RAM, page, s->run, count * PAGE_BYTES) < 0) {
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

/* --- the device --------------------------------------------------------------------------------------------------- */

/* Sends the device's stream until there is nothing now (EMPTY, in pre-copy) or it is complete (END, in STOP_COPY). */
static int send_device(struct source *s, uint64_t max)
{
    struct vfiomig_device *device = s->vm->device;
    struct vfiomig_error *error = NULL;
    struct vfiomig_chunk chunk;
    for (uint64_t sent = 0; sent < max; sent += chunk.len) {
        /* The bytes are sent from where the library read them to. */
        if (vfiomig_device_peek(device, 0, &chunk, &error) < 0) {
            return library_failed(error);
        }
        if (chunk.len == 0) {
            s->was_empty |= chunk.flags == VFIOMIG_CHUNK_EMPTY;
            return 0;
        }
        if (send_frame(s, FRAME_DEVICE, 0, chunk.data, chunk.len) < 0) {
            return -1; /* the chunk stays out; leaving the session takes it back */
        }
        if (vfiomig_device_consume(device, chunk.len, &error) < 0) {
            return library_failed(error);
        }
        s->report->device_bytes += chunk.len;
    }
    return 0;
}

static int get_pending(struct source *s, struct vfiomig_pending *pending)
{
    struct vfiomig_error *error = NULL;
    VFIOMIG_INIT(pending);
    /* EXACT asks the device, so it belongs to the thread that moves its data. */
    if (vfiomig_device_get_pending(s->vm->device, VFIOMIG_PENDING_EXACT, pending, &error) < 0) {
        return library_failed(error);
    }
    return 0;
}

static uint64_t known(uint64_t bytes)
{
    return bytes == VFIOMIG_UNKNOWN ? 0 : bytes;
}

/* How much of a device's stream to send in a round. C5: some devices offer data for ever; "until EMPTY" may not end. */
static uint64_t round_budget(const struct vfiomig_pending *pending)
{
    uint64_t bytes = known(pending->initial_bytes) + known(pending->dirty_bytes);
    const uint64_t least = 8 << 20; /* for a driver that gives no figures */
    return bytes > least ? bytes : least;
}

/* --- phases ------------------------------------------------------------------------------------------------------- */

static bool converged(const struct source *s, const struct vfiomig_pending *pending)
{
    /* C4: a device with initial data left is not ready; stopping it now costs more downtime than its size says. */
    if (pending->initial_bytes == VFIOMIG_UNKNOWN ? !s->was_empty : pending->initial_bytes > 0) {
        return false;
    }
    uint64_t left = todo_bytes(s) + known(pending->stop_copy_bytes);
    double per_ns = (double)s->wire->sent / (double)(now_ns() - s->report->started_at);
    return (double)left <= per_ns * TARGET_DOWNTIME_NS;
}

static int pre_copy(struct source *s, unsigned max_rounds)
{
    struct report *r = s->report;
    struct vfiomig_pending pending;

    /* P14: the log comes first. A page that is written between "sent" and "logged" would be lost. */
    vm_log_start(s->vm);
    memset(s->todo, 0xff, s->vm->bitmap_words * sizeof *s->todo);
    for (size_t page = s->vm->pages; page < s->vm->bitmap_words * 64; page++) {
        s->todo[page / 64] &= ~(UINT64_C(1) << (page % 64));
    }
    r->started_at = now_ns();
    if (set_state(s, VFIOMIG_STATE_PRE_COPY) < 0 || get_pending(s, &pending) < 0) {
        return -1;
    }
    do {
        r->round++;
        r->round_at = now_ns();
        r->round_sent = s->wire->sent;
        if (send_ram(s) < 0 || send_device(s, round_budget(&pending)) < 0 || get_pending(s, &pending) < 0) {
            return -1;
        }
        vm_log_harvest(s->vm, s->todo);
        report_progress(r, s->wire, todo_bytes(s), true);
    } while (r->round < max_rounds && !converged(s, &pending));
    return 0;
}

static int stop_and_copy(struct source *s)
{
    struct report *r = s->report;

    /* W5: vCPUs before devices. From here to RUNNING nobody may touch the device's registers (V2-8). */
    vm_stop_vcpu(s->vm);
    r->stopped_at = now_ns();

    /* V2-6: with several devices all reach P2P before one goes on, for a stopped device does not answer its peers. */
    if (set_state(s, VFIOMIG_STATE_PRE_COPY_P2P) < 0 || set_state(s, VFIOMIG_STATE_STOP_COPY) < 0) {
        return -1;
    }

    /* P12: only now is the device quiet; in PRE_COPY_P2P it may still write RAM. So this is the last harvest. */
    uint64_t begun = now_ns(), before = r->ram_bytes;
    vm_log_harvest(s->vm, s->todo);
    if (send_ram(s) < 0) {
        return -1;
    }
    r->last_ram_ns = now_ns() - begun;
    r->last_ram_bytes = r->ram_bytes - before;

    begun = now_ns(), before = r->device_bytes;
    if (send_device(s, UINT64_MAX) < 0) {
        return -1;
    }
    r->last_device_ns = now_ns() - begun;
    r->last_device_bytes = r->device_bytes - before;
    return 0;
}

/* Says how long the device's stream was, and waits for the destination's word that it has everything. */
static int hand_over(struct source *s)
{
    struct vfiomig_error *error = NULL;
    struct vfiomig_device_info info;
    VFIOMIG_INIT(&info);
    if (vfiomig_device_get_info(s->vm->device, &info, &error) < 0) {
        return library_failed(error);
    }
    uint64_t begun = now_ns();
    struct end end = {
        .device_bytes = info.saved_bytes, /* the stream's length, for END was seen */
        .ram_checksum = vm_ram_checksum(s->vm),
        .device_checksum = softdev_checksum(s->vm->hardware),
        .vcpu_random = s->vm->vcpu.random,
        .vcpu_steps = s->vm->vcpu.steps,
    };
    s->report->compare_ns = now_ns() - begun;
    if (send_frame(s, FRAME_END, 0, &end, sizeof end) < 0 ||
        expect(s, FRAME_LOADED, &s->report->loaded, sizeof s->report->loaded) < 0) {
        return -1;
    }
    s->report->compare_ns += s->report->loaded.compare_ns;
    return 0;
}

/* The point of no return: once GO may have arrived, the source must never run again. */
static enum outcome let_go(struct source *s)
{
    if (wire_send(s->wire, FRAME_GO, 0, NULL, 0) < 0) {
        lost_peer();
        return LOST;
    }
    /* Out of the downtime. The log is stopped while the device still is in STOP_COPY (P12). */
    vm_log_stop(s->vm);
    set_state(s, VFIOMIG_STATE_STOP);
    if (expect(s, FRAME_RUNNING, &s->report->running, sizeof s->report->running) < 0) {
        return LOST;
    }
    return MIGRATED;
}

/* Whatever has failed: the device goes back to RUNNING, then the vCPU runs, and the guest has only lost time. */
static enum outcome go_on(struct source *s)
{
    struct vm *vm = s->vm;
    wire_send(s->wire, FRAME_ABORT, 0, NULL, 0); /* it may be gone: no matter */
    vm_log_stop(vm);
    /*
     * V2-9. The pre-copy session ends with PRE_COPY -> RUNNING; from everywhere else the way leads through RUNNING_P2P,
     * where with several devices all have to meet before one goes on. The state is the one that the library has read
     * after the failure. What was sent of the stream is void: the next try begins with vfiomig_device_start_stream().
     */
    if (vfiomig_device_get_state(vm->device) != VFIOMIG_STATE_PRE_COPY && set_state(s, VFIOMIG_STATE_RUNNING_P2P) < 0) {
        return LOST;
    }
    if (set_state(s, VFIOMIG_STATE_RUNNING) < 0) {
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
    struct source s = {.vm = vm, .wire = wire, .report = report};
    s.todo = malloc(vm->bitmap_words * sizeof *s.todo);
    s.run = malloc(RUN_PAGES * PAGE_BYTES);
    if (s.todo == NULL || s.run == NULL) {
        fprintf(stderr, WHO ": no memory\n");
    } else if (pre_copy(&s, o->max_rounds) < 0) {
        failed_in = STEP_PRECOPY;
    } else if (stop_and_copy(&s) < 0) {
        failed_in = STEP_STOP_COPY;
    } else if (hand_over(&s) < 0) {
        failed_in = STEP_LOAD;
    } else {
        outcome = let_go(&s);
    }
    if (failed_in != STEP_NONE) {
        report->failed_in = failed_in;
        outcome = go_on(&s);
    }
    free(s.todo);
    free(s.run);
    return outcome;
}
