//! LUKS volumes of both versions: what opens them and what manages their key slots.

mod convert;
mod dump;
mod format;
mod one;
pub mod reencrypt;
mod store;
mod two;

use std::time::Duration;

pub use convert::{to_luks1, to_luks2};
pub use dump::{json_text, text};
pub use format::{Format, Made, Version, check_cipher, default_key_bits, format, needed_bytes};
pub use store::Health;

use super::benchmark::Pbkdf;
use super::bytes::{flush, read_bytes, wipe};
use super::secret::Secret;
use super::{CryptRow, Kind, Refused};
use crate::format::luks1::{self, HEADER_BYTES, Luks1, MAGIC};

pub use crate::format::luks2::{Id, Luks2, MAX_TOKENS, Token};
use crate::io::BlockDev;
use crate::unit::{Bytes, Sector, Sectors};

/// How long the digest of a volume key shall take, as a share of what a key slot takes, and of LUKS2 outright.
const DIGEST_SHARE_1: u32 = 8;
const DIGEST_TIME_2: Duration = Duration::from_millis(125);

/// A header.
#[derive(Clone, Debug, PartialEq)]
pub enum Luks {
    /// Of LUKS1.
    One(Box<Luks1>),
    /// Of LUKS2.
    Two(Box<Luks2>),
}

/// What a passphrase opened.
pub struct Unlocked {
    /// The key slot.
    pub slot: u32,
    /// The key in it.
    pub key: Secret,
}

/// What a key is put under.
#[derive(Clone, Copy)]
pub struct Sealing<'s> {
    /// The passphrase.
    pub passphrase: &'s [u8],
    /// How it becomes a key.
    pub pbkdf: &'s Pbkdf,
    /// Cipher of the key slot and bytes of its key, where they are not the volume's (LUKS2).
    pub cipher: Option<(&'s str, u32)>,
}

impl<'s> Sealing<'s> {
    /// Under `passphrase`, in a slot whose cipher and bytes of key are `cipher`, if they are said.
    pub fn new(
        passphrase: &'s [u8],
        pbkdf: &'s Pbkdf,
        cipher: Option<&'s (String, u32)>,
    ) -> Sealing<'s> {
        Sealing {
            passphrase,
            pbkdf,
            cipher: cipher.map(|(cipher, bytes)| (cipher.as_str(), *bytes)),
        }
    }
}

/// What a key slot is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SlotState {
    /// There is no such slot.
    Invalid,
    /// It holds nothing.
    Inactive,
    /// It holds the volume key.
    Active,
    /// It holds the volume key, and no other does.
    ActiveLast,
    /// It holds another key.
    Unbound,
}

impl Luks {
    /// Reads the header of a device.
    ///
    /// # Errors
    /// What is wrong with it; of a device without any, that there is none.
    pub fn load(device: &dyn BlockDev) -> Result<(Luks, Health), Refused> {
        let start = read_bytes(device, 0, HEADER_BYTES as u64)?;
        match (start.get(..6) == Some(&MAGIC), start.get(6..8)) {
            (true, Some([0, 1])) => Ok((Luks::One(Box::new(one::load(device)?)), Health::Both)),
            _ => store::load(device).map(|(luks, health)| (Luks::Two(Box::new(luks)), health)),
        }
    }

    /// 1 or 2.
    pub fn version(&self) -> u32 {
        match self {
            Luks::One(_) => 1,
            Luks::Two(_) => 2,
        }
    }

    /// UUID, as text.
    pub fn uuid(&self) -> &str {
        match self {
            Luks::One(luks) => &luks.uuid,
            Luks::Two(luks) => &luks.header.uuid,
        }
    }

    /// Opens a key slot: the one named, or the first that the passphrase fits.
    ///
    /// # Errors
    /// None that it fits; what is missing to find out.
    pub fn unlock(
        &self,
        device: &dyn BlockDev,
        slot: Option<u32>,
        passphrase: &[u8],
    ) -> Result<Unlocked, Refused> {
        match self {
            Luks::One(luks) => one::unlock(device, luks, slot, passphrase),
            Luks::Two(luks) => two::unlock(device, luks, slot, passphrase),
        }
    }

    /// Whether `key` is the volume key.
    ///
    /// # Errors
    /// What is missing to find out.
    pub fn is_volume_key(&self, key: &[u8]) -> Result<bool, Refused> {
        match self {
            Luks::One(luks) => one::is_key(luks, key),
            Luks::Two(luks) => match luks.metadata.digest_of_segment(Id(0)) {
                Some((_, digest)) => two::is_key(digest, key),
                None => Err(Refused::invalid("The volume has no digest.")),
            },
        }
    }

