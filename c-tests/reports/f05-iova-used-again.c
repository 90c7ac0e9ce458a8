/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Written, unmapped without a request, mapped again to another guest page before the next harvest: the first
 * page is never reported.
 */
#include "rep.h"
static int unmap(void *o, const struct vfiomig_range *r) { (void)o; (void)r; return 0; }
static bool seen_a;
static int run(void *o, uint64_t cookie, uint64_t iova, uint64_t size) { (void)o; seen_a |= cookie == 0xA; printf("  run: cookie %#llx, %#llx + %#llx\n", (unsigned long long)cookie, (unsigned long long)iova, (unsigned long long)size); return 0; }
int main(void)
{
	struct dev a;
	rep_begin(20);
	dev_init(&a, "vf0"); a.has_log = true;
	struct vfiomig_device *h = dev_handle(&a);
	struct vfiomig_tracker *t = tracker_of(&h, 1, 0);
	struct vfiomig_mapping A = {.iova = 0x10000, .size = 0x1000, .cookie = 0xA},
		B = {.iova = 0x10000, .size = 0x1000, .cookie = 0xB};
	struct vfiomig_range r = {0x10000, 0x1000};
	struct vfiomig_harvest_request rq;
	OK(vfiomig_tracker_map(t, &A, 1, E()));
	OK(vfiomig_tracker_start(t, E()));
	dev_dma(&a, 0x10000);
	OK(vfiomig_tracker_unmap(t, &r, unmap, NULL, 0, NULL, NULL, E())); /* rq NULL: "left over under its IOVA" */
	OK(vfiomig_tracker_map(t, &B, 1, E()));
	VFIOMIG_INIT(&rq); rq.run = run;
	OK(vfiomig_tracker_harvest(t, &rq, NULL, E()));
	SHOULD(seen_a, "what was written through A is told as B's");
	vfiomig_tracker_free(t); vfiomig_device_free(h);
	return rep_end("f05-iova-used-again");
}
