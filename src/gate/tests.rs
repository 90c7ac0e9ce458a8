#![allow(clippy::panic, reason = "a panic is what some of them are about")]

use super::*;
use std::sync::Barrier;
use std::thread::{scope, sleep, spawn};
use std::time::Duration;

/// Long enough for another thread to sit down at a gate.
fn pause() {
    sleep(Duration::from_millis(30));
}

fn refusal<T>(result: Result<Pass<'_, T>, Denied>) -> Option<Denied> {
    result.err()
}

#[test]
fn only_who_asks_for_it_is_turned_away() {
    let gate = Gate::new(GateLevel::Device, 0);
    scope(|scope| {
        let pass = gate.enter().unwrap();
        let other = scope.spawn(|| refusal(gate.try_enter()));
        assert_eq!(other.join().unwrap(), Some(Denied::Busy));
        let other = scope.spawn(|| *gate.enter().unwrap());
        pause();
        assert!(!other.is_finished());
        drop(pass);
        assert_eq!(other.join().unwrap(), 0);
    });
    assert!(gate.try_enter().is_ok());
}

/// *device* calls go in the order in which they came; a *whole* call goes before them, but not twice before the same one.
#[test]
fn nobody_starves() {
    let gate = Gate::new(GateLevel::Device, Vec::new());
    let gate = &gate;
    let whole = |name| move || gate.enter_whole().unwrap().push(name);
    let device = |name| move || gate.enter().unwrap().push(name);
    scope(|scope| {
        let first = gate.enter().unwrap();
        let come = |call: Box<dyn FnOnce() + Send>| {
            scope.spawn(call);
            pause();
        };
        come(Box::new(device("device 1")));
        come(Box::new(device("device 2")));
        come(Box::new(whole("whole 1")));
        come(Box::new(whole("whole 2")));
        drop(first);
    });
    assert_eq!(*gate.enter().unwrap(), ["whole 1", "device 1", "whole 2", "device 2"]);
}

/// It goes before *device* calls as long as it waits, and is out of the way when it does not.
#[test]
fn who_has_waited_long_enough_is_turned_away() {
    let gate = Gate::new(GateLevel::Device, 0);
    let patient = std::sync::atomic::AtomicBool::new(true);
    scope(|scope| {
        let pass = gate.enter().unwrap();
        let waits = || gate.enter_whole_while(&|| patient.load(Ordering::Relaxed)).map(|mut value| *value += 1);
        let first = scope.spawn(waits);
        pause();
        assert!(!first.is_finished());
        drop(pass);
        assert_eq!(first.join().unwrap(), Ok(()));
        let pass = gate.enter().unwrap();
        let second = scope.spawn(waits);
        pause();
        patient.store(false, Ordering::Relaxed);
        assert_eq!(second.join().unwrap(), Err(Denied::Busy));
        drop(pass);
        assert_eq!(*gate.enter().unwrap(), 1);
    });
}

#[test]
fn who_waits_hears_of_the_end() {
    let gate = Gate::new(GateLevel::Device, ());
    scope(|scope| {
        let pass = gate.enter_whole().unwrap();
        let waiting = [scope.spawn(|| refusal(gate.enter())), scope.spawn(|| refusal(gate.enter_whole()))];
        pause();
        pass.close();
        for other in waiting {
            assert_eq!(other.join().unwrap(), Some(Denied::Closed));
        }
    });
    assert_eq!(refusal(gate.enter_to_close()), Some(Denied::Closed));
}

/// What a panic may have left half changed is only closed, by whomever it is met.
#[test]
fn a_panic_breaks_what_it_had() {
    for (level, breaks) in
        [(GateLevel::Device, true), (GateLevel::Tracker, true), (GateLevel::Migration, true), (GateLevel::Group, false)]
    {
        let (gate, begun) = (Gate::new(level, 1), Barrier::new(2));
        scope(|scope| {
            let bug = scope.spawn(|| {
                let _pass = gate.enter().unwrap();
                begun.wait();
                pause();
                std::panic::resume_unwind(Box::new("a bug"));
            });
            begun.wait();
            let waiting = scope.spawn(|| refusal(gate.enter_whole()));
            assert!(bug.join().is_err());
            assert_eq!(waiting.join().unwrap(), breaks.then_some(Denied::Broken), "{level:?}");
        });
        assert_eq!(refusal(gate.try_enter()), breaks.then_some(Denied::Broken), "{level:?}");
        assert_eq!(gate.enter_to_close().unwrap().close().as_deref(), Some(&1));
        assert_eq!(refusal(gate.enter_to_close()), Some(Denied::Closed));
    }
}

/// A callback that has the device waits for the group, whose call waits for the device. Whoever came last, it is
/// the callback that gets EDEADLK, and the other one continues.
#[test]
fn a_callback_is_told_what_would_never_end() {
    for callback_first in [true, false] {
        let (group, device) = (Gate::new(GateLevel::Group, ()), Gate::new(GateLevel::Device, ()));
        let both = Barrier::new(2);
        scope(|scope| {
            let callback = scope.spawn(|| {
                let _device = device.enter().unwrap();
                both.wait();
                if !callback_first {
                    pause();
                }
                refusal(group.enter_whole())
            });
            let pausing = scope.spawn(|| {
                let _group = group.enter_whole().unwrap();
                both.wait();
                if callback_first {
                    pause();
                }
                refusal(device.enter_whole())
            });
            assert_eq!(callback.join().unwrap(), Some(Denied::Reentry));
            assert_eq!(pausing.join().unwrap(), None);
        });
    }
}

