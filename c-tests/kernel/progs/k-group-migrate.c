/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Devices of every dialect migrate as one group: two mtty and two test devices,
 * v1 and v2, and four test devices of four kinds; through pause and resume,
 * save and load. What arrives is what left, and no device violated the protocol.
 *
 * Rules: N2, N3, N4, N5, V2-6, P12; phases: docs/vmm-guide.md.
 */
#include "group.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static const char *const mixed[] = {
	NULL,
	"dialect=v1 ndma=1 window=two state=2M",
	NULL,
	"dialect=v2 state=3M",
};
static const char *const kinds[] = {
	"dialect=v1 ndma=0 state=1M",
	"dialect=v1 ndma=1 state=1M window=trapped",
	"dialect=v2 p2p=0 precopy=0 state=1M",
	"dialect=draft2 state=1M",
};

static struct vm_streams streams;

/* A VM that stops and goes on, with nothing sent. */
static void pause_and_resume(struct vm *vm)
{
	struct vfiomig_report *report = NULL;
	const struct vfiomig_phase_report *phase;

	lab_step("pause and resume");
	vm_fill(vm, 3);
	OK(vfiomig_group_pause(vm->group, ERR));
	ALL_IN(vm, VFIOMIG_STATE_STOP);
	OK(vfiomig_group_get_report(vm->group, &report, ERR));
	CHECK_EQ(vfiomig_report_phase_count(report), 1);
	phase = vfiomig_report_phase(report, 0);
	CHECK_EQ(phase->result_count, vm->count);
	for (int i = 0; i < vm->count; i++) {
		CHECK_EQ(phase->results[i].from, VFIOMIG_STATE_RUNNING);
		CHECK_EQ(phase->results[i].found, VFIOMIG_STATE_STOP);
	}
	vfiomig_report_free(report);
	OK(vfiomig_group_resume(vm->group, ERR));
	ALL_IN(vm, VFIOMIG_STATE_RUNNING);
	CHECK(vm_holds(vm, 3));
}

/* Stop and continue in the middle: what was sent is void, and the next migration is whole. */
static void pause_in_precopy(struct vm *vm)
{
	unsigned char byte;
	uint32_t flags;

	lab_step("pause and resume in pre-copy");
	streams_clear(&streams);
	vm_begin(vm, VFIOMIG_DIRECTION_SAVE);
	ADVANCE(vm, VFIOMIG_PHASE_SAVE_PRE_COPY);
	CHECK(vfiomig_migration_save_iterate(vm->migration,
					     DRAIN(.budget_bytes = 1 << 20, .budget_ns = 1000000000,
						   .put = vm_put, .opaque = &streams),
					     NULL, 0, ERR) > 0);
	OK(vfiomig_group_pause(vm->group, ERR));
	for (int i = 0; i < vm->count; i++) {
		bool precopy = lab_info(vm->device[i].d).caps & VFIOMIG_CAP_PRE_COPY;

		CHECK_EQ(vfiomig_device_get_state(vm->device[i].d),
			 precopy ? VFIOMIG_STATE_STOP_COPY : VFIOMIG_STATE_STOP);
	}
	OK(vfiomig_group_resume(vm->group, ERR));
	for (int i = 0; i < vm->count; i++) /* the log of a draft answers only while it saves */
		CHECK_EQ(vfiomig_device_get_state(vm->device[i].d),
			 lab_info(vm->device[i].d).dialect == VFIOMIG_DIALECT_DRAFT ? VFIOMIG_STATE_PRE_COPY
										  : VFIOMIG_STATE_RUNNING);
	for (int i = 0; i < vm->count; i++)
		if (streams.length[i])
			FAILS(vfiomig_device_read(vm->device[i].d, &byte, 1, &flags, ERR), STALE, ESTALE);
	OK(vfiomig_migration_abort(vm->migration, VFIOMIG_ABORT_TO_RUNNING, 0, ERR));
	vm_end(vm);
	for (int i = 0; i < vm->count; i++) {
		OK(vfiomig_device_restart_stream(vm->device[i].d, ERR));
		if (vm->device[i].config) /* a session that ends with data unread */
			testdev_forget_violations(&vm->device[i].t);
	}
}

static void arrives(struct vm *from, struct vm *to, unsigned int seed)
{
	lab_step("save and load");
	vm_fill(from, seed);
	vm_fill(to, seed + 100);
	vm_save(from, &streams);
	vm_load(to, &streams);
	CHECK(vm_holds(to, seed));
	/* The guest runs elsewhere now; here only an abort lets it run again. */
	for (int i = 0; i < from->count; i++)
		OK(vfiomig_device_reset(from->device[i].d, ERR));
	ALL_IN(from, VFIOMIG_STATE_RUNNING);
}

/* A VM that is paused stays so on the way. */
static void paused(struct vm *from, struct vm *to)
{
	lab_step("a paused VM");
	vm_fill(from, 7);
	vm_fill(to, 8);
	OK(vfiomig_group_pause(from->group, ERR));
	streams_clear(&streams);
	vm_begin(from, VFIOMIG_DIRECTION_SAVE);
	ADVANCE(from, VFIOMIG_PHASE_SAVE_PRE_COPY);
	for (int i = 0; i < from->count; i++) /* draft devices log only while they save */
		if (!from->device[i].config || !strstr(from->device[i].config, "draft"))
			CHECK_EQ(vfiomig_device_get_state(from->device[i].d), VFIOMIG_STATE_STOP);
	ADVANCE(from, VFIOMIG_PHASE_SAVE_STOP_COPY);
	vm_save_rest(from, &streams);
	FAILS(vfiomig_migration_abort(from->migration, VFIOMIG_ABORT_TO_RUN_STATE, 0, ERR), ORDER, 0);
	OK(vfiomig_migration_abort(from->migration, VFIOMIG_ABORT_TO_RUN_STATE, VFIOMIG_ABORT_F_NO_SECOND_GUEST, ERR));
	ALL_IN(from, VFIOMIG_STATE_STOP);
	vm_end(from);
	vm_load(to, &streams);
	CHECK(vm_holds(to, 7));
	OK(vfiomig_group_resume(from->group, ERR));
	CHECK(vm_holds(from, 7));
}

static void all_of(const char *const *configs, uint32_t max_workers)
{
	struct vm from, to;

	lab_step("%s, %u workers", configs == mixed ? "mixed" : "four kinds", max_workers);
	vm_open(&from, configs, 4, 1, 0, max_workers);
	vm_open(&to, configs, 4, 5, 1, max_workers);
	pause_and_resume(&from);
	arrives(&from, &to, 11);
	pause_in_precopy(&from);
	arrives(&from, &to, 12);
	paused(&from, &to);
	vm_close(&from);
	vm_close(&to);
}

int main(int argc, char **argv)
{
	testdev_begin(argc, argv);
	all_of(mixed, 0);
	all_of(mixed, 1);
	all_of(kinds, 0);
	streams_clear(&streams);
	puts("ok");
	return 0;
}
