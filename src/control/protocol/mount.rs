//! What `mount` asks of the daemon it starts: the command line as values.

use std::path::PathBuf;

pub use crate::fs::Transport;

/// The version of what a daemon leaves to its successor and of how it speaks with its supervisor. Another version is
/// not taken over.
pub const STATE_FORMAT: u32 = 1;

/// A mount to be served.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MountOptions {
    /// TOML file with the devices to begin with.
    pub file: Option<PathBuf>,
    /// Folder to mount on, as given.
    pub mountpoint: PathBuf,
    /// Devices to begin with, in dmsetup's concise form.
    pub concise: Option<String>,
    /// Make each device a block device: a loop device, and `/dev/mapper/NAME`.
    pub block_devices: bool,
    /// Leave the terminal once the mount stands.
    pub background: bool,
    /// Cache policy of devices that name none.
    pub cache: Option<String>,
    /// Keep the mount alive where the daemon dies.
    pub supervised: bool,
    /// Let other users use the mount.
    pub allow_other: bool,
    /// How requests come in, where the command line says so.
    pub transport: Option<Transport>,
    /// Keep clear of deadlocks when memory is short.
    pub harden: bool,
    /// How often `-v` was given.
    pub verbose: u8,
}
