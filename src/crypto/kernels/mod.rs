//! AES in its modes with the processor's own instructions, where it has enough of them.
//!
//! One text of each mode (`wide`) is compiled for vectors of one, two and four blocks (`vector`); which of them
//! runs is found out once. The processor has to have AES, PCLMULQDQ and AVX for one block, VAES and VPCLMULQDQ for two,
//! and AVX-512 with both for four. Everything else takes the modes of [`super::modes`], which the tests hold
//! these to.

#[cfg(target_arch = "x86_64")]
mod x86;

use super::algorithm::Chaining;
use super::modes::Mode;
use super::secret::Hidden;

/// Which of several ways to compute the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Arithmetic {
    /// The fastest that the processor has.
    #[default]
    Best,
    /// What every processor has.
    Portable,
    /// AES in vectors of one block.
    Vectors1,
    /// AES in vectors of two blocks.
    Vectors2,
    /// AES in vectors of four blocks.
    Vectors4,
}

/// AES in `chaining` under `key`; `None` where that has to be done in another way.
#[cfg(target_arch = "x86_64")]
pub(super) fn aes(
    arithmetic: Arithmetic,
    chaining: Chaining,
    key: &[u8],
) -> Option<Hidden<dyn Mode>> {
    let level = x86::Level::of(arithmetic)?;
    x86::Aes::new(level, chaining, key).map(super::secret::hide)
}

/// AES in `chaining` under `key`; `None` where that has to be done in another way.
#[cfg(not(target_arch = "x86_64"))]
pub(super) fn aes(_: Arithmetic, _: Chaining, _: &[u8]) -> Option<Hidden<dyn Mode>> {
    None
}
