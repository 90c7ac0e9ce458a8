//! One function per target: it runs one input, and panics where something does not hold.

pub mod bitmap;
pub mod capi;
pub mod migration;
pub mod probe;
pub mod region;
pub mod session;
pub mod tracker;
pub mod vfio_user;
pub mod wire;
