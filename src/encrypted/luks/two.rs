//! LUKS2: a header that is written anew with each change.

use std::collections::BTreeMap;

use super::super::benchmark::Pbkdf;
use super::super::bytes::{flush, read_bytes, wipe, write_bytes};
use super::super::keyslot::{material_bytes, seal, unseal};
use super::super::secret::{Secret, fill_random};
use super::super::{Kind, Refused};
use super::store::save;
use super::{Sealing, Unlocked};
use crate::crypto::{KeyDerivation, Variant};
use crate::format::luks1::STRIPES;
use crate::format::luks2::{
    Af, Area, Base64, Decimal, Digest, Id, Kdf, Keyslot, Luks2, MAX_KEYSLOTS, Segment,
};
use crate::io::BlockDev;

/// What areas are aligned to.
const AREA_ALIGNMENT: u64 = 4096;
/// Bytes of salts.
const SALT_BYTES: usize = 32;
/// Cipher of key slots whose volume cipher cannot be theirs, and its key, bytes.
pub const SLOT_CIPHER: (&str, u32) = ("aes-xts-plain64", 64);

impl Kdf {
    /// The derivation that the slot says.
    ///
    /// # Errors
    /// Parts that are missing: of no header that was read.
    pub fn derivation(&self) -> Result<KeyDerivation, Refused> {
        let argon2 = |variant| {
            Some(KeyDerivation::Argon2 {
                variant,
                time: self.time?,
                memory: self.memory?,
                lanes: self.cpus?,
            })
        };
        let derivation = match self.kind.as_str() {
            "pbkdf2" => match (&self.hash, self.iterations) {
                (Some(hash), Some(iterations)) => Some(KeyDerivation::Pbkdf2 {
                    hash: hash.clone(),
                    iterations,
                }),
                _ => None,
            },
            "argon2i" => argon2(Variant::Argon2i),
            "argon2id" => argon2(Variant::Argon2id),
            _ => None,
        };
        derivation.ok_or_else(|| Refused::invalid(format!("PBKDF {} is not supported.", self.kind)))
    }

    /// What a slot says of a derivation.
    pub fn of(derivation: &KeyDerivation, salt: Vec<u8>) -> Kdf {
        let empty = Kdf {
            kind: derivation.name().to_owned(),
            time: None,
            memory: None,
            cpus: None,
            hash: None,
            iterations: None,
            salt: Base64(salt),
            rest: serde_json::Map::new(),
        };
        match derivation {
            KeyDerivation::Pbkdf2 { hash, iterations } => Kdf {
                hash: Some(hash.clone()),
                iterations: Some(*iterations),
                ..empty
            },
            KeyDerivation::Argon2 {
                time,
                memory,
                lanes,
                ..
            } => Kdf {
                time: Some(*time),
                memory: Some(*memory),
                cpus: Some(*lanes),
                ..empty
            },
        }
    }
}

/// The key in `slot`, if the passphrase is its.
///
/// # Errors
/// What is missing to find out.
pub fn open_slot(
    device: &dyn BlockDev,
    luks: &Luks2,
    slot: Id,
    passphrase: &[u8],
) -> Result<Option<Secret>, Refused> {
    let Some(keyslot) = luks.metadata.keyslots.get(&slot) else {
        return Ok(None);
    };
    let (Some(kdf), Some(af), Some(cipher)) = (&keyslot.kdf, &keyslot.af, &keyslot.area.encryption)
    else {
        return Ok(None);
    };
    let mut area_key = Secret::zeroed(keyslot.area.key_size.unwrap_or_default() as usize);
    kdf.derivation()?
        .derive(passphrase, &kdf.salt.0, &mut area_key)?;
    let bytes = material_bytes(keyslot.key_size, af.stripes);
    let material = Secret::from(read_bytes(device, keyslot.area.offset.0, bytes)?);
    if material.len() as u64 != bytes {
        return Err(Refused::new(
            Kind::Device,
            "The device ends before its key material does.",
        ));
    }
    let len = keyslot.key_size as usize;
    let key = unseal(cipher, &area_key, material, len, af.stripes, &af.hash)?;
    let Some((_, digest)) = luks.metadata.digest_of_keyslot(slot) else {
        return Err(Refused::invalid(format!("Key slot {slot} has no digest.")));
    };
    Ok(is_key(digest, &key)?.then_some(key))
}

