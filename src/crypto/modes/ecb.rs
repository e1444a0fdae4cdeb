//! ECB, and no cipher at all: modes without vectors.

use cipher::common::BlockSizeUser;
use cipher::typenum::Unsigned;

use super::{BothWays, Data, Direction, IvBlock, Mode};

pub(in crate::crypto) struct Ecb<C>(C);

impl<C> Ecb<C> {
    pub(in crate::crypto) fn new(cipher: C) -> Ecb<C> {
        Ecb(cipher)
    }
}

impl<C: BothWays> Mode for Ecb<C> {
    fn block_size(&self) -> usize {
        <C as BlockSizeUser>::BlockSize::USIZE
    }

    fn iv_size(&self) -> usize {
        0
    }

    fn transform(&self, direction: Direction, _: &mut [IvBlock], data: Data<'_, '_>, _: usize) {
        let (blocks, _) = data.into_chunks();
        match direction {
            Direction::Encrypt => self.0.encrypt_blocks_inout(blocks),
            Direction::Decrypt => self.0.decrypt_blocks_inout(blocks),
        }
    }
}

/// `ecb(cipher_null)`: what goes in comes out.
pub(in crate::crypto) struct NoCipher;

impl Mode for NoCipher {
    fn block_size(&self) -> usize {
        1
    }

    fn iv_size(&self) -> usize {
        0
    }

    fn speed(&self) -> usize {
        20_000
    }

    fn transform(&self, _: Direction, _: &mut [IvBlock], data: Data<'_, '_>, _: usize) {
        let _copied = data.into_out_with_copied_in();
    }
}
