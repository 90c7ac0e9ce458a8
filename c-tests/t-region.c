/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A device with a migration region (v1) behind ops: why it is not migratable, what is lent outlives its window, a call
 * that moves nothing begins no segment, and a load is dead only behind a failure where the device may have taken a byte
 * (F6, V1-9).
 */
#include "harness.h"
#include <fcntl.h>
#include <stdbool.h>
#include <sys/socket.h>

enum { DATA = 4096, WINDOW = 8192, REGION = 3 };

struct server {
	uint64_t size;
	uint32_t state;
	/* Saving: bytes that are left, and what is staged. */
	uint64_t left, staged;
	unsigned char data[WINDOW];
	/* Loading. */
	uint64_t loaded;
	unsigned segments;
	/* This many writes of data_size take 4 of 8 bytes; this many writes of data, or reads of data_offset, fail. */
	unsigned short_size, data_fails, offset_fails;
	int error;
};

static int device_info(void *opaque, void *info, uint32_t argsz)
{
	uint32_t *words = info;

	(void)opaque, (void)argsz;
	words[1] = 3;
	words[2] = REGION + 1;
	return 0;
}

static int region_info(void *opaque, void *info, uint32_t argsz)
{
	struct server *s = opaque;
	uint32_t *words = info;

	if (words[2] != REGION)
		return words[0] = 32, 0;
	words[0] = 48;
	if (argsz < 48)
		return 0;
	words[1] = 0xb;
	words[3] = 32;
	memcpy(words + 4, &s->size, 8);
	words[8] = 2 | 1 << 16;
	words[9] = 0;
	words[10] = 3;
	words[11] = 1;
	return 0;
}

static int64_t region_read(void *opaque, uint32_t index, uint64_t at, void *buf, size_t len)
{
	struct server *s = opaque;
	uint64_t value = 0;

	if (index != REGION || at + len > s->size)
		return -EINVAL;
	if (at >= DATA)
		return memset(buf, 0x5a, len), (int64_t)len;
	switch (at) {
	case 0:
		value = s->state;
		break;
	case 8:
		value = s->left;
		break;
	case 16:
		if (s->offset_fails && s->offset_fails--)
			return -s->error;
		s->staged = s->left < 6000 ? s->left : 6000;
		value = DATA;
		break;
	case 24:
		value = s->staged;
		break;
	default:
		return -EINVAL;
	}
	memcpy(buf, &value, len);
	return (int64_t)len;
}

static int64_t region_write(void *opaque, uint32_t index, uint64_t at, const void *buf, size_t len)
{
	struct server *s = opaque;
	uint64_t size;

	if (index != REGION || at + len > s->size)
		return -EINVAL;
	if (at == 0 && len == 4)
		return memcpy(&s->state, buf, 4), 4;
	if (at == 24 && len == 8) {
		memcpy(&size, buf, 8);
		s->loaded += size;
		s->segments++;
		return s->short_size && s->short_size-- ? 4 : 8;
	}
	if (at < DATA)
		return -EINVAL;
	if (s->data_fails && s->data_fails--)
		return -s->error;
	return memcpy(s->data + (at - DATA), buf, len), (int64_t)len;
}

static int reset(void *opaque)
{
	((struct server *)opaque)->state = 1;
	return 0;
}

static void server_init(struct server *s)
{
	memset(s, 0, sizeof *s);
	s->size = DATA + WINDOW;
	s->state = 1;
}

static void server_ops(struct vfiomig_device_ops *ops)
{
	VFIOMIG_INIT(ops);
	ops->device_info = device_info;
	ops->region_info = region_info;
	ops->region_read = region_read;
	ops->region_write = region_write;
	ops->device_reset = reset;
}

static struct vfiomig_device *open_server(struct server *s)
{
	struct vfiomig_device_ops ops;
	struct vfiomig_device_options options;
	struct vfiomig_device *d = NULL;

	server_ops(&ops);
	VFIOMIG_INIT(&options);
	options.name = "v1dev";
	OK(vfiomig_device_new_ops(&ops, s, &options, &d, ERRP));
	return d;
}

