/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The bitmap functions do what a loop over single bits does, at every alignment and for every page size, touch no word
 * beside their ranges, refuse wrong parameters with nothing done, and lose and invent no bit beside other threads.
 */
#include "harness.h"
#include <pthread.h>
#include <stdbool.h>

#define WORDS 12
#define BITS (WORDS * 64)
#define ATOMIC VFIOMIG_BITMAP_F_ATOMIC

static uint64_t seed = 88172645463325252u;

static uint64_t any(void)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed;
}

static uint64_t below(uint64_t end)
{
	return any() % end;
}

static int get(const uint64_t *bm, uint64_t bit)
{
	return bm[bit / 64] >> (bit % 64) & 1;
}

static void set(uint64_t *bm, uint64_t bit, int on)
{
	uint64_t mask = (uint64_t)1 << (bit % 64);

	bm[bit / 64] = on ? bm[bit / 64] | mask : bm[bit / 64] & ~mask;
}

/* Words as logs have them: empty, full, few bits, many. */
static void fill(uint64_t *bm, size_t words)
{
	for (size_t i = 0; i < words; i++) {
		switch (below(5)) {
		case 0: bm[i] = 0; break;
		case 1: bm[i] = UINT64_MAX; break;
		case 2: bm[i] = (uint64_t)1 << below(64); break;
		default: bm[i] = any();
		}
	}
}

/*
 * A copy in memory of just the words that bits `bit` to `bit + bits` are in, so that ASan and valgrind see a word more
 * that is looked at. Returns where the bitmap would begin.
 */
struct part {
	uint64_t *memory, *bitmap;
	size_t first, words;
};

static struct part part(const uint64_t *bm, uint64_t bit, uint64_t bits)
{
	size_t first = bit / 64, words = bits ? (bit + bits + 63) / 64 - first : 0;
	struct part p = {malloc(words * 8 + 1), NULL, first, words};

	memcpy(p.memory, bm + first, words * 8);
	p.bitmap = (uint64_t *)((uintptr_t)p.memory - first * 8);
	return p;
}

static void put_back(struct part *p, uint64_t *bm)
{
	memcpy(bm + p->first, p->memory, p->words * 8);
	free(p->memory);
}

static void ranges_of(const uint64_t *bm, uint64_t bits)
{
	const uint64_t base = 0x100000, page = 4096;
	uint64_t from = below(bits + 1), next = from, expected = from, start, len, found = from;
	struct vfiomig_range out[3];
	int64_t n;

	do {
		size_t max = 1 + below(3);

		n = vfiomig_bitmap_get_ranges(bm, bits, next, base, page, out, max, &next);
		CHECK(n >= 0 && (uint64_t)n <= max && (next == bits || (uint64_t)n == max));
		for (int64_t i = 0; i < n; i++) {
			CHECK_EQ(vfiomig_bitmap_next_run(bm, bits, found, &start, &len), 1);
			CHECK_EQ(out[i].iova, base + start * page);
			CHECK_EQ(out[i].size, len * page);
			for (; expected < start; expected++)
				CHECK(!get(bm, expected));
			for (; expected < start + len; expected++)
				CHECK(get(bm, expected));
			/* As long as it can be. */
			CHECK(expected == bits || !get(bm, expected));
			found = start + len;
		}
	} while (next < bits);
	start = len = 77;
	CHECK_EQ(vfiomig_bitmap_next_run(bm, bits, found, &start, &len), 0);
	CHECK(start == 77 && len == 77);
	for (; expected < bits; expected++)
		CHECK(!get(bm, expected));
}

