/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A strict v2 device behind struct vfiomig_device_ops. It walks the arcs of the kernel by itself (V2-12),
 * judges every request (what must never reach a device is a violation), fails on demand, and counts everything.
 *
 * Constants are copied from the uAPI: the kernel headers of the build machine may be older than PRE_COPY.
 */
#ifndef FAKE_H
#define FAKE_H

#include "fake-log.h"
#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/stat.h>

enum { S_ERROR, S_STOP, S_RUNNING, S_STOP_COPY, S_RESUMING, S_RUNNING_P2P, S_PRE_COPY, S_PRE_COPY_P2P, S_COUNT };

/* Migration flags. */
#define MIG_STOP_COPY 1u
#define MIG_P2P 2u
#define MIG_PRE_COPY 4u
#define MIG_ALL (MIG_STOP_COPY | MIG_P2P | MIG_PRE_COPY)

#define FEATURE_MIGRATION 1u
#define FEATURE_MIG_DEVICE_STATE 2u
#define FEATURE_DMA_LOG_START 6u
#define FEATURE_DMA_LOG_STOP 7u
#define FEATURE_DMA_LOG_REPORT 8u
#define FEATURE_MIG_DATA_SIZE 9u
#define FEATURE_PRECOPY_INFO_V2 12u
#define FEATURE_GET (1u << 16)
#define FEATURE_SET (1u << 17)
#define FEATURE_PROBE (1u << 18)

struct fake_feature {
	uint32_t argsz, flags;
	union {
		uint64_t value;
		struct {
			uint32_t state;
			int32_t data_fd;
		} mig;
		struct {
			uint64_t page_size;
			uint32_t count, reserved;
			uint64_t ranges;
		} start;
		struct {
			uint64_t iova, length, page_size, bitmap;
		} report;
	} u;
};

struct fake_precopy {
	uint32_t argsz, flags;
	uint64_t initial_bytes, dirty_bytes;
};

/* What the device is asked; the kinds that are counted. */
enum fake_call {
	C_DEVICE_INFO, C_FLAGS, C_OPTIN, C_GET, C_SET, C_SIZE, C_REGION, C_RESET, C_READ, C_WRITE, C_PRECOPY, C_CLOSE,
	C_COUNT, C_ANY = C_COUNT
};

/* What happens to the device when a request fails. */
enum fake_effect {
	E_STAY,  /* nothing */
	E_STEP,  /* it went one arc of the path (V2-3) */
	E_MOVE,  /* it went all the way, the descriptor is lost (V2-5, EMFILE) */
	E_BREAK, /* it is in ERROR */
};

struct fake_fault {
	enum fake_call call; /* C_ANY: every call */
	unsigned at;         /* fails the at-th of these calls from now on; 0: no fault */
	int error;
	enum fake_effect effect;
	bool sticky;         /* and all later ones */
	unsigned more;       /* and so many of the next ones */
	unsigned seen, done;
};

struct fake {
	/* What it is; set before fake_device(). */
	unsigned flags;          /* MIG_* */
	bool absent;             /* no migration feature */
	bool other_region;       /* has a region of its own, which is no migration region */
	bool real_fd;            /* a descriptor instead of data functions */
	bool no_reset, no_precopy_info, no_size, optin;
	uint64_t size;           /* MIG_DATA_SIZE */
	size_t pre, more, stop;  /* bytes offered at once in pre-copy, after pre-copy info, in stop-copy */
	size_t step;             /* how much of `more` at a time; 0: all */
	int pre_end;             /* how pre-copy says "nothing now": 0 or ENOMSG (F3) */
	size_t max_io;           /* short reads and writes; 0: none */
	size_t expect;           /* RESUMING is left only with so many right bytes; 0: any (F7) */
	unsigned reset_again;    /* resets that answer EAGAIN first */
	uint32_t reset_to;       /* state after a reset; 0: RUNNING */
	unsigned reinit_at;      /* the pre-copy info call that says REINIT */
	bool missing_fd;         /* a session begins, but -1 comes back */
	bool extra_fd;           /* a descriptor comes back although no session begins */
	bool gives_other;        /* other_fd comes back, whatever is due */
	int other_fd;
	bool same_fd;            /* the session's own descriptor comes back instead of -1 */
	uint32_t options;        /* VFIOMIG_DEVICE_F_* of the handle */
	struct fake_log *log;    /* its DMA log (features 6 to 8); NULL: it has none */
	struct fake_fault fault[2];
	void (*hook)(struct fake *f, enum fake_call call); /* runs in every call, before it is answered */
	void *user;

