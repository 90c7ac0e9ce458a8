/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * In which states and phases a function may be called: each is called in each of them, and what is refused is compared
 * with its line in the header, from which the man pages make their tables. allowed.inc has these lines, so that no new
 * function is left out, and no line says something that is not held to the library.
 */
#include "fake-channel.h"
#include "fake.h"
#include <sys/socket.h>

/* Places of a device: VFIOMIG_STATE_*. */
#define IN(state) (1u << VFIOMIG_STATE_##state)
#define SAVING (IN(PRE_COPY) | IN(PRE_COPY_P2P) | IN(STOP_COPY))
enum { STATES = 8 };

/* Places of a tracker. */
enum { NOT_STARTED, STARTED, TRACKER_PLACES };

/* Places of a group and its migration. */
enum place {
	NO_MIGRATION, SAVE_IDLE, SAVE_TRACKING, SAVE_PRE_COPY, SAVE_VIOMMU_GRACE, SAVE_P2P_GRACE, SAVE_STOP_COPY,
	SAVE_HALTED, LOAD_IDLE, LOAD_RESUMING, LOAD_LOADED, LOAD_P2P_GRACE, LOAD_RUNNING, SAVE_FAILED, LOAD_FAILED,
	PLACES
};
#define AT(place) (1u << (place))
#define BETWEEN(first, last) (AT((last) + 1) - AT(first))

#define PAUSING (BETWEEN(NO_MIGRATION, SAVE_PRE_COPY) | BETWEEN(LOAD_LOADED, LOAD_RUNNING))

/* Every line that the header has, and what it means. */
static const struct line {
	const char *text;
	uint32_t places;
} lines[] = {
	{"any.", ~0u},
	{"PRE_COPY, PRE_COPY_P2P, STOP_COPY.", SAVING},
	{"RESUMING.", IN(RESUMING)},
	{"started or not.", ~0u},
	{"started or not; a tracker that is not started reports nothing.", ~0u},
	{"started.", AT(STARTED)},
	{"all of them started.", AT(STARTED)},
	{"started by the VMM.", AT(STARTED)},
	{"none: no migration of the group may exist.", AT(NO_MIGRATION)},
	{"any but SAVE_STOP_COPY.", ~AT(SAVE_STOP_COPY)},
	{"SAVE_STOP_COPY.", AT(SAVE_STOP_COPY)},
	{"LOAD_RESUMING.", AT(LOAD_RESUMING)},
	{"LOAD_RESUMING; LOAD_LOADED.", AT(LOAD_RESUMING) | AT(LOAD_LOADED)},
	{"IDLE, LOAD_RESUMING.", AT(LOAD_IDLE) | AT(LOAD_RESUMING)},
	{"any but LOAD_RUNNING, where a reset would destroy the guest.", ~AT(LOAD_RUNNING)},
	{"any in which the trackers are started; from SAVE_TRACKING to SAVE_STOP_COPY the migration has started them.",
	 BETWEEN(SAVE_TRACKING, SAVE_STOP_COPY) | AT(SAVE_FAILED)}, /* this one failed after SAVE_TRACKING */
	{"any but SAVE_HALTED and LOAD_RESUMING; FAILED of a save, not of a load.",
	 ~(AT(SAVE_HALTED) | AT(LOAD_RESUMING) | AT(LOAD_FAILED))},
	{"any of a save up to SAVE_STOP_COPY.", BETWEEN(SAVE_IDLE, SAVE_STOP_COPY)},
	{"any of a save, as above.", BETWEEN(SAVE_IDLE, SAVE_HALTED) | AT(SAVE_FAILED)},
	{"any of a save. Streams are open from SAVE_PRE_COPY to SAVE_STOP_COPY, of draft devices from SAVE_TRACKING on; else "
	 "each device is VFIOMIG_CHUNK_NO_STREAM.",
	 BETWEEN(SAVE_IDLE, SAVE_HALTED)},
	{"any; a group whose devices are not in RUNNING or STOP, as during a migration, is not migratable.", ~0u},
	{"any; no effect once SAVE_HALTED or LOAD_RUNNING was begun.", ~0u},
	{"without a migration; IDLE of a save, SAVE_TRACKING, SAVE_PRE_COPY, LOAD_LOADED, LOAD_P2P_GRACE, LOAD_RUNNING; not "
	 "while a phase is entered device by device.",
	 PAUSING},
	{"as of vfiomig_group_pause().", PAUSING},
	{NULL, 0},
};

