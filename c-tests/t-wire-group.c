/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A whole save and a whole load over a wire (docs/wire.md) need one call each; what is not right is refused before a
 * device is touched; and whatever fails, there is a way back on both sides.
 */
#include "fake-channel.h"
#include "fake.h"
#include <fcntl.h>
#include <pthread.h>
#include <sys/socket.h>

static struct pipe channel;

enum { DEVICES = 2, SIZE = 3000 };

struct vm {
	struct fake fakes[DEVICES];
	struct vfiomig_device *d[DEVICES];
	struct vfiomig_tracker *t;
	struct vfiomig_group *g;
	struct vfiomig_migration *m;
};

static struct vm from, to;
static struct vfiomig_writer *w;
static unsigned steps, stepped[8], records;
static int step_fails;

static void vm_begin(struct vm *vm, uint32_t direction)
{
	const struct vfiomig_mapping ram = {.size = 1 << 20};
	struct vfiomig_tracker_options t;

	OK(vfiomig_group_new(NULL, &vm->g, ERRP));
	for (int i = 0; i < DEVICES; i++) {
		struct vfiomig_device_options o;
		struct vfiomig_device_ops ops;
		char name[16];

		fake_init(&vm->fakes[i]);
		vm->fakes[i].pre = SIZE / 2;
		vm->fakes[i].stop = SIZE / 2;
		fake_ops(&vm->fakes[i], &ops);
		VFIOMIG_INIT(&o);
		snprintf(name, sizeof name, "d%d", i);
		o.name = name;
		OK(vfiomig_device_new_ops(&ops, &vm->fakes[i], &o, &vm->d[i], ERRP));
		OK(vfiomig_group_add_device(vm->g, vm->d[i], ERRP));
	}
	VFIOMIG_INIT(&t);
	t.flags = VFIOMIG_TRACKER_F_EVERYTHING;
	OK(vfiomig_tracker_new(&t, &vm->t, ERRP));
	OK(vfiomig_tracker_map(vm->t, &ram, 1, ERRP));
	OK(vfiomig_group_add_tracker(vm->g, vm->t, ERRP));
	OK(vfiomig_migration_new(vm->g, direction, NULL, &vm->m, ERRP));
}

static void vm_end(struct vm *vm)
{
	vfiomig_migration_free(vm->m);
	vfiomig_group_free(vm->g);
	vfiomig_tracker_free(vm->t);
	for (int i = 0; i < DEVICES; i++)
		FAKE_END(&vm->fakes[i], vm->d[i]);
}

static int step(void *opaque, uint32_t what, const struct vfiomig_wire_progress *progress)
{
	(void)opaque;
	steps++;
	stepped[what]++;
	if ((uint32_t)step_fails == what)
		return -ENOSPC;
	if (what == VFIOMIG_STEP_LAST)
		CHECK_EQ(progress->bytes, DEVICES * SIZE);
	if (what == VFIOMIG_STEP_ROUND) {
		CHECK_EQ(progress->round, stepped[what]);
		OK(vfiomig_writer_vmm(w, 1, 7, "ram", 3, ERRP));
		return progress->round < 3;
	}
	return 0;
}

static int record(void *opaque, size_t device, uint64_t kind, const void *data, size_t len)
{
	(void)opaque;
	CHECK(device == 1 && kind == 7 && len == 3 && !memcmp(data, "ram", 3));
	records++;
	return 0;
}

static int save(uint32_t flags)
{
	struct vfiomig_save_to_request rq;
	struct vfiomig_writer_options o;

	VFIOMIG_INIT(&o);
	o.write = put;
	o.opaque = &channel;
	OK(vfiomig_writer_new(from.g, &o, &w, ERRP));
	VFIOMIG_INIT(&rq);
	rq.flags = flags;
	rq.step = step;
	steps = 0;
	memset(stepped, 0, sizeof stepped);
	int result = vfiomig_migration_save_to(from.m, &w, 1, &rq, ERRP);
	vfiomig_writer_free(w);
	return result;
}

