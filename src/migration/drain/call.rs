//! What a caller gives to a drain and gets from it.

use crate::window::StreamFlags;
use std::os::fd::BorrowedFd;
use std::time::Duration;

/// How much one round may do, over all devices.
///
/// ```
/// use std::time::Duration;
/// use vfiomig::dialect::Direction;
/// use vfiomig::migration::{Budget, Migration, Phase};
/// use vfiomig::window::StreamFlags;
/// # use std::sync::Arc;
/// # let hardware = simdev::Device::new(simdev::Config::default());
/// # let options = vfiomig::device::DeviceOptions { name: "nic0".into(), ..Default::default() };
/// # let device = Arc::new(vfiomig::Device::new(hardware.transport(), options)?);
/// # let options = vfiomig::tracker::TrackerOptions { devices: vec![device.clone()], everything: true, ..Default::default() };
/// # let tracker = vfiomig::tracker::Tracker::new(options)?;
/// # let group = Arc::new(vfiomig::group::Group::new(Default::default()));
/// # group.add_device(device)?;
/// # group.add_tracker(Arc::new(tracker))?;
///
/// let save = Migration::new(Arc::clone(&group), Direction::Save)?;
/// save.advance(Phase::SavePreCopy)?;
/// let budget = Budget { bytes: 16 << 10, time: Duration::from_millis(100) };
/// let mut sent = 0;
/// loop {
///     let round = save.save_iterate(budget, &[], &mut |piece| {
///         sent += piece.bytes.len() as u64; // of the device number `piece.device`
///         Ok(())
///     })?;
///     assert!(round.bytes.iter().sum::<u64>() <= budget.bytes);
///     if round.flags.iter().all(|flags| flags.contains(StreamFlags::EMPTY)) {
///         break;
///     }
/// }
/// assert!(sent > 0 && save.pending().ready);
/// # save.abort(vfiomig::migration::AbortTo::Running)?;
/// # Ok::<(), vfiomig::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Never exceeded. Shared evenly by the devices, and what one of them leaves is shared by the others.
    pub bytes: u64,
    /// No read is begun after it.
    pub time: Duration,
}

/// Where the bytes of one device go.
///
/// ```
/// use std::os::fd::AsFd;
/// use vfiomig::dialect::Direction;
/// use vfiomig::migration::{Migration, Outlet, Phase};
/// # use std::sync::Arc;
/// # let hardware = simdev::Device::new(simdev::Config::default());
/// # let options = vfiomig::device::DeviceOptions { name: "nic0".into(), ..Default::default() };
/// # let device = Arc::new(vfiomig::Device::new(hardware.transport(), options)?);
/// # let options = vfiomig::tracker::TrackerOptions { devices: vec![device.clone()], everything: true, ..Default::default() };
/// # let tracker = vfiomig::tracker::Tracker::new(options)?;
/// # let group = Arc::new(vfiomig::group::Group::new(Default::default()));
/// # group.add_device(device)?;
/// # group.add_tracker(Arc::new(tracker))?;
///
/// let save = Migration::new(Arc::clone(&group), Direction::Save)?;
/// save.advance(Phase::SaveStopCopy)?;
/// let file = tempfile::tempfile()?;
/// let round = save.save_complete(&[Outlet::Fd(file.as_fd())], &mut |_| unreachable!("no device has `Call`"))?;
/// assert_eq!(file.metadata()?.len(), round.bytes[0]);
/// # save.abort(vfiomig::migration::AbortTo::Running)?;
/// # Ok::<(), vfiomig::Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub enum Outlet<'a> {
    /// To the caller's function, on the calling thread.
    Call,
    /// To this descriptor, on whichever thread serves the device. Only v2: a descriptor keeps no segments.
    Fd(BorrowedFd<'a>),
}

/// Where the bytes of one device come from.
///
/// ```
/// use std::os::fd::AsFd;
/// use vfiomig::dialect::Direction;
/// use vfiomig::migration::{Inlet, Migration, Phase};
/// # use std::io::{Seek, Write};
/// # use vfiomig::{device::OnFailure, dialect::State};
/// # use std::sync::Arc;
/// # let hardware = simdev::Device::new(simdev::Config::default());
/// # let options = vfiomig::device::DeviceOptions { name: "nic0".into(), ..Default::default() };
/// # let device = Arc::new(vfiomig::Device::new(hardware.transport(), options)?);
/// # let options = vfiomig::tracker::TrackerOptions { devices: vec![device.clone()], everything: true, ..Default::default() };
/// # let tracker = vfiomig::tracker::Tracker::new(options)?;
/// # let group = Arc::new(vfiomig::group::Group::new(Default::default()));
/// # group.add_device(device)?;
/// # group.add_tracker(Arc::new(tracker))?;
/// # let source = simdev::Device::new(simdev::Config::default().seeded(1));
/// # let from = vfiomig::Device::new(source.transport(), Default::default())?;
/// # from.set_state(State::StopCopy, OnFailure::Keep, false)?;
/// # let (mut file, mut total, mut part) = (tempfile::tempfile()?, 0, vec![0; 1 << 16]);
/// # loop {
/// #     let (len, _) = from.read(&mut part)?;
/// #     if len == 0 { break }
/// #     file.write_all(&part[..len])?;
/// #     total += len as u64;
/// # }
/// # file.rewind()?;
///
/// // `file` has the stream of the group's only device, and `total` is its length as the source side counted it.
/// let load = Migration::new(Arc::clone(&group), Direction::Load)?;
/// load.advance(Phase::LoadResuming)?;
/// let inlet = Inlet::Fd { fd: file.as_fd(), total: Some(total) };
/// load.load_complete(&[inlet], &mut |_, _| unreachable!("no device has `Call`"))?;
/// load.advance(Phase::LoadRunning)?;
/// # assert!(source.same_content(&hardware));
/// # Ok::<(), vfiomig::Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub enum Inlet<'a> {
    /// From the caller's function, on the calling thread.
    Call,
    /// From this descriptor, on whichever thread serves the device. Only v2: a descriptor keeps no segments.
    Fd {
        /// Read to `total`, or to its end.
        fd: BorrowedFd<'a>,
        /// The length of the stream as the source side counted it. `None`: the caller states that its format does not
        /// carry it: then a connection that broke looks like an end (F7).
        total: Option<u64>,
    },
}

/// A run of one device's bytes.
///
/// Example: [`Budget`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece<'a> {
    /// Which device of the group.
    pub device: usize,
    /// At least one.
    pub bytes: &'a [u8],
    /// A segment ends with them (v1, draft): the caller's format must carry this.
    pub segment_end: bool,
}

/// What a round brought.
///
/// Example: [`Budget`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Round {
    /// Bytes moved, by device.
    pub bytes: Vec<u64>,
    /// `EMPTY`, `END` or `NO_STREAM` by device; none of them: there is more. After a load `END`.
    pub flags: Vec<StreamFlags>,
}

/// What the caller's function brings of one device.
///
/// Example: [`Migration`](crate::migration::Migration).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fed {
    /// So many bytes of the buffer; at least one.
    Bytes {
        /// How many.
        len: usize,
        /// A segment ends with them (v1, draft).
        segment_end: bool,
    },
    /// The stream is at its end. Its length as the source side counted it; `None`: the caller's format does not carry it.
    End {
        /// In bytes.
        total: Option<u64>,
    },
}
