/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * RAM below and above 4 GiB, and a 64 GiB BAR at 56 TiB; the tracker takes 2^42 bytes in all, or only 1, 2, 3
 * ranges.
 */
#include "rep.h"
int main(void)
{
	rep_begin(60);
	for (uint32_t most = 1; most <= 5; most++)
		for (int limit = 0; limit < 2; limit++) {
			struct dev a;
			struct vfiomig_tracker *t;
			uint64_t *b = bits_for(1 << 20);
			dev_init(&a, "mlx5-vf"); a.has_log = true; a.log_max_ranges = most; a.log_min_total = 4096; a.log_max_total = limit ? 1ull << 42 : 0;
			struct vfiomig_device *h = dev_handle(&a);
			t = tracker_of(&h, 1, 0);
			OK(map1(t, 0, 0xa0000)); OK(map1(t, 0xc0000, 0x7ff40000)); OK(map1(t, 1ull << 32, 60ull << 30)); OK(map1(t, 0x380000000000ull, 64ull << 30));
			double s = now_s();
			OK(vfiomig_tracker_start(t, E()));
			struct vfiomig_tracker_info i = tinfo(t);
			dev_dma(&a, (1ull << 32) + 0x5000);
			struct vfiomig_harvest_result o = harvest(t, 1ull << 32, 4ull << 30, b);
			NOTE("%u ranges%s: kind %u, %u START, held %llu; harvest %.1f ms, %llu reads, %llu pages; reason: %s", most,
				limit ? ", 2^42 bytes" : "", i.kind, a.n_start, (unsigned long long)i.logged_ranges, (now_s() - s) * 1e3,
				(unsigned long long)o.reads, (unsigned long long)o.dirty_pages, i.reason);
			if (most >= 2) SHOULD(i.kind == VFIOMIG_TRACKER_KIND_DMA_LOG && o.dirty_pages == 1,
				"the tracker could have held RAM and BAR apart: two ranges, 128 GiB");
			else if (limit) SHOULD(i.kind == VFIOMIG_TRACKER_KIND_EVERYTHING);
			SHOULD(a.log_bad == 0);
			vfiomig_tracker_free(t); vfiomig_device_free(h); free(b);
		}
	return rep_end("r22-far-bar");
}
