/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Groups of devices, for programs that migrate several at once: VMs of mtty
 * and test devices, whole migrations by the calls for simple VMMs, and what
 * the test driver's own log says of barriers and of time.
 */
#ifndef GROUP_H
#define GROUP_H

#include "testdev.h"

#define VM_MAX 4

struct vm_device {
	const char *config;	/* of a test device; NULL: an mtty */
	struct testdev t;	/* a test device */
	struct lab_device uart; /* an mtty */
	int ports;
	struct vfiomig_device *d;
};

struct vm {
	struct vm_device device[VM_MAX];
	int count;
	struct vfiomig_tracker *tracker; /* everything: no memory is mapped */
	struct vfiomig_group *group;
	struct vfiomig_migration *migration;
};

/*
 * Opens a device for each configuration and makes a group of them. Test
 * devices are numbered from `first` on; an mtty is NULL, and the lab has one
 * with two ports and one with a single port for each side (0 or 1).
 */
void vm_open(struct vm *vm, const char *const *configs, int count, int first, int side,
	     uint32_t max_workers);
void vm_close(struct vm *vm);

void vm_begin(struct vm *vm, uint32_t direction);
void vm_end(struct vm *vm);

#define ADVANCE(vm, phase) OK(vfiomig_migration_advance((vm)->migration, (phase), 0, ERR))
#define PHASE_IS(vm, phase) CHECK_EQ(vfiomig_migration_get_phase((vm)->migration), (phase))

/* Every device is in this state, says the kernel. */
#define ALL_IN(vm, state) vm_check_states(__FILE__, __LINE__, (vm), (state))
void vm_check_states(const char *file, int line, struct vm *vm, uint32_t state);

/* Contents that differ from device to device. */
void vm_fill(struct vm *vm, unsigned int seed);
bool vm_holds(struct vm *vm, unsigned int seed);

/* Streams kept in memory, one per device. */
struct vm_streams {
	unsigned char *data[VM_MAX];
	size_t length[VM_MAX], read[VM_MAX], segments[VM_MAX], next_segment[VM_MAX];
	size_t *segment[VM_MAX]; /* where each segment ends */
	bool complete[VM_MAX];
};
void streams_clear(struct vm_streams *s);
int vm_put(void *streams, size_t device, const void *data, size_t len, uint32_t flags);
int64_t vm_get(void *streams, size_t device, void *buf, size_t len, uint32_t *flags, uint64_t *total);

/* All trackers, at once; nothing is mapped. */
void vm_harvest(struct vm *vm);
/* From STOP_COPY: final harvest, every stream to its END, HALTED. */
void vm_save_rest(struct vm *vm, struct vm_streams *s);
/* A whole save, from IDLE to HALTED, and a whole load, from IDLE to LOAD_RUNNING. */
void vm_save(struct vm *vm, struct vm_streams *s);
void vm_load(struct vm *vm, struct vm_streams *s);

/* ---- the test driver's own log of transitions ------------------------------- */

struct passage {
	char from[16], to[16], found[16];
	int error;
	uint64_t begin, end; /* CLOCK_MONOTONIC, nanoseconds */
};
/* The last transition of a device to a state that was asked for; false: there is none. */
bool last_passage(const struct testdev *t, uint32_t to, struct passage *p);
void forget_passages(const struct testdev *t);

/*
 * No test device of the VM begins a transition to `after` before the last one
 * has ended its own to `before`, of those that made one.
 */
void vm_check_barrier(struct vm *vm, uint32_t before, uint32_t after);

#endif
