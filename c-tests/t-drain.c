/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Whole drains of a group: an end must be stated, a stream that can have none fails every call that promises one, the
 * answers of the caller's functions are judged, and descriptors that are not ready hold no call.
 */
#include "fake.h"
#include <pthread.h>
#include <sys/socket.h>

enum { DEVICES = 2, SIZE = 3 << 20 };

static struct fake from[DEVICES], to[DEVICES];
static struct vfiomig_device *from_d[DEVICES], *to_d[DEVICES];
static struct vfiomig_tracker *tracker;
static struct vfiomig_group *source, *target;
static struct vfiomig_migration *save, *load;

static void fill(struct vfiomig_group **g, struct fake *fakes, struct vfiomig_device **devices, size_t size,
	bool backwards)
{
	struct vfiomig_group_options options;

	VFIOMIG_INIT(&options);
	options.max_workers = 1;
	OK(vfiomig_group_new(&options, g, ERRP));
	for (int n = 0; n < DEVICES; n++) {
		int i = backwards ? DEVICES - 1 - n : n;
		struct vfiomig_device_options device;
		struct vfiomig_device_ops ops;
		char name[16];

		fake_init(&fakes[i]);
		fakes[i].pre = size / 2;
		fakes[i].stop = size;
		fake_ops(&fakes[i], &ops);
		VFIOMIG_INIT(&device);
		snprintf(name, sizeof name, "d%d", i);
		device.name = name;
		OK(vfiomig_device_new_ops(&ops, &fakes[i], &device, &devices[i], ERRP));
		OK(vfiomig_group_add_device(*g, devices[i], ERRP));
	}
}

static void begin(uint32_t phase, size_t size)
{
	const struct vfiomig_mapping ram = { .size = 1 << 20 };
	struct vfiomig_tracker_options options;

	fill(&source, from, from_d, size, false);
	fill(&target, to, to_d, size, true);
	VFIOMIG_INIT(&options);
	options.flags = VFIOMIG_TRACKER_F_EVERYTHING;
	OK(vfiomig_tracker_new(&options, &tracker, ERRP));
	/* Without memory no final harvest could be missing. */
	OK(vfiomig_tracker_map(tracker, &ram, 1, ERRP));
	OK(vfiomig_group_add_tracker(source, tracker, ERRP));
	OK(vfiomig_migration_new(source, VFIOMIG_DIRECTION_SAVE, NULL, &save, ERRP));
	OK(vfiomig_migration_new(target, VFIOMIG_DIRECTION_LOAD, NULL, &load, ERRP));
	OK(vfiomig_migration_advance(save, phase, 0, ERRP));
	OK(vfiomig_migration_advance(load, VFIOMIG_PHASE_LOAD_RESUMING, 0, ERRP));
}

static void end(void)
{
	vfiomig_migration_free(save);
	vfiomig_migration_free(load);
	vfiomig_group_free(source);
	vfiomig_group_free(target);
	vfiomig_tracker_free(tracker);
	for (int i = 0; i < DEVICES; i++) {
		FAKE_END(&from[i], from_d[i]);
		FAKE_END(&to[i], to_d[i]);
	}
}

static int swallow(void *opaque, size_t i, const void *data, size_t len, uint32_t flags)
{
	(void)i, (void)data, (void)len, (void)flags;
	return opaque ? *(int *)opaque : 0;
}

/* Brings 100 right bytes of each stream, and then its end, with or without its length. */
static struct feed {
	bool states;
	uint32_t flags;
	uint64_t total;
	size_t at[DEVICES];
	int64_t answer;
} feed_zero;

static int64_t bring(void *opaque, size_t i, void *buf, size_t len, uint32_t *flags, uint64_t *total)
{
	struct feed *f = opaque;
	unsigned char *bytes = buf;

	CHECK(*total != VFIOMIG_UNKNOWN && *total != 0 && *flags == 0);
	*flags = f->flags;
	if (f->answer)
		return f->answer;
	if (f->at[i] == 100) {
		if (f->states)
			*total = f->total;
		return 0;
	}
	CHECK(len >= 100);
	for (size_t n = 0; n < 100; n++)
		bytes[n] = fake_byte(n);
	f->at[i] = 100;
	return 100;
}

