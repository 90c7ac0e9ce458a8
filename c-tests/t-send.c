/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * send and receive with descriptors of the caller: what they refuse stays in the stream, and no SIGPIPE is ever seen.
 */
#include "fake.h"
#include <signal.h>
#include <sys/socket.h>

static struct fake f;
static struct vfiomig_device *d;

static void begin(uint32_t state)
{
	fake_init(&f);
	f.pre = 200000;
	f.stop = 100000;
	d = fake_device(&f);
	OK(fake_to(d, state));
}

static uint64_t saved(void)
{
	struct vfiomig_device_info info;

	VFIOMIG_INIT(&info);
	OK(vfiomig_device_get_info(d, &info, ERRP));
	return info.saved_bytes;
}

/* A pipe that is full: -EAGAIN, nothing lost; what it takes when it is not full goes on where it stopped. */
static void full_pipe(void)
{
	static unsigned char buf[300001];
	int pair[2];
	size_t at = 0;
	uint32_t flags;
	int64_t n;
	unsigned again = 0;

	begin(S_STOP_COPY);
	CHECK(!pipe2(pair, O_CLOEXEC | O_NONBLOCK));
	for (;;) {
		flags = 9;
		n = vfiomig_device_send(d, pair[1], 0, &flags, ERRP);
		if (n == 0)
			break;
		if (n < 0) {
			if (!FAILS(n, EAGAIN, VFIOMIG_ERR_SYSTEM))
				break;
			CHECK_EQ(flags, 9);
			CHECK_EQ(vfiomig_error_result_count(t_error), 0);
			/* Only the pipe failed: the session goes on. */
			CHECK_EQ(vfiomig_device_get_state(d), S_STOP_COPY);
			again++;
			ssize_t got = read(pair[0], buf + at, sizeof buf - at);
			CHECK(got > 0);
			at += got > 0 ? (size_t)got : 0;
			CHECK_EQ(saved(), at);
			continue;
		}
		CHECK_EQ(flags, 0);
	}
	CHECK_EQ(flags, VFIOMIG_CHUNK_END);
	for (ssize_t got; (got = read(pair[0], buf + at, sizeof buf - at)) > 0;)
		at += (size_t)got;
	CHECK(again > 1);
	CHECK(at == 300000 && fake_right(buf, 0, at));
	close(pair[0]);
	close(pair[1]);
	FAKE_END(&f, d);
}

/*
 * A reader that is gone is -EPIPE; the signal neither kills nor stays pending, and one that was pending before stays.
 */
static void no_reader(bool use_socket, bool blocked)
{
	int pair[2];
	uint32_t flags = 9;
	sigset_t pipe_set, pending;
	unsigned char byte;

	begin(S_STOP_COPY);
	if (use_socket)
		CHECK(!socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair));
	else
		CHECK(!pipe2(pair, O_CLOEXEC));
	close(pair[0]);
	sigemptyset(&pipe_set);
	sigaddset(&pipe_set, SIGPIPE);
	if (blocked) {
		pthread_sigmask(SIG_BLOCK, &pipe_set, NULL);
		raise(SIGPIPE);
	}
	signal(SIGPIPE, SIG_DFL);
	for (int i = 0; i < 3; i++)
		FAILS(vfiomig_device_send(d, pair[1], 0, &flags, ERRP), EPIPE, VFIOMIG_ERR_SYSTEM);
	CHECK_EQ(flags, 9);
	sigpending(&pending);
	CHECK_EQ(sigismember(&pending, SIGPIPE), blocked);
	if (blocked) {
		const struct timespec now = {0, 0};

		CHECK_EQ(sigtimedwait(&pipe_set, NULL, &now), SIGPIPE);
		pthread_sigmask(SIG_UNBLOCK, &pipe_set, NULL);
	}
	CHECK_EQ(saved(), 0);
	/* The first byte is there still. */
	CHECK_EQ(OK(vfiomig_device_read(d, &byte, 1, &flags, ERRP)), 1);
	CHECK_EQ(byte, fake_byte(0));
	close(pair[1]);
	FAKE_END(&f, d);
}

