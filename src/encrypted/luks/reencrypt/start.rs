//! The beginning: one header that knows both sides.

use serde_json::{Map, Value};

use super::super::Sealing;
use super::super::two::{self, new_digest, new_keyslot};
use super::{Devices, Keys, Mode, Reencryption, Resilience, Side, hash_of};
use crate::encrypted::luks::store::save;
use crate::encrypted::{Pbkdf, Refused, Secret};
use crate::format::luks2::{Area, Decimal, Id, Keyslot, Luks2, Requirements, Segment};
use crate::io::BlockDev;

/// What areas are aligned to.
const AREA_ALIGNMENT: u64 = 4096;

/// What the data shall become.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// What becomes of it.
    pub mode: Mode,
    /// Cipher as dm-crypt names it; of no use where the data is decrypted.
    pub cipher: String,
    /// Bytes of an encrypted unit.
    pub sector_size: u32,
    /// What saves a zone in which the power fails; blocks of checksums are made as large as need be.
    pub resilience: Resilience,
}

/// Begins. `keys` are what the data is under and what it gets under; each of `sealings` makes a key slot of a new key, where
/// there is an old one. Data to be encrypted for the first time have a header that was made for them with the new key.
///
/// # Errors
/// What there is not, or does not go together; no room; what the device answers. The header is then as before.
pub fn begin(
    devices: Devices<'_>,
    luks: &mut Luks2,
    keys: &Keys,
    wanted: &Wanted,
    sealings: &[Sealing<'_>],
    pbkdf: &Pbkdf,
) -> Result<Reencryption, Refused> {
    let Devices { header, data } = devices;
    two::check_requirements(luks)?;
    let mut next = luks.clone();
    let there = next.metadata.digest_of_segment(Id(0)).map(|(id, _)| id);
    let (old, new) = match wanted.mode {
        Mode::Reencrypt => (there, Some(free_digest(&next))),
        Mode::Encrypt => (None, there),
        Mode::Decrypt => (there, None),
    };
    let live: Vec<_> = next
        .metadata
        .live_segments()
        .map(|(_, segment)| segment.clone())
        .collect();
    let [segment] = live.as_slice() else {
        return Err(Refused::invalid(
            "Reencryption needs a volume of one segment.",
        ));
    };
    let plain = || Segment {
        kind: "linear".into(),
        size: "dynamic".into(),
        iv_tweak: None,
        encryption: None,
        sector_size: None,
        integrity: None,
        flags: None,
        ..segment.clone()
    };
    let crypt = || Segment {
        size: "dynamic".into(),
        iv_tweak: Some(Decimal(0)),
        encryption: Some(wanted.cipher.clone()),
        sector_size: Some(wanted.sector_size),
        ..segment.clone()
    };
    let side = |segment: Segment, digest: Option<Id>| Side { segment, digest };
    let (old, new) = match wanted.mode {
        Mode::Reencrypt => (side(segment.clone(), old), side(crypt(), new)),
        Mode::Encrypt => (side(plain(), None), side(crypt(), new)),
        Mode::Decrypt => (side(segment.clone(), old), side(plain(), None)),
    };
    let unit = old.unit().max(new.unit()).max(data.logical_block_size());
    let resilience = match &wanted.resilience {
        Resilience::Checksum { hash, .. } => {
            hash_of(hash)?;
            Resilience::Checksum {
                hash: hash.clone(),
                block: unit,
            }
        }
        other => other.clone(),
    };
    let (name, version) = super::REQUIREMENTS[0];
    let mut reencryption = Reencryption {
        slot: Id::default(),
        mode: wanted.mode,
        resilience,
        area: (0, 0),
        version,
        old,
        new,
    };
    // Before anything is written: whether it can be done.
    reencryption.size(data)?;
    reencryption.old.cipher(keys.old.as_ref())?;
    reencryption.new.cipher(keys.new.as_ref())?;
    if let (Mode::Reencrypt, Some(key), Some(id)) =
        (wanted.mode, &keys.new, reencryption.new.digest)
    {
        add_key(header, &mut next, id, key, sealings, pbkdf)?;
    }
    let area = largest_gap(&next);
    reencryption.area = area.ok_or_else(|| Refused::invalid("No space for new keyslot."))?;
    reencryption.slot = Id(two::free_slot(&next, None)?);
    let slot = reencryption.slot;
    next.metadata.keyslots.insert(slot, reencryption.keyslot());
    let mut digest = new_digest(&reencryption.verification_data(keys)?, Vec::new(), pbkdf)?;
    digest.keyslots.push(slot);
    let id = free_digest(&next);
    next.metadata.digests.insert(id, digest);
    reencryption.set_done(&mut next, 0);
    let requirements = next
        .metadata
        .config
        .requirements
        .get_or_insert_with(|| Requirements {
            mandatory: Vec::new(),
            rest: Map::new(),
        });
    requirements.mandatory.push(name.to_owned());
    save(header, &mut next)?;
    *luks = next;
    Ok(reencryption)
}

/// The digest `id` of `key`, and a key slot for each of `sealings`.
fn add_key(
    header: &dyn BlockDev,
    luks: &mut Luks2,
    id: Id,
    key: &Secret,
    sealings: &[Sealing<'_>],
    pbkdf: &Pbkdf,
) -> Result<(), Refused> {
    let mut digest = new_digest(key, Vec::new(), pbkdf)?;
    for sealing in sealings {
        let slot = Id(two::free_slot(luks, None)?);
        let keyslot = new_keyslot(header, luks, key, *sealing)?;
        luks.metadata.keyslots.insert(slot, keyslot);
        digest.keyslots.push(slot);
    }
    luks.metadata.digests.insert(id, digest);
    Ok(())
}

fn free_digest(luks: &Luks2) -> Id {
    let digests = &luks.metadata.digests;
    (0..)
        .map(Id)
        .find(|id| !digests.contains_key(id))
        .unwrap_or_default()
}

/// First byte and bytes of the largest room between the areas.
fn largest_gap(luks: &Luks2) -> Option<(u64, u64)> {
    let slots = luks.metadata.keyslots.values();
    let mut areas: Vec<_> = slots
        .map(|slot| (slot.area.offset.0, slot.area.size.0))
        .collect();
    let end = luks.header.end() + luks.metadata.config.keyslots_size.0;
    areas.push((end, 0));
    areas.sort_unstable();
    let mut at = luks.header.end();
    let mut gaps = Vec::new();
    for (begin, len) in areas {
        gaps.push((begin.saturating_sub(at), at));
        at = at.max((begin + len).next_multiple_of(AREA_ALIGNMENT));
    }
    let (len, at) = gaps
        .into_iter()
        .max_by_key(|(len, at)| (*len, u64::MAX - at))?;
    (len >= AREA_ALIGNMENT).then_some((at, len))
}

impl Reencryption {
    /// Its key slot.
    fn keyslot(&self) -> Keyslot {
        let mut area = Map::new();
        if let Resilience::Checksum { hash, block } = &self.resilience {
            area.insert("hash".into(), Value::from(hash.clone()));
            area.insert("sector_size".into(), Value::from(*block));
        }
        let mut rest = Map::new();
        rest.insert("mode".into(), Value::from(self.mode.name()));
        rest.insert("direction".into(), Value::from("forward"));
        Keyslot {
            kind: "reencrypt".into(),
            key_size: 1,
            af: None,
            area: Area {
                kind: self.resilience.name().into(),
                offset: Decimal(self.area.0),
                size: Decimal(self.area.1),
                encryption: None,
                key_size: None,
                rest: area,
            },
            kdf: None,
            priority: Some(0),
            rest,
        }
    }
}
