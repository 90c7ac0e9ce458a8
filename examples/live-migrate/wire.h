/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The VMM's own stream: frames with a type, a length and one argument, over a socket.
 *
 * The library has no say in it. It lends the bytes of a device's stream, and this is where they are packed: each piece
 * in a frame of its own, for nobody knows how long the stream is before its end.
 */
#ifndef WIRE_H
#define WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum frame_type {
    /* source to destination */
    FRAME_RAM = 1, /* pages; arg: the first one's number */
    FRAME_DEVICE,  /* bytes of the device's stream */
    FRAME_END,     /* struct end */
    FRAME_GO,      /* the source will not run again */
    FRAME_ABORT,   /* the source will run again: forget everything */
    /* destination to source */
    FRAME_LOADED,  /* struct loaded: everything fits; may I run? */
    FRAME_FAILED,  /* a text: I cannot */
    FRAME_RUNNING, /* struct running */
};

struct frame {
    uint32_t type;
    uint32_t len;
    uint64_t arg;
};

/* The trailer. F7: not every driver notices a stream that was cut off, so its length travels on its own. */
struct end {
    uint64_t device_bytes;
    uint64_t ram_checksum;
    uint64_t device_checksum;
    uint64_t vcpu_random;
    uint64_t vcpu_steps;
};

struct loaded {
    uint64_t stop_ns;    /* RESUMING -> STOP, where the driver validates */
    uint64_t compare_ns; /* what the demo adds to a migration */
};

struct running {
    uint64_t p2p_ns;
    uint64_t running_ns;
    uint64_t vcpu_at; /* when the vCPU was started, on the clock that both processes share */
    uint64_t alive;   /* 1: vCPU and device were seen working afterwards */
};

struct wire {
    int fd;
    uint64_t rate;       /* bytes per second, 0: no limit */
    uint64_t free_at_ns; /* when the link has done with what was sent */
    uint64_t sent;
};

/* 0, or -1 when the peer is gone (errno says why). */
int wire_send(struct wire *wire, enum frame_type type, uint64_t arg, const void *payload, size_t len);
int wire_receive_frame(struct wire *wire, struct frame *frame);
int wire_receive(struct wire *wire, void *to, size_t len);
int64_t wire_receive_some(struct wire *wire, void *to, size_t len); /* bytes, 0 at the end */

/* Whether the peer has said something. */
bool wire_has_news(const struct wire *wire);

#endif
