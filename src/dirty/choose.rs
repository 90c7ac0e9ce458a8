//! Which log a tracker reads, and why: the devices' own if every one has one, else the page tables', else the container's, else
//! none (protocol.md section 4.3). A choice that turns out not to work when it is started makes room for the next.

use super::everything::Everything;
use super::hwpt::Hwpt;
use super::log::{Kind, Log, UnmapOrder};
use super::pfns::PfnLog;
use super::ranged::Ranged;
use super::tracker::Options;
use super::type1::Type1;
use crate::device::Device;
use crate::device::dirty::OwnLog;
use crate::error::{Errno, Result};
use crate::log::log;
use crate::transport::type1::ability;
use parking_lot::Mutex;
use std::sync::Arc;

/// One log with what is known of its health.
pub(crate) struct Source {
    pub log: Mutex<Box<dyn Log>>,
    pub any_thread: bool,
    /// Why it keeps no log although it should: all that is mapped is dirty until a restart helps.
    pub failed: Option<Errno>,
    /// Reads of the last harvest that had any made a thread sleep; before the first it is taken to be so.
    pub waits: bool,
    /// Why it could not be read the last time, as the log of messages was told.
    pub trouble: Option<Errno>,
}

impl Source {
    pub fn new(log: impl Log + 'static) -> Self {
        Source {
            any_thread: log.any_thread(),
            log: Mutex::new(Box::new(log)),
            failed: None,
            waits: true,
            trouble: None,
        }
    }
}

impl Source {
    /// How reading it went. A condition that lasts is told when it begins and when it is over.
    pub fn note(&mut self, name: &str, trouble: Option<Errno>) {
        let what = || self.log.lock().describe();
        match (self.trouble, trouble) {
            (None, Some(errno)) => {
                log!(Error, "{name}: {}: {errno}; everything is sent again until it comes back", what());
            }
            (Some(_), None) => log!(Info, "{name}: {}: it can be read again", what()),
            _ => {}
        }
        self.trouble = trouble;
    }
}

/// A way to know what is dirty. Sources within one are OR-ed, choices are alternatives.
pub(crate) struct Choice {
    pub kind: Kind,
    pub sources: Vec<Source>,
    /// Why this one and none before it.
    pub why: String,
    pub unmap_order: UnmapOrder,
}

fn choice(kind: Kind, sources: Vec<Source>) -> Choice {
    let unmap_order = match kind {
        Kind::Type1 => UnmapOrder::Together,
        Kind::Hwpt => UnmapOrder::ReadThenUnmap,
        Kind::DmaLog | Kind::Draft | Kind::Ops | Kind::Everything => UnmapOrder::UnmapThenRead,
    };
    Choice { kind, sources, why: String::new(), unmap_order }
}

fn own_logs(devices: &[Arc<Device>]) -> std::result::Result<Choice, String> {
    let mut sources = Vec::new();
    let mut all_draft = true;
    for device in devices {
        match device.own_log() {
            Some(OwnLog::Dma) => {
                sources.push(Source::new(Ranged::new(Arc::clone(device))));
                all_draft = false;
            }
            Some(OwnLog::Pfns) => sources.push(Source::new(PfnLog::new(Arc::clone(device)))),
            None => return Err(format!("{} keeps no log of its own", device.name())),
        }
    }
    Ok(choice(if all_draft { Kind::Draft } else { Kind::DmaLog }, sources))
}

/// What can be tried, best first; the last one cannot fail. An error is one of the caller's own functions or descriptors.
pub(crate) fn choices(options: &mut Options) -> Result<Vec<Choice>> {
    let mut all: Vec<Choice> = Vec::new();
    let mut against: Vec<String> = Vec::new();
    if options.everything {
        against.push("asked for by the caller".to_string());
    } else if let Some(functions) = options.functions.take() {
        all.push(choice(Kind::Ops, vec![Source::new(Ranged::new(functions))]));
    } else {
        if options.no_device_log {
            against.push("logs of devices are switched off".to_string());
        } else if options.devices.is_empty() {
            against.push("no device was named".to_string());
        } else {
            match own_logs(&options.devices) {
                Ok(choice) => all.push(choice),
                Err(text) => against.push(text),
            }
        }
        if let Some((iommufd, hwpts)) = &options.hwpts {
            let sources = hwpts.iter().map(|&id| Source::new(Hwpt::new(Arc::clone(iommufd), id))).collect();
            all.push(choice(Kind::Hwpt, sources));
        }
        if let Some(container) = &options.container {
            match ability(&**container) {
                Ok(Some(ability)) => {
                    let log = Type1::new(Arc::clone(container), ability);
                    all.push(choice(Kind::Type1, vec![Source::new(log)]));
                }
                Ok(None) => against.push("the container keeps no log".to_string()),
                Err(errno) => against.push(format!("asking the container failed: {errno}")),
            }
        }
        if all.is_empty() && options.hwpts.is_none() && options.container.is_none() {
            against.push("neither a container nor page tables were named".to_string());
        }
    }
    all.push(choice(Kind::Everything, vec![Source::new(Everything)]));
    let against = against.join("; ");
    for choice in &mut all {
        choice.why = match choice.kind {
            Kind::Ops => "kept by the VMM".to_string(),
            Kind::DmaLog | Kind::Draft => "every device behind the address space keeps a log of its own".to_string(),
            _ => against.clone(),
        };
    }
    Ok(all)
}
