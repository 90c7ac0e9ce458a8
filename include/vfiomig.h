/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Generated from src/ffi by `make header`. Do not edit. */

#ifndef VFIOMIG_H
#define VFIOMIG_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

/*
 * libvfiomig: live migration of VFIO devices for virtual machine monitors.
 *
 * Where to begin. A simple VMM calls vfiomig_device_new_kernel() for each device;
 * vfiomig_tracker_new() and _map() for its address space; vfiomig_group_new(), _add_device() and
 * _add_tracker(). To migrate, both sides call vfiomig_migration_new() and _advance(); the source
 * side calls _save_iterate(), vfiomig_group_harvest() and _save_complete(), the destination side
 * _load_complete(). vfiomig_migration_abort() brings the devices back after any failure, and
 * vfiomig_error_message() says what failed. The rest of this header is for VMMs that need more
 * control, in this order: library, errors, log, devices, devices of vfio-user servers and
 * connections to those, streams (save, load), bitmaps, trackers, harvests, reports, groups,
 * migrations. docs/design.md defines the words.
 *
 * Names:
 *  - vfiomig_<object>_get_<x>() fills struct vfiomig_<object>_<x>. A struct that ends in _options
 *    makes something, one that ends in _request goes into a call, and one that ends in _result is
 *    what the call found or did.
 *  - VFIOMIG_<NOUN>_F_<X> is a flag that the caller passes. A flag without F is one that the
 *    library returns (VFIOMIG_CAP_*, VFIOMIG_CHUNK_*, VFIOMIG_HARVEST_DEGRADED).
 *  - A value of an enumeration has the name of its field or parameter: VFIOMIG_STATE_*,
 *    VFIOMIG_PHASE_*, VFIOMIG_DIALECT_*, VFIOMIG_TRACKER_KIND_*.
 *
 * Conventions of every function (docs/errors.md, docs/threading.md, docs/abi.md):
 *  - The handle is the first parameter. Outputs are the last before errp, and are written only on
 *    success, unless a function says otherwise. They are not NULL, unless a function says so.
 *  - An int is 0 or -errno; an int64_t is a count or -errno. vfiomig_has_feature(),
 *    vfiomig_error_errno() and vfiomig_migration_load_done() return other numbers. Decide by
 *    vfiomig_error_code(); texts, and errno values that are not named here, may change.
 *  - errp, the last parameter, may be NULL. It is written on failure only and never read. Free the
 *    error with vfiomig_error_free(), and a report with vfiomig_report_free(). The bitmap functions
 *    have no errp.
 *  - The lists of errors leave out what holds for every function with a handle: ARGUMENT for
 *    NULL, for unknown flags and for an argsz that is wrong; ARGUMENT with -ENODEV where the
 *    handle's group was freed; BUSY with -EDEADLK, as below; PANIC.
 *  - Structs that begin with argsz are set up with VFIOMIG_INIT, which evaluates its parameter
 *    three times. Zero means default or not given. Texts are UTF-8. Lengths are in bytes.
 *  - Threads. any: from any thread, at any time. device: from any thread; calls on one device wait
 *    for each other, or get -EBUSY if the device was made with VFIOMIG_DEVICE_F_NO_WAIT. whole:
 *    waits for the device call in progress and runs before device calls that wait. Example:
 *    vfiomig_device_set_state(). tracker: calls on one tracker wait for each other; they need no
 *    other lock, and run at the same time as device calls. No function needs a lock of the VMM,
 *    and each may be called with one held.
 *  - A callback must not make a call that can only continue after the callback has returned: it
 *    gets -EDEADLK. A coroutine must not yield in a callback and continue on another thread.
 *  - The library creates threads only within a call that serves several devices or logs, and joins
 *    them before it returns. It installs no signal handler and no panic hook, never exits and never
 *    writes to stderr, with two exceptions: the Rust runtime's own line about a bug in the library,
 *    and the end of the process when malloc() has no memory for the library's own small objects, as
 *    with g_malloc(). Buffers and bitmaps are tried first: -ENOMEM. A forked child may only exec or
 *    exit.
 */

#if UINTPTR_MAX < 0xffffffffffffffff
#error libvfiomig is for 64-bit machines only: the layouts of its structs are 64-bit ones
#endif

/** The version of this header. vfiomig_version() returns the version of the loaded library. */
#define VFIOMIG_VERSION_MAJOR 0
#define VFIOMIG_VERSION_MINOR 1
#define VFIOMIG_VERSION_PATCH 0

/** Whether this header is of the given version or a later one; works in #if. */
#define VFIOMIG_CHECK_VERSION(major, minor, patch) \
  (VFIOMIG_VERSION_MAJOR > (major) || \
   (VFIOMIG_VERSION_MAJOR == (major) && VFIOMIG_VERSION_MINOR > (minor)) || \
   (VFIOMIG_VERSION_MAJOR == (major) && VFIOMIG_VERSION_MINOR == (minor) && VFIOMIG_VERSION_PATCH >= (patch)))

/** Zeroes a struct that begins with argsz, and sets argsz. */
#define VFIOMIG_INIT(p) (memset((p), 0, sizeof *(p)), (void)((p)->argsz = (uint32_t)sizeof *(p)))

/**
 * vfiomig_device_set_state(): after a failure, bring the device to this state, if docs/states.md
 * allows it from the state in which it is found.
 */
#define VFIOMIG_ON_FAILURE_RETURN_TO(state) (0x100u + (uint32_t)(state))

/** One for each function that this header declares. */
#define VFIOMIG_HAVE_BITMAP_COUNT 1
#define VFIOMIG_HAVE_BITMAP_GET_RANGES 1
#define VFIOMIG_HAVE_BITMAP_MERGE 1
#define VFIOMIG_HAVE_BITMAP_NEXT_RUN 1
#define VFIOMIG_HAVE_BITMAP_RESCALE 1
#define VFIOMIG_HAVE_BITMAP_TAKE 1
#define VFIOMIG_HAVE_DEVICE_COMMIT 1
#define VFIOMIG_HAVE_DEVICE_CONSUME 1
#define VFIOMIG_HAVE_DEVICE_FINISH 1
#define VFIOMIG_HAVE_DEVICE_FREE 1
#define VFIOMIG_HAVE_DEVICE_GET_INFO 1
#define VFIOMIG_HAVE_DEVICE_GET_PENDING 1
#define VFIOMIG_HAVE_DEVICE_GET_STATE 1
#define VFIOMIG_HAVE_DEVICE_NEW_CONNECTION 1
#define VFIOMIG_HAVE_DEVICE_NEW_KERNEL 1
#define VFIOMIG_HAVE_DEVICE_NEW_OPS 1
#define VFIOMIG_HAVE_DEVICE_NEW_VFIO_USER 1
#define VFIOMIG_HAVE_DEVICE_PEEK 1
#define VFIOMIG_HAVE_DEVICE_READ 1
#define VFIOMIG_HAVE_DEVICE_RECEIVE 1
#define VFIOMIG_HAVE_DEVICE_REPROBE 1
#define VFIOMIG_HAVE_DEVICE_RESERVE 1
#define VFIOMIG_HAVE_DEVICE_RESET 1
#define VFIOMIG_HAVE_DEVICE_RESTART_STREAM 1
#define VFIOMIG_HAVE_DEVICE_SEND 1
#define VFIOMIG_HAVE_DEVICE_SET_STATE 1
#define VFIOMIG_HAVE_DEVICE_WRITE 1
#define VFIOMIG_HAVE_ERROR_CODE 1
#define VFIOMIG_HAVE_ERROR_ERRNO 1
#define VFIOMIG_HAVE_ERROR_FREE 1
#define VFIOMIG_HAVE_ERROR_MESSAGE 1
#define VFIOMIG_HAVE_ERROR_RESULT 1
#define VFIOMIG_HAVE_ERROR_RESULT_COUNT 1
#define VFIOMIG_HAVE_GROUP_ADD_DEVICE 1
#define VFIOMIG_HAVE_GROUP_ADD_TRACKER 1
#define VFIOMIG_HAVE_GROUP_FREE 1
#define VFIOMIG_HAVE_GROUP_GET_ABILITIES 1
#define VFIOMIG_HAVE_GROUP_GET_PROGRESS 1
#define VFIOMIG_HAVE_GROUP_GET_REPORT 1
#define VFIOMIG_HAVE_GROUP_GET_TIMINGS 1
#define VFIOMIG_HAVE_GROUP_HARVEST 1
#define VFIOMIG_HAVE_GROUP_NEW 1
#define VFIOMIG_HAVE_GROUP_PAUSE 1
#define VFIOMIG_HAVE_GROUP_PAUSE_BEGIN 1
#define VFIOMIG_HAVE_GROUP_REMOVE_DEVICE 1
#define VFIOMIG_HAVE_GROUP_REMOVE_TRACKER 1
#define VFIOMIG_HAVE_GROUP_RESUME 1
#define VFIOMIG_HAVE_GROUP_RESUME_BEGIN 1
#define VFIOMIG_HAVE_GROUP_SET_TIMINGS 1
#define VFIOMIG_HAVE_GROUP_START 1
#define VFIOMIG_HAVE_GROUP_START_BEGIN 1
#define VFIOMIG_HAVE_GROUP_STOP 1
#define VFIOMIG_HAVE_GROUP_STOP_BEGIN 1
#define VFIOMIG_HAVE_HAS_FEATURE 1
#define VFIOMIG_HAVE_MIGRATION_ABORT 1
#define VFIOMIG_HAVE_MIGRATION_ADVANCE 1
#define VFIOMIG_HAVE_MIGRATION_ADVANCE_DEVICE 1
#define VFIOMIG_HAVE_MIGRATION_CANCEL 1
#define VFIOMIG_HAVE_MIGRATION_END 1
#define VFIOMIG_HAVE_MIGRATION_FREE 1
#define VFIOMIG_HAVE_MIGRATION_GET_ESTIMATE 1
#define VFIOMIG_HAVE_MIGRATION_GET_PENDING 1
#define VFIOMIG_HAVE_MIGRATION_GET_PHASE 1
#define VFIOMIG_HAVE_MIGRATION_GET_REPORT 1
#define VFIOMIG_HAVE_MIGRATION_LOAD_COMPLETE 1
#define VFIOMIG_HAVE_MIGRATION_LOAD_DONE 1
#define VFIOMIG_HAVE_MIGRATION_LOAD_FROM 1
#define VFIOMIG_HAVE_MIGRATION_NEW 1
#define VFIOMIG_HAVE_MIGRATION_SAVE_COMPLETE 1
#define VFIOMIG_HAVE_MIGRATION_SAVE_ITERATE 1
#define VFIOMIG_HAVE_MIGRATION_SAVE_TO 1
#define VFIOMIG_HAVE_PHASE_NAME 1
#define VFIOMIG_HAVE_READER_FREE 1
#define VFIOMIG_HAVE_READER_GET_DEVICE 1
#define VFIOMIG_HAVE_READER_GET_DEVICE_COUNT 1
#define VFIOMIG_HAVE_READER_NEW 1
#define VFIOMIG_HAVE_READER_NEXT 1
#define VFIOMIG_HAVE_REPORT_COUNTERS 1
#define VFIOMIG_HAVE_REPORT_ENTRY 1
#define VFIOMIG_HAVE_REPORT_ENTRY_COUNT 1
#define VFIOMIG_HAVE_REPORT_FREE 1
#define VFIOMIG_HAVE_REPORT_JSON 1
#define VFIOMIG_HAVE_REPORT_PHASE 1
#define VFIOMIG_HAVE_REPORT_PHASE_COUNT 1
#define VFIOMIG_HAVE_REPORT_TEXT 1
#define VFIOMIG_HAVE_SET_LOG 1
#define VFIOMIG_HAVE_STATE_NAME 1
#define VFIOMIG_HAVE_TRACKER_ADD_DEVICE 1
#define VFIOMIG_HAVE_TRACKER_ADD_FOREIGN 1
#define VFIOMIG_HAVE_TRACKER_ADD_HWPT 1
#define VFIOMIG_HAVE_TRACKER_FREE 1
#define VFIOMIG_HAVE_TRACKER_GET_INFO 1
#define VFIOMIG_HAVE_TRACKER_HARVEST 1
#define VFIOMIG_HAVE_TRACKER_HARVEST_MANY 1
#define VFIOMIG_HAVE_TRACKER_MAP 1
#define VFIOMIG_HAVE_TRACKER_NEW 1
#define VFIOMIG_HAVE_TRACKER_NEW_OPS 1
#define VFIOMIG_HAVE_TRACKER_REMOVE_DEVICE 1
#define VFIOMIG_HAVE_TRACKER_REMOVE_FOREIGN 1
#define VFIOMIG_HAVE_TRACKER_REMOVE_HWPT 1
#define VFIOMIG_HAVE_TRACKER_START 1
#define VFIOMIG_HAVE_TRACKER_STOP 1
#define VFIOMIG_HAVE_TRACKER_UNMAP 1
#define VFIOMIG_HAVE_VERSION 1
#define VFIOMIG_HAVE_VFIO_USER_CALL 1
#define VFIOMIG_HAVE_VFIO_USER_CONNECT 1
#define VFIOMIG_HAVE_VFIO_USER_CONNECT_FD 1
#define VFIOMIG_HAVE_VFIO_USER_FREE 1
#define VFIOMIG_HAVE_VFIO_USER_GET_INFO 1
#define VFIOMIG_HAVE_VFIO_USER_MAP 1
#define VFIOMIG_HAVE_VFIO_USER_SERVE 1
#define VFIOMIG_HAVE_VFIO_USER_UNMAP 1
#define VFIOMIG_HAVE_WRITER_DATA 1
#define VFIOMIG_HAVE_WRITER_END 1
#define VFIOMIG_HAVE_WRITER_FAIL 1
#define VFIOMIG_HAVE_WRITER_FINISH 1
#define VFIOMIG_HAVE_WRITER_FLUSH 1
#define VFIOMIG_HAVE_WRITER_FREE 1
#define VFIOMIG_HAVE_WRITER_NEW 1
#define VFIOMIG_HAVE_WRITER_VMM 1
#define VFIOMIG_HAVE_WRITER_VOID 1

/**
 * A size, time or rate that is not known. What is not known is never reported as 0.
 */
#define VFIOMIG_UNKNOWN 18446744073709551615ull

/**
 * Device fds of the kernel: vfiomig_device_new_kernel().
 */
#define VFIOMIG_FEATURE_TRANSPORT_KERNEL 1

/**
 * Functions of the VMM: vfiomig_device_new_ops().
 */
#define VFIOMIG_FEATURE_TRANSPORT_OPS 2

/**
 * The v2 protocol.
 */
#define VFIOMIG_FEATURE_DIALECT_V2 3

/**
 * The v1 protocol.
 */
#define VFIOMIG_FEATURE_DIALECT_V1 4

/**
 * The draft protocol.
 */
#define VFIOMIG_FEATURE_DIALECT_DRAFT 5

/**
 * Dirty logs: vfiomig_tracker_new(), over DMA logs of devices, type1 containers, iommufd page
 * tables and the draft's registers.
 */
#define VFIOMIG_FEATURE_TRACKER 6

/**
 * Groups and migrations: vfiomig_group_new(), vfiomig_migration_new().
 */
#define VFIOMIG_FEATURE_GROUP 7

/**
 * Devices of other processes: vfiomig_device_new_vfio_user(), vfiomig_vfio_user_connect().
 */
#define VFIOMIG_FEATURE_TRANSPORT_VFIO_USER 8

/**
 * Queues between devices and the caller: `queue_bytes` of vfiomig_migration_options.
 */
#define VFIOMIG_FEATURE_QUEUES 9

/**
 * A wire for streams and records: vfiomig_writer_new(), vfiomig_reader_new().
 */
#define VFIOMIG_FEATURE_WIRE 10

/**
 * The device has failed. Only a reset leads out; until then it may do DMA.
 */
#define VFIOMIG_STATE_ERROR 0

/**
 * The device is stopped and has no session.
 */
#define VFIOMIG_STATE_STOP 1

/**
 * The device runs.
 */
#define VFIOMIG_STATE_RUNNING 2

/**
 * The device is stopped, and a save session is open.
 */
#define VFIOMIG_STATE_STOP_COPY 3

/**
 * The device is stopped and its state is undefined; a load session is open.
 */
#define VFIOMIG_STATE_RESUMING 4

/**
 * The device runs, but starts no peer-to-peer DMA. It may still write RAM. The VMM must not access
 * it.
 */
#define VFIOMIG_STATE_RUNNING_P2P 5

/**
 * The device runs and logs the changes of its own state; a save session is open.
 */
#define VFIOMIG_STATE_PRE_COPY 6

/**
 * As RUNNING_P2P, and the device logs the changes of its own state; a save session is open.
 */
#define VFIOMIG_STATE_PRE_COPY_P2P 7

/**
 * A parameter is wrong; nothing was done.
 */
#define VFIOMIG_ERR_ARGUMENT 1

/**
 * A chunk or buffer is still lent; or another call is in progress on a device that does not wait
 * (-EBUSY); or the call comes from a callback and would wait for itself (-EDEADLK).
 */
#define VFIOMIG_ERR_BUSY 2

/**
 * The call is not allowed in this state or phase; nothing was done.
 */
#define VFIOMIG_ERR_ORDER 3

/**
 * The device, its driver or this library cannot do it.
 */
#define VFIOMIG_ERR_UNSUPPORTED 4

/**
 * The device or its driver refused a request, or failed in it. The errno is the kernel's.
 */
#define VFIOMIG_ERR_DEVICE 5

/**
 * The device broke the protocol.
 */
#define VFIOMIG_ERR_PROTOCOL 6

/**
 * A descriptor or function of the caller failed, or there is no memory; no device is to blame. The
 * errno is that of the failure.
 */
#define VFIOMIG_ERR_SYSTEM 7

/**
 * A stream is shorter or longer than the source side counted.
 */
#define VFIOMIG_ERR_INCOMPLETE 8

/**
 * The session has ended or is broken, the stream is void, or the device was changed outside of this
 * library.
 */
#define VFIOMIG_ERR_STALE 9

/**
 * vfiomig_migration_cancel() was called, or an abort ended the call.
 */
#define VFIOMIG_ERR_CANCELED 10

/**
 * A bug in the library was caught. The handle accepts only its _free function.
 */
#define VFIOMIG_ERR_PANIC 11

/**
 * The device stays in the state that `found` names.
 */
#define VFIOMIG_ACTION_NONE 0

/**
 * The device was brought to the state that the caller named for this case.
 */
#define VFIOMIG_ACTION_RECOVERED 1

/**
 * The device was reset: its former state is gone.
 */
#define VFIOMIG_ACTION_RESET 2

/**
 * The state of the device cannot be read. Only vfiomig_device_reset(), vfiomig_device_reprobe() and
 * vfiomig_device_free() are left.
 */
#define VFIOMIG_ACTION_DEAD 3

/**
 * In vfiomig_device_result.flags: the device was not waited for any longer, or its stream has no
 * end yet; the same call can be made again. -ETIMEDOUT without it is the driver's own.
 */
#define VFIOMIG_RESULT_AGAIN 1

/**
 * Something failed that the library could not mend; the caller gets the same as an error object.
 * Levels are those of syslog.
 */
#define VFIOMIG_LOG_ERROR 3

/**
 * Something is unusual and was handled.
 */
#define VFIOMIG_LOG_WARNING 4

/**
 * One line for each step that matters to an operator.
 */
#define VFIOMIG_LOG_INFO 6

/**
 * One line for each request to a device.
 */
#define VFIOMIG_LOG_DEBUG 7

/**
 * As option: look for every dialect.
 */
#define VFIOMIG_DIALECT_AUTO 0

/**
 * As information: the device is not migratable, and `reason` says why.
 */
#define VFIOMIG_DIALECT_NONE 0

/**
 * The 2019 proposal of the migration region. A draft device that uses v1's region id is taken for
 * v1 unless the options name DRAFT.
 */
#define VFIOMIG_DIALECT_DRAFT 1

/**
 * Migration region, Linux 5.8 to 5.17, with or without NDMA.
 */
#define VFIOMIG_DIALECT_V1 2

/**
 * Device feature and data fd, Linux 5.18.
 */
#define VFIOMIG_DIALECT_V2 3

/**
 * draft_cursor: the client writes the range once, and the device remembers how much of the bitmap
 * was read. Default for region type 2.
 */
#define VFIOMIG_DRAFT_CURSOR_STICKY 1

/**
 * draft_cursor: the client writes the rest of the range for each part. Default for region type 3.
 */
#define VFIOMIG_DRAFT_CURSOR_REWRITE 2

/**
 * Never map the migration region: trapped access only, so that no device can raise SIGBUS in the
 * VMM.
 */
#define VFIOMIG_DEVICE_F_NO_MMAP 1

/**
 * For devices whose data_size may read 0: the length of the segment is then min(pending_bytes, the
 * area). Seen on a vendor's vGPU.
 */
#define VFIOMIG_DEVICE_F_ZERO_DATA_SIZE 2

/**
 * Load a segment that is larger than the device's window in parts, as QEMU does; the protocol
 * forbids it.
 */
#define VFIOMIG_DEVICE_F_SPLIT_SEGMENTS 4

/**
 * Move trapped data 8, 4, 2 or 1 bytes at a time, naturally aligned, for drivers that refuse other
 * accesses.
 */
#define VFIOMIG_DEVICE_F_ALIGNED_ACCESS 8

/**
 * Calls of the class *device* that would wait for another call on the handle return -EBUSY at once.
 * Calls that the library makes itself, within functions of a group or migration, wait all the same.
 */
#define VFIOMIG_DEVICE_F_NO_WAIT 16

/**
 * No tracker uses the log of written pages that the device keeps itself: a tracker with this device
 * uses page tables, the container's log, or none.
 */
#define VFIOMIG_DEVICE_F_NO_LOG 32

/**
 * The device has PRE_COPY.
 */
#define VFIOMIG_CAP_PRE_COPY 1

/**
 * The device has RUNNING_P2P, and PRE_COPY_P2P if it has PRE_COPY.
 */
#define VFIOMIG_CAP_P2P 2

/**
 * The device says that it can be reset, or that it can in another state (libvfio-user). Some
 * devices without this bit can be reset, too (mtty).
 */
#define VFIOMIG_CAP_RESET 4

/**
 * The device reports when it begins again with initial data; reinit_count counts it.
 */
#define VFIOMIG_CAP_REINIT 8

/**
 * Chunks and lent buffers are device memory, not copies (v1, draft). Known from the first session
 * on.
 */
#define VFIOMIG_CAP_MAPPED 16

/**
 * In vfiomig_device_pending.flags: the sizes are those of the last query. A segment was read in
 * part, and asking the device would have acknowledged it (v1, draft).
 */
#define VFIOMIG_PENDING_CACHED 1

/**
 * The functions may be called from threads that the library makes within a call, for different
 * devices or trackers at once, one call at a time for each. Without it they are called only from
 * the thread that called the library.
 */
#define VFIOMIG_OPS_F_ANY_THREAD 1

/**
 * vfiomig_device_ops: a report of the DMA log (VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT) only sets
 * bits, and leaves the other bits of the bitmap as they are. The kernel does that, so set it where
 * device_feature passes the request on to the kernel. Reports of several devices then go into one
 * buffer. Without it each gets a buffer that is all zero.
 */
#define VFIOMIG_OPS_F_REPORT_ADDS_BITS 2

/**
 * After a failed state change, leave the device in the state in which it is found.
 */
#define VFIOMIG_ON_FAILURE_KEEP 0

/**
 * After a failed state change, reset the device: its state is lost.
 */
#define VFIOMIG_ON_FAILURE_RESET 1

/**
 * Also take arcs that are legal for the kernel but throw away what the device holds
 * (docs/states.md).
 */
#define VFIOMIG_SET_STATE_F_RAW 1

/**
 * Ask the device. Without it the last known sizes are returned.
 */
#define VFIOMIG_PENDING_F_EXACT 1

/**
 * Largest size of a device's name in bytes, with the terminating NUL.
 */
#define VFIOMIG_NAME_SIZE 256

/**
 * Size of every `reason` in bytes, with the terminating NUL. A longer text is cut, possibly in the
 * middle of a UTF-8 character.
 */
#define VFIOMIG_REASON_SIZE 256

/**
 * First generation: map the window of the migration region where the server offers it. Some servers
 * need it (SPDK); others offer a window that they never look at, whose bytes are all zero: a save
 * finds that out and fails.
 */
#define VFIOMIG_VFIO_USER_F_MAP_REGION 2

