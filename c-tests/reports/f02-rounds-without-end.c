/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A device is reset in pre-copy and the library is told: every further round is a success of 0 bytes, `ready`
 * stays 0 for ever.
 */
#include "rep.h"
int main(void)
{
	struct dev a, *list[1] = {&a};
	struct rig r;
	struct wire w = {0};
	struct vfiomig_drain_result mv[1];
	struct vfiomig_migration_pending p;
	int64_t x = 0;
	int rounds = 0;
	rep_begin(20);
	dev_init(&a, "vf0");
	rig_up(&r, list, 1, VFIOMIG_TRACKER_F_EVERYTHING);
	OK(vfiomig_migration_new(r.g, VFIOMIG_DIRECTION_SAVE, NULL, &r.m, E()));
	OK(vfiomig_migration_advance(r.m, VFIOMIG_PHASE_SAVE_PRE_COPY, 0, E()));
	OK(vfiomig_device_reset(r.h[0], E())); /* the guest reboots */
	do {
		x = vfiomig_migration_save_iterate(r.m, DRAIN(.budget_bytes = 1 << 20, .budget_ns = 1000000000, .put = wire_put,
			.opaque = &w), mv, 1, E());
		VFIOMIG_INIT(&p);
		if (x >= 0) x = vfiomig_migration_get_pending(r.m, VFIOMIG_PENDING_F_EXACT, &p, E());
	} while (x >= 0 && !p.ready && ++rounds < 1000);
	NOTE("%d rounds, last %lld: %s; ready %u", rounds, (long long)x, msg(), p.ready);
	SHOULD(x < 0, "nobody is told");
	rig_down(&r);
	return rep_end("f02-rounds-without-end");
}
