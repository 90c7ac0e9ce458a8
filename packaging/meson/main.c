/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A project of two files that has the library as a subproject of meson. */
#include <stdio.h>
#include <vfiomig.h>

int main(void)
{
    uint32_t version = vfiomig_version();

    printf("vfiomig %u.%u.%u by meson\n", version >> 16, version >> 8 & 255, version & 255);
    return 0;
}
