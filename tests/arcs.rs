//! The arc table against the kernel's own paths: state × request × capability set, all of them.
//!
//! The expectation is written down here a second time, from V2-12 (the kernel's vfio_mig_get_next_state() compiled
//! and run), and not derived from the table.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use vfiomig::dialect::{Answer, Caps, DialectKind, State, answer, path};

/// All paths of a device with P2P and PRE_COPY. A state's own row, as the kernel's function gave it, `from : to:path`.
const PATHS: &str = "
    S  : R:S>RP>R SC:S>SC RS:S>RS RP:S>RP PC:S>RP>R>PC PP:S>RP>PP
    R  : S:R>RP>S SC:R>RP>S>SC RS:R>RP>S>RS RP:R>RP PC:R>PC PP:R>RP>PP
    RP : S:RP>S R:RP>R SC:RP>S>SC RS:RP>S>RS PC:RP>R>PC PP:RP>PP
    PC : S:PC>R>RP>S R:PC>R SC:PC>PP>SC RS:PC>R>RP>S>RS RP:PC>R>RP PP:PC>PP
    PP : S:PP>RP>S R:PP>RP>R SC:PP>SC RS:PP>RP>S>RS RP:PP>RP PC:PP>PC
    SC : S:SC>S R:SC>S>RP>R RS:SC>S>RS RP:SC>S>RP
    RS : S:RS>S R:RS>S>RP>R SC:RS>S>SC RP:RS>S>RP PC:RS>S>RP>R>PC PP:RS>S>RP>PP";

/// Legal for the kernel, but a session is thrown away on the way to something else, or a stopped device is started
/// (V2-2).
const NEVER_USED: [(&str, &str); 11] = [
    ("S", "PC"),
    ("S", "PP"),
    ("PC", "S"),
    ("PC", "RS"),
    ("PC", "RP"),
    ("PP", "S"),
    ("PP", "RS"),
    ("SC", "RS"),
    ("RS", "SC"),
    ("RS", "PC"),
    ("RS", "PP"),
];

fn state(short: &str) -> State {
    match short {
        "S" => State::Stop,
        "R" => State::Running,
        "SC" => State::StopCopy,
        "RS" => State::Resuming,
        "RP" => State::RunningP2p,
        "PC" => State::PreCopy,
        "PP" => State::PreCopyP2p,
        _ => panic!("{short}"),
    }
}

/// The kernel's path between two states of a device that has all of them.
fn full_path(from: State, to: State) -> Option<Vec<State>> {
    for line in PATHS.lines().filter(|line| line.contains(" : ")) {
        let (row, cells) = line.split_once(" : ").unwrap();
        if state(row.trim()) != from {
            continue;
        }
        for cell in cells.split_whitespace() {
            let (target, way) = cell.split_once(':').unwrap();
            if state(target) == to {
                return Some(way.split('>').map(state).collect());
            }
        }
    }
    None
}

fn never_used(from: State, to: State) -> bool {
    NEVER_USED.iter().any(|(f, t)| state(f) == from && state(t) == to)
}

/// V2-11, V2-12
#[test]
fn every_state_request_and_capability_set() {
    let mut seen = [0; 4];
    for caps in Caps::ALL {
        for from in State::ALL {
            for to in State::ALL {
                let got = answer(DialectKind::V2, caps, from, to);
                let known = caps.has(from) && caps.has(to);
                // States that the device lacks are left out of the path (V2-12).
                let expected_path = full_path(from, to)
                    .filter(|_| known)
                    .map(|way| way.into_iter().filter(|&s| caps.has(s)).skip(1).collect::<Vec<_>>());
                let what = format!("{caps:?} {from} -> {to}");
                match got {
                    Answer::Here => {
                        seen[0] += 1;
                        assert!(from == to && known && from != State::Error, "{what}");
                        assert_eq!(path(DialectKind::V2, caps, from, to), Some(vec![]), "{what}");
                    }
                    Answer::Via(next) | Answer::NeverUsed(next) => {
                        let trap = matches!(got, Answer::NeverUsed(_));
                        seen[if trap { 2 } else { 1 }] += 1;
                        assert_eq!(trap, never_used(from, to), "{what}");
                        let way = path(DialectKind::V2, caps, from, to);
                        assert_eq!(way, expected_path, "{what}");
                        assert_eq!(way.unwrap().first(), Some(&next), "{what}");
                    }
                    Answer::Refused => {
                        seen[3] += 1;
                        assert_eq!(expected_path, None, "{what} must be allowed");
                        assert_eq!(path(DialectKind::V2, caps, from, to), None, "{what}");
                        assert!(from != to || !known || from == State::Error, "{what}");
                    }
                }
            }
        }
    }
    assert_eq!(seen.iter().sum::<usize>(), 4 * 8 * 8);
    assert!(seen.iter().all(|&count| count > 0), "{seen:?}");
}

