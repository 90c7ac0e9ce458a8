/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Whole migrations between test devices, by every pair of calls. See testdev.h. */
#include "testdev.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define PIECE 40000	/* of a read, no divisor of any segment */
#define SEND_MOST 30000 /* fits a socket's buffer: nobody reads meanwhile */

const char *const way_names[WAYS] = { "read/write", "peek/reserve", "socket" };

/* Counts the end of a segment; whether there were enough of them. */
static bool segment_ended(struct traffic *traffic, uint32_t flags)
{
	if (!(flags & VFIOMIG_CHUNK_SEGMENT_END))
		return false;
	traffic->segments++;
	return traffic->segments == traffic->most;
}

static uint32_t copy(struct vfiomig_device *from, struct vfiomig_device *to, struct traffic *traffic)
{
	static unsigned char buf[PIECE];
	uint32_t flags = 0;
	int64_t got;

	for (;;) {
		got = vfiomig_device_read(from, buf, sizeof(buf), &flags, ERR);
		if (got <= 0) {
			OK(got);
			return flags;
		}
		CHECK_EQ(flags & ~VFIOMIG_CHUNK_SEGMENT_END, 0);
		OK_BYTES(vfiomig_device_write(to, buf, (size_t)got, flags, ERR), got);
		if (segment_ended(traffic, flags))
			return 0;
	}
}

static uint32_t lend(struct vfiomig_device *from, struct vfiomig_device *to, struct traffic *traffic)
{
	struct vfiomig_chunk chunk;

	for (unsigned int turn = 1;; turn++) {
		uint64_t left;
		size_t room = 0, part;
		uint32_t flags;
		void *at = NULL;

		OK(vfiomig_device_peek(from, turn % 2 ? 0 : PIECE, &chunk, ERR));
		if (!chunk.len) {
			CHECK(!chunk.data);
			return chunk.flags;
		}
		left = chunk.segment_left;
		CHECK_EQ(!!(chunk.flags & VFIOMIG_CHUNK_SEGMENT_END), chunk.len == left);
		if (chunk.flags & VFIOMIG_CHUNK_DEVICE_MEM)
			traffic->mapped++;
		OK(vfiomig_device_reserve(to, left, &at, &room, ERR));
		CHECK(room > 0);
		part = chunk.len < room ? chunk.len : room;
		if (turn % 3 == 0)
			part = (part + 1) / 2;
		memcpy(at, chunk.data, part);
		flags = part == left ? VFIOMIG_CHUNK_SEGMENT_END : 0;
		OK(vfiomig_device_commit(to, part, flags, ERR));
		OK(vfiomig_device_consume(from, part, ERR));
		if (segment_ended(traffic, flags))
			return 0;
	}
}

/* What one send wrote, into the device; `flags` go with the last byte. */
static void receive(struct vfiomig_device *to, int fd, uint64_t bytes, uint32_t flags)
{
	while (bytes > 0) {
		int64_t got = vfiomig_device_receive(to, fd, bytes, flags, ERR);

		CHECK(got > 0 && (uint64_t)got <= bytes);
		bytes -= (uint64_t)got;
	}
}

/* V1-10: a segment arrives as it was; its length goes over the wire before it. */
static uint64_t length_over_wire(const int fds[2], uint64_t length)
{
	CHECK_EQ(write(fds[0], &length, sizeof(length)), sizeof(length));
	length = 0;
	CHECK_EQ(read(fds[1], &length, sizeof(length)), sizeof(length));
	return length;
}

static uint32_t over_socket(struct vfiomig_device *from, struct vfiomig_device *to, const int fds[2],
			    struct traffic *traffic)
{
	struct vfiomig_chunk chunk;
	uint32_t flags = 0;
	uint64_t left;
	int64_t sent;

	for (;;) {
		OK(vfiomig_device_peek(from, 0, &chunk, ERR));
		if (!chunk.len)
			return chunk.flags;
		OK(vfiomig_device_consume(from, 0, ERR));
		left = length_over_wire(fds, chunk.segment_left);
		/* On v2 there are no segments, and what was lent is as good a length. */
		if (left == VFIOMIG_UNKNOWN)
			left = chunk.len;
		while (left > 0) {
			size_t most = left < SEND_MOST ? left : SEND_MOST;

			sent = vfiomig_device_send(from, fds[0], most, &flags, ERR);
			CHECK(sent > 0 && (uint64_t)sent <= left);
			receive(to, fds[1], (uint64_t)sent, flags);
			left -= (uint64_t)sent;
			if (chunk.segment_left != VFIOMIG_UNKNOWN)
				CHECK_EQ(!!(flags & VFIOMIG_CHUNK_SEGMENT_END), !left);
		}
		if (segment_ended(traffic, flags))
			return 0;
	}
}

uint32_t pump(struct testdev *from, struct testdev *to, enum way way, struct traffic *traffic)
{
	uint32_t flags;
	int fds[2];

	switch (way) {
	case COPY:
		return copy(from->d, to->d, traffic);
	case LEND:
		return lend(from->d, to->d, traffic);
	default:
		CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
		flags = over_socket(from->d, to->d, fds, traffic);
		close(fds[0]);
		close(fds[1]);
		return flags;
	}
}

