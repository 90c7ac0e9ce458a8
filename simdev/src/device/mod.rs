//! A device as its client and its test have it: requests on one side, eyes and hands on the other.
//!
//! May import: dialects, machine, content, config, base. Start reading at `handle` (what a test holds) and `requests` (what a
//! driver would be asked); `transport` and `ops` bring the library's requests here, `inside` is what the device does by itself,
//! `seen` what can be seen of it, `served` what a server of vfio-user needs of it, `runner` and `writers` are threads that use it.

mod handle;
mod inside;
mod ops;
mod requests;
mod runner;
mod seen;
mod served;
mod transport;
mod writers;

pub use handle::Device;
pub use runner::Runner;
pub use writers::Writers;
