/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "vm.h"

#include "checksum.h"
#include "util.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

/* What each device does in a tick: 8 MiB/s of RAM and 4 MiB/s of its own state change. */
#define DMA_PAGES 2
#define DMA_WORDS 8
#define STATE_BYTES ((uint64_t)4 << 10)
#define WORKING_SET 4 /* the guest dirties this part of its RAM */
#define TICK_US 1000
#define LONGEST_PAUSE 64u /* seconds between two tries to bring a device back */

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
        for (unsigned i = 0; i < vm->devices; i++) {
            hardware_ring(&vm->device[i].hardware, vm->vcpu.steps);
        }
        atomic_store_explicit(&vm->vcpu_steps, vm->vcpu.steps, memory_order_relaxed);
        sleep_us(TICK_US);
    }
    return NULL;
}

/* A device writes RAM where it is allowed to: v1's NDMA stops all DMA (N12), v2's P2P states do not (V2-6). */
static void write_by_dma(struct vm *vm, const struct vm_device *d, size_t page, uint64_t value)
{
    if (simdev_dma_write(d->hardware.device, page) == 0) { /* in the device's log now */
        for (size_t word = 0; word < DMA_WORDS; word++) {
            atomic_store_explicit(&vm->ram[page * PAGE_WORDS + word], value + word, memory_order_relaxed);
        }
    }
}

/* A device in another process works by itself; in RAM one sees that it does. */
static void watch_server(struct vm *vm, struct vm_device *d)
{
    const size_t first = d->hardware.server.window / PAGE_BYTES;
    uint64_t sum = 0;
    for (size_t page = first; page < first + SERVER_WINDOW / PAGE_BYTES; page++) {
        sum += atomic_load_explicit(&vm->ram[page * PAGE_WORDS], memory_order_relaxed);
    }
    if (sum != d->seen) {
        d->seen = sum;
        atomic_fetch_add_explicit(&d->ticks, 1, memory_order_relaxed);
    }
}

static void *run_devices(void *opaque)
{
    struct vm *vm = opaque;
    uint64_t random = 2;
    while (!atomic_load_explicit(&vm->work_stop, memory_order_relaxed)) {
        pthread_mutex_lock(&vm->dma_lock);
        for (unsigned i = 0; i < vm->devices; i++) {
            struct vm_device *d = &vm->device[i];
            if (d->hardware.device == NULL) {
                watch_server(vm, d);
                continue;
            }
            const uint64_t tick = atomic_load_explicit(&d->ticks, memory_order_relaxed) + 1;
            if (simdev_redirty(d->hardware.device, next_random(&random) % d->state_bytes, STATE_BYTES, tick) < 0) {
                continue; /* it rests */
            }
            for (unsigned n = 0; n < DMA_PAGES; n++) {
                write_by_dma(vm, d, next_random(&random) % vm->pages, tick);
            }
            atomic_store_explicit(&d->ticks, tick, memory_order_relaxed);
        }
        pthread_mutex_unlock(&vm->dma_lock);
        sleep_us(TICK_US);
    }
    return NULL;
}

