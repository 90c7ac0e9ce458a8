//! Unmapping that fails, as a whole or in the middle of several mappings: what is still mapped is still tracked.

use crate::rig::{Log, P, Rig, range};
use simdev::{Access, DmaLog, Effect, Fault, Kernel, Type1Config};
use vfiomig::error::Errno;
use vfiomig::tracker::{Request, Unmap};

fn logs() -> [Log; 6] {
    [
        Log::Dma(DmaLog::default()),
        Log::Type1(Type1Config::default()),
        Log::Hwpt(1, Kernel::V6_12),
        Log::Hwpt(16, Kernel::V7_3),
        Log::Functions(DmaLog::default()),
        Log::Everything,
    ]
}

/// Neighbours are read together, and a walk over page tables ends at the first hole without a word (I4).
#[test]
fn half_of_the_mappings_are_gone() {
    for log in [Log::Type1(Type1Config::default()), Log::Hwpt(1, Kernel::V6_12), Log::Hwpt(16, Kernel::V7_3)] {
        let rig = Rig::new(log, 1);
        rig.map_all(&[(0, 40), (40, 40), (80, 40)]);
        rig.start();
        rig.write(&[5, 50, 90]);
        let moved = Effect::ErrnoMoved(libc::EBUSY);
        let twice = Fault { times: 2, ..Fault::at(Access::Type1Unmap, 0, moved) };
        let watch = rig.type1.as_ref().map(|c| (c.watch(), twice));
        let other = rig.iommufd.as_ref().map(|fd| (fd.watch(), Fault::at(Access::IoasUnmap, 0, moved)));
        let (watch, fault) = watch.or(other).unwrap();
        watch.inject(fault);
        assert!(rig.try_unmap(0, 80).is_none(), "{log:?}");
        assert!(rig.space.mappings().len() < 3, "{log:?}: nothing is gone");
        let left: Vec<u64> = rig.space.mappings().iter().map(|m| m.iova / P).collect();
        for _ in 0..2 {
            let pages: Vec<u64> = left.iter().map(|first| first + 7).collect();
            rig.write(&pages);
            let reported = rig.harvest();
            assert!(pages.iter().all(|page| reported.pages.contains(page)), "{log:?}");
        }
        // The second try takes what is left.
        rig.write(&[left[0] + 1]);
        assert!(rig.try_unmap(0, 80).is_some(), "{log:?}");
        rig.map(0, 120 - 40, 0);
        rig.write(&[3, 70, 90]);
        rig.finish();
        rig.assert_clean();
    }
}

#[test]
fn a_vmm_that_cannot_unmap() {
    for log in logs() {
        for refused in [0, 1] {
            let rig = Rig::new(log, 1);
            rig.map_all(&[(0, 40), (40, 40), (200, 3)]);
            rig.start();
            rig.write(&[5, 50]);
            // Says no at once, or after one of the two mappings.
            let mut by_hand = |whole: vfiomig::tracker::IovaRange| {
                if refused > 0 {
                    rig.space.unmap(whole.iova, whole.size / 2).unwrap();
                }
                Err(Errno::new(libc::EBUSY))
            };
            let mut reported = std::collections::BTreeSet::new();
            let mut run = |cookie: u64, run: vfiomig::tracker::IovaRange| {
                for page in run.iova / P..(run.iova + run.size) / P {
                    rig.ram.copy((page * P).wrapping_add(cookie) / P);
                    reported.insert(page);
                }
                true
            };
            let mut request = Request { run: Some(&mut run), ..Request::default() };
            let error = rig.tracker.unmap(range(0, 80), Unmap::By(&mut by_hand), false, &mut request).unwrap_err();
            assert_eq!(error.errno(), libc::EBUSY, "{log:?}");
            rig.write(&[60, 201]);
            rig.harvest();
            rig.write(&[61, 202]);
            rig.finish();
            rig.assert_clean();
        }
    }
}
