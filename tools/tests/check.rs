//! `vfiomig check` finds what is wrong with a device, names it by the right check, and finds nothing else: with the clean
//! device, with one habit or one fault at a time, and with what is known of drivers and servers.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

#[path = "common/checked.rs"]
mod checked;

use checked::{CUT, MapToStrings, check, clean, found};
use simdev::Access::{self, DataRead, DataWrite, DmaLogReport, DmaLogStart, DmaLogStop, Enter};
use simdev::Effect::{self, Errno, ErrnoMoved, Lie, NoFd, Short, ToError, UnexpectedFd};
use simdev::{Config, Device, Fault, Peer};
use std::time::Duration;
use vfiomig::dialect::State;
use vfiomig_tools::check::{Subject, run, words};

#[test]
fn a_clean_device_passes_all() {
    let device = Device::new(clean());
    let before = device.content();
    let tried = check(&device, true, None);
    assert_eq!(tried.names, [""; 0], "{}", tried.told);
    // Nothing is left out but what is another dialect's, dangerous, or for two.
    let reasons =
        ["it speaks v2", "only with --dangerous", "no second device", "lies between", "it was cut at some places"];
    let odd: Vec<_> = tried.skipped.iter().filter(|skipped| !reasons.iter().any(|r| skipped.1.contains(r))).collect();
    assert!(odd.is_empty(), "{odd:?}");
    assert_eq!((device.state(), device.content() == before), (State::Running, true), "it is as it was");
    for (p2p, pre_copy) in [(false, false), (true, false), (false, true)] {
        let caps = vfiomig::dialect::Caps { p2p, pre_copy };
        let tried = check(&Device::new(Config { dialect: Config::v2(caps).dialect, ..clean() }), true, None);
        assert_eq!(tried.names, [""; 0], "{caps:?}: {}", tried.told);
    }
    let draft = Config::draft(simdev::DraftForm::Sticky);
    for config in [Config::v1(simdev::Window::Trapped), Config::v1_ndma(simdev::Window::Area), draft] {
        let device = Device::new(config.seeded(5));
        let before = device.content();
        let tried = check(&device, true, None);
        assert_eq!((tried.names, device.content() == before), (vec![], true), "{}", tried.told);
        // The whole of v1's checks is made, and of a mapped window also that.
        let reasons =
            ["migration region", "only with --dangerous", "no second device", "P2P states", "no log", "mapped"];
        let odd: Vec<_> =
            tried.skipped.iter().filter(|skipped| !reasons.iter().any(|r| skipped.1.contains(r))).collect();
        assert!(odd.is_empty(), "{odd:?}");
    }
}

#[test]
fn what_is_known_of_each_driver_is_found() {
    let table: [(Peer, &[&str], bool); 10] = [
        (
            Peer::Mlx5,
            &[
                "quirk size-of-stream",
                "quirk precopy-info-echo",
                "quirk precopy-poll",
                CUT[0],
                CUT[1],
                CUT[2],
                CUT[3],
                CUT[4],
                "fail refusal-stays",
            ],
            false,
        ),
        (Peer::HisiAcc, &["quirk precopy-nothing-now", CUT[2], "fail refusal-stays"], false),
        (
            Peer::Pds,
            &[CUT[0], CUT[3], CUT[4], "fail refusal-stays", "quirk log-page-size", "quirk log-in-states"],
            false,
        ),
        (Peer::Qat, &["quirk precopy-nothing-now", "fail refusal-stays"], false),
        (
            Peer::Virtio,
            &[
                "quirk size-of-stream",
                "quirk precopy-info-echo",
                "quirk precopy-rests",
                CUT[0],
                CUT[1],
                CUT[2],
                CUT[3],
                CUT[4],
                "fail refusal-stays",
            ],
            false,
        ),
        (Peer::Xe, &["quirk size-of-stream", "quirk reads-do-not-sleep", "quirk leave-before-end"], false),
        (
            Peer::Mtty,
            &[
                "quirk precopy-info-echo",
                "quirk precopy-nothing-now",
                "fail refusal-stays",
                "quirk log-page-size",
                "fail log-started-twice",
                "fail log-not-started",
                "fail log-small-pages",
                "fail log-exact",
            ],
            false,
        ),
        // It moves data by mapping only (K25).
        (Peer::SpdkV1, &["fail v1-stop-copy-to-stop", "quirk v1-reset-in-stop-copy"], false),
        // Nothing leads out of its ERROR (K24).
        (Peer::LibvfioUserV1, &["quirk v1-reset-in-stop-copy", "fail v1-load-half"], true),
        (
            Peer::LibvfioUserV2,
            &[
                "quirk info-while-stopped",
                "quirk reset-in-stop",
                "quirk reset-in-stop-copy",
                "quirk reset-in-resuming",
                "quirk reset-in-pre-copy",
                "quirk log-part",
                "quirk log-started-twice",
            ],
            false,
        ),
    ];
    for (peer, expected, lost) in table {
        let kernel = !matches!(peer, Peer::SpdkV1 | Peer::LibvfioUserV1 | Peer::LibvfioUserV2);
        let tried = check(&Device::new(peer.config().seeded(7)), kernel, None);
        assert_eq!(
            (&tried.names[..], tried.lost),
            (&expected.map_to_strings()[..], lost),
            "{}: {}",
            peer.name(),
            tried.told
        );
    }
}