/* A file, and the rules of `max`. */
static void file_and_max(void)
{
	static unsigned char buf[70000];
	FILE *file = tmpfile();
	uint32_t flags;

	begin(S_PRE_COPY);
	CHECK_EQ(OK(vfiomig_device_send(d, fileno(file), 10, &flags, ERRP)), 10);
	/* No bound: one buffer, or what is left in it. */
	int64_t n = OK(vfiomig_device_send(d, fileno(file), 0, &flags, ERRP));
	CHECK_EQ(n, 65536 - 10);
	CHECK_EQ(OK(vfiomig_device_send(d, fileno(file), 100000, &flags, ERRP)), 65536);
	CHECK_EQ(pread(fileno(file), buf, sizeof buf, 0), sizeof buf);
	CHECK(fake_right(buf, 0, sizeof buf));
	/* A descriptor that cannot be written, and one that is none. */
	int readonly = open("/dev/null", O_RDONLY | O_CLOEXEC);
	FAILS(vfiomig_device_send(d, readonly, 0, &flags, ERRP), EBADF, VFIOMIG_ERR_SYSTEM);
	close(readonly);
	FAILS(vfiomig_device_send(d, readonly, 0, &flags, ERRP), EBADF, VFIOMIG_ERR_SYSTEM);
	CHECK_EQ(saved(), 65536 * 2);
	/* A full disk. */
	int full = open("/dev/full", O_WRONLY | O_CLOEXEC);
	FAILS(vfiomig_device_send(d, full, 0, &flags, ERRP), ENOSPC, VFIOMIG_ERR_SYSTEM);
	close(full);
	CHECK_EQ(saved(), 65536 * 2);
	fclose(file);
	FAKE_END(&f, d);
}

/* receive: the end of the descriptor is 0, one that fails loses nothing, and the session goes on. */
static void receive(void)
{
	unsigned char bytes[1000];
	int pair[2];

	for (size_t i = 0; i < sizeof bytes; i++)
		bytes[i] = fake_byte(i);
	begin(S_RESUMING);
	CHECK(!pipe2(pair, O_CLOEXEC | O_NONBLOCK));
	FAILS(vfiomig_device_receive(d, pair[0], 10, 0, ERRP), EAGAIN, VFIOMIG_ERR_SYSTEM);
	CHECK_EQ(write(pair[1], bytes, 600), 600);
	CHECK_EQ(OK(vfiomig_device_receive(d, pair[0], 400, 0, ERRP)), 400);
	CHECK_EQ(OK(vfiomig_device_receive(d, pair[0], 1u << 30, 0, ERRP)), 200);
	FAILS(vfiomig_device_receive(d, pair[1], 10, 0, ERRP), EBADF, VFIOMIG_ERR_SYSTEM);
	CHECK_EQ(write(pair[1], bytes + 600, 400), 400);
	close(pair[1]);
	CHECK_EQ(OK(vfiomig_device_receive(d, pair[0], 1000, 0, ERRP)), 400);
	unsigned writes = f.count[C_WRITE];
	CHECK_EQ(OK(vfiomig_device_receive(d, pair[0], 1000, 0, ERRP)), 0);
	CHECK_EQ(f.count[C_WRITE], writes);
	close(pair[0]);
	OK(vfiomig_device_finish(d, 1000, ERRP));
	OK(fake_to(d, S_STOP));
	CHECK(f.in_len == 1000 && fake_right(f.in, 0, 1000));
	FAKE_END(&f, d);
}

int main(void)
{
	t_begin();
	full_pipe();
	for (int i = 0; i < 4; i++)
		no_reader(i & 1, i & 2);
	file_and_max();
	receive();
	return t_end();
}
