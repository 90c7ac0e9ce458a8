/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A data fd that is a pipe or a socket whose other end is gone: an error, and no SIGPIPE that ends the VMM,
 * neither in the call nor when its signals come back.
 */
#include "fake.h"
#include <signal.h>
#include <sys/socket.h>

static bool is_socket;

static int feature(void *opaque, void *argument, uint32_t argsz)
{
	uint32_t *state = opaque, *w = argument;
	int fds[2];

	(void)argsz;
	switch (w[1]) {
	case FEATURE_MIGRATION | FEATURE_GET: w[2] = 1; w[3] = 0; return 0;
	case FEATURE_MIG_DEVICE_STATE | FEATURE_GET: w[2] = *state; w[3] = -1u; return 0;
	case FEATURE_MIG_DEVICE_STATE | FEATURE_SET:
		*state = w[2];
		w[3] = -1u;
		if (*state != S_RESUMING)
			return 0;
		if (is_socket ? socketpair(AF_UNIX, SOCK_STREAM, 0, fds) : pipe(fds))
			return -errno;
		close(fds[0]);
		w[3] = (uint32_t)fds[1];
		return 0;
	}
	return -ENOTTY;
}

static int reset(void *opaque)
{
	*(uint32_t *)opaque = S_RUNNING;
	return 0;
}

int main(void)
{
	struct vfiomig_device *d = NULL;
	struct vfiomig_device_ops ops;
	uint32_t state = S_RUNNING;

	t_begin();
	VFIOMIG_INIT(&ops);
	ops.device_feature = feature;
	ops.device_reset = reset;
	OK(vfiomig_device_new_ops(&ops, &state, NULL, &d, ERRP));
	for (int i = 0; i < 2; i++) {
		is_socket = i;
		OK(fake_to(d, S_RESUMING));
		FAILS(vfiomig_device_write(d, "x", 1, 0, ERRP), EPIPE, VFIOMIG_ERR_DEVICE);
		OK(vfiomig_device_reset(d, ERRP));
	}
	/* One of the caller's own that was pending before is still pending. */
	sigset_t pipes, pending;
	sigemptyset(&pipes);
	sigaddset(&pipes, SIGPIPE);
	sigprocmask(SIG_BLOCK, &pipes, NULL);
	raise(SIGPIPE);
	OK(fake_to(d, S_RESUMING));
	FAILS(vfiomig_device_write(d, "x", 1, 0, ERRP), EPIPE, VFIOMIG_ERR_DEVICE);
	sigpending(&pending);
	CHECK_EQ(sigismember(&pending, SIGPIPE), 1);
	vfiomig_device_free(d);
	return t_end();
}