use State::{PreCopy, PreCopyP2p, Resuming, Running, RunningP2p, Stop, StopCopy};

/// What goes wrong, at which access of its kind, what is found, and the rule that is named.
type FaultRow = (Access, u64, Effect, &'static [&'static str], &'static str);

const FAULTS: [FaultRow; 36] = [
    (Access::DeviceInfo, 0, Errno(libc::EIO), &["fail device-info"], "P6"),
    (Access::RegionInfo, 0, Errno(libc::EIO), &["fail region-info"], "P6"),
    (Access::StateRead, 0, Errno(libc::EIO), &["fail fresh-state"], "N6"),
    (Access::StateRead, 0, Lie(77), &["fail fresh-state"], "N6"),
    (Access::StateRead, 0, Lie(1), &["fail fresh-state"], "N16"),
    (Access::GetMigration, 0, Errno(libc::EIO), &["fail migration-flags"], "V2-11"),
    (Access::GetMigration, 0, Lie(6), &["fail migration-flags"], "V2-11"),
    (Access::GetMigration, 0, Lie(15), &["quirk migration-flags"], "V2-11"),
    (Access::OtherFeature, 0, Errno(libc::EPERM), &["fail unknown-feature"], "V2-15"),
    (Access::OtherFeature, 1, Errno(libc::EPERM), &["fail feature-probe"], "V2-15"),
    (Access::StopCopySize, 0, Errno(libc::EIO), &["fail data-size"], "V2-13"),
    (Access::StopCopySize, 0, Lie(u64::MAX - 5), &["quirk data-size"], "V2-13"),
    (Access::OptIn, 0, Errno(libc::EIO), &["fail reinit-opt-in"], "C8"),
    (Enter(RunningP2p), 0, Errno(libc::EIO), &["fail running-to-running-p2p"], "V2-12"),
    (Enter(Running), 0, Errno(libc::EIO), &["fail running-to-running-p2p"], "V2-12"),
    (Enter(Stop), 0, Errno(libc::EIO), &["fail running-p2p-to-stop"], "V2-12"),
    (Enter(StopCopy), 0, ToError(libc::EIO), &["fail stop-to-stop-copy"], "V2-12"),
    (Enter(Resuming), 0, Errno(libc::EBUSY), &["fail stop-to-resuming"], "V2-12"),
    (Enter(PreCopy), 0, Errno(libc::ENOMEM), &["fail running-to-pre-copy"], "V2-12"),
    (Enter(PreCopyP2p), 0, Errno(libc::EIO), &["fail running-p2p-to-pre-copy-p2p"], "V2-12"),
    (Access::StateWrite, 0, UnexpectedFd, &["fail running-to-running-p2p"], "V2-4"),
    (Access::StateWrite, 12, NoFd, &["fail stop-to-stop-copy"], "V2-5"),
    (DataRead, 0, Errno(libc::EIO), &["fail stop-to-stop-copy"], "F2"),
    (DataRead, 0, ErrnoMoved(libc::EFAULT), &["fail stop-to-stop-copy"], "F2"),
    (DataRead, 0, Short(3), &[], ""),
    (DataWrite, 0, Errno(libc::EIO), &["fail load"], "N4"),
    (DataWrite, 0, Short(3), &[], ""),
    (Access::PrecopyInfo, 0, Errno(libc::EIO), &["fail precopy-info"], "C2"),
    (Access::Reset, 0, Errno(libc::EIO), &["fail stop-to-resuming"], "V2-14"),
    (DmaLogStart, 0, Errno(libc::EIO), &["fail log-start"], "L6"),
    (DmaLogStop, 0, Errno(libc::EIO), &["fail log-start"], "L6"),
    (DmaLogReport, 0, Errno(libc::EIO), &["fail log-report"], "K23"),
    (DataRead, 0, Effect::Delay(Duration::from_millis(20)), &[], ""),
    (Access::StateWrite, 0, ErrnoMoved(libc::EMFILE), &["fail running-to-running-p2p"], "V2-12"),
    (Access::StateWrite, 0, ToError(libc::EIO), &["fail running-to-running-p2p"], "V2-12"),
    (Access::StateWrite, 1, Effect::ResetBehind, &["fail running-to-running-p2p"], "N6"),
];

