//! `vfiomig check`: whether a driver or a device server follows the protocol, rule by rule (docs/rules.md).
//!
//! Start reading at [`table`] (what is checked) and `run` (how). `client` and `registers` ask a device of v2 and of v1 as it
//! has to be asked for this: by single requests, some of them wrong. One file has the checks of one subject; `rules` has the
//! texts, `report` writes them.

mod arcs;
mod client;
mod draft_log;
mod features;
mod load;
mod log;
mod pair;
mod poll;
mod precopy;
mod registers;
mod report;
mod reset;
mod rules;
mod run;
mod save;
mod settle;
mod slow;
mod subject;
pub mod table;
mod v1;
mod v1_load;

pub use report::{json, summary, tap, words};
pub use run::{Checked, run};
pub use subject::{Subject, WritePage};
pub use table::{Check, Result, Verdict};
