// SPDX-License-Identifier: GPL-2.0-only
/*
 * The migration region of v1 and of the 2019 draft: registers in its first
 * page, always trapped, then the window, trapped or mapped in several ways.
 */
#include <linux/bitmap.h>
#include <linux/mm.h>
#include <linux/uaccess.h>
#include <linux/vmalloc.h>

#include "vfiomig_test.h"

#define REG_DEVICE_STATE 0x00
#define REG_RESERVED 0x04
#define REG_PENDING_BYTES 0x08
#define REG_DATA_OFFSET 0x10
#define REG_DATA_SIZE 0x18
#define REG_V1_END 0x20
/* draft only */
#define REG_START_PFN 0x20
#define REG_PAGE_SIZE 0x28
#define REG_TOTAL_PFNS 0x30
#define REG_COPIED_PFNS 0x38
#define REG_DRAFT_END 0x40

#define BIT_RUNNING VFIO_DEVICE_STATE_V1_RUNNING
#define BIT_SAVING VFIO_DEVICE_STATE_V1_SAVING
#define BIT_RESUMING VFIO_DEVICE_STATE_V1_RESUMING
#define BIT_NDMA 8u		/* proposed, never merged (W2) */
#define BITS_ERROR (BIT_SAVING | BIT_RESUMING)

#define REGION_TYPE_DRAFT 2
#define REGION_SUBTYPE 1
#define CAP_NDMA 6

#define PFNS_NONE 0ull
#define PFNS_ALL (~0ull)

/* ---- mapped areas ----------------------------------------------------------- */

/* Those that can be mapped, not sorted on purpose. Returns their number. */
static unsigned int get_areas(struct vmt_dev *d, struct vfio_region_sparse_mmap_area areas[2])
{
	u64 data = d->window_size - PAGE_SIZE;

	switch (d->config.window) {
	case VMT_WINDOW_WHOLE:
		areas[0].offset = 0;
		areas[0].size = d->window_size;
		return 1;
	case VMT_WINDOW_ONE:
	case VMT_WINDOW_NOMMAP:
		areas[0].offset = PAGE_SIZE;
		areas[0].size = data;
		return 1;
	case VMT_WINDOW_TWO:
		/* The upper half and the lowest quarter; between them is the gap. */
		areas[0].offset = PAGE_SIZE + round_up(data / 2, PAGE_SIZE);
		areas[0].size = d->window_size - areas[0].offset;
		areas[1].offset = PAGE_SIZE;
		areas[1].size = round_up(data / 4, PAGE_SIZE);
		return 2;
	}
	return 0;
}

int vmt_region_mmap(struct vmt_dev *d, struct vm_area_struct *vma, u64 offset)
{
	u64 size = vma->vm_end - vma->vm_start;
	struct vfio_region_sparse_mmap_area areas[2];
	unsigned int i;

	/* A private mapping would be a copy that the device never sees. */
	if (d->config.window == VMT_WINDOW_NOMMAP || !(vma->vm_flags & VM_SHARED))
		return -EINVAL;
	for (i = get_areas(d, areas); i-- > 0;)
		if (offset >= areas[i].offset && offset - areas[i].offset <= areas[i].size &&
		    size <= areas[i].size - (offset - areas[i].offset))
			return remap_vmalloc_range(vma, d->window, offset >> PAGE_SHIFT);
	return -EINVAL;
}

/* How much of the staged segment can be had by trapped access only. */
static u64 trapped_bytes(struct vmt_dev *d)
{
	struct vfio_region_sparse_mmap_area areas[2];
	u64 begin, end, trapped = d->staged;
	unsigned int i;

	if (d->config.window == VMT_WINDOW_NOMMAP)
		return trapped;
	for (i = get_areas(d, areas); i-- > 0;) {
		begin = max_t(u64, d->data_offset, areas[i].offset);
		end = min_t(u64, d->data_offset + d->staged, areas[i].offset + areas[i].size);
		if (end > begin)
			trapped -= end - begin;
	}
	return trapped;
}

