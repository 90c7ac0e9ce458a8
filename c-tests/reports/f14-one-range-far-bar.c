/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A tracker that holds one range (pds before 6.8), 63 GiB of RAM and a BAR at 56 TiB: the one range is 56 TiB long. Its
 * bitmap is
 * 1.75 GiB, read as a whole at the start and at each harvest, although REPORT takes page-aligned parts (rule L7).
 */
#include "rep.h"
#include <sys/resource.h>
int main(void)
{
	struct dev a;
	struct rusage u;
	uint64_t *b = bits_for(1 << 20);
	rep_begin(90);
	dev_init(&a, "vf0"); a.has_log = true; a.log_max_ranges = 1;
	struct vfiomig_device *h = dev_handle(&a);
	struct vfiomig_tracker *t = tracker_of(&h, 1, 0);
	OK(map1(t, 0, 3ull << 30)); OK(map1(t, 1ull << 32, 60ull << 30)); OK(map1(t, 0x380000000000ull, 64ull << 30));
	double s = now_s();
	OK(vfiomig_tracker_start(t, E()));
	double started = now_s() - s;
	harvest(t, 1ull << 32, 4ull << 30, b);
	getrusage(RUSAGE_SELF, &u);
	NOTE("kind %u; start %.1f s here; %ld MiB of memory; REPORTs over %llu GiB for 127 GiB mapped", tinfo(t).kind,
		started, u.ru_maxrss / 1024, (unsigned long long)a.report_bytes >> 30);
	SHOULD(u.ru_maxrss < 200 * 1024, "%ld MiB", u.ru_maxrss / 1024);
	vfiomig_tracker_free(t); vfiomig_device_free(h);
	return rep_end("f14-one-range-far-bar");
}
