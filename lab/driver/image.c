// SPDX-License-Identifier: GPL-2.0-only
/*
 * The image, the part of the device that migrates, and its way through the
 * window in segments. What the protocols have in common; no registers here.
 */
#include <linux/bitmap.h>
#include <linux/crc32.h>
#include <linux/delay.h>
#include <linux/ktime.h>
#include <linux/math64.h>
#include <linux/mm.h>
#include <linux/sizes.h>
#include <linux/vmalloc.h>

#include "vfiomig_test.h"

/* Too large an image must fail, not warn, and not call the OOM killer. */
static void *alloc_image(size_t size)
{
	if (size / PAGE_SIZE > (unsigned long)si_mem_available())
		return NULL;
	return __vmalloc(size, GFP_KERNEL | __GFP_ZERO | __GFP_NOWARN | __GFP_RETRY_MAYFAIL);
}

static unsigned long *alloc_bitmap(unsigned long bits)
{
	return kvcalloc(BITS_TO_LONGS(bits), sizeof(unsigned long), GFP_KERNEL);
}

int vmt_image_init(struct vmt_dev *d)
{
	const struct vmt_config *c = &d->config;
	u64 data;

	d->chunk = c->segment - sizeof(struct vmt_segment);
	d->nchunks = DIV_ROUND_UP(c->state, d->chunk);

	/* Areas must be pages, and two of them and a gap must find room. */
	data = max_t(u64, PAGE_ALIGN((u64)c->segment + 3 * (u64)c->skew), 4 * PAGE_SIZE);
	d->window_size = PAGE_SIZE + data;
	d->data_offset = PAGE_SIZE;

	d->image = alloc_image(c->state);
	d->window = vmalloc_user(d->window_size); /* may be mapped into user space */
	d->unsent = alloc_bitmap(d->nchunks);
	d->offered = alloc_bitmap(d->nchunks);
	d->loaded = alloc_bitmap(d->nchunks);
	if (!d->image || !d->window || !d->unsent || !d->offered || !d->loaded)
		return -ENOMEM;
	memset(d->window, VMT_POISON, d->window_size);
	vmt_session_begin(d);
	return 0;
}

void vmt_image_free(struct vmt_dev *d)
{
	vfree(d->image);
	vfree(d->window);
	kvfree(d->unsent);
	kvfree(d->offered);
	kvfree(d->loaded);
}

static u32 chunk_bytes(struct vmt_dev *d, unsigned long chunk)
{
	return min_t(u64, d->chunk, d->config.state - (u64)chunk * d->chunk);
}

u32 vmt_image_crc(struct vmt_dev *d)
{
	return crc32_le(~0, d->image, d->config.state);
}

void vmt_image_fill(struct vmt_dev *d, u32 seed)
{
	u32 *word = (u32 *)d->image;
	size_t i;

	for (i = 0; i < d->config.state / sizeof(*word); i++) {
		seed = seed * 1664525 + 1013904223;
		word[i] = seed;
	}
	bitmap_fill(d->unsent, d->nchunks);
}

static u32 word_offset(struct vmt_dev *d)
{
	return d->word_index % (d->config.state / sizeof(u32)) * sizeof(u32);
}

u32 vmt_image_word(struct vmt_dev *d)
{
	return *(u32 *)(d->image + word_offset(d));
}

void vmt_image_set_word(struct vmt_dev *d, u32 value)
{
	u32 offset = word_offset(d);

	*(u32 *)(d->image + offset) = value;
	set_bit(offset / d->chunk, d->unsent);
	/* A word may lie across two chunks. */
	set_bit((offset + sizeof(u32) - 1) / d->chunk, d->unsent);
}

/* SAVING or RESUMING was entered or left: the stream begins anew (N7, N10). */
void vmt_session_begin(struct vmt_dev *d)
{
	vmt_unstage(d);
	d->seq = 0;
	bitmap_fill(d->unsent, d->nchunks);
	bitmap_zero(d->offered, d->nchunks);
	bitmap_zero(d->loaded, d->nchunks);
}

/* Chunks below this are offered now: in pre-copy a share, then all. */
static unsigned long offered_now(struct vmt_dev *d)
{
	if (!vmt_state_saves(d->state))
		return 0;
	if (d->state == VFIO_DEVICE_STATE_STOP_COPY)
		return d->nchunks;
	if (!d->config.precopy)
		return 0;
	return div_u64((u64)d->nchunks * d->config.precopy_share, 100);
}