static int add_device(struct vm *vm, const struct options *o, const char *name, bool fresh)
{
    struct vm_device *d = &vm->device[vm->devices];
    snprintf(d->name, sizeof d->name, "simdev%u", vm->devices);
    d->state_bytes = o->state_bytes;
    const unsigned number = vm->devices++; /* from here on vm_free() knows it */
    if (o->vfio_user) {
        if (server_new(&d->hardware.server, o, number, !fresh, vm->ram_fd) < 0) {
            return -1;
        }
    } else if (hardware_new(&d->hardware, o, fresh ? 0 : number + 1) < 0) {
        fprintf(stderr, "%s: no memory for %s\n", name, d->name);
        return -1;
    }

    /* These functions take calls from any thread, one at a time: so the library moves the devices side by side. */
    d->hardware.ops.flags |= VFIOMIG_OPS_F_ANY_THREAD;
    struct vfiomig_device_options options;
    VFIOMIG_INIT(&options);
    options.name = d->name;
    /* P22: the draft and v1 have the same region type, and nothing in the device tells them apart. */
    options.dialect = o->dialect == SIMDEV_DRAFT_REWRITE ? VFIOMIG_DIALECT_DRAFT : VFIOMIG_DIALECT_AUTO;
    struct vfiomig_error *error = NULL;
    const int result =
        o->vfio_user ? vfiomig_device_new_connection(d->hardware.server.connection, &options, &d->handle, &error)
                     : vfiomig_device_new_ops(&d->hardware.ops, d->hardware.opaque, &options, &d->handle, &error);
    if (result < 0) {
        return fail(name, error);
    }

    /* A device that cannot be migrated is no error here: a VMM learns it now and blocks migration with this reason. */
    struct vfiomig_device_info info;
    VFIOMIG_INIT(&info);
    if (vfiomig_device_get_info(d->handle, &info, &error) < 0) {
        return fail(name, error);
    }
    if (info.dialect == VFIOMIG_DIALECT_NONE) {
        fprintf(stderr, "%s: %s: not migratable: %s\n", name, d->name, info.reason);
        return -1;
    }
    d->dialect = info.dialect;
    d->caps = info.caps;
    return 0;
}

/*
 * A log of DMA that the VMM keeps itself, for v1 devices, which keep none. A VMM whose devices are all emulated, or
 * behind a page table of its own, has one; for VFIO devices it names a container or an iommufd in the options instead.
 */
static int own_log_start(void *opaque, const struct vfiomig_range *ranges, size_t count, uint64_t *page_size)
{
    struct vm *vm = opaque;
    (void)ranges; /* all RAM: there is no other mapping */
    (void)count;
    *page_size = PAGE_BYTES;
    for (unsigned i = 0; i < vm->devices; i++) {
        simdev_take_dma_log(vm->device[i].hardware.device, NULL, 0);
    }
    return 0;
}

/* Called within vm_log_harvest(), so with the lock. */
static int own_log_report(void *opaque, uint64_t iova, uint64_t size, uint64_t page_size, uint64_t *bitmap)
{
    struct vm *vm = opaque;
    if (iova != 0 || size != vm->ram_bytes || page_size != PAGE_BYTES) {
        return -EINVAL;
    }
    for (unsigned i = 0; i < vm->devices; i++) {
        size_t count = simdev_take_dma_log(vm->device[i].hardware.device, vm->dma_pages, vm->pages);
        for (size_t n = 0; n < count; n++) {
            bitmap[vm->dma_pages[n] / 64] |= UINT64_C(1) << (vm->dma_pages[n] % 64);
        }
    }
    return 0;
}

/* One address space: all devices see RAM at the guest's addresses. */
static int add_tracker(struct vm *vm, const char *name)
{
    struct vfiomig_device *handles[MAX_DEVICES];
    struct vfiomig_tracker_options options;
    struct vfiomig_error *error = NULL;
    const struct vfiomig_mapping ram = {.iova = 0, .size = vm->ram_bytes};
    for (unsigned i = 0; i < vm->devices; i++) {
        handles[i] = vm->device[i].handle;
    }
    VFIOMIG_INIT(&options);
    options.name = "guest RAM";
    options.devices = handles;
    options.device_count = vm->devices;
    int result;
    if (vm->device[0].dialect == VFIOMIG_DIALECT_V1 && vm->ram_fd < 0) {
        struct vfiomig_tracker_ops ops;
        VFIOMIG_INIT(&ops);
        ops.start = own_log_start;
        ops.report = own_log_report;
        result = vfiomig_tracker_new_ops(&ops, vm, &options, &vm->tracker, &error);
    } else {
        result = vfiomig_tracker_new(&options, &vm->tracker, &error);
    }
    /* A real VMM does this where it maps memory for DMA, after it was mapped; and says when it unmaps. */
    if (result == 0) {
        result = vfiomig_tracker_map(vm->tracker, &ram, 1, &error);
    }
    return result < 0 ? fail(name, error) : 0;
}

