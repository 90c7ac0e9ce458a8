/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * In every function of the table asynchronous signals are blocked (P1: drivers throw a migration away when one comes),
 * those that the thread raises by its own faults are not, and afterwards the mask is what it was.
 */
#include "fake.h"
#include <signal.h>

static const int asynchronous[] = {SIGINT, SIGTERM, SIGHUP, SIGUSR1, SIGUSR2, SIGALRM,
				   SIGCHLD, SIGPIPE, SIGIO, SIGWINCH};
static const int synchronous[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS};
static unsigned not_blocked[C_COUNT], checked[C_COUNT];

static void look(struct fake *f, enum fake_call call)
{
	sigset_t now;

	(void)f;
	pthread_sigmask(SIG_BLOCK, NULL, &now);
	checked[call]++;
	for (size_t i = 0; i < sizeof asynchronous / sizeof *asynchronous; i++)
		not_blocked[call] += !sigismember(&now, asynchronous[i]);
	for (size_t i = 0; i < sizeof synchronous / sizeof *synchronous; i++)
		CHECK(!sigismember(&now, synchronous[i]));
}

static volatile sig_atomic_t caught;

static void count(int signal)
{
	(void)signal;
	caught++;
}

/* Raised in a callback, it arrives after the call, once. */
static void raise_one(struct fake *f, enum fake_call call)
{
	(void)f;
	if (call == C_READ) {
		raise(SIGUSR1);
		CHECK_EQ(caught, 0);
	}
}

static void mask_is(const sigset_t *expect)
{
	sigset_t now;

	pthread_sigmask(SIG_BLOCK, NULL, &now);
	for (int signal = 1; signal < 32; signal++)
		CHECK_EQ(sigismember(&now, signal), sigismember(expect, signal));
}

int main(void)
{
	static const char *const names[C_COUNT] = {
		"device_info", "device_feature (flags)", "device_feature (opt-in)", "device_feature (GET)",
		"device_feature (SET)", "device_feature (size)", "region_info", "device_reset", "data_read", "data_write",
		"data_precopy_info", "data_close"};
	struct fake f;
	struct vfiomig_device *d;
	struct vfiomig_device_pending pending;
	unsigned char buf[20000];
	uint32_t flags;
	sigset_t mine;

	t_begin();
	/* A mask of the caller's own, to see that it comes back and not an empty one. */
	pthread_sigmask(SIG_BLOCK, NULL, &mine);
	sigaddset(&mine, SIGUSR2);
	pthread_sigmask(SIG_SETMASK, &mine, NULL);

	fake_init(&f);
	f.hook = look;
	f.other_region = f.absent = true;
	d = fake_device(&f); /* asks for regions */
	mask_is(&mine);
	f.absent = false;
	OK(vfiomig_device_reprobe(d, ERRP));
	OK(fake_to(d, S_PRE_COPY));
	mask_is(&mine);
	VFIOMIG_INIT(&pending);
	OK(vfiomig_device_get_pending(d, VFIOMIG_PENDING_F_EXACT, &pending, ERRP));
	OK(vfiomig_device_read(d, buf, sizeof buf, &flags, ERRP));
	mask_is(&mine);
	OK(fake_to(d, S_RUNNING));
	OK(fake_to(d, S_RESUMING));
	OK(vfiomig_device_write(d, buf, 10, 0, ERRP));
	OK(vfiomig_device_reset(d, ERRP));
	mask_is(&mine);
	for (int call = 0; call < C_COUNT; call++) {
		CHECK(checked[call]);
		if (not_blocked[call])
			T_FAIL("%s was called with asynchronous signals not blocked", names[call]);
	}

	f.hook = raise_one;
	signal(SIGUSR1, count);
	OK(vfiomig_device_restart_stream(d, ERRP));
	OK(fake_to(d, S_STOP_COPY));
	OK(vfiomig_device_read(d, buf, sizeof buf, &flags, ERRP));
	CHECK_EQ(caught, 1);
	mask_is(&mine);
	f.hook = NULL;
	FAKE_END(&f, d);
	mask_is(&mine);
	return t_end();
}
