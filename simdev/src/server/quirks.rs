//! What known servers do beside the specification, as data: each quirk by itself, and the sets that a server has.

use crate::config::{Config, Dialect};

/// One way in which a server differs from the specification.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Quirk {
    /// MIG_DATA_READ's answer is as long as what was asked for; only its `size` is right.
    PaddedReads,
    /// A payload is what one recv() brings. Where that is less, the message is refused, and what comes next is taken for a header.
    OneReceive,
    /// Commands of migration are unknown, and what is unknown is refused without errno while its payload stays in the socket.
    StrayErrors,
    /// The DMA log is one of DMA regions: START's ranges are not looked at, REPORT wants a region or its beginning.
    RegionLog,
    /// REPORT in larger pages than the log has: bits of other pages.
    ReportWraps,
    /// REPORT in smaller pages than the log has is never answered.
    ReportSpins,
    /// What DMA_WRITE messages have written is in no log.
    UnloggedMessages,
    /// v1: the mapped window reads zeros, and nothing that is read there counts.
    EmptyWindow,
    /// DMA_MAP of what is mapped is 0, and EINVAL where it overlaps; the specification says EEXIST.
    Remaps,
    /// In STOP and STOP_COPY only what a migration needs is answered.
    NarrowWhileStopped,
    /// DMA_UNMAP brings the dirty bitmap also in v2, where the specification has dropped it.
    BitmapOfUnmap,
    /// v2: what is read in PRE_COPY is no part of the stream that STOP_COPY has.
    PrecopyApart,
}

/// Name, quirk, and what the help of the program says of it.
const TABLE: [(&str, Quirk, &str); 12] = [
    ("padded-reads", Quirk::PaddedReads, "answers of MIG_DATA_READ are as long as what was asked for"),
    ("one-receive", Quirk::OneReceive, "a payload that does not come in one piece is lost, and the stream out of step"),
    ("stray-errors", Quirk::StrayErrors, "unknown commands: no errno, and the payload is taken for the next header"),
    ("region-log", Quirk::RegionLog, "the DMA log is one of whole DMA regions, START's ranges are ignored"),
    ("report-wraps", Quirk::ReportWraps, "REPORT in larger pages than the log's reports other pages"),
    ("report-spins", Quirk::ReportSpins, "REPORT in smaller pages than the log's is never answered"),
    ("unlogged-messages", Quirk::UnloggedMessages, "what is written by DMA_WRITE is in no log"),
    ("empty-window", Quirk::EmptyWindow, "v1: the mapped window reads zeros"),
    ("remaps", Quirk::Remaps, "DMA_MAP of what is mapped succeeds"),
    ("narrow-while-stopped", Quirk::NarrowWhileStopped, "in STOP and STOP_COPY most commands are EINVAL"),
    ("bitmap-of-unmap", Quirk::BitmapOfUnmap, "DMA_UNMAP can bring the dirty bitmap in v2 too"),
    (
        "precopy-apart",
        Quirk::PrecopyApart,
        "what is read in PRE_COPY is no part of the stream behind it, as in a sample",
    ),
];

/// What libvfio-user does in both dialects.
const LIBVFIO_USER: [Quirk; 5] =
    [Quirk::PaddedReads, Quirk::OneReceive, Quirk::UnloggedMessages, Quirk::Remaps, Quirk::NarrowWhileStopped];

impl Quirk {
    /// All of them.
    pub fn all() -> impl Iterator<Item = Quirk> {
        TABLE.iter().map(|row| row.1)
    }

    /// The name that `vfiomig-simdev --quirk` takes.
    pub fn name(self) -> &'static str {
        TABLE.iter().find(|row| row.1 == self).map_or("", |row| row.0)
    }

    /// What it does, in a line.
    pub fn about(self) -> &'static str {
        TABLE.iter().find(|row| row.1 == self).map_or("", |row| row.2)
    }

    /// The quirk of that name.
    pub fn from_name(name: &str) -> Option<Quirk> {
        TABLE.iter().find(|row| row.0 == name).map(|row| row.1)
    }
}

/// A set of quirks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Quirks(Vec<Quirk>);

impl Quirks {
    /// As the specification says.
    pub fn none() -> Self {
        Quirks::default()
    }

    /// What libvfio-user does in this dialect.
    pub fn of_libvfio_user(config: &Config) -> Self {
        let own: &[Quirk] = match config.dialect {
            Dialect::V2 { .. } => &[Quirk::RegionLog, Quirk::ReportWraps, Quirk::ReportSpins, Quirk::BitmapOfUnmap],
            _ => &[Quirk::EmptyWindow],
        };
        Quirks([&LIBVFIO_USER[..], own].concat())
    }

    /// The Rust crate `vfio_user`, which cannot migrate.
    pub fn of_rust_crate() -> Self {
        Quirks(vec![Quirk::StrayErrors])
    }

    /// With one more.
    #[must_use]
    pub fn and(mut self, quirk: Quirk) -> Self {
        if !self.has(quirk) {
            self.0.push(quirk);
        }
        self
    }

    /// Without that one.
    #[must_use]
    pub fn without(mut self, quirk: Quirk) -> Self {
        self.0.retain(|has| *has != quirk);
        self
    }

    /// Whether the server has it.
    pub fn has(&self, quirk: Quirk) -> bool {
        self.0.contains(&quirk)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_quirk_has_a_name_of_its_own() {
        for quirk in Quirk::all() {
            assert_eq!(Quirk::from_name(quirk.name()), Some(quirk));
        }
    }
}
