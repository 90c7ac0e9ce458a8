/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * vfio-user (U-1, U-3, U-5, U-8, U-10): the same device by the VMM's own client and by a connection of the library's. A stream goes from
 * one server to another byte by byte; a server that does not know the command is asked once; one that dies is an error. Functions for the
 * server's memory are called on the caller's thread only, unless it allows others. Devices without a name are told apart. A
 * server that is silent costs a step one wait.
 */
#include "harness.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/socket.h>

#define LEN 200000
#define FEATURE 16
#define SET_STATE (2 | 1 << 17)

/* A server of the second generation. */
struct server {
	bool ancient; /* does not know features */
	bool reads; /* takes mappings, and reads memory by a message before each change of the state */
	uint32_t state;
	size_t read, loaded;
	size_t largest; /* payload of a request */
	int features;
	int sock;
	bool mute; /* answers nothing from the next change of state on */
	int asked; /* since then */
	uint32_t no_reply; /* what the VMM's client says then */
	unsigned char in[LEN];
};

static unsigned char content(size_t n)
{
	return (unsigned char)(n * 2654435761u >> 24);
}

static uint32_t u32(const unsigned char *p, size_t at)
{
	uint32_t v;

	memcpy(&v, p + at, 4);
	return v;
}

static void put32(unsigned char *p, size_t at, uint32_t v)
{
	memcpy(p + at, &v, 4);
}

static int feature(struct server *s, const unsigned char *in, size_t len, unsigned char *out)
{
	s->features++;
	if (s->ancient) {
		CHECK_EQ(len, 16); /* else the rest of it would be taken for a message */
		return -4096;
	}
	memcpy(out, in, len);
	switch (u32(in, 4)) {
	case 1 | 1 << 16:
		put32(out, 8, 1);
		put32(out, 12, 0);
		return 16;
	case SET_STATE:
		s->state = u32(in, 8);
		s->read = s->loaded = 0;
		/* fallthrough */
	case 2 | 1 << 16:
		put32(out, 8, s->state);
		put32(out, 12, 0); /* looks like standard input, and is no descriptor */
		return 16;
	}
	return -EINVAL;
}

/* The length of the reply's payload; -errno; -4096: the error flag with errno 0. */
static int answer(struct server *s, unsigned command, const unsigned char *in, size_t len, unsigned char *out)
{
	size_t n, i;

	if (len > s->largest)
		s->largest = len;
	switch (command) {
	case 2:
		return s->reads ? 0 : -EINVAL;
	case 4:
		put32(out, 0, 16);
		put32(out, 4, 3);
		put32(out, 8, 1);
		put32(out, 12, 0);
		return 16;
	case 5:
		memset(out, 0, 32);
		put32(out, 0, 32);
		put32(out, 8, u32(in, 8));
		return 32;
	case 13:
		return 0; /* the state stays (U-10) */
	case FEATURE:
		return feature(s, in, len, out);
	case 17:
		n = u32(in, 4);
		i = LEN - s->read < n ? LEN - s->read : n;
		i = i > 30000 ? 30000 : i; /* short, and no end */
		put32(out, 0, (uint32_t)(8 + i));
		put32(out, 4, (uint32_t)i);
		for (size_t at = 0; at < i; at++)
			out[8 + at] = content(s->read + at);
		s->read += i;
		return (int)(8 + n); /* always as long as was asked */
	case 18:
		n = u32(in, 4);
		if (n != len - 8 || s->loaded + n > LEN)
			return -EINVAL;
		memcpy(s->in + s->loaded, in + 8, n);
		s->loaded += n;
		return 0;
	}
	return -EINVAL;
}

