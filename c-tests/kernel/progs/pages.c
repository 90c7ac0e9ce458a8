/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Sets of pages, and address spaces with a tracker. See dirty.h. */
#include "dirty.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/* ---- sets -------------------------------------------------------------------- */

void pages_add(struct pages *set, uint32_t first, uint32_t count)
{
	CHECK(first + count <= SPACE_PAGES);
	for (uint32_t page = first; page < first + count; page++)
		set->word[page / 64] |= 1ull << page % 64;
}

void pages_remove(struct pages *set, uint32_t first, uint32_t count)
{
	CHECK(first + count <= SPACE_PAGES);
	for (uint32_t page = first; page < first + count; page++)
		set->word[page / 64] &= ~(1ull << page % 64);
}

bool pages_have(const struct pages *set, uint32_t page)
{
	return set->word[page / 64] >> page % 64 & 1;
}

uint32_t pages_count(const struct pages *set)
{
	uint32_t count = 0;

	for (uint32_t i = 0; i < SPACE_PAGES / 64; i++)
		count += (uint32_t)__builtin_popcountll(set->word[i]);
	return count;
}

void pages_join(struct pages *set, const struct pages *other)
{
	for (uint32_t i = 0; i < SPACE_PAGES / 64; i++)
		set->word[i] |= other->word[i];
}

/* The set that a text means. */
static struct pages pages_of(const char *text)
{
	struct pages set = { 0 };
	char *at = (char *)text;

	while (*at) {
		unsigned long first = strtoul(at, &at, 10), last = first;

		if (*at == '-')
			last = strtoul(at + 1, &at, 10);
		CHECK(last >= first);
		pages_add(&set, (uint32_t)first, (uint32_t)(last - first + 1));
		while (*at == ' ')
			at++;
	}
	return set;
}

void pages_check_equal(const char *file, int line, const struct pages *set,
		       const struct pages *other)
{
	char text[256] = "";
	size_t length = 0;

	for (uint32_t page = 0; page < SPACE_PAGES && length < sizeof(text) - 32; page++) {
		if (pages_have(set, page) == pages_have(other, page))
			continue;
		length += (size_t)snprintf(text + length, sizeof(text) - length, " %s%u",
					   pages_have(set, page) ? "+" : "-", page);
	}
	if (length)
		lab_fail(file, line, "%u pages, not %u; too many (+), missing (-):%s",
			 pages_count(set), pages_count(other), text);
}

void pages_check_text(const char *file, int line, const struct pages *set, const char *text)
{
	struct pages want = pages_of(text);

	pages_check_equal(file, line, set, &want);
}

/* ---- spaces -------------------------------------------------------------------- */

