//! What a table's device argument can be: a regular file, a block device, a stretch of memory.
//!
//! [`BackingStore`] opens them and sees to it that everything in this process that names the same file or
//! device uses one open backing, locked against other writers; a [`Backing`] is one opener's hold on it and the
//! bottom of the data path. `docs/backing.md` tells users what the rules are.
//!
//! Beside them stand what control needs around backings ([`create_file`], [`loop_device`]) and the devices that
//! tests put in place of real ones ([`Faulty`], [`Crashing`]).

mod channel;
mod crashing;
mod create;
mod direct;
mod error;
mod faulty;
mod file;
mod ioctl;
mod keeping;
mod lock;
pub mod loop_device;
mod memory;
mod probe;
mod queued;
mod store;
mod transfer;

pub use crashing::{CrashImage, Crashing, Cuts, Kept, Random};
pub use create::{Created, Existing, create_file};
pub use error::BackingError;
pub use faulty::{Fault, Faulty};
pub use keeping::{Descriptors, Keeper, Numbered};
pub use memory::{MEMORY_PREFIX, memory_size, parse_size};
pub use store::{Backing, BackingStore};

/// What an opener does with a backing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Reads only; writes are refused with EPERM.
    ReadOnly,
    /// Reads and writes.
    ReadWrite,
}

/// How a backing is used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OpenOptions {
    /// Go around the page cache (O_DIRECT). Of a file that is open already the first opener has decided.
    pub direct: bool,
}
