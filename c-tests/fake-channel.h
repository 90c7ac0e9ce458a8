/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A channel of a wire in memory, with the functions of its writer and its reader. */
#ifndef FAKE_CHANNEL_H
#define FAKE_CHANNEL_H

#include "harness.h"
#include <stdbool.h>

/* A channel in memory, which takes and gives at most `most` bytes at a time, and nothing every other time. */
struct pipe {
	unsigned char bytes[1 << 16];
	size_t len, at, most;
	bool nervous, ready;
};

static inline int64_t put(void *opaque, const void *data, size_t len)
{
	struct pipe *p = opaque;

	if (p->nervous && (p->ready = !p->ready))
		return -EAGAIN;
	if (p->most && len > p->most)
		len = p->most;
	if (len > sizeof p->bytes - p->len)
		return -ENOSPC;
	memcpy(p->bytes + p->len, data, len);
	p->len += len;
	return (int64_t)len;
}

static inline int64_t get(void *opaque, void *buf, size_t len)
{
	struct pipe *p = opaque;

	if (p->nervous && (p->ready = !p->ready))
		return -EAGAIN;
	if (p->most && len > p->most)
		len = p->most;
	if (len > p->len - p->at)
		len = p->len - p->at;
	memcpy(buf, p->bytes + p->at, len);
	p->at += len;
	return (int64_t)len;
}

static inline struct vfiomig_reader *reader_of(struct pipe *p)
{
	struct vfiomig_reader_options o;
	struct vfiomig_reader *r = NULL;

	VFIOMIG_INIT(&o);
	o.read = get;
	o.opaque = p;
	p->at = 0;
	OK(vfiomig_reader_new(&o, &r, ERRP));
	return r;
}

#endif
