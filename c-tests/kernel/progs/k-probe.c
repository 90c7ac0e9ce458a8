/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Promise: a device handle says of a real device what the kernel says of it,
 * takes the device in whatever state it is and leaves it there; what is no
 * VFIO device is refused.
 *
 * usage: k-probe group|cdev
 */
#include "lab.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static void fields(int number, int ports)
{
	struct vfiomig_device_info info;
	struct vfiomig_device_pending pending;
	struct vfiomig_device *d = NULL;
	struct lab_device device;
	uint32_t caps = VFIOMIG_CAP_PRE_COPY | VFIOMIG_CAP_P2P;

	lab_step("fields of mdev %d", number);
	lab_open_mdev(&device, number);
	/* C8: only newer kernels report REINIT. Linux 6.12 does not know the feature. */
	if (!raw_probe(&device, LAB_FEATURE_SET | LAB_FEATURE_PRECOPY_INFO_V2))
		caps |= VFIOMIG_CAP_REINIT;
	if (raw_info_flags(&device) & LAB_INFO_RESET)
		caps |= VFIOMIG_CAP_RESET;

	/* All defaults. */
	OK(vfiomig_device_new_kernel(device.fd, NULL, &d, ERR));
	info = lab_info(d);
	CHECK_EQ(info.argsz, sizeof(info));
	CHECK_EQ(info.flags, 0);
	CHECK_EQ(info.dialect, VFIOMIG_DIALECT_V2);
	CHECK_EQ(info.caps, caps);
	CHECK_EQ(info.state, VFIOMIG_STATE_RUNNING);
	CHECK_EQ(info.session_open, 0);
	CHECK_EQ(info.session, 0);
	CHECK_EQ(info.saved_bytes, 0);
	CHECK_EQ(info.loaded_bytes, 0);
	CHECK_EQ(info.reason[0], '\0');
	CHECK_EQ(vfiomig_device_get_state(d), VFIOMIG_STATE_RUNNING);

	/* Cached figures: nothing was asked yet, and unknown is never 0. */
	pending = lab_pending(d, 0);
	CHECK_EQ(pending.argsz, sizeof(pending));
	CHECK_EQ(pending.initial_bytes, VFIOMIG_UNKNOWN);
	CHECK_EQ(pending.dirty_bytes, VFIOMIG_UNKNOWN);
	CHECK_EQ(pending.stop_copy_bytes, VFIOMIG_UNKNOWN);
	CHECK_EQ(pending.reinit_count, 0);
	pending = lab_pending(d, VFIOMIG_PENDING_F_EXACT);
	CHECK_EQ(pending.initial_bytes, VFIOMIG_UNKNOWN);
	CHECK_EQ(pending.dirty_bytes, VFIOMIG_UNKNOWN);
	CHECK_EQ(pending.stop_copy_bytes, MTTY_SIZE(ports));
	CHECK_EQ(pending.stop_copy_bytes, raw_data_size(&device));
	CHECK_EQ(lab_pending(d, 0).stop_copy_bytes, MTTY_SIZE(ports));

	OK(vfiomig_device_reprobe(d, ERR));
	CHECK_EQ(lab_info(d).caps, caps);
	RAW_IS(&device, VFIOMIG_STATE_RUNNING);
	vfiomig_device_free(d);
	RAW_IS(&device, VFIOMIG_STATE_RUNNING);
	lab_close(&device);
}

/* The device is in `state` because somebody else brought it there and has the data fd. */
static void found_in(struct lab_device *device, uint32_t state)
{
	static const uint32_t loadable = VFIOMIG_STATE_RESUMING;
	const bool saving = state == VFIOMIG_STATE_PRE_COPY ||
			    state == VFIOMIG_STATE_PRE_COPY_P2P || state == VFIOMIG_STATE_STOP_COPY;
	struct vfiomig_device_info info;
	struct vfiomig_device *d;
	char buf[MTTY_MAX] = { 0 };
	uint32_t flags = 0;
	int data_fd = -1;

	lab_step("found in %s", vfiomig_state_name(state));
	CHECK_EQ(raw_set_state(device, state, &data_fd), 0);
	RAW_IS(device, state);
	d = lab_new(device);
	info = lab_info(d);
	CHECK_EQ(info.dialect, VFIOMIG_DIALECT_V2);
	CHECK_EQ(info.state, state);
	CHECK_EQ(vfiomig_device_get_state(d), state);
	CHECK_EQ(info.session_open, 0);
	CHECK_EQ(info.session, 0);
	RAW_IS(device, state);
	lab_pending(d, VFIOMIG_PENDING_F_EXACT);
	OK(vfiomig_device_reprobe(d, ERR));
	RAW_IS(device, state);

	/* The session is not this handle's: it has no data fd to speak of. */
	if (saving)
		FAILS(vfiomig_device_read(d, buf, sizeof(buf), &flags, ERR), STALE, ESTALE);
	else
		FAILS(vfiomig_device_read(d, buf, sizeof(buf), &flags, ERR), ORDER, 0);
	if (state == loadable)
		FAILS(vfiomig_device_write(d, buf, sizeof(buf), 0, ERR), STALE, ESTALE);
	else
		FAILS(vfiomig_device_write(d, buf, sizeof(buf), 0, ERR), ORDER, 0);
	RAW_IS(device, state);

	vfiomig_device_free(d);
	RAW_IS(device, state);
	/* The owner's session was not touched. */
	if (saving)
		CHECK_EQ(read(data_fd, buf, 8), 8);
	if (state == loadable)
		CHECK_EQ(write(data_fd, buf, 8), 8);

	/* A new handle is as good as any: it can bring the device home. */
	d = lab_new(device);
	if (state == loadable)
		OK(vfiomig_device_reset(d, ERR)); /* V2-9 */
	else
		GO(d, VFIOMIG_STATE_RUNNING);
	RAW_IS(device, VFIOMIG_STATE_RUNNING);
	vfiomig_device_free(d);
	if (data_fd >= 0)
		close(data_fd);
}

