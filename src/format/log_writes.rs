//! The log of the log-writes target: a superblock, then entries one after the other, all little-endian (dm-log-writes.c).
//!
//! One sector of the log is a logical block of the logged device. The superblock is the first; each entry is a sector
//! with its header, followed by the data that was written. A mark has its text in the header's sector. What was
//! discarded has no data.

use std::fmt;

use crate::unit::Bytes;

/// What a log begins with.
pub const MAGIC: u64 = 0x006a_7366_7773_6872;
/// The only version there is.
pub const VERSION: u64 = 1;
/// Sector sizes that a log can have, powers of two.
pub const SECTOR_SIZES: std::ops::RangeInclusive<u32> = 512..=65536;
/// The text of the mark with which a target ends its log.
pub const END_MARK: &str = "dm-log-writes-end";

/// The first sector of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Superblock {
    /// Entries that are counted; a log that is being written may have more.
    pub n_entries: u64,
    /// Bytes in a sector of the log, the unit of all places and lengths in it.
    pub sector_size: u32,
}

/// What an entry is, as bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EntryFlags(u64);

/// The header of an entry. Places and lengths are in sectors of the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EntryHeader {
    /// Where on the logged device.
    pub sector: u64,
    /// How much was written or discarded; 0 for a mark and an empty flush.
    pub n_sectors: u64,
    /// What it is.
    pub flags: EntryFlags,
    /// Bytes of private data: a mark's text, which follows the header in its sector.
    pub data_len: u64,
}

/// An entry, and where it lies in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Entries before it.
    pub number: u64,
    /// The byte of the log at which its header begins.
    pub at: Bytes,
    /// The byte of the log at which its data begins.
    pub data_at: Bytes,
    /// Bytes of its data.
    pub data_len: Bytes,
    /// Its header.
    pub header: EntryHeader,
    /// A mark's text.
    pub mark: Option<String>,
}

/// What is wrong with a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogError(String);

impl fmt::Display for LogError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for LogError {}

fn le64(bytes: &[u8], at: usize) -> Option<u64> {
    let field = bytes.get(at..at.checked_add(8)?)?;
    Some(u64::from_le_bytes(field.try_into().ok()?))
}

fn le32(bytes: &[u8], at: usize) -> Option<u32> {
    let field = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_le_bytes(field.try_into().ok()?))
}

impl Superblock {
    /// Bytes of it that mean something.
    pub const LEN: usize = 28;

    /// Reads it from the start of a log.
    ///
    /// # Errors
    /// The field that is wrong, what was expected there and what was found.
    pub fn parse(bytes: &[u8]) -> Result<Superblock, LogError> {
        let fields = || {
            Some((
                le64(bytes, 0)?,
                le64(bytes, 8)?,
                le64(bytes, 16)?,
                le32(bytes, 24)?,
            ))
        };
        let (magic, version, n_entries, sector_size) = fields().ok_or_else(|| {
            LogError(format!(
                "superblock: expected at least {} bytes, found {}",
                Superblock::LEN,
                bytes.len()
            ))
        })?;
        let wrong = |field: &str, expected: String, found: String| {
            Err(LogError(format!(
                "superblock: {field}: expected {expected}, found {found}"
            )))
        };
        if magic != MAGIC {
            return wrong("magic", format!("{MAGIC:#x}"), format!("{magic:#x}"));
        }
        if version != VERSION {
            return wrong("version", VERSION.to_string(), version.to_string());
        }
        if !sector_size.is_power_of_two() || !SECTOR_SIZES.contains(&sector_size) {
            let expected = format!(
                "a power of two from {} to {}",
                SECTOR_SIZES.start(),
                SECTOR_SIZES.end()
            );
            return wrong("sector size", expected, sector_size.to_string());
        }
        Ok(Superblock {
            n_entries,
            sector_size,
        })
    }

    /// Its sector, without the zeroes that follow.
    pub fn encode(&self) -> [u8; Superblock::LEN] {
        let mut bytes = [0; Superblock::LEN];
        bytes[..8].copy_from_slice(&MAGIC.to_le_bytes());
        bytes[8..16].copy_from_slice(&VERSION.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.n_entries.to_le_bytes());
        bytes[24..].copy_from_slice(&self.sector_size.to_le_bytes());
        bytes
    }
}

