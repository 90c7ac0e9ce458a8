/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Drivers that are slow to give and to take their data are waited for side by
 * side: the time of four devices fits into a drain that is shorter than its
 * sum; with one worker it does not.
 *
 * Rules: N2, W5; drains: docs/design.md.
 */
#include "group.h"

#include <stdio.h>

#define MS_PER_MIB 400

static const char *const devices[] = {
	"dialect=v2 state=1M precopy_share=0",
	"dialect=v1 state=1M precopy_share=0",
	"dialect=v2 state=2M precopy_share=0 short_io=100000",
	"dialect=v1 state=1M precopy_share=0 window=trapped",
};
static const int mib[] = { 1, 1, 2, 1 };

static struct vm_streams streams;

static void slow(struct vm *vm, unsigned int ms)
{
	for (int i = 0; i < vm->count; i++)
		testdev_config(&vm->device[i].t, "data_ms=%u", ms);
}

/* By the library's report, whose times are as long as a busy host makes them, the sum and its parts alike. */
static void served(struct vm *vm, uint32_t kind, bool alone)
{
	struct vfiomig_report *report = NULL;
	const struct vfiomig_entry_report *e;
	uint64_t sum = 0;

	OK(vfiomig_migration_get_report(vm->migration, &report, ERR));
	for (size_t i = 0; (e = vfiomig_report_entry(report, i)) && e->kind != kind; i++)
		;
	CHECK(e && e->part_count == 4);
	for (int i = 0; i < 4; i++) {
		/* The last sleep may be owed still. */
		CHECK(e->parts[i].time_ns >= mib[i] * MS_PER_MIB * 950000ull);
		sum += e->parts[i].time_ns;
	}
	printf("%s%s: %.0f ms, in which devices took %.0f ms\n", kind == VFIOMIG_ENTRY_SAVE_COMPLETE ? "save" : "load",
	       alone ? ", one worker" : "", (double)e->duration_ns / 1e6, (double)sum / 1e6);
	CHECK(alone ? sum <= e->duration_ns : sum > e->duration_ns * 5 / 4);
	vfiomig_report_free(report);
}

static void slow_migration(uint32_t max_workers)
{
	const bool alone = max_workers == 1;
	struct vm from, to;

	lab_step("%s", alone ? "one worker" : "side by side");
	vm_open(&from, devices, 4, 1, 0, max_workers);
	vm_open(&to, devices, 4, 5, 1, max_workers);
	vm_fill(&from, 3);
	streams_clear(&streams);
	vm_begin(&from, VFIOMIG_DIRECTION_SAVE);
	ADVANCE(&from, VFIOMIG_PHASE_SAVE_PRE_COPY);
	ADVANCE(&from, VFIOMIG_PHASE_SAVE_P2P_GRACE);
	ADVANCE(&from, VFIOMIG_PHASE_SAVE_STOP_COPY);
	vm_harvest(&from);
	slow(&from, MS_PER_MIB);
	CHECK(vfiomig_migration_save_complete(from.migration, DRAIN(.put = vm_put, .opaque = &streams), NULL, 0, ERR) >= 0);
	served(&from, VFIOMIG_ENTRY_SAVE_COMPLETE, alone);
	slow(&from, 0);
	ADVANCE(&from, VFIOMIG_PHASE_SAVE_HALTED);
	vm_end(&from);

	vm_begin(&to, VFIOMIG_DIRECTION_LOAD);
	ADVANCE(&to, VFIOMIG_PHASE_LOAD_RESUMING);
	slow(&to, MS_PER_MIB);
	CHECK(vfiomig_migration_load_complete(to.migration, DRAIN(.get = vm_get, .opaque = &streams), NULL, 0, ERR) >= 0);
	served(&to, VFIOMIG_ENTRY_LOAD_COMPLETE, alone);
	slow(&to, 0);
	ADVANCE(&to, VFIOMIG_PHASE_LOAD_LOADED);
	ADVANCE(&to, VFIOMIG_PHASE_LOAD_P2P_GRACE);
	ADVANCE(&to, VFIOMIG_PHASE_LOAD_RUNNING);
	vm_end(&to);

	CHECK(vm_holds(&to, 3));
	for (int i = 0; i < from.count; i++)
		OK(vfiomig_device_reset(from.device[i].d, ERR));
	vm_close(&from);
	vm_close(&to);
}

int main(int argc, char **argv)
{
	testdev_begin(argc, argv);
	slow_migration(0);
	slow_migration(1);
	streams_clear(&streams);
	puts("ok");
	return 0;
}
