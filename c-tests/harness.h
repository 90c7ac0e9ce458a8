/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Checks of a test program. A program proves one promise: exit 0 passed, 77 skipped (the last line says why), else
 * failed. A failed check prints where and what, and the program goes on, so that one run shows everything.
 */
#ifndef HARNESS_H
#define HARNESS_H

#include <errno.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <vfiomig.h>

static atomic_int t_checks, t_failures;

#define T_FAIL(...)                                           \
	(atomic_fetch_add(&t_failures, 1),                    \
	 printf("%s:%d: ", __FILE__, __LINE__), printf(__VA_ARGS__), putchar('\n'), (void)0)

#define CHECK(c) (atomic_fetch_add(&t_checks, 1), (c) ? (void)0 : T_FAIL("not so: %s", #c))

#define CHECK_EQ(a, b) t_eq((long long)(a), (long long)(b), #a " == " #b, __FILE__, __LINE__)

static inline int t_eq(long long a, long long b, const char *what, const char *file, int line)
{
	atomic_fetch_add(&t_checks, 1);
	if (a == b)
		return 1;
	atomic_fetch_add(&t_failures, 1);
	printf("%s:%d: not so: %s: %lld, %lld\n", file, line, what, a, b);
	return 0;
}

#define CHECK_HAS(text, part) t_has((text), (part), __FILE__, __LINE__)

static inline void t_has(const char *text, const char *part, const char *file, int line)
{
	atomic_fetch_add(&t_checks, 1);
	if (text && strstr(text, part))
		return;
	atomic_fetch_add(&t_failures, 1);
	printf("%s:%d: \"%s\" does not say \"%s\"\n", file, line, text ? text : "(null)", part);
}

/* The error of this thread's last call that was given ERRP. */
static _Thread_local struct vfiomig_error *t_error;

static inline struct vfiomig_error **t_errp(void)
{
	vfiomig_error_free(t_error);
	t_error = NULL;
	return &t_error;
}
#define ERRP t_errp()

/* The request of a drain, for one call. */
#define DRAIN(...) (&(const struct vfiomig_drain_request){.argsz = sizeof(struct vfiomig_drain_request), __VA_ARGS__})

/* OK(call(..., ERRP)): it succeeded, and left errp alone. The value is the result. */
#define OK(call) t_ok((long long)(call), #call, __FILE__, __LINE__)

static inline long long t_ok(long long result, const char *call, const char *file, int line)
{
	atomic_fetch_add(&t_checks, 1);
	if (result >= 0 && !t_error)
		return result;
	atomic_fetch_add(&t_failures, 1);
	printf("%s:%d: %s: %lld: %s\n", file, line, call, result, vfiomig_error_message(t_error));
	return result;
}

/*
 * FAILS(call(..., ERRP), error, code): it returned -error (0: any, for most errno values are no promise), and the error
 * object says the same and has the code (VFIOMIG_ERR_*).
 */
#define FAILS(call, error, code) t_fails((long long)(call), (error), (code), #call, __FILE__, __LINE__)

static inline int t_fails(long long result, int error, uint32_t code, const char *call, const char *file, int line)
{
	atomic_fetch_add(&t_checks, 1);
	if (result < 0 && (!error || result == -error) && t_error && vfiomig_error_code(t_error) == code &&
	    vfiomig_error_errno(t_error) == -result && vfiomig_error_message(t_error)[0])
		return 1;
	atomic_fetch_add(&t_failures, 1);
	printf("%s:%d: %s: %lld, code %u, errno %d, \"%s\"; expected %d, code %u\n", file, line, call, result,
	       vfiomig_error_code(t_error), vfiomig_error_errno(t_error), vfiomig_error_message(t_error), -error, code);
	return 0;
}

/*
 * The one result of this thread's last error; one of nonsense if there is none, so that checks fail and no program
 * dies.
 */
static inline const struct vfiomig_device_result *t_result(void)
{
	static const struct vfiomig_device_result none = {.device = "", .message = "", .found = 99, .action = 99};
	const struct vfiomig_device_result *r = vfiomig_error_result(t_error, 0);

	CHECK_EQ(vfiomig_error_result_count(t_error), 1);
	return r ? r : &none;
}
#define RESULT t_result()

/* A call that hangs must not hang the run: the run's own timeout ends what blocks SIGALRM. */
static inline void t_begin(void)
{
	setvbuf(stdout, NULL, _IOLBF, 0);
	alarm(100);
}

static inline int t_end(void)
{
	vfiomig_error_free(t_error);
	t_error = NULL;
	printf("%d checks, %d failed\n", atomic_load(&t_checks), atomic_load(&t_failures));
	return atomic_load(&t_failures) ? 1 : atomic_load(&t_checks) ? 0 : 2;
}

#endif
