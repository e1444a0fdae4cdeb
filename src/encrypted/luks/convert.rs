//! A header of one version from a header of the other. Key material and data stay where they are, as long as the
//! header does: the first byte of key material of LUKS1 lies where LUKS2 has its second copy, so it moves.

use std::collections::BTreeMap;

use super::super::bytes::{flush, read_bytes, wipe, write_bytes};
use super::super::keyslot::material_bytes;
use super::super::secret::fill_random;
use super::super::{Refused, Secret};
use super::{Luks, one, store, two};
use crate::crypto::KeyDerivation;
use crate::format::luks1::{self, Luks1, N_SLOTS, STRIPES, Slot};
use crate::format::luks2::{
    Af, Area, Base64, Config, Decimal, Digest, HEADER_BYTES, Header, Id, Kdf, Keyslot, Luks2,
    Metadata, SIZES,
};
use crate::io::BlockDev;
use crate::unit::{Bytes, Sector};

/// Bytes of header and JSON area of a converted header.
const SIZE_2: u64 = SIZES[0];
/// Bytes of a LUKS1 header with what aligns its first material.
const HEADER_1: u64 = 4096;

/// Makes LUKS2 of LUKS1.
///
/// # Errors
/// A volume with no room for the longer header; what the device answers.
pub fn to_luks2(device: &dyn BlockDev, luks: &Luks) -> Result<Luks, Refused> {
    let Luks::One(old) = luks else {
        return Err(Refused::invalid("Device is already LUKS2 type."));
    };
    let shift = 2 * SIZE_2 - HEADER_1;
    let end = old.end().to_bytes().0;
    let room = match old.payload {
        Sector(0) => device.capacity().to_bytes().0,
        payload => payload.to_bytes().0,
    };
    if end + shift > room {
        return Err(Refused::invalid(
            "Unable to move keyslot area. Not enough space.",
        ));
    }
    let mut next = converted_to_2(old, room, shift)?;
    let material = Secret::from(read_bytes(device, HEADER_1, end - HEADER_1)?);
    // From here on a power cut leaves no header: as in cryptsetup, a backup is the user's.
    wipe(device, 0, HEADER_1, false)?;
    write_bytes(device, 2 * SIZE_2, &material)?;
    flush(device)?;
    store::save(device, &mut next)?;
    Ok(Luks::Two(Box::new(next)))
}

fn converted_to_2(old: &Luks1, room: u64, shift: u64) -> Result<Luks2, Refused> {
    let rest = serde_json::Map::new;
    let size = material_bytes(old.key_bytes, STRIPES).next_multiple_of(4096);
    let mut keyslots = BTreeMap::new();
    for (index, slot) in (0..).zip(&old.slots) {
        if !slot.is_active {
            continue;
        }
        let derivation = KeyDerivation::Pbkdf2 {
            hash: old.hash.clone(),
            iterations: slot.iterations,
        };
        let keyslot = Keyslot {
            kind: "luks2".into(),
            key_size: old.key_bytes,
            af: Some(Af {
                kind: "luks1".into(),
                stripes: slot.stripes,
                hash: old.hash.clone(),
                rest: rest(),
            }),
            area: Area {
                kind: "raw".into(),
                offset: Decimal(slot.material.to_bytes().0 + shift),
                size: Decimal(size),
                encryption: Some(old.cipher()),
                key_size: Some(old.key_bytes),
                rest: rest(),
            },
            kdf: Some(Kdf::of(&derivation, slot.salt.to_vec())),
            priority: None,
            rest: rest(),
        };
        keyslots.insert(Id(index), keyslot);
    }
    let digest = Digest {
        kind: "pbkdf2".into(),
        keyslots: keyslots.keys().copied().collect(),
        segments: vec![Id(0)],
        hash: Some(old.hash.clone()),
        iterations: Some(old.digest_iterations),
        salt: Base64(old.digest_salt.to_vec()),
        digest: Base64(old.digest.to_vec()),
        rest: rest(),
    };
    let keyslots_size = (room - 2 * SIZE_2).min(128 << 20);
    let mut salt = [0; 64];
    fill_random(&mut salt).map_err(|_| Refused::invalid("No randomness."))?;
    Ok(Luks2 {
        header: Header {
            size: SIZE_2,
            sequence: 0,
            label: String::new(),
            salt,
            uuid: old.uuid.clone(),
            subsystem: String::new(),
            checksum: [0; 32],
        },
        metadata: Metadata {
            keyslots,
            tokens: BTreeMap::new(),
            segments: two::new_segment(old.payload.to_bytes().0, &old.cipher(), 512),
            digests: BTreeMap::from([(Id(0), digest)]),
            config: Config {
                json_size: Decimal(SIZE_2 - HEADER_BYTES as u64),
                keyslots_size: Decimal(keyslots_size - keyslots_size % 4096),
                flags: None,
                requirements: None,
                rest: rest(),
            },
            rest: rest(),
        },
    })
}