/* What is called in a state or phase of its own has a test of its own. */
static const char *const elsewhere[] = {
	"vfiomig_device_set_state",         /* t-arcs.c, tests/arcs.rs: the tables of docs/states.md */
	"vfiomig_migration_advance",        /* src/migration/sequence.rs: a table */
	"vfiomig_migration_advance_device", /* the same */
	"vfiomig_device_new_kernel",        /* they make what has a state; */
	"vfiomig_device_new_ops",           /* t-probe.c finds devices in each */
	"vfiomig_device_new_vfio_user",
	"vfiomig_device_new_connection",
};

static struct fake f, other_f;
static struct vfiomig_device *d, *other_d;
static struct vfiomig_tracker *t, *other_t;
static struct vfiomig_group *g;
static struct vfiomig_migration *m, *other_m;
static int ends[2];

static int take(void *opaque, size_t device, const void *data, size_t len, uint32_t flags)
{
	(void)opaque, (void)device, (void)data, (void)len, (void)flags;
	return 0;
}

static int64_t nothing(void *opaque, size_t device, void *buf, size_t len, uint32_t *flags, uint64_t *total)
{
	(void)opaque, (void)device, (void)buf, (void)len, (void)flags;
	*total = 0;
	return 0;
}

static int gone(void *opaque, const struct vfiomig_range *range)
{
	(void)opaque, (void)range;
	return 0;
}

/* Scratch for outputs. */
static struct vfiomig_chunk chunk;
static struct vfiomig_report *report;
static unsigned char bytes[64];
static uint32_t flags;
static const struct vfiomig_mapping more_ram = {.iova = 1 << 21, .size = 1 << 20};
static int run(void *opaque, uint64_t cookie, uint64_t iova, uint64_t size)
{
	(void)opaque, (void)cookie, (void)iova, (void)size;
	return 0;
}
static const struct vfiomig_harvest_request all = {.argsz = sizeof all, .run = run};
static const struct vfiomig_range ram = {.iova = 0, .size = 1 << 20};

#define STRUCT(type) ((struct type *)made(sizeof(struct type)))
static void *made(size_t size)
{
	static uint64_t room[64];

	memset(room, 0, sizeof room);
	CHECK(size <= sizeof room);
	*(uint32_t *)room = (uint32_t)size;
	return room;
}

static int64_t lend(void)
{
	void *ptr;
	size_t len;

	return vfiomig_device_reserve(d, VFIOMIG_UNKNOWN, &ptr, &len, ERRP);
}

/* A tracker with mappings, or before its final harvest, is not removed from a save. */
static void report_everything(void)
{
	struct vfiomig_harvest_result out;

	VFIOMIG_INIT(&out);
	OK(vfiomig_tracker_unmap(t, &ram, gone, NULL, 0, &all, &out, ERRP));
	vfiomig_group_harvest(g, &all, NULL, NULL);
}

static int64_t iterate(void)
{
	return vfiomig_migration_save_iterate(m, DRAIN(.put = take, .budget_bytes = 1 << 20), NULL, 0, ERRP);
}

static int64_t save_to_wire(void)
{
	static struct pipe p;
	struct vfiomig_writer_options o;
	struct vfiomig_writer *w = NULL;

	p.len = 0;
	VFIOMIG_INIT(&o);
	o.write = put;
	o.opaque = &p;
	OK(vfiomig_writer_new(g, &o, &w, ERRP));
	const int64_t result = vfiomig_migration_save_to(m, &w, 1, NULL, ERRP);
	vfiomig_writer_free(w);
	return result;
}

/* Of a wire that ends before it begins, which is INCOMPLETE where the call is allowed. */
static int64_t load_from_wire(void)
{
	static struct pipe empty;
	struct vfiomig_reader *r = reader_of(&empty);
	const int64_t result = vfiomig_migration_load_from(m, &r, 1, NULL, ERRP);

	vfiomig_reader_free(r);
	return result;
}

/* NAME is called by EXPRESSION, after BEFORE. */
#define CALL(name, before, expression) \
	static int64_t call_##name(void) { before; return (int64_t)(expression); }
#define VOID(name, statement) \
	static int64_t call_##name(void) { statement; return 0; }