const V1_FAULTS: [FaultRow; 17] = [
    (Access::DeviceInfo, 0, Errno(libc::EIO), &["fail device-info"], "P6"),
    (Access::StateRead, 0, Lie(5), &["fail fresh-state"], "V1-15"),
    (Access::StateWrite, 0, Errno(libc::EIO), &["fail v1-running-to-stop"], "V1-3"),
    (Enter(StopCopy), 0, ToError(libc::EIO), &["fail v1-running-to-stop-copy"], "V1-3"),
    (Enter(Resuming), 0, Errno(libc::EBUSY), &["fail v1-running-to-resuming"], "V1-3"),
    (Access::PendingRead, 0, Errno(libc::EIO), &["fail v1-stop-copy-to-stop"], "V1-1"),
    (Access::DataOffsetRead, 0, Errno(libc::EIO), &["fail v1-stop-copy-to-stop"], "V1-1"),
    (Access::DataOffsetRead, 0, Lie(8), &["fail v1-stop-copy-to-stop"], "V1-13"),
    (Access::DataOffsetRead, 2, Effect::MoveWindow, &[], ""),
    (Access::DataSizeRead, 0, Errno(libc::EIO), &["fail v1-stop-copy-to-stop"], "V1-1"),
    (Access::DataSizeRead, 0, Lie(1 << 40), &["fail v1-stop-copy-to-stop"], "V1-13"),
    (Access::DataSizeWrite, 0, Errno(libc::EIO), &["fail v1-load"], "V1-9"),
    (DataRead, 0, Errno(libc::EIO), &["fail v1-stop-copy-to-stop"], "V1-12"),
    (DataRead, 0, Errno(libc::EINVAL), &["fail v1-wide-access"], "V1-12"),
    (DataRead, 0, Short(3), &[], ""),
    (DataWrite, 0, Errno(libc::EIO), &["fail v1-load"], "V1-9"),
    (Access::RegionMap, 0, Errno(libc::ENODEV), &["quirk v1-mapped-window"], "V1-14"),
];

/// Of the draft's log. copied_pfns is read once by draft-log-answers, twice by draft-log-clean, then before the device writes, twice
/// for what it wrote, and once more.
const DRAFT_FAULTS: [FaultRow; 9] = [
    (Access::PfnWrite, 0, Errno(libc::EIO), &["fail draft-log-answers"], "D8"),
    (Access::CopiedPfnsRead, 0, Errno(libc::EIO), &["fail draft-log-answers"], "D8"),
    (Access::CopiedPfnsRead, 0, Lie(513), &["fail draft-log-answers"], "D15"),
    (Access::CopiedPfnsRead, 0, Lie(u64::MAX), &["quirk draft-log-answers"], "D12"),
    (Access::CopiedPfnsRead, 2, Lie(u64::MAX), &["quirk draft-log-clean"], "D12"),
    (Access::CopiedPfnsRead, 2, Lie(64), &["fail draft-log-clean"], "D14"),
    (Access::CopiedPfnsRead, 4, Lie(0), &["fail draft-log-exact"], "D14"),
    (Access::CopiedPfnsRead, 6, Lie(64), &["fail draft-log-exact"], "D14"),
    (Access::CopiedPfnsRead, 5, Lie(1), &["fail draft-log-exact"], "D11"),
];

/// Each fault of a table, met by a device as it is described.
fn judge_faults(config: &Config, table: &[FaultRow]) {
    for (access, nth, effect, expected, rule) in table {
        let tried = check(&Device::new(config.clone()), true, Some((*access, *nth, *effect)));
        let what = format!("{access:?} {nth} {effect:?}: {}", tried.told);
        assert_eq!((tried.names, tried.lost), (expected.map_to_strings(), false), "{what}");
        assert!(tried.told.contains(rule), "{what} lacks {rule}");
    }
}

#[test]
fn each_fault_is_found_once_and_by_its_rule() {
    judge_faults(&clean(), &FAULTS);
}

/// Of a device with a migration region.
#[test]
fn each_fault_of_a_region_is_found_once_and_by_its_rule() {
    judge_faults(&Config::v1(simdev::Window::Area).seeded(3), &V1_FAULTS);
}

