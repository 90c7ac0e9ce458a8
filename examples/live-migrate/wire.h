/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The VMM's own stream: frames over a socket.
 *
 * The library has no say in it. It lends the bytes of a device's stream, and this is where they are packed: each piece
 * in a frame of its own, for nobody knows how long the stream is before its end.
 *
 * V1-10: on v1 and the draft a stream is made of segments, which the destination's device must get one by one and as
 * long as they were. So every piece says how much of its segment is left, itself included, and whether it is the last.
 */
#ifndef WIRE_H
#define WIRE_H

#include "options.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum frame_type {
    /* source to destination */
    FRAME_RAM = 1, /* pages; arg: the first one's number */
    FRAME_DEVICE,  /* bytes of a device's stream; arg: how much is left of the segment, 0 on v2 */
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
    uint32_t len;    /* of the payload */
    uint32_t device; /* FRAME_DEVICE: which one */
    uint32_t flags;  /* FRAME_DEVICE: 0 or VFIOMIG_CHUNK_SEGMENT_END */
    uint64_t arg;
};

/* The trailer. F7: not every driver notices a stream that was cut off, so its length travels on its own. */
struct end {
    uint64_t ram_checksum;
    uint64_t vcpu_random;
    uint64_t vcpu_steps;
    struct {
        uint64_t stream_bytes;
        uint64_t checksum;
    } device[MAX_DEVICES];
};

/* How long a phase took, and what the devices took for it, added up. */
struct step_time {
    uint64_t moved; /* how many had something to do */
    uint64_t phase_ns;
    uint64_t sum_ns;
};

struct loaded {
    struct step_time stop; /* RESUMING -> STOP; none where RESUMING is left later */
    uint64_t compare_ns;   /* what the demo adds to a migration */
};

struct running {
    struct step_time p2p;
    struct step_time running;
    uint64_t compare_ns;
    uint64_t vcpu_at; /* when the vCPU was started, on the clock that both processes share */
    uint64_t alive;   /* 1: vCPU and devices were seen working afterwards */
};

struct wire {
    int fd;
    uint64_t rate;       /* bytes per second, 0: no limit */
    uint64_t free_at_ns; /* when the link has done with what was sent */
    uint64_t sent;
};

/* 0, or -1 when the peer is gone (errno says why). */
int wire_send(struct wire *wire, const struct frame *frame, const void *payload);
int wire_receive_frame(struct wire *wire, struct frame *frame);
int wire_receive(struct wire *wire, void *to, size_t len);
int64_t wire_receive_some(struct wire *wire, void *to, size_t len); /* bytes, 0 at the end */

/* Whether the peer has said something. */
bool wire_has_news(const struct wire *wire);

#endif
