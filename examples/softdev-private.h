/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* What the two halves of the software device share. */
#ifndef SOFTDEV_PRIVATE_H
#define SOFTDEV_PRIVATE_H

#include "softdev.h"

#include <pthread.h>
#include <stdbool.h>

#define BLOCK 4096u /* unit in which the state is sent, and a guest page */
#define STATES 8u   /* VFIOMIG_STATE_ERROR ... VFIOMIG_STATE_PRE_COPY_P2P */

/* The first bytes of the state. */
struct registers {
    uint64_t enabled;
    uint64_t doorbell;
    uint64_t ticks;
    uint64_t random;
};

/* What still has to be sent of a block. */
enum mark { CLEAN, INITIAL /* never sent in this session */, AGAIN /* changed since it was sent */, MARKS };

/* One item of the stream. A block's item is followed by its bytes. */
struct item {
    uint64_t what;  /* ITEM_HEAD, ITEM_END, or the number of a block */
    uint64_t value; /* size of the state, its checksum, or BLOCK */
};
#define ITEM_HEAD UINT64_C(0x76656474666f73)
#define ITEM_END UINT64_MAX
#define ITEM_MAX (sizeof(struct item) + BLOCK)

/* A save or a load. The item that is on its way lies in `buffer`. */
struct session {
    bool open;
    bool head_done, end_done;
    unsigned char buffer[ITEM_MAX];
    size_t len, at;       /* save: bytes of the item, and how many of them were read; load: `len` bytes have come */
    uint64_t moved;       /* bytes so far */
    size_t cursor;        /* save: where to look for the next block */
    size_t marked[MARKS]; /* save: how many blocks have each mark */
    uint64_t checksum;    /* load: as the saver stated it */
};

struct softdev {
    /* Guards all of the following against the worker thread and the vCPUs. Migration calls come one at a time. */
    pthread_mutex_t lock;
    pthread_t worker;
    bool quit;

    uint32_t state; /* VFIOMIG_STATE_*, whose numbers are those of the kernel's v2 protocol */
    unsigned char *memory;
    size_t blocks;
    uint64_t state_rate;
    uint64_t violations;

    _Atomic uint64_t *ram;
    size_t ram_pages;
    uint64_t dma_rate;
    bool logging;
    uint64_t *log;

    struct session session;
    unsigned char *mark; /* an enum mark for each block */

    unsigned delay[STATES][STATES];
    int fail_arc[STATES][STATES];
    uint64_t fail_read_at;
    int fail_read;
};

static inline struct registers *registers_of(struct softdev *dev)
{
    return (struct registers *)(void *)dev->memory;
}

static inline bool is_running(uint32_t state)
{
    return state == VFIOMIG_STATE_RUNNING || state == VFIOMIG_STATE_RUNNING_P2P || state == VFIOMIG_STATE_PRE_COPY ||
           state == VFIOMIG_STATE_PRE_COPY_P2P;
}

/* A block has changed: if a save session is open it must be sent (again). Under the lock. */
void softdev_changed(struct softdev *dev, size_t block);

#endif
