//! v1 and the draft: the registers and the data section of a migration region, as both share them. What is their own stands in
//! `v1` and `draft`: what starts a segment, what ends it. Start reading at `access`; `window` and `data` are the steps of it.

mod access;
mod data;
mod draft;
mod v1;
mod window;

pub(crate) use access::{read, write};