/**
 * In vfiomig_vfio_user_call.flags, set by the library: the server may not know the command. If its
 * reply has the error flag and errno 0, another reply follows, which is to be thrown away.
 */
#define VFIOMIG_VFIO_USER_F_MAY_BE_UNKNOWN 1

/**
 * In vfiomig_vfio_user_call.flags, set by who answers: the reply had the error flag and errno 0.
 */
#define VFIOMIG_VFIO_USER_NO_ERRNO 2

/**
 * In vfiomig_vfio_user_call.flags, set by who answers: no reply came in time.
 */
#define VFIOMIG_VFIO_USER_NO_REPLY 4

/**
 * vfiomig_vfio_user_options: do not ask the server for a second socket for its own requests.
 * Without one libvfio-user mixes up messages when both sides send at once.
 */
#define VFIOMIG_VFIO_USER_F_ONE_SOCKET 4

/**
 * vfiomig_vfio_user_map(): the device may read the memory.
 */
#define VFIOMIG_VFIO_USER_DMA_F_READ 1

/**
 * vfiomig_vfio_user_map(): the device may write to the memory.
 */
#define VFIOMIG_VFIO_USER_DMA_F_WRITE 2

/**
 * In vfiomig_vfio_user_info.flags: the server says that its device can be migrated. A hint;
 * vfiomig_device_get_info() knows.
 */
#define VFIOMIG_VFIO_USER_MIGRATABLE 1

/**
 * In vfiomig_vfio_user_info.flags: the server has a second socket for its own requests.
 */
#define VFIOMIG_VFIO_USER_TWIN_SOCKET 2

/**
 * There is nothing now, and more may come. In PRE_COPY and PRE_COPY_P2P only.
 */
#define VFIOMIG_CHUNK_EMPTY 1

/**
 * The stream is whole: nothing follows. Only in STOP_COPY.
 */
#define VFIOMIG_CHUNK_END 2

/**
 * The last byte ends a segment (v1, draft). The destination side needs the same segments in the
 * same order, so the VMM's format must carry this flag.
 */
#define VFIOMIG_CHUNK_SEGMENT_END 4

/**
 * The bytes are device memory: copy them once, never pin them. Reading may raise SIGBUS if the
 * device goes away.
 */
#define VFIOMIG_CHUNK_DEVICE_MEM 8

/**
 * Other threads may change the bits of `dst` at the same time, with atomic operations of 8 bytes or
 * less; for vfiomig_bitmap_take() those of `src`, too.
 */
#define VFIOMIG_BITMAP_F_ATOMIC 1

/**
 * container_fd is given.
 */
#define VFIOMIG_TRACKER_F_TYPE1 1

/**
 * iommufd is given, and hwpt_ids if there are page tables already.
 */
#define VFIOMIG_TRACKER_F_HWPT 2

/**
 * ioas_id is given: the library can unmap from it. Only with VFIOMIG_TRACKER_F_HWPT.
 */
#define VFIOMIG_TRACKER_F_IOAS 4

/**
 * Do not use the devices' own logs.
 */
#define VFIOMIG_TRACKER_F_NO_DEVICE_LOG 8

/**
 * Use no log at all: everything that is mapped is dirty at each harvest.
 */
#define VFIOMIG_TRACKER_F_EVERYTHING 16

/**
 * No log: everything that is mapped is dirty at each harvest.
 */
#define VFIOMIG_TRACKER_KIND_EVERYTHING 1

/**
 * The container's log.
 */
#define VFIOMIG_TRACKER_KIND_TYPE1 2

/**
 * The DMA log of each device (v2; some may be draft devices).
 */
#define VFIOMIG_TRACKER_KIND_DMA_LOG 3

/**
 * Dirty tracking of hardware page tables.
 */
#define VFIOMIG_TRACKER_KIND_HWPT 4

/**
 * The dirty-page registers of draft devices. They answer only while the device saves: enter
 * PRE_COPY before vfiomig_tracker_start(), or the first harvest in PRE_COPY finds everything dirty.
 */
#define VFIOMIG_TRACKER_KIND_DRAFT 5

/**
 * A log that the VMM keeps itself.
 */
#define VFIOMIG_TRACKER_KIND_OPS 6

/**
 * In vfiomig_tracker_info.flags: every harvest reports all that is mapped as dirty, so waiting does
 * not help. For a type1 container it is set by the first read of a mapped page, and cleared when a
 * clean page is seen. For other logs it is set while the log cannot be read; `reason` says
 * why.
 */
#define VFIOMIG_TRACKER_PERPETUAL 1

/**
 * Other threads set and clear bits of the bitmap at the same time: it is changed by atomic
 * operations.
 */
#define VFIOMIG_DEST_F_ATOMIC 1

/**
 * Report what earlier reads left over, and read no log.
 */
#define VFIOMIG_HARVEST_F_NO_READ 1

/**
 * vfiomig_group_harvest() only: the devices do no DMA while the logs are read.
 */
#define VFIOMIG_HARVEST_F_WITHOUT_DMA 2

/**
 * Only watch (a dirty-rate tool): what is reported stays in the tracker, and is reported again to
 * the harvest that takes it. Such a harvest is never the final one.
 */
#define VFIOMIG_HARVEST_F_KEEP 4

/**
 * Read the logs only where they cover a destination, with the neighbouring pages that a log cannot
 * separate. Needs destinations. It is a final harvest only if these are all that is mapped.
 */
#define VFIOMIG_HARVEST_F_ONLY_DESTS 8

/**
 * `words` gets its words in little-endian order on every host: bit n is bit n % 8 of byte n / 8.
 * Needs `words`. On little-endian hosts this is the order of the host.
 */
#define VFIOMIG_HARVEST_F_LITTLE_ENDIAN 16

/**
 * In vfiomig_harvest_result.flags: a read failed, and what it may have hidden is dirty.
 */
#define VFIOMIG_HARVEST_DEGRADED 1

/**
 * In vfiomig_harvest_result.flags: a callback returned another value than 0; what it did not get is
 * left over.
 */
#define VFIOMIG_HARVEST_STOPPED 2

/**
 * vfiomig_tracker_unmap(): no device writes to the range during the call.
 */
#define VFIOMIG_UNMAP_F_NO_DMA 1

/**
 * vfiomig_tracker_unmap(): the library unmaps, through the container or the IOAS of the options.
 */
#define VFIOMIG_UNMAP_F_LIBRARY 2

/**
 * In vfiomig_phase_report.flags: the phase was not entered.
 */
#define VFIOMIG_PHASE_REPORT_FAILED 1

/**
 * vfiomig_entry_report.kind: vfiomig_migration_save_iterate().
 */
#define VFIOMIG_ENTRY_ROUNDS 1

/**
 * vfiomig_entry_report.kind: vfiomig_migration_save_complete().
 */
#define VFIOMIG_ENTRY_SAVE_COMPLETE 2

/**
 * vfiomig_entry_report.kind: vfiomig_migration_load_complete().
 */
#define VFIOMIG_ENTRY_LOAD_COMPLETE 3

/**
 * vfiomig_entry_report.kind: harvests of the trackers that the migration has started.
 */
#define VFIOMIG_ENTRY_HARVEST 4

/**
 * vfiomig_entry_report.kind: a failure that is not one of a device's state change; `text` says
 * what failed and why.
 */
#define VFIOMIG_ENTRY_FAILURE 5

/**
 * vfiomig_entry_report.kind: streams that were read ahead of the VMM's calls (queue_bytes of
 * vfiomig_migration_options), from the first read of the first device to the last one of the last.
 * The devices are read side by side, so the sum of the times of `parts` may be more than that. It
 * continues beside the VMM's calls: it is not to be added to what these took.
 */
#define VFIOMIG_ENTRY_READ_AHEAD 7

/**
 * vfiomig_entry_report.kind: a device that went to LOAD_LOADED by itself, beside the streams of
 * others: one entry for each, whose only part is that device and all that it took before. Its time
 * continues beside calls of the VMM; what these wait for is in the phase.
 */
#define VFIOMIG_ENTRY_LOADED 6

/**
 * In vfiomig_entry_report.flags: the work failed.
 */
#define VFIOMIG_ENTRY_F_FAILED 1

/**
 * Nothing is asked of the device.
 */
#define VFIOMIG_REQUEST_NONE 0

/**
 * To go to the state `target`.
 */
#define VFIOMIG_REQUEST_SET_STATE 1

/**
 * The next bytes of its stream.
 */
#define VFIOMIG_REQUEST_READ 2

/**
 * To take bytes of its stream.
 */
#define VFIOMIG_REQUEST_WRITE 3

/**
 * Where it is, what it can do, or how much is left.
 */
#define VFIOMIG_REQUEST_QUERY 4

/**
 * To reset.
 */
#define VFIOMIG_REQUEST_RESET 5

/**
 * A request to the draft's log of written pages. Requests to a DMA log are in `log_since_ns`, for
 * they are made beside the others.
 */
#define VFIOMIG_REQUEST_LOG 6

/**
 * In vfiomig_progress.flags: this is a log of one of the group's trackers, and no device.
 */
#define VFIOMIG_PROGRESS_TRACKER 1

/**
 * vfiomig_progress_event.kind: a device is done with its step, or has failed in it.
 */
#define VFIOMIG_PROGRESS_ARRIVED 1

/**
 * vfiomig_progress_event.kind: the interval has passed.
 */
#define VFIOMIG_PROGRESS_WAITING 2

/**
 * vfiomig_group_abilities: a save can begin.
 */
#define VFIOMIG_ABILITY_MIGRATABLE 1

/**
 * vfiomig_group_abilities: all devices have PRE_COPY.
 */
#define VFIOMIG_ABILITY_PRE_COPY 2

/**
 * vfiomig_group_abilities: device memory may be mapped for DMA by other devices.
 */
#define VFIOMIG_ABILITY_P2P 4

/**
 * vfiomig_group_abilities: devices may be set up for page requests, which a vCPU has to answer.
 */
#define VFIOMIG_ABILITY_PAGE_REQUESTS 8

/**
 * The group is saved.
 */
#define VFIOMIG_DIRECTION_SAVE 1

/**
 * The group is loaded.
 */
#define VFIOMIG_DIRECTION_LOAD 2

/**
 * Nothing was begun, or everything was aborted.
 */
#define VFIOMIG_PHASE_IDLE 0

/**
 * Every tracker is started; draft devices are in PRE_COPY.
 */
#define VFIOMIG_PHASE_SAVE_TRACKING 1

/**
 * Every running device that has PRE_COPY is in it.
 */
#define VFIOMIG_PHASE_SAVE_PRE_COPY 2

/**
 * v1 devices with NDMA start no DMA, while vCPUs still run to answer page requests. Optional.
 */
#define VFIOMIG_PHASE_SAVE_VIOMMU_GRACE 3

/**
 * vCPUs are stopped; every device that has a P2P state is in it.
 */
#define VFIOMIG_PHASE_SAVE_P2P_GRACE 4

/**
 * All devices are in STOP_COPY: the final harvest, and the rest of the streams.
 */
#define VFIOMIG_PHASE_SAVE_STOP_COPY 5

/**
 * Everything was read; trackers are stopped, devices in STOP.
 */
#define VFIOMIG_PHASE_SAVE_HALTED 6

/**
 * Devices take their streams.
 */
#define VFIOMIG_PHASE_LOAD_RESUMING 17

/**
 * The streams are whole; v2 devices have validated them. The guest may stay here, paused.
 */
#define VFIOMIG_PHASE_LOAD_LOADED 18

/**
 * Every device that has RUNNING_P2P is in it.
 */
#define VFIOMIG_PHASE_LOAD_P2P_GRACE 19

/**
 * All devices run. Start vCPUs after this was entered.
 */
#define VFIOMIG_PHASE_LOAD_RUNNING 20

/**
 * A device failed. Only vfiomig_migration_abort(), the getters and vfiomig_migration_free() are
 * allowed.
 */
#define VFIOMIG_PHASE_FAILED 32

/**
 * To HALTED without a final harvest: the caller states that the destination side has all of RAM.
 */
#define VFIOMIG_ADVANCE_F_NO_HARVEST 1

/**
 * vfiomig_migration_abort(): all devices to RUNNING.
 */
#define VFIOMIG_ABORT_TO_RUNNING 0

/**
 * vfiomig_migration_abort(): all devices to STOP.
 */
#define VFIOMIG_ABORT_TO_STOP 1

/**
 * vfiomig_migration_abort(): to the VM's run state: STOP if the last of vfiomig_group_pause() and
 * vfiomig_group_resume() was a pause, else RUNNING. A call that failed for a device counts, too,
 * since vCPUs are stopped before a pause, and started after a resume.
 */
#define VFIOMIG_ABORT_TO_RUN_STATE 2

/**
 * vfiomig_migration_abort(): the caller states that the guest does not run elsewhere and never
 * will. Required once vfiomig_migration_advance() to HALTED was called.
 */
#define VFIOMIG_ABORT_F_NO_SECOND_GUEST 1

/**
 * In vfiomig_migration_estimate.unknown: how long some state changes take.
 */
#define VFIOMIG_ESTIMATE_TRANSITION 1

/**
 * In vfiomig_migration_estimate.unknown: how much some devices have left.
 */
#define VFIOMIG_ESTIMATE_BYTES 2

/**
 * In vfiomig_migration_estimate.unknown: the rate of the channel.
 */
#define VFIOMIG_ESTIMATE_RATE 4

/**
 * `fd` of a vfiomig_channel is given.
 */
#define VFIOMIG_CHANNEL_F_FD 1

/**
 * `total` of a vfiomig_channel is given: to load, always with VFIOMIG_CHANNEL_F_FD; to save, never.
 */
#define VFIOMIG_CHANNEL_F_TOTAL 2

/**
 * In vfiomig_drain_result.flags: the device has no open stream in this phase. A device without
 * PRE_COPY has one in STOP_COPY.
 */
#define VFIOMIG_CHUNK_NO_STREAM 16

/**
 * vfiomig_migration_end() with `committed` 1: the caller states that the destination side has all
 * of RAM without a final harvest.
 */
#define VFIOMIG_END_F_NO_HARVEST 1

/**
 * vfiomig_migration_end() with `committed` 0: the caller states that the guest does not run
 * elsewhere and never will. Required once SAVE_HALTED was begun.
 */
#define VFIOMIG_END_F_NO_SECOND_GUEST 2

/**
 * vfiomig_group_stop_begin(), vfiomig_group_stop(): the VM stops so that its guest is handed over,
 * not for its user.
 */
#define VFIOMIG_STOP_F_HAND_OVER 1

/**
 * In vfiomig_run_state_result.action: the devices are where they have to be.
 */
#define VFIOMIG_RUN_STATE_ACTION_NOTHING 0

/**
 * In vfiomig_run_state_result.action: devices were stopped; a migration is as it was.
 */
#define VFIOMIG_RUN_STATE_ACTION_PAUSED 1

/**
 * In vfiomig_run_state_result.action: devices run again.
 */
#define VFIOMIG_RUN_STATE_ACTION_RESUMED 2

/**
 * In vfiomig_run_state_result.action: the migration entered another phase.
 */
#define VFIOMIG_RUN_STATE_ACTION_ADVANCED 3

/**
 * In vfiomig_run_state_result.action: the migration was aborted.
 */
#define VFIOMIG_RUN_STATE_ACTION_ABORTED 4

/**
 * vfiomig_writer_options: `fd` is given, and `write` is NULL.
 */
#define VFIOMIG_WRITER_F_FD 1

/**
 * In place of the number of a device: the record is of none.
 */
#define VFIOMIG_RECORD_NO_DEVICE 4294967295

/**
 * vfiomig_reader_options: `fd` is given, and `read` is NULL.
 */
#define VFIOMIG_READER_F_FD 1

/**
 * vfiomig_record: the devices came; vfiomig_reader_get_device() has them. Always the first record.
 */
#define VFIOMIG_RECORD_TABLE 1

/**
 * vfiomig_record: the next bytes of a device's stream.
 */
#define VFIOMIG_RECORD_DATA 2

/**
 * vfiomig_record: a device's stream is whole.
 */
#define VFIOMIG_RECORD_END 3

/**
 * vfiomig_record: a device's stream begins anew; what came of it is thrown away.
 */
#define VFIOMIG_RECORD_VOID 4

/**
 * vfiomig_record: a record of the VMM.
 */
#define VFIOMIG_RECORD_VMM 5

/**
 * vfiomig_record: the channel is whole, and nothing more of it follows.
 */
#define VFIOMIG_RECORD_FINISH 6

/**
 * vfiomig_save_to_request: rounds while the guest runs, until `step` says that there were enough.
 */
#define VFIOMIG_SAVE_TO_F_ROUNDS 1

/**
 * vfiomig_wire_step_fn: something was moved; about ten times a second. Only functions of the class
 * any may be called.
 */
#define VFIOMIG_STEP_PROGRESS 1

/**
 * vfiomig_wire_step_fn, save: a round has ended. The VMM sends its RAM, in the first round all of
 * it, later what became dirty, and returns 1 for another round, or 0.
 */
#define VFIOMIG_STEP_ROUND 2

/**
 * vfiomig_wire_step_fn, save: vCPUs and everything of the VMM that emulates stop now.
 */
#define VFIOMIG_STEP_STOP_VM 3

/**
 * vfiomig_wire_step_fn, save: the devices are in SAVE_P2P_GRACE. The VMM saves what the kernel
 * owns, such as the configuration space.
 */
#define VFIOMIG_STEP_GRACE 4

/**
 * vfiomig_wire_step_fn, save: the devices are in SAVE_STOP_COPY. Final harvest and last RAM.
 */
#define VFIOMIG_STEP_STOPPED 5

/**
 * vfiomig_wire_step_fn, save: every stream is on the wire. The VMM's last records.
 */
#define VFIOMIG_STEP_LAST 6

/**
 * vfiomig_wire_step_fn, load: the table came and is that of the group; no device was touched.
 */
#define VFIOMIG_STEP_TABLE 7

/**
 * One migratable VFIO device. Made by `vfiomig_device_new_*`, freed by vfiomig_device_free().
 */
struct vfiomig_device;

/**
 * An error. Made by the library, freed by vfiomig_error_free().
 */
struct vfiomig_error;

/**
 * The devices and trackers of one VM. Not a VFIO (IOMMU) group. Made by vfiomig_group_new(), freed
 * by vfiomig_group_free().
 */
struct vfiomig_group;

/**
 * One save or one load of a group. Made by vfiomig_migration_new(), freed by
 * vfiomig_migration_free().
 */
struct vfiomig_migration;

/**
 * One channel of a wire that is read. Made by vfiomig_reader_new(), freed by vfiomig_reader_free().
 */
struct vfiomig_reader;

/**
 * A report. Made by the library, freed by vfiomig_report_free().
 */
struct vfiomig_report;

/**
 * The dirty log of one address space. Made by `vfiomig_tracker_new*`, freed by
 * vfiomig_tracker_free().
 */
struct vfiomig_tracker;

/**
 * A connection of the library's own to a vfio-user server. Made by `vfiomig_vfio_user_connect*`,
 * freed by vfiomig_vfio_user_free().
 */
struct vfiomig_vfio_user;

/**
 * One channel of a wire that is written. Made by vfiomig_writer_new(), freed by
 * vfiomig_writer_free().
 */
struct vfiomig_writer;

/**
 * What one step did to one device. Fixed layout, never grows. It lives as long as the error or
 * report that holds it.
 */
struct vfiomig_device_result {
  /**
   * The device's name.
   */
  const char *device;
  /**
   * What happened to the device, in words; may be empty.
   */
  const char *message;
  /**
   * How long the step took on this device.
   */
  uint64_t duration_ns;
  /**
   * The device's errno, positive; 0 where the device itself did not fail.
   */
  int32_t saved_errno;
  /**
   * VFIOMIG_STATE_* before the step.
   */
  uint32_t from;
  /**
   * VFIOMIG_STATE_* that was requested.
   */
  uint32_t to;
  /**
   * VFIOMIG_STATE_* that was read after the step, after `action` was done. VFIOMIG_STATE_ERROR if
   * `action` is VFIOMIG_ACTION_DEAD.
   */
  uint32_t found;
  /**
   * VFIOMIG_ACTION_*.
   */
  uint32_t action;
  /**
   * VFIOMIG_RESULT_AGAIN, or 0.
   */
  uint32_t flags;
};

/**
 * Receives one line, without line end, valid during the call. `level` is one of VFIOMIG_LOG_*. It
 * is called on the thread that called the library, with no lock held. It may call the library, also
 * vfiomig_set_log(), but not for the device that the message is about.
 */
typedef void (*vfiomig_log_fn)(void *opaque, int level, const char *message);

/**
 * How a device is made. Set up with VFIOMIG_INIT. NULL stands for all defaults.
 */
struct vfiomig_device_options {
  /**
   * Size of this struct, set by VFIOMIG_INIT.
   */
  uint32_t argsz;
  /**
   * VFIOMIG_DEVICE_F_*.
   */
  uint32_t flags;
  /**
   * For messages; at most 255 bytes, copied; unique within a group. UTF-8; other bytes read as "?".
   * NULL or empty: "device"; on a connection "vfio-user" with the path of its socket, or with the
   * number of the library's descriptor. A wire finds devices by name, the same one at both ends.
   */
  const char *name;
  /**
   * Size of the library's buffer in bytes, 4096 to 2^30; 0: 1 MiB.
   */
  uint64_t buffer_size;
  /**
   * VFIOMIG_DIALECT_*.
   */
  uint32_t dialect;
  /**
   * VFIOMIG_DRAFT_CURSOR_*; 0: by the region's type. The drafts disagree on how a dirty bitmap is
   * read in parts.
   */
  uint32_t draft_cursor;
};

/**
 * Functions of the VMM in place of a device fd. They return a count or 0 on success, and -errno on
 * failure; a positive result where 0 is success is a failure, too (EIO). A NULL member means that
 * the request does not exist. device_feature or region_info must be set. The table is copied when a
 * device is made from it. The functions are called on the thread that called the library, or with
 * VFIOMIG_OPS_F_ANY_THREAD on threads that the library makes within a call; one call at a time for
 * each device, with asynchronous signals blocked. They may block. A function must not call back
 * into the same device (-EDEADLK). A coroutine must not yield in it and continue on another thread.
 */
struct vfiomig_device_ops {
  /**
   * Size of this struct, set by VFIOMIG_INIT.
   */
  uint32_t argsz;
  /**
   * VFIOMIG_OPS_F_*.
   */
  uint32_t flags;
  /**
   * VFIO_DEVICE_GET_INFO: fills struct vfio_device_info, argsz bytes. NULL: no migration region is
   * looked for, so that v1 and the draft are not found, and it is not known whether the device can
   * be reset.
   */
  int (*device_info)(void *opaque, void *info, uint32_t argsz);
  /**
   * VFIO_DEVICE_FEATURE: struct vfio_device_feature in place, argsz bytes, with the kernel's
   * numbers (linux/vfio.h), not those of VFIOMIG_STATE_*. -ENOTTY or -EINVAL: the feature does not
   * exist. Needed for v2.
   */
  int (*device_feature)(void *opaque, void *feature, uint32_t argsz);
  /**
   * VFIO_DEVICE_GET_REGION_INFO: struct vfio_region_info and its capabilities in place, argsz
   * bytes. Needed for v1 and the draft, together with device_info, region_read and region_write.
   */
  int (*region_info)(void *opaque, void *info, uint32_t argsz);
  /**
   * Reads from a region. Fewer bytes than `len` are legal, more are not (-EPROTO). Accesses of 4
   * and 8 bytes must not be split.
   */
  int64_t (*region_read)(void *opaque, uint32_t index, uint64_t offset, void *buf, size_t len);
  /**
   * Writes to a region, as region_read reads.
   */
  int64_t (*region_write)(void *opaque, uint32_t index, uint64_t offset, const void *buf, size_t len);
  /**
   * Maps a part of a region, shared with the device. Set together with region_unmap, or not at all.
   */
  int (*region_map)(void *opaque, uint32_t index, uint64_t offset, size_t len, void **ptr);
  /**
   * Undoes region_map.
   */
  void (*region_unmap)(void *opaque, uint32_t index, void *ptr, size_t len);
  /**
   * Does VFIO_DEVICE_RESET once; the library calls it again after -EAGAIN. NULL: the device cannot
   * be reset (UNSUPPORTED).
   */
  int (*device_reset)(void *opaque);
  /**
   * read() of the data fd. data_read, data_write and data_close are all NULL or all set. NULL: the
   * data_fd in the feature is a descriptor, which the library makes non-blocking and closes. Set:
   * that number is ignored. -EAGAIN: nothing was moved, and the library asks again. Every other
   * failure breaks the session, except ENOMSG of a read, and an EINTR of a read that goes away
   * within a second. A count above `len` is -EPROTO.
   */
  int64_t (*data_read)(void *opaque, void *buf, size_t len);
  /**
   * write() of the data fd.
   */
  int64_t (*data_write)(void *opaque, const void *buf, size_t len);
  /**
   * VFIO_MIG_GET_PRECOPY_INFO: struct vfio_precopy_info in place. Only with the three data
   * functions. NULL: sizes in pre-copy are not known.
   */
  int (*data_precopy_info)(void *opaque, void *info, uint32_t argsz);
  /**
   * close() of the data fd: the session has ended.
   */
  void (*data_close)(void *opaque);
};

