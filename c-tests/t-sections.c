/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A VMM that asks section by section names its pass: the log is read once for it, each section is reported, and who
 * asks again, as a display does, has only that section read (docs/dirty.md). Words come in little-endian order if it
 * wants.
 */
#include "fake-log.h"

enum { SECTIONS = 3, UNITS = 100 };

static const uint64_t sections[SECTIONS] = {0, FAR_UNIT / 8, FAR_UNIT / 5};
static struct fake_log l;
static struct vfiomig_tracker *t;

static uint64_t bitmap[2];

/* The reads of the log that a section took; its pages are in `bitmap`. */
static unsigned ask(uint64_t pass, int section, uint32_t flags)
{
	const struct vfiomig_dest dest = dest_units(sections[section], UNITS, bitmap);
	struct vfiomig_harvest_request rq = request_for(&dest, 1);
	struct vfiomig_harvest_result out;
	unsigned before = l.calls[L_REPORT];

	VFIOMIG_INIT(&out);
	memset(bitmap, 0, sizeof bitmap);
	rq.pass = pass;
	rq.flags = flags;
	OK(vfiomig_tracker_harvest(t, &rq, &out, ERRP));
	CHECK_EQ(out.reads, l.calls[L_REPORT] - before);
	CHECK_EQ(out.dirty_pages, bits_in(bitmap, 2));
	return (unsigned)out.reads;
}

static void begin(void)
{
	fake_log_init(&l);
	t = fake_log_tracker(&l);
	for (int i = 0; i < SECTIONS; i++)
		OK(map_units(t, sections[i], UNITS, i));
	OK(vfiomig_tracker_start(t, ERRP));
	/* New mappings are dirty once. */
	OK(vfiomig_tracker_harvest(t, NULL, NULL, ERRP));
	for (int i = 0; i < SECTIONS; i++)
		ask(0, i, VFIOMIG_HARVEST_F_NO_READ);
}

static void passes(void)
{
	begin();
	for (uint64_t pass = 1; pass < 4; pass++) {
		for (int i = 0; i < SECTIONS; i++)
			log_write(&l, sections[i] + pass);
		for (int i = 0; i < SECTIONS; i++) {
			CHECK_EQ(ask(pass, i, 0) > 0, i == 0);
			CHECK(bit_of(bitmap, pass) && bits_in(bitmap, 2) == 1);
		}
	}
	/* What is written behind the read waits in the log for the next pass; who asks once more has it now. */
	CHECK(ask(7, 0, 0));
	log_write(&l, sections[0] + 9);
	log_write(&l, sections[1] + 9);
	CHECK_EQ(ask(7, 1, 0), 0);
	CHECK_EQ(bits_in(bitmap, 2), 0);
	CHECK_EQ(ask(7, 0, 0), 1);
	CHECK(bit_of(bitmap, 9));
	CHECK(ask(8, 1, 0));
	CHECK(bit_of(bitmap, 9));
	LOG_END(&l, t);
}

static int take(void *opaque, void *dest_opaque, uint64_t first_bit, const uint64_t *words, size_t word_count)
{
	const unsigned char *bytes = (const unsigned char *)words;
	unsigned char *pages = opaque;

	CHECK(dest_opaque == &l);
	for (uint64_t n = 0; n < word_count * 64; n++)
		if (bytes[n / 8] >> (n % 8) & 1)
			pages[first_bit + n] = 1;
	return 0;
}

/* Bytes of little-endian words are eight pages each, on every host. */
static void little_endian(void)
{
	struct vfiomig_dest dest = dest_units(sections[0], UNITS, NULL);
	struct vfiomig_harvest_request rq = request_for(&dest, 1);
	unsigned char pages[UNITS + 64] = {0};

	begin();
	dest.opaque = &l;
	rq.flags = VFIOMIG_HARVEST_F_LITTLE_ENDIAN;
	FAILS(vfiomig_tracker_harvest(t, &rq, NULL, ERRP), 0, VFIOMIG_ERR_ARGUMENT);
	rq.words = take;
	rq.opaque = pages;
	log_write(&l, sections[0] + 3);
	log_write(&l, sections[0] + 70);
	OK(vfiomig_tracker_harvest(t, &rq, NULL, ERRP));
	for (unsigned n = 0; n < sizeof pages; n++)
		CHECK_EQ(pages[n], n == 3 || n == 70);
	LOG_END(&l, t);
}

static void misuse(void)
{
	struct vfiomig_harvest_request rq = request_for(NULL, 0);
	const struct vfiomig_range range = {0, UNITS * UNIT};

	begin();
	rq.pass = 1;
	rq.flags = VFIOMIG_HARVEST_F_NO_READ;
	FAILS(vfiomig_tracker_harvest(t, &rq, NULL, ERRP), 0, VFIOMIG_ERR_ARGUMENT);
	rq.flags = 0;
	FAILS(vfiomig_tracker_unmap(t, &range, NULL, NULL, 0, &rq, NULL, ERRP), 0, VFIOMIG_ERR_ARGUMENT);
	/* A program that was built before the field was there. */
	rq.pass = 77;
	rq.argsz = (uint32_t)offsetof(struct vfiomig_harvest_request, pass);
	for (int i = 0; i < 2; i++) {
		unsigned before = l.calls[L_REPORT];

		OK(vfiomig_tracker_harvest(t, &rq, NULL, ERRP));
		CHECK(l.calls[L_REPORT] > before);
	}
	LOG_END(&l, t);
}

int main(void)
{
	t_begin();
	passes();
	little_endian();
	misuse();
	return t_end();
}
