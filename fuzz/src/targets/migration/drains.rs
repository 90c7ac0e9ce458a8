//! Whole streams, in and out.

use super::members::Fake;
use super::{Course, LONGEST, MOST};
use crate::clock::call;
use crate::errors::{check_error, note};
use std::time::Duration;
use vfiomig::dialect::State;
use vfiomig::error::{Error, ErrorKind};
use vfiomig::migration::{Budget, Fed, Phase, Piece};
use vfiomig::window::StreamFlags;

const END: StreamFlags = StreamFlags::END;

impl Course {
    pub(super) fn save(&mut self, a: u8, b: u8, complete: bool) {
        let phase = self.migration.phase();
        let stop_at = if a & 0x30 == 0x30 { u32::from(a & 15) } else { u32::MAX };
        let mut pieces = 0;
        let mut moved = vec![0u64; self.devices.len()];
        let mut put = |piece: Piece<'_>| {
            assert!(!piece.bytes.is_empty());
            moved[piece.device] += piece.bytes.len() as u64;
            pieces += 1;
            if pieces > stop_at { Err(Error::new(ErrorKind::System, libc::EPIPE, "put")) } else { Ok(()) }
        };
        let budget =
            Budget { bytes: [u64::MAX, 0, 100, 5000][b as usize % 4], time: Duration::from_millis(u64::from(b)) };
        let outcome = call("drain", LONGEST, MOST, || {
            if complete {
                self.migration.save_complete(&[], &mut put)
            } else {
                self.migration.save_iterate(budget, &[], &mut put)
            }
        });
        match outcome {
            Ok(round) => {
                assert!(pieces <= stop_at);
                assert_eq!(round.bytes, moved, "what was counted is not what was put");
                assert!(!complete || phase == Phase::SaveStopCopy);
                for (device, flags) in self.devices.iter().zip(&round.flags) {
                    if complete && device.info().session_open {
                        assert_eq!(*flags, END, "save_complete without END");
                        assert!(device.info().complete);
                    }
                }
            }
            Err(error) => {
                check_error(&error);
                assert!(pieces <= stop_at || self.migration.phase() == Phase::Failed, "bytes were lost");
            }
        }
    }

    pub(super) fn load(&mut self, a: u8, b: u8) {
        let phase = self.migration.phase();
        for member in &mut self.members {
            let session = member.device.info().session;
            if member.place.0 != session {
                member.place = (session, 0);
            }
        }
        let lie = if a & 0x0f == 0x0f { b } else { 0 };
        let stated = |whole: u64| [None, Some(whole), Some(u64::from(b))][a as usize % 3];
        let members = &mut self.members;
        let migration = &self.migration;
        let outcome = call("drain", LONGEST, MOST, || {
            migration.load_complete(&[], &mut |device, buf| {
                let member = &mut members[device];
                let place = member.place.1;
                match lie {
                    1 if place == 1 => return Err(Error::new(ErrorKind::System, libc::EPIPE, "get")),
                    2 if place == 1 => return Ok(Fed::Bytes { len: buf.len() + 1, segment_end: false }),
                    _ => member.place.1 += 1,
                }
                let Some((bytes, segment_end)) = member.stream.get(place) else {
                    let whole = member.stream.iter().map(|(bytes, _)| bytes.len() as u64).sum();
                    let total = stated(whole);
                    if let Fake::Hostile(shared) = &member.fake {
                        // The device may leave RESUMING within this drain.
                        shared.st.lock().finished = total.is_none_or(|total| total == whole);
                    }
                    return Ok(Fed::End { total });
                };
                buf[..bytes.len()].copy_from_slice(bytes);
                Ok(Fed::Bytes { len: bytes.len(), segment_end: *segment_end })
            })
        });
        note(&outcome);
        for member in &self.members {
            let info = member.device.info();
            if outcome.is_ok() {
                assert!(matches!(phase, Phase::LoadResuming | Phase::LoadLoaded), "{phase:?}");
                // One that has left RESUMING for LOADED has no session any more.
                assert!(info.complete || info.state != State::Resuming);
                // A short stream that is stated as whole is the caller's; bytes that were counted are the device's.
                if let (Fake::Sim(_), 1, false) = (&member.fake, a % 3, member.broken) {
                    let whole: usize = member.stream.iter().map(|(bytes, _)| bytes.len()).sum();
                    assert_eq!(info.loaded_bytes, whole as u64);
                }
            }
            if let Fake::Hostile(shared) = &member.fake {
                let mut st = shared.st.lock();
                st.finished |= info.complete;
                // Streams of others: what they write is no pattern.
                st.lied = true;
            }
        }
    }
}
