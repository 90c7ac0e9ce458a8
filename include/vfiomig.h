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
 * Where to begin. A simple VMM calls vfiomig_device_new_kernel() for each device; vfiomig_tracker_new() and _map() for its
 * address space; vfiomig_group_new(), _add_device() and _add_tracker(). To migrate, both sides call vfiomig_migration_new()
 * and _advance(); the source calls _save_iterate(), vfiomig_group_harvest() and _save_complete(), the destination
 * _load_complete(). vfiomig_migration_abort() leads back after any failure, and vfiomig_error_message() says what failed.
 * Everything else is for those who want more, in this order: library, errors, log, devices and their streams (save, load),
 * bitmaps, trackers, harvests, reports, groups, migrations.
 *
 * Conventions of every function (docs/errors.md, docs/threading.md, docs/abi.md):
 *  - The handle comes first, outputs last; they are written only on success.
 *  - An int is 0 or -errno; an int64_t is a count or -errno. Decide by vfiomig_error_code(); texts, and errno
 *    values that are not named here, may change. Errors lists leave out what holds for every function with a handle:
 *    ARGUMENT for NULL, -ENODEV where the handle's group or device was freed, BUSY as below, and PANIC.
 *  - errp, the last parameter, may be NULL; it is written on failure only and never read; free what it received with
 *    vfiomig_error_free().
 *  - Structs that begin with argsz are set up with VFIOMIG_INIT. Zero means default or not given.
 *  - Threads. any: from any thread, at any time. device: from any thread; calls on one device wait for each other, or get
 *    -EBUSY if the device was made with VFIOMIG_DEVICE_F_NO_WAIT. whole: waits for the device call in progress and goes
 *    before those that wait. tracker: calls on one tracker wait for each other; it needs no other lock, and works beside
 *    device calls. A call from a callback that would wait for what cannot end before the callback does gets -EDEADLK.
 *  - A callback returns on the thread on which it was called: one that yields (a coroutine) and goes on on another thread
 *    is forbidden.
 *  - The library makes no threads but workers within a call that serves several devices or logs, joined before it returns.
 *    It installs no signal handler and no panic hook, never exits and never writes to stderr, with two exceptions: the Rust
 *    runtime's own line about a bug in the library, and the end of the process when malloc() has no memory for the library's
 *    own small objects, as with g_malloc(). Buffers and bitmaps are tried first: -ENOMEM. A forked child may only exec or
 *    exit.
 */

#if UINTPTR_MAX < 0xffffffffffffffff
#error libvfiomig is for 64-bit machines only: the layouts of its structs are 64-bit ones
#endif

/** The version of this header. vfiomig_version() tells that of the library that runs. */
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

/** vfiomig_device_set_state(): after a failure, ask for this state, if the table allows it from where the device is found. */
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
#define VFIOMIG_HAVE_DEVICE_NEW_KERNEL 1
#define VFIOMIG_HAVE_DEVICE_NEW_OPS 1
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
#define VFIOMIG_HAVE_GROUP_GET_REPORT 1
#define VFIOMIG_HAVE_GROUP_HARVEST 1
#define VFIOMIG_HAVE_GROUP_NEW 1
#define VFIOMIG_HAVE_GROUP_PAUSE 1
#define VFIOMIG_HAVE_GROUP_PAUSE_BEGIN 1
#define VFIOMIG_HAVE_GROUP_REMOVE_DEVICE 1
#define VFIOMIG_HAVE_GROUP_REMOVE_TRACKER 1
#define VFIOMIG_HAVE_GROUP_RESUME 1
#define VFIOMIG_HAVE_GROUP_RESUME_BEGIN 1
#define VFIOMIG_HAVE_HAS_FEATURE 1
#define VFIOMIG_HAVE_MIGRATION_ABORT 1
#define VFIOMIG_HAVE_MIGRATION_ADVANCE 1
#define VFIOMIG_HAVE_MIGRATION_ADVANCE_DEVICE 1
#define VFIOMIG_HAVE_MIGRATION_CANCEL 1
#define VFIOMIG_HAVE_MIGRATION_FREE 1
#define VFIOMIG_HAVE_MIGRATION_GET_ESTIMATE 1
#define VFIOMIG_HAVE_MIGRATION_GET_PENDING 1
#define VFIOMIG_HAVE_MIGRATION_GET_PHASE 1
#define VFIOMIG_HAVE_MIGRATION_GET_REPORT 1
#define VFIOMIG_HAVE_MIGRATION_LOAD_COMPLETE 1
#define VFIOMIG_HAVE_MIGRATION_NEW 1
#define VFIOMIG_HAVE_MIGRATION_SAVE_COMPLETE 1
#define VFIOMIG_HAVE_MIGRATION_SAVE_ITERATE 1
#define VFIOMIG_HAVE_PHASE_NAME 1
#define VFIOMIG_HAVE_REPORT_FREE 1
#define VFIOMIG_HAVE_REPORT_PHASE 1
#define VFIOMIG_HAVE_REPORT_PHASE_COUNT 1
#define VFIOMIG_HAVE_REPORT_TEXT 1
#define VFIOMIG_HAVE_SET_LOG 1
#define VFIOMIG_HAVE_STATE_NAME 1
#define VFIOMIG_HAVE_TRACKER_ADD_DEVICE 1
#define VFIOMIG_HAVE_TRACKER_ADD_HWPT 1
#define VFIOMIG_HAVE_TRACKER_FREE 1
#define VFIOMIG_HAVE_TRACKER_GET_INFO 1
#define VFIOMIG_HAVE_TRACKER_HARVEST 1
#define VFIOMIG_HAVE_TRACKER_HARVEST_MANY 1
#define VFIOMIG_HAVE_TRACKER_MAP 1
#define VFIOMIG_HAVE_TRACKER_NEW 1
#define VFIOMIG_HAVE_TRACKER_NEW_OPS 1
#define VFIOMIG_HAVE_TRACKER_REMOVE_DEVICE 1
#define VFIOMIG_HAVE_TRACKER_REMOVE_HWPT 1
#define VFIOMIG_HAVE_TRACKER_START 1
#define VFIOMIG_HAVE_TRACKER_STOP 1
#define VFIOMIG_HAVE_TRACKER_UNMAP 1
#define VFIOMIG_HAVE_VERSION 1

/**
 * Any size, time or rate that is not known; never stands for zero.
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
 * Dirty logs: vfiomig_tracker_new(), over DMA logs of devices, type1 containers, iommufd page tables and the draft's registers.
 */
#define VFIOMIG_FEATURE_TRACKER 6

/**
 * Groups and migrations: vfiomig_group_new(), vfiomig_migration_new().
 */
#define VFIOMIG_FEATURE_GROUP 7

/**
 * Reset only; not known to be quiet.
 */
#define VFIOMIG_STATE_ERROR 0

/**
 * Stopped; no session.
 */
#define VFIOMIG_STATE_STOP 1

/**
 * Runs.
 */
#define VFIOMIG_STATE_RUNNING 2

/**
 * Stopped; a save session is open.
 */
#define VFIOMIG_STATE_STOP_COPY 3

/**
 * Stopped, state undefined; a load session is open.
 */
#define VFIOMIG_STATE_RESUMING 4

/**
 * Runs, starts no peer-to-peer DMA, may still write RAM; must not be touched by the VMM.
 */
#define VFIOMIG_STATE_RUNNING_P2P 5

/**
 * Runs and logs its own changes; a save session is open.
 */
#define VFIOMIG_STATE_PRE_COPY 6

/**
 * As RUNNING_P2P, and logs; a save session is open.
 */
#define VFIOMIG_STATE_PRE_COPY_P2P 7

/**
 * A parameter is wrong; nothing was done.
 */
#define VFIOMIG_ERR_ARGUMENT 1

/**
 * A chunk or room is out, or another call is in progress on a handle that does not wait (-EBUSY); the call came from a callback
 * and would wait for what cannot end before (-EDEADLK).
 */
#define VFIOMIG_ERR_BUSY 2

/**
 * Not allowed in this state; nothing was done.
 */
#define VFIOMIG_ERR_ORDER 3

/**
 * The device, its driver or this library cannot do it.
 */
#define VFIOMIG_ERR_UNSUPPORTED 4

/**
 * The device or its driver refused or failed a request; the errno is the kernel's.
 */
#define VFIOMIG_ERR_DEVICE 5

/**
 * The device broke the protocol.
 */
#define VFIOMIG_ERR_PROTOCOL 6

/**
 * A descriptor of the caller, or memory, failed; the errno is the kernel's.
 */
#define VFIOMIG_ERR_SYSTEM 7

/**
 * A stream is shorter or longer than its saver said.
 */
#define VFIOMIG_ERR_INCOMPLETE 8

/**
 * The session to which the call belongs has ended, or others changed the device.
 */
#define VFIOMIG_ERR_STALE 9

/**
 * A cancel was asked for.
 */
#define VFIOMIG_ERR_CANCELED 10

/**
 * A bug in the library was caught; the handle accepts only _free.
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
 * The state of the device cannot be read: only vfiomig_device_reset(), vfiomig_device_reprobe() or giving it up are left.
 */
#define VFIOMIG_ACTION_DEAD 3

/**
 * A request to a device failed; the caller gets the same as an error object. Levels are those of syslog.
 */
#define VFIOMIG_LOG_ERROR 3

/**
 * Something is odd and was handled.
 */
#define VFIOMIG_LOG_WARNING 4

/**
 * One line per step that matters to an operator.
 */
#define VFIOMIG_LOG_INFO 6

/**
 * One line per request to a device.
 */
#define VFIOMIG_LOG_DEBUG 7

/**
 * As dialect option: look for every dialect. As information: not migratable, `reason` says why.
 */
#define VFIOMIG_DIALECT_AUTO 0

/**
 * The 2019 proposal of the migration region. One with v1's region id is found only if it is named in the options.
 */
#define VFIOMIG_DIALECT_DRAFT 1

/**
 * Migration region, Linux 5.8 to 5.17, with or without NDMA.
 */
#define VFIOMIG_DIALECT_V1 2

/**
 * Device feature + data fd, Linux 5.18.
 */
#define VFIOMIG_DIALECT_V2 3

/**
 * draft_cursor: the range is written once, the device remembers how far its bitmap was read. Default for region type 2.
 */
#define VFIOMIG_DRAFT_CURSOR_STICKY 1

/**
 * draft_cursor: the rest of the range is written for each part. Default for region type 3.
 */
#define VFIOMIG_DRAFT_CURSOR_REWRITE 2

/**
 * Never map the migration region: trapped access only, so that no device can raise SIGBUS in the VMM.
 */
#define VFIOMIG_DEVICE_F_NO_MMAP 1

/**
 * For devices whose data_size may read 0: the segment is then min(pending_bytes, the area) long. Seen on a vendor's vGPU.
 */
#define VFIOMIG_DEVICE_F_ZERO_DATA_SIZE 2

/**
 * Load a segment that is larger than the device's window in parts, as QEMU does; the protocol forbids it.
 */
#define VFIOMIG_DEVICE_F_SPLIT_SEGMENTS 4

/**
 * Move trapped data 8, 4, 2 or 1 bytes at a time, naturally aligned, for drivers that refuse other accesses.
 */
#define VFIOMIG_DEVICE_F_ALIGNED_ACCESS 8

/**
 * Calls of the class *device* that would wait for another call on the handle answer -EBUSY at once instead. Calls that the
 * library makes itself, within functions of a group or migration, wait all the same.
 */
#define VFIOMIG_DEVICE_F_NO_WAIT 16

/**
 * The device has PRE_COPY.
 */
#define VFIOMIG_CAP_PRE_COPY 1

/**
 * The device has RUNNING_P2P, and PRE_COPY_P2P if it has PRE_COPY.
 */
#define VFIOMIG_CAP_P2P 2

/**
 * The device information says that a reset is possible, or is refused in this state (libvfio-user, stopped). (mtty can be reset although it does not say so.)
 */
#define VFIOMIG_CAP_RESET 4

/**
 * The device reports when it begins again with initial data; reinit_count counts it.
 */
#define VFIOMIG_CAP_REINIT 8

