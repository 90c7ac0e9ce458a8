//! The words of a description: what a device can be like in one respect.

/// A migration protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// Device feature and data fd.
    V2 {
        /// The P2P states.
        p2p: bool,
        /// The PRE_COPY states.
        pre_copy: bool,
    },
    /// Migration region of Linux 5.8.
    V1 {
        /// Capability 6 and bit 3.
        ndma: bool,
    },
    /// The 2019 KABI.
    Draft {
        /// What back-to-back reads of copied_pfns mean.
        form: DraftForm,
        /// 2 (v4) or 3 (v8); subtype 1.
        region_type: u32,
    },
}

/// D16: who keeps the cursor of the dirty-pfn window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DraftForm {
    /// The driver; a client writes the range once.
    Sticky,
    /// The client, which writes the rest of the range before each read.
    Rewrite,
}

/// How the data section of the region is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Window {
    /// No mmap at all.
    Trapped,
    /// FLAG_MMAP without a sparse capability: the whole region.
    Whole,
    /// One sparse area over the data section.
    Area,
    /// At least three pages: two sparse areas, the higher one first in the list, with a trapped gap of a quarter of the section between.
    Gap,
    /// Sparse areas {offset, size} as given, also broken ones.
    Areas(Vec<(u64, u64)>),
}

/// Which accesses to the data section a driver takes (V1-12).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trapped {
    /// Any length.
    Any,
    /// Moves at most so many bytes per access.
    Short(usize),
    /// EINVAL beyond so many bytes.
    AtMost(usize),
    /// EINVAL unless 1, 2, 4 or 8 bytes, naturally aligned.
    Word,
    /// This errno: only a mapping reaches the data.
    Refused(i32),
}

/// How much of the state is offered while the device runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precopy {
    /// Nothing: a stream of no bytes in pre-copy (N7).
    Nothing,
    /// The first half.
    Half,
    /// Everything.
    Everything,
    /// The first so many bytes.
    Bytes(usize),
}

/// How an end of data is reported in PRE_COPY (F3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PrecopyEnd {
    /// ENOMSG: the uAPI's word, mlx5 and virtio.
    NoMessage,
    /// 0: qat, hisi, mtty.
    Zero,
}

/// How the v2 data fd is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DataPath {
    /// Functions; the number in the feature has no meaning.
    Functions,
    /// A real descriptor: a memory file. An end reads as 0, there is no pre-copy info, and a session that ended reads as
    /// empty instead of ENODEV.
    RealFd,
}

/// What a stream that does not load leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadLoad {
    /// ERROR (N11).
    Error,
    /// The device stays in RESUMING (mtty).
    Keep,
}

/// Which kernel a container or an iommufd is of, where they differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kernel {
    /// Linux 6.12.
    V6_12,
    /// Linux 7.3.
    V7_3,
}
