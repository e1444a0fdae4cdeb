//! How devices lie on one another, told to people: the way of a request, and the whole stack.
//!
//! Requests are cut here by the table's own rule ([`Table::piece_at`]) and led on by what each target tells
//! ([`Target::mapping_at`]); nothing is submitted.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileTypeExt;

use super::protocol::stack::{
    Below, Explanation, Part, Piece, Request, Stack, StackBelow, StackDevice, StackRows,
};
use super::registry::MAX_STACK_DEPTH;
use super::{Refusal, Registry};
use crate::backing::MEMORY_PREFIX;
use crate::device::{Device, Directory};
use crate::io::{BlockDev, DevRef, DeviceNumber, Errno, OpKind, OpenDevice};
use crate::sync::Arc;
use crate::table::{Row, Table};
use crate::target::{Access, Naming, Target};
use crate::unit::{SECTOR_SIZE, Sector, Sectors};

#[cfg(test)]
mod tests;

/// Pieces, requests and parts together of which one explanation tells.
const MOST_TOLD: usize = 4096;

/// Tells where a request of `len` from `at` on of the device goes, by its live table or its inactive one.
///
/// # Errors
/// ENXIO for a device without that table; EINVAL for a request that does not lie on the device.
pub fn explain(
    registry: &Registry,
    device: &Arc<Device>,
    at: Sector,
    len: Sectors,
    inactive: bool,
) -> Result<Explanation, Refusal> {
    let state = device.state();
    let (table, which) = match inactive {
        true => (state.inactive, "an inactive table"),
        false => (state.active, "a table"),
    };
    let name = device.name();
    let table =
        table.ok_or_else(|| Refusal::of(Errno::NXIO, &format!("a device with {which}"), &name))?;
    check_range(at, len, table.len())?;
    let mut explainer = Explainer {
        registry,
        told: 0,
        explanation: Explanation {
            name: name.clone(),
            sector: at.0,
            sectors: len.0,
            device_sectors: table.len().0,
            inactive,
            suspended: state.suspended,
            ..Explanation::default()
        },
    };
    explainer.table(&name, &table, at, len, 0);
    Ok(explainer.explanation)
}

fn check_range(at: Sector, len: Sectors, capacity: Sectors) -> Result<(), Refusal> {
    if at.0 >= capacity.0 {
        return Err(Refusal::of(
            Errno::INVAL,
            &format!("a sector below {capacity}, where the device ends"),
            &at.to_string(),
        ));
    }
    let most = capacity.0 - at.0;
    if len.is_zero() || len.0 > most {
        return Err(Refusal::of(
            Errno::INVAL,
            &format!("a length of 1 to {most} sectors, where the device ends"),
            &len.to_string(),
        ));
    }
    Ok(())
}

struct Explainer<'r> {
    registry: &'r Registry,
    told: usize,
    explanation: Explanation,
}

impl Explainer<'_> {
    /// One more thing to tell; false where there is no room for it.
    fn count(&mut self) -> bool {
        self.told += 1;
        self.explanation.left_off |= self.told > MOST_TOLD;
        self.told <= MOST_TOLD
    }

    /// Adds the pieces that `table` makes of a request, and what becomes of them; gives the places of these pieces.
    fn table(
        &mut self,
        device: &str,
        table: &Table,
        mut at: Sector,
        len: Sectors,
        depth: u32,
    ) -> Vec<usize> {
        let mut places = Vec::new();
        let mut left = len;
        while !left.is_zero() && self.count() {
            let Some((index, most)) = table.piece_at(OpKind::Read, at) else {
                break;
            };
            let Some(row) = table.rows().get(index) else {
                break;
            };
            let len = left.min(most);
            let place = self.explanation.pieces.len();
            places.push(place);
            self.explanation.pieces.push(Piece {
                depth,
                device: device.to_owned(),
                at: at.0,
                sectors: len.0,
                row: index as u64 + 1,
                row_start: row.start().0,
                row_sectors: row.len().0,
                target: row.kind().name.to_owned(),
                args: shown_args(row),
                ..Piece::default()
            });
            self.piece(place, row, at, len, depth);
            at = at + len;
            left = left - len;
        }
        places
    }

    /// Fills in what the row's target makes of a piece.
    fn piece(&mut self, place: usize, row: &Row, at: Sector, len: Sectors, depth: u32) {
        let made = self.requests(row, at, len);
        let mut requests = Vec::with_capacity(made.requests.len());
        for (range, mut request) in made.requests {
            if let Some(id) = range.device().mapped
                && let Some(below) = self.registry.by_id(id)
            {
                request.pieces = self.below(&below, &request, depth + 1);
            }
            requests.push(request);
        }
        if let Some(piece) = self.explanation.pieces.get_mut(place) {
            piece.note = made.notes.join("; ");
            piece.requests = requests;
        }
    }

    fn below(&mut self, device: &Device, request: &Request, depth: u32) -> Vec<usize> {
        let state = device.state();
        self.explanation.suspended |= state.suspended;
        match state.active {
            Some(table) if (depth as usize) < MAX_STACK_DEPTH => {
                let (at, len) = (Sector(request.at), Sectors(request.sectors));
                self.table(&device.name(), &table, at, len, depth)
            }
            _ => Vec::new(),
        }
    }

    /// The requests that a target makes of a piece: what follows on one stretch of a device, there and in the
    /// piece's order, goes in one.
    fn requests<'t>(&mut self, row: &'t Row, at: Sector, len: Sectors) -> Made<'t> {
        let mut made = Made::default();
        let (mut inside, end) = (at - row.start(), at - row.start() + len);
        while inside < end && self.count() {
            let mapping = row.target().mapping_at(Sector(inside.0), row.len());
            let run = Sectors(mapping.len.0.clamp(1, end.0 - inside.0));
            made.note(&mapping.note);
            for place in mapping.places {
                let part = Part {
                    at: row.start().0 + inside.0,
                    sectors: run.0,
                };
                made.add(place.range, place.at, part);
            }
            inside = inside + run;
        }
        made
    }
}