int vmt_region_info_caps(struct vmt_dev *d, struct vfio_info_cap *caps)
{
	struct vfio_region_info_cap_type type = {
		.header = { .id = VFIO_REGION_INFO_CAP_TYPE, .version = 1 },
		.type = d->config.dialect == VMT_DRAFT2 ? REGION_TYPE_DRAFT :
							  VFIO_REGION_TYPE_MIGRATION_DEPRECATED,
		.subtype = REGION_SUBTYPE,
	};
	struct {
		struct vfio_region_info_cap_sparse_mmap cap;
		struct vfio_region_sparse_mmap_area areas[2];
	} sparse = {
		.cap.header = { .id = VFIO_REGION_INFO_CAP_SPARSE_MMAP, .version = 1 },
	};
	struct vfio_info_cap_header ndma = { .id = CAP_NDMA, .version = 1 };
	unsigned int count;
	int ret;

	ret = vfio_info_add_capability(caps, &type.header, sizeof(type));
	if (!ret && d->config.window != VMT_WINDOW_TRAPPED &&
	    d->config.window != VMT_WINDOW_WHOLE) {
		count = get_areas(d, sparse.areas);
		sparse.cap.nr_areas = count;
		ret = vfio_info_add_capability(caps, &sparse.cap.header,
					       struct_size(&sparse.cap, areas, count));
	}
	if (!ret && d->config.ndma)
		ret = vfio_info_add_capability(caps, &ndma, sizeof(ndma));
	return ret;
}

/* ---- device_state ------------------------------------------------------------ */

/* With RUNNING clear NDMA says nothing (W2). */
static u32 state_of(u32 bits)
{
	switch (bits & (BIT_RUNNING | BIT_SAVING | BIT_RESUMING)) {
	case 0:
		return VFIO_DEVICE_STATE_STOP;
	case BIT_RUNNING:
		return bits & BIT_NDMA ? VFIO_DEVICE_STATE_RUNNING_P2P : VFIO_DEVICE_STATE_RUNNING;
	case BIT_SAVING | BIT_RUNNING:
		return bits & BIT_NDMA ? VFIO_DEVICE_STATE_PRE_COPY_P2P :
					 VFIO_DEVICE_STATE_PRE_COPY;
	case BIT_SAVING:
		return VFIO_DEVICE_STATE_STOP_COPY;
	case BIT_RESUMING:
		return VFIO_DEVICE_STATE_RESUMING;
	}
	return VFIO_DEVICE_STATE_ERROR;
}

static void set_bits(struct vmt_dev *d, u32 bits)
{
	d->bits = bits;
	WRITE_ONCE(d->state, state_of(bits));
}

void vmt_region_reset(struct vmt_dev *d)
{
	d->phase = VMT_PHASE_NONE;
	d->start_pfn = 0;
	d->page_size = 0;
	d->total_pfns = 0;
	d->pfn_cursor = 0;
	set_bits(d, BIT_RUNNING);
}

static bool bits_are_valid(u32 bits)
{
	if (bits & BIT_RESUMING)
		return !(bits & (BIT_RUNNING | BIT_SAVING));
	return true;
}

/* Is something of the stream still with the device? */
static bool data_is_left(struct vmt_dev *d)
{
	if (vmt_pending_bytes(d))
		return true;
	/* In the draft nothing tells that the last segment was read (D3). */
	return d->staged && !(vmt_is_draft(d) && d->phase == VMT_PHASE_SIZE);
}

/*
 * The effects of one write come in the order of N15: all that stops the device
 * first, then the windows, then all that lets it run. No one can look in
 * between, so the order shows in one place only: leaving RESUMING loads (and
 * may fail) before RUNNING is set and before NDMA is cleared.
 */
