//! Segments on their way in (V1-9, V1-10): where the next bytes go, and when a segment is handed to the device as whole.

use crate::error::{Error, ErrorKind};
use crate::window::{Access, Trouble, WindowResult};

/// A segment whose first bytes are in the window, or for which a buffer is lent.
#[derive(Clone, Copy, Debug)]
struct OpenSegment {
    /// In the region.
    offset: u64,
    done: u64,
    /// Known if reserve announced it, or if it is a part of a split one: it is whole with its last byte then. Else it was begun
    /// by bytes that came without a length, and is whole when the caller says so.
    size: Option<u64>,
}

impl OpenSegment {
    /// Where its next bytes go.
    fn at(&self) -> u64 {
        self.offset.saturating_add(self.done)
    }

    fn missing(&self) -> Option<u64> {
        self.size.map(|size| size.saturating_sub(self.done))
    }

    /// In a region of so many bytes.
    fn target(&self, region: u64) -> WriteTarget {
        let at = self.at();
        WriteTarget { at, most: self.missing().unwrap_or_else(|| region.saturating_sub(at)) }
    }
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
        let open = self.open(access)?;
        let segment = match open.missing() {
            Some(missing) if left != missing && !self.split => {
                return Err(argument(format!("segment_left: {left}, but {missing} bytes of the segment are missing")));
            }
            Some(_) => open,
            // Its length is known only now.
            None => {
                let part = self.fit(left, region.saturating_sub(open.at()), open.done)?;
                OpenSegment { size: Some(open.done.saturating_add(part)), ..open }
            }
        };
        self.segment = Some(segment);
        Ok(segment.target(region))
    }

    /// `len` bytes of a segment come without a word on its length; `segment_end`: it ends with them.
    pub fn extend(&mut self, access: &Access<'_>, len: u64, segment_end: bool) -> WindowResult<WriteTarget> {
        let region = access.registers()?.region.size;
        let open = self.open(access)?;
        if let Some(missing) = open.missing() {
            if len > missing && !self.split {
                return Err(argument(format!("len: {len}, but only {missing} bytes of the segment are missing")));
            }
            self.check_end(len, segment_end)?;
            return Ok(open.target(region));
        }
        let part = self.fit(len, region.saturating_sub(open.at()), open.done)?;
        // A part of a split segment ends where the window ends.
        let size = (part < len).then(|| open.done.saturating_add(part));
        let segment = OpenSegment { size, ..open };
        self.segment = Some(segment);
        Ok(segment.target(region))
    }

    /// The end of a segment may only be said where its announced length is reached.
    pub fn check_end(&self, len: u64, segment_end: bool) -> WindowResult<()> {
        let missing = self.segment.and_then(|open| open.missing()).filter(|_| segment_end && !self.split);
        match missing.map_or(0, |missing| missing.saturating_sub(len)) {
            0 => Ok(()),
            left => Err(argument(format!("flags: the end of a segment, but {left} bytes of it are missing"))),
        }
    }

    /// `len` bytes are in place; with the end of the segment it is handed to the device (V1-9).
    pub fn placed(&mut self, access: &Access<'_>, len: usize, segment_end: bool) -> WindowResult<()> {
        let Some(open) = self.segment else { return Ok(()) };
        let done = open.done.saturating_add(len as u64);
        if done == 0 {
            self.drop_empty();
            return Ok(());
        }
        let whole = open.size.map_or(segment_end, |size| done >= size);
        self.place = None;
        self.segment = (!whole).then_some(OpenSegment { done, ..open });
        if whole {
            let set = access.registers()?.set_data_size(access.transport, done);
            set.map_err(|fault| Trouble::after(fault, len))?;
        }
        Ok(())
    }

    /// A segment of which no byte was put in place is none: the caller may continue with another length.
    pub fn drop_empty(&mut self) {
        self.segment = self.segment.filter(|open| open.done > 0);
    }

    /// Where the bytes of the lent buffer go.
    pub fn target(&self, access: &Access<'_>) -> WindowResult<Option<WriteTarget>> {
        let region = access.registers()?.region.size;
        Ok(self.segment.map(|segment| segment.target(region)))
    }

    /// What is missing before the stream can be whole, in words.
    pub fn unfinished(&self) -> Option<String> {
        let open = self.segment?;
        Some(match open.missing() {
            Some(missing) => format!("a segment is open, {missing} of its bytes are missing"),
            None => format!("a segment is open, {} of its bytes were written, its end was not said", open.done),
        })
    }

    /// The open segment; if there is none, one that begins where the device wants it.
    fn open(&mut self, access: &Access<'_>) -> WindowResult<OpenSegment> {
        match self.segment {
            Some(open) => Ok(open),
            None => Ok(OpenSegment { offset: self.begin(access)?, done: 0, size: None }),
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

fn argument(text: String) -> Trouble {
    Trouble::before(Error::argument(text))
}
