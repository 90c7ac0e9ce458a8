//! What is kept of a client. Everything is in one thread, as in most servers: a client that waits for an answer while it owes one
//! waits for ever.

use super::client::Client;
use super::host::Host;
use super::interrupts::Interrupts;
use super::memory::Memory;
use super::options::ServerOptions;
use super::pci::{Function, STATE_BAR};
use super::quirks::Quirk;
use super::region_log::RegionLog;
use super::registers::Registers;
use super::socket::{Reading, Socket};
use super::wire::{HEADER, Message};
use crate::base::memory::PAGE;
use crate::device::Device;
use crate::dialects::{BAR, BAR_SIZE};
use std::collections::VecDeque;
use std::os::unix::net::UnixStream;
use std::time::Instant;

/// Room in a message beside the data of a transfer.
const BESIDE: usize = 64 << 10;
/// Longest window onto the device's state.
const MOST_WINDOW: usize = 1 << 20;

pub(super) struct Connection<'a> {
    pub server: &'a Host,
    pub main: Socket,
    pub twin: Option<Socket>,
    /// What the client has asked while it owed an answer.
    pub waiting: VecDeque<Message>,
    pub next_id: u16,
    pub client: Client,
    /// VERSION has come.
    pub agreed: bool,
    pub memory: Memory,
    pub log: RegionLog,
    pub interrupts: Interrupts,
    pub function: Function,
    pub registers: Registers,
    /// The session whose PRE_COPY has had all that `Quirk::PrecopyApart` gives it.
    pub apart_in: u64,
    /// It goes round in a circle, and answers nothing any more.
    pub spins: bool,
    /// When the device does something by itself the next time, and how often it did: memory, state.
    pub paced: [(Instant, u64); 2],
}

impl<'a> Connection<'a> {
    pub fn new(server: &'a Host, stream: UnixStream) -> Self {
        let window = server.device.state_size().clamp(PAGE as usize, MOST_WINDOW).next_power_of_two();
        let mut bars = [0; 6];
        bars[BAR as usize] = BAR_SIZE as u32;
        bars[STATE_BAR as usize] = window as u32;
        Connection {
            server,
            main: Socket(stream),
            twin: None,
            waiting: VecDeque::new(),
            next_id: 0,
            client: Client::default(),
            agreed: false,
            memory: Memory::default(),
            log: RegionLog::default(),
            interrupts: Interrupts::default(),
            function: Function::new(server.options.pci_id, bars),
            registers: Registers::default(),
            apart_in: 0,
            spins: false,
            paced: [(Instant::now(), 0); 2],
        }
    }

    pub fn device(&self) -> &Device {
        &self.server.device
    }

    pub fn options(&self) -> &ServerOptions {
        &self.server.options
    }

    pub fn migrates_v2(&self) -> bool {
        self.options().migratable && self.device().is_v2()
    }

    /// An offence.
    pub fn judge(&self, rule: &'static str, text: String) {
        self.device().with_judge(|judge| judge.record(rule, text));
    }

    /// An offence, and the answer to it.
    pub fn refuse<T>(&self, rule: &'static str, text: String, errno: i32) -> Result<T, i32> {
        self.judge(rule, text);
        Err(errno)
    }

    pub fn reading(&self) -> Reading<'a> {
        let most = HEADER + BESIDE + self.options().max_data_xfer_size as usize;
        Reading { stop: &self.server.stop, one_receive: self.options().quirks.has(Quirk::OneReceive), most }
    }
}
