/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Promise: a device that is to be removed works until its user lets go of it,
 * and vfiomig_device_free leaves nothing behind that would hold it, no data fd
 * and no mapping; when the device is gone although a handle is there, every
 * call returns at once with an error, and the handle can be freed (F5, V2-10).
 *
 * usage: k-unplug group|cdev
 */
#include "testdev.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define HANG_SECONDS 60 /* a call that does not return ends the program by SIGALRM */

static const char *const kinds[] = {
	"dialect=v2",
	"dialect=v1 ndma=1 window=one",
	"dialect=v1 window=trapped",
	"dialect=draft2 window=two",
	"dialect=draft3 window=whole",
};
#define KINDS (sizeof(kinds) / sizeof(kinds[0]))

/* ---- removal while it is open ------------------------------------------------- */

static bool is_waiting(pid_t remover)
{
	return waitpid(remover, NULL, WNOHANG) == 0;
}

static void removed_while_open(const char *kind)
{
	struct testdev from, to;
	unsigned char buf[100];
	uint32_t flags = 0;
	int status = -1;
	pid_t remover;

	lab_step("%s: removed while it is open", kind);
	testdev_open(&from, 1, kind, 0);
	testdev_open(&to, 2, kind, 0);
	remover = testdev_begin_remove(&from);
	nanosleep(&(struct timespec){ .tv_nsec = 300000000 }, NULL);
	CHECK(is_waiting(remover));

	/*
	 * The kernel has only asked. Its attributes are gone, so it is the
	 * other one that is looked at, and this one's registers.
	 */
	testdev_set(&from, TESTDEV_FILL, 5);
	testdev_set(&to, TESTDEV_FILL, 6);
	GO(to.d, VFIOMIG_STATE_RESUMING);
	GO(from.d, VFIOMIG_STATE_PRE_COPY);
	CHECK_EQ(pump(&from, &to, LEND, &(struct traffic){ 0 }), VFIOMIG_CHUNK_EMPTY);
	GO(from.d, VFIOMIG_STATE_STOP_COPY);
	CHECK_EQ(pump(&from, &to, LEND, &(struct traffic){ 0 }), VFIOMIG_CHUNK_END);
	finish_load(&from, &to);
	CHECK_EQ(testdev_get(&to, TESTDEV_CRC), testdev_get(&from, TESTDEV_CRC_NOW));

	/* In the middle of a session: data fd and mappings are the handle's, and go with it. */
	GO(from.d, VFIOMIG_STATE_STOP);
	GO(from.d, VFIOMIG_STATE_RUNNING);
	GO(from.d, VFIOMIG_STATE_PRE_COPY);
	CHECK(vfiomig_device_read(from.d, buf, sizeof(buf), &flags, ERR) > 0);
	CHECK(is_waiting(remover));
	vfiomig_device_free(from.d);
	lab_close(&from.device);
	CHECK_EQ(waitpid(remover, &status, 0), remover);
	CHECK_EQ(status, 0);
	CHECK(!testdev_is_there(&from));
	testdev_close(&to);
}

/* ---- gone although there is a handle -------------------------------------------- */

/* Whatever a call says of a device that is gone, it is an error and has an errno. */
#define FAILS_SOMEHOW(call) fails_somehow(__LINE__, #call, (call))
static void fails_somehow(int line, const char *call, int64_t got)
{
	if (got >= 0)
		lab_fail(__FILE__, line, "%s returned %lld", call, (long long)got);
	CHECK_EQ(vfiomig_error_errno(lab_error()), -got);
	CHECK(vfiomig_error_code(lab_error()) != VFIOMIG_ERR_PANIC);
	CHECK(vfiomig_error_code(lab_error()) != 0);
}

