/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * --vfio-user: the guest's devices in other processes, a vfiomig-simdev for each. The library has the connection to it
 * (docs/vfio-user.md); the device writes RAM and changes its state by itself while it runs.
 */
#ifndef SERVER_H
#define SERVER_H

#include "options.h"

#include <stdbool.h>
#include <sys/types.h>
#include <vfiomig.h>

struct server {
    pid_t process; /* 0: there is none */
    struct vfiomig_vfio_user *connection;
    uint64_t window; /* guest address of the pages that the device writes */
};

#define SERVER_WINDOW ((uint64_t)64 << 10)

/* Starts the server of device `number`, connects to it, and lets it map RAM. 0 or -1, and has said why. */
int server_new(struct server *s, const struct options *o, unsigned number, bool source, int ram);
void server_free(struct server *s); /* after the library's handle; waits for the server's verdict */

/* What a driver in the guest does: the device reads a page of RAM. Not while devices stop (U-9). */
void server_ring(struct server *s);

/* Before the two sides are made: where the servers' sockets are. 0 or -1, and has said why. */
int servers_begin(struct options *o);

/*
 * When both sides have ended: whether no server had anything against its client and, of a guest that has migrated, each
 * device's state was the same at both sides at last. Says what is wrong, and leaves nothing behind.
 */
bool servers_end(const struct options *o, bool migrated);

#endif
