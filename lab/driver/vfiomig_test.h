/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * vfiomig_test: a mediated device that can be migrated, for tests.
 *
 * One device model, an image of bytes that changes and can be moved, behind
 * any of the migration protocols: the region of the 2019 draft and of Linux
 * 5.8 (v1) and the device feature of Linux 5.18 (v2). The driver is a strict
 * judge of the access order and fails on demand.
 *
 * Names such as V1-6, N15 or D5 in comments are rules of these protocols;
 * docs/rules.md of libvfiomig says what they are.
 */
#ifndef VFIOMIG_TEST_H
#define VFIOMIG_TEST_H

#include <linux/mdev.h>
#include <linux/mutex.h>
#include <linux/spinlock.h>
#include <linux/types.h>
#include <linux/uuid.h>
#include <linux/vfio.h>
#include <linux/xarray.h>

#define VMT_NAME "vfiomig_test"

/* Where regions are in the device fd: index << 40, as in most vfio drivers. */
#define VMT_REGION_SHIFT 40
#define VMT_REGION_OFFSET(index) ((u64)(index) << VMT_REGION_SHIFT)
#define VMT_REGION_MASK (VMT_REGION_OFFSET(1) - 1)

#define VMT_MIG_REGION VFIO_PCI_NUM_REGIONS
#define VMT_BAR_SIZE 64
#define VMT_CONFIG_SIZE 256

/* What a window that holds nothing reads as. */
#define VMT_POISON 0xdb

/* All dialects speak of states by the numbers of v2; this one is none of them. */
#define VMT_STATE_ANY VFIO_DEVICE_STATE_NR
#define VMT_STATE_NAMES (VMT_STATE_ANY + 1)
extern const char *const vmt_state_names[VMT_STATE_NAMES];

/* ---- configuration (config.c) ------------------------------------------- */

enum vmt_dialect { VMT_V1, VMT_DRAFT2, VMT_DRAFT3, VMT_V2, VMT_NR_DIALECTS };

enum vmt_window {
	VMT_WINDOW_TRAPPED,
	VMT_WINDOW_WHOLE,	/* FLAG_MMAP, no sparse capability */
	VMT_WINDOW_ONE,		/* one sparse area: all but the registers */
	VMT_WINDOW_TWO,		/* two, the higher first, and a trapped gap */
	VMT_WINDOW_NOMMAP,	/* as ONE, but mmap fails */
	VMT_NR_WINDOWS
};

#define VMT_EACH U32_MAX	/* fail_count: every time */

/* Every field is a u32, for the table in config.c. */
struct vmt_config {
	u32 dialect;
	u32 state;
	u32 segment;
	u32 precopy;
	u32 precopy_share;
	/* v1 and draft */
	u32 window;
	u32 ndma;
	u32 max_access;
	u32 skew;
	u32 reserved;
	u32 bitmap_pfns;
	u32 bitmap_all;
	/* v2 */
	u32 p2p;
	u32 enomsg;
	u32 short_io;
	u32 lax_load;
	u32 dma_log;
	u32 log_page;
	u32 log_ranges;
	/* may be changed at any time */
	u32 delay_ms;
	u32 delay_to;
	u32 data_ms;
	u32 fail_to;
	u32 fail_errno;
	u32 fail_count;
	u32 fail_error;
	u32 stall;
};

extern const struct vmt_config vmt_default_config;

int vmt_config_parse(struct vmt_config *config, char *text, bool only_tunable);
ssize_t vmt_config_show(const struct vmt_config *config, char *buf);

/* Configurations that wait for the mdev of their UUID to be made. */
int vmt_config_keep(const guid_t *uuid, const struct vmt_config *config);
void vmt_config_take(const guid_t *uuid, struct vmt_config *config);
void vmt_config_forget_all(void);

/* ---- judge (judge.c) ------------------------------------------------------ */

enum vmt_violation {
	VMT_OK,
	VMT_WIDTH,		/* register not accessed at its native width (V1-1, D1) */
	VMT_READONLY,		/* write to a read-only register */
	VMT_STATE,		/* invalid state written, or any in ERROR (V1-2) */
	VMT_RESERVED,		/* reserved bits of the state not preserved (V1-1) */
	VMT_NO_PENDING,		/* data_offset read before pending_bytes (V1-6) */
	VMT_SIZE_EARLY,		/* data_size read before data_offset (V1-6) */
	VMT_ACK_UNREAD,		/* segment acknowledged before it was read (V1-6, D5) */
	VMT_DATA_EARLY,		/* window used before data_offset, data_size (V1-6, V1-9) */
	VMT_DATA_RANGE,		/* access outside the segment in the window */
	VMT_DATA_STATE,		/* window used in neither SAVING nor RESUMING */
	VMT_NO_OFFSET,		/* data_size written with no data_offset read (V1-9) */
	VMT_FRAME,		/* what is loaded is not as it was saved (V1-10) */
	VMT_BAR_STOPPED,	/* stopped device's registers touched (N18, V2-8) */
	VMT_LEFT_UNREAD,	/* save ended with data left (N2, F5) */
	VMT_INCOMPLETE,		/* RESUMING left with data missing (N11, F7) */
	VMT_BITMAP_UNREAD,	/* copied_pfns read with the window unread (D5, D13) */
	VMT_BAD_ARC,		/* v2 state requested that cannot be reached (V2-1) */
	VMT_INFO_DIRTY,		/* precopy info not zeroed by the caller (C7) */
	VMT_LOG_RANGE,		/* report of what no started range covers (L7) */
	VMT_NR_VIOLATIONS
};

