/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A report has drains, harvests, failures and counters, as structs, as text and as JSON, and what is borrowed from it
 * lives as long as it does.
 */
#include "fake.h"

static int put(void *opaque, size_t device, const void *data, size_t len, uint32_t flags)
{
	(void)device, (void)data, (void)len, (void)flags;
	return opaque ? *(int *)opaque : 0;
}

static const struct vfiomig_entry_report *entry(const struct vfiomig_report *r, uint32_t kind)
{
	static const struct vfiomig_entry_report none;

	for (size_t i = 0; i < vfiomig_report_entry_count(r); i++)
		if (vfiomig_report_entry(r, i)->kind == kind)
			return vfiomig_report_entry(r, i);
	printf("no entry of kind %u\n", kind);
	CHECK(0);
	return &none;
}

int main(void)
{
	struct vfiomig_tracker_options log;
	struct vfiomig_tracker *tracker;
	struct vfiomig_migration *save;
	struct vfiomig_report *report = NULL;
	const struct vfiomig_entry_report *e;
	const struct vfiomig_counters_report *c;
	struct vfiomig_device *d;
	struct vfiomig_group *g;
	struct fake f;
	int failure = -EPIPE;

	t_begin();
	fake_init(&f);
	f.pre = 1000;
	f.stop = 500;
	d = fake_device(&f);
	VFIOMIG_INIT(&log);
	log.flags = VFIOMIG_TRACKER_F_EVERYTHING;
	OK(vfiomig_tracker_new(&log, &tracker, ERRP));
	OK(vfiomig_group_new(NULL, &g, ERRP));
	OK(vfiomig_group_add_device(g, d, ERRP));
	OK(vfiomig_group_add_tracker(g, tracker, ERRP));
	OK(vfiomig_migration_new(g, VFIOMIG_DIRECTION_SAVE, NULL, &save, ERRP));
	OK(vfiomig_migration_advance(save, VFIOMIG_PHASE_SAVE_STOP_COPY, 0, ERRP));
	OK(vfiomig_group_harvest(g, NULL, NULL, ERRP));
	CHECK_EQ(OK(vfiomig_migration_save_complete(save, DRAIN(.put = put), NULL, 0, ERRP)), 1500);
	OK(vfiomig_migration_get_report(save, &report, ERRP));
	e = entry(report, VFIOMIG_ENTRY_HARVEST);
	CHECK_EQ(e->calls, 1);
	CHECK_EQ(e->phase, VFIOMIG_PHASE_SAVE_STOP_COPY);
	CHECK(!e->parts && !e->part_count && !e->text[0]);
	e = entry(report, VFIOMIG_ENTRY_SAVE_COMPLETE);
	CHECK_EQ(e->bytes, 1500);
	CHECK_EQ(e->part_count, 1);
	CHECK_EQ(e->parts[0].bytes, 1500);
	CHECK(e->reads && e->parts[0].reads == e->reads && e->flags == 0);
	CHECK(e->parts[0].device && e->parts[0].device[0]);
	c = vfiomig_report_counters(report);
	CHECK(c && c->part_count == 1 && c->parts[0].bytes == 1500 && !c->degraded && !c->log_restarts);
	CHECK_HAS(vfiomig_report_text(report), "save_complete");
	CHECK_HAS(vfiomig_report_json(report), "\"kind\":\"save_complete\"");
	CHECK_HAS(vfiomig_report_json(report), "\"version\":1");
	CHECK(!vfiomig_report_entry(report, vfiomig_report_entry_count(report)));
	vfiomig_report_free(report);
	OK(vfiomig_migration_abort(save, VFIOMIG_ABORT_TO_RUNNING, 0, ERRP));

	OK(vfiomig_migration_advance(save, VFIOMIG_PHASE_SAVE_STOP_COPY, 0, ERRP));
	FAILS(vfiomig_migration_save_complete(save, DRAIN(.put = put, .opaque = &failure), NULL, 0, ERRP), EPIPE,
		VFIOMIG_ERR_SYSTEM);
	OK(vfiomig_migration_get_report(save, &report, ERRP));
	e = entry(report, VFIOMIG_ENTRY_FAILURE);
	CHECK_EQ(e->flags, VFIOMIG_ENTRY_F_FAILED);
	CHECK_HAS(e->text, "save_complete: ");
	vfiomig_report_free(report);
	OK(vfiomig_migration_abort(save, VFIOMIG_ABORT_TO_RUNNING, 0, ERRP));

	OK(vfiomig_group_get_report(g, &report, ERRP));
	CHECK(!vfiomig_report_counters(report) && !vfiomig_report_entry_count(report));
	CHECK_HAS(vfiomig_report_json(report), "\"results\":[{");
	vfiomig_report_free(report);
	CHECK(!vfiomig_report_counters(NULL) && !vfiomig_report_entry(NULL, 0) && !vfiomig_report_entry_count(NULL));
	CHECK(!strcmp(vfiomig_report_json(NULL), ""));

	vfiomig_migration_free(save);
	vfiomig_group_free(g);
	vfiomig_tracker_free(tracker);
	FAKE_END(&f, d);
	return t_end();
}