/* By the VMM's client. */
static int call(void *opaque, struct vfiomig_vfio_user_call *c)
{
	static _Thread_local unsigned char out[2 << 20];
	struct server *s = opaque;
	int r;

	if (s->mute && (s->asked || (c->command == FEATURE && u32(c->request, 4) == SET_STATE))) {
		s->asked++;
		c->flags |= s->no_reply;
		return -ETIMEDOUT;
	}
	r = answer(s, c->command, c->request, c->request_len, out);
	CHECK(c->argsz == sizeof *c && !c->reply_len && !c->reply_fd_count);
	if (r == -4096) {
		CHECK_EQ(c->flags, VFIOMIG_VFIO_USER_F_MAY_BE_UNKNOWN);
		c->flags |= VFIOMIG_VFIO_USER_NO_ERRNO;
		return -EIO;
	}
	if (r < 0)
		return r;
	if ((uint64_t)r > c->reply_room)
		return -EMSGSIZE;
	if (r)
		memcpy(c->reply, out, (size_t)r);
	c->reply_len = (uint64_t)r;
	return 0;
}

static bool all(int fd, void *buf, size_t len, bool out)
{
	for (size_t done = 0; done < len;) {
		ssize_t n = out ? send(fd, (char *)buf + done, len - done, MSG_NOSIGNAL) :
				  recv(fd, (char *)buf + done, len - done, 0);
		if (n <= 0)
			return false;
		done += (size_t)n;
	}
	return true;
}

/* Reads 8 bytes of the client's memory at 0 by the only socket. */
static bool read_memory(int sock)
{
	unsigned char m[40] = {0};

	put32(m, 0, 7 | 11 << 16);
	put32(m, 4, 32);
	put32(m, 24, 8);
	return all(sock, m, 32, true) && all(sock, m, 40, false) && u32(m, 4) == 40 && m[32] == 0x5a;
}

/* By a socket. */
static void *serve(void *opaque)
{
	static const char said[] = "{\"capabilities\":{\"max_msg_fds\":1,\"migration\":{\"pgsize\":4096}}}";
	unsigned char head[16], stray[16] = {0};
	unsigned char *in = malloc(4 << 20), *out = calloc(4, 1 << 20);
	struct server *s = opaque;

	while (all(s->sock, head, 16, false)) {
		size_t len = u32(head, 4) - 16;
		unsigned command = u32(head, 0) >> 16;
		int r;

		if (!all(s->sock, in, len, false))
			break;
		if (s->reads && command == FEATURE && u32(in, 4) == SET_STATE && !read_memory(s->sock))
			break;
		if (command == 1) {
			memcpy(out, "\0\0\2\0", 4);
			memcpy(out + 4, said, sizeof said);
			r = 4 + (int)sizeof said;
		} else {
			r = answer(s, command, in, len, out);
		}
		put32(head, 4, 16 + (uint32_t)(r < 0 ? 0 : r));
		put32(head, 8, r < 0 ? 0x21 : 1);
		put32(head, 12, r == -4096 ? 0 : r < 0 ? (uint32_t)-r : 0);
		all(s->sock, head, 16, true);
		if (r > 0)
			all(s->sock, out, (size_t)r, true);
		if (r == -4096) {
			put32(stray, 0, (uint32_t)len & 0xffff);
			put32(stray, 4, 16);
			put32(stray, 8, 0x21);
			all(s->sock, stray, 16, true);
		}
	}
	close(s->sock);
	free(in);
	free(out);
	return NULL;
}

struct end {
	struct server server;
	struct vfiomig_vfio_user *connection;
	struct vfiomig_device *device;
	pthread_t thread;
	bool any_thread;
	const char *name;
};

static pthread_t caller;
static atomic_int reads, elsewhere;

static int dma_read(void *opaque, uint64_t address, void *buf, size_t len)
{
	(void)opaque;
	reads++;
	elsewhere += !pthread_equal(pthread_self(), caller);
	CHECK(!address && len == 8);
	memset(buf, 0x5a, len);
	/* Another thread comes while it lasts, if there is one. */
	nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
	return 0;
}

static int dma_write(void *opaque, uint64_t address, const void *buf, size_t len)
{
	(void)opaque, (void)address, (void)buf, (void)len;
	return -EIO;
}

