/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Every function that the header declares can be linked to, from the shared library and from the archive. */
#include "harness.h"

typedef void (*any_function)(void);

static const struct {
	const char *name;
	any_function address;
} functions[] = {
#define FUNCTION(name) {#name, (any_function)name},
#include "functions.inc"
};

int main(void)
{
	size_t n = sizeof functions / sizeof *functions;

	t_begin();
	/* The list is made from the header: an empty one would prove nothing. */
	CHECK(n >= 74);
	for (size_t i = 0; i < n; i++) {
		CHECK(functions[i].address);
		for (size_t k = 0; k < i; k++)
			CHECK(functions[i].address != functions[k].address);
	}
	return t_end();
}
