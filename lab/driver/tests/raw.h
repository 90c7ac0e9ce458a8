/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * For the tests of the test driver: devices opened and driven with nothing but
 * the kernel's interfaces, so that they hold whatever a library does.
 *
 * A helper that fails ends the program with status 1 and says where.
 */
#ifndef RAW_H
#define RAW_H

#include <errno.h>
#include <linux/vfio.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* ---- checks ----------------------------------------------------------------- */

/* What the program does now; printed when a check fails. */
void step(const char *format, ...) __attribute__((format(printf, 1, 2)));
_Noreturn void fail(const char *file, int line, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
void check_eq(const char *file, int line, const char *what, long long got, long long want);

#define CHECK(condition) \
	((condition) ? (void)0 : fail(__FILE__, __LINE__, "%s (errno %d)", #condition, errno))
#define EQ(got, want) \
	check_eq(__FILE__, __LINE__, #got, (long long)(got), (long long)(want))

/* ---- what the build machine's headers may lack -------------------------------- */

enum {
	ERROR, STOP, RUNNING, STOP_COPY, RESUMING, RUNNING_P2P, PRE_COPY, PRE_COPY_P2P
};

#define FEATURE_MIGRATION 1
#define FEATURE_STATE 2
#define FEATURE_LOG_START 6
#define FEATURE_LOG_STOP 7
#define FEATURE_LOG_REPORT 8
#define FEATURE_DATA_SIZE 9

struct precopy_info {
	uint32_t argsz;
	uint32_t flags;
	uint64_t initial_bytes;
	uint64_t dirty_bytes;
};
#define GET_PRECOPY_INFO _IO(VFIO_TYPE, VFIO_BASE + 21)

/* The numbers of ../judge.c. */
enum {
	V_WIDTH = 1, V_READONLY, V_STATE, V_RESERVED, V_NO_PENDING, V_SIZE_EARLY, V_ACK_UNREAD,
	V_DATA_EARLY, V_DATA_RANGE, V_DATA_STATE, V_NO_OFFSET, V_FRAME, V_BAR_STOPPED,
	V_LEFT_UNREAD, V_INCOMPLETE, V_BITMAP_UNREAD, V_BAD_ARC, V_INFO_DIRTY, V_LOG_RANGE
};

/* Registers in BAR 0. */
enum {
	BAR_INDEX = 0x00, BAR_WORD = 0x04, BAR_CRC = 0x08, BAR_FILL = 0x0c,
	BAR_VIOLATIONS = 0x10, BAR_VIOLATION = 0x14, BAR_FAIL = 0x18, BAR_DMA = 0x1c,
	BAR_RESULT = 0x20, BAR_DMA_PAGES = 0x24, BAR_DMA_VALUE = 0x28, BAR_PIN = 0x2c,
	BAR_UNPIN = 0x30, BAR_STATE = 0x34, BAR_CRC_NOW = 0x38
};

/* ---- devices ------------------------------------------------------------------- */

struct area {
	uint64_t offset;
	uint64_t size;
	unsigned char *map;
};

struct dev {
	int number;
	int fd;
	int container; /* with groups; else -1 */
	int group;
	int iommufd; /* with cdevs; else -1 */
	uint32_t ioas;

	/* the migration region, if there is one */
	uint64_t region;
	uint64_t size;
	uint32_t type;
	bool ndma;
	int areas;
	struct area area[2];
};

/* Reads the first argument, `group` or `cdev`. The first call of main. */
void begin(int argc, char **argv);
bool is_cdev(void);
bool has_iommufd(void);

void make_mdev(int number, const char *config);
void remove_mdev(int number);
bool mdev_is_there(int number);
/* Attributes of a mdev in sysfs; 0 or -errno. */
int get_attribute(int number, const char *name, char *text, size_t size);
int set_attribute(int number, const char *name, const char *text);

void open_dev(struct dev *dev, int number);
void close_dev(struct dev *dev);
/* make, open; close, remove */
void start(struct dev *dev, int number, const char *config);
void finish(struct dev *dev);

uint32_t bar(const struct dev *dev, unsigned int offset);
void set_bar(const struct dev *dev, unsigned int offset, uint32_t value);
int reset(const struct dev *dev);

/* What was judged since the last look: exactly one of a kind, or nothing. */
#define VIOLATED(dev, code) violated(__FILE__, __LINE__, dev, code)
#define CLEAN(dev) violated(__FILE__, __LINE__, dev, 0)
void violated(const char *file, int line, const struct dev *dev, uint32_t code);

/* ---- memory ---------------------------------------------------------------------- */

unsigned char *map_dma(struct dev *dev, uint64_t iova, uint64_t size);

/* ---- v2 --------------------------------------------------------------------------- */

/* DEVICE_FEATURE with this payload, which is changed; 0 or -errno. */
int feature(const struct dev *dev, uint32_t flags, void *payload, size_t size);
uint32_t v2_state(const struct dev *dev);
/* 0 or -errno; *fd is what came, or -1. NULL: none may come. */
int v2_set(const struct dev *dev, uint32_t state, int *fd);
int log_start(const struct dev *dev, uint64_t *page_size, const uint64_t (*ranges)[2], int count);
int log_stop(const struct dev *dev);
int log_report(const struct dev *dev, uint64_t iova, uint64_t length, uint64_t page_size,
	       uint64_t *bitmap);

/* ---- the region ------------------------------------------------------------------- */

#define BIT_RUNNING 1u
#define BIT_SAVING 2u
#define BIT_RESUMING 4u
#define BIT_NDMA 8u
#define BITS_ERROR 6u

enum { R_STATE = 0, R_PENDING = 8, R_OFFSET = 16, R_SIZE = 24, R_START_PFN = 32,
       R_PAGE_SIZE = 40, R_TOTAL_PFNS = 48, R_COPIED = 56 };

uint64_t reg(const struct dev *dev, unsigned int offset);
int set_reg(const struct dev *dev, unsigned int offset, uint64_t value);
/* Read-modify-write of device_state; 0 or -errno. */
int change_state(const struct dev *dev, uint32_t clear, uint32_t set);
/* Maps all areas; false if the kernel refuses. */
bool map_areas(struct dev *dev);
/* The largest trapped access of copy_window. */
extern size_t trapped_step;
void read_window(const struct dev *dev, void *buf, uint64_t offset, uint64_t size);
void write_window(const struct dev *dev, const void *buf, uint64_t offset, uint64_t size);
/* Whole segments from one to the other until pending is 0, or `most` of them. */
int move_segments(const struct dev *from, const struct dev *to, int most);

#endif