static void states(void)
{
	struct vfiomig_device *d;
	struct lab_device device;

	lab_open_mdev(&device, 1);
	for (uint32_t state = VFIOMIG_STATE_STOP; state <= VFIOMIG_STATE_PRE_COPY_P2P; state++)
		found_in(&device, state);

	lab_step("left in STOP by another handle");
	d = lab_new(&device);
	GO(d, VFIOMIG_STATE_STOP);
	vfiomig_device_free(d);
	RAW_IS(&device, VFIOMIG_STATE_STOP);
	d = lab_new(&device);
	CHECK_EQ(vfiomig_device_get_state(d), VFIOMIG_STATE_STOP);
	GO(d, VFIOMIG_STATE_RUNNING);
	RAW_IS(&device, VFIOMIG_STATE_RUNNING);
	vfiomig_device_free(d);

	/* _free closes the data fd and leaves the device where it is. */
	lab_step("freed in PRE_COPY");
	d = lab_new(&device);
	GO(d, VFIOMIG_STATE_PRE_COPY);
	vfiomig_device_free(d);
	RAW_IS(&device, VFIOMIG_STATE_PRE_COPY);
	CHECK_EQ(raw_reset(&device), 0);
	lab_close(&device);
}

static void no_device(int fd, uint32_t code, int number)
{
	struct vfiomig_device *const untouched = (struct vfiomig_device *)(uintptr_t)0x1000;
	struct vfiomig_device *d = untouched;
	int result = vfiomig_device_new_kernel(fd, NULL, &d, ERR);

	CHECK(result < 0);
	CHECK_EQ(vfiomig_error_code(lab_error()), code);
	CHECK_EQ(vfiomig_error_errno(lab_error()), -result);
	if (number)
		CHECK_EQ(result, -number);
	CHECK(strlen(vfiomig_error_message(lab_error())) > 0);
	/* Outputs are written only on success. */
	CHECK(d == untouched);
}

static void not_devices(void)
{
	struct lab_device device;
	int pipes[2], fd;

	lab_step("fd -1");
	no_device(-1, VFIOMIG_ERR_ARGUMENT, EBADF);

	lab_step("a closed fd");
	fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	CHECK(fd >= 0);
	lab_step("/dev/null");
	no_device(fd, VFIOMIG_ERR_DEVICE, ENOTTY);
	close(fd);
	lab_step("a closed fd");
	no_device(fd, VFIOMIG_ERR_DEVICE, EBADF);

	lab_step("a pipe");
	CHECK_EQ(pipe2(pipes, O_CLOEXEC), 0);
	no_device(pipes[0], VFIOMIG_ERR_DEVICE, 0);
	close(pipes[0]);
	close(pipes[1]);

	lab_open_mdev(&device, 1);
	lab_step("the relatives of a device fd");
	if (lab_is_cdev()) {
		no_device(device.iommufd, VFIOMIG_ERR_DEVICE, 0);
	} else {
		no_device(device.container, VFIOMIG_ERR_DEVICE, 0);
		no_device(device.group, VFIOMIG_ERR_DEVICE, 0);
	}
	lab_step("a data fd");
	CHECK_EQ(raw_set_state(&device, VFIOMIG_STATE_PRE_COPY, &fd), 0);
	CHECK(fd >= 0);
	no_device(fd, VFIOMIG_ERR_DEVICE, 0);
	close(fd);
	CHECK_EQ(raw_reset(&device), 0);

	lab_step("a device fd that was closed");
	fd = device.fd;
	lab_close(&device);
	no_device(fd, VFIOMIG_ERR_DEVICE, EBADF);

	if (lab_is_cdev()) {
		lab_step("a cdev that is not bound");
		fd = lab_open_unbound_cdev(1);
		no_device(fd, VFIOMIG_ERR_DEVICE, EINVAL);
		close(fd);
	}
}

int main(int argc, char **argv)
{
	lab_begin(argc, argv);
	fields(1, 2);
	fields(3, 1);
	states();
	not_devices();
	puts("ok");
	return 0;
}
