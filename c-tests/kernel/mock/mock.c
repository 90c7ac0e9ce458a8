/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The mock IOMMU, asked without the library. See mock.h. */
#include "mock.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/utsname.h>
#include <unistd.h>

#define OPTION_HUGE_PAGES 1u

struct ioas_alloc {
	uint32_t size, flags, ioas;
};
struct option {
	uint32_t size, option;
	uint16_t operation, reserved; /* operation 0 sets */
	uint32_t object;
	uint64_t value;
};

static bool exact;

bool mock_is_exact(void)
{
	return exact;
}

int mock_request(const struct mock *mock, unsigned long number, void *argument)
{
	return ioctl(mock->iommufd, number, argument) ? -errno : 0;
}

static void request(const struct mock *mock, unsigned long number, void *argument, const char *what)
{
	int result = mock_request(mock, number, argument);

	if (result)
		lab_fail(__FILE__, __LINE__, "%s: %s", what, strerror(-result));
}

void mock_begin(int argc, char **argv)
{
	struct mock_test test = { .size = sizeof(test), .operation = ~0u };
	struct utsname name;
	struct mock mock;

	CHECK(argc > 1 && !strcmp(argv[1], "mock"));
	setvbuf(stdout, NULL, _IOLBF, 0);
	CHECK_EQ(uname(&name), 0);
	exact = atoi(name.release) < 7;

	mock.iommufd = open("/dev/iommu", O_RDWR | O_CLOEXEC);
	if (mock.iommufd < 0)
		lab_skip("this kernel has no /dev/iommu");
	if (mock_request(&mock, MOCK_TEST, &test) == -ENOTTY)
		lab_skip("this kernel has no mock IOMMU (CONFIG_IOMMUFD_TEST)");
	close(mock.iommufd);
}

static void add_device(const struct mock *mock, uint32_t kind, struct mock_test *test)
{
	*test = (struct mock_test){ .size = sizeof(*test), .id = mock->ioas };
	test->operation = kind ? TEST_DOMAIN_OF_KIND : TEST_DOMAIN;
	test->domain.kind = kind;
	request(mock, MOCK_TEST, test, "a mock device (another IOMMU in the VM?)");
}

int mock_new_hwpt(const struct mock *mock, uint32_t flags, uint32_t *hwpt)
{
	struct mock_hwpt_alloc alloc = {
		.size = sizeof(alloc),
		.flags = flags,
		.device = mock->bound,
		.parent = mock->ioas,
	};
	int result = mock_request(mock, HWPT_ALLOC, &alloc);

	if (!result)
		*hwpt = alloc.hwpt;
	return result;
}

int mock_attach(const struct mock *mock, uint32_t device, uint32_t hwpt)
{
	struct mock_test test = {
		.size = sizeof(test),
		.operation = TEST_REPLACE,
		.id = device,
		.replace.hwpt = hwpt,
	};

	return mock_request(mock, MOCK_TEST, &test);
}

void mock_open(struct mock *mock, uint32_t kind)
{
	struct ioas_alloc ioas = { .size = sizeof(ioas) };
	struct option option = { .size = sizeof(option), .option = OPTION_HUGE_PAGES };
	struct mock_test test;

	*mock = (struct mock){ .iommufd = open("/dev/iommu", O_RDWR | O_CLOEXEC) };
	CHECK(mock->iommufd >= 0);
	request(mock, IOAS_ALLOC, &ioas, "IOMMU_IOAS_ALLOC");
	mock->ioas = ioas.ioas;
	/* What is contiguous is not to be merged into larger entries by itself. */
	option.object = mock->ioas;
	if (!(kind & MOCK_HUGE))
		request(mock, IOMMU_OPTION, &option, "IOMMU_OPTION_HUGE_PAGES");
	add_device(mock, kind, &test);
	mock->device = test.domain.device;
	mock->bound = test.domain.bound;
	CHECK_EQ(mock_new_hwpt(mock, 0, &mock->plain_hwpt), 0);
	if (kind & MOCK_NO_DIRTY)
		return;
	CHECK_EQ(mock_new_hwpt(mock, ALLOC_DIRTY_TRACKING, &mock->hwpt), 0);
	CHECK_EQ(mock_attach(mock, mock->device, mock->hwpt), 0);
}

void mock_close(struct mock *mock)
{
	CHECK_EQ(close(mock->iommufd), 0);
	mock->iommufd = -1;
}

