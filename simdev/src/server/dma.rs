//! The device's way to the client's memory: through what it shares, or by commands of the server to the client.

use super::answer::Answer;
use super::connection::Connection;
use super::memory::Asked;
use super::quirks::Quirk;
use super::socket::{Received, Socket};
use super::wire::{Command, Header, Message, rule};
use crate::base::bytes::{put, u32_at, u64_at};
use crate::base::memory::PAGE;
use crate::content::mix;
use crate::machine::Access;
use std::os::fd::OwnedFd;
use std::time::Instant;

const READABLE: u32 = 1;
const WRITEABLE: u32 = 2;
/// All flags that a server of today knows, beside those of the specification.
const KNOWN: u32 = 15;
const UNMAP_BITMAP: u32 = 1;
const UNMAP_ALL: u32 = 2;
/// Most DMA regions.
const MOST_REGIONS: usize = 65535;
/// Requests that a client may have sent before it answers a command of the server.
const MOST_WAITING: usize = 1024;

/// What the device writes into a page, so that each write shows: the page's number and the count of the write, mixed.
fn pattern(page: u64, count: u64) -> Vec<u8> {
    let words = (0..PAGE / 8).map(|at| if at == 0 { count } else { mix(page ^ count << 40 ^ at) });
    words.flat_map(u64::to_le_bytes).collect()
}