    /// Bytes of the volume key.
    pub fn key_bytes(&self) -> u32 {
        match self {
            Luks::One(luks) => luks.key_bytes,
            Luks::Two(luks) => {
                let metadata = &luks.metadata;
                let digest = metadata.digest_of_segment(Id(0));
                let slots = digest.map(|(_, digest)| digest.keyslots.as_slice());
                let slot = slots.and_then(<[Id]>::first);
                let slot = slot.and_then(|slot| metadata.keyslots.get(slot));
                slot.map_or(0, |slot| slot.key_size)
            }
        }
    }

    /// What the slot holds.
    pub fn slot_state(&self, slot: u32) -> SlotState {
        match self {
            Luks::One(luks) => {
                let n_active = luks.slots.iter().filter(|slot| slot.is_active).count();
                match luks.slots.get(slot as usize) {
                    None => SlotState::Invalid,
                    Some(slot) if !slot.is_active => SlotState::Inactive,
                    Some(_) if n_active == 1 => SlotState::ActiveLast,
                    Some(_) => SlotState::Active,
                }
            }
            Luks::Two(luks) => {
                let metadata = &luks.metadata;
                let digest = metadata.digest_of_segment(Id(0));
                let bound = digest.map(|(_, digest)| digest.keyslots.as_slice());
                let bound = bound.unwrap_or_default();
                match metadata.keyslots.contains_key(&Id(slot)) {
                    _ if slot >= crate::format::luks2::MAX_KEYSLOTS => SlotState::Invalid,
                    false => SlotState::Inactive,
                    true if !bound.contains(&Id(slot)) => SlotState::Unbound,
                    true if bound.len() == 1 => SlotState::ActiveLast,
                    true => SlotState::Active,
                }
            }
        }
    }

    /// Key slots that hold something.
    pub fn used_slots(&self) -> Vec<u32> {
        let all = 0..crate::format::luks2::MAX_KEYSLOTS;
        all.filter(|slot| {
            !matches!(
                self.slot_state(*slot),
                SlotState::Invalid | SlotState::Inactive
            )
        })
        .collect()
    }

    /// The slot for a new key: the one asked for, or the first that is free.
    ///
    /// # Errors
    /// None is free, or that one is not.
    pub fn free_slot(&self, slot: Option<u32>) -> Result<u32, Refused> {
        match self {
            Luks::One(luks) => one::free_slot(luks, slot),
            Luks::Two(luks) => two::free_slot(luks, slot),
        }
    }

    /// Puts the volume key into a slot under a passphrase.
    ///
    /// # Errors
    /// What there is not; what the device answers. The header is then as before.
    pub fn put_key(
        &mut self,
        device: &dyn BlockDev,
        slot: u32,
        key: &[u8],
        sealing: Sealing<'_>,
    ) -> Result<(), Refused> {
        match self {
            Luks::One(luks) => one::put_key(device, luks, slot, key, sealing),
            Luks::Two(luks) => two::put_key(device, luks, slot, key, sealing),
        }
    }

    /// Puts a key that belongs to no data into a slot (LUKS2).
    ///
    /// # Errors
    /// As [`Self::put_key`].
    pub fn put_unbound(
        &mut self,
        device: &dyn BlockDev,
        slot: u32,
        key: &[u8],
        sealing: Sealing<'_>,
    ) -> Result<(), Refused> {
        let Luks::Two(luks) = self else {
            return Err(Refused::invalid("Unbound keys are of LUKS2 only."));
        };
        let mut next = luks.clone();
        let digests = &mut next.metadata.digests;
        let free = (0..).map(Id).find(|id| !digests.contains_key(id));
        let digest = two::new_digest(key, Vec::new(), sealing.pbkdf)?;
        digests.insert(free.unwrap_or_default(), digest);
        two::put_key(device, &mut next, slot, key, sealing)?;
        **luks = *next;
        Ok(())
    }

    /// Puts the key of `slot` under another passphrase, into `to`, which holds nothing else.
    ///
    /// # Errors
    /// As [`Self::put_key`].
    pub fn change_key(
        &mut self,
        device: &dyn BlockDev,
        slot: u32,
        to: Option<u32>,
        key: &[u8],
        sealing: Sealing<'_>,
    ) -> Result<u32, Refused> {
        match (to.filter(|to| *to != slot), &mut *self) {
            (None, Luks::Two(luks)) => {
                two::change_key(device, luks, slot, key, sealing)?;
                Ok(slot)
            }
            (to, _) => {
                // LUKS1 has one place for each slot: another one takes the key, if one is free.
                let to = match self.free_slot(to) {
                    Ok(free) => free,
                    Err(_) if to.is_none() => slot,
                    Err(full) => return Err(full),
                };
                self.put_key(device, to, key, sealing)?;
                if to != slot {
                    self.kill_slot(device, slot)?;
                }
                Ok(to)
            }
        }
    }

