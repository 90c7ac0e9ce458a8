/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The driver half of the software device: struct vfiomig_device_ops, v2 with PRE_COPY and P2P.
 *
 * It behaves as the kernel's drivers do, because that is what the library expects behind the table: requests are
 * struct vfio_device_feature, combinations of arcs are walked hop by hop, a refused hop leaves the device where it is.
 *
 * Its stream: an item HEAD with the size of the state, items with a block each (a block that changes after it was sent
 * comes again), and in STOP_COPY an item END with a checksum.
 */

#include "softdev-private.h"

#include "checksum.h"

#include <errno.h>
#include <linux/vfio.h>
#include <string.h>
#include <time.h>

/* Newer than the headers of some distributions (Linux 6.2). */
#define MIGRATION_PRE_COPY (1u << 2)
#define FEATURE_MIG_DATA_SIZE 9u
struct precopy_info {
    uint32_t argsz;
    uint32_t flags;
    uint64_t initial_bytes;
    uint64_t dirty_bytes;
};

_Static_assert(VFIOMIG_STATE_ERROR == VFIO_DEVICE_STATE_ERROR, "the library's states have the kernel's numbers");
_Static_assert(VFIOMIG_STATE_RUNNING_P2P == VFIO_DEVICE_STATE_RUNNING_P2P, "all of them, in the kernel's order");

/* --- the state machine -------------------------------------------------------------------------------------------- */

#define NO VFIOMIG_STATE_ERROR
#define ST VFIOMIG_STATE_STOP
#define RU VFIOMIG_STATE_RUNNING
#define SC VFIOMIG_STATE_STOP_COPY
#define RE VFIOMIG_STATE_RESUMING
#define RP VFIOMIG_STATE_RUNNING_P2P
#define PC VFIOMIG_STATE_PRE_COPY
#define PP VFIOMIG_STATE_PRE_COPY_P2P

/* The next hop from where the device is (row) to what was asked for (column), as the kernel's core walks it. */
static const uint32_t next_hop[STATES][STATES] = {
    /*        ERROR STOP RUN SCOPY RESUM RP2P PCOPY PCP2P */
    [ST] = {NO, ST, RP, SC, RE, RP, RP, RP},
    [RU] = {NO, RP, RU, RP, RP, RP, PC, RP},
    [SC] = {NO, ST, ST, SC, ST, ST, NO, NO},
    [RE] = {NO, ST, ST, ST, RE, ST, ST, ST},
    [RP] = {NO, ST, RU, ST, ST, RP, RU, PP},
    [PC] = {NO, RU, RU, PP, RU, RU, PC, PP},
    [PP] = {NO, RP, RP, SC, RP, RP, PC, PP},
};

static void begin_save(struct softdev *dev)
{
    memset(&dev->session, 0, sizeof dev->session);
    memset(dev->mark, INITIAL, dev->blocks);
    dev->session.marked[INITIAL] = dev->blocks;
    dev->session.open = true;
}

static void begin_load(struct softdev *dev)
{
    memset(&dev->session, 0, sizeof dev->session);
    dev->session.open = true;
}

/* RESUMING -> STOP: the last chance to say no. */
static int end_load(struct softdev *dev)
{
    const struct session *s = &dev->session;
    if (!s->end_done || s->len != 0 || s->checksum != checksum(dev->memory, dev->blocks * BLOCK)) {
        return -EINVAL;
    }
    dev->session.open = false;
    return 0;
}

static bool saves(uint32_t state)
{
    return state == PC || state == PP || state == SC;
}

/* One arc. */
static int hop(struct softdev *dev, uint32_t to)
{
    /* Work is finished first; meanwhile the device runs on. */
    unsigned delay = dev->delay[dev->state][to];
    nanosleep(&(struct timespec){.tv_sec = delay / 1000000, .tv_nsec = delay % 1000000 * 1000L}, NULL);

    pthread_mutex_lock(&dev->lock);
    uint32_t from = dev->state;
    int result = -dev->fail_arc[from][to];
    dev->fail_arc[from][to] = 0;
    if (result == 0 && from == RE) {
        result = end_load(dev);
    }
    if (result == 0) {
        if (saves(to) && !saves(from)) {
            begin_save(dev);
        } else if (saves(from) && !saves(to)) {
            dev->session.open = false;
        } else if (to == RE) {
            begin_load(dev);
        }
        dev->state = to;
    }
    pthread_mutex_unlock(&dev->lock);
    return result;
}

static int set_state(struct softdev *dev, uint32_t to)
{
    if (to >= STATES) {
        return -EINVAL;
    }
    while (dev->state != to) {
        uint32_t next = next_hop[dev->state][to];
        if (next == NO) {
            return -EINVAL;
        }
        int result = hop(dev, next);
        if (result < 0) {
            return result;
        }
    }
    return 0;
}

