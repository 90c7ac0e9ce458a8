// SPDX-License-Identifier: GPL-2.0-only
/*
 * v2: the device feature and the data fd. The stream is the segments of
 * image.c one after another, to be cut anywhere by who carries it (F1).
 */
#include <linux/anon_inodes.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/poll.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "vfiomig_test.h"

/*
 * Behind a data fd. It holds a reference to the device, whose memory therefore
 * outlives it; it is the device's stream only while the device says so, and
 * answers ENODEV afterwards (F5).
 */
struct vmt_stream {
	struct vmt_dev *d;
	/* load: what came of the current segment; the stream is dead after an error */
	struct vmt_segment segment;
	u32 got;
	bool failed;
};

u32 vmt_v2_flags(const struct vmt_dev *d)
{
	return VFIO_MIGRATION_STOP_COPY | (d->config.p2p ? VFIO_MIGRATION_P2P : 0) |
	       (d->config.precopy ? VFIO_MIGRATION_PRE_COPY : 0);
}

void vmt_v2_drop_streams(struct vmt_dev *d)
{
	d->saving = NULL;
	d->resuming = NULL;
}

static int stream_release(struct inode *inode, struct file *file)
{
	struct vmt_stream *stream = file->private_data;
	struct vmt_dev *d = stream->d;

	mutex_lock(&d->lock);
	if (d->saving == stream)
		d->saving = NULL;
	if (d->resuming == stream)
		d->resuming = NULL;
	mutex_unlock(&d->lock);
	kfree(stream);
	put_device(&d->vdev.device);
	return 0;
}

/* No thread is woken at the end of a stall: callers look again after a moment. */
static __poll_t stream_poll(struct file *file, struct poll_table_struct *wait)
{
	struct vmt_stream *stream = file->private_data;

	return READ_ONCE(stream->d->config.stall) ? 0 : EPOLLIN | EPOLLRDNORM | EPOLLOUT | EPOLLWRNORM;
}

/* ---- save ------------------------------------------------------------------- */

static size_t io_limit(struct vmt_dev *d, size_t count)
{
	return d->config.short_io ? min_t(size_t, count, d->config.short_io) : count;
}

static ssize_t save_read(struct file *file, char __user *buf, size_t count, loff_t *pos)
{
	struct vmt_stream *stream = file->private_data;
	struct vmt_dev *d = stream->d;
	ssize_t done = 0;
	size_t part;

	mutex_lock(&d->lock);
	if (d->saving != stream) {
		done = -ENODEV;
		goto unlock;
	}
	if (READ_ONCE(d->config.stall)) {
		done = -EAGAIN;
		goto unlock;
	}
	count = io_limit(d, count);
	while ((size_t)done < count) {
		if (!d->staged && !vmt_stage_segment(d, PAGE_SIZE))
			break;
		part = min_t(size_t, count - done, d->staged - d->consumed);
		if (copy_to_user(buf + done, d->window + d->data_offset + d->consumed, part)) {
			done = -EFAULT;
			goto unlock;
		}
		d->consumed += part;
		done += part;
		vmt_take_time(d, part);
		if (d->consumed == d->staged)
			vmt_unstage(d);
	}
	/* F2, F3: the end for good is 0, the end for now ENOMSG or, with some, 0. */
	if (!done && count && d->state != VFIO_DEVICE_STATE_STOP_COPY && d->config.enomsg)
		done = -ENOMSG;
unlock:
	mutex_unlock(&d->lock);
	return done;
}