uint32_t mock_add_hwpt(const struct mock *mock)
{
	struct mock more = *mock;
	struct mock_test test;
	uint32_t hwpt = 0;

	add_device(mock, 0, &test);
	more.bound = test.domain.bound;
	CHECK_EQ(mock_new_hwpt(&more, ALLOC_DIRTY_TRACKING, &hwpt), 0);
	CHECK_EQ(mock_attach(mock, test.domain.device, hwpt), 0);
	return hwpt;
}

void mock_map_memory(const struct mock *mock, uint64_t iova, uint64_t size, void *memory)
{
	struct mock_ioas_map map = {
		.size = sizeof(map),
		.flags = MAP_FIXED_IOVA | MAP_WRITEABLE | MAP_READABLE,
		.ioas = mock->ioas,
		.memory = (uintptr_t)memory,
		.length = size,
		.iova = iova,
	};

	request(mock, IOAS_MAP, &map, "IOMMU_IOAS_MAP");
}

void mock_map(const struct mock *mock, uint64_t iova, uint64_t size)
{
	void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	CHECK(memory != MAP_FAILED);
	mock_map_memory(mock, iova, size, memory);
}

bool mock_map_huge(const struct mock *mock, uint64_t iova, uint64_t size)
{
	int fd = open("/proc/sys/vm/nr_hugepages", O_WRONLY | O_CLOEXEC);
	void *memory;

	if (fd < 0)
		return false;
	/* A request; mmap finds out whether it was granted. */
	CHECK_EQ(write(fd, "8", 1), 1);
	close(fd);
	memory = mmap(NULL, size, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB | MAP_POPULATE, -1, 0);

	if (memory == MAP_FAILED)
		return false;
	mock_map_memory(mock, iova, size, memory);
	return true;
}

int mock_unmap(const struct mock *mock, uint64_t iova, uint64_t size)
{
	struct mock_ioas_unmap unmap = {
		.size = sizeof(unmap), .ioas = mock->ioas, .iova = iova, .length = size
	};
	int result = mock_request(mock, IOAS_UNMAP, &unmap);

	if (!result)
		CHECK_EQ(unmap.length, size);
	return result;
}

void mock_mark(const struct mock *mock, uint32_t hwpt, uint64_t iova)
{
	uint8_t bit = 1;
	struct mock_test test = {
		.size = sizeof(test),
		.operation = TEST_DIRTY,
		.id = hwpt,
		.dirty = {
			.iova = iova,
			.length = MOCK_PAGE,
			.page_size = MOCK_PAGE,
			.bits = (uintptr_t)&bit,
		},
	};

	request(mock, MOCK_TEST, &test, "marking");
	CHECK_EQ(test.dirty.count, 1);
}

int mock_track(const struct mock *mock, uint32_t hwpt, uint32_t flags)
{
	struct mock_set_dirty set = { .size = sizeof(set), .flags = flags, .hwpt = hwpt };

	return mock_request(mock, SET_DIRTY, &set);
}

int mock_get(const struct mock *mock, uint32_t hwpt, uint32_t flags, uint64_t iova,
	     uint64_t length, uint64_t page_size, void *bitmap)
{
	struct mock_get_dirty get = {
		.size = sizeof(get),
		.hwpt = hwpt,
		.flags = flags,
		.iova = iova,
		.length = length,
		.page_size = page_size,
		.data = (uintptr_t)bitmap,
	};

	return mock_request(mock, GET_DIRTY, &get);
}

static size_t bits_size(uint64_t bits)
{
	return (bits / 8 + PAGE) / PAGE * PAGE;
}

uint64_t *bits_new(uint64_t bits)
{
	size_t size = bits_size(bits);
	void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);

	CHECK(memory != MAP_FAILED);
	return memory;
}

void bits_free(uint64_t *bitmap, uint64_t bits)
{
	CHECK_EQ(munmap(bitmap, bits_size(bits)), 0);
}

uint64_t bits_count(const uint64_t *bitmap, uint64_t bits)
{
	uint64_t count = 0;

	for (uint64_t bit = 0; bit < bits; bit++)
		count += bit_is_set(bitmap, bit);
	return count;
}

void bits_check(const char *file, int line, const uint64_t *got, const uint64_t *want,
		uint64_t bits)
{
	for (uint64_t bit = 0; bit < bits; bit++) {
		bool is = bit_is_set(got, bit), should = bit_is_set(want, bit);

		if (should && !is)
			lab_fail(file, line, "bit %llu is lost", (unsigned long long)bit);
		if (is && !should && exact)
			lab_fail(file, line, "bit %llu is set, and nobody marked it",
				 (unsigned long long)bit);
	}
}
