//! A state as a device: read out of the base image and the log, written to in memory. Nothing is copied before somebody
//! writes.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::os::unix::fs::FileExt;

use super::log::Log;
use super::plan::{Choice, Part, StateSpec, parts};
use crate::format::log_writes::EntryFlags;
use crate::io::{BlockDev, IoError, IoResult, Limits, Op, Request};
use crate::sync::{Arc, Mutex};
use crate::unit::{Bytes, SECTOR_SIZE, Sectors};

/// Bytes that are copied where a state is written to.
const BLOCK: u64 = 4096;

/// Base image and log, with an index: which entries changed a stretch of the device. Made once, for all states.
pub(super) struct History {
    pub log: Log,
    base: File,
    pub len: Sectors,
    /// By first sector: where the stretch ends, and the entries that changed it, oldest first.
    stretches: BTreeMap<u64, Stretch>,
}

#[derive(Clone)]
struct Stretch {
    end: u64,
    entries: Vec<usize>,
}

/// Where the data of a stretch is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    Base,
    Zeroes,
    /// At this byte of the log.
    Log(u64),
}

impl History {
    /// # Errors
    /// The entry that lies beyond the end of the base image.
    pub fn new(log: Log, base: File, len: Sectors) -> Result<History, String> {
        let mut stretches = BTreeMap::new();
        for (number, entry) in log.entries.iter().enumerate() {
            let (at, sectors) = log.range(entry);
            let end = at + sectors;
            if end.0 > len.0 {
                return Err(format!(
                    "entry {number} writes up to sector {end}, and the base image has {len}: is it of this log?"
                ));
            }
            if !sectors.is_zero() {
                note(&mut stretches, at.0, end.0, number);
            }
        }
        Ok(History {
            log,
            base,
            len,
            stretches,
        })
    }

    fn read(&self, source: Source, at: u64, bytes: &mut [u8]) -> IoResult {
        match source {
            Source::Zeroes => bytes.fill(0),
            Source::Base => self.base.read_exact_at(bytes, at * SECTOR_SIZE)?,
            Source::Log(from) => self.log.file.read_exact_at(bytes, from)?,
        }
        Ok(())
    }
}

/// Notes that the entry `number` changed `[at, end)`.
fn note(stretches: &mut BTreeMap<u64, Stretch>, at: u64, end: u64, number: usize) {
    split(stretches, at);
    split(stretches, end);
    let mut next = at;
    while next < end {
        let following = stretches.range(next..end).next().map(|(start, _)| *start);
        match following {
            Some(start) if start == next => {
                if let Some(stretch) = stretches.get_mut(&next) {
                    stretch.entries.push(number);
                    next = stretch.end;
                }
            }
            gap => {
                let gap_end = gap.unwrap_or(end);
                let stretch = Stretch {
                    end: gap_end,
                    entries: vec![number],
                };
                stretches.insert(next, stretch);
                next = gap_end;
            }
        }
    }
}

/// Makes a stretch that `at` lies in end there, and another begin.
fn split(stretches: &mut BTreeMap<u64, Stretch>, at: u64) {
    let before = stretches.range_mut(..at).next_back();
    if let Some((_, stretch)) = before.filter(|(_, stretch)| stretch.end > at) {
        let rest = stretch.clone();
        stretch.end = at;
        stretches.insert(at, rest);
    }
}

/// One state, as a device.
pub(super) struct CrashState {
    history: Arc<History>,
    spec: StateSpec,
    /// Of the entries from the epoch to the cut.
    parts: Vec<Part>,
    /// Sectors that are written as a whole.
    atomic: u64,
    /// Blocks that were written to; a leaf in the lock order.
    written: Mutex<HashMap<u64, Box<[u8]>>>,
}

impl CrashState {
    pub fn new(history: Arc<History>, spec: StateSpec, choice: Choice) -> CrashState {
        let parts = parts(&history.log.entries, spec, choice);
        CrashState {
            history,
            spec,
            parts,
            atomic: choice.atomic.0.max(1),
            written: Mutex::default(),
        }
    }

    /// Where the data at `at` is, and for how many sectors, `most` at most.
    fn source(&self, at: u64, most: u64) -> (Source, u64) {
        let stretches = &self.history.stretches;
        let before = stretches.range(..=at).next_back();
        let Some((_, stretch)) = before.filter(|(_, stretch)| stretch.end > at) else {
            let next = stretches
                .range(at..)
                .next()
                .map_or(u64::MAX, |(start, _)| *start);
            return (Source::Base, most.min(next - at));
        };
        let mut len = most.min(stretch.end - at);
        let happened = stretch
            .entries
            .partition_point(|&entry| entry < self.spec.cut);
        for &number in stretch.entries.iter().take(happened).rev() {
            let Some(entry) = self.history.log.entries.get(number) else {
                continue;
            };
            let part = number
                .checked_sub(self.spec.epoch)
                .map_or(Part::Whole, |index| {
                    self.parts.get(index).copied().unwrap_or(Part::Nothing)
                });
            let first = self.history.log.range(entry).0.0;
            if let Part::Torn(_) = part {
                len = len.min(self.atomic - at % self.atomic);
            }
            if part.has(at / self.atomic) {
                let source = match entry.header.flags.has(EntryFlags::DISCARD) {
                    true => Source::Zeroes,
                    false => Source::Log(entry.data_at.0 + (at - first) * SECTOR_SIZE),
                };
                return (source, len);
            }
        }
        (Source::Base, len)
    }

