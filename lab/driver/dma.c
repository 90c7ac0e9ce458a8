// SPDX-License-Identifier: GPL-2.0-only
/*
 * DMA into the guest's memory, on command, and an exact log of the pages that
 * were written: for the reports of v2 and for the draft's bitmap. The log of
 * the type1 container is the kernel's own.
 */
#include <linux/interval_tree.h>
#include <linux/iommu.h>
#include <linux/iova_bitmap.h>
#include <linux/slab.h>

#include "vfiomig_test.h"

void vmt_dma_init(struct vmt_dev *d)
{
	mutex_init(&d->pin_lock);
	mutex_init(&d->log_lock);
	xa_init(&d->pins);
	xa_init(&d->dirty_pfns);
}

void vmt_dma_free(struct vmt_dev *d)
{
	xa_destroy(&d->pins);
	xa_destroy(&d->dirty_pfns);
	kfree(d->log_range);
}

/* ---- the log ----------------------------------------------------------------- */

/* Marks [first, last] where it is logged; with lock of the log. */
static int mark_range(struct vmt_dev *d, u64 first, u64 last)
{
	u64 pfn;
	int ret;

	for (pfn = first >> PAGE_SHIFT; pfn <= last >> PAGE_SHIFT; pfn++) {
		ret = xa_err(xa_store(&d->dirty_pfns, pfn, xa_mk_value(1), GFP_KERNEL));
		if (ret)
			return ret;
	}
	return 0;
}

/* Marks what the device's own granule around one written page covers; with lock of the log. */
static int log_write(struct vmt_dev *d, u64 pfn)
{
	u64 iova = pfn << PAGE_SHIFT, granule = d->config.log_page;
	u64 first = round_down(iova, granule), last = first + granule - 1;
	unsigned int i;
	int ret = 0;

	if (vmt_is_draft(d))
		return vmt_state_saves(d->state) ? mark_range(d, iova, iova) : 0;

	for (i = 0; d->logging && i < d->log_ranges && !ret; i++) {
		const struct vmt_log_range *range = &d->log_range[i];

		if (iova >= range->first && iova <= range->last)
			ret = mark_range(d, max(first, range->first), min(last, range->last));
	}
	return ret;
}

/* The first dirty page in [first, last], or one after last. */
u64 vmt_dma_next_dirty(struct vmt_dev *d, u64 first, u64 last)
{
	unsigned long pfn = first;

	if (first > last || !xa_find(&d->dirty_pfns, &pfn, last, XA_PRESENT))
		return last + 1;
	return pfn;
}

void vmt_dma_clean(struct vmt_dev *d, u64 pfn)
{
	xa_erase(&d->dirty_pfns, pfn);
}

void vmt_dma_log_clear(struct vmt_dev *d)
{
	xa_destroy(&d->dirty_pfns);
}

static int log_start(struct vfio_device *vdev, struct rb_root_cached *ranges, u32 nnodes,
		     u64 *page_size)
{
	struct vmt_dev *d = vmt_dev_of(vdev);
	struct interval_tree_node *node;
	struct vmt_log_range *copy;
	unsigned int count = 0;
	int ret = 0;

	/* What the core lets through (L2). */
	if (!is_power_of_2(*page_size))
		return -EINVAL;
	if (nnodes > d->config.log_ranges)
		return -E2BIG;
	copy = kcalloc(nnodes, sizeof(*copy), GFP_KERNEL);
	if (!copy)
		return -ENOMEM;
	for (node = interval_tree_iter_first(ranges, 0, ULONG_MAX); node && count < nnodes;
	     node = interval_tree_iter_next(node, 0, ULONG_MAX)) {
		copy[count].first = node->start;
		copy[count++].last = node->last;
		if (node->last < node->start)
			ret = -EINVAL;
	}

	mutex_lock(&d->log_lock);
	if (d->logging)
		ret = -EINVAL;
	if (!ret) {
		swap(d->log_range, copy);
		d->log_ranges = count;
		d->logging = true;
		vmt_dma_log_clear(d);
		*page_size = d->config.log_page;
	}
	mutex_unlock(&d->log_lock);
	kfree(copy);
	return ret;
}

/* Stopping what does not run is no error: others do the same (L9). */
static int log_stop(struct vfio_device *vdev)
{
	struct vmt_dev *d = vmt_dev_of(vdev);

	mutex_lock(&d->log_lock);
	d->logging = false;
	vmt_dma_log_clear(d);
	mutex_unlock(&d->log_lock);
	return 0;
}

