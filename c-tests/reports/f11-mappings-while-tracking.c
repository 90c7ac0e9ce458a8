/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A guest with a vIOMMU maps one page a round, each at another address: none of it may make all of RAM dirty again. The
 * tracker knows the aperture.
 */
#include "rep.h"
static int unmap(void *o, const struct vfiomig_range *r) { (void)o; (void)r; return 0; }
int main(void)
{
	struct dev a;
	uint64_t *b = bits_for(16384), worst = 0;
	rep_begin(20);
	dev_init(&a, "vf0"); a.has_log = true;
	struct vfiomig_device *h = dev_handle(&a);
	const struct vfiomig_range aperture = {0, 1ull << 39};
	struct vfiomig_tracker_options o;
	struct vfiomig_tracker *t = NULL;
	VFIOMIG_INIT(&o);
	o.name = "ram"; o.devices = &h; o.device_count = 1;
	o.apertures = &aperture; o.aperture_count = 1;
	OK(vfiomig_tracker_new(&o, &t, E()));
	OK(map1(t, 0, 64 << 20));
	OK(vfiomig_tracker_start(t, E()));
	for (uint64_t k = 0; k < 20; k++) {
		uint64_t iova = (5ull << 30) + k * 0x200000;
		struct vfiomig_range gone = {iova, 0x1000};
		OK(map1(t, iova, 0x1000));
		memset(b, 0, 2048);
		harvest(t, 0, 64 << 20, b);
		if (ones(b, 16384) > worst) worst = ones(b, 16384);
		OK(vfiomig_tracker_unmap(t, &gone, unmap, NULL, 0, NULL, NULL, E()));
	}
	NOTE("20 rounds, nothing was written to RAM: %u STARTs, up to %llu of 16384 pages dirty a round", a.n_start,
		(unsigned long long)worst);
	SHOULD(worst == 0, "pre-copy cannot converge");
	SHOULD(a.n_start <= 2, "%u", a.n_start); /* the second is for the page size */
	vfiomig_tracker_free(t); vfiomig_device_free(h);
	return rep_end("f11-mappings-while-tracking");
}
