/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * vm_stop outside of any migration: a device refuses; the caller gave no error object. No crash, the others have
 * results, cont works.
 */
#include "rep.h"
static int fail;
static int on_set(struct dev *d, uint32_t from, uint32_t to) { (void)d; (void)from; (void)to; return fail; }
int main(void)
{
	struct dev a, b, *list[2] = {&a, &b};
	struct rig r;
	rep_begin(20);
	dev_init(&a, "vf0"); dev_init(&b, "vf1"); a.on_set = on_set;
	rig_up(&r, list, 2, VFIOMIG_TRACKER_F_EVERYTHING);
	static const int errs[] = {EBUSY, EIO, ETIMEDOUT, EPERM};
	for (size_t i = 0; i < 4; i++) {
		fail = errs[i];
		int x = vfiomig_group_pause(r.g, NULL);
		SHOULD(x == -errs[i], "%d", x);
		struct vfiomig_report *rep = NULL;
		OK(vfiomig_group_get_report(r.g, &rep, E()));
		if (!i) NOTE("%s", vfiomig_report_text(rep));
		SHOULD(strstr(vfiomig_report_text(rep), "vf0"));
		vfiomig_report_free(rep);
		fail = 0;
		OK(vfiomig_group_resume(r.g, E()));
		SHOULD(a.state == S_RUNNING && b.state == S_RUNNING);
	}
	rig_down(&r);
	return rep_end("r45-pause-fails-without-migration");
}
