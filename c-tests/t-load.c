/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A stream goes in whole, through each of the load calls; RESUMING is left only with a stated length (F6, F7). */
#include "fake.h"
#include <sys/socket.h>

#define TOTAL 15000u

static unsigned char stream[TOTAL];

typedef size_t (*load_call)(struct vfiomig_device *d, const unsigned char *bytes, size_t len);

static size_t by_reserve(struct vfiomig_device *d, const unsigned char *bytes, size_t len)
{
	void *room = NULL;
	size_t fits = 0;

	if (OK(vfiomig_device_reserve(d, VFIOMIG_UNKNOWN, &room, &fits, ERRP)) < 0)
		return 0;
	CHECK(fits == 4096 && room);
	if (len > fits)
		len = fits;
	/* All the room is the caller's. */
	memset(room, 0x5a, fits);
	memcpy(room, bytes, len);
	OK(vfiomig_device_commit(d, len, 0, ERRP));
	return len;
}

static size_t by_write(struct vfiomig_device *d, const unsigned char *bytes, size_t len)
{
	/* From memory of exactly this size: a read beyond it is seen. */
	unsigned char *copy = malloc(len);

	memcpy(copy, bytes, len);
	CHECK_EQ(OK(vfiomig_device_write(d, copy, len, 0, ERRP)), len);
	free(copy);
	return len;
}

static size_t by_receive(struct vfiomig_device *d, const unsigned char *bytes, size_t len)
{
	int pair[2];
	int64_t n;

	CHECK(!pipe2(pair, O_CLOEXEC));
	CHECK_EQ(write(pair[1], bytes, len), len);
	close(pair[1]);
	n = OK(vfiomig_device_receive(d, pair[0], len, 0, ERRP));
	CHECK(n > 0 && (size_t)n <= len && n <= 4096);
	close(pair[0]);
	return n > 0 ? (size_t)n : 0;
}

static void whole(load_call call, bool real_fd, size_t max_io, size_t piece)
{
	struct fake f;
	struct vfiomig_device *d;
	struct vfiomig_device_info info;
	size_t at = 0;

	fake_init(&f);
	f.real_fd = real_fd;
	f.max_io = max_io;
	f.expect = TOTAL;
	d = fake_device_sized(&f, 4096);
	OK(fake_to(d, S_RESUMING));
	while (at < TOTAL) {
		size_t n = call(d, stream + at, TOTAL - at < piece ? TOTAL - at : piece);

		if (!n)
			break;
		at += n;
	}
	CHECK_EQ(at, TOTAL);
	VFIOMIG_INIT(&info);
	OK(vfiomig_device_get_info(d, &info, ERRP));
	CHECK(info.loaded_bytes == TOTAL && info.session_open == 1);
	OK(vfiomig_device_finish(d, TOTAL, ERRP));
	OK(fake_to(d, S_RUNNING));
	CHECK(f.in_len == TOTAL && fake_right(f.in, 0, f.in_len));
	FAKE_END(&f, d);
}

