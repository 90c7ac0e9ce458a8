//! The ends that an operation with a fault may have. What is none of them is a failure of the campaign.

/// A named outcome. docs/reliability.md says what each means to an operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// The operation succeeded, and what it led to is the same as without the fault.
    Done,
    /// The source: it failed and named the device; one call brought every device back to RUNNING with its state.
    Back,
    /// The source: the same, but the call back named the device, too, and its repetition brought it back.
    BackAgain,
    /// The source: the device is named and wants a reset by the VMM, which loses its state; the others run.
    Reset,
    /// The source: the device is named and does not answer any more; the others run.
    Lost,
    /// The source sent all that the device gave; the device ended its stream too early, and the destination refuses it.
    Cut,
    /// The destination: it failed and named the device, and one abort made every device fresh.
    Refused,
    /// The destination: the same, with a second abort.
    RefusedAgain,
    /// The destination: the device is named and does not answer any more; the others are fresh, nothing runs.
    RefusedLost,
}

pub const OUTCOMES: [Outcome; 9] = [
    Outcome::Done,
    Outcome::Back,
    Outcome::BackAgain,
    Outcome::Reset,
    Outcome::Lost,
    Outcome::Cut,
    Outcome::Refused,
    Outcome::RefusedAgain,
    Outcome::RefusedLost,
];

impl Outcome {
    /// The word of the page.
    pub fn name(self) -> &'static str {
        match self {
            Outcome::Done => "done",
            Outcome::Back => "back",
            Outcome::BackAgain => "back, 2nd call",
            Outcome::Reset => "reset",
            Outcome::Lost => "lost",
            Outcome::Cut => "cut",
            Outcome::Refused => "refused",
            Outcome::RefusedAgain => "refused, 2nd call",
            Outcome::RefusedLost => "refused, lost",
        }
    }
}