struct vmt_judge {
	/* For what follows; not the device's, which a transition may hold for long. */
	spinlock_t lock;
	u32 total;
	u32 last;
	u32 count[VMT_NR_VIOLATIONS];
};

/* In fail_next, as in BAR_FAIL: and the device goes into ERROR. */
#define VMT_FAIL_INTO_ERROR BIT(31)

/* ---- transition log (log.c) ------------------------------------------------ */

enum vmt_cause { VMT_BY_SET, VMT_BY_RESET, VMT_BY_CLOSE, VMT_BY_FAULT };

struct vmt_change {
	u32 seq;
	u8 cause;
	u8 from;
	u8 to;
	u8 found;	/* where the device was afterwards */
	int error;
	u64 begin_ns;
	u64 end_ns;
};

#define VMT_LOG_ENTRIES 1024

struct vmt_log {
	spinlock_t lock;	/* as in vmt_judge */
	u32 next;	/* number of the next entry; the ring has the last ones */
	u32 first;	/* the oldest that was not cleared */
	struct vmt_change *ring;
};

/* ---- the device ------------------------------------------------------------ */

/*
 * Header of a segment in the window and of a record on the data fd. Reads
 * through a mapping cannot be seen by the driver; this lets the one that loads
 * tell whether the saver read each segment in time, whole and in order.
 */
struct vmt_segment {
	__le32 magic;
	__le32 seq;
	__le32 len;	/* this header included */
	__le32 crc;	/* of what follows the header */
	__le64 at;	/* place in the image */
};

#define VMT_MAGIC 0x54474d56	/* "VMGT" */

/* The last register that was read in this iteration (V1-6). */
enum vmt_phase { VMT_PHASE_NONE, VMT_PHASE_PENDING, VMT_PHASE_OFFSET, VMT_PHASE_SIZE };

struct vmt_log_range {
	u64 first;
	u64 last;
};

struct vmt_stream;

struct vmt_dev {
	struct vfio_device vdev;
	char name[UUID_STRING_LEN + 1];

	/*
	 * Everything below that has no lock of its own. Taken before the mmap
	 * lock (user memory is copied under it), so mmap must not take it.
	 */
	struct mutex lock;
	struct vmt_config config;
	u32 state;

	/* image.c: the image, in chunks of one segment each */
	u8 *image;
	u32 chunk;			/* bytes in each but the last */
	unsigned long nchunks;
	unsigned long *unsent;		/* chunks to be saved */
	unsigned long *offered;		/* chunks that this session has sent once */
	unsigned long *loaded;		/* chunks that came in this session */
	u32 seq;			/* of the next segment */

	/* The window: a page for the registers, then data. v2 reads from it too. */
	u8 *window;
	u64 window_size;
	u64 data_offset;
	u64 staged;			/* bytes of the segment at data_offset */
	u64 consumed;			/* of these, read by trapped access or on the data fd */
	bool staged_bitmap;		/* it is a dirty bitmap (draft) */
	bool staged_again;		/* its chunk was sent before (v2) */
	s64 owed_ns;			/* data_ms: time for what was moved, not yet slept */

	/* region.c */
	u32 bits;			/* device_state */
	enum vmt_phase phase;
	u64 start_pfn, page_size, total_pfns;
	u64 pfn_cursor;			/* pages reported since these were written */

	/* v2.c: the data fds that are alive; they are compared, not owned */
	struct vmt_stream *saving;
	struct vmt_stream *resuming;

	/* dma.c */
	struct mutex pin_lock;		/* taken by dma_unmap, so not held while waiting */
	struct xarray pins;
	struct mutex log_lock;		/* for the log of v2; inside of lock */
	bool logging;
	struct xarray dirty_pfns;
	struct vmt_log_range *log_range;
	unsigned int log_ranges;

	/* bar.c */
	u8 pci_config[VMT_CONFIG_SIZE];
	u32 word_index;
	u32 dma_pages;
	u32 dma_value;
	s32 dma_result;
	u32 fail_next;		/* errno of the next transition, or 0 */

	struct vmt_judge judge;
	struct vmt_log log;
};

static inline struct vmt_dev *vmt_dev_of(struct vfio_device *vdev)
{
	return container_of(vdev, struct vmt_dev, vdev);
}

