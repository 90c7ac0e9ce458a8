//! The devices of a group: which there are, alone, with their like and mixed, and how they are reached.

use crate::rig::Rig;
use simdev::{Config, DraftForm, Server, ServerOptions, ServerThread, Window};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use vfiomig::dialect::Caps;
use vfiomig::transport::vfio_user::{ConnectOptions, VfioUserConnection};

/// One kind of device.
#[derive(Clone)]
pub struct Model {
    pub name: &'static str,
    pub config: Config,
    /// Behind a socket, in vfio-user.
    pub served: bool,
}

/// Short streams of some segments, so that every call of an operation is soon walked.
fn small(config: Config) -> Config {
    config.state_size(450).segments(256)
}

const BOTH: Caps = Caps { p2p: true, pre_copy: true };

/// All kinds of device.
pub fn models() -> Vec<Model> {
    let direct = |name, config| Model { name, config: small(config), served: false };
    let served = |name, config: Config| Model { name, config: small(config.served()), served: true };
    vec![
        direct("v2", Config::v2(BOTH)),
        direct("v2-precopy", Config::v2(Caps { p2p: false, pre_copy: true })),
        direct("v2-p2p", Config::v2(Caps { p2p: true, pre_copy: false })),
        direct("v2-plain", Config::v2(Caps::default())),
        direct("v1", Config::v1(Window::Trapped)),
        direct("v1-mapped", Config::v1(Window::Area)),
        direct("v1-ndma", Config::v1_ndma(Window::Trapped)),
        direct("draft", Config::draft(DraftForm::Rewrite)),
        direct("draft-sticky", Config::draft(DraftForm::Sticky)),
        served("user-v2", Config::v2(BOTH)),
        served("user-v1", Config::v1(Window::Trapped)),
    ]
}

/// Groups of several dialects.
const MIXES: [&str; 12] = [
    "v2+v1",
    "v2+v1-ndma",
    "v2+draft",
    "v1-ndma+draft",
    "v2+user-v2",
    "v2-plain+v2",
    "v2+v1-ndma+draft",
    "v2-precopy+v1-mapped+user-v2",
    "draft-sticky+v1+v2-p2p",
    "v2+v1-ndma+draft+user-v2",
    "v2-p2p+v2-precopy+v1-mapped+draft-sticky",
    "user-v1+user-v2+v1-ndma+v2-plain",
];

/// One kind of device of each way in which a group has to deal with them: three and four alike.
const MANY: [&str; 5] = ["v2", "v1", "v1-ndma", "draft", "user-v2"];

/// How many of a kind there are in a group at most.
pub fn most(model: &str) -> usize {
    if MANY.contains(&model) { 4 } else { 2 }
}

/// A group of devices.
#[derive(Clone)]
pub struct Fleet {
    pub name: String,
    pub models: Vec<Model>,
}

/// Each kind of device alone and with its like, and the mixes.
pub fn fleets() -> Vec<Fleet> {
    let models = models();
    let of = |name: &str| models.iter().find(|model| model.name == name).unwrap().clone();
    let alike = models.iter().flat_map(|model| {
        (1..=most(model.name))
            .map(|count| Fleet { name: format!("{count} × {}", model.name), models: vec![model.clone(); count] })
    });
    let mixed =
        MIXES.iter().map(|mix| Fleet { name: (*mix).to_string(), models: mix.split('+').map(of).collect::<Vec<_>>() });
    alike.chain(mixed).collect()
}

/// A group whose devices are reached as its fleet says; the servers end behind it.
pub struct Built {
    pub rig: Rig,
    connections: Mutex<Vec<Arc<VfioUserConnection>>>,
    servers: Mutex<Vec<ServerThread>>,
}

impl Fleet {
    /// More than two of a kind.
    pub fn is_many(&self) -> bool {
        self.name.starts_with("3 × ") || self.name.starts_with("4 × ")
    }

    /// Devices with a state of their own each.
    pub fn source(&self, max_workers: usize) -> Built {
        let seeded = self.models.iter().enumerate().map(|(i, model)| model.config.clone().seeded(i as u64 + 1));
        let built = self.build(&seeded.collect::<Vec<_>>(), max_workers);
        built.rig.allow_abort();
        built
    }

    /// Fresh devices.
    pub fn target(&self, max_workers: usize) -> Built {
        let fresh = self.models.iter().map(|model| model.config.clone());
        self.build(&fresh.collect::<Vec<_>>(), max_workers)
    }

    fn build(&self, configs: &[Config], max_workers: usize) -> Built {
        let (connections, servers) = (Mutex::new(Vec::new()), Mutex::new(Vec::new()));
        let rig = Rig::new(configs, max_workers, &|fake, i| {
            if !self.models[i].served {
                return fake.transport();
            }
            let (stream, thread) = Server::new(fake, ServerOptions::default()).connect().unwrap();
            let options = ConnectOptions { timeout: Duration::from_secs(30), ..ConnectOptions::default() };
            let connection = Arc::new(VfioUserConnection::new(stream.into(), options).unwrap());
            let transport = connection.transport().unwrap();
            connections.lock().unwrap().push(connection);
            servers.lock().unwrap().push(thread);
            Box::new(transport)
        });
        Built { rig, connections, servers }
    }
}

impl Drop for Built {
    fn drop(&mut self) {
        // The client goes first: a server that waits for it would not hear of anything else.
        for connection in self.connections.lock().unwrap().drain(..) {
            let _ = connection.close();
        }
        self.servers.lock().unwrap().clear();
    }
}
