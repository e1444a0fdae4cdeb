//! The wire of FUSE: requests as the kernel writes them, answers and notices as it reads them.
//!
//! Layouts are those of linux/fuse.h, protocol 7.31 and later, in the machine's own byte order. The kernel is
//! trusted to mean well, but nothing here relies on lengths that it gives.

mod answer;
mod notice;
mod request;

pub use answer::{Entries, attributes, entry, opened, sought, usage, written};
pub use notice::Notice;
pub use request::{HEADER_LEN, Header, Operation, SetAttributes, WRITE_PREFIX, decode, split};

use std::time::Duration;

/// The directory that a mount shows.
pub const ROOT: u64 = 1;
/// How long the kernel may believe what it was told; it is told when that changes.
pub const TTL: Duration = Duration::from_secs(3600);
/// The longest request that is agreed on with the kernel, bytes of data.
pub const MAX_REQUEST: usize = 1 << 20;
