/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Begun and given up ten times in each phase, then done: logs are started and stopped in pairs, no fd is lost,
 * the stream is whole.
 */
#include "rep.h"
int main(void)
{
	struct dev a, b, *list[2] = {&a, &b};
	struct rig r;
	struct wire w = {0};
	struct vfiomig_drain_result mv[2];
	static const uint32_t phases[] = {VFIOMIG_PHASE_SAVE_TRACKING, VFIOMIG_PHASE_SAVE_PRE_COPY,
		VFIOMIG_PHASE_SAVE_P2P_GRACE, VFIOMIG_PHASE_SAVE_STOP_COPY};
	rep_begin(60);
	dev_init(&a, "vf0"); dev_init(&b, "vf1");
	a.has_log = b.has_log = true; a.real_fd = false;
	rig_up(&r, list, 2, 0);
	OK(vfiomig_migration_new(r.g, VFIOMIG_DIRECTION_SAVE, NULL, &r.m, E()));
	unsigned fds = open_fds();
	for (int i = 0; i < 10; i++)
		for (size_t p = 0; p < 4; p++) {
			OK(vfiomig_migration_advance(r.m, phases[p], 0, E()));
			if (p > 0) OK(vfiomig_migration_save_iterate(r.m, DRAIN(.budget_bytes = 3000, .budget_ns = 1000000000,
				.put = wire_put, .opaque = &w), mv, 2, E()));
			if (i & 1) vfiomig_migration_cancel(r.m);
			OK(vfiomig_migration_abort(r.m, VFIOMIG_ABORT_TO_RUNNING, 0, E()));
			SHOULD(a.state == S_RUNNING && b.state == S_RUNNING && !a.log_on && !b.log_on);
			for (int k = 0; k < 2; k++) OK(vfiomig_device_restart_stream(r.h[k], E()));
		}
	SHOULD(a.n_start == a.n_stop && a.log_bad == 0, "%u START, %u STOP", a.n_start, a.n_stop);
	SHOULD(open_fds() == fds);
	wire_clear(&w);
	OK(rig_save(&r, &w, true, false));
	SHOULD(w.n[0] == 15000 && w.n[1] == 15000);
	struct vfiomig_migration_pending p;
	VFIOMIG_INIT(&p);
	OK(vfiomig_migration_get_pending(r.m, 0, &p, E()));
	SHOULD(p.saved_bytes == 30000, "saved_bytes %llu: bytes of migrations that were given up are in it",
		(unsigned long long)p.saved_bytes);
	rig_down(&r);
	SHOULD(a.closes == a.opens && b.closes == b.opens);
	return rep_end("r07-cancel-and-retry");
}
