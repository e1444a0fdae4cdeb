//! What `mount` asks of the daemon it starts: the command line as values.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

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
    /// Where what devices count is told, if anywhere.
    pub metrics: Option<MetricsAddress>,
    /// How often `-v` was given.
    pub verbose: u8,
}

/// Where the page is served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MetricsAddress {
    /// A Unix socket with an absolute path, for the mount's owner alone.
    Unix(PathBuf),
    /// A port of this machine, which everybody here can reach.
    Loopback(SocketAddr),
}

impl MetricsAddress {
    /// Reads an address.
    ///
    /// # Errors
    /// What was expected.
    pub fn parse(text: &str) -> Result<MetricsAddress, String> {
        let expected = || {
            format!(
                "expected the absolute path of a Unix socket, 127.0.0.1:PORT or [::1]:PORT, found {text:?}"
            )
        };
        if Path::new(text).is_absolute() {
            return Ok(MetricsAddress::Unix(text.into()));
        }
        let address: SocketAddr = text.parse().map_err(|_| expected())?;
        match address.ip().is_loopback() && address.port() != 0 {
            true => Ok(MetricsAddress::Loopback(address)),
            false => Err(expected()),
        }
    }
}

impl fmt::Display for MetricsAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MetricsAddress::Unix(path) => path.display().fmt(f),
            MetricsAddress::Loopback(address) => address.fmt(f),
        }
    }
}
