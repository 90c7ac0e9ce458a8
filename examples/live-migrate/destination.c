/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The destination, phase by phase; docs/vmm-guide.md says what a VMM must do before each of them, and why:
 *
 *   RESUMING: RAM and the devices' streams as they come, each device LOADED behind its END -> compare -> ask ->
 *   P2P_GRACE -> RUNNING -> vCPUs
 *
 * Up to LOADED vfiomig_migration_load_from() does it, and calls record() with what the source's VMM has sent.
 *
 * Devices of v1 and the draft stay in RESUMING when LOADED is entered, and validate and are compared when they leave
 * it.
 *
 * Until the vCPU runs, every failure ends in a reset of the devices, and the source runs on.
 */
#include "destination.h"

#include "util.h"

#include <stdarg.h>
#include <string.h>

struct destination {
    struct vm *vm;
    struct wire *wire;
    struct vfiomig_reader *reader;
    struct end end;
    bool ended; /* it has come */
    bool compared;
    bool runs;     /* the vCPU was started: the guest exists only here */
    char why[256]; /* what has failed, for the source */
};

/* The first reason counts: what else is said of it says less. */
__attribute__((format(printf, 2, 3))) static int failed(struct destination *d, const char *format, ...)
{
    va_list arguments;
    if (d->why[0] != '\0') {
        return -1;
    }
    va_start(arguments, format);
    vsnprintf(d->why, sizeof d->why, format, arguments);
    va_end(arguments);
    return -1;
}

static int library_failed(struct destination *d, struct vfiomig_error *error)
{
    failed(d, "%s", vfiomig_error_message(error));
    vfiomig_error_free(error);
    return -1;
}

/* What a device holds here is a copy, so the library resets one that fails. The guest's state is at the source, which
 * keeps it until it hears that the vCPU runs here. */
static int advance(struct destination *d, uint32_t phase, struct step_time *time)
{
    struct vfiomig_error *error = NULL;
    return vm_advance(d->vm, phase, time, &error) < 0 ? library_failed(d, error) : 0;
}

static int receive_ram(struct destination *d, const void *data, size_t len)
{
    uint64_t first = 0;
    const size_t bytes = len < sizeof first ? 1 : len - sizeof first, count = bytes / PAGE_BYTES;
    if (len >= sizeof first) {
        memcpy(&first, data, sizeof first);
    }
    /* Never trust a stream with addresses. */
    if (bytes % PAGE_BYTES != 0 || first > d->vm->pages || count > d->vm->pages - first) {
        return failed(d, "the stream has RAM that the guest has not");
    }
    memcpy((void *)(d->vm->ram + first * PAGE_WORDS), (const char *)data + sizeof first, bytes);
    return 0;
}

/* What the source's VMM has sent between the streams. The library has checked that no byte of it changed. */
static int record(void *opaque, size_t device_index, uint64_t kind, const void *data, size_t len)
{
    struct destination *d = opaque;
    int result;
    (void)device_index; /* these are of none */
    if (kind == RECORD_RAM) {
        result = receive_ram(d, data, len);
    } else if (kind == RECORD_END && len == sizeof d->end) {
        memcpy(&d->end, data, len);
        d->ended = true;
        result = 0;
    } else {
        result = failed(d, "the stream has a record that makes no sense");
    }
    return result < 0 ? -EPROTO : 0;
}

static int compare_devices(struct destination *d, uint64_t *ns)
{
    const uint64_t begun = now_ns();
    for (unsigned i = 0; i < d->vm->devices; i++) {
        if (hardware_checksum(&d->vm->device[i].hardware) != d->end.device_checksum[i]) {
            return failed(d, "the state of %s is not equal to that of the source", d->vm->device[i].name);
        }
    }
    d->compared = true;
    *ns += now_ns() - begun;
    return 0;
}

/*
 * The table is compared with the group before a device is touched: names, dialects. Then each device gets its stream,
 * and goes to LOADED behind its END: F7, only the saver knows how long a stream is.
 */
static int load(struct destination *d)
{
    struct vfiomig_error *error = NULL;
    struct vfiomig_reader_options options;
    struct vfiomig_load_from_request request;
    VFIOMIG_INIT(&options);
    VFIOMIG_INIT(&request);
    options.read = wire_read;
    options.opaque = d->wire;
    request.record = record;
    request.opaque = d;
    if (vfiomig_reader_new(&options, &d->reader, &error) < 0 ||
        vfiomig_migration_load_from(d->vm->migration, &d->reader, 1, &request, &error) < 0) {
        return library_failed(d, error);
    }
    return d->ended ? 0 : failed(d, "the stream has no end");
}

