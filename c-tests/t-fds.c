/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Data descriptors: the library's own from the moment they are handed out, CLOEXEC, closed once, never more, never
 * less.
 */
#include "fake.h"

static struct fake f;
static struct vfiomig_device *d;

static void begin(void)
{
	fake_init(&f);
	f.real_fd = true;
	d = fake_device(&f);
}

static bool cloexec(int fd)
{
	return fcntl(fd, F_GETFD) & FD_CLOEXEC;
}

/* Sessions of every kind and ending leave as many descriptors as there were. */
static void no_leak(void)
{
	unsigned char buf[100];
	uint32_t flags;

	begin();
	int before = fake_open_fds();
	for (int i = 0; i < 100; i++) {
		uint32_t state = i % 3 == 0 ? S_PRE_COPY : i % 3 == 1 ? S_STOP_COPY : S_RESUMING;

		OK(fake_to(d, state));
		CHECK(fake_fd_open(&f) && cloexec(f.fd));
		/* The library's and the fake's own. */
		CHECK_EQ(fake_open_fds(), before + 2);
		if (state == S_RESUMING) {
			OK(vfiomig_device_write(d, "abc", 3, 0, ERRP));
			OK(vfiomig_device_finish(d, 3, ERRP));
		} else {
			OK(vfiomig_device_restart_stream(d, ERRP));
			OK(vfiomig_device_read(d, buf, sizeof buf, &flags, ERRP));
		}
		if (state == S_PRE_COPY && i % 2) {
			int fd = f.fd;

			OK(fake_to(d, S_STOP_COPY));
			/* The same session: the same descriptor (V2-4). */
			CHECK(fake_fd_open(&f) && f.fd == fd);
		}
		if (i % 5 == 0)
			OK(vfiomig_device_reset(d, ERRP));
		else
			OK(fake_to(d, S_RUNNING));
		CHECK(!fake_fd_open(&f));
		CHECK_EQ(fake_open_fds(), before);
	}
	OK(fake_to(d, S_STOP_COPY));
	FAKE_END(&f, d);
	CHECK_EQ(fake_open_fds(), before);
}

/* One that was not announced is the library's too: closed, and an error. The session that is open stays (V2-4, P17). */
static void unexpected(void)
{
	unsigned char buf[10];
	uint32_t flags;

	begin();
	int before = fake_open_fds();
	f.extra_fd = true;
	FAILS(fake_to(d, S_STOP), EPROTO, VFIOMIG_ERR_PROTOCOL);
	CHECK_EQ(vfiomig_error_result_count(t_error), 1);
	CHECK_EQ(RESULT->found, S_STOP);
	CHECK_EQ(fake_open_fds(), before);
	CHECK_EQ(vfiomig_device_get_state(d), S_STOP);
	f.extra_fd = false;
	OK(fake_to(d, S_RUNNING));
	OK(fake_to(d, S_PRE_COPY));
	int real = f.fd;
	CHECK_EQ(OK(vfiomig_device_read(d, buf, 10, &flags, ERRP)), 10);
	f.extra_fd = true;
	FAILS(fake_to(d, S_STOP_COPY), EPROTO, VFIOMIG_ERR_PROTOCOL);
	CHECK(fcntl(f.fd, F_GETFD) < 0);
	f.fd = real;
	f.extra_fd = false;
	CHECK(fake_fd_open(&f));
	CHECK_EQ(vfiomig_device_get_state(d), S_STOP_COPY);
	CHECK_EQ(OK(vfiomig_device_read(d, buf, 10, &flags, ERRP)), 10);
	CHECK(fake_right(buf, 10, 10));
	OK(fake_to(d, S_RUNNING));
	CHECK_EQ(fake_open_fds(), before);
	FAKE_END(&f, d);
}

/*
 * A function that leaves the field at 0, or with the number of something else, has returned no descriptor:
 * nothing of the process is closed.
 */
static void foreign(void)
{
	const int mine = open("/dev/null", O_RDONLY | O_CLOEXEC);

	begin();
	f.other_fd = 0;
	f.gives_other = true;
	FAILS(fake_to(d, S_STOP), EPROTO, VFIOMIG_ERR_PROTOCOL);
	CHECK(fcntl(0, F_GETFD) >= 0);
	f.other_fd = mine;
	FAILS(fake_to(d, S_RUNNING), EPROTO, VFIOMIG_ERR_PROTOCOL);
	CHECK(fcntl(mine, F_GETFD) >= 0);
	/* Nor is it taken for the data fd of a session. */
	f.other_fd = 0;
	FAILS(fake_to(d, S_STOP_COPY), EPROTO, VFIOMIG_ERR_PROTOCOL);
	CHECK(fcntl(0, F_GETFD) >= 0);
	CHECK_EQ(vfiomig_device_get_state(d), S_STOP_COPY);
	close(f.fd); /* the one that the fake would have handed out */
	f.gives_other = false;
	OK(fake_to(d, S_RUNNING));
	CHECK(fcntl(0, F_GETFD) >= 0 && fcntl(mine, F_GETFD) >= 0);
	close(mine);
	FAKE_END(&f, d);
}

