//! CTR (SP 800-38A): the vector is the first counter of its unit, big-endian over the whole block.

use cipher::array::{Array, ArraySize};
use cipher::common::BlockSizeUser;
use cipher::typenum::Unsigned;
use cipher::{BlockCipherEncBackend, BlockCipherEncClosure};

use super::backend::{Backend, Encrypting, STRETCH};
use super::{BothWays, Data, Direction, IvBlock, Mode};

pub(in crate::crypto) struct Ctr<C>(C);

impl<C> Ctr<C> {
    pub(in crate::crypto) fn new(cipher: C) -> Ctr<C> {
        Ctr(cipher)
    }
}

impl<C: BothWays> Mode for Ctr<C> {
    fn block_size(&self) -> usize {
        1
    }

    fn iv_size(&self) -> usize {
        C::BlockSize::USIZE
    }

    fn transform(&self, _: Direction, ivs: &mut [IvBlock], data: Data<'_, '_>, unit: usize) {
        self.0.encrypt_with_backend(Counters {
            ivs,
            data,
            unit,
            size: std::marker::PhantomData::<C::BlockSize>,
        });
    }
}

struct Counters<'v, 'i, 'o, N> {
    ivs: &'v [IvBlock],
    data: Data<'i, 'o>,
    unit: usize,
    size: std::marker::PhantomData<N>,
}

impl<N: ArraySize> BlockSizeUser for Counters<'_, '_, '_, N> {
    type BlockSize = N;
}

impl<N: ArraySize> BlockCipherEncClosure for Counters<'_, '_, '_, N> {
    #[inline(always)]
    fn call<B: BlockCipherEncBackend<BlockSize = N>>(self, backend: &B) {
        let backend = Encrypting(backend);
        let mut work: [Array<u8, N>; STRETCH] = std::array::from_fn(|_| Array::default());
        let (mut ivs, mut left, mut counter) = (self.ivs.iter(), 0, 0_u128);
        let blocks_of_unit = self.unit.div_ceil(N::USIZE);
        let mut rest = self.data;
        while !rest.is_empty() {
            let len = rest.len().min(N::USIZE * Encrypting::<B>::stretch());
            let (mut now, after) = rest.split_at(len);
            rest = after;
            let n = len.div_ceil(N::USIZE);
            for block in &mut work[..n] {
                if left == 0 {
                    left = blocks_of_unit;
                    if let Some(iv) = ivs.next() {
                        let mut bytes = [0; 16];
                        bytes[16 - N::USIZE..].copy_from_slice(&iv[..N::USIZE]);
                        counter = u128::from_be_bytes(bytes);
                    }
                }
                left -= 1;
                block.copy_from_slice(&counter.to_be_bytes()[16 - N::USIZE..]);
                counter = counter.wrapping_add(1);
            }
            backend.run(&mut work, n);
            now.xor_in2out(&Array::slice_as_flattened(&work[..n])[..len]);
        }
    }
}