static void begin(struct end *end, bool own, bool ancient)
{
	struct vfiomig_vfio_user_ops ops;
	struct vfiomig_vfio_user_options o;
	struct vfiomig_device_options d;
	struct vfiomig_vfio_user_info info;
	int pair[2];

	end->server.ancient = ancient;
	end->server.state = 2;
	if (!own) {
		VFIOMIG_INIT(&ops);
		ops.call = call;
		OK(vfiomig_device_new_vfio_user(&ops, &end->server, NULL, &end->device, ERRP));
		return;
	}
	CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
	end->server.sock = pair[1];
	CHECK_EQ(pthread_create(&end->thread, NULL, serve, &end->server), 0);
	VFIOMIG_INIT(&o);
	if (end->server.reads) {
		o.dma_read = dma_read;
		o.dma_write = dma_write;
		o.flags = end->any_thread ? VFIOMIG_OPS_F_ANY_THREAD : 0;
	}
	OK(vfiomig_vfio_user_connect_fd(pair[0], &o, &end->connection, ERRP));
	close(pair[0]);
	VFIOMIG_INIT(&info);
	OK(vfiomig_vfio_user_get_info(end->connection, &info, ERRP));
	CHECK(info.flags == VFIOMIG_VFIO_USER_MIGRATABLE && info.minor == 2 && info.max_data == 1 << 20);
	CHECK_EQ(vfiomig_vfio_user_serve(end->connection, 0, ERRP), 0);
	VFIOMIG_INIT(&d);
	d.name = end->name;
	OK(vfiomig_device_new_connection(end->connection, &d, &end->device, ERRP));
}

static void finish(struct end *end)
{
	vfiomig_device_free(end->device);
	vfiomig_vfio_user_free(end->connection);
	if (end->connection)
		CHECK_EQ(pthread_join(end->thread, NULL), 0);
	memset(end, 0, sizeof *end);
}

static int to(struct end *end, uint32_t state)
{
	return vfiomig_device_set_state(end->device, state, VFIOMIG_ON_FAILURE_KEEP, 0, ERRP);
}

static void moves(bool own)
{
	static struct end from, into;
	static char buf[100000];
	uint64_t total = 0;
	uint32_t flags = 0;
	int64_t n;

	begin(&from, own, false);
	begin(&into, own, false);
	OK(to(&from, VFIOMIG_STATE_STOP_COPY));
	OK(to(&into, VFIOMIG_STATE_RESUMING));
	while ((n = OK(vfiomig_device_read(from.device, buf, sizeof buf, &flags, ERRP))) > 0) {
		total += (uint64_t)n;
		CHECK_EQ(OK(vfiomig_device_write(into.device, buf, (size_t)n, 0, ERRP)), n);
	}
	CHECK_EQ(flags, VFIOMIG_CHUNK_END);
	CHECK_EQ(total, LEN);
	OK(vfiomig_device_finish(into.device, total, ERRP));
	OK(to(&from, VFIOMIG_STATE_STOP));
	OK(to(&into, VFIOMIG_STATE_RUNNING));
	n = 0;
	for (size_t at = 0; at < LEN; at++)
		n += into.server.in[at] != content(at);
	CHECK_EQ(n, 0);
	CHECK(into.server.largest <= (32 << 10) + 8);
	CHECK_EQ(into.server.state, 2);
	/* The reset leaves PRE_COPY or STOP as it is, and that is seen. */
	FAILS(vfiomig_device_reset(from.device, ERRP), EPROTO, VFIOMIG_ERR_PROTOCOL);
	CHECK_EQ(vfiomig_device_get_state(from.device), VFIOMIG_STATE_STOP);
	finish(&from);
	finish(&into);
}

static void unknown(bool own)
{
	static struct end end;
	struct vfiomig_device_info info;

	begin(&end, own, true);
	VFIOMIG_INIT(&info);
	OK(vfiomig_device_get_info(end.device, &info, ERRP));
	CHECK_EQ(info.dialect, VFIOMIG_DIALECT_NONE);
	OK(vfiomig_device_reset(end.device, ERRP));
	OK(vfiomig_device_reprobe(end.device, ERRP));
	CHECK_EQ(end.server.features, 1);
	finish(&end);
}

