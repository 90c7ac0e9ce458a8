//! The first message: version and capabilities (U-2, U-19).

use super::exchange::VfioUserLimits;
use super::payload::{Payload, ReplyPayload};
use crate::error::Error;
use serde_json::{Value, json};

/// The minor version that this library speaks, of 0.2.
const MINOR: u16 = 2;
/// Most bytes of a reply to VERSION; a longer one is refused.
pub(super) const MOST_REPLY: usize = 64 << 10;
/// The least limit of data that is agreed on: a page of state.
const LEAST_DATA: u64 = 4096;

/// What the client offers in its first message.
#[derive(Clone, Copy, Debug)]
pub(super) struct VersionOffer {
    pub max_data: usize,
    pub max_fds: usize,
    /// Bytes of a page of the log; `None`: the server's own.
    pub page_size: Option<u64>,
    /// A second socket for the server's own requests is asked for.
    pub twin: bool,
}

/// What a server answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Agreed {
    pub limits: VfioUserLimits,
    /// Which descriptor of the reply is the second socket.
    pub twin: Option<usize>,
    /// The server says that its device can be migrated: a hint only (U-3).
    pub migratable: bool,
}

impl VersionOffer {
    /// The page size to offer on a host with such pages. Servers refuse one that is not theirs, where the specification has them take
    /// the smaller one. So what is not the usual size is not offered, and the server says its own (U-2).
    pub fn page_size_on(host_page: usize) -> Option<u64> {
        u64::try_from(host_page).ok().filter(|&page| page == VfioUserLimits::default().page_size)
    }

    pub fn request(&self) -> Payload {
        let mut capabilities = json!({
            "max_msg_fds": self.max_fds,
            "max_data_xfer_size": self.max_data,
        });
        if let Some(list) = capabilities.as_object_mut() {
            // Empty it would be refused by servers that must find the size there (the crate vfio_user).
            list.extend(self.page_size.map(|size| ("migration".to_string(), json!({ "pgsize": size }))));
            list.extend(self.twin.then(|| ("twin_socket".to_string(), json!({ "supported": true }))));
        }
        let text = json!({ "capabilities": capabilities }).to_string();
        let version = [0u16.to_ne_bytes(), MINOR.to_ne_bytes()].concat();
        Payload::default().bytes(&version).bytes(text.as_bytes()).bytes(&[0])
    }

    /// Reads the reply to VERSION. PROTOCOL for what no server may answer, UNSUPPORTED for another version.
    pub fn read(&self, reply: &[u8]) -> Result<Agreed, Error> {
        let head = ReplyPayload(reply).part(0, 4).map_err(|_| bad("it is shorter than a version"))?;
        let number = |at| crate::transport::feature::field(head, at).map_or(0, u16::from_ne_bytes);
        let (major, minor) = (number(0), number(2));
        if major != 0 || minor > MINOR {
            let text = format!("the server speaks version {major}.{minor}, and this library 0.{MINOR}");
            return Err(Error::unsupported(text));
        }
        let said = capabilities(reply.get(4..).unwrap_or(&[]))?;
        let usual = VfioUserLimits::default();
        let number = |name: &str, least: u64, default: u64| match said.get(name) {
            None => Ok(default),
            Some(value) => {
                value.as_u64().filter(|&value| value >= least).ok_or_else(|| bad(&format!("{name}: {value}")))
            }
        };
        let max_data = number("max_data_xfer_size", LEAST_DATA, usual.max_data as u64)?;
        let max_fds = number("max_msg_fds", 0, usual.max_fds as u64)?;
        let unsaid = self.page_size.unwrap_or(usual.page_size);
        let page_size = said.pointer("/migration/pgsize").map_or(Some(unsaid), Value::as_u64);
        let page_size = page_size.filter(|size| size.is_power_of_two() && *size >= 4096);
        Ok(Agreed {
            limits: VfioUserLimits {
                minor,
                max_data: usize::try_from(max_data).unwrap_or(usize::MAX).min(self.max_data),
                max_fds: usize::try_from(max_fds).unwrap_or(usize::MAX).min(self.max_fds),
                page_size: page_size.ok_or_else(|| bad("migration.pgsize is no page size"))?,
            },
            twin: self.twin_of(&said)?,
            migratable: said.get("migration").is_some(),
        })
    }

    fn twin_of(&self, said: &Value) -> Result<Option<usize>, Error> {
        let Some(twin) = said.get("twin_socket") else { return Ok(None) };
        if twin.get("supported").and_then(Value::as_bool) != Some(true) || !self.twin {
            return Ok(None);
        }
        // A server that gives no index means the first descriptor.
        let index = twin.get("fd_index").map_or(Some(0), Value::as_u64);
        let index = index.and_then(|index| usize::try_from(index).ok());
        index.map(Some).ok_or_else(|| bad("twin_socket.fd_index is no index"))
    }
}

fn bad(what: &str) -> Error {
    Error::protocol(format!("the server's answer to VERSION makes no sense: {what}"))
}