static void one_round(uint32_t flags)
{
	uint64_t src[WORDS], dst[WORDS], src_after[WORDS], merged[WORDS], got[WORDS];
	uint64_t src_bit = below(BITS + 1), dst_bit = below(BITS + 1), newly = 0, total = 0;
	uint64_t most = BITS - (src_bit > dst_bit ? src_bit : dst_bit), bits = below(4) ? below(most + 1) : most;

	fill(src, WORDS);
	fill(dst, WORDS);
	memcpy(src_after, src, sizeof src);
	memcpy(merged, dst, sizeof dst);
	for (uint64_t i = 0; i < bits; i++) {
		if (!get(src, src_bit + i))
			continue;
		total++;
		newly += !get(merged, dst_bit + i);
		set(merged, dst_bit + i, 1);
		set(src_after, src_bit + i, 0);
	}

	struct part from = part(src, src_bit, bits), to = part(dst, dst_bit, bits);
	CHECK_EQ(vfiomig_bitmap_count(from.bitmap, src_bit, bits), total);
	CHECK_EQ(vfiomig_bitmap_merge(to.bitmap, dst_bit, from.bitmap, src_bit, bits, flags), newly);
	CHECK(!memcmp(from.memory, src + from.first, from.words * 8));
	memcpy(got, dst, sizeof got);
	put_back(&to, got);
	CHECK(!memcmp(got, merged, sizeof got));

	to = part(dst, dst_bit, bits);
	CHECK_EQ(vfiomig_bitmap_take(to.bitmap, dst_bit, from.bitmap, src_bit, bits, flags), total);
	memcpy(got, dst, sizeof got);
	put_back(&to, got);
	CHECK(!memcmp(got, merged, sizeof got));
	memcpy(got, src, sizeof got);
	put_back(&from, got);
	CHECK(!memcmp(got, src_after, sizeof got));

	from = part(src, src_bit, bits);
	CHECK_EQ(vfiomig_bitmap_take(NULL, 99, from.bitmap, src_bit, bits, flags), total);
	put_back(&from, got);
	CHECK(!memcmp(got, src_after, sizeof got));

	uint64_t length = below(BITS + 1);
	from = part(src, 0, length);
	ranges_of(from.bitmap, length);
	free(from.memory);
}

static void page_sizes(uint32_t flags)
{
	unsigned src_shift = 12 + (unsigned)below(6), dst_shift = 12 + (unsigned)below(6);
	uint64_t src[2], src_bits = below(129);
	uint64_t bytes = src_bits << src_shift, dst_bits = (bytes + ((uint64_t)1 << dst_shift) - 1) >> dst_shift;
	size_t words = (dst_bits + 63) / 64;
	uint64_t *dst = malloc(words * 8 + 1), *expected = malloc(words * 8 + 1), newly = 0;

	fill(src, 2);
	fill(dst, words);
	memcpy(expected, dst, words * 8);
	for (uint64_t at = 0; at < bytes; at += 4096)
		if (get(src, at >> src_shift)) {
			newly += !get(expected, at >> dst_shift);
			set(expected, at >> dst_shift, 1);
		}
	struct part from = part(src, 0, src_bits);
	CHECK_EQ(vfiomig_bitmap_rescale(dst, (uint64_t)1 << dst_shift, from.bitmap, (uint64_t)1 << src_shift, src_bits,
					flags), newly);
	CHECK(!memcmp(from.memory, src, from.words * 8));
	CHECK(!memcmp(dst, expected, words * 8));
	free(from.memory);
	free(dst);
	free(expected);
}