/**
 * Chunks are device memory, not copies (v1, draft). Known from the first session on.
 */
#define VFIOMIG_CAP_MAPPED 16

/**
 * vfiomig_device_pending: a segment was under way, so the device was not asked; asking would have acknowledged it (v1, draft).
 */
#define VFIOMIG_PENDING_CACHED 1

/**
 * The ops may be called from threads that the library makes inside a call, for different devices or trackers at once, one
 * call at a time for each. Without it only from the thread that called the library.
 */
#define VFIOMIG_OPS_F_ANY_THREAD 1

/**
 * vfiomig_device_ops: a report of the DMA log (VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT) only sets bits and leaves the others of
 * the bitmap as they are. The kernel does that, so set it where device_feature passes the request on to the kernel. Reports
 * of several devices then go into one buffer. Without it each gets a buffer that is all zero.
 */
#define VFIOMIG_OPS_F_REPORT_ADDS_BITS 2

/**
 * After a failed state change, leave the device where it is found.
 */
#define VFIOMIG_ON_FAILURE_KEEP 0

/**
 * After a failed state change, reset the device: its state is lost.
 */
#define VFIOMIG_ON_FAILURE_RESET 1

/**
 * Also take arcs that are legal for the kernel but throw away what the device holds (docs/states.md).
 */
#define VFIOMIG_SET_STATE_F_RAW 1

/**
 * Ask the device; without it the last known figures are given.
 */
#define VFIOMIG_PENDING_F_EXACT 1

/**
 * Bytes of `reason`, with its end.
 */
#define VFIOMIG_REASON_SIZE 128

/**
 * Nothing now; only in PRE_COPY and PRE_COPY_P2P.
 */
#define VFIOMIG_CHUNK_EMPTY 1

/**
 * The stream is complete; only in STOP_COPY.
 */
#define VFIOMIG_CHUNK_END 2

/**
 * The last byte ends a segment (v1, draft). Segments must keep their length and order on the way: carry this over the wire.
 */
#define VFIOMIG_CHUNK_SEGMENT_END 4

/**
 * The bytes are device memory: copy them once, never pin them. Reading may raise SIGBUS if the device goes away.
 */
#define VFIOMIG_CHUNK_DEVICE_MEM 8

/**
 * Other threads may change the destination's bits at the same time, with atomic operations of 8 bytes or less; for
 * vfiomig_bitmap_take() the source's, too.
 */
#define VFIOMIG_BITMAP_F_ATOMIC 1

/**
 * container_fd is given.
 */
#define VFIOMIG_TRACKER_F_TYPE1 1

/**
 * iommufd and hwpts are given.
 */
#define VFIOMIG_TRACKER_F_HWPT 2

/**
 * ioas is given: the library can unmap from it. Only with VFIOMIG_TRACKER_F_HWPT.
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
 * aperture and aperture_count are given.
 */
#define VFIOMIG_TRACKER_F_APERTURE 32

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
 * The dirty-page registers of draft devices. They answer only while the device saves: enter PRE_COPY before
 * vfiomig_tracker_start(), or the first harvest in it finds everything dirty.
 */
#define VFIOMIG_TRACKER_KIND_DRAFT 5

/**
 * A log that the VMM keeps itself.
 */
#define VFIOMIG_TRACKER_KIND_OPS 6

/**
 * vfiomig_tracker_info: everything is dirty at each harvest; waiting for less does not help. Of a container this shows with the
 * first read of something that is mapped: at the start, or at a harvest. It goes when a clean page was seen. Of another log it
 * shows while that cannot be read again and again, and goes when it can; `why` has the reason.
 */
#define VFIOMIG_TRACKER_PERPETUAL 1

/**
 * Bytes of `why`, with its end.
 */
#define VFIOMIG_WHY_SIZE 256

/**
 * Other threads set and clear bits of the bitmap at the same time: it is changed by atomic operations.
 */
#define VFIOMIG_DEST_F_ATOMIC 1

/**
 * Only what earlier reads left over: no log is read.
 */
#define VFIOMIG_HARVEST_F_NO_READ 1

/**
 * vfiomig_group_harvest() only: in a moment without DMA.
 */
#define VFIOMIG_HARVEST_F_WITHOUT_DMA 2

/**
 * A watcher asks (a dirty-rate tool): what is told stays for the one who takes it, and no final harvest is done by it.
 */
#define VFIOMIG_HARVEST_F_KEEP 4

/**
 * Only what holds a part of the destinations is read, and with it the neighbours that a log cannot tell apart. There must be
 * destinations. A final harvest is done by it only if they are all that is mapped.
 */
#define VFIOMIG_HARVEST_F_ONLY_DESTS 8

/**
 * vfiomig_harvest_result: a read failed, and its range counts as dirty.
 */
#define VFIOMIG_HARVEST_DEGRADED 1

/**
 * vfiomig_harvest_result: a callback said stop; what it did not get is left over for the harvest that asks.
 */
#define VFIOMIG_HARVEST_STOPPED 2

/**
 * vfiomig_tracker_unmap(): no device writes to the range while the call lasts.
 */
#define VFIOMIG_UNMAP_F_NO_DMA 1

/**
 * vfiomig_tracker_unmap(): the library unmaps, by the container or the IOAS of the options.
 */
#define VFIOMIG_UNMAP_F_LIBRARY 2

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
 * Devices that can are in PRE_COPY.
 */
#define VFIOMIG_PHASE_SAVE_PRE_COPY 2

/**
 * v1 NDMA devices start no DMA while vCPUs run on to answer page requests. Optional.
 */
#define VFIOMIG_PHASE_SAVE_VIOMMU_GRACE 3

/**
 * vCPUs are stopped; devices that can are in their P2P state.
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
 * The streams are complete; v2 devices have validated them. A resting place.
 */
#define VFIOMIG_PHASE_LOAD_LOADED 18

/**
 * Devices that can are in RUNNING_P2P.
 */
#define VFIOMIG_PHASE_LOAD_P2P_GRACE 19

/**
 * All devices run. vCPUs are started after this was entered.
 */
#define VFIOMIG_PHASE_LOAD_RUNNING 20

/**
 * A device failed: abort, getters and free are left.
 */
#define VFIOMIG_PHASE_FAILED 32

/**
 * To HALTED without a final harvest: the caller knows that its copy of RAM is whole.
 */
#define VFIOMIG_ADVANCE_F_NO_HARVEST 1

/**
 * abort: the guest goes on.
 */
#define VFIOMIG_ABORT_TO_RUNNING 0

/**
 * abort: devices stop.
 */
#define VFIOMIG_ABORT_TO_STOP 1

/**
 * abort: to what the VM is now: running, or paused, if vfiomig_group_pause() was called before the migration or in it. The last
 * pause or resume counts, also one that failed for a device: vCPUs are stopped before the one, and start behind the other.
 */
#define VFIOMIG_ABORT_TO_RUN_STATE 2

/**
 * abort: the caller's word that the guest runs nowhere else and will not. Needed once HALTED was begun.
 */
#define VFIOMIG_ABORT_F_NO_SECOND_GUEST 1

/**
 * vfiomig_migration_estimate.unknown: how long some state changes take.
 */
#define VFIOMIG_ESTIMATE_TRANSITION 1

/**
 * vfiomig_migration_estimate.unknown: how much some devices have left.
 */
#define VFIOMIG_ESTIMATE_BYTES 2

/**
 * vfiomig_migration_estimate.unknown: the rate of the channel.
 */
#define VFIOMIG_ESTIMATE_RATE 4

/**
 * The descriptor of a vfiomig_channel is given.
 */
#define VFIOMIG_CHANNEL_F_FD 1

/**
 * To load, with VFIOMIG_CHANNEL_F_FD: `total` of a vfiomig_channel is given.
 */
#define VFIOMIG_CHANNEL_F_TOTAL 2

/**
 * In `flags` of a vfiomig_drain_result: the device has no open stream in this phase. Its bytes come later: a device without PRE_COPY has
 * them in STOP_COPY.
 */
#define VFIOMIG_CHUNK_NO_STREAM 16

/**
 * One migratable VFIO device. Made by `vfiomig_device_new_*`, freed by vfiomig_device_free().
 */
struct vfiomig_device;

/**
 * An error. Made by the library, freed by vfiomig_error_free().
 */
struct vfiomig_error;

/**
 * The devices and trackers of one VM. Made by vfiomig_group_new(), freed by vfiomig_group_free().
 */
struct vfiomig_group;

/**
 * One save or one load of a group. Made by vfiomig_migration_new(), freed by vfiomig_migration_free().
 */
struct vfiomig_migration;

/**
 * A report. Made by the library, freed by vfiomig_report_free().
 */
struct vfiomig_report;

/**
 * The dirty log of one address space. Made by `vfiomig_tracker_new*`, freed by vfiomig_tracker_free().
 */
struct vfiomig_tracker;

/**
 * One device's part in a step. Fixed layout, never grows; borrowed from the error that holds it.
 */
struct vfiomig_device_result {
  /**
   * The device's name.
   */
  const char *device;
  /**
   * What happened to it, in words.
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
   * VFIOMIG_STATE_* asked for.
   */
  uint32_t to;
  /**
   * VFIOMIG_STATE_* read back after everything that `action` names; VFIOMIG_STATE_ERROR with VFIOMIG_ACTION_DEAD.
   */
  uint32_t found;
  /**
   * VFIOMIG_ACTION_*.
   */
  uint32_t action;
  /**
   * 0.
   */
  uint32_t reserved;
};

/**
 * Receives one line, without line end, valid during the call. `level` is one of VFIOMIG_LOG_*. Called on the thread that
 * called the library, with no lock held; it may call the library, but not on the device that it is told about.
 */
typedef void (*vfiomig_log_fn)(void *opaque, int level, const char *message);

/**
 * How a device is made. VFIOMIG_INIT first; NULL in its place is all defaults.
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
   * For messages, at most 255 bytes, copied; unique within a migration. UTF-8; other bytes read as "?". NULL: "device".
   */
  const char *name;
  /**
   * Staging buffer in bytes, 4096 to 1 GiB; 0: 1 MiB.
   */
  uint64_t buffer_size;
  /**
   * VFIOMIG_DIALECT_*.
   */
  uint32_t dialect;
  /**
   * VFIOMIG_DRAFT_CURSOR_*; 0: by the region's type. The drafts disagree on how a dirty bitmap is read in parts.
   */
  uint32_t draft_cursor;
};