	/* What became of it. */
	atomic_uint state;
	size_t pos, avail, in_len, in_size;
	unsigned char *in;       /* what was loaded */
	int fd, peer;            /* the descriptor that was handed out, and its twin */
	ino_t inode;
	unsigned precopy_asked;
	atomic_uint calls, count[C_COUNT];
	atomic_uint opened, closed; /* data sessions handed out, and closed */
	uint32_t last_from, last_to;
	atomic_uint violations;
	atomic_bool busy;
	bool freed;
};

static inline void fake_violation(struct fake *f, const char *format, ...)
{
	va_list list;

	va_start(list, format);
	printf("violation: ");
	vprintf(format, list);
	putchar('\n');
	va_end(list);
	atomic_fetch_add(&f->violations, 1);
}

/* Byte i of every stream. */
static inline unsigned char fake_byte(size_t i)
{
	return (unsigned char)((i * 2654435761u) >> 11);
}

static inline size_t fake_total(const struct fake *f)
{
	return f->pre + f->more + f->stop;
}

static inline bool fake_right(const unsigned char *bytes, size_t from, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (bytes[i] != fake_byte(from + i))
			return false;
	return true;
}

static inline bool fake_saving(uint32_t state)
{
	return state == S_STOP_COPY || state == S_PRE_COPY || state == S_PRE_COPY_P2P;
}

static inline bool fake_has(unsigned flags, uint32_t state)
{
	if (state == S_PRE_COPY_P2P)
		return (flags & MIG_ALL) == MIG_ALL;
	return state < S_COUNT && !(state == S_RUNNING_P2P && !(flags & MIG_P2P)) &&
	       !(state == S_PRE_COPY && !(flags & MIG_PRE_COPY));
}

/*
 * The next arc with flags=7, as the kernel's table has it; 0 is blocked. Columns as rows, in the order of the numbers.
 */
static inline uint32_t fake_arc(unsigned flags, uint32_t from, uint32_t to)
{
	static const unsigned char next[S_COUNT][S_COUNT] = {
		/*              E  S  R  SC RS RP PC PP */
		/* ERROR    */ {0, 0, 0, 0, 0, 0, 0, 0},
		/* STOP     */ {0, 1, 5, 3, 4, 5, 5, 5},
		/* RUNNING  */ {0, 5, 2, 5, 5, 5, 6, 5},
		/* STOP_COPY*/ {0, 1, 1, 3, 1, 1, 0, 0},
		/* RESUMING */ {0, 1, 1, 1, 4, 1, 1, 1},
		/* RUN_P2P  */ {0, 1, 2, 1, 1, 5, 2, 7},
		/* PRE_COPY */ {0, 2, 2, 7, 2, 2, 6, 7},
		/* PRE_P2P  */ {0, 5, 5, 3, 5, 5, 6, 7},
	};
	uint32_t at = next[from][to];

	/* A state that the device lacks is left out of the path. */
	while (at && !fake_has(flags, at))
		at = next[at][to];
	return at;
}

