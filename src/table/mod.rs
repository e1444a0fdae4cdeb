//! A table: rows, each a target bound to its devices, one after the other without a gap.
//!
//! The table finds the row of a request, cuts requests at rows and at the boundaries targets declare, writes
//! zeroes where a target cannot, and flushes every device below once. A request inside one row (the usual
//! case) allocates nothing.

mod build;
mod error;
mod submit;

pub use build::{RowSpec, TableContext};
pub use error::{TableError, errno_name};

use std::os::fd::BorrowedFd;

use rustix::fs::{FileType, fstat};

use crate::io::{DevRef, DeviceNumber, Extent, Limits, OpKind, OpenDevice, Stretches, index_of};
use crate::sync::Arc;
use crate::target::{Access, Lifecycle, Target, TargetKind};
use crate::unit::{Sector, Sectors};

/// An accepted table.
pub struct Table {
    rows: Vec<Row>,
    /// End of each row, for the search: contiguous, so that 100,000 rows stay in few cache lines.
    ends: Vec<u64>,
    /// On average, for a first guess where a row is.
    rows_per_sector: f64,
    len: Sectors,
    access: Access,
    limits: Limits,
    only_shows: bool,
    /// Every device once, in the order in which rows opened them.
    devices: Vec<Arc<OpenDevice>>,
    /// Devices that the core flushes by itself.
    flushed: Vec<Arc<OpenDevice>>,
    /// Rows whose target flushes by itself.
    flushing_rows: Vec<usize>,
}

/// One row of a table. What every request needs comes first, to lie in one cache line.
#[repr(C)]
pub struct Row {
    start: Sector,
    len: Sectors,
    target: Box<dyn Target>,
    max_io_len: Option<Sectors>,
    kind: &'static TargetKind,
    limits: Limits,
}

impl Row {
    /// First sector.
    pub fn start(&self) -> Sector {
        self.start
    }

    /// Length.
    pub fn len(&self) -> Sectors {
        self.len
    }

    /// True for a row without sectors, which no table accepts.
    pub fn is_empty(&self) -> bool {
        self.len.is_zero()
    }

    /// Its kind.
    pub fn kind(&self) -> &'static TargetKind {
        self.kind
    }

    /// Its target.
    pub fn target(&self) -> &dyn Target {
        &*self.target
    }

    fn end(&self) -> Sector {
        self.start + self.len
    }

    /// The stretch that is all there is to the row, uncut.
    fn shown(&self) -> Option<&DevRef> {
        let range = self.target.shows()?;
        (range.len() >= self.len && self.max_io_len.is_none()).then_some(range)
    }
}

impl Table {
    /// Length of the device under this table.
    pub fn len(&self) -> Sectors {
        self.len
    }

    /// True for a table of no sectors, which is never built.
    pub fn is_empty(&self) -> bool {
        self.len.is_zero()
    }

    /// The rows, in order.
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// Whether the table may write.
    pub fn access(&self) -> Access {
        self.access
    }

    /// Limits stacked from all rows.
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// Every device that the table holds open, once, in the order in which rows opened them.
    pub fn devices(&self) -> &[Arc<OpenDevice>] {
        &self.devices
    }

    /// The kind that must not be swapped for another on a live device, if the table holds one.
    pub fn immutable_kind(&self) -> Option<&'static TargetKind> {
        self.rows
            .iter()
            .map(|row| row.kind)
            .find(|kind| kind.rules.immutable)
    }

    /// The kind of a table of one row that may take the place of an immutable one.
    pub fn is_wildcard(&self) -> bool {
        self.rows.first().is_some_and(|row| row.kind.rules.wildcard)
    }

    /// The row that holds the sector `at`.
    #[inline]
    pub fn row_at(&self, at: Sector) -> Option<&Row> {
        match &self.rows[..] {
            [only] => (at.0 < only.len.0).then_some(only),
            rows => rows.get(self.index_of(at)),
        }
    }

    fn index_of(&self, at: Sector) -> usize {
        let end_of = |row: usize| self.ends.get(row).copied();
        index_of(at, self.ends.len(), self.rows_per_sector, end_of)
    }

    /// The row that holds the sector `at`, counted from 0, and the longest request of `kind` from there on that its
    /// target has in one piece.
    pub fn piece_at(&self, kind: OpKind, at: Sector) -> Option<(usize, Sectors)> {
        let index = self.index_of(at);
        let row = self.rows.get(index)?;
        Some((index, row.most_at(kind, at)))
    }

    /// What lies at `at` and up to where.
    pub fn extent_at(&self, at: Sector) -> Extent {
        let Some(row) = self.row_at(at) else {
            return Extent::hole(Sector(at.0.saturating_add(1)));
        };
        let inside = row.target.extent_at(Sector(at.0 - row.start.0), row.len);
        Extent {
            end: Sector(row.start.0 + inside.end.0.min(row.len.0)),
            ..inside
        }
    }

    /// True where every row shows a stretch of a device and does nothing else.
    #[inline]
    pub fn only_shows(&self) -> bool {
        self.only_shows
    }

    /// The stretches that the table shows, where it does nothing else.
    pub fn stretches(&self) -> Option<Stretches> {
        if !self.only_shows {
            return None;
        }
        let mut stretches = Stretches::new(self.access == Access::ReadOnly);
        for row in &self.rows {
            let range = row.shown()?;
            stretches.push(row.len, &range.device().dev, range.start());
        }
        Some(stretches)
    }

    /// The regular file that the table shows from its first byte to its last, each in its place, if it does.
    pub fn whole_file(&self) -> Option<BorrowedFd<'_>> {
        let [row] = &self.rows[..] else {
            return None;
        };
        let range = row.target.shows().filter(|range| range.start().0 == 0)?;
        let file = range.device().dev.file()?;
        let found = fstat(file).ok()?;
        let is_regular = FileType::from_raw_mode(found.st_mode).is_file();
        let len = self.len.checked_bytes()?;
        (is_regular && u64::try_from(found.st_size) == Ok(len.0)).then_some(file)
    }

    /// Targets that take part in suspend and resume.
    pub fn lifecycles(&self) -> impl Iterator<Item = &dyn Lifecycle> {
        self.rows.iter().filter_map(|row| row.target.lifecycle())
    }

    /// Numbers of the devices, latest first, as the kernel lists dependencies.
    pub fn dependencies(&self) -> impl Iterator<Item = DeviceNumber> {
        self.devices.iter().rev().map(|device| device.number)
    }
}

#[cfg(test)]
mod tests;
