/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A dirty-rate tool and a migration use one tracker: what the tool gets must not be lost to the migration. The tool
 * watches, with VFIOMIG_HARVEST_F_KEEP.
 */
#include "rep.h"
static void watch(struct vfiomig_tracker *t, uint64_t *bitmap)
{
	struct vfiomig_dest dest = {.iova = 0, .size = 64 << 20, .page_size = 4096, .bitmap = bitmap};
	struct vfiomig_harvest_request rq;
	VFIOMIG_INIT(&rq);
	rq.flags = VFIOMIG_HARVEST_F_KEEP;
	rq.dests = &dest; rq.dest_count = 1;
	OK(vfiomig_tracker_harvest(t, &rq, NULL, E()));
}
int main(void)
{
	struct dev a, *list[1] = {&a};
	struct rig r;
	struct wire w = {0};
	struct vfiomig_drain_result mv[1];
	uint64_t *tool = bits_for(16384), *ram = bits_for(16384);
	rep_begin(20);
	dev_init(&a, "vf0"); a.has_log = true;
	rig_up(&r, list, 1, 0); /* 64 MiB mapped */
	OK(vfiomig_tracker_start(r.t, E()));                                 /* the tool's start */
	OK(vfiomig_migration_new(r.g, VFIOMIG_DIRECTION_SAVE, NULL, &r.m, E()));
	OK(vfiomig_migration_advance(r.m, VFIOMIG_PHASE_SAVE_TRACKING, 0, E()));   /* the migration's start */
	dev_dma(&a, 0x5000);
	watch(r.t, tool);                                                    /* the tool's harvest, into its own bitmap */
	harvest(r.t, 0, 64 << 20, ram);                                      /* the migration's */
	SHOULD(bit(tool, 5) && bit(ram, 5), "page 5: tool %d, migration %d", bit(tool, 5), bit(ram, 5));
	/* and the final harvest can be the tool's */
	OK(vfiomig_migration_advance(r.m, VFIOMIG_PHASE_SAVE_STOP_COPY, 0, E()));
	dev_dma(&a, 0x7000);
	watch(r.t, tool);
	OK(vfiomig_migration_save_complete(r.m, DRAIN(.put = wire_put, .opaque = &w), mv, 1, E()));
	SHOULD(vfiomig_migration_advance(r.m, VFIOMIG_PHASE_SAVE_HALTED, 0, E()) < 0,
		"HALTED is entered, page 7 was told to the tool only");
	rig_down(&r);
	return rep_end("f03-two-readers");
}
