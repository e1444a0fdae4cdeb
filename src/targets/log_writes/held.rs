//! What has completed but is not known to be durable: entries that are not in the log yet, in the order in which they
//! completed.

use std::collections::VecDeque;

use crate::format::log_writes::EntryHeader;
use crate::io::WriteBuf;

/// An entry with a copy of its data.
#[derive(Debug)]
pub(super) struct Held {
    pub header: EntryHeader,
    pub data: Vec<u8>,
}

impl Held {
    /// An entry with `data`, which is copied.
    pub fn new(header: EntryHeader, data: Option<WriteBuf<'_>>) -> Held {
        let mut copy = Vec::new();
        if let Some(data) = data {
            copy.reserve_exact(data.len().0 as usize);
            data.for_each_piece(|piece| copy.extend_from_slice(piece));
        }
        Held { header, data: copy }
    }

    /// What it takes, with what keeps it.
    fn bytes(&self) -> usize {
        self.data.len().saturating_add(size_of::<Held>())
    }

    fn overlaps(&self, other: &EntryHeader) -> bool {
        let end = |header: &EntryHeader| header.sector.saturating_add(header.n_sectors);
        self.header.sector < end(other) && other.sector < end(&self.header)
    }
}

/// Entries that are held back, numbered as they came.
#[derive(Debug, Default)]
pub(super) struct HeldList {
    entries: VecDeque<Held>,
    /// Number of the first one.
    first: u64,
    bytes: usize,
    /// Flushes on their way.
    flushes: usize,
}

/// The number after the last entry that a flush covers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Covered(u64);

impl HeldList {
    pub fn push(&mut self, entry: Held) {
        self.bytes = self.bytes.saturating_add(entry.bytes());
        self.entries.push_back(entry);
    }

    /// Memory that it takes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// A flush is about to begin: it covers what is here.
    pub fn begin_flush(&mut self) -> Covered {
        self.flushes = self.flushes.saturating_add(1);
        Covered(self.first.saturating_add(self.entries.len() as u64))
    }

    /// A flush is over; gives what it covers and no other flush gave.
    pub fn end_flush(&mut self, covered: Covered) -> Vec<Held> {
        self.give_up_flush();
        self.take(covered.0.saturating_sub(self.first))
    }

    /// A flush covers nothing, because it was put off.
    pub fn give_up_flush(&mut self) {
        self.flushes = self.flushes.saturating_sub(1);
    }

    /// Everything up to the last entry that lies on `header`.
    pub fn take_up_to_overlap(&mut self, header: &EntryHeader) -> Vec<Held> {
        let last = self.entries.iter().rposition(|held| held.overlaps(header));
        self.take(last.map_or(0, |last| last as u64 + 1))
    }

    /// Everything, unless a flush is under way: the log would say that it covered what came after it.
    pub fn take_all_unless_flushing(&mut self) -> Vec<Held> {
        match self.flushes {
            0 => self.take_all(),
            _ => Vec::new(),
        }
    }

    /// Everything.
    pub fn take_all(&mut self) -> Vec<Held> {
        self.take(u64::MAX)
    }

    fn take(&mut self, count: u64) -> Vec<Held> {
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        let taken: Vec<Held> = self
            .entries
            .drain(..count.min(self.entries.len()))
            .collect();
        self.first = self.first.saturating_add(taken.len() as u64);
        let bytes = taken.iter().map(Held::bytes).sum();
        self.bytes = self.bytes.saturating_sub(bytes);
        taken
    }
}