/**
 * Functions of the VMM in place of a device fd. Counts or 0 on success, -errno else; a NULL member means absent.
 * Copied when a device is made from it. Called on the thread that called the library, or with VFIOMIG_OPS_F_ANY_THREAD on
 * threads that the library makes inside a call; one call at a time per device, with asynchronous signals blocked; they may
 * block. A function must not call back into the same device (-EDEADLK), and must return on the thread on which it was called:
 * one that hands its stack to another thread (a coroutine that yields) is forbidden.
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
   * VFIO_DEVICE_GET_INFO: fill struct vfio_device_info, argsz bytes. NULL: no migration region is looked for, so v1 and the
   * draft are not found, and nothing is known of a reset.
   */
  int (*device_info)(void *opaque, void *info, uint32_t argsz);
  /**
   * VFIO_DEVICE_FEATURE: struct vfio_device_feature in place, argsz bytes, with the kernel's numbers (linux/vfio.h), not
   * those of VFIOMIG_STATE_*. -ENOTTY or -EINVAL: absent. Needed for v2.
   */
  int (*device_feature)(void *opaque, void *feature, uint32_t argsz);
  /**
   * VFIO_DEVICE_GET_REGION_INFO: struct vfio_region_info and its capabilities in place, argsz bytes. Needed for v1 and the
   * draft, together with device_info, region_read and region_write.
   */
  int (*region_info)(void *opaque, void *info, uint32_t argsz);
  /**
   * Read from a region; fewer bytes than asked for are legal, 4- and 8-byte accesses must not be split.
   */
  int64_t (*region_read)(void *opaque, uint32_t index, uint64_t offset, void *buf, size_t len);
  /**
   * Write to a region; as region_read.
   */
  int64_t (*region_write)(void *opaque, uint32_t index, uint64_t offset, const void *buf, size_t len);
  /**
   * Map a part of a region, shared with the device. Together with region_unmap or not at all.
   */
  int (*region_map)(void *opaque, uint32_t index, uint64_t offset, size_t len, void **ptr);
  /**
   * Undo region_map.
   */
  void (*region_unmap)(void *opaque, uint32_t index, void *ptr, size_t len);
  /**
   * VFIO_DEVICE_RESET, once; -EAGAIN is tried again. NULL: a needed reset is reported, not done.
   */
  int (*reset)(void *opaque);
  /**
   * read() of the data fd. data_read, data_write and data_close: all NULL, then the data_fd in the feature is a real
   * descriptor and becomes the library's, which closes it and puts it into non-blocking mode; or all set, then that number is
   * ignored. -EAGAIN: nothing was moved, ask again. Any other failure breaks the session, but ENOMSG of a read, and
   * EINTR of a read that does not last.
   */
  int64_t (*data_read)(void *opaque, void *buf, size_t len);
  /**
   * write() of the data fd.
   */
  int64_t (*data_write)(void *opaque, const void *buf, size_t len);
  /**
   * VFIO_MIG_GET_PRECOPY_INFO: struct vfio_precopy_info in place. NULL: sizes in pre-copy are unknown.
   */
  int (*data_precopy_info)(void *opaque, void *info, uint32_t argsz);
  /**
   * The session is over. The result is ignored.
   */
  int (*data_close)(void *opaque);
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
   * VFIOMIG_DIALECT_*; 0: not migratable, `reason` says why.
   */
  uint32_t dialect;
  /**
   * VFIOMIG_CAP_*.
   */
  uint32_t caps;
  /**
   * VFIOMIG_STATE_*, last known; VFIOMIG_STATE_ERROR for a device that is not migratable.
   */
  uint32_t state;
  /**
   * 1 while a data fd is open, else 0.
   */
  uint32_t session_open;
  /**
   * Sessions opened so far by this handle; the number of the current or last one.
   */
  uint64_t session;
  /**
   * Bytes consumed in the current or last save session; the stream's length once END was seen.
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
 * What is left to be saved. All sizes are estimates in bytes. VFIOMIG_UNKNOWN is the largest number: test for it before
 * adding sizes up.
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
   * Initial data left; going to STOP_COPY before it is 0 costs downtime. Known only in PRE_COPY states.
   */
  uint64_t initial_bytes;
  /**
   * Data that changed since it was read; some devices never bring it to 0. Known only in PRE_COPY states. v1 and draft:
   * pending_bytes.
   */
  uint64_t dirty_bytes;
  /**
   * All that is left up to the end of the stream, with what pre-copy would still bring: never to be added to the two above. In
   * STOP_COPY it goes down with what is read, and is 0 from VFIOMIG_CHUNK_END on. v1 and draft: pending_bytes, known only in
   * STOP_COPY.
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
 * A run of a stream's bytes, lent. Fixed layout, never grows.
 */
struct vfiomig_chunk {
  /**
   * First byte; NULL where `len` is 0.
   */
  const void *data;
  /**
   * Bytes lent.
   */
  size_t len;
  /**
   * Bytes from `data` to the end of its segment; VFIOMIG_UNKNOWN on v2, which has none.
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
 * A range of IOVA, or of other addresses; iova + size may be 2^64, size is never 0. Fixed layout, never grows.
 */
struct vfiomig_range {
  /**
   * First byte.
   */
  uint64_t iova;
  /**
   * Bytes.
   */
  uint64_t size;
};

/**
 * How a tracker is made. VFIOMIG_INIT first. A container fd, an iommufd or an id counts only with its flag.
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
   * For messages, at most 255 bytes, copied. NULL: "tracker".
   */
  const char *name;
  /**
   * Every device behind the address space. A log of their own is used only if each of them has one. More can come and go later:
   * vfiomig_tracker_add_device().
   */
  struct vfiomig_device *const *devices;
  /**
   * How many.
   */
  size_t device_count;
  /**
   * Ids of the hardware page tables to which the devices are attached, made with dirty tracking.
   */
  const uint32_t *hwpts;
  /**
   * How many.
   */
  size_t hwpt_count;
  /**
   * Smallest page that the VMM cares about, a power of two from 4 KiB to 1 GiB: a hint to logs that have a choice. 0: 4 KiB.
   */
  uint64_t page_size;
  /**
   * A type1 container. Borrowed until vfiomig_tracker_free().
   */
  int32_t container_fd;
  /**
   * Borrowed until vfiomig_tracker_free().
   */
  int32_t iommufd;
  /**
   * The IOAS of the page tables.
   */
  uint32_t ioas;
  /**
   * Threads that work side by side within a call; 0: one per source within reason, 1: none.
   */
  uint32_t max_workers;
  /**
   * Where mappings will be, in units of 4096: logs of devices and of the VMM are started for these ranges, so that no mapping
   * in them restarts a log. For guests with an IOMMU of their own: its address width as one range. They may overlap; what is
   * mapped elsewhere is logged as well. Counts only with VFIOMIG_TRACKER_F_APERTURE.
   */
  const struct vfiomig_range *aperture;
  /**
   * How many.
   */
  size_t aperture_count;
};

/**
 * A log that the VMM keeps itself. 0 on success, -errno else. Copied when a tracker is made from it. Called one at a time, on the
 * thread that called the library, or with VFIOMIG_OPS_F_ANY_THREAD on threads that the library makes inside a call; with
 * asynchronous signals blocked. They may block. A function must not call back into the same tracker (-EDEADLK).
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
   * Clear the log of these ranges, which are sorted and do not overlap, then log. They hold all that is mapped and more: they
   * are rounded out, so that mappings that come later lie within them. `page_size` is a hint, of which the ranges are whole
   * pages, and is overwritten with the log's own, a power of two from 4096 on. If that does not divide the ranges the library
   * stops and starts again with ranges that it does. -E2BIG: too many ranges, the library comes again with fewer.
   * -EOPNOTSUPP: too many bytes, it comes again with less. -EINVAL or -EEXIST: it runs already; the library stops it and
   * comes again, once. Not called while nothing is mapped, nor twice without stop.
   */
  int (*start)(void *opaque, const struct vfiomig_range *ranges, size_t count, uint64_t *page_size);
  /**
   * Set the bits of the pages of a started range, or of a part of one, that were written since the last report, and clear them
   * in the log. A part begins a multiple of 64 pages behind the beginning of its range, and ends so or with the range. A log
   * that knows whole ranges only says -EINVAL, and is started and asked anew for whole ranges. `page_size` is the log's own.
   * Bit n is word n / 64, bit n % 64; the bitmap is whole memory pages, all zero. After a failure all that is mapped counts as
   * written, and the log is stopped and started again.
   */
  int (*report)(void *opaque, uint64_t iova, uint64_t size, uint64_t page_size, uint64_t *bitmap);
  /**
   * Stop; the log is gone. After a failure it is called again, before the next start and at the end. NULL: nothing is to be done.
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
   * Starts that were not stopped.
   */
  uint32_t users;
  /**
   * Sources that keep no log although they should: what is mapped is dirty at each harvest until a restart helps.
   */
  uint32_t failed_logs;
  /**
   * 0.
   */
  uint32_t reserved;
  /**
   * The largest page of any source while it runs, in bytes; else the option.
   */
  uint64_t page_size;
  /**
   * Mapped ranges, neighbours joined.
   */
  uint64_t mapped_ranges;
  /**
   * Ranges that the source with the fewest holds: less than asked, if it had to fold them; 0 while it does not run.
   */
  uint64_t logged_ranges;
  /**
   * Why this log, in words.
   */
  char why[VFIOMIG_WHY_SIZE];
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
   * Bytes; a multiple of 4096, not 0. iova + size may be 2^64.
   */
  uint64_t size;
  /**
   * Handed to run callbacks, for the caller's own use; also after the mapping is gone, for what is left over of it.
   */
  uint64_t cookie;
};

/**
 * Where one piece of IOVA goes. Fixed layout, never grows.
 */
struct vfiomig_dest {
  /**
   * First byte of what is asked; a multiple of 4096.
   */
  uint64_t iova;
  /**
   * Bytes; a multiple of 4096, not 0. iova + size may be 2^64.
   */
  uint64_t size;
  /**
   * The bit of the page that begins at `iova`. Bit n is word n / 64, bit n % 64.
   */
  uint64_t first_bit;
  /**
   * Bytes of a page of the bitmap: a power of two from 4096 on. The last page may be cut by `size`.
   */
  uint64_t page_size;
  /**
   * Bits are set in it, and no others are touched; aligned to 8 bytes. NULL: this piece goes to a callback of the request.
   */
  uint64_t *bitmap;
  /**
   * Handed to the words callback.
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
 * Gets words of a destination without a bitmap: `first_bit`, a multiple of 64, is the number of the first word's first bit in the
 * destination's count. Words without a set bit are left out at both ends. A value other than 0 stops the harvest; these words
 * were not taken then.
 */
typedef int (*vfiomig_words_fn)(void *opaque,
                                void *dest_opaque,
                                uint64_t first_bit,
                                const uint64_t *words,
                                size_t word_count);

/**
 * Gets a run of dirty bytes within one mapping, and the cookie of that mapping, through which they were written: it may be gone
 * meanwhile, and other memory be mapped at its IOVA. A value other than 0 stops the harvest; this run was not taken then.
 */
typedef int (*vfiomig_run_fn)(void *opaque, uint64_t cookie, uint64_t iova, uint64_t size);

/**
 * What a harvest shall do. VFIOMIG_INIT first.
 */
struct vfiomig_harvest_request {
  /**
   * Size of this struct, set by VFIOMIG_INIT.
   */
  uint32_t argsz;
  /**
   * VFIOMIG_HARVEST_F_NO_READ, _WITHOUT_DMA, _KEEP, _ONLY_DESTS.
   */
  uint32_t flags;
  /**
   * Where which piece goes; no IOVA may be in two of them. Bitmaps may be shared.
   */
  const struct vfiomig_dest *dests;
  /**
   * How many. 0, with `run`: everything that is mapped goes to `run`, and what is left over of what is unmapped. 0 without it:
   * everything is read and left over.
   */
  size_t dest_count;
  /**
   * For destinations without a bitmap.
   */
  vfiomig_words_fn words;
  /**
   * For destinations without a bitmap, if there is no `words`.
   */
  vfiomig_run_fn run;
  /**
   * Handed to both.
   */
  void *opaque;
  /**
   * Threads that read side by side within the call; 0: as the tracker was made, 1: none.
   */
  uint32_t max_workers;
  /**
   * 0.
   */
  uint32_t reserved;
};

/**
 * What a harvest brought.
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
   * Pages of the destinations that were clean before; of a callback, all that it took. Where others change an atomic bitmap at
   * the same time, a word that becomes all ones counts as it was just before.
   */
  uint64_t newly_dirty_pages;
  /**
   * Pages of the destinations that were told dirty, known before or not; in runs, of 4096 bytes. A page of two parts may
   * count twice.
   */
  uint64_t dirty_pages;
  /**
   * Bytes that are dirty only because a read failed, given or left over.
   */
  uint64_t degraded_bytes;
  /**
   * Requests to logs.
   */
  uint64_t reads;
  /**
   * How many of them failed, with sources that keep no log although they should.
   */
  uint32_t failed_reads;
  /**
   * errno of the first that failed, positive; 0 if none did.
   */
  int32_t first_errno;
};

/**
 * The function that unmaps; NULL: somebody else does.
 */
typedef int (*vfiomig_unmap_fn)(void *opaque, const struct vfiomig_range *range);

/**
 * One phase of a report. Fixed layout, never grows; borrowed from the report.
 */
struct vfiomig_phase_report {
  /**
   * One per device of the group, in the order in which they were added; NULL if there is none.
   */
  const struct vfiomig_device_result *results;
  /**
   * How many.
   */
  size_t result_count;
  /**
   * When the phase was begun, in nanoseconds from the beginning of the report.
   */
  uint64_t begun_ns;
  /**
   * How long it took: the slowest device.
   */
  uint64_t duration_ns;
  /**
   * VFIOMIG_PHASE_*; VFIOMIG_PHASE_IDLE is an abort, or a call on a group.
   */
  uint32_t phase;
  /**
   * 1 if the phase was not entered, else 0.
   */
  uint32_t failed;
};

