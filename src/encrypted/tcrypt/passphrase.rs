//! Passphrases with key files.

use crate::encrypted::{Kind, Refused, Secret};

/// So much of a key file counts.
pub const MAX_KEYFILE_BYTES: usize = 1 << 20;

/// Bytes of the pool into which key files are mixed, which are also the longest passphrase.
const POOL_BYTES: usize = 64;
/// Those of VeraCrypt where the passphrase is longer than the other.
const LONG_POOL_BYTES: usize = 128;

/// The passphrase to be stretched: `passphrase`, with the contents of `keyfiles` mixed in.
///
/// # Errors
/// A passphrase that is too long.
pub fn mix(
    passphrase: &[u8],
    keyfiles: &[Secret],
    only_true_crypt: bool,
) -> Result<Secret, Refused> {
    let is_long = !only_true_crypt && passphrase.len() > POOL_BYTES;
    let pool_bytes = if is_long { LONG_POOL_BYTES } else { POOL_BYTES };
    if passphrase.len() > pool_bytes {
        return Err(Refused::new(
            Kind::Passphrase,
            format!("Maximum TCRYPT passphrase length ({pool_bytes}) exceeded."),
        ));
    }
    if keyfiles.is_empty() {
        return Ok(Secret::from(passphrase.to_vec()));
    }
    let mut pool = Secret::zeroed(pool_bytes);
    for file in keyfiles {
        let mut at = 0;
        let mut hasher = crc32fast::Hasher::new();
        for byte in file.iter().take(MAX_KEYFILE_BYTES) {
            hasher.update(&[*byte]);
            // The register itself, which a finished CRC is the inverse of.
            let register = !hasher.clone().finalize();
            for part in register.to_be_bytes() {
                if let Some(place) = pool.get_mut(at) {
                    *place = place.wrapping_add(part);
                }
                at = (at + 1) % pool_bytes;
            }
        }
    }
    for (place, byte) in pool.iter_mut().zip(passphrase) {
        *place = place.wrapping_add(*byte);
    }
    Ok(pool)
}
