/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The source, phase by phase; docs/vmm-guide.md says what a VMM must do before each of them, and why:
 *
 *   TRACKING -> PRE_COPY: rounds of the devices' data and of RAM, first all, then what became dirty -> vCPUs stop ->
 *   P2P_GRACE -> STOP_COPY: last harvest, last RAM, the devices' streams to their END -> the destination agrees ->
 *   it runs; here: HALTED
 *
 * Up to the last record vfiomig_migration_save_to() does it, and calls step() where something is the VMM's own.
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
#define RUN_PAGES ((size_t)64)          /* pages in one record */
#define TARGET_DOWNTIME_NS 30000000u    /* for the data; the device's own transitions come on top */

struct source {
    struct vm *vm;
    struct wire *wire;
    struct report *report;
    struct vfiomig_writer *writer;
    unsigned max_rounds;
    enum step step;              /* where it is, for --fail */
    bool said;                   /* step() has failed, and has said why */
    bool refused;                /* the destination has said that the guest does not and will not run there */
    uint64_t *todo;              /* pages to be sent */
    uint64_t *run;               /* the number of the first page, and room for RUN_PAGES of them */
    uint64_t stopped_bytes, stopped_at; /* of devices, when their last data began */
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

/* The destination's next message must be `type`, with `len` bytes. */
static int expect(struct source *s, enum message_type type, void *to, size_t len)
{
    struct message message;
    char text[256] = "";
    if (wire_receive(s->wire, &message, sizeof message) < 0) {
        return lost_peer();
    }
    if (message.type == type && message.len == len) {
        return wire_receive(s->wire, to, len) < 0 ? lost_peer() : 0;
    }
    if (message.type != MESSAGE_FAILED || message.len >= sizeof text ||
        wire_receive(s->wire, text, message.len) < 0) {
        return lost_peer();
    }
    s->refused = true;
    report_line_end();
    fprintf(stderr, WHO ": the destination has failed: %s\n", text);
    return -1;
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

/* The destination has spoken: it says why itself. */
static int writer_failed(const struct source *s, struct vfiomig_error *error)
{
    if (!wire_has_news(s->wire)) {
        return library_failed(error);
    }
    vfiomig_error_free(error);
    return -1;
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
        s->run[0] = page;
        vm_copy_pages(s->vm, page, count, s->run + 1);
        struct vfiomig_error *error = NULL;
        if (vfiomig_writer_vmm(s->writer, VFIOMIG_RECORD_NO_DEVICE, RECORD_RAM, s->run,
                               sizeof *s->run + count * PAGE_BYTES, &error) < 0) {
            return writer_failed(s, error);
        }
        page += count;
        left -= count * PAGE_BYTES;
        s->report->ram_bytes += count * PAGE_BYTES;
        report_progress(s->report, s->wire, left, false);
    }
    memset(s->todo, 0, s->vm->bitmap_words * sizeof *s->todo);
    return 0;
}

/* --- phases ------------------------------------------------------------------------------------------------------- */

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

/* The devices have had their part of a round. 1: another one. */
static int end_round(struct source *s)
{
    struct report *r = s->report;
    if (send_ram(s) < 0 || harvest(s) < 0) {
        return -1;
    }
    report_progress(r, s->wire, todo_bytes(s), true);
    const int done = converged(s);
    /* C5: some devices offer data for ever, and never "nothing left". */
    if (done != 0 || r->round >= s->max_rounds) {
        return done < 0 ? -1 : 0;
    }
    r->round++;
    r->round_at = now_ns();
    r->round_sent = s->wire->sent;
    return 1;
}

static int stop_vm(struct source *s)
{
    s->step = STEP_STOP_COPY;
    /* N20: with page requests there is one more barrier before, in which devices start no DMA, and vCPUs run on to
     * answer what was asked. A VMM without a vIOMMU goes past it. */
    if (s->vm->page_requests && advance(s, VFIOMIG_PHASE_SAVE_VIOMMU_GRACE) < 0) {
        return -1;
    }
    /* W5, N24: vCPUs before devices, and the VMM's own emulation with them: what writes RAM must be quiet, or in a log.
     * From here to RUNNING nothing may touch the devices' registers (W1, N18, V2-8). */
    report_estimate(s->report);
    vm_stop_vcpu(s->vm);
    s->report->stopped_at = now_ns();
    return 0;
}

/* P12: only now are all devices quiet; in PRE_COPY_P2P v2's may still write RAM. So this is the last harvest. */
static int send_last_ram(struct source *s)
{
    struct report *r = s->report;
    const uint64_t begun = now_ns(), before = r->ram_bytes;
    if (harvest(s) < 0 || send_ram(s) < 0) {
        return -1;
    }
    s->stopped_at = now_ns();
    s->stopped_bytes = r->device_bytes;
    r->last_ram_ns = s->stopped_at - begun;
    r->last_ram_bytes = r->ram_bytes - before;
    return 0;
}

/* Every stream is on the wire, with its length. */
static int send_end(struct source *s)
{
    struct vfiomig_error *error = NULL;
    struct report *r = s->report;
    const uint64_t begun = now_ns();
    struct end end = {
        .ram_checksum = vm_ram_checksum(s->vm),
        .vcpu_random = s->vm->vcpu.random,
        .vcpu_steps = s->vm->vcpu.steps,
    };
    for (unsigned i = 0; i < s->vm->devices; i++) {
        end.device_checksum[i] = hardware_checksum(&s->vm->device[i].hardware);
    }
    r->last_device_ns = begun - s->stopped_at;
    r->last_device_bytes = r->device_bytes - s->stopped_bytes;
    r->compare_ns = now_ns() - begun;
    if (vfiomig_writer_vmm(s->writer, VFIOMIG_RECORD_NO_DEVICE, RECORD_END, &end, sizeof end, &error) < 0) {
        return writer_failed(s, error);
    }
    return 0;
}

/* What is the VMM's own at each moment of the save. N17: in VFIOMIG_STEP_GRACE it saves what belongs to the kernel and
 * not to a device's stream, PCI configuration and MSI state; the devices of this demo have none. */
static int step(void *opaque, uint32_t what, const struct vfiomig_wire_progress *progress)
{
    struct source *s = opaque;
    int result = 0;
    s->report->device_bytes = progress->bytes;
    switch (what) {
    case VFIOMIG_STEP_PROGRESS: report_progress(s->report, s->wire, todo_bytes(s), false); break;
    case VFIOMIG_STEP_ROUND: result = end_round(s); break;
    case VFIOMIG_STEP_STOP_VM: result = stop_vm(s); break;
    case VFIOMIG_STEP_STOPPED: result = send_last_ram(s); break;
    case VFIOMIG_STEP_LAST: result = send_end(s); break;
    default: break;
    }
    s->said = result < 0;
    return result < 0 ? -ECANCELED : result;
}

static int save(struct source *s)
{
    struct report *r = s->report;
    struct vfiomig_error *error = NULL;
    struct vfiomig_writer_options options;
    struct vfiomig_save_to_request request;
    VFIOMIG_INIT(&options);
    VFIOMIG_INIT(&request);
    options.write = wire_write;
    options.opaque = s->wire;
    options.wire = now_ns();
    request.flags = VFIOMIG_SAVE_TO_F_ROUNDS;
    request.step = step;
    request.opaque = s;

    /* P14: the log comes first. A page that is written between "sent" and "logged" would be lost. */
    vm_log_clear(s->vm);
    memset(s->todo, 0xff, s->vm->bitmap_words * sizeof *s->todo);
    for (size_t page = s->vm->pages; page < s->vm->bitmap_words * 64; page++) {
        s->todo[page / 64] &= ~(UINT64_C(1) << (page % 64));
    }
    s->step = STEP_PRECOPY;
    r->round = 1;
    r->started_at = r->round_at = now_ns();
    /*
     * The table has the devices of the group, by name. All reach a phase before one goes on: N5, V2-6, a stopped device
     * does not answer its peers. The devices hold the only copy of the guest's state, so the library resets none.
     */
    int result = vfiomig_writer_new(s->vm->group, &options, &s->writer, &error);
    if (result == 0) {
        result = vfiomig_migration_save_to(s->vm->migration, &s->writer, 1, &request, &error);
    }
    if (result == 0) {
        for (uint32_t phase = VFIOMIG_PHASE_SAVE_TRACKING; phase <= VFIOMIG_PHASE_SAVE_STOP_COPY; phase++) {
            vm_read_times(s->vm, phase, &r->phase[phase]);
        }
        return 0;
    }
    if (s->said) {
        vfiomig_error_free(error);
    } else {
        writer_failed(s, error);
    }
    if (wire_has_news(s->wire)) {
        s->step = STEP_LOAD;
        expect(s, MESSAGE_FAILED, NULL, SIZE_MAX);
    }
    return -1;
}

/* Waits for the destination's word that it has everything. */
static int hand_over(struct source *s)
{
    s->step = STEP_LOAD;
    if (expect(s, MESSAGE_LOADED, &s->report->loaded, sizeof s->report->loaded) < 0) {
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
    if (wire_send(s->wire, MESSAGE_GO, NULL, 0) < 0) {
        lost_peer();
        return LOST;
    }
    advance(s, VFIOMIG_PHASE_SAVE_HALTED); /* out of the downtime */
    if (expect(s, MESSAGE_RUNNING, &s->report->running, sizeof s->report->running) < 0) {
        return s->refused ? GOES_ON : LOST;
    }
    s->report->compare_ns += s->report->running.compare_ns;
    return MIGRATED;
}

/* Whatever has failed: the devices go back to RUNNING, then the vCPU runs, and the guest has only lost time. */
static enum outcome go_on(struct source *s)
{
    struct vm *vm = s->vm;
    wire_send(s->wire, MESSAGE_ABORT, NULL, 0); /* it may be gone, or know it by the wire: no matter */
    for (unsigned i = 0; i < vm->devices; i++) {
        hardware_allow_abort(&vm->device[i].hardware);
    }
    /*
     * V2-9. From PRE_COPY the way is RUNNING, from everywhere else it leads through the P2P states, where all have to
     * meet before one goes on; the library knows it, and reads where each device is. What was sent of a stream is void:
     * the next try begins new ones. vCPUs stay stopped until it returns.
     */
    struct vfiomig_error *error = NULL;
    /* Behind HALTED the library wants to hear that no guest runs elsewhere: the destination has said so. */
    if (vm_abort(vm, s->refused ? VFIOMIG_ABORT_F_NO_SECOND_GUEST : 0, &error) < 0) {
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
    struct vfiomig_error *error = NULL;
    struct source s = {.vm = vm, .wire = wire, .report = report, .max_rounds = o->max_rounds};
    report->devices = vm->devices;
    s.todo = malloc(vm->bitmap_words * sizeof *s.todo);
    s.run = malloc(sizeof *s.run + RUN_PAGES * PAGE_BYTES);
    if (s.todo == NULL || s.run == NULL) {
        fprintf(stderr, WHO ": no memory\n");
    } else if (vm_begin(vm, VFIOMIG_DIRECTION_SAVE, &error) < 0) {
        library_failed(error);
    } else {
        if (save(&s) == 0 && hand_over(&s) == 0) {
            outcome = let_go(&s);
        }
        if (outcome == GOES_ON) {
            report->failed_in = s.step;
            outcome = go_on(&s);
        }
    }
    vfiomig_writer_free(s.writer);
    free(s.todo);
    free(s.run);
    return outcome;
}
