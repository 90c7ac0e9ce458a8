/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The wire (docs/wire.md): what a writer makes a reader gives, a wire that was cut or of which a bit flipped is refused
 * in words, and a channel that is not ready loses nothing. Whole groups: t-wire-group.c.
 */
#include "fake-channel.h"
#include <fcntl.h>
#include <sys/socket.h>

static struct pipe channel;

static const struct vfiomig_wire_word words[] = {{"vendor", "8086"}, {"firmware", "2.1"}};
static const struct vfiomig_wire_device devices[] = {
	{"nic0", VFIOMIG_DIALECT_V2, 0, words, 2},
	{"gpu0", VFIOMIG_DIALECT_V1, 0, NULL, 0},
};

static struct vfiomig_writer *writer_to(struct pipe *p)
{
	struct vfiomig_writer_options o;
	struct vfiomig_writer *w = NULL;

	VFIOMIG_INIT(&o);
	o.write = put;
	o.opaque = p;
	o.devices = devices;
	o.device_count = 2;
	OK(vfiomig_writer_new(NULL, &o, &w, ERRP));
	return w;
}

/* Calls again while the channel is not ready. */
#define AGAIN(call)                                                                     \
	do {                                                                            \
		int result_;                                                            \
		while ((result_ = (call)) == -EAGAIN)                                   \
			CHECK_EQ(vfiomig_error_code(t_error), VFIOMIG_ERR_SYSTEM);      \
		OK(result_);                                                            \
	} while (0)

static void write_all(struct pipe *p)
{
	struct vfiomig_writer *w = writer_to(p);

	AGAIN(vfiomig_writer_vmm(w, VFIOMIG_RECORD_NO_DEVICE, 7, "ram", 3, ERRP));
	AGAIN(vfiomig_writer_data(w, 1, "seg", 3, 0, ERRP));
	AGAIN(vfiomig_writer_data(w, 0, "old", 3, 0, ERRP));
	AGAIN(vfiomig_writer_void(w, 0, ERRP));
	AGAIN(vfiomig_writer_data(w, 1, "ment", 4, VFIOMIG_CHUNK_SEGMENT_END, ERRP));
	AGAIN(vfiomig_writer_end(w, 1, 7, ERRP));
	FAILS(vfiomig_writer_end(w, 0, 5, ERRP), 0, VFIOMIG_ERR_ORDER);
	CHECK_HAS(vfiomig_error_message(t_error), "total: 5 bytes, but 0 are on the wire");
	if (!p->nervous)
		FAILS(vfiomig_writer_data(w, 0, "x", 1, VFIOMIG_CHUNK_SEGMENT_END, ERRP), 0, VFIOMIG_ERR_ORDER);
	AGAIN(vfiomig_writer_data(w, 0, "state", 5, 0, ERRP));
	AGAIN(vfiomig_writer_end(w, 0, 5, ERRP));
	AGAIN(vfiomig_writer_finish(w, ERRP));
	AGAIN(vfiomig_writer_flush(w, ERRP));
	FAILS(vfiomig_writer_vmm(w, 0, 0, NULL, 0, ERRP), 0, VFIOMIG_ERR_ORDER);
	CHECK_HAS(vfiomig_error_message(t_error), "has had its last record");
	vfiomig_writer_free(w);
}

static void is(const struct vfiomig_record *got, uint32_t record, uint32_t device, uint64_t position, const char *bytes,
	uint32_t flags)
{
	CHECK_EQ(got->record, record);
	CHECK_EQ(got->device_index, device);
	CHECK_EQ(got->position, position);
	CHECK_EQ(got->flags, flags);
	CHECK_EQ(got->len, strlen(bytes));
	CHECK((got->data == NULL) == (got->len == 0) && got->reserved == 0);
	CHECK(got->len == 0 || !memcmp(got->data, bytes, got->len));
}

