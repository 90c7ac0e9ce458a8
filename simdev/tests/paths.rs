//! N15 over all register values, and the arcs of V2-12.

mod common;

use common::{Client, v2};
use simdev::{Config, Device, Level, Window, request_path};
use vfiomig::dialect::{Caps, State};

const R: u32 = 1;
const S: u32 = 2;
const L: u32 = 4;
const N: u32 = 8;

/// The priority of a change of one bit at a level, straight from the list of N15; clearing SAVING goes with !RUNNING.
fn priority(before: u32, after: u32) -> u32 {
    match (before ^ after, after & (before ^ after) != 0) {
        (N, true) => 0,
        (R, false) => 1,
        (S, false) => 2,
        (S, true) if after & R == 0 => 3,
        (L, true) => 4,
        (L, false) => 5,
        (R, true) => 6,
        (S, true) => 7,
        (N, false) => 8,
        other => panic!("not one bit: {other:?}"),
    }
}

fn valid(bits: u32, ndma: bool) -> bool {
    let known = if ndma { 15 } else { 7 };
    bits & !known == 0 && bits & (S | L) != S | L && bits & (L | R) != L | R
}

/// A fresh device at `from`, by single bits.
fn at(from: u32, ndma: bool) -> (Device, Client) {
    let config = if ndma { Config::v1_ndma(Window::Trapped) } else { Config::v1(Window::Trapped) };
    let device = Device::new(Config { abort_allowed: true, state_size: 0, ..config });
    let client = Client::open(&device, false, 8);
    client.state(from).unwrap();
    assert_eq!(client.get(0) as u32, from);
    (device, client)
}

/// What an empty state needs to be loaded: one last segment.
fn complete(client: &Client, device: &Device) {
    if device.level().resuming() {
        let source = Device::new(Config::v1(Window::Trapped).state_size(0));
        let from = Client::open(&source, false, 4096);
        from.state(S).unwrap();
        for segment in from.drain() {
            client.load_segment(&segment).unwrap_or_else(|_| panic!());
        }
    }
}

#[test]
fn n15_over_all_pairs() {
    let mut pairs = 0;
    for ndma in [false, true] {
        for from in (0..16).filter(|&b| valid(b, ndma)) {
            for to in 0..16 {
                let (device, mut client) = at(from, ndma);
                client.most = 4096;
                complete(&client, &device);
                let before = device.transitions().len();
                let result = client.put(0, u64::from(to));
                let steps = &device.transitions()[before..];
                pairs += 1;
                if !ndma && to & N != 0 {
                    // A reserved bit there: judged, and not taken.
                    assert_eq!(device.level().0 & N, 0);
                    assert!(device.violation_count() > 0);
                    continue;
                }
                if !valid(to, ndma) {
                    assert!(
                        result.is_err() && steps.is_empty() && device.level() == Level(from),
                        "{from:04b} {to:04b}"
                    );
                    assert!(device.violation_count() > 0);
                    continue;
                }
                assert_eq!((result, device.level()), (Ok(()), Level(to)), "{from:04b} {to:04b}");
                device.assert_clean();
                // One bit a step, no bit twice, in the order of the list, each level legal.
                assert_eq!(steps.len() as u32, (from ^ to).count_ones());
                let mut last = 0;
                let mut level = from;
                for step in steps {
                    assert_eq!(step.from, Level(level));
                    assert!(valid(step.to.0, ndma), "{from:04b} {to:04b} passes {:?}", step.to);
                    let mut rank = priority(level, step.to.0);
                    if (from & L != 0 && to & S != 0 && to & R == 0) && rank == 5 {
                        // RESUMING gives way before SAVING can be set.
                        rank = 2;
                    }
                    assert!(rank >= last, "{from:04b} {to:04b}: {steps:?}");
                    assert!(step.begin_ns <= step.end_ns && step.request == steps[0].request);
                    (last, level) = (rank, step.to.0);
                }
                // N15's own words: RESUMING to NDMA|RUNNING never runs without NDMA.
                if to & N != 0 {
                    assert!(steps.iter().all(|s| s.to.0 & R == 0 || s.to.0 & N != 0 || s.to.0 & R == from & R));
                }
            }
        }
    }
    assert_eq!(pairs, (5 + 10) * 16);
}

