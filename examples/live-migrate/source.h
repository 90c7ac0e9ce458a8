/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef SOURCE_H
#define SOURCE_H

#include "options.h"
#include "report.h"
#include "vm.h"
#include "wire.h"

enum outcome {
    MIGRATED, /* the guest runs at the destination */
    GOES_ON,  /* the migration failed, the guest runs here as if nothing had happened */
    LOST,     /* the guest runs nowhere, or nobody knows where */
};

/* Migrates a running VM away. What went wrong has been said. */
enum outcome source_run(struct vm *vm, struct wire *wire, const struct options *o, struct report *report);

#endif
