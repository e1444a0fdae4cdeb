//! Key material: a key, stretched so that losing any part of it loses the key (TKS1), under another key.

use super::secret::Secret;
use super::{Kind, Refused};
use crate::crypto::{Hash, SectorCipher, SectorSize};
use crate::unit::SECTOR_SIZE;

/// Stretches `key` into `stripes` stripes, whole sectors, encrypted by `cipher` with `area_key`.
///
/// # Errors
/// An unknown hash or cipher; a key of the wrong length for it; no randomness.
pub(super) fn seal(
    cipher: &str,
    area_key: &[u8],
    key: &[u8],
    stripes: u32,
    hash: &str,
) -> Result<Secret, Refused> {
    let mut material = split(key, stripes, hash_named(hash)?)?;
    cipher_named(cipher, area_key)?.encrypt(0, &mut material);
    Ok(material)
}

/// The key of `len` bytes in `material`. Whether it is the right one tells a digest.
///
/// # Errors
/// An unknown hash or cipher; a key of the wrong length for it.
pub(super) fn unseal(
    cipher: &str,
    area_key: &[u8],
    mut material: Secret,
    len: usize,
    stripes: u32,
    hash: &str,
) -> Result<Secret, Refused> {
    cipher_named(cipher, area_key)?.decrypt(0, &mut material);
    merge(&material, len, stripes, hash_named(hash)?)
}

/// Bytes of the material of a key, whole sectors.
pub(super) fn material_bytes(key_bytes: u32, stripes: u32) -> u64 {
    (u64::from(key_bytes) * u64::from(stripes)).next_multiple_of(SECTOR_SIZE)
}

/// The cipher, if there is one and it takes keys like this.
///
/// # Errors
/// What of it there is not.
pub(super) fn cipher_named(cipher: &str, key: &[u8]) -> Result<SectorCipher, Refused> {
    SectorCipher::new(cipher, key, SectorSize::SMALL).map_err(|error| {
        Refused::invalid(format!(
            "Cipher {cipher} with a key of {} bits is not available ({error}).",
            8 * key.len()
        ))
    })
}

/// The hash.
///
/// # Errors
/// Its name, where there is none.
pub(super) fn hash_named(name: &str) -> Result<Hash, Refused> {
    Hash::named(name)
        .ok_or_else(|| Refused::invalid(format!("Requested hash {name} is not supported.")))
}

fn split(key: &[u8], stripes: u32, hash: Hash) -> Result<Secret, Refused> {
    let stripes = stripes.max(1) as usize;
    let len = (key.len() * stripes).next_multiple_of(SECTOR_SIZE as usize);
    let mut material =
        Secret::random(len).map_err(|_| Refused::new(Kind::Invalid, "No randomness."))?;
    let mut sum = Secret::zeroed(key.len());
    let (random, last) = material.split_at_mut(key.len() * (stripes - 1));
    for stripe in random.chunks_exact(key.len()) {
        mix(&mut sum, stripe);
        diffuse(&mut sum, hash);
    }
    let (last, filling) = last.split_at_mut(key.len());
    last.copy_from_slice(key);
    mix(last, &sum);
    filling.fill(0);
    Ok(material)
}

fn merge(material: &[u8], len: usize, stripes: u32, hash: Hash) -> Result<Secret, Refused> {
    let stripes = stripes.max(1) as usize;
    let short = || Refused::invalid("The key material is too short.");
    let all = material
        .get(..len.saturating_mul(stripes))
        .ok_or_else(short)?;
    let mut sum = Secret::zeroed(len);
    let (random, last) = all.split_at(len * (stripes - 1));
    for stripe in random.chunks_exact(len) {
        mix(&mut sum, stripe);
        diffuse(&mut sum, hash);
    }
    mix(&mut sum, last);
    Ok(sum)
}

fn mix(sum: &mut [u8], stripe: &[u8]) {
    for (byte, other) in sum.iter_mut().zip(stripe) {
        *byte ^= other;
    }
}

/// Puts the hash of its number and itself in each piece's place.
fn diffuse(sum: &mut Secret, hash: Hash) {
    let mut input = Secret::zeroed(4 + hash.digest_len());
    for (number, piece) in (0_u32..).zip(sum.chunks_mut(hash.digest_len())) {
        let end = 4 + piece.len();
        input[..4].copy_from_slice(&number.to_be_bytes());
        input[4..end].copy_from_slice(piece);
        let digest = hash.digest(&input[..end]);
        piece.copy_from_slice(&digest[..piece.len()]);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::{hash_named, merge, seal, split, unseal};
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn a_key_comes_back(
            key in proptest::collection::vec(any::<u8>(), 1..129),
            stripes in 1_u32..40,
            hash in prop_oneof![Just("sha1"), Just("sha256"), Just("sha512"), Just("ripemd160")],
        ) {
            let hash = hash_named(hash).unwrap();
            let material = split(&key, stripes, hash).unwrap();
            prop_assert!(material.len().is_multiple_of(512));
            prop_assert!(merge(&material, key.len(), stripes, hash).unwrap().is(&key));
            let mut damaged = material.clone();
            damaged[key.len() * stripes as usize / 2] ^= 1;
            prop_assert!(!merge(&damaged, key.len(), stripes, hash).unwrap().is(&key));
        }
    }

    #[test]
    fn sealed_material_needs_its_key() {
        let (key, area_key) = ([3; 32], [4; 64]);
        let sealed = seal("aes-xts-plain64", &area_key, &key, 4000, "sha256").unwrap();
        let open = |area_key: &[u8]| {
            unseal(
                "aes-xts-plain64",
                area_key,
                sealed.clone(),
                32,
                4000,
                "sha256",
            )
            .unwrap()
        };
        assert!(open(&area_key).is(&key));
        assert!(!open(&[5; 64]).is(&key));
    }

    #[test]
    fn what_there_is_not_is_named() {
        let said = |cipher: &str, hash: &str| {
            seal(cipher, &[1; 32], &[2; 32], 4, hash)
                .unwrap_err()
                .message
        };
        assert!(said("aes-xts-plain64", "md4").contains("md4"));
        assert!(said("rot13-xts-plain64", "sha1").contains("rot13-xts-plain64"));
        assert!(merge(&[0; 512], 32, 4000, hash_named("sha1").unwrap()).is_err());
    }
}