/* A caller that forgets the length of a stream gets an error; that it cannot know it is a value. */
static void ends_are_stated(void)
{
	struct feed f = feed_zero;
	struct vfiomig_drain_result results[DEVICES];

	begin(VFIOMIG_PHASE_SAVE_STOP_COPY, 1000);
	FAILS(vfiomig_migration_load_complete(load, DRAIN(.get = bring, .opaque = &f),
					      NULL, 0, ERRP), EINVAL, VFIOMIG_ERR_ARGUMENT);
	CHECK_HAS(vfiomig_error_message(t_error), "VFIOMIG_UNKNOWN");
	FAILS(vfiomig_migration_advance(load, VFIOMIG_PHASE_LOAD_LOADED, 0, ERRP), 0, VFIOMIG_ERR_ORDER);
	f.states = true;
	f.total = 101;
	FAILS(vfiomig_migration_load_complete(load, DRAIN(.get = bring, .opaque = &f),
					      NULL, 0, ERRP), 0, VFIOMIG_ERR_INCOMPLETE);
	f.total = VFIOMIG_UNKNOWN;
	/* What one device has taken in the calls that failed is not counted again. */
	CHECK_EQ(OK(vfiomig_migration_load_complete(load, DRAIN(.get = bring, .opaque = &f),
						    results, DEVICES, ERRP)), 100);
	CHECK_EQ(results[0].bytes + results[1].bytes, 100);
	CHECK_EQ(OK(vfiomig_migration_load_complete(load, DRAIN(.get = bring, .opaque = &f),
						    results, DEVICES, ERRP)), 0);
	for (int i = 0; i < DEVICES; i++)
		CHECK(results[i].bytes == 0 && results[i].flags == VFIOMIG_CHUNK_END && results[i].reserved == 0);
	OK(vfiomig_migration_advance(load, VFIOMIG_PHASE_LOAD_LOADED, 0, ERRP));
	end();
}

/* Answers that are no errno are named in the error as what they are. */
static void answers_are_judged(void)
{
	struct feed f = feed_zero;
	int one = 1, minus_one = -1;

	begin(VFIOMIG_PHASE_SAVE_STOP_COPY, 1000);
	f.answer = -1;
	FAILS(vfiomig_migration_load_complete(load, DRAIN(.get = bring, .opaque = &f),
					      NULL, 0, ERRP), EPERM, VFIOMIG_ERR_SYSTEM);
	CHECK_HAS(vfiomig_error_message(t_error), "get failed: it returned -1");
	f.answer = -ECONNRESET;
	FAILS(vfiomig_migration_load_complete(load, DRAIN(.get = bring, .opaque = &f),
					      NULL, 0, ERRP), ECONNRESET, VFIOMIG_ERR_SYSTEM);
	f.answer = INT64_MIN;
	FAILS(vfiomig_migration_load_complete(load, DRAIN(.get = bring, .opaque = &f),
					      NULL, 0, ERRP), EIO, VFIOMIG_ERR_SYSTEM);
	FAILS(vfiomig_migration_save_complete(save, DRAIN(.put = swallow, .opaque = &one),
					      NULL, 0, ERRP), EIO, VFIOMIG_ERR_SYSTEM);
	CHECK_HAS(vfiomig_error_message(t_error), "put returned 1, which is not 0 or -errno");
	CHECK_EQ(vfiomig_migration_get_phase(save), VFIOMIG_PHASE_FAILED);
	end();
	begin(VFIOMIG_PHASE_SAVE_STOP_COPY, 1000);
	FAILS(vfiomig_migration_save_complete(save, DRAIN(.put = swallow, .opaque = &minus_one),
					      NULL, 0, ERRP), EPERM, VFIOMIG_ERR_SYSTEM);
	CHECK_HAS(vfiomig_error_message(t_error), "put failed: it returned -1");
	end();
}

#define REFUSED(call, text)                                           \
	do {                                                          \
		FAILS(call, EINVAL, VFIOMIG_ERR_ARGUMENT);            \
		CHECK_HAS(vfiomig_error_message(t_error), text);      \
	} while (0)

