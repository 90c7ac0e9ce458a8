//! With which status the process ends.

use std::process::ExitCode;

/// A status of the process; `vfiomig --help` says what each means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// All is well.
    Success,
    /// It was found out that something is not: a device cannot be migrated, a check failed.
    No,
    /// The arguments are wrong; clap has this number too.
    Usage,
    /// It could not be found out or done.
    Failed,
    /// SIGINT, SIGTERM or SIGHUP.
    Interrupted,
}

impl Exit {
    /// As the shell sees it.
    pub fn status(self) -> u8 {
        match self {
            Exit::Success => 0,
            Exit::No => 1,
            Exit::Usage => 2,
            Exit::Failed => 3,
            Exit::Interrupted => crate::signals::status(),
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit.status())
    }
}