impl EntryFlags {
    /// A write or nothing.
    pub const NONE: EntryFlags = EntryFlags(0);
    /// The device was flushed: all entries before this one were durable.
    pub const FLUSH: EntryFlags = EntryFlags(1);
    /// A write that was durable when it was logged.
    pub const FUA: EntryFlags = EntryFlags(2);
    /// A discard.
    pub const DISCARD: EntryFlags = EntryFlags(4);
    /// A text that somebody put here.
    pub const MARK: EntryFlags = EntryFlags(8);
    /// What was written is a file system's metadata.
    pub const METADATA: EntryFlags = EntryFlags(16);

    const NAMES: [(EntryFlags, &'static str); 5] = [
        (EntryFlags::FLUSH, "flush"),
        (EntryFlags::FUA, "fua"),
        (EntryFlags::DISCARD, "discard"),
        (EntryFlags::MARK, "mark"),
        (EntryFlags::METADATA, "metadata"),
    ];

    /// True where all bits of `other` are set.
    pub const fn has(self, other: EntryFlags) -> bool {
        self.0 & other.0 == other.0
    }

    /// These bits and those of `other`.
    #[must_use]
    pub const fn with(self, other: EntryFlags) -> EntryFlags {
        EntryFlags(self.0 | other.0)
    }

    /// The names of the bits that are set.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        let set = move |(flag, name)| self.has(flag).then_some(name);
        EntryFlags::NAMES.into_iter().filter_map(set)
    }
}

impl EntryHeader {
    /// Bytes of it.
    pub const LEN: usize = 32;

    /// The header of a mark with `text`, which is cut to what fits into a sector of `sector_size` bytes, and its bytes.
    pub fn mark(text: &str, sector_size: u32) -> (EntryHeader, &[u8]) {
        let most = (sector_size as usize).saturating_sub(EntryHeader::LEN + 1);
        let bytes = text.as_bytes().get(..most).unwrap_or(text.as_bytes());
        let header = EntryHeader {
            flags: EntryFlags::MARK,
            data_len: bytes.len() as u64,
            ..EntryHeader::default()
        };
        (header, bytes)
    }

    /// Reads it from the start of its sector.
    ///
    /// # Errors
    /// The field that is wrong, what was expected there and what was found.
    pub fn parse(bytes: &[u8]) -> Result<EntryHeader, LogError> {
        let fields = || {
            Some((
                le64(bytes, 0)?,
                le64(bytes, 8)?,
                le64(bytes, 16)?,
                le64(bytes, 24)?,
            ))
        };
        let (sector, n_sectors, flags, data_len) = fields()
            .ok_or_else(|| LogError(format!("header: expected 32 bytes, found {}", bytes.len())))?;
        let known = EntryFlags::NAMES
            .iter()
            .fold(EntryFlags::NONE, |all, (flag, _)| all.with(*flag));
        if flags & !known.0 != 0 {
            return Err(LogError(format!(
                "flags: expected bits of {:#x}, found {flags:#x}",
                known.0
            )));
        }
        Ok(EntryHeader {
            sector,
            n_sectors,
            flags: EntryFlags(flags),
            data_len,
        })
    }

    /// Its bytes.
    pub fn encode(&self) -> [u8; EntryHeader::LEN] {
        let mut bytes = [0; EntryHeader::LEN];
        let fields = [self.sector, self.n_sectors, self.flags.0, self.data_len];
        for (to, field) in bytes.chunks_exact_mut(8).zip(fields) {
            to.copy_from_slice(&field.to_le_bytes());
        }
        bytes
    }

    /// Sectors of data that follow it in the log.
    pub fn payload(&self) -> u64 {
        match self.flags.has(EntryFlags::DISCARD) {
            true => 0,
            false => self.n_sectors,
        }
    }
}

/// Goes through the entries of a log, one header after the other. Whoever does it reads the log.
#[derive(Clone, Debug)]
pub struct Walk {
    superblock: Superblock,
    log_len: Bytes,
    number: u64,
    at: u64,
}

