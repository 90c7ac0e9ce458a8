/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Page sizes up to 2^63 in a request: a division by (bits of a word * page size) overflows to zero in careless code. */
#include "rep.h"
int main(void)
{
	struct dev a;
	uint64_t b[4] = {0};
	rep_begin(20);
	dev_init(&a, "vf0"); a.has_log = true;
	struct vfiomig_device *h = dev_handle(&a);
	struct vfiomig_tracker *t = tracker_of(&h, 1, 0);
	OK(map1(t, 0, 1 << 20)); OK(map1(t, 1ull << 63, 1 << 20)); OK(map1(t, ~0ull - 0xfffff, 1 << 20));
	OK(vfiomig_tracker_start(t, E()));
	for (int s = 12; s < 64; s++) {
		memset(b, 0, sizeof b);
		struct vfiomig_dest d[3] = {{.iova = 0, .size = 1 << 20, .page_size = 1ull << s, .bitmap = calloc(33, 8)},
			{.iova = 1ull << 63, .size = 1 << 20, .page_size = 1ull << s, .bitmap = calloc(33, 8)},
			{.iova = ~0ull - 0xfffff, .size = 1 << 20, .page_size = 1ull << s, .bitmap = calloc(33, 8)}};
		struct vfiomig_harvest_request rq;
		VFIOMIG_INIT(&rq); rq.dests = d; rq.dest_count = 3;
		dev_dma(&a, 0x3000); dev_dma(&a, (1ull << 63) + 0xff000); dev_dma(&a, ~0ull - 0xfffff);
		OK(vfiomig_tracker_harvest(t, &rq, NULL, E()));
		uint64_t page = 1ull << s;
		for (int k = 0; k < 3; k++) {
			uint64_t off = k == 0 ? 0x3000 : k == 1 ? 0xff000 : 0;
			SHOULD(bit(d[k].bitmap, off / page), "page 2^%d dest %d", s, k);
			free(d[k].bitmap);
		}
	}
	/* tools */
	uint64_t src[2] = {0x8000000000000001ull, 1}, dst[2] = {0};
	int64_t x = vfiomig_bitmap_rescale(dst, 1ull << 63, src, 4096, 65, 0);
	NOTE("rescale 4096 -> 2^63: %lld, %#llx", (long long)x, (unsigned long long)dst[0]);
	SHOULD(x == 1 && dst[0] == 1);
	uint64_t one = 1, *many = calloc(1 << 17, 8);
	x = vfiomig_bitmap_rescale(many, 4096, &one, 1 << 30, 1, 0);
	SHOULD(x == 1 << 18, "%lld", (long long)x);
	x = vfiomig_bitmap_rescale(dst, 4096, &one, 1ull << 63, 2, 0);
	NOTE("rescale two pages of 2^63 to 4096: %lld", (long long)x);
	SHOULD(x < 0);
	struct vfiomig_range out[4];
	uint64_t next = 0;
	x = vfiomig_bitmap_get_ranges(src, 65, 0, 0, 1ull << 63, out, 4, &next);
	NOTE("get_ranges with pages of 2^63, 65 bits: %lld", (long long)x);
	SHOULD(x < 0);
	x = vfiomig_bitmap_get_ranges(src, 2, 0, 1ull << 63, 1ull << 62, out, 4, &next);
	SHOULD(x == 1 && out[0].iova == 1ull << 63 && out[0].size == 1ull << 62, "%lld", (long long)x);
	vfiomig_tracker_free(t); vfiomig_device_free(h);
	return rep_end("r25-huge-page-size");
}
