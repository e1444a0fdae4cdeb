//! CBC (SP 800-38A). Deciphering is parallel by itself; enciphering goes over the units side by side.

use cipher::array::{Array, ArraySize};
use cipher::common::BlockSizeUser;
use cipher::typenum::Unsigned;
use cipher::{
    BlockCipherDecBackend, BlockCipherDecClosure, BlockCipherEncBackend, BlockCipherEncClosure,
};

use super::backend::{Backend, Decrypting, Encrypting, STRETCH, xor_into, xor_to};
use super::{BothWays, Data, Direction, IvBlock, MOST_UNITS, Mode};

pub(in crate::crypto) struct Cbc<C>(C);

impl<C> Cbc<C> {
    pub(in crate::crypto) fn new(cipher: C) -> Cbc<C> {
        Cbc(cipher)
    }
}

impl<C: BothWays> Mode for Cbc<C> {
    fn block_size(&self) -> usize {
        C::BlockSize::USIZE
    }

    fn iv_size(&self) -> usize {
        C::BlockSize::USIZE
    }

    fn transform(
        &self,
        direction: Direction,
        ivs: &mut [IvBlock],
        data: Data<'_, '_>,
        unit: usize,
    ) {
        let job = Chains {
            ivs,
            data,
            unit,
            size: std::marker::PhantomData::<C::BlockSize>,
        };
        match direction {
            Direction::Encrypt => self.0.encrypt_with_backend(job),
            Direction::Decrypt => self.0.decrypt_with_backend(job),
        }
    }
}

struct Chains<'v, 'i, 'o, N> {
    ivs: &'v [IvBlock],
    data: Data<'i, 'o>,
    unit: usize,
    size: std::marker::PhantomData<N>,
}

impl<N: ArraySize> BlockSizeUser for Chains<'_, '_, '_, N> {
    type BlockSize = N;
}

impl<N: ArraySize> BlockCipherEncClosure for Chains<'_, '_, '_, N> {
    #[inline(always)]
    fn call<B: BlockCipherEncBackend<BlockSize = N>>(mut self, backend: &B) {
        const { assert!(MOST_UNITS <= STRETCH) }
        let backend = Encrypting(backend);
        let n = self.ivs.len();
        let mut chains: [Array<u8, N>; STRETCH] = std::array::from_fn(|_| Array::default());
        for (chain, iv) in chains.iter_mut().zip(self.ivs) {
            chain.copy_from_slice(&iv[..N::USIZE]);
        }
        for at in (0..self.unit).step_by(N::USIZE) {
            let from = self.data.get_in().chunks_exact(self.unit);
            for (chain, unit) in chains.iter_mut().zip(from) {
                xor_into(chain, &unit[at..at + N::USIZE]);
            }
            backend.run(&mut chains, n);
            let to = self.data.get_out().chunks_exact_mut(self.unit);
            for (chain, unit) in chains.iter().zip(to) {
                unit[at..at + N::USIZE].copy_from_slice(chain);
            }
        }
    }
}

impl<N: ArraySize> BlockCipherDecClosure for Chains<'_, '_, '_, N> {
    #[inline(always)]
    fn call<B: BlockCipherDecBackend<BlockSize = N>>(self, backend: &B) {
        let backend = Decrypting(backend);
        let mut before: [Array<u8, N>; STRETCH] = std::array::from_fn(|_| Array::default());
        let mut work = before.clone();
        let mut last = Array::<u8, N>::default();
        let (mut ivs, mut left, blocks_of_unit) = (self.ivs.iter(), 0, self.unit / N::USIZE);
        let mut rest = self.data;
        while !rest.is_empty() {
            let len = rest.len().min(N::USIZE * Decrypting::<B>::stretch());
            let (mut now, after) = rest.split_at(len);
            rest = after;
            let n = len / N::USIZE;
            let from = now.get_in().chunks_exact(N::USIZE);
            for ((work, before), block) in work.iter_mut().zip(&mut before).zip(from) {
                if left == 0 {
                    left = blocks_of_unit;
                    if let Some(iv) = ivs.next() {
                        last.copy_from_slice(&iv[..N::USIZE]);
                    }
                }
                left -= 1;
                before.copy_from_slice(&last);
                work.copy_from_slice(block);
                last.copy_from_slice(block);
            }
            backend.run(&mut work, n);
            xor_to(
                now.get_out(),
                Array::slice_as_flattened(&work[..n]),
                Array::slice_as_flattened(&before[..n]),
            );
        }
    }
}