/**
 * How a group works. VFIOMIG_INIT first; NULL in its place is all defaults.
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
   * Most threads of one call; 0: one per device within reason, 1: none, devices are served one after another.
   */
  uint32_t max_workers;
  /**
   * Devices of the VM that can start DMA to others and are not in the group.
   */
  uint32_t foreign_initiators;
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
  uint32_t answers;
  /**
   * How many reasons there are against what is not in `answers`.
   */
  uint32_t reason_count;
};

/**
 * What is left over all devices. Sizes are estimates in bytes; VFIOMIG_UNKNOWN is the largest number, and is the sum of which one
 * device does not know its part (vfiomig_migration_get_estimate() gives the sum of the others).
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
   * Data that changed since it was sent; some devices never bring it to 0.
   */
  uint64_t dirty_bytes;
  /**
   * All that is left up to the ends of the streams, with what pre-copy would still bring: the two above are never added to it.
   * Once devices are in STOP_COPY it goes down with what is read, to 0.
   */
  uint64_t stop_copy_bytes;
  /**
   * Bytes consumed so far.
   */
  uint64_t saved_bytes;
  /**
   * 1: no device has a reason to wait. 0: one has initial data left.
   */
  uint32_t ready;
  /**
   * How often devices began again with initial data.
   */
  uint32_t reinit_count;
};

/**
 * What the caller of vfiomig_migration_get_estimate() knows better than the library. VFIOMIG_INIT first; NULL: nothing.
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
   * Of the channel; 0: as measured by the library's own drains.
   */
  uint64_t bytes_per_second;
  /**
   * For all state changes from the guest's stop on; 0: as measured in earlier ones.
   */
  uint64_t transition_ns;
  /**
   * What else goes over the channel while the guest stands still.
   */
  uint64_t other_bytes;
};

/**
 * For how long the guest would stand still, by part. VFIOMIG_UNKNOWN where nothing of a part is known. Where only some of it is,
 * the part is the least that it can be, its bit in `unknown` is set, and downtime_ns is the least too.
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
   * All of it: the sum of the parts that are known.
   */
  uint64_t downtime_ns;
  /**
   * Devices come to rest: the slowest of each barrier.
   */
  uint64_t transition_ns;
  /**
   * What is left goes over the channel.
   */
  uint64_t transfer_ns;
  /**
   * What is left: of each device stop_copy_bytes, which contains what pre-copy would bring; where that is not known, what
   * pre-copy would bring.
   */
  uint64_t bytes;
  /**
   * The rate it was reckoned with.
   */
  uint64_t bytes_per_second;
  /**
   * VFIOMIG_ESTIMATE_*: of these something is not known. 0: all is known.
   */
  uint32_t unknown;
  /**
   * How many devices do not know their part of it; the notes name them.
   */
  uint32_t unknown_devices;
};

/**
 * Where the bytes of one device go to or come from: through the call's function on the calling thread, or, with
 * VFIOMIG_CHANNEL_F_FD, through a descriptor of its own on whichever thread serves the device. A descriptor keeps no segments, so
 * it is for v2 devices only. Fixed layout, never grows.
 */
struct vfiomig_channel {
  /**
   * With VFIOMIG_CHANNEL_F_FD.
   */
  int32_t fd;
  /**
   * VFIOMIG_CHANNEL_F_*.
   */
  uint32_t flags;
  /**
   * With VFIOMIG_CHANNEL_F_TOTAL: the length of the stream as its saver counted it; no more is read. Without it `fd` is read to
   * its end, and that the caller cannot know more is its word: a connection that broke looks like an end.
   */
  uint64_t total;
};

/**
 * Takes a run of one device's bytes. `device` counts the group's members in the order in which they were added: where one is
 * removed, those behind it move up by one; it cannot be while a migration exists. `flags`: VFIOMIG_CHUNK_SEGMENT_END, which the
 * destination must be told. Returns 0, or -errno: then bytes are lost that no device can give again, and the migration is FAILED.
 */
typedef int (*vfiomig_put_fn)(void *opaque, size_t device, const void *data, size_t len, uint32_t flags);

/**
 * What one device did in a call. Fixed layout, never grows.
 */
struct vfiomig_drain_result {
  /**
   * Bytes moved.
   */
  uint64_t bytes;
  /**
   * VFIOMIG_CHUNK_EMPTY, VFIOMIG_CHUNK_END or VFIOMIG_CHUNK_NO_STREAM; 0: there is more.
   */
  uint32_t flags;
  /**
   * 0.
   */
  uint32_t reserved;
};

/**
 * Brings the next bytes of one device's stream into `buf`; `device` as of vfiomig_put_fn. Returns how many, and sets
 * VFIOMIG_CHUNK_SEGMENT_END in `*flags` if a segment ends with them. 0: the stream is over, and `*total` must be set to its length
 * as the saver counted it, or to VFIOMIG_UNKNOWN, which is the caller's word that its format cannot know: then a stream that was
 * cut is taken for whole. An end without either is refused (-EINVAL). Else -errno.
 */
typedef int64_t (*vfiomig_get_fn)(void *opaque, size_t device, void *buf, size_t len, uint32_t *flags, uint64_t *total);

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/**
 * The version of the library that runs; VFIOMIG_CHECK_VERSION tells that of the header.
 *
 * Returns: major << 16 | minor << 8 | patch. Threads: any. Blocks: never. Since: 0.1
 */
uint32_t vfiomig_version(void);

/**
 * Whether the library that runs has a feature.
 *
 * Returns: 1 or 0; 0 for numbers that it does not know. Threads: any. Blocks: never. Since: 0.1
 */
int vfiomig_has_feature(uint64_t feature);

/**
 * The name of a VFIOMIG_STATE_*, without the prefix.
 *
 * Returns: a constant text; "?" for numbers that are no state. Threads: any. Blocks: never. Since: 0.1
 */
const char *vfiomig_state_name(uint32_t state);

/**
 * What kind of error it is; callers decide by this.
 *
 * Returns: VFIOMIG_ERR_*; 0 for NULL. Threads: any. Blocks: never. Since: 0.1
 */
uint32_t vfiomig_error_code(const struct vfiomig_error *e);

/**
 * The errno of the failed call, positive as in <errno.h> and as in vfiomig_device_result.saved_errno; the call itself returned its
 * negative.
 *
 * Returns: an errno; 0 for NULL. Threads: any. Blocks: never. Since: 0.1
 */
int vfiomig_error_errno(const struct vfiomig_error *e);

/**
 * One line for people: device, states, errno. Its words may change at any time.
 *
 * Returns: a text that lives until vfiomig_error_free(); "no error" for NULL. Threads: any. Blocks: never. Since: 0.1
 */
const char *vfiomig_error_message(const struct vfiomig_error *e);

/**
 * How many devices the error speaks of.
 *
 * Returns: a count; 0 for NULL and for errors that no device caused. Threads: any. Blocks: never. Since: 0.1
 */
size_t vfiomig_error_result_count(const struct vfiomig_error *e);

/**
 * The result of one device.
 *
 * Returns: a struct that lives until vfiomig_error_free(); NULL past the end. Threads: any. Blocks: never. Since: 0.1
 */
const struct vfiomig_device_result *vfiomig_error_result(const struct vfiomig_error *e, size_t index);

/**
 * Frees an error and everything that was borrowed from it. NULL is legal.
 *
 * Threads: any, once. Blocks: never. Since: 0.1
 */
void vfiomig_error_free(struct vfiomig_error *e);

/**
 * Sets the process's log callback, or removes it (NULL). Messages above `max_level` are not made. Without a callback the
 * library is silent: it never writes to stderr.
 *
 * Threads: any; a call of the old callback may still be in progress in another thread. Blocks: never. Since: 0.1
 */
void vfiomig_set_log(vfiomig_log_fn log,
                     void *opaque,
                     int max_level);

/**
 * Makes a device from a VFIO device fd that the VMM opened, by group or by cdev (bound already). The fd is borrowed, by its
 * number, until vfiomig_device_free(), and never closed or duplicated. Free the handle first, then close the fd: a data fd that
 * outlives its device fd can crash the host, and requests would go to whatever file gets the number next. The device may be in any state, and stays in it. A device that cannot be
 * migrated is a device too: vfiomig_device_get_info() says why.
 *
 * Returns: 0 or -errno. Errors: ARGUMENT (NULL, -1: -EBADF, options), UNSUPPORTED (dialect), DEVICE (not a VFIO device
 * fd, or a request failed), PROTOCOL (the device reports nonsense). States: any. Threads: any. Blocks: in the kernel.
 * Since: 0.1
 */
int vfiomig_device_new_kernel(int device_fd,
                              const struct vfiomig_device_options *o,
                              struct vfiomig_device **out,
                              struct vfiomig_error **errp);

/**
 * Makes a device from functions of the VMM. The table is copied; `opaque` is handed to each function and never touched.
 *
 * Returns: 0 or -errno. Errors: ARGUMENT (NULL, table, options), UNSUPPORTED (dialect), DEVICE (a function failed),
 * PROTOCOL (the device reports nonsense). States: any. Threads: any. Blocks: in your callbacks. Since: 0.1
 */
int vfiomig_device_new_ops(const struct vfiomig_device_ops *ops,
                           void *opaque,
                           const struct vfiomig_device_options *o,
                           struct vfiomig_device **out,
                           struct vfiomig_error **errp);

/**
 * Frees a device handle; NULL is legal. Waits for the call in progress, closes the data fd, and leaves the device in its
 * state. Afterwards the library never touches the device fd, the ops or their opaque pointer again. Called from one of the
 * handle's own callbacks it frees nothing and logs an error.
 *
 * States: any. Threads: whole; no call on the handle may begin during or after it. Blocks: until the call in progress
 * returns. Since: 0.1
 */
void vfiomig_device_free(struct vfiomig_device *d);

/**
 * What is known of a device without asking it.
 *
 * Returns: 0 or -errno. Errors: ARGUMENT. States: any. Threads: any. Blocks: never. Since: 0.1
 */
int vfiomig_device_get_info(const struct vfiomig_device *d,
                            struct vfiomig_device_info *info,
                            struct vfiomig_error **errp);

/**
 * The last known state.
 *
 * Returns: VFIOMIG_STATE_*; VFIOMIG_STATE_ERROR for NULL and for a device that is not migratable. States: any.
 * Threads: any. Blocks: never. Since: 0.1
 */
uint32_t vfiomig_device_get_state(const struct vfiomig_device *d);

/**
 * Brings the device to a state. Checked against the arc table before the kernel sees it (docs/states.md); 0 without a
 * request if the device is there already. After a failure the state is read, and `on_failure` is done: it is one of
 * VFIOMIG_ON_FAILURE_KEEP, VFIOMIG_ON_FAILURE_RESET, VFIOMIG_ON_FAILURE_RETURN_TO(state); the error has one result that
 * says what was found and done. Leaving RESUMING needs vfiomig_device_finish() first, unless a reset has left the device there.
 *
 * Some drivers want more than the request, and get it (docs/faults.md): RUNNING behind a failed step goes one state further and
 * back; STOP_COPY of a device with P2P and without PRE_COPY is left only behind the end of its stream, which is read for nobody,
 * for 5 s at most (ETIMEDOUT: ask again); a second RESUMING begins with a reset.
 *
 * Returns: 0 or -errno. Errors: ARGUMENT, BUSY (-EDEADLK: from a callback of its own, of its group or of its migration), ORDER (refused before the kernel saw it; nothing was done), STALE (others
 * changed the device: nothing was requested, the state found is known now), UNSUPPORTED (not migratable), DEVICE (the
 * kernel's errno; -ETIMEDOUT: the device's stream has no end yet, call again), PROTOCOL (no data fd came, or one too many), TRANSPORT
 * (-ENOMEM). A chunk or room that is out is no hindrance. States: as the
 * table says. Threads: whole. Blocks: in the
 * kernel, for seconds on some devices. Since: 0.1
 */