/**
 * One request to a vfio-user server, without its header, and memory for the payload of its reply.
 */
struct vfiomig_vfio_user_call {
  /**
   * Size of this struct.
   */
  uint32_t argsz;
  /**
   * VFIOMIG_VFIO_USER_F_MAY_BE_UNKNOWN from the asker; VFIOMIG_VFIO_USER_NO_ERRNO and
   * VFIOMIG_VFIO_USER_NO_REPLY from who answers.
   */
  uint32_t flags;
  /**
   * The command's number in the protocol.
   */
  uint32_t command;
  /**
   * How many descriptors go with the request.
   */
  uint32_t fd_count;
  /**
   * The payload of the request; NULL if request_len is 0.
   */
  const void *request;
  /**
   * Its length in bytes.
   */
  uint64_t request_len;
  /**
   * The descriptors, which stay their owner's; NULL if fd_count is 0.
   */
  const int *fds;
  /**
   * Room for the payload of the reply; NULL if reply_room is 0.
   */
  void *reply;
  /**
   * Its size in bytes.
   */
  uint64_t reply_room;
  /**
   * Set by who answers: the bytes of the reply's payload.
   */
  uint64_t reply_len;
  /**
   * Room for descriptors that come with the reply; NULL if reply_fd_room is 0.
   */
  int *reply_fds;
  /**
   * How many of them are taken; who answers closes all others.
   */
  uint32_t reply_fd_room;
  /**
   * Set by who answers: how many there are. They belong to the asker.
   */
  uint32_t reply_fd_count;
};

/**
 * The VMM's own vfio-user client: one function, and what it has negotiated with the server. The
 * table is copied when a device is made from it. The function is called on the thread that called
 * the library, or with VFIOMIG_OPS_F_ANY_THREAD on threads that the library makes within a call;
 * one call at a time for each device, with asynchronous signals blocked. It may block. It must not
 * call back into the same device (-EDEADLK).
 */
struct vfiomig_vfio_user_ops {
  /**
   * Size of this struct, set by VFIOMIG_INIT.
   */
  uint32_t argsz;
  /**
   * VFIOMIG_OPS_F_ANY_THREAD, VFIOMIG_VFIO_USER_F_MAP_REGION.
   */
  uint32_t flags;
  /**
   * Sends the request and waits for its reply. Returns 0; -errno of a reply with the error flag, or
   * of a connection that has failed. A reply with the error flag and errno 0 is -EIO, and sets
   * VFIOMIG_VFIO_USER_NO_ERRNO; if VFIOMIG_VFIO_USER_F_MAY_BE_UNKNOWN is set then, one more reply
   * arrives, whose msg_id is that of no request: read it and throw it away. A reply that is larger
   * than reply_room is read to its end and thrown away: -EMSGSIZE. No reply in time is -ETIMEDOUT,
   * and sets VFIOMIG_VFIO_USER_NO_REPLY: the library asks for nothing more in the step that it is
   * in, so that a silent server costs that one wait. Requests of the server are answered meanwhile,
   * as your client always does.
   */
  int (*call)(void *opaque, struct vfiomig_vfio_user_call *call);
  /**
   * max_data_xfer_size, the smaller of both sides'; 0: 1 MiB.
   */
  uint64_t max_data;
  /**
   * Most bytes of state in one message to the server; 0: 32 KiB. Many servers read a message of
   * more than 36 KiB in part, and are out of step from then on, whatever they negotiated.
   */
  uint64_t max_write;
  /**
   * Most bytes of state in one reply; 0: 1 MiB, or what max_data allows.
   */
  uint64_t max_read;
  /**
   * migration.pgsize: page size of the dirty log of a first-generation server; 0: 4096.
   */
  uint64_t page_size;
  /**
   * Of the version 0.minor that was negotiated.
   */
  uint32_t minor;
  /**
   * max_msg_fds; 0: 1.
   */
  uint32_t max_fds;
};

/**
 * How a connection is made. Set up with VFIOMIG_INIT. NULL stands for all defaults.
 */
struct vfiomig_vfio_user_options {
  /**
   * Size of this struct, set by VFIOMIG_INIT.
   */
  uint32_t argsz;
  /**
   * VFIOMIG_VFIO_USER_F_*; VFIOMIG_OPS_F_ANY_THREAD is for dma_read and dma_write.
   */
  uint32_t flags;
  /**
   * How long a request may take in milliseconds, and those of a state change, a reset or a probe in
   * all; 0: 60000. A server stops its device within a state change.
   */
  uint32_t timeout_ms;
  /**
   * Most bytes of data in a message, 4096 to 2^20; 0: 2^20.
   */
  uint32_t max_data;
  /**
   * Most bytes of state in one message to the server; 0: 32 KiB (struct vfiomig_vfio_user_ops).
   */
  uint64_t max_write;
  /**
   * Most bytes of state in one reply; 0: 1 MiB, or what was negotiated.
   */
  uint64_t max_read;
  /**
   * Reads memory for a server that sends messages: 0 or -errno. Called one at a time, within calls
   * on the connection and on devices on it, on their threads, or with VFIOMIG_OPS_F_ANY_THREAD on
   * threads that the library has for those devices; must not call those back (-EDEADLK). NULL: the
   * library reads and writes what was mapped with a descriptor. Set together with dma_write, or not
   * at all.
   */
  int (*dma_read)(void *opaque, uint64_t address, void *buf, size_t len);
  /**
   * Writes memory, likewise. The pages are marked in the dirty log of the connection's device.
   */
  int (*dma_write)(void *opaque, uint64_t address, const void *buf, size_t len);
  /**
   * For the two functions.
   */
  void *opaque;
};

/**
 * What is known of a connection.
 */
struct vfiomig_vfio_user_info {
  /**
   * Size of this struct, set by VFIOMIG_INIT; left as it is.
   */
  uint32_t argsz;
  /**
   * VFIOMIG_VFIO_USER_MIGRATABLE, VFIOMIG_VFIO_USER_TWIN_SOCKET.
   */
  uint32_t flags;
  /**
   * Of the version 0.minor.
   */
  uint32_t minor;
  /**
   * Most descriptors with a message.
   */
  uint32_t max_fds;
  /**
   * Most bytes of data in a message.
   */
  uint64_t max_data;
  /**
   * Page size of the dirty log of a first-generation server.
   */
  uint64_t page_size;
  /**
   * The socket by which the server asks for something: when it is readable,
   * vfiomig_vfio_user_serve() has something to do. Neither read nor write it.
   */
  int32_t server_fd;
  /**
   * 0.
   */
  uint32_t reserved;
};

/**
 * What is known of a device without asking it.
 */
struct vfiomig_device_info {
  /**
   * Size of this struct, set by VFIOMIG_INIT; left as it is.
   */
  uint32_t argsz;
  /**
   * 0.
   */
  uint32_t flags;
  /**
   * VFIOMIG_DIALECT_*; VFIOMIG_DIALECT_NONE: not migratable, `reason` says why.
   */
  uint32_t dialect;
  /**
   * VFIOMIG_CAP_*; of a device that is not migratable, VFIOMIG_CAP_RESET or 0.
   */
  uint32_t caps;
  /**
   * VFIOMIG_STATE_* as last known; VFIOMIG_STATE_ERROR for a device that is not migratable.
   */
  uint32_t state;
  /**
   * 1 while a session is open (a data fd, or a stay in SAVING or RESUMING), else 0.
   */
  uint32_t session_open;
  /**
   * Sessions that this handle has opened: the number of the current or last one; 0 before the
   * first.
   */
  uint64_t session;
  /**
   * Bytes consumed in the current or last save session; the stream's length once END was reached.
   */
  uint64_t saved_bytes;
  /**
   * Bytes that the device took in the current or last load session.
   */
  uint64_t loaded_bytes;
  /**
   * Why the device is not migratable, in words; empty if it is.
   */
  char reason[VFIOMIG_REASON_SIZE];
};

/**
 * What is left to be saved. All sizes are estimates in bytes. VFIOMIG_UNKNOWN is the largest
 * number: test for it before adding sizes up.
 */
struct vfiomig_device_pending {
  /**
   * Size of this struct, set by VFIOMIG_INIT; left as it is.
   */
  uint32_t argsz;
  /**
   * 0 or VFIOMIG_PENDING_CACHED.
   */
  uint32_t flags;
  /**
   * Initial data that is left. Entering STOP_COPY before it is 0 makes downtime longer. Known in
   * PRE_COPY states only.
   */
  uint64_t initial_bytes;
  /**
   * Data that changed since it was read; some devices never bring it to 0. Known in PRE_COPY states
   * only. v1 and draft: pending_bytes.
   */
  uint64_t dirty_bytes;
  /**
   * All that is left to the end of the stream. It includes the two above; do not add them. In
   * STOP_COPY it goes down with what is read, and is 0 from VFIOMIG_CHUNK_END on. v1 and draft:
   * pending_bytes, known in STOP_COPY only.
   */
  uint64_t stop_copy_bytes;
  /**
   * How often the device began again with initial data.
   */
  uint32_t reinit_count;
  /**
   * 0.
   */
  uint32_t reserved;
};

/**
 * A lent run of a stream's bytes. Fixed layout, never grows.
 */
struct vfiomig_chunk {
  /**
   * First byte; NULL where `len` is 0.
   */
  const void *data;
  /**
   * Length in bytes; on v2 at most buffer_size of the options.
   */
  size_t len;
  /**
   * Bytes from `data` to the end of the segment; VFIOMIG_UNKNOWN on v2, which has no segments.
   */
  uint64_t segment_left;
  /**
   * VFIOMIG_CHUNK_*; EMPTY and END only with `len` 0.
   */
  uint32_t flags;
  /**
   * 0.
   */
  uint32_t reserved;
};

/**
 * A range of IOVA, or of other addresses; iova + size may be 2^64, size is never 0. Fixed layout,
 * never grows.
 */
struct vfiomig_range {
  /**
   * First byte.
   */
  uint64_t iova;
  /**
   * Length in bytes.
   */
  uint64_t size;
};

/**
 * How a tracker is made. Set up with VFIOMIG_INIT. A container fd, an iommufd or an id is used only
 * with its flag.
 */
struct vfiomig_tracker_options {
  /**
   * Size of this struct, set by VFIOMIG_INIT.
   */
  uint32_t argsz;
  /**
   * VFIOMIG_TRACKER_F_*.
   */
  uint32_t flags;
  /**
   * For messages; at most 255 bytes, copied. UTF-8; other bytes read as "?". NULL: "tracker".
   */
  const char *name;
  /**
   * Every device that does DMA in this address space. The devices' own logs are used only if each
   * device has one. Devices may come and go later: vfiomig_tracker_add_device(), _add_foreign(). A
   * device that is named twice counts once.
   */
  struct vfiomig_device *const *devices;
  /**
   * Number of `devices`.
   */
  size_t device_count;
  /**
   * Ids of the hardware page tables to which the devices are attached, as for
   * vfiomig_tracker_add_hwpt(), which adds later ones.
   */
  const uint32_t *hwpt_ids;
  /**
   * Number of `hwpt_ids`.
   */
  size_t hwpt_count;
  /**
   * Smallest page in bytes that the VMM needs, a power of two from 4096 to 2^30: a hint to logs
   * that have a choice. 0: 4096.
   */
  uint64_t page_size;
  /**
   * A type1 container. The library uses it until vfiomig_tracker_free().
   */
  int32_t container_fd;
  /**
   * The library uses it until vfiomig_tracker_free().
   */
  int32_t iommufd;
  /**
   * The IOAS of the page tables.
   */
  uint32_t ioas_id;
  /**
   * Largest number of threads within a call. 0: one per log, at most 64. 1: no threads are created.
   */
  uint32_t max_workers;
  /**
   * Ranges in which mappings will be, in units of 4096. Logs of devices and of the VMM are started
   * for all of them, so that a mapping within them does not restart a log. For guests with an IOMMU
   * of their own: its address width as one range. They may overlap; what is mapped elsewhere is
   * logged as well.
   */
  const struct vfiomig_range *apertures;
  /**
   * Number of `apertures`. 0: logs hold what is mapped, rounded out.
   */
  size_t aperture_count;
};

/**
 * A log that the VMM keeps itself. The functions return 0 on success and -errno on failure; a
 * positive value is a failure, too (EIO). start and report must be set. The table is copied when a
 * tracker is made from it. The functions are called one at a time, on the thread that called the
 * library, or with VFIOMIG_OPS_F_ANY_THREAD on threads that the library makes within a call; with
 * asynchronous signals blocked. They may block. A function must not call back into the same tracker
 * (-EDEADLK).
 */
struct vfiomig_tracker_ops {
  /**
   * Size of this struct, set by VFIOMIG_INIT.
   */
  uint32_t argsz;
  /**
   * VFIOMIG_OPS_F_*.
   */
  uint32_t flags;
  /**
   * Starts the log, with nothing dirty, for these ranges, which are sorted and do not overlap. They
   * contain all that is mapped and more, so that later mappings may lie within them. `page_size` is
   * a hint; the ranges are whole pages of it. The function overwrites it with the log's own page
   * size, a power of two from 4096 on. If that does not divide the ranges, the library stops the
   * log and starts it with other ranges. -E2BIG, -EOPNOTSUPP: too many ranges, too many bytes; the
   * library calls again with fewer. -EINVAL or -EEXIST: the log is started already; the library
   * stops it and calls once more. Not called while nothing is mapped, and not twice without stop.
   */
  int (*start)(void *opaque, const struct vfiomig_range *ranges, size_t count, uint64_t *page_size);
  /**
   * Sets the bits of the pages of a started range, or of a part of one, that were written since the
   * last report, and clears them in the log. A part begins a multiple of 64 pages after the
   * beginning of its range, and ends likewise or with the range. A log that cannot report a part of
   * a range returns -EINVAL; the library then starts it again and asks for whole ranges.
   * `page_size` is the log's own. Bit n is word n / 64, bit n % 64; the bitmap is whole memory
   * pages, all zero. After a failure all that is mapped is dirty, and the log is stopped and
   * started again.
   */
  int (*report)(void *opaque, uint64_t iova, uint64_t size, uint64_t page_size, uint64_t *bitmap);
  /**
   * Stops the log and forgets what it holds. After a failure it is called again, before the next
   * start and at the end. NULL: a stop needs no call.
   */
  int (*stop)(void *opaque);
};

/**
 * What is known of a tracker.
 */
struct vfiomig_tracker_info {
  /**
   * Size of this struct, set by VFIOMIG_INIT; left as it is.
   */
  uint32_t argsz;
  /**
   * 0 or VFIOMIG_TRACKER_PERPETUAL.
   */
  uint32_t flags;
  /**
   * VFIOMIG_TRACKER_KIND_*: the log that is read, or that will be tried first.
   */
  uint32_t kind;
  /**
   * Calls of vfiomig_tracker_start(), by VMM and migration, without their stop. The tracker is
   * started if it is not 0.
   */
  uint32_t starts;
  /**
   * Logs that cannot be started or read: everything mapped is dirty at each harvest until a restart
   * succeeds.
   */
  uint32_t failed_logs;
  /**
   * 0.
   */
  uint32_t reserved;
  /**
   * Largest page of a log in bytes while the tracker is started; else `page_size` of the options.
   */
  uint64_t page_size;
  /**
   * Mapped ranges, neighbours joined.
   */
  uint64_t mapped_ranges;
  /**
   * Ranges in the log with the fewest: fewer than `mapped_ranges` if the log takes no more. 0 while
   * not started.
   */
  uint64_t logged_ranges;
  /**
   * Why this log is read, and what is wrong with it, in words.
   */
  char reason[VFIOMIG_REASON_SIZE];
};

/**
 * One DMA mapping. Fixed layout, never grows.
 */
struct vfiomig_mapping {
  /**
   * First byte; a multiple of 4096.
   */
  uint64_t iova;
  /**
   * Length in bytes; a multiple of 4096, not 0. iova + size may be 2^64.
   */
  uint64_t size;
  /**
   * The VMM's own number: passed to `run`, also for pages left over of a mapping that was unmapped.
   */
  uint64_t cookie;
  /**
   * 0.
   */
  uint32_t flags;
  /**
   * 0.
   */
  uint32_t reserved;
};

/**
 * A destination: a range of IOVA, and what gets its dirty pages. Fixed layout, never grows.
 */
struct vfiomig_dest {
  /**
   * First byte; a multiple of 4096.
   */
  uint64_t iova;
  /**
   * Length in bytes; a multiple of 4096, not 0. iova + size may be 2^64.
   */
  uint64_t size;
  /**
   * Number of the bit in `bitmap` for the page at `iova`. Bit n is word n / 64, bit n % 64.
   */
  uint64_t first_bit;
  /**
   * Bytes per page of the bitmap: a power of two from 4096 on. The last page may be cut by `size`.
   */
  uint64_t page_size;
  /**
   * Bits are set in it, and no others are changed; aligned to 8 bytes. NULL: the pages go to a
   * callback of the request.
   */
  uint64_t *bitmap;
  /**
   * Passed to `words`.
   */
  void *opaque;
  /**
   * VFIOMIG_DEST_F_*.
   */
  uint32_t flags;
  /**
   * 0.
   */
  uint32_t reserved;
};

/**
 * Gets words of a destination without a bitmap. `first_bit`, a multiple of 64, is the number of the
 * first word's first bit, counted as `first_bit` of the destination. Words without a set bit are
 * left out at both ends. Returns 0; another value stops the harvest, and these words count as not
 * taken. It runs on the calling thread, and must not call back into the same tracker.
 */
typedef int (*vfiomig_words_fn)(void *opaque,
                                void *dest_opaque,
                                uint64_t first_bit,
                                const uint64_t *words,
                                size_t word_count);

/**
 * Gets a run of dirty bytes within one mapping, and the cookie of the mapping through which they
 * were written. The mapping may have been unmapped since, and other memory mapped at that IOVA.
 * Returns 0; another value stops the harvest, and this run counts as not taken. It runs on the
 * calling thread, and must not call back into the same tracker.
 */
typedef int (*vfiomig_run_fn)(void *opaque, uint64_t cookie, uint64_t iova, uint64_t size);

/**
 * What a harvest shall do. Set up with VFIOMIG_INIT.
 */
struct vfiomig_harvest_request {
  /**
   * Size of this struct, set by VFIOMIG_INIT.
   */
  uint32_t argsz;
  /**
   * VFIOMIG_HARVEST_F_*.
   */
  uint32_t flags;
  /**
   * The destinations. They must not overlap; they may share a bitmap.
   */
  const struct vfiomig_dest *dests;
  /**
   * Number of `dests`. 0 with `run`: everything is reported to `run`, also what is left over of
   * unmapped ranges. 0 without `run`: everything is read and left over.
   */
  size_t dest_count;
  /**
   * For destinations without a bitmap.
   */
  vfiomig_words_fn words;
  /**
   * For destinations without a bitmap, if `words` is NULL.
   */
  vfiomig_run_fn run;
  /**
   * Passed to `words` and `run`.
   */
  void *opaque;
  /**
   * Largest number of threads within the call. 0: as of the tracker. 1: no threads are created.
   */
  uint32_t max_workers;
  /**
   * 0.
   */
  uint32_t reserved;
  /**
   * For VMMs that ask section by section: a number that is another one for each pass over the
   * sections. The first harvest with a new number reads as without it. Later ones with the same
   * number only report what that read found, as with VFIOMIG_HARVEST_F_NO_READ. A range that was
   * reported in this pass already, or was mapped since, is read by itself. 0: none.
   */
  uint64_t pass;
};

/**
 * What a harvest found.
 */
struct vfiomig_harvest_result {
  /**
   * Size of this struct, set by VFIOMIG_INIT; left as it is.
   */
  uint32_t argsz;
  /**
   * VFIOMIG_HARVEST_DEGRADED, VFIOMIG_HARVEST_STOPPED.
   */
  uint32_t flags;
  /**
   * Pages whose bit was not set before; for callbacks, all pages reported. With
   * VFIOMIG_DEST_F_ATOMIC and other writers, a word that becomes all ones counts as it was just
   * before.
   */
  uint64_t newly_dirty_pages;
  /**
   * Pages reported dirty, whether or not the bit was set; for `run`, in pages of 4096 bytes. A page
   * that two parts share may count twice.
   */
  uint64_t dirty_pages;
  /**
   * Bytes that are dirty only because a read failed, reported or left over.
   */
  uint64_t degraded_bytes;
  /**
   * Requests to logs.
   */
  uint64_t reads;
  /**
   * How many of these requests failed, including logs that cannot be started.
   */
  uint32_t failed_reads;
  /**
   * errno of the first failed request, positive; 0 if none failed.
   */
  int32_t first_errno;
};

/**
 * Unmaps the range. Returns 0 or -errno; a positive value is a failure, too (EIO). It is called
 * once, on the calling thread, and must not call back into the same tracker.
 */
typedef int (*vfiomig_unmap_fn)(void *opaque, const struct vfiomig_range *range);

/**
 * One phase of a report. Fixed layout, never grows. It lives as long as the report.
 */
struct vfiomig_phase_report {
  /**
   * One per device of the group, in the order in which they were added; NULL if there is none.
   */
  const struct vfiomig_device_result *results;
  /**
   * Number of `results`.
   */
  size_t result_count;
  /**
   * When the phase was begun, in nanoseconds from the beginning of the report.
   */
  uint64_t begun_ns;
  /**
   * How long the phase took: the slowest device.
   */
  uint64_t duration_ns;
  /**
   * VFIOMIG_PHASE_*; VFIOMIG_PHASE_IDLE is an abort, or a call on a group.
   */
  uint32_t phase;
  /**
   * 0 or VFIOMIG_PHASE_REPORT_FAILED.
   */
  uint32_t flags;
  /**
   * 0.
   */
  uint64_t reserved[2];
};

/**
 * What one device moved. Fixed layout, never grows. It lives as long as the report.
 */
struct vfiomig_part_report {
  /**
   * The device's name.
   */
  const char *device;
  /**
   * Bytes that it gave (save) or took (load).
   */
  uint64_t bytes;
  /**
   * Reads of its stream (save), or writes to it (load).
   */
  uint64_t reads;
  /**
   * How long these took in all, in nanoseconds. Devices are served side by side, so the sum over
   * devices may be more than the duration of the entry.
   */
  uint64_t time_ns;
  /**
   * How often a call waited because the device was not ready.
   */
  uint64_t waits;
  /**
   * How often a request was made once more.
   */
  uint64_t retries;
};

/**
 * Work of one kind within one phase. Fixed layout, never grows. It lives as long as the report.
 */
struct vfiomig_entry_report {
  /**
   * Of drains and of streams that were read ahead: one per device of the group, in the order in
   * which they were added. Of VFIOMIG_ENTRY_LOADED that device. Else NULL.
   */
  const struct vfiomig_part_report *parts;
  /**
   * Number of `parts`.
   */
  size_t part_count;
  /**
   * Of a failure: what failed and why; else "".
   */
  const char *text;
  /**
   * When the first of it was begun, in nanoseconds from the beginning of the report.
   */
  uint64_t begun_ns;
  /**
   * How long it took in all, in nanoseconds. The time between two calls is not in it.
   */
  uint64_t duration_ns;
  /**
   * Number of calls, or how often the failure was met.
   */
  uint64_t calls;
  /**
   * Bytes that the devices gave or took.
   */
  uint64_t bytes;
  /**
   * Of harvests: pages of 4 KiB that were reported as dirty to destinations.
   */
  uint64_t pages;
  /**
   * Of drains and of streams that were read ahead: reads or writes. Of harvests: requests to logs.
   */
  uint64_t reads;
  /**
   * VFIOMIG_ENTRY_*.
   */
  uint32_t kind;
  /**
   * VFIOMIG_PHASE_*: the phase that was entered last, or was tried last, when the work was done.
   */
  uint32_t phase;
  /**
   * 0 or VFIOMIG_ENTRY_F_FAILED.
   */
  uint32_t flags;
  /**
   * 0.
   */
  uint32_t reserved;
};

