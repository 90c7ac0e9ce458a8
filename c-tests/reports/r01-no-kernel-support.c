/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A driver without migration: what does the user read? Also: not a VFIO fd at all, a closed fd, a group that has
 * such a device.
 */
#include "rep.h"
int main(void)
{
	struct dev a, b, *list[2] = {&a, &b};
	struct rig r;
	struct vfiomig_group_abilities p;
	struct vfiomig_report *why = NULL;
	struct vfiomig_device *h = NULL;
	rep_begin(20);
	dev_init(&a, "0000:b1:00.2"); a.no_support = true;
	dev_init(&b, "0000:b1:00.3");
	rig_up(&r, list, 2, VFIOMIG_TRACKER_F_EVERYTHING);
	struct vfiomig_device_info i = info_of(r.h[0]);
	NOTE("reason: %s", i.reason);
	SHOULD(i.dialect == VFIOMIG_DIALECT_NONE);
	SHOULD(strstr(i.reason, "VFIO_DEVICE_FEATURE_MIGRATION") && strstr(i.reason, "migration region"));
	VFIOMIG_INIT(&p);
	OK(vfiomig_group_get_abilities(r.g, &p, &why, E()));
	NOTE("abilities %#x, %u reasons:\n%s", p.abilities, p.reason_count, vfiomig_report_text(why));
	SHOULD(!(p.abilities & VFIOMIG_ABILITY_MIGRATABLE));
	SHOULD(strstr(vfiomig_report_text(why), "0000:b1:00.2"));
	SHOULD(vfiomig_migration_new(r.g, VFIOMIG_DIRECTION_SAVE, NULL, &r.m, E()) < 0);
	NOTE("migration_new: %s: %s", code_name(code()), msg());
	SHOULD(code() == VFIOMIG_ERR_UNSUPPORTED && strstr(msg(), "0000:b1:00.2") && !strstr(msg(), "0000:b1:00.3"));
	/* states: what happens to pause of a VM with such a device, without any migration? */
	int x = vfiomig_group_pause(r.g, E());
	NOTE("group_pause: %d %s: %s; other device in %s", x, code_name(code()), msg(),
		vfiomig_state_name(vfiomig_device_get_state(r.h[1])));
	x = vfiomig_group_resume(r.g, E());
	NOTE("group_resume: %d %s: %s; other device in %s", x, code_name(code()), msg(),
		vfiomig_state_name(vfiomig_device_get_state(r.h[1])));
	/* unplugged: the rest migrates */
	OK(vfiomig_group_remove_device(r.g, r.h[0], E()));
	OK(vfiomig_migration_new(r.g, VFIOMIG_DIRECTION_SAVE, NULL, &r.m, E()));
	vfiomig_report_free(why);
	rig_down(&r);
	/* fds that are no VFIO devices */
	int null = open("/dev/null", O_RDWR);
	SHOULD(vfiomig_device_new_kernel(null, NULL, &h, E()) < 0);
	NOTE("/dev/null: %s: %s", code_name(code()), msg());
	close(null);
	SHOULD(vfiomig_device_new_kernel(null, NULL, &h, E()) < 0);
	NOTE("closed fd: %s: %s", code_name(code()), msg());
	return rep_end("r01-no-kernel-support");
}