CALL(device_get_info, , vfiomig_device_get_info(d, STRUCT(vfiomig_device_info), ERRP))
VOID(device_get_state, vfiomig_device_get_state(d))
CALL(device_reset, , vfiomig_device_reset(d, ERRP))
CALL(device_reprobe, , vfiomig_device_reprobe(d, ERRP))
CALL(device_get_pending, , vfiomig_device_get_pending(d, 0, STRUCT(vfiomig_device_pending), ERRP))
CALL(device_restart_stream, , vfiomig_device_restart_stream(d, ERRP))
CALL(device_peek, , vfiomig_device_peek(d, 0, &chunk, ERRP))
CALL(device_consume, vfiomig_device_peek(d, 0, &chunk, NULL), vfiomig_device_consume(d, 0, ERRP))
CALL(device_read, , vfiomig_device_read(d, bytes, sizeof bytes, &flags, ERRP))
CALL(device_send, , vfiomig_device_send(d, ends[0], sizeof bytes, &flags, ERRP))
CALL(device_reserve, , lend())
CALL(device_commit, lend(), vfiomig_device_commit(d, 0, 0, ERRP))
CALL(device_write, , vfiomig_device_write(d, bytes, sizeof bytes, 0, ERRP))
CALL(device_receive, CHECK_EQ(write(ends[1], bytes, 8), 8), vfiomig_device_receive(d, ends[0], 8, 0, ERRP))
CALL(device_finish, , vfiomig_device_finish(d, 0, ERRP))
VOID(device_free, vfiomig_device_free(d); d = NULL)

CALL(tracker_get_info, , vfiomig_tracker_get_info(t, STRUCT(vfiomig_tracker_info), ERRP))
CALL(tracker_map, , vfiomig_tracker_map(t, &more_ram, 1, ERRP))
CALL(tracker_start, , vfiomig_tracker_start(t, ERRP))
CALL(tracker_stop, , vfiomig_tracker_stop(t, ERRP))
CALL(tracker_add_device, , vfiomig_tracker_add_device(t, other_d, ERRP))
CALL(tracker_remove_device, OK(vfiomig_tracker_add_device(t, other_d, ERRP)),
     vfiomig_tracker_remove_device(t, other_d, ERRP))
CALL(tracker_add_foreign, , vfiomig_tracker_add_foreign(t, "foreign", -1, ERRP))
CALL(tracker_remove_foreign, OK(vfiomig_tracker_add_foreign(t, "foreign", -1, ERRP)),
     vfiomig_tracker_remove_foreign(t, "foreign", ERRP))
CALL(tracker_add_hwpt, , vfiomig_tracker_add_hwpt(t, 1, ERRP))
CALL(tracker_remove_hwpt, vfiomig_tracker_add_hwpt(t, 1, NULL), vfiomig_tracker_remove_hwpt(t, 1, ERRP))
CALL(tracker_harvest, , vfiomig_tracker_harvest(t, &all, STRUCT(vfiomig_harvest_result), ERRP))
CALL(tracker_harvest_many, , vfiomig_tracker_harvest_many(&t, 1, &all, STRUCT(vfiomig_harvest_result), ERRP))
CALL(tracker_unmap, , vfiomig_tracker_unmap(t, &ram, gone, NULL, 0, NULL, STRUCT(vfiomig_harvest_result), ERRP))
VOID(tracker_free, vfiomig_tracker_free(t); t = NULL)

VOID(group_free, vfiomig_group_free(g); g = NULL)
CALL(group_get_progress, , vfiomig_group_get_progress(g, STRUCT(vfiomig_progress), 1, &(size_t){0}, ERRP))
CALL(group_add_device, , vfiomig_group_add_device(g, other_d, ERRP))
CALL(group_remove_device, , vfiomig_group_remove_device(g, d, ERRP))
CALL(group_add_tracker, , vfiomig_group_add_tracker(g, other_t, ERRP))
CALL(group_remove_tracker, report_everything(), vfiomig_group_remove_tracker(g, t, ERRP))
CALL(group_get_abilities, , vfiomig_group_get_abilities(g, STRUCT(vfiomig_group_abilities), NULL, ERRP))
CALL(group_pause, , vfiomig_group_pause(g, ERRP))
CALL(group_pause_begin, , vfiomig_group_pause_begin(g, ERRP))
CALL(group_resume, , vfiomig_group_resume(g, ERRP))
CALL(group_resume_begin, , vfiomig_group_resume_begin(g, ERRP))
CALL(group_harvest, , vfiomig_group_harvest(g, &all, STRUCT(vfiomig_harvest_result), ERRP))
CALL(group_get_report, , vfiomig_group_get_report(g, &report, ERRP))
CALL(group_get_timings, , vfiomig_group_get_timings(g, &report, ERRP))
CALL(group_set_timings, , vfiomig_group_set_timings(g, "vfiomig-timings 1\n", NULL, ERRP))
CALL(group_stop_begin, , vfiomig_group_stop_begin(g, 0, NULL, ERRP))
CALL(group_stop, , vfiomig_group_stop(g, 0, NULL, ERRP))
CALL(group_start_begin, , vfiomig_group_start_begin(g, 0, NULL, ERRP))
CALL(group_start, , vfiomig_group_start(g, 0, NULL, ERRP))

