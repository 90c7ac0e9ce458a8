/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The harvests of a guest with 1 TiB and 16 devices need less than 80 MiB, also if all of it is dirty, no destination
 * asks for it, and pieces come from the middle (docs/dirty.md says where they go).
 * variants: plain static
 */
#include "fake.h"
#include <stdio.h>

enum { DEVICES = 16 };
#define TIB (1ull << 40)

static struct fake_log logs[DEVICES];
static struct fake f[DEVICES];
static struct vfiomig_device *d[DEVICES];

static unsigned peak_kib(void)
{
	FILE *status = fopen("/proc/self/status", "r");
	char line[256];
	unsigned kib = 0;

	while (status && fgets(line, sizeof line, status))
		(void)sscanf(line, "VmHWM: %u kB", &kib);
	if (status)
		fclose(status);
	return kib;
}

static uint64_t runs;

static int on_run(void *opaque, uint64_t cookie, uint64_t iova, uint64_t size)
{
	(void)opaque, (void)cookie, (void)iova, (void)size;
	runs++;
	return 0;
}

int main(void)
{
	struct vfiomig_tracker *t;
	struct vfiomig_tracker_options o;
	struct vfiomig_harvest_result out;
	struct vfiomig_harvest_request rq;
	const struct vfiomig_mapping guest = {.size = TIB};
	uint64_t piece = 0;

	t_begin();
	for (int i = 0; i < DEVICES; i++) {
		fake_init(&f[i]);
		fake_log_init(&logs[i]);
		logs[i].all = true;
		f[i].log = &logs[i];
		d[i] = fake_device(&f[i]);
	}
	VFIOMIG_INIT(&o);
	o.devices = d;
	o.device_count = DEVICES;
	OK(vfiomig_tracker_new(&o, &t, ERRP));
	OK(vfiomig_tracker_map(t, &guest, 1, ERRP));
	unsigned before = peak_kib();
	CHECK(before);
	OK(vfiomig_tracker_start(t, ERRP));
	CHECK(info_of(t).kind == VFIOMIG_TRACKER_KIND_DMA_LOG && info_of(t).page_size == UNIT);
	/* No destination asks: all of it is kept, twice. */
	VFIOMIG_INIT(&out);
	for (int i = 0; i < 2; i++)
		OK(vfiomig_tracker_harvest(t, NULL, &out, ERRP));
	CHECK(!out.flags && out.reads >= DEVICES);
	/* A piece, then all as runs. */
	struct vfiomig_dest dest = dest_units(1 << 20, 64, &piece);
	rq = request_for(&dest, 1);
	rq.flags = VFIOMIG_HARVEST_F_NO_READ;
	OK(vfiomig_tracker_harvest(t, &rq, &out, ERRP));
	CHECK_EQ(piece, UINT64_MAX);
	rq.flags = 0;
	rq.dest_count = 0;
	rq.run = on_run;
	OK(vfiomig_tracker_harvest(t, &rq, &out, ERRP));
	CHECK(runs && out.dirty_pages >= TIB / UNIT);
	unsigned used = (peak_kib() - before) / 1024;
	printf("%u MiB for the harvests of %d devices in 1 TiB\n", used, DEVICES);
	CHECK(used < 80);
	LOG_END(&logs[0], t);
	for (int i = 0; i < DEVICES; i++) {
		LOG_END(&logs[i], NULL);
		FAKE_END(&f[i], d[i]);
	}
	return t_end();
}
