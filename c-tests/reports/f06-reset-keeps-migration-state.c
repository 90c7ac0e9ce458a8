/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A server whose DEVICE_RESET discards captured data and keeps the migration state (libvfio-user since 2026-05). */
#include "rep.h"
static int64_t refuse(struct dev *d, const void *b, size_t n) { (void)d; (void)b; (void)n; return -EINVAL; }
int main(void)
{
	struct dev a, b, *la[1] = {&a}, *lb[1] = {&b};
	struct rig s, l;
	struct wire w = {0};
	struct vfiomig_drain_result mv[1];
	rep_begin(20);
	/* 1. source, guest reboot in pre-copy */
	dev_init(&a, "src"); a.reset_keeps_state = true;
	rig_up(&s, la, 1, VFIOMIG_TRACKER_F_EVERYTHING);
	OK(vfiomig_migration_new(s.g, VFIOMIG_DIRECTION_SAVE, NULL, &s.m, E()));
	OK(vfiomig_migration_advance(s.m, VFIOMIG_PHASE_SAVE_PRE_COPY, 0, E()));
	int x = vfiomig_device_reset(s.h[0], E());
	NOTE("reset: %d %s; the session is closed now", x, msg());
	x = vfiomig_migration_advance(s.m, VFIOMIG_PHASE_SAVE_STOP_COPY, 0, E());
	int64_t y = vfiomig_migration_save_complete(s.m, DRAIN(.put = wire_put, .opaque = &w), mv, 1, E());
	NOTE("advance to STOP_COPY: %d, save_complete: %lld, bytes %zu", x, (long long)y, w.n[0]);
	SHOULD(x < 0 || y < 0, "STOP_COPY without a session, and a complete stream of no bytes");
	/* 2. destination, a load that is refused */
	dev_init(&b, "dst"); b.reset_keeps_state = true; b.on_write = refuse;
	rig_up(&l, lb, 1, VFIOMIG_TRACKER_F_EVERYTHING);
	OK(vfiomig_migration_new(l.g, VFIOMIG_DIRECTION_LOAD, NULL, &l.m, E()));
	OK(vfiomig_migration_advance(l.m, VFIOMIG_PHASE_LOAD_RESUMING, 0, E()));
	SHOULD(vfiomig_device_write(l.h[0], "x", 1, 0, E()) < 0);
	x = vfiomig_migration_abort(l.m, VFIOMIG_ABORT_TO_RUNNING, 0, E());
	NOTE("abort: %d %s", x, msg());
	x = vfiomig_device_set_state(l.h[0], VFIOMIG_STATE_STOP, VFIOMIG_ON_FAILURE_KEEP, VFIOMIG_SET_STATE_F_RAW, E());
	NOTE("RESUMING -> STOP, raw, behind the reset: %d %s", x, msg());
	SHOULD(x == 0 && b.state == S_STOP, "no function of the library leads out of RESUMING any more");
	rig_down(&s); rig_down(&l);
	return rep_end("f06-reset-keeps-migration-state");
}