static long save_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	const size_t size = offsetofend(struct vfio_precopy_info, dirty_bytes);
	struct vmt_stream *stream = file->private_data;
	struct vmt_dev *d = stream->d;
	struct vfio_precopy_info info;
	long ret = 0;

	if (cmd != VFIO_MIG_GET_PRECOPY_INFO)
		return -ENOTTY;
	if (copy_from_user(&info, (void __user *)arg, size))
		return -EFAULT;
	if (info.argsz < size)
		return -EINVAL;

	mutex_lock(&d->lock);
	if (d->saving != stream) {
		ret = -ENODEV;
	} else if (d->state != VFIO_DEVICE_STATE_PRE_COPY &&
		   d->state != VFIO_DEVICE_STATE_PRE_COPY_P2P) {
		ret = -EINVAL;
	} else {
		/* Drivers hand back what they do not set (C7). */
		if (info.flags || info.initial_bytes || info.dirty_bytes)
			vmt_judge(d, VMT_INFO_DIRTY);
		vmt_precopy_bytes(d, &info.initial_bytes, &info.dirty_bytes);
	}
	mutex_unlock(&d->lock);
	if (!ret && copy_to_user((void __user *)arg, &info, size))
		ret = -EFAULT;
	return ret;
}

static const struct file_operations save_fops = {
	.owner = THIS_MODULE,
	.read = save_read,
	.poll = stream_poll,
	.unlocked_ioctl = save_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
	.release = stream_release,
};

/* ---- load ------------------------------------------------------------------- */

/* Takes some bytes of the current segment; how many, or -errno. */
static ssize_t load_part(struct vmt_dev *d, struct vmt_stream *stream, const char __user *buf,
			 size_t count)
{
	struct vmt_segment *segment = &stream->segment;
	u32 len, payload;

	if (stream->got < sizeof(*segment)) {
		count = min(count, sizeof(*segment) - stream->got);
		if (copy_from_user((u8 *)segment + stream->got, buf, count))
			return -EFAULT;
		stream->got += count;
		if (stream->got == sizeof(*segment) && vmt_segment_check(d, segment) < 0)
			return -EINVAL;
		return count;
	}

	/* The image is undefined while RESUMING: bytes go straight in (N10). */
	len = le32_to_cpu(segment->len);
	payload = stream->got - sizeof(*segment);
	count = min_t(size_t, count, len - stream->got);
	if (copy_from_user(d->image + le64_to_cpu(segment->at) + payload, buf, count))
		return -EFAULT;
	stream->got += count;
	if (stream->got < len)
		return count;
	stream->got = 0;
	return vmt_segment_done(d, segment) ?: (ssize_t)count;
}

static ssize_t load_write(struct file *file, const char __user *buf, size_t count, loff_t *pos)
{
	struct vmt_stream *stream = file->private_data;
	struct vmt_dev *d = stream->d;
	ssize_t done = 0, part;

	mutex_lock(&d->lock);
	if (d->resuming != stream || stream->failed) {
		done = -ENODEV;
		goto unlock;
	}
	if (READ_ONCE(d->config.stall)) {
		done = -EAGAIN;
		goto unlock;
	}
	count = io_limit(d, count);
	while ((size_t)done < count) {
		part = load_part(d, stream, buf + done, count - done);
		if (part < 0) {
			/* A prefix may have been taken: nothing can follow (F6). */
			stream->failed = true;
			if (part == -EINVAL)
				vmt_judge(d, VMT_FRAME);
			done = part;
			break;
		}
		done += part;
		vmt_take_time(d, part);
	}
unlock:
	mutex_unlock(&d->lock);
	return done;
}

static const struct file_operations load_fops = {
	.owner = THIS_MODULE,
	.write = load_write,
	.poll = stream_poll,
	.release = stream_release,
};

/* ---- states ----------------------------------------------------------------- */

static struct file *new_stream(struct vmt_dev *d, bool save)
{
	struct vmt_stream *stream = kzalloc(sizeof(*stream), GFP_KERNEL);
	struct file *file;

	if (!stream)
		return ERR_PTR(-ENOMEM);
	stream->d = d;
	file = anon_inode_getfile(save ? VMT_NAME "-save" : VMT_NAME "-load",
				  save ? &save_fops : &load_fops, stream,
				  save ? O_RDONLY : O_WRONLY);
	if (IS_ERR(file)) {
		kfree(stream);
		return file;
	}
	stream_open(file->f_inode, file);
	get_device(&d->vdev.device);
	vmt_session_begin(d);
	if (save)
		d->saving = stream;
	else
		d->resuming = stream;
	return file;
}

