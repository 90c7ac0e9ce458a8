/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A guest's memory in mock domains, a tracker over them, and what the next
 * harvest must say.
 */
#ifndef GUEST_H
#define GUEST_H

#include "mock.h"

#define GUEST_HWPTS 3
#define GUEST_AREAS 8

/* One DMA mapping; its cookie is its place in the list, and 1000. */
struct area {
	uint64_t iova, size;
	uint64_t *want; /* a bit for each page that is dirty and was not harvested */
};

struct guest {
	struct mock mock;
	size_t hwpts;
	uint32_t hwpt[GUEST_HWPTS];
	struct vfiomig_tracker *t;
	size_t areas;
	struct area area[GUEST_AREAS];
};

#define COOKIE(area) ((area) + 1000)

void guest_open(struct guest *guest, uint32_t kind, size_t hwpts);
void guest_close(struct guest *guest);
/* A tracker over these page tables, in place of the guest's own. */
struct vfiomig_tracker *guest_tracker(const struct guest *guest, const uint32_t *hwpts,
				      size_t count);
/* Whether the kernel tracks in a domain. */
bool guest_tracks(const struct guest *guest, size_t hwpt);

/* Maps memory and tells the tracker; returns the number of the area. */
size_t guest_map(struct guest *guest, uint64_t iova, uint64_t size);
/* Only in this program's list: what the kernel and the tracker know is the caller's. */
size_t guest_area(struct guest *guest, uint64_t iova, uint64_t size);
/* The usual memory: holes between areas, two that touch, odd lengths. */
void guest_map_some(struct guest *guest);

/* A device behind a domain writes half of a page. */
void guest_write(struct guest *guest, size_t hwpt, size_t area, uint64_t page);
/* Several pages of every area, through every domain. */
void guest_write_some(struct guest *guest);
/* The harvest must have all of it although no device wrote it. */
void guest_expect_all(struct guest *guest, size_t area);

/* A destination for a whole area in pages of 4 KiB, in fresh memory. */
struct vfiomig_dest guest_dest(const struct guest *guest, size_t area);
struct vfiomig_harvest_result guest_harvest(struct guest *guest, uint32_t flags,
					    const struct vfiomig_dest *dests, size_t count);

/*
 * Harvests every area and compares with what was written since, in every bit
 * and in the figures.
 */
#define EXPECT(guest) guest_expect(__FILE__, __LINE__, (guest), 0)
#define EXPECT_UNREAD(guest) guest_expect(__FILE__, __LINE__, (guest), VFIOMIG_HARVEST_F_NO_READ)
struct vfiomig_harvest_result guest_expect(const char *file, int line, struct guest *guest,
					   uint32_t flags);

#endif
