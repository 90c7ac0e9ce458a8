//! The internal state: bytes, what of them has to be sent, segments out of it and into it.

use super::granules::Granules;
use super::mix::mix;
use super::segment::{self, HEADER, Header};

/// State is dirtied and sent in units of so many bytes.
pub(crate) const GRANULE: usize = 64;
/// Longest padding of segments of changing length.
const MAX_PAD: usize = 23;

/// One save session.
#[derive(Clone, Debug)]
struct Save {
    seq: u64,
    /// Not sent in this session.
    fresh: Granules,
    /// Sent, and changed since.
    dirty: Granules,
    /// The last segment was made.
    finished: bool,
}

/// One load session.
#[derive(Clone, Debug)]
struct Load {
    bytes: Vec<u8>,
    missing: Granules,
    next: u64,
    finished: bool,
}

/// Parameters of the stream.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Form {
    /// Longest segment.
    pub segment: usize,
    pub vary: bool,
    pub sum: bool,
    /// Bytes offered while running.
    pub precopy: usize,
    /// Those never change.
    pub fixed: bool,
    /// The last segment may come while running.
    pub ends_early: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct Content {
    pub bytes: Vec<u8>,
    form: Form,
    save: Option<Save>,
    load: Option<Load>,
}

impl Content {
    pub fn new(size: usize, seed: Option<u64>, form: Form) -> Self {
        let mut bytes = vec![0; size];
        if let Some(seed) = seed {
            for (i, part) in bytes.chunks_mut(8).enumerate() {
                part.copy_from_slice(&mix(seed.wrapping_mul(0x1_0000_0001) ^ i as u64).to_le_bytes()[..part.len()]);
            }
        }
        Content { bytes, form, save: None, load: None }
    }

    fn granules(&self) -> usize {
        self.bytes.len().div_ceil(GRANULE)
    }

    /// Granules that may be sent.
    fn limit(&self, running: bool) -> usize {
        if running { (self.form.precopy / GRANULE).min(self.granules()) } else { self.granules() }
    }

    pub fn checksum(&self) -> u64 {
        let fnv = |h: u64, b: &u8| (h ^ u64::from(*b)).wrapping_mul(0x100_0000_01b3);
        self.bytes.iter().fold(0xcbf2_9ce4_8422_2325, fnv)
    }

    /// Changes `len` bytes at `offset`, to `value` and its mixes.
    pub fn touch(&mut self, offset: usize, len: usize, value: u64) {
        let end = offset.saturating_add(len).min(self.bytes.len());
        let offset = if self.form.fixed { offset.max(self.limit(true) * GRANULE) } else { offset };
        for at in offset..end {
            self.bytes[at] = self.bytes[at].wrapping_add((mix(value ^ at as u64) as u8) | 1);
        }
        if offset < end {
            self.mark(offset, end, false);
        }
    }

    /// What is there; zeros beyond the end.
    pub fn peek(&self, offset: usize, out: &mut [u8]) {
        out.fill(0);
        out.iter_mut().zip(self.bytes.get(offset..).unwrap_or(&[])).for_each(|(byte, value)| *byte = *value);
    }

    /// Writes bytes of the state, where there is some and it can change.
    pub fn poke(&mut self, offset: usize, values: &[u8]) {
        let fixed = if self.form.fixed { self.limit(true) * GRANULE } else { 0 };
        let (from, end) = (offset.max(fixed), offset.saturating_add(values.len()).min(self.bytes.len()));
        if from < end {
            self.bytes[from..end].copy_from_slice(&values[from - offset..end - offset]);
            self.mark(from, end, false);
        }
    }

    /// `fresh`: as if never sent (C9).
    pub fn mark(&mut self, offset: usize, end: usize, fresh: bool) {
        let Some(save) = &mut self.save else { return };
        for i in offset / GRANULE..end.div_ceil(GRANULE) {
            if fresh {
                save.dirty.put(i, false);
                save.fresh.put(i, true);
            } else if !save.fresh.has(i) {
                save.dirty.put(i, true);
            }
        }
    }

    pub fn wipe(&mut self) {
        self.bytes.fill(0);
        self.end();
    }

    /// N7: a session begins with everything to be sent.
    pub fn begin_save(&mut self) {
        let (n, split) = (self.granules(), self.limit(true));
        let (fresh, dirty) = (Granules::all(n, split), Granules::none(n, split));
        self.save = Some(Save { seq: 0, fresh, dirty, finished: false });
    }

