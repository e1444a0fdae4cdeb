//! Zone after zone, and what a power cut left of one.

use super::segments::Zone;
use super::{Keys, Reencryption, Resilience, hash_of};
use crate::crypto::{Hash, SectorCipher};
use crate::encrypted::luks::store::save;
use crate::encrypted::{Kind, Refused, Secret, flush, read_bytes, write_bytes};
use crate::format::luks2::Luks2;
use crate::io::BlockDev;

/// Longest zone where nothing shorter is asked for, bytes: it lies in memory.
const MOST_AT_ONCE: u64 = 32 << 20;
/// Recovery of a longer one goes piece by piece.
const PIECE: u64 = 1 << 20;

/// Where a reencryption works.
#[derive(Clone, Copy)]
pub struct Devices<'d> {
    /// Holds the header.
    pub header: &'d dyn BlockDev,
    /// Holds the data; may be the same.
    pub data: &'d dyn BlockDev,
}

/// Both ciphers and where the data begins.
struct Work<'w> {
    reencryption: &'w Reencryption,
    devices: Devices<'w>,
    old: Option<SectorCipher>,
    new: Option<SectorCipher>,
}

impl Reencryption {
    /// Does all that is left, and takes the traces of the reencryption away; tells `progress` how many bytes of how many
    /// are done, and stops between two zones where it answers false. `zone` is the longest zone, bytes.
    ///
    /// Answers whether everything is done.
    ///
    /// # Errors
    /// What there is not; what the devices answer. Whatever happens, it can be taken up again.
    pub fn run(
        &self,
        devices: Devices<'_>,
        luks: &mut Luks2,
        keys: &Keys,
        zone: Option<u64>,
        progress: &mut dyn FnMut(u64, u64) -> bool,
    ) -> Result<bool, Refused> {
        let size = self.size(devices.data)?;
        let most = self.zone_bytes(devices.data, zone)?;
        if self.needs_recovery(luks) {
            self.recover(devices, luks, keys)?;
        }
        let work = Work::new(self, devices, keys)?;
        // Recovery of the last zone ends it all.
        while Reencryption::of(luks)?.is_some() {
            let at = self.done(luks, size);
            if at >= size {
                self.finish(devices.header, luks)?;
                break;
            }
            if !progress(at, size) {
                return Ok(false);
            }
            let zone = Zone {
                at,
                len: most.min(size - at),
            };
            work.carry(luks, zone, size)?;
            match zone.end() < size {
                true => self.commit(devices.header, luks, zone.end())?,
                false => self.finish(devices.header, luks)?,
            }
        }
        progress(size, size);
        Ok(true)
    }

    /// Ends the zone that was hot when the power failed.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub fn recover(
        &self,
        devices: Devices<'_>,
        luks: &mut Luks2,
        keys: &Keys,
    ) -> Result<(), Refused> {
        let size = self.size(devices.data)?;
        let Some(zone) = self.hot(luks, size) else {
            return match self.needs_recovery(luks) {
                true => Err(super::invalid(
                    "the zone in reencryption lies outside the data",
                )),
                false => Ok(()),
            };
        };
        let work = Work::new(self, devices, keys)?;
        match &self.resilience {
            Resilience::Checksum { hash, block } => {
                work.recover_by_hash(zone, hash_of(hash)?, u64::from(*block))?
            }
            Resilience::Journal => work.recover_by_journal(zone)?,
            Resilience::None => {
                return Err(Refused::invalid(
                    "A zone without resilience cannot be recovered.",
                ));
            }
        }
        flush(devices.data)?;
        if zone.end() >= size {
            return self.finish(devices.header, luks);
        }
        self.commit(devices.header, luks, zone.end())
    }

    fn commit(&self, header: &dyn BlockDev, luks: &mut Luks2, done: u64) -> Result<(), Refused> {
        self.set_done(luks, done);
        save(header, luks)
    }

    /// Bytes of the data.
    pub(super) fn size(&self, data: &dyn BlockDev) -> Result<u64, Refused> {
        let wrong = |why: String| Refused::new(Kind::Device, why);
        let size = data
            .capacity()
            .to_bytes()
            .0
            .checked_sub(self.old.segment.offset.0);
        let size = size.filter(|size| *size > 0);
        let size = size.ok_or_else(|| wrong("The device is too small for its data.".into()))?;
        let unit = u64::from(self.old.unit().max(self.new.unit()));
        if !size.is_multiple_of(unit) {
            return Err(wrong(format!(
                "Data device is not aligned to encryption sector size ({unit} bytes)."
            )));
        }
        Ok(size)
    }

    /// Bytes of a zone.
    fn zone_bytes(&self, data: &dyn BlockDev, wanted: Option<u64>) -> Result<u64, Refused> {
        let unit = match &self.resilience {
            Resilience::Checksum { block, .. } => *block,
            _ => self
                .old
                .unit()
                .max(self.new.unit())
                .max(data.logical_block_size()),
        };
        let unit = u64::from(unit);
        if let Some(wanted) = wanted.filter(|wanted| !wanted.is_multiple_of(unit)) {
            return Err(Refused::invalid(format!(
                "Hotzone size must be multiple of calculated zone alignment ({unit} bytes), not {wanted}."
            )));
        }
        let room = match &self.resilience {
            Resilience::None => u64::MAX,
            Resilience::Journal => self.area.1,
            Resilience::Checksum { hash, .. } => {
                let hash = hash_of(hash)?.digest_len() as u64;
                (self.area.1 / hash).saturating_mul(unit)
            }
        };
        let most = wanted
            .filter(|wanted| *wanted > 0)
            .unwrap_or(MOST_AT_ONCE)
            .min(room);
        match most - most % unit {
            0 => Err(Refused::invalid(
                "The room for key slots is too small for this reencryption.",
            )),
            bytes => Ok(bytes),
        }
    }
}

