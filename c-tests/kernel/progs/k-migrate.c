/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Promise: the state of one device, saved and loaded through the library,
 * makes another device its equal, with every pair of calls that moves bytes,
 * from STOP_COPY alone and with pre-copy first; pre-copy and stop-copy are one
 * session on one data fd (V2-4, F2).
 *
 * usage: k-migrate group|cdev
 */
#include "lab.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

enum way { READ_WRITE, SMALL_PIECES, PEEK_RESERVE, SOCKET, FILE_FD, WAYS };
static const char *const way_names[] = { "read/write", "small pieces", "peek/reserve", "socket", "file" };

static struct vfiomig_device *source, *target;
static struct lab_device source_device, target_device;

struct buffer {
	unsigned char bytes[MTTY_MAX];
	size_t length;
	int to, from; /* SOCKET, FILE_FD: what send writes to, and receive reads from */
};

static void append(struct buffer *buffer, const void *bytes, size_t length)
{
	CHECK(buffer->length + length <= sizeof(buffer->bytes));
	memcpy(buffer->bytes + buffer->length, bytes, length);
	buffer->length += length;
}

static void save_small(struct buffer *buffer, uint32_t flag)
{
	unsigned char piece[7];
	uint32_t flags = 77;
	int64_t got;

	while ((got = vfiomig_device_read(source, piece, sizeof(piece), &flags, ERR)) > 0) {
		CHECK(got <= (int64_t)sizeof(piece));
		CHECK_EQ(flags, 0);
		append(buffer, piece, (size_t)got);
	}
	OK(got);
	CHECK_EQ(flags, flag);
}

/* Consumes a part of each chunk: the rest must be lent again, first byte first. */
static void save_peek(struct buffer *buffer, uint32_t flag)
{
	struct vfiomig_chunk chunk, again;

	for (;;) {
		size_t part;

		OK(vfiomig_device_peek(source, 0, &chunk, ERR));
		if (!chunk.len)
			break;
		CHECK_EQ(chunk.flags, 0);
		CHECK_EQ(chunk.segment_left, VFIOMIG_UNKNOWN);
		part = (chunk.len + 1) / 2;
		/* One chunk is out at a time. */
		FAILS(vfiomig_device_peek(source, 0, &again, ERR), BUSY, EBUSY);
		FAILS(vfiomig_device_consume(source, chunk.len + 1, ERR), ARGUMENT, EINVAL);
		OK(vfiomig_device_consume(source, 0, ERR));
		OK(vfiomig_device_peek(source, part, &again, ERR));
		CHECK_EQ(again.len, part);
		append(buffer, again.data, part);
		OK(vfiomig_device_consume(source, part, ERR));
	}
	CHECK(!chunk.data);
	CHECK_EQ(chunk.flags, flag);
}

static void save_send(struct buffer *buffer, uint32_t flag)
{
	uint32_t flags = 77;
	int64_t sent;

	while ((sent = vfiomig_device_send(source, buffer->to, 10, &flags, ERR)) > 0) {
		CHECK(sent <= 10);
		CHECK_EQ(flags, 0);
		buffer->length += (size_t)sent;
	}
	OK(sent);
	CHECK_EQ(flags, flag);
}

static void save(enum way way, struct buffer *buffer, uint32_t flag)
{
	switch (way) {
	case READ_WRITE:
		buffer->length = stream_read(source, flag, buffer->bytes, buffer->length);
		break;
	case SMALL_PIECES:
		save_small(buffer, flag);
		break;
	case PEEK_RESERVE:
		save_peek(buffer, flag);
		break;
	default:
		save_send(buffer, flag);
		break;
	}
}

static void load_pieces(const struct buffer *buffer, size_t piece)
{
	for (size_t done = 0; done < buffer->length; done += piece) {
		if (piece > buffer->length - done)
			piece = buffer->length - done;
		OK_BYTES(vfiomig_device_write(target, buffer->bytes + done, piece, 0, ERR),
			 (int64_t)piece);
	}
}