CALL(migration_new, , vfiomig_migration_new(g, VFIOMIG_DIRECTION_SAVE, NULL, &other_m, ERRP))
VOID(migration_free, vfiomig_migration_free(m); m = NULL)
VOID(migration_get_phase, vfiomig_migration_get_phase(m))
VOID(migration_cancel, vfiomig_migration_cancel(m))
CALL(migration_abort, , vfiomig_migration_abort(m, VFIOMIG_ABORT_TO_RUNNING, VFIOMIG_ABORT_F_NO_SECOND_GUEST, ERRP))
CALL(migration_get_report, , vfiomig_migration_get_report(m, &report, ERRP))
CALL(migration_get_pending, , vfiomig_migration_get_pending(m, 0, STRUCT(vfiomig_migration_pending), ERRP))
CALL(migration_get_estimate, , vfiomig_migration_get_estimate(m, NULL, STRUCT(vfiomig_migration_estimate), NULL, ERRP))
CALL(migration_save_iterate, , iterate())
CALL(migration_save_complete, , vfiomig_migration_save_complete(m, DRAIN(.put = take), NULL, 0, ERRP))
CALL(migration_load_complete, , vfiomig_migration_load_complete(m, DRAIN(.get = nothing), NULL, 0, ERRP))
CALL(migration_load_done, , vfiomig_migration_load_done(m, d, 0, 0, ERRP))
CALL(migration_end, , vfiomig_migration_end(m, 0, VFIOMIG_END_F_NO_SECOND_GUEST, ERRP))
CALL(migration_save_to, , save_to_wire())
CALL(migration_load_from, , load_from_wire())

#define ROW(name) {"vfiomig_" #name, call_##name}
static const struct row {
	const char *name;
	int64_t (*call)(void);
} rows[] = {
	ROW(device_get_info), ROW(device_get_state), ROW(device_reset), ROW(device_reprobe), ROW(device_get_pending),
	ROW(device_restart_stream), ROW(device_peek), ROW(device_consume), ROW(device_read), ROW(device_send),
	ROW(device_reserve), ROW(device_commit), ROW(device_write), ROW(device_receive), ROW(device_finish),
	ROW(device_free), ROW(tracker_get_info), ROW(tracker_map), ROW(tracker_start), ROW(tracker_stop),
	ROW(tracker_add_device), ROW(tracker_remove_device), ROW(tracker_add_foreign), ROW(tracker_remove_foreign),
	ROW(tracker_add_hwpt), ROW(tracker_remove_hwpt), ROW(tracker_harvest), ROW(tracker_harvest_many),
	ROW(tracker_unmap), ROW(tracker_free), ROW(group_free), ROW(group_get_progress), ROW(group_add_device),
	ROW(group_remove_device), ROW(group_add_tracker), ROW(group_remove_tracker), ROW(group_get_abilities),
	ROW(group_pause), ROW(group_pause_begin), ROW(group_resume), ROW(group_resume_begin), ROW(group_harvest),
	ROW(group_get_report), ROW(group_get_timings), ROW(group_set_timings), ROW(group_stop_begin), ROW(group_stop),
	ROW(group_start_begin), ROW(group_start), ROW(migration_new), ROW(migration_free), ROW(migration_get_phase),
	ROW(migration_cancel), ROW(migration_abort), ROW(migration_get_report), ROW(migration_get_pending),
	ROW(migration_get_estimate), ROW(migration_save_iterate), ROW(migration_save_complete),
	ROW(migration_load_complete), ROW(migration_load_done), ROW(migration_end), ROW(migration_save_to),
	ROW(migration_load_from),
};

/* The places of a kind of function. */
struct kind {
	const char *prefix;
	unsigned places;
	void (*enter)(unsigned place);
	void (*name)(unsigned place, char *text, size_t size);
};

static struct vfiomig_tracker *tracker_of(uint32_t more)
{
	struct vfiomig_tracker_options o;
	struct vfiomig_tracker *made = NULL;