/* Each call is wrong in one thing; nothing is done and nothing written. */
static void wrong(void)
{
	enum { EINVALS = 43 };
	uint64_t a[4] = {1, 2, 3, 4}, b[4] = {5, 6, 7, 8}, a_was[4], b_was[4], start = 9, len = 10, next = 11;
	uint64_t *const odd = (uint64_t *)((char *)a + 4), *const none = NULL;
	const uint64_t huge = UINT64_MAX, top = (uint64_t)1 << 63;
	struct vfiomig_range out = {12, 13};

	memcpy(a_was, a, sizeof a);
	memcpy(b_was, b, sizeof b);
	const int64_t results[] = {
		vfiomig_bitmap_merge(none, 0, b, 0, 1, 0),
		vfiomig_bitmap_merge(a, 0, none, 0, 1, 0),
		vfiomig_bitmap_merge(none, 0, b, 0, 0, 0),
		vfiomig_bitmap_merge(odd, 0, b, 0, 1, 0),
		vfiomig_bitmap_merge(a, 0, odd + 4, 0, 1, 0),
		vfiomig_bitmap_merge(a, huge, b, 0, 1, 0),
		vfiomig_bitmap_merge(a, 0, b, huge, 1, 0),
		vfiomig_bitmap_merge(a, 0, b, 0, huge, 0),
		vfiomig_bitmap_merge(a, 1, b, 1, huge, 0),
		vfiomig_bitmap_merge(a, 0, b, 0, 1, 2),
		vfiomig_bitmap_merge(a, 0, b, 0, 1, ATOMIC | 4),
		/* The same word, another bit: still one word. */
		vfiomig_bitmap_merge(a, 0, a, 5, 1, 0),
		vfiomig_bitmap_merge(a, 0, a, 100, 65, ATOMIC),
		vfiomig_bitmap_merge(a + 1, 0, a, 0, 65, 0),
		vfiomig_bitmap_take(a, 0, none, 0, 1, 0),
		vfiomig_bitmap_take(none, 0, none, 0, 1, 0),
		vfiomig_bitmap_take(odd, 0, b, 0, 1, 0),
		vfiomig_bitmap_take(none, 0, odd, 0, 1, ATOMIC),
		vfiomig_bitmap_take(a, huge, b, 0, 1, 0),
		vfiomig_bitmap_take(a, 0, b, 1, huge, 0),
		vfiomig_bitmap_take(none, 0, b, 0, huge, 0),
		vfiomig_bitmap_take(a, 0, b, 0, 1, 2),
		vfiomig_bitmap_take(a, 0, a, 5, 1, 0),
		vfiomig_bitmap_count(none, 0, 1),
		vfiomig_bitmap_count(odd, 0, 1),
		vfiomig_bitmap_count(a, 1, huge),
		vfiomig_bitmap_count(a, 0, huge),
		vfiomig_bitmap_next_run(none, 1, 0, &start, &len),
		vfiomig_bitmap_next_run(odd, 1, 0, &start, &len),
		vfiomig_bitmap_next_run(a, huge, 0, &start, &len),
		vfiomig_bitmap_next_run(a, 1, 0, NULL, &len),
		vfiomig_bitmap_next_run(a, 1, 0, &start, NULL),
		vfiomig_bitmap_get_ranges(none, 1, 0, 0, 1, &out, 1, &next),
		vfiomig_bitmap_get_ranges(a, 1, 0, 0, 1, NULL, 1, &next),
		vfiomig_bitmap_get_ranges(a, 1, 0, 0, 1, &out, 0, &next),
		vfiomig_bitmap_get_ranges(a, 1, 0, 0, 1, &out, 1, NULL),
		vfiomig_bitmap_get_ranges(a, 1, 0, 0, 0, &out, 1, &next),
		/* One byte more than there are addresses, and one page more than a size can say. */
		vfiomig_bitmap_get_ranges(a, 2, 0, top + 1, top / 2, &out, 1, &next),
		vfiomig_bitmap_get_ranges(a, 2, 0, 0, top, &out, 1, &next),
		vfiomig_bitmap_rescale(a, 4096, b, 0, 1, 0),
		vfiomig_bitmap_rescale(a, 4097, b, 4096, 1, 0),
		vfiomig_bitmap_rescale(a, 4096, b, top, 2, 0),
		vfiomig_bitmap_rescale(a, 4096, a, 4096, 1, 0),
	};
	_Static_assert(sizeof results / sizeof *results == EINVALS, "a call was added");
	for (int i = 0; i < EINVALS; i++)
		if (!CHECK_EQ(results[i], -EINVAL))
			printf("wrong call %d\n", i);
	CHECK(!memcmp(a, a_was, sizeof a) && !memcmp(b, b_was, sizeof b));
	CHECK(start == 9 && len == 10 && next == 11 && out.iova == 12 && out.size == 13);
	/* At the limit. */
	CHECK_EQ(vfiomig_bitmap_get_ranges(a, 2, 0, top, top / 2, &out, 1, &next), 1);
	CHECK(out.iova == top && out.size == top / 2 && next == 2);
	CHECK_EQ(vfiomig_bitmap_merge(a, 0, a, 64, 64, 0), 1);
	/* Nothing of something is 0. */
	CHECK_EQ(vfiomig_bitmap_merge(a, 5, b, 7, 0, 0), 0);
	CHECK_EQ(vfiomig_bitmap_take(a, 5, b, 7, 0, ATOMIC), 0);
	CHECK_EQ(vfiomig_bitmap_count(a, 256, 0), 0);
	CHECK_EQ(vfiomig_bitmap_get_ranges(a, 0, 0, 0, 4096, &out, 1, &next), 0);
	CHECK_EQ(next, 0);
	CHECK_EQ(vfiomig_bitmap_rescale(a, 4096, b, 65536, 0, 0), 0);
	CHECK_EQ(vfiomig_bitmap_next_run(a, 256, 256, &start, &len), 0);
	CHECK_EQ(vfiomig_bitmap_next_run(a, 256, UINT64_MAX, &start, &len), 0);
}

