/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The connection breaks: while saving (reader gone, no SIGPIPE, nothing lost in the device), while loading (with
 * and without the length).
 */
#include "rep.h"
int main(void)
{
	struct dev a, b, *la[1] = {&a}, *lb[1] = {&b};
	struct rig s, l;
	int p[2];
	uint32_t flags = 0;
	rep_begin(30);
	dev_init(&a, "vf0"); dev_init(&b, "vf0"); b.expect = 0; /* a driver that takes a cut stream */
	rig_up(&s, la, 1, VFIOMIG_TRACKER_F_EVERYTHING);
	OK(to(s.h[0], VFIOMIG_STATE_STOP_COPY));
	OK(socketpair(AF_UNIX, SOCK_STREAM, 0, p));
	close(p[1]);
	int64_t x = vfiomig_device_send(s.h[0], p[0], 0, &flags, E());
	NOTE("send to a reader that is gone: %lld %s: %s", (long long)x, code_name(code()), msg());
	SHOULD(x == -EPIPE && code() == VFIOMIG_ERR_SYSTEM);
	close(p[0]);
	x = vfiomig_device_send(s.h[0], p[0], 0, &flags, E());
	NOTE("send to a closed fd: %lld %s: %s", (long long)x, code_name(code()), msg());
	SHOULD(x == -EBADF && code() == VFIOMIG_ERR_SYSTEM);
	/* the whole stream still comes */
	char buf[32768];
	size_t got = 0;
	while ((x = vfiomig_device_read(s.h[0], buf + got, sizeof buf - got, &flags, E())) > 0) got += (size_t)x;
	SHOULD(got == 15000 && flags & VFIOMIG_CHUNK_END, "%zu", got);
	for (size_t i = 0; i < got; i++) if ((unsigned char)buf[i] != dev_byte(i)) { SHOULD(0, "byte %zu", i); break; }
	for (int with_total = 0; with_total < 2; with_total++) {
		rig_up(&l, lb, 1, VFIOMIG_TRACKER_F_EVERYTHING);
		OK(vfiomig_migration_new(l.g, VFIOMIG_DIRECTION_LOAD, NULL, &l.m, E()));
		OK(vfiomig_migration_advance(l.m, VFIOMIG_PHASE_LOAD_RESUMING, 0, E()));
		OK(socketpair(AF_UNIX, SOCK_STREAM, 0, p));
		SHOULD(write(p[1], buf, 7000) == 7000);
		close(p[1]);
		struct vfiomig_channel c = {.fd = p[0], .flags = VFIOMIG_CHANNEL_F_FD | VFIOMIG_CHANNEL_F_TOTAL,
			.total = with_total ? 15000 : VFIOMIG_UNKNOWN};
		x = vfiomig_migration_load_complete(l.m, DRAIN(.channels = &c, .channel_count = 1), NULL, 0, E());
		NOTE("7000 of 15000 bytes came, %s: %lld %s: %s", with_total ? "length known" : "length not known", (long long)x,
			code_name(code()), msg());
		if (with_total) {
			SHOULD(x < 0 && code() == VFIOMIG_ERR_INCOMPLETE && strstr(msg(), "7000") && strstr(msg(), "15000"));
			/* a new connection brings the rest */
			int q[2];
			OK(socketpair(AF_UNIX, SOCK_STREAM, 0, q));
			SHOULD(write(q[1], buf + 7000, 8000) == 8000);
			c.fd = q[0];
			OK(vfiomig_migration_load_complete(l.m, DRAIN(.channels = &c, .channel_count = 1), NULL, 0, E()));
			OK(vfiomig_migration_advance(l.m, VFIOMIG_PHASE_LOAD_RUNNING, 0, E()));
			SHOULD(b.state == S_RUNNING && b.loaded == 15000);
			close(q[0]); close(q[1]);
		} else OK(vfiomig_migration_abort(l.m, VFIOMIG_ABORT_TO_RUNNING, 0, E()));
		close(p[0]);
		rig_down(&l);
		dev_init(&b, "vf0");
	}
	rig_down(&s);
	return rep_end("r36-broken-connection");
}
