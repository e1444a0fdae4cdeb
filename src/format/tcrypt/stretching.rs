//! How passphrases become header keys.

use super::Family;

/// A way from a passphrase to the key of a header: PBKDF2 with a hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stretching {
    /// Who uses it.
    pub family: Family,
    /// Hash.
    pub hash: &'static str,
    /// Iterations where no PIM is given.
    pub default_iterations: u32,
    /// Iterations with PIM 0, and how many more each step of the PIM brings; none for TrueCrypt, which has no PIM.
    pim: Option<(u32, u32)>,
}

const fn true_crypt(hash: &'static str, default_iterations: u32) -> Stretching {
    Stretching {
        family: Family::TrueCrypt,
        hash,
        default_iterations,
        pim: None,
    }
}

const fn vera_crypt(hash: &'static str, default_iterations: u32) -> Stretching {
    Stretching {
        family: Family::VeraCrypt,
        hash,
        default_iterations,
        pim: Some((15_000, 1_000)),
    }
}

/// That of an encrypted system.
const fn vera_crypt_boot(hash: &'static str, default_iterations: u32) -> Stretching {
    Stretching {
        pim: Some((0, 2_048)),
        ..vera_crypt(hash, default_iterations)
    }
}

/// All of them, in the order in which they are tried: the cheap ones first.
pub const STRETCHINGS: &[Stretching] = &[
    true_crypt("ripemd160", 2_000),
    true_crypt("ripemd160", 1_000),
    true_crypt("sha512", 1_000),
    true_crypt("whirlpool", 1_000),
    true_crypt("sha1", 2_000),
    vera_crypt("sha512", 500_000),
    vera_crypt("whirlpool", 500_000),
    vera_crypt("sha256", 500_000),
    vera_crypt_boot("sha256", 200_000),
    vera_crypt("blake2s-256", 500_000),
    vera_crypt_boot("blake2s-256", 200_000),
    vera_crypt("ripemd160", 655_331),
    vera_crypt_boot("ripemd160", 327_661),
    vera_crypt("stribog512", 500_000),
];

impl Stretching {
    /// Iterations with a PIM, or without one; none where the PIM is not for this one, or too large for 32 bits.
    pub fn iterations(&self, pim: Option<u32>) -> Option<u32> {
        let Some(pim) = pim else {
            return Some(self.default_iterations);
        };
        let (base, step) = self.pim?;
        base.checked_add(step.checked_mul(pim)?)
    }
}
