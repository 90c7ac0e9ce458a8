/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The destination:
 *
 *   RESUMING -> RAM and the device's stream as they come -> trailer: finish, STOP, compare -> ask -> RUNNING_P2P ->
 *   RUNNING -> vCPUs
 *
 * Until it was told to run, every failure ends in a reset of its device, and the source runs on.
 */
#include "destination.h"

#include "util.h"

#include <stdarg.h>
#include <string.h>

struct destination {
    struct vm *vm;
    struct wire *wire;
    bool let_go;   /* the source will not run again: the guest exists only here */
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

/*
 * VFIOMIG_ON_FAILURE_RESET while loading: what the device holds is half a copy, the guest's state is at the source.
 * Once the source has let go it is the only copy, hence VFIOMIG_ON_FAILURE_KEEP.
 */
static int set_state(struct destination *d, uint32_t state, uint32_t on_failure, uint64_t *ns)
{
    struct vfiomig_error *error = NULL;
    uint64_t begun = now_ns();
    if (vfiomig_device_set_state(d->vm->device, state, on_failure, 0, &error) < 0) {
        return library_failed(d, error);
    }
    *ns = now_ns() - begun;
    return 0;
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

static int receive_device(struct destination *d, size_t left)
{
    struct vfiomig_error *error = NULL;
    while (left > 0) {
        /* The bytes are received where the library wants them. */
        void *room;
        size_t len;
        if (vfiomig_device_reserve(d->vm->device, 0, &room, &len, &error) < 0) {
            return library_failed(d, error);
        }
        len = len < left ? len : left;
        if (wire_receive(d->wire, room, len) < 0) {
            return failed(d, "the source is gone");
        }
        if (vfiomig_device_commit(d->vm->device, len, 0, &error) < 0) {
            return library_failed(d, error);
        }
        left -= len;
    }
    return 0;
}

/* Everything is here, says the source. Is it? */
static int complete(struct destination *d, struct loaded *loaded)
{
    struct vfiomig_error *error = NULL;
    struct end end;
    if (wire_receive(d->wire, &end, sizeof end) < 0) {
        return failed(d, "the source is gone");
    }
    /* F7: only the saver knows how long the stream is; without this word the library refuses to leave RESUMING. */
    if (vfiomig_device_finish(d->vm->device, end.device_bytes, &error) < 0) {
        return library_failed(d, error);
    }
    if (set_state(d, VFIOMIG_STATE_STOP, VFIOMIG_ON_FAILURE_RESET, &loaded->stop_ns) < 0) {
        return -1;
    }
    uint64_t begun = now_ns();
    if (vm_ram_checksum(d->vm) != end.ram_checksum) {
        return failed(d, "RAM is not equal to that of the source");
    }
    if (softdev_checksum(d->vm->hardware) != end.device_checksum) {
        return failed(d, "the device's state is not equal to that of the source");
    }
    loaded->compare_ns = now_ns() - begun;
    d->vm->vcpu = (struct vcpu){.random = end.vcpu_random, .steps = end.vcpu_steps};
    return 0;
}

static int run(struct destination *d)
{
    struct running running = {0};
    d->let_go = true;
    /* N5: with several devices all of them are in RUNNING_P2P before one goes on, and RUNNING before vCPUs start. */
    if (set_state(d, VFIOMIG_STATE_RUNNING_P2P, VFIOMIG_ON_FAILURE_KEEP, &running.p2p_ns) < 0 ||
        set_state(d, VFIOMIG_STATE_RUNNING, VFIOMIG_ON_FAILURE_KEEP, &running.running_ns) < 0) {
        return -1;
    }
    running.vcpu_at = now_ns();
    if (vm_start_vcpu(d->vm) < 0) {
        return failed(d, "no thread for the vCPU");
    }
    running.alive = vm_is_alive(d->vm) && softdev_violations(d->vm->hardware) == 0;
    if (wire_send(d->wire, FRAME_RUNNING, 0, &running, sizeof running) < 0) {
        return failed(d, "the source is gone"); /* but the guest runs */
    }
    return 0;
}

/* 0 when the guest runs here. */
static int receive(struct destination *d)
{
    uint64_t ns;
    struct loaded loaded = {0};
    struct frame frame;
    if (set_state(d, VFIOMIG_STATE_RESUMING, VFIOMIG_ON_FAILURE_RESET, &ns) < 0) {
        return -1;
    }
    while (wire_receive_frame(d->wire, &frame) == 0) {
        int result = 0;
        switch (frame.type) {
        case FRAME_RAM: result = receive_ram(d, &frame); break;
        case FRAME_DEVICE: result = receive_device(d, frame.len); break;
        case FRAME_END:
            result = complete(d, &loaded);
            if (result == 0 && wire_send(d->wire, FRAME_LOADED, 0, &loaded, sizeof loaded) < 0) {
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
    /* V2-9: only a reset leads out of RESUMING without loading what is there. */
    if (!d->let_go) {
        vfiomig_device_reset(d->vm->device, NULL);
    }
    wire_send(d->wire, FRAME_FAILED, 0, d->why, strlen(d->why));
    /* The source may be in the middle of a frame, and hears only after it. */
    while (wire_receive_some(d->wire, rubbish, sizeof rubbish) > 0) {
    }
}

int destination_run(struct vm *vm, struct wire *wire)
{
    struct destination d = {.vm = vm, .wire = wire};
    if (receive(&d) == 0) {
        return 0;
    }
    give_up(&d);
    return -1;
}
