/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The destination, phase by phase; docs/vmm-guide.md says what a VMM must do before each of them, and why:
 *
 *   RESUMING: RAM and the devices' streams as they come -> trailer: finish, LOADED, compare -> ask -> P2P_GRACE ->
 *   RUNNING -> vCPUs
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
    struct end end; /* the trailer */
    bool compared;
    bool runs;     /* the vCPU was started: the guest exists only here */
    char why[256]; /* what has failed, for the source */
};

__attribute__((format(printf, 2, 3))) static int failed(struct destination *d, const char *format, ...)
{
    va_list arguments;
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

static int receive_ram(struct destination *d, const struct frame *frame)
{
    /* Never trust a stream with addresses. */
    const size_t count = frame->len / PAGE_BYTES;
    if (frame->len % PAGE_BYTES != 0 || frame->arg > d->vm->pages || count > d->vm->pages - frame->arg) {
        return failed(d, "the stream has RAM that the guest has not");
    }
    void *to = (void *)(d->vm->ram + frame->arg * PAGE_WORDS);
    return wire_receive(d->wire, to, frame->len) < 0 ? failed(d, "the source is gone") : 0;
}

static int receive_device(struct destination *d, const struct frame *frame)
{
    struct vfiomig_error *error = NULL;
    uint64_t segment_left = frame->arg;
    size_t left = frame->len;
    if (frame->device >= d->vm->devices || (frame->flags & ~(uint32_t)VFIOMIG_CHUNK_SEGMENT_END) != 0 ||
        segment_left < left) {
        return failed(d, "the stream has a piece of a device's state that makes no sense");
    }
    struct vfiomig_device *device = d->vm->device[frame->device].handle;
    while (left > 0) {
        /* The bytes are received where the library wants them: on v1 with a mapped window, into the device itself. The
         * room can be smaller than the piece, where the window is mapped in parts that do not lie as the source's. */
        void *room;
        size_t len;
        if (vfiomig_device_reserve(device, segment_left, &room, &len, &error) < 0) {
            return library_failed(d, error);
        }
        len = len < left ? len : left;
        if (wire_receive(d->wire, room, len) < 0) {
            return failed(d, "the source is gone"); /* the room stays out: nothing of it reaches the device */
        }
        left -= len;
        segment_left -= segment_left == VFIOMIG_UNKNOWN ? 0 : len;
        if (vfiomig_device_commit(device, len, left == 0 ? frame->flags : 0, &error) < 0) {
            return library_failed(d, error);
        }
    }
    return 0;
}

static int compare_devices(struct destination *d, uint64_t *ns)
{
    const uint64_t begun = now_ns();
    for (unsigned i = 0; i < d->vm->devices; i++) {
        if (simdev_checksum(d->vm->device[i].hardware.device) != d->end.device[i].checksum) {
            return failed(d, "the state of %s is not equal to that of the source", d->vm->device[i].name);
        }
    }
    d->compared = true;
    *ns += now_ns() - begun;
    return 0;
}

/* Everything is here, says the source. Is it? */
static int complete(struct destination *d, const struct frame *frame, struct loaded *loaded)
{
    struct vm *vm = d->vm;
    struct vfiomig_error *error = NULL;
    if (frame->len != sizeof d->end || wire_receive(d->wire, &d->end, sizeof d->end) < 0) {
        return failed(d, "the source is gone");
    }
    for (unsigned i = 0; i < vm->devices; i++) {
        /* F7: only the saver knows how long a stream is; without this word the library refuses to leave RESUMING. */
        if (vfiomig_device_finish(vm->device[i].handle, d->end.device[i].stream_bytes, &error) < 0) {
            return library_failed(d, error);
        }
    }
    if (advance(d, VFIOMIG_PHASE_LOAD_LOADED, &loaded->stop) < 0) {
        return -1;
    }
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
    const struct frame frame = {.type = FRAME_RUNNING, .len = sizeof running};
    if (wire_send(d->wire, &frame, &running) < 0) {
        return failed(d, "the source is gone"); /* but the guest runs */
    }
    return 0;
}

/* 0 when the guest runs here. */
static int receive(struct destination *d)
{
    struct step_time time;
    struct loaded loaded = {0};
    const struct frame answer = {.type = FRAME_LOADED, .len = sizeof loaded};
    struct frame frame;
    struct vfiomig_error *error = NULL;
    if (vm_begin(d->vm, VFIOMIG_DIRECTION_LOAD, &error) < 0) {
        return library_failed(d, error);
    }
    if (advance(d, VFIOMIG_PHASE_LOAD_RESUMING, &time) < 0) {
        return -1;
    }
    while (wire_receive_frame(d->wire, &frame) == 0) {
        int result = 0;
        switch (frame.type) {
        case FRAME_RAM: result = receive_ram(d, &frame); break;
        case FRAME_DEVICE: result = receive_device(d, &frame); break;
        case FRAME_END:
            result = complete(d, &frame, &loaded);
            if (result == 0 && wire_send(d->wire, &answer, &loaded) < 0) {
                result = failed(d, "the source is gone");
            }
            break;
        case FRAME_GO: return run(d);
        case FRAME_ABORT: return failed(d, "the source runs on");
        default: return failed(d, "the stream makes no sense");
        }
        if (result < 0) {
            return -1;
        }
    }
    return failed(d, "the source is gone");
}

static void give_up(struct destination *d)
{
    char rubbish[4096];
    struct vfiomig_error *error = NULL;
    /* V2-9: only a reset leads out of RESUMING without loading what is there, and abort does that. Once all devices run
     * it is refused, for it would destroy a guest; but here no vCPU was started, and the source is to go on with the
     * only guest there is. So this VMM resets them itself. */
    if (d->vm->migration != NULL && vm_abort(d->vm, &error) < 0) {
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
    const struct frame frame = {.type = FRAME_FAILED, .len = (uint32_t)strlen(d->why)};
    wire_send(d->wire, &frame, d->why);
    /* The source may be in the middle of a frame, and hears only after it. */
    while (wire_receive_some(d->wire, rubbish, sizeof rubbish) > 0) {
    }
}

int destination_run(struct vm *vm, struct wire *wire)
{
    struct destination d = {.vm = vm, .wire = wire};
    if (receive(&d) < 0 && !d.runs) {
        give_up(&d);
        return -1;
    }
    return 0;
}