/* The session's descriptor is a file: it is read and written like a stream, and both ends can look at it. */
static inline void fake_fill(struct fake *f, size_t end)
{
	struct stat st;
	unsigned char block[4096];

	if (fstat(f->peer, &st))
		abort();
	for (size_t at = (size_t)st.st_size; at < end;) {
		size_t n = end - at < sizeof block ? end - at : sizeof block;

		for (size_t i = 0; i < n; i++)
			block[i] = fake_byte(at + i);
		if (pwrite(f->peer, block, n, (off_t)at) != (ssize_t)n)
			abort();
		at += n;
	}
}

static inline int fake_memfd(void)
{
	/* Without CLOEXEC: a VMM's function may have forgotten it, the library must not. */
	int fd = memfd_create("fake", 0);

	if (fd < 0)
		abort();
	return fd;
}

static inline void fake_load_fd(struct fake *f)
{
	struct stat st;

	if (fstat(f->peer, &st))
		abort();
	free(f->in);
	f->in_len = (size_t)st.st_size;
	f->in = malloc(f->in_len + 1);
	if (pread(f->peer, f->in, f->in_len, 0) != (ssize_t)f->in_len)
		abort();
	f->in_size = f->in_len + 1;
}

/* Whether the number that was handed out last is still that descriptor. */
static inline bool fake_fd_open(const struct fake *f)
{
	struct stat st;

	return f->fd >= 0 && !fstat(f->fd, &st) && st.st_ino == f->inode;
}

static inline void fake_session_over(struct fake *f)
{
	if (f->peer >= 0)
		close(f->peer);
	f->peer = -1;
}

static inline void fake_session_begins(struct fake *f, uint32_t state)
{
	f->pos = 0;
	f->precopy_asked = 0;
	f->avail = f->pre;
	if (state == S_RESUMING)
		f->in_len = 0;
	if (!f->real_fd)
		return;
	f->fd = fake_memfd();
	f->peer = fcntl(f->fd, F_DUPFD_CLOEXEC, 0);
	struct stat st;
	if (f->peer < 0 || fstat(f->peer, &st))
		abort();
	f->inode = st.st_ino;
}

/* One driver-visible arc. */
static inline int fake_go(struct fake *f, uint32_t to, bool *began)
{
	uint32_t from = atomic_load(&f->state);

	if (from == S_RESUMING && f->real_fd)
		fake_load_fd(f);
	if (from == S_RESUMING && f->expect && (f->in_len != f->expect || !fake_right(f->in, 0, f->in_len)))
		return -EINVAL;
	bool stays = fake_saving(from) && fake_saving(to);
	if (!stays && (fake_saving(from) || from == S_RESUMING))
		fake_session_over(f);
	if (!stays && (fake_saving(to) || to == S_RESUMING)) {
		fake_session_begins(f, to);
		*began = true;
	}
	if (f->real_fd && fake_saving(to))
		fake_fill(f, to == S_STOP_COPY ? fake_total(f) : f->pre);
	atomic_store(&f->state, to);
	return 0;
}

static inline int fake_set(struct fake *f, struct fake_feature *x, const struct fake_fault *fault)
{
	uint32_t from = atomic_load(&f->state), to = x->u.mig.state, steps = S_COUNT;
	bool began = false;
	int result = 0;

	f->last_from = from;
	f->last_to = to;
	if (x->u.mig.data_fd != -1)
		fake_violation(f, "V2-5: data_fd was preset to %d", x->u.mig.data_fd);
	if (from == to)
		fake_violation(f, "a request for %u, where the device is", to);
	if (!to || !fake_has(f->flags, to) || !fake_arc(f->flags, from, to)) {
		fake_violation(f, "V2-1: %u -> %u reached the device", from, to);
		return -EINVAL;
	}
	if (fault && fault->effect == E_STAY)
		return -fault->error;
	if (fault && fault->effect == E_BREAK) {
		fake_session_over(f);
		atomic_store(&f->state, S_ERROR);
		return -fault->error;
	}
	if (fault && fault->effect == E_STEP)
		steps = 1;
	while (atomic_load(&f->state) != to && steps--) {
		result = fake_go(f, fake_arc(f->flags, atomic_load(&f->state), to), &began);
		if (result)
			return result;
	}
	if (fault || (began && f->missing_fd)) {
		if (began && f->real_fd)
			close(f->fd);
		f->fd = -1;
		return fault ? -fault->error : 0;
	}
	if (began)
		atomic_fetch_add(&f->opened, 1);
	if (f->gives_other)
		x->u.mig.data_fd = f->other_fd;
	else if (began && f->real_fd)
		x->u.mig.data_fd = f->fd;
	else if (f->extra_fd) /* of no kind of file, as a driver's */
		x->u.mig.data_fd = f->fd = eventfd(0, 0);
	else if (f->same_fd)
		x->u.mig.data_fd = f->fd;
	return 0;
}