static int load(const struct vfiomig_wire_device *demanded, size_t count, bool with_record)
{
	struct vfiomig_reader *r = reader_of(&channel);
	struct vfiomig_load_from_request rq;

	VFIOMIG_INIT(&rq);
	rq.devices = demanded;
	rq.device_count = count;
	rq.record = with_record ? record : NULL;
	rq.step = step;
	records = 0;
	int result = vfiomig_migration_load_from(to.m, &r, 1, &rq, ERRP);
	vfiomig_reader_free(r);
	return result;
}

static void a_whole_save_and_load(void)
{
	const struct vfiomig_wire_word other = {"vendor", "1af4"};
	const struct vfiomig_wire_device demanded = {"d1", VFIOMIG_DIALECT_NONE, 0, &other, 1};

	memset(&channel, 0, sizeof channel);
	vm_begin(&from, VFIOMIG_DIRECTION_SAVE);
	vm_begin(&to, VFIOMIG_DIRECTION_LOAD);
	for (int i = 0; i < DEVICES; i++)
		to.fakes[i].expect = SIZE;
	OK(save(VFIOMIG_SAVE_TO_F_ROUNDS));
	CHECK(stepped[VFIOMIG_STEP_ROUND] == 3 && stepped[VFIOMIG_STEP_STOP_VM] == 1 && stepped[VFIOMIG_STEP_GRACE] == 1 &&
	      stepped[VFIOMIG_STEP_STOPPED] == 1 && stepped[VFIOMIG_STEP_LAST] == 1);
	CHECK_EQ(vfiomig_migration_get_phase(from.m), VFIOMIG_PHASE_SAVE_STOP_COPY);
	OK(vfiomig_migration_end(from.m, 1, VFIOMIG_END_F_NO_HARVEST, ERRP));

	/* Nothing is touched before the table was found right. */
	FAILS(load(&demanded, 1, true), 0, VFIOMIG_ERR_UNSUPPORTED);
	CHECK_HAS(vfiomig_error_message(t_error), "d1: vendor: this side has \"1af4\", the wire has no such word");
	CHECK_EQ(vfiomig_migration_get_phase(to.m), VFIOMIG_PHASE_IDLE);
	FAILS(load(NULL, 0, false), 0, VFIOMIG_ERR_UNSUPPORTED);
	CHECK_HAS(vfiomig_error_message(t_error), "a record of the VMM of kind 7");
	OK(vfiomig_migration_abort(to.m, VFIOMIG_ABORT_TO_RUNNING, 0, ERRP));
	/* One that was cut in the middle. */
	size_t len = channel.len;
	channel.len = len - 40;
	FAILS(load(NULL, 0, true), 0, VFIOMIG_ERR_INCOMPLETE);
	channel.len = len;
	OK(vfiomig_migration_abort(to.m, VFIOMIG_ABORT_TO_RUNNING, 0, ERRP));
	OK(load(NULL, 0, true));
	CHECK_EQ(records, 3);
	CHECK_EQ(vfiomig_migration_get_phase(to.m), VFIOMIG_PHASE_LOAD_LOADED);
	OK(vfiomig_migration_advance(to.m, VFIOMIG_PHASE_LOAD_RUNNING, 0, ERRP));
	vm_end(&from);
	vm_end(&to);
}

