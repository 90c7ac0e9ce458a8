//! Segments on their way in (V1-9, V1-10): where the next bytes go, and when a segment is handed to the device as whole.

use crate::error::{Error, ErrorKind};
use crate::window::{Access, Trouble, WindowResult};

/// A segment whose first bytes are in the window, or for which a buffer is lent.
#[derive(Clone, Copy, Debug)]
enum OpenSegment {
    /// Its length is known: reserve announced it, or it is a part of a split one. It is whole with its last byte.
    Announced { offset: u64, size: u64, done: u64 },
    /// Begun by bytes that came without a length. It is whole when the caller says so.
    Open { offset: u64, done: u64 },
}

/// Where the next bytes go.
#[derive(Clone, Copy, Debug)]
pub(super) struct WriteTarget {
    /// In the region.
    pub at: u64,
    /// Most bytes that may go there: the end of the segment, or of the region.
    pub most: u64,
}

pub(super) struct Loading {
    /// A segment larger than the window is loaded in parts (a quirk: V1-10 forbids it).
    split: bool,
    segment: Option<OpenSegment>,
    /// Where the device wants the next segment, if it was asked and nothing was put there yet. Some servers answer only once.
    place: Option<u64>,
}

impl Loading {
    pub fn new(split: bool) -> Self {
        Loading { split, segment: None, place: None }
    }

    pub fn end(&mut self) {
        (self.segment, self.place) = (None, None);
    }

    /// The caller says that `left` bytes of a segment are to come.
    pub fn announce(&mut self, access: &Access<'_>, left: u64) -> WindowResult<WriteTarget> {
        let region = access.registers()?.region.size;
        let segment = match self.segment {
            None => {
                let offset = self.begin(access)?;
                let size = self.fit(left, region.saturating_sub(offset), 0)?;
                OpenSegment::Announced { offset, size, done: 0 }
            }
            // Its length is known only now.
            Some(OpenSegment::Open { offset, done }) => {
                let room = region.saturating_sub(offset.saturating_add(done));
                let size = done.saturating_add(self.fit(left, room, done)?);
                OpenSegment::Announced { offset, size, done }
            }
            Some(segment @ OpenSegment::Announced { size, done, .. }) => {
                let missing = size.saturating_sub(done);
                if left != missing && !self.split {
                    return Err(argument(format!(
                        "segment_left: {left}, but {missing} bytes of the segment are missing"
                    )));
                }
                segment
            }
        };
        self.segment = Some(segment);
        Ok(target(segment, region))
    }

    /// `len` bytes of a segment come without a word on its length; `segment_end`: it ends with them.
    pub fn extend(&mut self, access: &Access<'_>, len: u64, segment_end: bool) -> WindowResult<WriteTarget> {
        let region = access.registers()?.region.size;
        let (offset, done) = match self.segment {
            None => (self.begin(access)?, 0),
            Some(OpenSegment::Open { offset, done }) => (offset, done),
            Some(segment @ OpenSegment::Announced { size, done, .. }) => {
                let missing = size.saturating_sub(done);
                if len > missing && !self.split {
                    return Err(argument(format!("len: {len}, but only {missing} bytes of the segment are missing")));
                }
                self.check_end(len, segment_end)?;
                return Ok(target(segment, region));
            }
        };
        let room = region.saturating_sub(offset.saturating_add(done));
        let segment = match self.fit(len, room, done)? {
            // A part of a split segment ends where the window ends.
            part if part < len => OpenSegment::Announced { offset, size: done.saturating_add(part), done },
            _ => OpenSegment::Open { offset, done },
        };
        self.segment = Some(segment);
        Ok(target(segment, region))
    }

    /// The end of a segment may only be said where its announced length is reached.
    pub fn check_end(&self, len: u64, segment_end: bool) -> WindowResult<()> {
        match self.segment {
            Some(OpenSegment::Announced { size, done, .. }) if segment_end && !self.split => {
                match size.saturating_sub(done).saturating_sub(len) {
                    0 => Ok(()),
                    left => Err(argument(format!("flags: the end of a segment, but {left} bytes of it are missing"))),
                }
            }
            _ => Ok(()),
        }
    }

