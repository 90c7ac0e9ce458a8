//! MIG_DATA_READ and MIG_DATA_WRITE: the stream of v2.

use super::answer::Answer;
use super::connection::Connection;
use super::quirks::Quirk;
use super::wire::rule;
use crate::base::bytes::{put, u32_at};
use vfiomig::dialect::State;

/// {u32 argsz, size}
const HEAD: usize = 8;
/// Bytes that `Quirk::PrecopyApart` has in PRE_COPY.
const APART: usize = 4096;

impl Connection<'_> {
    pub(super) fn mig_data_read(&mut self, payload: &[u8]) -> Result<Answer, i32> {
        let (argsz, size) = (u32_at(payload, 0) as usize, u32_at(payload, 4) as usize);
        let state = self.device().state();
        if !self.migrates_v2() {
            return self.refuse(rule::DATA, "MIG_DATA_READ of a device that has no v2".into(), libc::EINVAL);
        }
        if !matches!(state, State::PreCopy | State::PreCopyP2p | State::StopCopy) {
            return self.refuse(rule::DATA, format!("MIG_DATA_READ in {state}"), libc::EINVAL);
        }
        let most = self.client.max_data_xfer_size as usize;
        if payload.len() < HEAD || argsz < size.saturating_add(HEAD) || size > most {
            let text = format!("MIG_DATA_READ of {size} bytes, argsz {argsz}, max_data_xfer_size {most}");
            return self.refuse(rule::DATA, text, libc::EINVAL);
        }
        let mut answer = vec![0; HEAD + size];
        let (_, data) = answer.split_at_mut(HEAD);
        let apart = state == State::PreCopy && self.options().quirks.has(Quirk::PrecopyApart);
        let read = if apart { self.apart(data) } else { self.server.device.data_read(data) };
        let n = match read {
            Ok(n) => n,
            // There is nothing now; the protocol has no other word for it than no bytes.
            Err(libc::ENOMSG) => 0,
            Err(errno) => return Err(errno),
        };
        put(&mut answer, 0, &((HEAD + n) as u32).to_ne_bytes());
        put(&mut answer, 4, &(n as u32).to_ne_bytes());
        if !self.options().quirks.has(Quirk::PaddedReads) {
            answer.truncate(HEAD + n);
        }
        Ok(answer.into())
    }

    /// The first of the state, once, and nothing more in this PRE_COPY.
    fn apart(&mut self, data: &mut [u8]) -> Result<usize, i32> {
        let entered = self.device().sessions_opened();
        if std::mem::replace(&mut self.apart_in, entered) == entered {
            return Ok(0);
        }
        let content = self.device().content();
        let len = data.len().min(content.len()).min(APART);
        data.iter_mut().zip(&content).take(len).for_each(|(byte, value)| *byte = *value);
        Ok(len)
    }

    pub(super) fn mig_data_write(&mut self, payload: &[u8]) -> Result<Answer, i32> {
        let (argsz, size) = (u32_at(payload, 0) as usize, u32_at(payload, 4) as usize);
        let state = self.device().state();
        if !self.migrates_v2() {
            return self.refuse(rule::DATA, "MIG_DATA_WRITE of a device that has no v2".into(), libc::EINVAL);
        }
        if state != State::Resuming {
            return self.refuse(rule::DATA, format!("MIG_DATA_WRITE in {state}"), libc::EINVAL);
        }
        let most = self.options().max_data_xfer_size as usize;
        let data = payload.get(HEAD..).filter(|data| data.len() == size && argsz >= HEAD + size && size <= most);
        let Some(data) = data else {
            let text = format!("MIG_DATA_WRITE of {size} bytes, argsz {argsz}, payload {}", payload.len());
            return self.refuse(rule::DATA, text, libc::EINVAL);
        };
        // All or nothing: of less than all the client cannot hear.
        match self.device().data_write(data)? {
            n if n == size => Ok(Answer::empty()),
            _ => Err(libc::EINVAL),
        }
    }
}
