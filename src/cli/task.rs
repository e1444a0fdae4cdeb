//! One transaction as libdm sees it: what is sent, what comes back, and the line that tells it failed.

use zeroize::Zeroizing;

use crate::control::protocol::dm_ioctl::payload::{self, TargetSpec};
use crate::control::protocol::dm_ioctl::{Command, DevNo, Flags, Header};

/// Longest name of a target, in bytes (`DM_MAX_TYPE_NAME` less the NUL).
const TARGET_NAME_MAX: usize = 15;

/// Room offered for an answer at first; doubled until the answer fits.
pub const FIRST_ROOM: u32 = 16 << 10;

/// What is asked, by libdm's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Create a device.
    Create,
    /// Load a table.
    Reload,
    /// Remove a device.
    Remove,
    /// Remove all devices.
    RemoveAll,
    /// Suspend.
    Suspend,
    /// Resume.
    Resume,
    /// Tell the state.
    Info,
    /// List dependencies.
    Deps,
    /// Rename.
    Rename,
    /// Tell the driver's version.
    Version,
    /// Status lines.
    Status,
    /// Table lines.
    Table,
    /// Wait for an event.
    Wait,
    /// List devices.
    List,
    /// Empty the inactive slot.
    Clear,
    /// List target types.
    ListVersions,
    /// Tell one target type's version.
    TargetVersion,
    /// Send a message.
    Message,
    /// Set the geometry.
    SetGeometry,
    /// Measurement lines.
    Measure,
}

impl Kind {
    /// The ioctl.
    pub fn command(self) -> Command {
        match self {
            Self::Create => Command::DevCreate,
            Self::Reload => Command::TableLoad,
            Self::Remove => Command::DevRemove,
            Self::RemoveAll => Command::RemoveAll,
            Self::Suspend | Self::Resume => Command::DevSuspend,
            Self::Info => Command::DevStatus,
            Self::Deps => Command::TableDeps,
            Self::Rename => Command::DevRename,
            Self::Version => Command::Version,
            Self::Status | Self::Table | Self::Measure => Command::TableStatus,
            Self::Wait => Command::DevWait,
            Self::List => Command::ListDevices,
            Self::Clear => Command::TableClear,
            Self::ListVersions => Command::ListVersions,
            Self::TargetVersion => Command::GetTargetVersion,
            Self::Message => Command::TargetMsg,
            Self::SetGeometry => Command::DevSetGeometry,
        }
    }

    /// What libdm calls it in errors.
    pub fn name(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Reload => "reload",
            Self::Remove => "remove",
            Self::RemoveAll => "remove_all",
            Self::Suspend => "suspend",
            Self::Resume => "resume",
            Self::Info => "info",
            Self::Deps => "deps",
            Self::Rename => "rename",
            Self::Version => "version",
            Self::Status | Self::Measure => "status",
            Self::Table => "table",
            Self::Wait => "waitevent",
            Self::List => "names",
            Self::Clear => "clear",
            Self::ListVersions => "versions",
            Self::TargetVersion => "target-version",
            Self::Message => "message",
            Self::SetGeometry => "setgeometry",
        }
    }

    fn flags(self) -> Flags {
        match self {
            Self::Suspend => Flags::SUSPEND,
            Self::Table => Flags::STATUS_TABLE,
            Self::Measure => Flags::IMA_MEASUREMENT,
            _ => Flags::default(),
        }
    }
}

/// A transaction to be.
#[derive(Debug, Clone)]
pub struct Task {
    /// What is asked.
    pub kind: Kind,
    /// Name of the device as it is stored.
    pub name: String,
    /// Its uuid as it is stored.
    pub uuid: String,
    /// Its number, if given.
    pub dev: Option<DevNo>,
    /// More flags.
    pub flags: Flags,
    /// Event number.
    pub event_nr: u32,
    /// Rows in the payload.
    pub target_count: u32,
    /// The payload; a table may hold keys.
    pub payload: Zeroizing<Vec<u8>>,
}

/// What came back.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The header.
    pub header: Header,
    /// Header and payload.
    pub buffer: Vec<u8>,
    /// Whether the device exists; with `Info` and `Status` a missing one is no error.
    pub exists: bool,
}

impl Task {
    /// A task about no device.
    pub fn new(kind: Kind) -> Self {
        Self {
            kind,
            name: String::new(),
            uuid: String::new(),
            dev: None,
            flags: kind.flags() | Flags::EXISTS,
            event_nr: 0,
            target_count: 0,
            payload: Zeroizing::default(),
        }
    }

    /// A task about the device of this number.
    pub fn on(kind: Kind, dev: DevNo) -> Self {
        Self {
            dev: Some(dev),
            ..Self::new(kind)
        }
    }

    /// With these flags as well.
    pub fn with(mut self, flags: Flags, on: bool) -> Self {
        if on {
            self.flags |= flags;
        }
        self
    }

    /// With this payload.
    pub fn carrying(mut self, payload: Vec<u8>) -> Self {
        self.payload = Zeroizing::new(payload);
        self
    }

    /// With the rows of a table.
    ///
    /// # Errors
    /// When the rows make no payload, or a target's name does not fit its field.
    pub fn with_rows(mut self, rows: &[TargetSpec]) -> Result<Self, String> {
        if let Some(row) = rows.iter().find(|row| row.target.len() > TARGET_NAME_MAX) {
            return Err(format!("Target type name {} is too long.", row.target));
        }
        let payload = payload::load(rows).map_err(|error| error.to_string())?;
        self.payload = Zeroizing::new(payload);
        self.target_count = u32::try_from(rows.len()).map_err(|error| error.to_string())?;
        Ok(self)
    }

    /// The buffer to send, offering `room` bytes for the answer.
    pub fn buffer(&self, room: u32) -> Vec<u8> {
        let mut header = Header {
            flags: self.flags,
            event_nr: self.event_nr,
            target_count: self.target_count,
            name: self.name.clone(),
            uuid: self.uuid.clone(),
            ..Header::default()
        };
        let needed = header.data_size.saturating_add(self.payload.len() as u32);
        header.data_size = needed.max(room);
        if let Some(dev) = self.dev {
            header.dev = dev;
            header.flags |= Flags::PERSISTENT_DEV;
        }
        header.with_payload(&self.payload)
    }

    /// The line that tells of a failure.
    pub fn failure(&self, why: &str) -> String {
        let number = match self.dev {
            Some(dev) if dev.major > 0 => format!("({dev})"),
            _ => String::new(),
        };
        format!(
            "device-mapper: {} ioctl on {} {}{number} failed: {why}",
            self.kind.name(),
            self.name,
            self.uuid
        )
    }
}