/* A session that brings none: -EPROTO, and the handle knows that it has nothing to read or write. */
static void missing(void)
{
	static const uint32_t states[] = {S_PRE_COPY, S_STOP_COPY, S_RESUMING};
	unsigned char buf[10];
	uint32_t flags;

	for (int i = 0; i < 3; i++) {
		struct vfiomig_device_info info;

		begin();
		int before = fake_open_fds();
		f.missing_fd = true;
		FAILS(fake_to(d, states[i]), EPROTO, VFIOMIG_ERR_PROTOCOL);
		CHECK_EQ(vfiomig_error_result_count(t_error), 1);
		CHECK_EQ(vfiomig_device_get_state(d), states[i]);
		VFIOMIG_INIT(&info);
		OK(vfiomig_device_get_info(d, &info, ERRP));
		CHECK_EQ(info.session_open, 0);
		if (states[i] == S_RESUMING) {
			FAILS(vfiomig_device_write(d, "x", 1, 0, ERRP), ESTALE, VFIOMIG_ERR_STALE);
			FAILS(vfiomig_device_finish(d, 0, ERRP), ESTALE, VFIOMIG_ERR_STALE);
			FAILS(fake_to(d, S_STOP), 0, VFIOMIG_ERR_ORDER);
			OK(vfiomig_device_reset(d, ERRP));
		} else {
			FAILS(vfiomig_device_read(d, buf, 10, &flags, ERRP), ESTALE, VFIOMIG_ERR_STALE);
			OK(fake_to(d, S_RUNNING));
		}
		CHECK_EQ(fake_open_fds(), before);
		/* The policy says where to, in one call. */
		FAILS(vfiomig_device_set_state(d, states[i], VFIOMIG_ON_FAILURE_RESET, 0, ERRP), EPROTO,
		      VFIOMIG_ERR_PROTOCOL);
		CHECK_EQ(RESULT->action, VFIOMIG_ACTION_RESET);
		CHECK_EQ(f.state, S_RUNNING);
		FAKE_END(&f, d);
	}
}

/*
 * A function that answers "same fd" with the fd itself instead of -1 says the same: the session goes on, and the number
 * is closed once.
 */
static void same(void)
{
	unsigned char buf[10];
	uint32_t flags;

	begin();
	f.same_fd = true;
	OK(fake_to(d, S_PRE_COPY));
	CHECK_EQ(OK(vfiomig_device_read(d, buf, 10, &flags, ERRP)), 10);
	OK(fake_to(d, S_STOP_COPY));
	CHECK(fake_fd_open(&f));
	/* If it was closed already, this file gets its number, and loses it below. */
	int mine = open("/dev/null", O_RDONLY | O_CLOEXEC);
	CHECK_EQ(OK(vfiomig_device_read(d, buf, 10, &flags, ERRP)), 10);
	CHECK(fake_right(buf, 10, 10));
	f.same_fd = false;
	OK(fake_to(d, S_RUNNING));
	CHECK(fcntl(mine, F_GETFD) >= 0);
	close(mine);
	FAKE_END(&f, d);
}

/* EMFILE and its like: the device has moved, no descriptor is left behind (V2-5). */
static void lost(void)
{
	begin();
	int before = fake_open_fds();
	f.fault[0] = (struct fake_fault){.call = C_SET, .at = 1, .error = EMFILE, .effect = E_MOVE};
	FAILS(fake_to(d, S_PRE_COPY), EMFILE, VFIOMIG_ERR_DEVICE);
	CHECK_EQ(vfiomig_device_get_state(d), S_PRE_COPY);
	OK(fake_to(d, S_RUNNING));
	CHECK_EQ(fake_open_fds(), before);
	OK(fake_to(d, S_PRE_COPY));
	OK(fake_to(d, S_RUNNING));
	CHECK_EQ(fake_open_fds(), before);
	FAKE_END(&f, d);
}

/* The device fd is borrowed: used, and left open. */
static void device_fd(void)
{
	struct vfiomig_device *none = NULL;
	int fd = open("/dev/null", O_RDWR | O_CLOEXEC), before = fake_open_fds();

	FAILS(vfiomig_device_new_kernel(fd, NULL, &none, ERRP), 0, VFIOMIG_ERR_DEVICE);
	FAILS(vfiomig_device_new_kernel(1023, NULL, &none, ERRP), EBADF, VFIOMIG_ERR_DEVICE);
	FAILS(vfiomig_device_new_kernel(-1, NULL, &none, ERRP), EBADF, VFIOMIG_ERR_ARGUMENT);
	CHECK(!none && fcntl(fd, F_GETFD) >= 0);
	CHECK_EQ(fake_open_fds(), before);
	close(fd);
}

int main(void)
{
	t_begin();
	no_leak();
	unexpected();
	foreign();
	missing();
	same();
	lost();
	device_fd();
	return t_end();
}
