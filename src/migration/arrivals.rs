//! Members of a load that go to LOADED beside the streams of others: who is on the way, and who has come. A member is on its way
//! outside of the gates of group and migration, so that calls for other members go on; what came of it is taken over by the
//! next call that has these gates.
//!
//! Rules: N4 (all of a stream comes before its device leaves RESUMING, and nothing is said of the streams of others), W7, V2-9.

use crate::group::outcome::DeviceOutcome;
use parking_lot::{Condvar, Mutex};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A device's way to LOADED.
pub(super) struct LoadArrival {
    /// Its place among the members.
    pub member: usize,
    pub begun: Instant,
    pub took: Duration,
    /// A call watched it come, and has called the VMM's `progress`.
    pub watched: bool,
    pub outcome: DeviceOutcome,
}

#[derive(Default)]
enum ArrivalPlace {
    /// Its stream has no end yet, or what came of it was taken over.
    #[default]
    Nothing,
    OnItsWay,
    Came(LoadArrival),
}

/// One place per member.
pub(super) struct Arrivals {
    places: Mutex<Vec<ArrivalPlace>>,
    changed: Condvar,
}

impl Arrivals {
    pub fn new(members: usize) -> Self {
        Arrivals { places: Mutex::new((0..members).map(|_| ArrivalPlace::Nothing).collect()), changed: Condvar::new() }
    }

    /// The member sets out. It has come, or never will, when the result is dropped.
    pub fn set_out(self: &Arc<Self>, member: usize) -> SetOut {
        self.leave(member, None)
    }

    /// The member sets out behind the calls: none of them sees it come. `otherwise` is what comes of it where it never sets out.
    pub fn set_out_alone(self: &Arc<Self>, member: usize, otherwise: DeviceOutcome) -> SetOut {
        self.leave(member, Some(otherwise))
    }

    fn leave(self: &Arc<Self>, member: usize, otherwise: Option<DeviceOutcome>) -> SetOut {
        self.put(member, ArrivalPlace::OnItsWay);
        let (arrivals, begun, watched) = (Arc::clone(self), Instant::now(), otherwise.is_none());
        SetOut { arrivals, member, begun, watched, otherwise, came: false }
    }

    /// Members that are on their way.
    pub fn on_their_way(&self) -> Vec<usize> {
        let places = self.places.lock();
        let on_its_way = |(_, place): &(usize, &ArrivalPlace)| matches!(place, ArrivalPlace::OnItsWay);
        places.iter().enumerate().filter(on_its_way).map(|(member, _)| member).collect()
    }

    fn put(&self, member: usize, now: ArrivalPlace) {
        if let Some(place) = self.places.lock().get_mut(member) {
            *place = now;
        }
        self.changed.notify_all();
    }

    /// It is on its way, or has come and was not taken over.
    pub fn is_under_way(&self, member: usize) -> bool {
        self.places.lock().get(member).is_some_and(|place| !matches!(place, ArrivalPlace::Nothing))
    }

    /// Those that came since the last call, in the order of the members.
    pub fn take(&self) -> Vec<LoadArrival> {
        let mut places = self.places.lock();
        let came = places.iter_mut().filter(|place| matches!(place, ArrivalPlace::Came(_)));
        came.filter_map(|place| match std::mem::take(place) {
            ArrivalPlace::Came(arrival) => Some(arrival),
            ArrivalPlace::Nothing | ArrivalPlace::OnItsWay => None,
        })
        .collect()
    }

    /// Waits until no member is on its way, but not beyond `until`; whether there is none.
    pub fn wait_until(&self, until: Option<Instant>) -> bool {
        let mut places = self.places.lock();
        loop {
            if !places.iter().any(|place| matches!(place, ArrivalPlace::OnItsWay)) {
                return true;
            }
            match until {
                None => self.changed.wait(&mut places),
                Some(until) if self.changed.wait_until(&mut places, until).timed_out() => return false,
                Some(_) => {}
            }
        }
    }
}

/// A member on its way.
pub(super) struct SetOut {
    arrivals: Arc<Arrivals>,
    member: usize,
    begun: Instant,
    watched: bool,
    otherwise: Option<DeviceOutcome>,
    came: bool,
}

impl SetOut {
    /// It begins only now, whatever came before.
    pub fn begins(&mut self) {
        self.begun = Instant::now();
    }

    pub fn came(mut self, outcome: DeviceOutcome) {
        self.tell(outcome);
    }

    fn tell(&mut self, outcome: DeviceOutcome) {
        let (member, begun, watched) = (self.member, self.begun, self.watched);
        self.came = true;
        let arrival = LoadArrival { member, begun, took: begun.elapsed(), watched, outcome };
        self.arrivals.put(member, ArrivalPlace::Came(arrival));
    }
}

impl Drop for SetOut {
    fn drop(&mut self) {
        // Given up, or a panic: who waits for it does not wait for ever.
        match self.otherwise.take() {
            _ if self.came => {}
            Some(outcome) => self.tell(outcome),
            None => self.arrivals.put(self.member, ArrivalPlace::Nothing),
        }
    }
}
