/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* In place of QEMU's thread.h: the types in the headers, and the event that nobody waits for here. */
#ifndef BENCH_QEMU_THREAD_H
#define BENCH_QEMU_THREAD_H

typedef struct {
	int unused;
} QemuMutex;
typedef struct {
	int unused;
} QemuEvent;

void qemu_event_set(QemuEvent *event);

#endif
