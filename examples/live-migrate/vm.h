/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A virtual machine, small: RAM, one vCPU, one device. No migration in here. */
#ifndef VM_H
#define VM_H

#include "../softdev.h"
#include "options.h"

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

struct vm {
    /* Written by the vCPU and by DMA while the migration reads it; so, all of them use relaxed atomics. */
    _Atomic uint64_t *ram;
    size_t ram_bytes;
    size_t pages;
    size_t bitmap_words;
    _Atomic uint64_t *dirty; /* pages that the vCPU wrote */

    struct softdev *hardware;
    struct vfiomig_device *device; /* the library's handle for it */

    struct vcpu vcpu;
    atomic_uint_fast64_t vcpu_steps; /* a copy for other threads */
    atomic_bool vcpu_stop;
    bool vcpu_runs;
    pthread_t vcpu_thread;
    uint64_t dirty_rate;
};

/* All of these return 0 or -1 and have said why. */
int vm_new(struct vm *vm, const struct options *o, const char *name);
int vm_start_vcpu(struct vm *vm);

/* The guest boots: it fills its RAM and makes the device work. */
void vm_boot(struct vm *vm);
void vm_stop_vcpu(struct vm *vm); /* when it returns the vCPU is quiet */
void vm_free(struct vm *vm);

/* The dirty log: what the vCPU and the device wrote since the last harvest. Harvest sets bits and clears the log. */
void vm_log_start(struct vm *vm);
void vm_log_stop(struct vm *vm);
void vm_log_harvest(struct vm *vm, uint64_t *bitmap);

/* Copies pages out while others write to them. */
void vm_copy_pages(const struct vm *vm, size_t first, size_t count, uint64_t *to);

/* Of RAM; for a VM whose vCPU and device are stopped. */
uint64_t vm_ram_checksum(const struct vm *vm);

/* Whether vCPU and device get on with their work, seen over a tenth of a second. */
bool vm_is_alive(struct vm *vm);

#endif
