/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The data fd is a real descriptor in blocking mode and the driver has nothing yet (mlx5 while its firmware saves, xe
 * until a packet is ready). The operator cancels: the reader must come back, and abort must reach the device, whose
 * state change is what wakes a reader in these drivers.
 */
#include "rep.h"
static struct rig r;
static int64_t res;
static uint32_t rcode;
static volatile int back;
static void *reader(void *o)
{
	struct vfiomig_error *e = NULL;
	static char buf[1 << 20];
	uint32_t flags = 0;
	(void)o;
	res = vfiomig_device_read(r.h[0], buf, sizeof buf, &flags, &e);
	rcode = vfiomig_error_code(e);
	vfiomig_error_free(e);
	back = 1;
	return NULL;
}
static volatile int aborted;
static void *aborter(void *o)
{
	(void)o;
	vfiomig_migration_abort(r.m, VFIOMIG_ABORT_TO_RUNNING, 0, NULL);
	aborted = 1;
	return NULL;
}
int main(int argc, char **argv)
{
	struct dev a, *list[1] = {&a};
	pthread_t t, u;
	bool nonblock = argc > 1 && !strcmp(argv[1], "nonblock");
	rep_begin(30);
	dev_init(&a, "vf0"); a.real_fd = true;
	rig_up(&r, list, 1, VFIOMIG_TRACKER_F_EVERYTHING);
	OK(vfiomig_migration_new(r.g, VFIOMIG_DIRECTION_SAVE, NULL, &r.m, E()));
	OK(vfiomig_migration_advance(r.m, VFIOMIG_PHASE_SAVE_STOP_COPY, 0, E()));
	if (nonblock) /* both ends of the device's socket are ours in this process: find the library's */
		for (int fd = 3; fd < 64; fd++)
			if (fd != a.peer && fcntl(fd, F_GETFL) >= 0) fcntl(fd, F_SETFL, O_NONBLOCK);
	pthread_create(&t, NULL, reader, NULL);
	usleep(200000);
	double begun = now_s();
	vfiomig_migration_cancel(r.m);
	while (!back && now_s() - begun < 3) usleep(10000);
	NOTE("%s: after cancel the reader is %s after %.2f s (result %lld, %s)", nonblock ? "non-blocking" : "blocking",
		back ? "back" : "NOT back", now_s() - begun, (long long)res, back ? code_name(rcode) : "-");
	SHOULD(back, "cancel does not reach a reader of a descriptor in blocking mode");
	pthread_create(&u, NULL, aborter, NULL);
	while (!aborted && now_s() - begun < 6) usleep(10000);
	NOTE("abort: %s; the device is in %u and was asked for %u state changes", aborted ? "done" : "waits for the reader",
		a.state, a.sets);
	SHOULD(aborted && a.state == S_RUNNING, "abort cannot reach the device while a reader is blocked");
	int rc = rep_end(nonblock ? "f10-blocked-reader nonblock" : "f10-blocked-reader");
	fflush(stdout);
	_exit(rc);
}
