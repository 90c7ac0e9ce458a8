//! The device under check, perhaps a second one, and what is known of them so far.

use super::client::Client;
use super::registers::Registers;
use super::table::{Need, Result, Stop};
use crate::text::count;
use std::collections::BTreeMap;
use std::time::Duration;
use vfiomig::device::Device;
use vfiomig::dialect::{Caps, State};
use vfiomig::error::Errno;
use vfiomig::transport::{Transport, requests};
use vfiomig::window::Quirks;

/// Makes the device write the page at this address. Whether it did.
pub type WritePage<'a> = Box<dyn FnMut(u64) -> bool + 'a>;

/// Makes the library's own device of the same one, or says why there is none.
pub type LibraryDevice<'a> = Box<dyn Fn(Quirks) -> std::result::Result<Device, String> + 'a>;

/// Which protocol it speaks, with a client for it.
pub enum Speaks<'a> {
    /// The device feature.
    V2(Client<'a>),
    /// The migration region, of v1 or of the draft.
    V1(Registers<'a>),
}

/// One device under check.
pub struct Subject<'a> {
    /// The name that the report has.
    pub name: String,
    transport: &'a dyn Transport,
    /// The client of its dialect.
    pub speaks: Speaks<'a>,
    /// The device has a reset.
    pub can_reset: bool,
    /// The device has a log of its own.
    pub has_log: bool,
    /// It is a device of the kernel, and no vfio-user server: it has data fds, and sizes.
    pub kernel: bool,
    /// The whole stream that was saved first.
    pub image: Option<Vec<u8>>,
    /// Where the segments of the image end (v1).
    pub segments: Vec<usize>,
    /// Something else than its own state may be in it: it is reset before it runs.
    pub tainted: bool,
    /// What went wrong on the way back to RUNNING, behind the check.
    pub trouble: Option<Stop>,
    /// Why it can be asked for nothing more.
    pub lost: Option<String>,
    /// Why it has not got the state back that it had before the checks.
    pub unrestored: Option<String>,
    /// Checks that can hang a kernel are allowed.
    pub danger: bool,
    /// Makes the device write to memory, where that is possible.
    pub writer: Option<WritePage<'a>>,
    /// The library's own device of it, which maps its window.
    pub library: Option<LibraryDevice<'a>>,
    /// A second device, which can load what the first has saved.
    pub second: Option<Box<Subject<'a>>>,
    /// What was blamed so far, each with the check that did it.
    pub blamed: BTreeMap<String, &'static str>,
}

impl<'a> Subject<'a> {
    /// A subject that was not asked yet. Fails with the reason where nothing can be checked.
    pub fn new(name: &str, transport: &'a dyn Transport, kernel: bool) -> std::result::Result<Self, String> {
        let flags = requests::migration_flags(transport);
        let speaks = match flags {
            Ok(flags) => {
                let caps = Caps { p2p: flags & 2 != 0, pre_copy: flags & 4 != 0 };
                Speaks::V2(Client::new(transport, caps, kernel))
            }
            Err(errno) => Speaks::V1(Registers::find(transport).ok_or_else(|| nothing_to_check(transport, errno))?),
        };
        let info = requests::device_info(transport);
        Ok(Subject {
            name: name.into(),
            transport,
            speaks,
            can_reset: info.map_or(true, |info| info.can_reset),
            has_log: requests::probe(transport, 6, true).is_ok(),
            kernel,
            image: None,
            segments: Vec::new(),
            tainted: false,
            trouble: None,
            lost: None,
            unrestored: None,
            danger: false,
            writer: None,
            library: None,
            second: None,
            blamed: BTreeMap::new(),
        })
    }

