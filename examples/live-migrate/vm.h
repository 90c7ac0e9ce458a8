/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A virtual machine, small: RAM, one vCPU, devices. No migration in here, but for the step that all devices take. */
#ifndef VM_H
#define VM_H

#include "hardware.h"
#include "options.h"
#include "wire.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#define PAGE_BYTES ((size_t)4096)
#define PAGE_WORDS (PAGE_BYTES / sizeof(uint64_t))

/* What the vCPU needs to go on elsewhere. */
struct vcpu {
    uint64_t random;
    uint64_t steps;
};

struct vm_device {
    char name[32];                 /* in every message; unique within a migration */
    struct hardware hardware;
    struct vfiomig_device *handle; /* the library's */
    uint32_t dialect;              /* VFIOMIG_DIALECT_* */
    uint32_t caps;                 /* VFIOMIG_CAP_* */
    size_t state_bytes;
    uint64_t seen;                 /* --vfio-user: what it had written when it was looked at last */
    atomic_uint_fast64_t ticks;    /* how often it has worked; grows only while it runs */
};

struct vm {
    /* Written by the vCPU and by DMA while the migration reads it; so, all of them use relaxed atomics. */
    _Atomic uint64_t *ram;
    size_t ram_bytes;
    int ram_fd; /* --vfio-user: for the servers; else -1 */
    size_t pages;
    size_t bitmap_words;
    _Atomic uint64_t *dirty; /* pages that the vCPU wrote */
    struct vfiomig_tracker *tracker; /* pages that the devices wrote */
    struct vfiomig_group *group;     /* all devices, and the tracker */
    struct vfiomig_migration *migration; /* while there is one */
    bool page_requests;              /* all devices can be kept from DMA while vCPUs answer for them (N20) */
    uint64_t *dma_pages;             /* v1: room for what the VM's own log of DMA says */

    unsigned devices;
    struct vm_device device[MAX_DEVICES];
    pthread_mutex_t dma_lock; /* held while the devices work */
    pthread_t work_thread;
    atomic_bool work_stop;
    bool works;

    struct vcpu vcpu;
    atomic_uint_fast64_t vcpu_steps; /* a copy for other threads */
    atomic_bool vcpu_stop;
    bool vcpu_runs;
    pthread_t vcpu_thread;
    uint64_t dirty_rate;
};

/* These return 0 or -1 and have said why. A VM that is fresh is one to be loaded. */
int vm_new(struct vm *vm, const struct options *o, const char *name, bool fresh);
int vm_start_devices(struct vm *vm);
int vm_start_vcpu(struct vm *vm);

void vm_boot(struct vm *vm);      /* the guest fills its RAM */
void vm_stop_vcpu(struct vm *vm); /* when it returns the vCPU is quiet */
void vm_free(struct vm *vm);

/* The guest stops and goes on, with nothing migrated. 0 or -1, and has said why. */
int vm_pause(struct vm *vm, const char *name);
int vm_resume(struct vm *vm, const char *name);

/* A migration of the VM's devices: VFIOMIG_DIRECTION_*. Ended by vm_free(). */
int vm_begin(struct vm *vm, uint32_t direction, struct vfiomig_error **error);

/* Brings all devices into a phase, side by side, with a barrier behind it (N5); how long it took is in `time`. */
int vm_advance(struct vm *vm, uint32_t phase, struct step_time *time, struct vfiomig_error **error);

/* The same of a phase that was entered, the last time; all 0 if it was not. */
void vm_read_times(const struct vm *vm, uint32_t phase, struct step_time *time);

/* Brings all devices back; the source's run again, the destination's are reset. `flags`: VFIOMIG_ABORT_F_*. */
int vm_abort(struct vm *vm, uint32_t flags, struct vfiomig_error **error);

/* What the library did to each device, and how long it took. */
void vm_print_phases(const struct vm *vm, const char *who);

/*
 * The dirty log: what the vCPU and the devices wrote since the last harvest. Harvest sets bits and clears the log. The
 * devices' part is the library's; what its own threads write a VMM must know itself.
 */
void vm_log_clear(struct vm *vm); /* the vCPU's part; the devices' begins with VFIOMIG_PHASE_SAVE_TRACKING */
int vm_log_harvest(struct vm *vm, uint64_t *bitmap, struct vfiomig_error **error);

/* Which log of the devices' writes it is, and why, in words. */
void vm_print_log(const struct vm *vm);

/* Copies pages out while others write to them. */
void vm_copy_pages(const struct vm *vm, size_t first, size_t count, uint64_t *to);

/* Of RAM; for a VM whose vCPU and devices are stopped. */
uint64_t vm_ram_checksum(const struct vm *vm);

/* Whether vCPU and all devices get on with their work, seen over a tenth of a second. */
bool vm_is_alive(struct vm *vm);

/* Prints what the devices have to say against their user; how much it was. */
uint64_t vm_print_violations(const struct vm *vm, const char *who);

#endif
