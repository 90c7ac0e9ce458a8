/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A VM migrates whose dirty log is the IOMMU's page tables: test devices of v1
 * and v2 and an mtty as a group, their tracker over two mock domains. A device
 * behind the domains writes to memory all the time, until the group is in
 * STOP_COPY, and mappings come and go meanwhile. The bits lie in the page
 * tables (I11), so the last read comes when all devices stand still and before
 * the log is switched off: what is written after the harvest in the P2P grace
 * state is still found, and HALTED is refused until it was asked for (P12).
 * Afterwards memory and devices on the other side are equal.
 *
 * The mock IOMMU warns when a page is marked in the moment in which its mark is
 * cleared. So the writer takes only pages whose last write was copied.
 */
#include "guest.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "group.h"

#define AREAS 3
#define AREA_PAGES 300u
#define AREA_STEP 512u /* pages from one to the next: holes between them */
#define HWPTS 2
/* Written by the test itself, in moments of its own. */
#define KEPT 20u
#define ROUNDS 6

static const char *const devices[] = {
	"dialect=v1 ndma=1 state=1M",
	"dialect=v2 state=1M",
	NULL,
	"dialect=v2 p2p=0 precopy=0 state=1M dma_log=0",
};

/* What is in a page is its first word. */
static _Atomic uint64_t *memory[AREAS];
static uint64_t copy[AREAS][AREA_PAGES];
static _Atomic unsigned char outstanding[AREAS][AREA_PAGES];
static unsigned int written; /* by the writer */
static atomic_bool stopped;

static struct guest guest;
static struct vm from, to;
static struct vm_streams streams;
static uint64_t copied;

static uint64_t iova_of(size_t area, uint64_t page)
{
	return MOCK_FIRST + (area * AREA_STEP + page) * PAGE;
}

static _Atomic uint64_t *word_of(size_t area, uint64_t page)
{
	return memory[area] + page * (PAGE / sizeof(uint64_t));
}

/* ---- a device behind the domains --------------------------------------------------- */

/* The data first, as the IOMMU has it: a mark says that they were written. */
static void dma(size_t area, uint32_t page, uint32_t random)
{
	atomic_store(&outstanding[area][page], 1);
	atomic_fetch_add(word_of(area, page), 1);
	mock_mark(&guest.mock, guest.hwpt[random & 1], iova_of(area, page) + (random >> 1 & 1) * MOCK_PAGE);
}

/* The last area comes and goes, and the first pages of the others are the test's. */
static void *writer(void *unused)
{
	uint32_t x = 0x2545f491;

	while (!atomic_load(&stopped)) {
		uint32_t page, area;

		x ^= x << 13;
		x ^= x >> 17;
		x ^= x << 5;
		area = x % (AREAS - 1);
		page = KEPT + (x >> 8) % (AREA_PAGES - KEPT);
		if (atomic_load(&outstanding[area][page])) {
			sched_yield();
			continue;
		}
		dma(area, page, x >> 28);
		written++;
	}
	return unused;
}

/* ---- what a VMM does ----------------------------------------------------------------- */

static void copy_page(size_t area, uint64_t page)
{
	copy[area][page] = atomic_load(word_of(area, page));
	/* Last: from now on the writer may take it again. */
	atomic_store(&outstanding[area][page], 0);
}

static int copy_run(void *pages, uint64_t cookie, uint64_t iova, uint64_t size)
{
	const size_t area = cookie - 1000;
	const uint64_t first = (iova - iova_of(area, 0)) / PAGE;

	CHECK(area < AREAS && first + size / PAGE <= AREA_PAGES);
	for (uint64_t page = first; page < first + size / PAGE; page++)
		copy_page(area, page);
	*(uint64_t *)pages += size / PAGE;
	return 0;
}

static uint64_t harvest(void)
{
	struct vfiomig_harvest_request request;
	struct vfiomig_harvest_result result;
	uint64_t pages = 0;

	VFIOMIG_INIT(&request);
	VFIOMIG_INIT(&result);
	request.run = copy_run;
	request.opaque = &pages;
	OK(vfiomig_group_harvest(from.group, &request, &result, ERR));
	CHECK_EQ(result.flags, 0);
	copied += pages;
	return pages;
}

