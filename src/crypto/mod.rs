//! Ciphers over sectors, and hashes: arithmetic alone, without a device and without a lock.
//!
//! [`SectorCipher`] is what a device uses: a cipher string of dm-crypt (`aes-xts-plain64`, `aes-cbc-essiv:sha256`,
//! `capi:adiantum(xchacha12,aes)-plain64`), a key and the size of a sector. A string alone, before there is a key, is
//! a [`CipherSpec`]. [`struct@Hash`] is a hash by name.
//!
//! ```text
//! spec        cipher strings
//! algorithm   the kernel's names; ciphers with keys
//! sector      SectorCipher: keys and vectors of sectors
//! twofish     the one cipher that no crate does fast enough
//! iv          how the number of a sector becomes its vector
//! secret      memory for keys
//! kernels     AES with the widest instructions that the processor has
//! modes       XTS, LRW, CBC, CTR, ECB, ESSIV, Adiantum over any block cipher
//! ```

mod algorithm;
mod error;
mod hash;
mod iv;
mod kernels;
mod key_derivation;
mod modes;
mod secret;
mod sector;
mod spec;
mod twofish;

pub use error::CipherError;
pub use hash::Hash;
pub use kernels::Arithmetic;
pub use key_derivation::{KeyDerivation, Underivable, Variant, has_pbkdf2};
pub use secret::Hidden;
pub use sector::{SectorCipher, SectorSize};
pub use spec::CipherSpec;

#[cfg(test)]
mod tests;
