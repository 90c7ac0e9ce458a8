//! Devices of a wire as C has them.

use super::device_data::{VFIOMIG_DIALECT_DRAFT, VFIOMIG_DIALECT_NONE, VFIOMIG_DIALECT_V2};
use super::input::{slice, text_of};
use crate::dialect::DialectKind;
use crate::error::{Error, Result};
use crate::group::Group;
use crate::wire::{DeviceEntry, Table, Word};
use std::ffi::{CStr, CString, c_char};

/// What a device is, in the VMM's words: "vendor", "firmware". Fixed layout, never grows.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct vfiomig_wire_word {
    /// 1 to 255 bytes; once for each device.
    pub key: *const c_char,
    /// At most 65535 bytes.
    pub value: *const c_char,
}

/// A device of a wire. Fixed layout, never grows.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct vfiomig_wire_device {
    /// The device's name.
    pub name: *const c_char,
    /// VFIOMIG_DIALECT_*; VFIOMIG_DIALECT_NONE where the device of that name is in a group, which
    /// knows.
    pub dialect: u32,
    /// The channel that has its records.
    pub channel: u32,
    /// May be NULL if `word_count` is 0.
    pub words: *const vfiomig_wire_word,
    /// At most 255.
    pub word_count: usize,
}

const _: () = assert!(size_of::<vfiomig_wire_word>() == 16 && size_of::<vfiomig_wire_device>() == 32);

/// # Safety
/// `text` is NULL or a C string.
unsafe fn given_text(what: &str, text: *const c_char) -> Result<String> {
    if text.is_null() {
        return Err(Error::argument(format!("{what} is NULL")));
    }
    // SAFETY: not NULL, so a C string by the contract of this function.
    Ok(text_of(unsafe { CStr::from_ptr(text) }))
}

/// Devices as the caller has them; `None` for a dialect that was left out.
///
/// # Safety
/// NULL or readable for `count`, with names and words that are C strings.
pub(super) unsafe fn devices_of(
    first: *const vfiomig_wire_device,
    count: usize,
) -> Result<Vec<(DeviceEntry, Option<DialectKind>)>> {
    let mut devices = Vec::new();
    // SAFETY: the contract of this function.
    for device in unsafe { slice("devices", first, count) }? {
        // SAFETY: the contract of this function.
        let name = unsafe { given_text("devices: a name", device.name) }?;
        let dialect = match device.dialect {
            VFIOMIG_DIALECT_NONE => None,
            number @ VFIOMIG_DIALECT_DRAFT..=VFIOMIG_DIALECT_V2 => DialectKind::from_number(number),
            other => return Err(Error::argument(format!("devices: {name}: dialect {other} is not known"))),
        };
        let channel = u16::try_from(device.channel)
            .map_err(|_| Error::argument(format!("devices: {name}: there is no channel {}", device.channel)))?;
        let mut words = Vec::new();
        // SAFETY: the contract of this function.
        for word in unsafe { slice("words", device.words, device.word_count) }? {
            // SAFETY: the contract of this function.
            let key = unsafe { given_text("words: a key", word.key) }?;
            // SAFETY: the contract of this function.
            words.push(Word { key, value: unsafe { given_text("words: a value", word.value) }? });
        }
        devices.push((DeviceEntry { name, dialect: dialect.unwrap_or(DialectKind::V2), channel, words }, dialect));
    }
    Ok(devices)
}

/// The devices of a group, in their order.
pub(super) fn entries_of(group: &Group) -> Result<Vec<DeviceEntry>> {
    let entry = |device: &std::sync::Arc<crate::device::Device>| {
        let kind = device.info().dialect;
        let kind = kind.ok_or_else(|| Error::unsupported(format!("{}: not migratable", device.name())))?;
        Ok(DeviceEntry::new(device.name(), kind))
    };
    group.devices()?.iter().map(entry).collect()
}

/// A table in the form that C reads, whose pointers stay as long as it does.
pub(super) struct TableForC {
    devices: Vec<vfiomig_wire_device>,
    /// What the pointers lead to.
    _words: Vec<Vec<vfiomig_wire_word>>,
    _texts: Vec<CString>,
}

// SAFETY: its pointers lead to memory that it owns, and that is not changed once it was made.
unsafe impl Send for TableForC {}
// SAFETY: as above.
unsafe impl Sync for TableForC {}

impl TableForC {
    pub fn new(table: &Table) -> Self {
        let (mut devices, mut all_words, mut texts) = (Vec::new(), Vec::new(), Vec::new());
        // A table has no text with a NUL.
        let mut keep = |text: &str| {
            let text = CString::new(text).unwrap_or_default();
            let pointer = text.as_ptr();
            texts.push(text);
            pointer
        };
        for device in table.devices() {
            let word = |word: &Word| vfiomig_wire_word { key: keep(&word.key), value: keep(&word.value) };
            let words: Vec<vfiomig_wire_word> = device.words.iter().map(word).collect();
            devices.push(vfiomig_wire_device {
                name: keep(&device.name),
                dialect: device.dialect as u32,
                channel: u32::from(device.channel),
                words: words.as_ptr(),
                word_count: words.len(),
            });
            all_words.push(words);
        }
        TableForC { devices, _words: all_words, _texts: texts }
    }

    pub fn device(&self, index: usize) -> Option<vfiomig_wire_device> {
        self.devices.get(index).copied()
    }
}