int vfiomig_device_set_state(struct vfiomig_device *d,
                             uint32_t state,
                             uint32_t on_failure,
                             uint32_t flags,
                             struct vfiomig_error **errp);

/**
 * Resets the device (VFIO_DEVICE_RESET, tried again for 5 s while the kernel says EAGAIN): what it held is lost, it is
 * RUNNING afterwards, an open session is over. The only way out of ERROR, and out of RESUMING with a bad stream.
 *
 * Device servers may refuse it in STOP and STOP_COPY (UNSUPPORTED, EINVAL), or do it and stay in the state they were in (PROTOCOL):
 * the text says from where it is what can be asked for. RESUMING may then be left by set_state, for nothing is in it.
 *
 * Returns: 0 or -errno. Errors: UNSUPPORTED (no reset, or none in this state), DEVICE (the kernel's errno), PROTOCOL (not RUNNING
 * afterwards), BUSY (-EDEADLK: as for vfiomig_device_set_state()).
 * States: any. Threads: whole. Blocks: in the kernel. Since: 0.1
 */
int vfiomig_device_reset(struct vfiomig_device *d,
                         struct vfiomig_error **errp);

/**
 * Probes the device again, after a reset or a new realisation done by others: what it held is gone. A session is over, whatever
 * state the device is found in, for device servers may keep it over a reset; what was sent of its stream is void. RESUMING may then
 * be left by set_state if it was kept, for nothing is in it. Only for callers that know of a reset: a state that others
 * changed otherwise is met by the next call (STALE).
 *
 * Returns: 0 or -errno. Errors: DEVICE, PROTOCOL, BUSY (-EDEADLK: as for vfiomig_device_set_state()). States: any. Threads: whole. Blocks: in the kernel. Since: 0.1
 */
int vfiomig_device_reprobe(struct vfiomig_device *d,
                           struct vfiomig_error **errp);

/**
 * How much is left to be saved. Without VFIOMIG_PENDING_F_EXACT the figures of the last query, from any thread; with it the
 * device is asked, which on some devices makes the next data.
 *
 * Returns: 0 or -errno. Errors: ARGUMENT; with EXACT also BUSY, STALE (the save session is broken), UNSUPPORTED, DEVICE, PROTOCOL. States: any; what is not known in a
 * state reads VFIOMIG_UNKNOWN. Threads: any; with EXACT device. Blocks: never; with EXACT in the kernel. Since: 0.1
 */
int vfiomig_device_get_pending(struct vfiomig_device *d,
                               uint32_t flags,
                               struct vfiomig_device_pending *out,
                               struct vfiomig_error **errp);

/**
 * The caller begins a stream from nothing: what it has of an earlier one is thrown away. Needed once after a save session of
 * which bytes were lent or consumed ended by anything but STOP behind its END (state change, reset, error); until then save calls
 * answer -ESTALE. Callers that use migrations do not need it: one that has sent nothing begins new streams by itself, and so does
 * entering SAVE_PRE_COPY again behind vfiomig_group_resume().
 *
 * Returns: 0 or -errno. Errors: BUSY, ORDER (bytes of the open session were consumed, also up to its END, or it is broken). States: any. Threads:
 * device. Blocks: never. Since: 0.1
 */
int vfiomig_device_restart_stream(struct vfiomig_device *d,
                                  struct vfiomig_error **errp);

/**
 * Lends the next bytes of the stream. One chunk per device is out at a time; it stays valid from PRE_COPY into STOP_COPY.
 * When the session ends its memory stays readable and unchanged until the next peek, reserve or free, whatever else is done with
 * the device, and vfiomig_device_consume() answers -ESTALE; device memory stays mapped, but is the device's to change. `max` bounds the chunk; 0: no bound but the buffer.
 *
 * A failed read of a data fd may have lost bytes (drivers throw away what they had copied): the session is broken, and gives
 * nothing more but STALE. -EAGAIN says that nothing was moved: the device has data to come, but was not ready for a second; call
 * again. A cancel of the device's migration ends that wait.
 *
 * Returns: 0 or -errno. Errors: ARGUMENT, BUSY (also: a chunk is out), ORDER (state), STALE (the session has ended, or is
 * broken), UNSUPPORTED (not migratable), DEVICE (-EAGAIN: not ready, STOP_COPY only), PROTOCOL, TRANSPORT (-ENOMEM: no memory for a
 * buffer), CANCELED (while the device was not ready; nothing is lost). States: PRE_COPY, PRE_COPY_P2P, STOP_COPY. Threads: device. Blocks: in the kernel. Since: 0.1
 */
int vfiomig_device_peek(struct vfiomig_device *d,
                        size_t max,
                        struct vfiomig_chunk *out,
                        struct vfiomig_error **errp);

/**
 * Gives the chunk back. Its first `len` bytes are the caller's now, the rest is lent again by the next peek. On v1 and the
 * draft the last byte of a segment acknowledges it to the device; if that fails it is tried again by the next peek, and nothing is lost.
 *
 * Returns: 0 or -errno. Errors: ARGUMENT (more than was lent), BUSY, ORDER (state; no chunk is out), STALE (its session has
 * ended, or is broken), UNSUPPORTED (not migratable). States: PRE_COPY, PRE_COPY_P2P, STOP_COPY. Threads: device. Blocks: in the kernel (v1, draft). Since: 0.1
 */
int vfiomig_device_consume(struct vfiomig_device *d,
                           size_t len,
                           struct vfiomig_error **errp);

/**
 * Copies the next bytes of the stream to `buf`: at most one read of the device and one buffer, often fewer bytes than `len`, and never
 * beyond the end of a segment. 0 comes with VFIOMIG_CHUNK_EMPTY or VFIOMIG_CHUNK_END in `*flags`; else `*flags` is 0 or
 * VFIOMIG_CHUNK_SEGMENT_END.
 *
 * Returns: bytes, or -errno. Errors: as vfiomig_device_peek(). States: as vfiomig_device_peek(). Threads: device. Blocks:
 * in the kernel. Since: 0.1
 */
int64_t vfiomig_device_read(struct vfiomig_device *d,
                            void *buf,
                            size_t len,
                            uint32_t *flags,
                            struct vfiomig_error **errp);

/**
 * Writes the next bytes of the stream to `fd` (a socket, a pipe, a file): at most `max` bytes (0: no bound) and at most one
 * buffer a call, of device memory too, and never beyond the end of a segment. What `fd` does not take stays in the stream. 0 comes with
 * VFIOMIG_CHUNK_EMPTY or VFIOMIG_CHUNK_END in `*flags`; else `*flags` is 0 or VFIOMIG_CHUNK_SEGMENT_END. A reader that is gone is -EPIPE, never SIGPIPE.
 *
 * Returns: bytes, or -errno. Errors: as vfiomig_device_peek(), ARGUMENT (-EBADF), and TRANSPORT (`fd` failed; -EAGAIN if it takes nothing: at
 * once in non-blocking mode, else after 60 s; nothing is lost), CANCELED (also while `fd` was not ready). States: as vfiomig_device_peek(). Threads: device. Blocks: in the kernel,
 * and on `fd`, which is polled: a cancel ends that wait, and state changes do not wait for it. Since: 0.1
 */
int64_t vfiomig_device_send(struct vfiomig_device *d,
                            int fd,
                            size_t max,
                            uint32_t *flags,
                            struct vfiomig_error **errp);

/**
 * Lends room for the next bytes of the stream. One room per device is out at a time. `segment_left` is the length of the
 * rest of the segment that follows (v1, draft), as the saver's chunks told it; a segment that does not fit the device's
 * window is refused here with -EMSGSIZE and both lengths. 0 on v2, which has no segments. `*len` is how much fits now; on v1
 * and the draft it may be device memory. When the session ends its memory stays valid until the next peek, reserve or free.
 *
 * Returns: 0 or -errno. Errors: ARGUMENT, BUSY (also: room is out), ORDER (state; after finish), STALE (the session is
 * dead), TRANSPORT (-ENOMEM), UNSUPPORTED (not migratable; -EMSGSIZE), DEVICE, PROTOCOL. States: RESUMING. Threads: device.
 * Blocks: in the kernel (v1, draft). Since: 0.1
 */
int vfiomig_device_reserve(struct vfiomig_device *d,
                           uint64_t segment_left,
                           void **ptr,
                           size_t *len,
                           struct vfiomig_error **errp);

/**
 * Hands the first `len` bytes of the room to the device; 0 gives the room back unused, and no segment is begun. `flags` is 0, or
 * VFIOMIG_CHUNK_SEGMENT_END with the last bytes of a segment: it is checked against the length that reserve was told, and a
 * segment that has all its bytes goes to the device with or without it. After a failure behind which the device may have taken a
 * byte the session is dead, and only a reset leaves RESUMING; after one before that the room is still out, and the call can be
 * made again. The message says which.
 *
 * Returns: 0 or -errno. Errors: ARGUMENT (more than was lent), BUSY, ORDER (state; after finish; no room is out), STALE (the session has ended
 * or is dead), DEVICE (the device refused the bytes; -EAGAIN: it was not ready), PROTOCOL, UNSUPPORTED (not migratable; -EMSGSIZE),
 * CANCELED (while the device was not ready). States: RESUMING. Threads: device. Blocks: in the kernel. Since: 0.1
 */
int vfiomig_device_commit(struct vfiomig_device *d,
                          size_t len,
                          uint32_t flags,
                          struct vfiomig_error **errp);

/**
 * Hands `len` bytes to the device, all of them, without a copy into the library's memory, one buffer at a time: a state change or
 * another call that waits comes between; if that ends the session, the message says how much was taken. `flags` is 0, or
 * VFIOMIG_CHUNK_SEGMENT_END with the last bytes of a segment (v1, draft). After a failure the session is dead, or the call can be
 * made again, as with vfiomig_device_commit().
 *
 * Returns: `len`, or -errno. Errors: ARGUMENT, BUSY (also: room is out), ORDER (state; after finish), STALE (the session
 * is dead; another one has begun), TRANSPORT (-ENOMEM), DEVICE (the device refused the bytes; -EAGAIN: it was not ready), PROTOCOL, UNSUPPORTED (not migratable; -EMSGSIZE),
 * CANCELED (while the device was not ready). States: RESUMING. Threads: device. Blocks: in the kernel. Since: 0.1
 */
int64_t vfiomig_device_write(struct vfiomig_device *d,
                             const void *buf,
                             size_t len,
                             uint32_t flags,
                             struct vfiomig_error **errp);

/**
 * Reads up to `len` bytes from `fd` (a socket, a pipe, a file), at most one buffer a call, of device memory too, and hands them to the device.
 * 0 is the end of `fd`. `flags` is 0, or VFIOMIG_CHUNK_SEGMENT_END if a segment ends with the last of `len` bytes (v1, draft);
 * it holds only if all of them came.
 *
 * Returns: bytes, or -errno. Errors: as vfiomig_device_write(), ARGUMENT (-EBADF), CANCELED (also while `fd` was not ready), and TRANSPORT (`fd` failed; -EAGAIN if it has nothing: at once in
 * non-blocking mode, else after 60 s): nothing is lost, and the session goes on. Bytes that came from `fd` and that the device did
 * not take are lost, so the session is dead after any other failure behind a read. States: RESUMING. Threads: device. Blocks: in
 * the kernel, and on `fd`, which is polled: a cancel ends that wait, and state changes do not wait for it. Since: 0.1
 */
int64_t vfiomig_device_receive(struct vfiomig_device *d,
                               int fd,
                               size_t len,
                               uint32_t flags,
                               struct vfiomig_error **errp);

/**
 * Says how many bytes the stream has. Only then may the device leave RESUMING: some drivers accept a truncated stream
 * silently. VFIOMIG_UNKNOWN is the caller's word that its format cannot know. Bytes that are missing may still be written,
 * and finish be called again.
 *
 * Returns: 0 or -errno. Errors: BUSY (also: room is out), ORDER (state), STALE (the session is dead), UNSUPPORTED (not
 * migratable), INCOMPLETE (both counts are in the message). States: RESUMING. Threads: device. Blocks: never. Since: 0.1
 */
