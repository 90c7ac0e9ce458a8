/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The project's own test device (lab/driver/README.md), for programs that make
 * the devices they need: mdevs with a configuration, their registers, what
 * sysfs says of them, and whole migrations from one to another.
 *
 * A helper that fails ends the program with status 1 and says where.
 */
#ifndef TESTDEV_H
#define TESTDEV_H

#include "lab.h"

/* ---- devices ------------------------------------------------------------ */

struct testdev {
	int number;
	struct lab_device device;
	struct vfiomig_device *d;
	uint64_t state;   /* bytes that migrate */
	uint64_t segment; /* largest segment, header included */
	uint64_t offered; /* parts of the state that are saved while it runs */
	bool p2p;	  /* it has the P2P states */
	bool precopy;	  /* it has the PRE_COPY states */
};

/* The kinds of device that have a migration region: configurations. */
#define TESTDEV_REGION_KINDS 4
extern const char *const testdev_region_kinds[TESTDEV_REGION_KINDS];

/* As lab_begin; skips on a kernel without the driver. */
void testdev_begin(int argc, char **argv);

/* Makes and opens an mdev, with a handle; `flags` are VFIOMIG_DEVICE_F_*. */
void testdev_open(struct testdev *t, int number, const char *config, uint32_t flags);
/* RUNNING to any state but ERROR, by steps that every arc table has. */
void testdev_go(struct testdev *t, uint32_t state);

/* Frees the handle, closes and removes the mdev, of which no violation may be left. */
void testdev_close(struct testdev *t);

/* Another handle for the same open device. */
struct vfiomig_device *testdev_new_handle(const struct testdev *t, uint32_t flags);

/* Writes keys to the device's config: those that may be changed at any time. */
void testdev_config(const struct testdev *t, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

/* Removing waits until no process has the device open or mapped: this process must not. */
void testdev_remove(const struct testdev *t);
/*
 * Another process removes it; its pid. Neither a thread nor a child that is
 * only forked: those would have the device themselves, and wait for ever.
 */
pid_t testdev_begin_remove(const struct testdev *t);
bool testdev_is_there(const struct testdev *t);

/* ---- registers ---------------------------------------------------------- */

#define TESTDEV_INDEX 0x00
#define TESTDEV_WORD 0x04
#define TESTDEV_CRC 0x08
#define TESTDEV_FILL 0x0c
#define TESTDEV_DMA 0x1c
#define TESTDEV_RESULT 0x20
#define TESTDEV_DMA_PAGES 0x24
#define TESTDEV_DMA_VALUE 0x28
#define TESTDEV_PIN 0x2c
#define TESTDEV_UNPIN 0x30
#define TESTDEV_CRC_NOW 0x38

uint32_t testdev_get(const struct testdev *t, unsigned int reg);
void testdev_set(const struct testdev *t, unsigned int reg, uint32_t value);

/* Bytes before what each segment carries, and the number of segments of the state. */
#define TESTDEV_HEADER 24
uint64_t testdev_segments(const struct testdev *t);

/* Changes a word in each of the first `count` parts of the state. */
void testdev_dirty(const struct testdev *t, unsigned int count);

/* ---- what sysfs says ----------------------------------------------------- */

/* The device is in this state, and the library knows it. */
#define STATE_IS(t, state) testdev_check_state(__FILE__, __LINE__, (t), (state), true)
/* The device is in this state, whatever the library knows. */
#define SYSFS_IS(t, state) testdev_check_state(__FILE__, __LINE__, (t), (state), false)
void testdev_check_state(const char *file, int line, const struct testdev *t, uint32_t state,
			 bool known);

/* Nothing was done that the protocol forbids; or one thing was, and it is forgotten. */
#define CLEAN(t) testdev_check_violations(__FILE__, __LINE__, (t), NULL)
#define VIOLATED(t, name) testdev_check_violations(__FILE__, __LINE__, (t), (name))
void testdev_check_violations(const char *file, int line, const struct testdev *t,
			      const char *name);

/* Violations that were provoked are taken back, however many. */
void testdev_forget_violations(const struct testdev *t);

/* ---- migrations ---------------------------------------------------------- */

enum way {
	COPY,	/* read and write */
	LEND,	/* peek and reserve, many chunks consumed in part */
	SOCKET, /* send and receive, each segment with its length before it */
	WAYS
};
extern const char *const way_names[WAYS];

struct traffic {
	uint64_t segments; /* ends that were seen */
	uint64_t mapped;   /* chunks that were device memory (LEND only) */
	uint64_t most;	   /* stop after so many segments; 0: never */
};

/* Moves what there is now; returns VFIOMIG_CHUNK_EMPTY or _END, or 0 after `most` segments. */
uint32_t pump(struct testdev *from, struct testdev *to, enum way way, struct traffic *traffic);

/* The stream of the save session is void: every save call says so. */
void save_is_stale(struct testdev *from);

/*
 * A whole live migration, with data that changes while it is saved. Checks the
 * length of the stream, the content, and that nobody violated the protocol;
 * both run afterwards.
 */
struct traffic migrate(struct testdev *from, struct testdev *to, enum way way);

/* Its parts: other contents in both; RUNNING to END and STOP; RESUMING to RUNNING. */
void fill_both(struct testdev *from, struct testdev *to);
struct traffic save_to_end(struct testdev *from, struct testdev *to, enum way way);
void finish_load(struct testdev *from, struct testdev *to);

#endif
