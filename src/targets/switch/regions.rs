//! Which path each region has: a few bits of memory for each, read and written without a lock.

use crate::io::Errno;
use crate::sync::{AtomicU64, Ordering};

/// The longest table, bytes.
const MOST_BYTES: u64 = 256 << 20;
const SLOT_BITS: u64 = u64::BITS as u64;

/// A path for each region: its number modulo the number of paths, until another one is set.
pub(super) struct Regions {
    count: u64,
    n_paths: u64,
    /// log2 of the bits of an entry: 0 stands for the first path of the region, other numbers for a path plus 1.
    shift: u32,
    slots: Vec<AtomicU64>,
}

impl Regions {
    /// `count` regions over `n_paths` paths, of which there is at least one.
    ///
    /// # Errors
    /// ENOMEM where there is no memory, E2BIG where it would be too much.
    pub(super) fn new(count: u64, n_paths: u32) -> Result<Regions, Errno> {
        let bits = u64::from(u32::BITS - n_paths.leading_zeros()).next_power_of_two();
        let n_slots = count.div_ceil(SLOT_BITS / bits);
        if n_slots > MOST_BYTES / 8 {
            return Err(Errno::TOOBIG);
        }
        let mut slots = Vec::new();
        let n_slots = usize::try_from(n_slots).map_err(|_| Errno::TOOBIG)?;
        slots.try_reserve_exact(n_slots).map_err(|_| Errno::NOMEM)?;
        slots.extend((0..n_slots).map(|_| AtomicU64::new(0)));
        Ok(Regions {
            count,
            n_paths: u64::from(n_paths),
            shift: bits.trailing_zeros(),
            slots,
        })
    }

    /// How many regions there are.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// How many paths there are.
    pub(super) fn n_paths(&self) -> u64 {
        self.n_paths
    }

    /// Slot of `region`, the place of its entry there, and the bits that an entry has.
    #[inline]
    fn entry(&self, region: u64) -> (usize, u64, u64) {
        let per_slot = SLOT_BITS.trailing_zeros() - self.shift;
        let place = (region & ((1 << per_slot) - 1)) << self.shift;
        (
            (region >> per_slot) as usize,
            place,
            u64::MAX >> (SLOT_BITS - (1 << self.shift)),
        )
    }

    /// The path of `region`, less than the number of paths; the first one where there is no such region.
    #[inline]
    pub(super) fn path(&self, region: u64) -> usize {
        let (slot, place, mask) = self.entry(region);
        let slot = self.slots.get(slot);
        let entry = slot.map_or(1, |slot| (slot.load(Ordering::Relaxed) >> place) & mask);
        (match entry {
            0 => region % self.n_paths,
            set => set - 1,
        }) as usize
    }

    /// The regions whose path was set, and the path.
    pub(super) fn set_ones(&self) -> impl Iterator<Item = (u64, u64)> {
        let per_slot = SLOT_BITS >> self.shift;
        let slots = self.slots.iter().zip((0..).step_by(per_slot as usize));
        let used = slots.filter(|(slot, _)| slot.load(Ordering::Relaxed) != 0);
        used.flat_map(move |(slot, first)| {
            let entries = slot.load(Ordering::Relaxed);
            let (_, _, mask) = self.entry(0);
            let paths = (0..per_slot).map(move |at| (entries >> (at << self.shift)) & mask);
            let regions = (first..).zip(paths).filter(|(_, entry)| *entry != 0);
            regions.map(|(region, entry)| (region, entry - 1))
        })
    }

    /// Sets the path of `region`. Only one thread at a time does.
    pub(super) fn set(&self, region: u64, path: u64) {
        let (slot, place, mask) = self.entry(region);
        if let Some(slot) = self.slots.get(slot).filter(|_| path < self.n_paths) {
            let others = slot.load(Ordering::Relaxed) & !(mask << place);
            slot.store(others | (path + 1) << place, Ordering::Relaxed);
        }
    }
}