/// Of a draft device.
#[test]
fn each_fault_of_the_drafts_log_is_found_once_and_by_its_rule() {
    judge_faults(&Config::draft(simdev::DraftForm::Sticky).seeded(3), &DRAFT_FAULTS);
}

/// The names of all kinds, each with the reason why no row has it. Without `_`: a new kind does not compile, and then it wants a
/// row or a reason.
macro_rules! kinds {
    ($table:ident, $name_of:ident, $kind:ident { $($name:ident: $why:expr),* $(,)? }) => {
        const $table: &[(&str, &str)] = &[$((stringify!($name), $why)),*];
        fn $name_of(kind: &$kind) -> &'static str {
            match kind { $($kind::$name { .. } => stringify!($name)),* }
        }
    };
}

const OF_A_VMM: &str = "it is of the VMM's memory, of which no check is made";
const OF_A_SERVER: &str = "a message of vfio-user: check_servers.rs has it";

kinds!(
    ACCESSES,
    access_name,
    Access {
        Any: "it stands for all others",
        Enter: "",
        DeviceInfo: "",
        RegionInfo: "",
        RegionMap: "",
        Reset: "",
        StateRead: "",
        StateWrite: "",
        PendingRead: "",
        DataOffsetRead: "",
        DataSizeRead: "",
        DataSizeWrite: "",
        DataRead: "",
        DataWrite: "",
        PfnWrite: "",
        CopiedPfnsRead: "",
        OddAccess: "the check makes none",
        BarAccess: "the check makes none of a device of the kernel",
        GetMigration: "",
        StopCopySize: "",
        OptIn: "",
        PrecopyInfo: "",
        DmaLogStart: "",
        DmaLogStop: "",
        DmaLogReport: "",
        OtherFeature: "",
        Type1Info: OF_A_VMM,
        Type1Start: OF_A_VMM,
        Type1Stop: OF_A_VMM,
        Type1Get: OF_A_VMM,
        Type1Unmap: OF_A_VMM,
        HwptSetDirty: OF_A_VMM,
        HwptGetDirty: OF_A_VMM,
        IoasUnmap: OF_A_VMM,
        DmaMap: OF_A_SERVER,
        DmaUnmap: OF_A_SERVER,
        IrqInfo: OF_A_SERVER,
        IrqSet: OF_A_SERVER,
    }
);

kinds!(
    EFFECTS,
    effect_name,
    Effect {
        Errno: "",
        ErrnoMoved: "",
        ToError: "",
        Lie: "",
        NoFd: "",
        UnexpectedFd: "",
        Short: "",
        MoveWindow: "",
        Delay: "",
        ResetBehind: "",
    }
);

#[test]
fn the_tables_of_faults_are_complete() {
    let rows = FAULTS.iter().chain(&V1_FAULTS).chain(&DRAFT_FAULTS);
    let tried: Vec<&str> = rows.flat_map(|row| [access_name(&row.0), effect_name(&row.2)]).collect();
    for (name, why) in ACCESSES.iter().chain(EFFECTS) {
        assert_eq!(tried.contains(name), why.is_empty(), "{name}: a row, or a reason why there is none");
    }
}

#[test]
fn a_request_that_always_fails_is_told_once_and_what_needs_it_is_skipped() {
    let device = Device::new(clean());
    let transport = device.transport();
    let mut subject = Subject::new("device", &*transport, true).unwrap();
    device.inject(Fault::from(DataRead, 0, Errno(libc::EIO)));
    let all = run(&mut subject, &mut |_| {});
    let (names, told) = found(&all);
    assert_eq!(names, ["fail stop-to-stop-copy"], "{told}");
    let save = all.iter().find(|checked| checked.check.name == "save").unwrap();
    assert!(words(&save.verdict).1.contains("see stop-to-stop-copy"));
}

/// All checks on two devices: what was found, and what the three checks of a pair saw.
fn check_pair(one: &Device, other: &Device) -> (Vec<String>, Vec<String>) {
    let (from, to) = (one.transport(), other.transport());
    let mut subject = Subject::new("one", &*from, true).unwrap();
    subject.second = Subject::new("other", &*to, true).ok().map(Box::new);
    let all = run(&mut subject, &mut |_| {});
    let pair = all.iter().filter(|checked| checked.check.name.starts_with("pair-"));
    let seen = pair.map(|checked| format!("{} {}", words(&checked.verdict).0, words(&checked.verdict).1)).collect();
    (found(&all).0, seen)
}

