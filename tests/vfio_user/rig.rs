//! What the tests have in common: a channel to a peer in the same process, and devices over it.

use super::peer::{Answer, Kind, Peer};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard};
use vfiomig::device::{Device, DeviceOptions, OnFailure};
use vfiomig::dialect::State;
use vfiomig::error::{Errno, Error, ErrorKind};
use vfiomig::transport::vfio_user::{Exchange, VfioUser, VfioUserChannel, VfioUserLimits, VfioUserOptions};

/// Changes a reply on its way.
type Spoil = Box<dyn Fn(u16, Answer) -> Answer + Send + Sync>;

/// The VMM's own client, as short as one can be.
pub struct Direct {
    peer: Mutex<Peer>,
    pub spoil: Mutex<Option<Spoil>>,
    pub limits: VfioUserLimits,
}

impl Direct {
    pub fn new(kind: Kind, content: &[u8]) -> Arc<Direct> {
        let limits = VfioUserLimits { max_fds: 8, ..VfioUserLimits::default() };
        Arc::new(Direct { peer: Mutex::new(Peer::new(kind, content)), spoil: Mutex::new(None), limits })
    }

    pub fn peer(&self) -> MutexGuard<'_, Peer> {
        self.peer.lock().unwrap()
    }

    pub fn spoil(&self, how: impl Fn(u16, Answer) -> Answer + Send + Sync + 'static) {
        *self.spoil.lock().unwrap() = Some(Box::new(how));
    }

    /// No offence was noted.
    pub fn judge(&self) {
        assert_eq!(self.peer().offences, Vec::<String>::new());
    }
}

impl VfioUserChannel for Direct {
    fn limits(&self) -> VfioUserLimits {
        self.limits
    }

    fn exchange(&self, exchange: &mut Exchange<'_>) -> Result<usize, Errno> {
        let fds: Vec<OwnedFd> = exchange.fds().iter().map(|fd| fd.try_clone_to_owned().unwrap()).collect();
        let mut answer = self.peer().answer(exchange.command(), exchange.request(), &fds);
        if let Some(spoil) = &*self.spoil.lock().unwrap() {
            answer = spoil(exchange.command(), answer);
        }
        match answer {
            Ok((bytes, fds)) => {
                fds.into_iter().for_each(|fd| exchange.give_fd(fd));
                let room = exchange.reply_mut();
                if bytes.len() > room.len() {
                    return Err(Errno::new(libc::EMSGSIZE));
                }
                room[..bytes.len()].copy_from_slice(&bytes);
                Ok(bytes.len())
            }
            Err(0) => {
                exchange.had_no_errno();
                Err(Errno::new(libc::EIO))
            }
            Err(errno) => Err(Errno::new(errno)),
        }
    }
}

pub fn open_with(channel: &Arc<Direct>, options: VfioUserOptions) -> Result<Device, Error> {
    let channel = Arc::clone(channel) as Arc<dyn VfioUserChannel>;
    let name = "user0".to_string();
    Device::new(Box::new(VfioUser::new(channel, options)?), DeviceOptions { name, ..DeviceOptions::default() })
}

pub fn open(channel: &Arc<Direct>) -> Device {
    open_with(channel, VfioUserOptions::default()).unwrap()
}

pub fn set(device: &Device, to: State) -> Result<(), Error> {
    device.set_state(to, OnFailure::Keep, false).map(|_| ())
}

/// Bytes that are no two pages alike.
pub fn content(len: usize) -> Vec<u8> {
    (0..len as u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

/// All that is left of a stream, in its segments.
pub fn save(device: &Device) -> Result<Vec<Vec<u8>>, Error> {
    use vfiomig::window::StreamFlags;
    let mut segments = vec![Vec::new()];
    // A server can go on for ever, and only the caller knows what is too much.
    for _ in 0..4000 {
        let chunk = device.peek(0)?;
        let flags = chunk.flags();
        if flags.contains(StreamFlags::END) {
            segments.retain(|segment: &Vec<u8>| !segment.is_empty());
            return Ok(segments);
        }
        segments.last_mut().unwrap().extend(&chunk[..]);
        let len = chunk.len();
        device.consume(chunk, len)?;
        if flags.contains(StreamFlags::SEGMENT_END) {
            segments.push(Vec::new());
        }
    }
    Err(Error::new(ErrorKind::Protocol, libc::EFBIG, "there is no end of it"))
}

pub fn load(device: &Device, segments: &[Vec<u8>], ends: bool) -> Result<(), Error> {
    for segment in segments {
        device.write(segment, ends)?;
    }
    device.finish(Some(segments.iter().map(|segment| segment.len() as u64).sum()))
}
