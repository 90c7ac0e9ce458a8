// SPDX-License-Identifier: GPL-2.0-only
/* What the driver holds against its user. */
#include <linux/sysfs.h>

#include "vfiomig_test.h"

static const char *const names[VMT_NR_VIOLATIONS] = {
	[VMT_OK] = "OK",
	[VMT_WIDTH] = "WIDTH",
	[VMT_READONLY] = "READONLY",
	[VMT_STATE] = "STATE",
	[VMT_RESERVED] = "RESERVED",
	[VMT_NO_PENDING] = "NO_PENDING",
	[VMT_SIZE_EARLY] = "SIZE_EARLY",
	[VMT_ACK_UNREAD] = "ACK_UNREAD",
	[VMT_DATA_EARLY] = "DATA_EARLY",
	[VMT_DATA_RANGE] = "DATA_RANGE",
	[VMT_DATA_STATE] = "DATA_STATE",
	[VMT_NO_OFFSET] = "NO_OFFSET",
	[VMT_FRAME] = "FRAME",
	[VMT_BAR_STOPPED] = "BAR_STOPPED",
	[VMT_LEFT_UNREAD] = "LEFT_UNREAD",
	[VMT_INCOMPLETE] = "INCOMPLETE",
	[VMT_BITMAP_UNREAD] = "BITMAP_UNREAD",
	[VMT_BAD_ARC] = "BAD_ARC",
	[VMT_INFO_DIRTY] = "INFO_DIRTY",
	[VMT_LOG_RANGE] = "LOG_RANGE",
};

void vmt_judge_init(struct vmt_judge *j)
{
	spin_lock_init(&j->lock);
}

void vmt_judge(struct vmt_dev *d, enum vmt_violation code)
{
	struct vmt_judge *j = &d->judge;

	spin_lock(&j->lock);
	j->total++;
	j->last = code;
	j->count[code]++;
	spin_unlock(&j->lock);
	pr_info_ratelimited(VMT_NAME " %s: violation %s in state %s\n", d->name, names[code],
			    vmt_state_names[READ_ONCE(d->state)]);
}

void vmt_judge_clear(struct vmt_judge *j)
{
	spin_lock(&j->lock);
	j->total = 0;
	j->last = VMT_OK;
	memset(j->count, 0, sizeof(j->count));
	spin_unlock(&j->lock);
}

/* The total; then a line for each kind that there was: code, name, number. */
ssize_t vmt_judge_show(struct vmt_judge *j, char *buf)
{
	ssize_t len;
	int i;

	spin_lock(&j->lock);
	len = sysfs_emit(buf, "%u\n", j->total);
	for (i = 0; i < VMT_NR_VIOLATIONS; i++)
		if (j->count[i])
			len += sysfs_emit_at(buf, len, "%d %s %u\n", i, names[i], j->count[i]);
	spin_unlock(&j->lock);
	return len;
}