impl<'w> Work<'w> {
    fn new(
        reencryption: &'w Reencryption,
        devices: Devices<'w>,
        keys: &Keys,
    ) -> Result<Work<'w>, Refused> {
        Ok(Work {
            reencryption,
            devices,
            old: reencryption.old.cipher(keys.old.as_ref())?,
            new: reencryption.new.cipher(keys.new.as_ref())?,
        })
    }

    /// Byte of the data device where byte `at` of the data lies.
    fn place(&self, at: u64) -> u64 {
        self.reencryption.old.segment.offset.0 + at
    }

    fn read(&self, device: &dyn BlockDev, at: u64, len: u64) -> Result<Secret, Refused> {
        let bytes = read_bytes(device, at, len)?;
        match bytes.len() as u64 == len {
            true => Ok(Secret::from(bytes)),
            false => Err(Refused::new(Kind::Device, "The device ends early.")),
        }
    }

    /// Old ciphertext of byte `at` of the data becomes new.
    fn convert(&self, at: u64, data: &mut [u8]) {
        if let Some(old) = &self.old {
            old.decrypt(self.reencryption.old.vector(at), data);
        }
        if let Some(new) = &self.new {
            new.encrypt(self.reencryption.new.vector(at), data);
        }
    }

    fn carry(&self, luks: &mut Luks2, zone: Zone, size: u64) -> Result<(), Refused> {
        let Devices { header, data } = self.devices;
        let place = self.place(zone.at);
        let mut bytes = self.read(data, place, zone.len)?;
        let area = self.reencryption.area.0;
        match &self.reencryption.resilience {
            Resilience::None => {}
            Resilience::Journal => write_bytes(header, area, &bytes)?,
            Resilience::Checksum { hash, block } => {
                let sums = sums(&bytes, hash_of(hash)?, *block as usize);
                write_bytes(header, area, &sums)?;
            }
        }
        if self.reencryption.resilience != Resilience::None {
            flush(header)?;
            self.reencryption.set_hot(luks, zone, size);
            save(header, luks)?;
        }
        self.convert(zone.at, &mut bytes);
        write_bytes(data, place, &bytes)?;
        flush(data)
    }

    fn recover_by_journal(&self, zone: Zone) -> Result<(), Refused> {
        let (area, room) = self.reencryption.area;
        if zone.len > room {
            return Err(super::invalid(
                "the zone in reencryption is longer than its journal",
            ));
        }
        for (at, len) in pieces(zone, PIECE) {
            let mut bytes = self.read(self.devices.header, area + (at - zone.at), len)?;
            self.convert(at, &mut bytes);
            write_bytes(self.devices.data, self.place(at), &bytes)?;
        }
        Ok(())
    }

    fn recover_by_hash(&self, zone: Zone, hash: Hash, block: u64) -> Result<(), Refused> {
        let (area, room) = self.reencryption.area;
        let sum = hash.digest_len() as u64;
        let unit = u64::from(
            self.reencryption
                .old
                .unit()
                .max(self.reencryption.new.unit()),
        );
        let fits = zone.len.is_multiple_of(block) && block.is_multiple_of(unit);
        if !fits || zone.len / block > room / sum {
            return Err(super::invalid(
                "the zone in reencryption is not that of its checksums",
            ));
        }
        for (at, len) in pieces(zone, PIECE.max(block)) {
            let place = self.place(at);
            let mut bytes = self.read(self.devices.data, place, len)?;
            let first = (at - zone.at) / block * sum;
            let sums = self.read(self.devices.header, area + first, len / block * sum)?;
            let blocks = bytes
                .chunks_mut(block as usize)
                .zip(sums.chunks(sum as usize));
            for (block_at, (data, sum)) in (at..).step_by(block as usize).zip(blocks) {
                if hash.digest(data)[..] == *sum {
                    self.convert(block_at, data);
                }
            }
            write_bytes(self.devices.data, place, &bytes)?;
        }
        Ok(())
    }
}

/// The zone in pieces of `most` bytes: where each begins, and how long it is.
fn pieces(zone: Zone, most: u64) -> impl Iterator<Item = (u64, u64)> {
    (zone.at..zone.end())
        .step_by(most as usize)
        .map(move |at| (at, most.min(zone.end() - at)))
}

/// The hash of each block, one after the other.
fn sums(data: &[u8], hash: Hash, block: usize) -> Vec<u8> {
    let sums = data.chunks(block).map(|block| hash.digest(block).to_vec());
    sums.flatten().collect()
}
