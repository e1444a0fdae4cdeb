//! The present devices as a mount file.

use std::collections::{BTreeMap, HashMap};

use super::{Config, DeviceSpec, MAPPER_FOLDER};
use crate::control::Registry;
use crate::device::{CachePolicy, Device, Directory};
use crate::io::{DeviceNumber, OpenDevice};
use crate::sync::Arc;
use crate::table::{RowSpec, Table};
use crate::target::{Access, Naming, escape_word, split_words};

/// The present devices, lower ones first, as a mount file that makes them again. Live tables count: a device
/// that has none yet is written without a table, a suspended one as if it were not. So is, unless `keys` says to write
/// them, one whose table holds keys: with other keys it would be another device.
pub fn dump(registry: &Registry, keys: bool) -> String {
    present(registry, keys).to_toml()
}

/// The present devices, lower ones first.
fn present(registry: &Registry, keys: bool) -> Config {
    let found = registry
        .list()
        .into_iter()
        .map(|device| (device.id(), (device.active(), device)));
    let mut order = Order {
        devices: found.collect(),
        placed: Vec::new(),
    };
    let ids: Vec<u64> = order.devices.keys().copied().collect();
    for id in ids {
        order.place(id);
    }
    let names: HashMap<DeviceNumber, String> = order
        .placed
        .iter()
        .map(|(_, device)| (device.number(), device.name()))
        .collect();
    let devices = order
        .placed
        .iter()
        .map(|(table, device)| spec(table.as_deref(), device, &names, keys));
    Config {
        transport: None,
        metrics: None,
        origin: "dump".into(),
        folder: "/".into(),
        supervised: false,
        harden: false,
        files: Vec::new(),
        devices: devices.collect(),
    }
}

type Found = (Option<Arc<Table>>, Arc<Device>);

/// Puts devices behind those that they lie on.
struct Order {
    /// Those that have no place yet, oldest first.
    devices: BTreeMap<u64, Found>,
    placed: Vec<Found>,
}

impl Order {
    fn place(&mut self, id: u64) {
        let Some((table, device)) = self.devices.remove(&id) else {
            return;
        };
        let below = table.iter().flat_map(|table| table.devices());
        for id in below.filter_map(|device| device.mapped) {
            self.place(id);
        }
        self.placed.push((table, device));
    }
}

fn spec(
    table: Option<&Table>,
    device: &Device,
    names: &HashMap<DeviceNumber, String>,
    keys: bool,
) -> DeviceSpec {
    let identity = device.identity();
    let hidden = !keys && table.is_some_and(holds_keys);
    DeviceSpec {
        hidden,
        place: None,
        name: identity.name,
        uuid: identity.uuid,
        minor: Some(device.number().minor),
        access: table.map_or(Access::ReadWrite, Table::access),
        direct: table.is_some_and(|table| table.devices().iter().any(|device| device.direct)),
        cache: Some(device.cache_policy()).filter(|policy| *policy != CachePolicy::None),
        rows: table.filter(|_| !hidden).map(|table| rows(table, names)),
        luks: None,
    }
}

fn holds_keys(table: &Table) -> bool {
    let mut rows = table.rows().iter();
    rows.any(|row| row.target().args_without_keys(Naming::Paths).is_some())
}

fn rows(table: &Table, names: &HashMap<DeviceNumber, String>) -> Vec<RowSpec> {
    let mapped: HashMap<String, String> = table
        .devices()
        .iter()
        .filter_map(|device| Some((shown(device), mapped_path(device, names)?)))
        .collect();
    let row = |row: &crate::table::Row| {
        let params = row.target().args(Naming::Paths);
        let (start, len, kind) = (row.start(), row.len(), row.kind().name.to_owned());
        RowSpec {
            start,
            len,
            kind,
            params: rename(params, &mapped),
        }
    };
    table.rows().iter().map(row).collect()
}

fn shown(device: &OpenDevice) -> String {
    device.path.to_string_lossy().into_owned()
}

/// What a mount file calls the mapped device, whatever it was called when the table was loaded.
fn mapped_path(device: &OpenDevice, names: &HashMap<DeviceNumber, String>) -> Option<String> {
    let name = names.get(&device.number)?;
    Some(format!("{MAPPER_FOLDER}{name}"))
}

fn rename(params: String, mapped: &HashMap<String, String>) -> String {
    if mapped.is_empty() {
        return params;
    }
    let words = split_words(&params).into_iter();
    let words = words.map(|word| escape_word(mapped.get(&word).unwrap_or(&word)));
    words.collect::<Vec<_>>().join(" ")
}
