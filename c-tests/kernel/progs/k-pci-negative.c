/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Promise: a real device whose driver cannot migrate it is a device all the
 * same: it gets a handle that says in words why not, and every step of a
 * migration is refused before the kernel sees it.
 *
 * usage: k-pci-negative group|cdev [ADDRESS]
 * The PCI address of a device bound to vfio-pci is the second argument, or
 * VFIOMIG_LAB_PCI, or LAB_PCI; skipped without one.
 */
#include "lab.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *pci_address(int argc, char **argv)
{
	const char *const candidates[] = {
		argc > 2 ? argv[2] : NULL,
		getenv("VFIOMIG_LAB_PCI"),
		getenv("LAB_PCI"),
	};

	for (size_t i = 0; i < sizeof(candidates) / sizeof(candidates[0]); i++) {
		if (candidates[i] && strchr(candidates[i], ':'))
			return candidates[i];
	}
	lab_skip("no PCI device is bound to vfio-pci (VFIOMIG_LAB_PCI is not set)");
}

static void is_not_migratable(const struct vfiomig_device *d, uint32_t caps)
{
	struct vfiomig_device_info info = lab_info(d);

	CHECK_EQ(info.dialect, VFIOMIG_DIALECT_NONE);
	CHECK_EQ(info.caps, caps);
	CHECK_EQ(info.state, VFIOMIG_STATE_ERROR);
	CHECK_EQ(info.session_open, 0);
	CHECK_EQ(info.session, 0);
	CHECK_EQ(vfiomig_device_get_state(d), VFIOMIG_STATE_ERROR);
	/* Words: with an end, and more than one. */
	CHECK(memchr(info.reason, '\0', sizeof(info.reason)));
	CHECK(strlen(info.reason) > 10 && strchr(info.reason, ' '));
}

int main(int argc, char **argv)
{
	struct vfiomig_device_pending pending;
	struct vfiomig_device *d;
	struct lab_device device;
	struct vfiomig_chunk chunk;
	char buf[8] = { 0 };
	uint32_t flags, caps;

	lab_begin(argc, argv);
	lab_step("open");
	lab_open_pci(&device, pci_address(argc, argv));
	/* The kernel's own word: no such feature. */
	CHECK_EQ(raw_probe(&device, LAB_FEATURE_GET | LAB_FEATURE_MIGRATION), -ENOTTY);
	caps = raw_info_flags(&device) & LAB_INFO_RESET ? VFIOMIG_CAP_RESET : 0;

	lab_step("information");
	d = lab_new(&device);
	is_not_migratable(d, caps);
	printf("reason: %s\n", lab_info(d).reason);

	for (uint32_t state = VFIOMIG_STATE_STOP; state <= VFIOMIG_STATE_PRE_COPY_P2P; state++) {
		lab_step("set_state %s", vfiomig_state_name(state));
		FAILS(vfiomig_device_set_state(d, state, VFIOMIG_ON_FAILURE_KEEP, 0, ERR),
		      UNSUPPORTED, 0);
		FAILS(vfiomig_device_set_state(d, state, VFIOMIG_ON_FAILURE_RESET,
					       VFIOMIG_SET_STATE_F_RAW, ERR),
		      UNSUPPORTED, 0);
	}

	/* Which code is not promised here; that nothing is moved is. */
	lab_step("data calls");
	CHECK(vfiomig_device_read(d, buf, sizeof(buf), &flags, ERR) < 0);
	CHECK(vfiomig_device_peek(d, 0, &chunk, ERR) < 0);
	CHECK(vfiomig_device_write(d, buf, sizeof(buf), 0, ERR) < 0);
	CHECK(vfiomig_device_finish(d, 0, ERR) < 0);

	lab_step("pending");
	pending = lab_pending(d, 0);
	CHECK_EQ(pending.initial_bytes, VFIOMIG_UNKNOWN);
	CHECK_EQ(pending.dirty_bytes, VFIOMIG_UNKNOWN);
	CHECK_EQ(pending.stop_copy_bytes, VFIOMIG_UNKNOWN);
	FAILS(vfiomig_device_get_pending(d, VFIOMIG_PENDING_F_EXACT, &pending, ERR), UNSUPPORTED, 0);

	lab_step("the dialect is asked for");
	{
		struct vfiomig_device_options options;
		struct vfiomig_device *other = NULL;

		VFIOMIG_INIT(&options);
		options.dialect = VFIOMIG_DIALECT_V2;
		OK(vfiomig_device_new_kernel(device.fd, &options, &other, ERR));
		is_not_migratable(other, caps);
		vfiomig_device_free(other);
	}

	lab_step("reprobe");
	OK(vfiomig_device_reprobe(d, ERR));
	is_not_migratable(d, caps);

	lab_step("reset");
	if (caps & VFIOMIG_CAP_RESET)
		OK(vfiomig_device_reset(d, ERR));
	else
		FAILS(vfiomig_device_reset(d, ERR), UNSUPPORTED, 0);
	is_not_migratable(d, caps);

	vfiomig_device_free(d);
	lab_close(&device);
	puts("ok");
	return 0;
}
