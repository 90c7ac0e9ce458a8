//! Which command is answered by what, and which of them now.

use super::answer::Answer;
use super::connection::Connection;
use super::interrupts;
use super::quirks::Quirk;
use super::wire::{Command, rule};
use crate::machine::Access;
use std::os::fd::OwnedFd;
use vfiomig::dialect::State;

/// What servers answer that let through only a migration while the device is stopped.
const WHILE_STOPPED: [Command; 6] = [
    Command::Version,
    Command::RegionRead,
    Command::RegionWrite,
    Command::DirtyPages,
    Command::Feature,
    Command::DataRead,
];

impl Connection<'_> {
    pub(super) fn dispatch(&mut self, command: Command, payload: &[u8], fds: Vec<OwnedFd>) -> Result<Answer, i32> {
        if !fds.is_empty() && !command.takes_fds() {
            self.judge(rule::MESSAGE, format!("{command:?} with {} descriptors", fds.len()));
        }
        if fds.len() > self.options().max_msg_fds as usize {
            let (came, most) = (fds.len(), self.options().max_msg_fds);
            return self.refuse(
                rule::AGREED,
                format!("{command:?} with {came} descriptors: max_msg_fds is {most}"),
                libc::EINVAL,
            );
        }
        let stopped = matches!(self.device().state(), State::Stop | State::StopCopy);
        if stopped && self.options().quirks.has(Quirk::NarrowWhileStopped) && !WHILE_STOPPED.contains(&command) {
            return Err(libc::EINVAL);
        }
        let device = &self.server.device;
        match command {
            Command::Version => self.version(payload, &fds),
            Command::DmaMap => self.dma_map(payload, &fds),
            Command::DmaUnmap => self.dma_unmap(payload),
            Command::GetInfo => self.device_info(payload),
            Command::GetRegionInfo => self.region_info(payload),
            Command::GetRegionIoFds => self.region_io_fds(payload),
            Command::GetIrqInfo => {
                device.note(Access::IrqInfo)?;
                device.with_judge(|judge| interrupts::info(judge, payload)).map(Answer::from)
            }
            Command::SetIrqs => {
                device.note(Access::IrqSet)?;
                let interrupts = &mut self.interrupts;
                device.with_judge(|judge| interrupts.set(judge, payload, fds)).map(|()| Answer::empty())
            }
            Command::RegionRead => self.region_read(payload),
            Command::RegionWrite => self.region_write(payload),
            Command::WriteMulti => self.write_multi(payload),
            Command::Reset => self.reset(payload),
            Command::DirtyPages => self.dirty_pages(payload),
            Command::Feature => self.feature(payload),
            Command::DataRead => self.mig_data_read(payload),
            Command::DataWrite => self.mig_data_write(payload),
            // Those are the server's.
            Command::DmaRead | Command::DmaWrite => {
                self.refuse(rule::MESSAGE, format!("{command:?} from the client"), libc::EINVAL)
            }
        }
    }

    fn reset(&mut self, payload: &[u8]) -> Result<Answer, i32> {
        if !payload.is_empty() {
            self.judge(rule::MESSAGE, format!("RESET with a payload of {} bytes", payload.len()));
        }
        self.device().reset()?;
        self.function.reset();
        Ok(Answer::empty())
    }

    /// {u32 argsz, flags, index, count}: there are none.
    fn region_io_fds(&mut self, payload: &[u8]) -> Result<Answer, i32> {
        if payload.len() < 16 {
            return self.refuse(rule::MESSAGE, format!("GET_REGION_IO_FDS of {} bytes", payload.len()), libc::EINVAL);
        }
        let index = payload.get(8..12).unwrap_or_default();
        Ok([&16u32.to_ne_bytes(), &[0; 4], index, &[0; 4]].concat().into())
    }
}
