//! The dirty logs of software devices, containers and iommufds, read by trackers. Each test ends with the one question: is the
//! destination's RAM the source's? The judges of simdev must have nothing to say unless a test provokes them.

mod begin;
mod beside;
mod churn;
mod container;
mod costs;
mod courses;
mod dests;
mod faults;
mod fold;
mod join;
mod kinds;
mod large;
mod left;
mod life;
mod many;
mod memory;
mod model;
mod names;
mod only;
mod races;
mod rig;
mod sections;
mod torn;
mod watch;
