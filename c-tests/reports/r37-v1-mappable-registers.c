/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A v1 region that can be mapped as a whole, registers and all: they must be trapped all the same (what is in
 * memory there is something else).
 */
#include "rep.h"
#include "v1dev.h"
int main(void)
{
	struct v1 d;
	struct vfiomig_device *h = NULL;
	char b[16384]; uint32_t f = 0; int64_t y; size_t got = 0;
	rep_begin(20);
	for (int k = 0; k < 2; k++) {
		v1_init(&d, "gpio", 16384, 4096, 10000);
		if (k) d.no_info = true; else d.whole_mmap = true;
		OK(v1_handle_flags(&d, 0, &h));
		if (k) { /* a region that cannot be described */
			struct vfiomig_device_info i = info_of(h);
			NOTE("no region info: dialect %u, reason: %s", i.dialect, i.reason);
			SHOULD(i.dialect == VFIOMIG_DIALECT_NONE && i.reason[0]);
			vfiomig_device_free(h);
			continue;
		}
		OK(to(h, VFIOMIG_STATE_STOP_COPY));
		while ((y = OK(vfiomig_device_read(h, b + got, sizeof b - got, &f, E()))) > 0) got += (size_t)y;
		SHOULD(got == 10000 && f & VFIOMIG_CHUNK_END, "%zu", got);
		for (size_t i = 0; i < got; i++) if ((unsigned char)b[i] != dev_byte(i)) { SHOULD(0, "byte %zu", i); break; }
		SHOULD(info_of(h).caps & VFIOMIG_CAP_MAPPED);
		OK(to(h, VFIOMIG_STATE_STOP));
		vfiomig_device_free(h);
	}
	return rep_end("r37-v1-mappable-registers");
}
