//! The command `vfiomig`: what the VFIO devices of a host can do, and whether their drivers and servers follow the protocol.
//!
//! Start reading at `cli` (what can be asked), then at one file per subcommand. `name` says what a DEVICE is, `host` reads what
//! the kernel says of it without opening it, `open` opens it; `output` writes, `signals` is what Ctrl-C does.
//!
//! `unsafe` lives in `open/ioctl.rs`, `open/memory.rs`, `check/poll.rs` and `signals.rs`.

#![deny(unsafe_op_in_unsafe_fn, missing_docs, clippy::undocumented_unsafe_blocks, clippy::too_many_lines)]
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects
    )
)]

mod bench;
mod bitmap;
pub mod check;
mod checking;
pub mod cli;
mod exit;
mod facts;
mod generate;
mod host;
mod info;
mod measure;
mod name;
mod open;
mod output;
mod probe;
mod signals;
mod text;
mod transfer;

pub use exit::Exit;

use cli::{Arguments, Command};

/// Does what was asked, and says with which status the process ends.
pub fn run(arguments: &Arguments) -> Exit {
    // Where no device is opened a signal does what it does to any program.
    if !matches!(arguments.command, Command::Show(_) | Command::Generate { .. }) {
        signals::watch();
    }
    let host = host::Host::new(arguments.root.clone());
    let out = output::Output::new(arguments.color);
    let exit = match &arguments.command {
        Command::Probe(asked) => probe::run(&host, &out, asked),
        Command::Info(asked) => info::run(&host, &out, asked),
        Command::Check(asked) => checking::run(&host, &out, asked),
        Command::Bench(asked) => bench::run(&host, &out, asked),
        Command::Save(asked) => transfer::save(&host, &out, asked),
        Command::Load(asked) => transfer::load(&host, &out, asked),
        Command::Send(asked) => transfer::send(&host, &out, asked),
        Command::Receive(asked) => transfer::receive(&host, &out, asked),
        Command::Show(asked) => transfer::show(&out, asked),
        Command::Generate { folder } => generate::run(&out, folder),
    };
    out.end(exit)
}
