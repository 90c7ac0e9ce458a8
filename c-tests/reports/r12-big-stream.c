/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A state of more than 4 GiB (512 MiB and 4 GiB were limits of drivers): counted in 64 bits, memory bounded, no
 * whole-blob buffer.
 */
#include "rep.h"
#include <sys/resource.h>
static int64_t rd(struct dev *d, void *b, size_t n)
{
	uint64_t end = d->state == S_STOP_COPY ? d->stop : 0;
	(void)b;
	if (!d->session) return -ENODEV;
	if (n > end - d->pos) n = (size_t)(end - d->pos);
	d->pos += n;
	return (int64_t)n;
}
static int64_t wr(struct dev *d, const void *b, size_t n) { (void)b; d->loaded += n; return (int64_t)n; }
static int put(void *o, size_t dev, const void *p, size_t n, uint32_t f) { (void)dev; (void)p; (void)f; *(uint64_t *)o += n; return 0; }
static uint64_t left;
static int64_t get(void *o, size_t dev, void *p, size_t n, uint32_t *f, uint64_t *total)
{
	(void)dev; (void)p; (void)f;
	if (!left) { *total = *(uint64_t *)o; return 0; }
	if (n > left) n = (size_t)left;
	left -= n;
	return (int64_t)n;
}
int main(void)
{
	struct dev a, b, *la[1] = {&a}, *lb[1] = {&b};
	struct rig s, l;
	struct vfiomig_drain_result mv[1];
	uint64_t total = 0;
	rep_begin(100);
	dev_init(&a, "vram"); a.flags = F_STOP_COPY | F_P2P; a.stop = (5ull << 30) + 12345; a.on_read = rd; a.any_thread = true;
	dev_init(&b, "vram"); b.flags = F_STOP_COPY | F_P2P; b.on_write = wr; b.expect = a.stop; b.any_thread = true;
	rig_up(&s, la, 1, VFIOMIG_TRACKER_F_EVERYTHING); rig_up(&l, lb, 1, VFIOMIG_TRACKER_F_EVERYTHING);
	OK(vfiomig_migration_new(s.g, VFIOMIG_DIRECTION_SAVE, NULL, &s.m, E()));
	OK(vfiomig_migration_advance(s.m, VFIOMIG_PHASE_SAVE_STOP_COPY, 0, E()));
	double t = now_s();
	OK(vfiomig_migration_save_complete(s.m, DRAIN(.put = put, .opaque = &total), mv, 1, E()));
	NOTE("saved %llu in %.2f s", (unsigned long long)total, now_s() - t);
	SHOULD(total == a.stop && mv[0].bytes == a.stop && info_of(s.h[0]).saved_bytes == a.stop);
	OK(vfiomig_migration_new(l.g, VFIOMIG_DIRECTION_LOAD, NULL, &l.m, E()));
	OK(vfiomig_migration_advance(l.m, VFIOMIG_PHASE_LOAD_RESUMING, 0, E()));
	left = total;
	OK(vfiomig_migration_load_complete(l.m, DRAIN(.get = get, .opaque = &total), NULL, 0, E()));
	OK(vfiomig_migration_advance(l.m, VFIOMIG_PHASE_LOAD_RUNNING, 0, E()));
	struct rusage u;
	getrusage(RUSAGE_SELF, &u);
	NOTE("most memory: %ld MiB", u.ru_maxrss / 1024);
	SHOULD(u.ru_maxrss < 64 * 1024);
	rig_down(&s); rig_down(&l);
	return rep_end("r12-big-stream");
}