/* A device that does not answer is named while it does not, and so is a log of the tracker. */
static int say_who_waits(void *opaque, const struct vfiomig_progress_event *event)
{
    (void)opaque;
    if (event->kind == VFIOMIG_PROGRESS_WAITING && event->device->request != VFIOMIG_REQUEST_NONE) {
        fprintf(stderr, "waiting for %s: %.1f s so far\n", event->device->name, (double)event->elapsed_ns / 1e9);
    }
    return 0;
}

/* The devices and the tracker of one VM, as long as the VM lives; and whether it can be migrated at all. */
static int add_group(struct vm *vm, const char *name)
{
    struct vfiomig_error *error = NULL;
    struct vfiomig_report *reasons = NULL;
    struct vfiomig_group_abilities can;
    struct vfiomig_group_options options;
    VFIOMIG_INIT(&options);
    options.progress = say_who_waits; /* once a second */
    int result = vfiomig_group_new(&options, &vm->group, &error);
    for (unsigned i = 0; result == 0 && i < vm->devices; i++) {
        result = vfiomig_group_add_device(vm->group, vm->device[i].handle, &error);
    }
    VFIOMIG_INIT(&can);
    if (result < 0 || vfiomig_group_add_tracker(vm->group, vm->tracker, &error) < 0 ||
        vfiomig_group_get_abilities(vm->group, &can, &reasons, &error) < 0) {
        return fail(name, error);
    }
    /* A VMM blocks migration with these reasons, and maps device memory for peer-to-peer DMA only with
     * VFIOMIG_ABILITY_P2P (N19). Here nothing is mapped but RAM. */
    vm->page_requests = (can.abilities & VFIOMIG_ABILITY_PAGE_REQUESTS) != 0;
    const bool migratable = (can.abilities & VFIOMIG_ABILITY_MIGRATABLE) != 0;
    if (!migratable) {
        fprintf(stderr, "%s: cannot be migrated: %s\n", name, vfiomig_report_text(reasons));
    }
    vfiomig_report_free(reasons);
    return migratable ? 0 : -1;
}

int vm_new(struct vm *vm, const struct options *o, const char *name, bool fresh)
{
    *vm = (struct vm){
        .ram_bytes = o->ram_bytes, .ram_fd = -1, .pages = o->ram_bytes / PAGE_BYTES, .dirty_rate = o->dirty_rate};
    pthread_mutex_init(&vm->dma_lock, NULL);
    vm->bitmap_words = (vm->pages + 63) / 64;
    vm->dirty = calloc(vm->bitmap_words, sizeof *vm->dirty);
    vm->dma_pages = calloc(vm->pages, sizeof *vm->dma_pages);
    int kind = MAP_PRIVATE | MAP_ANONYMOUS;
    if (o->vfio_user) { /* memory that servers can map, too */
        kind = MAP_SHARED;
        vm->ram_fd = memfd_create("guest RAM", MFD_CLOEXEC);
        if (vm->ram_fd < 0 || ftruncate(vm->ram_fd, (off_t)vm->ram_bytes) < 0) {
            perror(name);
            return -1;
        }
    }
    void *ram = mmap(NULL, vm->ram_bytes, PROT_READ | PROT_WRITE, kind | MAP_NORESERVE, vm->ram_fd, 0);
    vm->ram = ram == MAP_FAILED ? NULL : ram;
    if (vm->dirty == NULL || vm->dma_pages == NULL || vm->ram == NULL) {
        fprintf(stderr, "%s: no memory for a guest with %zu MiB\n", name, vm->ram_bytes >> 20);
        return -1;
    }
    while (vm->devices < o->devices) {
        if (add_device(vm, o, name, fresh) < 0) {
            return -1;
        }
    }
    return add_tracker(vm, name) < 0 ? -1 : add_group(vm, name);
}

