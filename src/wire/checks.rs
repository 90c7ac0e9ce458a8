//! What the fields of a preamble and of a header must be by themselves, whatever came before (docs/wire.md). Pure.

use super::fault::{WireFault, bytes};
use super::frame::{
    FIRST_NAMED, Header, KNOWN_FEATURES, KindRow, MAGIC, MAX_CHANNELS, MAX_NAMES, MAX_PAYLOAD, NO_DEVICE, OPTIONAL,
    Preamble, VERSION, crc, feature_name, u16_at,
};

type Checked = Result<(), WireFault>;

/// Checks that it is a wire, and one of a version that this side knows.
pub(super) fn check_preamble(bytes: &[u8], preamble: Preamble) -> Checked {
    let magic = bytes.get(..MAGIC.len()).unwrap_or_default();
    if magic != MAGIC {
        let text = format!("not a wire: it begins with {magic:02x?}, a wire with {MAGIC:02x?}");
        return Err(WireFault::format(text));
    }
    // Behind these fields another version may have anything.
    let version = u16_at(bytes, 8);
    if version != VERSION {
        return Err(WireFault::unsupported(format!("version {version}: this side knows version {VERSION}")));
    }
    let sums = Preamble::checksums(bytes);
    if sums.0 != sums.1 {
        return Err(WireFault::checksum("the preamble", sums));
    }
    let Preamble { channels, channel, names_len, .. } = preamble;
    if !(1..=MAX_CHANNELS).contains(&channels) || channel >= channels {
        return Err(WireFault::format(format!("channel {channel} of {channels}: a wire has 1 to {MAX_CHANNELS}")));
    }
    if usize::from(names_len) > MAX_NAMES {
        return Err(WireFault::format(format!("feature names of {names_len} bytes, more than {MAX_NAMES}")));
    }
    Ok(())
}

/// Checks that this side knows each feature that is required.
pub(super) fn check_features(preamble: Preamble, names: &[u8]) -> Checked {
    let found = crc(names);
    if found != preamble.names_crc {
        return Err(WireFault::checksum("the feature names", (preamble.names_crc, found)));
    }
    match preamble.required & !KNOWN_FEATURES {
        0 => Ok(()),
        missing => {
            let name = feature_name(names, missing);
            Err(WireFault::unsupported(format!("{name} is required, and this side does not know it")))
        }
    }
}

/// Checks what holds for records of each type. `number`: that of the record that is next.
pub(super) fn check_header(bytes: &[u8], header: Header, number: u64) -> Checked {
    let sums = Header::checksums(bytes);
    if sums.0 != sums.1 {
        return Err(WireFault::checksum("the header", sums));
    }
    if header.number != number {
        return Err(WireFault::differs("number of the record", number, header.number));
    }
    if header.len as usize > MAX_PAYLOAD {
        return Err(WireFault::format(format!("a payload of {} bytes, more than {MAX_PAYLOAD}", header.len)));
    }
    Ok(())
}

/// Checks what the type of a record demands of its header.
pub(super) fn check_row(row: &KindRow, header: Header) -> Checked {
    let unknown = header.unknown_flags(row.flags);
    if unknown != 0 {
        return Err(WireFault::unsupported(format!("{}: flags {unknown:#x} are not known", row.name)));
    }
    match row.device {
        Some(true) if header.device == NO_DEVICE => {
            return Err(WireFault::format(format!("{} names no device", row.name)));
        }
        Some(false) if header.device != NO_DEVICE => {
            return Err(WireFault::format(format!("{} names device {}, but belongs to none", row.name, header.device)));
        }
        _ => {}
    }
    let (least, most) = row.payload;
    if (least..=most).contains(&(header.len as usize)) {
        return Ok(());
    }
    Err(WireFault::format(format!("{}: a payload of {}, not {least} to {most}", row.name, bytes(header.len))))
}

/// Checks the type of a later version. It is refused at once if it is required and its payload does not name it.
pub(super) fn check_later(header: Header) -> Checked {
    let kind = header.kind;
    if kind & OPTIONAL != 0 || kind >= FIRST_NAMED {
        return Ok(());
    }
    Err(WireFault::unsupported(format!("records of type {kind} are required, and this side does not know them")))
}

/// Refuses a record of such a type by its name, once its payload was read, unless the record is optional.
pub(super) fn refuse_later(header: Header, payload: &[u8]) -> Checked {
    if header.kind & OPTIONAL != 0 {
        return Ok(());
    }
    let name = payload.split_first().and_then(|(len, rest)| rest.get(..usize::from(*len)));
    let name = name.map_or("without a name".to_string(), |name| format!("{:?}", String::from_utf8_lossy(name)));
    let kind = header.kind;
    Err(WireFault::unsupported(format!(
        "records of type {kind} ({name}) are required, and this side does not know them"
    )))
}