static void a_step_that_fails_ends_the_save(void)
{
	memset(&channel, 0, sizeof channel);
	vm_begin(&from, VFIOMIG_DIRECTION_SAVE);
	vm_begin(&to, VFIOMIG_DIRECTION_LOAD);
	step_fails = VFIOMIG_STEP_STOPPED;
	FAILS(save(0), ENOSPC, VFIOMIG_ERR_SYSTEM);
	step_fails = 0;
	OK(vfiomig_migration_abort(from.m, VFIOMIG_ABORT_TO_RUNNING, 0, ERRP));
	CHECK_EQ(from.fakes[0].state, S_RUNNING);
	FAILS(load(NULL, 0, true), ECONNABORTED, VFIOMIG_ERR_INCOMPLETE);
	CHECK_HAS(vfiomig_error_message(t_error), "the source side gave up");
	OK(vfiomig_migration_abort(to.m, VFIOMIG_ABORT_TO_RUNNING, 0, ERRP));
	FAILS(vfiomig_migration_save_to(from.m, NULL, 0, NULL, ERRP), 0, VFIOMIG_ERR_ARGUMENT);
	FAILS(vfiomig_migration_load_from(from.m, NULL, 0, NULL, ERRP), 0, VFIOMIG_ERR_ORDER);
	FAILS(vfiomig_migration_save_to(NULL, &w, 1, NULL, ERRP), 0, VFIOMIG_ERR_ARGUMENT);
	vm_end(&from);
	vm_end(&to);
}

/* Refused with ARGUMENT, or ORDER where it says so, before a device is asked for anything. */
static void wrong_parameters(void)
{
	struct vfiomig_wire_device other = {"d7", VFIOMIG_DIALECT_NONE, 0, NULL, 0};
	struct vfiomig_writer_options o;
	struct vfiomig_reader *r, *no_reader = NULL;
	struct vfiomig_writer *none = NULL, *twice[2];
	struct vfiomig_load_from_request load_rq;
	struct vfiomig_save_to_request save_rq;

	memset(&channel, 0, sizeof channel);
	vm_begin(&from, VFIOMIG_DIRECTION_SAVE);
	vm_begin(&to, VFIOMIG_DIRECTION_LOAD);
	VFIOMIG_INIT(&o);
	o.write = put;
	o.opaque = &channel;
	OK(vfiomig_writer_new(from.g, &o, &w, ERRP));
	twice[0] = twice[1] = w;
	r = reader_of(&channel);
	const unsigned asked = from.fakes[0].calls + to.fakes[0].calls;

	VFIOMIG_INIT(&save_rq);
	FAILS(vfiomig_migration_save_to(NULL, &w, 1, NULL, ERRP), 0, VFIOMIG_ERR_ARGUMENT);
	FAILS(vfiomig_migration_save_to(from.m, NULL, 0, NULL, ERRP), 0, VFIOMIG_ERR_ARGUMENT);
	FAILS(vfiomig_migration_save_to(from.m, NULL, 1, NULL, ERRP), 0, VFIOMIG_ERR_ARGUMENT);
	FAILS(vfiomig_migration_save_to(from.m, &none, 1, NULL, ERRP), 0, VFIOMIG_ERR_ARGUMENT);
	FAILS(vfiomig_migration_save_to(from.m, twice, 2, NULL, ERRP), 0, VFIOMIG_ERR_ARGUMENT);
	save_rq.flags = 1u << 31;
	FAILS(vfiomig_migration_save_to(from.m, &w, 1, &save_rq, ERRP), 0, VFIOMIG_ERR_ARGUMENT);
	save_rq.flags = 0;
	save_rq.argsz = 4;
	FAILS(vfiomig_migration_save_to(from.m, &w, 1, &save_rq, ERRP), 0, VFIOMIG_ERR_ARGUMENT);
	FAILS(vfiomig_migration_save_to(to.m, &w, 1, NULL, ERRP), 0, VFIOMIG_ERR_ORDER);
	CHECK_EQ(channel.len, 0);

	VFIOMIG_INIT(&load_rq);
	FAILS(vfiomig_migration_load_from(NULL, &r, 1, NULL, ERRP), 0, VFIOMIG_ERR_ARGUMENT);
	FAILS(vfiomig_migration_load_from(to.m, NULL, 0, NULL, ERRP), 0, VFIOMIG_ERR_ARGUMENT);
	FAILS(vfiomig_migration_load_from(to.m, NULL, 1, NULL, ERRP), 0, VFIOMIG_ERR_ARGUMENT);
	FAILS(vfiomig_migration_load_from(to.m, &no_reader, 1, NULL, ERRP), 0, VFIOMIG_ERR_ARGUMENT);
	load_rq.flags = 1;
	FAILS(vfiomig_migration_load_from(to.m, &r, 1, &load_rq, ERRP), 0, VFIOMIG_ERR_ARGUMENT);
	load_rq.flags = 0;
	load_rq.device_count = 1;
	FAILS(vfiomig_migration_load_from(to.m, &r, 1, &load_rq, ERRP), 0, VFIOMIG_ERR_ARGUMENT);
	load_rq.devices = &other;
	other.name = NULL;
	FAILS(vfiomig_migration_load_from(to.m, &r, 1, &load_rq, ERRP), 0, VFIOMIG_ERR_ARGUMENT);
	other.name = "d1";
	other.dialect = 99;
	FAILS(vfiomig_migration_load_from(to.m, &r, 1, &load_rq, ERRP), 0, VFIOMIG_ERR_ARGUMENT);
	FAILS(vfiomig_migration_load_from(from.m, &r, 1, NULL, ERRP), 0, VFIOMIG_ERR_ORDER);
	CHECK_EQ(channel.at, 0);
	CHECK_EQ(from.fakes[0].calls + to.fakes[0].calls, asked);
	CHECK_EQ(vfiomig_migration_get_phase(from.m), VFIOMIG_PHASE_IDLE);
	CHECK_EQ(vfiomig_migration_get_phase(to.m), VFIOMIG_PHASE_IDLE);

	/* A device that the group has not is seen with the table, and words are asked for by name. */
	OK(vfiomig_writer_flush(w, ERRP));
	other = (struct vfiomig_wire_device){"d7", VFIOMIG_DIALECT_NONE, 0, NULL, 0};
	FAILS(vfiomig_migration_load_from(to.m, &r, 1, &load_rq, ERRP), 0, VFIOMIG_ERR_ARGUMENT);
	CHECK_HAS(vfiomig_error_message(t_error), "d7: the group has no such device");
	CHECK_EQ(vfiomig_migration_get_phase(to.m), VFIOMIG_PHASE_IDLE);
	vfiomig_writer_free(w);
	vfiomig_reader_free(r);
	vm_end(&from);
	vm_end(&to);
}