/// Whether `key` is what the digest was made of.
///
/// # Errors
/// An unknown hash.
pub fn is_key(digest: &Digest, key: &[u8]) -> Result<bool, Refused> {
    let kdf = KeyDerivation::Pbkdf2 {
        hash: digest.hash.clone().unwrap_or_default(),
        iterations: digest.iterations.unwrap_or_default(),
    };
    let mut found = Secret::zeroed(digest.digest.0.len());
    kdf.derive(key, &digest.salt.0, &mut found)?;
    Ok(found.is(&digest.digest.0))
}

/// The first slot that the passphrase opens, preferred ones first.
///
/// # Errors
/// None that it opens.
pub fn unlock(
    device: &dyn BlockDev,
    luks: &Luks2,
    slot: Option<u32>,
    passphrase: &[u8],
) -> Result<Unlocked, Refused> {
    let slots = match slot {
        Some(slot) => vec![Id(slot)],
        None => in_order(luks),
    };
    let mut trouble = None;
    for slot in slots {
        match open_slot(device, luks, slot, passphrase) {
            Ok(Some(key)) => return Ok(Unlocked { slot: slot.0, key }),
            Ok(None) => {}
            // Another slot may do.
            Err(error) => trouble = Some(error),
        }
    }
    Err(trouble.unwrap_or_else(Refused::passphrase))
}

/// Key slots of the volume key in the order in which they are tried: without those that must be named.
fn in_order(luks: &Luks2) -> Vec<Id> {
    let digest = luks.metadata.digest_of_segment(Id(0));
    let is_bound = |slot: Id| digest.is_none_or(|(_, digest)| digest.keyslots.contains(&slot));
    let mut slots: Vec<_> = luks
        .metadata
        .keyslots
        .iter()
        .filter(|(slot, keyslot)| keyslot.priority() > 0 && is_bound(**slot))
        .map(|(slot, keyslot)| (std::cmp::Reverse(keyslot.priority()), *slot))
        .collect();
    slots.sort_unstable();
    slots.into_iter().map(|(_, slot)| slot).collect()
}

/// The slot for a new key: the one asked for, or the first that is free.
///
/// # Errors
/// None is free, or that one is not.
pub fn free_slot(luks: &Luks2, slot: Option<u32>) -> Result<u32, Refused> {
    let is_used = |slot: u32| luks.metadata.keyslots.contains_key(&Id(slot));
    match slot {
        Some(slot) if slot >= MAX_KEYSLOTS => Err(Refused::invalid("Key slot is invalid.")),
        Some(slot) if is_used(slot) => Err(Refused::invalid(format!(
            "Key slot {slot} is full, please select another one."
        ))),
        Some(slot) => Ok(slot),
        None => (0..MAX_KEYSLOTS)
            .find(|slot| !is_used(*slot))
            .ok_or_else(|| Refused::invalid("All key slots full.")),
    }
}

/// The first room of `bytes` between the areas.
fn free_area(luks: &Luks2, bytes: u64) -> Option<Decimal> {
    let slots = luks.metadata.keyslots.values();
    let mut areas: Vec<_> = slots
        .map(|slot| (slot.area.offset.0, slot.area.size.0))
        .collect();
    areas.sort_unstable();
    let end = luks.header.end() + luks.metadata.config.keyslots_size.0;
    let mut at = luks.header.end();
    for (begin, len) in areas {
        if begin >= at + bytes {
            break;
        }
        at = (begin + len).next_multiple_of(AREA_ALIGNMENT);
    }
    (at + bytes <= end).then_some(Decimal(at))
}

/// Cipher and key size of the areas of new key slots.
pub fn slot_cipher(luks: &Luks2, key_bytes: u32) -> (String, u32) {
    let segment = luks.metadata.segments.get(&Id(0));
    let cipher = segment
        .filter(|segment| segment.integrity.is_none())
        .and_then(|segment| segment.encryption.clone())
        .filter(|cipher| !cipher.contains("null"));
    match cipher {
        Some(cipher) => (cipher, key_bytes),
        None => (SLOT_CIPHER.0.to_owned(), SLOT_CIPHER.1),
    }
}

