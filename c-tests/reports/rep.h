/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A v2 device behind struct vfiomig_device_ops, written from the uAPI for these reports only, and what the tests share.
 * Constants are those of linux/vfio.h. Nothing of libvfiomig's own tests is used.
 */
#ifndef REP_H
#define REP_H
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#include <vfiomig.h>

/* --- verdict ------------------------------------------------------------------------------------------------------ */
static int rep_bad, rep_checks;
#define SHOULD(c, ...) \
	(rep_checks++, (c) ? (void)0 : (rep_bad++, printf("  not so (line %d): %s -- ", __LINE__, #c), \
		printf("" __VA_ARGS__), (void)putchar('\n')))
#define NOTE(...) (printf("  "), printf(__VA_ARGS__), (void)putchar('\n'))
static inline int rep_end(const char *name)
{
	printf("%s %s (%d checks, %d bad)\n", rep_bad ? "FAIL" : "PASS", name, rep_checks, rep_bad);
	return rep_bad ? 1 : 0;
}
static inline void rep_begin(unsigned seconds)
{
	setvbuf(stdout, NULL, _IOLBF, 0);
	alarm(seconds);
}
static inline double now_s(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static _Thread_local struct vfiomig_error *rep_err;
static inline struct vfiomig_error **E(void)
{
	vfiomig_error_free(rep_err);
	rep_err = NULL;
	return &rep_err;
}
static inline const char *msg(void) { return rep_err ? vfiomig_error_message(rep_err) : "(no error)"; }
static inline uint32_t code(void) { return vfiomig_error_code(rep_err); }
/* The request of a drain, for one call. */
#define DRAIN(...) (&(const struct vfiomig_drain_request){.argsz = sizeof(struct vfiomig_drain_request), __VA_ARGS__})
#define OK(call) rep_ok((long long)(call), #call, __LINE__)
static inline long long rep_ok(long long r, const char *call, int line)
{
	rep_checks++;
	if (r < 0) {
		rep_bad++;
		printf("  not so (line %d): %s -> %lld: %s\n", line, call, r, msg());
	}
	return r;
}
static inline const char *code_name(uint32_t c)
{
	static const char *const n[] = {"none", "ARGUMENT", "BUSY", "ORDER", "UNSUPPORTED", "DEVICE", "PROTOCOL", "SYSTEM",
		"INCOMPLETE", "STALE", "CANCELED", "PANIC"};
	return c < sizeof n / sizeof *n ? n[c] : "?";
}

/* --- the device --------------------------------------------------------------------------------------------------- */
enum { S_ERROR, S_STOP, S_RUNNING, S_STOP_COPY, S_RESUMING, S_RUNNING_P2P, S_PRE_COPY, S_PRE_COPY_P2P };
#define F_STOP_COPY 1u
#define F_P2P 2u
#define F_PRE_COPY 4u

struct span { uint64_t iova, size; };
struct dev {
	/* set before use */
	const char *name;
	unsigned flags;
	bool no_support, no_reset, no_precopy_info, any_thread, real_fd;
	bool reset_keeps_state;          /* DEVICE_RESET leaves the migration state as it is */
	uint64_t pre, stop;              /* bytes of initial data; bytes that come in STOP_COPY */
	uint64_t dirty_per_info;         /* new pre-copy data at each pre-copy info */
	bool dirty_always;               /* data never runs out in pre-copy: each read is full */
	uint64_t data_size; bool data_size_set; /* what MIG_DATA_SIZE answers; else the true rest of the stream */
	uint64_t say_initial, say_dirty; bool say_set;
	int (*on_set)(struct dev *, uint32_t from, uint32_t to); /* errno or 0, before the change */
	int64_t (*on_read)(struct dev *, void *, size_t);        /* replaces data_read; -1000: do as usual */
	int64_t (*on_write)(struct dev *, const void *, size_t); /* replaces data_write; -1000: do as usual */
	int (*on_feature)(struct dev *, void *feature, uint32_t argsz); /* 1000: do as usual */
	uint64_t expect;                 /* a load is right with so many bytes; 0: any */
	unsigned set_delay_us;
	/* DMA log */
	bool has_log;
	uint64_t log_page;               /* smallest own page; 0: 4096 */
	uint32_t log_max_ranges;         /* 0: 256 */
	uint64_t log_min_total, log_max_total; /* else EOPNOTSUPP; max 0: no limit */
	int log_report_errno;            /* one failing REPORT */
	int log_start_errno;
	void *user;
	/* what became of it */
	uint32_t state;
	uint64_t pos, avail, loaded, total_loaded;
	unsigned sets, resets, reads, writes, infos, closes, opens, n_start, n_stop, n_report, log_bad;
	bool session, log_on;
	uint64_t report_bytes; /* IOVA that was asked for in REPORTs */
	uint64_t log_shift_page;
	struct span log_range[256];
	unsigned log_ranges;
	uint64_t *dirty; size_t n_dirty, cap_dirty; /* page numbers of 4 KiB */
	int peer;
	pthread_mutex_t lock;
};

static inline bool dev_has(const struct dev *d, uint32_t s)
{
	if (s == S_RUNNING_P2P) return d->flags & F_P2P;
	if (s == S_PRE_COPY) return d->flags & F_PRE_COPY;
	if (s == S_PRE_COPY_P2P) return (d->flags & F_PRE_COPY) && (d->flags & F_P2P);
	return s >= S_STOP && s <= S_PRE_COPY_P2P;
}
static inline bool dev_arc(const struct dev *d, uint32_t a, uint32_t b)
{
	static const unsigned char arcs[][2] = {
		{S_RUNNING, S_RUNNING_P2P}, {S_RUNNING_P2P, S_RUNNING}, {S_RUNNING_P2P, S_STOP}, {S_STOP, S_RUNNING_P2P},
		{S_STOP, S_STOP_COPY}, {S_STOP_COPY, S_STOP}, {S_STOP, S_RESUMING}, {S_RESUMING, S_STOP},
		{S_RUNNING, S_PRE_COPY}, {S_PRE_COPY, S_RUNNING}, {S_RUNNING_P2P, S_PRE_COPY_P2P}, {S_PRE_COPY_P2P, S_RUNNING_P2P},
		{S_PRE_COPY, S_PRE_COPY_P2P}, {S_PRE_COPY_P2P, S_PRE_COPY}, {S_PRE_COPY_P2P, S_STOP_COPY}};
	if (!dev_has(d, a) || !dev_has(d, b)) return false;
	for (size_t i = 0; i < sizeof arcs / sizeof *arcs; i++)
		if (arcs[i][0] == a && arcs[i][1] == b) return true;
	if (!(d->flags & F_P2P) && ((a == S_RUNNING && b == S_STOP) || (a == S_STOP && b == S_RUNNING) ||
		(a == S_PRE_COPY && b == S_STOP_COPY)))
		return true;
	return false;
}
/* The next step of a shortest way; 0: none. */
static inline uint32_t dev_next(const struct dev *d, uint32_t from, uint32_t to)
{
	uint32_t dist[8], queue[8], n = 0, head = 0;
	for (int i = 0; i < 8; i++) dist[i] = 99;
	dist[to] = 0; queue[n++] = to;
	while (head < n) {
		uint32_t at = queue[head++];
		for (uint32_t s = 1; s < 8; s++)
			if (dist[s] == 99 && dev_arc(d, s, at)) { dist[s] = dist[at] + 1; queue[n++] = s; }
	}
	for (uint32_t s = 1; s < 8; s++)
		if (dev_arc(d, from, s) && dist[s] + 1 == dist[from]) return s;
	return 0;
}
static inline bool saving(uint32_t s) { return s == S_STOP_COPY || s == S_PRE_COPY || s == S_PRE_COPY_P2P; }

struct feature { uint32_t argsz, flags; union { uint64_t u64[4]; struct { uint32_t state; int32_t fd; } mig; } u; };
struct precopy { uint32_t argsz, flags; uint64_t initial, dirty; };

static inline uint64_t dev_end(const struct dev *d) { return d->state == S_STOP_COPY ? d->avail + d->stop : d->avail; }

static inline int dev_set(struct dev *d, struct feature *f)
{
	uint32_t to = f->u.mig.state, from = d->state;
	int e = d->on_set ? d->on_set(d, from, to) : 0;
	d->sets++;
	if (d->set_delay_us) usleep(d->set_delay_us);
	if (e) return -e;
	if (to == from) { f->u.mig.fd = -1; return 0; }
	if (from == S_ERROR || !to || to > 7 || !dev_has(d, to)) return -EINVAL;
	f->u.mig.fd = -1;
	while (d->state != to) {
		uint32_t next = dev_next(d, d->state, to), was = d->state;
		if (!next) return -EINVAL;
		if (was == S_RESUMING && d->expect && d->loaded != d->expect) return -EINVAL;
		bool goes_on = saving(was) && saving(next);
		if (!goes_on && (saving(was) || was == S_RESUMING)) { d->session = false; if (d->peer >= 0) close(d->peer), d->peer = -1; }
		d->state = next;
		if (!goes_on && (saving(next) || next == S_RESUMING)) {
			d->session = true; d->pos = 0; d->loaded = 0; d->opens++;
			d->avail = d->pre;
			if (d->real_fd) {
				int pair[2];
				if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair)) return -errno;
				f->u.mig.fd = pair[0]; d->peer = pair[1];
			}
		}
	}
	return 0;
}
static inline uint64_t log_page_of(const struct dev *d) { return d->log_page ? d->log_page : 4096; }
static inline void dev_dma(struct dev *d, uint64_t addr) /* the device writes one page of 4 KiB */
{
	if (!d->log_on) return;
	if (d->n_dirty == d->cap_dirty) d->dirty = realloc(d->dirty,
		sizeof *d->dirty * (d->cap_dirty = d->cap_dirty ? 2 * d->cap_dirty : 64));
	d->dirty[d->n_dirty++] = addr >> 12;
}
static inline int dev_log(struct dev *d, struct feature *f)
{
	uint32_t what = f->flags & 0xffff, op = f->flags & ~0xffffu;
	if (!d->has_log) return -ENOTTY;
	if (op & (1u << 18)) return 0; /* PROBE */
	if (what == 6) {
		uint64_t page = f->u.u64[0], total = 0, rounded = 1, own = log_page_of(d);
		uint32_t n = (uint32_t)f->u.u64[1];
		const struct span *r = (const struct span *)(uintptr_t)f->u.u64[2];
		d->n_start++;
		if (d->log_on) { d->log_bad++; printf("  device: START while it logs\n"); return -EINVAL; }
		if (d->log_start_errno) return -d->log_start_errno;
		if (n > (d->log_max_ranges ? d->log_max_ranges : 256)) return -E2BIG;
		for (uint32_t i = 0; i < n; i++) {
			if (!r[i].size || (r[i].iova | r[i].size) % page || r[i].iova + r[i].size < r[i].iova) return -EINVAL;
			total += r[i].size;
		}
		while (rounded < total && rounded < 1ull << 63) rounded <<= 1;
		if (rounded < d->log_min_total || (d->log_max_total && rounded > d->log_max_total)) return -EOPNOTSUPP;
		memcpy(d->log_range, r, n * sizeof *r);
		d->log_ranges = n;
		d->log_shift_page = page > own ? page : own;
		f->u.u64[0] = d->log_shift_page;
		d->n_dirty = 0;
		d->log_on = true;
		return 0;
	}
	if (what == 7) { d->n_stop++; if (!d->log_on) return -EINVAL; d->log_on = false; return 0; }
	uint64_t iova = f->u.u64[0], len = f->u.u64[1], page = f->u.u64[2];
	uint64_t *bitmap = (uint64_t *)(uintptr_t)f->u.u64[3];
	d->n_report++;
	d->report_bytes += len;
	if (!d->log_on) return -EINVAL;
	if (d->log_report_errno) { int e = d->log_report_errno; d->log_report_errno = 0; return -e; }
	bool known = false;
	for (unsigned i = 0; i < d->log_ranges; i++) known |= iova >= d->log_range[i].iova && iova + len <= d->log_range[i].iova + d->log_range[i].size;
	if (!known) { d->log_bad++; printf("  device: REPORT %#lx + %#lx is in no started range\n", iova, len); return -EINVAL; }
	size_t kept = 0;
	for (size_t i = 0; i < d->n_dirty; i++) {
		uint64_t addr = d->dirty[i] << 12;
		bool logged = false;
		for (unsigned k = 0; k < d->log_ranges; k++) logged |= addr - d->log_range[k].iova < d->log_range[k].size;
		if (!logged) continue; /* outside: no record */
		uint64_t rec = addr / d->log_shift_page * d->log_shift_page;
		if (rec < iova || rec >= iova + len) { d->dirty[kept++] = d->dirty[i]; continue; }
		for (uint64_t a = rec; a < rec + d->log_shift_page && a < iova + len; a += page) {
			uint64_t bit = (a - iova) / page;
			bitmap[bit / 64] |= 1ull << bit % 64;
		}
	}
	d->n_dirty = kept;
	return 0;
}
static inline int dev_feature(void *o, void *p, uint32_t argsz)
{
	struct dev *d = o;
	struct feature *f = p;
	int r = d->on_feature ? d->on_feature(d, p, argsz) : 1000;
	if (r != 1000) return r;
	uint32_t what = f->flags & 0xffff, op = f->flags & ~0xffffu;
	if (d->no_support) return -ENOTTY;
	if (what >= 6 && what <= 8) { pthread_mutex_lock(&d->lock); r = dev_log(d, f); pthread_mutex_unlock(&d->lock); return r; }
	if (what == 1 && op == 1u << 16) { f->u.u64[0] = d->flags; return 0; }
	if (what == 2 && op == 1u << 16) { f->u.mig.state = d->state; f->u.mig.fd = -1; return 0; }
	if (what == 2 && op == 1u << 17) return dev_set(d, f);
	if (what == 9) { f->u.u64[0] = d->data_size_set ? d->data_size : (saving(d->state) ? dev_end(d) + (d->state == S_STOP_COPY ? 0 : d->stop) - d->pos : d->pre + d->stop); return 0; }
	return -ENOTTY;
}
static inline int dev_info(void *o, void *p, uint32_t argsz)
{
	struct dev *d = o;
	uint32_t *x = p;
	(void)argsz;
	x[1] = d->no_reset ? 0 : 1; x[2] = 0; x[3] = 0;
	return 0;
}
static inline int dev_region(void *o, void *p, uint32_t argsz) { (void)o; (void)p; (void)argsz; return -EINVAL; }
static inline int dev_reset(void *o)
{
	struct dev *d = o;
	d->resets++;
	if (d->no_reset) return -EINVAL;
	d->pos = d->loaded = 0;
	if (d->reset_keeps_state) return 0;
	d->session = false;
	d->state = S_RUNNING;
	if (d->peer >= 0) close(d->peer), d->peer = -1;
	return 0;
}
static inline unsigned char dev_byte(uint64_t i) { return (unsigned char)((i * 2654435761u) >> 13); }
static inline int64_t dev_read(void *o, void *buf, size_t len)
{
	struct dev *d = o;
	int64_t r = d->on_read ? d->on_read(d, buf, len) : -1000;
	d->reads++;
	if (r != -1000) return r;
	if (!d->session || !saving(d->state)) return -ENODEV;
	if (d->dirty_always && d->state != S_STOP_COPY && d->pos + len > d->avail) d->avail = d->pos + len;
	uint64_t end = dev_end(d), n = end - d->pos < len ? end - d->pos : len;
	for (uint64_t i = 0; i < n; i++) ((unsigned char *)buf)[i] = dev_byte(d->pos + i);
	d->pos += n;
	return n || d->state == S_STOP_COPY ? (int64_t)n : -ENOMSG;
}
static inline int64_t dev_write(void *o, const void *buf, size_t len)
{
	struct dev *d = o;
	int64_t r = d->on_write ? d->on_write(d, buf, len) : -1000;
	d->writes++;
	if (r != -1000) return r;
	if (!d->session || d->state != S_RESUMING) return -ENODEV;
	for (size_t i = 0; i < len; i++)
		if (((const unsigned char *)buf)[i] != dev_byte(d->loaded + i)) return -EINVAL;
	d->loaded += len; d->total_loaded += len;
	return (int64_t)len;
}
static inline int dev_precopy(void *o, void *p, uint32_t argsz)
{
	struct dev *d = o;
	struct precopy *x = p;
	(void)argsz;
	d->infos++;
	if (d->state != S_PRE_COPY && d->state != S_PRE_COPY_P2P) return -EINVAL;
	d->avail += d->dirty_per_info;
	x->initial = d->pos < d->pre ? d->pre - d->pos : 0;
	x->dirty = d->avail - (d->pos < d->pre ? d->pre : d->pos);
	if (d->say_set) { x->initial = d->say_initial; x->dirty = d->say_dirty; }
	return 0;
}
static inline void dev_close(void *o) { ((struct dev *)o)->closes++; }