	VFIOMIG_INIT(&o);
	o.flags = VFIOMIG_TRACKER_F_EVERYTHING | more;
	OK(vfiomig_tracker_new(&o, &made, ERRP));
	OK(vfiomig_tracker_map(made, &(struct vfiomig_mapping){.iova = ram.iova, .size = ram.size}, 1, ERRP));
	return made;
}

static void begin(void)
{
	struct vfiomig_device_options o;
	struct vfiomig_device_ops ops;

	fake_init(&f);
	fake_init(&other_f);
	d = fake_device(&f);
	fake_ops(&other_f, &ops);
	VFIOMIG_INIT(&o);
	o.name = "other";
	OK(vfiomig_device_new_ops(&ops, &other_f, &o, &other_d, ERRP));
	t = tracker_of(0);
	other_t = tracker_of(0);
	OK(socketpair(AF_UNIX, SOCK_STREAM, 0, ends));
}

static void end(void)
{
	vfiomig_report_free(report);
	report = NULL;
	vfiomig_migration_free(m);
	vfiomig_migration_free(other_m);
	m = other_m = NULL;
	vfiomig_group_free(g);
	g = NULL;
	vfiomig_tracker_free(t);
	vfiomig_tracker_free(other_t);
	FAKE_END(&f, d);
	FAKE_END(&other_f, other_d);
	close(ends[0]);
	close(ends[1]);
}

static void enter_state(unsigned state)
{
	fake_bring(&f, d, state);
}

static void name_state(unsigned state, char *text, size_t size)
{
	snprintf(text, size, "%s", vfiomig_state_name(state));
}

static void enter_tracker(unsigned place)
{
	if (place == STARTED)
		OK(vfiomig_tracker_start(t, ERRP));
}

static void name_tracker(unsigned place, char *text, size_t size)
{
	snprintf(text, size, place == STARTED ? "started" : "not started");
}

/* How each place is reached. */
static const struct way {
	const char *name;
	uint32_t direction, phase;
	bool finishes, fails;
} ways[PLACES] = {
	[NO_MIGRATION] = {"no migration", 0, 0, false, false},
	[SAVE_IDLE] = {"IDLE of a save", VFIOMIG_DIRECTION_SAVE, 0, false, false},
	[SAVE_TRACKING] = {"SAVE_TRACKING", VFIOMIG_DIRECTION_SAVE, VFIOMIG_PHASE_SAVE_TRACKING, false, false},
	[SAVE_PRE_COPY] = {"SAVE_PRE_COPY", VFIOMIG_DIRECTION_SAVE, VFIOMIG_PHASE_SAVE_PRE_COPY, false, false},
	[SAVE_VIOMMU_GRACE] = {"SAVE_VIOMMU_GRACE", VFIOMIG_DIRECTION_SAVE, VFIOMIG_PHASE_SAVE_VIOMMU_GRACE, false, false},
	[SAVE_P2P_GRACE] = {"SAVE_P2P_GRACE", VFIOMIG_DIRECTION_SAVE, VFIOMIG_PHASE_SAVE_P2P_GRACE, false, false},
	[SAVE_STOP_COPY] = {"SAVE_STOP_COPY", VFIOMIG_DIRECTION_SAVE, VFIOMIG_PHASE_SAVE_STOP_COPY, false, false},
	[SAVE_HALTED] = {"SAVE_HALTED", VFIOMIG_DIRECTION_SAVE, VFIOMIG_PHASE_SAVE_STOP_COPY, true, false},
	[LOAD_IDLE] = {"IDLE of a load", VFIOMIG_DIRECTION_LOAD, 0, false, false},
	[LOAD_RESUMING] = {"LOAD_RESUMING", VFIOMIG_DIRECTION_LOAD, VFIOMIG_PHASE_LOAD_RESUMING, false, false},
	[LOAD_LOADED] = {"LOAD_LOADED", VFIOMIG_DIRECTION_LOAD, VFIOMIG_PHASE_LOAD_LOADED, true, false},
	[LOAD_P2P_GRACE] = {"LOAD_P2P_GRACE", VFIOMIG_DIRECTION_LOAD, VFIOMIG_PHASE_LOAD_P2P_GRACE, true, false},
	[LOAD_RUNNING] = {"LOAD_RUNNING", VFIOMIG_DIRECTION_LOAD, VFIOMIG_PHASE_LOAD_RUNNING, true, false},
	[SAVE_FAILED] = {"FAILED of a save", VFIOMIG_DIRECTION_SAVE, VFIOMIG_PHASE_SAVE_STOP_COPY, false, true},
	[LOAD_FAILED] = {"FAILED of a load", VFIOMIG_DIRECTION_LOAD, VFIOMIG_PHASE_LOAD_RESUMING, false, true},
};

