//! The devices of a wire, by name (docs/wire.md, "Table"). Pure.

use super::fault::{WireFault, bytes};
use super::frame::{MAX_PAYLOAD, u16_at, u32_at};
use crate::dialect::DialectKind;
use crate::error::{Error, Result};

/// Most devices of a table.
///
/// Example: [`Table`].
pub const MAX_DEVICES: usize = 1024;
/// Most words of all devices together, so that small words need no large memory.
const MAX_WORDS: usize = 4096;
/// Bytes of a device without those of its name and of its words.
const LEAST: usize = 5;

/// One fact of a device, in the VMM's words, such as its `vendor` or its `firmware`.
///
/// Example: [`Table`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Word {
    /// 1 to 255 bytes; a device has each key once.
    pub key: String,
    /// At most 65535 bytes.
    pub value: String,
}

/// A device of a table.
///
/// Example: [`Table`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceEntry {
    /// 1 to 255 bytes; a table has each name once.
    pub name: String,
    /// The protocol that the device speaks, and its stream is made in.
    pub dialect: DialectKind,
    /// The channel that has its records.
    pub channel: u16,
    /// At most 255 words.
    pub words: Vec<Word>,
}

impl DeviceEntry {
    /// A device of channel 0 without words.
    pub fn new(name: impl Into<String>, dialect: DialectKind) -> Self {
        DeviceEntry { name: name.into(), dialect, channel: 0, words: Vec::new() }
    }

    /// The name for a text, without control characters, for it may be a peer's.
    pub(super) fn label(&self) -> String {
        self.name.escape_debug().to_string()
    }

    /// The value of the word with this key.
    pub fn word(&self, key: &str) -> Option<&str> {
        self.words.iter().find(|word| word.key == key).map(|word| word.value.as_str())
    }
}

/// The devices of a wire.
///
/// ```
/// use vfiomig::dialect::DialectKind;
/// use vfiomig::wire::{DeviceEntry, Table, Word};
///
/// let firmware = |value: &str| vec![Word { key: "firmware".into(), value: value.into() }];
/// let entry = |name: &str, words| DeviceEntry { words, ..DeviceEntry::new(name, DialectKind::V2) };
/// let source = Table::new(vec![entry("nic0", firmware("2.1")), entry("gpu0", vec![])])?;
///
/// // The destination side has the same devices in another order, and demands a firmware.
/// let ours = [entry("gpu0", vec![]), entry("nic0", firmware("2.1"))];
/// assert_eq!(source.places(&ours)?, [1, 0]);
/// let error = source.places(&[entry("gpu0", vec![]), entry("nic0", firmware("3.0"))]).unwrap_err();
/// assert!(error.to_string().contains("nic0: firmware: this side has \"3.0\", the wire has \"2.1\""), "{error}");
/// # Ok::<(), vfiomig::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    devices: Vec<DeviceEntry>,
}

impl Table {
    /// Refused (ARGUMENT) if a text or the whole is too long, or if a name or a key is there twice.
    pub fn new(devices: Vec<DeviceEntry>) -> Result<Table> {
        let table = Table { devices };
        let of_caller = |fault: WireFault| Error::argument(fault.at("table of the wire").to_string());
        table.check().map_err(of_caller)?;
        let len = table.encode().len();
        if len > MAX_PAYLOAD {
            return Err(Error::argument(format!("table of the wire: {len} bytes, more than {MAX_PAYLOAD}")));
        }
        Ok(table)
    }

    /// The devices, in the order of their numbers.
    pub fn devices(&self) -> &[DeviceEntry] {
        &self.devices
    }

