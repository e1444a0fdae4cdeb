//! Tables: into their slots, live, and how devices lie on one another through them.

use std::collections::{HashMap, HashSet};

use super::Registry;
use crate::control::Refusal;
use crate::device::{Change, Device, Directory, ResumeError, SuspendOptions};
use crate::io::Errno;
use crate::sync::Arc;
use crate::table::Table;

/// The most devices stacked on one another: a request descends them by recursion.
pub(in crate::control) const MAX_STACK_DEPTH: usize = 128;

impl Registry {
    /// Puts a table into a device's inactive slot.
    ///
    /// # Errors
    /// ELOOP where the device would lie below itself or the stack grow too deep; EINVAL where its live table's
    /// kind may not be replaced.
    pub fn load(&self, device: &Arc<Device>, table: Table) -> Result<(), Refusal> {
        let table = Arc::new(table);
        let _load = self.loads.lock();
        let below = self.depth_below(&table, device.id(), &mut HashMap::new())?;
        if below > 1 && below + self.depth_above(device.id()) > MAX_STACK_DEPTH {
            return Err(Refusal::of(
                Errno::LOOP,
                &format!("at most {MAX_STACK_DEPTH} devices on one another"),
                &device.name(),
            ));
        }
        device
            .load(table)
            .map_err(|error| Refusal::message(error.errno, format!("ioctl: {}", error.text)))?;
        self.note(device);
        Ok(())
    }

    /// How many devices lie on one another below `table`, with its own; ELOOP where `id` is among them. `known`
    /// remembers the depths found on the way.
    fn depth_below(
        &self,
        table: &Table,
        id: u64,
        known: &mut HashMap<u64, usize>,
    ) -> Result<usize, Refusal> {
        let mut deepest = 0;
        for below in table.devices().iter().filter_map(|device| device.mapped) {
            if below == id {
                let name = self
                    .by_id(id)
                    .map(|device| device.name())
                    .unwrap_or_default();
                return Err(Refusal::of(
                    Errno::LOOP,
                    "a device that does not lie on this one",
                    &name,
                ));
            }
            if let Some(&depth) = known.get(&below) {
                deepest = deepest.max(depth);
                continue;
            }
            let Some(device) = self.by_id(below) else {
                continue;
            };
            let state = device.state();
            let mut depth = 1;
            for table in [state.active, state.inactive].into_iter().flatten() {
                depth = depth.max(self.depth_below(&table, id, known)?);
            }
            known.insert(below, depth);
            deepest = deepest.max(depth);
        }
        Ok(deepest + 1)
    }

    /// How many devices lie on one another above the device `id`.
    fn depth_above(&self, id: u64) -> usize {
        let mut level = HashSet::from([id]);
        for depth in 0..MAX_STACK_DEPTH {
            let uses_level = |table: &Arc<Table>| {
                table
                    .devices()
                    .iter()
                    .any(|device| device.mapped.is_some_and(|id| level.contains(&id)))
            };
            let above = self.list().into_iter().filter(|device| {
                let state = device.state();
                [state.active, state.inactive]
                    .iter()
                    .flatten()
                    .any(uses_level)
            });
            let above: HashSet<u64> = above.map(|device| device.id()).collect();
            if above.is_empty() {
                return depth;
            }
            level = above;
        }
        MAX_STACK_DEPTH
    }

    /// Suspends a device.
    ///
    /// # Errors
    /// As for [`Device::suspend`].
    pub fn suspend(
        &self,
        device: &Device,
        options: SuspendOptions,
        keep_waiting: &mut dyn FnMut() -> bool,
    ) -> Result<(), Errno> {
        self.await_closes(device, || device.is_bypassed());
        device.suspend(options, keep_waiting)
    }

    /// Resumes a device, with its inactive table if there is one, and tells of the change.
    ///
    /// # Errors
    /// As for [`Device::resume`].
    pub fn resume(
        &self,
        device: &Arc<Device>,
        options: SuspendOptions,
        keep_waiting: &mut dyn FnMut() -> bool,
    ) -> Result<(), ResumeError> {
        self.await_closes(device, || device.is_bypassed());
        // Noted before a request can meet the new table: what is written then must be found again.
        let result = device.resume_noting(options, keep_waiting, &mut || self.note(device));
        if result.is_err() {
            self.note(device);
        }
        let swapped = match &result {
            Ok(resumed) => resumed.swapped,
            Err(error) => error.swapped,
        };
        if swapped {
            self.tell(&Change::Changed { id: device.id() });
        }
        result.map(|_| ())
    }

    /// True where a device below `device` is suspended.
    pub(super) fn lies_on_suspended(&self, device: &Device) -> bool {
        let below = |table: Arc<Table>| -> Vec<u64> {
            let mapped = table.devices().iter().filter_map(|device| device.mapped);
            mapped.collect()
        };
        let mut left: Vec<u64> = device.active().map(below).unwrap_or_default();
        let mut seen = HashSet::new();
        while let Some(id) = left.pop() {
            let Some(device) = self.by_id(id).filter(|_| seen.insert(id)) else {
                continue;
            };
            if device.is_suspended() {
                return true;
            }
            left.extend(device.active().map(below).unwrap_or_default());
        }
        false
    }
}
