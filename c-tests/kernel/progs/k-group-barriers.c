/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * By the driver's own time stamps: no device leaves a barrier before the last
 * has entered it, and a phase costs the slowest device, not the sum.
 *
 * Rules: N5, N22, V2-6; phases: docs/vmm-guide.md.
 */
#include "group.h"

#include <stdio.h>
#include <string.h>

#define DELAY_MS 200

static const char *const devices[] = {
	"dialect=v1 ndma=1 state=64K",
	"dialect=v2 state=64K",
	"dialect=v2 precopy=0 state=64K",
	"dialect=v1 ndma=1 state=64K window=trapped",
};

static struct vm_streams streams;

static void forget(struct vm *vm)
{
	for (int i = 0; i < vm->count; i++)
		forget_passages(&vm->device[i].t);
}

static void delays(struct vm *vm, unsigned int ms)
{
	for (int i = 0; i < vm->count; i++)
		testdev_config(&vm->device[i].t, "delay_ms=%u", ms);
}

/* How long the last phase took, by the report, and by the driver from first begin to last end. */
static void costs_one(struct vm *vm, const char *what, uint64_t duration_ns, uint32_t state)
{
	uint64_t begin = UINT64_MAX, end = 0;
	struct passage p;

	for (int i = 0; i < vm->count; i++) {
		if (!last_passage(&vm->device[i].t, state, &p))
			continue;
		CHECK(p.end - p.begin >= DELAY_MS * 1000000ull);
		begin = p.begin < begin ? p.begin : begin;
		end = p.end > end ? p.end : end;
	}
	printf("%s: %.1f ms by the driver, %.1f ms by the report\n", what, (double)(end - begin) / 1e6,
	       (double)duration_ns / 1e6);
	/* Four one after another would be 800 ms; a busy host gets half a device's time on top. */
	CHECK(end - begin < DELAY_MS * 1500000ull);
	CHECK(duration_ns < DELAY_MS * 1750000ull);
}

static uint64_t last_duration(struct vm *vm, uint32_t phase)
{
	struct vfiomig_report *report = NULL;
	const struct vfiomig_phase_report *p;
	uint64_t duration = 0;

	OK(vfiomig_migration_get_report(vm->migration, &report, ERR));
	for (size_t i = 0; (p = vfiomig_report_phase(report, i)); i++)
		if (p->phase == phase && !(p->flags & VFIOMIG_PHASE_REPORT_FAILED))
			duration = p->duration_ns;
	vfiomig_report_free(report);
	CHECK(duration > 0);
	return duration;
}

static void save(struct vm *vm)
{
	lab_step("save");
	streams_clear(&streams);
	forget(vm);
	vm_begin(vm, VFIOMIG_DIRECTION_SAVE);
	ADVANCE(vm, VFIOMIG_PHASE_SAVE_PRE_COPY);
	delays(vm, DELAY_MS);
	ADVANCE(vm, VFIOMIG_PHASE_SAVE_P2P_GRACE);
	costs_one(vm, "to PRE_COPY_P2P", last_duration(vm, VFIOMIG_PHASE_SAVE_P2P_GRACE), VFIOMIG_STATE_PRE_COPY_P2P);
	ADVANCE(vm, VFIOMIG_PHASE_SAVE_STOP_COPY);
	delays(vm, 0);
	/* The device without PRE_COPY went by RUNNING_P2P; both are the same barrier. */
	vm_check_barrier(vm, VFIOMIG_STATE_PRE_COPY_P2P, VFIOMIG_STATE_STOP_COPY);
	vm_check_barrier(vm, VFIOMIG_STATE_RUNNING_P2P, VFIOMIG_STATE_STOP_COPY);
	vm_save_rest(vm, &streams);
	vm_check_barrier(vm, VFIOMIG_STATE_STOP_COPY, VFIOMIG_STATE_STOP);
	vm_end(vm);
}

static void load(struct vm *vm)
{
	lab_step("load");
	forget(vm);
	vm_begin(vm, VFIOMIG_DIRECTION_LOAD);
	ADVANCE(vm, VFIOMIG_PHASE_LOAD_RESUMING);
	CHECK(vfiomig_migration_load_complete(vm->migration, DRAIN(.get = vm_get, .opaque = &streams),
					      NULL, 0, ERR) >= 0);
	ADVANCE(vm, VFIOMIG_PHASE_LOAD_LOADED);
	delays(vm, DELAY_MS);
	ADVANCE(vm, VFIOMIG_PHASE_LOAD_P2P_GRACE);
	costs_one(vm, "to RUNNING_P2P", last_duration(vm, VFIOMIG_PHASE_LOAD_P2P_GRACE), VFIOMIG_STATE_RUNNING_P2P);
	ADVANCE(vm, VFIOMIG_PHASE_LOAD_RUNNING);
	delays(vm, 0);
	vm_check_barrier(vm, VFIOMIG_STATE_RESUMING, VFIOMIG_STATE_RUNNING_P2P);
	vm_check_barrier(vm, VFIOMIG_STATE_RUNNING_P2P, VFIOMIG_STATE_RUNNING);
	ALL_IN(vm, VFIOMIG_STATE_RUNNING);
	vm_end(vm);
}

static void pause_and_resume(struct vm *vm)
{
	struct vfiomig_report *report = NULL;

	lab_step("pause and resume");
	forget(vm);
	delays(vm, DELAY_MS);
	OK(vfiomig_group_pause(vm->group, ERR));
	vm_check_barrier(vm, VFIOMIG_STATE_RUNNING_P2P, VFIOMIG_STATE_STOP);
	/* Two steps of each device, side by side. */
	OK(vfiomig_group_get_report(vm->group, &report, ERR));
	CHECK(vfiomig_report_phase(report, 0)->duration_ns < 2 * DELAY_MS * 1500000ull);
	vfiomig_report_free(report);
	forget(vm);
	OK(vfiomig_group_resume(vm->group, ERR));
	delays(vm, 0);
	vm_check_barrier(vm, VFIOMIG_STATE_RUNNING_P2P, VFIOMIG_STATE_RUNNING);
}

int main(int argc, char **argv)
{
	struct vm from, to;

	testdev_begin(argc, argv);
	vm_open(&from, devices, 4, 1, 0, 0);
	vm_open(&to, devices, 4, 5, 1, 0);
	vm_fill(&from, 1);
	save(&from);
	load(&to);
	CHECK(vm_holds(&to, 1));
	pause_and_resume(&to);
	for (int i = 0; i < from.count; i++)
		OK(vfiomig_device_reset(from.device[i].d, ERR));
	vm_close(&from);
	vm_close(&to);
	streams_clear(&streams);
	puts("ok");
	return 0;
}
