//! A device under test, and what it must hold.
//!
//! The device is cut into zones, each used by one worker alone, so that what it must hold is known at every moment
//! though several work on it. Of a sector that nobody knows (never read, or written when the daemon died) the first
//! read tells what it must hold from then on.

use crate::dice::Dice;
use crate::stack::Stack;
use dmfs::target::Behaviour;
use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::Errno;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, RwLock};

const SECTOR: usize = 512;
/// Bytes of a zone.
const ZONE: u64 = 64 << 10;

/// A device under test.
pub struct Device {
    /// Name, which changes only while the table is held for writing.
    pub name: Mutex<String>,
    /// The stack, and the open file; `None` while nobody may use it.
    pub open: RwLock<Option<File>>,
    /// What it is made of.
    pub stack: Mutex<Stack>,
    stretches: RwLock<Vec<(u64, u64, Behaviour)>>,
    zones: RwLock<Vec<Mutex<Zone>>>,
    /// Odd while requests may fail; every change is seen.
    failing: AtomicU64,
}

struct Zone {
    bytes: Vec<u8>,
    known: Vec<bool>,
}

/// What a worker did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Did {
    /// Wrote so many bytes.
    Wrote(u64),
    /// Read and compared so many bytes.
    Verified(u64),
    /// Something else, or nothing as the device is gone.
    Other,
}

impl Device {
    /// A device of which nothing is known yet.
    pub fn new(name: String, stack: Stack) -> Device {
        let device = Device {
            name: Mutex::new(name),
            open: RwLock::new(None),
            stack: Mutex::new(stack.clone()),
            stretches: RwLock::default(),
            zones: RwLock::default(),
            failing: AtomicU64::new(0),
        };
        device.is_now(stack);
        device
    }

    /// Another table took the place of the old one: nothing is known any more. Nobody may be using it.
    pub fn is_now(&self, stack: Stack) {
        let len = stack.len() * SECTOR as u64;
        let zones = (0..len.div_ceil(ZONE)).map(|zone| {
            let bytes = ZONE.min(len - zone * ZONE) as usize;
            Mutex::new(Zone {
                bytes: vec![0; bytes],
                known: vec![false; bytes / SECTOR],
            })
        });
        *self.zones.write().unwrap() = zones.collect();
        *self.stretches.write().unwrap() = stack.stretches();
        *self.stack.lock().unwrap() = stack;
    }

    /// Requests may fail from now on, or no longer.
    pub fn may_fail(&self, may: bool) {
        let before = self.failing.fetch_add(1, Ordering::SeqCst);
        assert_eq!(before.is_multiple_of(2), may, "told twice");
    }

    /// One random operation in a zone of worker `worker` of `n_workers`. `deaths` counts how often the daemon was
    /// killed.
    ///
    /// # Errors
    /// What is wrong with the device, for people.
    pub fn work(
        &self,
        dice: &mut Dice,
        worker: u64,
        n_workers: u64,
        deaths: &AtomicU64,
    ) -> Result<Did, String> {
        let before = (
            self.failing.load(Ordering::SeqCst),
            deaths.load(Ordering::SeqCst),
        );
        let open = self.open.read().unwrap();
        let Some(file) = open.as_ref() else {
            return Ok(Did::Other);
        };
        let excused = || {
            let now = (
                self.failing.load(Ordering::SeqCst),
                deaths.load(Ordering::SeqCst),
            );
            now != before || before.0 % 2 == 1 || before.1 % 2 == 1
        };
        let zones = self.zones.read().unwrap();
        let own = (zones.len() as u64 + n_workers - 1 - worker) / n_workers;
        if own == 0 {
            return Ok(Did::Other);
        }
        let index = worker + n_workers * dice.below(own);
        let mut zone = zones[index as usize].lock().unwrap();
        let len = zone.bytes.len() as u64;
        let start = dice.below(len);
        let end = start + 1 + dice.below((len - start).min(40_000));
        let (start, end) = match dice.below(2) {
            0 => (start, end),
            _ => (start & !511, end.next_multiple_of(512).min(len)),
        };
        let place = Place {
            base: index * ZONE,
            range: start as usize..end as usize,
        };
        let bytes = end - start;
        let result = match dice.below(20) {
            0..9 => self
                .write(file, dice, &mut zone, &place, &excused)
                .map(|()| Did::Wrote(bytes)),
            9..17 => self
                .verify(file, &mut zone, &place, &excused)
                .map(|()| Did::Verified(bytes)),
            17 | 18 => match file.sync_data() {
                Err(error) if !excused() => Err(format!("fsync: {error}")),
                _ => Ok(Did::Other),
            },
            _ => self
                .zero(file, &mut zone, &place, &excused)
                .map(|()| Did::Other),
        };
        result.map_err(|error| format!("{}: {error}", self.name.lock().unwrap()))
    }

    /// What the bytes of `place` behave like: fails if any does, and which drop what is written.
    fn behaviour(&self, place: &Place) -> (bool, Vec<Range<usize>>) {
        let (start, end) = place.absolute();
        let stretches = self.stretches.read().unwrap();
        let touched = |&&(at, len, _): &&(u64, u64, Behaviour)| at < end && at + len > start;
        let fails = stretches
            .iter()
            .filter(touched)
            .any(|(_, _, behaves)| *behaves == Behaviour::Fails);
        let dropped = stretches
            .iter()
            .filter(|(_, _, behaves)| *behaves == Behaviour::DropsWrites)
            .filter(touched);
        let inside = |&(at, len, _): &(u64, u64, Behaviour)| {
            let from = at.max(start) - place.base;
            let to = (at + len).min(end) - place.base;
            from as usize..to as usize
        };
        (fails, dropped.map(inside).collect())
    }