/* What means nothing is refused, and a descriptor to load from has a length. */
static void requests_are_judged(void)
{
	struct feed f = feed_zero;
	struct vfiomig_channel c[DEVICES];
	int pair[2];

	begin(VFIOMIG_PHASE_SAVE_STOP_COPY, 1000);
	CHECK(!socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair));
	REFUSED(vfiomig_migration_save_iterate(save, NULL, NULL, 0, ERRP), "rq is NULL");
	REFUSED(vfiomig_migration_save_complete(save, NULL, NULL, 0, ERRP), "rq is NULL");
	REFUSED(vfiomig_migration_load_complete(load, NULL, NULL, 0, ERRP), "rq is NULL");
	REFUSED(vfiomig_migration_save_complete(save, DRAIN(.flags = 1, .put = swallow), NULL, 0, ERRP), "flags");
	REFUSED(vfiomig_migration_save_iterate(save, DRAIN(.put = swallow), NULL, 0, ERRP), "both 0");
	REFUSED(vfiomig_migration_save_complete(save, DRAIN(.budget_ns = 1, .put = swallow), NULL, 0, ERRP), "budget");
	REFUSED(vfiomig_migration_save_complete(save, DRAIN(.budget_bytes = 1, .put = swallow), NULL, 0, ERRP), "budget");
	REFUSED(vfiomig_migration_load_complete(load, DRAIN(.budget_ns = 1, .get = bring), NULL, 0, ERRP), "budget");
	REFUSED(vfiomig_migration_save_complete(save, DRAIN(.put = swallow, .get = bring), NULL, 0, ERRP), "get");
	REFUSED(vfiomig_migration_load_complete(load, DRAIN(.put = swallow, .get = bring), NULL, 0, ERRP), "put");
	REFUSED(vfiomig_migration_save_complete(save, DRAIN(.opaque = NULL), NULL, 0, ERRP), "function is NULL");
	for (uint32_t flags = 0; flags < 8; flags++) {
		const bool known = flags == 0 || flags == VFIOMIG_CHANNEL_F_FD;

		for (int i = 0; i < DEVICES; i++)
			c[i] = (struct vfiomig_channel){.fd = pair[0], .flags = flags, .total = VFIOMIG_UNKNOWN};
		if (!known)
			REFUSED(vfiomig_migration_save_complete(
					save, DRAIN(.channels = c, .channel_count = DEVICES, .put = swallow), NULL, 0, ERRP),
				"channels[0]");
		if (flags && flags != (VFIOMIG_CHANNEL_F_FD | VFIOMIG_CHANNEL_F_TOTAL))
			REFUSED(vfiomig_migration_load_complete(
					load, DRAIN(.channels = c, .channel_count = DEVICES, .get = bring), NULL, 0, ERRP),
				"channels[0]");
	}
	/* Bits that are not defined, with bytes and with an end. */
	f.flags = VFIOMIG_CHUNK_SEGMENT_END | VFIOMIG_CHUNK_EMPTY;
	REFUSED(vfiomig_migration_load_complete(load, DRAIN(.get = bring, .opaque = &f), NULL, 0, ERRP), "*flags");
	f.at[0] = f.at[1] = 100;
	f.states = true;
	f.flags = VFIOMIG_CHUNK_END;
	REFUSED(vfiomig_migration_load_complete(load, DRAIN(.get = bring, .opaque = &f), NULL, 0, ERRP), "*flags");
	CHECK_EQ(vfiomig_migration_get_phase(save), VFIOMIG_PHASE_SAVE_STOP_COPY);
	CHECK_EQ(vfiomig_migration_get_phase(load), VFIOMIG_PHASE_LOAD_RESUMING);
	close(pair[0]);
	close(pair[1]);
	end();
}

/* 0 is no bound: each budget alone is enough. */
static void budgets_alone(void)
{
	struct vfiomig_drain_result results[DEVICES];

	for (int timed = 0; timed < 2; timed++) {
		begin(VFIOMIG_PHASE_SAVE_STOP_COPY, 1000);
		CHECK_EQ(OK(vfiomig_migration_save_iterate(save,
							   timed ? DRAIN(.budget_ns = 60000000000, .put = swallow) :
								   DRAIN(.budget_bytes = UINT64_MAX, .put = swallow),
							   results, DEVICES, ERRP)),
			 DEVICES * (long long)fake_total(&from[0]));
		CHECK(results[0].bytes == fake_total(&from[0]) && results[0].flags == VFIOMIG_CHUNK_END);
		end();
	}
}

/* A reset in the middle of a stream, by the library or reported to it (reports/f01, f02). */
static void streams_without_an_end(uint32_t phase, bool complete, bool by_others)
{
	struct vfiomig_migration_pending pending;
	int64_t result;

	begin(phase, 1000);
	OK(vfiomig_migration_save_iterate(save, DRAIN(.budget_bytes = 100, .put = swallow), NULL, 0, ERRP));
	if (by_others) {
		atomic_store(&from[1].state, S_RUNNING);
		OK(vfiomig_device_reprobe(from_d[1], ERRP));
	} else {
		OK(vfiomig_device_reset(from_d[1], ERRP));
	}
	VFIOMIG_INIT(&pending);
	FAILS(vfiomig_migration_get_pending(save, 0, &pending, ERRP), ESTALE, VFIOMIG_ERR_STALE);
	FAILS(vfiomig_migration_get_pending(save, VFIOMIG_PENDING_F_EXACT, &pending, ERRP), ESTALE, VFIOMIG_ERR_STALE);
	if (complete)
		result = vfiomig_migration_save_complete(save, DRAIN(.put = swallow), NULL, 0, ERRP);
	else
		result = vfiomig_migration_save_iterate(save, DRAIN(.budget_bytes = UINT64_MAX, .put = swallow),
							NULL, 0, ERRP);
	FAILS(result, ESTALE, VFIOMIG_ERR_STALE);
	CHECK_HAS(vfiomig_error_message(t_error), "d1");
	CHECK_EQ(vfiomig_migration_get_phase(save), VFIOMIG_PHASE_FAILED);
	end();
}

