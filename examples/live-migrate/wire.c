/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "wire.h"

#include "util.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/uio.h>

#define CREDIT_NS 5000000u /* what was slept too long is made good, up to this */

/* The socket between two processes is much faster than a network; this makes it as slow as one. */
static void keep_to_rate(struct wire *wire, size_t len)
{
    if (wire->rate == 0) {
        return;
    }
    uint64_t now = now_ns();
    if (wire->free_at_ns + CREDIT_NS < now) {
        wire->free_at_ns = now - CREDIT_NS;
    }
    wire->free_at_ns += len * UINT64_C(1000000000) / wire->rate;
    if (wire->free_at_ns > now + 1000000) {
        sleep_us((wire->free_at_ns - now) / 1000);
    }
}

int wire_send(struct wire *wire, const struct frame *frame, const void *payload)
{
    struct iovec parts[2] = {{(void *)(uintptr_t)frame, sizeof *frame}, {(void *)(uintptr_t)payload, frame->len}};
    struct msghdr message = {.msg_iov = parts, .msg_iovlen = 2};
    size_t left = sizeof *frame + frame->len;
    wire->sent += left;
    keep_to_rate(wire, left);
    while (left > 0) {
        ssize_t n = sendmsg(wire->fd, &message, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return -1;
        }
        left -= (size_t)n;
        for (size_t i = 0; i < 2; i++) {
            size_t done = (size_t)n < parts[i].iov_len ? (size_t)n : parts[i].iov_len;
            parts[i].iov_base = (char *)parts[i].iov_base + done;
            parts[i].iov_len -= done;
            n -= (ssize_t)done;
        }
    }
    return 0;
}

int wire_receive(struct wire *wire, void *to, size_t len)
{
    for (size_t done = 0; done < len;) {
        ssize_t n = recv(wire->fd, (char *)to + done, len - done, MSG_WAITALL);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            errno = n == 0 ? ECONNRESET : errno;
            return -1;
        }
        done += (size_t)n;
    }
    return 0;
}

int64_t wire_receive_some(struct wire *wire, void *to, size_t len)
{
    ssize_t n;
    do {
        n = recv(wire->fd, to, len, 0);
    } while (n < 0 && errno == EINTR);
    return n;
}

int wire_receive_frame(struct wire *wire, struct frame *frame)
{
    return wire_receive(wire, frame, sizeof *frame);
}

bool wire_has_news(const struct wire *wire)
{
    struct pollfd p = {.fd = wire->fd, .events = POLLIN};
    return poll(&p, 1, 0) > 0;
}
