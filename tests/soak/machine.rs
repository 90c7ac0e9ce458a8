//! A virtual machine: four devices of four kinds, each with its log of written pages, over one RAM.

use crate::random::Random;
use crate::rig::kind;
use simdev::{
    Config, DataPath, DmaLog, DraftForm, Ram, Server, ServerOptions, ServerThread, Space, Type1, Type1Config, Window,
};
use std::sync::Arc;
use std::time::Duration;
use vfiomig::device::{Device, DeviceOptions};
use vfiomig::dialect::{Caps, DialectKind, State};
use vfiomig::error::Result;
use vfiomig::group::{Group, GroupOptions};
use vfiomig::tracker::{Harvest, IovaRange, Mapping, Request, Tracker, TrackerOptions};
use vfiomig::transport::Transport;
use vfiomig::transport::vfio_user::{ConnectOptions, VfioUserConnection};

pub const DEVICES: usize = 4;
pub const NAMES: [&str; DEVICES] = ["v2", "v1-ndma", "draft", "vfio-user"];
const SERVED: usize = 3;

const PAGE: u64 = 4096;
/// Two pieces with a hole between them, as below and above 4 GiB; all devices see the same.
const MAPPED: [(u64, u64); 2] = [(0, 700), (1 << 20, 333)];

/// How the devices of a house are; they are the same on both sides.
#[derive(Clone)]
pub struct Kinds(pub [Config; DEVICES]);

impl Kinds {
    pub fn draw(random: &mut Random) -> Kinds {
        let both = Caps { p2p: true, pre_copy: true };
        let log = || Some(DmaLog::default());
        let windows = [Window::Trapped, Window::Area];
        let data = random.pick(&[DataPath::Functions, DataPath::Functions, DataPath::RealFd]);
        let form = random.pick(&[DraftForm::Rewrite, DraftForm::Sticky]);
        let draft = Config { window: random.pick(&windows), ..Config::draft(form) };
        let kinds = [
            Config { dma_log: log(), data, ..Config::v2(both) },
            Config::v1_ndma(random.pick(&windows)),
            draft,
            Config { dma_log: log(), ..Config::v2(both) }.served(),
        ];
        Kinds(kinds.map(|config| config.state_size(3000 + random.below(20_000) as usize).segments(1024)))
    }
}

/// The far end of a device that is behind a socket.
struct Served {
    connection: Arc<VfioUserConnection>,
    thread: Option<ServerThread>,
}

/// One device, and what is known of it without the library.
pub struct Member {
    pub fake: simdev::Device,
    pub handle: Arc<Device>,
    tracker: Arc<Tracker>,
    space: Space,
    served: Option<Served>,
    /// Its state as the guest has left it.
    pub content: Vec<u8>,
    /// It is not there any more: unplugged, or its server is dead.
    pub gone: bool,
    /// Somebody has done something to it since the step began.
    pub hurt: bool,
    /// The number of a descriptor was lost with a fault.
    pub lost_fd: u64,
}

impl Member {
    fn new(place: usize, config: &Config, ram: &Ram) -> Member {
        let (fake, space) = (simdev::Device::new(config.clone()), Space::new(ram));
        fake.attach(&space);
        fake.allow_abort(true);
        let (transport, served) = open(&fake, place == SERVED);
        let dialect = (kind(config) == DialectKind::Draft).then_some(DialectKind::Draft);
        let name = NAMES[place].to_string();
        let options = DeviceOptions { name, dialect, buffer_size: Some(4096), ..DeviceOptions::default() };
        let handle = Arc::new(Device::new(transport, options).unwrap());
        let mut options = TrackerOptions { name: NAMES[place].into(), ..TrackerOptions::default() };
        options.devices = vec![Arc::clone(&handle)];
        if kind(config) == DialectKind::V1 {
            // It keeps no log: its container does.
            options.container = Some(Arc::new(Type1::new(&space, Type1Config::default())));
        }
        let tracker = Arc::new(Tracker::new(options).unwrap());
        for (first, pages) in MAPPED {
            let (iova, size) = (first * PAGE, pages * PAGE);
            space.map(simdev::Mapping { iova, size, ram: iova }).unwrap();
            tracker.map(&[Mapping { range: IovaRange { iova, size }, cookie: 0 }]).unwrap();
        }
        let content = fake.content();
        Member { fake, handle, tracker, space, served, content, gone: false, hurt: false, lost_fd: 0 }
    }

    pub fn tracks(&self) -> bool {
        self.tracker.info().starts > 0
    }

    pub fn log_kind(&self) -> vfiomig::tracker::LogKind {
        self.tracker.info().kind
    }

    pub fn is_served(&self) -> bool {
        self.served.is_some()
    }

    /// The process behind the socket ends.
    pub fn kill_server(&mut self) {
        if let Some(served) = &mut self.served {
            served.thread = None;
        }
        (self.gone, self.hurt) = (true, true);
    }

    pub fn unplug(&mut self) {
        if !self.handle.is_closed() {
            self.handle.close().unwrap();
        }
        (self.gone, self.hurt) = (true, true);
    }

    /// A guest that uses the device. What was there before has to be what was left there.
    pub fn touch(&mut self, random: &mut Random) -> bool {
        assert!(self.fake.content() == self.content, "{}: the state changed by itself", self.handle.name());
        let (at, len) = (random.below(self.content.len() as u64) as usize, random.below(500) as usize + 1);
        let touched = self.fake.touch(at, len, random.next()).is_ok();
        if touched {
            self.content = self.fake.content();
        }
        touched
    }

