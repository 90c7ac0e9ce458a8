/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * More ranges than the tracker takes, all gaps alike (virtio-mem plugs every second block; a guest's IOVA allocator
 * spreads its buffers): how are they folded, and what does one unmap cost while tracking?
 */
#include "rep.h"
static int unmap(void *o, const struct vfiomig_range *r) { (void)o; (void)r; return 0; }
int main(void)
{
	rep_begin(100);
	static const struct { uint64_t n, size, stride; } lay[] = {{1000, 4096, 1 << 20}, {1000, 4096, 64 << 20}, {4096, 8 << 20, 16 << 20}, {32768, 8 << 20, 16 << 20}};
	for (size_t k = 0; k < 4; k++) {
		struct dev a;
		dev_init(&a, "vf0"); a.has_log = true;
		struct vfiomig_device *h = dev_handle(&a);
		struct vfiomig_tracker *t = tracker_of(&h, 1, 0);
		struct vfiomig_mapping *m = calloc(lay[k].n, sizeof *m);
		for (uint64_t i = 0; i < lay[k].n; i++) m[i] = (struct vfiomig_mapping){.iova = i * lay[k].stride, .size = lay[k].size};
		OK(vfiomig_tracker_map(t, m, lay[k].n, E()));
		OK(vfiomig_tracker_start(t, E()));
		uint64_t max = 0, sum = 0;
		for (unsigned i = 0; i < a.log_ranges; i++) { sum += a.log_range[i].size; if (a.log_range[i].size > max) max = a.log_range[i].size; }
		double s = now_s();
		a.report_bytes = 0;
		unsigned n = 0;
		for (; n < 100 && now_s() - s < 5; n++) {
			struct vfiomig_range gone = {(n + 1) * lay[k].stride, lay[k].size};
			OK(vfiomig_tracker_unmap(t, &gone, unmap, NULL, 0, NULL, NULL, E()));
		}
		uint64_t asked = a.report_bytes / n;
		NOTE("%llu x %llu KiB every %llu MiB: held %u, largest %llu MiB of %llu MiB in all; an unmap asks for %llu MiB of log and takes %.2f ms here", (unsigned long long)lay[k].n, (unsigned long long)lay[k].size >> 10, (unsigned long long)lay[k].stride >> 20, a.log_ranges, (unsigned long long)max >> 20, (unsigned long long)sum >> 20, (unsigned long long)asked >> 20, (now_s() - s) / n * 1e3);
		SHOULD(max <= sum / a.log_ranges * 8, "one range has nearly everything, the others have one mapping each");
		SHOULD(asked <= sum / a.log_ranges * 16, "an unmap reads %llu MiB of log for %llu KiB",
			(unsigned long long)asked >> 20, (unsigned long long)lay[k].size >> 10);
		vfiomig_tracker_free(t); vfiomig_device_free(h); free(m);
	}
	return rep_end("f12-fold-equal-gaps");
}