impl Walk {
    /// A walk from the first entry of a log of `log_len`.
    ///
    /// # Errors
    /// Where so many entries do not fit into the log.
    pub fn new(superblock: Superblock, log_len: Bytes) -> Result<Walk, LogError> {
        let sector = u64::from(superblock.sector_size);
        let most = (log_len.0 / sector).saturating_sub(1);
        if superblock.n_entries > most {
            return Err(LogError(format!(
                "superblock: number of entries: expected at most {most} in a log of {log_len} bytes, found {}",
                superblock.n_entries
            )));
        }
        Ok(Walk {
            superblock,
            log_len,
            number: 0,
            at: sector,
        })
    }

    /// The byte of the log at which the next entry's sector begins: one sector is to be read there and handed to
    /// [`Walk::take`]. `None` after the last entry.
    pub fn next_at(&self) -> Option<Bytes> {
        (self.number < self.superblock.n_entries).then_some(Bytes(self.at))
    }

    /// The byte of the log behind the entries that were taken.
    pub fn end(&self) -> Bytes {
        Bytes(self.at)
    }

    /// The next entry, out of its sector.
    ///
    /// # Errors
    /// The entry, its field that is wrong, what was expected there and what was found.
    pub fn take(&mut self, sector: &[u8]) -> Result<Entry, LogError> {
        let (number, at) = (self.number, self.at);
        let refuse =
            |text: String| LogError(format!("entry {number} (byte {at} of the log): {text}"));
        let header = EntryHeader::parse(sector).map_err(|LogError(text)| refuse(text))?;
        let sector_size = u64::from(self.superblock.sector_size);
        let data_at = at
            .checked_add(sector_size)
            .filter(|&end| end <= self.log_len.0);
        let data_at = data_at.ok_or_else(|| {
            refuse(format!(
                "its header reaches beyond the log, which has {} bytes",
                self.log_len
            ))
        })?;
        let end = header
            .payload()
            .checked_mul(sector_size)
            .and_then(|len| data_at.checked_add(len))
            .filter(|&end| end <= self.log_len.0);
        let end = end.ok_or_else(|| {
            refuse(format!(
                "sectors: {} of {sector_size} bytes reach beyond the log, which has {} bytes",
                header.n_sectors, self.log_len
            ))
        })?;
        header
            .sector
            .checked_add(header.n_sectors)
            .and_then(|end| end.checked_mul(sector_size))
            .filter(|&end| i64::try_from(end).is_ok())
            .ok_or_else(|| {
                refuse(format!(
                    "sector: {} sectors from {} on end beyond any device",
                    header.n_sectors, header.sector
                ))
            })?;
        let mark = match header.flags.has(EntryFlags::MARK) {
            true => Some(mark_text(&header, sector, sector_size).map_err(refuse)?),
            false => None,
        };
        self.number = number.saturating_add(1);
        self.at = end;
        Ok(Entry {
            number,
            at: Bytes(at),
            data_at: Bytes(data_at),
            data_len: Bytes(end.saturating_sub(data_at)),
            header,
            mark,
        })
    }
}

