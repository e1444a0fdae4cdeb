//! Makes the devices of a [`Replay`] again.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;

use super::{DeviceRecord, DeviceUse, Replay, TableRecord};
use crate::backing::OpenOptions;
use crate::control::resolver::{Resolver, parse_number};
use crate::control::{Refusal, Registry};
use crate::device::{Device, Directory, Restored};
use crate::io::{DeviceNumber, Errno, OpenDevice};
use crate::sync::Arc;
use crate::table::{RowSpec, Table, TableContext};
use crate::target::{Access, DeviceOpener, OpenError};
use crate::unit::{Sector, Sectors};

/// Makes the devices of `replay` in `registry`, which is new and knows its mount, and whose store has been restored.
/// A table that cannot be built any more is left out: requests to its device then fail, and the log says why.
/// Openers are counted later, so nothing is removed here.
///
/// # Errors
/// Where two records claim the same number or name.
pub fn restore(registry: &Arc<Registry>, replay: &Replay) -> Result<(), Refusal> {
    for record in replay.devices.values() {
        registry.readmit(record)?;
    }
    registry.go_on_from(replay.last_id, replay.all_events);
    let mut order = Order {
        replay,
        left: replay.devices.keys().copied().collect(),
        placed: Vec::new(),
    };
    for id in replay.devices.keys() {
        order.place(*id);
    }
    // Lower ones first: an upper table reads length and limits of the devices below. What is loaded and not live
    // comes last, as it may lie on anything.
    let again = Again { registry };
    for (record, device) in order.devices(registry) {
        device.restore(again.live(record, &device));
    }
    for (record, device) in order.devices(registry) {
        let inactive = again.table(record, &device, record.inactive.as_ref());
        if let Some(Err(error)) = inactive.map(|table| device.load(table)) {
            log::error!(
                "{}: its inactive table is lost: {}",
                record.name,
                error.text
            );
        }
    }
    Ok(())
}

/// Puts devices behind those that their live tables lie on.
struct Order<'r> {
    replay: &'r Replay,
    left: BTreeSet<u64>,
    placed: Vec<&'r DeviceRecord>,
}

impl<'r> Order<'r> {
    fn place(&mut self, id: u64) {
        let Some(record) = self.replay.devices.get(&id) else {
            return;
        };
        if !self.left.remove(&id) {
            return;
        }
        let below = record.active.iter().flat_map(|table| &table.devices);
        for id in below.filter_map(|device| device.mapped) {
            self.place(id);
        }
        self.placed.push(record);
    }

    fn devices(&self, registry: &Registry) -> Vec<(&'r DeviceRecord, Arc<Device>)> {
        let device = |record: &&'r DeviceRecord| Some((*record, registry.by_id(record.id)?));
        self.placed.iter().filter_map(device).collect()
    }
}

struct Again<'a> {
    registry: &'a Arc<Registry>,
}

impl Again<'_> {
    fn live(&self, record: &DeviceRecord, device: &Arc<Device>) -> Restored {
        let active = self.table(record, device, record.active.as_ref());
        if let Some(table) = active.as_ref().filter(|_| !record.suspended) {
            for target in table.lifecycles() {
                if let Err(error) = target.preresume() {
                    log::error!("{}: a target does not resume: {error}", record.name);
                }
                target.resume();
            }
        }
        if let Some(table) = active.as_ref().filter(|_| record.suspended) {
            table.lifecycles().for_each(|target| target.postsuspend());
        }
        Restored {
            active,
            capacity: Sectors(record.sectors),
            suspended: record.suspended,
            geometry: record.geometry.clone(),
            event_number: record.events,
        }
    }

    fn table(
        &self,
        record: &DeviceRecord,
        device: &Arc<Device>,
        table: Option<&TableRecord>,
    ) -> Option<Arc<Table>> {
        let table = table?;
        match self.build(device, table) {
            Ok(table) => Some(Arc::new(table)),
            Err(refusal) => {
                log::error!(
                    "{}: its table cannot be built again: {refusal}",
                    record.name
                );
                None
            }
        }
    }

    fn build(&self, device: &Arc<Device>, table: &TableRecord) -> Result<Table, Refusal> {
        let opener = Reopener {
            registry: self.registry,
            uses: table
                .devices
                .iter()
                .map(|device| (device.number(), device))
                .collect(),
            opened: RefCell::default(),
        };
        let rows = table.rows.iter().map(|row| RowSpec {
            start: Sector(row.0),
            len: Sectors(row.1),
            kind: row.2.clone(),
            params: row.3.clone(),
        });
        let rows: Vec<RowSpec> = rows.collect();
        let context = TableContext {
            kinds: self.registry.kinds(),
            access: match table.readonly {
                true => Access::ReadOnly,
                false => Access::ReadWrite,
            },
            number: device.number(),
            opener: &opener,
            events: device.events().clone(),
            again: true,
        };
        let built = Table::build(&rows, &context)?;
        for (row, record) in built.rows().iter().zip(&table.rows) {
            for text in &record.4 {
                let words: Vec<&str> = text.split(' ').collect();
                if let Err(error) = row.target().message(&words, &opener) {
                    log::error!("{}: {text}: {error:?}", device.name());
                }
            }
        }
        Ok(built)
    }
}

/// Opens what a table had open.
struct Reopener<'a> {
    registry: &'a Arc<Registry>,
    uses: HashMap<DeviceNumber, &'a DeviceUse>,
    opened: RefCell<HashMap<DeviceNumber, Arc<OpenDevice>>>,
}

impl DeviceOpener for Reopener<'_> {
    fn open(&self, spec: &str, access: Access) -> Result<Arc<OpenDevice>, OpenError> {
        let was = parse_number(spec).and_then(|number| self.uses.get(&number));
        let Some(was) = was else {
            return Err(OpenError {
                errno: Errno::NXIO,
                reason: "it was not among the table's devices".to_owned(),
            });
        };
        if let Some(device) = self.opened.borrow().get(&was.number()) {
            return Ok(device.clone());
        }
        let options = OpenOptions { direct: was.direct };
        let resolver = Resolver::new(self.registry.clone(), PathBuf::from("/"), options);
        let device = Arc::new(resolver.reopen(was, access)?);
        self.opened
            .borrow_mut()
            .insert(was.number(), device.clone());
        Ok(device)
    }
}