/// Makes LUKS1 of LUKS2.
///
/// # Errors
/// A volume that is more than LUKS1 can say; what the device answers.
pub fn to_luks1(device: &dyn BlockDev, luks: &Luks) -> Result<Luks, Refused> {
    let Luks::Two(old) = luks else {
        return Err(Refused::invalid("Device is already LUKS1 type."));
    };
    two::check_requirements(old)?;
    let (next, moves) = converted_to_1(old)?;
    let mut materials = Vec::new();
    for (from, to) in moves {
        let bytes = material_bytes(next.key_bytes, STRIPES);
        materials.push((to, Secret::from(read_bytes(device, from, bytes)?)));
    }
    let end = old.header.end() + old.metadata.config.keyslots_size.0;
    wipe(device, 0, old.header.end(), false)?;
    wipe(device, HEADER_1, end.saturating_sub(HEADER_1), true)?;
    for (to, material) in materials {
        write_bytes(device, to.to_bytes().0, &material)?;
    }
    flush(device)?;
    one::save(device, &next)?;
    Ok(Luks::One(Box::new(next)))
}

/// The header, and from which byte to which sector each slot's material moves.
fn converted_to_1(old: &Luks2) -> Result<(Luks1, Vec<(u64, Sector)>), Refused> {
    let cannot = |why: &str| Refused::invalid(format!("Cannot convert to LUKS1 format - {why}."));
    let metadata = &old.metadata;
    let segment = match metadata.segments.values().collect::<Vec<_>>().as_slice() {
        [one] if one.kind == "crypt" && one.size == "dynamic" => *one,
        _ => return Err(cannot("device uses more than one segment")),
    };
    if segment.integrity.is_some() {
        return Err(cannot("device uses authenticated encryption"));
    }
    if segment.sector_size != Some(512) || segment.iv_tweak != Some(Decimal(0)) {
        return Err(cannot(
            "default segment encryption cipher is not compatible",
        ));
    }
    if !metadata.tokens.is_empty() {
        return Err(cannot("device has tokens"));
    }
    let digest = match metadata.digests.values().collect::<Vec<_>>().as_slice() {
        [one] => *one,
        _ => return Err(cannot("device has more than one digest")),
    };
    let cipher = segment.encryption.clone().unwrap_or_default();
    let (name, mode) = cipher
        .split_once('-')
        .ok_or_else(|| cannot("its cipher has no mode"))?;
    let hash = digest.hash.clone().unwrap_or_default();
    let key_bytes = match metadata.keyslots.values().next() {
        Some(slot) => slot.key_size,
        None => return Err(cannot("there are no keyslots")),
    };
    let mut digest_bytes = [0; luks1::DIGEST_BYTES];
    // PBKDF2's output of 20 bytes is the start of its longer one.
    let start = digest.digest.0.get(..luks1::DIGEST_BYTES);
    digest_bytes.copy_from_slice(start.ok_or_else(|| cannot("its digest is too short"))?);
    let salt = |salt: &[u8]| <[u8; luks1::SALT_BYTES]>::try_from(salt);
    let mut next = Luks1 {
        cipher_name: name.to_owned(),
        cipher_mode: mode.to_owned(),
        hash: hash.clone(),
        payload: Sector(Bytes(segment.offset.0).whole_sectors().0),
        key_bytes,
        digest: digest_bytes,
        digest_salt: salt(&digest.salt.0).map_err(|_| cannot("its salt has another length"))?,
        digest_iterations: digest.iterations.unwrap_or_default(),
        uuid: old.header.uuid.clone(),
        slots: luks1::material_places(key_bytes).map(Slot::empty),
    };
    let mut moves = Vec::new();
    for (id, keyslot) in &metadata.keyslots {
        let not_so = |why: &str| cannot(&format!("keyslot {id} {why}"));
        if id.0 as usize >= N_SLOTS {
            return Err(not_so("has a number over 7"));
        }
        let (Some(kdf), Some(af)) = (&keyslot.kdf, &keyslot.af) else {
            return Err(not_so("is not LUKS1 compatible"));
        };
        let fits = kdf.kind == "pbkdf2"
            && kdf.hash.as_ref() == Some(&hash)
            && af.hash == hash
            && keyslot.key_size == key_bytes
            && keyslot.area.key_size == Some(key_bytes)
            && keyslot.area.encryption.as_ref() == Some(&cipher)
            && digest.keyslots.contains(id);
        if !fits {
            return Err(not_so("is not LUKS1 compatible"));
        }
        if let Some(slot) = next.slots.get_mut(id.0 as usize) {
            slot.is_active = true;
            slot.iterations = kdf.iterations.unwrap_or_default();
            slot.salt = salt(&kdf.salt.0).map_err(|_| not_so("has a salt of another length"))?;
            moves.push((keyslot.area.offset.0, slot.material));
        }
    }
    next.validate().map_err(|why| cannot(&why.to_string()))?;
    Ok((next, moves))
}