static inline void dev_init(struct dev *d, const char *name)
{
	memset(d, 0, sizeof *d);
	d->name = name; d->flags = F_STOP_COPY | F_P2P | F_PRE_COPY; d->state = S_RUNNING;
	d->pre = 10000; d->stop = 5000; d->peer = -1;
	pthread_mutex_init(&d->lock, NULL);
}
static inline struct vfiomig_device *dev_handle(struct dev *d)
{
	struct vfiomig_device_ops ops;
	struct vfiomig_device_options o;
	struct vfiomig_device *h = NULL;
	VFIOMIG_INIT(&ops);
	ops.flags = (d->any_thread ? VFIOMIG_OPS_F_ANY_THREAD : 0) | VFIOMIG_OPS_F_REPORT_ADDS_BITS;
	ops.device_info = dev_info; ops.device_feature = dev_feature; ops.region_info = dev_region; ops.device_reset = dev_reset;
	if (!d->real_fd) {
		ops.data_read = dev_read; ops.data_write = dev_write; ops.data_close = dev_close;
		if (!d->no_precopy_info) ops.data_precopy_info = dev_precopy;
	}
	VFIOMIG_INIT(&o);
	o.name = d->name;
	if (OK(vfiomig_device_new_ops(&ops, d, &o, &h, E())) < 0) exit(rep_end("no device"));
	return h;
}
static inline int to(struct vfiomig_device *h, uint32_t s) { return vfiomig_device_set_state(h, s, VFIOMIG_ON_FAILURE_KEEP, 0, E()); }
static inline struct vfiomig_device_info info_of(struct vfiomig_device *h)
{
	struct vfiomig_device_info i;
	VFIOMIG_INIT(&i);
	OK(vfiomig_device_get_info(h, &i, E()));
	return i;
}