    /// Fills `bytes` from `at` as the power cut left it.
    fn read_left(&self, mut at: u64, mut bytes: &mut [u8]) -> IoResult {
        while !bytes.is_empty() {
            let (source, len) = self.source(at, bytes.len() as u64 / SECTOR_SIZE);
            let (now, later) = bytes.split_at_mut((len * SECTOR_SIZE) as usize);
            self.history.read(source, at, now)?;
            (at, bytes) = (at + len, later);
        }
        Ok(())
    }

    /// Fills `bytes` from `at` as it is now.
    fn read(&self, at: u64, bytes: &mut [u8]) -> IoResult {
        self.read_left(at, bytes)?;
        let written = self.written.lock();
        for_each_block(at, bytes.len() as u64, |block, inside, range| {
            if let Some(data) = written.get(&block)
                && let (Some(to), Some(from)) = (bytes.get_mut(range), data.get(inside))
            {
                to.copy_from_slice(from);
            }
            Ok(())
        })
    }

    fn write(&self, at: u64, bytes: &[u8]) -> IoResult {
        let whole = self.history.len.to_bytes().0;
        let mut written = self.written.lock();
        for_each_block(at, bytes.len() as u64, |block, inside, range| {
            let data = match written.entry(block) {
                std::collections::hash_map::Entry::Occupied(there) => there.into_mut(),
                std::collections::hash_map::Entry::Vacant(none) => {
                    let len = BLOCK.min(whole - block * BLOCK);
                    let mut data = vec![0; len as usize].into_boxed_slice();
                    if inside.len() < data.len() {
                        self.read_left(block * (BLOCK / SECTOR_SIZE), &mut data)?;
                    }
                    none.insert(data)
                }
            };
            if let (Some(to), Some(from)) = (data.get_mut(inside), bytes.get(range)) {
                to.copy_from_slice(from);
            }
            Ok(())
        })
    }
}

/// Hands each block of `len` bytes from the sector `at` on to `visit`: its number, what of it is meant, and which of the
/// bytes that is.
fn for_each_block(
    at: u64,
    len: u64,
    mut visit: impl FnMut(u64, std::ops::Range<usize>, std::ops::Range<usize>) -> IoResult,
) -> IoResult {
    let start = at * SECTOR_SIZE;
    let mut done = 0;
    while done < len {
        let place = start + done;
        let inside = place % BLOCK;
        let part = (BLOCK - inside).min(len - done);
        visit(
            place / BLOCK,
            inside as usize..(inside + part) as usize,
            done as usize..(done + part) as usize,
        )?;
        done += part;
    }
    Ok(())
}

impl BlockDev for CrashState {
    fn capacity(&self) -> Sectors {
        self.history.len
    }

    fn limits(&self) -> Limits {
        Limits {
            logical_block_size: self.history.log.superblock.sector_size,
            physical_block_size: self.history.log.superblock.sector_size,
            ..Limits::default()
        }
    }

    fn submit(&self, request: Request<'_>) -> IoResult {
        match request.at.checked_add(request.len) {
            Some(end) if end.0 <= self.history.len.0 => {}
            _ => return Err(IoError::IO),
        }
        let at = request.at.0;
        match request.op {
            Op::Read(mut buffer) => {
                if let Some(bytes) = buffer.as_contiguous() {
                    return self.read(at, bytes);
                }
                let mut bytes = vec![0; request.len.to_bytes().0 as usize];
                self.read(at, &mut bytes)?;
                let mut left = bytes.iter();
                let fill = |piece: &mut [u8]| {
                    piece
                        .iter_mut()
                        .zip(&mut left)
                        .for_each(|(to, from)| *to = *from)
                };
                buffer.for_each_piece(fill);
                Ok(())
            }
            Op::Write(buffer) => {
                if let Some(bytes) = buffer.as_contiguous() {
                    return self.write(at, bytes);
                }
                self.write(at, &buffer.into_pieces().concat())
            }
            Op::Flush => Ok(()),
            Op::Discard | Op::WriteZeroes { .. } => Err(IoError::UNSUPPORTED),
        }
    }
}

/// How long the base image is.
pub(super) fn base_len(base: &File) -> std::io::Result<Sectors> {
    super::log::length(base).map(Bytes::whole_sectors)
}