/* What a step asks of a server that has fallen silent. The device can be asked again, once it answers. */
static int asked_of_silent(uint32_t no_reply)
{
	static struct end end;
	struct vfiomig_error *e = NULL;
	const struct vfiomig_device_result *result;
	int asked;

	begin(&end, false, false);
	OK(to(&end, VFIOMIG_STATE_STOP_COPY));
	end.server.mute = true;
	end.server.no_reply = no_reply;
	CHECK_EQ(vfiomig_device_set_state(end.device, VFIOMIG_STATE_STOP, VFIOMIG_ON_FAILURE_KEEP, 0, &e), -ETIMEDOUT);
	result = vfiomig_error_result(e, 0);
	CHECK(result && result->saved_errno == ETIMEDOUT && result->flags == VFIOMIG_RESULT_AGAIN);
	vfiomig_error_free(e);
	asked = end.server.asked;
	end.server.mute = false;
	OK(vfiomig_device_reprobe(end.device, ERRP));
	OK(to(&end, VFIOMIG_STATE_STOP));
	finish(&end);
	return asked;
}

/* A client that says that no reply came is asked for nothing more in that step: one wait, not one for each request. */
static void silence(void)
{
	CHECK_EQ(asked_of_silent(VFIOMIG_VFIO_USER_NO_REPLY), 1);
	CHECK(asked_of_silent(0) > 1);
}

/* Other requests go over the same connection; a server that goes is an error in every call. */
static void other(void)
{
	static struct end end;
	struct vfiomig_vfio_user_call c;
	unsigned char room[64], info[32] = {32};

	begin(&end, true, false);
	VFIOMIG_INIT(&c);
	c.command = 5;
	c.request = info;
	c.request_len = sizeof info;
	c.reply = room;
	c.reply_room = sizeof room;
	c.flags = VFIOMIG_VFIO_USER_NO_ERRNO | VFIOMIG_VFIO_USER_NO_REPLY; /* the answer of a call before */
	OK(vfiomig_vfio_user_call(end.connection, &c, ERRP));
	CHECK_EQ(c.flags, 0);
	CHECK_EQ(c.reply_len, 32);
	c.command = 99;
	FAILS(vfiomig_vfio_user_call(end.connection, &c, ERRP), EINVAL, VFIOMIG_ERR_DEVICE);
	c.command = 5;
	c.reply_room = 31;
	FAILS(vfiomig_vfio_user_call(end.connection, &c, ERRP), EMSGSIZE, VFIOMIG_ERR_DEVICE);
	c.reply = NULL;
	FAILS(vfiomig_vfio_user_call(end.connection, &c, ERRP), EINVAL, VFIOMIG_ERR_ARGUMENT);
	/* The server maps nothing. */
	FAILS(vfiomig_vfio_user_map(end.connection, 0, 4096, -1, 0, 3, ERRP), EINVAL, VFIOMIG_ERR_DEVICE);
	FAILS(vfiomig_vfio_user_map(end.connection, 0, 4096, -1, 0, 4, ERRP), EINVAL, VFIOMIG_ERR_ARGUMENT);
	FAILS(vfiomig_vfio_user_unmap(end.connection, 0, 4096, ERRP), ENOENT, VFIOMIG_ERR_DEVICE);
	shutdown(end.server.sock, SHUT_RDWR);
	FAILS(to(&end, VFIOMIG_STATE_STOP), 0, VFIOMIG_ERR_DEVICE);
	FAILS(vfiomig_vfio_user_serve(end.connection, 60000, ERRP), ENOTCONN, VFIOMIG_ERR_DEVICE);
	finish(&end);
}

