//! Modes of operation: a keyed cipher over whole units (sectors), each with its initialization vector.

mod adiantum;
mod backend;
mod cbc;
mod ctr;
mod ecb;
mod essiv;
mod masked;

pub(super) use adiantum::{Adiantum, Rounds};
pub(super) use cbc::Cbc;
pub(super) use ctr::Ctr;
pub(super) use ecb::{Ecb, NoCipher};
pub(super) use essiv::Essiv;
pub(super) use masked::{Lrw, Xts};

use cipher::inout::InOutBuf;
use cipher::{BlockCipherDecrypt, BlockCipherEncrypt};

/// Bytes to transform: where they are, and where the result goes, which is the same place or another.
pub(super) type Data<'i, 'o> = InOutBuf<'i, 'o, u8>;

/// 16 bytes of an initialization vector; a mode may take more than one of them for a unit, or a part of one.
pub(super) type IvBlock = cipher::array::Array<u8, cipher::consts::U16>;

/// Most units of one call.
pub(super) const MOST_UNITS: usize = 64;

/// To or from ciphertext.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    Encrypt,
    Decrypt,
}

/// A cipher in a mode of operation, with its key.
pub(super) trait Mode: Send + Sync {
    /// What the kernel calls the mode's block: 1 for a stream.
    fn block_size(&self) -> usize;

    /// Bytes of a vector; 0 where the mode takes none.
    fn iv_size(&self) -> usize;

    /// Blocks that hold a vector.
    fn iv_blocks(&self) -> usize {
        self.iv_size().div_ceil(16).max(1)
    }

    /// Bytes in a microsecond, about, on one core.
    fn speed(&self) -> usize {
        100
    }

    /// Transforms units of `unit` bytes, sectors or single blocks; each takes the next [`Self::iv_blocks`] of `ivs`,
    /// whose contents are used up. At most [`MOST_UNITS`].
    fn transform(&self, direction: Direction, ivs: &mut [IvBlock], data: Data<'_, '_>, unit: usize);
}

/// A block cipher that goes both ways.
pub(super) trait BothWays: BlockCipherEncrypt + BlockCipherDecrypt + Send + Sync {}
impl<C: BlockCipherEncrypt + BlockCipherDecrypt + Send + Sync> BothWays for C {}