    /// A page of RAM, by the device.
    pub fn write(&self, random: &mut Random) -> bool {
        let (first, pages) = random.pick(&MAPPED);
        self.fake.dma_write(first + random.below(pages)).is_ok()
    }

    /// The guest or the VMM resets it: its state is lost, and nothing else is.
    pub fn reset(&mut self) -> Result<()> {
        self.handle.reset()?;
        self.hurt = true;
        assert!(self.fake.content().iter().all(|&byte| byte == 0), "{}: a reset left its state", self.handle.name());
        self.content.fill(0);
        Ok(())
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        let _ = self.handle.close();
        let _ = self.tracker.close();
        if let Some(served) = &mut self.served {
            // The client goes first: a server that waits for it would not hear of anything else.
            let _ = served.connection.close();
            served.thread = None;
        }
    }
}

fn open(fake: &simdev::Device, behind_socket: bool) -> (Box<dyn Transport>, Option<Served>) {
    if !behind_socket {
        return (fake.transport(), None);
    }
    let (stream, thread) = Server::new(fake, ServerOptions::default()).connect().unwrap();
    let options = ConnectOptions { timeout: Duration::from_secs(30), ..ConnectOptions::default() };
    let connection = Arc::new(VfioUserConnection::new(stream.into(), options).unwrap());
    let transport = connection.transport().unwrap();
    (Box::new(transport), Some(Served { connection, thread: Some(thread) }))
}

pub struct Machine {
    pub members: Vec<Member>,
    pub group: Arc<Group>,
    pub ram: Ram,
    kinds: Kinds,
}

impl Machine {
    pub fn new(kinds: &Kinds, ram: Ram, max_workers: usize) -> Machine {
        let group = Arc::new(Group::new(GroupOptions { max_workers, ..GroupOptions::default() }));
        let members = kinds.0.iter().enumerate().map(|(place, config)| Member::new(place, config, &ram)).collect();
        let machine = Machine { members, group, ram, kinds: kinds.clone() };
        machine.members.iter().for_each(|member| machine.add(member));
        machine
    }

    fn add(&self, member: &Member) {
        self.group.add_device(Arc::clone(&member.handle)).unwrap();
        self.group.add_tracker(Arc::clone(&member.tracker)).unwrap();
    }

    /// In the place of each device that has gone the guest gets a new one. Between migrations.
    pub fn plug_again(&mut self) -> u64 {
        let mut plugged = 0;
        for place in 0..DEVICES {
            if !self.members[place].gone {
                continue;
            }
            let old = &self.members[place];
            self.group.remove_tracker(&old.tracker).unwrap();
            old.tracker.close().unwrap();
            let _ = old.handle.close();
            // A handle that was closed may have left already.
            let _ = self.group.remove_device(&old.handle);
            self.members[place] = Member::new(place, &self.kinds.0[place], &self.ram);
            self.add(&self.members[place]);
            plugged += 1;
        }
        plugged
    }

    /// Where the group's devices are in `members`: one that was plugged in later comes last in the group.
    pub fn places(&self) -> Vec<usize> {
        let place = |device: &Arc<Device>| NAMES.iter().position(|name| *name == device.name()).unwrap();
        self.group.devices().unwrap().iter().map(place).collect()
    }

    /// What devices write, and which bytes of them change; those that rest do nothing.
    pub fn guest(&mut self, random: &mut Random, most: u64) -> u64 {
        let mut done = 0;
        for _ in 0..random.below(most + 1) {
            let member = &mut self.members[random.below(DEVICES as u64) as usize];
            let touches = random.one_in(3);
            done += u64::from(if touches { member.touch(random) } else { member.write(random) });
        }
        done
    }

    /// All logs; what they tell is copied.
    pub fn harvest(&self) -> Result<Harvest> {
        let run = &mut |_: u64, run: IovaRange| {
            (run.iova / PAGE..(run.iova + run.size) / PAGE).for_each(|page| self.ram.copy(page));
            true
        };
        self.group.harvest(&mut Request { run: Some(run), ..Request::default() })
    }

    /// Mappings that the devices know of.
    pub fn mappings(&self) -> usize {
        self.members.iter().map(|member| member.fake.mappings()).sum()
    }

    /// A step begins: nobody was hurt.
    pub fn forget(&mut self) {
        for member in &mut self.members {
            member.hurt = false;
            member.fake.take_violations();
        }
    }

    pub fn states(&self) -> Vec<State> {
        self.members.iter().map(|member| member.fake.state()).collect()
    }

    /// The VM ends: nothing that was opened or mapped for it is left.
    pub fn end(self) {
        for member in &self.members {
            let name = member.handle.name();
            // One that was unplugged behind HALTED is closed.
            if !member.handle.is_closed() {
                member.handle.close().unwrap();
            }
            assert_eq!(member.fake.mappings(), 0, "{name}: mappings");
            if member.fake.config().data == DataPath::Functions && !member.is_served() {
                let open = member.fake.sessions_opened() - member.fake.sessions_closed();
                assert!(open <= member.lost_fd, "{name}: {open} sessions are open");
            }
            assert!(member.space.mappings().len() == MAPPED.len());
        }
    }
}
