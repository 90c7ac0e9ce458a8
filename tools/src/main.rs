//! The command `vfiomig`.

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    vfiomig_tools::run(&vfiomig_tools::cli::Arguments::parse()).into()
}
