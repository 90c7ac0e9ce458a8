/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The smallest VMM of docs/vmm-guide.md, as it is there: it migrates a guest, and whatever fails on the way, each
 * request to a device and each message once, the guest runs on at one place (V2-9, N2, N5).
 */
#include "smallest-vmm.inc"

#include "fake.h"
#include <pthread.h>
#include <signal.h>
#include <sys/socket.h>

enum { DEVICES = 2, PAGES = 64, STREAM = 15000 };

struct side {
	struct vm vm; /* first, so that the VMM's functions find the rest */
	struct fake fakes[DEVICES];
	struct vfiomig_tracker *tracker;
	uint64_t bitmap[1];
	struct vfiomig_error *error;
	int wire, result;
	unsigned cut, messages; /* the wire breaks at the message with this number; 0: never */
	bool runs, logs, went, machine;
	char in[65536 << 4];
};

static struct side source, destination;

static struct side *side_of(struct vm *vm)
{
	return (struct side *)vm;
}

/* A vCPU that runs while a device does not answer, or on both sides, is what must never be. */
void vcpus_start(struct vm *vm)
{
	struct side *s = side_of(vm);

	for (int i = 0; i < DEVICES; i++)
		CHECK_EQ(atomic_load(&s->fakes[i].state), S_RUNNING);
	s->runs = true;
}

void vcpus_stop(struct vm *vm)
{
	side_of(vm)->runs = false;
}

int ram_log_start(struct vm *vm)
{
	side_of(vm)->logs = true;
	side_of(vm)->bitmap[0] = UINT64_MAX;
	return 0;
}

int ram_send(struct vm *vm)
{
	CHECK(side_of(vm)->logs);
	side_of(vm)->bitmap[0] = 0;
	return 0;
}

int machine_send(struct vm *vm)
{
	for (int i = 0; i < DEVICES; i++)
		CHECK(!side_of(vm)->runs && atomic_load(&side_of(vm)->fakes[i].state) != S_RUNNING);
	side_of(vm)->machine = true;
	return 0;
}

static int breaks(struct side *s)
{
	if (++s->messages != s->cut)
		return 0;
	shutdown(s->wire, SHUT_RDWR);
	return -EPIPE;
}

static int whole(int64_t moved, size_t len)
{
	return moved == (int64_t)len ? 0 : -EPIPE;
}

int wire_put(struct vm *vm, const struct message *out)
{
	struct side *s = side_of(vm);

	/* Whether a message that failed has arrived is not known. */
	if (out->what == GO)
		s->went = true;
	if (breaks(s))
		return -EPIPE;
	struct message clean; /* its padding is sent, too */
	memset(&clean, 0, sizeof clean);
	clean.what = out->what;
	clean.device = out->device;
	clean.flags = out->flags;
	clean.len = out->len;
	int r = whole(send(s->wire, &clean, sizeof clean, MSG_NOSIGNAL), sizeof clean);
	if (!r && out->what == BYTES)
		r = whole(send(s->wire, out->data, out->len, MSG_NOSIGNAL), out->len);
	return r;
}

int wire_get(struct vm *vm, struct message *in)
{
	struct side *s = side_of(vm);
	int r = breaks(s) ? -EPIPE : whole(recv(s->wire, in, sizeof *in, MSG_WAITALL), sizeof *in);

	if (!r && in->what == BYTES) {
		CHECK(in->len <= sizeof s->in);
		in->data = s->in;
		r = whole(recv(s->wire, s->in, in->len, MSG_WAITALL), in->len);
	}
	return r;
}

void say(int r, struct vfiomig_error *e)
{
	CHECK(r < 0);
	vfiomig_error_free(e);
}

static void begin(struct side *s, bool is_destination, int wire)
{
	struct vfiomig_tracker_options tracking;
	const struct vfiomig_mapping ram = {.iova = 0, .size = PAGES * UNIT};

	memset(s, 0, sizeof *s);
	s->wire = wire;
	OK(vfiomig_group_new(NULL, &s->vm.group, ERRP));
	VFIOMIG_INIT(&tracking);
	tracking.flags = VFIOMIG_TRACKER_F_EVERYTHING;
	OK(vfiomig_tracker_new(&tracking, &s->tracker, ERRP));
	OK(vfiomig_tracker_map(s->tracker, &ram, 1, ERRP));
	OK(vfiomig_group_add_tracker(s->vm.group, s->tracker, ERRP));
	for (int i = 0; i < DEVICES; i++) {
		struct vfiomig_device_options options;
		struct vfiomig_device_ops ops;
		struct fake *f = &s->fakes[i];

		fake_init(f);
		if (is_destination)
			f->expect = STREAM;
		if (i)
			f->flags &= ~MIG_PRE_COPY;
		fake_ops(f, &ops);
		ops.flags = VFIOMIG_OPS_F_ANY_THREAD;
		VFIOMIG_INIT(&options);
		options.name = i ? "d1" : "d0";
		OK(vfiomig_device_new_ops(&ops, f, &options, &s->vm.device[i], ERRP));
		OK(vfiomig_group_add_device(s->vm.group, s->vm.device[i], ERRP));
	}
	s->vm.devices = DEVICES;
	/* Two sections, so that a pass is one. */
	for (int i = 0; i < 2; i++)
		s->vm.ram[i] = (struct vfiomig_dest){.iova = (uint64_t)i * PAGES / 2 * UNIT, .size = PAGES / 2 * UNIT,
						     .first_bit = (uint64_t)i * PAGES / 2, .page_size = UNIT, .bitmap = s->bitmap};
	s->vm.sections = 2;
}