/* One thread sets bits and counts those that it turned on; this one takes them. In the end both have the same. */
#define SHARED 3
static _Atomic(uint64_t) shared[SHARED];
static atomic_bool stop;
static uint32_t turned_on[SHARED * 64];

static void *writer(void *unused)
{
	uint64_t state = 4711;

	while (!atomic_load(&stop)) {
		state = state * 6364136223846793005u + 1442695040888963407u;
		unsigned bit = (unsigned)(state >> 33) % (SHARED * 64);
		uint64_t mask = (uint64_t)1 << (bit % 64);

		turned_on[bit] += !(atomic_fetch_or(&shared[bit / 64], mask) & mask);
	}
	return unused;
}

static void take_beside_a_writer(int rounds)
{
	uint32_t taken[SHARED * 64] = {0};
	pthread_t thread;

	CHECK_EQ(pthread_create(&thread, NULL, writer, NULL), 0);
	for (int i = 0; i <= rounds; i++) {
		uint64_t dst[SHARED + 1] = {0}, bit = below(SHARED * 64), to = below(64), start, len, at = 0;
		uint64_t bits = below(SHARED * 64 - bit + 1), n = 0;

		if (i == rounds) {
			atomic_store(&stop, true);
			CHECK_EQ(pthread_join(thread, NULL), 0);
			bit = 0;
			bits = SHARED * 64;
		}
		int64_t result = vfiomig_bitmap_take(dst, to, (uint64_t *)shared, bit, bits, ATOMIC);
		for (; vfiomig_bitmap_next_run(dst, (SHARED + 1) * 64, at, &start, &len) == 1; at = start + len, n += len)
			for (uint64_t k = start; k < start + len; k++)
				taken[k - to + bit]++;
		if (result != (int64_t)n)
			CHECK_EQ(result, n);
	}
	for (unsigned bit = 0; bit < SHARED * 64; bit++)
		CHECK_EQ(taken[bit], turned_on[bit]);
}

int main(void)
{
	/* Under valgrind and the thread checker each round costs 50 times as much. */
	const char *variant = getenv("T_VARIANT");
	int slow = !variant || !strcmp(variant, "valgrind");

	t_begin();
	for (int i = 0; i < (slow ? 200 : 5000); i++) {
		one_round(0);
		one_round(ATOMIC);
		page_sizes(i & 1 ? ATOMIC : 0);
	}
	wrong();
	take_beside_a_writer(slow ? 2000 : 100000);
	return t_end();
}
