//! LUKS1: a header whose fields change in place.

use super::super::benchmark::Pbkdf;
use super::super::bytes::{flush, read_bytes, wipe, write_bytes};
use super::super::keyslot::{material_bytes, seal, unseal};
use super::super::secret::{Secret, fill_random};
use super::super::{Kind, Refused};
use super::{Sealing, Unlocked};
use crate::crypto::KeyDerivation;
use crate::format::luks1::{DIGEST_BYTES, HEADER_BYTES, Luks1, N_SLOTS, SALT_BYTES, STRIPES};
use crate::io::BlockDev;
use crate::unit::SECTOR_SIZE;

/// Reads the header.
///
/// # Errors
/// What is wrong with it.
pub fn load(device: &dyn BlockDev) -> Result<Luks1, Refused> {
    let bytes = read_bytes(device, 0, HEADER_BYTES as u64)?;
    Ok(Luks1::read(&bytes)?)
}

/// Writes the header, durably.
///
/// # Errors
/// A header that makes no sense, before anything is written; what the device answers.
pub fn save(device: &dyn BlockDev, luks: &Luks1) -> Result<(), Refused> {
    luks.validate()?;
    write_bytes(device, 0, &luks.write()?)?;
    flush(device)
}

/// The key in `slot`, if the passphrase is its.
///
/// # Errors
/// What is missing to find out.
pub fn open_slot(
    device: &dyn BlockDev,
    luks: &Luks1,
    slot: usize,
    passphrase: &[u8],
) -> Result<Option<Secret>, Refused> {
    let Some(found) = luks.slots.get(slot).filter(|slot| slot.is_active) else {
        return Ok(None);
    };
    let len = luks.key_bytes as usize;
    let mut area_key = Secret::zeroed(len);
    let kdf = KeyDerivation::Pbkdf2 {
        hash: luks.hash.clone(),
        iterations: found.iterations,
    };
    kdf.derive(passphrase, &found.salt, &mut area_key)?;
    let bytes = material_bytes(luks.key_bytes, found.stripes);
    let material = Secret::from(read_bytes(device, found.material.to_bytes().0, bytes)?);
    if material.len() as u64 != bytes {
        return Err(Refused::new(
            Kind::Device,
            "The device ends before its key material does.",
        ));
    }
    let key = unseal(
        &luks.cipher(),
        &area_key,
        material,
        len,
        found.stripes,
        &luks.hash,
    )?;
    Ok(is_key(luks, &key)?.then_some(key))
}

/// Whether `key` is the volume key.
///
/// # Errors
/// An unknown hash.
pub fn is_key(luks: &Luks1, key: &[u8]) -> Result<bool, Refused> {
    let digest = digest(luks, key)?;
    Ok(key.len() == luks.key_bytes as usize && digest.is(&luks.digest))
}

/// The digest that the header keeps of `key`.
///
/// # Errors
/// An unknown hash.
pub fn digest(luks: &Luks1, key: &[u8]) -> Result<Secret, Refused> {
    let mut digest = Secret::zeroed(DIGEST_BYTES);
    let kdf = KeyDerivation::Pbkdf2 {
        hash: luks.hash.clone(),
        iterations: luks.digest_iterations,
    };
    kdf.derive(key, &luks.digest_salt, &mut digest)?;
    Ok(digest)
}

/// The first slot that the passphrase opens.
///
/// # Errors
/// None that it opens.
pub fn unlock(
    device: &dyn BlockDev,
    luks: &Luks1,
    slot: Option<u32>,
    passphrase: &[u8],
) -> Result<Unlocked, Refused> {
    let slots = match slot {
        Some(slot) => slot..slot + 1,
        None => 0..N_SLOTS as u32,
    };
    for slot in slots {
        if let Some(key) = open_slot(device, luks, slot as usize, passphrase)? {
            return Ok(Unlocked { slot, key });
        }
    }
    Err(Refused::passphrase())
}

/// The slot for a new key: the one asked for, or the first that is free.
///
/// # Errors
/// None is free, or that one is not.
pub fn free_slot(luks: &Luks1, slot: Option<u32>) -> Result<u32, Refused> {
    match slot {
        Some(slot) => match luks.slots.get(slot as usize) {
            None => Err(Refused::invalid(format!(
                "Key slot {slot} is invalid, please select between 0 and 7."
            ))),
            Some(found) if found.is_active => Err(Refused::new(
                Kind::Invalid,
                format!("Key slot {slot} is full, please select another one."),
            )),
            Some(_) => Ok(slot),
        },
        None => {
            let free = luks.slots.iter().position(|slot| !slot.is_active);
            let free = free.and_then(|slot| u32::try_from(slot).ok());
            free.ok_or_else(|| Refused::invalid("All key slots full."))
        }
    }
}

/// Puts `key` into `slot` under `passphrase`: the material first, then the header that names it.
///
/// # Errors
/// What there is not; what the device answers.
pub fn put_key(
    device: &dyn BlockDev,
    luks: &mut Luks1,
    slot: u32,
    key: &[u8],
    sealing: Sealing<'_>,
) -> Result<(), Refused> {
    let mut next = luks.clone();
    let cipher = next.cipher();
    let hash = next.hash.clone();
    let pbkdf = Pbkdf {
        hash: hash.clone(),
        ..sealing.pbkdf.clone()
    };
    let KeyDerivation::Pbkdf2 { iterations, .. } = pbkdf.settle(key.len())? else {
        return Err(Refused::invalid("LUKS1 has no key derivation but pbkdf2."));
    };
    let missing = || Refused::invalid(format!("Key slot {slot} is invalid."));
    let place = next.slots.get_mut(slot as usize).ok_or_else(missing)?;
    let mut salt = [0; SALT_BYTES];
    fill_random(&mut salt).map_err(|_| Refused::invalid("No randomness."))?;
    (place.salt, place.iterations, place.stripes) = (salt, iterations, STRIPES);
    place.is_active = true;
    let mut area_key = Secret::zeroed(key.len());
    let kdf = KeyDerivation::Pbkdf2 {
        hash: hash.clone(),
        iterations,
    };
    kdf.derive(sealing.passphrase, &salt, &mut area_key)?;
    let material = seal(&cipher, &area_key, key, STRIPES, &hash)?;
    write_bytes(device, place.material.to_bytes().0, &material)?;
    flush(device)?;
    save(device, &next)?;
    *luks = next;
    Ok(())
}

/// Takes the key out of `slot`: its material is overwritten first, then the header forgets it.
///
/// # Errors
/// What the device answers.
pub fn kill_slot(device: &dyn BlockDev, luks: &mut Luks1, slot: u32) -> Result<(), Refused> {
    let mut next = luks.clone();
    let bytes = material_bytes(next.key_bytes, STRIPES).next_multiple_of(8 * SECTOR_SIZE);
    if let Some(place) = next.slots.get_mut(slot as usize) {
        wipe(device, place.material.to_bytes().0, bytes, true)?;
        flush(device)?;
        (place.is_active, place.iterations, place.salt) = (false, 0, [0; SALT_BYTES]);
        place.stripes = STRIPES;
    }
    save(device, &next)?;
    *luks = next;
    Ok(())
}