/* --- trackers, groups, whole migrations --------------------------------------------------------------------------- */
static inline struct vfiomig_tracker *tracker_of(struct vfiomig_device **h, size_t n, uint32_t flags)
{
	struct vfiomig_tracker_options o;
	struct vfiomig_tracker *t = NULL;
	VFIOMIG_INIT(&o);
	o.flags = flags; o.name = "ram"; o.devices = h; o.device_count = n;
	OK(vfiomig_tracker_new(&o, &t, E()));
	return t;
}
static inline struct vfiomig_tracker_info tinfo(struct vfiomig_tracker *t)
{
	struct vfiomig_tracker_info i;
	VFIOMIG_INIT(&i);
	OK(vfiomig_tracker_get_info(t, &i, E()));
	return i;
}
static inline int map1(struct vfiomig_tracker *t, uint64_t iova, uint64_t size)
{
	struct vfiomig_mapping m = {.iova = iova, .size = size, .cookie = 7};
	return vfiomig_tracker_map(t, &m, 1, E());
}
/* Harvest [iova, iova + size) in pages of 4 KiB into a plain bitmap. */
static inline struct vfiomig_harvest_result harvest(struct vfiomig_tracker *t, uint64_t iova, uint64_t size,
	uint64_t *bitmap)
{
	struct vfiomig_dest dest = {.iova = iova, .size = size, .page_size = 4096, .bitmap = bitmap};
	struct vfiomig_harvest_request rq;
	struct vfiomig_harvest_result out;
	VFIOMIG_INIT(&rq); VFIOMIG_INIT(&out);
	rq.dests = &dest; rq.dest_count = 1;
	OK(vfiomig_tracker_harvest(t, &rq, &out, E()));
	return out;
}
static inline bool bit(const uint64_t *b, uint64_t n) { return b[n / 64] >> n % 64 & 1; }
static inline uint64_t *bits_for(uint64_t pages) { return calloc((pages + 63) / 64 + 1, 8); }
static inline uint64_t ones(const uint64_t *b, uint64_t pages)
{
	return (uint64_t)vfiomig_bitmap_count(b, 0, pages);
}