/* --- over sockets ------------------------------------------------------------------------------------------------- */

enum { CHANNELS = 2 };
static int fds[CHANNELS][2];

static void channels_begin(bool nonblocking)
{
	for (int i = 0; i < CHANNELS; i++) {
		CHECK(!socketpair(AF_UNIX, SOCK_STREAM, 0, fds[i]));
		for (int end = 0; nonblocking && end < 2; end++)
			CHECK(!fcntl(fds[i][end], F_SETFL, O_NONBLOCK));
	}
}

static void channels_end(void)
{
	for (int i = 0; i < CHANNELS; i++)
		close(fds[i][0]), close(fds[i][1]);
}

static void writers_begin(struct vfiomig_writer **writers)
{
	const struct vfiomig_wire_device second = {"d1", VFIOMIG_DIALECT_NONE, 1, NULL, 0};
	struct vfiomig_writer_options o;

	for (int i = 0; i < CHANNELS; i++) {
		VFIOMIG_INIT(&o);
		o.flags = VFIOMIG_WRITER_F_FD;
		o.fd = fds[i][0];
		o.channel = (uint32_t)i;
		o.channels = CHANNELS;
		o.wire = 77;
		o.devices = &second;
		o.device_count = 1;
		OK(vfiomig_writer_new(from.g, &o, &writers[i], ERRP));
	}
}

static void readers_begin(struct vfiomig_reader **readers)
{
	struct vfiomig_reader_options o;

	/* In the other order, which makes no difference. */
	for (int i = 0; i < CHANNELS; i++) {
		VFIOMIG_INIT(&o);
		o.flags = VFIOMIG_READER_F_FD;
		o.fd = fds[CHANNELS - 1 - i][1];
		OK(vfiomig_reader_new(&o, &readers[i], ERRP));
	}
}