static inline const struct fake_fault *fake_enter(struct fake *f, enum fake_call call)
{
	const struct fake_fault *hit = NULL;

	if (atomic_exchange(&f->busy, true))
		fake_violation(f, "two calls at once (kind %d)", call);
	if (f->freed)
		fake_violation(f, "a call after _free (kind %d)", call);
	atomic_fetch_add(&f->calls, 1);
	atomic_fetch_add(&f->count[call], 1);
	if (f->hook)
		f->hook(f, call);
	for (size_t i = 0; i < sizeof f->fault / sizeof *f->fault; i++) {
		struct fake_fault *fault = &f->fault[i];

		if (!fault->at || (fault->call != C_ANY && fault->call != call))
			continue;
		fault->seen++;
		if (fault->seen >= fault->at && (fault->sticky || fault->seen - fault->at <= fault->more)) {
			fault->done++;
			hit = fault;
		}
	}
	return hit;
}

static inline int fake_leave(struct fake *f, int result)
{
	atomic_store(&f->busy, false);
	return result;
}

static inline int fake_answer(struct fake *f, struct fake_feature *x, uint32_t argsz, enum fake_call call,
			      const struct fake_fault *fault)
{
	if (x->argsz != argsz || argsz < (call == C_OPTIN ? 8u : 16u))
		fake_violation(f, "argsz %u in the struct, %u beside it", x->argsz, argsz);
	if (call == C_SET && !f->absent)
		return fake_set(f, x, fault);
	if (fault)
		return -fault->error;
	if (f->absent)
		return -ENOTTY;
	switch (call) {
	case C_FLAGS:
		x->u.value = f->flags;
		return 0;
	case C_GET:
		x->u.mig.state = atomic_load(&f->state);
		x->u.mig.data_fd = -1;
		return 0;
	case C_SIZE:
		x->u.value = f->size;
		return f->no_size ? -ENOTTY : 0;
	case C_OPTIN:
		return !(f->flags & MIG_PRE_COPY) ? -EINVAL : f->optin ? 0 : -ENOTTY;
	default:
		fake_violation(f, "a feature nobody knows: flags %#x", x->flags);
		return -ENOTTY;
	}
}

/* The DMA log judges its requests itself; the device takes one call at a time, be it for its log or its data. */
static inline int fake_log_answer(struct fake *f, struct fake_feature *x)
{
	if (!f->log)
		return -ENOTTY;
	switch (x->flags) {
	case FEATURE_DMA_LOG_START | FEATURE_SET | FEATURE_PROBE: return 0;
	case FEATURE_DMA_LOG_START | FEATURE_SET:
		return fake_log_start(f->log, (const struct vfiomig_range *)(uintptr_t)x->u.start.ranges,
				      x->u.start.count, &x->u.start.page_size);
	case FEATURE_DMA_LOG_REPORT | FEATURE_GET:
		return fake_log_report(f->log, x->u.report.iova, x->u.report.length, x->u.report.page_size,
				       (uint64_t *)(uintptr_t)x->u.report.bitmap);
	case FEATURE_DMA_LOG_STOP | FEATURE_SET: return fake_log_stop(f->log);
	default: fake_violation(f, "a request that no log knows: flags %#x", x->flags); return -EINVAL;
	}
}

