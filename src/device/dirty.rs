//! The draft's own log of written pages, which shares the data window with the state bytes (D5).

use super::{Device, Inner};
use crate::dialect::registers::Fault;
use crate::dialect::{Direction, PfnRange, Pfns};
use crate::error::{Error, Result};

impl Device {
    /// Reads and clears which pages of `range` the device has written. *device; blocks in the kernel.*
    ///
    /// Only the draft has such a log, and only while a save session is open. BUSY while a segment is under way: the window
    /// shows one thing at a time. After a failure every page of the range was told as dirty.
    pub fn dirty_pfns(&self, range: PfnRange, sink: &mut dyn FnMut(Pfns<'_>)) -> Result<()> {
        if range.total == 0 || !range.page_size.is_power_of_two() || range.start.checked_add(range.total).is_none() {
            return Err(self.named(Error::argument(format!("range: {range:?} is none"))));
        }
        let mut inner = self.enter()?;
        let state = self.cache.state();
        inner.session(Direction::Save, state).map_err(|error| self.named(error))?;
        if inner.window.unread() > 0 {
            return Err(self.named(Error::busy("a segment is under way in the data window")));
        }
        let Inner { transport, dialect: Ok(dialect), .. } = &*inner else {
            return Err(self.named(Error::unsupported("the device is not migratable")));
        };
        match dialect.dirty_pfns(&**transport, range, sink) {
            Ok(()) => Ok(()),
            Err(Fault::Nonsense(text)) => Err(self.named(Error::protocol(format!("reading dirty pages: {text}")))),
            Err(Fault::Errno(errno)) if errno.get() == libc::EOPNOTSUPP => {
                Err(self.named(Error::unsupported("the dialect has no log of its own")))
            }
            Err(Fault::Errno(errno)) => Err(inner.data_failed(&self.cache, &self.name, "reading dirty pages", errno)),
        }
    }
}
