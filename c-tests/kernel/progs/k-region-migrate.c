/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Promise: a device with a migration region, v1 with and without NDMA and both
 * forms of the draft, is saved and loaded through every kind of window, mapped,
 * trapped or a mixture, by every pair of calls, while its state changes; the
 * device's judge finds nothing (V1-6 to V1-10, D1 to D6, N-rules).
 *
 * usage: k-region-migrate group|cdev
 */
#include "testdev.h"

#include <stdio.h>

/* Both devices are made as `kind` and `keys` say. `mapped`: the window can be and is. */
static void pair(const char *kind, const char *keys, uint32_t flags, bool mapped, enum way only)
{
	struct testdev from, to;
	char config[256];

	snprintf(config, sizeof(config), "%s %s", kind, keys);
	lab_step("%s, flags %#x", config, flags);
	testdev_open(&from, 1, config, flags);
	testdev_open(&to, 2, config, flags);
	for (int way = 0; way < WAYS; way++) {
		struct traffic traffic;

		if (only != WAYS && only != (enum way)way)
			continue;
		lab_step("%s, flags %#x, %s", config, flags, way_names[way]);
		traffic = migrate(&from, &to, (enum way)way);
		CHECK_EQ(!!(lab_info(from.d).caps & VFIOMIG_CAP_MAPPED), mapped);
		CHECK_EQ(!!(lab_info(to.d).caps & VFIOMIG_CAP_MAPPED), mapped);
		if (way == LEND)
			CHECK_EQ(traffic.mapped > 0, mapped);
	}
	testdev_close(&from);
	testdev_close(&to);
}

/* Every kind of device with every kind of window. */
static void windows(const char *kind)
{
	pair(kind, "window=trapped", 0, false, WAYS);
	pair(kind, "window=whole", 0, true, WAYS);
	pair(kind, "window=one", 0, true, WAYS);
	pair(kind, "window=two", 0, true, WAYS);
	/* Segments begin anywhere, and in every part of the window. */
	pair(kind, "window=two skew=12", 0, true, WAYS);
	pair(kind, "window=two skew=100", 0, true, LEND);
	pair(kind, "window=whole skew=100", 0, true, COPY);
	pair(kind, "window=trapped skew=12", 0, false, SOCKET);
	/* A mapping that fails is no failure. */
	pair(kind, "window=nommap", 0, false, WAYS);
	/* The caller's word that there shall be none. */
	pair(kind, "window=two", VFIOMIG_DEVICE_F_NO_MMAP, false, WAYS);
}

static void quirks(const char *kind)
{
	/* Trapped data 8 bytes at a time: small, each of them traps into an emulator. */
	const char *narrow = "state=64K segment=4K max_access=8 window=trapped";

	pair(kind, narrow, VFIOMIG_DEVICE_F_ALIGNED_ACCESS, false, WAYS);
	pair(kind, "state=64K segment=4K skew=12 max_access=8 window=two", VFIOMIG_DEVICE_F_ALIGNED_ACCESS,
	     true, WAYS);
	/* V1-1: bits that mean nothing to us are kept; the judge looks. */
	pair(kind, "reserved=0xfffffff0", 0, true, COPY);
	pair(kind, "reserved=0x50", 0, true, COPY);
	/* A state that is no multiple of anything, in segments that are not of one size. */
	pair(kind, "state=1000004 segment=3K window=two skew=12", 0, true, WAYS);
	pair(kind, "state=300000 segment=64K window=two", 0, true, WAYS);
	/* A part is offered, or nothing, while the device runs. */
	pair(kind, "precopy_share=50", 0, true, WAYS);
	pair(kind, "precopy=0", 0, true, WAYS);
}

int main(int argc, char **argv)
{
	testdev_begin(argc, argv);
	for (int i = 0; i < TESTDEV_REGION_KINDS; i++) {
		windows(testdev_region_kinds[i]);
		quirks(testdev_region_kinds[i]);
	}
	pair("dialect=v1 ndma=1", "state=64M segment=1M window=two", 0, true, LEND);
	/* A segment that is larger than the library's buffer and straddles what is mapped. */
	pair("dialect=v1", "state=20M segment=5M window=two skew=100", 0, true, LEND);
	pair("dialect=v1", "state=20M segment=5M window=trapped", 0, false, LEND);
	puts("ok");
	return 0;
}