static void finish_rules(void)
{
	struct fake f;
	struct vfiomig_device *d;
	void *room;
	size_t fits;

	fake_init(&f);
	d = fake_device(&f);
	OK(fake_to(d, S_RESUMING));
	/* Without finish nothing leaves RESUMING, and the device never hears of it (F7). */
	for (uint32_t to = 1; to < S_COUNT; to++)
		if (to != S_RESUMING)
			for (uint32_t raw = 0; raw < 2; raw++)
				FAILS(vfiomig_device_set_state(d, to, VFIOMIG_ON_FAILURE_RESET, raw, ERRP), 0,
				      VFIOMIG_ERR_ORDER);
	CHECK_EQ(f.count[C_SET], 1);
	CHECK_EQ(f.count[C_RESET], 0);
	OK(vfiomig_device_write(d, stream, 100, 0, ERRP));
	FAILS(vfiomig_device_finish(d, 99, ERRP), 0, VFIOMIG_ERR_INCOMPLETE);
	CHECK_HAS(vfiomig_error_message(t_error), "99");
	CHECK_HAS(vfiomig_error_message(t_error), "100");
	FAILS(fake_to(d, S_STOP), 0, VFIOMIG_ERR_ORDER);
	/* Short: the missing bytes may still come. */
	FAILS(vfiomig_device_finish(d, 150, ERRP), 0, VFIOMIG_ERR_INCOMPLETE);
	CHECK_HAS(vfiomig_error_message(t_error), "150");
	FAILS(fake_to(d, S_STOP), 0, VFIOMIG_ERR_ORDER);
	OK(vfiomig_device_write(d, stream + 100, 50, 0, ERRP));
	OK(vfiomig_device_finish(d, 150, ERRP));
	/* After finish nothing more goes in. */
	FAILS(vfiomig_device_write(d, stream, 1, 0, ERRP), 0, VFIOMIG_ERR_ORDER);
	FAILS(vfiomig_device_reserve(d, VFIOMIG_UNKNOWN, &room, &fits, ERRP), 0, VFIOMIG_ERR_ORDER);
	FAILS(vfiomig_device_receive(d, 0, 1, 0, ERRP), 0, VFIOMIG_ERR_ORDER);
	OK(fake_to(d, S_STOP));
	CHECK(f.in_len == 150);
	FAILS(vfiomig_device_finish(d, 150, ERRP), 0, VFIOMIG_ERR_ORDER);
	/* The caller's word that its format cannot know. */
	OK(fake_to(d, S_RESUMING));
	FAILS(fake_to(d, S_STOP), 0, VFIOMIG_ERR_ORDER);
	OK(vfiomig_device_write(d, stream, 7, 0, ERRP));
	OK(vfiomig_device_finish(d, VFIOMIG_UNKNOWN, ERRP));
	OK(fake_to(d, S_RUNNING));
	/* Nothing is a stream, too. */
	OK(fake_to(d, S_RESUMING));
	OK(vfiomig_device_finish(d, 0, ERRP));
	OK(fake_to(d, S_STOP));
	/* Whoever says two lengths has no whole stream: the last word counts. */
	OK(fake_to(d, S_RESUMING));
	OK(vfiomig_device_write(d, stream, 7, 0, ERRP));
	OK(vfiomig_device_finish(d, VFIOMIG_UNKNOWN, ERRP));
	FAILS(vfiomig_device_finish(d, 8, ERRP), 0, VFIOMIG_ERR_INCOMPLETE);
	FAILS(fake_to(d, S_STOP), 0, VFIOMIG_ERR_ORDER);
	FAKE_END(&f, d);
}

static void room_rules(void)
{
	struct fake f;
	struct vfiomig_device *d;
	void *room = NULL, *other = &other;
	size_t fits = 0, fits2 = 5;

	fake_init(&f);
	d = fake_device(&f);
	OK(fake_to(d, S_RESUMING));
	FAILS(vfiomig_device_commit(d, 1, 0, ERRP), 0, VFIOMIG_ERR_ORDER);
	/* v2 has no segments. */
	FAILS(vfiomig_device_reserve(d, 5, &room, &fits, ERRP), 0, VFIOMIG_ERR_ARGUMENT);
	FAILS(vfiomig_device_reserve(d, 0, &room, &fits, ERRP), 0, VFIOMIG_ERR_ARGUMENT);
	CHECK_HAS(vfiomig_error_message(t_error), "VFIOMIG_UNKNOWN");
	OK(vfiomig_device_reserve(d, VFIOMIG_UNKNOWN, &room, &fits, ERRP));
	FAILS(vfiomig_device_reserve(d, VFIOMIG_UNKNOWN, &other, &fits2, ERRP), EBUSY, VFIOMIG_ERR_BUSY);
	CHECK(other == &other && fits2 == 5);
	FAILS(vfiomig_device_write(d, stream, 1, 0, ERRP), EBUSY, VFIOMIG_ERR_BUSY);
	FAILS(vfiomig_device_receive(d, 0, 1, 0, ERRP), EBUSY, VFIOMIG_ERR_BUSY);
	FAILS(vfiomig_device_commit(d, fits + 1, 0, ERRP), 0, VFIOMIG_ERR_ARGUMENT);
	FAILS(vfiomig_device_commit(d, 1, 1, ERRP), 0, VFIOMIG_ERR_ARGUMENT);
	/* 0 gives it back unused; the device hears nothing. */
	OK(vfiomig_device_commit(d, 0, 0, ERRP));
	CHECK_EQ(f.count[C_WRITE], 0);
	OK(vfiomig_device_reserve(d, VFIOMIG_UNKNOWN, &room, &fits, ERRP));
	memcpy(room, stream, 10);
	OK(vfiomig_device_commit(d, 10, 0, ERRP));
	CHECK(f.in_len == 10 && fake_right(f.in, 0, 10));
	/* Room of a session that was reset away is not taken back, but readable. */
	OK(vfiomig_device_reserve(d, VFIOMIG_UNKNOWN, &room, &fits, ERRP));
	memset(room, 1, fits);
	OK(vfiomig_device_reset(d, ERRP));
	memset(room, 2, fits);
	FAILS(vfiomig_device_commit(d, 10, 0, ERRP), ESTALE, VFIOMIG_ERR_STALE);
	FAKE_END(&f, d);
}

