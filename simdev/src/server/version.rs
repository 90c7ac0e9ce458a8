//! VERSION: what client and server tell each other before anything else.

use super::answer::Answer;
use super::client::{Client, MINOR};
use super::connection::Connection;
use super::options::ServerOptions;
use super::quirks::Quirk;
use super::socket::Socket;
use super::wire::rule;
use crate::base::memory::PAGE;
use serde_json::{Map, Value, json};
use std::os::fd::OwnedFd;

const MAJOR: u16 = 0;
/// Most descriptors of one message that a client may say it takes.
const MOST_FDS: u64 = 1024;

/// {u16 major, u16 minor} and JSON with a NUL. `Err`: what is wrong with it.
pub(super) fn parse(payload: &[u8]) -> Result<Client, String> {
    let &[a, b, c, d, ref text @ ..] = payload else { return Err(format!("VERSION of {} bytes", payload.len())) };
    let (major, minor) = (u16::from_ne_bytes([a, b]), u16::from_ne_bytes([c, d]));
    if major != MAJOR {
        return Err(format!("VERSION {major}.{minor}"));
    }
    let client = Client { minor: minor.min(MINOR), ..Client::default() };
    if text.is_empty() {
        return Ok(client);
    }
    let text = text.strip_suffix(&[0]).ok_or("the JSON of VERSION does not end in NUL")?;
    let root: Value = serde_json::from_slice(text).map_err(|error| format!("the JSON of VERSION: {error}"))?;
    let root = root.as_object().ok_or("the JSON of VERSION is no object")?;
    match root.get("capabilities") {
        None => Ok(client),
        Some(Value::Object(all)) => capabilities(client, all),
        Some(other) => Err(format!("capabilities is {other}")),
    }
}

fn capabilities(client: Client, all: &Map<String, Value>) -> Result<Client, String> {
    let number = |of: &Map<String, Value>, name: &str, default: u64| match of.get(name) {
        None => Ok(default),
        Some(value) => value.as_u64().ok_or_else(|| format!("{name} is {value}")),
    };
    let object = |name: &str| match all.get(name) {
        None => Ok(None),
        Some(Value::Object(inside)) => Ok(Some(inside)),
        Some(other) => Err(format!("{name} is {other}")),
    };
    let fds = number(all, "max_msg_fds", client.max_msg_fds.into())?;
    if fds > MOST_FDS {
        return Err(format!("max_msg_fds is {fds}"));
    }
    let longest = number(all, "max_data_xfer_size", client.max_data_xfer_size.into())?;
    let longest = u32::try_from(longest).map_err(|_| format!("max_data_xfer_size is {longest}"))?;
    if let Some(migration) = object("migration")? {
        let page = number(migration, "pgsize", PAGE)?;
        if page != PAGE {
            return Err(format!("migration.pgsize is {page}"));
        }
    }
    let twin = match object("twin_socket")?.and_then(|twin| twin.get("supported")) {
        None => false,
        Some(value) => value.as_bool().ok_or_else(|| format!("twin_socket.supported is {value}"))?,
    };
    Ok(Client { max_msg_fds: fds as u32, max_data_xfer_size: longest, twin_socket: twin, ..client })
}

/// The answer. `twin`: its first descriptor is the second socket.
pub(super) fn reply(client: &Client, options: &ServerOptions, twin: bool) -> Vec<u8> {
    let mut all = json!({
        "max_msg_fds": options.max_msg_fds,
        "max_data_xfer_size": options.max_data_xfer_size,
    });
    // The crate vfio_user says so although it cannot.
    if options.migratable || options.quirks.has(Quirk::StrayErrors) {
        all["migration"] = json!({ "pgsize": PAGE });
    }
    if twin {
        all["twin_socket"] = json!({ "supported": true, "fd_index": 0 });
    }
    let text = json!({ "capabilities": all }).to_string();
    [&MAJOR.to_ne_bytes()[..], &client.minor.to_ne_bytes(), text.as_bytes(), &[0]].concat()
}

impl Connection<'_> {
    pub(super) fn version(&mut self, payload: &[u8], fds: &[OwnedFd]) -> Result<Answer, i32> {
        if !fds.is_empty() {
            return Err(libc::EINVAL);
        }
        self.client = match parse(payload) {
            Ok(client) => client,
            Err(text) => return self.refuse(rule::AGREED, text, libc::EINVAL),
        };
        let mut fds = Vec::new();
        if self.client.twin_socket && self.options().twin_socket && self.client.max_msg_fds > 0 {
            let (ours, theirs) = Socket::pair().map_err(|error| error.raw_os_error().unwrap_or(libc::EMFILE))?;
            self.twin = Some(ours);
            fds.push(theirs);
        }
        self.agreed = true;
        Ok(Answer { payload: reply(&self.client, self.options(), self.twin.is_some()), fds })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(json: &str) -> Result<Client, String> {
        parse(&[&[0, 0, 1, 0], json.as_bytes(), &[0]].concat())
    }

    #[test]
    fn what_is_not_said_has_its_default() {
        let client = Client { minor: 1, ..Client::default() };
        assert_eq!(parse(&[0, 0, 1, 0]), Ok(client));
        assert_eq!(version("{}"), Ok(client));
        assert_eq!(version(r#"{"capabilities":{"unknown":[1]}}"#), Ok(client));
        let said = version(
            r#"{"capabilities":{"max_msg_fds":8,"max_data_xfer_size":4096,"migration":{"pgsize":4096},"twin_socket":{"supported":true}}}"#,
        );
        let client = Client { minor: 1, max_msg_fds: 8, max_data_xfer_size: 4096, twin_socket: true };
        assert_eq!(said, Ok(client));
    }

    #[test]
    fn nonsense_is_refused() {
        assert!(parse(&[0, 0, 1]).is_err());
        assert!(parse(&[1, 0, 0, 0]).is_err());
        assert!(parse(&[0, 0, 1, 0, b'{', b'}']).is_err());
        for text in [
            "[]",
            "{",
            r#"{"capabilities":1}"#,
            r#"{"capabilities":{"max_msg_fds":"8"}}"#,
            r#"{"capabilities":{"max_msg_fds":1025}}"#,
            r#"{"capabilities":{"max_data_xfer_size":-1}}"#,
            r#"{"capabilities":{"max_data_xfer_size":4294967296}}"#,
            r#"{"capabilities":{"migration":{"pgsize":8192}}}"#,
            r#"{"capabilities":{"twin_socket":true}}"#,
            r#"{"capabilities":{"twin_socket":{"supported":1}}}"#,
        ] {
            assert!(version(text).is_err(), "{text}");
        }
    }
}