static void end(struct side *s)
{
	vfiomig_error_free(s->error);
	vfiomig_migration_free(s->vm.m);
	vfiomig_group_free(s->vm.group);
	vfiomig_tracker_free(s->tracker);
	for (int i = 0; i < DEVICES; i++)
		FAKE_END(&s->fakes[i], s->vm.device[i]);
}

static void *loads(void *nothing)
{
	destination.result = vm_load(&destination.vm, &destination.error);
	shutdown(destination.wire, SHUT_RDWR);
	return nothing;
}

static void make(int wires[2])
{
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, wires))
		abort();
	begin(&source, false, wires[0]);
	begin(&destination, true, wires[1]);
	OK(vm_start(&source.vm, ERRP));
}

/* One migration, and what holds of each. */
static void migrate(const char *what, unsigned at)
{
	const int before = atomic_load(&t_failures);
	pthread_t thread;

	if (pthread_create(&thread, NULL, loads, NULL))
		abort();
	source.result = vm_save(&source.vm, &source.error);
	shutdown(source.wire, SHUT_RDWR);
	pthread_join(thread, NULL);

	CHECK(!(source.runs && destination.runs));
	/* Without an answer to GO nobody at the source can know. In every other case the guest runs. */
	if (!source.vm.m)
		CHECK(source.runs || destination.runs);
	else
		CHECK(source.went && source.result < 0);
	if (destination.runs) {
		CHECK_EQ(destination.result, 0);
		CHECK(source.machine);
		for (int i = 0; i < DEVICES; i++)
			CHECK(destination.fakes[i].in_len == STREAM && fake_right(destination.fakes[i].in, 0, STREAM));
	} else {
		CHECK(destination.result < 0);
	}
	if (atomic_load(&t_failures) != before)
		printf("... with %s %u: source %d \"%s\", destination %d \"%s\"\n", what, at, source.result,
		       vfiomig_error_message(source.error), destination.result, vfiomig_error_message(destination.error));
}

static void finish(int wires[2])
{
	end(&source);
	end(&destination);
	close(wires[0]);
	close(wires[1]);
}

/* Each request of a kind, to each device of a side, fails once. */
static void faults(struct side *s, const char *name, enum fake_call call, unsigned most)
{
	for (int i = 0; i < DEVICES; i++) {
		unsigned at = 1;

		for (bool hit = true; hit && at <= most; at++) {
			int wires[2];

			make(wires);
			s->fakes[i].fault[0] = (struct fake_fault){.call = call, .at = at, .error = EIO};
			migrate(name, at);
			hit = s->fakes[i].fault[0].done;
			CHECK(hit || destination.runs);
			/* Only HALTED is behind the answer. */
			if (hit && s == &source && !source.vm.m)
				CHECK(source.runs);
			finish(wires);
		}
		CHECK(at > 2);
	}
}

static void cuts(struct side *s, const char *name)
{
	bool cut = true;

	for (unsigned at = 1; cut; at++) {
		int wires[2];

		make(wires);
		s->cut = at;
		migrate(name, at);
		cut = s->messages >= at;
		CHECK(cut || destination.runs);
		finish(wires);
	}
}

int main(void)
{
	int wires[2];

	t_begin();
	signal(SIGPIPE, SIG_IGN);
	make(wires);
	migrate("nothing", 0);
	CHECK(destination.runs && !source.runs && source.result == 0);
	CHECK_EQ(source.fakes[0].state, S_STOP);
	finish(wires);
	faults(&source, "set_state at the source", C_SET, 20);
	faults(&source, "read at the source", C_READ, 20);
	faults(&destination, "set_state at the destination", C_SET, 20);
	faults(&destination, "write at the destination", C_WRITE, 4);
	cuts(&source, "a cut at the source");
	cuts(&destination, "a cut at the destination");
	return t_end();
}
