/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Shared by the test programs of the kernel lab: devices opened as a VMM would
 * open them, a look at their state that does not go through the library, the
 * UARTs of mtty, and whole streams in and out.
 *
 * A helper that fails ends the program with status 1 and says where.
 */
#ifndef LAB_H
#define LAB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include <vfiomig.h>

/* ---- checks ------------------------------------------------------------- */

/* What the program does now; printed when a check fails. */
void lab_step(const char *format, ...) __attribute__((format(printf, 1, 2)));

_Noreturn void lab_fail(const char *file, int line, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/* Ends the program as skipped. */
_Noreturn void lab_skip(const char *reason);

#define CHECK(condition)                                                      \
	((condition) ? (void)0 : lab_fail(__FILE__, __LINE__, "%s", #condition))

#define CHECK_EQ(got, want)                                                   \
	lab_check_eq(__FILE__, __LINE__, #got, (long long)(got), (long long)(want))
void lab_check_eq(const char *file, int line, const char *what, long long got, long long want);

/*
 * ERR is the errp of a call within OK or FAILS. The error of the last failed
 * call is lab_error(), until the next call with ERR.
 */
#define ERR lab_fresh_error()
struct vfiomig_error **lab_fresh_error(void);
const struct vfiomig_error *lab_error(void);

/* The request of a drain, for one call. */
#define DRAIN(...) \
	(&(const struct vfiomig_drain_request){ .argsz = sizeof(struct vfiomig_drain_request), __VA_ARGS__ })

/* The call returns 0. */
#define OK(call) lab_check_ok(__FILE__, __LINE__, #call, (call), 0)
/* The call returns that many bytes. */
#define OK_BYTES(call, bytes) lab_check_ok(__FILE__, __LINE__, #call, (call), (bytes))
void lab_check_ok(const char *file, int line, const char *call, int64_t got, int64_t want);

/* The call fails with this VFIOMIG_ERR_* and, if it is not 0, this errno. */
#define FAILS(call, code, number)                                             \
	lab_check_fails(__FILE__, __LINE__, #call, (call), VFIOMIG_ERR_##code, #code, (number))
void lab_check_fails(const char *file, int line, const char *call, int64_t got, uint32_t code,
		     const char *code_name, int number);

/* The last error names one device, found in this state, with this action. */
#define RESULT_IS(found, action)                                              \
	lab_check_result(__FILE__, __LINE__, (found), (action))
void lab_check_result(const char *file, int line, uint32_t found, uint32_t action);

/* Open descriptors of this process. */
int lab_count_fds(void);

/* ---- devices ------------------------------------------------------------ */

struct lab_device {
	char name[64]; /* UUID or PCI address */
	int fd;        /* the VFIO device fd */
	int container; /* group transport; else -1 */
	int group;
	int iommufd; /* cdev transport; else -1 */
	uint32_t ioas; /* the device is attached to it; cdev transport */
};

/* Reads the first argument, `group` or `cdev`. The first call of main. */
void lab_begin(int argc, char **argv);
bool lab_is_cdev(void);

/*
 * Opens the lab's mdev 1 to 4 and resets it: mtty keeps its migration state
 * when it is closed, so a program that died would be inherited.
 */
void lab_open_mdev(struct lab_device *device, int number);
void lab_open_pci(struct lab_device *device, const char *address);
/* Any device, by bus and name in sysfs; it stays as it is found. */
void lab_open_device(struct lab_device *device, const char *bus, const char *name);
void lab_close(struct lab_device *device);

/* Opens the cdev of an mdev and does not bind it. */
int lab_open_unbound_cdev(int number);

/* ---- the device, behind the library's back ------------------------------ */

uint32_t raw_state(const struct lab_device *device);
/* 0 or -errno; *data_fd is what came, or -1. NULL closes it. */
int raw_set_state(const struct lab_device *device, uint32_t state, int *data_fd);
int raw_reset(const struct lab_device *device);
uint64_t raw_data_size(const struct lab_device *device);
/* 0 or -errno of a PROBE for the feature and an operation. */
int raw_probe(const struct lab_device *device, uint32_t feature_and_operation);
uint32_t raw_info_flags(const struct lab_device *device);

#define LAB_FEATURE_GET (1u << 16)
#define LAB_FEATURE_SET (1u << 17)
#define LAB_FEATURE_MIGRATION 1u
#define LAB_FEATURE_PRECOPY_INFO_V2 12u
#define LAB_INFO_RESET 1u

#define RAW_IS(device, state) CHECK_EQ(raw_state(device), (state))

/* ---- the library's view -------------------------------------------------- */

struct vfiomig_device *lab_new(const struct lab_device *device);
struct vfiomig_device_info lab_info(const struct vfiomig_device *d);
struct vfiomig_device_pending lab_pending(struct vfiomig_device *d, uint32_t flags);

/* set_state with KEEP and no flags. */
#define GO(d, state) OK(vfiomig_device_set_state((d), (state), VFIOMIG_ON_FAILURE_KEEP, 0, ERR))
#define REFUSED(d, state, flags)                                              \
	FAILS(vfiomig_device_set_state((d), (state), VFIOMIG_ON_FAILURE_KEEP, (flags), ERR), ORDER, 0)

/*
 * From RUNNING to any state but ERROR by steps that the arc table allows, then
 * checks with the kernel that the device is there.
 */
void lab_go_from_running(const struct lab_device *device, struct vfiomig_device *d, uint32_t state);

/* ---- mtty ---------------------------------------------------------------- */

#define MTTY_HEADER 24 /* sent in pre-copy if there is one */
#define MTTY_PORT 36   /* for each port, sent in stop-copy */
#define MTTY_MAX 96
#define MTTY_SIZE(ports) (MTTY_HEADER + MTTY_PORT * (ports))

/*
 * Puts a pattern that follows from the seed into every register of each port
 * that the guest can set, and into the FIFOs. The device must run.
 */
void uart_fill(const struct lab_device *device, int ports, unsigned int seed);

/*
 * Whether the ports hold the pattern of the seed. Reading a FIFO empties it:
 * after a look the device must be filled again.
 */
bool uart_holds(const struct lab_device *device, int ports, unsigned int seed);

/* ---- whole streams ------------------------------------------------------- */

/* What is left of the stream up to EMPTY or END (`flag`), appended to buf. */
size_t stream_read(struct vfiomig_device *d, uint32_t flag, unsigned char *buf, size_t have);

/* RUNNING to STOP_COPY to END to RUNNING; returns the length. */
size_t stream_save(const struct lab_device *device, struct vfiomig_device *d, unsigned char *buf);

/* RUNNING to RESUMING, the stream, finish, and through STOP to RUNNING. */
void stream_load(const struct lab_device *device, struct vfiomig_device *d, const unsigned char *buf,
		 size_t length);

#endif
