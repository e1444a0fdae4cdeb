//! Runs a block cipher over a stretch of blocks, as many at once as it likes.

use cipher::array::{Array, ArraySize};
use cipher::typenum::Unsigned;
use cipher::{BlockCipherDecBackend, BlockCipherEncBackend};

/// Most blocks of a stretch. Its buffers stay in the first-level cache.
pub(super) const STRETCH: usize = 128;

/// A block cipher in one direction, inside the closure in which it is fast.
pub(super) trait Backend {
    /// Length of a block.
    type Size: ArraySize;
    /// Blocks that the cipher takes at once.
    const WIDTH: usize;

    /// Transforms at least the first `n` blocks of `work`; what lies behind them is lost.
    fn run(&self, work: &mut [Array<u8, Self::Size>; STRETCH], n: usize);

    /// The longest stretch of whole widths and of whole groups of eight blocks.
    #[inline(always)]
    fn stretch() -> usize {
        (STRETCH / Self::WIDTH * Self::WIDTH / 8 * 8).max(8)
    }
}

/// Blocks to be run where `n` are wanted: one block alone costs as much as several at once.
#[inline(always)]
fn rounded(n: usize, width: usize) -> usize {
    let over = n % width;
    if over * 8 > width && n - over + width <= STRETCH {
        n - over + width
    } else {
        n
    }
}

pub(super) struct Encrypting<'b, B>(pub(super) &'b B);

impl<B: BlockCipherEncBackend> Backend for Encrypting<'_, B> {
    type Size = B::BlockSize;
    const WIDTH: usize = B::ParBlocksSize::USIZE;

    #[inline(always)]
    fn run(&self, work: &mut [Array<u8, B::BlockSize>; STRETCH], n: usize) {
        let work = &mut work[..rounded(n, Self::WIDTH)];
        let (wide, tail) = Array::<_, B::ParBlocksSize>::slice_as_chunks_mut(work);
        for blocks in wide {
            self.0.encrypt_par_blocks_inplace(blocks);
        }
        self.0.encrypt_tail_blocks_inplace(tail);
    }
}

pub(super) struct Decrypting<'b, B>(pub(super) &'b B);

impl<B: BlockCipherDecBackend> Backend for Decrypting<'_, B> {
    type Size = B::BlockSize;
    const WIDTH: usize = B::ParBlocksSize::USIZE;

    #[inline(always)]
    fn run(&self, work: &mut [Array<u8, B::BlockSize>; STRETCH], n: usize) {
        let work = &mut work[..rounded(n, Self::WIDTH)];
        let (wide, tail) = Array::<_, B::ParBlocksSize>::slice_as_chunks_mut(work);
        for blocks in wide {
            self.0.decrypt_par_blocks_inplace(blocks);
        }
        self.0.decrypt_tail_blocks_inplace(tail);
    }
}

/// `out = a ^ b`, all of one length.
#[inline(always)]
pub(super) fn xor_to(out: &mut [u8], a: &[u8], b: &[u8]) {
    for ((out, a), b) in out.iter_mut().zip(a).zip(b) {
        *out = a ^ b;
    }
}

/// `out ^= a`, both of one length.
#[inline(always)]
pub(super) fn xor_into(out: &mut [u8], a: &[u8]) {
    for (out, a) in out.iter_mut().zip(a) {
        *out ^= a;
    }
}