void space_open(struct space *s, const struct lab_device *device)
{
	memset(s, 0, sizeof(*s));
	s->device = device;
	s->memory = mmap(NULL, SPACE_PAGES * PAGE, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	CHECK(s->memory != MAP_FAILED);
}

void space_close(struct space *s)
{
	vfiomig_tracker_free(s->tracker);
	raw_unmap(s->device, 0, SPACE_PAGES * PAGE); /* may be nothing */
	munmap(s->memory, SPACE_PAGES * PAGE);
	memset(s, 0, sizeof(*s));
}

void space_track(struct space *s, struct vfiomig_device *d, uint32_t flags)
{
	struct vfiomig_tracker_options options;

	VFIOMIG_INIT(&options);
	options.name = "space";
	options.flags = flags & ~NO_CONTAINER;
	options.devices = &d;
	options.device_count = d ? 1 : 0;
	if (s->device->container >= 0 && !(flags & NO_CONTAINER)) {
		options.flags |= VFIOMIG_TRACKER_F_TYPE1;
		options.container_fd = s->device->container;
	}
	vfiomig_tracker_free(s->tracker);
	OK(vfiomig_tracker_new(&options, &s->tracker, ERR));
	OK(vfiomig_tracker_map(s->tracker, s->mapping, s->mappings, ERR));
}

void space_map(struct space *s, uint32_t first, uint32_t count)
{
	struct vfiomig_mapping mapping = { .iova = first * PAGE, .size = count * PAGE };

	CHECK_EQ(raw_map(s->device, mapping.iova, mapping.size, s->memory + mapping.iova), 0);
	pages_add(&s->mapped, first, count);
	CHECK(s->mappings < SPACE_MAPPINGS);
	s->mapping[s->mappings++] = mapping;
	if (s->tracker)
		OK(vfiomig_tracker_map(s->tracker, &mapping, 1, ERR));
}

/* Forgets the mappings within a range. */
static void forget(struct space *s, const struct vfiomig_range *range)
{
	uint32_t left = 0;

	for (uint32_t i = 0; i < s->mappings; i++) {
		if (s->mapping[i].iova - range->iova >= range->size)
			s->mapping[left++] = s->mapping[i];
	}
	s->mappings = left;
	pages_remove(&s->mapped, (uint32_t)(range->iova / PAGE), (uint32_t)(range->size / PAGE));
}

int raw_unmap_range(void *space, const struct vfiomig_range *range)
{
	const struct space *s = space;

	return raw_unmap(s->device, range->iova, range->size);
}

struct vfiomig_harvest_result space_unmap(struct space *s, uint32_t first, uint32_t count,
					  uint32_t flags, vfiomig_unmap_fn unmap,
					  struct pages *got)
{
	struct vfiomig_range range = { .iova = first * PAGE, .size = count * PAGE };
	struct vfiomig_dest dest = { .size = SPACE_PAGES * PAGE, .page_size = PAGE };
	struct vfiomig_harvest_request request;
	struct vfiomig_harvest_result result;

	VFIOMIG_INIT(&request);
	VFIOMIG_INIT(&result);
	if (got) {
		memset(got, 0, sizeof(*got));
		dest.bitmap = got->word;
		request.dests = &dest;
		request.dest_count = 1;
	}
	OK(vfiomig_tracker_unmap(s->tracker, &range, unmap, s, flags, got ? &request : NULL, &result,
				 ERR));
	forget(s, &range);
	return result;
}

struct vfiomig_harvest_result space_harvest(struct space *s, struct pages *got)
{
	struct vfiomig_dest dest = { .size = SPACE_PAGES * PAGE, .page_size = PAGE };
	struct vfiomig_harvest_request request;
	struct vfiomig_harvest_result result;

	memset(got, 0, sizeof(*got));
	VFIOMIG_INIT(&request);
	VFIOMIG_INIT(&result);
	dest.bitmap = got->word;
	request.dests = &dest;
	request.dest_count = 1;
	OK(vfiomig_tracker_harvest(s->tracker, &request, &result, ERR));
	CHECK_EQ(result.newly_dirty_pages, pages_count(got));
	return result;
}

static void check_harvest(const char *file, int line, struct space *s, const struct pages *want)
{
	struct vfiomig_harvest_result result;
	struct pages got;

	result = space_harvest(s, &got);
	if (result.flags || result.failed_reads || result.first_errno || result.degraded_bytes)
		lab_fail(file, line, "flags %u, %u of %llu reads failed: %s", result.flags,
			 result.failed_reads, (unsigned long long)result.reads,
			 strerror(result.first_errno));
	pages_check_equal(file, line, &got, want);
}

void space_check_dirty(const char *file, int line, struct space *s, const char *text)
{
	struct pages want = pages_of(text);

	check_harvest(file, line, s, &want);
}

void space_check_all(const char *file, int line, struct space *s)
{
	check_harvest(file, line, s, &s->mapped);
}

struct vfiomig_tracker_info space_info(const struct space *s)
{
	struct vfiomig_tracker_info info;

	VFIOMIG_INIT(&info);
	OK(vfiomig_tracker_get_info(s->tracker, &info, ERR));
	return info;
}

void space_check_kind(const char *file, int line, const struct space *s, uint32_t kind,
		      const char *words)
{
	struct vfiomig_tracker_info info = space_info(s);

	if (info.kind != kind || !strstr(info.reason, words))
		lab_fail(file, line, "reads log %u because \"%s\"; expected %u because of \"%s\"",
			 info.kind, info.reason, kind, words);
}

/* ---- DMA ------------------------------------------------------------------------ */

int dma_write(const struct testdev *t, uint32_t first, uint32_t count)
{
	testdev_set(t, TESTDEV_DMA_PAGES, count);
	testdev_set(t, TESTDEV_DMA, first);
	return (int)testdev_get(t, TESTDEV_RESULT);
}

int dma_pin(const struct testdev *t, uint32_t page)
{
	testdev_set(t, TESTDEV_PIN, page);
	return (int)testdev_get(t, TESTDEV_RESULT);
}

int dma_unpin(const struct testdev *t, uint32_t page)
{
	testdev_set(t, TESTDEV_UNPIN, page);
	return (int)testdev_get(t, TESTDEV_RESULT);
}

/* ---- warnings --------------------------------------------------------------------- */

static atomic_uint warnings;

static void count_line(void *opaque, int level, const char *message)
{
	(void)opaque;
	if (level > VFIOMIG_LOG_WARNING)
		return;
	printf("library: %s\n", message);
	warnings++;
}

void warnings_count(void)
{
	warnings = 0;
	vfiomig_set_log(count_line, NULL, VFIOMIG_LOG_WARNING);
}

unsigned int warnings_take(void)
{
	return atomic_exchange(&warnings, 0);
}
