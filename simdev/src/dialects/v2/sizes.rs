//! How much there is: MIG_DATA_SIZE and the pre-copy info of a session.

use crate::base::bytes::{put, u32_at};
use crate::config::{DataPath, Size};
use crate::content::HEADER;
use crate::machine::{Effect, Machine, lie};
use std::time::Instant;

impl Machine {
    pub(super) fn stop_copy_size(&self) -> u64 {
        match self.config.habits.size {
            Size::Constant => return self.image,
            Size::WithoutHeaders => return self.content.bytes.len() as u64,
            Size::Left => {}
        }
        if self.level.saving() {
            return self.content.pending(false);
        }
        // What pre-copy will leave is not known: everything.
        self.content.bytes.len() as u64 + HEADER as u64
    }

    /// VFIO_MIG_GET_PRECOPY_INFO: {u32 argsz, u32 flags, u64 initial_bytes, u64 dirty_bytes}.
    pub(crate) fn precopy_info(
        &mut self,
        number: Option<u64>,
        info: &mut [u8],
        effect: Option<Effect>,
    ) -> Result<(), i32> {
        self.check_host("pre-copy info");
        if !self.config.has_precopy_info || self.config.data == DataPath::RealFd {
            return Err(libc::ENOTTY);
        }
        if info.len() < 24 || u32_at(info, 0) < 24 {
            return self.refuse("C2", format!("pre-copy info with argsz {}", u32_at(info, 0)), libc::EINVAL);
        }
        if info[4..24].iter().any(|&b| b != 0) {
            self.judge.record("C7", "pre-copy info not zeroed");
        }
        self.session(number, false)?;
        if self.sessions.failed() {
            return Err(libc::ENODEV);
        }
        if !(self.level.saving() && self.level.running()) {
            return self.refuse("C2", format!("pre-copy info in {}", self.level.state()), libc::EINVAL);
        }
        let (habits, offered) = (self.config.habits, self.config.precopy_len());
        if let (Some(after), Some(session)) = (habits.renews, &mut self.sessions.live) {
            match session.renewed {
                Some(last) if last.elapsed() < after => {}
                Some(_) => {
                    session.renewed = Some(Instant::now());
                    self.content.mark(0, offered, false);
                }
                None => session.renewed = Some(Instant::now()),
            }
        }
        let (initial, dirty) = self.content.left(true);
        let Some(session) = &mut self.sessions.live else { return Err(libc::ENODEV) };
        session.informed = true;
        // Bytes of a record in memory count with what they come from.
        let initial = if habits.initial_stays { offered as u64 } else { initial };
        let initial = lie(effect, initial + (session.record.len() - session.position) as u64);
        let reinit = std::mem::take(&mut self.sessions.reinit);
        if self.sessions.opted_in {
            put(info, 4, &u32::from(reinit).to_ne_bytes());
        }
        if !self.config.echo_info || initial > 0 {
            put(info, 8, &initial.to_ne_bytes());
        }
        if !self.config.echo_info || initial == 0 {
            put(info, 16, &dirty.to_ne_bytes());
        }
        Ok(())
    }
}
