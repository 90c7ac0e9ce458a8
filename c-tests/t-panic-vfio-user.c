/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A bug in the library, in any function of a connection to a vfio-user server: the process lives, the caller gets an error, the handle
 * accepts only _free, which hangs up.
 * library: panic
 * variants: plain asan valgrind
 */
#include "harness.h"

#include <stdbool.h>
#include <sys/socket.h>

static struct vfiomig_vfio_user *c;
static int server;

static void arm(const char *name)
{
	setenv("VFIOMIG_TEST_PANIC", name, 1);
}

static void disarm(void)
{
	unsetenv("VFIOMIG_TEST_PANIC");
}

/* A connection to a server that has said its version, and then nothing more. */
static void begin(void)
{
	static const uint32_t reply[] = {1 | 1 << 16, 20, 1, 0, 2 << 16};
	struct vfiomig_vfio_user_options o;
	int pair[2];

	CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
	server = pair[1];
	CHECK_EQ(send(server, reply, sizeof reply, 0), sizeof reply);
	VFIOMIG_INIT(&o);
	o.timeout_ms = 100;
	OK(vfiomig_vfio_user_connect_fd(pair[0], &o, &c, ERRP));
	close(pair[0]);
}

static void end(void)
{
	char rest[4096];

	vfiomig_vfio_user_free(c);
	c = NULL;
	while (recv(server, rest, sizeof rest, MSG_DONTWAIT) > 0)
		;
	CHECK_EQ(recv(server, rest, 1, MSG_DONTWAIT), 0);
	close(server);
}

/* 1: no such function. */
static int64_t call(const char *name, struct vfiomig_error **errp)
{
	struct vfiomig_vfio_user_info info;
	struct vfiomig_vfio_user_call request;

	VFIOMIG_INIT(&info);
	VFIOMIG_INIT(&request);
	request.command = 13;
#define IS(function) if (!strcmp(name, #function))
	IS(vfiomig_vfio_user_call) return vfiomig_vfio_user_call(c, &request, errp);
	IS(vfiomig_vfio_user_get_info) return vfiomig_vfio_user_get_info(c, &info, errp);
	IS(vfiomig_vfio_user_map) return vfiomig_vfio_user_map(c, 0, 4096, -1, 0, 3, errp);
	IS(vfiomig_vfio_user_serve) return vfiomig_vfio_user_serve(c, 0, errp);
	IS(vfiomig_vfio_user_unmap) return vfiomig_vfio_user_unmap(c, 0, 4096, errp);
	return 1;
}

static const char *const names[] = {
#define FUNCTION(name) #name,
#include "functions.inc"
#undef FUNCTION
};

static void one(const char *name)
{
	struct vfiomig_vfio_user *made = NULL;
	int64_t result;

	if (strncmp(name, "vfiomig_vfio_user_", 18))
		return;
	begin();
	arm(name);
	IS(vfiomig_vfio_user_connect)
		FAILS(vfiomig_vfio_user_connect("/", NULL, &made, ERRP), ENOTRECOVERABLE, VFIOMIG_ERR_PANIC);
	else IS(vfiomig_vfio_user_connect_fd)
		FAILS(vfiomig_vfio_user_connect_fd(server, NULL, &made, ERRP), ENOTRECOVERABLE, VFIOMIG_ERR_PANIC);
	/* Nothing was freed: the test frees it at the end. */
	else IS(vfiomig_vfio_user_free) vfiomig_vfio_user_free(c);
	else {
		result = call(name, ERRP);
		disarm();
		CHECK(result != 1); /* the table has every function */
		FAILS(result, ENOTRECOVERABLE, VFIOMIG_ERR_PANIC);
		CHECK_HAS(vfiomig_error_message(t_error), name);
		for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
			result = call(names[i], ERRP);
			if (result != 1)
				FAILS(result, ENOTRECOVERABLE, VFIOMIG_ERR_PANIC);
		}
	}
	disarm();
	CHECK(!made);
	end();
}

int main(void)
{
	t_begin();
	arm("vfiomig_version");
	if (vfiomig_version()) {
		puts("this library does not panic on demand");
		return 77;
	}
	disarm();
	for (size_t i = 0; i < sizeof names / sizeof *names; i++)
		one(names[i]);
	return t_end();
}
