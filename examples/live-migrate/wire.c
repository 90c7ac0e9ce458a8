/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "wire.h"

#include "util.h"

#include <poll.h>
#include <sys/socket.h>

#define CREDIT_NS 5000000u            /* what was slept too long is made good, up to this */
#define MOST_AT_ONCE ((size_t)1 << 18) /* so that the link is slow evenly */

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

static int64_t send_some(struct wire *wire, const void *data, size_t len)
{
    ssize_t n;
    do {
        n = send(wire->fd, data, len, MSG_NOSIGNAL);
    } while (n < 0 && errno == EINTR);
    return n < 0 ? -errno : n;
}

int64_t wire_write(void *opaque, const void *data, size_t len)
{
    struct wire *wire = opaque;
    if (wire_has_news(wire)) {
        return -ECONNABORTED;
    }
    len = len < MOST_AT_ONCE ? len : MOST_AT_ONCE;
    keep_to_rate(wire, len);
    const int64_t sent = send_some(wire, data, len);
    wire->sent += sent > 0 ? (uint64_t)sent : 0;
    return sent;
}

int64_t wire_read(void *opaque, void *buf, size_t len)
{
    struct wire *wire = opaque;
    ssize_t n;
    do {
        n = recv(wire->fd, buf, len, 0);
    } while (n < 0 && errno == EINTR);
    return n < 0 ? -errno : n;
}

static int send_all(struct wire *wire, const void *data, size_t len)
{
    for (size_t done = 0; done < len;) {
        const int64_t n = send_some(wire, (const char *)data + done, len - done);
        if (n < 0) {
            errno = (int)-n;
            return -1;
        }
        done += (size_t)n;
    }
    return 0;
}

int wire_send(struct wire *wire, uint32_t type, const void *payload, size_t len)
{
    const struct message message = {.type = type, .len = (uint32_t)len};
    return send_all(wire, &message, sizeof message) < 0 ? -1 : send_all(wire, payload, len);
}

int wire_receive(struct wire *wire, void *to, size_t len)
{
    for (size_t done = 0; done < len;) {
        const int64_t n = wire_read(wire, (char *)to + done, len - done);
        if (n <= 0) {
            errno = n == 0 ? ECONNRESET : (int)-n;
            return -1;
        }
        done += (size_t)n;
    }
    return 0;
}

bool wire_has_news(const struct wire *wire)
{
    struct pollfd p = {.fd = wire->fd, .events = POLLIN};
    return poll(&p, 1, 0) > 0;
}