static inline int fake_log_feature(struct fake *f, struct fake_feature *x, uint32_t argsz)
{
	const uint32_t size = x->flags == (FEATURE_DMA_LOG_START | FEATURE_SET) ? 32 :
			      x->flags == (FEATURE_DMA_LOG_REPORT | FEATURE_GET) ? 40 : 8;

	if (atomic_exchange(&f->busy, true))
		fake_violation(f, "two calls at once, one to the log: flags %#x", x->flags);
	if (f->freed)
		fake_violation(f, "a request to the log after _free: flags %#x", x->flags);
	if (x->argsz != argsz || argsz != size)
		fake_violation(f, "argsz %u in the struct, %u beside it: flags %#x", x->argsz, argsz, x->flags);
	int result = fake_log_answer(f, x);
	atomic_store(&f->busy, false);
	return result;
}

static inline int fake_device_feature(void *opaque, void *feature, uint32_t argsz)
{
	struct fake *f = opaque;
	struct fake_feature *x = feature;
	enum fake_call call = C_COUNT;
	const uint32_t number = x->flags & 0xffff;

	if (number >= FEATURE_DMA_LOG_START && number <= FEATURE_DMA_LOG_REPORT)
		return fake_log_feature(f, x, argsz);
	switch (x->flags) {
	case FEATURE_MIGRATION | FEATURE_GET: call = C_FLAGS; break;
	case FEATURE_MIG_DEVICE_STATE | FEATURE_GET: call = C_GET; break;
	case FEATURE_MIG_DEVICE_STATE | FEATURE_SET: call = C_SET; break;
	case FEATURE_MIG_DATA_SIZE | FEATURE_GET: call = C_SIZE; break;
	case FEATURE_PRECOPY_INFO_V2 | FEATURE_SET: call = C_OPTIN; break;
	default: fake_violation(f, "a feature nobody knows: flags %#x", x->flags); return -ENOTTY;
	}
	const struct fake_fault *fault = fake_enter(f, call);
	return fake_leave(f, fake_answer(f, x, argsz, call, fault));
}

static inline int fake_device_info(void *opaque, void *info, uint32_t argsz)
{
	struct fake *f = opaque;
	uint32_t *x = info; /* argsz, flags, num_regions, num_irqs, cap_offset */
	const struct fake_fault *fault = fake_enter(f, C_DEVICE_INFO);

	if (argsz < 16 || x[0] != argsz)
		fake_violation(f, "device_info: argsz %u, %u", x[0], argsz);
	if (fault)
		return fake_leave(f, -fault->error);
	x[1] = f->no_reset ? 0 : 1;
	x[2] = f->other_region ? 1 : 0;
	return fake_leave(f, 0);
}

static inline int fake_region_info(void *opaque, void *info, uint32_t argsz)
{
	struct fake *f = opaque;
	uint32_t *x = info; /* argsz, flags, index, cap_offset, size, offset; then {id, version, next, type, subtype} */
	const uint16_t cap[2] = {2, 1};
	const struct fake_fault *fault = fake_enter(f, C_REGION);

	if (argsz < 32 || x[0] != argsz)
		fake_violation(f, "region_info: argsz %u, %u", x[0], argsz);
	if (fault || x[2])
		return fake_leave(f, fault ? -fault->error : -EINVAL);
	x[0] = 48;
	x[1] = 1u << 3;
	if (argsz >= 48) {
		x[3] = 32;
		memcpy(&x[8], cap, sizeof cap);
		x[10] = 3;
		x[11] = 2; /* 1 would be the migration region */
	}
	return fake_leave(f, 0);
}

static inline int fake_reset(void *opaque)
{
	struct fake *f = opaque;
	const struct fake_fault *fault = fake_enter(f, C_RESET);

	if (fault)
		return fake_leave(f, -fault->error);
	if (f->no_reset)
		return fake_leave(f, -EINVAL);
	if (f->reset_again) {
		f->reset_again--;
		return fake_leave(f, -EAGAIN);
	}
	fake_session_over(f);
	atomic_store(&f->state, f->reset_to ? f->reset_to : (uint32_t)S_RUNNING);
	return fake_leave(f, 0);
}

