/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Silent unless a callback is set; with one, whole lines, of known levels, no more than was asked for. */
#include "fake.h"
#include <pthread.h>

static int lines, by_level[16], depth;
static char last[512];
static int max_level;

/* Makes, fails, resets, loses and frees a device: every level has its line. */
static void scenario(const char *name)
{
	struct fake f;
	struct vfiomig_device *d = NULL;
	struct vfiomig_device_ops ops;
	struct vfiomig_device_options options;
	unsigned char buf[100];
	uint32_t flags;

	fake_init(&f);
	fake_ops(&f, &ops);
	VFIOMIG_INIT(&options);
	options.name = name;
	if (vfiomig_device_new_ops(&ops, &f, &options, &d, NULL))
		return;
	vfiomig_device_set_state(d, S_STOP_COPY, 0, 0, NULL);
	f.fault[0] = (struct fake_fault){.call = C_READ, .at = 1, .error = EIO};
	vfiomig_device_read(d, buf, sizeof buf, &flags, NULL);
	f.fault[0] = (struct fake_fault){.call = C_SET, .at = 1, .error = EIO, .effect = E_BREAK};
	vfiomig_device_set_state(d, S_STOP, VFIOMIG_ON_FAILURE_RESET, 0, NULL);
	vfiomig_device_set_state(d, S_ERROR, 0, 0, NULL);
	vfiomig_device_set_state(d, 99, 0, 0, NULL);
	f.state = S_STOP;
	vfiomig_device_set_state(d, S_RUNNING, 0, 0, NULL);
	vfiomig_device_free(d);
	vfiomig_device_free(NULL);
	/* An odd one: a device of the older protocols with more regions than anybody has. */
	f.absent = f.other_region = true;
	if (!vfiomig_device_new_ops(&ops, &f, NULL, &d, NULL))
		vfiomig_device_free(d);
	fake_session_over(&f);
	free(f.in);
}

static void on_log(void *opaque, int level, const char *message)
{
	CHECK(opaque == &lines);
	CHECK(level == VFIOMIG_LOG_ERROR || level == VFIOMIG_LOG_WARNING || level == VFIOMIG_LOG_INFO ||
	      level == VFIOMIG_LOG_DEBUG);
	CHECK(level <= max_level);
	CHECK(message && message[0] && !strchr(message, '\n'));
	lines++;
	by_level[level & 15]++;
	snprintf(last, sizeof last, "%s", message ? message : "");
}

/* A device of a group fails: its caller gets an error object, which has what the one line at ERROR says, and no line
 * calls that odd but handled. */
static void group_fails(void)
{
	struct fake f;
	struct vfiomig_device *d = NULL;
	struct vfiomig_group *g = NULL;
	struct vfiomig_device_ops ops;
	struct vfiomig_error *e = NULL;

	fake_init(&f);
	fake_ops(&f, &ops);
	CHECK_EQ(vfiomig_device_new_ops(&ops, &f, NULL, &d, NULL), 0);
	CHECK_EQ(vfiomig_group_new(NULL, &g, NULL), 0);
	CHECK_EQ(vfiomig_group_add_device(g, d, NULL), 0);
	f.fault[0] = (struct fake_fault){.call = C_SET, .at = 1, .error = EIO};
	CHECK_EQ(vfiomig_group_pause(g, &e), -EIO);
	CHECK(last[0]);
	CHECK_HAS(vfiomig_error_message(e), last);
	vfiomig_error_free(e);
	vfiomig_group_free(g);
	vfiomig_device_free(d);
	free(f.in);
}

/* No lock is held: the callback may use the library, and take itself away. */
static void calls_back(void *opaque, int level, const char *message)
{
	(void)opaque, (void)level, (void)message;
	lines++;
	if (depth++)
		return;
	CHECK(vfiomig_version());
	vfiomig_set_log(calls_back, NULL, VFIOMIG_LOG_DEBUG);
	scenario("inner");
	vfiomig_set_log(NULL, NULL, VFIOMIG_LOG_DEBUG);
}

/* What comes out of stdout and stderr while no callback is set. */
static void silent(void)
{
	int out = dup(1), err = dup(2);
	FILE *file = tmpfile();

	fflush(stdout);
	dup2(fileno(file), 1);
	dup2(fileno(file), 2);
	scenario("quiet");
	dup2(out, 1);
	dup2(err, 2);
	CHECK_EQ(lseek(fileno(file), 0, SEEK_END), 0);
	fclose(file);
	close(out);
	close(err);
}

/* A call from the clean-up of a thread that ends, as QEMU's thread notifiers make them, has no place of its own
 * for lines any more, and works all the same. */
static pthread_key_t key;
static struct vfiomig_device *kept;

static void at_the_end(void *f)
{
	CHECK(((struct fake *)f)->freed == false);
	OK(fake_to(kept, S_STOP));
	(void)ERRP;
}

static void *ends(void *f)
{
	pthread_setspecific(key, f);
	OK(fake_to(kept, S_RUNNING_P2P));
	(void)ERRP;
	return NULL;
}

static void thread_ends(void)
{
	struct fake f;
	pthread_t t;

	fake_init(&f);
	kept = fake_device(&f);
	pthread_key_create(&key, at_the_end);
	pthread_create(&t, NULL, ends, &f);
	pthread_join(t, NULL);
	CHECK_EQ(f.state, S_STOP);
	OK(fake_to(kept, S_RUNNING));
	FAKE_END(&f, kept);
	pthread_key_delete(key);
}

int main(void)
{
	static const int levels[] = {
		-1, 0, VFIOMIG_LOG_ERROR, VFIOMIG_LOG_WARNING, 5, VFIOMIG_LOG_INFO, VFIOMIG_LOG_DEBUG, 100,
	};

	t_begin();
	silent();
	for (size_t i = 0; i < sizeof levels / sizeof *levels; i++) {
		max_level = levels[i];
		lines = 0;
		memset(by_level, 0, sizeof by_level);
		vfiomig_set_log(on_log, &lines, max_level);
		scenario("loud");
		CHECK_EQ(by_level[VFIOMIG_LOG_ERROR] > 0, max_level >= VFIOMIG_LOG_ERROR);
		CHECK_EQ(by_level[VFIOMIG_LOG_INFO] > 0, max_level >= VFIOMIG_LOG_INFO);
		CHECK_EQ(by_level[VFIOMIG_LOG_DEBUG] > 0, max_level >= VFIOMIG_LOG_DEBUG);
	}
	max_level = VFIOMIG_LOG_DEBUG;
	vfiomig_set_log(on_log, &lines, max_level);
	thread_ends();
	/* A name is the caller's, a line is one line. */
	scenario("two\nlines");
	max_level = VFIOMIG_LOG_ERROR;
	vfiomig_set_log(on_log, &lines, max_level);
	scenario("named");
	CHECK_HAS(last, "named");

	max_level = VFIOMIG_LOG_WARNING;
	vfiomig_set_log(on_log, &lines, max_level);
	memset(by_level, 0, sizeof by_level);
	group_fails();
	CHECK_EQ(by_level[VFIOMIG_LOG_ERROR], 1);
	CHECK_EQ(by_level[VFIOMIG_LOG_WARNING], 0);

	vfiomig_set_log(NULL, &lines, VFIOMIG_LOG_DEBUG);
	lines = 0;
	scenario("gone");
	CHECK_EQ(lines, 0);
	vfiomig_set_log(calls_back, NULL, VFIOMIG_LOG_DEBUG);
	scenario("outer");
	CHECK(lines > 3);
	int after = lines;
	scenario("after");
	CHECK_EQ(lines, after);
	silent();
	return t_end();
}
