//! v1: the migration region of Linux 5.8 to 5.17, with or without NDMA. Follows: docs/rules.md, families V1, N and W.

use super::registers::{Fault, Registers};
use super::{Caps, Dialect, DialectKind, Requested, State, bits};
use crate::error::Error;
use crate::transport::{RegionInfo, Transport};
use crate::uapi::migration_region::REGISTERS_END;

pub(super) struct V1 {
    registers: Registers,
    /// Without the capability the bit is reserved, and there are no P2P states: their work is done in the next step (N22).
    ndma: bool,
}

impl V1 {
    pub fn new(region: RegionInfo) -> Self {
        V1 { ndma: region.ndma, registers: Registers { region, data_begins: REGISTERS_END } }
    }
}

impl Dialect for V1 {
    fn kind(&self) -> DialectKind {
        DialectKind::V1
    }

    /// Pre-copy is always accepted, even by devices that have no data for it (V1-5).
    fn caps(&self) -> Caps {
        Caps { p2p: self.ndma, pre_copy: true }
    }

    fn read_state(&self, transport: &dyn Transport) -> Result<State, Error> {
        bits::read(&self.registers, transport, self.ndma).map_err(|fault| fault.into_error("reading device_state"))
    }

    fn request_state(&self, transport: &dyn Transport, from: State, to: State) -> Result<Requested, Fault> {
        bits::request(&self.registers, transport, self.ndma, (from, to)).map(|()| Requested { data_fd: None })
    }

    fn registers(&self) -> Option<&Registers> {
        Some(&self.registers)
    }
}
