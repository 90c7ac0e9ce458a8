/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A stream of 1000 MiB, 900 of them offered in pre-copy; MIG_DATA_SIZE says 1000 (what is left to the end of
 * stop copy).
 */
#include "rep.h"
int main(void)
{
	struct dev a, *list[1] = {&a};
	struct rig r;
	struct vfiomig_migration_pending p;
	struct vfiomig_migration_estimate_options o;
	struct vfiomig_migration_estimate e;
	rep_begin(20);
	dev_init(&a, "vgpu"); a.pre = 900 << 20; a.stop = 100 << 20;
	rig_up(&r, list, 1, VFIOMIG_TRACKER_F_EVERYTHING);
	OK(vfiomig_migration_new(r.g, VFIOMIG_DIRECTION_SAVE, NULL, &r.m, E()));
	OK(vfiomig_migration_advance(r.m, VFIOMIG_PHASE_SAVE_PRE_COPY, 0, E()));
	VFIOMIG_INIT(&p); VFIOMIG_INIT(&o); VFIOMIG_INIT(&e);
	o.bytes_per_second = 1000 << 20; o.transition_ns = 1;
	OK(vfiomig_migration_get_pending(r.m, VFIOMIG_PENDING_F_EXACT, &p, E()));
	OK(vfiomig_migration_get_estimate(r.m, &o, &e, NULL, E()));
	NOTE("initial %llu MiB, stop_copy %llu MiB: estimate %llu MiB, %llu ms", (unsigned long long)p.initial_bytes >> 20,
		(unsigned long long)p.stop_copy_bytes >> 20, (unsigned long long)e.bytes >> 20,
		(unsigned long long)e.transfer_ns / 1000000);
	SHOULD(e.bytes == 1000ull << 20, "right: 1000 MiB, 1000 ms");
	OK(vfiomig_migration_abort(r.m, VFIOMIG_ABORT_TO_RUNNING, 0, E()));
	rig_down(&r);
	return rep_end("f04-estimate-counts-twice");
}
