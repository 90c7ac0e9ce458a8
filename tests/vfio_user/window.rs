//! The window of the migration region of the first generation, which servers hand out and may never look at (U-6, U-7, U-16).

use super::peer::Kind;
use super::rig::{Direct, content, open, open_with, save, set};
use vfiomig::device::CapFlags;
use vfiomig::dialect::State;
use vfiomig::error::ErrorKind;
use vfiomig::transport::vfio_user::VfioUserOptions;

fn open_files() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

/// By default it is not mapped, so that what the server says is what is saved.
#[test]
fn the_window_is_trapped_by_default() {
    let channel = Direct::new(Kind::V1, &content(12_296));
    let device = open(&channel);
    set(&device, State::StopCopy).unwrap();
    assert_eq!(save(&device).unwrap().concat(), content(12_296));
    assert!(!device.info().caps.contains(CapFlags::MAPPED));
    assert_eq!(channel.peer().region.described, 2, "asked with room for nothing, and with room for all");
}

/// With the option it is, and a server that never sees that its window is read is found out: the same zeros would come for ever.
#[test]
fn a_window_that_is_mapped_and_not_looked_at_is_found_out() {
    let channel = Direct::new(Kind::V1, &content(12_296));
    let device = open_with(&channel, VfioUserOptions { map_region: true, ..VfioUserOptions::default() }).unwrap();
    set(&device, State::StopCopy).unwrap();
    let error = save(&device).unwrap_err();
    assert!(device.info().caps.contains(CapFlags::MAPPED) && device.info().broken);
    assert_eq!(error.kind(), ErrorKind::Protocol, "{error}");
}

/// Descriptors of descriptions that are not used are closed, also when the window is mapped.
#[test]
fn each_description_brings_a_descriptor_that_is_closed() {
    // Other tests of the program open files meanwhile; many rounds would show.
    const ROUNDS: usize = 200;
    for map_region in [false, true] {
        let channel = Direct::new(Kind::V1, b"state");
        let options = VfioUserOptions { map_region, ..VfioUserOptions::default() };
        let device = open_with(&channel, options).unwrap();
        let before = open_files();
        for _ in 0..ROUNDS {
            device.reprobe().unwrap();
        }
        assert!(open_files() < before + ROUNDS / 2, "{} of {before}", open_files());
        assert!(channel.peer().region.described > ROUNDS);
    }
}

/// A file that is shorter than the server says would raise SIGBUS.
#[test]
fn a_window_beyond_its_file_is_not_mapped() {
    let channel = Direct::new(Kind::V1, &content(9000));
    channel.spoil(|command, answer| match (command, answer) {
        (5, Ok((info, fds))) if !fds.is_empty() => {
            let file = tempfile::tempfile().unwrap();
            file.set_len(4096).unwrap();
            Ok((info, vec![file.into()]))
        }
        (_, answer) => answer,
    });
    let device = open_with(&channel, VfioUserOptions { map_region: true, ..VfioUserOptions::default() }).unwrap();
    set(&device, State::StopCopy).unwrap();
    assert_eq!(save(&device).unwrap().concat(), content(9000));
    assert!(!device.info().caps.contains(CapFlags::MAPPED));
}