    /// For each device of the wire, its place in `ours`. Refused (UNSUPPORTED) unless the same devices are on both sides, by
    /// name, with the same dialects, and each word of `ours` has the same value here.
    pub fn places(&self, ours: &[DeviceEntry]) -> Result<Vec<usize>> {
        let refused = |text: String| Error::unsupported(format!("table of the wire: {text}"));
        let mut places = Vec::with_capacity(self.devices.len());
        for device in &self.devices {
            let name = device.label();
            let Some(place) = ours.iter().position(|own| own.name == device.name) else {
                return Err(refused(format!("{name}: this side has no such device, it has {}", names(ours))));
            };
            let own = ours.get(place).unwrap_or(device);
            if own.dialect != device.dialect {
                let (found, wanted) = (device.dialect.name(), own.dialect.name());
                return Err(refused(format!("{name}: dialect: this side has {wanted}, the wire has {found}")));
            }
            for Word { key, value } in &own.words {
                let found = device.word(key);
                if found != Some(value) {
                    let found = found.map_or("no such word".to_string(), |found| format!("{found:?}"));
                    return Err(refused(format!("{name}: {key}: this side has {value:?}, the wire has {found}")));
                }
            }
            places.push(place);
        }
        match ours.iter().find(|own| !self.devices.iter().any(|device| device.name == own.name)) {
            Some(own) => {
                let has = names(&self.devices);
                Err(refused(format!("{}: the wire has no such device, it has {has}", own.label())))
            }
            None => Ok(places),
        }
    }

    /// Checks what holds on both sides, whoever made the table.
    fn check(&self) -> std::result::Result<(), WireFault> {
        if self.devices.len() > MAX_DEVICES {
            return Err(WireFault::format(format!("{} devices, more than {MAX_DEVICES}", self.devices.len())));
        }
        let mut seen: Vec<&str> = self.devices.iter().map(|device| device.name.as_str()).collect();
        seen.sort_unstable();
        if let Some(name) = twice(&seen) {
            return Err(WireFault::format(format!("two devices have the name {name:?}")));
        }
        let words: usize = self.devices.iter().map(|device| device.words.len()).sum();
        if words > MAX_WORDS {
            return Err(WireFault::format(format!("{words} words, more than {MAX_WORDS}")));
        }
        for device in &self.devices {
            let (name, words) = (device.label(), &device.words);
            check_len("a name", &device.name, 1, 255)?;
            if words.len() > 255 {
                return Err(WireFault::format(format!("{name}: {} words, more than 255", words.len())));
            }
            let mut keys: Vec<&str> = words.iter().map(|word| word.key.as_str()).collect();
            keys.sort_unstable();
            if let Some(key) = twice(&keys) {
                return Err(WireFault::format(format!("{name}: two words have the key {key:?}")));
            }
            for Word { key, value } in words {
                check_len("a key", key, 1, 255)?;
                check_len("a value", value, 0, 65535)?;
            }
        }
        Ok(())
    }

    pub(super) fn check_channels(&self, channels: u16) -> std::result::Result<(), WireFault> {
        match self.devices.iter().find(|device| device.channel >= channels) {
            Some(device) => {
                let text = format!("{}: channel {} of a wire of {channels}", device.label(), device.channel);
                Err(WireFault::format(text))
            }
            None => Ok(()),
        }
    }