static inline bool vmt_is_draft(const struct vmt_dev *d)
{
	return d->config.dialect == VMT_DRAFT2 || d->config.dialect == VMT_DRAFT3;
}

static inline bool vmt_is_v2(const struct vmt_dev *d)
{
	return d->config.dialect == VMT_V2;
}

static inline bool vmt_state_runs(u32 state)
{
	return state == VFIO_DEVICE_STATE_RUNNING || state == VFIO_DEVICE_STATE_RUNNING_P2P ||
	       state == VFIO_DEVICE_STATE_PRE_COPY || state == VFIO_DEVICE_STATE_PRE_COPY_P2P;
}

static inline bool vmt_state_saves(u32 state)
{
	return state == VFIO_DEVICE_STATE_PRE_COPY || state == VFIO_DEVICE_STATE_PRE_COPY_P2P ||
	       state == VFIO_DEVICE_STATE_STOP_COPY;
}

static inline bool vmt_state_is_p2p(u32 state)
{
	return state == VFIO_DEVICE_STATE_RUNNING_P2P || state == VFIO_DEVICE_STATE_PRE_COPY_P2P;
}

/* bar.c */
void vmt_pci_config_init(struct vmt_dev *d);
ssize_t vmt_pci_config_rw(struct vmt_dev *d, char __user *buf, size_t count, u64 offset,
			  bool write);
ssize_t vmt_bar_rw(struct vmt_dev *d, char __user *buf, size_t count, u64 offset, bool write);

/* image.c */
int vmt_image_init(struct vmt_dev *d);
void vmt_image_free(struct vmt_dev *d);
u32 vmt_image_crc(struct vmt_dev *d);
void vmt_image_fill(struct vmt_dev *d, u32 seed);
u32 vmt_image_word(struct vmt_dev *d);
void vmt_image_set_word(struct vmt_dev *d, u32 value);
void vmt_session_begin(struct vmt_dev *d);
u64 vmt_pending_bytes(struct vmt_dev *d);
void vmt_precopy_bytes(struct vmt_dev *d, u64 *initial, u64 *dirty);
bool vmt_stage_segment(struct vmt_dev *d, u64 offset);
void vmt_unstage(struct vmt_dev *d);
int vmt_segment_check(struct vmt_dev *d, const struct vmt_segment *segment);
int vmt_segment_done(struct vmt_dev *d, const struct vmt_segment *segment);
bool vmt_load_is_complete(struct vmt_dev *d);
void vmt_take_time(struct vmt_dev *d, size_t moved);

/* region.c */
void vmt_region_reset(struct vmt_dev *d);
int vmt_region_info_caps(struct vmt_dev *d, struct vfio_info_cap *caps);
ssize_t vmt_region_rw(struct vmt_dev *d, char __user *buf, size_t count, u64 offset, bool write);
int vmt_region_mmap(struct vmt_dev *d, struct vm_area_struct *vma, u64 offset);

/* v2.c */
extern const struct vfio_migration_ops vmt_mig_ops;
u32 vmt_v2_flags(const struct vmt_dev *d);
void vmt_v2_drop_streams(struct vmt_dev *d);

/* dma.c */
extern const struct vfio_log_ops vmt_log_ops;
void vmt_dma_init(struct vmt_dev *d);
void vmt_dma_free(struct vmt_dev *d);
int vmt_dma_write(struct vmt_dev *d, u32 pfn);
int vmt_dma_pin(struct vmt_dev *d, u32 pfn);
int vmt_dma_unpin(struct vmt_dev *d, u32 pfn);
void vmt_dma_unmapped(struct vfio_device *vdev, u64 iova, u64 length);
void vmt_dma_close(struct vmt_dev *d);
void vmt_dma_log_clear(struct vmt_dev *d);
u64 vmt_dma_next_dirty(struct vmt_dev *d, u64 first, u64 last);
void vmt_dma_clean(struct vmt_dev *d, u64 pfn);

/* judge.c */
void vmt_judge_init(struct vmt_judge *j);
void vmt_judge(struct vmt_dev *d, enum vmt_violation code);
void vmt_judge_clear(struct vmt_judge *j);
ssize_t vmt_judge_show(struct vmt_judge *j, char *buf);

/* log.c */
int vmt_log_init(struct vmt_log *log);
void vmt_log_free(struct vmt_log *log);
void vmt_log_clear(struct vmt_log *log);
ssize_t vmt_log_read(struct vmt_log *log, char *buf, loff_t offset, size_t count);
int vmt_change_begin(struct vmt_dev *d, struct vmt_change *change, u32 to);
void vmt_change_end(struct vmt_dev *d, struct vmt_change *change, int error);
void vmt_change_forced(struct vmt_dev *d, u32 from, enum vmt_cause cause);

/* sysfs.c */
extern const struct attribute_group *vmt_dev_groups[];
extern const struct attribute_group *vmt_parent_groups[];

#endif
