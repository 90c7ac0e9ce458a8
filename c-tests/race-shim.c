/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The compiler of the library calls memory functions of the race checker by names that an older runtime of the C
 * compiler lacks. The checker watches the plain functions as well.
 */
#include <string.h>

void *__tsan_memcpy(void *to, const void *from, size_t len);
void *__tsan_memmove(void *to, const void *from, size_t len);
void *__tsan_memset(void *to, int value, size_t len);

__attribute__((weak)) void *__tsan_memcpy(void *to, const void *from, size_t len)
{
	return memcpy(to, from, len);
}

__attribute__((weak)) void *__tsan_memmove(void *to, const void *from, size_t len)
{
	return memmove(to, from, len);
}

__attribute__((weak)) void *__tsan_memset(void *to, int value, size_t len)
{
	return memset(to, value, len);
}