void save_is_stale(struct testdev *from)
{
	struct vfiomig_chunk chunk;
	unsigned char byte;
	uint32_t flags = 0;

	FAILS(vfiomig_device_read(from->d, &byte, 1, &flags, ERR), STALE, ESTALE);
	FAILS(vfiomig_device_peek(from->d, 0, &chunk, ERR), STALE, ESTALE);
	FAILS(vfiomig_device_consume(from->d, 1, ERR), STALE, ESTALE);
	FAILS(vfiomig_device_send(from->d, STDERR_FILENO, 0, &flags, ERR), STALE, ESTALE);
}

void fill_both(struct testdev *from, struct testdev *to)
{
	static uint32_t seed;

	testdev_set(from, TESTDEV_FILL, ++seed);
	testdev_set(to, TESTDEV_FILL, seed + 0x10000);
	CHECK(testdev_get(from, TESTDEV_CRC) != testdev_get(to, TESTDEV_CRC));
}

/* Parts that change once they were saved: enough to be seen, the last never among them. */
#define DIRTY_RUNNING 3u
#define DIRTY_STOPPED 2u

struct traffic save_to_end(struct testdev *from, struct testdev *to, enum way way)
{
	const bool again = from->precopy && from->offered >= DIRTY_RUNNING;
	const uint64_t whole = testdev_segments(from);
	const bool has_segments = lab_info(from->d).dialect != VFIOMIG_DIALECT_V2;
	const uint64_t extra = again ? DIRTY_RUNNING + DIRTY_STOPPED : 0;
	struct traffic traffic = { 0 };

	CHECK(whole > DIRTY_RUNNING);
	if (from->precopy) {
		GO(from->d, VFIOMIG_STATE_PRE_COPY);
		CHECK_EQ(pump(from, to, way, &traffic), VFIOMIG_CHUNK_EMPTY);
		if (has_segments)
			CHECK_EQ(traffic.segments, from->offered);
		testdev_dirty(from, DIRTY_RUNNING);
		CHECK_EQ(pump(from, to, way, &traffic), VFIOMIG_CHUNK_EMPTY);
		testdev_dirty(from, DIRTY_STOPPED);
		if (from->p2p) {
			GO(from->d, VFIOMIG_STATE_PRE_COPY_P2P);
			STATE_IS(from, VFIOMIG_STATE_PRE_COPY_P2P);
			CHECK_EQ(pump(from, to, way, &traffic), VFIOMIG_CHUNK_EMPTY);
		}
	}
	GO(from->d, VFIOMIG_STATE_STOP_COPY);
	STATE_IS(from, VFIOMIG_STATE_STOP_COPY);
	CHECK_EQ(pump(from, to, way, &traffic), VFIOMIG_CHUNK_END);
	CHECK_EQ(pump(from, to, way, &traffic), VFIOMIG_CHUNK_END);
	CHECK_EQ(traffic.segments, has_segments ? whole + extra : 0);
	CHECK_EQ(lab_info(from->d).saved_bytes,
		 from->state + whole * TESTDEV_HEADER + extra * from->segment);
	GO(from->d, VFIOMIG_STATE_STOP);
	STATE_IS(from, VFIOMIG_STATE_STOP);
	return traffic;
}

void finish_load(struct testdev *from, struct testdev *to)
{
	const uint64_t total = lab_info(from->d).saved_bytes;
	static unsigned int turn;

	CHECK_EQ(lab_info(to->d).loaded_bytes, total);
	/* F7: a stream of another length is never a loaded device. */
	FAILS(vfiomig_device_finish(to->d, total + 1, ERR), INCOMPLETE, 0);
	OK(vfiomig_device_finish(to->d, total, ERR));
	/* By both ways, in turn. */
	if (to->p2p && turn++ % 3) {
		GO(to->d, VFIOMIG_STATE_RUNNING_P2P);
		STATE_IS(to, VFIOMIG_STATE_RUNNING_P2P);
	}
	GO(to->d, VFIOMIG_STATE_RUNNING);
	STATE_IS(to, VFIOMIG_STATE_RUNNING);
}

struct traffic migrate(struct testdev *from, struct testdev *to, enum way way)
{
	struct traffic traffic;

	fill_both(from, to);
	GO(to->d, VFIOMIG_STATE_RESUMING);
	traffic = save_to_end(from, to, way);
	finish_load(from, to);
	CHECK_EQ(testdev_get(to, TESTDEV_CRC), testdev_get(from, TESTDEV_CRC_NOW));
	CLEAN(from);
	CLEAN(to);
	GO(from->d, VFIOMIG_STATE_RUNNING);
	STATE_IS(from, VFIOMIG_STATE_RUNNING);
	CHECK_EQ(testdev_get(to, TESTDEV_CRC), testdev_get(from, TESTDEV_CRC));
	return traffic;
}