    pub fn begin_load(&mut self) {
        let n = self.granules();
        self.load =
            Some(Load { bytes: vec![0; self.bytes.len()], missing: Granules::all(n, n), next: 0, finished: false });
    }

    /// A load to which nothing came yet.
    pub fn load_is_untouched(&self) -> bool {
        self.load.as_ref().is_some_and(|load| load.next == 0)
    }

    pub fn end(&mut self) {
        self.save = None;
        self.load = None;
    }

    /// (not yet sent, changed since it was sent), without headers.
    pub fn left(&self, running: bool) -> (u64, u64) {
        let Some(save) = &self.save else { return (0, 0) };
        ((save.fresh.count(running) * GRANULE) as u64, (save.dirty.count(running) * GRANULE) as u64)
    }

    /// What pending_bytes says: non-zero if and only if there is another segment.
    pub fn pending(&self, running: bool) -> u64 {
        let Some(save) = &self.save else { return 0 };
        let (fresh, dirty) = self.left(running);
        let last_comes = !save.finished && (!running || self.ends_now());
        fresh + dirty + if last_comes { HEADER as u64 } else { 0 }
    }

    /// Whether the last segment may come while the device runs: nothing else is left at all.
    fn ends_now(&self) -> bool {
        let left = |save: &Save| save.fresh.count(false) + save.dirty.count(false);
        self.form.ends_early && self.save.as_ref().is_some_and(|save| left(save) == 0)
    }

    /// Bytes of a whole stream, the longer of those with and without a part that was sent while running.
    pub fn stream_len(&self) -> u64 {
        let whole = |running: bool| {
            let mut copy = self.clone();
            copy.begin_save();
            let mut len = 0;
            while let Some(segment) = running.then(|| copy.next_segment(true)).flatten() {
                len += segment.len() as u64;
            }
            while let Some(segment) = copy.next_segment(false) {
                len += segment.len() as u64;
            }
            len
        };
        whole(true).max(whole(false))
    }

    /// Bytes of the part that is sent while running.
    pub fn precopy_len(&self) -> u64 {
        let mut copy = self.clone();
        copy.begin_save();
        std::iter::from_fn(|| copy.next_segment(true)).map(|segment| segment.len() as u64).sum()
    }

    /// All that is left, as one piece.
    pub fn rest(&mut self) -> Vec<u8> {
        std::iter::from_fn(|| self.next_segment(false)).flatten().collect()
    }

    /// Takes a piece of several segments.
    pub fn load_piece(&mut self, mut bytes: &[u8]) -> Result<(), String> {
        while !bytes.is_empty() {
            let total = Header::decode(bytes)?.total();
            let (segment, rest) = bytes.split_at_checked(total).ok_or("a segment is cut")?;
            self.load_segment(segment)?;
            bytes = rest;
        }
        Ok(())
    }

    /// The next segment. The last one, made only when the device is stopped, has no payload and says how long the state is.
    pub fn next_segment(&mut self, running: bool) -> Option<Vec<u8>> {
        let (limit, form, size) = (self.limit(running), self.form, self.bytes.len());
        let ends_now = self.ends_now();
        let save = self.save.as_mut()?;
        let mut header = Header { last: false, pad: 0, seq: save.seq, len: 0, crc: 0, offset: 0 };
        let mut most = (form.segment - HEADER) / GRANULE;
        if form.vary {
            let random = mix(save.seq ^ 0x5eed);
            header.pad = random as usize % (MAX_PAD + 1);
            most = (form.segment - HEADER - MAX_PAD) / GRANULE;
            most = 1 + (random >> 16) as usize % most;
        }
        let set = if save.fresh.first(running).is_some() { &mut save.fresh } else { &mut save.dirty };
        let Some(first) = set.first(running) else {
            if (running && !ends_now) || save.finished {
                return None;
            }
            save.finished = true;
            header.last = true;
            header.offset = size as u64;
            save.seq += 1;
            return Some(segment::build(header, &[], form.sum));
        };
        // An identity comes in segments of its own, so that a stream always has the same length.
        let early = self.bytes.len().min(form.precopy) / GRANULE;
        let limit = if form.fixed && first < early { limit.min(early) } else { limit };
        let mut end = first;
        while end < limit && end - first < most && set.has(end) {
            set.put(end, false);
            end += 1;
        }
        save.seq += 1;
        header.offset = (first * GRANULE) as u64;
        Some(segment::build(header, &self.bytes[first * GRANULE..(end * GRANULE).min(size)], form.sum))
    }

