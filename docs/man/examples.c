/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Examples of the man pages for functions that no other example calls. c-tests/docs.sh compiles them. */
#include <errno.h>
#include <stdio.h>
#include <vfiomig.h>

/* Of a library that is loaded at run time: is it new enough, and can it track dirty pages? */
int check_library(void)
{
    const uint32_t version = vfiomig_version();

    if (version < (VFIOMIG_VERSION_MAJOR << 16 | VFIOMIG_VERSION_MINOR << 8)) {
        fprintf(stderr, "libvfiomig %u.%u is too old\n", version >> 16, version >> 8 & 255);
        return -ENOSYS;
    }
    return vfiomig_has_feature(VFIOMIG_FEATURE_TRACKER) ? 0 : -EOPNOTSUPP;
}

/* What a failed step has done to each device of the group. */
void print_results(const struct vfiomig_error *e)
{
    fprintf(stderr, "%s\n", vfiomig_error_message(e));
    for (size_t i = 0; i < vfiomig_error_result_count(e); i++) {
        const struct vfiomig_device_result *r = vfiomig_error_result(e, i);
        fprintf(stderr, "%s: from %s, asked for %s, found in %s: %s\n", r->device, vfiomig_state_name(r->from),
                vfiomig_state_name(r->to), vfiomig_state_name(r->found), r->message);
    }
}

/* Loads one device from a socket, whose sender says before how long the stream is. Segments: v1 and the draft. */
int load_device(struct vfiomig_device *d, int fd, uint64_t total, struct vfiomig_error **e)
{
    int64_t n = vfiomig_device_set_state(d, VFIOMIG_STATE_RESUMING, VFIOMIG_ON_FAILURE_KEEP, 0, e);

    for (uint64_t left = total; n >= 0 && left > 0; left -= (uint64_t)n) {
        n = vfiomig_device_receive(d, fd, left, 0, e);
        if (n == 0) /* the sender has gone */
            return -EPIPE;
        if (n < 0)
            return (int)n;
    }
    if (n >= 0)
        n = vfiomig_device_finish(d, total, e);
    /* The driver validates the stream on the way to STOP. */
    return n < 0 ? (int)n : vfiomig_device_set_state(d, VFIOMIG_STATE_STOP, VFIOMIG_ON_FAILURE_KEEP, 0, e);
}

/* Sends the pages whose bits are set, and clears the bits before the pages are read: other threads may set them again.
 * `work` is as large as `dirty`, and all zero between two calls. */
int send_dirty(uint64_t *dirty, uint64_t *work, uint64_t pages, int (*send)(uint64_t page, uint64_t count))
{
    uint64_t page = 0, count = 0;
    int64_t n = vfiomig_bitmap_take(work, 0, dirty, 0, pages, VFIOMIG_BITMAP_F_ATOMIC);

    while (n >= 0 && (n = vfiomig_bitmap_next_run(work, pages, page + count, &page, &count)) == 1)
        n = send(page, count);
    if (n < 0) /* what was not sent is dirty again */
        vfiomig_bitmap_merge(dirty, page, work, page, pages - page, VFIOMIG_BITMAP_F_ATOMIC);
    vfiomig_bitmap_take(NULL, 0, work, 0, pages, 0);
    return (int)n;
}

/* What the devices are asked for now: for a monitor, from any thread, also while a call on the group hangs. */
void print_progress(struct vfiomig_group *g)
{
    struct vfiomig_progress p[16];
    size_t total = 0;

    VFIOMIG_INIT(&p[0]);
    if (vfiomig_group_get_progress(g, p, 16, &total, NULL) < 0)
        return;
    for (size_t i = 0; i < total && i < 16; i++)
        if (p[i].request == VFIOMIG_REQUEST_SET_STATE)
            printf("%s: on its way to %s\n", p[i].name, vfiomig_state_name(p[i].target));
}