static int op_reset(void *opaque)
{
    struct softdev *dev = opaque;
    pthread_mutex_lock(&dev->lock);
    memset(dev->memory, 0, dev->blocks * BLOCK);
    dev->session.open = false;
    dev->state = RU;
    pthread_mutex_unlock(&dev->lock);
    return 0;
}

/* --- requests ----------------------------------------------------------------------------------------------------- */

static uint64_t unsent(const struct session *s, enum mark mark)
{
    return s->marked[mark] * (uint64_t)ITEM_MAX;
}

static uint64_t stop_copy_bytes(struct softdev *dev)
{
    pthread_mutex_lock(&dev->lock);
    const struct session *s = &dev->session;
    uint64_t bytes = 2 * sizeof(struct item) + dev->blocks * (uint64_t)ITEM_MAX;
    if (saves(dev->state)) {
        bytes = s->len - s->at + sizeof(struct item) + unsent(s, INITIAL) + unsent(s, AGAIN);
    }
    pthread_mutex_unlock(&dev->lock);
    return bytes;
}

static int op_device_info(void *opaque, void *info, uint32_t argsz)
{
    (void)opaque;
    const struct vfio_device_info answer = {.argsz = sizeof answer, .flags = VFIO_DEVICE_FLAGS_RESET};
    memcpy(info, &answer, argsz < sizeof answer ? argsz : sizeof answer);
    return 0;
}

static int op_device_feature(void *opaque, void *request, uint32_t argsz)
{
    struct softdev *dev = opaque;
    struct vfio_device_feature *feature = request;
    void *payload = feature->data;
    const size_t room = argsz - sizeof *feature;
    const bool get = feature->flags & VFIO_DEVICE_FEATURE_GET;

    if (feature->flags & VFIO_DEVICE_FEATURE_PROBE) {
        return -ENOTTY; /* the library does not probe */
    }
    switch (feature->flags & VFIO_DEVICE_FEATURE_MASK) {
    case VFIO_DEVICE_FEATURE_MIGRATION: {
        struct vfio_device_feature_migration answer = {
            .flags = VFIO_MIGRATION_STOP_COPY | VFIO_MIGRATION_P2P | MIGRATION_PRE_COPY,
        };
        if (!get || room < sizeof answer) {
            return -EINVAL;
        }
        memcpy(payload, &answer, sizeof answer);
        return 0;
    }
    case VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE: {
        struct vfio_device_feature_mig_state state;
        if (room < sizeof state) {
            return -EINVAL;
        }
        memcpy(&state, payload, sizeof state);
        int result = get ? 0 : set_state(dev, state.device_state);
        state.device_state = dev->state;
        state.data_fd = -1; /* ignored: the table has data functions */
        if (result == 0) {
            memcpy(payload, &state, sizeof state);
        }
        return result;
    }
    case FEATURE_MIG_DATA_SIZE: {
        uint64_t bytes = stop_copy_bytes(dev);
        if (!get || room < sizeof bytes) {
            return -EINVAL;
        }
        memcpy(payload, &bytes, sizeof bytes);
        return 0;
    }
    default:
        return -ENOTTY;
    }
}

static int op_precopy_info(void *opaque, void *info, uint32_t argsz)
{
    struct softdev *dev = opaque;
    if (argsz < sizeof(struct precopy_info)) {
        return -EINVAL;
    }
    pthread_mutex_lock(&dev->lock);
    int result = -EINVAL;
    if (dev->state == PC || dev->state == PP) {
        const struct session *s = &dev->session;
        struct precopy_info answer = {
            .argsz = sizeof answer,
            .initial_bytes = (s->head_done ? 0 : sizeof(struct item)) + unsent(s, INITIAL),
            .dirty_bytes = s->len - s->at + unsent(s, AGAIN),
        };
        memcpy(info, &answer, sizeof answer);
        result = 0;
    }
    pthread_mutex_unlock(&dev->lock);
    return result;
}

/* --- the stream, saving ------------------------------------------------------------------------------------------- */

static void put_item(struct session *s, uint64_t what, uint64_t value, const void *data, size_t len)
{
    const struct item item = {what, value};
    memcpy(s->buffer, &item, sizeof item);
    if (len > 0) {
        memcpy(s->buffer + sizeof item, data, len);
    }
    s->len = sizeof item + len;
    s->at = 0;
}