/* 0 in `flags` says "there is more", and nothing else. */
static void flags_of_a_round(void)
{
	struct vfiomig_drain_result results[DEVICES];

	begin(VFIOMIG_PHASE_SAVE_TRACKING, 1000);
	CHECK_EQ(OK(vfiomig_migration_save_iterate(save, DRAIN(.budget_bytes = 10, .put = swallow),
						   results, DEVICES, ERRP)), 0);
	CHECK(results[0].flags == VFIOMIG_CHUNK_NO_STREAM && results[1].flags == VFIOMIG_CHUNK_NO_STREAM);
	OK(vfiomig_migration_advance(save, VFIOMIG_PHASE_SAVE_PRE_COPY, 0, ERRP));
	/* Never more than the budget, and some of it is used. */
	CHECK_EQ(OK(vfiomig_migration_save_iterate(save, DRAIN(.budget_bytes = 3, .put = swallow),
						   results, DEVICES, ERRP)), 3);
	CHECK(results[0].flags == 0 && results[1].flags == 0);
	OK(vfiomig_migration_save_iterate(save, DRAIN(.budget_bytes = UINT64_MAX, .put = swallow),
					  results, DEVICES, ERRP));
	CHECK(results[0].flags == VFIOMIG_CHUNK_EMPTY && results[1].flags == VFIOMIG_CHUNK_EMPTY);
	OK(vfiomig_migration_advance(save, VFIOMIG_PHASE_SAVE_STOP_COPY, 0, ERRP));
	OK(vfiomig_migration_save_complete(save, DRAIN(.put = swallow), results, DEVICES, ERRP));
	CHECK(results[0].flags == VFIOMIG_CHUNK_END && results[1].flags == VFIOMIG_CHUNK_END);
	end();
}

/* Device by device into HALTED, which needs the final harvest or the caller's word, as for all at once. */
static void halted_one_by_one(void)
{
	struct vfiomig_migration_options options;
	struct vfiomig_migration *none = NULL;
	const uint32_t waived = VFIOMIG_ADVANCE_F_NO_HARVEST;

	begin(VFIOMIG_PHASE_SAVE_STOP_COPY, 1000);
	VFIOMIG_INIT(&options);
	options.flags = 1;
	FAILS(vfiomig_migration_new(source, VFIOMIG_DIRECTION_SAVE, &options, &none, ERRP), EINVAL, VFIOMIG_ERR_ARGUMENT);
	options.argsz = 4;
	FAILS(vfiomig_migration_new(source, VFIOMIG_DIRECTION_SAVE, &options, &none, ERRP), EINVAL, VFIOMIG_ERR_ARGUMENT);
	VFIOMIG_INIT(&options);
	options.queue_bytes = (32 << 10) - 1; /* too little for two devices */
	FAILS(vfiomig_migration_new(source, VFIOMIG_DIRECTION_SAVE, &options, &none, ERRP), EINVAL, VFIOMIG_ERR_ARGUMENT);
	options.queue_bytes = 32 << 10;
	FAILS(vfiomig_migration_new(source, VFIOMIG_DIRECTION_SAVE, &options, &none, ERRP), 0, VFIOMIG_ERR_ORDER);
	options.argsz = 8; /* as a program has it that knows no queue_bytes */
	FAILS(vfiomig_migration_new(source, VFIOMIG_DIRECTION_SAVE, &options, &none, ERRP), 0, VFIOMIG_ERR_ORDER);
	CHECK(!none);
	OK(vfiomig_migration_save_complete(save, DRAIN(.put = swallow), NULL, 0, ERRP));
	FAILS(vfiomig_migration_advance_device(save, from_d[0], VFIOMIG_PHASE_SAVE_HALTED, 0, ERRP), 0, VFIOMIG_ERR_ORDER);
	FAILS(vfiomig_migration_advance_device(save, from_d[0], VFIOMIG_PHASE_SAVE_HALTED, 2, ERRP), EINVAL,
	      VFIOMIG_ERR_ARGUMENT);
	FAILS(vfiomig_migration_advance_device(load, to_d[0], VFIOMIG_PHASE_LOAD_LOADED, waived, ERRP), EINVAL,
	      VFIOMIG_ERR_ARGUMENT);
	for (int i = 0; i < DEVICES; i++) {
		CHECK_EQ(vfiomig_migration_get_phase(save), VFIOMIG_PHASE_SAVE_STOP_COPY);
		OK(vfiomig_migration_advance_device(save, from_d[i], VFIOMIG_PHASE_SAVE_HALTED, waived, ERRP));
	}
	CHECK_EQ(vfiomig_migration_get_phase(save), VFIOMIG_PHASE_SAVE_HALTED);
	end();
}

