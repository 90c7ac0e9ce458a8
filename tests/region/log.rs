//! The draft's dirty log.

use super::*;

#[test]
fn the_draft_tells_which_pages_it_wrote() {
    for form in [DraftForm::Sticky, DraftForm::Rewrite] {
        for pfn_buffer in [1, 63, 64, 512, 4096] {
            let config = Config { pfn_buffer, window_size: 16 << 10, ..Config::draft(form) };
            let (sim, device) = draft_of(config);
            assert_eq!(
                dirty_pages(&device, 0, 10).unwrap_err().0.kind(),
                ErrorKind::Order,
                "its log answers only in SAVING"
            );
            set(&device, State::PreCopy).unwrap();
            let written = BTreeSet::from([0, 5, 63, 64, 100, 200, 299]);
            for &page in &written {
                sim.dma_write(page).unwrap();
            }
            assert_eq!(dirty_pages(&device, 0, 300).unwrap(), written, "{form:?} {pfn_buffer}");
            assert_eq!(dirty_pages(&device, 0, 300).unwrap(), BTreeSet::new(), "reading clears (D14)");
            sim.dma_write(250).unwrap();
            assert_eq!(dirty_pages(&device, 240, 20).unwrap(), BTreeSet::from([250]));
            // D5: the window shows one thing at a time.
            device.read(&mut [0; 10]).unwrap();
            assert_eq!(dirty_pages(&device, 0, 300).unwrap_err().0.errno(), libc::EBUSY);
            while !device.read(&mut [0; 9000]).unwrap().1.contains(SEGMENT_END) {}
            sim.dma_write(7).unwrap();
            assert_eq!(dirty_pages(&device, 0, 300).unwrap(), BTreeSet::from([7]));
            sim.assert_clean();
        }
    }
}

#[test]
fn a_log_that_cannot_be_read_is_all_dirty() {
    let all: BTreeSet<u64> = (10..310).collect();
    let cases = [
        (Access::CopiedPfnsRead, Effect::Lie(301), ErrorKind::Protocol),
        (Access::DataOffsetRead, Effect::Lie(0), ErrorKind::Protocol),
        (Access::DataOffsetRead, Effect::Lie(u64::MAX), ErrorKind::Protocol),
        (Access::CopiedPfnsRead, Effect::Errno(libc::EIO), ErrorKind::Device),
        (Access::DataRead, Effect::Errno(libc::EIO), ErrorKind::Device),
        (Access::PfnWrite, Effect::Errno(libc::EIO), ErrorKind::Device),
    ];
    for form in [DraftForm::Sticky, DraftForm::Rewrite] {
        for (access, effect, kind) in cases {
            let (sim, device) = open_draft(form);
            set(&device, State::PreCopy).unwrap();
            sim.dma_write(20).unwrap();
            let nth = sim.count(access);
            sim.inject(Fault::at(access, nth, effect));
            let (error, pages) = dirty_pages(&device, 10, 300).unwrap_err();
            assert_eq!((error.kind(), &pages), (kind, &all), "D14, D15: {access:?} {effect:?}: {error}");
        }
        // D12: all ones is no error.
        let (sim, device) = open_draft(form);
        set(&device, State::PreCopy).unwrap();
        sim.inject(Fault::at(Access::CopiedPfnsRead, 0, Effect::Lie(u64::MAX)));
        assert_eq!(dirty_pages(&device, 10, 300).unwrap(), all);
    }
}
