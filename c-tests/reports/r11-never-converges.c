/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A device that always has new pre-copy data, beside one with initial data: rounds end, the quiet one is served,
 * ready is reported.
 */
#include "rep.h"
static size_t got[2];
static int put(void *o, size_t dev, const void *p, size_t n, uint32_t f) { (void)o; (void)p; (void)f; got[dev] += n; return 0; }
static int slow(void *o, size_t dev, const void *p, size_t n, uint32_t f) { usleep(2000); return put(o, dev, p, n, f); }
int main(void)
{
	rep_begin(40);
	for (int threads = 0; threads < 2; threads++)
		for (int order = 0; order < 2; order++) {
			struct dev fast, calm, *list[2] = {order ? &calm : &fast, order ? &fast : &calm};
			struct rig r;
			struct vfiomig_drain_result mv[2];
			struct vfiomig_migration_pending p;
			size_t c = order ? 0 : 1;
			dev_init(&fast, "fast"); fast.dirty_always = true; fast.pre = 0; fast.dirty_per_info = 1 << 20;
			dev_init(&calm, "calm"); calm.pre = 8 << 20;
			fast.any_thread = calm.any_thread = threads;
			rig_up(&r, list, 2, VFIOMIG_TRACKER_F_EVERYTHING);
			OK(vfiomig_migration_new(r.g, VFIOMIG_DIRECTION_SAVE, NULL, &r.m, E()));
			OK(vfiomig_migration_advance(r.m, VFIOMIG_PHASE_SAVE_PRE_COPY, 0, E()));
			got[0] = got[1] = 0;
			int rounds = 0;
			do {
				OK(vfiomig_migration_save_iterate(r.m, DRAIN(.budget_bytes = 4 << 20, .budget_ns = 10000000000ull, .put = put), mv,
					2, E()));
				SHOULD(mv[0].bytes <= 2 << 20 && mv[1].bytes <= 2 << 20, "%llu %llu of a share of 2 MiB",
					(unsigned long long)mv[0].bytes, (unsigned long long)mv[1].bytes);
				VFIOMIG_INIT(&p);
				OK(vfiomig_migration_get_pending(r.m, 0, &p, E()));
			} while (!p.ready && ++rounds < 50);
			NOTE("threads %d order %d: ready after %d rounds; calm %zu of %u; dirty_bytes still %llu", threads, order,
				rounds + 1, got[c], 8 << 20, (unsigned long long)p.dirty_bytes);
			SHOULD(p.ready && got[c] == 8 << 20);
			/* time is the limit: a round of 50 ms ends, though the fast device never says EMPTY and bytes are not limited */
			double t = now_s();
			OK(vfiomig_migration_save_iterate(r.m, DRAIN(.budget_ns = 50000000, .put = slow), mv, 2, E()));
			t = now_s() - t;
			NOTE("round of 50 ms: %.0f ms", t * 1e3);
			SHOULD(t < 0.5);
			OK(vfiomig_migration_abort(r.m, VFIOMIG_ABORT_TO_RUNNING, 0, E()));
			rig_down(&r);
		}
	return rep_end("r11-never-converges");
}