int vfiomig_device_finish(struct vfiomig_device *d,
                          uint64_t total,
                          struct vfiomig_error **errp);

/**
 * Turns on, in `dst` from bit `dst_bit` on, what is on in the `bits` bits of `src` from `src_bit` on. `src` stays as it is,
 * and no other thread may write it meanwhile. The bits need not be aligned to each other. The words that the two parts are
 * in must not overlap.
 *
 * Returns: how many bits were off before and are on now, or -errno: -EINVAL (NULL, not aligned to 8 bytes, a range that
 * overflows, an overlap, an unknown flag). With VFIOMIG_BITMAP_F_ATOMIC the number is exact whatever others do. Threads: any.
 * Blocks: never. Since: 0.1
 */
int64_t vfiomig_bitmap_merge(uint64_t *dst,
                             uint64_t dst_bit,
                             const uint64_t *src,
                             uint64_t src_bit,
                             uint64_t bits,
                             uint32_t flags);

/**
 * Moves bits: what is on in `src` goes off there and on in `dst`. With VFIOMIG_BITMAP_F_ATOMIC a bit that another thread sets
 * meanwhile is either moved or stays, and what that thread wrote before is seen by who reads the page after this call. `dst`
 * NULL: the bits are only counted and cleared. The words that the two parts are in must not overlap.
 *
 * Returns: how many bits were taken, or -errno: -EINVAL as vfiomig_bitmap_merge(). Threads: any. Blocks: never. Since: 0.1
 */
int64_t vfiomig_bitmap_take(uint64_t *dst,
                            uint64_t dst_bit,
                            uint64_t *src,
                            uint64_t src_bit,
                            uint64_t bits,
                            uint32_t flags);

/**
 * Counts the bits that are on among the `bits` bits from `bit` on. No other thread may write them meanwhile.
 *
 * Returns: the number, or -errno: -EINVAL (NULL, not aligned to 8 bytes, a range that overflows). Threads: any. Blocks:
 * never. Since: 0.1
 */
int64_t vfiomig_bitmap_count(const uint64_t *bitmap, uint64_t bit, uint64_t bits);

/**
 * Finds the first run of bits that are on, at bit `from` or later, in a bitmap of `bits` bits. No other thread may write it
 * meanwhile. To find all: go on from `*start + *len`.
 *
 * Returns: 1; 0 if there is none, and nothing is written; or -errno: -EINVAL as vfiomig_bitmap_count(). Threads: any.
 * Blocks: never. Since: 0.1
 */
int64_t vfiomig_bitmap_next_run(const uint64_t *bitmap,
                                uint64_t bits,
                                uint64_t from,
                                uint64_t *start,
                                uint64_t *len);

/**
 * Writes the runs of bits that are on, at bit `from` or later, as ranges of addresses: bit n of the `bits` bits stands for the
 * page of `page_size` bytes at `base_address` + n * `page_size`. At most `max` ranges, which is not 0; `*next` is the bit to
 * go on from, and `bits` when there are no more. No other thread may write the bitmap meanwhile.
 *
 * Returns: how many ranges it wrote, or -errno: -EINVAL (as vfiomig_bitmap_count(), `max` 0, `page_size` 0, addresses that do
 * not fit into 64 bits). Threads: any. Blocks: never. Since: 0.1
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
 * Merges a bitmap into one with pages of another size; bit 0 of both stands for the same address. A page of `dst` goes on if
 * a byte of it is in a page of `src` that is on. `dst` has as many bits as it takes to hold `src_bits` pages of
 * `src_page_size` bytes; the sizes are powers of two. `src` stays as it is, and no other thread may write it meanwhile. The
 * two must not overlap.
 *
 * Returns: how many bits of `dst` were off before and are on now, or -errno: -EINVAL (as vfiomig_bitmap_merge(), a page size
 * that is no power of two). Threads: any. Blocks: never. Since: 0.1
 */
int64_t vfiomig_bitmap_rescale(uint64_t *dst,
                               uint64_t dst_page_size,
                               const uint64_t *src,
                               uint64_t src_page_size,
                               uint64_t src_bits,
                               uint32_t flags);

/**
 * Makes a tracker for one address space, and picks its log: the devices' own logs if every device has one; else dirty tracking
 * of the page tables; else the container's log; else everything is dirty. vfiomig_tracker_get_info() says which and why. Starts
 * nothing. NULL options: everything is dirty; but the tracker speaks for no device of a group, as one with
 * VFIOMIG_TRACKER_F_EVERYTHING does for all.
 *
 * The tracker refers to its devices. One that is freed was unplugged: everything is dirty once, as if its log could not be read
 * (-ENODEV), and the tracker goes on without it. While a migration has started the tracker it is so at each harvest.
 *
 * Reading a log clears it, so a log has one tracker: a device handle, a page table of an iommufd, or a container that another
 * tracker of this process has is refused until that is freed. Descriptors are known by their number: a copy made by dup() is
 * not recognised, and would lose dirty pages.
 *
 * Returns: 0 or -errno. Errors: ARGUMENT (NULL, -1: -EBADF, options), BUSY (another tracker has a log). Threads: any. Blocks: in
 * the kernel, and in callbacks of the devices. Since: 0.1
 */
int vfiomig_tracker_new(const struct vfiomig_tracker_options *o,
                        struct vfiomig_tracker **out,
                        struct vfiomig_error **errp);

/**
 * Makes a tracker over a log that the VMM keeps itself. The table is copied; `opaque` is handed to each function and never
 * touched. Of the options name, devices, aperture, page_size and max_workers count; another log beside it is refused.
 *
 * Returns: 0 or -errno. Errors: ARGUMENT (NULL, table, options), BUSY (another tracker has the same functions with the same
 * opaque). Threads: any. Blocks: never. Since: 0.1
 */
int vfiomig_tracker_new_ops(const struct vfiomig_tracker_ops *ops,
                            void *opaque,
                            const struct vfiomig_tracker_options *o,
                            struct vfiomig_tracker **out,
                            struct vfiomig_error **errp);

/**
 * Frees a tracker; NULL is legal. Waits for the call in progress, and stops the log if it runs. Afterwards the library never
 * touches its fds, ops or opaque pointers again. Called from one of its own callbacks it frees nothing and logs an error.
 *
 * Threads: tracker; no call on the handle may begin during or after it. Blocks: until the call in progress returns, and in the
 * kernel. Since: 0.1
 */
void vfiomig_tracker_free(struct vfiomig_tracker *t);

/**
 * What is known of a tracker.
 *
 * Returns: 0 or -errno. Errors: ARGUMENT. Threads: any. Blocks: never. Since: 0.1
 */
int vfiomig_tracker_get_info(const struct vfiomig_tracker *t,
                             struct vfiomig_tracker_info *info,
                             struct vfiomig_error **errp);

/**
 * Tells DMA mappings, each as it was mapped, after it was mapped. All or none are taken. While tracking a new one counts as
 * dirty once. A log that does not hold it is started anew, and that makes everything dirty once, unless its device stands still.
 * Logs hold the aperture of the options, and else what is mapped, rounded out generously. A log that cannot be started anew or
 * read makes room for the next one that can.
 *
 * Returns: 0 or -errno. Errors: ARGUMENT (not in units of 4096; -EEXIST: overlaps a mapping), BUSY (-EDEADLK: from a callback
 * of the tracker). Threads: tracker. Blocks: in the kernel. Since: 0.1
 */
int vfiomig_tracker_map(struct vfiomig_tracker *t,
                        const struct vfiomig_mapping *mappings,
                        size_t count,
                        struct vfiomig_error **errp);

/**
 * Starts to track; do so before any RAM is sent. Counted: only the first start begins a log, a later one restarts nothing that
 * works. A log that starts but cannot be read is found out here, and the next one is taken; vfiomig_tracker_get_info() says so. A
 * later start gives the better ones another chance; if one works it is taken, and everything is dirty once.
 *
 * Returns: 0 or -errno. Errors: BUSY (-EDEADLK: from a callback of the tracker). Threads: tracker. Blocks: in the kernel.
 * Since: 0.1
 */
int vfiomig_tracker_start(struct vfiomig_tracker *t,
                          struct vfiomig_error **errp);

/**
 * Takes back one start; the last one stops the log, and what it held is gone. A log that a device stopped itself is no error. The
 * start of a migration is taken back by the migration only, at HALTED or when it is aborted.
 *
 * Returns: 0 or -errno. Errors: ORDER (no start of the caller's is left, or a final harvest is owed), BUSY (-EDEADLK: from a callback of
 * the tracker). Threads: tracker. Blocks: in the kernel. Since: 0.1
 */
int vfiomig_tracker_stop(struct vfiomig_tracker *t,
                         struct vfiomig_error **errp);

/**
 * A device was plugged in behind the address space of the tracker. While tracking its log is started, and everything is dirty
 * once: nobody knows what it wrote until then. If it keeps no log of its own the tracker takes the next one for all. A device
 * with a page table of its own needs vfiomig_tracker_add_hwpt() as well, where page tables are used.
 *
 * Returns: 0 or -errno. Errors: ARGUMENT (NULL; -EEXIST: it is in the tracker), BUSY (another tracker has its log; -EDEADLK: from
 * a callback of the tracker). Threads: tracker. Blocks: in the kernel, and in callbacks of the device. Since: 0.1
 */
int vfiomig_tracker_add_device(struct vfiomig_tracker *t,
                               struct vfiomig_device *d,
                               struct vfiomig_error **errp);

/**
 * A device was unplugged, and writes no more. What its log holds is read and kept for the harvest that asks, and the log is
 * stopped; no other log is touched, and none is restarted. Call it before vfiomig_device_free(): what a freed device wrote last
 * is unknown, so everything is dirty once then.
 *
 * Returns: 0 or -errno. Errors: ARGUMENT (NULL, not in the tracker), BUSY (-EDEADLK: from a callback of the tracker). Threads:
 * tracker. Blocks: in the kernel, and in callbacks of the device. Since: 0.1
 */
int vfiomig_tracker_remove_device(struct vfiomig_tracker *t,
                                  struct vfiomig_device *d,
                                  struct vfiomig_error **errp);

/**
 * A hardware page table with dirty tracking came, to which a device of the address space is attached. While page tables are read
 * its tracking is switched on, and everything is dirty once.
 *
 * Returns: 0 or -errno. Errors: ARGUMENT (NULL, no VFIOMIG_TRACKER_F_HWPT; -EEXIST: it is in the tracker), BUSY (another tracker
 * has it; -EDEADLK: from a callback of the tracker). Threads: tracker. Blocks: in the kernel. Since: 0.1
 */
int vfiomig_tracker_add_hwpt(struct vfiomig_tracker *t,
                             uint32_t hwpt,
                             struct vfiomig_error **errp);

/**
 * A hardware page table goes: no device is attached to it any more. What it holds is read and kept, and its tracking is switched
 * off; nothing else is touched. Call it before it is destroyed. If it was the last one and a device stays, everything is dirty until
 * another one is added.
 *
 * Returns: 0 or -errno. Errors: ARGUMENT (NULL, not in the tracker), BUSY (-EDEADLK: from a callback of the tracker). Threads:
 * tracker. Blocks: in the kernel. Since: 0.1
 */
int vfiomig_tracker_remove_hwpt(struct vfiomig_tracker *t,
                                uint32_t hwpt,
                                struct vfiomig_error **errp);

/**
 * Reads the log, clears it, and gives what was asked for. All of the log is read, for kernels clear more than was asked; what was
 * read and not asked for stays in the tracker for the harvest that asks. Nothing is given twice, nothing is lost. A read that
 * fails is no failed harvest: its range is dirty then, and the result says DEGRADED.
 *
 * One user takes; any number of others watch, with VFIOMIG_HARVEST_F_KEEP. While a migration tracks, the one who takes is its VMM.
 *
 * `out` may be NULL; it is not written if the call fails. Callbacks come on the calling thread; one must not call back into the same tracker.
 *
 * Returns: 0 or -errno. Errors: misuse only, before anything is read: ARGUMENT, ORDER (not started), BUSY (-EDEADLK: from a
 * callback of the tracker). Threads: tracker. Blocks: in the kernel and in your callbacks. Since: 0.1
 */
