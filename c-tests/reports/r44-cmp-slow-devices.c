/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Eight devices of 100 ms a transition: pause, resume, and the report says where time went; one of them is 600 ms. */
#include "rep.h"
int main(void)
{
	struct dev d[8], *list[8];
	char names[8][16];
	struct rig r;
	struct wire w = {0};
	rep_begin(60);
	for (int i = 0; i < 8; i++) { snprintf(names[i], 16, "vf%d", i); dev_init(&d[i], names[i]); d[i].any_thread = true; d[i].set_delay_us = i == 5 ? 600000 : 100000; list[i] = &d[i]; }
	rig_up(&r, list, 8, VFIOMIG_TRACKER_F_EVERYTHING);
	double s = now_s();
	OK(vfiomig_group_pause(r.g, E()));
	double p = now_s() - s; s = now_s();
	OK(vfiomig_group_resume(r.g, E()));
	double c = now_s() - s;
	NOTE("pause %.0f ms, resume %.0f ms (two transitions of 600 ms at most each)", p * 1e3, c * 1e3);
	SHOULD(p < 1.5 && c < 1.5);
	OK(rig_save(&r, &w, true, false));
	struct vfiomig_report *rep = NULL;
	OK(vfiomig_migration_get_report(r.m, &rep, E()));
	const char *t = vfiomig_report_text(rep);
	NOTE("report:\n%.900s", t);
	SHOULD(strstr(t, "vf5") && strstr(t, "STOP_COPY"));
	vfiomig_report_free(rep);
	rig_down(&r);
	return rep_end("r44-slow-devices");
}
