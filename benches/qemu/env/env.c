/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* What QEMU's code finds around it; see env.h. And qemu.h, by which the harness drives that code. */
#include "../harness/qemu.h"

#include <stdarg.h>
#include <stdio.h>

#include "code.h"

#define WORD_BITS 64u

bool tcg_allowed;
unsigned int global_dirty_tracking;
uint64_t total_dirty_pages;
RAMList ram_list;
unsigned long rcu_gp_ctr = 1;
QemuEvent rcu_gp_event;
QEMU_DEFINE_CO_TLS(struct rcu_reader_data, rcu_reader)

static struct {
	uint64_t pages;
	uint64_t block_count;
	uintptr_t page_size;
	VFIOContainerBase container;
	VFIODevice *devices;
	RAMBlock *ram;
	qemu_fill_fn *fill;
	void *opaque;
	uint64_t dirty_pages;
	struct {
		bool on;
		void *memory;
		size_t size;
	} pool;
} vm;

uintptr_t qemu_real_host_page_size(void)
{
	return vm.page_size;
}

/*
 * The pool is the buffer of one harvest kept for the next, which calloc() would have given zeroed: so it is zeroed
 * here, and its pages are there already.
 */
void *g_try_malloc0(size_t size)
{
	if (!vm.pool.on)
		return calloc(1, size);
	if (vm.pool.size < size) {
		free(vm.pool.memory);
		vm.pool.memory = malloc(size);
		vm.pool.size = size;
	}
	return memset(vm.pool.memory, 0, size);
}

void g_free(void *memory)
{
	if (memory != vm.pool.memory)
		free(memory);
}

int vfio_device_dma_logging_report(VFIODevice *device, hwaddr iova, hwaddr size, void *bitmap)
{
	vm.fill(vm.opaque, device->number, iova, size, vm.page_size, bitmap);
	return 0;
}

bool vfio_devices_all_device_dirty_tracking(const VFIOContainerBase *container)
{
	(void)container;
	return true;
}

void trace_vfio_get_dirty_bitmap(uint64_t iova, uint64_t size, uint64_t bitmap_size, uint64_t start, uint64_t dirty)
{
	(void)iova, (void)size, (void)bitmap_size, (void)start;
	vm.dirty_pages += dirty;
}

static _Noreturn void never(const char *what)
{
	fprintf(stderr, "bench-qemu: QEMU's code called %s, which no case of the benchmark leads to\n", what);
	abort();
}

int vfio_container_query_dirty_bitmap(const VFIOContainerBase *container, void *bitmap, hwaddr iova, hwaddr size,
				      Error **errp)
{
	(void)container, (void)bitmap, (void)iova, (void)size, (void)errp;
	never(__func__);
}

void error_setg_errno(Error **errp, int error, const char *format, ...)
{
	(void)errp, (void)error;
	never(format);
}

void tlb_reset_dirty_range_all(ram_addr_t start, ram_addr_t length)
{
	(void)start, (void)length;
	never(__func__);
}

void memory_region_clear_dirty_bitmap(MemoryRegion *region, hwaddr start, hwaddr length)
{
	(void)region, (void)start, (void)length;
	never(__func__);
}

bool cpu_physical_memory_test_and_clear_dirty(ram_addr_t start, ram_addr_t length, unsigned client)
{
	(void)start, (void)length, (void)client;
	never(__func__);
}

void qemu_event_set(QemuEvent *event)
{
	(void)event;
	never(__func__);
}

void qemu_setup(uint64_t pages, unsigned devices, uint64_t page_size, qemu_fill_fn *fill, void *opaque)
{
	vm.pages = (pages + WORD_BITS - 1) / WORD_BITS * WORD_BITS;
	vm.block_count = (vm.pages + DIRTY_MEMORY_BLOCK_SIZE - 1) / DIRTY_MEMORY_BLOCK_SIZE;
	vm.page_size = page_size;
	vm.fill = fill;
	vm.opaque = opaque;
	global_dirty_tracking = 1;

	for (int client = 0; client < DIRTY_MEMORY_NUM; client++) {
		DirtyMemoryBlocks *blocks =
			calloc(1, sizeof *blocks + vm.block_count * sizeof(unsigned long *));

		for (uint64_t i = 0; i < vm.block_count; i++)
			blocks->blocks[i] = bitmap_new((long)DIRTY_MEMORY_BLOCK_SIZE);
		ram_list.dirty_memory[client] = blocks;
	}
	vm.devices = calloc(devices, sizeof *vm.devices);
	QLIST_INIT(&vm.container.device_list);
	/* The list is built from its head: the last one in is the first one asked. */
	for (unsigned i = devices; i-- > 0;) {
		vm.devices[i].name = "device";
		vm.devices[i].number = i;
		QLIST_INSERT_HEAD(&vm.container.device_list, &vm.devices[i], container_next);
	}
	vm.ram = qemu_code_with_vga.new_block(vm.pages);
}