/* Everything is here, says the source. Is it? */
static int compare(struct destination *d, struct loaded *loaded)
{
    struct vm *vm = d->vm;
    vm_read_times(vm, VFIOMIG_PHASE_LOAD_LOADED, &loaded->stop);
    const uint64_t begun = now_ns();
    if (vm_ram_checksum(vm) != d->end.ram_checksum) {
        return failed(d, "RAM is not equal to that of the source");
    }
    loaded->compare_ns = now_ns() - begun;
    vm->vcpu = (struct vcpu){.random = d->end.vcpu_random, .steps = d->end.vcpu_steps};
    /* As long as a device is in RESUMING, its state is not defined. */
    return loaded->stop.moved == vm->devices ? compare_devices(d, &loaded->compare_ns) : 0;
}

static int run(struct destination *d)
{
    struct running running = {0};
    /* Before this a real VMM has completed RAM, mapped it for DMA, and restored PCI configuration, BARs and interrupts:
     * devices may write and interrupt as soon as they run.
     * N5: all devices are in RUNNING_P2P before one goes on, and in RUNNING before vCPUs start. N22: without P2P states
     * a device that is RUNNING already may meet one that is not, and only a device that is alone is safe from it. */
    if (advance(d, VFIOMIG_PHASE_LOAD_P2P_GRACE, &running.p2p) < 0 ||
        advance(d, VFIOMIG_PHASE_LOAD_RUNNING, &running.running) < 0) {
        return -1;
    }
    if (!d->compared && compare_devices(d, &running.compare_ns) < 0) {
        return -1;
    }
    if (vm_start_devices(d->vm) < 0) {
        return failed(d, "no thread for the devices");
    }
    running.vcpu_at = now_ns();
    if (vm_start_vcpu(d->vm) < 0) {
        return failed(d, "no thread for the vCPU");
    }
    d->runs = true;
    running.alive = vm_is_alive(d->vm);
    if (wire_send(d->wire, MESSAGE_RUNNING, &running, sizeof running) < 0) {
        return failed(d, "the source is gone"); /* but the guest runs */
    }
    return 0;
}

/* 0 when the guest runs here. */
static int receive(struct destination *d)
{
    struct loaded loaded = {0};
    struct message message;
    struct vfiomig_error *error = NULL;
    if (vm_begin(d->vm, VFIOMIG_DIRECTION_LOAD, &error) < 0) {
        return library_failed(d, error);
    }
    if (load(d) < 0 || compare(d, &loaded) < 0) {
        return -1;
    }
    /* No byte behind the last record was read: what follows is between the two VMMs. */
    if (wire_send(d->wire, MESSAGE_LOADED, &loaded, sizeof loaded) < 0 ||
        wire_receive(d->wire, &message, sizeof message) < 0) {
        return failed(d, "the source is gone");
    }
    switch (message.type) {
    case MESSAGE_GO: return run(d);
    case MESSAGE_ABORT: return failed(d, "the source runs on");
    default: return failed(d, "the stream makes no sense");
    }
}

static void give_up(struct destination *d)
{
    char rubbish[4096];
    struct vfiomig_error *error = NULL;
    /* V2-9: only a reset leads out of RESUMING without loading what is there, and abort does that. Once all devices run
     * it is refused, for it would destroy a guest; but here no vCPU was started, and the source is to go on with the
     * only guest there is. So this VMM resets them itself. */
    if (d->vm->migration != NULL && vm_abort(d->vm, 0, &error) < 0) {
        const bool all_run = vfiomig_migration_get_phase(d->vm->migration) == VFIOMIG_PHASE_LOAD_RUNNING;
        if (!all_run) {
            fail("destination", error);
        } else {
            vfiomig_error_free(error);
        }
        for (unsigned i = 0; all_run && i < d->vm->devices; i++) {
            error = NULL;
            if (vfiomig_device_reset(d->vm->device[i].handle, &error) < 0) {
                fail("destination", error);
            }
        }
    }
    wire_send(d->wire, MESSAGE_FAILED, d->why, strlen(d->why));
    /* The source may be in the middle of a record, and hears only after it. */
    while (wire_read(d->wire, rubbish, sizeof rubbish) > 0) {
    }
}

int destination_run(struct vm *vm, struct wire *wire)
{
    struct destination d = {.vm = vm, .wire = wire};
    int result = 0;
    if (receive(&d) < 0 && !d.runs) {
        give_up(&d);
        result = -1;
    }
    vfiomig_reader_free(d.reader);
    return result;
}
