//! What is told of how devices lie on one another: the way of one request ([`Explanation`]), and the whole
//! ([`Stack`]).

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

/// Where a request to a device goes, down to what the devices are made of.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Explanation {
    /// The device.
    pub name: String,
    /// First sector of the request.
    pub sector: u64,
    /// Length of the request in sectors.
    pub sectors: u64,
    /// Length of the device in sectors.
    pub device_sectors: u64,
    /// Told of the inactive table rather than of the live one.
    pub inactive: bool,
    /// Requests wait: the device, or one below it, is suspended.
    pub suspended: bool,
    /// The pieces, each followed by those that it makes on the devices below.
    pub pieces: Vec<Piece>,
    /// More pieces than are told of.
    pub left_off: bool,
}

/// What one target gets in one piece.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Piece {
    /// How many devices lie above this piece's.
    pub depth: u32,
    /// The piece's device.
    pub device: String,
    /// First sector, on that device.
    pub at: u64,
    /// Length in sectors.
    pub sectors: u64,
    /// The row of the table, from 1.
    pub row: u64,
    /// First sector of the row.
    pub row_start: u64,
    /// Length of the row in sectors.
    pub row_sectors: u64,
    /// The row's target.
    pub target: String,
    /// The target's arguments.
    pub args: String,
    /// What the target does beside passing on.
    pub note: String,
    /// The requests that the target makes of it.
    pub requests: Vec<Request>,
}

/// A request of a target to a device below.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Request {
    /// The device's number, `major:minor`.
    pub number: String,
    /// Its path; of a mapped device the path of its file.
    pub path: String,
    /// What it is.
    pub kind: Below,
    /// First sector there.
    pub at: u64,
    /// The byte at which that is.
    pub byte: u64,
    /// Length in sectors.
    pub sectors: u64,
    /// Which sectors of the piece's device these are, in order.
    pub parts: Vec<Part>,
    /// The pieces that it makes of a mapped device, as places in [`Explanation::pieces`], from 0.
    pub pieces: Vec<usize>,
}

/// A run of sectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Part {
    /// First sector.
    pub at: u64,
    /// Length in sectors.
    pub sectors: u64,
}

/// What a device below a table is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Below {
    /// A regular file.
    #[default]
    File,
    /// A block device.
    BlockDevice,
    /// Memory of the daemon.
    Memory,
    /// A device of the same mount.
    Mapped,
}

impl Below {
    /// The word for people.
    pub fn word(self) -> &'static str {
        match self {
            Below::File => "file",
            Below::BlockDevice => "block device",
            Below::Memory => "memory",
            Below::Mapped => "mapped device",
        }
    }
}

/// All devices of a mount, and what they lie on.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Stack {
    /// The mapped devices, in order of names.
    pub devices: Vec<StackDevice>,
    /// What they are made of beside each other.
    pub below: Vec<StackBelow>,
}

impl Stack {
    /// The devices of these names, and what lies below them.
    pub fn below(mut self, names: &[String]) -> Stack {
        let mut wanted: HashSet<String> = HashSet::new();
        let mut next: Vec<&StackDevice> = self
            .devices
            .iter()
            .filter(|device| names.contains(&device.name))
            .collect();
        while let Some(device) = next.pop() {
            if wanted.insert(device.number.clone()) {
                let uses = || device.rows.iter().flat_map(|rows| &rows.uses);
                next.extend(
                    self.devices
                        .iter()
                        .filter(|below| uses().any(|number| *number == below.number)),
                );
                wanted.extend(
                    uses()
                        .filter(|number| self.below.iter().any(|below| below.number == **number))
                        .cloned(),
                );
            }
        }
        self.devices
            .retain(|device| wanted.contains(&device.number));
        self.below.retain(|below| wanted.contains(&below.number));
        self
    }
}

/// A mapped device.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct StackDevice {
    /// Its name, as stored.
    pub name: String,
    /// Its number, `major:minor`.
    pub number: String,
    /// Its length in sectors.
    pub sectors: u64,
    /// Requests are held back.
    pub suspended: bool,
    /// Its table is read-only.
    pub readonly: bool,
    /// How many hold it open.
    pub open_count: u32,
    /// The rows of its live table, those of one target on the same devices together.
    pub rows: Vec<StackRows>,
}

/// Rows of one target that use the same devices.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct StackRows {
    /// The target.
    pub target: String,
    /// How many rows.
    pub rows: u64,
    /// Their length in sectors.
    pub sectors: u64,
    /// Numbers of the devices, each once, in the target's order.
    pub uses: Vec<String>,
}

/// A device that is no mapped device of this mount.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct StackBelow {
    /// Its number, `major:minor`.
    pub number: String,
    /// Its path.
    pub path: String,
    /// What it is.
    pub kind: Below,
    /// Its length in sectors.
    pub sectors: u64,
}