static void what_is_written_comes_back(void)
{
	static const size_t mosts[] = {0, 1, 7, 50};
	const uint32_t none = VFIOMIG_RECORD_NO_DEVICE, end = VFIOMIG_CHUNK_SEGMENT_END;

	for (size_t i = 0; i < 2 * sizeof mosts / sizeof *mosts; i++) {
		struct vfiomig_wire_device device;
		struct vfiomig_record got;
		struct vfiomig_reader *r;

		memset(&channel, 0, sizeof channel);
		channel.most = mosts[i / 2];
		channel.nervous = i % 2;
		write_all(&channel);
		r = reader_of(&channel);
		CHECK_EQ(vfiomig_reader_get_device_count(r), 0);
		FAILS(vfiomig_reader_get_device(r, 0, &device, ERRP), 0, VFIOMIG_ERR_ORDER);
#define NEXT(...)                                              \
	do {                                                   \
		AGAIN(vfiomig_reader_next(r, &got, ERRP));     \
		is(&got, __VA_ARGS__);                         \
	} while (0)
		NEXT(VFIOMIG_RECORD_TABLE, none, 0, "", 0);
		NEXT(VFIOMIG_RECORD_VMM, none, 7, "ram", 0);
		NEXT(VFIOMIG_RECORD_DATA, 1, 0, "seg", 0);
		NEXT(VFIOMIG_RECORD_DATA, 0, 0, "old", 0);
		NEXT(VFIOMIG_RECORD_VOID, 0, 3, "", 0);
		NEXT(VFIOMIG_RECORD_DATA, 1, 3, "ment", end);
		NEXT(VFIOMIG_RECORD_END, 1, 7, "", 0);
		NEXT(VFIOMIG_RECORD_DATA, 0, 0, "state", 0);
		NEXT(VFIOMIG_RECORD_END, 0, 5, "", 0);
		NEXT(VFIOMIG_RECORD_FINISH, none, 0, "", 0);
		NEXT(VFIOMIG_RECORD_FINISH, none, 0, "", 0);
		CHECK_EQ(vfiomig_reader_get_device_count(r), 2);
		OK(vfiomig_reader_get_device(r, 0, &device, ERRP));
		CHECK(!strcmp(device.name, "nic0") && device.dialect == VFIOMIG_DIALECT_V2 && device.word_count == 2);
		CHECK(!strcmp(device.words[1].key, "firmware") && !strcmp(device.words[1].value, "2.1"));
		FAILS(vfiomig_reader_get_device(r, 2, &device, ERRP), 0, VFIOMIG_ERR_ARGUMENT);
		vfiomig_reader_free(r);
	}
}

/* 1 if it was whole, 0 with the error in t_error. */
static int reads(struct pipe *p)
{
	struct vfiomig_reader *r = reader_of(p);
	struct vfiomig_record got = {0};
	int result = 0;

	while (got.record != VFIOMIG_RECORD_FINISH && (result = vfiomig_reader_next(r, &got, ERRP)) == 0)
		;
	if (result < 0) {
		int first = vfiomig_error_errno(t_error);

		/* The first fault is the last. */
		CHECK_EQ(vfiomig_reader_next(r, &got, ERRP), result);
		CHECK_EQ(vfiomig_error_errno(t_error), first);
	}
	vfiomig_reader_free(r);
	return result == 0;
}

static void what_is_not_whole_is_refused(void)
{
	memset(&channel, 0, sizeof channel);
	write_all(&channel);
	const size_t len = channel.len;

	CHECK(reads(&channel));
	for (channel.len = 0; channel.len < len; channel.len++) {
		CHECK(!reads(&channel));
		CHECK_EQ(vfiomig_error_code(t_error), VFIOMIG_ERR_INCOMPLETE);
		CHECK_HAS(vfiomig_error_message(t_error), "the wire was cut");
	}
	/* Every bit: tests/wire/main.rs. */
	for (size_t bit = 0; bit < len * 8; bit += 7) {
		channel.bytes[bit / 8] ^= (unsigned char)(1 << bit % 8);
		CHECK(!reads(&channel));
		CHECK(vfiomig_error_code(t_error) == VFIOMIG_ERR_PROTOCOL ||
		      vfiomig_error_code(t_error) == VFIOMIG_ERR_UNSUPPORTED);
		channel.bytes[bit / 8] ^= (unsigned char)(1 << bit % 8);
	}
	CHECK(reads(&channel));
}

static void a_source_that_gives_up_says_why(void)
{
	memset(&channel, 0, sizeof channel);
	struct vfiomig_writer *w = writer_to(&channel);

	FAILS(vfiomig_writer_fail(w, NULL, ERRP), 0, VFIOMIG_ERR_ARGUMENT);
	OK(vfiomig_writer_fail(w, "the disk is full", ERRP));
	vfiomig_writer_free(w);
	CHECK(!reads(&channel));
	CHECK_EQ(vfiomig_error_errno(t_error), ECONNABORTED);
	CHECK_HAS(vfiomig_error_message(t_error), "the source side gave up: the disk is full");
}