    /// The payload of the TABLE. `check` has seen all lengths, so that none is cut here.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let text = |bytes: &mut Vec<u8>, text: &str| {
            bytes.push(u8::try_from(text.len()).unwrap_or(u8::MAX));
            bytes.extend(text.as_bytes());
        };
        bytes.extend(u32::try_from(self.devices.len()).unwrap_or(u32::MAX).to_le_bytes());
        for device in &self.devices {
            bytes.extend(device.channel.to_le_bytes());
            bytes.push(device.dialect as u8);
            bytes.push(u8::try_from(device.words.len()).unwrap_or(u8::MAX));
            text(&mut bytes, &device.name);
            for word in &device.words {
                text(&mut bytes, &word.key);
                bytes.extend(u16::try_from(word.value.len()).unwrap_or(u16::MAX).to_le_bytes());
                bytes.extend(word.value.as_bytes());
            }
        }
        bytes
    }

    pub(super) fn decode(payload: &[u8]) -> std::result::Result<Table, WireFault> {
        let mut rest = TableRest { bytes: payload };
        let count = u32_at(rest.take(4)?, 0) as usize;
        // Memory is taken for no more devices than the payload can hold.
        if count > MAX_DEVICES || count > rest.bytes.len() / LEAST {
            return Err(WireFault::format(format!(
                "the table has {}, too few for {count} devices",
                bytes(payload.len())
            )));
        }
        let mut devices = Vec::with_capacity(count);
        for _ in 0..count {
            devices.push(rest.device()?);
        }
        if !rest.bytes.is_empty() {
            return Err(WireFault::format(format!("{} behind the last device", bytes(rest.bytes.len()))));
        }
        let table = Table { devices };
        table.check()?;
        Ok(table)
    }
}

/// The names of devices, as an error shows them.
fn names(devices: &[DeviceEntry]) -> String {
    const SHOWN: usize = 16;
    let names: Vec<String> = devices.iter().take(SHOWN).map(DeviceEntry::label).collect();
    match devices.len().saturating_sub(SHOWN) {
        _ if names.is_empty() => "none".to_string(),
        0 => names.join(", "),
        more => format!("{} and {more} more", names.join(", ")),
    }
}

fn twice<'a>(sorted: &[&'a str]) -> Option<&'a str> {
    sorted.windows(2).find_map(|pair| match pair {
        [one, other] if one == other => Some(*one),
        _ => None,
    })
}

fn check_len(what: &str, text: &str, least: usize, most: usize) -> std::result::Result<(), WireFault> {
    if text.contains('\0') {
        return Err(WireFault::format(format!("{what} with a NUL")));
    }
    match text.len() {
        len if (least..=most).contains(&len) => Ok(()),
        len => Err(WireFault::format(format!("{what} of {len} bytes, not {least} to {most}"))),
    }
}

/// What is left of a table to be read.
struct TableRest<'a> {
    bytes: &'a [u8],
}

impl<'a> TableRest<'a> {
    fn take(&mut self, len: usize) -> std::result::Result<&'a [u8], WireFault> {
        let (taken, after) = self.bytes.split_at_checked(len).ok_or_else(|| {
            WireFault::format(format!("{} of the table should follow, and {} do", bytes(len), self.bytes.len()))
        })?;
        self.bytes = after;
        Ok(taken)
    }

    fn byte(&mut self) -> std::result::Result<u8, WireFault> {
        Ok(self.take(1)?.first().copied().unwrap_or(0))
    }

    fn text(&mut self, len: usize) -> std::result::Result<String, WireFault> {
        let bytes = self.take(len)?;
        let text = std::str::from_utf8(bytes);
        text.map(str::to_string).map_err(|error| WireFault::format(format!("a text is not UTF-8: {error}")))
    }

    fn short_text(&mut self) -> std::result::Result<String, WireFault> {
        let len = self.byte()?;
        self.text(usize::from(len))
    }

    fn device(&mut self) -> std::result::Result<DeviceEntry, WireFault> {
        let channel = u16_at(self.take(2)?, 0);
        let number = self.byte()?;
        let known = [DialectKind::Draft, DialectKind::V1, DialectKind::V2].into_iter();
        let dialect = known.into_iter().find(|kind| *kind as u8 == number);
        let dialect = dialect.ok_or_else(|| WireFault::format(format!("dialect {number} is not known")))?;
        let count = self.byte()?;
        let name = self.short_text()?;
        let mut words = Vec::new();
        for _ in 0..count {
            let key = self.short_text()?;
            let len = u16_at(self.take(2)?, 0);
            words.push(Word { key, value: self.text(usize::from(len))? });
        }
        Ok(DeviceEntry { name, dialect, channel, words })
    }
}
