/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * One device of four fails at each phase in turn, staying where it is or going
 * to ERROR: nobody passes the barrier, the error names the device, its states
 * and errno, every further step gives the same error, and abort brings back the
 * rest; a device in ERROR is named, and comes back after the caller's reset.
 *
 * Rules: N5, V2-3, V2-9, V2-10; phases: docs/vmm-guide.md.
 */
#include "group.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static const char *const devices[] = {
	"dialect=v1 ndma=1 state=64K",
	"dialect=v2 state=64K",
	"dialect=v2 p2p=0 state=64K",
	"dialect=v1 ndma=0 state=64K window=trapped",
};

static struct vm_streams streams;

/* Phase by phase, and the state that a device is asked for in it: with and without P2P. */
struct step {
	uint32_t phase, p2p, plain;
};
static const struct step save_steps[] = {
	{ VFIOMIG_PHASE_SAVE_PRE_COPY, VFIOMIG_STATE_PRE_COPY, VFIOMIG_STATE_PRE_COPY },
	{ VFIOMIG_PHASE_SAVE_P2P_GRACE, VFIOMIG_STATE_PRE_COPY_P2P, 0 },
	{ VFIOMIG_PHASE_SAVE_STOP_COPY, VFIOMIG_STATE_STOP_COPY, VFIOMIG_STATE_STOP_COPY },
	{ VFIOMIG_PHASE_SAVE_HALTED, VFIOMIG_STATE_STOP, VFIOMIG_STATE_STOP },
};
static const struct step load_steps[] = {
	{ VFIOMIG_PHASE_LOAD_RESUMING, VFIOMIG_STATE_RESUMING, VFIOMIG_STATE_RESUMING },
	{ VFIOMIG_PHASE_LOAD_P2P_GRACE, VFIOMIG_STATE_RUNNING_P2P, 0 },
	{ VFIOMIG_PHASE_LOAD_RUNNING, VFIOMIG_STATE_RUNNING, VFIOMIG_STATE_RUNNING },
};
#define COUNT(a) ((int)(sizeof(a) / sizeof(*(a))))

/* What the VMM does in a phase. */
static void work(struct vm *vm, uint32_t phase)
{
	if (phase == VFIOMIG_PHASE_SAVE_STOP_COPY) {
		vm_harvest(vm);
		CHECK(vfiomig_migration_save_complete(vm->migration, DRAIN(.put = vm_put, .opaque = &streams),
						      NULL, 0, ERR) > 0);
	} else if (phase == VFIOMIG_PHASE_LOAD_RESUMING) {
		memset(streams.read, 0, sizeof(streams.read));
		memset(streams.next_segment, 0, sizeof(streams.next_segment));
		CHECK(vfiomig_migration_load_complete(vm->migration, DRAIN(.get = vm_get, .opaque = &streams),
						      NULL, 0, ERR) >= 0);
	}
}

/* The error speaks of every device; this one failed, and no other did. */
static void names(const struct vm *vm, int broken)
{
	CHECK_EQ(vfiomig_error_result_count(lab_error()), vm->count);
	for (int i = 0; i < vm->count; i++) {
		const struct vfiomig_device_result *r = vfiomig_error_result(lab_error(), (size_t)i);

		CHECK_EQ(r->saved_errno, i == broken ? EIO : 0);
	}
	CHECK(strstr(vfiomig_error_message(lab_error()), vm->device[broken].t.device.name));
}

static void forget_all(struct vm *vm)
{
	for (int i = 0; i < vm->count; i++)
		testdev_forget_violations(&vm->device[i].t);
}