static void descriptors_have_their_time(void)
{
	struct vfiomig_reader_options ro;
	struct vfiomig_writer_options wo;
	struct vfiomig_reader *r = NULL;
	struct vfiomig_writer *w = NULL;
	struct vfiomig_record got;
	static unsigned char much[1 << 20];
	int fds[2], result = 0;

	CHECK(!socketpair(AF_UNIX, SOCK_STREAM, 0, fds));
	VFIOMIG_INIT(&ro);
	ro.flags = VFIOMIG_READER_F_FD;
	ro.fd = fds[0];
	ro.timeout_ms = 50;
	OK(vfiomig_reader_new(&ro, &r, ERRP));
	FAILS(vfiomig_reader_next(r, &got, ERRP), ETIMEDOUT, VFIOMIG_ERR_SYSTEM);
	vfiomig_reader_free(r);
	/* The time for all of it is over, whatever comes; and it is the end of the channel. */
	ro.timeout_ms = 0;
	ro.deadline_ms = 50;
	OK(vfiomig_reader_new(&ro, &r, ERRP));
	CHECK_EQ(write(fds[1], "\x89", 1), 1);
	FAILS(vfiomig_reader_next(r, &got, ERRP), ETIMEDOUT, VFIOMIG_ERR_SYSTEM);
	CHECK_HAS(vfiomig_error_message(t_error), "the time for the whole wire is over");
	CHECK_EQ(write(fds[1], "VFIOW", 5), 5);
	FAILS(vfiomig_reader_next(r, &got, ERRP), ETIMEDOUT, VFIOMIG_ERR_SYSTEM);
	vfiomig_reader_free(r);
	ro.timeout_ms = 50;
	ro.deadline_ms = 0;
	CHECK_EQ(read(fds[0], much, sizeof much), 5);
	/* In non-blocking mode nothing waits, and it is no end. */
	CHECK(!fcntl(fds[0], F_SETFL, O_NONBLOCK));
	OK(vfiomig_reader_new(&ro, &r, ERRP));
	FAILS(vfiomig_reader_next(r, &got, ERRP), EAGAIN, VFIOMIG_ERR_SYSTEM);
	VFIOMIG_INIT(&wo);
	wo.flags = VFIOMIG_WRITER_F_FD;
	wo.fd = fds[1];
	wo.timeout_ms = 50;
	OK(vfiomig_writer_new(NULL, &wo, &w, ERRP));
	OK(vfiomig_writer_flush(w, ERRP));
	OK(vfiomig_reader_next(r, &got, ERRP));
	CHECK_EQ(got.record, VFIOMIG_RECORD_TABLE);
	for (int i = 0; i < 64 && result == 0; i++)
		result = vfiomig_writer_vmm(w, VFIOMIG_RECORD_NO_DEVICE, 0, much, sizeof much, ERRP);
	CHECK_EQ(result, -ETIMEDOUT);
	FAILS(vfiomig_writer_flush(w, ERRP), ETIMEDOUT, VFIOMIG_ERR_SYSTEM);
	vfiomig_writer_free(w);
	close(fds[1]);
	vfiomig_reader_free(r);
	/* They are borrowed. */
	CHECK(fcntl(fds[0], F_GETFD) >= 0);
	close(fds[0]);
}

static struct vfiomig_writer *own;
static int64_t calls_itself(void *opaque, const void *data, size_t len)
{
	struct vfiomig_error *error = NULL;

	(void)data;
	CHECK_EQ(vfiomig_writer_flush(own, &error), -EDEADLK);
	CHECK_EQ(vfiomig_error_code(error), VFIOMIG_ERR_BUSY);
	vfiomig_error_free(error);
	vfiomig_writer_free(own); /* logs, and frees nothing */
	return opaque ? (int64_t)len + 1 : (int64_t)len;
}