    /// Overwrites what a slot holds.
    ///
    /// # Errors
    /// What the device answers.
    pub fn kill_slot(&mut self, device: &dyn BlockDev, slot: u32) -> Result<(), Refused> {
        match self {
            Luks::One(luks) => one::kill_slot(device, luks, slot),
            Luks::Two(luks) => two::kill_slot(device, luks, slot),
        }
    }

    /// Writes the header as it is now.
    ///
    /// # Errors
    /// A header that makes no sense, before anything is written; what the device answers.
    pub fn save(&mut self, device: &dyn BlockDev) -> Result<(), Refused> {
        match self {
            Luks::One(luks) => one::save(device, luks),
            Luks::Two(luks) => store::save(device, luks),
        }
    }

    /// Where the data begins; in a detached header it may be anywhere.
    pub fn data_offset(&self) -> Sector {
        match self {
            Luks::One(luks) => luks.payload,
            Luks::Two(luks) => {
                let segment = luks.metadata.live_segments().next();
                let bytes = segment.map_or(0, |(_, segment)| segment.offset.0);
                Sector(Bytes(bytes).whole_sectors().0)
            }
        }
    }

    /// Bytes of header and key material, which a backup holds.
    pub fn header_bytes(&self) -> u64 {
        match self {
            Luks::One(luks) => match luks.payload {
                Sector(0) => luks.end().to_bytes().0,
                payload => payload.to_bytes().0,
            },
            Luks::Two(luks) => luks.header.end() + luks.metadata.config.keyslots_size.0,
        }
    }

    /// The rows that map the volume, whose data device is `data` long.
    ///
    /// # Errors
    /// A volume that cannot be mapped here; a device that is too small.
    pub fn rows(
        &self,
        data: Sectors,
        key: &Secret,
        options: &[String],
    ) -> Result<Vec<CryptRow>, Refused> {
        match self {
            Luks::One(luks) => {
                let row = CryptRow {
                    start: Sector(0),
                    len: rest_of(data, luks.payload)?,
                    cipher: Some(luks.cipher()),
                    key: key.clone(),
                    iv_offset: 0,
                    offset: luks.payload,
                    options: options.to_vec(),
                };
                Ok(vec![row])
            }
            Luks::Two(luks) => rows_of_2(luks, data, key, options),
        }
    }

    /// Whether nothing about the volume is beyond what is understood here.
    ///
    /// # Errors
    /// What is.
    pub fn check_requirements(&self) -> Result<(), Refused> {
        match self {
            Luks::One(_) => Ok(()),
            Luks::Two(luks) => two::check_requirements(luks),
        }
    }

    /// Options of the table that the header asks for.
    pub fn persistent_options(&self) -> Vec<String> {
        let Luks::Two(luks) = self else {
            return Vec::new();
        };
        let asked = luks.metadata.flags();
        FLAGS
            .iter()
            .filter(|(flag, _)| asked.iter().any(|asked| asked == flag))
            .map(|(_, option)| (*option).to_owned())
            .collect()
    }

    /// Has the header ask for these options of the table, and no others (LUKS2).
    ///
    /// # Errors
    /// LUKS1 keeps none.
    pub fn set_persistent_options(
        &mut self,
        device: &dyn BlockDev,
        options: &[String],
    ) -> Result<(), Refused> {
        let Luks::Two(luks) = self else {
            return Err(Refused::invalid("Persistent flags are of LUKS2 only."));
        };
        let known = FLAGS.iter().map(|(flag, _)| *flag);
        let kept = luks.metadata.flags().iter();
        // What nobody here knows stays.
        let mut flags: Vec<String> = kept
            .filter(|flag| !known.clone().any(|known| known == *flag))
            .cloned()
            .collect();
        let asked = FLAGS
            .iter()
            .filter(|(_, option)| options.iter().any(|asked| asked == option));
        flags.extend(asked.map(|(flag, _)| (*flag).to_owned()));
        let mut next = luks.clone();
        next.metadata.config.flags = Some(flags);
        if next.metadata.config.flags == luks.metadata.config.flags {
            return Ok(());
        }
        store::save(device, &mut next)?;
        *luks = next;
        Ok(())
    }