static int change_bits(struct vmt_dev *d, u32 bits)
{
	u32 old = d->bits;

	if ((old & BIT_RESUMING) && !(bits & BIT_RESUMING) && !vmt_load_is_complete(d)) {
		vmt_judge(d, VMT_INCOMPLETE);
		set_bits(d, BITS_ERROR); /* N11 */
		return -EINVAL;
	}
	/* Leaving SAVING for RUNNING is a cancelled save, in any other way its end. */
	if ((old & BIT_SAVING) && !(bits & (BIT_SAVING | BIT_RUNNING)) && data_is_left(d))
		vmt_judge(d, VMT_LEFT_UNREAD);
	if ((old ^ bits) & (BIT_SAVING | BIT_RESUMING)) {
		vmt_session_begin(d);
		d->phase = VMT_PHASE_NONE;
	}
	/* The draft's log runs while the device is in SAVING. */
	if (!(old & BIT_SAVING) && (bits & BIT_SAVING)) {
		vmt_dma_log_clear(d);
		d->pfn_cursor = 0;
	}
	set_bits(d, bits);
	return 0;
}

static int write_state(struct vmt_dev *d, u32 value)
{
	u32 known = BIT_RUNNING | BIT_SAVING | BIT_RESUMING;
	struct vmt_change change;
	u32 bits;
	int ret;

	if (d->config.ndma)
		known |= BIT_NDMA;
	bits = value & known;
	if ((value & ~known) != d->config.reserved)
		vmt_judge(d, VMT_RESERVED);
	if (d->state == VFIO_DEVICE_STATE_ERROR || !bits_are_valid(bits)) {
		vmt_judge(d, VMT_STATE);
		return -EINVAL;
	}
	if (bits == d->bits)
		return 0;

	ret = vmt_change_begin(d, &change, state_of(bits));
	if (!ret)
		ret = change_bits(d, bits);
	else if (change.found == VFIO_DEVICE_STATE_ERROR)
		set_bits(d, BITS_ERROR);
	vmt_change_end(d, &change, ret);
	return ret;
}

/* ---- save and load ------------------------------------------------------------ */

static u64 next_offset(struct vmt_dev *d)
{
	return PAGE_SIZE + (d->seq & 3) * (u64)d->config.skew;
}

static u64 read_pending(struct vmt_dev *d)
{
	if (!vmt_state_saves(d->state))
		return 0;
	if (vmt_is_draft(d)) /* a pure query (D3) */
		return vmt_pending_bytes(d);

	if (d->phase >= VMT_PHASE_OFFSET) {
		/* This is the acknowledgment (V1-6 f). */
		if (d->staged && (d->phase == VMT_PHASE_OFFSET || d->consumed < trapped_bytes(d)))
			vmt_judge(d, VMT_ACK_UNREAD);
		vmt_unstage(d);
	}
	d->phase = VMT_PHASE_PENDING;
	return vmt_pending_bytes(d);
}

static u64 read_data_offset(struct vmt_dev *d)
{
	if (d->state == VFIO_DEVICE_STATE_RESUMING) {
		d->data_offset = next_offset(d);
		d->phase = VMT_PHASE_OFFSET;
		return d->data_offset;
	}
	if (!vmt_state_saves(d->state)) /* undefined (V1-13) */
		return d->data_offset;

	if (!vmt_is_draft(d)) {
		if (d->phase == VMT_PHASE_NONE)
			vmt_judge(d, VMT_NO_PENDING);
	} else if (d->phase == VMT_PHASE_SIZE) {
		/* In the draft this asks for what comes after a segment (D5). */
		if (d->consumed < trapped_bytes(d))
			vmt_judge(d, VMT_ACK_UNREAD);
		vmt_unstage(d);
	}
	if (!d->staged && vmt_stage_segment(d, next_offset(d)))
		vmt_take_time(d, d->staged);
	/* How long a bitmap is was said by copied_pfns; data_size need not be read (D13). */
	if (d->phase < VMT_PHASE_OFFSET || vmt_is_draft(d))
		d->phase = d->staged_bitmap ? VMT_PHASE_SIZE : VMT_PHASE_OFFSET;
	return d->data_offset;
}