/* After a refused write the device may have taken a part: only a reset leaves RESUMING (F6). */
static void refused(int way, bool real_errno)
{
	struct fake f;
	struct vfiomig_device *d;
	void *room;
	size_t fits;
	int pair[2], error = real_errno ? ENOMEM : EFAULT;

	fake_init(&f);
	f.max_io = 10;
	d = fake_device(&f);
	OK(fake_to(d, S_RESUMING));
	OK(vfiomig_device_write(d, stream, 5, 0, ERRP));
	f.fault[0] = (struct fake_fault){.call = C_WRITE, .at = 3, .error = error};
	switch (way) {
	case 0:
		FAILS(vfiomig_device_write(d, stream + 5, 100, 0, ERRP), error, VFIOMIG_ERR_DEVICE);
		break;
	case 1:
		OK(vfiomig_device_reserve(d, VFIOMIG_UNKNOWN, &room, &fits, ERRP));
		memcpy(room, stream + 5, 100);
		FAILS(vfiomig_device_commit(d, 100, 0, ERRP), error, VFIOMIG_ERR_DEVICE);
		break;
	default:
		CHECK(!pipe2(pair, O_CLOEXEC));
		CHECK_EQ(write(pair[1], stream + 5, 100), 100);
		FAILS(vfiomig_device_receive(d, pair[0], 100, 0, ERRP), error, VFIOMIG_ERR_DEVICE);
		close(pair[0]);
		close(pair[1]);
	}
	CHECK_HAS(vfiomig_error_message(t_error), "fake");
	CHECK_EQ(vfiomig_error_result_count(t_error), 1);
	CHECK_EQ(f.in_len, 25);
	/* The device would take more, and would count it (mtty): it must not be asked. */
	unsigned writes = f.count[C_WRITE], sets = f.count[C_SET];
	FAILS(vfiomig_device_write(d, stream, 1, 0, ERRP), ESTALE, VFIOMIG_ERR_STALE);
	FAILS(vfiomig_device_reserve(d, VFIOMIG_UNKNOWN, &room, &fits, ERRP), ESTALE, VFIOMIG_ERR_STALE);
	FAILS(vfiomig_device_receive(d, 0, 1, 0, ERRP), ESTALE, VFIOMIG_ERR_STALE);
	FAILS(vfiomig_device_finish(d, VFIOMIG_UNKNOWN, ERRP), ESTALE, VFIOMIG_ERR_STALE);
	FAILS(vfiomig_device_set_state(d, S_STOP, 0, VFIOMIG_SET_STATE_F_RAW, ERRP), 0, VFIOMIG_ERR_ORDER);
	CHECK(f.count[C_WRITE] == writes && f.count[C_SET] == sets);
	OK(vfiomig_device_reset(d, ERRP));
	CHECK_EQ(vfiomig_device_get_state(d), S_RUNNING);
	/* A new session is a new one. */
	OK(fake_to(d, S_RESUMING));
	OK(vfiomig_device_write(d, stream, 5, 0, ERRP));
	OK(vfiomig_device_finish(d, 5, ERRP));
	OK(fake_to(d, S_RUNNING));
	FAKE_END(&f, d);
}

/* The device refuses the stream when RESUMING is left: it is found where it is, and a reset helps. */
static void bad_stream(void)
{
	struct fake f;
	struct vfiomig_device *d;

	fake_init(&f);
	f.expect = 10;
	d = fake_device(&f);
	OK(fake_to(d, S_RESUMING));
	OK(vfiomig_device_write(d, stream + 1, 10, 0, ERRP));
	OK(vfiomig_device_finish(d, 10, ERRP));
	FAILS(vfiomig_device_set_state(d, S_RUNNING, VFIOMIG_ON_FAILURE_RESET, 0, ERRP), EINVAL, VFIOMIG_ERR_DEVICE);
	CHECK_EQ(RESULT->action, VFIOMIG_ACTION_RESET);
	CHECK_EQ(vfiomig_device_get_state(d), S_RUNNING);
	FAKE_END(&f, d);
}

int main(void)
{
	static const load_call calls[] = {by_reserve, by_write, by_receive};

	t_begin();
	for (size_t i = 0; i < TOTAL; i++)
		stream[i] = fake_byte(i);
	for (int call = 0; call < 3; call++)
		for (int real_fd = 0; real_fd < 2; real_fd++) {
			whole(calls[call], real_fd, 0, TOTAL);
			whole(calls[call], real_fd, 0, 1000);
			whole(calls[call], real_fd, real_fd ? 0 : 333, 5000);
		}
	finish_rules();
	room_rules();
	for (int way = 0; way < 3; way++) {
		refused(way, false);
		refused(way, true);
	}
	bad_stream();
	return t_end();
}