static void load_reserve(const struct buffer *buffer)
{
	size_t done = 0, room = 0, part;
	void *to = NULL;

	while (done < buffer->length) {
		OK(vfiomig_device_reserve(target, VFIOMIG_UNKNOWN, &to, &room, ERR));
		CHECK(to && room > 0);
		FAILS(vfiomig_device_commit(target, room + 1, 0, ERR), ARGUMENT, EINVAL);
		part = buffer->length - done < 13 ? buffer->length - done : 13;
		memcpy(to, buffer->bytes + done, part);
		OK(vfiomig_device_commit(target, part, 0, ERR));
		done += part;
	}
	/* Room that is given back unused is no byte. */
	OK(vfiomig_device_reserve(target, VFIOMIG_UNKNOWN, &to, &room, ERR));
	OK(vfiomig_device_commit(target, 0, 0, ERR));
}

static void load_receive(const struct buffer *buffer)
{
	int64_t got, all = 0;

	while ((got = vfiomig_device_receive(target, buffer->from, 17, 0, ERR)) > 0) {
		CHECK(got <= 17);
		all += got;
	}
	OK(got);
	CHECK_EQ(all, buffer->length);
}

static void load(enum way way, const struct buffer *buffer)
{
	switch (way) {
	case READ_WRITE:
		load_pieces(buffer, sizeof(buffer->bytes));
		break;
	case SMALL_PIECES:
		load_pieces(buffer, 5);
		break;
	case PEEK_RESERVE:
		load_reserve(buffer);
		break;
	default:
		load_receive(buffer);
		break;
	}
}

static void open_fds(enum way way, struct buffer *buffer)
{
	int pair[2];

	if (way == SOCKET) {
		CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
		buffer->to = pair[0];
		buffer->from = pair[1];
	} else if (way == FILE_FD) {
		buffer->to = memfd_create("stream", MFD_CLOEXEC);
		CHECK(buffer->to >= 0);
		buffer->from = dup(buffer->to);
	}
}

static void end_of_saving(enum way way, const struct buffer *buffer)
{
	if (way == SOCKET)
		CHECK_EQ(shutdown(buffer->to, SHUT_WR), 0);
	if (way == FILE_FD)
		CHECK_EQ(lseek(buffer->from, 0, SEEK_SET), 0);
}

/* END is said as often as it is asked for, and by every call. */
static void stays_at_end(void)
{
	struct vfiomig_chunk chunk;
	unsigned char byte;
	uint32_t flags = 0;

	OK(vfiomig_device_read(source, &byte, 1, &flags, ERR));
	CHECK_EQ(flags, VFIOMIG_CHUNK_END);
	OK(vfiomig_device_peek(source, 0, &chunk, ERR));
	CHECK_EQ(chunk.len, 0);
	CHECK_EQ(chunk.flags, VFIOMIG_CHUNK_END);
}

static void save_device(enum way way, bool precopy, int ports, struct buffer *buffer)
{
	const uint64_t sessions = lab_info(source).session;

	if (precopy) {
		GO(source, VFIOMIG_STATE_PRE_COPY);
		save(way, buffer, VFIOMIG_CHUNK_EMPTY);
		CHECK_EQ(buffer->length, MTTY_HEADER);
		CHECK_EQ(lab_info(source).saved_bytes, MTTY_HEADER);
		/* The device runs and changes: what stop-copy brings is its last state. */
		GO(source, VFIOMIG_STATE_PRE_COPY_P2P);
		save(way, buffer, VFIOMIG_CHUNK_EMPTY);
		CHECK_EQ(buffer->length, MTTY_HEADER);
	}
	GO(source, VFIOMIG_STATE_STOP_COPY);
	RAW_IS(&source_device, VFIOMIG_STATE_STOP_COPY);
	save(way, buffer, VFIOMIG_CHUNK_END);
	stays_at_end();
	CHECK_EQ(buffer->length, MTTY_SIZE(ports));
	CHECK_EQ(lab_info(source).saved_bytes, MTTY_SIZE(ports));
	CHECK_EQ(lab_info(source).session, sessions + 1);
	CHECK_EQ(lab_info(source).session_open, 1);
	GO(source, VFIOMIG_STATE_STOP);
	CHECK_EQ(lab_info(source).session_open, 0);
	CHECK_EQ(lab_info(source).saved_bytes, MTTY_SIZE(ports));
}