#[test]
fn the_arcs_that_must_never_reach_a_kernel() {
    for caps in Caps::ALL {
        for to in State::ALL {
            // V2-1: from ERROR the kernel warns; to ERROR it answers EINVAL.
            assert_eq!(answer(DialectKind::V2, caps, State::Error, to), Answer::Refused);
            assert_eq!(answer(DialectKind::V2, caps, to, State::Error), Answer::Refused);
        }
        // V2-1: Linux 6.12 loops for ever in the kernel.
        assert_eq!(answer(DialectKind::V2, caps, State::StopCopy, State::PreCopy), Answer::Refused);
        assert_eq!(answer(DialectKind::V2, caps, State::StopCopy, State::PreCopyP2p), Answer::Refused);
    }
}

/// The migration region (V1-3, V1-15): what is legal is one write and leads nowhere in between; what throws a session
/// away, or starts a stopped device to save it, is never used; what v2 refuses is refused.
#[test]
fn every_state_and_request_of_the_migration_region() {
    // `x` never used, `.` refused, `+` legal, `=` there already.
    const NDMA: [(State, &str); 7] = [
        (State::Stop, "=++++xx"),
        (State::Running, "+=+++++"),
        (State::StopCopy, "++=x+.."),
        (State::Resuming, "x+x=+xx"),
        (State::RunningP2p, "++++=++"),
        (State::PreCopy, "x++xx=+"),
        (State::PreCopyP2p, "x++x++="),
    ];
    for kind in [DialectKind::V1, DialectKind::Draft] {
        for caps in [Caps { p2p: true, pre_copy: true }, Caps { p2p: false, pre_copy: true }] {
            for (from, row) in NDMA {
                for (to, expected) in State::ALL.into_iter().skip(1).zip(row.chars()) {
                    let known = caps.has(from) && caps.has(to);
                    let got = answer(kind, caps, from, to);
                    let what = format!("{kind:?} {caps:?} {from} -> {to}");
                    match expected {
                        _ if !known => assert_eq!(got, Answer::Refused, "{what}"),
                        '=' => assert_eq!(got, Answer::Here, "{what}"),
                        '+' => {
                            assert_eq!((got, path(kind, caps, from, to)), (Answer::Via(to), Some(vec![to])), "{what}")
                        }
                        'x' => assert_eq!(got, Answer::NeverUsed(to), "{what}"),
                        _ => assert_eq!(got, Answer::Refused, "{what}"),
                    }
                }
            }
            for state in State::ALL {
                assert_eq!(answer(kind, caps, State::Error, state), Answer::Refused);
                assert_eq!(answer(kind, caps, state, State::Error), Answer::Refused);
            }
        }
    }
}

/// docs/states.md shows the table; it must show this one.
#[test]
fn the_documentation_shows_the_table() {
    let doc = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/states.md")).unwrap();
    let v2 = Caps::ALL.map(|caps| (DialectKind::V2, caps));
    let v1 = [true, false].map(|p2p| (DialectKind::V1, Caps { p2p, pre_copy: true }));
    for (kind, caps) in v2.into_iter().chain(v1) {
        let table = markdown(kind, caps);
        assert!(doc.contains(&table), "docs/states.md lacks or differs from:\n{table}");
    }
}

fn markdown(kind: DialectKind, caps: Caps) -> String {
    let states: Vec<_> = State::ALL.into_iter().filter(|&s| s != State::Error && caps.has(s)).collect();
    let mut text = String::from("| from \\ to |");
    for to in &states {
        text += &format!(" {to} |");
    }
    text += &format!("\n|{}", "---|".repeat(states.len() + 1));
    for &from in &states {
        text += &format!("\n| **{from}** |");
        for &to in &states {
            text += &match answer(kind, caps, from, to) {
                Answer::Here => " · |".to_string(),
                Answer::Via(next) if next == to => " direct |".to_string(),
                Answer::Via(next) => format!(" via {next} |"),
                Answer::NeverUsed(_) => " never used |".to_string(),
                Answer::Refused => " refused |".to_string(),
            };
        }
    }
    text
}