void vm_boot(struct vm *vm)
{
    vm->vcpu.random = 1;
    for (size_t word = 0; word < vm->pages * PAGE_WORDS; word++) {
        atomic_store_explicit(&vm->ram[word], next_random(&vm->vcpu.random), memory_order_relaxed);
    }
}

int vm_start_devices(struct vm *vm)
{
    vm->works = pthread_create(&vm->work_thread, NULL, run_devices, vm) == 0;
    if (!vm->works) {
        fprintf(stderr, "no thread for the devices\n");
        return -1;
    }
    return 0;
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
    if (vm->works) {
        atomic_store(&vm->work_stop, true);
        pthread_join(vm->work_thread, NULL);
    }
    /* Before the devices to which they refer, the last one first. None of them changes a device's state. */
    vfiomig_migration_free(vm->migration);
    vfiomig_group_free(vm->group);
    vfiomig_tracker_free(vm->tracker);
    for (unsigned i = 0; i < vm->devices; i++) {
        /* Before the device itself: after this call the library never touches it again. */
        vfiomig_device_free(vm->device[i].handle);
        hardware_free(&vm->device[i].hardware);
    }
    if (vm->ram != NULL) {
        munmap((void *)vm->ram, vm->ram_bytes);
    }
    if (vm->ram_fd >= 0) {
        close(vm->ram_fd);
    }
    free((void *)vm->dirty);
    free(vm->dma_pages);
    pthread_mutex_destroy(&vm->dma_lock);
}

int vm_pause(struct vm *vm, const char *name)
{
    struct vfiomig_error *error = NULL;
    vm_stop_vcpu(vm); /* W5: before the devices, which nobody may touch then */
    return vfiomig_group_pause(vm->group, &error) < 0 ? fail(name, error) : 0;
}

int vm_resume(struct vm *vm, const char *name)
{
    struct vfiomig_error *error = NULL;
    if (vfiomig_group_resume(vm->group, &error) < 0) {
        return fail(name, error);
    }
    return vm_start_vcpu(vm); /* when every device answers again */
}

int vm_begin(struct vm *vm, uint32_t direction, struct vfiomig_error **error)
{
    return vfiomig_migration_new(vm->group, direction, NULL, &vm->migration, error);
}

void vm_read_times(const struct vm *vm, uint32_t phase, struct step_time *time)
{
    struct vfiomig_report *report = NULL;
    *time = (struct step_time){0};
    if (vfiomig_migration_get_report(vm->migration, &report, NULL) < 0) {
        return;
    }
    for (size_t n = 0; n < vfiomig_report_phase_count(report); n++) {
        const struct vfiomig_phase_report *entered = vfiomig_report_phase(report, n);
        if (entered->phase != phase) {
            continue;
        }
        *time = (struct step_time){.phase_ns = entered->duration_ns};
        for (size_t i = 0; i < entered->result_count; i++) {
            const struct vfiomig_device_result *r = &entered->results[i];
            time->moved += r->from != r->found;
            time->sum_ns += r->duration_ns;
        }
    }
    vfiomig_report_free(report);
}

int vm_advance(struct vm *vm, uint32_t phase, struct step_time *time, struct vfiomig_error **error)
{
    const int result = vfiomig_migration_advance(vm->migration, phase, 0, error);
    vm_read_times(vm, phase, time);
    /* A DMA write that a device was allowed before it stopped is in RAM now. Hardware sees to that by itself (N12). */
    pthread_mutex_lock(&vm->dma_lock);
    pthread_mutex_unlock(&vm->dma_lock);
    return result;
}

