//! A log as a file or device, with all of its entries at hand.

use std::fs::File;
use std::io::{self, Seek, SeekFrom};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::control::protocol::crash::Span;
use crate::format::log_writes::{Entry, EntryFlags, Superblock, Walk};
use crate::unit::{Bytes, SECTOR_SIZE, Sector, Sectors};

/// A log that was read to its end.
pub(super) struct Log {
    pub file: File,
    pub superblock: Superblock,
    pub entries: Vec<Entry>,
}

/// How long a file or a block device is.
pub(super) fn length(file: &File) -> io::Result<Bytes> {
    let mut file = file;
    file.seek(SeekFrom::End(0)).map(Bytes)
}

impl Log {
    /// Opens the log at `path` and reads the header of each entry.
    ///
    /// # Errors
    /// What is wrong with it, with its path.
    pub fn open(path: &Path) -> Result<Log, String> {
        let told = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
        let file = File::open(path).map_err(|error| told(&error))?;
        let len = length(&file).map_err(|error| told(&error))?;
        let read = |at: Bytes, most: u32| {
            let mut sector = vec![0; len.0.saturating_sub(at.0).min(most.into()) as usize];
            let done = file.read_exact_at(&mut sector, at.0);
            done.map(|()| sector).map_err(|error| told(&error))
        };
        let first = read(Bytes(0), Superblock::LEN as u32)?;
        let superblock = Superblock::parse(&first).map_err(|error| told(&error))?;
        let mut walk = Walk::new(superblock, len).map_err(|error| told(&error))?;
        let mut entries = Vec::new();
        while let Some(at) = walk.next_at() {
            let sector = read(at, superblock.sector_size)?;
            entries.push(walk.take(&sector).map_err(|error| told(&error))?);
        }
        Ok(Log {
            file,
            superblock,
            entries,
        })
    }

    /// The stretch of the device that an entry changed.
    pub fn range(&self, entry: &Entry) -> (Sector, Sectors) {
        // The walk has seen to it that this fits.
        let factor = u64::from(self.superblock.sector_size) / SECTOR_SIZE;
        (
            Sector(entry.header.sector.saturating_mul(factor)),
            Sectors(entry.header.n_sectors.saturating_mul(factor)),
        )
    }

    /// The entries that `span` means.
    ///
    /// # Errors
    /// A mark, a flush or an entry that is not there.
    pub fn select(&self, span: &Span) -> Result<Range<usize>, String> {
        let all = self.entries.len();
        let start = match (&span.start_mark, span.start_entry) {
            (Some(_), Some(_)) => {
                return Err("--start-mark and --start-entry: only one of them".to_owned());
            }
            (Some(mark), None) => self.find_mark(mark, 0, "--start-mark")? + 1,
            (None, entry) => {
                let entry = entry.unwrap_or(0);
                let start = usize::try_from(entry).ok().filter(|&start| start <= all);
                start.ok_or_else(|| {
                    format!("--start-entry: expected at most {all}, the number of entries, found {entry}")
                })?
            }
        };
        let rest = self.entries.get(start..).unwrap_or_default();
        let mut end = all;
        let mut stop_behind = |found: Option<usize>| {
            found.map(|at| end = end.min(start.saturating_add(at).saturating_add(1)))
        };
        if let Some(limit) = span.limit {
            let limit = usize::try_from(limit).unwrap_or(usize::MAX);
            stop_behind(limit.checked_sub(1)).ok_or("--limit: expected at least 1, found 0")?;
        }
        if let Some(mark) = &span.end_mark {
            let found = self.find_mark(mark, start, "--end-mark")?;
            stop_behind(Some(found - start));
        }
        for (wanted, flag, option) in [
            (span.next_flush, EntryFlags::FLUSH, "--next-flush"),
            (span.next_fua, EntryFlags::FUA, "--next-fua"),
        ] {
            let mut flags = rest.iter().map(|entry| entry.header.flags);
            if wanted {
                stop_behind(flags.position(|flags| flags.has(flag)))
                    .ok_or_else(|| format!("{option}: there is none from entry {start} on"))?;
            }
        }
        Ok(start..end)
    }

    /// The number of the first entry from `from` on that is the mark `text`.
    fn find_mark(&self, text: &str, from: usize, option: &str) -> Result<usize, String> {
        let mut rest = self.entries.iter().enumerate().skip(from);
        rest.find(|(_, entry)| entry.mark.as_deref() == Some(text))
            .map(|(number, _)| number)
            .ok_or_else(|| {
                let marks = self.entries.iter().skip(from);
                let marks: Vec<&str> = marks.filter_map(|entry| entry.mark.as_deref()).collect();
                let known = match (marks.len(), marks.get(..8)) {
                    (0, _) => "there are no marks".to_owned(),
                    (count, Some(some)) if count > 8 => {
                        format!("there are {}, and {} more", some.join(", "), count - 8)
                    }
                    _ => format!("there are {}", marks.join(", ")),
                };
                format!("{option}: no mark '{text}' from entry {from} on: {known}")
            })
    }

    /// The last mark before the entry `number`.
    pub fn mark_before(&self, number: usize) -> Option<&str> {
        let before = self.entries.get(..number).unwrap_or_default();
        before.iter().rev().find_map(|entry| entry.mark.as_deref())
    }
}

/// An entry in words: `write`, `flush`, `mark first`, `write fua`.
pub(super) fn describe(entry: &Entry) -> String {
    let flags = entry.header.flags;
    if let Some(mark) = &entry.mark {
        return format!("mark {mark}");
    }
    let mut words: Vec<&str> = flags.names().collect();
    let is_write = entry.header.payload() > 0;
    if is_write || words.is_empty() {
        words.insert(0, "write");
    }
    words.join(" ")
}