/// The capabilities of the reply; Null where it has no text.
fn capabilities(text: &[u8]) -> Result<Value, Error> {
    if text.is_empty() {
        return Ok(Value::Null);
    }
    let text = text.split_last().filter(|(end, _)| **end == 0).map(|(_, text)| text);
    let text = text.ok_or_else(|| bad("its text does not end with a NUL"))?;
    let value: Value = serde_json::from_slice(text).map_err(|error| bad(&error.to_string()))?;
    Ok(value.get("capabilities").cloned().unwrap_or(Value::Null))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    const OFFER: VersionOffer = VersionOffer { max_data: 1 << 20, max_fds: 8, page_size: Some(4096), twin: true };

    fn reply(major: u16, minor: u16, text: &str) -> Vec<u8> {
        [&major.to_ne_bytes()[..], &minor.to_ne_bytes(), text.as_bytes()].concat()
    }

    #[test]
    fn the_offer_is_text_with_an_end() {
        let request = OFFER.request();
        let bytes = request.as_slice();
        assert_eq!((bytes[..4].to_vec(), bytes.last()), (vec![0, 0, 2, 0], Some(&0)));
        let said: Value = serde_json::from_slice(&bytes[4..bytes.len() - 1]).unwrap();
        let wanted = json!({"capabilities": {"max_msg_fds": 8, "max_data_xfer_size": 1 << 20,
            "migration": {"pgsize": 4096}, "twin_socket": {"supported": true}}});
        assert_eq!(said, wanted);
    }

    #[test]
    fn pages_that_a_server_may_refuse_are_not_offered() {
        assert_eq!([4096, 16 << 10, 64 << 10].map(VersionOffer::page_size_on), [Some(4096), None, None]);
        let offer = VersionOffer { page_size: None, twin: false, ..OFFER };
        let request = offer.request();
        let bytes = request.as_slice();
        let said: Value = serde_json::from_slice(&bytes[4..bytes.len() - 1]).unwrap();
        assert_eq!(said, json!({"capabilities": {"max_msg_fds": 8, "max_data_xfer_size": 1 << 20}}));
        // The server's own counts.
        let agreed = |text: &str| offer.read(&reply(0, 2, text)).unwrap().limits.page_size;
        let texts = ["", "{\"capabilities\":{\"migration\":{\"pgsize\":65536}}}\0"];
        assert_eq!(texts.map(agreed), [4096, 65536]);
    }

    #[test]
    fn what_was_not_said_is_the_default_and_what_was_is_bounded() {
        let agreed = |text: &str| OFFER.read(&reply(0, 1, text)).unwrap();
        let usual = agreed("");
        assert_eq!(usual.limits, VfioUserLimits { minor: 1, ..VfioUserLimits::default() });
        assert_eq!((usual.twin, usual.migratable), (None, false));
        let text = r#"{"capabilities":{"max_msg_fds":100,"max_data_xfer_size":8192,"migration":{"pgsize":65536},
            "twin_socket":{"supported":true,"fd_index":1}}}"#;
        let all = agreed(&format!("{text}\0"));
        assert_eq!(all.limits, VfioUserLimits { minor: 1, max_data: 8192, max_fds: 8, page_size: 65536 });
        assert_eq!((all.twin, all.migratable), (Some(1), true));
        let large = agreed("{\"capabilities\":{\"max_data_xfer_size\":18446744073709551615}}\0");
        assert_eq!(large.limits.max_data, 1 << 20);
        // Not asked for, so not taken.
        let alone = VersionOffer { twin: false, ..OFFER }.read(&reply(0, 2, &format!("{text}\0"))).unwrap();
        assert_eq!(alone.twin, None);
    }

    #[test]
    fn nonsense_is_refused() {
        for text in [
            "{}",
            "{\0",
            "\0",
            "{\"capabilities\":{\"max_data_xfer_size\":-1}}\0",
            "{\"capabilities\":{\"max_data_xfer_size\":100}}\0",
            "{\"capabilities\":{\"max_msg_fds\":\"8\"}}\0",
            "{\"capabilities\":{\"migration\":{\"pgsize\":1000}}}\0",
            "{\"capabilities\":{\"migration\":{\"pgsize\":2048}}}\0",
            "{\"capabilities\":{\"twin_socket\":{\"supported\":true,\"fd_index\":-1}}}\0",
        ] {
            assert_eq!(OFFER.read(&reply(0, 2, text)).unwrap_err().kind(), ErrorKind::Protocol, "{text}");
        }
        for len in 0..4 {
            assert_eq!(OFFER.read(&reply(0, 2, "")[..len]).unwrap_err().kind(), ErrorKind::Protocol);
        }
        for (major, minor) in [(1, 0), (0, 3)] {
            assert_eq!(OFFER.read(&reply(major, minor, "")).unwrap_err().kind(), ErrorKind::Unsupported);
        }
    }
}