/* Puts the next item into the buffer; false when there is none now. */
static bool next_item(struct softdev *dev)
{
    struct session *s = &dev->session;
    if (!s->head_done) {
        put_item(s, ITEM_HEAD, dev->blocks * (uint64_t)BLOCK, NULL, 0);
        s->head_done = true;
        return true;
    }
    if (s->marked[INITIAL] + s->marked[AGAIN] > 0) {
        while (dev->mark[s->cursor] == CLEAN) {
            s->cursor = (s->cursor + 1) % dev->blocks;
        }
        put_item(s, s->cursor, BLOCK, dev->memory + s->cursor * BLOCK, BLOCK);
        s->marked[dev->mark[s->cursor]]--;
        s->marked[CLEAN]++;
        dev->mark[s->cursor] = CLEAN;
        s->cursor = (s->cursor + 1) % dev->blocks;
        return true;
    }
    if (dev->state == SC && !s->end_done) {
        put_item(s, ITEM_END, checksum(dev->memory, dev->blocks * BLOCK), NULL, 0);
        s->end_done = true;
        return true;
    }
    return false;
}

static int64_t read_items(struct softdev *dev, unsigned char *to, size_t len)
{
    struct session *s = &dev->session;
    size_t done = 0;
    while (done < len) {
        if (s->at == s->len && !next_item(dev)) {
            break;
        }
        size_t n = s->len - s->at < len - done ? s->len - s->at : len - done;
        memcpy(to + done, s->buffer + s->at, n);
        s->at += n;
        done += n;
    }
    s->moved += done;
    if (done == 0 && dev->state != SC) {
        return -ENOMSG; /* F3: nothing now, which is not the end; the library turns it into VFIOMIG_CHUNK_EMPTY */
    }
    return (int64_t)done;
}

static int64_t op_data_read(void *opaque, void *buf, size_t len)
{
    struct softdev *dev = opaque;
    pthread_mutex_lock(&dev->lock);
    int64_t result = -ENODEV; /* F5: the session is over */
    if (dev->fail_read != 0 && dev->session.moved >= dev->fail_read_at) {
        result = -dev->fail_read;
        dev->fail_read = 0;
    } else if (dev->session.open && saves(dev->state)) {
        result = read_items(dev, buf, len);
    }
    pthread_mutex_unlock(&dev->lock);
    return result;
}

/* --- the stream, loading ------------------------------------------------------------------------------------------ */

/* How long the item is whose first bytes are in the buffer; what it says is checked as soon as it can be read. */
static int64_t item_length(const struct softdev *dev, struct item *item)
{
    const struct session *s = &dev->session;
    if (s->len < sizeof *item) {
        return sizeof *item;
    }
    memcpy(item, s->buffer, sizeof *item);
    if (s->end_done || (item->what == ITEM_HEAD) == s->head_done) {
        return -EINVAL;
    }
    if (item->what == ITEM_HEAD) {
        return item->value == dev->blocks * (uint64_t)BLOCK ? (int64_t)sizeof *item : -EINVAL;
    }
    if (item->what == ITEM_END) {
        return sizeof *item;
    }
    return item->what < dev->blocks && item->value == BLOCK ? (int64_t)ITEM_MAX : -EINVAL;
}

static void take_item(struct softdev *dev, const struct item *item)
{
    struct session *s = &dev->session;
    if (item->what == ITEM_HEAD) {
        s->head_done = true;
    } else if (item->what == ITEM_END) {
        s->end_done = true;
        s->checksum = item->value;
    } else {
        memcpy(dev->memory + item->what * BLOCK, s->buffer + sizeof *item, BLOCK);
    }
    s->len = 0;
}

static int64_t write_items(struct softdev *dev, const unsigned char *from, size_t len)
{
    struct session *s = &dev->session;
    size_t done = 0;
    while (done < len) {
        struct item item;
        int64_t wanted = item_length(dev, &item);
        if (wanted < 0) {
            return wanted;
        }
        size_t n = (size_t)wanted - s->len;
        n = n < len - done ? n : len - done;
        memcpy(s->buffer + s->len, from + done, n);
        s->len += n;
        done += n;
        wanted = item_length(dev, &item);
        if (wanted < 0) {
            return wanted;
        }
        if (s->len >= sizeof item && s->len == (size_t)wanted) {
            take_item(dev, &item);
        }
    }
    return (int64_t)done;
}

static int64_t op_data_write(void *opaque, const void *buf, size_t len)
{
    struct softdev *dev = opaque;
    pthread_mutex_lock(&dev->lock);
    int64_t result = dev->session.open && dev->state == RE ? write_items(dev, buf, len) : -ENODEV;
    pthread_mutex_unlock(&dev->lock);
    return result;
}

static int op_data_close(void *opaque)
{
    (void)opaque; /* F5: closing the data fd changes nothing; the state does */
    return 0;
}

void softdev_get_ops(struct vfiomig_device_ops *ops)
{
    VFIOMIG_INIT(ops);
    ops->device_info = op_device_info;
    ops->device_feature = op_device_feature;
    ops->reset = op_reset;
    ops->data_read = op_data_read;
    ops->data_write = op_data_write;
    ops->data_precopy_info = op_precopy_info;
    ops->data_close = op_data_close;
}
