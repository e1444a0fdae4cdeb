//! What outlives the process that opened it: descriptors handed to a [`Keeper`], and what a later process makes of
//! them.
//!
//! A regular file is kept by the descriptor that holds its lock, so that nobody can take the file in between and it
//! is found again under whatever name, or none. Memory is kept because it is nowhere else. A block device is not
//! kept: its claim would outlast its last table; it is claimed anew.

use std::collections::HashMap;
use std::ffi::OsString;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::lock::FileId;

/// Keeps descriptors for a process that may have to go on where this one dies. Called with the store's lock held.
pub trait Keeper: Send + Sync {
    /// Keeps `descriptor` under `name`.
    fn keep(&self, name: &str, descriptor: BorrowedFd<'_>);

    /// Closes what is kept under `name`.
    fn forget(&self, name: &str);
}

/// What makes two paths the same backing.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Key {
    File(FileId),
    Block(u64),
    Memory(String),
}

impl Key {
    /// What a keeper calls it; nothing where it is not kept.
    pub(super) fn kept_name(&self) -> Option<String> {
        match self {
            Key::File(id) => Some(format!("file {}:{}", id.dev, id.ino)),
            Key::Memory(name) => Some(format!("mem {name}")),
            Key::Block(_) => None,
        }
    }
}

/// One number of a store, and what it stands for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Numbered {
    key: Key,
    path: OsString,
}

impl Numbered {
    pub(super) fn new(key: Key, path: PathBuf) -> Numbered {
        Numbered {
            key,
            path: path.into_os_string(),
        }
    }

    pub(super) fn into_parts(self) -> (Key, PathBuf) {
        (self.key, self.path.into())
    }
}

/// What an earlier process kept, by name.
pub type Descriptors = HashMap<String, OwnedFd>;