/**
 * What was done more than once, or was not as it should be, since the report begins. Fixed layout,
 * never grows. It lives as long as the report.
 */
struct vfiomig_counters_report {
  /**
   * One per device of the group: all that it moved, also by the caller's own data calls.
   */
  const struct vfiomig_part_report *parts;
  /**
   * Number of `parts`.
   */
  size_t part_count;
  /**
   * Requests to devices that were made once more.
   */
  uint64_t retries;
  /**
   * Waits for devices that were not ready.
   */
  uint64_t waits;
  /**
   * Harvests in which some pages were dirty only because a log could not be read.
   */
  uint64_t degraded;
  /**
   * Requests to logs that failed.
   */
  uint64_t failed_reads;
  /**
   * How often a log was started anew while it should have run.
   */
  uint64_t log_restarts;
  /**
   * 0.
   */
  uint64_t reserved;
};

/**
 * What one device is doing, or a tracker. Times are nanoseconds of CLOCK_MONOTONIC, rounded down to
 * 256 ns.
 */
struct vfiomig_progress {
  /**
   * Size of this struct, set by VFIOMIG_INIT. In an array that of the first element holds for
   * each, and all are set to it.
   */
  uint32_t argsz;
  /**
   * 0 or VFIOMIG_PROGRESS_TRACKER.
   */
  uint32_t flags;
  /**
   * VFIOMIG_REQUEST_*: the request that the device has not answered yet. The driver has it, or
   * the VMM's functions, or it waits until the device is ready.
   */
  uint32_t request;
  /**
   * VFIOMIG_STATE_*: where the device was found last. While it changes its state this is the old
   * one.
   */
  uint32_t state;
  /**
   * VFIOMIG_STATE_*: with VFIOMIG_REQUEST_SET_STATE where it was asked to go; else equal to
   * `state`.
   */
  uint32_t target;
  /**
   * 0.
   */
  uint32_t reserved;
  /**
   * When `request` began; 0 with VFIOMIG_REQUEST_NONE.
   */
  uint64_t since_ns;
  /**
   * When the request to the device's DMA log began that is not answered yet; 0: there is none.
   */
  uint64_t log_since_ns;
  /**
   * Bytes consumed in the current or last save session.
   */
  uint64_t saved_bytes;
  /**
   * Bytes that the device took in the current or last load session.
   */
  uint64_t loaded_bytes;
  /**
   * The device's name, with the terminating NUL; of a tracker its name, ": ", and the log that is
   * asked, possibly cut. A tracker's `request` is VFIOMIG_REQUEST_LOG, and all but `since_ns` is 0.
   */
  char name[VFIOMIG_NAME_SIZE];
};

/**
 * Passed to a vfiomig_progress_fn, and valid during the call. `argsz` says how long it is; later
 * versions may add fields at its end.
 */
struct vfiomig_progress_event {
  /**
   * Size of this struct in the library.
   */
  uint32_t argsz;
  /**
   * 0.
   */
  uint32_t flags;
  /**
   * VFIOMIG_PROGRESS_*.
   */
  uint32_t kind;
  /**
   * How many devices take part in this step; trackers where they are started or stopped, logs in a
   * harvest.
   */
  uint32_t asked;
  /**
   * How many of them are done with it. In a drain and in a harvest this stays 0.
   */
  uint32_t arrived;
  /**
   * 0.
   */
  uint32_t reserved;
  /**
   * How long the step has taken so far, in nanoseconds.
   */
  uint64_t elapsed_ns;
  /**
   * The device that has arrived; or, of those that have not, the one whose request is the
   * oldest. With VFIOMIG_PROGRESS_TRACKER it is the log of a tracker that has not answered. Its
   * argsz is that of the library, too.
   */
  const struct vfiomig_progress *device;
};

/**
 * Called when a device has arrived where a call on the group or its migration has sent it, and at
 * an interval while one has not arrived, while a tracker that the migration starts or stops has
 * not answered, while a log is read in vfiomig_group_harvest(), or while a drain is in progress.
 * Returns 0, or any other value to ask for what vfiomig_migration_cancel() does to the group's
 * migration. Such a value has no effect without a migration, in vfiomig_migration_abort() and in
 * vfiomig_group_harvest().
 *
 * It is called on the thread that made the call, with no lock held. It may call every function of
 * the class *any*; functions that would wait for the call in progress return -EDEADLK. Other
 * threads serve the devices meanwhile. Where the calling thread has to serve them itself, it is
 * called between requests only, and not while one of them hangs: with max_workers 1, for devices
 * without VFIOMIG_OPS_F_ANY_THREAD, in a drain of one device, in a harvest that reads 1 GiB or less
 * for its destinations, and where no thread could be created.
 */
typedef int (*vfiomig_progress_fn)(void *opaque, const struct vfiomig_progress_event *event);

/**
 * How a group works. Set up with VFIOMIG_INIT. NULL stands for all defaults.
 */
struct vfiomig_group_options {
  /**
   * Size of this struct, set by VFIOMIG_INIT.
   */
  uint32_t argsz;
  /**
   * 0.
   */
  uint32_t flags;
  /**
   * Largest number of threads within a call. 0: one per device, at most 64 where data is moved. 1:
   * no threads are created, and devices are served one after another.
   */
  uint32_t max_workers;
  /**
   * Number of other devices of the VM that can do DMA and are not in the group.
   */
  uint32_t foreign_initiators;
  /**
   * Called when a device has arrived where a call has sent it, and at an interval while one has
   * not. NULL: nothing is called. It is called on the threads that call the group and its
   * migration, never two at a time, and not after vfiomig_group_free() has returned.
   */
  vfiomig_progress_fn progress;
  /**
   * Passed to `progress`.
   */
  void *opaque;
  /**
   * The interval in nanoseconds. 0: one second. Less than 1 ms counts as 1 ms. Needs `progress`.
   */
  uint64_t progress_interval_ns;
};

/**
 * What can be done with a group.
 */
struct vfiomig_group_abilities {
  /**
   * Size of this struct, set by VFIOMIG_INIT; left as it is.
   */
  uint32_t argsz;
  /**
   * 0.
   */
  uint32_t flags;
  /**
   * VFIOMIG_ABILITY_*.
   */
  uint32_t abilities;
  /**
   * Number of lines of `reasons`: why abilities are missing.
   */
  uint32_t reason_count;
};

/**
 * How a migration works. Set up with VFIOMIG_INIT. NULL stands for all defaults.
 */
struct vfiomig_migration_options {
  /**
   * Size of this struct, set by VFIOMIG_INIT.
   */
  uint32_t argsz;
  /**
   * 0.
   */
  uint32_t flags;
  /**
   * Memory for queues between devices and the caller, in bytes and for all devices together; 0:
   * none. A load puts what vfiomig_device_write(), _receive(), _commit() and _finish() get into a
   * queue for each device, and a thread for each, which continues between the calls, gives it to
   * the device. A save reads ahead: from the moment in which a device is in STOP_COPY, a thread of
   * the library reads its stream into a queue, from which the data calls on the device take: for
   * callers that serve one device after another. Bytes, order, segments and sizes stay as they
   * are, and an error is returned where it happened; at least 16 KiB for each device. The threads
   * end with their streams, with an abort, and with the migration; a cancel ends them, too.
   * Devices whose functions have no VFIOMIG_OPS_F_ANY_THREAD, a draft that is saved, and groups
   * with `max_workers` 1 have no queues.
   */
  uint64_t queue_bytes;
};

/**
 * What is left of all devices. Sizes are estimates in bytes. A sum is VFIOMIG_UNKNOWN, which is the
 * largest number, if one device does not know its part; vfiomig_migration_get_estimate() gives the
 * sum of the others.
 */
struct vfiomig_migration_pending {
  /**
   * Size of this struct, set by VFIOMIG_INIT; left as it is.
   */
  uint32_t argsz;
  /**
   * 0.
   */
  uint32_t flags;
  /**
   * Initial data, which is to be sent before the guest stops.
   */
  uint64_t initial_bytes;
  /**
   * Data that changed since it was read; some devices never bring it to 0.
   */
  uint64_t dirty_bytes;
  /**
   * All that is left to the ends of the streams. It includes the two above; do not add them. Once
   * devices are in STOP_COPY it goes down with what is read, to 0.
   */
  uint64_t stop_copy_bytes;
  /**
   * Bytes consumed so far.
   */
  uint64_t saved_bytes;
  /**
   * 1: no device needs more pre-copy. 0: a device has initial data left, or does not say how much
   * it has and was not EMPTY yet.
   */
  uint32_t ready;
  /**
   * How often devices began again with initial data.
   */
  uint32_t reinit_count;
};

/**
 * What the caller of vfiomig_migration_get_estimate() knows better than the library. Set up with
 * VFIOMIG_INIT. NULL: nothing.
 */
struct vfiomig_migration_estimate_options {
  /**
   * Size of this struct, set by VFIOMIG_INIT.
   */
  uint32_t argsz;
  /**
   * 0.
   */
  uint32_t flags;
  /**
   * Rate of the channel; 0: as measured by the library's own drains.
   */
  uint64_t bytes_per_second;
  /**
   * Time of all state changes after the guest stops; 0: as measured before.
   */
  uint64_t transition_ns;
  /**
   * Other bytes that go over the channel while the guest is stopped.
   */
  uint64_t other_bytes;
};

/**
 * For how long the guest would be stopped, by part. A part of which nothing is known is
 * VFIOMIG_UNKNOWN. If a part is known in part only, it is a lower bound, its bit in `unknown` is
 * set, and downtime_ns is a lower bound, too.
 */
struct vfiomig_migration_estimate {
  /**
   * Size of this struct, set by VFIOMIG_INIT; left as it is.
   */
  uint32_t argsz;
  /**
   * 0.
   */
  uint32_t flags;
  /**
   * The sum of the parts that are known.
   */
  uint64_t downtime_ns;
  /**
   * Time of the state changes: at each barrier, that of the slowest device.
   */
  uint64_t transition_ns;
  /**
   * Time to transfer what is left.
   */
  uint64_t transfer_ns;
  /**
   * What is left: of each device stop_copy_bytes, which includes what pre-copy would read; where
   * that is not known, what pre-copy would read.
   */
  uint64_t bytes;
  /**
   * Bytes per second that were used.
   */
  uint64_t bytes_per_second;
  /**
   * VFIOMIG_ESTIMATE_*: what is not known, or not for all devices. 0: all is known.
   */
  uint32_t unknown;
  /**
   * Number of devices that do not know their part; `reasons` names them.
   */
  uint32_t unknown_devices;
};

/**
 * Where the bytes of one device go to or come from: through the call's function on the calling
 * thread, or, with VFIOMIG_CHANNEL_F_FD, through a descriptor of its own on any thread of the call.
 * A descriptor keeps no segments, so it is for v2 devices only. Fixed layout, never grows.
 */
struct vfiomig_channel {
  /**
   * With VFIOMIG_CHANNEL_F_FD: the descriptor.
   */
  int32_t fd;
  /**
   * VFIOMIG_CHANNEL_F_*.
   */
  uint32_t flags;
  /**
   * With VFIOMIG_CHANNEL_F_TOTAL: the length of the stream as the source side counted it; no more
   * is read. Or VFIOMIG_UNKNOWN: then `fd` is read to its end, and a connection that broke looks
   * like one.
   */
  uint64_t total;
};

/**
 * Takes a run of one device's bytes, on the thread that called the library. `device_index` is
 * the number of the device in the group, from 0, in the order in which they were added; it changes
 * when a device before it is removed, which is refused while a migration exists. `len` is at most 1
 * MiB. `flags` is 0 or VFIOMIG_CHUNK_SEGMENT_END, which the VMM's format must carry. Returns 0 or
 * -errno; a positive value is a failure, too (EIO). A failure loses bytes for good, and the
 * migration is FAILED. In it a call on the group or the migration that is not of the class any gets
 * -EDEADLK.
 */
typedef int (*vfiomig_put_fn)(void *opaque,
                              size_t device_index,
                              const void *data,
                              size_t len,
                              uint32_t flags);

/**
 * Reads up to `len` bytes, at most 1 MiB, of the stream of one device into `buf`, on the thread
 * that called the library. `device_index` is as of vfiomig_put_fn. Returns the number of bytes, at
 * most `len`, and sets VFIOMIG_CHUNK_SEGMENT_END in `*flags`, which is 0 before, if a segment ends
 * with them. Returns 0 at the end of the stream, and then must set `*total` to the stream's length
 * as the source side counted it, or to VFIOMIG_UNKNOWN if the VMM's format does not carry it: then
 * a stream that was cut off is not noticed. `*total` is read only then, and an end without it is
 * refused (-EINVAL), as are more bytes than `len` and other bits in `*flags`. On failure returns
 * -errno. In it a call on the group or the migration that is not of the class any gets -EDEADLK.
 */
typedef int64_t (*vfiomig_get_fn)(void *opaque,
                                  size_t device_index,
                                  void *buf,
                                  size_t len,
                                  uint32_t *flags,
                                  uint64_t *total);

/**
 * What a drain shall do. Set up with VFIOMIG_INIT.
 */
struct vfiomig_drain_request {
  /**
   * Size of this struct, set by VFIOMIG_INIT.
   */
  uint32_t argsz;
  /**
   * 0.
   */
  uint32_t flags;
  /**
   * For vfiomig_migration_save_iterate(), else 0: largest number of bytes of the round. 0: no
   * bound.
   */
  uint64_t budget_bytes;
  /**
   * For vfiomig_migration_save_iterate(), else 0: no read is begun after so many nanoseconds. 0: no
   * bound.
   */
  uint64_t budget_ns;
  /**
   * One per device, in the order in which they were added to the group.
   */
  const struct vfiomig_channel *channels;
  /**
   * Number of `channels`: that of the devices, or 0: then `put` or `get` moves all bytes.
   */
  size_t channel_count;
  /**
   * To save, else NULL. May be NULL if every device has a descriptor.
   */
  vfiomig_put_fn put;
  /**
   * To load, else NULL. May be NULL if every device has a descriptor.
   */
  vfiomig_get_fn get;
  /**
   * Passed to `put` and `get`.
   */
  void *opaque;
};

/**
 * What a drain moved of one device. Fixed layout, never grows.
 */
struct vfiomig_drain_result {
  /**
   * Bytes moved.
   */
  uint64_t bytes;
  /**
   * VFIOMIG_CHUNK_EMPTY, _END or _NO_STREAM; 0: more bytes can be read.
   */
  uint32_t flags;
  /**
   * 0.
   */
  uint32_t reserved;
};

/**
 * What a stop or a start of the VM did. After a failure it says what was tried.
 */
struct vfiomig_run_state_result {
  /**
   * Size of this struct, set by VFIOMIG_INIT; left as it is.
   */
  uint32_t argsz;
  /**
   * 0.
   */
  uint32_t flags;
  /**
   * VFIOMIG_RUN_STATE_ACTION_*.
   */
  uint32_t action;
  /**
   * How many devices have a stream that became void by this call: the destination side throws away
   * what it has of them.
   */
  uint32_t void_streams;
  /**
   * The first of these devices, counted from 0 in the order of the group; 0 if there is none.
   */
  uint32_t first_void;
  /**
   * 0.
   */
  uint32_t reserved;
};

/**
 * Takes bytes of a channel. Returns how many, 1 to `len`; -EAGAIN if it takes none now; else
 * -errno, which ends the channel. 0 and more than `len` do, too.
 */
typedef int64_t (*vfiomig_write_fn)(void *opaque, const void *data, size_t len);

/**
 * What a device is, in the VMM's words: "vendor", "firmware". Fixed layout, never grows.
 */
struct vfiomig_wire_word {
  /**
   * 1 to 255 bytes; once for each device.
   */
  const char *key;
  /**
   * At most 65535 bytes.
   */
  const char *value;
};

/**
 * A device of a wire. Fixed layout, never grows.
 */
struct vfiomig_wire_device {
  /**
   * The device's name.
   */
  const char *name;
  /**
   * VFIOMIG_DIALECT_*; VFIOMIG_DIALECT_NONE where the device of that name is in a group, which
   * knows.
   */
  uint32_t dialect;
  /**
   * The channel that has its records.
   */
  uint32_t channel;
  /**
   * May be NULL if `word_count` is 0.
   */
  const struct vfiomig_wire_word *words;
  /**
   * At most 255.
   */
  size_t word_count;
};

/**
 * How a writer works. Set up with VFIOMIG_INIT.
 */
struct vfiomig_writer_options {
  /**
   * Size of this struct, set by VFIOMIG_INIT.
   */
  uint32_t argsz;
  /**
   * VFIOMIG_WRITER_F_*.
   */
  uint32_t flags;
  /**
   * Takes the bytes; or NULL, with VFIOMIG_WRITER_F_FD.
   */
  vfiomig_write_fn write;
  /**
   * Passed to `write`.
   */
  void *opaque;
  /**
   * With VFIOMIG_WRITER_F_FD: the descriptor, a socket, a pipe or a file. It is borrowed.
   */
  int32_t fd;
  /**
   * With VFIOMIG_WRITER_F_FD: how long a call waits while the descriptor takes nothing. 0: 60 s.
   * Nothing is waited for in non-blocking mode.
   */
  uint32_t timeout_ms;
  /**
   * Which channel of the wire this is, from 0.
   */
  uint32_t channel;
  /**
   * How many the wire has, at most 64. 0: 1.
   */
  uint32_t channels;
  /**
   * A number that no other wire has, the same in all its channels.
   */
  uint64_t wire;
  /**
   * The devices of the wire, or, with a group, those that have words or channels of their own.
   * May be NULL if `device_count` is 0.
   */
  const struct vfiomig_wire_device *devices;
  /**
   * At most 1024.
   */
  size_t device_count;
  /**
   * With VFIOMIG_WRITER_F_FD: how long after vfiomig_writer_new() every call fails (-ETIMEDOUT),
   * whatever moves: the time for all of the channel. 0: no limit.
   */
  uint64_t deadline_ms;
};

/**
 * Brings the next bytes of a channel. Returns how many, at most `len`; 0 at the end of the channel;
 * -EAGAIN if it has none now; else -errno, which ends the channel.
 */
typedef int64_t (*vfiomig_read_fn)(void *opaque, void *buf, size_t len);

/**
 * How a reader works. Set up with VFIOMIG_INIT.
 */
struct vfiomig_reader_options {
  /**
   * Size of this struct, set by VFIOMIG_INIT.
   */
  uint32_t argsz;
  /**
   * VFIOMIG_READER_F_*.
   */
  uint32_t flags;
  /**
   * Brings the bytes; or NULL, with VFIOMIG_READER_F_FD.
   */
  vfiomig_read_fn read;
  /**
   * Passed to `read`.
   */
  void *opaque;
  /**
   * With VFIOMIG_READER_F_FD: the descriptor, a socket, a pipe or a file. It is borrowed, and no
   * byte after the channel's last record is read.
   */
  int32_t fd;
  /**
   * With VFIOMIG_READER_F_FD: how long a call waits while the descriptor brings nothing. 0: 60 s.
   * Nothing is waited for in non-blocking mode.
   */
  uint32_t timeout_ms;
  /**
   * With VFIOMIG_READER_F_FD: how long after vfiomig_reader_new() every call fails (-ETIMEDOUT),
   * whatever moves: the time for all of the channel. 0: no limit.
   */
  uint64_t deadline_ms;
};

/**
 * A record of a wire. Fixed layout, never grows.
 */
struct vfiomig_record {
  /**
   * DATA, VMM: its bytes, which stay until the next call on the reader; else NULL.
   */
  const void *data;
  /**
   * Number of bytes.
   */
  size_t len;
  /**
   * DATA: bytes of the stream before these. END: the stream's length. VOID: bytes that are thrown
   * away. VMM: the VMM's own number for the kind of record.
   */
  uint64_t position;
  /**
   * VFIOMIG_RECORD_*.
   */
  uint32_t record;
  /**
   * The number of the device in the table, or VFIOMIG_RECORD_NO_DEVICE.
   */
  uint32_t device_index;
  /**
   * DATA: VFIOMIG_CHUNK_SEGMENT_END or 0.
   */
  uint32_t flags;
  /**
   * 0.
   */
  uint32_t reserved;
};

/**
 * How far a save or a load over a wire is. Fixed layout, never grows.
 */
struct vfiomig_wire_progress {
  /**
   * Bytes of devices that this call has moved.
   */
  uint64_t bytes;
  /**
   * VFIOMIG_STEP_ROUND: the number of the round, from 1; else 0.
   */
  uint32_t round;
  /**
   * VFIOMIG_STEP_ROUND: 1 if no device is known to have initial data left; else 0.
   */
  uint32_t ready;
};

/**
 * Hears of each VFIOMIG_STEP_*, on the thread that called the library. Returns 0 to continue; 1 for
 * another round, after VFIOMIG_STEP_ROUND only; -errno to end the call with that error. Between the
 * drains, so in all steps but VFIOMIG_STEP_PROGRESS, the VMM may call the group, its own writers
 * and the trackers, and in VFIOMIG_STEP_STOP_VM enter SAVE_VIOMMU_GRACE.
 */
typedef int (*vfiomig_wire_step_fn)(void *opaque,
                                    uint32_t step,
                                    const struct vfiomig_wire_progress *progress);

/**
 * What vfiomig_migration_save_to() shall do. Set up with VFIOMIG_INIT. NULL stands for all
 * defaults.
 */
struct vfiomig_save_to_request {
  /**
   * Size of this struct, set by VFIOMIG_INIT.
   */
  uint32_t argsz;
  /**
   * VFIOMIG_SAVE_TO_F_*.
   */
  uint32_t flags;
  /**
   * With rounds: largest number of bytes of devices of a round. 0: 64 MiB.
   */
  uint64_t round_bytes;
  /**
   * With rounds: no read is begun after so many nanoseconds of a round. 0: a second.
   */
  uint64_t round_ns;
  /**
   * May be NULL: then rounds end when the devices are ready, or after 64.
   */
  vfiomig_wire_step_fn step;
  /**
   * Passed to `step`.
   */
  void *opaque;
};

/**
 * Gets a record of the VMM, on the thread that called the library. `device_index` is the number of
 * a device in the group, or SIZE_MAX. `kind` is the number that the source side gave. Returns 0, or
 * -errno to end the load with that error.
 */
typedef int (*vfiomig_wire_record_fn)(void *opaque,
                                      size_t device_index,
                                      uint64_t kind,
                                      const void *data,
                                      size_t len);

/**
 * What vfiomig_migration_load_from() shall do. Set up with VFIOMIG_INIT. NULL stands for all
 * defaults.
 */
struct vfiomig_load_from_request {
  /**
   * Size of this struct, set by VFIOMIG_INIT.
   */
  uint32_t argsz;
  /**
   * 0.
   */
  uint32_t flags;
  /**
   * Devices of the group with words that the wire must have for them, with the same values.
   * Others may be left out. `dialect` and `channel` are 0.
   */
  const struct vfiomig_wire_device *devices;
  /**
   * Number of `devices`.
   */
  size_t device_count;
  /**
   * NULL: a record of the VMM is refused.
   */
  vfiomig_wire_record_fn record;
  /**
   * May be NULL.
   */
  vfiomig_wire_step_fn step;
  /**
   * Passed to `record` and `step`.
   */
  void *opaque;
};

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/**
 * The version of the loaded library. The version of the header is in VFIOMIG_VERSION_MAJOR, _MINOR
 * and _PATCH.
 *
 * Returns: major << 16 | minor << 8 | patch.
 * Threads: any. Blocks: never. Since: 0.1
 */
uint32_t vfiomig_version(void);

/**
 * Whether the loaded library has a feature. `feature` is one of VFIOMIG_FEATURE_*.
 *
 * Returns: 1 or 0; 0 for a number that the library does not know. It is not 0 or -errno.
 * Errors: none.
 * Threads: any. Blocks: never. Since: 0.1
 */
int vfiomig_has_feature(uint64_t feature);

/**
 * The name of a VFIOMIG_STATE_*, without the prefix.
 *
 * Returns: a constant text; "?" for a number that is no state.
 * Threads: any. Blocks: never. Since: 0.1
 */
const char *vfiomig_state_name(uint32_t state);

/**
 * What kind of error it is. Callers decide by this.
 *
 * Returns: VFIOMIG_ERR_*; 0 for NULL.
 * Threads: any. Blocks: never. Since: 0.1
 */