static u64 read_data_size(struct vmt_dev *d)
{
	if (vmt_state_saves(d->state)) {
		if (d->phase < VMT_PHASE_OFFSET)
			vmt_judge(d, VMT_SIZE_EARLY);
		else
			d->phase = VMT_PHASE_SIZE;
	}
	return d->staged;
}

/* A segment was written to the window and is of this size (V1-9, D6). */
static int load_segment(struct vmt_dev *d, u64 size)
{
	struct vmt_segment segment;
	u8 *from = d->window + d->data_offset;

	if (size < sizeof(segment) || size > d->window_size - d->data_offset)
		return -EINVAL;
	memcpy(&segment, from, sizeof(segment));
	if (vmt_segment_check(d, &segment) != (int)size)
		return -EINVAL;
	memcpy(d->image + le64_to_cpu(segment.at), from + sizeof(segment), size - sizeof(segment));
	memset(from, VMT_POISON, size);
	vmt_take_time(d, size);
	return vmt_segment_done(d, &segment);
}

static int write_data_size(struct vmt_dev *d, u64 size)
{
	int ret;

	if (d->state != VFIO_DEVICE_STATE_RESUMING || d->phase != VMT_PHASE_OFFSET) {
		vmt_judge(d, VMT_NO_OFFSET);
		return -EINVAL;
	}
	d->phase = VMT_PHASE_NONE;
	ret = load_segment(d, size);
	if (ret) {
		u32 from = d->state;

		vmt_judge(d, VMT_FRAME);
		set_bits(d, BITS_ERROR);
		vmt_change_forced(d, from, VMT_BY_FAULT);
	}
	return ret;
}

/* ---- the draft's dirty bitmap --------------------------------------------------- */

/*
 * D8: reading copied_pfns makes the snapshot. D16: a user may repeat the read
 * and leave the cursor to us, or write a new start for each part; both work,
 * as any write of the triple puts the cursor back.
 */
static u64 read_copied_pfns(struct vmt_dev *d)
{
	u64 room = (d->window_size - PAGE_SIZE) * BITS_PER_BYTE;
	u64 first, last, count, pfn;

	if (!vmt_state_saves(d->state)) {
		vmt_judge(d, VMT_DATA_STATE);
		return PFNS_NONE;
	}
	if (d->staged && (d->phase != VMT_PHASE_SIZE || d->consumed < trapped_bytes(d)))
		vmt_judge(d, VMT_BITMAP_UNREAD); /* D5 */
	vmt_unstage(d);
	d->phase = VMT_PHASE_NONE;

	if (d->page_size != PAGE_SIZE || d->pfn_cursor >= d->total_pfns)
		return PFNS_NONE; /* D11 */
	first = d->start_pfn + d->pfn_cursor;
	last = d->start_pfn + d->total_pfns - 1;
	if (vmt_dma_next_dirty(d, first, last) > last)
		return PFNS_NONE;

	if (d->config.bitmap_all) { /* D12 */
		while ((pfn = vmt_dma_next_dirty(d, first, last)) <= last)
			vmt_dma_clean(d, pfn);
		d->pfn_cursor = d->total_pfns;
		return PFNS_ALL;
	}

	count = min(d->total_pfns - d->pfn_cursor, room);
	if (d->config.bitmap_pfns)
		count = min_t(u64, count, d->config.bitmap_pfns);
	d->data_offset = PAGE_SIZE;
	d->staged = DIV_ROUND_UP(count, BITS_PER_LONG) * sizeof(long);
	d->staged_bitmap = true;
	memset(d->window + d->data_offset, 0, d->staged);
	last = first + count - 1;
	while ((pfn = vmt_dma_next_dirty(d, first, last)) <= last) {
		__set_bit(pfn - first, (unsigned long *)(d->window + d->data_offset));
		vmt_dma_clean(d, pfn); /* D14 */
	}
	d->pfn_cursor += count;
	return count;
}

