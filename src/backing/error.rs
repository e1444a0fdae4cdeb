//! Why a backing could not be opened.

use std::fmt;

use crate::io::Errno;

/// The errno that the kernel's device mapper gives, and a sentence for people that names the path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackingError {
    /// What the kernel answers in this case.
    pub errno: Errno,
    /// What is wrong with which path, and where possible what to do.
    pub message: String,
}

impl BackingError {
    pub(super) fn new(errno: Errno, message: impl Into<String>) -> BackingError {
        BackingError {
            errno,
            message: message.into(),
        }
    }
}

impl fmt::Display for BackingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for BackingError {}