uint32_t vfiomig_error_code(const struct vfiomig_error *e);

/**
 * The errno of the failed call, positive as in <errno.h> and as in
 * vfiomig_device_result.saved_errno; the call itself returned its negative.
 *
 * Returns: 1 to 4095 (values above 133 come from drivers); 0 for NULL. It is not 0 or -errno.
 * Errors: none.
 * Threads: any. Blocks: never. Since: 0.1
 */
int vfiomig_error_errno(const struct vfiomig_error *e);

/**
 * One line for people: device, states, errno. Its words may change at any time.
 *
 * Returns: a text that lives until vfiomig_error_free(); "no error" for NULL.
 * Threads: any. Blocks: never. Since: 0.1
 */
const char *vfiomig_error_message(const struct vfiomig_error *e);

/**
 * How many results the error has. An error of a step has one for each device of the group, in the
 * order in which they were added; an error of a call on one device has one or none.
 *
 * Returns: a count; 0 for NULL and for an error that no device caused.
 * Threads: any. Blocks: never. Since: 0.1
 */
size_t vfiomig_error_result_count(const struct vfiomig_error *e);

/**
 * The result of one device. `index` counts from 0.
 *
 * Returns: a struct that lives until vfiomig_error_free(); NULL if there is no such result.
 * Threads: any. Blocks: never. Since: 0.1
 */
const struct vfiomig_device_result *vfiomig_error_result(const struct vfiomig_error *e,
                                                         size_t index);

/**
 * Frees an error with its texts and results. NULL is legal.
 *
 * Threads: any, once. Blocks: never. Since: 0.1
 */
void vfiomig_error_free(struct vfiomig_error *e);

/**
 * Sets the process's log callback, or removes it (NULL, with any `opaque` and `max_level`).
 * Messages above `max_level` are not made: it is one of VFIOMIG_LOG_*, and below VFIOMIG_LOG_ERROR
 * there are no messages. Without a callback the library is silent. May be called from the callback.
 *
 * Threads: any; a call of the old callback may still be in progress in another thread. Blocks:
 * never. Since: 0.1
 */
void vfiomig_set_log(vfiomig_log_fn log, void *opaque, int max_level);

/**
 * Makes a device from a VFIO device fd that the VMM opened, by group or by cdev (bound already).
 * The library uses the fd, by its number, until vfiomig_device_free(), and never closes or
 * duplicates it. Free the handle before the fd is closed: a data fd that outlives it can crash the
 * host, and the number may be given to another file. The device may be in any state, and stays in
 * it. A device that cannot be migrated is no error: vfiomig_device_get_info() says why.
 *
 * Returns: 0 or -errno.
 * Errors: ARGUMENT (`out` NULL; -1 as fd: -EBADF; options, also a buffer_size or name out of
 * range), UNSUPPORTED (a dialect that this version does not know), DEVICE (not a VFIO device fd, or
 * a request failed), PROTOCOL (the device reports impossible values).
 * States: any.
 * Threads: any. Blocks: in the kernel. Since: 0.1
 */
int vfiomig_device_new_kernel(int device_fd,
                              const struct vfiomig_device_options *o,
                              struct vfiomig_device **out,
                              struct vfiomig_error **errp);

/**
 * Makes a device from functions of the VMM. The table is copied; `opaque` is passed to each
 * function and not used otherwise.
 *
 * Returns: 0 or -errno.
 * Errors: ARGUMENT (`ops` or `out` NULL; a table that lacks functions; options, as of
 * vfiomig_device_new_kernel()), UNSUPPORTED (a dialect that this version does not know), DEVICE (a
 * function failed), PROTOCOL (the device reports impossible values).
 * States: any.
 * Threads: any. Blocks: in your functions. Since: 0.1
 */
int vfiomig_device_new_ops(const struct vfiomig_device_ops *ops,
                           void *opaque,
                           const struct vfiomig_device_options *o,
                           struct vfiomig_device **out,
                           struct vfiomig_error **errp);

/**
 * Makes a device from the VMM's own connection to a vfio-user server, which has negotiated a
 * version already. The library speaks both generations of the protocol through one function; which
 * of them the server speaks it finds out itself. The table is copied; `opaque` is passed to the
 * function and not used otherwise. What the VMM must do beside it is in docs/vfio-user.md.
 *
 * Returns: 0 or -errno.
 * Errors: ARGUMENT (`ops` or `out` NULL; a table without `call`, or with limits that hold no
 * message; options, as of vfiomig_device_new_kernel()), UNSUPPORTED (a dialect that this version
 * does not know), DEVICE (the server or the connection failed), PROTOCOL (the server reports
 * impossible values).
 * States: any.
 * Threads: any. Blocks: in your function. Since: 0.1
 */
int vfiomig_device_new_vfio_user(const struct vfiomig_vfio_user_ops *ops,
                                 void *opaque,
                                 const struct vfiomig_device_options *o,
                                 struct vfiomig_device **out,
                                 struct vfiomig_error **errp);

/**
 * Connects to the UNIX socket of a vfio-user server, which serves one device, and agrees on a
 * version. The library makes no thread for it: requests of the server are answered within calls on
 * the connection and on its device, and by vfiomig_vfio_user_serve().
 *
 * Returns: 0 or -errno.
 * Errors: ARGUMENT (`path` or `out` NULL; options), SYSTEM (no socket of that path), DEVICE (the
 * server refused, has gone, or was silent), PROTOCOL (its answer), UNSUPPORTED (another
 * version).
 * Threads: any. Blocks: until the server answers, timeout_ms at most. Since: 0.1
 */
int vfiomig_vfio_user_connect(const char *path,
                              const struct vfiomig_vfio_user_options *o,
                              struct vfiomig_vfio_user **out,
                              struct vfiomig_error **errp);

/**
 * The same over a socket that is connected to a server already and on which nothing was said. The
 * library uses a copy of the descriptor: close yours when you like.
 *
 * Returns: 0 or -errno.
 * Errors: as of vfiomig_vfio_user_connect(); ARGUMENT (-1 as fd: -EBADF; no UNIX stream socket).
 * Threads: any. Blocks: until the server answers, timeout_ms at most. Since: 0.1
 */
int vfiomig_vfio_user_connect_fd(int fd,
                                 const struct vfiomig_vfio_user_options *o,
                                 struct vfiomig_vfio_user **out,
                                 struct vfiomig_error **errp);

/**
 * Ends a connection; NULL is legal. Waits for the call in progress. Devices on it fail from then on
 * (-ENODEV): free them first. Called from one of its own functions it frees nothing and logs an
 * error.
 *
 * Threads: any; no call on the handle may begin during or after it. Blocks: until the call in
 * progress returns. Since: 0.1
 */
void vfiomig_vfio_user_free(struct vfiomig_vfio_user *c);

/**
 * What was negotiated.
 *
 * Returns: 0 or -errno.
 * Errors: those of every function.
 * Threads: any. Blocks: never. Since: 0.1
 */
int vfiomig_vfio_user_get_info(const struct vfiomig_vfio_user *c,
                               struct vfiomig_vfio_user_info *info,
                               struct vfiomig_error **errp);

/**
 * Gives the server memory of the VM. With a descriptor (memfd, file; -1: none) the server uses the
 * memory by itself, `offset` bytes into it, and keeps a copy of the descriptor until the memory is
 * unmapped. Without one it sends messages, which dma_read and dma_write answer. Report the same
 * mappings, each as a whole, to a tracker (vfiomig_tracker_map()).
 *
 * Returns: 0 or -errno.
 * Errors: ARGUMENT (unknown flags), DEVICE (-EEXIST: it overlaps another mapping; -ETIMEDOUT: the
 * server may have it all the same, and vfiomig_vfio_user_unmap() takes it away; the server refused;
 * the connection has failed).
 * Threads: any; waits for the call in progress. Blocks: until the server answers, timeout_ms at
 * most. Since: 0.1
 */
int vfiomig_vfio_user_map(struct vfiomig_vfio_user *c,
                          uint64_t iova,
                          uint64_t size,
                          int fd,
                          uint64_t offset,
                          uint32_t flags,
                          struct vfiomig_error **errp);

/**
 * Takes a mapping away, as it was given. Where a tracker runs, call it from the unmap function of
 * vfiomig_tracker_unmap(): what the server has logged of the memory goes with it.
 *
 * Returns: 0 or -errno.
 * Errors: DEVICE (-ENOENT: nothing is mapped so, here or at the server; the server refused; the
 * connection has failed).
 * Threads: any; waits for the call in progress. Blocks: until the server answers, timeout_ms at
 * most. Since: 0.1
 */
int vfiomig_vfio_user_unmap(struct vfiomig_vfio_user *c,
                            uint64_t iova,
                            uint64_t size,
                            struct vfiomig_error **errp);

/**
 * Answers what the server asks for: waits up to `timeout_ms` for a message, and serves all that are
 * there. Call it when server_fd is readable.
 *
 * Returns: how many messages there were, or -errno.
 * Errors: DEVICE (the connection has failed).
 * Threads: any; waits for the call in progress. Blocks: timeout_ms, then for as long as messages
 * come, but begins none after the connection's timeout_ms, which is also how long one may take; and
 * in dma_read and dma_write.
 * Since: 0.1
 */
int vfiomig_vfio_user_serve(struct vfiomig_vfio_user *c,
                            uint32_t timeout_ms,
                            struct vfiomig_error **errp);

/**
 * Sends any other request of the protocol, as those of interrupts or of BARs, and waits for its
 * reply. Not for those that the library makes itself: device features, state data, DMA.
 *
 * Returns: 0 or -errno, also of a reply with the error flag; its errno 0 is -EIO, with
 * VFIOMIG_VFIO_USER_NO_ERRNO in the flags. No reply in time is -ETIMEDOUT, with
 * VFIOMIG_VFIO_USER_NO_REPLY.
 * Errors: ARGUMENT (`call` NULL, or with a length and no memory), DEVICE (the server refused; the
 * connection has failed; -EMSGSIZE: the reply is larger than reply_room).
 * Threads: any; waits for the call in progress. Blocks: until the server answers, timeout_ms at
 * most. Since: 0.1
 */
int vfiomig_vfio_user_call(struct vfiomig_vfio_user *c,
                           struct vfiomig_vfio_user_call *call,
                           struct vfiomig_error **errp);

/**
 * Makes a device from a connection of the library's own. The connection is used until
 * vfiomig_device_free(); free it afterwards. One device at a time.
 *
 * Returns: 0 or -errno.
 * Errors: ARGUMENT (`out` NULL; options, as of vfiomig_device_new_kernel()), UNSUPPORTED (a dialect
 * that this version does not know), DEVICE (the server or the connection failed), PROTOCOL (the
 * server reports impossible values).
 * States: any.
 * Threads: any. Blocks: until the server has answered all of it, timeout_ms at most. Since: 0.1
 */
int vfiomig_device_new_connection(struct vfiomig_vfio_user *c,
                                  const struct vfiomig_device_options *o,
                                  struct vfiomig_device **out,
                                  struct vfiomig_error **errp);

/**
 * Frees a device handle; NULL is legal. Waits for the call in progress, closes the data fd, and
 * leaves the device in its state. Afterwards the library never uses the device fd, the ops or their
 * `opaque` again, and memory that was lent is gone. A group forgets the device at its next call, or
 * fails its migration (vfiomig_group_add_device()); a tracker takes it for unplugged
 * (vfiomig_tracker_new()). Called from one of the handle's own callbacks it frees nothing and logs
 * an error.
 *
 * States: any.
 * Threads: whole; no call on the handle may begin during or after it. Blocks: until the call in
 * progress returns, and a request that hangs in the kernel, also of a thread that reads ahead.
 * Since: 0.1
 */
void vfiomig_device_free(struct vfiomig_device *d);

/**
 * What is known of a device without asking it.
 *
 * Returns: 0 or -errno.
 * Errors: those of every function.
 * States: any.
 * Threads: any. Blocks: never. Since: 0.1
 */
int vfiomig_device_get_info(const struct vfiomig_device *d,
                            struct vfiomig_device_info *info,
                            struct vfiomig_error **errp);

/**
 * The last known state.
 *
 * Returns: VFIOMIG_STATE_*; VFIOMIG_STATE_ERROR for NULL and for a device that is not migratable.
 * States: any.
 * Threads: any. Blocks: never. Since: 0.1
 */
uint32_t vfiomig_device_get_state(const struct vfiomig_device *d);

/**
 * Brings the device to `state`. The request is checked against the table of arcs before the kernel
 * sees it (docs/states.md). Returns 0 without a request if the device is in the state already.
 * After a failure the state is read, and `on_failure` is done: VFIOMIG_ON_FAILURE_KEEP,
 * VFIOMIG_ON_FAILURE_RESET or VFIOMIG_ON_FAILURE_RETURN_TO(state); the error has one result that
 * says what was found and done. RESUMING is left only after vfiomig_device_finish() has succeeded,
 * unless a reset has left the device there. `flags` is 0 or VFIOMIG_SET_STATE_F_RAW. Allowed while
 * a chunk or buffer is lent.
 *
 * Some drivers need more than the request, and get it (docs/faults.md). After a failed step,
 * RUNNING is reached by one more state and back. STOP_COPY of a device with P2P and without
 * PRE_COPY is left only after the end of its stream, which the library reads and throws away, for
 * at most 5 s (-ETIMEDOUT: call again). A second RESUMING begins with a reset.
 *
 * Returns: 0 or -errno.
 * Errors: ARGUMENT (`state`, `on_failure`, `flags`; a RETURN_TO of ERROR), BUSY (-EDEADLK: from a
 * callback of the device, of its group or of its migration), ORDER (the table refuses the arc, as
 * it does for ERROR; or only a reset is left), STALE (the device was changed outside of this
 * library: nothing was requested, and the state that was found is known now), UNSUPPORTED (not
 * migratable), DEVICE (the kernel's errno; -ETIMEDOUT: the stream has no end yet), PROTOCOL (no
 * data fd came, or one too many), SYSTEM (-ENOMEM).
 * States: those from which the table of arcs leads to `state` (docs/states.md).
 * Threads: whole. Blocks: in the kernel, for seconds on some devices. Since: 0.1
 */
int vfiomig_device_set_state(struct vfiomig_device *d,
                             uint32_t state,
                             uint32_t on_failure,
                             uint32_t flags,
                             struct vfiomig_error **errp);

/**
 * Resets the device (VFIO_DEVICE_RESET, tried again for 5 s while the kernel says EAGAIN). What it
 * held is lost, its session has ended, and it is in RUNNING. Nothing else leads out of ERROR, nor
 * out of RESUMING with a bad stream. Allowed while a chunk or buffer is lent.
 *
 * Device servers may refuse it in STOP and STOP_COPY (UNSUPPORTED, -EINVAL), or do it and stay in
 * the state in which they were (PROTOCOL). The message says which state can be requested next.
 * RESUMING may then be left by vfiomig_device_set_state(), since nothing was loaded.
 *
 * Returns: 0 or -errno.
 * Errors: BUSY (-EDEADLK, as of vfiomig_device_set_state()), UNSUPPORTED (no reset, or none in this
 * state), DEVICE (the kernel's errno), PROTOCOL (not in RUNNING afterwards).
 * States: any.
 * Threads: whole. Blocks: in the kernel. Since: 0.1
 */
int vfiomig_device_reset(struct vfiomig_device *d, struct vfiomig_error **errp);

/**
 * Probes the device again after a reset that the VMM did without this library, or after the device
 * was replaced: what it held is gone. The session has ended, also where a device server kept its
 * state, and its stream is void. RESUMING may then be left by vfiomig_device_set_state() if the
 * server kept it, since nothing was loaded. If only the state was changed by others, do not call
 * this: the next call returns STALE.
 *
 * Returns: 0 or -errno.
 * Errors: BUSY (-EDEADLK, as of vfiomig_device_set_state()), ORDER (the device still needs its
 * reset), DEVICE (the kernel's errno; -ETIMEDOUT: a read of its stream was not answered for 5 s,
 * and nothing was probed; call again), PROTOCOL (the device reports impossible values).
 * States: any.
 * Threads: whole. Blocks: in the kernel. Since: 0.1
 */
int vfiomig_device_reprobe(struct vfiomig_device *d, struct vfiomig_error **errp);

/**
 * How much is left to be saved. Without VFIOMIG_PENDING_F_EXACT the sizes are those of the last
 * query. With it the device is asked, which on some devices prepares more data. A size that is not
 * known in a state reads VFIOMIG_UNKNOWN.
 *
 * Returns: 0 or -errno.
 * Errors: ARGUMENT (`flags`); with EXACT also BUSY, ORDER (only a reset is left), STALE (the save
 * session is broken), UNSUPPORTED (not migratable), DEVICE, PROTOCOL.
 * States: any.
 * Threads: any; with EXACT device. Blocks: never; with EXACT in the kernel. Since: 0.1
 */
int vfiomig_device_get_pending(struct vfiomig_device *d,
                               uint32_t flags,
                               struct vfiomig_device_pending *out,
                               struct vfiomig_error **errp);

/**
 * States that what was received of an earlier stream is thrown away, and begins a new one. Needed
 * once after a save session of which bytes were lent or consumed and that did not end by STOP after
 * END (state change, reset, error); until then save calls return -ESTALE. Callers that use
 * migrations do not need it: a migration that has sent nothing begins new streams by itself, and so
 * does entering SAVE_PRE_COPY again after vfiomig_group_resume().
 *
 * Returns: 0 or -errno; 0 for a device that is not migratable, too.
 * Errors: BUSY, ORDER (bytes of the open session were consumed, also up to its END, or the session
 * is broken).
 * States: any.
 * Threads: device. Blocks: never. Since: 0.1
 */
int vfiomig_device_restart_stream(struct vfiomig_device *d, struct vfiomig_error **errp);

/**
 * Lends the next bytes of the stream. At most one chunk is lent per device; it stays valid from
 * PRE_COPY into STOP_COPY. After the session has ended its memory stays readable and unchanged
 * until the next peek, reserve or free, whatever else is done with the device, and
 * vfiomig_device_consume() returns -ESTALE; device memory stays mapped, but the device may change
 * it. `max` bounds the chunk in bytes; 0: no bound but the buffer.
 *
 * A failed read of a data fd may have lost bytes, because drivers throw away what they had copied:
 * the session is broken, and every further call returns STALE. -EAGAIN: nothing was moved; the
 * device has more data but was not ready for a second: call again. A cancel of the device's
 * migration ends that wait.
 *
 * Returns: 0 or -errno.
 * Errors: BUSY (also: a chunk is lent), ORDER (state), STALE (the session has ended or is broken,
 * or the stream is void), UNSUPPORTED (not migratable), DEVICE (-EAGAIN: not ready, in STOP_COPY
 * only), PROTOCOL, SYSTEM (-ENOMEM: no memory for a buffer), CANCELED (while the device was not
 * ready; nothing is lost).
 * States: PRE_COPY, PRE_COPY_P2P, STOP_COPY.
 * Threads: device. Blocks: in the kernel. Since: 0.1
 */
int vfiomig_device_peek(struct vfiomig_device *d,
                        size_t max,
                        struct vfiomig_chunk *out,
                        struct vfiomig_error **errp);

/**
 * Gives the chunk back. The caller has taken the first `len` bytes; the rest is lent again by the
 * next peek, with `len` 0 all of it. On v1 and the draft the last byte of a segment acknowledges it
 * to the device; if that fails it is tried again by the next peek, and nothing is lost.
 *
 * Returns: 0 or -errno.
 * Errors: ARGUMENT (`len` is more than was lent), BUSY, ORDER (state; no chunk is lent), STALE (the
 * session has ended or is broken), UNSUPPORTED (not migratable).
 * States: PRE_COPY, PRE_COPY_P2P, STOP_COPY.
 * Threads: device. Blocks: in the kernel (v1, draft). Since: 0.1
 */
int vfiomig_device_consume(struct vfiomig_device *d, size_t len, struct vfiomig_error **errp);

/**
 * Copies the next bytes of the stream to `buf`: at most one read of the device and one buffer,
 * often fewer bytes than `len`, and never beyond the end of a segment. 0 comes with
 * VFIOMIG_CHUNK_EMPTY or VFIOMIG_CHUNK_END in `*flags`; else `*flags` is 0 or
 * VFIOMIG_CHUNK_SEGMENT_END.
 *
 * Returns: bytes, or -errno.
 * Errors: as vfiomig_device_peek(), and ARGUMENT (`buf` or `flags` NULL, `len` 0).
 * States: PRE_COPY, PRE_COPY_P2P, STOP_COPY.
 * Threads: device. Blocks: in the kernel. Since: 0.1
 */
int64_t vfiomig_device_read(struct vfiomig_device *d,
                            void *buf,
                            size_t len,
                            uint32_t *flags,
                            struct vfiomig_error **errp);

/**
 * Writes the next bytes of the stream to `fd` (a socket, a pipe, a file): at most `max` bytes (0:
 * no bound) and at most one buffer a call, also of device memory, and never beyond the end of a
 * segment. What `fd` does not take stays in the stream. 0 comes with VFIOMIG_CHUNK_EMPTY or
 * VFIOMIG_CHUNK_END in `*flags`; else `*flags` is 0 or VFIOMIG_CHUNK_SEGMENT_END. A closed peer is
 * -EPIPE, never SIGPIPE.
 *
 * Returns: bytes, or -errno.
 * Errors: as vfiomig_device_peek(), and ARGUMENT (`flags` NULL; -1 as fd: -EBADF), SYSTEM (`fd`
 * failed; -EAGAIN if it takes nothing, at once in non-blocking mode, else after 60 s; nothing is
 * lost), CANCELED (also while `fd` was not ready).
 * States: PRE_COPY, PRE_COPY_P2P, STOP_COPY.
 * Threads: device. Blocks: in the kernel, and on `fd`, which is polled: a cancel ends that wait,
 * and state changes do not wait for it. Since: 0.1
 */
int64_t vfiomig_device_send(struct vfiomig_device *d,
                            int fd,
                            size_t max,
                            uint32_t *flags,
                            struct vfiomig_error **errp);

/**
 * Lends a buffer for the next bytes of the stream. At most one buffer is lent per device.
 * `segment_left` is the length of the rest of the segment that follows (v1, draft), as
 * `segment_left` of the chunk on the source side; 0 is refused there. A segment that does not fit
 * the device's window is refused here, with -EMSGSIZE and both lengths. On v2, which has no
 * segments, it is VFIOMIG_UNKNOWN, as there; 0 is refused. `*len` is the size of the buffer; on v1
 * and the draft it may be device memory (VFIOMIG_CAP_MAPPED). After the session has ended its
 * memory stays valid until the next peek, reserve or free.
 *
 * Returns: 0 or -errno.
 * Errors: ARGUMENT (`segment_left`), BUSY (also: a buffer is lent), ORDER (state; after finish),
 * STALE (the session has ended or is broken), SYSTEM (-ENOMEM), UNSUPPORTED (not migratable;
 * -EMSGSIZE), DEVICE, PROTOCOL.
 * States: RESUMING.
 * Threads: device. Blocks: in the kernel (v1, draft). Since: 0.1
 */
int vfiomig_device_reserve(struct vfiomig_device *d,
                           uint64_t segment_left,
                           void **ptr,
                           size_t *len,
                           struct vfiomig_error **errp);

/**
 * Gives the first `len` bytes of the lent buffer to the device; 0 returns the buffer unused, and no
 * segment is begun. `flags` is VFIOMIG_CHUNK_SEGMENT_END with the last bytes of a segment, else 0.
 * It may be left out: a segment that has all bytes is handed over. Where it is given, the length is
 * checked.
 *
 * If the device may have taken a byte before the failure, the session is broken and only a reset
 * leads out of RESUMING; else the buffer is still lent and the call can be repeated. The message
 * says which.
 *
 * In a load with `queue_bytes` the bytes are put into the device's queue, and the call may return
 * before the device has them: what it does not take is an error of the next call for it, the
 * session is broken, and only a reset leads out.
 *
 * Returns: 0 or -errno.
 * Errors: ARGUMENT (`len` is more than was lent; `flags`), BUSY, ORDER (state; after finish; no
 * buffer is lent), STALE (the session has ended or is broken), DEVICE (the device refused the
 * bytes; -EAGAIN: it was not ready), PROTOCOL, UNSUPPORTED (not migratable; -EMSGSIZE), CANCELED
 * (while the device was not ready, or its queue was full).
 * States: RESUMING.
 * Threads: device. Blocks: in the kernel; with `queue_bytes` while the queue is full. Since: 0.1
 */