static void map(size_t area)
{
	const struct vfiomig_mapping mapping = {
		.iova = iova_of(area, 0), .size = AREA_PAGES * PAGE, .cookie = COOKIE(area)
	};

	mock_map_memory(&guest.mock, mapping.iova, mapping.size, memory[area]);
	OK(vfiomig_tracker_map(guest.t, &mapping, 1, ERR));
}

/* The last area goes, written to until shortly before, and comes back. */
static void remap(uint32_t round)
{
	const struct vfiomig_range range = { .iova = iova_of(AREAS - 1, 0), .size = AREA_PAGES * PAGE };
	struct vfiomig_harvest_request request;
	struct vfiomig_harvest_result result;
	uint64_t pages = 0;

	for (uint32_t page = round; page < AREA_PAGES; page += 7)
		dma(AREAS - 1, page, page);
	VFIOMIG_INIT(&request);
	VFIOMIG_INIT(&result);
	request.run = copy_run;
	request.opaque = &pages;
	OK(vfiomig_tracker_unmap(guest.t, &range, NULL, NULL, VFIOMIG_UNMAP_F_LIBRARY | VFIOMIG_UNMAP_F_NO_DMA, &request,
				 &result, ERR));
	CHECK_EQ(result.flags, 0);
	CHECK(pages >= (AREA_PAGES - round) / 7);
	map(AREAS - 1);
}

static void tracker_over_page_tables(void)
{
	struct vfiomig_tracker_options options;
	struct vfiomig_device *all[VM_MAX];

	for (int i = 0; i < from.count; i++)
		all[i] = from.device[i].d;
	VFIOMIG_INIT(&options);
	options.name = "page tables";
	options.flags = VFIOMIG_TRACKER_F_HWPT | VFIOMIG_TRACKER_F_IOAS | VFIOMIG_TRACKER_F_NO_DEVICE_LOG;
	options.devices = all;
	options.device_count = (size_t)from.count;
	options.iommufd = guest.mock.iommufd;
	options.ioas_id = guest.mock.ioas;
	options.hwpt_ids = guest.hwpt;
	options.hwpt_count = HWPTS;
	/* In place of the guest's own, and of the VM's, which knows of no memory. */
	vfiomig_tracker_free(guest.t);
	OK(vfiomig_tracker_new(&options, &guest.t, ERR));
	OK(vfiomig_group_remove_tracker(from.group, from.tracker, ERR));
	OK(vfiomig_group_add_tracker(from.group, guest.t, ERR));
}

static void check_tracker(bool running)
{
	struct vfiomig_tracker_info info;

	VFIOMIG_INIT(&info);
	OK(vfiomig_tracker_get_info(guest.t, &info, ERR));
	CHECK_EQ(info.kind, VFIOMIG_TRACKER_KIND_HWPT);
	CHECK_EQ(info.flags, 0);
	CHECK_EQ(info.starts, running);
	for (size_t hwpt = 0; hwpt < HWPTS; hwpt++)
		CHECK_EQ(guest_tracks(&guest, hwpt), running);
}

/* Until so many pages wait to be copied; the writer stands still when all of its own do. */
static void wait_for_writes(unsigned int count)
{
	unsigned int found;

	do {
		sched_yield();
		found = 0;
		for (size_t area = 0; area < AREAS - 1; area++)
			for (uint64_t page = KEPT; page < AREA_PAGES; page++)
				found += atomic_load(&outstanding[area][page]);
	} while (found < count);
}

static void iterate(void)
{
	CHECK(vfiomig_migration_save_iterate(from.migration,
					     DRAIN(.budget_bytes = 1 << 20, .budget_ns = 1000000000,
						   .put = vm_put, .opaque = &streams),
					     NULL, 0, ERR) >= 0);
}

static void write_kept(uint32_t count)
{
	for (uint32_t page = 0; page < count; page++)
		dma(page % 2, page, page);
}

static void start(unsigned int seed)
{
	lab_step("the log is started, RAM is sent");
	vm_fill(&from, seed);
	vm_fill(&to, seed + 100);
	streams_clear(&streams);
	memset(copy, 0, sizeof(copy));
	vm_begin(&from, VFIOMIG_DIRECTION_SAVE);
	ADVANCE(&from, VFIOMIG_PHASE_SAVE_TRACKING);
	check_tracker(true);
	for (size_t area = 0; area < AREAS; area++)
		for (uint64_t page = 0; page < AREA_PAGES; page++)
			copy_page(area, page);
}

