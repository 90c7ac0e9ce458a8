/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A device is reset in STOP_COPY and the library is told: save_complete() says success, saved_bytes is the
 * length of a cut stream.
 */
#include "rep.h"
int main(void)
{
	struct dev a, *list[1] = {&a};
	struct rig r;
	struct wire w = {0};
	struct vfiomig_drain_result mv[1];
	rep_begin(20);
	dev_init(&a, "vf0"); /* a stream of 15000 bytes */
	rig_up(&r, list, 1, VFIOMIG_TRACKER_F_EVERYTHING);
	OK(vfiomig_migration_new(r.g, VFIOMIG_DIRECTION_SAVE, NULL, &r.m, E()));
	OK(vfiomig_migration_advance(r.m, VFIOMIG_PHASE_SAVE_STOP_COPY, 0, E()));
	OK(vfiomig_migration_save_iterate(r.m, DRAIN(.budget_bytes = 4096, .budget_ns = 1000000000, .put = wire_put,
		.opaque = &w), mv, 1, E()));
	dev_reset(&a);                            /* AER, hot reset: RUNNING, fds dead */
	OK(vfiomig_device_reprobe(r.h[0], E()));  /* as docs/vmm-guide.md asks */
	int64_t x = vfiomig_migration_save_complete(r.m, DRAIN(.put = wire_put, .opaque = &w), mv, 1, E());
	uint32_t c = code(); /* info_of() has an error of its own */
	NOTE("save_complete: %lld, flags %u (END is 2), saved_bytes %llu of 15000", (long long)x, mv[0].flags,
		(unsigned long long)info_of(r.h[0]).saved_bytes);
	SHOULD(x < 0 && c == VFIOMIG_ERR_STALE, "%lld %s", (long long)x, code_name(c));
	rig_down(&r);
	return rep_end("f01-lost-stream-is-success");
}
