/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A bug in the library, in any function of a writer or a reader: the process lives, the caller gets an error, the
 * handle accepts only _free, and the channel is left alone.
 * library: panic
 * variants: plain asan valgrind
 */
#include "harness.h"
#include <stdbool.h>

static struct vfiomig_writer *w;
static struct vfiomig_reader *r;
static unsigned calls;

static void arm(const char *name)
{
	setenv("VFIOMIG_TEST_PANIC", name, 1);
}

static void disarm(void)
{
	unsetenv("VFIOMIG_TEST_PANIC");
}

static int64_t put(void *opaque, const void *data, size_t len)
{
	(void)opaque, (void)data;
	calls++;
	return (int64_t)len;
}

static int64_t get(void *opaque, void *buf, size_t len)
{
	(void)opaque, (void)buf, (void)len;
	calls++;
	return 0;
}

static int64_t make_writer(struct vfiomig_writer **out, struct vfiomig_error **errp)
{
	const struct vfiomig_wire_device device = {"nic0", VFIOMIG_DIALECT_V2, 0, NULL, 0};
	struct vfiomig_writer_options o;

	VFIOMIG_INIT(&o);
	o.write = put;
	o.devices = &device;
	o.device_count = 1;
	return vfiomig_writer_new(NULL, &o, out, errp);
}

static int64_t make_reader(struct vfiomig_reader **out, struct vfiomig_error **errp)
{
	struct vfiomig_reader_options o;

	VFIOMIG_INIT(&o);
	o.read = get;
	return vfiomig_reader_new(&o, out, errp);
}

/* Each function once; 1: it is none of these. */
static int64_t call(const char *name, struct vfiomig_writer *w, struct vfiomig_reader *r, struct vfiomig_error **errp)
{
	struct vfiomig_wire_device device;
	struct vfiomig_record record;

#define IS(function) if (!strcmp(name, #function))
	IS(vfiomig_writer_data) return vfiomig_writer_data(w, 0, "x", 1, 0, errp);
	IS(vfiomig_writer_end) return vfiomig_writer_end(w, 0, 0, errp);
	IS(vfiomig_writer_void) return vfiomig_writer_void(w, 0, errp);
	IS(vfiomig_writer_vmm) return vfiomig_writer_vmm(w, 0, 0, "x", 1, errp);
	IS(vfiomig_writer_finish) return vfiomig_writer_finish(w, errp);
	IS(vfiomig_writer_fail) return vfiomig_writer_fail(w, "why", errp);
	IS(vfiomig_writer_flush) return vfiomig_writer_flush(w, errp);
	IS(vfiomig_reader_next) return vfiomig_reader_next(r, &record, errp);
	IS(vfiomig_reader_get_device) return vfiomig_reader_get_device(r, 0, &device, errp);
	return 1;
}

/* Functions that make, free or only look. */
static int call_other(const char *name)
{
	struct vfiomig_writer *new_w = NULL;
	struct vfiomig_reader *new_r = NULL;

	arm(name);
	IS(vfiomig_writer_new) FAILS(make_writer(&new_w, ERRP), ENOTRECOVERABLE, VFIOMIG_ERR_PANIC);
	else IS(vfiomig_reader_new) FAILS(make_reader(&new_r, ERRP), ENOTRECOVERABLE, VFIOMIG_ERR_PANIC);
	else IS(vfiomig_reader_get_device_count) {
		CHECK_EQ(vfiomig_reader_get_device_count(r), 0);
		disarm();
		/* It has no way to say so, but the handle is not to be trusted any more. */
		FAILS(call("vfiomig_reader_next", w, r, ERRP), ENOTRECOVERABLE, VFIOMIG_ERR_PANIC);
	} else IS(vfiomig_writer_free) {
		/* A bug before anything was freed: then it can be freed later. */
		vfiomig_writer_free(w);
	} else IS(vfiomig_reader_free) {
		vfiomig_reader_free(r);
	} else {
		disarm();
		return 0;
	}
	disarm();
	CHECK(!new_w && !new_r);
	return 1;
}

static void one(const char *name)
{
	static const char *const names[] = {
#define FUNCTION(name) #name,
#include "functions.inc"
#undef FUNCTION
	};
	int before = atomic_load(&t_failures);

	if (strncmp(name, "vfiomig_writer_", 15) && strncmp(name, "vfiomig_reader_", 15))
		return;
	OK(make_writer(&w, ERRP));
	OK(make_reader(&r, ERRP));
	calls = 0;
	if (!call_other(name)) {
		const bool of_writer = !strncmp(name, "vfiomig_writer_", 15);

		FAILS(call(name, NULL, NULL, ERRP), EINVAL, VFIOMIG_ERR_ARGUMENT);
		arm(name);
		int64_t result = call(name, w, r, ERRP);
		disarm();
		CHECK(result != 1); /* the table above has every function */
		FAILS(result, ENOTRECOVERABLE, VFIOMIG_ERR_PANIC);
		CHECK_HAS(vfiomig_error_message(t_error), name);
		for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
			if (strncmp(names[i], of_writer ? "vfiomig_writer_" : "vfiomig_reader_", 15))
				continue;
			result = call(names[i], w, r, ERRP);
			if (result != 1)
				FAILS(result, ENOTRECOVERABLE, VFIOMIG_ERR_PANIC);
		}
	}
	CHECK_EQ(calls, 0);
	vfiomig_writer_free(w);
	vfiomig_reader_free(r);
	if (atomic_load(&t_failures) != before)
		printf("in %s\n", name);
}

int main(void)
{
	t_begin();
	arm("vfiomig_version");
	if (vfiomig_version()) {
		puts("this library does not panic on demand");
		return 77;
	}
	disarm();
#define FUNCTION(name) one(#name);
#include "functions.inc"
#undef FUNCTION
	return t_end();
}