/* Given up in the middle: the log goes, and the next start begins with nothing. */
static void given_up(void)
{
	start(1);
	write_kept(KEPT);
	CHECK_EQ(harvest(), KEPT);
	ADVANCE(&from, VFIOMIG_PHASE_SAVE_STOP_COPY);
	write_kept(KEPT);
	FAILS(vfiomig_tracker_stop(guest.t, ERR), ORDER, 0);
	OK(vfiomig_migration_abort(from.migration, VFIOMIG_ABORT_TO_RUNNING, 0, ERR));
	vm_end(&from);
	check_tracker(false);
	for (int i = 0; i < from.count; i++)
		OK(vfiomig_device_restart_stream(from.device[i].d, ERR));
	for (int i = 0; i < from.count; i++)
		if (from.device[i].config) /* a session that ends with data unread */
			testdev_forget_violations(&from.device[i].t);
}

static void migrates(void)
{
	pthread_t thread;
	uint64_t last;

	start(3);
	CHECK_EQ(pthread_create(&thread, NULL, writer, NULL), 0);
	ADVANCE(&from, VFIOMIG_PHASE_SAVE_PRE_COPY);
	for (uint32_t round = 0; round < ROUNDS; round++) {
		lab_step("pre-copy, round %u", round);
		iterate();
		remap(round);
		wait_for_writes(50);
		CHECK(harvest() > 0);
	}
	lab_step("the P2P grace state: devices may still write");
	ADVANCE(&from, VFIOMIG_PHASE_SAVE_P2P_GRACE);
	CHECK(harvest() > 0);
	wait_for_writes(50);
	write_kept(KEPT);
	ADVANCE(&from, VFIOMIG_PHASE_SAVE_STOP_COPY);
	ALL_IN(&from, VFIOMIG_STATE_STOP_COPY);
	atomic_store(&stopped, true);
	CHECK_EQ(pthread_join(thread, NULL), 0);

	lab_step("the final harvest");
	CHECK(vfiomig_migration_save_complete(from.migration, DRAIN(.put = vm_put, .opaque = &streams),
					      NULL, 0, ERR) >= 0);
	FAILS(vfiomig_migration_advance(from.migration, VFIOMIG_PHASE_SAVE_HALTED, 0, ERR), ORDER, 0);
	FAILS(vfiomig_tracker_stop(guest.t, ERR), ORDER, 0);
	check_tracker(true);
	last = harvest();
	CHECK(last >= KEPT + 50);
	CHECK_EQ(harvest(), 0);
	for (size_t area = 0; area < AREAS; area++)
		for (uint64_t page = 0; page < AREA_PAGES; page++)
			CHECK_EQ(copy[area][page], atomic_load(word_of(area, page)));
	ADVANCE(&from, VFIOMIG_PHASE_SAVE_HALTED);
	ALL_IN(&from, VFIOMIG_STATE_STOP);
	check_tracker(false);
	vm_end(&from);

	lab_step("the other side");
	vm_load(&to, &streams);
	CHECK(vm_holds(&to, 3));
	printf("%u writes, %llu pages copied, %llu of them last\n", written, (unsigned long long)copied,
	       (unsigned long long)last);
}

int main(int argc, char **argv)
{
	char cdev[] = "cdev", *arguments[] = { argv[0], cdev, NULL };

	mock_begin(argc, argv);
	testdev_begin(2, arguments);
	guest_open(&guest, 0, HWPTS);
	vm_open(&from, devices, 4, 1, 0, 0);
	vm_open(&to, devices, 4, 5, 1, 0);
	tracker_over_page_tables();
	for (size_t area = 0; area < AREAS; area++) {
		memory[area] = (void *)bits_new(AREA_PAGES * PAGE * 8 - 1);
		map(area);
	}
	given_up();
	migrates();
	vm_close(&from);
	vm_close(&to);
	guest_close(&guest);
	streams_clear(&streams);
	puts("ok");
	return 0;
}