/* Fails device `broken` at step `at`; false: it has nothing to do there. */
static bool fail(struct vm *vm, uint32_t direction, const struct step *steps, int at, int broken, bool error)
{
	const struct step *step = &steps[at];
	const struct testdev *t = &vm->device[broken].t;
	uint32_t state = t->p2p ? step->p2p : step->plain;

	if (!state)
		return false;
	lab_step("device %d, %s%s", broken, vfiomig_phase_name(step->phase), error ? ", into ERROR" : "");
	if (direction == VFIOMIG_DIRECTION_SAVE) {
		streams_clear(&streams);
		vm_fill(vm, 5);
	}
	vm_begin(vm, direction);
	for (int i = 0; i < at; i++) {
		ADVANCE(vm, steps[i].phase);
		work(vm, steps[i].phase);
	}
	testdev_config(t, "fail_to=%s fail_errno=5 fail_count=1 fail_error=%d", vfiomig_state_name(state), error);
	FAILS(vfiomig_migration_advance(vm->migration, step->phase, 0, ERR), DEVICE, EIO);
	names(vm, broken);
	PHASE_IS(vm, VFIOMIG_PHASE_FAILED);
	FAILS(vfiomig_migration_advance(vm->migration, step->phase, 0, ERR), DEVICE, EIO);
	names(vm, broken);
	const bool save = direction == VFIOMIG_DIRECTION_SAVE;
	int ret = vfiomig_migration_save_iterate(vm->migration,
						 DRAIN(.budget_bytes = 1, .budget_ns = 1,
						       .put = vm_put, .opaque = &streams),
						 NULL, 0, ERR);

	if (save)
		FAILS(ret, DEVICE, EIO);
	else
		FAILS(ret, ORDER, 0);

	const uint32_t word = step->phase == VFIOMIG_PHASE_SAVE_HALTED ? VFIOMIG_ABORT_F_NO_SECOND_GUEST : 0;
	if (direction == VFIOMIG_DIRECTION_SAVE && error) {
		FAILS(vfiomig_migration_abort(vm->migration, VFIOMIG_ABORT_TO_RUNNING, word, ERR), ORDER, 0);
		CHECK(strstr(vfiomig_error_message(lab_error()), t->device.name));
		for (int i = 0; i < vm->count; i++)
			STATE_IS(&vm->device[i].t,
				 i == broken ? VFIOMIG_STATE_ERROR : VFIOMIG_STATE_RUNNING);
		/* Only the caller may give the device's state up. */
		OK(vfiomig_device_reset(t->d, ERR));
	}
	OK(vfiomig_migration_abort(vm->migration, VFIOMIG_ABORT_TO_RUNNING, word, ERR));
	PHASE_IS(vm, VFIOMIG_PHASE_IDLE);
	ALL_IN(vm, VFIOMIG_STATE_RUNNING);
	vm_end(vm);
	/* What was thrown away on purpose. */
	forget_all(vm);
	if (direction == VFIOMIG_DIRECTION_SAVE) {
		if (!error)
			CHECK(vm_holds(vm, 5));
		for (int i = 0; i < vm->count; i++)
			OK(vfiomig_device_restart_stream(vm->device[i].d, ERR));
	}
	return true;
}

static void all_faults(uint32_t max_workers)
{
	struct vm from, to;
	int reached = 0;

	lab_step("%u workers", max_workers);
	vm_open(&from, devices, 4, 1, 0, max_workers);
	vm_open(&to, devices, 4, 5, 1, max_workers);
	for (int at = 0; at < COUNT(save_steps); at++)
		for (int broken = 0; broken < from.count; broken++)
			for (int error = 0; error <= 1; error++)
				reached += fail(&from, VFIOMIG_DIRECTION_SAVE, save_steps, at, broken, error);
	vm_fill(&from, 9);
	vm_fill(&to, 1);
	vm_save(&from, &streams);
	for (int at = 0; at < COUNT(load_steps); at++)
		for (int broken = 0; broken < to.count; broken++)
			for (int error = 0; error <= 1; error++)
				reached += fail(&to, VFIOMIG_DIRECTION_LOAD, load_steps, at, broken, error);
	/* After all that it works. */
	vm_load(&to, &streams);
	CHECK(vm_holds(&to, 9));
	CHECK_EQ(reached, 2 * (3 * 4 + 2 + 2 * 4 + 2));
	for (int i = 0; i < from.count; i++)
		OK(vfiomig_device_reset(from.device[i].d, ERR));
	vm_close(&from);
	vm_close(&to);
}

int main(int argc, char **argv)
{
	testdev_begin(argc, argv);
	all_faults(0);
	all_faults(1);
	streams_clear(&streams);
	puts("ok");
	return 0;
}