static void every_call_fails(struct vfiomig_device *d)
{
	struct vfiomig_device_pending pending;
	struct vfiomig_chunk chunk;
	unsigned char buf[100] = { 0 };
	uint32_t flags = 0;
	size_t room = 0;
	void *at = NULL;

	VFIOMIG_INIT(&pending);
	for (int again = 0; again < 2; again++) {
		FAILS_SOMEHOW(vfiomig_device_read(d, buf, sizeof(buf), &flags, ERR));
		FAILS_SOMEHOW(vfiomig_device_peek(d, 0, &chunk, ERR));
		FAILS_SOMEHOW(vfiomig_device_consume(d, 1, ERR));
		FAILS_SOMEHOW(vfiomig_device_send(d, STDERR_FILENO, 0, &flags, ERR));
		FAILS_SOMEHOW(vfiomig_device_write(d, buf, sizeof(buf), 0, ERR));
		FAILS_SOMEHOW(vfiomig_device_reserve(d, 100, &at, &room, ERR));
		FAILS_SOMEHOW(vfiomig_device_commit(d, 1, 0, ERR));
		for (uint32_t state = VFIOMIG_STATE_STOP; state <= VFIOMIG_STATE_PRE_COPY_P2P; state++)
			FAILS_SOMEHOW(vfiomig_device_set_state(d, state, VFIOMIG_ON_FAILURE_RESET, 0,
							       ERR));
		FAILS_SOMEHOW(vfiomig_device_reset(d, ERR));
		/* What needs no device still answers; finish is of that kind, too. */
		lab_info(d);
		lab_pending(d, 0);
	}
}

/*
 * The device goes away below the handle: its descriptor becomes one that is no
 * device. On v2 the data fd is left, which outlives the device and says so.
 */
static void gone(const char *kind, uint32_t state, bool chunk_out)
{
	struct vfiomig_chunk chunk;
	unsigned char buf[100];
	struct testdev t;
	uint32_t flags = 0;
	bool v2;
	int null;

	lab_step("%s: gone in %s%s", kind, vfiomig_state_name(state), chunk_out ? ", a chunk out" : "");
	testdev_open(&t, 1, kind, 0);
	v2 = lab_info(t.d).dialect == VFIOMIG_DIALECT_V2;
	GO(t.d, state);
	if (chunk_out)
		OK(vfiomig_device_peek(t.d, 0, &chunk, ERR));
	null = open("/dev/null", O_RDWR | O_CLOEXEC);
	CHECK(null >= 0);
	CHECK_EQ(dup3(null, t.device.fd, O_CLOEXEC), t.device.fd);
	close(null);

	if (chunk_out) {
		const volatile unsigned char *byte = chunk.data;

		for (size_t i = 0; i < chunk.len; i++)
			(void)byte[i];
		/* Bytes that were lent are the caller's; what follows is not there. */
		OK(vfiomig_device_consume(t.d, chunk.len, ERR));
	} else if (v2 && state == VFIOMIG_STATE_PRE_COPY) {
		FAILS(vfiomig_device_read(t.d, buf, sizeof(buf), &flags, ERR), DEVICE, ENODEV);
		RESULT_IS(VFIOMIG_STATE_ERROR, VFIOMIG_ACTION_DEAD);
	} else if (v2 && state == VFIOMIG_STATE_RESUMING) {
		FAILS(vfiomig_device_write(t.d, buf, sizeof(buf), 0, ERR), DEVICE, ENODEV);
		RESULT_IS(VFIOMIG_STATE_ERROR, VFIOMIG_ACTION_DEAD);
	}
	if (!(v2 && chunk_out))
		every_call_fails(t.d);
	vfiomig_device_free(t.d);
	lab_close(&t.device);
	testdev_remove(&t);
	CHECK(!testdev_is_there(&t));
}

int main(int argc, char **argv)
{
	int fds;

	testdev_begin(argc, argv);
	alarm(HANG_SECONDS);
	fds = lab_count_fds();
	for (size_t i = 0; i < KINDS; i++) {
		removed_while_open(kinds[i]);
		gone(kinds[i], VFIOMIG_STATE_RUNNING, false);
		gone(kinds[i], VFIOMIG_STATE_PRE_COPY, false);
		gone(kinds[i], VFIOMIG_STATE_PRE_COPY, true);
		gone(kinds[i], VFIOMIG_STATE_STOP_COPY, true);
		gone(kinds[i], VFIOMIG_STATE_RESUMING, false);
	}
	CHECK_EQ(lab_count_fds(), fds);
	puts("ok");
	return 0;
}