/* The device leaves for ERROR in the middle of a data call, or only says so. */
static inline int fake_data_fault(struct fake *f, const struct fake_fault *fault)
{
	if (fault->effect == E_BREAK) {
		fake_session_over(f);
		atomic_store(&f->state, S_ERROR);
	}
	return -fault->error;
}

static inline int64_t fake_data_read(void *opaque, void *buf, size_t len)
{
	struct fake *f = opaque;
	const struct fake_fault *fault = fake_enter(f, C_READ);
	uint32_t state = atomic_load(&f->state);
	size_t end = state == S_STOP_COPY ? fake_total(f) : f->avail;
	size_t n = len;

	if (fault)
		return fake_leave(f, fake_data_fault(f, fault));
	/*
	 * A device that others moved answers ENODEV; the library cannot know (F5). The test looks at the state, not
	 * here.
	 */
	if (!fake_saving(state))
		return fake_leave(f, -ENODEV);
	if (!len)
		fake_violation(f, "a read of no bytes");
	if (n > end - f->pos)
		n = end - f->pos;
	if (f->max_io && n > f->max_io)
		n = f->max_io;
	for (size_t i = 0; i < n; i++)
		((unsigned char *)buf)[i] = fake_byte(f->pos + i);
	f->pos += n;
	fake_leave(f, 0);
	return n || state == S_STOP_COPY ? (int64_t)n : -f->pre_end;
}

static inline int64_t fake_data_write(void *opaque, const void *buf, size_t len)
{
	struct fake *f = opaque;
	const struct fake_fault *fault = fake_enter(f, C_WRITE);
	size_t n = f->max_io && len > f->max_io ? f->max_io : len;

	if (fault)
		return fake_leave(f, fake_data_fault(f, fault));
	if (atomic_load(&f->state) != S_RESUMING)
		return fake_leave(f, -ENODEV);
	if (!len)
		fake_violation(f, "a write of no bytes");
	if (f->in_len + n > f->in_size) {
		f->in_size = (f->in_len + n) * 2;
		f->in = realloc(f->in, f->in_size);
		if (!f->in)
			abort();
	}
	memcpy(f->in + f->in_len, buf, n);
	f->in_len += n;
	fake_leave(f, 0);
	return (int64_t)n;
}

static inline int fake_data_precopy_info(void *opaque, void *info, uint32_t argsz)
{
	struct fake *f = opaque;
	struct fake_precopy *x = info;
	const struct fake_fault *fault = fake_enter(f, C_PRECOPY);
	uint32_t state = atomic_load(&f->state);

	if (argsz < sizeof *x || x->argsz != argsz)
		fake_violation(f, "C2: pre-copy info: argsz %u, %u", x->argsz, argsz);
	if (x->flags || x->initial_bytes || x->dirty_bytes)
		fake_violation(f, "C7: pre-copy info was not zeroed");
	if (fault)
		return fake_leave(f, fake_data_fault(f, fault));
	if (state != S_PRE_COPY && state != S_PRE_COPY_P2P)
		return fake_leave(f, -EINVAL);
	/* F4: the question makes the next data. */
	if (f->pos == f->avail && f->avail < f->pre + f->more)
		f->avail += f->step && f->step < f->pre + f->more - f->avail ? f->step : f->pre + f->more - f->avail;
	x->initial_bytes = f->pos < f->pre ? f->pre - f->pos : 0;
	x->dirty_bytes = f->avail - (f->pos < f->pre ? f->pre : f->pos);
	if (++f->precopy_asked == f->reinit_at)
		x->flags = f->optin ? 1 : 0;
	return fake_leave(f, 0);
}