static int to(struct vfiomig_device *d, uint32_t state)
{
	return vfiomig_device_set_state(d, state, VFIOMIG_ON_FAILURE_KEEP, 0, ERRP);
}

/* A device that cannot be migrated is a device, too, with a reason that names the sizes. */
static void reasons(void)
{
	static const uint64_t sizes[] = {0, 16, 31};
	struct vfiomig_device_info info;
	struct vfiomig_device_ops ops;
	struct vfiomig_device *d;
	struct server s;

	for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
		char bytes[16];

		server_init(&s);
		s.size = sizes[i];
		d = open_server(&s);
		VFIOMIG_INIT(&info);
		OK(vfiomig_device_get_info(d, &info, ERRP));
		CHECK_EQ(info.dialect, 0);
		snprintf(bytes, sizeof bytes, "%u bytes", (unsigned)sizes[i]);
		CHECK_HAS(info.reason, bytes);
		CHECK_HAS(info.reason, "32");
		FAILS(to(d, VFIOMIG_STATE_STOP), 0, VFIOMIG_ERR_UNSUPPORTED);
		CHECK_HAS(vfiomig_error_message(t_error), info.reason);
		vfiomig_device_free(d);
	}
	server_init(&s);
	server_ops(&ops);
	ops.device_info = NULL;
	d = NULL;
	OK(vfiomig_device_new_ops(&ops, &s, NULL, &d, ERRP));
	VFIOMIG_INIT(&info);
	OK(vfiomig_device_get_info(d, &info, ERRP));
	CHECK_EQ(info.dialect, 0);
	CHECK_HAS(info.reason, "device_info");
	vfiomig_device_free(d);
}

/* Readable and unchanged until something is lent again: behind reprobe, reset, send. */
static void lent(void)
{
	static unsigned char junk[4][8192];
	unsigned char was[1000];
	struct vfiomig_chunk chunk;
	struct vfiomig_device *d;
	struct server s;
	uint32_t flags;
	void *room;
	size_t fits;
	int null = open("/dev/null", O_WRONLY | O_CLOEXEC);

	server_init(&s);
	s.left = 10000;
	d = open_server(&s);
	OK(to(d, VFIOMIG_STATE_STOP_COPY));
	OK(vfiomig_device_peek(d, 0, &chunk, ERRP));
	CHECK(chunk.len == 6000);
	memcpy(was, chunk.data, sizeof was);
	s.size += 4096;
	s.state = 1;
	OK(vfiomig_device_reprobe(d, ERRP));
	for (int i = 0; i < 4; i++)
		free(memcpy(malloc(sizeof junk[i]), junk[i], sizeof junk[i]));
	CHECK(!memcmp(was, chunk.data, sizeof was));
	OK(vfiomig_device_restart_stream(d, ERRP));
	OK(to(d, VFIOMIG_STATE_STOP_COPY));
	CHECK_EQ(OK(vfiomig_device_send(d, null, 0, &flags, ERRP)), 6000);
	CHECK(!memcmp(was, chunk.data, sizeof was));
	FAILS(vfiomig_device_consume(d, 1, ERRP), ESTALE, VFIOMIG_ERR_STALE);
	OK(vfiomig_device_reset(d, ERRP));
	/* A room, too, and it may be written to. */
	OK(to(d, VFIOMIG_STATE_RESUMING));
	OK(vfiomig_device_reserve(d, 700, &room, &fits, ERRP));
	CHECK_EQ(fits, 700);
	s.size -= 4096;
	OK(vfiomig_device_reset(d, ERRP));
	OK(vfiomig_device_reprobe(d, ERRP));
	memset(room, 7, fits);
	FAILS(vfiomig_device_commit(d, 1, 0, ERRP), ESTALE, VFIOMIG_ERR_STALE);
	vfiomig_device_free(d);
	close(null);
}