int vm_abort(struct vm *vm, uint32_t flags, struct vfiomig_error **error)
{
    unsigned pause = 1;
    int result;
    /* All but those that the message names run again; once those answer they are brought back, too. For two minutes: what takes
     * longer is for whoever looks after the device. */
    while ((result = vfiomig_migration_abort(vm->migration, VFIOMIG_ABORT_TO_RUNNING, flags, error)) == -ETIMEDOUT &&
           pause <= LONGEST_PAUSE) {
        fprintf(stderr, "%s; asked again in %u s\n", vfiomig_error_message(*error), pause);
        vfiomig_error_free(*error);
        *error = NULL;
        sleep(pause);
        pause *= 2;
    }
    return result;
}

void vm_print_phases(const struct vm *vm, const char *who)
{
    struct vfiomig_report *report = NULL;
    if (vm->migration != NULL && vfiomig_migration_get_report(vm->migration, &report, NULL) == 0) {
        printf("\nphases at the %s\n%s\n", who, vfiomig_report_text(report));
        vfiomig_report_free(report);
    }
}

void vm_log_clear(struct vm *vm)
{
    for (size_t word = 0; word < vm->bitmap_words; word++) {
        atomic_store_explicit(&vm->dirty[word], 0, memory_order_relaxed);
    }
}

int vm_log_harvest(struct vm *vm, uint64_t *bitmap, struct vfiomig_error **error)
{
    /* Plain, for only the migration uses this bitmap. One that the vCPU sets bits in takes VFIOMIG_DEST_F_ATOMIC. */
    const struct vfiomig_dest dest = {.size = vm->ram_bytes, .page_size = PAGE_BYTES, .bitmap = bitmap};
    struct vfiomig_harvest_request request;
    struct vfiomig_harvest_result result;
    VFIOMIG_INIT(&request);
    VFIOMIG_INIT(&result);
    request.dests = &dest;
    request.dest_count = 1;

    /* With the lock held, so that what is in a device's log is in RAM too, and not written only after it was sent.
     * Hardware writes first and logs then, and needs no lock. */
    pthread_mutex_lock(&vm->dma_lock);
    int status = vfiomig_group_harvest(vm->group, &request, &result, error);
    pthread_mutex_unlock(&vm->dma_lock);
    if (status == 0 && (result.flags & VFIOMIG_HARVEST_DEGRADED) != 0) {
        /* No failure (P13): the pages in doubt are dirty. Downtime may suffer, the guest does not. */
        fprintf(stderr, "a log could not be read (errno %d): %llu KiB more are dirty\n", result.first_errno,
                (unsigned long long)result.degraded_bytes >> 10);
    }
    for (size_t word = 0; word < vm->bitmap_words; word++) {
        bitmap[word] |= atomic_exchange_explicit(&vm->dirty[word], 0, memory_order_acquire);
    }
    return status;
}

void vm_print_log(const struct vm *vm)
{
    struct vfiomig_tracker_info info;
    VFIOMIG_INIT(&info);
    if (vfiomig_tracker_get_info(vm->tracker, &info, NULL) == 0) {
        printf("pages written by DMA: %s\n", info.reason);
    }
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
    uint64_t ticks[MAX_DEVICES];
    const uint64_t steps = atomic_load(&vm->vcpu_steps);
    for (unsigned i = 0; i < vm->devices; i++) {
        ticks[i] = atomic_load(&vm->device[i].ticks);
    }
    sleep_us(100000);
    bool alive = atomic_load(&vm->vcpu_steps) > steps;
    for (unsigned i = 0; i < vm->devices; i++) {
        alive = alive && atomic_load(&vm->device[i].ticks) > ticks[i];
    }
    return alive;
}

uint64_t vm_print_violations(const struct vm *vm, const char *who)
{
    uint64_t count = 0;
    for (unsigned i = 0; i < vm->devices; i++) {
        count += hardware_print_violations(&vm->device[i].hardware, who, vm->device[i].name);
    }
    return count;
}
