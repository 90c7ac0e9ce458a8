//! Makes the man pages of libvfiomig: section 3 from the comments of `include/vfiomig.h`, section 7 from the pages in `docs`.
//!
//! Nothing is written here that the header or `docs` says: [`pages`] only says which page takes what from where.

pub mod allowed;
pub mod comment;
pub mod date;
pub mod excerpt;
pub mod header;
pub mod links;
pub mod markdown;
pub mod origin;
pub mod pages;
pub mod section3;
pub mod section7;
pub mod table;
pub mod text;
pub mod tree;
pub mod write;
