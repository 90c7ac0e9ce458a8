/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "vm.h"

#include "../checksum.h"
#include "util.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#define DMA_RATE ((uint64_t)8 << 20)
#define STATE_RATE ((uint64_t)4 << 20)
#define WORKING_SET 4 /* the guest dirties this part of its RAM */
#define TICK_US 1000

static uint64_t next_random(uint64_t *state)
{
    *state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return *state >> 20;
}

static void write_page(struct vm *vm, size_t page)
{
    for (size_t word = 0; word < PAGE_WORDS; word += PAGE_WORDS / 8) {
        atomic_store_explicit(&vm->ram[page * PAGE_WORDS + word], vm->vcpu.steps + word, memory_order_relaxed);
    }
    /* First the write, then the bit: else a harvest in between takes the bit and sends the old page. */
    atomic_fetch_or_explicit(&vm->dirty[page / 64], UINT64_C(1) << (page % 64), memory_order_release);
}

static void *run_vcpu(void *opaque)
{
    struct vm *vm = opaque;
    const size_t working_set = vm->pages / WORKING_SET + 1 < vm->pages ? vm->pages / WORKING_SET + 1 : vm->pages;
    uint64_t owed = 0; /* bytes still to be dirtied */
    while (!atomic_load_explicit(&vm->vcpu_stop, memory_order_relaxed)) {
        for (owed += vm->dirty_rate * TICK_US / 1000000; owed >= PAGE_BYTES; owed -= PAGE_BYTES) {
            write_page(vm, next_random(&vm->vcpu.random) % working_set);
        }
        vm->vcpu.steps++;
        softdev_mmio_doorbell(vm->hardware, vm->vcpu.steps);
        atomic_store_explicit(&vm->vcpu_steps, vm->vcpu.steps, memory_order_relaxed);
        sleep_us(TICK_US);
    }
    return NULL;
}

int vm_new(struct vm *vm, const struct options *o, const char *name)
{
    *vm = (struct vm){.ram_bytes = o->ram_bytes, .pages = o->ram_bytes / PAGE_BYTES, .dirty_rate = o->dirty_rate};
    vm->bitmap_words = (vm->pages + 63) / 64;
    vm->dirty = calloc(vm->bitmap_words, sizeof *vm->dirty);
    void *ram = mmap(NULL, vm->ram_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    vm->ram = ram == MAP_FAILED ? NULL : ram;
    if (vm->dirty == NULL || vm->ram == NULL) {
        fprintf(stderr, "%s: no memory for a guest with %zu MiB\n", name, vm->ram_bytes >> 20);
        return -1;
    }
    vm->hardware = softdev_new(&(struct softdev_config){
        .state_bytes = o->state_bytes,
        .state_rate = STATE_RATE,
        .ram = vm->ram,
        .ram_bytes = vm->ram_bytes,
        .dma_rate = DMA_RATE,
    });
    if (vm->hardware == NULL) {
        fprintf(stderr, "%s: no memory for the device\n", name);
        return -1;
    }

    struct vfiomig_device_ops ops;
    softdev_get_ops(&ops);
    struct vfiomig_device_options options;
    VFIOMIG_INIT(&options);
    options.name = "softdev0"; /* in every message; unique within a migration */
    struct vfiomig_error *error = NULL;
    if (vfiomig_device_new_ops(&ops, vm->hardware, &options, &vm->device, &error) < 0) {
        return fail(name, error);
    }

    /* A device that cannot be migrated is no error here: a VMM learns it now and blocks migration with this reason. */
    struct vfiomig_device_info info;
    VFIOMIG_INIT(&info);
    if (vfiomig_device_get_info(vm->device, &info, &error) < 0) {
        return fail(name, error);
    }
    if (info.dialect == VFIOMIG_DIALECT_AUTO) {
        fprintf(stderr, "%s: not migratable: %s\n", name, info.reason);
        return -1;
    }
    return 0;
}

void vm_boot(struct vm *vm)
{
    vm->vcpu.random = 1;
    for (size_t word = 0; word < vm->pages * PAGE_WORDS; word++) {
        atomic_store_explicit(&vm->ram[word], next_random(&vm->vcpu.random), memory_order_relaxed);
    }
    softdev_mmio_enable(vm->hardware);
}

int vm_start_vcpu(struct vm *vm)
{
    atomic_store(&vm->vcpu_stop, false);
    vm->vcpu_runs = pthread_create(&vm->vcpu_thread, NULL, run_vcpu, vm) == 0;
    if (!vm->vcpu_runs) {
        fprintf(stderr, "no thread for the vCPU\n");
        return -1;
    }
    return 0;
}

void vm_stop_vcpu(struct vm *vm)
{
    if (vm->vcpu_runs) {
        atomic_store(&vm->vcpu_stop, true);
        pthread_join(vm->vcpu_thread, NULL);
        vm->vcpu_runs = false;
    }
}

void vm_free(struct vm *vm)
{
    vm_stop_vcpu(vm);
    vfiomig_device_free(vm->device); /* before the device itself: after this call the library never touches it again */
    softdev_free(vm->hardware);
    if (vm->ram != NULL) {
        munmap((void *)vm->ram, vm->ram_bytes);
    }
    free((void *)vm->dirty);
}

void vm_log_start(struct vm *vm)
{
    for (size_t word = 0; word < vm->bitmap_words; word++) {
        atomic_store_explicit(&vm->dirty[word], 0, memory_order_relaxed);
    }
    softdev_log_start(vm->hardware);
}

void vm_log_stop(struct vm *vm)
{
    softdev_log_stop(vm->hardware);
}

void vm_log_harvest(struct vm *vm, uint64_t *bitmap)
{
    for (size_t word = 0; word < vm->bitmap_words; word++) {
        bitmap[word] |= atomic_exchange_explicit(&vm->dirty[word], 0, memory_order_acquire);
    }
    softdev_log_harvest(vm->hardware, bitmap);
}

void vm_copy_pages(const struct vm *vm, size_t first, size_t count, uint64_t *to)
{
    const _Atomic uint64_t *from = vm->ram + first * PAGE_WORDS;
    for (size_t word = 0; word < count * PAGE_WORDS; word++) {
        to[word] = atomic_load_explicit(&from[word], memory_order_relaxed);
    }
}

uint64_t vm_ram_checksum(const struct vm *vm)
{
    return checksum((const void *)vm->ram, vm->ram_bytes);
}

bool vm_is_alive(struct vm *vm)
{
    uint64_t steps = atomic_load(&vm->vcpu_steps);
    uint64_t ticks = softdev_ticks(vm->hardware);
    sleep_us(100000);
    return atomic_load(&vm->vcpu_steps) > steps && softdev_ticks(vm->hardware) > ticks;
}
