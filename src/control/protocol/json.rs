//! Requests that the kernel's interface has no word for: JSON objects in frames of kind 2.
//!
//! A request is tagged by `"request"`, a reply by `"reply"`; a failed request has the frame's errno
//! and detail set and no payload. Unknown members are refused, so that a misspelt option is never
//! silently ignored. [`JsonRequest::Hello`] comes first on every connection.

use serde::{Deserialize, Serialize};

use super::stack::{Explanation, Stack};

#[cfg(test)]
mod tests;

/// The version of this vocabulary; the peer's must be equal.
pub const VERSION: u32 = 1;

/// What a command may ask.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "kebab-case", deny_unknown_fields)]
pub enum JsonRequest {
    /// Who is calling. Answered with [`JsonReply::Mount`].
    Hello {
        /// The caller's [`VERSION`].
        version: u32,
        /// Folder that relative paths in the connection's tables start from.
        cwd: String,
    },
    /// Asks about the mount. Answered with [`JsonReply::Mount`].
    MountInfo {},
    /// Asks for the present devices as a TOML mount file. Answered with [`JsonReply::Dump`].
    Dump {
        /// Tables that hold keys are written, too, with their keys.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        keys: bool,
    },
    /// Asks for the counters of one device or of all. Answered with [`JsonReply::Counters`].
    Counters {
        /// The device; all if missing.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        name: Option<String>,
        /// Measure how long requests take, for so many seconds from now on, an hour at most.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        measure: Option<u32>,
    },
    /// Asks for a device's limits. Answered with [`JsonReply::Limits`].
    Limits {
        /// The device.
        name: String,
    },
    /// Asks where a request to a device goes. Answered with [`JsonReply::Explanation`].
    Explain {
        /// The device.
        name: String,
        /// First sector of the request.
        sector: u64,
        /// Length of the request in sectors.
        sectors: u64,
        /// By the inactive table rather than by the live one.
        #[serde(default)]
        inactive: bool,
    },
    /// Asks for all devices and what they lie on. Answered with [`JsonReply::Stack`].
    Stack {},
    /// Attaches a loop device. Answered with [`JsonReply::Attached`].
    Attach {
        /// The device.
        name: String,
        /// Whether to make the link `/dev/mapper/NAME`.
        #[serde(default)]
        link: bool,
        /// Whether the loop device is read-only even if the device is not.
        #[serde(default)]
        readonly: bool,
    },
    /// Detaches the loop device. Answered with [`JsonReply::Done`].
    Detach {
        /// The device.
        name: String,
    },
    /// Asks for the cache policy of one device or of all, or sets it. Answered with [`JsonReply::Cache`].
    Cache {
        /// The device; all if missing.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        name: Option<String>,
        /// The new policy: `none`, `keep`, `writeback` or `passthrough`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        policy: Option<String>,
    },
    /// Has another program go on serving the mount. Answered with [`JsonReply::Done`] before it does.
    Upgrade {
        /// Absolute path of the program.
        program: String,
    },
    /// Unmounts and ends the daemon. Answered with [`JsonReply::Done`] before the daemon is gone.
    Unmount {
        /// Even if device files are open: they answer `ENOTCONN` from then on.
        #[serde(default)]
        force: bool,
        /// Hide the mount now, end when the last open file is closed.
        #[serde(default)]
        lazy: bool,
    },
}

/// What the daemon answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "kebab-case")]
pub enum JsonReply {
    /// The mount.
    Mount(MountInfo),
    /// The present devices as TOML.
    Dump {
        /// The file's text.
        toml: String,
    },
    /// Counters by device, in order of names.
    Counters {
        /// One entry per device.
        devices: Vec<DeviceCounters>,
    },
    /// Cache policies by device, in order of names.
    Cache {
        /// One entry per device.
        devices: Vec<DeviceCache>,
    },
    /// A device's limits.
    Limits(DeviceLimits),
    /// Where a request goes.
    Explanation(Explanation),
    /// All devices and what they lie on.
    Stack(Stack),
    /// A loop device is attached.
    Attached {
        /// Its path, as `/dev/loop0`.
        device: String,
        /// The link made to it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        link: Option<String>,
    },
    /// Nothing to tell.
    Done {},
}

/// A running mount.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct MountInfo {
    /// Canonical path of the mountpoint.
    pub mountpoint: String,
    /// The daemon's process number.
    pub pid: u32,
    /// Version of dmfs that serves the mount.
    pub version: String,
    /// Major number that the devices show.
    pub major: u32,
    /// Path of the control socket.
    pub socket: String,
    /// Each device is a block device, with the same number.
    #[serde(default)]
    pub block_devices: bool,
    /// How many devices there are.
    #[serde(default)]
    pub devices: u32,
    /// How requests come in: `classic` or `io_uring`.
    #[serde(default)]
    pub transport: String,
    /// Whether the mount outlives its daemon.
    #[serde(default)]
    pub supervision: Supervision,
    /// How many daemons have served it before.
    #[serde(default)]
    pub restarts: u32,
    /// The daemon's program.
    #[serde(default)]
    pub program: String,
}

/// Whether a mount outlives its daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Supervision {
    /// It was not asked for.
    #[default]
    None,
    /// It does.
    Supervised,
    /// Its supervisor has died: it does not any more.
    Lost,
}

/// What a device has done since it was created.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct DeviceCounters {
    /// The device.
    pub name: String,
    /// Its major number.
    pub major: u32,
    /// Its minor number.
    pub minor: u32,
    /// Reads completed.
    pub reads: u64,
    /// Sectors read.
    pub sectors_read: u64,
    /// Writes completed.
    pub writes: u64,
    /// Sectors written.
    pub sectors_written: u64,
    /// Flushes completed.
    pub flushes: u64,
    /// Discards completed.
    pub discards: u64,
    /// Sectors discarded.
    pub sectors_discarded: u64,
    /// Write-zeroes requests completed.
    pub write_zeroes: u64,
    /// Requests that ended in an error.
    pub errors: u64,
    /// Requests that have not ended.
    pub in_flight: u64,
    /// Requests are held back.
    pub suspended: bool,
    /// How long reads took, while somebody asked for it.
    pub read_times: Times,
    /// How long writes took.
    pub write_times: Times,
    /// How long flushes took.
    pub flush_times: Times,
}

/// How long requests took that were measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Times {
    /// How many were measured.
    pub requests: u64,
    /// How long they took together.
    pub nanoseconds: u64,
}

/// Who caches a device's data.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct DeviceCache {
    /// The device.
    pub name: String,
    /// The policy of files that are opened from now on.
    pub policy: String,
    /// Whether open files go straight to the backing file.
    pub bypassed: bool,
}

/// What a device can do, stacked from its rows.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct DeviceLimits {
    /// The device.
    pub name: String,
    /// Its size in sectors.
    pub sectors: u64,
    /// Bytes of a logical block.
    pub logical_block_size: u32,
    /// Bytes of a physical block.
    pub physical_block_size: u32,
    /// Preferred least request, in bytes.
    pub io_min: u32,
    /// Preferred request, in bytes; 0 if there is none.
    pub io_opt: u32,
    /// Longest discard in sectors; 0 without discard.
    pub max_discard_sectors: u64,
    /// Bytes that a discard is aligned to.
    pub discard_granularity: u32,
    /// Longest write-zeroes in sectors; 0 without.
    pub max_write_zeroes_sectors: u64,
    /// Whether the device seeks.
    pub rotational: bool,
}
