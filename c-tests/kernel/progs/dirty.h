/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * For programs about dirty pages: memory that a test device writes to, the
 * tracker over it, sets of pages to compare with what it harvests, and the
 * kernel's logs without the library.
 *
 * A helper that fails ends the program with status 1 and says where.
 */
#ifndef DIRTY_H
#define DIRTY_H

#include "testdev.h"

#define PAGE 4096ull

/* ---- sets of pages -------------------------------------------------------- */

/* Page n is that at IOVA n * 4096; the sets know the lowest 64 MiB. */
#define SPACE_PAGES 16384u

struct pages {
	uint64_t word[SPACE_PAGES / 64];
};

void pages_add(struct pages *set, uint32_t first, uint32_t count);
void pages_remove(struct pages *set, uint32_t first, uint32_t count);
bool pages_have(const struct pages *set, uint32_t page);
uint32_t pages_count(const struct pages *set);
void pages_join(struct pages *set, const struct pages *other);

/* The set is this one: numbers and runs, like "3 10-20 700". */
#define PAGES_ARE(set, text) pages_check_text(__FILE__, __LINE__, (set), (text))
void pages_check_text(const char *file, int line, const struct pages *set, const char *text);
/* The set is equal to the other one. */
#define PAGES_EQUAL(set, other) pages_check_equal(__FILE__, __LINE__, (set), (other))
void pages_check_equal(const char *file, int line, const struct pages *set,
		       const struct pages *other);

/* ---- an address space ------------------------------------------------------ */

#define SPACE_MAPPINGS 512u

struct space {
	const struct lab_device *device;
	unsigned char *memory; /* that page n maps is at n * 4096 */
	struct pages mapped;
	struct vfiomig_mapping mapping[SPACE_MAPPINGS];
	uint32_t mappings;
	struct vfiomig_tracker *tracker; /* NULL: nobody tracks */
};

void space_open(struct space *s, const struct lab_device *device);
/* Frees the tracker and gives the memory back; the device unmaps what is left. */
void space_close(struct space *s);

/*
 * Makes the tracker of the space, over this device and, by group, its
 * container: with `flags`, and TYPE1 where there is a container unless
 * NO_CONTAINER. Tells it what is mapped.
 */
#define NO_CONTAINER (1u << 31)
void space_track(struct space *s, struct vfiomig_device *d, uint32_t flags);

/* Maps pages, then tells the tracker. */
void space_map(struct space *s, uint32_t first, uint32_t count);

/*
 * Unmaps by the library's call, with VFIOMIG_UNMAP_* and, without LIBRARY, the
 * given function (with the space as opaque; raw_unmap_range unmaps). What it
 * gives is in `got`, which may be NULL: then it stays in the tracker.
 */
struct vfiomig_harvest_result space_unmap(struct space *s, uint32_t first, uint32_t count,
					  uint32_t flags, vfiomig_unmap_fn unmap,
					  struct pages *got);
int raw_unmap_range(void *space, const struct vfiomig_range *range);

/* Harvests all of the space. */
struct vfiomig_harvest_result space_harvest(struct space *s, struct pages *got);

/* A harvest reads the log, nothing fails, and these pages are dirty and no others. */
#define DIRTY_ARE(s, text) space_check_dirty(__FILE__, __LINE__, (s), (text))
void space_check_dirty(const char *file, int line, struct space *s, const char *text);
/* The same, and it is all that is mapped. */
#define ALL_DIRTY(s) space_check_all(__FILE__, __LINE__, (s))
void space_check_all(const char *file, int line, struct space *s);

struct vfiomig_tracker_info space_info(const struct space *s);
/* The log that is read, and words that its reason must have. */
#define READS(s, kind, words) space_check_kind(__FILE__, __LINE__, (s), VFIOMIG_TRACKER_KIND_##kind, (words))
void space_check_kind(const char *file, int line, const struct space *s, uint32_t kind,
		      const char *words);

/* ---- DMA -------------------------------------------------------------------- */

/* The device writes to pages; 0 or -errno. */
int dma_write(const struct testdev *t, uint32_t first, uint32_t count);
#define DMA(t, first, count) CHECK_EQ(dma_write((t), (first), (count)), 0)
int dma_pin(const struct testdev *t, uint32_t page);
int dma_unpin(const struct testdev *t, uint32_t page);

/* ---- the kernel, without the library ------------------------------------------ */

/* 0 or -errno. */
int raw_map(const struct lab_device *device, uint64_t iova, uint64_t size, void *at);
int raw_unmap(const struct lab_device *device, uint64_t iova, uint64_t size);
/* From now on the iommufd answers requests of a container, for the device's IOAS. */
void raw_show_as_container(const struct lab_device *device);

int raw_log_start(const struct lab_device *device, uint64_t *page_size,
		  const struct vfiomig_range *ranges, uint32_t count);
int raw_log_stop(const struct lab_device *device);
int raw_log_report(const struct lab_device *device, uint64_t iova, uint64_t size,
		   uint64_t page_size, void *bitmap);
/* Whether the kernel can report at all: Debian's cannot. Nothing may be started. */
bool raw_log_works(const struct lab_device *device);

#define RAW_START 1u
#define RAW_STOP 2u
#define RAW_GET 4u
struct raw_bitmap {
	uint64_t page_size, size;
	void *data;
};
int raw_dirty_pages(const struct lab_device *device, uint32_t flags, uint64_t iova, uint64_t size,
		    struct raw_bitmap bitmap);
#define RAW_WITH_BITMAP 1u
#define RAW_UNMAP_ALL 2u
/* `*size` is what was unmapped. */
int raw_unmap_dirty(const struct lab_device *device, uint32_t flags, uint64_t iova, uint64_t *size,
		    struct raw_bitmap bitmap);

/* A bitmap of whole pages of its own, zeroed (I6). */
uint64_t *raw_new_bitmap(void);
#define RAW_BITMAP_SIZE 65536u

/* ---- what the library logs ------------------------------------------------------ */

/* Counts warnings and errors from now on. */
void warnings_count(void);
/* That many since, and then none. */
#define WARNINGS(n) CHECK_EQ(warnings_take(), (n))
unsigned int warnings_take(void);

#endif