    /// Takes one segment; what is wrong with it, in words.
    pub fn load_segment(&mut self, bytes: &[u8]) -> Result<(), String> {
        let sum = self.form.sum;
        let load = self.load.as_mut().ok_or("no load session")?;
        if load.finished {
            return Err(format!("{} bytes after the last segment", bytes.len()));
        }
        let header = segment::check(bytes, sum)?;
        if header.seq != load.next {
            return Err(format!("segment {} where {} was due", header.seq, load.next));
        }
        load.next += 1;
        let size = load.bytes.len();
        if header.last {
            load.finished = true;
            let fits = header.offset == size as u64;
            return if fits { Ok(()) } else { Err(format!("state of {} bytes for a device of {size}", header.offset)) };
        }
        let start = usize::try_from(header.offset).unwrap_or(usize::MAX);
        let place = start.checked_add(header.len).and_then(|end| load.bytes.get_mut(start..end));
        let Some(place) = place else {
            return Err(format!("segment {} at {start} of {} bytes: the state has {size}", header.seq, header.len));
        };
        place.copy_from_slice(&bytes[HEADER..HEADER + header.len]);
        for i in start / GRANULE..(start + header.len).div_ceil(GRANULE) {
            load.missing.put(i, false);
        }
        Ok(())
    }

    /// Leaving RESUMING: what was loaded becomes the state (N11). `truncated` takes what there is (F7).
    pub fn finish_load(&mut self, truncated: bool) -> Result<(), String> {
        let load = self.load.as_ref().ok_or("no load session")?;
        if !truncated && !load.finished {
            return Err(format!("the stream ends after segment {} of more", load.next));
        }
        if !truncated && load.missing.count(false) > 0 {
            return Err(format!("{} granules of the state are missing", load.missing.count(false)));
        }
        if let Some(load) = self.load.take() {
            self.bytes = load.bytes;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn content(size: usize, seed: Option<u64>, segment: usize, vary: bool, precopy: usize) -> Content {
        Content::new(size, seed, Form { segment, vary, sum: true, precopy, fixed: false, ends_early: false })
    }

    proptest! {
        #[test]
        fn a_stream_carries_the_state(size in 0usize..9000, segment in 256usize..2000, vary: bool, part in 0usize..9000,
                                      touches in prop::collection::vec((0usize..9000, 1usize..300), 0..10)) {
            let mut source = content(size, Some(3), segment, vary, part.min(size));
            let mut sink = content(size, None, 256, false, 0);
            source.begin_save();
            sink.begin_load();
            let mut touches = touches.into_iter();
            loop {
                prop_assert_eq!(source.pending(true) > 0, source.clone().next_segment(true).is_some());
                match source.next_segment(true) {
                    Some(s) => { prop_assert!(s.len() <= segment); sink.load_segment(&s).unwrap(); }
                    None => match touches.next() {
                        Some((at, len)) => source.touch(at, len, 5),
                        None => break,
                    },
                }
            }
            prop_assert!(sink.finish_load(false).is_err());
            while let Some(s) = source.next_segment(false) { sink.load_segment(&s).unwrap(); }
            prop_assert_eq!(source.pending(false), 0);
            sink.finish_load(false).unwrap();
            prop_assert!(sink.bytes == source.bytes);
        }
    }

    #[test]
    fn a_missing_a_double_and_a_swapped_segment_are_seen() {
        let mut source = content(1000, Some(1), 256, false, 0);
        source.begin_save();
        let all: Vec<_> = std::iter::from_fn(|| source.next_segment(false)).collect();
        assert_eq!(all.len(), 7);
        let load = |order: &[usize]| {
            let mut sink = content(1000, None, 256, false, 0);
            sink.begin_load();
            order.iter().try_for_each(|&i| sink.load_segment(&all[i])).and_then(|()| sink.finish_load(false))
        };
        assert_eq!(load(&[0, 1, 2, 3, 4, 5, 6]), Ok(()));
        for bad in [&[0, 1, 2, 3, 4, 6][..], &[0, 0, 1, 2, 3, 4, 5, 6], &[1, 0, 2, 3, 4, 5, 6], &[0, 1, 2, 3, 4, 5]] {
            assert!(load(bad).is_err(), "{bad:?}");
        }
        assert!(load(&[0, 1, 2, 3, 4, 5, 6, 0]).is_err());
    }
}