static void nothing_is_no_segment(void)
{
	unsigned char bytes[60] = {0};
	struct vfiomig_device *d;
	struct server s;
	int pair[2];
	void *room;
	size_t fits;

	server_init(&s);
	d = open_server(&s);
	OK(to(d, VFIOMIG_STATE_RESUMING));
	CHECK(!socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair));
	close(pair[1]);
	CHECK_EQ(OK(vfiomig_device_receive(d, pair[0], 100, VFIOMIG_CHUNK_SEGMENT_END, ERRP)), 0);
	close(pair[0]);
	OK(vfiomig_device_reserve(d, 4096, &room, &fits, ERRP));
	OK(vfiomig_device_commit(d, 0, 0, ERRP));
	OK(vfiomig_device_reserve(d, 100, &room, &fits, ERRP));
	OK(vfiomig_device_commit(d, 0, 0, ERRP));
	CHECK_EQ(OK(vfiomig_device_write(d, bytes, 0, 0, ERRP)), 0);
	OK(vfiomig_device_finish(d, 0, ERRP));
	/* The error names the lost end of a segment. */
	OK(vfiomig_device_reset(d, ERRP));
	OK(to(d, VFIOMIG_STATE_RESUMING));
	OK(vfiomig_device_write(d, s.data, WINDOW - 10, 0, ERRP));
	FAILS(vfiomig_device_write(d, bytes, sizeof bytes, VFIOMIG_CHUNK_SEGMENT_END, ERRP), EMSGSIZE,
		VFIOMIG_ERR_UNSUPPORTED);
	CHECK_HAS(vfiomig_error_message(t_error), "VFIOMIG_CHUNK_SEGMENT_END");
	CHECK_EQ(s.segments, 0);
	vfiomig_device_free(d);
}

/* A write meets the fault; then it is tried again. */
static void dead_or_alive(unsigned *fault, struct server *s, int error, uint32_t code, bool alive)
{
	unsigned char bytes[300] = {1};
	struct vfiomig_device *d;
	const char *way_on = alive ? "can be made again" : "only a reset remains";

	server_init(s);
	d = open_server(s);
	OK(to(d, VFIOMIG_STATE_RESUMING));
	s->error = error;
	*fault = 1;
	FAILS(vfiomig_device_write(d, bytes, sizeof bytes, VFIOMIG_CHUNK_SEGMENT_END, ERRP), error, code);
	CHECK_HAS(vfiomig_error_message(t_error), way_on);
	if (alive) {
		OK(vfiomig_device_write(d, bytes, sizeof bytes, VFIOMIG_CHUNK_SEGMENT_END, ERRP));
		OK(vfiomig_device_finish(d, sizeof bytes, ERRP));
		OK(to(d, VFIOMIG_STATE_RUNNING));
		CHECK(s->loaded == sizeof bytes && s->segments == 1);
	} else {
		FAILS(vfiomig_device_write(d, bytes, sizeof bytes, VFIOMIG_CHUNK_SEGMENT_END, ERRP), ESTALE, VFIOMIG_ERR_STALE);
		FAILS(vfiomig_device_finish(d, sizeof bytes, ERRP), ESTALE, VFIOMIG_ERR_STALE);
		FAILS(to(d, VFIOMIG_STATE_RUNNING), 0, VFIOMIG_ERR_ORDER);
		CHECK(s->segments <= 1);
		OK(vfiomig_device_reset(d, ERRP));
	}
	vfiomig_device_free(d);
}

int main(void)
{
	struct server s;

	t_begin();
	reasons();
	lent();
	nothing_is_no_segment();
	dead_or_alive(&s.short_size, &s, EPROTO, VFIOMIG_ERR_PROTOCOL, false);
	dead_or_alive(&s.data_fails, &s, EIO, VFIOMIG_ERR_DEVICE, false);
	dead_or_alive(&s.data_fails, &s, EAGAIN, VFIOMIG_ERR_DEVICE, true);
	dead_or_alive(&s.offset_fails, &s, EIO, VFIOMIG_ERR_DEVICE, true);
	return t_end();
}
