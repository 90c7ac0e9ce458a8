//! Devices that are moved together: opened, with their names on the wire, and with the words by which the other side compares
//! them with its own.

use crate::exit::Exit;
use crate::host::{Host, Trouble};
use crate::name::{DeviceName, NamedDevice};
use crate::open::{self, Opened};
use crate::output::Output as Console;
use crate::signals;
use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;
use std::sync::Arc;
use std::time::Duration;
use vfiomig::Error;
use vfiomig::device::{Device, DeviceOptions};
use vfiomig::dialect::{Direction, State};
use vfiomig::group::{Group, GroupOptions};
use vfiomig::migration::Migration;
use vfiomig::tracker::{Tracker, TrackerOptions};
use vfiomig::transport::Transport;
use vfiomig::wire::{DeviceEntry, Table, WireOptions, Word};

/// Region 7 of a PCI device is its configuration space, which begins with vendor and device.
const CONFIG_SPACE: u32 = 7;
/// The vendor that is read where there is no device.
const NO_VENDOR: u16 = 0xffff;

/// Refuses devices or names that are given twice, before one is opened. `None`: there are none.
pub fn usage(out: &Console, named: &[NamedDevice]) -> Option<Exit> {
    let (mut names, mut devices) = (BTreeSet::new(), Vec::<&DeviceName>::new());
    for (place, one) in named.iter().enumerate() {
        let name = name_of(place, one);
        let twice = if devices.iter().any(|known| known.is_same(&one.device)) {
            Some(format!("{} is named twice. Next: name each device once", one.device))
        } else if names.contains(&name) {
            Some(format!("two devices have the name {name}. Next: give each its own, as NAME=DEVICE"))
        } else {
            None
        };
        if let Some(text) = twice {
            out.trouble(&text);
            return Some(Exit::Usage);
        }
        names.insert(name);
        devices.push(&one.device);
    }
    None
}

/// The name of a device: the one that it was given, else one by its place.
fn name_of(place: usize, named: &NamedDevice) -> String {
    named.name.clone().unwrap_or_else(|| format!("device{place}"))
}

/// The devices of one command.
pub struct Set {
    /// They stay open as long as this lives.
    _opened: Vec<Opened>,
    pub devices: Vec<Arc<Device>>,
    pub group: Arc<Group>,
    pub entries: Vec<DeviceEntry>,
}

fn trouble(error: &Error) -> Trouble {
    Trouble::new(error.to_string(), "look at the kernel's log (dmesg), or at the server's")
}

impl Set {
    /// Opens the devices, and asks them what they are and nothing else.
    pub fn open(host: &Host, named: &[NamedDevice], timeout: Duration, direction: Direction) -> Result<Set, Trouble> {
        let group = Arc::new(Group::new(GroupOptions::default()));
        let (mut opened, mut devices, mut entries) = (Vec::new(), Vec::new(), Vec::new());
        for (place, named) in named.iter().enumerate() {
            let name = name_of(place, named);
            let of = |trouble: Trouble| Trouble::new(format!("{}: {}", named.device, trouble.what), trouble.next);
            let one = open::open(host, &named.device, timeout).map_err(of)?;
            let (device, entry) = member(&one, &name).map_err(of)?;
            group.add_device(Arc::clone(&device)).map_err(|error| of(trouble(&error)))?;
            devices.push(device);
            entries.push(entry);
            opened.push(one);
        }
        if direction == Direction::Save {
            // No memory is sent, so no log is needed: a tracker of everything meets what a save asks for.
            let options = TrackerOptions { devices: devices.clone(), everything: true, ..TrackerOptions::default() };
            let tracker = Tracker::new(options).map_err(|error| trouble(&error))?;
            group.add_tracker(Arc::new(tracker)).map_err(|error| trouble(&error))?;
        }
        Ok(Set { _opened: opened, devices, group, entries })
    }

    /// A migration that a signal cancels.
    pub fn migration(&self, direction: Direction) -> Result<Arc<Migration>, Error> {
        let migration = Arc::new(Migration::new(Arc::clone(&self.group), direction)?);
        let weak = Arc::downgrade(&migration);
        signals::on_signal(move || {
            if let Some(migration) = weak.upgrade() {
                migration.cancel();
            }
        });
        Ok(migration)
    }

    /// The table of the wire: the devices are shared out among its channels in turn.
    pub fn table(&self, channels: u16) -> Result<Table, Error> {
        let of = (0..channels).cycle();
        Table::new(
            self.entries.iter().cloned().zip(of).map(|(entry, channel)| DeviceEntry { channel, ..entry }).collect(),
        )
    }

    /// How many bytes are to be expected, if all devices say how many theirs are.
    pub fn expected(&self) -> Option<u64> {
        self.devices.iter().map(|device| device.pending_exact().ok()?.stop_copy_bytes).sum()
    }
}

fn member(opened: &Opened, name: &str) -> Result<(Arc<Device>, DeviceEntry), Trouble> {
    let transport = opened.transport()?;
    let word = identity(&*transport);
    let options = DeviceOptions { name: name.to_string(), ..DeviceOptions::default() };
    let device = Device::new(transport, options).map_err(|error| trouble(&error))?;
    let info = device.info();
    let Some(dialect) = info.dialect else {
        let reason = info.reason.map_or_else(String::new, |reason| reason.to_string());
        return Err(Trouble::new(format!("it cannot be migrated: {reason}"), "vfiomig probe says what is missing"));
    };
    if info.state != State::Running {
        return Err(opened.not_running(info.state));
    }
    let words = word.map(|value| Word { key: "pci".into(), value }).into_iter().collect();
    Ok((Arc::new(device), DeviceEntry { words, ..DeviceEntry::new(name, dialect) }))
}

/// Vendor and device of a PCI device.
fn identity(transport: &dyn Transport) -> Option<String> {
    let mut bytes = [0; 4];
    let len = transport.region_read(CONFIG_SPACE, 0, &mut bytes).ok()?;
    let [a, b, c, d] = bytes;
    let (vendor, device) = (u16::from_le_bytes([a, b]), u16::from_le_bytes([c, d]));
    (len == bytes.len() && vendor != NO_VENDOR).then(|| format!("{vendor:04x}:{device:04x}"))
}

/// The only channel of a wire with a number that no other has.
pub fn wire() -> WireOptions {
    let mut bytes = [0; 8];
    // A wire without a random number is distinguished less well, and that is all.
    let _ = File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut bytes));
    WireOptions { wire: u64::from_ne_bytes(bytes), ..WireOptions::default() }
}