/// A key slot for `key` under `passphrase`, its material written: nothing names it before the header is saved.
///
/// # Errors
/// No room; what there is not; what the device answers.
pub fn new_keyslot(
    device: &dyn BlockDev,
    luks: &Luks2,
    key: &[u8],
    sealing: Sealing<'_>,
) -> Result<Keyslot, Refused> {
    let key_size =
        u32::try_from(key.len()).map_err(|_| Refused::invalid("The key is too long."))?;
    let (cipher, area_key_size) = match sealing.cipher {
        Some((cipher, size)) => (cipher.to_owned(), size),
        None => slot_cipher(luks, key_size),
    };
    let size = material_bytes(key_size, STRIPES).next_multiple_of(AREA_ALIGNMENT);
    let full = || Refused::invalid("No space for new keyslot.");
    let offset = free_area(luks, size).ok_or_else(full)?;
    let derivation = sealing.pbkdf.settle(area_key_size as usize)?;
    let mut salt = vec![0; SALT_BYTES];
    fill_random(&mut salt).map_err(|_| Refused::invalid("No randomness."))?;
    let mut area_key = Secret::zeroed(area_key_size as usize);
    derivation.derive(sealing.passphrase, &salt, &mut area_key)?;
    let hash = sealing.pbkdf.hash.clone();
    let material = seal(&cipher, &area_key, key, STRIPES, &hash)?;
    write_bytes(device, offset.0, &material)?;
    flush(device)?;
    let none = serde_json::Map::new;
    Ok(Keyslot {
        kind: "luks2".into(),
        key_size,
        af: Some(Af {
            kind: "luks1".into(),
            stripes: STRIPES,
            hash,
            rest: none(),
        }),
        area: Area {
            kind: "raw".into(),
            offset,
            size: Decimal(size),
            encryption: Some(cipher),
            key_size: Some(area_key_size),
            rest: none(),
        },
        kdf: Some(Kdf::of(&derivation, salt)),
        priority: None,
        rest: none(),
    })
}

/// Puts `key` into `slot` under `passphrase`, bound to what its volume key is bound to.
///
/// # Errors
/// As [`new_keyslot`]; a key that is none of this volume's.
pub fn put_key(
    device: &dyn BlockDev,
    luks: &mut Luks2,
    slot: u32,
    key: &[u8],
    sealing: Sealing<'_>,
) -> Result<(), Refused> {
    let mut next = luks.clone();
    let keyslot = new_keyslot(device, &next, key, sealing)?;
    bind(&mut next, Id(slot), key)?;
    next.metadata.keyslots.insert(Id(slot), keyslot);
    save(device, &mut next)?;
    *luks = next;
    Ok(())
}

/// Adds `slot` to the digest of `key`.
fn bind(luks: &mut Luks2, slot: Id, key: &[u8]) -> Result<(), Refused> {
    for digest in luks.metadata.digests.values_mut() {
        if is_key(digest, key)? {
            if !digest.keyslots.contains(&slot) {
                digest.keyslots.push(slot);
                digest.keyslots.sort_unstable();
            }
            return Ok(());
        }
    }
    Err(Refused::invalid("Volume key does not match the volume."))
}

/// The digest of a new volume key.
///
/// # Errors
/// An unknown hash; no randomness.
pub fn new_digest(key: &[u8], segments: Vec<Id>, pbkdf: &Pbkdf) -> Result<Digest, Refused> {
    let hash = super::super::keyslot::hash_named(&pbkdf.hash)?;
    let iterations = pbkdf.digest_iterations(super::DIGEST_TIME_2, hash.digest_len())?;
    let mut salt = vec![0; SALT_BYTES];
    fill_random(&mut salt).map_err(|_| Refused::invalid("No randomness."))?;
    let kdf = KeyDerivation::Pbkdf2 {
        hash: pbkdf.hash.clone(),
        iterations,
    };
    let mut digest = vec![0; hash.digest_len()];
    kdf.derive(key, &salt, &mut digest)?;
    Ok(Digest {
        kind: "pbkdf2".into(),
        keyslots: Vec::new(),
        segments,
        hash: Some(pbkdf.hash.clone()),
        iterations: Some(iterations),
        salt: Base64(salt),
        digest: Base64(digest),
        rest: serde_json::Map::new(),
    })
}