/// A worker of the group's call is what waits; what the call has is not given back before its workers are done.
#[test]
fn also_through_workers_and_several_handles() {
    let group = Gate::new(GateLevel::Group, ());
    let (tracker, device) = (Gate::new(GateLevel::Tracker, ()), Gate::new(GateLevel::Device, ()));
    let all = Barrier::new(3);
    scope(|scope| {
        let pausing = scope.spawn(|| {
            let _group = group.enter_whole().unwrap();
            let waiting = Waiting::here();
            std::thread::scope(|workers| {
                let worker = workers.spawn(|| {
                    waiting.adopt();
                    assert!(within(GateLevel::Group) && refusal(group.enter_whole()) == Some(Denied::Reentry));
                    all.wait();
                    refusal(tracker.enter_whole())
                });
                worker.join().unwrap()
            })
        });
        let harvest = scope.spawn(|| {
            let _tracker = tracker.enter_whole().unwrap();
            all.wait();
            refusal(device.enter())
        });
        let callback = scope.spawn(|| {
            let _device = device.enter().unwrap();
            all.wait();
            pause();
            refusal(group.enter_whole())
        });
        assert_eq!(callback.join().unwrap(), Some(Denied::Reentry));
        assert_eq!((harvest.join().unwrap(), pausing.join().unwrap()), (None, None));
    });
}

/// Who works for a call that has left its gate, and for which later calls wait, cannot wait for these; others can be let in.
#[test]
fn a_gate_that_was_promised_counts_as_held() {
    let gate = Gate::new(GateLevel::Group, ());
    let promise = gate.promise();
    assert!(gate.is_mine() && gate.calls_me() && within(GateLevel::Group));
    assert_eq!(refusal(gate.enter_whole()), Some(Denied::Reentry));
    scope(|scope| {
        assert_eq!(scope.spawn(|| refusal(gate.enter_whole())).join().unwrap(), None);
        let waiting = Waiting::here();
        let worker = scope.spawn(|| {
            waiting.adopt();
            refusal(gate.enter_whole())
        });
        assert_eq!(worker.join().unwrap(), Some(Denied::Reentry));
    });
    drop(promise);
    assert!(!gate.is_mine() && !within(GateLevel::Group));
    assert_eq!(refusal(gate.enter_whole()), None);
}

/// A callback may wait for other handles: what ends without it is no circle.
#[test]
fn what_ends_is_waited_for() {
    let (group, one, two) =
        (Gate::new(GateLevel::Group, ()), Gate::new(GateLevel::Device, ()), Gate::new(GateLevel::Device, ()));
    scope(|scope| {
        let busy = scope.spawn(|| {
            let _group = group.enter_whole().unwrap();
            let _two = two.enter().unwrap();
            pause();
            pause();
        });
        pause();
        // The call on the group has another device, and does not wait for this one.
        let _one = one.enter().unwrap();
        assert_eq!(refusal(two.enter()), None);
        assert_eq!(refusal(group.enter_whole()), None);
        busy.join().unwrap();
    });
}

/// Many threads, gates in both orders: every call ends, and those in the right order never get EDEADLK.
#[test]
fn nothing_hangs_and_nobody_is_accused_wrongly() {
    let gates = [
        Gate::new(GateLevel::Group, ()),
        Gate::new(GateLevel::Migration, ()),
        Gate::new(GateLevel::Tracker, ()),
        Gate::new(GateLevel::Device, ()),
        Gate::new(GateLevel::Device, ()),
    ];
    let gates = Arc::new(gates);
    let threads: Vec<_> = (0..8usize)
        .map(|thread| {
            let gates = Arc::clone(&gates);
            spawn(move || {
                let mut seed = thread.wrapping_mul(7919).wrapping_add(1);
                let mut random = || {
                    seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                    seed >> 33
                };
                let mut refusals = 0;
                for _ in 0..2000 {
                    let mut pair = [random() % 5, random() % 5];
                    let callback = random() % 4 == 0;
                    if !callback {
                        pair.sort_unstable();
                    }
                    let [first, second] = pair;
                    let (Some(outer), Some(inner)) = (gates.get(first), gates.get(second)) else { continue };
                    let _outer = outer.enter_whole().unwrap();
                    let refused = refusal(if random() % 2 == 0 { inner.enter() } else { inner.enter_whole() });
                    assert!(refused.is_none() || (refused == Some(Denied::Reentry) && (callback || first == second)));
                    refusals += usize::from(refused.is_some());
                }
                refusals
            })
        })
        .collect();
    let refusals: usize = threads.into_iter().map(|thread| thread.join().unwrap()).sum();
    assert!(refusals > 0);
    assert!(gates.iter().all(|gate| gate.try_enter().is_ok()));
}
