/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Guest reboot or FLR while in PRE_COPY: the kernel is back in RUNNING, both fds are dead. With and without a
 * word to the library.
 */
#include "rep.h"
static void one(const char *what, int how)
{
	struct dev a, b, *list[2] = {&a, &b};
	struct rig r;
	struct wire w = {0};
	struct vfiomig_drain_result mv[2];
	printf(" -- %s\n", what);
	dev_init(&a, "vf0"); dev_init(&b, "vf1");
	a.has_log = b.has_log = true;
	rig_up(&r, list, 2, 0);
	OK(vfiomig_migration_new(r.g, VFIOMIG_DIRECTION_SAVE, NULL, &r.m, E()));
	OK(vfiomig_migration_advance(r.m, VFIOMIG_PHASE_SAVE_PRE_COPY, 0, E()));
	OK(vfiomig_migration_save_iterate(r.m, DRAIN(.budget_bytes = 8192, .budget_ns = 1000000000, .put = wire_put,
		.opaque = &w), mv, 2, E()));
	if (how == 0) OK(vfiomig_device_reset(r.h[0], E()));
	if (how >= 1) dev_reset(&a); /* the guest's FLR */
	if (how == 2) OK(vfiomig_device_reprobe(r.h[0], E()));
	int64_t x = vfiomig_migration_save_iterate(r.m, DRAIN(.budget_bytes = 65536, .budget_ns = 1000000000, .put = wire_put,
		.opaque = &w), mv, 2, E());
	NOTE("iterate: %lld %s: %s", (long long)x, code_name(code()), msg());
	x = vfiomig_migration_advance(r.m, VFIOMIG_PHASE_SAVE_STOP_COPY, 0, E());
	NOTE("advance: %lld %s: %s", (long long)x, code_name(code()), msg());
	SHOULD(x < 0, "a stream that was begun before the reset cannot be ended after it");
	SHOULD(strstr(msg(), "vf0"));
	SHOULD(b.state != S_STOP_COPY, "the other device was stopped although vf0 is lost");
	OK(vfiomig_migration_abort(r.m, VFIOMIG_ABORT_TO_RUNNING, 0, E()));
	SHOULD(a.state == S_RUNNING && b.state == S_RUNNING, "%u %u", a.state, b.state);
	SHOULD(!a.log_on && !b.log_on, "logs run on after the abort");
	wire_clear(&w);
	OK(rig_save(&r, &w, true, false));
	SHOULD(w.n[0] == 15000 && w.n[1] == 15000, "%zu %zu", w.n[0], w.n[1]);
	rig_down(&r);
	SHOULD(a.log_bad + b.log_bad == 0);
	SHOULD(a.closes == a.opens && b.closes == b.opens, "%u/%u %u/%u", a.closes, a.opens, b.closes, b.opens);
}
int main(void)
{
	rep_begin(30);
	one("guest reboot, by vfiomig_device_reset()", 0);
	one("FLR by the guest, nobody tells", 1);
	one("FLR by the guest, vfiomig_device_reprobe()", 2);
	return rep_end("r06-reset-in-precopy");
}
