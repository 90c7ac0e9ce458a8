/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A device is hot-unplugged by freeing its handle: its empty place cannot be removed, and the group is of no use
 * any more.
 */
#include "rep.h"
int main(void)
{
	struct dev a, b, *list[2] = {&a, &b};
	struct rig r;
	rep_begin(20);
	dev_init(&a, "vf0"); dev_init(&b, "vf1");
	rig_up(&r, list, 2, VFIOMIG_TRACKER_F_EVERYTHING);
	/* while it exists, remove_device() is refused */
	OK(vfiomig_migration_new(r.g, VFIOMIG_DIRECTION_SAVE, NULL, &r.m, E()));
	vfiomig_device_free(r.h[0]);                                       /* surprise removal in a migration */
	(void)vfiomig_migration_abort(r.m, VFIOMIG_ABORT_TO_RUNNING, 0, E());
	vfiomig_migration_free(r.m); r.m = NULL;
	r.h[0] = dev_handle(&a);                                           /* plugged again, same name */
	int x = vfiomig_group_add_device(r.g, r.h[0], E());
	NOTE("add_device: %d %s", x, msg());
	SHOULD(x == 0);
	x = vfiomig_migration_new(r.g, VFIOMIG_DIRECTION_SAVE, NULL, &r.m, E());
	NOTE("migration_new: %d %s", x, msg());
	SHOULD(x == 0);
	x = vfiomig_group_pause(r.g, E());
	NOTE("pause: %d %s", x, msg());
	SHOULD(x == 0);
	rig_down(&r);
	return rep_end("f08-empty-place");
}