/* Whether loading may end here. A device that does not look says yes (F7). */
static bool load_may_end(struct vmt_dev *d)
{
	if (d->config.lax_load)
		return true;
	return vmt_load_is_complete(d) && !(d->resuming && d->resuming->got);
}

/* One arc of the kernel's table; `target` is where the whole way leads. */
static struct file *one_arc(struct vmt_dev *d, u32 to, u32 target)
{
	u32 from = d->state;
	struct file *file = NULL;

	if (from == VFIO_DEVICE_STATE_RESUMING) {
		/* Refused where it is: the rest may still be written (V2-3). */
		if (!load_may_end(d)) {
			vmt_judge(d, VMT_INCOMPLETE);
			return ERR_PTR(-EINVAL);
		}
		vmt_v2_drop_streams(d);
	} else if (vmt_state_saves(from) && !vmt_state_saves(to)) {
		/* On its way to RUNNING it is a cancelled save. */
		if (from == VFIO_DEVICE_STATE_STOP_COPY && target == VFIO_DEVICE_STATE_STOP &&
		    (vmt_pending_bytes(d) || d->staged))
			vmt_judge(d, VMT_LEFT_UNREAD);
		vmt_v2_drop_streams(d);
		vmt_session_begin(d);
	} else if (vmt_state_saves(to) && !vmt_state_saves(from)) {
		file = new_stream(d, true);
	} else if (to == VFIO_DEVICE_STATE_RESUMING) {
		file = new_stream(d, false);
	}
	if (!IS_ERR(file))
		WRITE_ONCE(d->state, to);
	return file;
}

static struct file *logged_arc(struct vmt_dev *d, u32 to, u32 target)
{
	struct vmt_change change;
	struct file *file;
	int ret = vmt_change_begin(d, &change, to);

	if (ret) {
		file = ERR_PTR(ret);
		if (change.found == VFIO_DEVICE_STATE_ERROR) {
			vmt_v2_drop_streams(d);
			vmt_session_begin(d);
			WRITE_ONCE(d->state, VFIO_DEVICE_STATE_ERROR);
		}
	} else {
		file = one_arc(d, to, target);
	}
	vmt_change_end(d, &change, PTR_ERR_OR_ZERO(file));
	return file;
}

static struct file *set_state(struct vfio_device *vdev, enum vfio_device_mig_state target)
{
	struct vmt_dev *d = vmt_dev_of(vdev);
	enum vfio_device_mig_state next;
	struct file *file = NULL;
	int ret;

	mutex_lock(&d->lock);
	while (!file && d->state != target) {
		/* The core would warn of a request from ERROR. */
		ret = -EINVAL;
		if (d->state != VFIO_DEVICE_STATE_ERROR)
			ret = vfio_mig_get_next_state(vdev, d->state, target, &next);
		if (ret) {
			vmt_judge(d, VMT_BAD_ARC);
			file = ERR_PTR(ret);
			break;
		}
		file = logged_arc(d, next, target);
	}
	mutex_unlock(&d->lock);
	return file;
}

/* Not under the lock: who asks in the middle of a transition gets an answer. */
static int get_state(struct vfio_device *vdev, enum vfio_device_mig_state *state)
{
	*state = READ_ONCE(vmt_dev_of(vdev)->state);
	return 0;
}

static int get_data_size(struct vfio_device *vdev, unsigned long *size)
{
	struct vmt_dev *d = vmt_dev_of(vdev);

	*size = d->config.state + d->nchunks * sizeof(struct vmt_segment);
	return 0;
}

const struct vfio_migration_ops vmt_mig_ops = {
	.migration_set_state = set_state,
	.migration_get_state = get_state,
	.migration_get_data_size = get_data_size,
};
