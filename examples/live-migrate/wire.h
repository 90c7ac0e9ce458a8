/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * What the VMM says itself. The devices' streams are in the library's format (docs/wire.md), and the library writes and
 * reads them; RAM goes between them, as records of the VMM. When the last record is through, and in the other
 * direction, a few messages decide where the guest runs.
 */
#ifndef WIRE_H
#define WIRE_H

#include "options.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Records of the VMM; the numbers are its own. */
enum record_kind {
    RECORD_RAM = 1, /* the number of a page, 8 bytes; then pages */
    RECORD_END,     /* struct end */
};

/* What the comparison of the demo needs, and the vCPU. */
struct end {
    uint64_t ram_checksum;
    uint64_t vcpu_random;
    uint64_t vcpu_steps;
    uint64_t device_checksum[MAX_DEVICES];
};

enum message_type {
    /* source to destination, behind the last record */
    MESSAGE_GO = 1, /* the source will not run again */
    MESSAGE_ABORT,  /* the source will run again: forget everything */
    /* destination to source */
    MESSAGE_LOADED,  /* struct loaded: everything fits; may I run? */
    MESSAGE_FAILED,  /* a text: I cannot */
    MESSAGE_RUNNING, /* struct running */
};

struct message {
    uint32_t type;
    uint32_t len; /* of what follows */
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

/*
 * For the library's writer and reader; `opaque` is a struct wire. A writer with VFIOMIG_WRITER_F_FD needs no function;
 * this one makes the socket as slow as a network, and stops (-ECONNABORTED) when the peer speaks before it is asked,
 * which it does only if it has failed.
 */
int64_t wire_write(void *opaque, const void *data, size_t len);
int64_t wire_read(void *opaque, void *buf, size_t len);

/* 0, or -1 when the peer is gone (errno says why). */
int wire_send(struct wire *wire, uint32_t type, const void *payload, size_t len);
int wire_receive(struct wire *wire, void *to, size_t len);

/* Whether the peer has said something. */
bool wire_has_news(const struct wire *wire);

#endif
