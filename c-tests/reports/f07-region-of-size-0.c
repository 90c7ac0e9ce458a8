/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A migration region of size 0, and one that is too small for its registers: a VM with such a device must start. */
#include "rep.h"
#include "v1dev.h"
int main(void)
{
	static const uint64_t sizes[] = {0, 16, 31};
	rep_begin(20);
	for (int k = 0; k < 3; k++) {
		struct v1 d;
		struct vfiomig_device *h = NULL;
		v1_init(&d, "nvme", 16384, 4096, 10000);
		d.size = sizes[k];
		int x = v1_handle_flags(&d, 0, &h);
		NOTE("size %llu: %d %s", (unsigned long long)sizes[k], x, msg());
		SHOULD(x == 0);
		if (x == 0) { struct vfiomig_device_info i = info_of(h); SHOULD(i.dialect == VFIOMIG_DIALECT_NONE && i.reason[0], "dialect %u, reason \"%s\"", i.dialect, i.reason); }
		vfiomig_device_free(h);
	}
	return rep_end("f07-region-of-size-0");
}