    fn write(
        &self,
        file: &File,
        dice: &mut Dice,
        zone: &mut Zone,
        place: &Place,
        excused: &dyn Fn() -> bool,
    ) -> Result<(), String> {
        let data = dice.bytes(place.range.len());
        let result = file.write_all_at(&data, place.absolute().0);
        self.changed(zone, place, &data, result, excused)
            .map_err(|error| format!("write of {place}: {error}"))
    }

    fn zero(
        &self,
        file: &File,
        zone: &mut Zone,
        place: &Place,
        excused: &dyn Fn() -> bool,
    ) -> Result<(), String> {
        let (start, end) = place.absolute();
        let flags = FallocateFlags::ZERO_RANGE | FallocateFlags::KEEP_SIZE;
        let result = fallocate(file, flags, start, end - start).map_err(io::Error::from);
        let data = vec![0; place.range.len()];
        self.changed(zone, place, &data, result, excused)
            .map_err(|error| format!("zeroing of {place}: {error}"))
    }

    /// Notes that `data` was written, or not.
    fn changed(
        &self,
        zone: &mut Zone,
        place: &Place,
        data: &[u8],
        result: io::Result<()>,
        excused: &dyn Fn() -> bool,
    ) -> Result<(), String> {
        let (fails, dropped) = self.behaviour(place);
        match result {
            Ok(()) if fails => return Err("should have failed".to_owned()),
            Ok(()) => {
                zone.bytes[place.range.clone()].copy_from_slice(data);
                for range in dropped {
                    zone.bytes[range].fill(0);
                }
                // A sector that was written whole is known now.
                let whole = place.range.start.div_ceil(SECTOR)..place.range.end / SECTOR;
                if whole.start < whole.end {
                    zone.known[whole].fill(true);
                }
                return Ok(());
            }
            Err(error) if fails && is_io_error(&error) => {}
            Err(_) if excused() => {}
            Err(error) => return Err(error.to_string()),
        }
        zone.known[place.sectors()].fill(false);
        Ok(())
    }

    fn verify(
        &self,
        file: &File,
        zone: &mut Zone,
        place: &Place,
        excused: &dyn Fn() -> bool,
    ) -> Result<(), String> {
        // Whole sectors: what is not known yet becomes known.
        let sectors = place.sectors();
        let place = Place {
            base: place.base,
            range: sectors.start * SECTOR..sectors.end * SECTOR,
        };
        // Fit for O_DIRECT.
        let mut room = vec![0xee; place.range.len() + 4096];
        let skipped = room.as_ptr().align_offset(4096);
        let data = &mut room[skipped..skipped + place.range.len()];
        let (fails, dropped) = self.behaviour(&place);
        match file.read_exact_at(data, place.absolute().0) {
            Ok(()) if fails => return Err(format!("read of {place}: should have failed")),
            Ok(()) => {}
            Err(error) if fails && is_io_error(&error) => return Ok(()),
            Err(_) if excused() => return Ok(()),
            Err(error) => return Err(format!("read of {place}: {error}")),
        }
        for range in dropped {
            if data[range.start - place.range.start..range.end - place.range.start]
                .iter()
                .any(|&byte| byte != 0)
            {
                return Err(format!("read of {place}: not zero"));
            }
        }
        for (sector, found) in sectors.zip(data.chunks(SECTOR)) {
            let expected = &mut zone.bytes[sector * SECTOR..][..SECTOR];
            if !zone.known[sector] {
                expected.copy_from_slice(found);
                zone.known[sector] = true;
            } else if expected != found {
                let first = expected.iter().zip(found).position(|(a, b)| a != b);
                let first = first.unwrap_or(0);
                let end = (first + 16).min(SECTOR);
                return Err(format!(
                    "sector {}, from byte {first}: expected {:02x?}, found {:02x?}",
                    place.base / SECTOR as u64 + sector as u64,
                    &expected[first..end],
                    &found[first..end]
                ));
            }
        }
        Ok(())
    }

    /// Compares everything that is known with `file`, which is the device or lies on it. Nobody else may be using it.
    ///
    /// # Errors
    /// The first difference.
    pub fn verify_all(&self, file: &File) -> Result<u64, String> {
        let mut bytes = 0;
        for (index, zone) in self.zones.read().unwrap().iter().enumerate() {
            let mut zone = zone.lock().unwrap();
            // In pieces, so that a row that fails does not hide others.
            for start in (0..zone.bytes.len()).step_by(4096) {
                let place = Place {
                    base: index as u64 * ZONE,
                    range: start..(start + 4096).min(zone.bytes.len()),
                };
                bytes += place.range.len() as u64;
                self.verify(file, &mut zone, &place, &|| false)
                    .map_err(|error| format!("{}: {error}", self.name.lock().unwrap()))?;
            }
        }
        Ok(bytes)
    }
}

/// Bytes of a zone.
struct Place {
    base: u64,
    range: Range<usize>,
}

impl Place {
    /// Start and end on the device.
    fn absolute(&self) -> (u64, u64) {
        let at = |byte: usize| self.base + byte as u64;
        (at(self.range.start), at(self.range.end))
    }

    /// The zone's sectors that it touches.
    fn sectors(&self) -> Range<usize> {
        self.range.start / SECTOR..self.range.end.div_ceil(SECTOR)
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (start, end) = self.absolute();
        write!(f, "{} bytes at {start}", end - start)
    }
}

fn is_io_error(error: &io::Error) -> bool {
    Errno::from_io_error(error) == Some(Errno::IO)
}
