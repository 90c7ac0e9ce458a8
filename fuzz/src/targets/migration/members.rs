//! The devices of a group: software devices with faults, and hostile ones.

use crate::errors::check_error;
use crate::feed::Feed;
use crate::hostile::{HostileTransport, Shared};
use parking_lot::Mutex;
use simdev::{Access, Config, DraftForm, Effect, Fault, Window};
use std::sync::Arc;
use vfiomig::device::{Device, DeviceOptions, OnFailure};
use vfiomig::dialect::{Caps, DialectKind, State};
use vfiomig::transport::Transport;

pub(super) enum Fake {
    Sim(Box<simdev::Device>),
    Hostile(Arc<Shared>),
}

pub(super) struct Member {
    pub(super) fake: Fake,
    pub(super) device: Arc<Device>,
    /// What is to be loaded into it: pieces, and whether a segment ends with them.
    pub(super) stream: Vec<(Vec<u8>, bool)>,
    /// How far the load has come: the handle's session, and pieces.
    pub(super) place: (u64, usize),
    /// It has been told to fail, or somebody has used it beside the migration.
    pub(super) broken: bool,
}

impl Member {
    /// None where the library refuses the device.
    pub(super) fn new(feed: &Arc<Mutex<Feed>>, number: usize, hostile: bool, loads: bool) -> Option<Member> {
        let mut f = feed.lock();
        let mut stream = Vec::new();
        let (fake, transport, dialect): (Fake, Box<dyn Transport>, _) = if hostile {
            let kind = [DialectKind::V2, DialectKind::V2, DialectKind::V1, DialectKind::Draft][f.u8() as usize % 4];
            drop(f);
            let shared = Shared::new(feed, Some(kind));
            let transport = Box::new(HostileTransport(Arc::clone(&shared)));
            (Fake::Hostile(shared), transport, Some(kind))
        } else {
            let config = config(&mut f, loads);
            drop(f);
            if loads {
                stream = stream_of(config.clone().seeded(number as u64 + 9));
            }
            let dialect = dialect(&config);
            let device = simdev::Device::new(config);
            let transport = device.transport();
            (Fake::Sim(Box::new(device)), transport, dialect)
        };
        let options =
            DeviceOptions { name: format!("d{number}"), dialect, buffer_size: Some(4096), ..DeviceOptions::default() };
        match Device::new(transport, options) {
            Ok(device) => Some(Member { fake, device: Arc::new(device), stream, place: (0, 0), broken: false }),
            Err(error) => {
                check_error(&error);
                None
            }
        }
    }

    pub(super) fn resets(&self) -> u64 {
        match &self.fake {
            Fake::Sim(device) => device.resets(),
            Fake::Hostile(shared) => shared.st.lock().resets,
        }
    }

    /// A fault of a software device.
    pub(super) fn inject(&mut self, f: &mut Feed, number: u8) {
        let Fake::Sim(device) = &self.fake else { return };
        let access = ACCESSES[number as usize % 16];
        let times = if f.lies() { u64::MAX } else { 1 };
        let nth = device.count(access) + u64::from(f.u8() % 16);
        let effect = effect(f);
        device.inject(Fault { access, nth, times, effect });
        self.broken = true;
    }

    /// The end: it has nothing of the library's left, and was asked nothing that is forbidden.
    pub(super) fn close(&self) {
        self.device.close().unwrap_or(());
        match &self.fake {
            Fake::Sim(sim) => {
                assert_eq!(sim.mappings(), 0, "mappings that were not given back");
                let violations = sim.violations();
                assert!(self.broken || violations.is_empty(), "{violations:?}");
            }
            Fake::Hostile(shared) => {
                let st = shared.st.lock();
                assert_eq!(st.data_objects, 0, "data fds that were not closed");
                assert!(st.maps.is_empty());
            }
        }
    }
}

const ACCESSES: [Access; 16] = [
    Access::Any,
    Access::StateRead,
    Access::StateWrite,
    Access::PendingRead,
    Access::DataOffsetRead,
    Access::DataSizeRead,
    Access::DataSizeWrite,
    Access::DataRead,
    Access::DataWrite,
    Access::Reset,
    Access::PrecopyInfo,
    Access::StopCopySize,
    Access::RegionMap,
    Access::GetMigration,
    Access::CopiedPfnsRead,
    Access::PfnWrite,
];

fn effect(f: &mut Feed) -> Effect {
    match f.u8() % 8 {
        0 | 1 => Effect::Errno(f.errno()),
        2 => Effect::ErrnoMoved(libc::EMFILE),
        3 => Effect::ToError(libc::EIO),
        4 => Effect::Lie(f.size()),
        5 => Effect::NoFd,
        6 => Effect::Short(f.u8() as usize),
        _ => Effect::UnexpectedFd,
    }
}

fn config(f: &mut Feed, fresh: bool) -> Config {
    let n = f.u8();
    let window = [Window::Trapped, Window::Whole, Window::Area, Window::Gap][n as usize >> 4 & 3].clone();
    let base = match n % 7 {
        0 => Config::v2(Caps { p2p: true, pre_copy: true }),
        1 => Config::v2(Caps { p2p: false, pre_copy: true }),
        2 => Config::v2(Caps { p2p: true, pre_copy: false }),
        3 => Config::v2(Caps { p2p: false, pre_copy: false }),
        4 => Config::v1(window),
        5 => Config::v1_ndma(window),
        _ => Config::draft(if n & 0x80 != 0 { DraftForm::Sticky } else { DraftForm::Rewrite }),
    };
    let mut config = base.state_size(300 + 100 * usize::from(n >> 6)).segments(256);
    config.abort_allowed = true;
    if !fresh {
        config.seed = Some(u64::from(n) + 1);
    }
    config
}

fn dialect(config: &Config) -> Option<DialectKind> {
    matches!(config.dialect, simdev::Dialect::Draft { .. }).then_some(DialectKind::Draft)
}

/// What a device of this kind gives.
fn stream_of(config: Config) -> Vec<(Vec<u8>, bool)> {
    let options = DeviceOptions { dialect: dialect(&config), ..DeviceOptions::default() };
    let source = simdev::Device::new(config);
    let device = Device::new(source.transport(), options).unwrap();
    device.set_state(State::StopCopy, OnFailure::Keep, false).unwrap();
    let mut stream = Vec::new();
    loop {
        let mut buf = vec![0; 500];
        let (len, flags) = device.read(&mut buf).unwrap();
        if len == 0 {
            return stream;
        }
        stream.push((buf[..len].to_vec(), flags.contains(vfiomig::window::StreamFlags::SEGMENT_END)));
    }
}
