//! The process that has a device open.

use super::{Host, names};
use std::fs;
use std::path::PathBuf;

/// A process that has a node of the device open.
pub struct Holder {
    pub pid: u32,
    pub name: String,
    pub node: PathBuf,
}

/// The first process that has one of the nodes open, as far as this user may know.
pub fn find(host: &Host, nodes: &[PathBuf]) -> Option<Holder> {
    let proc = host.path("/proc");
    let own = std::process::id();
    let pids = names(&proc).filter_map(|name| name.parse::<u32>().ok()).filter(|pid| *pid != own);
    pids.into_iter().find_map(|pid| {
        let dir = proc.join(pid.to_string());
        let fds = names(&dir.join("fd")).filter_map(|fd| fs::read_link(dir.join("fd").join(fd)).ok());
        let node = fds.into_iter().find(|open| nodes.contains(open))?;
        let name = host.text(dir.join("comm")).unwrap_or_else(|| "?".into());
        Some(Holder { pid, name, node })
    })
}