    /// Tokens (LUKS2).
    ///
    /// # Errors
    /// LUKS1 has none.
    pub fn tokens(&mut self) -> Result<&mut std::collections::BTreeMap<Id, Token>, Refused> {
        match self {
            Luks::One(_) => Err(Refused::invalid("Tokens are of LUKS2 only.")),
            Luks::Two(luks) => Ok(&mut luks.metadata.tokens),
        }
    }

    /// Overwrites all key slots: nobody opens the volume again without a backup of its header.
    ///
    /// # Errors
    /// What the device answers.
    pub fn erase(&mut self, device: &dyn BlockDev) -> Result<(), Refused> {
        for slot in self.used_slots() {
            self.kill_slot(device, slot)?;
        }
        if let Luks::Two(luks) = self {
            // Also what lies in no area any more.
            wipe(
                device,
                luks.header.end(),
                luks.metadata.config.keyslots_size.0,
                true,
            )?;
            flush(device)?;
        }
        Ok(())
    }
}

/// Flags of a header, and the options of a table that they stand for.
const FLAGS: [(&str, &str); 6] = [
    ("allow-discards", "allow_discards"),
    ("same-cpu-crypt", "same_cpu_crypt"),
    ("submit-from-crypt-cpus", "submit_from_crypt_cpus"),
    ("no-read-workqueue", "no_read_workqueue"),
    ("no-write-workqueue", "no_write_workqueue"),
    ("high-priority", "high_priority"),
];

/// What of a device follows `offset`.
///
/// # Errors
/// Nothing.
pub fn rest_of(data: Sectors, offset: Sector) -> Result<Sectors, Refused> {
    match data.0.checked_sub(offset.0) {
        Some(rest) if rest > 0 => Ok(Sectors(rest)),
        _ => Err(Refused::new(
            Kind::Device,
            format!("Device is too small: its data would begin at sector {offset} of {data}."),
        )),
    }
}

fn rows_of_2(
    luks: &Luks2,
    data: Sectors,
    key: &Secret,
    options: &[String],
) -> Result<Vec<CryptRow>, Refused> {
    two::check_requirements(luks)?;
    rows_of_segments(luks, data, &|_| key.clone(), options)
}

/// The rows of all live segments, each with the key that `key_of` gives.
fn rows_of_segments(
    luks: &Luks2,
    data: Sectors,
    key_of: &dyn Fn(Id) -> Secret,
    options: &[String],
) -> Result<Vec<CryptRow>, Refused> {
    let mut rows = Vec::new();
    let mut start = Sector(0);
    for (id, segment) in luks.metadata.live_segments() {
        if let Some(integrity) = &segment.integrity {
            return Err(Refused::invalid(format!(
                "The volume is authenticated ({}): that needs an integrity target, which is not there yet.",
                integrity.kind
            )));
        }
        let offset = Sector(Bytes(segment.offset.0).whole_sectors().0);
        let rest = rest_of(data, offset)?;
        let len = match segment.bytes() {
            Some(bytes) => Bytes(bytes).whole_sectors(),
            None => rest,
        };
        if len.0 > rest.0 {
            return Err(Refused::new(
                Kind::Device,
                format!("Device is too small: segment {id} has {len} sectors, {rest} are there."),
            ));
        }
        let sector_size = segment.sector_size.unwrap_or(512);
        if !len.to_bytes().0.is_multiple_of(u64::from(sector_size)) {
            return Err(Refused::new(
                Kind::Device,
                "Device size is not aligned to requested sector size.",
            ));
        }
        let mut options = options.to_vec();
        if sector_size != 512 {
            options.push(format!("sector_size:{sector_size}"));
        }
        let (cipher, key) = match segment.kind.as_str() {
            "crypt" => (segment.encryption.clone(), key_of(id)),
            "linear" => (None, Secret::default()),
            other => {
                return Err(Refused::invalid(format!(
                    "Segment {id} is of type {other}, which cannot be mapped here."
                )));
            }
        };
        rows.push(CryptRow {
            start,
            len,
            cipher,
            key,
            iv_offset: segment.iv_tweak.map_or(0, |tweak| tweak.0),
            offset,
            options,
        });
        start = start
            .checked_add(len)
            .ok_or_else(|| Refused::invalid("The volume is too long."))?;
    }
    match rows.is_empty() {
        true => Err(Refused::invalid("The volume has no data segment.")),
        false => Ok(rows),
    }
}

/// Which version of header `bytes`, the start of a device, begin with.
pub fn version_of(bytes: &[u8]) -> Option<u16> {
    let version = bytes.get(6..8)?.try_into().ok().map(u16::from_be_bytes);
    version.filter(|_| bytes.get(..6) == Some(&luks1::MAGIC))
}

#[cfg(test)]
mod tests;