    /// `len` bytes are in place; with the end of the segment it is handed to the device (V1-9).
    pub fn placed(&mut self, access: &Access<'_>, len: usize, segment_end: bool) -> WindowResult<()> {
        let added = len as u64;
        let (segment, done, whole) = match self.segment {
            None => return Ok(()),
            Some(OpenSegment::Announced { offset, size, done }) => {
                let done = done.saturating_add(added);
                (OpenSegment::Announced { offset, size, done }, done, done >= size)
            }
            Some(OpenSegment::Open { offset, done }) => {
                let done = done.saturating_add(added);
                (OpenSegment::Open { offset, done }, done, segment_end)
            }
        };
        if done == 0 {
            self.drop_empty();
            return Ok(());
        }
        self.place = None;
        self.segment = (!whole).then_some(segment);
        if whole {
            let set = access.registers()?.set_data_size(access.transport, done);
            set.map_err(|fault| Trouble::after(fault, len))?;
        }
        Ok(())
    }

    /// A segment of which no byte was put in place is none: the caller may continue with another length.
    pub fn drop_empty(&mut self) {
        if let Some(OpenSegment::Announced { done: 0, .. } | OpenSegment::Open { done: 0, .. }) = self.segment {
            self.segment = None;
        }
    }

    /// Where the bytes of the lent buffer go.
    pub fn target(&self, access: &Access<'_>) -> WindowResult<Option<WriteTarget>> {
        let region = access.registers()?.region.size;
        Ok(self.segment.map(|segment| target(segment, region)))
    }

    /// What is missing before the stream can be whole, in words.
    pub fn unfinished(&self) -> Option<String> {
        match self.segment? {
            OpenSegment::Announced { size, done, .. } => {
                Some(format!("a segment is open, {} of its bytes are missing", size.saturating_sub(done)))
            }
            OpenSegment::Open { done, .. } => {
                Some(format!("a segment is open, {done} of its bytes were written, its end was not said"))
            }
        }
    }

    /// Asks the device where the next segment goes, unless it has said so.
    fn begin(&mut self, access: &Access<'_>) -> WindowResult<u64> {
        if let Some(place) = self.place {
            return Ok(place);
        }
        let registers = access.registers()?;
        let offset = registers.data_offset(access.transport).map_err(Trouble::before)?;
        registers.check_segment(offset, 0).map_err(Trouble::before)?;
        self.place = Some(offset);
        Ok(offset)
    }

    /// How many of `need` bytes fit into `room` after `done` bytes of the same segment.
    fn fit(&self, need: u64, room: u64, done: u64) -> WindowResult<u64> {
        if need <= room {
            return Ok(need);
        }
        if self.split && room > 0 {
            return Ok(room);
        }
        let (size, window) = (done.saturating_add(need), done.saturating_add(room));
        let hint = match done {
            0 => "",
            _ => "; was the end of an earlier segment (VFIOMIG_CHUNK_SEGMENT_END) lost on the way?",
        };
        let text = format!("a segment of {size} bytes does not fit into {window} bytes of the device's window{hint}");
        Err(Trouble::before(Error::new(ErrorKind::Unsupported, libc::EMSGSIZE, text)))
    }
}

fn target(segment: OpenSegment, region: u64) -> WriteTarget {
    match segment {
        OpenSegment::Announced { offset, size, done } => {
            WriteTarget { at: offset.saturating_add(done), most: size.saturating_sub(done) }
        }
        OpenSegment::Open { offset, done } => {
            let at = offset.saturating_add(done);
            WriteTarget { at, most: region.saturating_sub(at) }
        }
    }
}

fn argument(text: String) -> Trouble {
    Trouble::before(Error::argument(text))
}
