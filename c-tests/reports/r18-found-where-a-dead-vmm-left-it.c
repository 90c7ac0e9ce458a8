/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The VMM was killed in a migration and starts again on the same server: the device is found in any state. */
#include "rep.h"
int main(void)
{
	rep_begin(30);
	for (uint32_t s = 0; s <= 7; s++) {
		struct dev a, *list[1] = {&a};
		struct rig r;
		struct wire w = {0};
		dev_init(&a, "nvme0"); a.state = s;
		rig_up(&r, list, 1, VFIOMIG_TRACKER_F_EVERYTHING);
		int x = vfiomig_migration_new(r.g, VFIOMIG_DIRECTION_SAVE, NULL, &r.m, E());
		NOTE("found in %s: migration_new %d %s", vfiomig_state_name(vfiomig_device_get_state(r.h[0])), x, msg());
		SHOULD((x == 0) == (s == S_RUNNING || s == S_STOP));
		int p = vfiomig_group_resume(r.g, E());
		NOTE("  group_resume: %d %s; now %u", p, p ? msg() : "", a.state);
		if (s != S_ERROR && s != S_RESUMING) SHOULD(p == 0 && a.state == S_RUNNING);
		if (p) {
			OK(vfiomig_device_reset(r.h[0], E()));
			OK(vfiomig_group_resume(r.g, E()));
		}
		SHOULD(a.state == S_RUNNING);
		OK(rig_save(&r, &w, true, false));
		SHOULD(w.n[0] == 15000);
		rig_down(&r);
	}
	return rep_end("r18-found-where-a-dead-vmm-left-it");
}
