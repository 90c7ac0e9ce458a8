/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The TPM's command buffer is RAM at 0xfed40080, and a page of BAR is 2 KiB: what does the VMM read, and does
 * the rest go on?
 */
#include "rep.h"
int main(void)
{
	struct dev a;
	rep_begin(20);
	dev_init(&a, "vf0"); a.has_log = true;
	struct vfiomig_device *h = dev_handle(&a);
	struct vfiomig_tracker *t = tracker_of(&h, 1, 0);
	struct vfiomig_mapping m[3] = {{.size = 1 << 20}, {.iova = 0xfed40080, .size = 0xf80},
		{.iova = 1ull << 32, .size = 1 << 20}};
	int x = vfiomig_tracker_map(t, m, 3, E());
	NOTE("three mappings, the second is odd: %d %s: %s", x, code_name(code()), msg());
	SHOULD(x < 0 && code() == VFIOMIG_ERR_ARGUMENT && strstr(msg(), "0xfed40080") && strstr(msg(), "[1]"));
	SHOULD(tinfo(t).mapped_ranges == 0, "all or none");
	OK(vfiomig_tracker_map(t, m, 1, E())); OK(vfiomig_tracker_map(t, m + 2, 1, E()));
	struct vfiomig_mapping again = {.iova = 0x80000, .size = 0x1000};
	x = vfiomig_tracker_map(t, &again, 1, E());
	NOTE("twice: %d %s: %s", x, code_name(code()), msg());
	SHOULD(x == -EEXIST);
	struct vfiomig_mapping none = {.iova = 0x200000, .size = 0}, wrap = {.iova = ~0ull & ~4095ull, .size = 0x2000};
	SHOULD(vfiomig_tracker_map(t, &none, 1, E()) < 0); NOTE("empty: %s", msg());
	SHOULD(vfiomig_tracker_map(t, &wrap, 1, E()) < 0); NOTE("beyond 2^64: %s", msg());
	vfiomig_tracker_free(t); vfiomig_device_free(h);
	return rep_end("r28-odd-mapping");
}