static void enter_phase(unsigned place)
{
	const struct way *way = &ways[place];
	const bool load = way->direction == VFIOMIG_DIRECTION_LOAD;

	OK(vfiomig_group_new(NULL, &g, ERRP));
	OK(vfiomig_group_add_device(g, d, ERRP));
	OK(vfiomig_group_add_tracker(g, t, ERRP));
	if (way->direction)
		OK(vfiomig_migration_new(g, way->direction, NULL, &m, ERRP));
	if (way->fails) {
		f.fault[1] = (struct fake_fault){.call = C_SET, .at = 1, .error = EIO, .effect = E_STAY};
		FAILS(vfiomig_migration_advance(m, way->phase, 0, ERRP), EIO, VFIOMIG_ERR_DEVICE);
		CHECK_EQ(vfiomig_migration_get_phase(m), VFIOMIG_PHASE_FAILED);
		return;
	}
	if (load && way->finishes) {
		OK(vfiomig_migration_advance(m, VFIOMIG_PHASE_LOAD_RESUMING, 0, ERRP));
		OK(vfiomig_device_finish(d, 0, ERRP));
	}
	if (way->phase)
		OK(vfiomig_migration_advance(m, way->phase, 0, ERRP));
	if (!load && way->finishes) {
		OK(vfiomig_migration_save_complete(m, DRAIN(.put = take), NULL, 0, ERRP));
		OK(vfiomig_migration_advance(m, VFIOMIG_PHASE_SAVE_HALTED, VFIOMIG_ADVANCE_F_NO_HARVEST, ERRP));
	}
}

static void name_phase(unsigned place, char *text, size_t size)
{
	snprintf(text, size, "%s", ways[place].name);
}

static const struct kind kinds[] = {
	{"vfiomig_device_", STATES, enter_state, name_state},
	{"vfiomig_tracker_", TRACKER_PLACES, enter_tracker, name_tracker},
	{"vfiomig_group_", PLACES, enter_phase, name_phase},
	{"vfiomig_migration_", PLACES, enter_phase, name_phase},
};

static bool starts(const char *text, const char *with)
{
	return strncmp(text, with, strlen(with)) == 0;
}

/* ORDER; of a migration that has failed its first error; of one of the other direction also ARGUMENT. */
static bool refused(unsigned place, int64_t result)
{
	const uint32_t code = result < 0 ? vfiomig_error_code(t_error) : 0;

	if (code == VFIOMIG_ERR_ORDER)
		return true;
	return m != NULL && (code == VFIOMIG_ERR_ARGUMENT || (ways[place].fails && code == VFIOMIG_ERR_DEVICE));
}

static void hold(const char *name, const char *line, int64_t (*call)(void), const struct line *says)
{
	const struct kind *kind = kinds;

	while (!starts(name, kind->prefix))
		kind++;
	/* Without a migration there is no call on one. */
	const bool needs_one = starts(name, "vfiomig_migration_") && call != call_migration_new;

	for (unsigned place = needs_one; place < kind->places; place++) {
		char where[40];

		begin();
		kind->enter(place);
		kind->name(place, where, sizeof where);
		const bool is_refused = refused(kind->enter == enter_phase ? place : 0, call());
		if (is_refused == ((says->places >> place & 1) != 0))
			T_FAIL("%s in %s is %s (%s), but the header says: %s", name, where,
			       is_refused ? "refused" : "allowed", vfiomig_error_message(t_error), line);
		CHECK(true);
		end();
	}
}

static void look(const char *name, const char *line)
{
	const struct line *says = lines;
	const struct row *row = rows;

	for (size_t i = 0; i < sizeof elsewhere / sizeof *elsewhere; i++)
		if (strcmp(elsewhere[i], name) == 0)
			return;
	while (says->text != NULL && strcmp(says->text, line) != 0)
		says++;
	while (row < rows + sizeof rows / sizeof *rows && strcmp(row->name, name) != 0)
		row++;
	if (says->text == NULL)
		T_FAIL("%s: this test does not know the line: %s", name, line);
	else if (row == rows + sizeof rows / sizeof *rows)
		T_FAIL("%s: this test does not call it", name);
	else
		hold(name, line, row->call, says);
}

int main(void)
{
	t_begin();
#define ALLOWED(name, line) look(#name, line);
#include "allowed.inc"
	return t_end();
}