static void wrong_parameters(void)
{
	struct vfiomig_writer_options o;
	struct vfiomig_reader_options ro;
	struct vfiomig_writer *w = NULL;
	struct vfiomig_reader *r = NULL;
	struct vfiomig_record got;
	const struct vfiomig_wire_device twice[] = {devices[0], devices[0]}, none = {"x", VFIOMIG_DIALECT_NONE, 0, NULL, 0};

	VFIOMIG_INIT(&o);
	VFIOMIG_INIT(&ro);
	FAILS(vfiomig_writer_new(NULL, NULL, &w, ERRP), 0, VFIOMIG_ERR_ARGUMENT);
	FAILS(vfiomig_writer_new(NULL, &o, NULL, ERRP), 0, VFIOMIG_ERR_ARGUMENT);
	FAILS(vfiomig_writer_new(NULL, &o, &w, ERRP), 0, VFIOMIG_ERR_ARGUMENT);
	o.write = put;
	o.opaque = &channel;
	o.flags = VFIOMIG_WRITER_F_FD;
	FAILS(vfiomig_writer_new(NULL, &o, &w, ERRP), 0, VFIOMIG_ERR_ARGUMENT);
	o.flags = 0;
	o.device_count = 2;
	FAILS(vfiomig_writer_new(NULL, &o, &w, ERRP), 0, VFIOMIG_ERR_ARGUMENT);
	o.devices = twice;
	FAILS(vfiomig_writer_new(NULL, &o, &w, ERRP), 0, VFIOMIG_ERR_ARGUMENT);
	CHECK_HAS(vfiomig_error_message(t_error), "two devices have the name \"nic0\"");
	o.devices = &none;
	o.device_count = 1;
	FAILS(vfiomig_writer_new(NULL, &o, &w, ERRP), 0, VFIOMIG_ERR_ARGUMENT);
	o.devices = devices;
	o.channel = 1;
	FAILS(vfiomig_writer_new(NULL, &o, &w, ERRP), 0, VFIOMIG_ERR_ARGUMENT);
	o.channels = 65;
	FAILS(vfiomig_writer_new(NULL, &o, &w, ERRP), 0, VFIOMIG_ERR_ARGUMENT);
	o.channel = o.channels = 0;
	CHECK(!w);
	memset(&channel, 0, sizeof channel);
	OK(vfiomig_writer_new(NULL, &o, &w, ERRP));
	FAILS(vfiomig_writer_data(w, 1, "x", 1, 0, ERRP), 0, VFIOMIG_ERR_ARGUMENT);
	FAILS(vfiomig_writer_data(w, 0, NULL, 1, 0, ERRP), 0, VFIOMIG_ERR_ARGUMENT);
	FAILS(vfiomig_writer_data(w, 0, "x", 0, 0, ERRP), 0, VFIOMIG_ERR_ARGUMENT);
	FAILS(vfiomig_writer_data(w, 0, "x", 1, 1, ERRP), 0, VFIOMIG_ERR_ARGUMENT);
	FAILS(vfiomig_writer_data(w, 0, "x", (1 << 20) + 1, 0, ERRP), 0, VFIOMIG_ERR_ARGUMENT);
	FAILS(vfiomig_writer_vmm(w, 1, 0, "x", 1, ERRP), 0, VFIOMIG_ERR_ARGUMENT);
	vfiomig_writer_free(w);
	vfiomig_writer_free(NULL);
	vfiomig_reader_free(NULL);
	FAILS(vfiomig_reader_new(NULL, &r, ERRP), 0, VFIOMIG_ERR_ARGUMENT);
	FAILS(vfiomig_reader_new(&ro, &r, ERRP), 0, VFIOMIG_ERR_ARGUMENT);
	ro.flags = VFIOMIG_READER_F_FD;
	ro.fd = -1;
	FAILS(vfiomig_reader_new(&ro, &r, ERRP), EBADF, VFIOMIG_ERR_ARGUMENT);
	FAILS(vfiomig_reader_next(NULL, &got, ERRP), 0, VFIOMIG_ERR_ARGUMENT);
	CHECK_EQ(vfiomig_reader_get_device_count(NULL), 0);
	r = reader_of(&channel);
	FAILS(vfiomig_reader_next(r, NULL, ERRP), 0, VFIOMIG_ERR_ARGUMENT);
	vfiomig_reader_free(r);

	/* From its own function; and what that answers is judged. */
	o.write = calls_itself;
	o.opaque = NULL;
	OK(vfiomig_writer_new(NULL, &o, &own, ERRP));
	OK(vfiomig_writer_flush(own, ERRP));
	vfiomig_writer_free(own);
	o.opaque = &o;
	OK(vfiomig_writer_new(NULL, &o, &own, ERRP));
	FAILS(vfiomig_writer_flush(own, ERRP), 0, VFIOMIG_ERR_ARGUMENT);
	vfiomig_writer_free(own);
}

int main(void)
{
	t_begin();
	what_is_written_comes_back();
	what_is_not_whole_is_refused();
	a_source_that_gives_up_says_why();
	descriptors_have_their_time();
	wrong_parameters();
	return t_end();
}
