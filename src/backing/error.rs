//! Why a backing could not be opened.

use std::fmt;

use rustix::process::{Resource, getrlimit};

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
        let mut message = message.into();
        if errno == Errno::MFILE {
            message += &descriptors_used_up();
        }
        BackingError { errno, message }
    }
}

/// What to do where the process may not open one more file.
fn descriptors_used_up() -> String {
    let limit = getrlimit(Resource::Nofile).current;
    let limit = limit.map_or_else(|| "no limit".to_owned(), |limit| limit.to_string());
    format!(
        ": the daemon has as many files open as it may ({limit}); \
         start it with a higher limit (`ulimit -n`, `LimitNOFILE=` of a systemd unit), or remove devices"
    )
}

impl fmt::Display for BackingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for BackingError {}