/* What is to be staged yet. */
u64 vmt_pending_bytes(struct vmt_dev *d)
{
	return bitmap_weight(d->unsent, offered_now(d)) * (u64)d->config.segment;
}

/* C3: what was never sent, and what changed since it was. */
void vmt_precopy_bytes(struct vmt_dev *d, u64 *initial, u64 *dirty)
{
	unsigned long limit = offered_now(d), chunk;
	u64 left = d->staged - d->consumed;

	*initial = d->staged_again ? 0 : left;
	*dirty = d->staged_again ? left : 0;
	for_each_set_bit(chunk, d->unsent, limit) {
		u64 size = chunk_bytes(d, chunk) + sizeof(struct vmt_segment);

		if (test_bit(chunk, d->offered))
			*dirty += size;
		else
			*initial += size;
	}
}

/* Puts the next segment at that offset of the window; false if there is none. */
bool vmt_stage_segment(struct vmt_dev *d, u64 offset)
{
	unsigned long limit = offered_now(d), chunk = find_first_bit(d->unsent, limit);
	u8 *to = d->window + offset;
	struct vmt_segment segment;
	u64 at;
	u32 len;

	d->data_offset = offset;
	if (chunk >= limit)
		return false;
	at = (u64)chunk * d->chunk;
	len = chunk_bytes(d, chunk);
	clear_bit(chunk, d->unsent);
	d->staged_again = test_and_set_bit(chunk, d->offered);

	segment.magic = cpu_to_le32(VMT_MAGIC);
	segment.seq = cpu_to_le32(d->seq++);
	segment.len = cpu_to_le32(sizeof(segment) + len);
	segment.crc = cpu_to_le32(crc32_le(~0, d->image + at, len));
	segment.at = cpu_to_le64(at);
	memcpy(to, &segment, sizeof(segment));
	memcpy(to + sizeof(segment), d->image + at, len);
	d->staged = sizeof(segment) + len;
	d->consumed = 0;
	d->staged_bitmap = false;
	return true;
}

/*
 * What is no longer offered is overwritten at once: one who reads it late, as
 * the driver cannot see through a mapping, gets something that does not load.
 */
void vmt_unstage(struct vmt_dev *d)
{
	memset(d->window + d->data_offset, VMT_POISON, d->staged);
	d->staged = 0;
	d->consumed = 0;
	d->staged_bitmap = false;
	d->staged_again = false;
}

/* The length that the header promises, or -EINVAL if it is not the next one. */
int vmt_segment_check(struct vmt_dev *d, const struct vmt_segment *segment)
{
	u64 at = le64_to_cpu(segment->at);
	u32 len = le32_to_cpu(segment->len), within;

	if (le32_to_cpu(segment->magic) != VMT_MAGIC || le32_to_cpu(segment->seq) != d->seq ||
	    at >= d->config.state)
		return -EINVAL;
	div_u64_rem(at, d->chunk, &within);
	if (within || len != sizeof(*segment) + chunk_bytes(d, div_u64(at, d->chunk)))
		return -EINVAL;
	return len;
}

/* The bytes of a checked segment are in the image now. */
int vmt_segment_done(struct vmt_dev *d, const struct vmt_segment *segment)
{
	u64 at = le64_to_cpu(segment->at);
	unsigned long chunk = div_u64(at, d->chunk);

	if (crc32_le(~0, d->image + at, chunk_bytes(d, chunk)) != le32_to_cpu(segment->crc))
		return -EINVAL;
	set_bit(chunk, d->loaded);
	d->seq++;
	return 0;
}

bool vmt_load_is_complete(struct vmt_dev *d)
{
	return bitmap_full(d->loaded, d->nchunks);
}

/*
 * A driver that is slow to give or take its data: data_ms of sleep for each MiB,
 * with the lock held as in a transition. What a sleep is too long, or too
 * short to be worth one, is in the account for the next.
 */
void vmt_take_time(struct vmt_dev *d, size_t moved)
{
	u64 begin, us;

	if (!d->config.data_ms) {
		d->owed_ns = 0;
		return;
	}
	d->owed_ns += (u64)moved * d->config.data_ms * NSEC_PER_MSEC / SZ_1M;
	if (d->owed_ns < NSEC_PER_MSEC)
		return;
	begin = ktime_get_ns();
	us = div_u64(d->owed_ns, NSEC_PER_USEC);
	usleep_range(us, us + 100);
	d->owed_ns -= ktime_get_ns() - begin;
}