#[test]
fn the_examples_of_the_text() {
    let path = |from, to| simdev::register_path(Level(from), Level(to)).iter().map(|l| l.0).collect::<Vec<_>>();
    assert_eq!(path(L, N | R), [N | L, N, N | R]);
    assert_eq!(path(R, S), [0, S]);
    assert_eq!(path(S | R, S), [S]);
    assert_eq!(path(S | R, R), [R]);
    assert_eq!(path(S, R), [0, R]);
    assert_eq!(path(S | N | R, S), [S | N, S]);
    assert_eq!(path(R, S | N | R), [N | R, S | N | R]);
    assert_eq!(path(S | R, 0), [S, 0]);
    assert_eq!(path(R, R), [0; 0]);
}

/// V2-12's combination paths for flags = 7, in its own letters.
const PATHS: &str = "
    S R:S>RP>R SC:S>SC RS:S>RS RP:S>RP PC:S>RP>R>PC PP:S>RP>PP
    R S:R>RP>S SC:R>RP>S>SC RS:R>RP>S>RS RP:R>RP PC:R>PC PP:R>RP>PP
    RP S:RP>S R:RP>R SC:RP>S>SC RS:RP>S>RS PC:RP>R>PC PP:RP>PP
    PC S:PC>R>RP>S R:PC>R SC:PC>PP>SC RS:PC>R>RP>S>RS RP:PC>R>RP PP:PC>PP
    PP S:PP>RP>S R:PP>RP>R SC:PP>SC RS:PP>RP>S>RS RP:PP>RP PC:PP>PC
    SC S:SC>S R:SC>S>RP>R RS:SC>S>RS RP:SC>S>RP
    RS S:RS>S R:RS>S>RP>R SC:RS>S>SC RP:RS>S>RP PC:RS>S>RP>R>PC PP:RS>S>RP>PP";

fn state(name: &str) -> State {
    match name {
        "S" => State::Stop,
        "R" => State::Running,
        "SC" => State::StopCopy,
        "RS" => State::Resuming,
        "RP" => State::RunningP2p,
        "PC" => State::PreCopy,
        "PP" => State::PreCopyP2p,
        other => panic!("{other}"),
    }
}

fn expected(from: State, to: State, caps: Caps) -> Option<Vec<State>> {
    if from == State::Error || to == State::Error || !caps.has(to) {
        return None;
    }
    if from == to {
        return Some(Vec::new());
    }
    let line = PATHS.lines().map(str::split_whitespace).find_map(|mut w| (state(w.next()?) == from).then_some(w));
    let (_, path) = line?.map(|w| w.split_once(':').unwrap()).find(|(target, _)| state(target) == to)?;
    Some(path.split('>').skip(1).map(state).filter(|&s| caps.has(s)).collect())
}

#[test]
fn arcs_of_every_capability_set() {
    for caps in Caps::ALL {
        for from in State::ALL.into_iter().filter(|&s| caps.has(s)) {
            for to in State::ALL {
                let want = expected(from, to, caps);
                assert_eq!(request_path(from, to, caps.p2p, caps.pre_copy), want, "{from} {to} {caps:?}");
                if from == State::Error {
                    continue;
                }
                let device = Device::new(Config { abort_allowed: true, accept_truncated: true, ..Config::v2(caps) });
                v2::set(&device, from.number()).unwrap();
                let before = device.transitions().len();
                let result = v2::set(&device, to.number());
                assert_eq!(result.is_ok(), want.is_some());
                assert_eq!(device.violation_count(), u64::from(want.is_none()));
                let steps: Vec<State> = device.transitions()[before..].iter().map(|t| t.to.state()).collect();
                assert_eq!(steps, want.clone().unwrap_or_default());
                let saving = |s: State| matches!(s, State::PreCopy | State::PreCopyP2p | State::StopCopy);
                let opens = to != from && (to == State::Resuming || saving(to) && !saving(from));
                if let Ok(fd) = result {
                    assert_eq!(fd >= 0, opens, "{from} {to}");
                }
            }
        }
    }
}
