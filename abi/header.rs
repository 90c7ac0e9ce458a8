//! The table of contents of include/vfiomig.h: cbindgen reads these files in this order. This file is not compiled.

#[path = "../src/ffi/library.rs"]
mod library;
#[path = "../src/ffi/error.rs"]
mod error;
#[path = "../src/ffi/error_object.rs"]
mod error_object;
#[path = "../src/ffi/log.rs"]
mod log;
#[path = "../src/transport/ops.rs"]
mod ops;
#[path = "../src/ffi/handle.rs"]
mod handle;
#[path = "../src/ffi/device_data.rs"]
mod device_data;
#[path = "../src/ffi/device_new.rs"]
mod device_new;
#[path = "../src/transport/vfio_user/ops.rs"]
mod vfio_user_ops;
#[path = "../src/ffi/vfio_user.rs"]
mod vfio_user;
#[path = "../src/ffi/vfio_user_connection.rs"]
mod vfio_user_connection;
#[path = "../src/ffi/device.rs"]
mod device;
#[path = "../src/ffi/save.rs"]
mod save;
#[path = "../src/ffi/load.rs"]
mod load;
#[path = "../src/transport/tracker_ops.rs"]
mod tracker_ops;
#[path = "../src/ffi/bitmap.rs"]
mod bitmap;
#[path = "../src/ffi/tracker_data.rs"]
mod tracker_data;
#[path = "../src/ffi/tracker.rs"]
mod tracker;
#[path = "../src/ffi/harvest.rs"]
mod harvest;
#[path = "../src/ffi/report.rs"]
mod report;
#[path = "../src/ffi/progress.rs"]
mod progress;
#[path = "../src/ffi/group.rs"]
mod group;
#[path = "../src/ffi/timings.rs"]
mod timings;
#[path = "../src/ffi/migration.rs"]
mod migration;
#[path = "../src/ffi/estimate.rs"]
mod estimate;
#[path = "../src/ffi/drain.rs"]
mod drain;
#[path = "../src/ffi/ends.rs"]
mod ends;
#[path = "../src/ffi/run_state.rs"]
mod run_state;
#[path = "../src/ffi/wire_table.rs"]
mod wire_table;
#[path = "../src/ffi/wire_object.rs"]
mod wire_object;
#[path = "../src/ffi/writer.rs"]
mod writer;
#[path = "../src/ffi/reader.rs"]
mod reader;
#[path = "../src/ffi/over_wire.rs"]
mod over_wire;
