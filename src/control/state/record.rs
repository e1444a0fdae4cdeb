//! What is written down, and how it is read off the devices.

use std::ffi::OsString;

use serde::{Deserialize, Serialize};

use crate::backing::{BackingStore, Numbered};
use crate::device::Device;
use crate::io::{BlockDev, DeviceNumber, OpenDevice};
use crate::table::{Row, Table};
use crate::target::Access;

/// One line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Line {
    /// The first line.
    Mount(MountRecord),
    /// What numbers of files and memory stand for, `first` and those after it.
    Backings {
        /// The first minor number.
        first: usize,
        /// What they stand for.
        numbers: Vec<Numbered>,
    },
    /// A device is like this now.
    Device(DeviceRecord),
    /// A device is gone.
    Removed {
        /// Its permanent number.
        id: u64,
    },
    /// Every loop device that is attached now.
    Loops(Vec<AttachedRecord>),
    /// The largest permanent number so far, where no device has it any more.
    LastId(u64),
}

/// The mount itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountRecord {
    /// [`STATE_FORMAT`](crate::control::protocol::mount::STATE_FORMAT) of whoever wrote it.
    pub format: u32,
    /// Its version of the program.
    pub version: String,
    /// The mountpoint.
    pub mountpoint: OsString,
    /// The mountpoint was made for this mount and goes with it.
    pub made: bool,
    /// The file system's device number.
    pub st_dev: u64,
    /// Major number of mapped devices.
    pub mapped_major: u32,
    /// Major number of files and memory.
    pub files_major: u32,
    /// Cache policy of devices that are made without one.
    pub cache: Option<String>,
    /// Hardened from the start.
    #[serde(default)]
    pub harden: bool,
    /// Where what devices count is told, if anywhere.
    #[serde(default)]
    pub metrics: Option<String>,
    /// How the files look.
    pub files: FilesRecord,
}

/// How a mount shows its files.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FilesRecord {
    /// Others may enter.
    pub allow_other: bool,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Permission bits.
    pub mode: u16,
    /// The kernel was asked to hold back writes to cached files.
    pub writeback: bool,
}

/// A device.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceRecord {
    /// Its permanent number.
    pub id: u64,
    /// Its minor number.
    pub minor: u32,
    /// Its name.
    pub name: String,
    /// Its uuid; empty where it has none.
    pub uuid: String,
    /// Events so far.
    pub events: u32,
    /// Events of all devices so far.
    pub all_events: u32,
    /// Requests are held back.
    pub suspended: bool,
    /// It goes with its last close.
    pub deferred_remove: bool,
    /// The geometry that somebody set.
    pub geometry: Option<String>,
    /// Its cache policy.
    pub cache: String,
    /// Its length in sectors.
    pub sectors: u64,
    /// The live table.
    pub active: Option<TableRecord>,
    /// The table that the next resume makes live.
    pub inactive: Option<TableRecord>,
}

/// A table.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableRecord {
    /// It may not write.
    pub readonly: bool,
    /// Its rows.
    pub rows: Vec<RowRecord>,
    /// What its rows have open.
    pub devices: Vec<DeviceUse>,
}

/// A row: start and length in sectors, kind, arguments with devices as numbers, messages that it has had.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowRecord(
    pub u64,
    pub u64,
    pub String,
    pub String,
    #[serde(default)] pub Vec<String>,
);

/// A device that a table has open.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceUse {
    /// Its number.
    pub major: u32,
    /// Its number.
    pub minor: u32,
    /// What it was opened by.
    pub path: OsString,
    /// Around the page cache.
    pub direct: bool,
    /// The mapped device behind it.
    pub mapped: Option<u64>,
    /// First sector and length of the stretch of that device, where it is not the whole.
    pub part: Option<(u64, u64)>,
}

/// A loop device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttachedRecord {
    /// The permanent number of the device that it shows.
    pub id: u64,
    /// The loop device.
    pub device: OsString,
    /// The link to it.
    pub link: Option<OsString>,
}

impl DeviceUse {
    /// Its number.
    pub fn number(&self) -> DeviceNumber {
        DeviceNumber {
            major: self.major,
            minor: self.minor,
        }
    }

    fn of(device: &OpenDevice) -> DeviceUse {
        DeviceUse {
            major: device.number.major,
            minor: device.number.minor,
            path: device.path.clone().into_os_string(),
            direct: device.direct,
            mapped: device.mapped,
            part: device.part.map(|(start, len)| (start.0, len.0)),
        }
    }
}

impl TableRecord {
    fn of(table: &Table) -> TableRecord {
        let row = |row: &Row| {
            let params = row.target().kept();
            RowRecord(
                row.start().0,
                row.len().0,
                row.kind().name.to_owned(),
                params,
                row.target().recall(),
            )
        };
        TableRecord {
            readonly: table.access() == Access::ReadOnly,
            rows: table.rows().iter().map(row).collect(),
            devices: table
                .devices()
                .iter()
                .map(|device| DeviceUse::of(device))
                .collect(),
        }
    }
}

/// What `device` is like; `all_events` counts those of all devices.
pub fn device(device: &Device, all_events: u32) -> DeviceRecord {
    let state = device.state();
    let identity = device.identity();
    let table = |table: &Option<_>| table.as_deref().map(TableRecord::of);
    DeviceRecord {
        id: device.id(),
        minor: device.number().minor,
        name: identity.name,
        uuid: identity.uuid,
        events: state.event_number,
        all_events,
        suspended: state.suspended,
        deferred_remove: state.deferred_remove,
        geometry: device.geometry(),
        cache: device.cache_policy().to_string(),
        sectors: device.capacity().0,
        active: table(&state.active),
        inactive: table(&state.inactive),
    }
}

/// The numbers of `store` from `first` on; nothing where there are none.
pub fn backings(store: &BackingStore, first: usize) -> Option<(Line, usize)> {
    let numbers = store.numbers(first);
    let count = numbers.len();
    (count > 0).then_some((Line::Backings { first, numbers }, count))
}
