/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Which log is taken when real devices are behind page tables that track: the
 * devices' own if each has one and the VMM allows it, else the page tables'.
 * The reason names what stood against the first.
 */
#include "guest.h"

#include <stdio.h>
#include <string.h>

#include "testdev.h"

static void choice(const char *what, const char *config, uint32_t flags, uint32_t kind,
		   const char *reason)
{
	struct vfiomig_tracker_options options;
	struct vfiomig_tracker_info info;
	struct vfiomig_device *devices[2];
	struct testdev with, other;
	struct guest guest;

	lab_step("%s", what);
	testdev_open(&with, 1, "dialect=v2 dma_log=1", 0);
	testdev_open(&other, 2, config, 0);
	devices[0] = with.d;
	devices[1] = other.d;
	guest_open(&guest, 0, 1);
	vfiomig_tracker_free(guest.t);
	VFIOMIG_INIT(&options);
	options.flags = VFIOMIG_TRACKER_F_HWPT | VFIOMIG_TRACKER_F_IOAS | flags;
	options.devices = devices;
	options.device_count = 2;
	options.iommufd = guest.mock.iommufd;
	options.ioas_id = guest.mock.ioas;
	options.hwpt_ids = guest.hwpt;
	options.hwpt_count = 1;
	OK(vfiomig_tracker_new(&options, &guest.t, ERR));
	guest_map_some(&guest);
	OK(vfiomig_tracker_start(guest.t, ERR));

	VFIOMIG_INIT(&info);
	OK(vfiomig_tracker_get_info(guest.t, &info, ERR));
	CHECK_EQ(info.kind, kind);
	if (!strstr(info.reason, reason))
		lab_fail(__FILE__, __LINE__, "no '%s' in '%s'", reason, info.reason);
	CHECK_EQ(guest_tracks(&guest, 0), kind == VFIOMIG_TRACKER_KIND_HWPT);
	if (kind == VFIOMIG_TRACKER_KIND_HWPT)
		guest_write_some(&guest);
	EXPECT(&guest);
	OK(vfiomig_tracker_stop(guest.t, ERR));
	guest_close(&guest);
	testdev_close(&with);
	testdev_close(&other);
}

int main(int argc, char **argv)
{
	char cdev[] = "cdev", *arguments[] = { argv[0], cdev, NULL };

	mock_begin(argc, argv);
	testdev_begin(2, arguments);
	choice("every device has a log", "dialect=v2 dma_log=1", 0, VFIOMIG_TRACKER_KIND_DMA_LOG, "every device");
	choice("one has none", "dialect=v2 dma_log=0", 0, VFIOMIG_TRACKER_KIND_HWPT,
	       "00000000-0000-4000-8001-000000000002");
	choice("they are switched off", "dialect=v2 dma_log=1", VFIOMIG_TRACKER_F_NO_DEVICE_LOG,
	       VFIOMIG_TRACKER_KIND_HWPT, "switched off");
	puts("ok");
	return 0;
}