int vfiomig_tracker_harvest(struct vfiomig_tracker *t,
                            const struct vfiomig_harvest_request *rq,
                            struct vfiomig_harvest_result *out,
                            struct vfiomig_error **errp);

/**
 * As vfiomig_tracker_harvest(), for several address spaces at once, side by side: each destination gets what any of them has for
 * its range. With `count` 0 nothing is done.
 *
 * Returns: 0 or -errno. Errors: as vfiomig_tracker_harvest(); ARGUMENT also if a tracker is named twice. Threads: tracker, for
 * each of them. Blocks: in the kernel and in your callbacks. Since: 0.1
 */
int vfiomig_tracker_harvest_many(struct vfiomig_tracker *const *trackers,
                                 size_t count,
                                 const struct vfiomig_harvest_request *rq,
                                 struct vfiomig_harvest_result *out,
                                 struct vfiomig_error **errp);

/**
 * Unmaps a range, and takes what was written to it, in the order that the log needs: a device's log is read after the unmapping,
 * a page table before, a container does both in one request. The range may hold any number of whole mappings, and holes.
 *
 * `unmap` is the VMM's own way to unmap, called at the right moment; 0 is success. NULL with VFIOMIG_UNMAP_F_LIBRARY: the library
 * unmaps. NULL without: the VMM has done it already; what only an earlier read could tell is dirty then. VFIOMIG_UNMAP_F_NO_DMA
 * states that no device writes to the range while the call lasts; without it the range of a page table is dirty. A container's
 * log is exact only with VFIOMIG_UNMAP_F_LIBRARY.
 *
 * `rq` may be NULL: what was written is left over, and keeps the cookie of its mapping until it was told. A harvest of everything
 * by `run` tells it, and the final harvest is not done before. A bitmap or `words` at its IOVA get it as long as nothing else is
 * mapped there. What a cookie leads to must stay valid until then, or until the tracker is stopped; two mappings that have the same
 * IOVA, one after the other, have the same cookie only if they lead to the same memory.
 *
 * If the unmapping itself fails, something may have been given all the same: `out` is written then, and what was given is to be taken,
 * for nobody is told of it again. On a misuse `out` is left as it is. VFIOMIG_HARVEST_F_NO_READ and _ONLY_DESTS mean nothing here.
 *
 * With `unmap` NULL and page tables, a harvest beside this call may find the mapping gone before it is told. So all harvests after the
 * first such call, and the final one unless other ways to unmap were seen only, read each mapping by itself.
 *
 * Returns: 0 or -errno. Errors: ARGUMENT (a range that is not in units of 4096, or cuts a mapping; no way to unmap), TRANSPORT (the unmapping failed: the
 * mappings stay known, and nothing is lost), BUSY (-EDEADLK: from a callback of the tracker). Threads: tracker. Blocks: in the
 * kernel and in your callbacks. Since: 0.1
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
 * The report for people: a line a phase, a line a device; the last line has no line end. Its words may change at any time.
 *
 * Returns: a text that lives until vfiomig_report_free(); "" for NULL. Threads: any. Blocks: never. Since: 0.1
 */
const char *vfiomig_report_text(const struct vfiomig_report *r);

/**
 * How many phases the report has.
 *
 * Returns: a count; 0 for NULL. Threads: any. Blocks: never. Since: 0.1
 */
size_t vfiomig_report_phase_count(const struct vfiomig_report *r);

/**
 * One phase of a report, in the order in which they were begun.
 *
 * Returns: a struct that lives until vfiomig_report_free(); NULL past the end. Threads: any. Blocks: never. Since: 0.1
 */
const struct vfiomig_phase_report *vfiomig_report_phase(const struct vfiomig_report *r, size_t index);

/**
 * Frees a report and everything that was borrowed from it. NULL is legal.
 *
 * Threads: any, once. Blocks: never. Since: 0.1
 */
void vfiomig_report_free(struct vfiomig_report *r);

/**
 * Makes an empty group, for the lifetime of a VM.
 *
 * Returns: 0 or -errno. Errors: ARGUMENT. Threads: any. Blocks: never. Since: 0.1
 */
int vfiomig_group_new(const struct vfiomig_group_options *o, struct vfiomig_group **out, struct vfiomig_error **errp);

/**
 * Frees a group; NULL is legal. Waits for the call in progress. Its devices and trackers stay as they are and are still the
 * caller's; a migration of the group answers -ENODEV from then on.
 *
 * Threads: whole; no call on the handle may begin during or after it. Blocks: until the call in progress returns. Since: 0.1
 */
void vfiomig_group_free(struct vfiomig_group *g);

/**
 * Adds a device. It stays the caller's. Freed while it is in the group, its place goes with the next call on the group, and its
 * name may be added again; during a migration the place stays, and fails that migration with -ENODEV.
 *
 * Returns: 0 or -errno. Errors: ARGUMENT (NULL, a name that the group has already, -ENODEV: freed), ORDER (a migration of the
 * group exists). Threads: whole. Blocks: for calls in progress. Since: 0.1
 */
int vfiomig_group_add_device(struct vfiomig_group *g,
                             struct vfiomig_device *d,
                             struct vfiomig_error **errp);

/**
 * Removes a device. One that is freed needs no removal.
 *
 * Returns: 0 or -errno. Errors: ARGUMENT (NULL, not in the group), ORDER (a migration of the group exists). Threads: whole.
 * Blocks: for calls in progress. Since: 0.1
 */
int vfiomig_group_remove_device(struct vfiomig_group *g,
                                struct vfiomig_device *d,
                                struct vfiomig_error **errp);

/**
 * Adds a tracker. Every device of the group must be covered by one before it can be saved. It stays the caller's. Freed while it is
 * in the group, its place goes with the next call on the group; during a migration the place stays, and a save cannot be completed, for
 * what the log knew is lost.
 *
 * Returns: 0 or -errno. Errors: ARGUMENT (NULL, in the group already, -ENODEV: freed), ORDER (a migration of the group exists). Threads:
 * whole. Blocks: for calls in progress. Since: 0.1
 */
int vfiomig_group_add_tracker(struct vfiomig_group *g,
                              struct vfiomig_tracker *t,
                              struct vfiomig_error **errp);

/**
 * Removes a tracker. One that is freed needs no removal.
 *
 * Returns: 0 or -errno. Errors: ARGUMENT (NULL, not in the group), ORDER (a migration of the group exists). Threads: whole.
 * Blocks: for calls in progress. Since: 0.1
 */
int vfiomig_group_remove_tracker(struct vfiomig_group *g,
                                 struct vfiomig_tracker *t,
                                 struct vfiomig_error **errp);

/**
 * What can be done with the group as it is. `reasons` may be NULL; else it receives a report, also if there is nothing to say,
 * whose text has a line for each reason against what is not in the answers.
 *
 * Returns: 0 or -errno. Errors: ARGUMENT. Threads: whole. Blocks: for calls in progress; asks no device. Since: 0.1
 */
int vfiomig_group_get_abilities(struct vfiomig_group *g,
                                struct vfiomig_group_abilities *out,
                                struct vfiomig_report **reasons,
                                struct vfiomig_error **errp);

/**
 * Stops all devices, by way of their P2P states and side by side; those with an open save session are held in STOP_COPY. vCPUs
 * are stopped by now. If a device fails, none is stopped that was not yet; vfiomig_group_resume() brings them back. The error
 * has one result per device. Devices that cannot be migrated have no states and take no part, nor does one that was freed during
 * a migration; that is no error, and vfiomig_group_get_report() says so.
 *
 * Returns: 0 or -errno. Errors: ORDER (a migration is past pre-copy, has failed, or has begun a phase device by device; a device is loading, or
 * only a reset leads out of where it is), DEVICE (-ETIMEDOUT: its stream has no end yet, call again), PROTOCOL, STALE (others changed a
 * device), TRANSPORT (-ENOMEM). Threads: whole. Blocks: in the kernel, for the slowest device. Since: 0.1
 */
int vfiomig_group_pause(struct vfiomig_group *g,
                        struct vfiomig_error **errp);

/**
 * The first half of vfiomig_group_pause(), for VMMs that stop in two passes: devices that can are brought to their P2P states,
 * the others run on. vCPUs are stopped by now. vfiomig_group_pause() or vfiomig_group_resume() follows.
 *
 * Returns: 0 or -errno. Errors: as vfiomig_group_pause(). Threads: whole. Blocks: in the kernel, for the slowest device.
 * Since: 0.1
 */
int vfiomig_group_pause_begin(struct vfiomig_group *g,
                              struct vfiomig_error **errp);

/**
 * Lets all devices run again, by way of their P2P states and side by side. vCPUs are started after it returns.
 *
 * During a save in PRECOPY: sessions that were held end, what was sent of the devices' streams is void, and the migration is back
 * in SAVE_TRACKING. Trackers go on and RAM stays sent; entering PRECOPY again begins new streams, and the later phases are refused
 * before that. The destination throws away what it has of the old ones: abort, RESUMING again. If the call fails after the session
 * of one device has ended, all streams are void, and phases are refused until a resume or an abort has ended the other sessions
 * too; if it fails before that, the phase stays PRECOPY and nothing is void. Draft devices, whose log answers only while they save,
 * are in PRE_COPY again behind it, as SAVE_TRACKING has them; one that does not go there is in the report.
 *
 * A load that rests in LOADED is ended by it, through LOAD_P2P_GRACE and LOAD_RUNNING, as by vfiomig_migration_advance(). Where
 * its migration was freed in LOADED the devices are let run as well; one whose stream turns out to be bad is then left to the caller.
 *
 * While a save is HALTED it is refused: see vfiomig_migration_abort(). Once that migration was freed it is the caller's decision, as
 * for a snapshot in a file: a device that still holds the state of the guest that was handed over is let run with a WARNING in the
 * log and a line in vfiomig_group_get_report(), for if the guest runs elsewhere too, two run now.
 *
 * Returns: 0 or -errno. Errors: as vfiomig_group_pause(). Threads: whole. Blocks: in the kernel, for the slowest device.
 * Since: 0.1
 */
int vfiomig_group_resume(struct vfiomig_group *g,
                         struct vfiomig_error **errp);

/**
 * The first half of vfiomig_group_resume(), for VMMs that start in two passes: stopped devices that can are brought to their
 * P2P states, where others may reach them. A save session that was held ends, and a load that rests in LOADED enters
 * LOAD_P2P_GRACE. vfiomig_group_resume() follows, or vfiomig_group_pause().
 *
 * Returns: 0 or -errno. Errors: as vfiomig_group_resume(). Threads: whole. Blocks: in the kernel, for the slowest device.
 * Since: 0.1
 */
int vfiomig_group_resume_begin(struct vfiomig_group *g,
                               struct vfiomig_error **errp);

/**
 * vfiomig_tracker_harvest_many() over all trackers of the group. With VFIOMIG_HARVEST_F_WITHOUT_DMA in a moment without DMA: v1
 * NDMA devices are brought to their P2P states and back, stopped devices stay, so what is read and what is cleared are the same
 * pages, also for logs that cannot do both as one. Refused unless every device is stopped, or a v1 device with NDMA. Stopped
 * devices are the caller's word that its vCPUs are stopped too. If a device does not come back from that moment the call fails
 * after the harvest: `out` is written then, and what was given is to be taken all the same, for nobody is told of it again.
 *
 * Returns: 0 or -errno. Errors: as vfiomig_tracker_harvest(); with WITHOUT_DMA also UNSUPPORTED (other devices), DEVICE,
 * PROTOCOL, STALE (others changed a device), ARGUMENT (-ENODEV: a device was freed). Threads: tracker; with WITHOUT_DMA whole. Blocks: in the kernel and in your callbacks. Since: 0.1
 */
int vfiomig_group_harvest(struct vfiomig_group *g,
                          const struct vfiomig_harvest_request *rq,
                          struct vfiomig_harvest_result *out,
                          struct vfiomig_error **errp);

