/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * One device in use (EBUSY at the stop), the migration is given up, the device is taken out, the rest migrates,
 * the device is put back.
 */
#include "rep.h"
static int busy;
static int on_set(struct dev *d, uint32_t from, uint32_t to) { (void)from; (void)d; return busy && (to == S_STOP_COPY || to == S_STOP) ? EBUSY : 0; }
int main(void)
{
	struct dev a, b, *list[2] = {&a, &b};
	struct rig r;
	struct wire w = {0};
	rep_begin(20);
	dev_init(&a, "zip-vf0"); dev_init(&b, "nic-vf0");
	a.on_set = on_set; a.flags = F_STOP_COPY | F_PRE_COPY;
	rig_up(&r, list, 2, VFIOMIG_TRACKER_F_EVERYTHING);
	busy = 1;
	SHOULD(rig_save(&r, &w, true, false) < 0);
	NOTE("%s: %s", code_name(code()), msg());
	SHOULD(code() == VFIOMIG_ERR_DEVICE && strstr(msg(), "zip-vf0") && strstr(msg(), "STOP_COPY"));
	const struct vfiomig_device_result *x = vfiomig_error_result(rep_err, 0);
	if (x) NOTE("result: %s from %s to %s found %s errno %d: %s", x->device, vfiomig_state_name(x->from),
		vfiomig_state_name(x->to), vfiomig_state_name(x->found), x->saved_errno, x->message);
	SHOULD(x && x->saved_errno == EBUSY);
	OK(vfiomig_migration_abort(r.m, VFIOMIG_ABORT_TO_RUNNING, 0, E()));
	SHOULD(a.state == S_RUNNING && b.state == S_RUNNING);
	/* busy is over: the same migration object works again */
	busy = 0;
	wire_clear(&w);
	OK(rig_save(&r, &w, true, false));
	SHOULD(w.n[0] == 15000 && w.n[1] == 15000, "%zu %zu", w.n[0], w.n[1]);
	vfiomig_migration_free(r.m); r.m = NULL;
	OK(vfiomig_group_resume(r.g, E()));
	SHOULD(a.state == S_RUNNING && b.state == S_RUNNING);
	rig_down(&r);
	return rep_end("r02-device-in-use");
}