int vfiomig_device_commit(struct vfiomig_device *d,
                          size_t len,
                          uint32_t flags,
                          struct vfiomig_error **errp);

/**
 * Gives `len` bytes to the device, all of them, without a copy into the library's memory, one
 * buffer at a time; `len` 0 gives nothing. A state change or other calls that wait may run between
 * two buffers; if that ends the session, the message says how many bytes were taken. `flags` is
 * VFIOMIG_CHUNK_SEGMENT_END with the last bytes of a segment (v1, draft), else 0. After a failure
 * the session is broken, or the call can be repeated, as with vfiomig_device_commit(), which says
 * too what `queue_bytes` changes; then a copy is made.
 *
 * Returns: `len`, or -errno.
 * Errors: ARGUMENT (`buf` NULL; `flags`), BUSY (also: a buffer is lent), ORDER (state; after
 * finish), STALE (the session is broken; another one has begun), SYSTEM (-ENOMEM), DEVICE (the
 * device refused the bytes; -EAGAIN: it was not ready), PROTOCOL, UNSUPPORTED (not migratable;
 * -EMSGSIZE), CANCELED (while the device was not ready, or its queue was full).
 * States: RESUMING.
 * Threads: device. Blocks: in the kernel; with `queue_bytes` while the queue is full. Since: 0.1
 */
int64_t vfiomig_device_write(struct vfiomig_device *d,
                             const void *buf,
                             size_t len,
                             uint32_t flags,
                             struct vfiomig_error **errp);

/**
 * Reads from `fd` (a socket, a pipe, a file) and gives the bytes to the device: at most `len`
 * bytes, which is not 0, and at most one buffer a call, also of device memory. 0 is the end of
 * `fd`. `flags` is VFIOMIG_CHUNK_SEGMENT_END if a segment ends with the last of `len` bytes (v1,
 * draft), else 0; it is used only if all `len` bytes came.
 *
 * Returns: bytes, or -errno.
 * Errors: as vfiomig_device_write(), and ARGUMENT (`len` 0; -1 as fd: -EBADF), CANCELED (also while
 * `fd` was not ready), SYSTEM (`fd` failed; -EAGAIN if it has nothing, at once in non-blocking
 * mode, else after 60 s): nothing is lost then, and the session stays open. Bytes that came from
 * `fd` and that the device did not take are lost, so any other failure after a read breaks the
 * session.
 * States: RESUMING.
 * Threads: device. Blocks: in the kernel, and on `fd`, which is polled: a cancel ends that wait,
 * and state changes do not wait for it. Since: 0.1
 */
int64_t vfiomig_device_receive(struct vfiomig_device *d,
                               int fd,
                               size_t len,
                               uint32_t flags,
                               struct vfiomig_error **errp);

/**
 * States the length of the stream in bytes, as the source side counted it. Without it the device
 * cannot leave RESUMING, because some drivers accept a truncated stream silently. VFIOMIG_UNKNOWN:
 * the VMM's format does not carry the length, so a stream that was cut off is not noticed. Bytes
 * that are missing may still be written, and finish be called again; if more bytes were loaded than
 * `total`, only a reset is left. In a load with `queue_bytes` the length is compared with what was
 * put; what the device says of these bytes comes when LOAD_LOADED is entered.
 *
 * Returns: 0 or -errno.
 * Errors: BUSY (also: a buffer is lent), ORDER (state), STALE (the session is broken), UNSUPPORTED
 * (not migratable), INCOMPLETE (both lengths are in the message).
 * States: RESUMING.
 * Threads: device. Blocks: never. Since: 0.1
 */
int vfiomig_device_finish(struct vfiomig_device *d, uint64_t total, struct vfiomig_error **errp);

/**
 * Sets the bits of `dst` (from `dst_bit`) that are set in `src` (from `src_bit`), for `bits` bits.
 * Bit n of a bitmap is word n / 64, bit n % 64. `src` stays as it is, and no other thread may write
 * it meanwhile. The bits need not be aligned to each other. The words of the two parts must not
 * overlap. The bitmap functions have no error object; with `bits` 0 they do nothing and return 0,
 * but check their pointers.
 *
 * Returns: how many bits of `dst` were not set before, or -errno. With VFIOMIG_BITMAP_F_ATOMIC the
 * number is exact whatever others do.
 * Errors: -EINVAL (NULL, not aligned to 8 bytes, more than 2^54 words, a range that overflows, an
 * overlap, an unknown flag), -ENOTRECOVERABLE (a bug in the library).
 * Threads: any. Blocks: never. Since: 0.1
 */
int64_t vfiomig_bitmap_merge(uint64_t *dst,
                             uint64_t dst_bit,
                             const uint64_t *src,
                             uint64_t src_bit,
                             uint64_t bits,
                             uint32_t flags);

/**
 * Moves bits: those that are set in `src` are cleared there and set in `dst`. With
 * VFIOMIG_BITMAP_F_ATOMIC a bit that another thread sets meanwhile is either moved or stays, and a
 * thread that reads the page after this call sees what was written before the bit was set. `dst`
 * NULL: the bits are only counted and cleared, and `dst_bit` is ignored. The words of the two parts
 * must not overlap.
 *
 * Returns: how many bits were moved, or -errno.
 * Errors: as vfiomig_bitmap_merge().
 * Threads: any. Blocks: never. Since: 0.1
 */
int64_t vfiomig_bitmap_take(uint64_t *dst,
                            uint64_t dst_bit,
                            uint64_t *src,
                            uint64_t src_bit,
                            uint64_t bits,
                            uint32_t flags);

/**
 * Counts the set bits among `bits` bits from `bit` on: `bits` is a length. No other thread may
 * write them meanwhile.
 *
 * Returns: the number, or -errno.
 * Errors: as vfiomig_bitmap_merge().
 * Threads: any. Blocks: never. Since: 0.1
 */
int64_t vfiomig_bitmap_count(const uint64_t *bitmap, uint64_t bit, uint64_t bits);

/**
 * Finds the first run of set bits at bit `from` or later, in a bitmap of `bits` bits: `bits` is the
 * size of the bitmap. No other thread may write it meanwhile. To find all runs, continue from
 * `*start + *len`.
 *
 * Returns: 1; 0 if there is none (also if `from` is `bits` or more), and nothing is written; or
 * -errno.
 * Errors: as vfiomig_bitmap_merge().
 * Threads: any. Blocks: never. Since: 0.1
 */
int64_t vfiomig_bitmap_next_run(const uint64_t *bitmap,
                                uint64_t bits,
                                uint64_t from,
                                uint64_t *start,
                                uint64_t *len);

/**
 * Writes the runs of set bits at bit `from` or later as ranges of addresses. Bit n of the `bits`
 * bits of the bitmap stands for the page of `page_size` bytes at `base_address` + n * `page_size`;
 * any `page_size` but 0 is legal. At most `max` ranges are written, and `max` is not 0. `*next` is
 * the bit to continue from, and `bits` when there are no more. No other thread may write the bitmap
 * meanwhile.
 *
 * Returns: how many ranges were written, or -errno.
 * Errors: as vfiomig_bitmap_merge(), and -EINVAL for `max` 0, `page_size` 0, and addresses that do
 * not fit into 64 bits.
 * Threads: any. Blocks: never. Since: 0.1
 */
int64_t vfiomig_bitmap_get_ranges(const uint64_t *bitmap,
                                  uint64_t bits,
                                  uint64_t from,
                                  uint64_t base_address,
                                  uint64_t page_size,
                                  struct vfiomig_range *out,
                                  size_t max,
                                  uint64_t *next);

/**
 * Merges a bitmap into one with pages of another size; bit 0 of both stands for the same address.
 * The bit of a page of `dst` is set if a byte of that page is in a page of `src` whose bit is set.
 * `dst` has as many bits as it takes to hold `src_bits` pages of `src_page_size` bytes. Page sizes
 * are powers of two. `src` stays as it is, and no other thread may write it meanwhile. The two must
 * not overlap.
 *
 * Returns: how many bits of `dst` were not set before, or -errno.
 * Errors: as vfiomig_bitmap_merge(), and -EINVAL for a page size that is no power of two.
 * Threads: any. Blocks: never. Since: 0.1
 */
int64_t vfiomig_bitmap_rescale(uint64_t *dst,
                               uint64_t dst_page_size,
                               const uint64_t *src,
                               uint64_t src_page_size,
                               uint64_t src_bits,
                               uint32_t flags);

/**
 * Makes a tracker for one address space, and chooses its log: the devices' own logs if every device
 * has one; else dirty tracking of the page tables; else the container's log; else everything is
 * dirty. vfiomig_tracker_get_info() says which and why. Nothing is started. NULL options:
 * everything is dirty, and the tracker covers no device, so a group needs another tracker. One with
 * VFIOMIG_TRACKER_F_EVERYTHING covers all devices.
 *
 * A tracker can live as long as its address space: make it with the container, report every mapping
 * and unmapping as it is made and each device and page table that comes and goes, and add it to the
 * group once. The log is chosen anew, from what is there, when the tracker is started for the first
 * time or again after its last stop (docs/dirty.md, "A tracker for the life of a container").
 *
 * The tracker refers to its devices. A device handle that is freed counts as unplugged: everything
 * is dirty once, in a migration at each harvest, and the tracker continues without it.
 *
 * Reading a log clears it, so a log has one tracker: a device handle, a page table of an iommufd or
 * a container that another tracker of this process has is refused until that is freed. Descriptors
 * are compared by number: a copy made by dup() is not recognised, and dirty pages would be lost.
 *
 * Returns: 0 or -errno.
 * Errors: ARGUMENT (`out` NULL; -1 as fd: -EBADF; options, also a page_size or name out of range,
 * apertures that are not in units of 4096), BUSY (another tracker has a log).
 * Threads: any. Blocks: in the kernel, and in functions of the devices. Since: 0.1
 */
int vfiomig_tracker_new(const struct vfiomig_tracker_options *o,
                        struct vfiomig_tracker **out,
                        struct vfiomig_error **errp);

/**
 * Makes a tracker over a log that the VMM keeps itself. The table is copied; `opaque` is passed to
 * each function and not used otherwise. Of the options, `name`, `devices`, `apertures`, `page_size`
 * and `max_workers` are used; those that name another log are refused.
 *
 * Returns: 0 or -errno.
 * Errors: ARGUMENT (`ops` or `out` NULL; a table without start or report; options), BUSY (another
 * tracker has the same functions with the same `opaque`).
 * Threads: any. Blocks: never. Since: 0.1
 */
int vfiomig_tracker_new_ops(const struct vfiomig_tracker_ops *ops,
                            void *opaque,
                            const struct vfiomig_tracker_options *o,
                            struct vfiomig_tracker **out,
                            struct vfiomig_error **errp);

/**
 * Frees a tracker; NULL is legal. Waits for the call in progress, and stops the log if it is
 * started. Afterwards the library never uses its fds, functions or `opaque` pointers again. A group
 * forgets it at its next call (vfiomig_group_add_tracker()). Called from one of its own callbacks
 * it frees nothing and logs an error.
 *
 * States: started or not.
 * Threads: tracker; no call on the handle may begin during or after it. Blocks: until the call in
 * progress returns, and in the kernel. Since: 0.1
 */
void vfiomig_tracker_free(struct vfiomig_tracker *t);

/**
 * What is known of a tracker.
 *
 * Returns: 0 or -errno.
 * Errors: those of every function.
 * States: started or not.
 * Threads: any. Blocks: never. Since: 0.1
 */
int vfiomig_tracker_get_info(const struct vfiomig_tracker *t,
                             struct vfiomig_tracker_info *info,
                             struct vfiomig_error **errp);

/**
 * Adds DMA mappings, each as it was mapped, after the mapping was made. Either all are added or
 * none; with `count` 0 nothing is done. While the tracker is started a new mapping counts as dirty
 * once. A log whose ranges do not include it is restarted; everything is then dirty once, unless
 * the device is stopped. The ranges of a log are the apertures of the options, else what is mapped,
 * generously rounded out. A log that cannot be restarted or read is replaced by the next best.
 *
 * Returns: 0 or -errno.
 * Errors: ARGUMENT (`mappings` NULL; not in units of 4096; flags or reserved not 0; -EEXIST:
 * overlaps a mapping, or is one), BUSY (-EDEADLK: from a callback of the tracker).
 * States: started or not.
 * Threads: tracker. Blocks: in the kernel. Since: 0.1
 */
int vfiomig_tracker_map(struct vfiomig_tracker *t,
                        const struct vfiomig_mapping *mappings,
                        size_t count,
                        struct vfiomig_error **errp);

/**
 * Starts the tracker, before any RAM is sent. Calls are counted: the first one starts a log, and a
 * later one restarts nothing that works. The log is also read once: if that fails, the next best
 * log is used, and vfiomig_tracker_get_info() says so. With nothing mapped, that is done at the
 * first mapping. A later start tries better logs once more; if one works it is used, and everything
 * is dirty once. That no log works is no error: everything is dirty at each harvest.
 *
 * Returns: 0 or -errno.
 * Errors: ORDER (2^32 starts), BUSY (-EDEADLK: from a callback of the tracker).
 * States: started or not.
 * Threads: tracker. Blocks: in the kernel. Since: 0.1
 */
int vfiomig_tracker_start(struct vfiomig_tracker *t, struct vfiomig_error **errp);

/**
 * Takes back one start. The last one stops the log: what it holds, and what earlier reads left
 * over, is lost. That a device has stopped its log itself is no error. A start that a migration
 * made ends with that migration, at HALTED or abort.
 *
 * Returns: 0 or -errno.
 * Errors: ORDER (no start of the VMM is left, or a final harvest is due), BUSY (-EDEADLK: from a
 * callback of the tracker).
 * States: started by the VMM.
 * Threads: tracker. Blocks: in the kernel. Since: 0.1
 */
int vfiomig_tracker_stop(struct vfiomig_tracker *t, struct vfiomig_error **errp);

/**
 * Adds a device that was plugged into this address space. If the tracker is started, the device's
 * log is started, and everything is dirty once, since earlier writes are not known. If the device
 * has no log, the next best log is used for all devices. A device with a page table of its own
 * needs vfiomig_tracker_add_hwpt() as well, where page tables are used.
 *
 * Returns: 0 or -errno.
 * Errors: ARGUMENT (`d` NULL; -EEXIST: the tracker has it), BUSY (another tracker has its log;
 * -EDEADLK: from a callback of the tracker).
 * States: started or not.
 * Threads: tracker. Blocks: in the kernel, and in functions of the device. Since: 0.1
 */
int vfiomig_tracker_add_device(struct vfiomig_tracker *t,
                               struct vfiomig_device *d,
                               struct vfiomig_error **errp);

/**
 * Removes a device that was unplugged. It must do no DMA any more. What its log holds is read and
 * left over, and the log is stopped; other logs are not touched or restarted. Call it before
 * vfiomig_device_free(): what a freed device wrote last is not known, so everything is dirty once
 * then.
 *
 * Returns: 0 or -errno.
 * Errors: ARGUMENT (`d` NULL, or not in the tracker), BUSY (-EDEADLK: from a callback of the
 * tracker).
 * States: started or not.
 * Threads: tracker. Blocks: in the kernel, and in functions of the device. Since: 0.1
 */
int vfiomig_tracker_remove_device(struct vfiomig_tracker *t,
                                  struct vfiomig_device *d,
                                  struct vfiomig_error **errp);

/**
 * Adds a device of this address space for which there is no vfiomig_device, because the VMM or
 * another library serves it. `name` is for messages and names it in
 * vfiomig_tracker_remove_foreign(); at most 255 bytes, copied.
 *
 * `device_fd` is its VFIO device fd, or -1. With it the tracker may use the DMA log that the device
 * keeps itself, and asks it for nothing else; no other code may use that log meanwhile. The fd is
 * borrowed until the device is removed or the tracker freed. With -1, or if the device keeps no
 * log, the logs of the other devices are not enough, and the tracker uses page tables, the
 * container's log, or none. If the tracker is started, everything is dirty once.
 *
 * Returns: 0 or -errno.
 * Errors: ARGUMENT (`name` NULL or too long; `device_fd` below -1; -EEXIST: the tracker has a
 * foreign device of that name), BUSY (another tracker has its log; -EDEADLK: from a callback of the
 * tracker).
 * States: started or not.
 * Threads: tracker. Blocks: in the kernel. Since: 0.1
 */
int vfiomig_tracker_add_foreign(struct vfiomig_tracker *t,
                                const char *name,
                                int device_fd,
                                struct vfiomig_error **errp);

/**
 * Removes a foreign device that does no DMA any more, or that is added as a vfiomig_device next.
 * What its log holds is read and left over, and the log is stopped, so its fd must be open still.
 * If the tracker is started, and everything was dirty at each harvest because of that device, a
 * better log is started, and everything is dirty once more. Other logs are not touched.
 *
 * Returns: 0 or -errno.
 * Errors: ARGUMENT (`name` NULL, or not in the tracker), BUSY (-EDEADLK: from a callback of the
 * tracker).
 * States: started or not.
 * Threads: tracker. Blocks: in the kernel. Since: 0.1
 */
int vfiomig_tracker_remove_foreign(struct vfiomig_tracker *t,
                                   const char *name,
                                   struct vfiomig_error **errp);

/**
 * Adds the hardware page table to which a device of this address space was attached. Each call
 * counts one attached device, foreign or not. While the tracker is started and reads page tables,
 * the dirty tracking of a new one is switched on, and everything is dirty once. `hwpt_id` may be a
 * page table without dirty tracking, which shows when it is started; 0 stands for anything else to
 * which a device is attached, as for a mediated device. With one of these page tables cannot speak
 * for all devices, and the tracker uses another log.
 *
 * Returns: 0 or -errno.
 * Errors: ARGUMENT (made without VFIOMIG_TRACKER_F_HWPT), BUSY (another tracker has it; -EDEADLK:
 * from a callback of the tracker).
 * States: started or not.
 * Threads: tracker. Blocks: in the kernel. Since: 0.1
 */
int vfiomig_tracker_add_hwpt(struct vfiomig_tracker *t,
                             uint32_t hwpt_id,
                             struct vfiomig_error **errp);

/**
 * Takes back one vfiomig_tracker_add_hwpt(), for a device that is attached no more. With the last
 * one of a page table, what that holds is read and left over, and its dirty tracking is switched
 * off; other logs are not touched. Call it before the page table is destroyed. If no page table is
 * left and a device stays, everything is dirty until another one is added. If the others can speak
 * for all devices again, their dirty tracking is used as after vfiomig_tracker_remove_foreign().
 *
 * Returns: 0 or -errno.
 * Errors: ARGUMENT (made without VFIOMIG_TRACKER_F_HWPT, or not in the tracker), BUSY (-EDEADLK:
 * from a callback of the tracker).
 * States: started or not.
 * Threads: tracker. Blocks: in the kernel. Since: 0.1
 */
int vfiomig_tracker_remove_hwpt(struct vfiomig_tracker *t,
                                uint32_t hwpt_id,
                                struct vfiomig_error **errp);

/**
 * Reads the logs, clears them, and reports what was asked for. All of each log is read, because
 * kernels clear more than they report; what was not asked for is left over, and stays in the
 * tracker. No page is reported twice, and none is lost. A read that fails is no error of the
 * harvest: its range is dirty, and the result has VFIOMIG_HARVEST_DEGRADED. `rq` NULL: everything
 * is read and left over. `out` may be NULL.
 *
 * One user takes pages; others may only watch, with VFIOMIG_HARVEST_F_KEEP. While a migration runs,
 * its VMM takes. A cancel of the migration of a draft device ends the reading of its log, as a
 * failed read.
 *
 * Returns: 0 or -errno.
 * Errors: only for wrong calls, before anything is read: ARGUMENT (the request;
 * VFIOMIG_HARVEST_F_WITHOUT_DMA; `pass` with VFIOMIG_HARVEST_F_NO_READ), ORDER (not started), BUSY
 * (-EDEADLK: from a callback of the tracker).
 * States: started.
 * Threads: tracker. Blocks: in the kernel and in your callbacks. Since: 0.1
 */
int vfiomig_tracker_harvest(struct vfiomig_tracker *t,
                            const struct vfiomig_harvest_request *rq,
                            struct vfiomig_harvest_result *out,
                            struct vfiomig_error **errp);

/**
 * As vfiomig_tracker_harvest(), for several address spaces at once: each destination gets what any
 * of them has for its range. With `count` 0 nothing is done.
 *
 * Returns: 0 or -errno.
 * Errors: as vfiomig_tracker_harvest(), and ARGUMENT (`trackers` NULL, or a tracker is named
 * twice).
 * States: all of them started.
 * Threads: tracker, for each of them. Blocks: in the kernel and in your callbacks. Since: 0.1
 */
int vfiomig_tracker_harvest_many(struct vfiomig_tracker *const *trackers,
                                 size_t count,
                                 const struct vfiomig_harvest_request *rq,
                                 struct vfiomig_harvest_result *out,
                                 struct vfiomig_error **errp);

/**
 * Unmaps a range, and reports what was written to it. The library keeps the order that each log
 * needs: a device's log is read after the unmapping, a page table before, a container in the same
 * request. The range may hold any number of whole mappings, and holes.
 *
 * `unmap` is called at the right moment. NULL with VFIOMIG_UNMAP_F_LIBRARY: the library unmaps;
 * both together are refused. NULL without it: the VMM has unmapped already, and pages that only an
 * earlier read could have found are dirty. VFIOMIG_UNMAP_F_NO_DMA states that no device writes to
 * the range during the call; without it all of the range of a page table is dirty. A container's
 * log is exact only with VFIOMIG_UNMAP_F_LIBRARY.
 *
 * `rq` NULL: the pages are left over with the mapping's cookie. Harvests of everything with `run`
 * report them; the final harvest waits for that. A bitmap or `words` at their IOVA gets them as
 * long as nothing else is mapped there. What a cookie leads to must stay valid until then, or until
 * the tracker is stopped; two mappings that have the same IOVA, one after the other, have the same
 * cookie only if they lead to the same memory.
 *
 * If the unmapping fails, pages may have been reported all the same. `out` is written then; use
 * these pages, they are not reported again. VFIOMIG_HARVEST_F_NO_READ, _F_ONLY_DESTS,
 * _F_WITHOUT_DMA and a `pass` are refused.
 *
 * After a call with `unmap` NULL on page tables, later harvests read each mapping by itself,
 * because a harvest that runs at the same time may find a mapping gone.
 *
 * Returns: 0 or -errno.
 * Errors: ARGUMENT (`range` NULL, not in units of 4096, or it cuts a mapping;
 * VFIOMIG_UNMAP_F_LIBRARY without container and IOAS; the request),
 * SYSTEM (the unmapping failed: the mappings stay known, and nothing is lost), BUSY (-EDEADLK: from
 * a callback of the tracker).
 * States: started or not; a tracker that is not started reports nothing.
 * Threads: tracker. Blocks: in the kernel and in your callbacks. Since: 0.1
 */
int vfiomig_tracker_unmap(struct vfiomig_tracker *t,
                          const struct vfiomig_range *range,
                          vfiomig_unmap_fn unmap,
                          void *opaque,
                          uint32_t flags,
                          const struct vfiomig_harvest_request *rq,
                          struct vfiomig_harvest_result *out,
                          struct vfiomig_error **errp);

/**
 * The report for people: a line for each phase and each device; the last line has no line end.
 * UTF-8. Its words may change at any time.
 *
 * Returns: a text that lives until vfiomig_report_free(); "" for NULL.
 * Threads: any. Blocks: never. Since: 0.1
 */
const char *vfiomig_report_text(const struct vfiomig_report *r);

/**
 * How many phases the report has. A report of reasons has none.
 *
 * Returns: a count; 0 for NULL.
 * Threads: any. Blocks: never. Since: 0.1
 */
size_t vfiomig_report_phase_count(const struct vfiomig_report *r);

/**
 * One phase of a report, in the order in which they were begun. `index` counts from 0.
 *
 * Returns: a struct that lives until vfiomig_report_free(); NULL if there is no such phase.
 * Threads: any. Blocks: never. Since: 0.1
 */
const struct vfiomig_phase_report *vfiomig_report_phase(const struct vfiomig_report *r,
                                                        size_t index);

/**
 * The report as JSON, in one line: docs/reports.md has the schema. Fields may be added to it in
 * later versions; none changes its meaning.
 *
 * Returns: a text that lives until vfiomig_report_free(); "" for NULL.
 * Threads: any. Blocks: never. Since: 0.1
 */
const char *vfiomig_report_json(const struct vfiomig_report *r);