static void *drain(void *channels)
{
	OK(vfiomig_migration_save_complete(save, DRAIN(.channels = channels, .channel_count = DEVICES), NULL, 0, ERRP));
	vfiomig_error_free(t_error);
	t_error = NULL;
	return NULL;
}

/* One worker on each side, groups that were filled in different orders, and no device's stream fits its socket. */
static void descriptors_in_any_order(void)
{
	struct vfiomig_channel out[DEVICES], in[DEVICES];
	struct vfiomig_drain_result results[DEVICES];
	int pair[2];
	pthread_t other;

	begin(VFIOMIG_PHASE_SAVE_STOP_COPY, SIZE);
	for (int i = 0; i < DEVICES; i++) {
		CHECK(!socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair));
		out[i] = (struct vfiomig_channel){.fd = pair[0], .flags = VFIOMIG_CHANNEL_F_FD};
		in[DEVICES - 1 - i] = (struct vfiomig_channel){
			.fd = pair[1], .flags = VFIOMIG_CHANNEL_F_FD | VFIOMIG_CHANNEL_F_TOTAL, .total = fake_total(&from[i])};
	}
	pthread_create(&other, NULL, drain, out);
	CHECK_EQ(OK(vfiomig_migration_load_complete(load, DRAIN(.channels = in, .channel_count = DEVICES),
						    results, DEVICES, ERRP)),
		 DEVICES * (long long)fake_total(&from[0]));
	CHECK(results[1].bytes == fake_total(&from[0]) && results[1].flags == VFIOMIG_CHUNK_END);
	pthread_join(other, NULL);
	for (int i = 0; i < DEVICES; i++) {
		close(out[i].fd);
		close(in[i].fd);
	}
	end();
}

/* A peer that stalls ends a round with its time, and a cancel ends a drain. */
static void *stop(void *unused)
{
	usleep(100000);
	vfiomig_migration_cancel(save);
	return unused;
}

static void stalled_peer(void)
{
	struct vfiomig_channel out[DEVICES];
	struct vfiomig_drain_result results[DEVICES];
	int pair[DEVICES][2];
	pthread_t other;

	begin(VFIOMIG_PHASE_SAVE_PRE_COPY, SIZE);
	for (int i = 0; i < DEVICES; i++) {
		CHECK(!(i ? pipe2(pair[i], O_CLOEXEC) : socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair[i])));
		out[i] = (struct vfiomig_channel){.fd = pair[i][1], .flags = VFIOMIG_CHANNEL_F_FD};
	}
	OK(vfiomig_migration_save_iterate(save,
					  DRAIN(.budget_ns = 500000000, .channels = out, .channel_count = DEVICES),
					  results, DEVICES, ERRP));
	CHECK(results[0].bytes && results[1].bytes && !results[0].flags && !results[1].flags);
	OK(vfiomig_migration_advance(save, VFIOMIG_PHASE_SAVE_STOP_COPY, 0, ERRP));
	pthread_create(&other, NULL, stop, NULL);
	FAILS(vfiomig_migration_save_complete(save, DRAIN(.channels = out, .channel_count = DEVICES),
					      NULL, 0, ERRP), ECANCELED, VFIOMIG_ERR_CANCELED);
	pthread_join(other, NULL);
	for (int i = 0; i < DEVICES; i++) {
		close(pair[i][0]);
		close(pair[i][1]);
	}
	end();
}

int main(void)
{
	t_begin();
	ends_are_stated();
	answers_are_judged();
	requests_are_judged();
	budgets_alone();
	for (int others = 0; others < 2; others++) {
		streams_without_an_end(VFIOMIG_PHASE_SAVE_PRE_COPY, false, others);
		streams_without_an_end(VFIOMIG_PHASE_SAVE_STOP_COPY, false, others);
		streams_without_an_end(VFIOMIG_PHASE_SAVE_STOP_COPY, true, others);
	}
	flags_of_a_round();
	halted_one_by_one();
	descriptors_in_any_order();
	stalled_peer();
	return t_end();
}