/* Devices that nobody gave a name have those of their connections: a group takes both, and an error says whose it is. */
static void names(void)
{
	static struct end ends[2];
	char said[2][256];
	struct vfiomig_group *g = NULL;

	OK(vfiomig_group_new(NULL, &g, ERRP));
	for (size_t i = 0; i < 2; i++) {
		begin(&ends[i], true, false);
		OK(vfiomig_group_add_device(g, ends[i].device, ERRP));
	}
	for (size_t i = 0; i < 2; i++) {
		struct vfiomig_error *e = NULL;

		shutdown(ends[i].server.sock, SHUT_RDWR);
		CHECK(vfiomig_device_set_state(ends[i].device, VFIOMIG_STATE_STOP, VFIOMIG_ON_FAILURE_KEEP, 0, &e) < 0);
		snprintf(said[i], sizeof said[i], "%s", vfiomig_error_message(e));
		CHECK(!strncmp(said[i], "vfio-user fd ", strlen("vfio-user fd ")));
		vfiomig_error_free(e);
	}
	CHECK(strcmp(said[0], said[1]));
	vfiomig_group_free(g);
	for (size_t i = 0; i < 2; i++)
		finish(&ends[i]);
}

/* Several devices are served by threads of the library, on which functions of the VMM's are called by its leave only. */
static void threads(bool any_thread)
{
	static struct end ends[3];
	struct vfiomig_group *g = NULL;

	caller = pthread_self();
	reads = elsewhere = 0;
	OK(vfiomig_group_new(NULL, &g, ERRP));
	for (size_t i = 0; i < 3; i++) {
		ends[i].server.reads = true;
		ends[i].any_thread = any_thread;
		ends[i].name = (const char *[]){"a", "b", "c"}[i];
		begin(&ends[i], true, false);
		OK(vfiomig_vfio_user_map(ends[i].connection, 0, 4096, -1, 0, 3, ERRP));
		OK(vfiomig_group_add_device(g, ends[i].device, ERRP));
	}
	OK(vfiomig_group_pause(g, ERRP));
	CHECK_EQ(reads, 3);
	CHECK_EQ(elsewhere > 0, any_thread);
	vfiomig_group_free(g);
	for (size_t i = 0; i < 3; i++)
		finish(&ends[i]);
}

static void arguments(void)
{
	struct vfiomig_vfio_user_ops ops;
	struct vfiomig_vfio_user_options o;
	struct vfiomig_vfio_user *c = NULL;
	struct vfiomig_device *d = NULL;

	VFIOMIG_INIT(&ops);
	FAILS(vfiomig_device_new_vfio_user(NULL, NULL, NULL, &d, ERRP), EINVAL, VFIOMIG_ERR_ARGUMENT);
	FAILS(vfiomig_device_new_vfio_user(&ops, NULL, NULL, &d, ERRP), EINVAL, VFIOMIG_ERR_ARGUMENT);
	ops.call = call;
	ops.max_write = 1;
	FAILS(vfiomig_device_new_vfio_user(&ops, NULL, NULL, &d, ERRP), EINVAL, VFIOMIG_ERR_ARGUMENT);
	FAILS(vfiomig_vfio_user_connect(NULL, NULL, &c, ERRP), EINVAL, VFIOMIG_ERR_ARGUMENT);
	FAILS(vfiomig_vfio_user_connect("/nonexistent/s", NULL, &c, ERRP), ENOENT, VFIOMIG_ERR_SYSTEM);
	FAILS(vfiomig_vfio_user_connect_fd(-1, NULL, &c, ERRP), EBADF, VFIOMIG_ERR_ARGUMENT);
	VFIOMIG_INIT(&o);
	o.max_data = 100;
	FAILS(vfiomig_vfio_user_connect_fd(0, &o, &c, ERRP), EINVAL, VFIOMIG_ERR_ARGUMENT);
	FAILS(vfiomig_device_new_connection(NULL, NULL, &d, ERRP), EINVAL, VFIOMIG_ERR_ARGUMENT);
	vfiomig_vfio_user_free(NULL);
	CHECK(!c && !d);
}

int main(void)
{
	t_begin();
	for (int own = 0; own < 2; own++) {
		moves(own);
		unknown(own);
	}
	other();
	silence();
	names();
	threads(false);
	threads(true);
	arguments();
	return t_end();
}