/**
 * How many entries besides phases the report has.
 *
 * Returns: a count; 0 for NULL.
 * Threads: any. Blocks: never. Since: 0.1
 */
size_t vfiomig_report_entry_count(const struct vfiomig_report *r);

/**
 * What was done in the phases and between them: drains, harvests, and failures, in the order in
 * which each was begun. Calls of one kind within a phase are one entry. Together with the phases
 * they have all the time that calls of the library took, except data calls on devices, which are by
 * device in vfiomig_report_counters().
 *
 * Returns: a struct that lives until vfiomig_report_free(); NULL past the last one.
 * Threads: any. Blocks: never. Since: 0.1
 */
const struct vfiomig_entry_report *vfiomig_report_entry(const struct vfiomig_report *r,
                                                        size_t index);

/**
 * What each device moved in all, and what was done more than once.
 *
 * Returns: a struct that lives until vfiomig_report_free(); NULL for NULL, and for a report that is
 * not one of a migration.
 * Threads: any. Blocks: never. Since: 0.1
 */
const struct vfiomig_counters_report *vfiomig_report_counters(const struct vfiomig_report *r);

/**
 * Frees a report with its texts, phases and results. NULL is legal.
 *
 * Threads: any, once. Blocks: never. Since: 0.1
 */
void vfiomig_report_free(struct vfiomig_report *r);

/**
 * What each device of the group is doing now, in the order in which they were added. The values are
 * those that any thread may read: no device is asked, and no call in progress is waited for, also
 * while a device hangs, and in callbacks. `devices` has `count` elements, and the first of them was
 * set up with VFIOMIG_INIT; it may be NULL if `count` is 0. A device whose handle was freed keeps
 * its place as long as the group's migration exists. Behind the devices comes each tracker of the
 * group that waits for a log, with VFIOMIG_PROGRESS_TRACKER: to start, read or stop it. `*total` is
 * set to the number of all these, which may be more than `count`.
 *
 * Returns: 0 or -errno.
 * Errors: ARGUMENT (`total` NULL, `devices` NULL or not set up).
 * Phases: any.
 * Threads: any. Blocks: never. Since: 0.1
 */
int vfiomig_group_get_progress(struct vfiomig_group *g,
                               struct vfiomig_progress *devices,
                               size_t count,
                               size_t *total,
                               struct vfiomig_error **errp);

/**
 * Makes an empty group, for the lifetime of a VM.
 *
 * Returns: 0 or -errno.
 * Errors: ARGUMENT (`out` NULL, options).
 * Threads: any. Blocks: never. Since: 0.1
 */
int vfiomig_group_new(const struct vfiomig_group_options *o,
                      struct vfiomig_group **out,
                      struct vfiomig_error **errp);

/**
 * Frees a group; NULL is legal. Waits for the call in progress. Its devices and trackers are not
 * freed and not changed. A migration of the group returns -ENODEV from then on. Called from a
 * callback of one of its own calls it frees nothing and logs an error.
 *
 * Phases: any.
 * Threads: whole; no call on the handle may begin during or after it. Blocks: until the call in
 * progress returns. Since: 0.1
 */
void vfiomig_group_free(struct vfiomig_group *g);

/**
 * Adds a device, also one that cannot be migrated. The group does not free it. If the device is
 * freed while it is a member, the group forgets it at its next call, and its name may be added
 * again; during a migration it stays a member, and the migration fails with -ENODEV.
 *
 * Returns: 0 or -errno.
 * Errors: ARGUMENT (`d` NULL; a member has the same name, as the same device has; -ENODEV: it was
 * freed), ORDER (a migration of the group exists).
 * Phases: none: no migration of the group may exist.
 * Threads: whole. Blocks: for calls in progress. Since: 0.1
 */
int vfiomig_group_add_device(struct vfiomig_group *g,
                             struct vfiomig_device *d,
                             struct vfiomig_error **errp);

/**
 * Removes a device. One that was freed need not be removed.
 *
 * Returns: 0 or -errno.
 * Errors: ARGUMENT (`d` NULL, or not in the group), ORDER (a migration of the group exists).
 * Phases: none: no migration of the group may exist.
 * Threads: whole. Blocks: for calls in progress. Since: 0.1
 */
int vfiomig_group_remove_device(struct vfiomig_group *g,
                                struct vfiomig_device *d,
                                struct vfiomig_error **errp);

/**
 * Adds a tracker, once for its life: each save starts it and stops it, whether or not the VMM
 * starts it too. Every device of the group must be covered by one before it can be saved. A save
 * that tracks already starts the tracker now, and everything in it is dirty once.
 *
 * The group does not free it. If the tracker is freed while it is in the group, the group forgets
 * it at its next call. A save that has started it continues if nothing is lost with it: all that
 * was mapped was unmapped before, what was written there was reported, and another tracker covers
 * each device that is still there. Otherwise the save is refused SAVE_STOP_COPY, or SAVE_HALTED.
 *
 * Returns: 0 or -errno.
 * Errors: ARGUMENT (`t` NULL, or in the group already; -ENODEV: it was freed), ORDER (in
 * SAVE_STOP_COPY).
 * Phases: any but SAVE_STOP_COPY.
 * Threads: whole. Blocks: for calls in progress. Since: 0.1
 */
int vfiomig_group_add_tracker(struct vfiomig_group *g,
                              struct vfiomig_tracker *t,
                              struct vfiomig_error **errp);

/**
 * Removes a tracker, as when its address space goes. One that was freed need not be removed. A save
 * that has started it stops it, and takes it for one that has reported everything: it is refused
 * while the tracker has mappings, or knows of pages that were not reported, and from
 * SAVE_STOP_COPY on until its final harvest.
 *
 * Returns: 0 or -errno.
 * Errors: ARGUMENT (`t` NULL, or not in the group), ORDER (a save would miss what it knows).
 * Phases: any.
 * Threads: whole. Blocks: for calls in progress; in the kernel, where a log is stopped. Since: 0.1
 */
int vfiomig_group_remove_tracker(struct vfiomig_group *g,
                                 struct vfiomig_tracker *t,
                                 struct vfiomig_error **errp);

/**
 * What can be done with the group as it is. A group that cannot be migrated is no error:
 * VFIOMIG_ABILITY_MIGRATABLE is missing. `reasons` may be NULL; else it receives a report, to be
 * freed, with one line for each reason why an ability is missing; it may be empty.
 *
 * Returns: 0 or -errno.
 * Errors: those of every function.
 * Phases: any; a group whose devices are not in RUNNING or STOP, as during a migration, is not
 * migratable.
 * Threads: whole. Blocks: for calls in progress; no device is asked. Since: 0.1
 */
int vfiomig_group_get_abilities(struct vfiomig_group *g,
                                struct vfiomig_group_abilities *out,
                                struct vfiomig_report **reasons,
                                struct vfiomig_error **errp);

/**
 * Stops all devices, by way of their P2P states; those with an open save session are held in
 * STOP_COPY. Stop vCPUs before. If a device fails, no further device is stopped, and
 * vfiomig_group_resume() lets all of them run again. The error has one result per device. Devices
 * that cannot be migrated have no states and take no part, nor does one that was freed during a
 * migration; that is no error, and vfiomig_group_get_report() says so. A second pause has no effect
 * on devices that are stopped. A cancel of the migration has no effect on it.
 *
 * Returns: 0 or -errno.
 * Errors: BUSY (-EDEADLK: from a callback of the group, of its devices or its migration), ORDER
 * (the phase; a device is loading; only a reset leads out of a device's state), DEVICE (-ETIMEDOUT:
 * the stream has no end yet, call again), PROTOCOL, STALE (a device was changed outside of this
 * library; -ENODEV, of a load: a device was freed), SYSTEM (-ENOMEM).
 * Phases: without a migration; IDLE of a save, SAVE_TRACKING, SAVE_PRE_COPY, LOAD_LOADED,
 * LOAD_P2P_GRACE, LOAD_RUNNING; not while a phase is entered device by device.
 * Threads: whole. Blocks: in the kernel, for the slowest device. Since: 0.1
 */
int vfiomig_group_pause(struct vfiomig_group *g, struct vfiomig_error **errp);

/**
 * The first half of vfiomig_group_pause(), for VMMs that stop in two passes. Devices that have P2P
 * states are brought there; the others still run. Stop vCPUs before. vfiomig_group_pause() or
 * vfiomig_group_resume() follows.
 *
 * Returns: 0 or -errno.
 * Errors: as vfiomig_group_pause().
 * Phases: as of vfiomig_group_pause().
 * Threads: whole. Blocks: in the kernel, for the slowest device. Since: 0.1
 */
int vfiomig_group_pause_begin(struct vfiomig_group *g, struct vfiomig_error **errp);

/**
 * Lets all devices run again, by way of their P2P states. Start vCPUs after it returns.
 *
 * During SAVE_PRE_COPY the sessions that were held end, the streams are void, and the phase is
 * SAVE_TRACKING again. Trackers stay started, and RAM that was sent stays valid. Entering
 * SAVE_PRE_COPY again begins new streams; later phases are refused before that. The destination
 * side discards the old streams: abort, then LOAD_RESUMING again. If the call fails after the
 * session of one device has ended, all streams are void, and phases are refused until a resume or
 * an abort has ended the other sessions, too; if it fails before that, the phase stays
 * SAVE_PRE_COPY and no stream is void. Draft devices, whose log answers only while they save, are
 * brought to PRE_COPY again, as SAVE_TRACKING has them; a failure of that is in the report.
 *
 * In LOAD_LOADED it enters LOAD_P2P_GRACE and LOAD_RUNNING, as vfiomig_migration_advance() does. If
 * the migration was freed in LOADED the devices are let run as well; a device that does not accept
 * its stream then stays as it is, and the caller must reset it.
 *
 * In SAVE_HALTED it is refused: see vfiomig_migration_abort(). Once that migration was freed the
 * caller decides, as for a snapshot in a file: a device that still holds the state of the guest
 * that was saved runs again; the log gets a WARNING and vfiomig_group_get_report() a line, because
 * the guest may run on the destination side as well.
 *
 * Returns: 0 or -errno.
 * Errors: as vfiomig_group_pause(), and as vfiomig_migration_advance() for a load.
 * Phases: as of vfiomig_group_pause().
 * Threads: whole. Blocks: in the kernel, for the slowest device. Since: 0.1
 */
int vfiomig_group_resume(struct vfiomig_group *g, struct vfiomig_error **errp);

/**
 * The first half of vfiomig_group_resume(), for VMMs that start in two passes. Stopped devices that
 * have P2P states are brought there, where other devices may reach them. A save session that was
 * held ends, and a load in LOAD_LOADED enters LOAD_P2P_GRACE. vfiomig_group_resume() follows, or
 * vfiomig_group_pause().
 *
 * Returns: 0 or -errno.
 * Errors: as vfiomig_group_resume().
 * Phases: as of vfiomig_group_pause().
 * Threads: whole. Blocks: in the kernel, for the slowest device. Since: 0.1
 */
int vfiomig_group_resume_begin(struct vfiomig_group *g, struct vfiomig_error **errp);

/**
 * vfiomig_tracker_harvest_many() over all trackers of the group; `rq` and `out` may be NULL. With
 * VFIOMIG_HARVEST_F_WITHOUT_DMA the devices do no DMA meanwhile, so that logs that read and clear
 * in two steps lose nothing: v1 devices with NDMA are brought to their P2P states and back, stopped
 * ones stay. Refused unless every device is stopped, or is a v1 device with NDMA. If all devices
 * are stopped, vCPUs must be, too. If a device cannot be brought back, the call fails although
 * pages were reported: `out` is written; use these pages, they are not reported again. The final
 * harvest, which HALTED needs, is one in SAVE_STOP_COPY.
 *
 * Returns: 0 or -errno.
 * Errors: as vfiomig_tracker_harvest(); with WITHOUT_DMA also UNSUPPORTED (other devices), DEVICE,
 * PROTOCOL, STALE (a device was changed outside of this library; -ENODEV: a device was freed).
 * Phases: any in which the trackers are started; from SAVE_TRACKING to SAVE_STOP_COPY the migration
 * has started them.
 * Threads: tracker; with WITHOUT_DMA whole. Blocks: in the kernel and in your callbacks. Since: 0.1
 */
int vfiomig_group_harvest(struct vfiomig_group *g,
                          const struct vfiomig_harvest_request *rq,
                          struct vfiomig_harvest_result *out,
                          struct vfiomig_error **errp);

/**
 * What the last call that moved the group's devices did to each of them, also after success; empty
 * before the first. A call that is in progress is seen in vfiomig_group_get_progress(), and here
 * when it has ended. Free the report.
 *
 * Returns: 0 or -errno.
 * Errors: ARGUMENT (`out` NULL).
 * Phases: any.
 * Threads: any. Blocks: never. Since: 0.1
 */
int vfiomig_group_get_report(struct vfiomig_group *g,
                             struct vfiomig_report **out,
                             struct vfiomig_error **errp);

/**
 * How long state changes of the group's devices take, as far as it is known: from a save or a
 * pause of this process, or from vfiomig_group_set_timings(). `out` receives a report without
 * phases, to be freed, whose text is what vfiomig_group_set_timings() takes. Keep the text with
 * the VM, or with the kind of its devices: then the estimate of a first migration knows them.
 *
 * The first line of the text is "vfiomig-timings 1". Each other line is "FROM TO TIME NAME",
 * separated by one space: two states with the names of vfiomig_state_name(); a whole number with
 * one of the units ns, us, ms and s; the device's name up to the end of the line, with \\, \n and
 * \r for a backslash and for line ends. Empty lines, and lines that begin with #, are ignored.
 *
 * Returns: 0 or -errno.
 * Errors: ARGUMENT (`out` NULL).
 * Phases: any.
 * Threads: any. Blocks: never. Since: 0.1
 */
int vfiomig_group_get_timings(struct vfiomig_group *g,
                              struct vfiomig_report **out,
                              struct vfiomig_error **errp);

/**
 * Sets how long state changes of the group's devices take: what vfiomig_group_get_timings()
 * returned in an earlier process, a measurement, or a vendor's figure. The format is described
 * there. A time holds until the change is measured. vfiomig_migration_get_estimate() uses those of
 * the changes that a save makes while the guest is stopped: PRE_COPY to PRE_COPY_P2P, PRE_COPY_P2P
 * to STOP_COPY, and for devices without P2P or PRE_COPY those that they make instead. Devices are
 * found by their names, so they must have been added before. Lines for other names are left out,
 * which is no error: `unknown` may be NULL; else it receives a report, to be freed, with one such
 * name in each line; it may be empty.
 *
 * Returns: 0 or -errno.
 * Errors: ARGUMENT (`text` NULL, not UTF-8, of another version, or with a line that is wrong,
 * which the message names by its number; then nothing was set).
 * Phases: any.
 * Threads: any. Blocks: never. Since: 0.1
 */
int vfiomig_group_set_timings(struct vfiomig_group *g,
                              const char *text,
                              struct vfiomig_report **unknown,
                              struct vfiomig_error **errp);

/**
 * Makes a migration in IDLE. While it exists, no device of the group can be added or removed, and
 * no tracker removed. `direction` is one of VFIOMIG_DIRECTION_*. It is refused, with every reason,
 * unless all devices are migratable and in RUNNING or STOP; a save also unless a tracker covers
 * each device.
 *
 * Returns: 0 or -errno.
 * Errors: ARGUMENT (`out` NULL, `direction`, `o`; -ENODEV: the group was freed), ORDER (the group
 * has a migration), UNSUPPORTED (with every reason).
 * Phases: none: no migration of the group may exist.
 * Threads: whole, for the group. Blocks: for calls in progress. Since: 0.1
 */
int vfiomig_migration_new(struct vfiomig_group *g,
                          uint32_t direction,
                          const struct vfiomig_migration_options *o,
                          struct vfiomig_migration **out,
                          struct vfiomig_error **errp);

/**
 * Frees a migration; NULL is legal. Waits for the call in progress, stops the trackers that the
 * migration started, and changes no device's state: abort first. Called from a callback of one of
 * its own calls it frees nothing and logs an error.
 *
 * Phases: any.
 * Threads: whole; no call on the handle may begin during or after it. Blocks: until the call in
 * progress returns, and the request of a device that hangs in the kernel. Since: 0.1
 */
void vfiomig_migration_free(struct vfiomig_migration *m);

/**
 * Brings all devices into `phase`, through the phases before it; each is entered by all devices
 * before the next begins. Returns 0 at once if it is entered already. Never backwards. A wrong
 * order is refused with the phases that may be next, and changes nothing. If a device fails, the
 * others finish their step, no further step begins, and the migration is FAILED; the error has one
 * result per device. `flags` is 0, or VFIOMIG_ADVANCE_F_NO_HARVEST with HALTED.
 *
 * To SAVE_HALTED: refused until each tracker was harvested over all its ranges since SAVE_STOP_COPY
 * was entered (or with VFIOMIG_ADVANCE_F_NO_HARVEST), and the END of each stream was consumed. To
 * LOAD_LOADED: refused until vfiomig_device_finish() has succeeded for each device. From
 * SAVE_TRACKING: if a stream is void, SAVE_PRE_COPY must be entered first, and no phase while the
 * void stream's session is open (vfiomig_group_resume()). From IDLE: refused while a save session
 * is open from which the caller has read.
 *
 * Returns: 0 or -errno.
 * Errors: ARGUMENT (`phase` is FAILED or no phase; `flags`), ORDER, CANCELED, DEVICE (-EIO also: a
 * device is in ERROR), PROTOCOL, STALE (a device was changed outside of this library, or its
 * session has ended; -ENODEV: a device was freed), UNSUPPORTED (a device is not migratable any
 * more), SYSTEM (-ENOMEM); in FAILED the first error again.
 * Phases: to the next ones: from IDLE or SAVE_TRACKING to any from there to SAVE_STOP_COPY, from
 * SAVE_STOP_COPY to SAVE_HALTED; from IDLE to LOAD_RESUMING, from there on to any later one.
 * SAVE_PRE_COPY and SAVE_VIOMMU_GRACE are entered only if they are asked for.
 * Threads: whole. Blocks: in the kernel, for the slowest device of each phase. Since: 0.1
 */
int vfiomig_migration_advance(struct vfiomig_migration *m,
                              uint32_t phase,
                              uint32_t flags,
                              struct vfiomig_error **errp);

/**
 * Brings one device into the next phase. The phase is entered when all devices are in it. To
 * LOAD_RUNNING, devices that are still in RESUMING (v1, draft) come first. `flags` is as of
 * vfiomig_migration_advance(), in each of these calls.
 *
 * Returns: 0 or -errno.
 * Errors: as vfiomig_migration_advance(), and ARGUMENT (`d` NULL, or not in the group), ORDER
 * (another phase comes before `phase`; other devices come first).
 * Phases: as of vfiomig_migration_advance(), one phase at a time.
 * Threads: whole. Blocks: in the kernel. Since: 0.1
 */
int vfiomig_migration_advance_device(struct vfiomig_migration *m,
                                     struct vfiomig_device *d,
                                     uint32_t phase,
                                     uint32_t flags,
                                     struct vfiomig_error **errp);

/**
 * The phase of the migration.
 *
 * Returns: VFIOMIG_PHASE_*; VFIOMIG_PHASE_FAILED for NULL.
 * Phases: any.
 * Threads: any. Blocks: never. Since: 0.1
 */
uint32_t vfiomig_migration_get_phase(const struct vfiomig_migration *m);

/**
 * The name of a VFIOMIG_PHASE_*, without the prefix.
 *
 * Returns: a constant text; "?" for a number that is no phase.
 * Threads: any. Blocks: never. Since: 0.1
 */
const char *vfiomig_phase_name(uint32_t phase);

/**
 * Cancels the migration; NULL is legal. No new step is begun, and waits of the library end within
 * about 100 ms, also in data calls on the migration's devices: for a data fd that is not ready, and
 * for the reset of a device that failed. A request in the kernel is never interrupted.
 * vfiomig_migration_abort() and vfiomig_device_reset() are not affected. The cancel stays in effect
 * until vfiomig_migration_abort() returns.
 *
 * Phases: any; no effect once SAVE_HALTED or LOAD_RUNNING was begun.
 * Threads: any. Blocks: never. Since: 0.1
 */
void vfiomig_migration_cancel(struct vfiomig_migration *m);

/**
 * Brings the devices back to where `to`, one of VFIOMIG_ABORT_TO_*, says; the migration is in IDLE
 * and may begin again. Save: sessions end, the streams are void, and vCPUs must be stopped until it
 * returns. Load: devices that were asked for anything are reset. A device that cannot be brought
 * back is named by the error, and abort may be called again after the caller has reset it: the
 * library resets no device that holds a guest's state. A device that has not answered to a read of
 * its stream for 5 s is not waited for: the others are back when the call returns -ETIMEDOUT, and
 * abort is called again for that one, which passes STOP then while the vCPUs run, if they were
 * started. In IDLE the devices are brought there, too.
 *
 * Once SAVE_HALTED was begun the guest may run on the destination side, and only the caller knows.
 * Then `flags` must have VFIOMIG_ABORT_F_NO_SECOND_GUEST; without it nothing is done, whatever `to`
 * is. The flag is legal at any time. If the migration was freed in SAVE_HALTED,
 * vfiomig_group_resume() lets the devices run, with a warning.
 *
 * Drains and data calls on the migration's devices in other threads end with CANCELED. A cancel
 * that is called during the abort has no effect after it.
 *
 * Returns: 0 or -errno.
 * Errors: ARGUMENT (`to`, `flags`), ORDER (LOAD_RUNNING, or SAVE_HALTED without the flag), DEVICE
 * (-ETIMEDOUT with VFIOMIG_RESULT_AGAIN in the result of a device, and said before other failures:
 * its stream has no end yet, or a read was not answered: call again), PROTOCOL, STALE (a device was
 * changed outside of this library; -ENODEV: a device was freed, and the others are back),
 * UNSUPPORTED (no reset), SYSTEM (-ENOMEM).
 * Phases: any but LOAD_RUNNING, where a reset would destroy the guest.
 * Threads: whole. Blocks: in the kernel, for the slowest device; a reset that the kernel puts off 5
 * s at most, the rest of a stream that must be read likewise. Since: 0.1
 */
int vfiomig_migration_abort(struct vfiomig_migration *m,
                            uint32_t to,
                            uint32_t flags,
                            struct vfiomig_error **errp);

/**
 * What the migration did and how long it took, phase by phase and device by device, so that an
 * operator sees where downtime went. It begins with the last departure from IDLE. A call that is in
 * progress is seen in vfiomig_group_get_progress(), and here when it has ended. Free the report.
 *
 * Returns: 0 or -errno.
 * Errors: ARGUMENT (`out` NULL).
 * Phases: any.
 * Threads: any. Blocks: never. Since: 0.1
 */
int vfiomig_migration_get_report(struct vfiomig_migration *m,
                                 struct vfiomig_report **out,
                                 struct vfiomig_error **errp);

/**
 * How much is left of all devices; meant for a save. Without VFIOMIG_PENDING_F_EXACT the sizes are
 * those of the last queries. With it the devices are asked, which on some prepares more data. For a
 * device in a data call on another thread the last sizes are used.
 *
 * Returns: 0 or -errno.
 * Errors: ARGUMENT (`flags`); of a save STALE or DEVICE for a device whose session has ended or is
 * broken, that is in ERROR, or that was freed (STALE, -ENODEV), as of
 * vfiomig_migration_save_iterate(); with EXACT also DEVICE, PROTOCOL, UNSUPPORTED, ORDER (only a
 * reset of a device is left).
 * Phases: any.
 * Threads: any; with EXACT whole. Blocks: never; with EXACT in the kernel. Since: 0.1
 */
int vfiomig_migration_get_pending(struct vfiomig_migration *m,
                                  uint32_t flags,
                                  struct vfiomig_migration_pending *out,
                                  struct vfiomig_error **errp);

/**
 * For how long the guest would be stopped if it were stopped now; meant for a save. No device is
 * asked. State changes count with the time that each took last, in this process and not in a
 * load, or with what vfiomig_group_set_timings() was given. Without that, a first save knows only
 * those of a pause. `reasons` may be NULL; else it receives a report, to be freed, with one line
 * for each part that is not known and each device that is not ready; it may be empty.
 *
 * Returns: 0 or -errno.
 * Errors: ARGUMENT (`o`).
 * Phases: any.
 * Threads: any. Blocks: never. Since: 0.1
 */
int vfiomig_migration_get_estimate(struct vfiomig_migration *m,
                                   const struct vfiomig_migration_estimate_options *o,
                                   struct vfiomig_migration_estimate *out,
                                   struct vfiomig_report **reasons,
                                   struct vfiomig_error **errp);