static inline void fake_data_close(void *opaque)
{
	struct fake *f = opaque;

	fake_enter(f, C_CLOSE);
	if (atomic_fetch_add(&f->closed, 1) >= atomic_load(&f->opened))
		fake_violation(f, "a session was closed that is not open");
	fake_leave(f, 0);
}

/* A device with everything, RUNNING, with a few bytes of state. */
static inline void fake_init(struct fake *f)
{
	memset(f, 0, sizeof *f);
	f->flags = MIG_ALL;
	f->state = S_RUNNING;
	f->pre = 10000;
	f->more = 0;
	f->stop = 5000;
	f->size = 5000;
	f->fd = f->peer = -1;
}

static inline void fake_ops(const struct fake *f, struct vfiomig_device_ops *ops)
{
	VFIOMIG_INIT(ops);
	ops->device_info = fake_device_info;
	ops->device_feature = fake_device_feature;
	ops->region_info = fake_region_info;
	ops->device_reset = fake_reset;
	if (f->real_fd)
		return;
	ops->data_read = fake_data_read;
	ops->data_write = fake_data_write;
	ops->data_close = fake_data_close;
	if (!f->no_precopy_info)
		ops->data_precopy_info = fake_data_precopy_info;
}

/* A handle named "fake" with a buffer of `buffer` bytes (0: default). */
static inline struct vfiomig_device *fake_device_sized(struct fake *f, uint64_t buffer)
{
	struct vfiomig_device_ops ops;
	struct vfiomig_device_options options;
	struct vfiomig_device *d = NULL;

	fake_ops(f, &ops);
	VFIOMIG_INIT(&options);
	options.name = "fake";
	options.buffer_size = buffer;
	options.flags = f->options;
	OK(vfiomig_device_new_ops(&ops, f, &options, &d, ERRP));
	if (!d) {
		printf("no device to test with\n");
		exit(1);
	}
	/* They were copied: the library must not look at them any more. */
	memset(&ops, 0x5a, sizeof ops);
	memset(&options, 0x5a, sizeof options);
	return d;
}

static inline struct vfiomig_device *fake_device(struct fake *f)
{
	return fake_device_sized(f, 65536);
}

static inline int fake_to(struct vfiomig_device *d, uint32_t state)
{
	return vfiomig_device_set_state(d, state, VFIOMIG_ON_FAILURE_KEEP, 0, ERRP);
}

/* Brings a handle and its device to a state, through a session if the state has one. */
static inline void fake_bring(struct fake *f, struct vfiomig_device *d, uint32_t state)
{
	if (state != S_ERROR) {
		OK(fake_to(d, state));
		return;
	}
	f->fault[1] = (struct fake_fault){.call = C_SET, .at = 1, .error = EIO, .effect = E_BREAK};
	FAILS(fake_to(d, S_STOP), EIO, VFIOMIG_ERR_DEVICE);
	f->fault[1].at = 0;
	CHECK_EQ(vfiomig_device_get_state(d), S_ERROR);
}

/* Frees the handle, and judges: nothing forbidden was asked, every session was closed once, no call is left. */
#define FAKE_END(f, d) fake_end((f), (d), __FILE__, __LINE__)

static inline void fake_end(struct fake *f, struct vfiomig_device *d, const char *file, int line)
{
	vfiomig_device_free(d);
	f->freed = true;
	if (!f->real_fd)
		t_eq(atomic_load(&f->closed), atomic_load(&f->opened), "sessions closed == opened", file, line);
	else
		t_eq(fake_fd_open(f), 0, "the data fd is closed", file, line);
	t_eq(atomic_load(&f->violations), 0, "no violations", file, line);
	fake_session_over(f);
	free(f->in);
	f->in = NULL;
}

/* Open descriptors of the process; its own look at the directory counts itself, every time alike. */
static inline int fake_open_fds(void)
{
	int n = 0;

	for (int fd = 0; fd < 1024; fd++)
		n += fcntl(fd, F_GETFD) >= 0;
	return n;
}

#endif
