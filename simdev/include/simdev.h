/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * Software devices in every dialect of the VFIO migration protocol, for tests and examples of libvfiomig. Link the
 * static library (cargo rustc -p simdev --features capi --crate-type staticlib) beside libvfiomig.
 *
 * Calls on one device may come from any thread. Functions that return int return 0 (or a number) or -errno.
 */
#ifndef SIMDEV_H
#define SIMDEV_H

#include <stddef.h>
#include <stdint.h>

#include <vfiomig.h>

#ifdef __cplusplus
extern "C" {
#endif

struct simdev;

enum simdev_dialect {
	SIMDEV_V2,
	SIMDEV_V1,
	SIMDEV_V1_NDMA,
	SIMDEV_DRAFT_STICKY,  /* region type 2, cursor in the driver */
	SIMDEV_DRAFT_REWRITE, /* region type 3, cursor in the client */
};

enum simdev_window {
	SIMDEV_TRAPPED,
	SIMDEV_WHOLE, /* whole region mapped, no sparse capability */
	SIMDEV_AREA,  /* one sparse area */
	SIMDEV_GAP,   /* two unsorted sparse areas with a trapped gap */
};

#define SIMDEV_F_P2P              (1u << 0)  /* v2 */
#define SIMDEV_F_PRE_COPY         (1u << 1)  /* v2 */
#define SIMDEV_F_SEEDED           (1u << 2)  /* the state is made from seed; else it is zero */
#define SIMDEV_F_VARY_SEGMENTS    (1u << 3)
#define SIMDEV_F_PRECOPY_BYTES    (1u << 4)  /* precopy_bytes counts; else half of the state */
#define SIMDEV_F_REAL_FD          (1u << 5)  /* v2: the data fd is a real descriptor */
#define SIMDEV_F_ZERO_END         (1u << 6)  /* v2: pre-copy ends with 0, not ENOMSG */
#define SIMDEV_F_NEEDS_INFO       (1u << 7)  /* v2: new data only after pre-copy info */
#define SIMDEV_F_OPT_IN           (1u << 8)  /* v2: feature 12 exists */
#define SIMDEV_F_ACCEPT_TRUNCATED (1u << 9)  /* v2 */
#define SIMDEV_F_KEEP_BAD_LOAD    (1u << 10) /* a bad stream leaves the device in RESUMING, not in ERROR */
#define SIMDEV_F_ABORT_ALLOWED    (1u << 11) /* SAVING may be left with data unread */
#define SIMDEV_F_NO_RESET         (1u << 12)
#define SIMDEV_F_MAP_FAILS        (1u << 13)
#define SIMDEV_F_NO_JUDGE_CONTENT (1u << 14) /* no CRC, no overwritten windows: for benchmarks */
#define SIMDEV_F_NO_REPORT        (1u << 15) /* DMA_LOGGING_REPORT answers EOPNOTSUPP */

/* Zero means the default. */
struct simdev_options {
	uint32_t argsz; /* sizeof(struct simdev_options) */
	uint32_t dialect;
	uint32_t flags;
	uint32_t window;
	uint64_t state_size;   /* 64 KiB */
	uint64_t seed;
	uint64_t segment_size; /* 4 KiB; at least 256 */
	uint64_t skew;         /* data_offset moves by so much */
	uint32_t trapped;      /* largest trapped access; 8: naturally aligned words only; 0: any */
	uint32_t reserved_bits;
	uint64_t precopy_bytes;
	uint64_t max_io;            /* v2: most bytes of one read or write; 0: any */
	uint64_t dma_log_page_size; /* v2: DMA logging with this page size; 0: none */
};

/* A device in RUNNING; NULL if the options make none: simdev_why_not() says why. */
struct simdev *simdev_new(const struct simdev_options *o);
/*
 * A device that behaves as a driver of the kernel or a vfio-user server does, by name: "mlx5", "hisi_acc", "pds",
 * "qat", "virtio", "xe", "mtty", "spdk-v1", "libvfio-user-v1", "libvfio-user-v2"; NULL for any other. seed 0: a state
 * of zeros. A request that would hurt the host of such a driver aborts the program.
 */
struct simdev *simdev_new_peer(const char *name, uint64_t seed);
/*
 * Why the calling thread's last simdev_new() or simdev_new_peer() returned NULL, with the field and its value; "" if it
 * did not. Lives until the thread's next one.
 */
const char *simdev_why_not(void);
/* The VMM has closed the device fd (1), or opened it again (0). A data call while it is closed aborts the program. */
void simdev_close_fd(const struct simdev *d, int closed);
/* 1: its state says that it runs, but a step that failed has left it standing still. */
int simdev_stands_still(const struct simdev *d);
/* Call it when no client uses the table any more. */
void simdev_free(struct simdev *d);

/*
 * The table and the pointer for vfiomig_device_new_ops(). Both are written whole, argsz too: VFIOMIG_INIT is not
 * needed. They are good until simdev_free(). 0, or -EINVAL for NULL.
 */
int simdev_get_ops(const struct simdev *d, struct vfiomig_device_ops *ops, void **opaque);

uint32_t simdev_state(const struct simdev *d); /* VFIOMIG_STATE_* */
uint64_t simdev_checksum(const struct simdev *d);

/* The guest uses the device; -EBUSY, counted, while it rests. */
int simdev_redirty(const struct simdev *d, uint64_t offset, uint64_t len, uint64_t value);
int simdev_dma_write(const struct simdev *d, uint64_t page);
/* The pages (of 4 KiB) written since the last call: how many; the lowest max of them go to pages. */
size_t simdev_take_dma_log(const struct simdev *d, uint64_t *pages, size_t max);

/* What the client did wrong. A text names the rule and lives until simdev_free(); NULL past the end. */
uint64_t simdev_violations(const struct simdev *d);
const char *simdev_violation_text(const struct simdev *d, uint64_t index);
/*
 * A device whose SAVING is left with data unread breaks a rule (F5): somebody has lost a part of its stream. A client
 * that means it says so with 1, before vfiomig_migration_abort(), and before vfiomig_group_resume() of a group that was
 * held in pre-copy; 0 takes it back. As SIMDEV_F_ABORT_ALLOWED, but for an abort at any time.
 */
void simdev_allow_abort(const struct simdev *d, int allowed);

enum simdev_access {
	SIMDEV_ANY,
	SIMDEV_DEVICE_INFO,
	SIMDEV_REGION_INFO,
	SIMDEV_REGION_MAP,
	SIMDEV_RESET,
	SIMDEV_STATE_READ,
	SIMDEV_STATE_WRITE,
	SIMDEV_PENDING_READ,
	SIMDEV_DATA_OFFSET_READ,
	SIMDEV_DATA_SIZE_READ,
	SIMDEV_DATA_SIZE_WRITE,
	SIMDEV_DATA_READ, /* trapped access; v2: the data fd */
	SIMDEV_DATA_WRITE,
	SIMDEV_PFN_WRITE,
	SIMDEV_COPIED_PFNS_READ,
	SIMDEV_GET_MIGRATION,
	SIMDEV_STOP_COPY_SIZE,
	SIMDEV_OPT_IN,
	SIMDEV_PRECOPY_INFO,
	SIMDEV_DMA_LOG_START,
	SIMDEV_DMA_LOG_STOP,
	SIMDEV_DMA_LOG_REPORT,
	SIMDEV_ENTER = 0x100, /* + VFIOMIG_STATE_*: a step into that state */
};

enum simdev_effect {
	SIMDEV_ERRNO,       /* value: positive errno; nothing is done */
	SIMDEV_ERRNO_MOVED, /* value: positive errno; a state change that was done, a data call that has taken bytes */
	SIMDEV_TO_ERROR,    /* value: positive errno */
	SIMDEV_LIE,         /* value: what is answered */
	SIMDEV_NO_FD,
	SIMDEV_UNEXPECTED_FD,
	SIMDEV_SHORT, /* value: most bytes */
	SIMDEV_MOVE_WINDOW,
	SIMDEV_DELAY, /* value: microseconds */
	SIMDEV_RESET_BEHIND, /* v2: a reset takes effect behind a state change that succeeds */
};

/* Met at access nth (from 0, since simdev_new) and the times - 1 that follow. A number for simdev_fault_reached(). */
int simdev_inject(const struct simdev *d, uint32_t access, uint64_t nth, uint64_t times, uint32_t effect,
	uint64_t value);
uint64_t simdev_fault_reached(const struct simdev *d, int fault);
void simdev_clear_faults(const struct simdev *d);
uint64_t simdev_count(const struct simdev *d, uint32_t access);

#ifdef __cplusplus
}
#endif

#endif
