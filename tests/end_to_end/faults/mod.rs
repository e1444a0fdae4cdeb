//! What goes wrong around a mount: storage that fails, daemons that are stopped, killed or cut off, crowds.
//!
//! Each test has a watchdog, so that it fails where it would hang. Writers keep a [`Ledger`] of what fsync
//! acknowledged; whatever happens, that is there afterwards.

mod crowd;
mod daemon;
mod storage;

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// Bytes of a record.
const RECORD: u64 = 4096;

/// What one writer wrote to its slots of a device, and what of it was acknowledged.
struct Ledger {
    first: u64,
    /// For each slot the last number acknowledged and the last one tried.
    slots: Vec<(u64, u64)>,
    next: u64,
    /// Records acknowledged so far.
    acknowledged: u64,
}

impl Ledger {
    /// `slots` slots from slot `first` on.
    fn new(first: u64, slots: usize) -> Ledger {
        Ledger {
            first,
            slots: vec![(0, 0); slots],
            next: 1,
            acknowledged: 0,
        }
    }

    /// Writes the next record and has it acknowledged.
    fn write(&mut self, device: &File) -> io::Result<()> {
        let index = (self.next as usize * 7) % self.slots.len();
        let number = self.next;
        self.next += 1;
        self.slots[index].1 = number;
        let record = number.to_le_bytes().repeat(RECORD as usize / 8);
        device.write_all_at(&record, (self.first + index as u64) * RECORD)?;
        device.sync_data()?;
        self.slots[index].0 = number;
        self.acknowledged += 1;
        Ok(())
    }

    /// Forgets a slot that somebody else has written to.
    fn forget(&mut self, slot: u64) {
        self.slots[(slot - self.first) as usize].0 = 0;
    }

    /// Everything acknowledged is in `file`, or what was tried later, sector by sector.
    fn check(&self, file: &File) {
        self.check_those(file, |_| true);
    }

    /// As [`Ledger::check`], for slots alone of which something was acknowledged: others may lie where nothing can
    /// be read.
    fn check_acknowledged(&self, file: &File) {
        self.check_those(file, |acknowledged| acknowledged > 0);
    }

    fn check_those(&self, file: &File, counts: impl Fn(u64) -> bool) {
        for (index, &(acknowledged, tried)) in self.slots.iter().enumerate() {
            if !counts(acknowledged) {
                continue;
            }
            let mut record = [0; RECORD as usize];
            let slot = self.first + index as u64;
            file.read_exact_at(&mut record, slot * RECORD).unwrap();
            for sector in record.chunks(512) {
                let numbers: Vec<u64> = sector
                    .chunks(8)
                    .map(|word| u64::from_le_bytes(word.try_into().unwrap()))
                    .collect();
                let found = numbers[0];
                assert!(numbers.iter().all(|&number| number == found), "slot {slot}");
                assert!(
                    found == acknowledged || (found > acknowledged && found <= tried),
                    "slot {slot}: {acknowledged} was acknowledged, {tried} tried, {found} is there"
                );
            }
        }
    }
}