static int write_pfn_register(struct vmt_dev *d, u64 *reg, u64 value)
{
	*reg = value;
	d->pfn_cursor = 0;
	return 0;
}

/* ---- access ------------------------------------------------------------------------ */

static u64 read_register(struct vmt_dev *d, u64 offset)
{
	switch (offset) {
	case REG_DEVICE_STATE:
		return d->bits | d->config.reserved;
	case REG_PENDING_BYTES:
		return read_pending(d);
	case REG_DATA_OFFSET:
		return read_data_offset(d);
	case REG_DATA_SIZE:
		return read_data_size(d);
	case REG_COPIED_PFNS:
		return read_copied_pfns(d);
	}
	return 0;
}

static int write_register(struct vmt_dev *d, u64 offset, u64 value)
{
	switch (offset) {
	case REG_DEVICE_STATE:
		return write_state(d, value);
	case REG_RESERVED:
		return 0;
	case REG_DATA_SIZE:
		return write_data_size(d, value);
	case REG_START_PFN:
		return write_pfn_register(d, &d->start_pfn, value);
	case REG_PAGE_SIZE:
		return write_pfn_register(d, &d->page_size, value);
	case REG_TOTAL_PFNS:
		return write_pfn_register(d, &d->total_pfns, value);
	}
	vmt_judge(d, VMT_READONLY);
	return -EINVAL;
}

static ssize_t register_rw(struct vmt_dev *d, char __user *buf, size_t count, u64 offset,
			   bool write)
{
	size_t width = offset < REG_PENDING_BYTES ? 4 : 8;
	u64 value = 0;
	int ret;

	if (count != width || offset % width) {
		vmt_judge(d, VMT_WIDTH);
		return -EINVAL;
	}
	if (!write) {
		value = read_register(d, offset);
		return copy_to_user(buf, &value, width) ? -EFAULT : (ssize_t)width;
	}
	if (copy_from_user(&value, buf, width))
		return -EFAULT;
	ret = write_register(d, offset, value);
	return ret ?: (ssize_t)width;
}

static void judge_window_access(struct vmt_dev *d, u64 offset, size_t count, bool write)
{
	bool open = write ? d->state == VFIO_DEVICE_STATE_RESUMING : vmt_state_saves(d->state);

	if (!open)
		vmt_judge(d, VMT_DATA_STATE);
	else if (d->phase != (write ? VMT_PHASE_OFFSET : VMT_PHASE_SIZE))
		vmt_judge(d, VMT_DATA_EARLY);
	else if (offset < d->data_offset ||
		 (!write && offset + count > d->data_offset + d->staged))
		vmt_judge(d, VMT_DATA_RANGE);
}

static ssize_t window_rw(struct vmt_dev *d, char __user *buf, size_t count, u64 offset, bool write)
{
	u8 *data = d->window + offset;

	if (offset < PAGE_SIZE || offset > d->window_size || count > d->window_size - offset) {
		vmt_judge(d, VMT_DATA_RANGE);
		return -EINVAL;
	}
	if (d->config.max_access && count > d->config.max_access)
		return -EINVAL;
	judge_window_access(d, offset, count, write);
	if (write ? copy_from_user(data, buf, count) : copy_to_user(buf, data, count))
		return -EFAULT;
	if (!write)
		d->consumed += count;
	return count;
}

ssize_t vmt_region_rw(struct vmt_dev *d, char __user *buf, size_t count, u64 offset, bool write)
{
	if (offset < (vmt_is_draft(d) ? REG_DRAFT_END : REG_V1_END))
		return register_rw(d, buf, count, offset, write);
	return window_rw(d, buf, count, offset, write);
}