/// Replaces what `slot` holds by `key` under another passphrase: the new material is written beside the old, one header
/// names it instead, and then the old is overwritten. Where there is no room beside it, it is written over.
///
/// # Errors
/// As [`new_keyslot`].
pub fn change_key(
    device: &dyn BlockDev,
    luks: &mut Luks2,
    slot: u32,
    key: &[u8],
    sealing: Sealing<'_>,
) -> Result<(), Refused> {
    let mut next = luks.clone();
    let old = next.metadata.keyslots.get(&Id(slot)).cloned();
    let mut keyslot = match new_keyslot(device, &next, key, sealing) {
        Err(full) if full.message == "No space for new keyslot." && old.is_some() => {
            next.metadata.keyslots.remove(&Id(slot));
            new_keyslot(device, &next, key, sealing)?
        }
        made => made?,
    };
    keyslot.priority = old.as_ref().and_then(|old| old.priority);
    let place = keyslot.area.offset;
    next.metadata.keyslots.insert(Id(slot), keyslot);
    bind(&mut next, Id(slot), key)?;
    save(device, &mut next)?;
    *luks = next;
    if let Some(old) = old.filter(|old| old.area.offset != place) {
        wipe(device, old.area.offset.0, old.area.size.0, true)?;
        flush(device)?;
    }
    Ok(())
}

/// Takes the key out of `slot`: its material is overwritten first, then the header forgets it.
///
/// # Errors
/// What the device answers.
pub fn kill_slot(device: &dyn BlockDev, luks: &mut Luks2, slot: u32) -> Result<(), Refused> {
    let mut next = luks.clone();
    let Some(keyslot) = next.metadata.keyslots.remove(&Id(slot)) else {
        return Ok(());
    };
    wipe(device, keyslot.area.offset.0, keyslot.area.size.0, true)?;
    flush(device)?;
    let metadata = &mut next.metadata;
    for digest in metadata.digests.values_mut() {
        digest.keyslots.retain(|other| *other != Id(slot));
    }
    // The digest of a key that belongs to no segment goes with its last slot.
    metadata
        .digests
        .retain(|_, digest| !digest.keyslots.is_empty() || !digest.segments.is_empty());
    for token in metadata.tokens.values_mut() {
        token.keyslots.retain(|other| *other != Id(slot));
    }
    save(device, &mut next)?;
    *luks = next;
    Ok(())
}

/// The one segment of a new volume.
pub fn new_segment(offset: u64, cipher: &str, sector_size: u32) -> BTreeMap<Id, Segment> {
    let segment = Segment {
        kind: "crypt".into(),
        offset: Decimal(offset),
        size: "dynamic".into(),
        iv_tweak: Some(Decimal(0)),
        encryption: Some(cipher.to_owned()),
        sector_size: Some(sector_size),
        integrity: None,
        flags: None,
        rest: serde_json::Map::new(),
    };
    BTreeMap::from([(Id(0), segment)])
}

/// Whether nothing about the volume is beyond what is understood here.
///
/// # Errors
/// What is.
pub fn check_requirements(luks: &Luks2) -> Result<(), Refused> {
    let mandatory = luks.metadata.mandatory();
    if let Some(name) = mandatory.iter().find(|name| name.contains("reencrypt")) {
        return Err(Refused::invalid(format!(
            "Operation incompatible with device marked for LUKS2 reencryption ({name}). Aborting."
        )));
    }
    if let Some(name) = mandatory.first() {
        return Err(Refused::invalid(format!(
            "Unmet LUKS2 requirements detected: {name}."
        )));
    }
    if luks
        .metadata
        .keyslots
        .values()
        .any(|slot| slot.kind == "reencrypt")
    {
        return Err(Refused::invalid(
            "Operation incompatible with device marked for LUKS2 reencryption. Aborting.",
        ));
    }
    Ok(())
}