static int log_read(struct vfio_device *vdev, unsigned long iova, unsigned long length,
		    struct iova_bitmap *bitmap)
{
	struct vmt_dev *d = vmt_dev_of(vdev);
	unsigned long last = iova + length - 1, pfn;
	bool covered = false;
	unsigned int i;
	void *entry;
	int ret = 0;

	mutex_lock(&d->log_lock);
	if (!d->logging || !length) {
		ret = -EINVAL;
		goto unlock;
	}
	for (i = 0; i < d->log_ranges; i++)
		covered |= iova >= d->log_range[i].first && last <= d->log_range[i].last;
	if (!covered)
		vmt_judge(d, VMT_LOG_RANGE); /* pds fails, mlx5 forgets (L7) */
	xa_for_each_range(&d->dirty_pfns, pfn, entry, iova >> PAGE_SHIFT, last >> PAGE_SHIFT) {
		iova_bitmap_set(bitmap, pfn << PAGE_SHIFT, PAGE_SIZE);
		xa_erase(&d->dirty_pfns, pfn); /* L5 */
	}
unlock:
	mutex_unlock(&d->log_lock);
	return ret;
}

const struct vfio_log_ops vmt_log_ops = {
	.log_start = log_start,
	.log_stop = log_stop,
	.log_read_and_clear = log_read,
};

/* ---- DMA ---------------------------------------------------------------------- */

/*
 * Nothing is written by a device that stands still, nor with NDMA (N12). The
 * P2P states of v2 stop DMA to other devices only: memory is written there.
 */
static bool may_write(struct vmt_dev *d)
{
	if (!vmt_state_runs(d->state))
		return false;
	return vmt_is_v2(d) || !vmt_state_is_p2p(d->state);
}

/* Writes { page frame number, value } at the start of each of some pages. */
int vmt_dma_write(struct vmt_dev *d, u32 first)
{
	u64 pfn;
	int ret;

	if (!may_write(d))
		return -EBUSY;
	for (pfn = first; pfn < (u64)first + d->dma_pages; pfn++) {
		u32 data[2] = { pfn, d->dma_value };

		/* A report after the page was unmapped has all that was written to it. */
		mutex_lock(&d->log_lock);
		ret = vfio_dma_rw(&d->vdev, pfn << PAGE_SHIFT, data, sizeof(data), true);
		if (!ret)
			ret = log_write(d, pfn);
		mutex_unlock(&d->log_lock);
		if (ret)
			return ret;
	}
	return 0;
}

/*
 * A pinned page is one that the device may write at any time: type1 reports it
 * dirty in every bitmap (T5).
 */
int vmt_dma_pin(struct vmt_dev *d, u32 pfn)
{
	struct page *page;
	int ret;

	mutex_lock(&d->pin_lock);
	ret = -EEXIST;
	if (xa_load(&d->pins, pfn))
		goto unlock;
	ret = xa_err(xa_store(&d->pins, pfn, xa_mk_value(1), GFP_KERNEL));
	if (ret)
		goto unlock;
	ret = vfio_pin_pages(&d->vdev, (u64)pfn << PAGE_SHIFT, 1, IOMMU_READ | IOMMU_WRITE, &page);
	if (ret == 1) {
		ret = 0;
	} else {
		xa_erase(&d->pins, pfn);
		ret = ret < 0 ? ret : -EFAULT;
	}
unlock:
	mutex_unlock(&d->pin_lock);
	return ret;
}

/* Unpins all in a range of page frames; how many. */
static int unpin_range(struct vmt_dev *d, unsigned long first, unsigned long last)
{
	unsigned long pfn;
	int count = 0;
	void *entry;

	mutex_lock(&d->pin_lock);
	xa_for_each_range(&d->pins, pfn, entry, first, last) {
		vfio_unpin_pages(&d->vdev, (u64)pfn << PAGE_SHIFT, 1);
		xa_erase(&d->pins, pfn);
		count++;
	}
	mutex_unlock(&d->pin_lock);
	return count;
}

int vmt_dma_unpin(struct vmt_dev *d, u32 pfn)
{
	return unpin_range(d, pfn, pfn) ? 0 : -ENOENT;
}

/* Memory is about to go: the kernel waits until its pages are unpinned. */
void vmt_dma_unmapped(struct vfio_device *vdev, u64 iova, u64 length)
{
	if (length)
		unpin_range(vmt_dev_of(vdev), iova >> PAGE_SHIFT,
			    (iova + length - 1) >> PAGE_SHIFT);
}

void vmt_dma_close(struct vmt_dev *d)
{
	unpin_range(d, 0, ULONG_MAX);
	log_stop(&d->vdev);
}
