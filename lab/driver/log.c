// SPDX-License-Identifier: GPL-2.0-only
/*
 * State transitions: what they all have in common (delays and failures on
 * demand) and the log of them, which can be read while one is under way.
 */
#include <linux/delay.h>
#include <linux/ktime.h>
#include <linux/minmax.h>
#include <linux/string.h>
#include <linux/vmalloc.h>

#include "vfiomig_test.h"

/*
 * All lines have one length, so that a reader's file offset is a line number:
 * number, cause, from, to, found, errno, begin and end of CLOCK_MONOTONIC.
 */
#define LINE_FORMAT "%8u %-5s %-12s %-12s %-12s %5d %16llu %16llu\n"
#define LINE_LENGTH 94

static const char *const causes[] = {
	[VMT_BY_SET] = "set",
	[VMT_BY_RESET] = "reset",
	[VMT_BY_CLOSE] = "close",
	[VMT_BY_FAULT] = "fault",
};

int vmt_log_init(struct vmt_log *log)
{
	spin_lock_init(&log->lock);
	log->ring = vcalloc(VMT_LOG_ENTRIES, sizeof(*log->ring));
	return log->ring ? 0 : -ENOMEM;
}

void vmt_log_free(struct vmt_log *log)
{
	vfree(log->ring);
}

void vmt_log_clear(struct vmt_log *log)
{
	spin_lock(&log->lock);
	log->first = log->next;
	spin_unlock(&log->lock);
}

static void add(struct vmt_log *log, struct vmt_change *change)
{
	spin_lock(&log->lock);
	change->seq = log->next++;
	log->ring[change->seq % VMT_LOG_ENTRIES] = *change;
	if (log->next - log->first > VMT_LOG_ENTRIES)
		log->first = log->next - VMT_LOG_ENTRIES;
	spin_unlock(&log->lock);
}

ssize_t vmt_log_read(struct vmt_log *log, char *buf, loff_t offset, size_t count)
{
	char line[LINE_LENGTH + 1];
	struct vmt_change change;
	size_t done = 0, part, within;
	bool there;
	u64 number;

	while (done < count) {
		number = (offset + done) / LINE_LENGTH;
		within = (offset + done) % LINE_LENGTH;
		spin_lock(&log->lock);
		there = number < log->next - log->first;
		if (there)
			change = log->ring[(log->first + number) % VMT_LOG_ENTRIES];
		spin_unlock(&log->lock);
		if (!there)
			break;
		snprintf(line, sizeof(line), LINE_FORMAT, change.seq, causes[change.cause],
			 vmt_state_names[change.from], vmt_state_names[change.to],
			 vmt_state_names[change.found], change.error, change.begin_ns,
			 change.end_ns);
		part = min(count - done, LINE_LENGTH - within);
		memcpy(buf + done, line + within, part);
		done += part;
	}
	return done;
}

static bool meant(u32 which, u32 state)
{
	return which == VMT_STATE_ANY || which == state;
}

/*
 * Called with the lock, when a state was asked for and before anything is
 * done. 0, or -errno; then change->found is where the device has to be.
 */
int vmt_change_begin(struct vmt_dev *d, struct vmt_change *change, u32 to)
{
	struct vmt_config *c = &d->config;
	int errnum;

	*change = (struct vmt_change){
		.cause = VMT_BY_SET,
		.from = d->state,
		.to = to,
		.begin_ns = ktime_get_ns(),
	};
	/*
	 * Real devices take their time with the state locked, too (W5). Not
	 * msleep: ticks that an emulator catches up on would cut it short.
	 */
	if (c->delay_ms && meant(c->delay_to, to))
		usleep_range(c->delay_ms * USEC_PER_MSEC, c->delay_ms * USEC_PER_MSEC + 100);
	change->found = d->state;
	if (d->fail_next) {
		if (d->fail_next & VMT_FAIL_INTO_ERROR)
			change->found = VFIO_DEVICE_STATE_ERROR;
		errnum = d->fail_next & ~VMT_FAIL_INTO_ERROR;
		d->fail_next = 0;
		return -errnum;
	}
	if (!c->fail_count || !meant(c->fail_to, to))
		return 0;
	if (c->fail_count != VMT_EACH)
		c->fail_count--;
	if (c->fail_error)
		change->found = VFIO_DEVICE_STATE_ERROR;
	return -(int)c->fail_errno;
}

void vmt_change_end(struct vmt_dev *d, struct vmt_change *change, int error)
{
	change->found = d->state;
	change->error = -error;
	change->end_ns = ktime_get_ns();
	add(&d->log, change);
}

/* What was not requested as a state: reset, close, a segment that does not load. */
void vmt_change_forced(struct vmt_dev *d, u32 from, enum vmt_cause cause)
{
	struct vmt_change change = {
		.cause = cause,
		.from = from,
		.to = d->state,
		.begin_ns = ktime_get_ns(),
	};

	if (cause != VMT_BY_CLOSE || from != VFIO_DEVICE_STATE_RUNNING)
		vmt_change_end(d, &change, 0);
}
