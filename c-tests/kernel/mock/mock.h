/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The kernel's mock IOMMU: a device without hardware behind it, and a domain
 * with dirty tracking whose pages are marked by ioctl instead of by DMA. Only
 * kernels with CONFIG_IOMMUFD_TEST have it.
 *
 * Nothing here goes through the library. The checks are those of lab.h; a
 * helper that fails ends the program. The calls that return a result return 0
 * or -errno.
 */
#ifndef MOCK_H
#define MOCK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/ioctl.h>

#include "lab.h"

#define PAGE 4096ull
/* The domain's own granule: half a page, so that no one takes it for 4 KiB. */
#define MOCK_PAGE 2048ull
/* What a device with MOCK_HUGE maps contiguous memory with. */
#define MOCK_HUGE_PAGE (512 * MOCK_PAGE)

/* Where an IOAS with a mock domain may map. */
#define MOCK_FIRST 0x1000000ull
#define MOCK_LAST 0x7fffffffull

/* Kinds of mock devices. */
#define MOCK_NO_DIRTY 1u
#define MOCK_HUGE 2u

struct mock {
	int iommufd;
	uint32_t ioas;
	uint32_t device;     /* to attach it to something else */
	uint32_t bound;      /* the device as iommufd names it */
	uint32_t plain_hwpt; /* without dirty tracking, not attached */
	uint32_t hwpt;       /* with dirty tracking, attached; 0 with MOCK_NO_DIRTY */
};

/*
 * The first call of main; the argument must be `mock`. Ends the program as
 * skipped when the kernel has no mock IOMMU.
 */
void mock_begin(int argc, char **argv);

/* Linux 7 reports more than was marked: a record is a whole IO page table entry. */
bool mock_is_exact(void);

/* An IOAS, a device, and, if it can, a domain with dirty tracking. */
void mock_open(struct mock *mock, uint32_t kind);
void mock_close(struct mock *mock);
/* One more device on the same IOAS, in a domain of its own with dirty tracking. */
uint32_t mock_add_hwpt(const struct mock *mock);

/* New memory at an IOVA. It stays until the program ends. */
void mock_map(const struct mock *mock, uint64_t iova, uint64_t size);
/* Memory of the caller's. */
void mock_map_memory(const struct mock *mock, uint64_t iova, uint64_t size, void *memory);
/* New memory in huge pages of the CPU; false when there are none. */
bool mock_map_huge(const struct mock *mock, uint64_t iova, uint64_t size);
int mock_unmap(const struct mock *mock, uint64_t iova, uint64_t size);

/*
 * Marks the granule at an IOVA dirty. The kernel lets only mapped granules be
 * marked while the domain tracks.
 */
void mock_mark(const struct mock *mock, uint32_t hwpt, uint64_t iova);

/* ---- single requests ------------------------------------------------------ */

struct mock_ioas_map {
	uint32_t size, flags, ioas, reserved;
	uint64_t memory, length, iova;
};
struct mock_ioas_unmap {
	uint32_t size, ioas;
	uint64_t iova, length;
};
struct mock_hwpt_alloc {
	uint32_t size, flags, device, parent, hwpt, reserved, data_type, data_length;
	uint64_t data;
	uint32_t fault, reserved2;
};
struct mock_hw_info {
	uint32_t size, flags, device, data_length;
	uint64_t data;
	uint32_t data_type, reserved;
	uint64_t capabilities;
};
struct mock_set_dirty {
	uint32_t size, flags, hwpt, reserved;
};
struct mock_get_dirty {
	uint32_t size, hwpt, flags, reserved;
	uint64_t iova, length, page_size, data;
};
struct mock_test {
	uint32_t size, operation, id, reserved;
	union {
		struct {
			uint32_t device, hwpt, bound, kind;
		} domain;
		struct {
			uint32_t hwpt;
		} replace;
		struct {
			uint32_t flags, padding;
			uint64_t iova, length, page_size, bits, count;
		} dirty;
	};
	uint32_t last, padding;
};

/* ioctl numbers; all take one of the structs above. */
#define MOCK_REQUEST(number) _IO(';', 0x80 + (number))
#define IOAS_ALLOC MOCK_REQUEST(1)
#define IOAS_MAP MOCK_REQUEST(5)
#define IOAS_UNMAP MOCK_REQUEST(6)
#define IOMMU_OPTION MOCK_REQUEST(7)
#define HWPT_ALLOC MOCK_REQUEST(9)
#define GET_HW_INFO MOCK_REQUEST(10)
#define SET_DIRTY MOCK_REQUEST(11)
#define GET_DIRTY MOCK_REQUEST(12)
#define MOCK_TEST MOCK_REQUEST(32)

#define MAP_FIXED_IOVA 1u
#define MAP_WRITEABLE 2u
#define MAP_READABLE 4u
#define ALLOC_DIRTY_TRACKING 2u
#define CAP_DIRTY_TRACKING 1u
#define TRACK 1u
#define NO_CLEAR 1u
#define TEST_DOMAIN 2u
#define TEST_REPLACE 10u
#define TEST_DOMAIN_OF_KIND 12u
#define TEST_DIRTY 13u

int mock_request(const struct mock *mock, unsigned long number, void *argument);
int mock_new_hwpt(const struct mock *mock, uint32_t flags, uint32_t *hwpt);
int mock_attach(const struct mock *mock, uint32_t device, uint32_t hwpt);
int mock_track(const struct mock *mock, uint32_t hwpt, uint32_t flags);
int mock_get(const struct mock *mock, uint32_t hwpt, uint32_t flags, uint64_t iova,
	     uint64_t length, uint64_t page_size, void *bitmap);

/* ---- bitmaps ---------------------------------------------------------------- */

/* Whole pages of their own, zero (I6). */
uint64_t *bits_new(uint64_t bits);
void bits_free(uint64_t *bitmap, uint64_t bits);
static inline bool bit_is_set(const uint64_t *bitmap, uint64_t bit)
{
	return bitmap[bit / 64] >> bit % 64 & 1;
}
static inline void bit_set(uint64_t *bitmap, uint64_t bit)
{
	bitmap[bit / 64] |= 1ull << bit % 64;
}
uint64_t bits_count(const uint64_t *bitmap, uint64_t bits);

/*
 * The bits are the wanted ones, and no others unless the kernel is known to
 * report more.
 */
#define BITS_ARE(got, want, bits) bits_check(__FILE__, __LINE__, (got), (want), (bits))
void bits_check(const char *file, int line, const uint64_t *got, const uint64_t *want,
		uint64_t bits);

#endif