    /// The transport, for single requests.
    pub fn transport(&self) -> &'a dyn Transport {
        self.transport
    }

    /// The client of v2; a check that needs it says so in its row.
    pub fn v2(&mut self) -> Result<&mut Client<'a>> {
        match &mut self.speaks {
            Speaks::V2(client) => Ok(client),
            Speaks::V1(_) => {
                Err(Stop { rule: "P22", blame: "the dialect".into(), text: "it does not speak v2".into() })
            }
        }
    }

    /// The registers of v1; a check that needs them says so in its row.
    pub fn v1(&mut self) -> Result<&mut Registers<'a>> {
        match &mut self.speaks {
            Speaks::V1(registers) => Ok(registers),
            Speaks::V2(_) => {
                Err(Stop { rule: "P22", blame: "the dialect".into(), text: "it does not speak v1".into() })
            }
        }
    }

    fn is_draft(&self) -> bool {
        matches!(&self.speaks, Speaks::V1(registers) if registers.draft)
    }

    /// The abilities of the device.
    pub fn caps(&self) -> Caps {
        match &self.speaks {
            Speaks::V2(client) => client.caps,
            Speaks::V1(registers) => registers.caps,
        }
    }

    /// Resets the device, and tries again for 5 s where the kernel holds a lock (EAGAIN, V2-14).
    pub fn reset(&self) -> std::result::Result<(), vfiomig::error::Errno> {
        let mut tries = 50;
        loop {
            match self.transport.reset() {
                Err(errno) if errno.get() == libc::EAGAIN && tries > 0 => tries = i32::saturating_sub(tries, 1),
                result => return result,
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Finds out by a try whether it has a reset: mtty does not set the flag, and its reset works. For after the first state was read.
    pub fn look_for_reset(&mut self) {
        self.can_reset = self.can_reset || self.transport.reset().is_ok();
    }

    /// Why the subject lacks what a check needs; `None` if it has that.
    pub fn lacks(&self, need: Need) -> Option<&'static str> {
        let v2 = matches!(self.speaks, Speaks::V2(_));
        let (met, why) = match need {
            Need::V2 => (v2, "it has a migration region, of v1 or of the draft"),
            Need::V1 => (!v2, "it speaks v2"),
            Need::Library => (self.library.is_some(), "the library has no device of it"),
            Need::PreCopy => (self.caps().pre_copy, "it has no PRE_COPY"),
            Need::P2p => (self.caps().p2p, "it has no P2P states"),
            Need::NoP2p => (!self.caps().p2p, "it has P2P states, and one of them lies between"),
            Need::Reset => {
                (self.can_reset, "it has no reset, so that what is loaded here could not be taken out again")
            }
            Need::Log => (self.has_log, "it has no log of its own"),
            Need::DraftLog => (self.is_draft(), "it has no log in its migration region, as the draft has"),
            Need::Image => (self.image.is_some(), "there is no stream: saving failed"),
            Need::Writer => (self.writer.is_some(), "it cannot be made to write memory"),
            Need::Second => (self.second.is_some(), "there is no second device"),
            Need::Kernel => (self.kernel, "it is a vfio-user server, of which this is not asked"),
            Need::Danger => (self.danger, "it may hang or crash a host: only with --dangerous"),
        };
        (!met).then_some(why)
    }

    /// The state as the device says it.
    pub fn state(&mut self) -> Result<State> {
        match &mut self.speaks {
            Speaks::V2(client) => client.state(),
            Speaks::V1(registers) => registers.state(),
        }
    }
}

/// Why there is neither the one protocol nor the other.
fn nothing_to_check(transport: &dyn Transport, errno: Errno) -> String {
    let flags = match errno.get() {
        libc::ENOTTY => "it does not offer the device feature of migration (ENOTTY)".to_string(),
        _ => format!("asking for the migration flags failed: {errno}"),
    };
    let region = match requests::device_info(transport) {
        Ok(info) => {
            format!("none of its {} is a migration region of v1 or of the draft", count(info.num_regions, "region"))
        }
        Err(errno) => format!("asking it for its regions failed: {errno}"),
    };
    format!("there is nothing to check: {flags}, and {region}")
}
