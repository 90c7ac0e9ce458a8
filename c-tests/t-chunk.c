/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A lent chunk: one at a time, valid from PRE_COPY into STOP_COPY, stale but readable after its session
 * (docs/design.md, "The data window").
 */
#include "fake.h"

static void one_at_a_time(void)
{
	struct fake f;
	struct vfiomig_device *d;
	struct vfiomig_chunk chunk, again;
	unsigned char byte;
	uint32_t flags;

	fake_init(&f);
	d = fake_device(&f);
	OK(fake_to(d, S_PRE_COPY));
	FAILS(vfiomig_device_consume(d, 1, ERRP), 0, VFIOMIG_ERR_ORDER);
	OK(vfiomig_device_peek(d, 0, &chunk, ERRP));
	CHECK(chunk.len > 100 && fake_right(chunk.data, 0, chunk.len));
	memset(&again, 0x5a, sizeof again);
	FAILS(vfiomig_device_peek(d, 0, &again, ERRP), EBUSY, VFIOMIG_ERR_BUSY);
	CHECK_EQ(again.len, 0x5a5a5a5a5a5a5a5aull);
	FAILS(vfiomig_device_read(d, &byte, 1, &flags, ERRP), EBUSY, VFIOMIG_ERR_BUSY);
	FAILS(vfiomig_device_send(d, 1, 1, &flags, ERRP), EBUSY, VFIOMIG_ERR_BUSY);
	/* More than was lent is refused, and the chunk stays out. */
	FAILS(vfiomig_device_consume(d, chunk.len + 1, ERRP), 0, VFIOMIG_ERR_ARGUMENT);
	FAILS(vfiomig_device_consume(d, SIZE_MAX, ERRP), 0, VFIOMIG_ERR_ARGUMENT);
	/* 0 gives it back whole. */
	OK(vfiomig_device_consume(d, 0, ERRP));
	OK(vfiomig_device_peek(d, 10, &again, ERRP));
	CHECK(again.len == 10 && again.data == chunk.data);
	OK(vfiomig_device_consume(d, 4, ERRP));
	OK(vfiomig_device_peek(d, 10, &again, ERRP));
	CHECK(again.len == 10 && fake_right(again.data, 4, 10));
	FAKE_END(&f, d);
}

/* The chunk of PRE_COPY is consumed in STOP_COPY, and nothing is lost between. */
static void into_stop_copy(void)
{
	struct fake f;
	struct vfiomig_device *d;
	struct vfiomig_chunk chunk;
	size_t at = 0;

	fake_init(&f);
	f.max_io = 3000;
	d = fake_device(&f);
	OK(fake_to(d, S_PRE_COPY));
	OK(vfiomig_device_peek(d, 0, &chunk, ERRP));
	OK(fake_to(d, S_PRE_COPY_P2P));
	OK(fake_to(d, S_STOP_COPY));
	CHECK_EQ(f.opened, 1);
	CHECK(chunk.len && fake_right(chunk.data, 0, chunk.len));
	OK(vfiomig_device_consume(d, at = chunk.len - 5, ERRP));
	for (;;) {
		if (OK(vfiomig_device_peek(d, 0, &chunk, ERRP)) < 0 || !chunk.len)
			break;
		CHECK(fake_right(chunk.data, at, chunk.len));
		at += chunk.len;
		OK(vfiomig_device_consume(d, chunk.len, ERRP));
	}
	CHECK_EQ(chunk.flags, VFIOMIG_CHUNK_END);
	CHECK_EQ(at, fake_total(&f));
	FAKE_END(&f, d);
}

static void all_stale(struct vfiomig_device *d)
{
	struct vfiomig_chunk chunk;
	unsigned char buf[16];
	uint32_t flags = 7;

	FAILS(vfiomig_device_peek(d, 0, &chunk, ERRP), ESTALE, VFIOMIG_ERR_STALE);
	FAILS(vfiomig_device_read(d, buf, sizeof buf, &flags, ERRP), ESTALE, VFIOMIG_ERR_STALE);
	FAILS(vfiomig_device_send(d, 1, 0, &flags, ERRP), ESTALE, VFIOMIG_ERR_STALE);
	FAILS(vfiomig_device_consume(d, 1, ERRP), ESTALE, VFIOMIG_ERR_STALE);
	CHECK_EQ(flags, 7);
}

enum ending { ABORT, RESET, OTHERS_AND_SET_STATE, OTHERS_AND_REPROBE, BREAK, READ_FAILS, ENDINGS };

