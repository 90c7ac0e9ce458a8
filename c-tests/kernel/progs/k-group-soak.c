/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Migrations in a row between two groups of four devices, many of them aborted
 * somewhere: the state is equal each time, and neither descriptors nor memory
 * grow. 200 of them; with VFIOMIG_LAB_FULL in the environment 1000.
 *
 * Rules: F5, P15, P16, V2-9.
 */
#include "group.h"

#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *const mixed[] = {
	NULL,
	"dialect=v1 ndma=1 state=64K",
	NULL,
	"dialect=v2 state=64K",
};

static struct vm_streams streams;
static uint32_t seed;

static uint32_t below(uint32_t n)
{
	seed = seed * 1664525u + 1013904223u;
	return (seed >> 8) % n;
}

static long resident_pages(void)
{
	FILE *f = fopen("/proc/self/statm", "r");
	long total = 0, resident = 0;

	CHECK(f && fscanf(f, "%ld %ld", &total, &resident) == 2);
	fclose(f);
	return resident;
}

static const uint32_t phases[] = { VFIOMIG_PHASE_SAVE_TRACKING, VFIOMIG_PHASE_SAVE_PRE_COPY,
	VFIOMIG_PHASE_SAVE_VIOMMU_GRACE,
				   VFIOMIG_PHASE_SAVE_P2P_GRACE, VFIOMIG_PHASE_SAVE_STOP_COPY, VFIOMIG_PHASE_SAVE_HALTED };

static void aborted(struct vm *vm)
{
	uint32_t last = below(sizeof(phases) / sizeof(*phases) + 1);

	streams_clear(&streams);
	vm_begin(vm, VFIOMIG_DIRECTION_SAVE);
	for (uint32_t i = 0; i < last; i++) {
		ADVANCE(vm, phases[i]);
		if (phases[i] == VFIOMIG_PHASE_SAVE_PRE_COPY && below(2))
			CHECK(vfiomig_migration_save_iterate(vm->migration,
							     DRAIN(.budget_bytes = below(100000) + 1, .budget_ns = 10000000,
								   .put = vm_put, .opaque = &streams),
							     NULL, 0, ERR) >= 0);
		if (phases[i] == VFIOMIG_PHASE_SAVE_STOP_COPY) {
			if (i + 1 == last && below(2))
				break;
			vm_harvest(vm);
			CHECK(vfiomig_migration_save_complete(vm->migration, DRAIN(.put = vm_put, .opaque = &streams),
							      NULL, 0, ERR) >= 0);
		}
	}
	if (below(3) == 0)
		vfiomig_migration_cancel(vm->migration);
	/* It may have been HALTED. */
	OK(vfiomig_migration_abort(vm->migration, VFIOMIG_ABORT_TO_RUNNING, VFIOMIG_ABORT_F_NO_SECOND_GUEST, ERR));
	PHASE_IS(vm, VFIOMIG_PHASE_IDLE);
	vm_end(vm);
	ALL_IN(vm, VFIOMIG_STATE_RUNNING);
	for (int i = 0; i < vm->count; i++) {
		OK(vfiomig_device_restart_stream(vm->device[i].d, ERR));
		if (vm->device[i].config) /* a session that was given up has unread data */
			testdev_forget_violations(&vm->device[i].t);
	}
}

int main(int argc, char **argv)
{
	int count = getenv("VFIOMIG_LAB_FULL") ? 1000 : 200, fds = 0;
	struct vm vm[2];
	long resident = 0;

	testdev_begin(argc, argv);
	/* One arena, and large buffers given back: what malloc keeps of many threads would look like a leak. */
	mallopt(M_ARENA_MAX, 1);
	mallopt(M_MMAP_THRESHOLD, 64 << 10);
	seed = (uint32_t)getpid() * 2654435761u + 1;
	printf("seed %u, %d migrations\n", seed, count);
	vm_open(&vm[0], mixed, 4, 1, 0, 0);
	vm_open(&vm[1], mixed, 4, 5, 1, 0);
	for (int i = 0; i < count; i++) {
		struct vm *from = &vm[i % 2], *to = &vm[(i + 1) % 2];

		lab_step("migration %d", i);
		vm_fill(from, (unsigned int)i);
		if (below(2)) {
			aborted(from);
			CHECK(vm_holds(from, (unsigned int)i));
			vm_fill(from, (unsigned int)i);
		}
		vm_fill(to, (unsigned int)i + 1000000);
		vm_save(from, &streams);
		vm_load(to, &streams);
		CHECK(vm_holds(to, (unsigned int)i));
		for (int k = 0; k < from->count; k++)
			OK(vfiomig_device_reset(from->device[k].d, ERR));
		if (i == count / 2) { /* pools are full by now */
			fds = lab_count_fds();
			resident = resident_pages();
		}
	}
	CHECK_EQ(lab_count_fds(), fds);
	/* A leak of two pages per migration would show. */
	printf("resident pages: %ld in the middle, %ld in the end\n", resident, resident_pages());
	CHECK(resident_pages() - resident < count);
	vm_close(&vm[0]);
	vm_close(&vm[1]);
	streams_clear(&streams);
	puts("ok");
	return 0;
}