fn mark_text(header: &EntryHeader, sector: &[u8], sector_size: u64) -> Result<String, String> {
    let most = sector_size.saturating_sub(EntryHeader::LEN as u64);
    let text = usize::try_from(header.data_len)
        .ok()
        .filter(|_| header.data_len <= most)
        .and_then(|len| sector.get(EntryHeader::LEN..EntryHeader::LEN.checked_add(len)?));
    match text {
        Some(text) => Ok(String::from_utf8_lossy(text).into_owned()),
        None => Err(format!(
            "data length: expected at most {most} bytes of a mark, found {}",
            header.data_len
        )),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::{Entry, EntryFlags, EntryHeader, LogError, Superblock, Walk};
    use crate::unit::Bytes;

    const S: usize = 512;

    fn header(sector: u64, n_sectors: u64, flags: EntryFlags) -> EntryHeader {
        EntryHeader {
            sector,
            n_sectors,
            flags,
            data_len: 0,
        }
    }

    /// A log of one write of two sectors, a mark, a discard and a flush.
    fn log() -> Vec<u8> {
        let superblock = Superblock {
            n_entries: 4,
            sector_size: 512,
        };
        let mut log = superblock.encode().to_vec();
        log.resize(S, 0);
        let mut add = |header: EntryHeader, text: &[u8], data: usize| {
            let start = log.len();
            log.extend(header.encode());
            log.extend(text);
            log.resize(start + S + data * S, 7);
        };
        add(header(8, 2, EntryFlags::NONE), b"", 2);
        let (mark, text) = EntryHeader::mark("first", 512);
        add(mark, text, 0);
        add(header(100, 50, EntryFlags::DISCARD), b"", 0);
        add(header(0, 0, EntryFlags::FLUSH), b"", 0);
        log
    }

    fn entries(log: &[u8]) -> Result<Vec<Entry>, LogError> {
        let superblock = Superblock::parse(log)?;
        let mut walk = Walk::new(superblock, Bytes(log.len() as u64))?;
        let mut entries = Vec::new();
        while let Some(at) = walk.next_at() {
            let rest = log.get(at.0 as usize..).unwrap_or_default();
            entries.push(walk.take(&rest[..rest.len().min(S)])?);
        }
        Ok(entries)
    }

    fn with(at: usize, bytes: &[u8]) -> Vec<u8> {
        let mut log = log();
        log[at..at + bytes.len()].copy_from_slice(bytes);
        log
    }

    #[test]
    fn entries_follow_one_another() {
        let entries = entries(&log()).unwrap();
        let at: Vec<_> = entries.iter().map(|entry| entry.at.0 / 512).collect();
        assert_eq!(at, [1, 4, 5, 6]);
        assert_eq!(entries[0].data_len, Bytes(1024));
        assert_eq!(entries[1].mark.as_deref(), Some("first"));
        assert_eq!(
            (entries[2].header.n_sectors, entries[2].data_len),
            (50, Bytes(0))
        );
        assert!(entries[3].header.flags.has(EntryFlags::FLUSH));
        let both = EntryFlags::FLUSH.with(EntryFlags::METADATA);
        assert_eq!(both.names().collect::<Vec<_>>(), ["flush", "metadata"]);
    }

    #[test]
    fn a_mark_is_cut_to_its_sector() {
        let long = "x".repeat(600);
        let (header, text) = EntryHeader::mark(&long, 512);
        assert_eq!((header.data_len, text.len()), (479, 479));
        assert_eq!(EntryHeader::parse(&header.encode()).unwrap(), header);
    }

    #[test]
    fn a_log_that_is_cut_is_refused_wherever_it_is_cut() {
        let log = log();
        for len in 0..log.len() {
            assert!(entries(&log[..len]).is_err(), "cut at {len}");
        }
    }

    #[test]
    fn every_wrong_field_is_named() {
        let huge = u64::MAX.to_le_bytes();
        let first = S;
        let mark = 4 * S;
        for (log, text) in [
            (
                with(0, b"ext4"),
                "superblock: magic: expected 0x6a736677736872, found",
            ),
            (with(8, &[2]), "superblock: version: expected 1, found 2"),
            (
                with(24, &[0, 3]),
                "superblock: sector size: expected a power of two",
            ),
            (with(24, &[0, 0, 0, 128]), "superblock: sector size"),
            (with(24, &[0, 1]), "superblock: sector size"),
            (
                with(16, &huge),
                "superblock: number of entries: expected at most 6 in a log of 3584 bytes, found 1844",
            ),
            (with(16, &[6]), "entry 4 (byte 3584 of the log): header"),
            (
                with(first + 8, &huge),
                "entry 0 (byte 512 of the log): sectors: 18446744073709551615",
            ),
            (
                with(first + 8, &[6]),
                "entry 0 (byte 512 of the log): sectors: 6",
            ),
            (
                with(first, &huge),
                "entry 0 (byte 512 of the log): sector: 2 sectors from 1844",
            ),
            (
                with(first + 16, &[32]),
                "flags: expected bits of 0x1f, found 0x20",
            ),
            (
                with(mark + 24, &huge),
                "entry 1 (byte 2048 of the log): data length: expected at most 480",
            ),
            (with(mark + 24, &481_u64.to_le_bytes()), "data length"),
        ] {
            let LogError(found) = entries(&log).unwrap_err();
            assert!(found.contains(text), "{found:?} does not say {text:?}");
        }
    }
}
