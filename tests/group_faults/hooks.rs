//! What happens at each request of a device: cancels, and resets by others.

use super::*;

/// A group whose k-th request of device d does something first.
fn hooked(
    configs: &[Config],
    max_workers: usize,
    device: usize,
    k: u64,
    act: Arc<dyn Fn(&simdev::Device) + Send + Sync>,
) -> (Rig, Arc<AtomicU64>) {
    let calls = Arc::new(AtomicU64::new(0));
    // Requests of the probe are not counted.
    let armed = Arc::new(OnceLock::new());
    let rig = Rig::new(configs, max_workers, &|fake, i| {
        let inner = fake.transport();
        if i != device {
            return inner;
        }
        let (calls, armed, fake, act) = (Arc::clone(&calls), Arc::clone(&armed), fake.clone(), Arc::clone(&act));
        let before = Arc::new(move || {
            if armed.get().is_some() && calls.fetch_add(1, Ordering::Relaxed) == k {
                act(&fake);
            }
        });
        Box::new(Hooked { inner, before })
    });
    rig.allow_abort();
    armed.set(()).unwrap();
    (rig, calls)
}

#[test]
fn cancel_at_every_request() {
    let mut reached = 0;
    for configs in groups() {
        let seeded: Vec<Config> = configs.iter().map(|config| config.clone().seeded(1)).collect();
        let streams = streams_of(&seeded);
        for max_workers in [1, 0] {
            for load in [false, true] {
                for k in 0.. {
                    let slot: Arc<OnceLock<Weak<Migration>>> = Arc::default();
                    let in_hook = Arc::clone(&slot);
                    let act = Arc::new(move |_: &simdev::Device| {
                        if let Some(migration) = in_hook.get().and_then(Weak::upgrade) {
                            migration.cancel();
                        }
                    });
                    let configs = if load { &configs } else { &seeded };
                    let (rig, calls) = hooked(configs, max_workers, 0, k, act);
                    let what = format!("{:?} load={load} workers={max_workers} cancel at {k}", configs[0].dialect);
                    let migration = Arc::new(if load { rig.load() } else { rig.save() });
                    slot.set(Arc::downgrade(&migration)).unwrap();
                    let done =
                        if load { rig.load_all(&migration, &streams) } else { rig.save_all(&migration).map(|_| ()) };
                    if let Err(error) = &done {
                        assert_eq!(error.kind(), ErrorKind::Canceled, "{what}: {error}");
                        let mut failed = error.results().iter().filter(|result| result.errno != 0);
                        assert!(failed.all(|result| result.message.contains(&result.device)), "{what}: {error:?}");
                        assert_ne!(migration.phase(), Phase::Failed, "{what}");
                        let last = if load { Phase::LoadRunning } else { Phase::SaveHalted };
                        assert_eq!(migration.advance(last).unwrap_err().kind(), ErrorKind::Canceled, "{what}");
                    }
                    if !load || done.is_err() {
                        migration
                            .abort_without_second_guest(AbortTo::RunState)
                            .unwrap_or_else(|error| panic!("{what}: {error}"));
                    }
                    assert!(rig.states().iter().all(|&s| s == State::Running), "{what}: {:?}", rig.states());
                    rig.assert_clean(&what);
                    if calls.load(Ordering::Relaxed) <= k {
                        break;
                    }
                    reached += u64::from(done.is_err());
                }
            }
        }
    }
    assert!(reached > 300, "{reached}");
}

#[test]
fn resets_by_others_at_every_request() {
    let mut reached = 0;
    for configs in groups() {
        let seeded: Vec<Config> = configs.iter().map(|config| config.clone().seeded(1)).collect();
        for max_workers in [1, 0] {
            for k in 0.. {
                let act = Arc::new(|fake: &simdev::Device| fake.reset().unwrap());
                let (rig, calls) = hooked(&seeded, max_workers, 0, k, act);
                let what = format!("{:?} workers={max_workers} reset at {k}", seeded[0].dialect);
                let original = rig.fakes[0].content();
                let save = rig.save();
                let saved = rig.save_all(&save);
                // Two sessions are never taken for one whole stream: either the reset is noticed here, or it came before the
                // first byte or after the last, or (between a look at a v1 register and the write) the destination refuses.
                if let Ok(streams) = &saved {
                    let target = Rig::target(&configs, 1);
                    let loaded = target.load_all(&target.load(), streams);
                    let content = target.fakes[0].content();
                    let whole = content == original || content.iter().all(|&byte| byte == 0);
                    assert!(whole || loaded.is_err(), "{what}");
                }
                save.abort_without_second_guest(AbortTo::Running)
                    .or_else(|_| save.abort_without_second_guest(AbortTo::Running))
                    .unwrap_or_else(|error| panic!("{what}: {error}"));
                assert!(rig.states().iter().all(|&s| s == State::Running), "{what}");
                if calls.load(Ordering::Relaxed) <= k {
                    break;
                }
                reached += u64::from(saved.is_err());
            }
        }
    }
    assert!(reached > 100, "{reached}");
}