/**
 * What the last call that moved the group's devices did to each of them, also after success.
 *
 * Returns: 0 or -errno. Errors: ARGUMENT. Threads: whole. Blocks: for calls in progress. Since: 0.1
 */
int vfiomig_group_get_report(struct vfiomig_group *g, struct vfiomig_report **out, struct vfiomig_error **errp);

/**
 * Makes a migration in IDLE. While it exists the group's members stay. A save is refused, with every reason, unless all devices
 * are migratable, in RUNNING or STOP, and covered by a tracker.
 *
 * Returns: 0 or -errno. Errors: ARGUMENT, ORDER (the group has a migration), UNSUPPORTED (with every reason). Threads: whole, for
 * the group. Blocks: for calls in progress. Since: 0.1
 */
int vfiomig_migration_new(struct vfiomig_group *g,
                          uint32_t direction,
                          struct vfiomig_migration **out,
                          struct vfiomig_error **errp);

/**
 * Frees a migration; NULL is legal. Waits for the call in progress, stops the trackers that the migration started, and changes no
 * device's state: abort first.
 *
 * Threads: whole; no call on the handle may begin during or after it. Blocks: until the call in progress returns. Since: 0.1
 */
void vfiomig_migration_free(struct vfiomig_migration *m);

/**
 * Brings every device into a phase, through the phases in between, side by side, with a barrier behind each. 0 without effect if
 * it is entered already; never backwards. A wrong order is refused with the phases that may be next, and changes nothing. If a
 * device fails, the others end their step, nobody goes on, and the migration is FAILED; the error has one result per device.
 *
 * To HALTED: refused until each tracker was harvested over all its ranges since STOP_COPY was entered (or
 * VFIOMIG_ADVANCE_F_NO_HARVEST) and the END of each stream was consumed. To LOADED: refused until each stream was stated complete. From
 * SAVE_TRACKING: PRECOPY comes first where a stream is void, and nothing while its session is open (vfiomig_group_resume()). From
 * IDLE: nothing while a save session is open of which the caller has read by itself.
 *
 * Returns: 0 or -errno. Errors: ARGUMENT (-ENODEV: a device was freed), ORDER, CANCELED, DEVICE (-EIO also: a device is in ERROR),
 * PROTOCOL, STALE (others changed a device, or its session is over), UNSUPPORTED (a device is not migratable any more), TRANSPORT (-ENOMEM);
 * after a failure the first error again. Threads: whole. Blocks: in the kernel, for the slowest device of each phase. Since: 0.1
 */
int vfiomig_migration_advance(struct vfiomig_migration *m,
                              uint32_t phase,
                              uint32_t flags,
                              struct vfiomig_error **errp);

/**
 * Brings one device into the next phase, which is entered with the last device.
 *
 * Returns: 0 or -errno. Errors: as vfiomig_migration_advance(); ARGUMENT also for a device that is not in the group. Threads:
 * whole. Blocks: in the kernel. Since: 0.1
 */
int vfiomig_migration_advance_device(struct vfiomig_migration *m,
                                     struct vfiomig_device *d,
                                     uint32_t phase,
                                     struct vfiomig_error **errp);

/**
 * Where the migration stands.
 *
 * Returns: VFIOMIG_PHASE_*; VFIOMIG_PHASE_FAILED for NULL. Threads: any. Blocks: never.
 * Since: 0.1
 */
uint32_t vfiomig_migration_get_phase(const struct vfiomig_migration *m);

/**
 * The name of a phase, without VFIOMIG_PHASE_.
 *
 * Returns: a constant text; "?" for numbers that are no phase. Threads: any. Blocks: never. Since: 0.1
 */
const char *vfiomig_phase_name(uint32_t phase);

/**
 * Asks the library to begin nothing new, and ends its own waits, also in data calls on the migration's devices: for a data fd
 * that is not ready, and for the reset of a device that failed. They end within about 100 ms. A request in the kernel is never
 * interrupted; the resets of vfiomig_migration_abort() and vfiomig_device_reset() are the way out, and wait as ever. It lasts
 * until abort returns. No effect once HALTED or LOAD_RUNNING was begun. Never fails.
 *
 * Threads: any. Blocks: never. Since: 0.1
 */
void vfiomig_migration_cancel(struct vfiomig_migration *m);

/**
 * Brings the devices back; the migration is IDLE again and may begin anew. Save: sessions end, what was sent is void, vCPUs stay
 * stopped until it returns. Load: devices that were touched are reset; refused once all run, for a reset would destroy the
 * guest. `to` is one of VFIOMIG_ABORT_TO_*. A device that cannot be brought back is named by the error, and abort may be called
 * again after the caller has reset it: the library resets no device that holds a guest's state.
 *
 * Once HALTED was begun the guest may run at the destination, and only the caller knows. Then `flags` must have
 * VFIOMIG_ABORT_F_NO_SECOND_GUEST; without it nothing is done, whatever `to` is. The flag is legal at any time. A migration that was
 * freed in HALTED asks nobody any more: vfiomig_group_resume() lets the devices run then, and warns.
 *
 * Data calls that wait for a device of the migration in other threads end with CANCELED. A cancel before it reaches them; one
 * during it does not outlive it.
 *
 * Returns: 0 or -errno. Errors: ARGUMENT, ORDER (LOAD_RUNNING, or HALTED without the flag), DEVICE (-ETIMEDOUT: a stream has no end yet,
 * call again), PROTOCOL, STALE (others changed a device), UNSUPPORTED (no reset), TRANSPORT (-ENOMEM), ARGUMENT (-ENODEV: a device was
 * freed; the others are back). Threads: whole. Blocks: in the kernel. Since: 0.1
 */
int vfiomig_migration_abort(struct vfiomig_migration *m,
                            uint32_t to,
                            uint32_t flags,
                            struct vfiomig_error **errp);

/**
 * What the migration did and how long it took, phase by phase and device by device, so that an operator sees where downtime went.
 *
 * Returns: 0 or -errno. Errors: ARGUMENT. Threads: whole. Blocks: for calls in progress. Since: 0.1
 */
int vfiomig_migration_get_report(struct vfiomig_migration *m,
                                 struct vfiomig_report **out,
                                 struct vfiomig_error **errp);

/**
 * How much is left over all devices. Without VFIOMIG_PENDING_F_EXACT the figures of the last queries, from any thread; with it the
 * devices are asked, which on some makes the next data. A device that is used by a data call now keeps its last figures.
 *
 * Returns: 0 or -errno. Errors: ARGUMENT; of a save STALE, DEVICE or ARGUMENT (-ENODEV), for a member whose session has ended, that is in
 * ERROR or whose handle was freed, as of vfiomig_migration_save_iterate(); with EXACT also DEVICE, PROTOCOL, UNSUPPORTED. Threads: any; with EXACT whole. Blocks: never; with
 * EXACT in the kernel. Since: 0.1
 */
int vfiomig_migration_get_pending(struct vfiomig_migration *m,
                                  uint32_t flags,
                                  struct vfiomig_migration_pending *out,
                                  struct vfiomig_error **errp);

/**
 * For how long the guest would stand still if it were stopped now. Asks no device. Times are those that each device's change from
 * the one state to the other took last, in this process and not in a load; a first save has none but of what was paused. `notes` may be NULL; else it receives a report,
 * also if there is nothing to say, whose text has a line for each part that is unknown and each device that is not ready.
 *
 * Returns: 0 or -errno. Errors: ARGUMENT. Threads: whole. Blocks: for calls in progress. Since: 0.1
 */
int vfiomig_migration_get_estimate(struct vfiomig_migration *m,
                                   const struct vfiomig_migration_estimate_options *o,
                                   struct vfiomig_migration_estimate *out,
                                   struct vfiomig_report **notes,
                                   struct vfiomig_error **errp);

/**
 * One bounded round over all open streams, side by side and fairly by bytes and by time: each device until EMPTY, END or its share
 * of the budget. `budget_bytes` is never exceeded; it is shared evenly, and what one device leaves goes to the others. No read is
 * begun after `budget_ns`; the next round begins behind the device with which this one ended. In pre-copy the sizes are brought up
 * to date behind it; a size that cannot be read is an error, though the bytes were put. `channels` has one element per device, in
 * the order in which they were added, or `channel_count` is 0: then `put` gets all bytes. `moved` is NULL or has room for
 * `moved_count` elements, and gets one per device as far as they go. Each device's bytes come in their order; the pieces that are
 * read ahead are as many as the threads.
 *
 * A descriptor that takes nothing ends its device's part of the round, at once in non-blocking mode, else with `budget_ns`; what it
 * did not take stays in the stream.
 *
 * A member whose session in this migration has ended (STALE), that is in ERROR (DEVICE) or whose handle was freed (ARGUMENT, -ENODEV)
 * fails the migration in the first call that meets it. After vfiomig_group_resume() of a group that was held in pre-copy it is
 * -ESTALE and not FAILED: VFIOMIG_PHASE_SAVE_PRE_COPY can be entered again.
 *
 * Returns: bytes moved or -errno. Errors: ARGUMENT, BUSY (a chunk of a device is out), CANCELED, ORDER (phase), STALE, DEVICE, PROTOCOL,
 * TRANSPORT (`put` or a descriptor failed; -ENOMEM), UNSUPPORTED (a descriptor for a device with segments); after a failure the first
 * error again. Threads: whole. Blocks: in the kernel, in `put`, and
 * on descriptors, which are polled: a cancel ends that wait, as does an abort. Since: 0.1
 */
int64_t vfiomig_migration_save_iterate(struct vfiomig_migration *m,
                                       uint64_t budget_bytes,
                                       uint64_t budget_ns,
                                       const struct vfiomig_channel *channels,
                                       size_t channel_count,
                                       vfiomig_put_fn put,
                                       void *opaque,
                                       struct vfiomig_drain_result *moved,
                                       size_t moved_count,
                                       struct vfiomig_error **errp);

/**
 * Every stream to its END, side by side; success means that each has reached it. Parameters as of
 * vfiomig_migration_save_iterate(). Only in VFIOMIG_PHASE_SAVE_STOP_COPY. Descriptors are served in whatever order they take bytes.
 *
 * Returns: bytes moved or -errno. Errors: as vfiomig_migration_save_iterate(); ORDER in another phase; DEVICE with -EAGAIN if a
 * device was not ready for 60 s, TRANSPORT with -ETIMEDOUT if nothing at all has moved for 60 s, for descriptors take nothing: nothing
 * is lost, call again. Threads: whole. Blocks: in the kernel, in `put`, and on descriptors, which are polled, whatever their mode: a
 * cancel ends that wait, as does an abort. Since: 0.1
 */
int64_t vfiomig_migration_save_complete(struct vfiomig_migration *m,
                                        const struct vfiomig_channel *channels,
                                        size_t channel_count,
                                        vfiomig_put_fn put,
                                        void *opaque,
                                        struct vfiomig_drain_result *moved,
                                        size_t moved_count,
                                        struct vfiomig_error **errp);

/**
 * Every stream into its device, side by side, and vfiomig_device_finish() for each. Only in VFIOMIG_PHASE_LOAD_RESUMING; called again,
 * it goes on with what is not finished. Descriptors are served in whatever order they bring bytes; with `get` the library chooses
 * whose bytes come next. The first failure is returned, and `get` is not called after it.
 *
 * Returns: 0 or -errno. Errors: ARGUMENT (also an end of `get` without `*total`), BUSY (room of a device is out), CANCELED, ORDER
 * (another phase), STALE (a device's session is over or dead), INCOMPLETE (not
 * as long as the saver said), DEVICE, PROTOCOL, TRANSPORT (`get` or a descriptor failed; -ETIMEDOUT as of
 * vfiomig_migration_save_complete()), UNSUPPORTED (a descriptor for a device with segments). Threads: whole. Blocks: in the kernel,
 * in `get`, and on descriptors, which are polled, whatever their mode: a cancel ends that wait, as does an abort. Since: 0.1
 */
int vfiomig_migration_load_complete(struct vfiomig_migration *m,
                                    const struct vfiomig_channel *channels,
                                    size_t channel_count,
                                    vfiomig_get_fn get,
                                    void *opaque,
                                    struct vfiomig_error **errp);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* VFIOMIG_H */
