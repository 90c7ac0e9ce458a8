//! v2: VFIO_DEVICE_FEATURE and the data fd. Start reading at `feature`, the one request that there is; `state` moves the device,
//! `stream` is the data fd, `sizes` what is left in it, `poll` when it is ready, `dma_log` the log of written pages.

mod dma_log;
mod feature;
mod poll;
mod sizes;
mod state;
mod stream;

pub(crate) use feature::feature;