void qemu_teardown(void)
{
	for (int client = 0; client < DIRTY_MEMORY_NUM; client++) {
		for (uint64_t i = 0; i < vm.block_count; i++)
			free(ram_list.dirty_memory[client]->blocks[i]);
		free(ram_list.dirty_memory[client]);
	}
	free(vm.devices);
	qemu_code_with_vga.free_block(vm.ram);
	free(vm.pool.memory);
	memset(&vm.pool, 0, sizeof vm.pool);
}

void qemu_pool(bool on)
{
	vm.pool.on = on;
}

uint64_t qemu_copy_out(bool vga, const struct section *sections, unsigned count)
{
	const struct qemu_code *code = vga ? &qemu_code_with_vga : &qemu_code_without_vga;

	vm.dirty_pages = 0;
	for (unsigned i = 0; i < count; i++) {
		const struct section *s = &sections[i];

		if (code->get_dirty_bitmap(&vm.container, s->iova, s->size, s->ram, NULL))
			never("for an error");
	}
	return vm.dirty_pages;
}

uint64_t qemu_sync(void)
{
	uint64_t fresh;

	rcu_read_lock();
	fresh = qemu_code_with_vga.sync_dirty_bitmap(vm.ram, 0, vm.pages << TARGET_PAGE_BITS);
	rcu_read_unlock();
	return fresh;
}

const char *const qemu_bitmap_names[QEMU_BITMAPS] = {
	[QEMU_MIGRATION] = "the migration's bitmap",
	[QEMU_VGA] = "the VGA device's bitmap",
	[QEMU_CODE] = "the bitmap of translated code",
	[QEMU_RAM_BLOCK] = "the RAM block's bitmap",
};

static const int client_of[] = {
	[QEMU_MIGRATION] = DIRTY_MEMORY_MIGRATION,
	[QEMU_VGA] = DIRTY_MEMORY_VGA,
	[QEMU_CODE] = DIRTY_MEMORY_CODE,
};

/* A bitmap as the pieces that it is kept in. */
static uint64_t piece_count(enum qemu_bitmap which)
{
	return which == QEMU_RAM_BLOCK ? 1 : vm.block_count;
}

static uint64_t words_per_piece(enum qemu_bitmap which)
{
	return which == QEMU_RAM_BLOCK ? vm.pages / WORD_BITS : DIRTY_MEMORY_BLOCK_SIZE / WORD_BITS;
}

static unsigned long *piece(enum qemu_bitmap which, uint64_t i, uint64_t *words)
{
	const uint64_t per_piece = words_per_piece(which);

	*words = MIN(per_piece, vm.pages / WORD_BITS - i * per_piece);
	return which == QEMU_RAM_BLOCK ? qemu_code_with_vga.bits(vm.ram) :
					 ram_list.dirty_memory[client_of[which]]->blocks[i];
}

void qemu_clear(enum qemu_bitmap which)
{
	uint64_t words;

	for (uint64_t i = 0; i < piece_count(which); i++) {
		unsigned long *bits = piece(which, i, &words);

		memset(bits, 0, words * sizeof *bits);
	}
}

bool qemu_equals(enum qemu_bitmap which, const uint64_t *expected)
{
	uint64_t words;

	for (uint64_t i = 0; i < piece_count(which); i++) {
		const unsigned long *bits = piece(which, i, &words);
		const bool equal = expected ? !memcmp(bits, expected + i * words_per_piece(which), words * sizeof *bits) :
					      !bits[0] && !memcmp(bits, bits + 1, (words - 1) * sizeof *bits);

		if (!equal)
			return false;
	}
	return true;
}

uint64_t *qemu_migration_block(uint64_t page)
{
	return (uint64_t *)ram_list.dirty_memory[DIRTY_MEMORY_MIGRATION]->blocks[page / DIRTY_MEMORY_BLOCK_SIZE];
}

uint64_t qemu_block_pages(void)
{
	return DIRTY_MEMORY_BLOCK_SIZE;
}

void qemu_set_migration_bit(uint64_t page)
{
	set_bit_atomic((long)(page % DIRTY_MEMORY_BLOCK_SIZE), (unsigned long *)qemu_migration_block(page));
}
