/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The destination's device is reset (AER) in the middle of its load, with and without a word: the load must
 * fail, not go on.
 */
#include "rep.h"
int main(void)
{
	rep_begin(20);
	for (int how = 0; how < 3; how++) {
		struct dev b, *lb[1] = {&b};
		struct rig l;
		unsigned char part[15000];
		dev_init(&b, "vf0");
		for (size_t i = 0; i < sizeof part; i++) part[i] = dev_byte(i);
		rig_up(&l, lb, 1, VFIOMIG_TRACKER_F_EVERYTHING);
		OK(vfiomig_migration_new(l.g, VFIOMIG_DIRECTION_LOAD, NULL, &l.m, E()));
		OK(vfiomig_migration_advance(l.m, VFIOMIG_PHASE_LOAD_RESUMING, 0, E()));
		OK(vfiomig_device_write(l.h[0], part, 7000, 0, E()));
		dev_reset(&b);
		if (how == 1) OK(vfiomig_device_reprobe(l.h[0], E()));
		if (how == 2) OK(vfiomig_device_reset(l.h[0], E()));
		struct wire w = {.p = {part}, .n = {15000}, .at = {7000}};
		int64_t x = vfiomig_migration_load_complete(l.m, DRAIN(.get = wire_get, .opaque = &w), NULL, 0, E());
		NOTE("%d: load_complete: %lld %s: %s", how, (long long)x, code_name(code()), msg());
		SHOULD(x < 0);
		x = vfiomig_migration_advance(l.m, VFIOMIG_PHASE_LOAD_RUNNING, 0, E());
		NOTE("   advance: %lld %s: %s", (long long)x, code_name(code()), msg());
		SHOULD(x < 0);
		OK(vfiomig_migration_abort(l.m, VFIOMIG_ABORT_TO_RUNNING, 0, E()));
		w.at[0] = 0; b.expect = 15000;
		OK(rig_load(&l, &w));
		SHOULD(b.state == S_RUNNING && b.loaded == 15000);
		rig_down(&l);
	}
	return rep_end("r41-reset-while-loading");
}
