/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef DESTINATION_H
#define DESTINATION_H

#include "vm.h"
#include "wire.h"

/*
 * Receives a VM into a fresh one and runs it. 0: the guest runs here; -1: it does not, and the source got the
 * reason.
 */
int destination_run(struct vm *vm, struct wire *wire);

#endif
