/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The surroundings of QEMU's code: its own headers where they stand alone, among them those of RCU and of the dirty
 * memory blocks, and for the rest the least that the code compiles and does its work with. What must never be called
 * ends the program (env.c).
 */
#ifndef BENCH_QEMU_ENV_H
#define BENCH_QEMU_ENV_H

#include "qemu/osdep.h"

#include <inttypes.h>

#include "exec/hwaddr.h"
#include "qemu/atomic.h"
#include "qemu/bitmap.h"
#include "qemu/rcu.h"

typedef uintptr_t ram_addr_t;

#include "exec/ramlist.h"

#define COMPILING_PER_TARGET
#include "exec/target_page.h"

/* Without TCG and Xen, and with a migration running: what a VM with VFIO devices has during a migration. */
extern bool tcg_allowed;
extern unsigned int global_dirty_tracking;
extern uint64_t total_dirty_pages;
#define xen_enabled() 0
#define xen_hvm_modified_memory(start, length) ((void)(start), (void)(length))

/* What the measured functions look at of these two. */
typedef struct VFIODevice VFIODevice;
struct VFIODevice {
	const char *name;
	unsigned number;
	QLIST_ENTRY(VFIODevice) container_next;
};
typedef struct {
	bool dirty_pages_supported;
	QLIST_HEAD(, VFIODevice) device_list;
} VFIOContainerBase;

/* The ioctl's place: the harness's fill(). */
int vfio_device_dma_logging_report(VFIODevice *device, hwaddr iova, hwaddr size, void *bitmap);

/* Decided once in QEMU, asked for each section. */
bool vfio_devices_all_device_dirty_tracking(const VFIOContainerBase *container);

/* The trace point is where the number of dirty pages can be had. */
void trace_vfio_get_dirty_bitmap(uint64_t iova, uint64_t size, uint64_t bitmap_size, uint64_t start, uint64_t dirty);

/* Not called in any case of the benchmark. */
int vfio_container_query_dirty_bitmap(const VFIOContainerBase *container, void *bitmap, hwaddr iova, hwaddr size,
				      Error **errp);
void error_setg_errno(Error **errp, int error, const char *format, ...);
void tlb_reset_dirty_range_all(ram_addr_t start, ram_addr_t length);
void memory_region_clear_dirty_bitmap(MemoryRegion *region, hwaddr start, hwaddr length);
bool cpu_physical_memory_test_and_clear_dirty(ram_addr_t start, ram_addr_t length, unsigned client);

#endif
