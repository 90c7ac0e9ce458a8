/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * In place of QEMU's osdep.h, which every file of QEMU includes first: what the measured code wants from it and from
 * GLib, and no more. g_try_malloc0() is out of line, as GLib's is, so that the harness can choose its memory.
 */
#ifndef BENCH_QEMU_OSDEP_H
#define BENCH_QEMU_OSDEP_H

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <linux/types.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>

#include "qemu/compiler.h"
#include "qemu-macros.h"

void *g_try_malloc0(size_t size);
void g_free(void *memory);

/* Used by functions of bitmap.h that are not called here. */
#define g_try_new0(type, count) ((type *)calloc((count), sizeof(type)))
#define g_new0(type, count) ((type *)calloc((count), sizeof(type)))
#define g_renew(type, memory, count) ((type *)realloc((memory), (count) * sizeof(type)))
#define g_assert_not_reached() abort()
#define qemu_build_not_reached() abort()

/* GLib's automatic cleanup, with the compiler's attribute as in GLib. */
#define BENCH_AUTO(type) bench_auto_##type
#define G_DEFINE_AUTOPTR_CLEANUP_FUNC(type, function)         \
	typedef type *BENCH_AUTO(type);                       \
	static inline void bench_cleanup_##type(type **value) \
	{                                                     \
		if (*value)                                   \
			(function)(*value);                   \
	}
#define g_autoptr(type) __attribute__((cleanup(bench_cleanup_##type))) BENCH_AUTO(type)

typedef struct GString GString;
typedef struct Error Error;
typedef struct RAMBlock RAMBlock;
typedef struct MemoryRegion MemoryRegion;

/* QEMU asks glibc each time; here the harness says what a page is, through a call as well. */
uintptr_t qemu_real_host_page_size(void);

#endif
