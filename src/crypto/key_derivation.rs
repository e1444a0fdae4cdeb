//! From a passphrase to a key: PBKDF2 (RFC 8018) and Argon2 (RFC 9106).

use std::fmt;

use argon2::{Algorithm, Argon2, Block, Params, Version};
use blake2::{Blake2b512, Blake2s256};
use hmac::SimpleHmac;
use hmac::digest::Digest;
use hmac::digest::block_api::BlockSizeUser;
use pbkdf2::{pbkdf2, pbkdf2_hmac};

/// A key derivation with its cost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyDerivation {
    /// PBKDF2 with HMAC.
    Pbkdf2 {
        /// Hash, as `sha256`.
        hash: String,
        /// Iterations.
        iterations: u32,
    },
    /// Argon2.
    Argon2 {
        /// Which of its variants.
        variant: Variant,
        /// Passes over the memory.
        time: u32,
        /// Memory, KiB.
        memory: u32,
        /// Lanes, which may be computed at the same time.
        lanes: u32,
    },
}

/// A variant of Argon2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variant {
    /// Its accesses do not depend on the passphrase.
    Argon2i,
    /// They do after the first half pass.
    Argon2id,
}

/// Why a key cannot be derived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Underivable {
    /// Nobody here knows the hash.
    Hash(String),
    /// The parameters are none of Argon2's.
    Parameters(String),
    /// There is not so much memory, KiB.
    Memory(u32),
}

impl fmt::Display for Underivable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Underivable::Hash(hash) => write!(f, "hash {hash} is not supported"),
            Underivable::Parameters(why) => write!(f, "argon2: {why}"),
            Underivable::Memory(kib) => write!(f, "no {kib} KiB of memory for argon2"),
        }
    }
}

impl std::error::Error for Underivable {}

impl Variant {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Variant::Argon2i => "argon2i",
            Variant::Argon2id => "argon2id",
        }
    }
}

impl KeyDerivation {
    /// Its name, as `pbkdf2`.
    pub fn name(&self) -> &'static str {
        match self {
            KeyDerivation::Pbkdf2 { .. } => "pbkdf2",
            KeyDerivation::Argon2 { variant, .. } => variant.name(),
        }
    }

    /// Fills `key`.
    ///
    /// # Errors
    /// An unknown hash, parameters that are none, too little memory.
    pub fn derive(
        &self,
        passphrase: &[u8],
        salt: &[u8],
        key: &mut [u8],
    ) -> Result<(), Underivable> {
        match self {
            KeyDerivation::Pbkdf2 { hash, iterations } => {
                derive_pbkdf2(hash, passphrase, salt, *iterations, key)
            }
            KeyDerivation::Argon2 {
                variant,
                time,
                memory,
                lanes,
            } => {
                let wrong = |error: argon2::Error| Underivable::Parameters(error.to_string());
                let params = Params::new(*memory, *time, *lanes, Some(key.len())).map_err(wrong)?;
                let algorithm = match variant {
                    Variant::Argon2i => Algorithm::Argon2i,
                    Variant::Argon2id => Algorithm::Argon2id,
                };
                let mut blocks = Vec::new();
                blocks
                    .try_reserve_exact(params.block_count())
                    .map_err(|_| Underivable::Memory(*memory))?;
                blocks.resize(params.block_count(), Block::new());
                Argon2::new(algorithm, Version::V0x13, params)
                    .hash_password_into_with_memory(passphrase, salt, key, blocks.as_mut_slice())
                    .map_err(wrong)
            }
        }
    }
}

/// PBKDF2 with HMAC of `hash`.
fn derive_pbkdf2(
    hash: &str,
    passphrase: &[u8],
    salt: &[u8],
    iterations: u32,
    key: &mut [u8],
) -> Result<(), Underivable> {
    let run = prf(hash).ok_or_else(|| Underivable::Hash(hash.to_owned()))?;
    run(passphrase, salt, iterations, key);
    Ok(())
}

/// Whether PBKDF2 can be had with `hash`.
pub fn has_pbkdf2(hash: &str) -> bool {
    prf(hash).is_some()
}

/// PBKDF2 with a hash whose blocks the quicker HMAC cannot keep between two messages.
fn simple<D>(passphrase: &[u8], salt: &[u8], iterations: u32, key: &mut [u8])
where
    D: Digest + BlockSizeUser + Clone + Sync,
{
    // The length of a key is any; HMAC takes keys of every length.
    let _ = pbkdf2::<SimpleHmac<D>>(passphrase, salt, iterations, key);
}

type Pbkdf2 = fn(&[u8], &[u8], u32, &mut [u8]);

fn prf(hash: &str) -> Option<Pbkdf2> {
    let run: Pbkdf2 = match hash {
        "sha1" => pbkdf2_hmac::<sha1::Sha1>,
        "sha224" => pbkdf2_hmac::<sha2::Sha224>,
        "sha256" => pbkdf2_hmac::<sha2::Sha256>,
        "sha384" => pbkdf2_hmac::<sha2::Sha384>,
        "sha512" => pbkdf2_hmac::<sha2::Sha512>,
        "sha3-224" => simple::<sha3::Sha3_224>,
        "sha3-256" => simple::<sha3::Sha3_256>,
        "sha3-384" => simple::<sha3::Sha3_384>,
        "sha3-512" => simple::<sha3::Sha3_512>,
        #[cfg(feature = "legacy")]
        "ripemd160" => pbkdf2_hmac::<ripemd::Ripemd160>,
        #[cfg(feature = "legacy")]
        "whirlpool" => pbkdf2_hmac::<whirlpool::Whirlpool>,
        "stribog256" => pbkdf2_hmac::<streebog::Streebog256>,
        "stribog512" => pbkdf2_hmac::<streebog::Streebog512>,
        "blake2b-512" => simple::<Blake2b512>,
        "blake2s-256" => simple::<Blake2s256>,
        _ => return None,
    };
    Some(run)
}
