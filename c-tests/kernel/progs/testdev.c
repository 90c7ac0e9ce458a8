/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* mdevs of the test driver, their registers and what sysfs says. See testdev.h. */
#include "testdev.h"

#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PARENT "/sys/class/mdev_bus/vfiomig_test"
#define TEXT_MAX 1024

const char *const testdev_region_kinds[TESTDEV_REGION_KINDS] = {
	"dialect=v1 ndma=0",
	"dialect=v1 ndma=1",
	"dialect=draft2",
	"dialect=draft3",
};

void testdev_begin(int argc, char **argv)
{
	lab_begin(argc, argv);
	if (access(PARENT, F_OK))
		lab_skip("this kernel has no test driver");
}

/* ---- sysfs --------------------------------------------------------------- */

static void mdev_uuid(char *uuid, size_t size, int number)
{
	snprintf(uuid, size, "00000000-0000-4000-8001-%012d", number);
}

static void sysfs_path(char *path, size_t size, int number, const char *attribute)
{
	char uuid[64];

	mdev_uuid(uuid, sizeof(uuid), number);
	snprintf(path, size, "/sys/bus/mdev/devices/%s/%s", uuid, attribute);
}

static void write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);

	if (fd < 0 || write(fd, text, strlen(text)) < 0)
		lab_fail(__FILE__, __LINE__, "\"%s\" to %s: %s", text, path, strerror(errno));
	close(fd);
}

