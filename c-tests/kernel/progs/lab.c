/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Checks, and the handles of the library. See lab.h. */
#include "lab.h"

#include <dirent.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char step[256] = "start";
static _Thread_local struct vfiomig_error *error;

void lab_step(const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(step, sizeof(step), format, arguments);
	va_end(arguments);
}

void lab_fail(const char *file, int line, const char *format, ...)
{
	const char *name = strrchr(file, '/');
	va_list arguments;

	fprintf(stderr, "%s:%d: ", name ? name + 1 : file, line);
	va_start(arguments, format);
	vfprintf(stderr, format, arguments);
	va_end(arguments);
	fprintf(stderr, "\n  during: %s\n", step);
	if (error)
		fprintf(stderr, "  last error: code %u, %s\n", vfiomig_error_code(error),
			vfiomig_error_message(error));
	exit(1);
}

void lab_skip(const char *reason)
{
	puts(reason);
	exit(77);
}

void lab_check_eq(const char *file, int line, const char *what, long long got, long long want)
{
	if (got != want)
		lab_fail(file, line, "%s is %lld, not %lld", what, got, want);
}

struct vfiomig_error **lab_fresh_error(void)
{
	vfiomig_error_free(error);
	error = NULL;
	return &error;
}

const struct vfiomig_error *lab_error(void)
{
	return error;
}

void lab_check_ok(const char *file, int line, const char *call, int64_t got, int64_t want)
{
	if (got != want)
		lab_fail(file, line, "%s returned %lld, not %lld", call, (long long)got, (long long)want);
	if (error)
		lab_fail(file, line, "%s succeeded and made an error", call);
}

void lab_check_fails(const char *file, int line, const char *call, int64_t got, uint32_t code,
		     const char *code_name, int number)
{
	if (got >= 0)
		lab_fail(file, line, "%s returned %lld, but should fail with %s", call, (long long)got,
			 code_name);
	if (vfiomig_error_code(error) != code)
		lab_fail(file, line, "%s failed with code %u, not with %s", call,
			 vfiomig_error_code(error), code_name);
	if (vfiomig_error_errno(error) != -got)
		lab_fail(file, line, "%s returned %lld, its error says %d", call, (long long)got,
			 vfiomig_error_errno(error));
	if (number && got != -number)
		lab_fail(file, line, "%s returned %lld (%s), not %s", call, (long long)got,
			 strerror((int)-got), strerror(number));
}

void lab_check_result(const char *file, int line, uint32_t found, uint32_t action)
{
	const struct vfiomig_device_result *result = vfiomig_error_result(error, 0);

	if (vfiomig_error_result_count(error) != 1 || !result)
		lab_fail(file, line, "the error has %zu results, not one",
			 vfiomig_error_result_count(error));
	if (result->found != found)
		lab_fail(file, line, "found in %s, not in %s", vfiomig_state_name(result->found),
			 vfiomig_state_name(found));
	if (result->action != action)
		lab_fail(file, line, "action is %u, not %u", result->action, action);
}

int lab_count_fds(void)
{
	DIR *dir = opendir("/proc/self/fd");
	int count = 0;

	CHECK(dir);
	while (readdir(dir))
		count++;
	closedir(dir);
	return count - 3; /* . and .. and the directory itself */
}

struct vfiomig_device *lab_new(const struct lab_device *device)
{
	struct vfiomig_device_options options;
	struct vfiomig_device *d = NULL;

	VFIOMIG_INIT(&options);
	options.name = device->name;
	OK(vfiomig_device_new_kernel(device->fd, &options, &d, ERR));
	CHECK(d);
	return d;
}

struct vfiomig_device_info lab_info(const struct vfiomig_device *d)
{
	struct vfiomig_device_info info;

	VFIOMIG_INIT(&info);
	OK(vfiomig_device_get_info(d, &info, ERR));
	return info;
}

struct vfiomig_device_pending lab_pending(struct vfiomig_device *d, uint32_t flags)
{
	struct vfiomig_device_pending pending;

	VFIOMIG_INIT(&pending);
	OK(vfiomig_device_get_pending(d, flags, &pending, ERR));
	return pending;
}

void lab_go_from_running(const struct lab_device *device, struct vfiomig_device *d, uint32_t state)
{
	RAW_IS(device, VFIOMIG_STATE_RUNNING);
	switch (state) {
	case VFIOMIG_STATE_RESUMING:
	case VFIOMIG_STATE_STOP_COPY:
		GO(d, VFIOMIG_STATE_STOP);
		break;
	case VFIOMIG_STATE_PRE_COPY_P2P:
		GO(d, VFIOMIG_STATE_PRE_COPY);
		break;
	default:
		break;
	}
	GO(d, state);
	RAW_IS(device, state);
}
