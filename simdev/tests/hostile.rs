//! A client that does anything at all is judged, and never breaks the device.

use proptest::prelude::*;
use simdev::{Access, Config, Device, DmaLog, DraftForm, Effect, Fault, Window};
use vfiomig::dialect::Caps;

fn device(kind: usize) -> Device {
    let config = match kind {
        0 => Config { dma_log: Some(DmaLog { max_ranges: 9, ..DmaLog::default() }), ..Config::v2(Caps::ALL[3]) },
        1 => Config::v1(Window::Gap),
        2 => Config::v1_ndma(Window::Trapped),
        3 => Config::draft(DraftForm::Sticky),
        _ => Config::draft(DraftForm::Rewrite),
    };
    Device::new(config.seeded(1).state_size(5000))
}

#[derive(Clone, Debug)]
enum Step {
    Read(u64, usize),
    Write(u64, u64, usize),
    Feature(u32, [u64; 4], usize),
    Data(bool, usize),
    Info(u64),
    Map(u64, usize),
    Reset,
    Dma(u64),
    Touch(usize, usize),
    Fault(u64, u64),
}

fn step() -> impl Strategy<Value = Step> {
    let place = prop_oneof![0u64..0x50, 4090u64..5000, any::<u64>(), 20470u64..20490];
    let number = prop_oneof![0u64..16, any::<u64>(), 4000u64..9000];
    let len = prop_oneof![Just(4usize), Just(8), 0usize..600];
    let flags = (0u32..14, 0u32..8).prop_map(|(index, how)| index | how << 16);
    prop_oneof![
        4 => (place.clone(), len.clone()).prop_map(|(at, n)| Step::Read(at, n)),
        4 => (place.clone(), number.clone(), len.clone()).prop_map(|(at, v, n)| Step::Write(at, v, n)),
        3 => (flags, prop::array::uniform4(number.clone()), 0usize..40).prop_map(|(f, v, n)| Step::Feature(f, v, n)),
        2 => (any::<bool>(), len.clone()).prop_map(|(load, n)| Step::Data(load, n)),
        1 => number.clone().prop_map(Step::Info),
        1 => (place, 0usize..30000).prop_map(|(at, n)| Step::Map(at, n)),
        1 => Just(Step::Reset),
        1 => number.clone().prop_map(Step::Dma),
        1 => (0usize..6000, 0usize..600).prop_map(|(at, n)| Step::Touch(at, n)),
        1 => (0u64..20, number).prop_map(|(nth, v)| Step::Fault(nth, v)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn anything_goes(kind in 0usize..5, steps in prop::collection::vec(step(), 1..120)) {
        let d = device(kind);
        let mut maps = Vec::new();
        for step in steps {
            match step {
                Step::Read(at, n) => drop(d.region_read(9, at, &mut vec![0; n]).map(|done| assert!(done <= n))),
                Step::Write(at, v, n) => {
                    let bytes: Vec<u8> = v.to_ne_bytes().iter().copied().cycle().take(n).collect();
                    let _ = d.region_write(9, at, &bytes);
                }
                Step::Feature(flags, values, n) => {
                    let mut b = [0u8; 40];
                    b[..4].copy_from_slice(&(n as u32).to_ne_bytes());
                    b[4..8].copy_from_slice(&flags.to_ne_bytes());
                    // A bitmap's or a range's address stays one that is not mapped: the kernel's EFAULT.
                    for (i, v) in values.into_iter().enumerate() {
                        b[8 + i * 8..16 + i * 8].copy_from_slice(&(v % 9000).to_ne_bytes());
                    }
                    let _ = d.feature(&mut b[..n.max(4)]);
                }
                Step::Data(load, n) => {
                    let _ = if load { d.data_write(&vec![7; n]) } else { d.data_read(&mut vec![0; n]) };
                }
                Step::Info(v) => drop(d.precopy_info(&mut v.to_ne_bytes().repeat(3))),
                Step::Map(at, n) => maps.extend(d.region_map(9, at, n).ok().map(|m| (m, n))),
                Step::Reset => d.reset().unwrap_or(()),
                Step::Dma(page) => drop(d.dma_write(page)),
                Step::Touch(at, n) => drop(d.touch(at, n, 1)),
                Step::Fault(nth, v) => {
                    let effect = match v % 6 {
                        0 => Effect::Errno(5),
                        1 => Effect::ToError(5),
                        2 => Effect::Lie(v),
                        3 => Effect::Short((v % 9) as usize),
                        4 => Effect::MoveWindow,
                        _ => Effect::ErrnoMoved(5),
                    };
                    d.inject(Fault::at(Access::Any, d.count(Access::Any) + nth, effect));
                }
            }
        }
        maps.into_iter().for_each(|(m, n)| d.region_unmap(9, m, n));
        prop_assert!(d.reset().is_err() || d.state() == vfiomig::dialect::State::Running);
    }
}