static void read_attribute(const struct testdev *t, const char *name, char *text, size_t size)
{
	char path[256];
	ssize_t length;
	int fd;

	sysfs_path(path, sizeof(path), t->number, name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	length = fd < 0 ? -1 : read(fd, text, size - 1);
	if (length < 0)
		lab_fail(__FILE__, __LINE__, "%s: %s", path, strerror(errno));
	text[length] = '\0';
	close(fd);
}

static uint64_t key(const char *config, const char *name)
{
	char line[64];
	const char *at;

	snprintf(line, sizeof(line), "\n%s=", name);
	at = strstr(config, line);
	if (!at)
		lab_fail(__FILE__, __LINE__, "no key %s", name);
	return strtoull(at + strlen(line), NULL, 0);
}

void testdev_config(const struct testdev *t, const char *format, ...)
{
	char text[TEXT_MAX], path[256];
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(text, sizeof(text), format, arguments);
	va_end(arguments);
	sysfs_path(path, sizeof(path), t->number, "config");
	write_file(path, text);
}

void testdev_check_state(const char *file, int line, const struct testdev *t, uint32_t state,
			 bool known)
{
	char name[32];

	read_attribute(t, "state", name, sizeof(name));
	name[strcspn(name, "\n")] = '\0';
	if (strcmp(name, vfiomig_state_name(state)))
		lab_fail(file, line, "device %d is in %s, not in %s", t->number, name,
			 vfiomig_state_name(state));
	if (known && vfiomig_device_get_state(t->d) != state)
		lab_fail(file, line, "device %d is in %s, the library says %s", t->number, name,
			 vfiomig_state_name(vfiomig_device_get_state(t->d)));
}

void testdev_check_violations(const char *file, int line, const struct testdev *t, const char *name)
{
	char text[TEXT_MAX], want[64] = "";
	unsigned int total = 0;

	read_attribute(t, "violations", text, sizeof(text));
	sscanf(text, "%u", &total);
	if (name)
		snprintf(want, sizeof(want), " %s 1\n", name);
	if (total != (name ? 1 : 0) || !strstr(text, want))
		lab_fail(file, line, "violations of device %d, expected %s:\n%s", t->number,
			 name ? name : "none", text);
	testdev_forget_violations(t);
}

void testdev_forget_violations(const struct testdev *t)
{
	char path[256];

	sysfs_path(path, sizeof(path), t->number, "violations");
	write_file(path, "0");
}

/* ---- life ----------------------------------------------------------------- */

static void remove_mdev(int number)
{
	char path[256];

	sysfs_path(path, sizeof(path), number, "remove");
	write_file(path, "1");
}

static bool mdev_is_there(int number)
{
	char path[256];

	sysfs_path(path, sizeof(path), number, "");
	return !access(path, F_OK);
}

static void make_mdev(int number, const char *config)
{
	char uuid[64], text[TEXT_MAX];

	if (mdev_is_there(number)) /* left behind by a program that failed */
		remove_mdev(number);
	mdev_uuid(uuid, sizeof(uuid), number);
	snprintf(text, sizeof(text), "%s %s", uuid, config);
	write_file(PARENT "/config", text);
	write_file(PARENT "/mdev_supported_types/vfiomig_test-1/create", uuid);
}

void testdev_remove(const struct testdev *t)
{
	remove_mdev(t->number);
}

pid_t testdev_begin_remove(const struct testdev *t)
{
	char *argv[] = { "sh", "-c", "echo 1 >\"$0\"", NULL, NULL };
	char path[256];
	pid_t pid = -1;

	sysfs_path(path, sizeof(path), t->number, "remove");
	argv[3] = path;
	CHECK_EQ(posix_spawnp(&pid, "sh", NULL, NULL, argv, environ), 0);
	return pid;
}

bool testdev_is_there(const struct testdev *t)
{
	return mdev_is_there(t->number);
}

static bool is_dialect(const char *config, const char *name)
{
	char line[64];

	snprintf(line, sizeof(line), "dialect=%s", name);
	return strstr(config, line);
}

struct vfiomig_device *testdev_new_handle(const struct testdev *t, uint32_t flags)
{
	struct vfiomig_device_options options;
	struct vfiomig_device *d = NULL;
	char config[TEXT_MAX];
	uint32_t dialect = VFIOMIG_DIALECT_V2;

	read_attribute(t, "config", config, sizeof(config));
	if (is_dialect(config, "v1"))
		dialect = VFIOMIG_DIALECT_V1;
	else if (is_dialect(config, "draft"))
		dialect = VFIOMIG_DIALECT_DRAFT;

	VFIOMIG_INIT(&options);
	options.name = t->device.name;
	options.flags = flags;
	/* A draft that has v1's region id is found only if it is named. */
	if (is_dialect(config, "draft3"))
		options.dialect = VFIOMIG_DIALECT_DRAFT;
	OK(vfiomig_device_new_kernel(t->device.fd, &options, &d, ERR));
	CHECK_EQ(lab_info(d).dialect, dialect);
	return d;
}

static void read_config(struct testdev *t)
{
	char config[TEXT_MAX];
	bool region;

	read_attribute(t, "config", config, sizeof(config));
	region = !is_dialect(config, "v2");
	t->state = key(config, "state");
	t->segment = key(config, "segment");
	t->p2p = key(config, region ? "ndma" : "p2p");
	/* On the region pre-copy always exists; a device may have nothing to give in it. */
	t->precopy = region || key(config, "precopy");
	t->offered = key(config, "precopy") * key(config, "precopy_share") * testdev_segments(t) / 100;
}

void testdev_open(struct testdev *t, int number, const char *config, uint32_t flags)
{
	char uuid[64];
	uint32_t caps;

	memset(t, 0, sizeof(*t));
	t->number = number;
	make_mdev(number, config);
	read_config(t);
	mdev_uuid(uuid, sizeof(uuid), number);
	lab_open_device(&t->device, "mdev", uuid);
	t->d = testdev_new_handle(t, flags);
	STATE_IS(t, VFIOMIG_STATE_RUNNING);
	caps = lab_info(t->d).caps;
	CHECK_EQ(!!(caps & VFIOMIG_CAP_P2P), t->p2p);
	CHECK_EQ(!!(caps & VFIOMIG_CAP_PRE_COPY), t->precopy);
	CHECK(caps & VFIOMIG_CAP_RESET);
}

void testdev_go(struct testdev *t, uint32_t state)
{
	STATE_IS(t, VFIOMIG_STATE_RUNNING);
	if (state == VFIOMIG_STATE_PRE_COPY_P2P)
		GO(t->d, VFIOMIG_STATE_PRE_COPY);
	GO(t->d, state);
	STATE_IS(t, state);
}

void testdev_close(struct testdev *t)
{
	CLEAN(t);
	vfiomig_device_free(t->d);
	CLEAN(t);
	lab_close(&t->device);
	/* Returns only if the library has no mapping and no data fd left. */
	remove_mdev(t->number);
	CHECK(!mdev_is_there(t->number));
}

/* ---- registers ------------------------------------------------------------- */

/* BAR 0 is region 0 and begins where the device fd begins. */
uint32_t testdev_get(const struct testdev *t, unsigned int reg)
{
	uint32_t value = 0;

	CHECK_EQ(pread(t->device.fd, &value, sizeof(value), reg), sizeof(value));
	return value;
}

void testdev_set(const struct testdev *t, unsigned int reg, uint32_t value)
{
	CHECK_EQ(pwrite(t->device.fd, &value, sizeof(value), reg), sizeof(value));
}

uint64_t testdev_segments(const struct testdev *t)
{
	uint64_t part = t->segment - TESTDEV_HEADER;

	return (t->state + part - 1) / part;
}

void testdev_dirty(const struct testdev *t, unsigned int count)
{
	static uint32_t value;

	for (unsigned int i = 0; i < count; i++) {
		uint64_t at = i * (t->segment - TESTDEV_HEADER);

		testdev_set(t, TESTDEV_INDEX, (uint32_t)(at / sizeof(uint32_t)) + 1);
		testdev_set(t, TESTDEV_WORD, ++value);
	}
}
