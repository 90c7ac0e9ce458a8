//! What is checked, as data: one row per check, in the order in which they are made. What others need comes first, so that a
//! fault is named by the check that is about it.

use super::{arcs, draft_log, features, load, log, pair, precopy, reset, save, subject::Subject, v1, v1_load};
use vfiomig::dialect::State;

/// What came of a check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// As the rule says; what was seen.
    Pass(String),
    /// Not as the rule says; what was seen.
    Fail(String),
    /// Legal, or a habit that clients know; what was seen.
    Quirk(String),
    /// Not checked; why.
    Skip(String),
}

/// A request has failed that no rule allows to fail, whichever check made it.
#[derive(Clone, Debug)]
pub struct Stop {
    /// The rule that it breaks.
    pub rule: &'static str,
    /// What is to blame, which is reported once.
    pub blame: String,
    /// What was seen.
    pub text: String,
}

/// A verdict, or why there is none.
pub type Result<T = Verdict> = std::result::Result<T, Stop>;

/// What a check needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// The device feature.
    V2,
    /// The migration region.
    V1,
    /// PRE_COPY.
    PreCopy,
    /// The P2P states.
    P2p,
    /// No P2P states, of which one would lie between the states of the step.
    NoP2p,
    /// A reset.
    Reset,
    /// A log of the device's own.
    Log,
    /// The draft's, in its migration region.
    DraftLog,
    /// A stream that was saved by an earlier check.
    Image,
    /// A device that can be made to write.
    Writer,
    /// A second device.
    Second,
    /// The library's own device of it.
    Library,
    /// A device of the kernel, with data fds and sizes.
    Kernel,
    /// It may hang a kernel or crash a host.
    Danger,
}

/// How a check is made.
#[derive(Clone, Copy)]
pub enum Run {
    /// By this function.
    Do(fn(&mut Subject) -> Result),
    /// One step of the state machine.
    Step(State, State),
}

/// A check.
#[derive(Clone, Copy)]
pub struct Check {
    /// Its name, which stays.
    pub name: &'static str,
    /// The number of its rule in docs/rules.md.
    pub rule: &'static str,
    /// What is right.
    pub about: &'static str,
    /// What a guest pays where it is not.
    pub cost: &'static str,
    /// What has to be there.
    pub needs: &'static [Need],
    /// How it is made.
    pub run: Run,
}

/// A check that is made by a function.
pub const fn check(
    name: &'static str,
    rule: &'static str,
    about: &'static str,
    cost: &'static str,
    needs: &'static [Need],
    run: fn(&mut Subject) -> Result,
) -> Check {
    Check { name, rule, about, cost, needs, run: Run::Do(run) }
}

/// All checks, in their order.
pub fn all() -> impl Iterator<Item = &'static Check> {
    [
        features::CHECKS,
        arcs::STEPS,
        save::CHECKS,
        precopy::CHECKS,
        arcs::LOAD_STEPS,
        load::CHECKS,
        arcs::REQUESTS,
        reset::CHECKS,
        log::CHECKS,
        v1::CHECKS,
        v1_load::CHECKS,
        draft_log::CHECKS,
        pair::CHECKS,
        features::LAST,
    ]
    .into_iter()
    .flatten()
}

/// A pass.
pub fn pass(text: impl Into<String>) -> Result {
    Ok(Verdict::Pass(text.into()))
}

/// A failure.
pub fn fail(text: impl Into<String>) -> Result {
    Ok(Verdict::Fail(text.into()))
}

/// A quirk.
pub fn quirk(text: impl Into<String>) -> Result {
    Ok(Verdict::Quirk(text.into()))
}

/// A skip.
pub fn skip(text: impl Into<String>) -> Result {
    Ok(Verdict::Skip(text.into()))
}
