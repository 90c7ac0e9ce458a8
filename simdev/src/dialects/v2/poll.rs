//! When the data of a session are there: what a client's poll says, and calls that wait.

use crate::base::poll;
use crate::config::{Poll, Ready};
use crate::machine::{Busy, Machine};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

impl Busy<'_> {
    /// A call on the data fd waits, or says EAGAIN, until the data are there.
    pub(crate) fn wait_for_data(&mut self) -> Result<(), i32> {
        let habits = self.config.habits;
        let begins = self.sessions.live.as_ref().is_some_and(|session| session.count == 0);
        if self.sessions.failed() || (habits.first_read > 0 && begins) {
            return Ok(());
        }
        let Some(left) = self.not_ready(habits.ready) else { return Ok(()) };
        if matches!(habits.ready, Ready::Again(_)) {
            return Err(libc::EAGAIN);
        }
        self.sleep(left);
        Ok(())
    }
}

impl Machine {
    /// What a client of this session polls; `None` where the driver has no descriptor.
    pub(crate) fn poll_fd(&mut self) -> Option<Arc<OwnedFd>> {
        match (self.config.habits.poll, &mut self.sessions.live) {
            (Poll::None, _) => None,
            (Poll::Real, Some(session)) if !session.load => {
                Some(Arc::clone(session.timer.get_or_insert_with(|| Arc::new(poll::timer()))))
            }
            _ => Some(Arc::new(poll::always())),
        }
    }

    /// Brings the poll in line with what there is to read.
    pub(crate) fn update_poll(&self) {
        let Some(session) = &self.sessions.live else { return };
        let Some(timer) = &session.timer else { return };
        let running = self.level.running();
        let begins = self.config.habits.first_read > 0 && session.count == 0;
        let bytes = session.position < session.record.len()
            || ((session.informed || !running) && self.content.pending(running) > 0);
        let wait = if begins { None } else { self.not_ready(self.config.habits.ready) };
        let now = Some(Duration::ZERO);
        // PRE_COPY that is empty polls as nothing, although a read would say so at once.
        let due = if session.failed.is_some() {
            now
        } else if bytes || !running {
            wait.or(now)
        } else {
            None
        };
        poll::ready_in(timer, due);
    }

    /// How long the data are not there.
    fn not_ready(&self, ready: Ready) -> Option<Duration> {
        let session = self.sessions.live.as_ref()?;
        let (Ready::Sleeps(after) | Ready::Again(after)) = ready else { return None };
        after.checked_sub(session.since.elapsed()).filter(|left| !left.is_zero())
    }
}