/**
 * Moves bytes of all open streams within the budget of `rq`, of which at least one part is not 0;
 * each device until EMPTY, END or its share. The bytes are shared evenly, and what one device
 * leaves goes to the others. No read is begun after the budget's time. The next round starts after
 * the device that was last. After the round in pre-copy the sizes are read; if that fails the call
 * fails although bytes were passed to `put`. `results` is NULL, or an array of `result_count`
 * elements: on success the first ones are written, one per device. Bytes of one device come in
 * their order. Buffers in use: one per thread.
 *
 * A descriptor that takes nothing ends its device's part of the round, at once in non-blocking
 * mode, else with the budget's time, or after 60 s; what it did not take stays in the stream.
 *
 * A device whose session in this migration has ended or is broken (STALE), that is in ERROR
 * (DEVICE) or was freed (STALE, -ENODEV) fails the migration in the first call that meets it.
 * After vfiomig_group_resume() of a group that was held in pre-copy it is -ESTALE and the migration
 * is not FAILED: SAVE_PRE_COPY can be entered again.
 *
 * Returns: bytes moved, or -errno.
 * Errors: ARGUMENT (`rq`: no budget, `get`, `channel_count`, `put` NULL, flags of a channel;
 * -EBADF), BUSY (a chunk of a device is lent), CANCELED, ORDER (a load), STALE, DEVICE, PROTOCOL,
 * SYSTEM (`put` or a descriptor failed; -ENOMEM), UNSUPPORTED (a descriptor for a device with
 * segments); in FAILED the first error again.
 * Phases: any of a save. Streams are open from SAVE_PRE_COPY to SAVE_STOP_COPY, of draft devices
 * from SAVE_TRACKING on; else each device is VFIOMIG_CHUNK_NO_STREAM.
 * Threads: whole. Blocks: in the kernel, in `put`, and on descriptors, which are polled: a cancel
 * ends that wait, as does an abort. Since: 0.1
 */
int64_t vfiomig_migration_save_iterate(struct vfiomig_migration *m,
                                       const struct vfiomig_drain_request *rq,
                                       struct vfiomig_drain_result *results,
                                       size_t result_count,
                                       struct vfiomig_error **errp);

/**
 * Moves all streams to their END. Success means that every stream is whole. `rq` has no budget; the
 * other parameters are those of vfiomig_migration_save_iterate(). Descriptors are served in the
 * order in which they take bytes.
 *
 * Returns: bytes moved, or -errno.
 * Errors: as vfiomig_migration_save_iterate(); ARGUMENT (a budget); ORDER (another phase); DEVICE
 * with -EAGAIN if a device was not ready for 60 s, SYSTEM with -ETIMEDOUT if nothing at all has
 * moved for 60 s because descriptors take nothing: nothing is lost, call again.
 * Phases: SAVE_STOP_COPY.
 * Threads: whole. Blocks: in the kernel, in `put`, and on descriptors, which are polled, whatever
 * their mode: a cancel ends that wait, as does an abort. Since: 0.1
 */
int64_t vfiomig_migration_save_complete(struct vfiomig_migration *m,
                                        const struct vfiomig_drain_request *rq,
                                        struct vfiomig_drain_result *results,
                                        size_t result_count,
                                        struct vfiomig_error **errp);

/**
 * Loads all streams into their devices, and takes each device to LOAD_LOADED as soon as its own
 * stream is whole, as vfiomig_migration_load_done() does, beside the streams of the others.
 * LOAD_LOADED is entered with the last device. Called again, it continues with those that are not
 * finished; in LOAD_LOADED nothing is left to do. A device that does not accept its stream fails
 * the migration. Descriptors are served in the order in which they bring bytes; `get` is called for
 * the device that the library chooses. The first failure is returned, and `get` is not called after
 * it. `results` is as of vfiomig_migration_save_iterate(): the bytes that each device took in this
 * call, and VFIOMIG_CHUNK_END.
 *
 * Returns: bytes that the devices took in this call, or -errno.
 * Errors: ARGUMENT (`rq`: a budget, `put`, `channel_count`, `get` NULL, flags of a channel; -EBADF;
 * an end of `get` without `*total`, or unknown bits in its `*flags`), BUSY (a buffer of a device is
 * lent), CANCELED, ORDER (another phase), STALE (a device's session has ended or is broken),
 * INCOMPLETE (not as long as the source side counted), DEVICE, PROTOCOL, SYSTEM (`get` or a
 * descriptor failed; -ETIMEDOUT as of vfiomig_migration_save_complete()), UNSUPPORTED (a descriptor
 * for a device with segments); in FAILED the first error again.
 * Phases: LOAD_RESUMING; LOAD_LOADED.
 * Threads: whole. Blocks: in the kernel, in `get`, and on descriptors, which are polled, whatever
 * their mode: a cancel ends that wait, as does an abort. Since: 0.1
 */
int64_t vfiomig_migration_load_complete(struct vfiomig_migration *m,
                                        const struct vfiomig_drain_request *rq,
                                        struct vfiomig_drain_result *results,
                                        size_t result_count,
                                        struct vfiomig_error **errp);

/**
 * The end of the stream of one device: states its length, as vfiomig_device_finish() does, and
 * takes the device to LOAD_LOADED, where a v2 device validates its stream. v1 and draft devices
 * stay in RESUMING until they run. The phase is entered with the last device of the group. For VMMs
 * that learn of each device's end by itself. Threads may call it at once for their devices, which
 * go side by side, and one of them gets 1; calls for other devices do not wait for it. A VMM with
 * one thread that has all streams before it states an end calls vfiomig_device_finish() for each
 * instead, and vfiomig_migration_advance() takes all devices to LOAD_LOADED side by side. `flags`
 * is 0.
 *
 * With `queue_bytes` of the migration's options the device goes to LOAD_LOADED on its own thread,
 * after what is on its way to it, and the call does not wait for that; but the last one waits for
 * all devices. What became of an earlier device is an error of the next call, or of the last, and
 * names it; until 1 was returned nothing is known of the devices but the lengths of their streams.
 *
 * If the stream is too short or too long nothing else happens (INCOMPLETE): bytes that are missing
 * may still be written, and the call repeated. If the device does not accept its stream, it is
 * reset and the migration is FAILED, whatever the streams of the others have come to. If
 * LOAD_LOADED was not entered for another reason, vfiomig_migration_advance() enters it.
 *
 * Returns: 1: LOAD_LOADED was entered; 0: other devices have no end yet; or -errno.
 * Errors: ARGUMENT (`d` NULL, or not in the group; `flags`), ORDER (the phase; the end of `d` was
 * stated already), INCOMPLETE (both lengths are in the message), BUSY (a buffer is lent), STALE
 * (the session of `d` is broken), CANCELED (also: another thread has aborted meanwhile), and those
 * of vfiomig_migration_advance(); in FAILED the first error again.
 * Phases: LOAD_RESUMING.
 * Threads: whole, but it holds no other call up while the device validates, except those that must
 * wait for the device: vfiomig_migration_advance(), _advance_device(), _load_complete() and
 * _abort().
 * Blocks: for a data call on `d`, and in the kernel for `d`; with `queue_bytes` never, but the last
 * one for all devices: a cancel ends that wait, as does an abort. Since: 0.1
 */
int vfiomig_migration_load_done(struct vfiomig_migration *m,
                                struct vfiomig_device *d,
                                uint64_t total,
                                uint32_t flags,
                                struct vfiomig_error **errp);

/**
 * The end of a save. `committed` 1: the destination side has everything, and its guest runs or may
 * run. `committed` 0: the guest stays here; so does that of a snapshot. vfiomig_migration_free()
 * follows.
 *
 * - committed, in SAVE_STOP_COPY: SAVE_HALTED is entered. If the final harvest or the END of a
 *   stream is missing, nothing is done (ORDER). If a device fails, no device is brought back.
 * - committed, in SAVE_HALTED: nothing.
 * - committed, in an earlier phase: nothing is done (ORDER). In FAILED: the first error again.
 * - not committed: vfiomig_migration_abort() to VFIOMIG_ABORT_TO_RUN_STATE, in any phase. Once
 *   SAVE_HALTED was begun only with VFIOMIG_END_F_NO_SECOND_GUEST, else nothing is done (ORDER).
 *
 * Returns: 0 or -errno. vfiomig_migration_get_phase() says SAVE_HALTED or IDLE after success.
 * Errors: ARGUMENT (`committed` is neither 0 nor 1; `flags` unknown or not for this end; a load),
 * ORDER, and those of vfiomig_migration_advance() and vfiomig_migration_abort().
 * Phases: any of a save, as above.
 * Threads: whole. Blocks: in the kernel, as vfiomig_migration_advance() and
 * vfiomig_migration_abort(). Since: 0.1
 */
int vfiomig_migration_end(struct vfiomig_migration *m,
                          uint32_t committed,
                          uint32_t flags,
                          struct vfiomig_error **errp);

/**
 * The first half of vfiomig_group_stop(), for VMMs that stop in two passes: devices that have P2P
 * states are brought there, the others still run. Stop vCPUs before. vfiomig_group_stop() with the
 * same flags follows, or a start.
 *
 * Returns: 0 or -errno; `out`, which may be NULL, is written on failure, too.
 * Errors: as vfiomig_group_stop().
 * Phases: any.
 * Threads: whole. Blocks: in the kernel, for the slowest device. Since: 0.1
 */
int vfiomig_group_stop_begin(struct vfiomig_group *g,
                             uint32_t flags,
                             struct vfiomig_run_state_result *out,
                             struct vfiomig_error **errp);

/**
 * The VM stops; for a VMM that moves its devices from one handler of its run state. Stop vCPUs
 * before. All devices stand still after success, whatever the group's migration does, and the call
 * chooses by its phase:
 *
 * - no migration; a save until SAVE_PRE_COPY; a load that is in IDLE or has left LOAD_RESUMING:
 *   vfiomig_group_pause(), from where a save may continue.
 * - a save until SAVE_P2P_GRACE with VFIOMIG_STOP_F_HAND_OVER, and one in SAVE_VIOMMU_GRACE or
 *   SAVE_P2P_GRACE also without it: SAVE_STOP_COPY is entered, the first half enters
 *   SAVE_P2P_GRACE. If the migration was canceled: CANCELED, and without the flag as in FAILED.
 * - SAVE_STOP_COPY, SAVE_HALTED, LOAD_RESUMING: nothing.
 * - FAILED: vfiomig_migration_abort() to STOP. Nothing with VFIOMIG_STOP_F_HAND_OVER, because the
 *   VM starts again, nor once SAVE_HALTED was begun.
 *
 * With VFIOMIG_STOP_F_HAND_OVER and without a migration it is a pause; a load refuses it (ORDER).
 * VFIOMIG_ABORT_TO_RUN_STATE goes by the last stop without that flag, or start, that was not
 * refused.
 *
 * Returns: 0 or -errno; `out`, which may be NULL, is written on failure, too.
 * Errors: ARGUMENT (`flags`, `out`; -ENODEV: a device was freed), ORDER, and those of
 * vfiomig_group_pause(), vfiomig_migration_advance() and vfiomig_migration_abort().
 * Phases: any.
 * Threads: whole. Blocks: in the kernel, for the slowest device; for a drain in progress, which
 * vfiomig_migration_cancel() ends. Since: 0.1
 */
int vfiomig_group_stop(struct vfiomig_group *g,
                       uint32_t flags,
                       struct vfiomig_run_state_result *out,
                       struct vfiomig_error **errp);

/**
 * The first half of vfiomig_group_start(): stopped devices that have P2P states are brought there.
 * Nothing where vfiomig_group_start() aborts, which has no half. `flags` is 0.
 *
 * Returns: 0 or -errno; `out`, which may be NULL, is written on failure, too.
 * Errors: as vfiomig_group_start().
 * Phases: any but SAVE_HALTED and LOAD_RESUMING; FAILED of a save, not of a load.
 * Threads: whole. Blocks: in the kernel, for the slowest device. Since: 0.1
 */
int vfiomig_group_start_begin(struct vfiomig_group *g,
                              uint32_t flags,
                              struct vfiomig_run_state_result *out,
                              struct vfiomig_error **errp);

/**
 * The VM starts: start vCPUs after success. All devices run then, whatever the group's migration
 * does, and the call chooses by its phase. `flags` is 0.
 *
 * - no migration; a save until SAVE_PRE_COPY; a load in IDLE or LOAD_RUNNING:
 *   vfiomig_group_resume(). A save in SAVE_PRE_COPY is back in SAVE_TRACKING if its streams became
 *   void.
 * - a save after SAVE_PRE_COPY, or that has FAILED: vfiomig_migration_abort() to RUNNING. Once
 *   SAVE_HALTED was begun it is refused (ORDER).
 * - LOAD_LOADED, LOAD_P2P_GRACE: LOAD_RUNNING is entered, the first half enters LOAD_P2P_GRACE.
 * - LOAD_RESUMING: refused (ORDER), and the message names the devices that have no whole stream.
 *   A load that has FAILED: the first error again; a stop aborts it.
 *
 * Returns: 0 or -errno; `out`, which may be NULL, is written on failure, too.
 * Errors: ARGUMENT (`flags`, `out`; -ENODEV: a device was freed), ORDER, and those of
 * vfiomig_group_resume(), vfiomig_migration_advance() and vfiomig_migration_abort().
 * Phases: any but SAVE_HALTED and LOAD_RESUMING; FAILED of a save, not of a load.
 * Threads: whole. Blocks: in the kernel, for the slowest device; for a drain in progress, which
 * vfiomig_migration_cancel() ends, and the call itself where it aborts a save. Since: 0.1
 */
int vfiomig_group_start(struct vfiomig_group *g,
                        uint32_t flags,
                        struct vfiomig_run_state_result *out,
                        struct vfiomig_error **errp);

/**
 * Makes a writer for one channel of a wire. With `g`, the table has the devices of the group, in
 * their order, each in channel 0 unless `devices` has it; without it (NULL), it has `devices`.
 * Preamble and table are written with the first record, or by vfiomig_writer_flush().
 *
 * Returns: 0 or -errno.
 * Errors: ARGUMENT (`o`, `out` NULL, channel, devices; -EBADF), UNSUPPORTED (a device of the group
 * is not migratable).
 * Threads: any. Blocks: never. Since: 0.1
 */
int vfiomig_writer_new(struct vfiomig_group *g,
                       const struct vfiomig_writer_options *o,
                       struct vfiomig_writer **out,
                       struct vfiomig_error **errp);

/**
 * Frees a writer; NULL is legal. Waits for the call in progress; what the channel did not take yet
 * is lost. The descriptor stays open. Called from its own `write` it frees nothing and logs an
 * error.
 *
 * Threads: any; no call on the handle may begin during or after it. Blocks: until the call in
 * progress returns. Since: 0.1
 */
void vfiomig_writer_free(struct vfiomig_writer *w);

/**
 * Writes the next bytes of a device's stream, 1 byte to 1 MiB, as one record. `device_index` is its
 * number in the table. `flags` is VFIOMIG_CHUNK_SEGMENT_END with the last bytes of a segment (v1,
 * draft), else 0.
 *
 * A record that the channel takes in part is kept in the writer and continued by the next call;
 * -EAGAIN: the one before is still there, and nothing of this one was taken. After any other
 * failure of the channel every call returns that failure.
 *
 * Returns: 0 or -errno.
 * Errors: ARGUMENT (`device_index`, `data` NULL, `len`, `flags`), BUSY (another call on the writer
 * is in progress), ORDER (against docs/wire.md, which the message says), SYSTEM (the channel
 * failed;
 * -EAGAIN; -ETIMEDOUT), CANCELED.
 * Threads: any, one at a time. Blocks: on the channel. Since: 0.1
 */
int vfiomig_writer_data(struct vfiomig_writer *w,
                        uint32_t device_index,
                        const void *data,
                        size_t len,
                        uint32_t flags,
                        struct vfiomig_error **errp);

/**
 * Says that a device's stream is whole. `total` is its length as the library counted it
 * (saved_bytes of vfiomig_device_info); it is compared with what was written.
 *
 * Returns: 0 or -errno.
 * Errors: as vfiomig_writer_data(); ORDER also: `total` is not what was written.
 * Threads: any, one at a time. Blocks: on the channel. Since: 0.1
 */
int vfiomig_writer_end(struct vfiomig_writer *w,
                       uint32_t device_index,
                       uint64_t total,
                       struct vfiomig_error **errp);

/**
 * Says that a device's stream begins anew: what was written of it, and its END, is thrown away.
 *
 * Returns: 0 or -errno.
 * Errors: as vfiomig_writer_data().
 * Threads: any, one at a time. Blocks: on the channel. Since: 0.1
 */
int vfiomig_writer_void(struct vfiomig_writer *w,
                        uint32_t device_index,
                        struct vfiomig_error **errp);

/**
 * Writes a record of the VMM, at most 1 MiB. `device_index` is the number of a device in the table,
 * or VFIOMIG_RECORD_NO_DEVICE. `kind` is the VMM's own number.
 *
 * Returns: 0 or -errno.
 * Errors: as vfiomig_writer_data().
 * Threads: any, one at a time. Blocks: on the channel. Since: 0.1
 */
int vfiomig_writer_vmm(struct vfiomig_writer *w,
                       uint32_t device_index,
                       uint64_t kind,
                       const void *data,
                       size_t len,
                       struct vfiomig_error **errp);

/**
 * Writes the last record: the channel is whole. Refused (ORDER) before the END of each device of
 * the channel. vfiomig_writer_flush() says when the channel has taken everything.
 *
 * Returns: 0 or -errno.
 * Errors: as vfiomig_writer_data().
 * Threads: any, one at a time. Blocks: on the channel. Since: 0.1
 */
int vfiomig_writer_finish(struct vfiomig_writer *w, struct vfiomig_error **errp);

/**
 * Writes the last record of a channel whose source side gives up, so that the other side need not
 * wait. `text` says why, in at most 1024 bytes; the rest is cut.
 *
 * Returns: 0 or -errno.
 * Errors: as vfiomig_writer_data().
 * Threads: any, one at a time. Blocks: on the channel. Since: 0.1
 */
int vfiomig_writer_fail(struct vfiomig_writer *w, const char *text, struct vfiomig_error **errp);

/**
 * Writes what the channel did not take yet.
 *
 * Returns: 0 if nothing is left, or -errno.
 * Errors: as vfiomig_writer_data(); -EAGAIN: something is left.
 * Threads: any, one at a time. Blocks: on the channel. Since: 0.1
 */
int vfiomig_writer_flush(struct vfiomig_writer *w, struct vfiomig_error **errp);

/**
 * Makes a reader for one channel of a wire. Nothing is read before vfiomig_reader_next().
 *
 * Returns: 0 or -errno.
 * Errors: ARGUMENT (`o`, `out` NULL; -EBADF).
 * Threads: any. Blocks: never. Since: 0.1
 */
int vfiomig_reader_new(const struct vfiomig_reader_options *o,
                       struct vfiomig_reader **out,
                       struct vfiomig_error **errp);

/**
 * Frees a reader; NULL is legal. Waits for the call in progress. What it has given stays no longer;
 * the descriptor stays open. Called from its own `read` it frees nothing and logs an error.
 *
 * Threads: any; no call on the handle may begin during or after it. Blocks: until the call in
 * progress returns. Since: 0.1
 */
void vfiomig_reader_free(struct vfiomig_reader *r);

/**
 * Reads the next record, and checks it against docs/wire.md before any of its bytes is given. After
 * VFIOMIG_RECORD_FINISH it gives that again. At most one record is kept, so a peer cannot make it
 * need more than 1 MiB and the table.
 *
 * -EAGAIN: the channel has no more bytes now; call again. Any other failure is final, and every
 * further call returns it: PROTOCOL (against the format; -EBADMSG: bytes changed on the way),
 * UNSUPPORTED (a later version, or a record or feature that this version does not know),
 * INCOMPLETE (the wire was cut; -ECONNABORTED: the source side gave up, and the message says why),
 * SYSTEM (the channel failed; -ETIMEDOUT). The message says which record of which device, where
 * it is, and what was expected and found.
 *
 * Returns: 0 or -errno.
 * Errors: as above, and ARGUMENT (`out` NULL), BUSY (another call on the reader is in progress),
 * CANCELED.
 * Threads: any, one at a time. Blocks: on the channel. Since: 0.1
 */
int vfiomig_reader_next(struct vfiomig_reader *r,
                        struct vfiomig_record *out,
                        struct vfiomig_error **errp);

/**
 * How many devices the wire has.
 *
 * Returns: their number; 0 before VFIOMIG_RECORD_TABLE came, for NULL, and while another call on
 * the reader is in progress.
 * Threads: any. Blocks: never. Since: 0.1
 */
size_t vfiomig_reader_get_device_count(const struct vfiomig_reader *r);

/**
 * A device of the wire by its number, as the source side described it: for a VMM that compares more
 * than names and dialects. The texts stay as long as the reader.
 *
 * Returns: 0 or -errno.
 * Errors: ARGUMENT (`out` NULL, `device_index`), BUSY (another call on the reader is in progress),
 * ORDER (VFIOMIG_RECORD_TABLE has not come).
 * Threads: any, one at a time. Blocks: never. Since: 0.1
 */
int vfiomig_reader_get_device(struct vfiomig_reader *r,
                              uint32_t device_index,
                              struct vfiomig_wire_device *out,
                              struct vfiomig_error **errp);

/**
 * Saves all devices over a wire, from wherever the migration stands: rounds if they are asked for,
 * the phases up to SAVE_STOP_COPY, every stream to its END, and the last record of each channel.
 * `writers` are the channels of one wire, each once. The migration stays in SAVE_STOP_COPY until
 * the VMM knows what became of the guest; then vfiomig_migration_end(). A simple VMM whose guest
 * stands still passes NULL as `rq`.
 *
 * After a failure the wire is not whole: the other side gets the reason if the channels still work,
 * and vfiomig_migration_abort() is left. In non-blocking mode a writer is waited for, too, 60 s at
 * most. If the group is resumed during the rounds, the streams of a wire of one channel begin anew.
 *
 * Returns: 0 or -errno.
 * Errors: ARGUMENT (`writers`, their tables, `rq`), BUSY (a writer is in use), CANCELED, ORDER (a
 * load; bytes of a stream were consumed and are not on the wire), STALE, DEVICE, PROTOCOL, SYSTEM
 * (a channel, or `step`, failed; -ETIMEDOUT; -ENOMEM), UNSUPPORTED (the devices of the table are
 * not those of the group); in FAILED the first error again.
 * Phases: any of a save up to SAVE_STOP_COPY.
 * Threads: whole. Blocks: in the kernel, in `step`, and on the channels. Since: 0.1
 */
int vfiomig_migration_save_to(struct vfiomig_migration *m,
                              struct vfiomig_writer *const *writers,
                              size_t count,
                              const struct vfiomig_save_to_request *rq,
                              struct vfiomig_error **errp);

/**
 * Loads all devices from a wire, up to LOAD_LOADED. First the tables are read and compared with the
 * group; only then a device is touched. Each device enters LOAD_LOADED after its own END. Success
 * means that every channel was whole. `readers` are the channels of one wire, each once, in any
 * order.
 *
 * After a failure vfiomig_migration_abort() is left. The message says which record of which device
 * is wrong, where it is, and what was expected and found. Several channels with descriptors are
 * read at the same time, each on a thread of this call; readers with functions, and with
 * `max_workers` 1 all, are served by the calling thread: then they must not block. A wire of
 * several channels whose streams begin anew is refused.
 *
 * Returns: 0 or -errno.
 * Errors: ARGUMENT (`readers`, `rq`), BUSY (a reader is in use), CANCELED, ORDER (a save; another
 * phase), INCOMPLETE (the wire was cut; -ECONNABORTED: the source side gave up), PROTOCOL,
 * UNSUPPORTED (other devices, words or dialects; a later version; a record of the VMM without
 * `record`), STALE, DEVICE, SYSTEM (a channel or a function failed; -ETIMEDOUT; -ENOMEM); in FAILED
 * the first error again.
 * Phases: IDLE, LOAD_RESUMING.
 * Threads: whole. Blocks: in the kernel, in the functions, and on the channels. Since: 0.1
 */
int vfiomig_migration_load_from(struct vfiomig_migration *m,
                                struct vfiomig_reader *const *readers,
                                size_t count,
                                const struct vfiomig_load_from_request *rq,
                                struct vfiomig_error **errp);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* VFIOMIG_H */
