/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Which system calls the library makes, group of functions by group: a process that uses it is traced, and each call is
 * looked up in docs/system-calls.md, from which VMMs make their filters (syscalls.inc has its table). One that is not
 * there fails the test. What only a real device is asked for is not seen here.
 *
 * variants: plain
 */
#include "fake-channel.h"
#include "fake-log.h"
#include "fake.h"
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>

/* A group begins, or the time between two, with a call that the library never makes. */
enum group { BETWEEN, LIBRARY, DEVICES, STREAMS, TRACKERS, MIGRATIONS, WIRES, CONNECTIONS, GROUPS };
static const char *const names[GROUPS] = {
	"between", "library", "devices", "streams", "trackers", "groups and migrations", "wires", "connections",
};
#define MARK 0x7666696f
static void now(enum group group)
{
	errno = 0;
	syscall(SYS_getpriority, MARK, group);
}
#define IN(group, ...) do { now(group); { __VA_ARGS__; } now(BETWEEN); } while (0)

static const struct allowed {
	const char *group;
	long number;
	const char *name;
} allowed[] = {
#define CALL(group, name) {group, SYS_##name, #name},
#include "syscalls.inc"
#undef CALL
};

static struct fake f[2];
static struct vfiomig_device *d[2];

/* A device whose data fd is `fd`, which the library closes. */
static void device_of(int i, int fd)
{
	struct vfiomig_device_ops ops;
	struct vfiomig_device_options o;

	fake_init(&f[i]);
	f[i].real_fd = true;
	fake_ops(&f[i], &ops);
	f[i].real_fd = false;
	f[i].other_fd = fd;
	f[i].no_size = true;
	ops.flags = VFIOMIG_OPS_F_ANY_THREAD;
	VFIOMIG_INIT(&o);
	o.name = i ? "second" : "first";
	IN(DEVICES, OK(vfiomig_device_new_ops(&ops, &f[i], &o, &d[i], ERRP)));
}

static int file_of(size_t size)
{
	static const unsigned char bytes[5000];
	const int fd = fake_memfd();

	CHECK_EQ(pwrite(fd, bytes, size, 0), size);
	return fd;
}

static void library(void)
{
	struct vfiomig_error *e = NULL;

	IN(LIBRARY,
	   vfiomig_version(); vfiomig_has_feature(1);
	   vfiomig_device_new_kernel(-1, NULL, &d[0], &e);
	   vfiomig_error_message(e); vfiomig_error_code(e); vfiomig_error_result(e, 0); vfiomig_error_free(e));
}

static void devices(void)
{
	struct vfiomig_device_info info;

	/* No VFIO device: the first question fails. */
	const int other = fake_memfd();
	IN(DEVICES, FAILS(vfiomig_device_new_kernel(other, NULL, &d[0], ERRP), ENOTTY, VFIOMIG_ERR_DEVICE));
	close(other);
	device_of(0, -1);
	VFIOMIG_INIT(&info);
	IN(DEVICES,
	   OK(vfiomig_device_get_info(d[0], &info, ERRP));
	   OK(fake_to(d[0], VFIOMIG_STATE_RUNNING_P2P));
	   OK(fake_to(d[0], VFIOMIG_STATE_RUNNING));
	   OK(vfiomig_device_reset(d[0], ERRP));
	   OK(vfiomig_device_reprobe(d[0], ERRP));
	   vfiomig_device_free(d[0]));
}

static void streams(void)
{
	static unsigned char bytes[5000];
	struct vfiomig_chunk chunk;
	uint32_t flags;
	int ends[2];
	void *ptr;
	size_t len;

	CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
	device_of(0, file_of(5000));
	f[0].gives_other = true;
	IN(STREAMS, OK(fake_to(d[0], VFIOMIG_STATE_STOP_COPY)));
	f[0].gives_other = false;
	IN(STREAMS,
	   OK(vfiomig_device_peek(d[0], 100, &chunk, ERRP));
	   OK(vfiomig_device_consume(d[0], 100, ERRP));
	   CHECK(vfiomig_device_read(d[0], bytes, 100, &flags, ERRP) > 0);
	   CHECK(vfiomig_device_send(d[0], ends[0], 0, &flags, ERRP) > 0);
	   CHECK_EQ(vfiomig_device_read(d[0], bytes, 100, &flags, ERRP), 0);
	   OK(fake_to(d[0], VFIOMIG_STATE_STOP));
	   vfiomig_device_free(d[0]));
	device_of(1, fake_memfd());
	f[1].gives_other = true;
	IN(STREAMS, OK(fake_to(d[1], VFIOMIG_STATE_RESUMING)));
	f[1].gives_other = false;
	IN(STREAMS,
	   OK(vfiomig_device_reserve(d[1], VFIOMIG_UNKNOWN, &ptr, &len, ERRP));
	   OK(vfiomig_device_commit(d[1], 100, 0, ERRP));
	   CHECK_EQ(vfiomig_device_write(d[1], bytes, 100, 0, ERRP), 100);
	   CHECK(vfiomig_device_receive(d[1], ends[1], 1000, 0, ERRP) > 0);
	   OK(vfiomig_device_finish(d[1], VFIOMIG_UNKNOWN, ERRP));
	   OK(fake_to(d[1], VFIOMIG_STATE_STOP));
	   vfiomig_device_free(d[1]));
	close(ends[0]);
	close(ends[1]);
}

