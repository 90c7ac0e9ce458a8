/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A run that is not measured: another thread sets bits in the VMM's bitmap while it is harvested into and taken from, over
 * and over. What was taken must be exactly the bits of both: for QEMU's code and for the library's atomic destination.
 * The plain one promises nothing here.
 */
#ifndef BENCH_RACE_H
#define BENCH_RACE_H

/* Ends the program if a bit was lost or invented; else says what was done. */
void race_check(void);

#endif
