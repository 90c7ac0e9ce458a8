/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Pause and resume of a VM in which one device has no migration support. There is no migration. */
#include "rep.h"
int main(void)
{
	struct dev a, b, *list[2] = {&a, &b};
	struct rig r;
	rep_begin(20);
	dev_init(&a, "gpu"); a.no_support = true;
	dev_init(&b, "vf0");
	rig_up(&r, list, 2, VFIOMIG_TRACKER_F_EVERYTHING);
	int x = vfiomig_group_pause(r.g, E());
	NOTE("pause: %d %s %s; vf0 in %u", x, code_name(code()), msg(), b.state);
	SHOULD(x == 0 && b.state == S_STOP);
	x = vfiomig_group_resume(r.g, E());
	SHOULD(x == 0 && b.state == S_RUNNING, "%d %s", x, code_name(code()));
	rig_down(&r);
	return rep_end("f09-stop-with-plain-passthrough");
}