/* Each way in which a session ends before END makes what was sent void until the caller begins anew. */
static void ends_early(enum ending ending, bool from_stop_copy)
{
	struct fake f;
	struct vfiomig_device *d;
	struct vfiomig_chunk chunk, first;
	struct vfiomig_device_info info;
	unsigned char buf[64];
	uint32_t flags;

	fake_init(&f);
	d = fake_device(&f);
	OK(fake_to(d, from_stop_copy ? S_STOP_COPY : S_PRE_COPY));
	CHECK_EQ(OK(vfiomig_device_read(d, buf, sizeof buf, &flags, ERRP)), sizeof buf);
	OK(vfiomig_device_peek(d, 100, &chunk, ERRP));
	if (ending == READ_FAILS)
		OK(vfiomig_device_consume(d, chunk.len, ERRP));
	switch (ending) {
	case ABORT:
		OK(fake_to(d, S_RUNNING));
		break;
	case RESET:
		OK(vfiomig_device_reset(d, ERRP));
		break;
	case OTHERS_AND_SET_STATE:
		f.state = S_RUNNING;
		FAILS(fake_to(d, S_STOP), ESTALE, VFIOMIG_ERR_STALE);
		break;
	case OTHERS_AND_REPROBE:
		f.state = S_RUNNING;
		OK(vfiomig_device_reprobe(d, ERRP));
		break;
	case BREAK:
		f.fault[0] = (struct fake_fault){.call = C_SET, .at = 1, .error = EIO, .effect = E_BREAK};
		FAILS(fake_to(d, S_RUNNING), EIO, VFIOMIG_ERR_DEVICE);
		break;
	case READ_FAILS:
		f.fault[0] = (struct fake_fault){.call = C_READ, .at = 1, .error = EIO, .effect = E_BREAK};
		/* What is in the buffer still comes; then the device is asked, and is in ERROR. */
		for (int64_t n = 1; n > 0;)
			n = vfiomig_device_read(d, buf, sizeof buf, &flags, ERRP);
		CHECK_EQ(vfiomig_error_code(t_error), VFIOMIG_ERR_DEVICE);
		CHECK_EQ(vfiomig_error_result_count(t_error), 1);
		CHECK_EQ(vfiomig_device_get_state(d), S_ERROR);
		break;
	default:
		abort();
	}
	/* The memory is there still; valgrind and ASan look, too. */
	if (ending != READ_FAILS)
		CHECK(fake_right(chunk.data, sizeof buf, chunk.len));
	VFIOMIG_INIT(&info);
	OK(vfiomig_device_get_info(d, &info, ERRP));
	CHECK(!info.session_open && info.session == 1);
	all_stale(d);
	if (f.state == S_ERROR)
		OK(vfiomig_device_reset(d, ERRP));
	/* A second session is never appended: it stays stale although one is open. */
	OK(fake_to(d, S_PRE_COPY));
	all_stale(d);
	OK(vfiomig_device_restart_stream(d, ERRP));
	OK(vfiomig_device_peek(d, 50, &first, ERRP));
	CHECK(first.len == 50 && fake_right(first.data, 0, first.len));
	OK(vfiomig_device_consume(d, first.len, ERRP));
	/* Now the stream has begun: throwing it away in the middle would lose bytes. */
	FAILS(vfiomig_device_restart_stream(d, ERRP), 0, VFIOMIG_ERR_ORDER);
	OK(vfiomig_device_get_info(d, &info, ERRP));
	CHECK(info.session == 2 && info.saved_bytes == 50);
	FAKE_END(&f, d);
}

/* A chunk that is out when the session ends is stale by itself, even if it is the first. */
static void lent_only(void)
{
	struct fake f;
	struct vfiomig_device *d;
	struct vfiomig_chunk chunk;

	fake_init(&f);
	d = fake_device(&f);
	OK(fake_to(d, S_PRE_COPY));
	OK(vfiomig_device_peek(d, 0, &chunk, ERRP));
	OK(fake_to(d, S_RUNNING));
	CHECK(fake_right(chunk.data, 0, chunk.len));
	FAILS(vfiomig_device_consume(d, chunk.len, ERRP), ESTALE, VFIOMIG_ERR_STALE);
	CHECK(fake_right(chunk.data, 0, chunk.len));
	FAKE_END(&f, d);
}

/*
 * A session that reached its END and then STOP leaves nothing void behind: the next one needs no restart_stream. From
 * its END straight to where the guest runs on it does, for what was sent is not what the guest is any more.
 */
static void complete(void)
{
	struct fake f;
	struct vfiomig_device *d;
	unsigned char buf[20000];
	uint32_t flags = 0;

	fake_init(&f);
	d = fake_device(&f);
	for (int i = 0; i < 3; i++) {
		size_t all = 0;
		int64_t n;

		OK(fake_to(d, S_STOP_COPY));
		while ((n = OK(vfiomig_device_read(d, buf, sizeof buf, &flags, ERRP))) > 0)
			all += (size_t)n;
		CHECK(all == fake_total(&f) && flags == VFIOMIG_CHUNK_END);
		if (i < 2)
			OK(fake_to(d, S_STOP));
		OK(fake_to(d, S_RUNNING));
		if (i < 2)
			FAILS(vfiomig_device_read(d, buf, sizeof buf, &flags, ERRP), 0, VFIOMIG_ERR_ORDER);
	}
	OK(fake_to(d, S_STOP_COPY));
	FAILS(vfiomig_device_read(d, buf, sizeof buf, &flags, ERRP), ESTALE, VFIOMIG_ERR_STALE);
	OK(vfiomig_device_restart_stream(d, ERRP));
	CHECK(OK(vfiomig_device_read(d, buf, sizeof buf, &flags, ERRP)) > 0);
	FAKE_END(&f, d);
}

int main(void)
{
	t_begin();
	one_at_a_time();
	into_stop_copy();
	for (int ending = 0; ending < ENDINGS; ending++)
		for (int stop = 0; stop < 2; stop++) {
			int before = atomic_load(&t_failures);

			ends_early((enum ending)ending, stop);
			if (atomic_load(&t_failures) != before)
				printf("ending %d, from %s\n", ending, stop ? "STOP_COPY" : "PRE_COPY");
		}
	lent_only();
	complete();
	return t_end();
}
