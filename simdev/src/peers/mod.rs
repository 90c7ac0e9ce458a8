//! Peers: how each driver of the kernel and each server of vfio-user really behaves, as data. Sizes and times are scaled
//! down so that a test takes no time: seconds of a driver are tens of milliseconds here.
//!
//! May import: config. Start reading at the table here; one file per peer, and `image` for what three drivers of the kernel have in
//! common.

mod hisi_acc;
mod image;
mod libvfio_user_v1;
mod libvfio_user_v2;
mod mlx5;
mod mtty;
mod pds;
mod qat;
mod spdk;
mod virtio;
mod xe;

use crate::config::{Beyond, Config};

/// A driver or a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "their own names")]
pub enum Peer {
    Mlx5,
    HisiAcc,
    Pds,
    Qat,
    Virtio,
    Xe,
    Mtty,
    SpdkV1,
    LibvfioUserV1,
    LibvfioUserV2,
}

type Row = (Peer, &'static str, fn() -> Config);

const TABLE: [Row; 10] = [
    (Peer::Mlx5, "mlx5", mlx5::config),
    (Peer::HisiAcc, "hisi_acc", hisi_acc::config),
    (Peer::Pds, "pds", pds::config),
    (Peer::Qat, "qat", qat::config),
    (Peer::Virtio, "virtio", virtio::config),
    (Peer::Xe, "xe", xe::config),
    (Peer::Mtty, "mtty", mtty::config),
    (Peer::SpdkV1, "spdk-v1", spdk::config),
    (Peer::LibvfioUserV1, "libvfio-user-v1", libvfio_user_v1::config),
    (Peer::LibvfioUserV2, "libvfio-user-v2", libvfio_user_v2::config),
];

impl Peer {
    /// All of them.
    pub const ALL: [Peer; 10] = {
        let mut all = [Peer::Mlx5; 10];
        let mut i = 0;
        while i < all.len() {
            all[i] = TABLE[i].0;
            i += 1;
        }
        all
    };

    fn row(self) -> &'static Row {
        TABLE.iter().find(|row| row.0 == self).unwrap_or(&TABLE[0])
    }

    /// The name that `simdev_new_peer` takes.
    pub fn name(self) -> &'static str {
        self.row().1
    }

    /// The peer of that name.
    pub fn from_name(name: &str) -> Option<Peer> {
        TABLE.iter().find(|row| row.1 == name).map(|row| row.0)
    }

    /// A device of this kind, with a state of zeros.
    pub fn config(self) -> Config {
        self.row().2()
    }

    /// Whether one could load the other's stream, were they of one vendor: the same protocol, and a length that the other
    /// takes.
    pub fn streams_to(self, other: Peer) -> bool {
        let (from, to) = (self.config(), other.config());
        let fits = to.habits.beyond == Beyond::NoBound && from.habits.one_segment == to.habits.one_segment;
        self == other || (from.is_v2() == to.is_v2() && fits)
    }
}