static void load_device(enum way way, int ports, const struct buffer *buffer)
{
	const uint64_t sessions = lab_info(target).session;

	GO(target, VFIOMIG_STATE_RESUMING);
	load(way, buffer);
	CHECK_EQ(lab_info(target).loaded_bytes, MTTY_SIZE(ports));
	CHECK_EQ(lab_info(target).session, sessions + 1);
	OK(vfiomig_device_finish(target, lab_info(source).saved_bytes, ERR));
	GO(target, VFIOMIG_STATE_STOP);
	RAW_IS(&target_device, VFIOMIG_STATE_STOP);
	CHECK_EQ(lab_info(target).session_open, 0);
	CHECK_EQ(lab_info(target).loaded_bytes, MTTY_SIZE(ports));
	GO(target, VFIOMIG_STATE_RUNNING_P2P);
	RAW_IS(&target_device, VFIOMIG_STATE_RUNNING_P2P);
	GO(target, VFIOMIG_STATE_RUNNING);
	RAW_IS(&target_device, VFIOMIG_STATE_RUNNING);
}

static void migrate(enum way way, bool precopy, int ports, unsigned int seed)
{
	struct buffer buffer = { .to = -1, .from = -1 };

	lab_step("%s, %d ports%s", way_names[way], ports, precopy ? ", with pre-copy" : "");
	uart_fill(&source_device, ports, seed);
	uart_fill(&target_device, ports, seed + 1000);
	open_fds(way, &buffer);
	save_device(way, precopy, ports, &buffer);
	end_of_saving(way, &buffer);
	load_device(way, ports, &buffer);
	if (buffer.to >= 0)
		close(buffer.to);
	if (buffer.from >= 0)
		close(buffer.from);

	CHECK(uart_holds(&target_device, ports, seed));
	/* Saving took nothing from the source: it may run on. */
	GO(source, VFIOMIG_STATE_RUNNING);
	CHECK(uart_holds(&source_device, ports, seed));
}

/* A chunk that is out in PRE_COPY stays valid into STOP_COPY, and its stream goes on behind it. */
static void chunk_across_states(void)
{
	struct buffer buffer = { .to = -1, .from = -1 };
	struct vfiomig_chunk chunk;

	lab_step("a chunk out from PRE_COPY into STOP_COPY");
	uart_fill(&source_device, 2, 501);
	uart_fill(&target_device, 2, 502);
	GO(source, VFIOMIG_STATE_PRE_COPY);
	OK(vfiomig_device_peek(source, 0, &chunk, ERR));
	CHECK_EQ(chunk.len, MTTY_HEADER);
	GO(source, VFIOMIG_STATE_PRE_COPY_P2P);
	GO(source, VFIOMIG_STATE_STOP_COPY);
	append(&buffer, chunk.data, 10);
	OK(vfiomig_device_consume(source, 10, ERR));
	save(READ_WRITE, &buffer, VFIOMIG_CHUNK_END);
	CHECK_EQ(buffer.length, MTTY_MAX);
	CHECK_EQ(lab_info(source).saved_bytes, MTTY_MAX);
	load_device(READ_WRITE, 2, &buffer);
	CHECK(uart_holds(&target_device, 2, 501));
	GO(source, VFIOMIG_STATE_STOP);
	GO(source, VFIOMIG_STATE_RUNNING);
}

/* The comparison itself must be able to fail. */
static void comparison_is_sharp(int ports)
{
	lab_step("the comparison of UARTs");
	uart_fill(&source_device, ports, 7);
	CHECK(uart_holds(&source_device, ports, 7));
	uart_fill(&source_device, ports, 7);
	CHECK(!uart_holds(&source_device, ports, 8));
}

static void pair(int from, int to, int ports)
{
	lab_open_mdev(&source_device, from);
	lab_open_mdev(&target_device, to);
	source = lab_new(&source_device);
	target = lab_new(&target_device);
	comparison_is_sharp(ports);
	for (int way = 0; way < WAYS; way++) {
		migrate((enum way)way, false, ports, (unsigned int)(way * 2 + ports * 100));
		migrate((enum way)way, true, ports, (unsigned int)(way * 2 + ports * 100 + 1));
	}
	if (ports == 2)
		chunk_across_states();
	vfiomig_device_free(source);
	vfiomig_device_free(target);
	lab_close(&source_device);
	lab_close(&target_device);
}

int main(int argc, char **argv)
{
	lab_begin(argc, argv);
	pair(1, 2, 2);
	pair(3, 4, 1);
	puts("ok");
	return 0;
}
