/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A stream comes out whole, through each of the save calls, with EMPTY and END kept apart (F2, F3, F4). */
#include "fake.h"
#include <sys/socket.h>

/* What was taken so far, compared with what the device gave. */
static size_t taken;

static void take(const void *bytes, size_t len)
{
	CHECK(fake_right(bytes, taken, len));
	taken += len;
}

/* One call of one kind, up to `max` bytes. Returns bytes, 0 with *flags set, or -errno. */
typedef int64_t (*save_call)(struct vfiomig_device *d, size_t max, uint32_t *flags);

static int64_t by_peek(struct vfiomig_device *d, size_t max, uint32_t *flags)
{
	struct vfiomig_chunk chunk;

	if (OK(vfiomig_device_peek(d, max, &chunk, ERRP)) < 0)
		return -1;
	*flags = chunk.flags;
	CHECK(!chunk.reserved && chunk.segment_left == VFIOMIG_UNKNOWN);
	if (!chunk.len) {
		CHECK(!chunk.data && chunk.flags);
		return 0;
	}
	CHECK(!chunk.flags && (!max || chunk.len <= max));
	/* A part is taken; the rest comes again. */
	size_t part = chunk.len / 2 + 1;
	take(chunk.data, part);
	OK(vfiomig_device_consume(d, part, ERRP));
	return (int64_t)part;
}

static int64_t by_read(struct vfiomig_device *d, size_t max, uint32_t *flags)
{
	static unsigned char buf[1 << 17];
	int64_t n = OK(vfiomig_device_read(d, buf, max ? max : sizeof buf, flags, ERRP));

	if (n > 0)
		take(buf, (size_t)n);
	return n;
}

static int64_t by_send(struct vfiomig_device *d, size_t max, uint32_t *flags)
{
	static unsigned char buf[1 << 17];
	int pair[2];
	int64_t n;

	CHECK(!socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair));
	/* What the socket cannot hold would block for ever: no thread reads meanwhile. */
	n = OK(vfiomig_device_send(d, pair[0], max && max < 8192 ? max : 8192, flags, ERRP));
	if (n > 0) {
		CHECK_EQ(recv(pair[1], buf, sizeof buf, MSG_WAITALL | MSG_DONTWAIT), n);
		take(buf, (size_t)n);
	}
	close(pair[0]);
	close(pair[1]);
	return n;
}

/* By turns; a call takes up where another kind left. */
static int64_t by_turns(struct vfiomig_device *d, size_t max, uint32_t *flags)
{
	static const save_call calls[] = {by_peek, by_read, by_send};
	static unsigned turn;

	return calls[turn++ % 3](d, max, flags);
}

/* Calls until the stream says `end`. In PRE_COPY nothing but EMPTY ends it, in STOP_COPY nothing but END. */
static void drain(struct vfiomig_device *d, save_call call, size_t max, uint32_t end)
{
	uint32_t flags = 77;

	for (int calls = 0; calls < 100000; calls++) {
		flags = 77;
		int64_t n = call(d, max, &flags);

		if (n < 0)
			return;
		if (n == 0) {
			CHECK_EQ(flags, end);
			return;
		}
		CHECK_EQ(flags, 0);
	}
	CHECK(!"ends");
}

static void whole(save_call call, struct fake *f, size_t max)
{
	struct vfiomig_device *d = fake_device_sized(f, 4096);
	struct vfiomig_device_info info;
	unsigned rounds = 0;

	taken = 0;
	if (f->flags & MIG_PRE_COPY) {
		OK(fake_to(d, S_PRE_COPY));
		while (taken < f->pre + f->more && rounds++ < 1000)
			drain(d, call, max, VFIOMIG_CHUNK_EMPTY);
		CHECK_EQ(taken, f->pre + f->more);
		/* EMPTY is only for now: it is said again as often as asked. */
		drain(d, call, max, VFIOMIG_CHUNK_EMPTY);
		CHECK_EQ(taken, f->pre + f->more);
	}
	OK(fake_to(d, S_STOP_COPY));
	drain(d, call, max, VFIOMIG_CHUNK_END);
	CHECK_EQ(taken, fake_total(f));
	/* END repeats, and the device is not asked again. */
	unsigned reads = f->count[C_READ];
	for (int i = 0; i < 3; i++)
		drain(d, call, max, VFIOMIG_CHUNK_END);
	CHECK_EQ(f->count[C_READ], reads);
	VFIOMIG_INIT(&info);
	OK(vfiomig_device_get_info(d, &info, ERRP));
	CHECK(info.saved_bytes == taken && info.session == 1 && info.session_open == 1);
	OK(fake_to(d, S_STOP));
	OK(vfiomig_device_get_info(d, &info, ERRP));
	CHECK(info.saved_bytes == taken && info.session == 1 && info.session_open == 0);
	FAKE_END(f, d);
}

static void all_shapes(save_call call)
{
	static const size_t maxima[] = {0, 1000, 4096, 100000};
	struct fake f;

	for (size_t m = 0; m < 4; m++)
		for (int shape = 0; shape < 32; shape++) {
			int before = atomic_load(&t_failures);

			fake_init(&f);
			f.pre_end = shape & 1 ? ENOMSG : 0;
			f.max_io = shape & 2 ? 777 : 0;
			f.flags = shape & 4 ? MIG_STOP_COPY : MIG_ALL;
			f.stop = shape & 4 ? 30000 : shape & 8 ? 0 : 5000;
			f.pre = f.flags == MIG_ALL ? 20000 : 0;
			f.more = shape & 8 && f.flags == MIG_ALL ? 9000 : 0;
			f.step = 4000;
			f.real_fd = shape & 16;
			/* A plain descriptor has no pre-copy info, and says 0, not ENOMSG. */
			if (f.real_fd)
				f.more = 0;
			whole(call, &f, maxima[m]);
			if (atomic_load(&t_failures) != before) {
				printf("shape %d, max %zu\n", shape, maxima[m]);
				return;
			}
		}
}

/* A device whose whole state is nothing has a stream of nothing, which has an end. */
static void nothing(void)
{
	struct fake f;

	fake_init(&f);
	f.pre = f.stop = 0;
	whole(by_read, &f, 0);
}

int main(void)
{
	t_begin();
	all_shapes(by_peek);
	all_shapes(by_read);
	all_shapes(by_send);
	all_shapes(by_turns);
	nothing();
	return t_end();
}