/// What a target makes of a piece.
#[derive(Default)]
struct Made<'t> {
    notes: Vec<String>,
    requests: Vec<(&'t DevRef, Request)>,
}

impl<'t> Made<'t> {
    fn note(&mut self, note: &str) {
        if !note.is_empty() && self.notes.iter().all(|known| known != note) {
            self.notes.push(note.to_owned());
        }
    }

    fn add(&mut self, range: &'t DevRef, at: Sector, part: Part) {
        let at = range.start().0.saturating_add(at.0);
        let before = self.requests.iter_mut().rev().find(|(known, request)| {
            std::ptr::eq(*known, range) && request.at.saturating_add(request.sectors) == at
        });
        if let Some((_, request)) = before {
            request.sectors = request.sectors.saturating_add(part.sectors);
            request.parts.push(part);
            return;
        }
        let device = range.device();
        let request = Request {
            number: device.number.to_string(),
            path: path_of(device),
            kind: kind_of(device),
            at,
            byte: at.saturating_mul(SECTOR_SIZE),
            sectors: part.sectors,
            parts: vec![part],
            pieces: Vec::new(),
        };
        self.requests.push((range, request));
    }
}

/// The arguments of a row, for whoever asks where data lies: without keys.
fn shown_args(row: &Row) -> String {
    let target = row.target();
    let without_keys = target.args_without_keys(Naming::Paths);
    without_keys.unwrap_or_else(|| target.args(Naming::Paths))
}

fn path_of(device: &OpenDevice) -> String {
    device.path.display().to_string()
}

fn kind_of(device: &OpenDevice) -> Below {
    if device.mapped.is_some() {
        return Below::Mapped;
    }
    if device
        .path
        .as_os_str()
        .as_bytes()
        .starts_with(MEMORY_PREFIX.as_bytes())
    {
        return Below::Memory;
    }
    match fs::metadata(&device.path) {
        Ok(found) if found.file_type().is_block_device() => Below::BlockDevice,
        _ => Below::File,
    }
}

/// Tells of all devices and what they lie on.
pub fn stack(registry: &Registry) -> Stack {
    let mut below = BTreeMap::new();
    let devices = registry.list();
    let devices = devices
        .iter()
        .map(|device| stack_device(device, &mut below));
    Stack {
        devices: devices.collect(),
        below: below.into_values().collect(),
    }
}

fn stack_device(device: &Device, below: &mut BTreeMap<DeviceNumber, StackBelow>) -> StackDevice {
    let state = device.state();
    if let Some(table) = &state.active {
        for used in table.devices().iter().filter(|used| used.mapped.is_none()) {
            below.entry(used.number).or_insert_with(|| StackBelow {
                number: used.number.to_string(),
                path: path_of(used),
                kind: kind_of(used),
                sectors: used.dev.capacity().0,
            });
        }
    }
    StackDevice {
        name: device.name(),
        number: device.number().to_string(),
        sectors: device.capacity().0,
        suspended: state.suspended,
        readonly: state
            .active
            .as_ref()
            .is_some_and(|table| table.access() == Access::ReadOnly),
        open_count: state.open_count,
        rows: state.active.map_or_else(Vec::new, |table| groups(&table)),
    }
}

/// The rows of a table, those of one target on the same devices as one.
fn groups(table: &Table) -> Vec<StackRows> {
    let mut groups: Vec<StackRows> = Vec::new();
    let mut known = BTreeMap::new();
    for row in table.rows() {
        let uses = uses(row.target());
        let key = (row.kind().name, uses);
        let at = *known.entry(key.clone()).or_insert(groups.len());
        if at == groups.len() {
            groups.push(StackRows {
                target: key.0.to_owned(),
                uses: key.1.iter().map(ToString::to_string).collect(),
                ..StackRows::default()
            });
        }
        if let Some(group) = groups.get_mut(at) {
            group.rows += 1;
            group.sectors = group.sectors.saturating_add(row.len().0);
        }
    }
    groups
}

/// The devices that a target uses, each once.
fn uses(target: &dyn Target) -> Vec<DeviceNumber> {
    let mut uses = Vec::new();
    target.devices(&mut |range| {
        let number = range.device().number;
        if !uses.contains(&number) {
            uses.push(number);
        }
    });
    uses
}
