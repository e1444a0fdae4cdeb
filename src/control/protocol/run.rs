//! What `run` asks of the program: the command line as values.

use std::ffi::OsString;

/// What a command finds where a device mapper would be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Each mapped device is a block device: a loop device over its file.
    Root,
    /// Each mapped device is its file, which is told to be a block device.
    User,
}

/// A command to be run over a mount.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RunOptions {
    /// What it finds; if missing, what the user's rights allow.
    pub mode: Option<Mode>,
    /// The mount; one of its own if missing.
    pub mount: Option<String>,
    /// Versions of target types to be told instead of the real ones.
    pub versions: Vec<(String, [u32; 3])>,
    /// Program and arguments.
    pub command: Vec<OsString>,
}
