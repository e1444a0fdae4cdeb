//! What `mount` asks of the daemon it starts: the command line as values.

use std::path::PathBuf;

/// A mount to be served.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MountOptions {
    /// TOML file with the devices to begin with.
    pub file: Option<PathBuf>,
    /// Folder to mount on, as given.
    pub mountpoint: PathBuf,
    /// Devices to begin with, in dmsetup's concise form.
    pub concise: Option<String>,
    /// Leave the terminal once the mount stands.
    pub background: bool,
    /// Cache policy of devices that name none.
    pub cache: Option<String>,
    /// Let other users use the mount.
    pub allow_other: bool,
    /// How often `-v` was given.
    pub verbose: u8,
}