static void trackers(void)
{
	static struct fake_log log;
	static uint64_t bitmap[LOG_UNITS / 64];
	struct vfiomig_tracker *t;

	fake_log_init(&log);
	now(TRACKERS);
	t = fake_log_tracker(&log);
	OK(map_units(t, 0, LOG_UNITS, 1));
	OK(vfiomig_tracker_start(t, ERRP));
	log_write(&log, 5);
	harvest_units(t, 0, LOG_UNITS, bitmap);
	OK(vfiomig_tracker_stop(t, ERRP));
	vfiomig_tracker_free(t);
	now(BETWEEN);
}

static int take(void *opaque, size_t device, const void *data, size_t len, uint32_t flags)
{
	(void)opaque, (void)device, (void)data, (void)len, (void)flags;
	return 0;
}

static struct vfiomig_group *g;
static struct vfiomig_migration *m;
static struct vfiomig_tracker *everything;

static void group_of(uint32_t direction, uint64_t queue)
{
	struct vfiomig_tracker_options t;
	struct vfiomig_migration_options o;

	for (int i = 0; i < 2; i++) {
		struct vfiomig_device_ops ops;
		struct vfiomig_device_options device;

		fake_init(&f[i]);
		fake_ops(&f[i], &ops);
		ops.flags = VFIOMIG_OPS_F_ANY_THREAD;
		VFIOMIG_INIT(&device);
		device.name = i ? "second" : "first";
		OK(vfiomig_device_new_ops(&ops, &f[i], &device, &d[i], ERRP));
	}
	VFIOMIG_INIT(&t);
	VFIOMIG_INIT(&o);
	t.flags = VFIOMIG_TRACKER_F_EVERYTHING;
	o.queue_bytes = queue;
	now(MIGRATIONS);
	OK(vfiomig_group_new(NULL, &g, ERRP));
	OK(vfiomig_group_add_device(g, d[0], ERRP));
	OK(vfiomig_group_add_device(g, d[1], ERRP));
	OK(vfiomig_tracker_new(&t, &everything, ERRP));
	OK(vfiomig_group_add_tracker(g, everything, ERRP));
	OK(vfiomig_migration_new(g, direction, &o, &m, ERRP));
	now(BETWEEN);
}

static void group_end(void)
{
	now(MIGRATIONS);
	vfiomig_migration_free(m);
	vfiomig_group_free(g);
	vfiomig_tracker_free(everything);
	vfiomig_device_free(d[0]);
	vfiomig_device_free(d[1]);
	now(BETWEEN);
}

static void migrations(uint64_t queue)
{
	static const unsigned char bytes[100];
	struct vfiomig_report *report = NULL;

	group_of(VFIOMIG_DIRECTION_SAVE, queue);
	IN(MIGRATIONS,
	   OK(vfiomig_migration_advance(m, VFIOMIG_PHASE_SAVE_PRE_COPY, 0, ERRP));
	   CHECK(vfiomig_migration_save_iterate(m, DRAIN(.put = take, .budget_bytes = 1000), NULL, 0, ERRP) > 0);
	   OK(vfiomig_group_stop_begin(g, VFIOMIG_STOP_F_HAND_OVER, NULL, ERRP));
	   OK(vfiomig_group_stop(g, VFIOMIG_STOP_F_HAND_OVER, NULL, ERRP));
	   CHECK(vfiomig_migration_save_complete(m, DRAIN(.put = take), NULL, 0, ERRP) > 0);
	   OK(vfiomig_migration_get_report(m, &report, ERRP));
	   vfiomig_report_json(report);
	   vfiomig_report_free(report);
	   OK(vfiomig_migration_end(m, 0, 0, ERRP)));
	group_end();
	group_of(VFIOMIG_DIRECTION_LOAD, queue);
	IN(MIGRATIONS,
	   OK(vfiomig_migration_advance(m, VFIOMIG_PHASE_LOAD_RESUMING, 0, ERRP));
	   for (int i = 0; i < 2; i++) {
		   CHECK_EQ(vfiomig_device_write(d[i], bytes, sizeof bytes, 0, ERRP), sizeof bytes);
		   CHECK_EQ(OK(vfiomig_migration_load_done(m, d[i], sizeof bytes, 0, ERRP)), i);
	   }
	   OK(vfiomig_migration_advance(m, VFIOMIG_PHASE_LOAD_RUNNING, 0, ERRP)));
	group_end();
}