impl Connection<'_> {
    /// {u32 argsz, flags, u64 offset, address, size}
    pub(super) fn dma_map(&mut self, payload: &[u8], fds: &[OwnedFd]) -> Result<Answer, i32> {
        self.device().note(Access::DmaMap)?;
        let (flags, iova, size) = (u32_at(payload, 4), u64_at(payload, 16), u64_at(payload, 24));
        if payload.len() < 32 || u32_at(payload, 0) < 32 || flags & !KNOWN != 0 || fds.len() > 1 {
            let text = format!("DMA_MAP of {} bytes, flags {flags:#x}, {} descriptors", payload.len(), fds.len());
            return self.refuse(rule::MEMORY, text, libc::EINVAL);
        }
        if size == 0 || (iova | size) % PAGE != 0 || iova.checked_add(size - 1).is_none() {
            return self.refuse(rule::MEMORY, format!("DMA_MAP of {iova:#x} + {size:#x}"), libc::EINVAL);
        }
        if self.memory.overlaps(iova, size) {
            let remaps = self.options().quirks.has(Quirk::Remaps);
            if remaps && self.memory.at(iova).is_some_and(|region| region.size == size) {
                return Ok(Answer::empty());
            }
            let errno = if remaps { libc::EINVAL } else { libc::EEXIST };
            return self.refuse(rule::MEMORY, format!("DMA_MAP of {iova:#x} + {size:#x}, which is mapped"), errno);
        }
        if self.memory.regions().count() >= MOST_REGIONS {
            return self.refuse(rule::MEMORY, format!("more than {MOST_REGIONS} DMA regions"), libc::ENOSPC);
        }
        let (read, write) = (flags & READABLE != 0, flags & WRITEABLE != 0);
        self.memory.map(Asked { iova, size, offset: u64_at(payload, 8), read, write }, fds.first())?;
        Ok(Answer::empty())
    }

    /// {u32 argsz, flags, u64 address, size}; with the bitmap {u64 pgsize, u64 size} behind it.
    pub(super) fn dma_unmap(&mut self, payload: &[u8]) -> Result<Answer, i32> {
        self.device().note(Access::DmaUnmap)?;
        let (argsz, flags) = (u32_at(payload, 0), u32_at(payload, 4));
        let (iova, size) = (u64_at(payload, 8), u64_at(payload, 16));
        if payload.len() < 24 || argsz < 24 {
            return self.refuse(
                rule::MEMORY,
                format!("DMA_UNMAP of {} bytes, argsz {argsz}", payload.len()),
                libc::EINVAL,
            );
        }
        let mut answer = payload.get(..24).unwrap_or_default().to_vec();
        match flags {
            0 => {}
            UNMAP_ALL if (iova, size) == (0, 0) => {
                self.memory.unmap_all();
                return Ok(answer.into());
            }
            UNMAP_BITMAP if self.bitmaps_of_regions() => {
                let bitmap = self.bitmap_of_unmap(payload)?;
                answer.extend(bitmap);
                let len = answer.len() as u32;
                put(&mut answer, 0, &len.to_ne_bytes());
            }
            _ => return self.refuse(rule::MEMORY, format!("DMA_UNMAP with flags {flags:#x}"), libc::EINVAL),
        }
        if let Err(errno) = self.memory.unmap(iova, size) {
            return self.refuse(rule::MEMORY, format!("DMA_UNMAP of {iova:#x} + {size:#x} is no region"), errno);
        }
        self.log.forget(iova, size);
        Ok(answer.into())
    }

    /// The device writes pages, until one cannot be written.
    pub(super) fn write_pages(&mut self, page: u64, count: u64) -> Result<(), i32> {
        (page..page.saturating_add(count)).try_for_each(|page| self.write_page(page))
    }

    fn write_page(&mut self, page: u64) -> Result<(), i32> {
        let iova = page.checked_mul(PAGE).ok_or(libc::EFAULT)?;
        let (_, region) = self.memory.around(iova, PAGE).filter(|(_, region)| region.write).ok_or(libc::EFAULT)?;
        let by_message = !region.is_shared();
        let logged = !(by_message && self.options().quirks.has(Quirk::UnloggedMessages));
        self.device().dma_write_logged(page, logged)?;
        self.registers.written += 1;
        let bytes = pattern(page, self.registers.written);
        if logged {
            self.log.record(page);
        }
        if !by_message {
            return self.memory.write(iova, &bytes);
        }
        let step = (self.client.max_data_xfer_size as usize).clamp(1, bytes.len());
        for (at, part) in bytes.chunks(step).enumerate() {
            let address = iova + (at * step) as u64;
            let head = [address.to_ne_bytes(), (part.len() as u64).to_ne_bytes()].concat();
            let answer = self.ask(Command::DmaWrite, &[&head, part].concat())?;
            // The specification gives the count of this reply 4 bytes; everybody sends 8.
            self.judge_answer(&answer, &head, 12, "DMA_WRITE");
        }
        Ok(())
    }

    /// A sum over what the device reads.
    pub(super) fn read_pages(&mut self, page: u64, count: u64) -> Result<u64, i32> {
        let mut sum = 0u64;
        for page in page..page.saturating_add(count) {
            let iova = page.checked_mul(PAGE).ok_or(libc::EFAULT)?;
            let (_, region) = self.memory.around(iova, PAGE).filter(|(_, region)| region.read).ok_or(libc::EFAULT)?;
            let mut bytes = vec![0; PAGE as usize];
            if region.is_shared() {
                self.memory.read(iova, &mut bytes)?;
            } else {
                self.read_by_message(iova, &mut bytes)?;
            }
            sum = bytes.iter().fold(sum, |sum, byte| sum.rotate_left(5) ^ u64::from(*byte));
        }
        Ok(sum)
    }

    fn read_by_message(&mut self, iova: u64, bytes: &mut [u8]) -> Result<(), i32> {
        let step = (self.client.max_data_xfer_size as usize).clamp(1, bytes.len());
        for (at, part) in bytes.chunks_mut(step).enumerate() {
            let address = iova + (at * step) as u64;
            let head = [address.to_ne_bytes(), (part.len() as u64).to_ne_bytes()].concat();
            let answer = self.ask(Command::DmaRead, &head)?;
            self.judge_answer(&answer, &head, 16 + part.len(), "DMA_READ");
            part.iter_mut().zip(answer.get(16..).unwrap_or_default()).for_each(|(byte, value)| *byte = *value);
        }
        Ok(())
    }

    fn judge_answer(&mut self, answer: &[u8], head: &[u8], least: usize, what: &str) {
        let (same, count) = (u64_at(answer, 0) == u64_at(head, 0), u32_at(answer, 8) == u32_at(head, 8));
        if !same || !count || answer.len() < least {
            self.judge(rule::MESSAGE, format!("the answer to {what} is not that of what was asked"));
        }
    }

    /// A command of the server, and its answer. What the client asks meanwhile is served afterwards.
    fn ask(&mut self, command: Command, payload: &[u8]) -> Result<Vec<u8>, i32> {
        self.next_id = self.next_id.wrapping_add(1);
        let header = Header::command(self.next_id, command.number(), payload.len());
        let socket = self.twin.as_ref().unwrap_or(&self.main);
        socket.send(&header, payload, &[]).map_err(|_| libc::ECONNRESET)?;
        let until = Instant::now() + self.options().patience;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let socket = self.twin.as_ref().unwrap_or(&self.main);
            if !socket.wait(Some(left)).unwrap_or(!left.is_zero()) {
                return self.refuse(rule::MEMORY, format!("no answer to {command:?} of the server"), libc::ETIMEDOUT);
            }
            if left.is_zero() {
                return self.refuse(rule::MEMORY, format!("no answer to {command:?} of the server"), libc::ETIMEDOUT);
            }
            let message = self.receive_answer(socket)?;
            if !message.header.is_reply() {
                self.put_off(message)?;
                continue;
            }
            if (message.header.id, message.header.command) == (header.id, header.command) {
                return self.answer_of(message);
            }
            let (id, number) = (message.header.id, message.header.command);
            self.judge(rule::MESSAGE, format!("an answer {id} to command {number} that was not asked for"));
        }
    }

    fn receive_answer(&self, socket: &Socket) -> Result<Message, i32> {
        match socket.receive(self.reading(), |_| false) {
            Ok(Received::Message(message)) => Ok(message),
            _ => Err(libc::ECONNRESET),
        }
    }

    fn answer_of(&mut self, message: Message) -> Result<Vec<u8>, i32> {
        if message.header.is_error() {
            let errno = i32::try_from(message.header.errno).unwrap_or(libc::EIO);
            return Err(if errno == 0 { libc::EIO } else { errno });
        }
        Ok(message.payload)
    }

    fn put_off(&mut self, message: Message) -> Result<(), i32> {
        if self.twin.is_some() {
            let number = message.header.command;
            self.judge(rule::MESSAGE, format!("command {number} on the socket of the server's commands"));
            return Ok(());
        }
        if self.waiting.len() >= MOST_WAITING {
            return self.refuse(rule::MESSAGE, format!("{MOST_WAITING} requests instead of an answer"), libc::EBUSY);
        }
        self.waiting.push_back(message);
        Ok(())
    }
}