struct rig { /* devices of one VM */
	struct dev *d[8]; struct vfiomig_device *h[8]; size_t n;
	struct vfiomig_group *g; struct vfiomig_tracker *t; struct vfiomig_migration *m;
};
static inline void rig_up(struct rig *r, struct dev **d, size_t n, uint32_t tracker_flags)
{
	memset(r, 0, sizeof *r);
	r->n = n;
	OK(vfiomig_group_new(NULL, &r->g, E()));
	for (size_t i = 0; i < n; i++) {
		r->d[i] = d[i];
		r->h[i] = dev_handle(d[i]);
		OK(vfiomig_group_add_device(r->g, r->h[i], E()));
	}
	r->t = tracker_of(r->h, n, tracker_flags);
	OK(map1(r->t, 0, 64 << 20));
	OK(vfiomig_group_add_tracker(r->g, r->t, E()));
}
static inline void rig_down(struct rig *r)
{
	vfiomig_migration_free(r->m);
	vfiomig_group_free(r->g);
	vfiomig_tracker_free(r->t);
	for (size_t i = 0; i < r->n; i++) vfiomig_device_free(r->h[i]);
}
struct wire { unsigned char *p[8]; size_t n[8], cap[8], at[8]; int fail_after; };
static inline int wire_put(void *o, size_t dev, const void *data, size_t len, uint32_t flags)
{
	struct wire *w = o;
	(void)flags;
	if (w->n[dev] + len > w->cap[dev]) w->p[dev] = realloc(w->p[dev], w->cap[dev] = (w->n[dev] + len) * 2);
	memcpy(w->p[dev] + w->n[dev], data, len);
	w->n[dev] += len;
	return 0;
}
static inline int64_t wire_get(void *o, size_t dev, void *buf, size_t len, uint32_t *flags, uint64_t *total)
{
	struct wire *w = o;
	size_t left = w->n[dev] - w->at[dev];
	(void)flags;
	if (!left) { *total = w->n[dev]; return 0; }
	if (len > left) len = left;
	memcpy(buf, w->p[dev] + w->at[dev], len);
	w->at[dev] += len;
	return (int64_t)len;
}
static inline void wire_clear(struct wire *w)
{
	for (int i = 0; i < 8; i++) w->n[i] = w->at[i] = 0;
}
static inline int group_harvest_all(struct rig *r)
{
	static uint64_t bitmap[(64 << 20) / 4096 / 64];
	struct vfiomig_dest dest = {.iova = 0, .size = 64 << 20, .page_size = 4096, .bitmap = bitmap};
	struct vfiomig_harvest_request rq;
	VFIOMIG_INIT(&rq);
	rq.dests = &dest; rq.dest_count = 1;
	return vfiomig_group_harvest(r->g, &rq, NULL, E());
}
/* The whole of a save; stops before HALTED if `hold`. 0 or the first failure. */
static inline int64_t rig_save(struct rig *r, struct wire *w, bool precopy, bool hold)
{
	int64_t x = 0;
	struct vfiomig_drain_result moved[8];
	if (!r->m) x = vfiomig_migration_new(r->g, VFIOMIG_DIRECTION_SAVE, NULL, &r->m, E());
	if (x < 0) return x;
	for (size_t i = 0; i < r->n; i++)
		if ((x = vfiomig_device_restart_stream(r->h[i], E())) < 0) return x;
	if ((x = vfiomig_migration_advance(r->m, VFIOMIG_PHASE_SAVE_TRACKING, 0, E())) < 0) return x;
	if (precopy) {
		if ((x = vfiomig_migration_advance(r->m, VFIOMIG_PHASE_SAVE_PRE_COPY, 0, E())) < 0) return x;
		for (int i = 0; i < 3; i++)
			if ((x = vfiomig_migration_save_iterate(r->m, DRAIN(.budget_bytes = 64 << 20, .budget_ns = 1000000000,
				.put = wire_put, .opaque = w), moved, r->n, E())) < 0) return x;
	}
	if ((x = vfiomig_migration_advance(r->m, VFIOMIG_PHASE_SAVE_STOP_COPY, 0, E())) < 0) return x;
	if ((x = vfiomig_migration_save_complete(r->m, DRAIN(.put = wire_put, .opaque = w), moved, r->n, E())) < 0) return x;
	if ((x = group_harvest_all(r)) < 0) return x;
	if (hold) return 0;
	return vfiomig_migration_advance(r->m, VFIOMIG_PHASE_SAVE_HALTED, 0, E());
}
static inline int64_t rig_load(struct rig *r, struct wire *w)
{
	int64_t x = 0;
	if (!r->m) x = vfiomig_migration_new(r->g, VFIOMIG_DIRECTION_LOAD, NULL, &r->m, E());
	if (x < 0) return x;
	if ((x = vfiomig_migration_advance(r->m, VFIOMIG_PHASE_LOAD_RESUMING, 0, E())) < 0) return x;
	if ((x = vfiomig_migration_load_complete(r->m, DRAIN(.get = wire_get, .opaque = w), NULL, 0, E())) < 0) return x;
	return vfiomig_migration_advance(r->m, VFIOMIG_PHASE_LOAD_RUNNING, 0, E());
}
static inline unsigned open_fds(void)
{
	unsigned n = 0;
	for (int fd = 0; fd < 1024; fd++) n += fcntl(fd, F_GETFD) >= 0;
	return n;
}
static char rep_log_text[65536];
static inline void rep_logger(void *o, int level, const char *text)
{
	size_t at = strlen(rep_log_text);
	(void)o;
	if (at + strlen(text) + 8 < sizeof rep_log_text) snprintf(rep_log_text + at, sizeof rep_log_text - at, "[%d] %s\n",
		level, text);
}
#endif