static void wires(void)
{
	struct vfiomig_writer_options w;
	struct vfiomig_reader_options r;
	struct vfiomig_writer *writer = NULL;
	struct vfiomig_reader *reader = NULL;
	int ends[2];

	CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
	VFIOMIG_INIT(&w);
	VFIOMIG_INIT(&r);
	w.flags = VFIOMIG_WRITER_F_FD;
	w.fd = ends[0];
	r.flags = VFIOMIG_READER_F_FD;
	r.fd = ends[1];
	group_of(VFIOMIG_DIRECTION_SAVE, 0);
	IN(WIRES,
	   OK(vfiomig_writer_new(g, &w, &writer, ERRP));
	   OK(vfiomig_migration_save_to(m, &writer, 1, NULL, ERRP));
	   vfiomig_writer_free(writer));
	group_end();
	group_of(VFIOMIG_DIRECTION_LOAD, 0);
	IN(WIRES,
	   OK(vfiomig_reader_new(&r, &reader, ERRP));
	   OK(vfiomig_migration_load_from(m, &reader, 1, NULL, ERRP));
	   vfiomig_reader_free(reader));
	group_end();
	close(ends[0]);
	close(ends[1]);
}

/* A server that accepts and says nothing; one that is not there. */
static void connections(void)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	struct vfiomig_vfio_user_options o;
	struct vfiomig_vfio_user *c = NULL;

	snprintf(address.sun_path, sizeof address.sun_path, "/tmp/t-syscalls.%d", (int)getpid());
	const int fd = socket(AF_UNIX, SOCK_STREAM, 0);
	CHECK_EQ(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
	CHECK_EQ(listen(fd, 1), 0);
	VFIOMIG_INIT(&o);
	o.timeout_ms = 50;
	IN(CONNECTIONS, FAILS(vfiomig_vfio_user_connect("/nowhere", &o, &c, ERRP), 0, VFIOMIG_ERR_SYSTEM);
	   FAILS(vfiomig_vfio_user_connect(address.sun_path, &o, &c, ERRP), ETIMEDOUT, VFIOMIG_ERR_DEVICE));
	close(fd);
	unlink(address.sun_path);
}

static int traced(void)
{
	t_begin();
	library();
	devices();
	streams();
	trackers();
	migrations(0);
	migrations(1 << 20);
	wires();
	connections();
	return t_end();
}

static bool is_allowed(enum group group, long number)
{
	for (size_t i = 0; i < sizeof allowed / sizeof *allowed; i++) {
		const struct allowed *a = &allowed[i];

		if (a->number == number && (strcmp(a->group, names[group]) == 0 || strcmp(a->group, "memory") == 0 ||
					    strcmp(a->group, "threads") == 0))
			return true;
	}
	return false;
}

static const char *name_of(long number)
{
	static char text[24];

	for (size_t i = 0; i < sizeof allowed / sizeof *allowed; i++)
		if (allowed[i].number == number)
			return allowed[i].name;
	snprintf(text, sizeof text, "number %ld", number);
	return text;
}

/* The calls of each group. */
static bool seen[GROUPS][1024];

static int trace(pid_t child)
{
	const long options = PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACECLONE | PTRACE_O_EXITKILL;
	enum group group = BETWEEN;
	int status, result = -1;

	if (waitpid(child, &status, 0) != child || !WIFSTOPPED(status))
		return -1;
	CHECK_EQ(ptrace(PTRACE_SETOPTIONS, child, 0, options), 0);
	ptrace(PTRACE_SYSCALL, child, 0, 0);
	for (pid_t pid; (pid = waitpid(-1, &status, __WALL)) > 0;) {
		long signal = 0;

		if (!WIFSTOPPED(status)) {
			if (pid == child)
				result = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
			continue;
		}
		if (WSTOPSIG(status) == (SIGTRAP | 0x80)) {
			struct __ptrace_syscall_info info;

			if (ptrace(PTRACE_GET_SYSCALL_INFO, pid, sizeof info, &info) > 0 && info.op == PTRACE_SYSCALL_INFO_ENTRY) {
				if (info.entry.nr == SYS_getpriority && info.entry.args[0] == MARK)
					group = (enum group)info.entry.args[1];
				else if (info.entry.nr < 1024)
					seen[group][info.entry.nr] = true;
			}
		} else if (WSTOPSIG(status) != SIGTRAP && WSTOPSIG(status) != SIGSTOP) {
			signal = WSTOPSIG(status);
		}
		ptrace(PTRACE_SYSCALL, pid, 0, signal);
	}
	return result;
}

int main(void)
{
	fflush(NULL);
	const pid_t child = fork();

	if (child == 0) {
		if (ptrace(PTRACE_TRACEME, 0, 0, 0))
			_exit(77);
		raise(SIGSTOP);
		_exit(traced());
	}
	t_begin();
	const int result = trace(child);
	if (result == -1) {
		printf("this system lets no process be traced\n");
		return 77;
	}
	CHECK_EQ(result, 0);
	size_t count = 0;
	for (enum group group = LIBRARY; group < GROUPS; group++)
		for (long number = 0; number < 1024; number++) {
			if (!seen[group][number])
				continue;
			count++;
			if (!is_allowed(group, number))
				T_FAIL("%s: %s is not in docs/system-calls.md", names[group], name_of(number));
		}
	/* The tracer sees what is known to be there. */
	CHECK(seen[DEVICES][SYS_ioctl] && seen[STREAMS][SYS_read] && count > 30);
	return t_end();
}