static void *saves(void *unused)
{
	struct vfiomig_writer *writers[CHANNELS];

	(void)unused;
	writers_begin(writers);
	OK(vfiomig_migration_save_to(from.m, writers, CHANNELS, NULL, ERRP));
	for (int i = 0; i < CHANNELS; i++)
		vfiomig_writer_free(writers[i]);
	(void)ERRP;
	return NULL;
}

static void two_channels_side_by_side(bool nonblocking)
{
	struct vfiomig_reader *readers[CHANNELS];
	pthread_t t;

	channels_begin(nonblocking);
	vm_begin(&from, VFIOMIG_DIRECTION_SAVE);
	vm_begin(&to, VFIOMIG_DIRECTION_LOAD);
	for (int i = 0; i < DEVICES; i++)
		to.fakes[i].expect = SIZE;
	readers_begin(readers);
	pthread_create(&t, NULL, saves, NULL);
	OK(vfiomig_migration_load_from(to.m, readers, CHANNELS, NULL, ERRP));
	pthread_join(t, NULL);
	CHECK_EQ(vfiomig_migration_get_phase(to.m), VFIOMIG_PHASE_LOAD_LOADED);
	OK(vfiomig_migration_advance(to.m, VFIOMIG_PHASE_LOAD_RUNNING, 0, ERRP));
	OK(vfiomig_migration_end(from.m, 1, VFIOMIG_END_F_NO_HARVEST, ERRP));
	for (int i = 0; i < CHANNELS; i++)
		vfiomig_reader_free(readers[i]);
	vm_end(&from);
	vm_end(&to);
	channels_end();
}

static void *cancels(void *migration)
{
	usleep(50000);
	vfiomig_migration_cancel(migration);
	return NULL;
}

/* The one is gone: no SIGPIPE, and the guest runs on the source. The other is silent: a cancel ends the wait. */
static void a_peer_that_is_gone_or_silent(bool nonblocking)
{
	struct vfiomig_reader *readers[CHANNELS];
	struct vfiomig_writer *writers[CHANNELS];
	pthread_t t;

	channels_begin(nonblocking);
	vm_begin(&from, VFIOMIG_DIRECTION_SAVE);
	vm_begin(&to, VFIOMIG_DIRECTION_LOAD);
	readers_begin(readers);
	pthread_create(&t, NULL, cancels, to.m);
	FAILS(vfiomig_migration_load_from(to.m, readers, CHANNELS, NULL, ERRP), 0, VFIOMIG_ERR_CANCELED);
	pthread_join(t, NULL);
	CHECK_EQ(to.fakes[0].state, S_RUNNING);
	OK(vfiomig_migration_abort(to.m, VFIOMIG_ABORT_TO_RUNNING, 0, ERRP));

	writers_begin(writers);
	for (int i = 0; i < CHANNELS; i++)
		CHECK(!shutdown(fds[i][1], SHUT_RDWR));
	FAILS(vfiomig_migration_save_to(from.m, writers, CHANNELS, NULL, ERRP), EPIPE, VFIOMIG_ERR_SYSTEM);
	OK(vfiomig_migration_abort(from.m, VFIOMIG_ABORT_TO_RUNNING, 0, ERRP));
	CHECK(from.fakes[0].state == S_RUNNING && from.fakes[1].state == S_RUNNING);
	for (int i = 0; i < CHANNELS; i++) {
		vfiomig_reader_free(readers[i]);
		vfiomig_writer_free(writers[i]);
	}
	vm_end(&from);
	vm_end(&to);
	channels_end();
}

int main(void)
{
	t_begin();
	a_whole_save_and_load();
	a_step_that_fails_ends_the_save();
	wrong_parameters();
	for (int nonblocking = 0; nonblocking < 2; nonblocking++) {
		two_channels_side_by_side(nonblocking);
		a_peer_that_is_gone_or_silent(nonblocking);
	}
	return t_end();
}
