/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The display syncs the log each frame, also between "migration was set up" and "tracking was started". */
#include "rep.h"
int main(void)
{
	struct dev a, *list[1] = {&a};
	struct rig r;
	uint64_t *b = bits_for(16384);
	struct vfiomig_dest dest = {.iova = 0, .size = 64 << 20, .page_size = 4096, .bitmap = b};
	struct vfiomig_harvest_request rq;
	rep_begin(20);
	dev_init(&a, "vf0"); a.has_log = true;
	rig_up(&r, list, 1, 0);
	VFIOMIG_INIT(&rq); rq.dests = &dest; rq.dest_count = 1;
	int x = vfiomig_tracker_harvest(r.t, &rq, NULL, E());
	NOTE("before start: %d %s: %s", x, code_name(code()), msg());
	SHOULD(x < 0 && code() == VFIOMIG_ERR_ORDER && a.n_report == 0 && ones(b, 16384) == 0);
	OK(vfiomig_migration_new(r.g, VFIOMIG_DIRECTION_SAVE, NULL, &r.m, E()));
	x = vfiomig_group_harvest(r.g, &rq, NULL, E());
	NOTE("group, in IDLE: %d %s: %s", x, code_name(code()), msg());
	SHOULD(x < 0 && code() == VFIOMIG_ERR_ORDER);
	OK(vfiomig_migration_advance(r.m, VFIOMIG_PHASE_SAVE_TRACKING, 0, E()));
	dev_dma(&a, 0x3000);
	OK(vfiomig_tracker_harvest(r.t, &rq, NULL, E()));
	SHOULD(ones(b, 16384) == 1 && bit(b, 3));
	OK(vfiomig_migration_abort(r.m, VFIOMIG_ABORT_TO_RUNNING, 0, E()));
	x = vfiomig_tracker_harvest(r.t, &rq, NULL, E());
	NOTE("after abort: %d %s: %s", x, code_name(code()), msg());
	SHOULD(x < 0 && code() == VFIOMIG_ERR_ORDER);
	rig_down(&r);
	return rep_end("r20-sync-before-start");
}