/// Of each dialect: the state goes there and back, and each device has its own again at the end.
#[test]
fn a_pair_is_checked() {
    let draft = Config::draft(simdev::DraftForm::Sticky);
    let v1 = || Config::v1(simdev::Window::Trapped);
    for config in [clean(), v1(), Config::v1_ndma(simdev::Window::Area), draft] {
        let (one, other) = (Device::new(config.clone().seeded(3)), Device::new(config.clone().seeded(4)));
        let before = (one.content(), other.content());
        let (names, seen) = check_pair(&one, &other);
        let same = seen.iter().filter(|text| text.starts_with("pass the same 6")).count();
        assert_eq!((names, same), (vec![], 2), "{:?}: {seen:?}", config.dialect);
        assert!((one.content(), other.content()) == before, "{:?}: they have their own states", config.dialect);
    }
    for config in [clean(), v1()] {
        let (one, other) = (Device::new(config.clone().seeded(3)), Device::new(config.clone().state_size(32 << 10)));
        let (names, seen) = check_pair(&one, &other);
        assert_eq!(names, ["fail pair-there", "fail pair-back"], "{:?}: {seen:?}", config.dialect);
    }
    let (names, seen) = check_pair(&Device::new(clean()), &Device::new(v1()));
    assert_eq!(names, ["fail pair-alike"], "{seen:?}");
    assert!(seen[1..].iter().all(|text| text.contains("see pair-alike")), "{seen:?}");
}

/// A device that does not get its state back is told, the second one too, although no check has failed.
#[test]
fn a_state_that_is_lost_behind_the_checks_is_told() {
    for lost in 0..2 {
        let (one, other) = (Device::new(clean().seeded(3)), Device::new(clean().seeded(4)));
        let (from, to) = (one.transport(), other.transport());
        let mut subject = Subject::new("one", &*from, true).unwrap();
        subject.second = Subject::new("other", &*to, true).ok().map(Box::new);
        let all = run(&mut subject, &mut |checked| {
            if checked.check.name == "slow-requests" {
                let fake = [&one, &other][lost];
                fake.inject(Fault::at(Enter(Resuming), fake.count(Enter(Resuming)), Errno(libc::EIO)));
            }
        });
        assert_eq!(found(&all).0, Vec::<String>::new());
        let (troubles, name) = (subject.troubles(), ["one", "other"][lost]);
        assert_eq!(troubles.len(), 1, "{troubles:?}");
        assert!(troubles[0].starts_with(&format!("{name} has another state than before")), "{troubles:?}");
    }
}

/// What the second device does wrong is said of the second one.
#[test]
fn a_second_device_with_a_fault_is_named() {
    for config in [clean(), Config::v1(simdev::Window::Trapped)] {
        let (one, other) = (Device::new(config.clone().seeded(3)), Device::new(config.clone().seeded(4)));
        other.inject(Fault::from(Enter(State::StopCopy), 0, Errno(libc::EIO)));
        let (names, seen) = check_pair(&one, &other);
        assert_eq!(names, ["fail pair-there"], "{:?}: {seen:?}", config.dialect);
        assert!(seen[1].contains("the second device: ") && seen[2].contains("see pair-there"), "{seen:?}");
    }
}

#[test]
fn what_may_hang_is_tried_only_when_asked_for() {
    let device = Device::new(clean());
    let transport = device.transport();
    let mut subject = Subject::new("device", &*transport, true).unwrap();
    subject.danger = true;
    let all = run(&mut subject, &mut |_| {});
    let dangerous: Vec<_> =
        all.iter().filter(|checked| checked.check.needs.contains(&vfiomig_tools::check::table::Need::Danger)).collect();
    assert!(dangerous.len() >= 5);
    let v2 = dangerous.iter().filter(|checked| !checked.check.name.starts_with("v1-"));
    v2.for_each(|checked| {
        assert_eq!(words(&checked.verdict).0, "pass", "{}: {:?}", checked.check.name, checked.verdict)
    });
}

/// A check is found by its name, which stays.
#[test]
fn names_are_unlike() {
    let mut names: Vec<&str> = vfiomig_tools::check::table::all().map(|check| check.name).collect();
    let count = names.len();
    names.sort_unstable();
    names.dedup();
    assert!(names.len() == count && count > 60, "{count}");
}

#[test]
fn the_page_for_authors_has_every_check() {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/driver-authors.md")).unwrap();
    for check in vfiomig_tools::check::table::all() {
        let row = format!("| {} | {} | {} | {} |", check.name, check.rule, check.about, check.cost);
        assert!(page.contains(&row), "docs/driver-authors.md lacks\n{row}");
    }
}
