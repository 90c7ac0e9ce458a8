//! What is known of a device without changing it: for `probe` and `info`.

use crate::host::{Host, Trouble};
use crate::name::DeviceName;
use crate::open::{self, Opened};
use serde_json::{Value, json};
use std::time::Duration;
use vfiomig::device::{CapFlags, Device, DeviceInfo};
use vfiomig::dialect::{DialectKind, State};
use vfiomig::transport::requests;

/// A device, as far as it could be asked.
pub struct Facts {
    pub name: DeviceName,
    /// The state and the abilities of one that can be migrated; else why not.
    pub asked: Result<Answers, Trouble>,
    sysfs: Value,
}

/// What a device that can be migrated says.
pub struct Answers {
    pub info: DeviceInfo,
    /// Why it is not moved in the state that it is in.
    pub stands: Option<Trouble>,
    /// What keeps the dirty pages, in words.
    pub log: String,
    opened_by: &'static str,
    has_log: bool,
    iommu_dirty: Option<bool>,
}

/// Opens the device, asks it and closes it.
pub fn ask(host: &Host, name: &DeviceName, timeout: Duration) -> Facts {
    match open::open(host, name, timeout) {
        Ok(opened) => of(host, &opened).0,
        Err(trouble) => failed(host, name, trouble),
    }
}

/// The facts of a device that could not be opened.
pub fn failed(host: &Host, name: &DeviceName, trouble: Trouble) -> Facts {
    Facts { name: name.clone(), asked: Err(trouble), sysfs: sysfs(host, name) }
}

/// The facts of a device that is open, with the library's device, if it could be made.
pub fn of(host: &Host, opened: &Opened) -> (Facts, Option<Device>) {
    let sysfs = sysfs(host, &opened.name);
    let (asked, device) = match opened.device() {
        Err(trouble) => (Err(trouble), None),
        Ok(device) => {
            let asked = answers(host, opened, &device);
            (asked, Some(device))
        }
    };
    (Facts { name: opened.name.clone(), asked, sysfs }, device)
}

fn answers(host: &Host, opened: &Opened, device: &Device) -> Result<Answers, Trouble> {
    let info = device.info();
    if let Some(reason) = &info.reason {
        let reason = reason.to_string();
        return Err(match &opened.found {
            Some(found) => found.not_migratable(host, &reason).of_device(),
            None => Trouble::new(
                format!("the server offers no migration ({reason})"),
                "look whether the server has an option for it; the device that it serves may be unable to migrate",
            )
            .of_device(),
        });
    }
    let transport = opened.transport()?;
    // Feature 6 is START of the device's own log; a server of the first generation has a log without saying so here.
    let has_log = requests::probe(&*transport, 6, true).is_ok();
    let iommu_dirty = opened.iommu_dirty();
    let log = match (has_log, iommu_dirty, opened.opened_by()) {
        (true, _, _) => "the device's own",
        (false, Some(true), _) => "by the IOMMU's page tables",
        (false, Some(false), _) => {
            "none: neither the device nor the IOMMU notes what is written, so all memory is dirty at all times"
        }
        (false, None, "group") => "by the container: exact for mediated devices only",
        (false, None, "vfio-user") if info.dialect == Some(DialectKind::V1) => "by DIRTY_PAGES",
        (false, None, _) => "none of the device's own",
    };
    let stands = (info.state != State::Running).then(|| opened.not_running(info.state));
    Ok(Answers { info, stands, log: log.into(), opened_by: opened.opened_by(), has_log, iommu_dirty })
}

fn sysfs(host: &Host, name: &DeviceName) -> Value {
    match host.find(name) {
        Err(_) => json!({"kind": if matches!(name, DeviceName::Socket(_)) { "vfio-user" } else { "unknown" }}),
        Ok(found) => json!({
            "kind": found.kind.name(),
            "id": found.id,
            "driver": found.driver,
            "group": found.group,
            "cdev": found.cdev.as_ref().map(|path| path.display().to_string()),
            "vendor": found.pci_id.map(|id| format!("{:04x}", id.0)),
            "device": found.pci_id.map(|id| format!("{:04x}", id.1)),
        }),
    }
}

/// The names of abilities of a device.
const ABILITIES: [(CapFlags, &str); 4] = [
    (CapFlags::PRE_COPY, "pre-copy"),
    (CapFlags::P2P, "p2p"),
    (CapFlags::RESET, "reset"),
    (CapFlags::REINIT, "reinit"),
];

impl Answers {
    /// The names of its abilities.
    pub fn abilities(&self) -> Vec<&'static str> {
        ABILITIES.iter().filter(|row| self.info.caps.contains(row.0)).map(|row| row.1).collect()
    }

    /// The name of its dialect.
    pub fn dialect(&self) -> &'static str {
        self.info.dialect.map_or("none", DialectKind::name)
    }
}

impl Facts {
    /// The name of its driver; `vfio-user` where it is a server.
    pub fn driver(&self) -> &str {
        let word = |key| self.sysfs.get(key).and_then(Value::as_str);
        word("driver").unwrap_or(if word("kind") == Some("vfio-user") { "vfio-user" } else { "no driver" })
    }

    /// Whether it can be migrated; `None`: it could not be asked.
    pub fn migratable(&self) -> Option<bool> {
        match &self.asked {
            Ok(_) => Some(true),
            Err(trouble) => trouble.of_device.then_some(false),
        }
    }

    /// The facts for programs, with the same keys for every device.
    pub fn json(&self) -> Value {
        let mut value = json!({
            "name": self.name.to_string(),
            "migratable": self.migratable(),
            "opened_by": Value::Null, "dialect": Value::Null, "capabilities": Value::Null, "state": Value::Null,
            "dirty_log": Value::Null, "reason": Value::Null, "next": Value::Null,
            "id": Value::Null, "driver": Value::Null, "group": Value::Null, "cdev": Value::Null,
            "vendor": Value::Null, "device": Value::Null,
        });
        let more = match &self.asked {
            Ok(answers) => json!({
                "opened_by": answers.opened_by,
                "dialect": answers.dialect(),
                "capabilities": answers.abilities(),
                "state": answers.info.state.name(),
                "dirty_log": {"device": answers.has_log, "iommu": answers.iommu_dirty, "text": answers.log},
                "reason": answers.stands.as_ref().map(|trouble| &trouble.what),
                "next": answers.stands.as_ref().map(|trouble| &trouble.next),
            }),
            Err(trouble) => json!({"reason": trouble.what, "next": trouble.next}),
        };
        merge(&mut value, &self.sysfs);
        merge(&mut value, &more);
        value
    }
}

/// Adds the members of one object to another.
pub fn merge(into: &mut Value, from: &Value) {
    if let (Some(into), Some(from)) = (into.as_object_mut(), from.as_object()) {
        into.extend(from.iter().map(|(key, value)| (key.clone(), value.clone())));
    }
}
