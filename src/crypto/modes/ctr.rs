//! CTR (SP 800-38A): the vector is the first counter of its unit, big-endian over the whole block.

use cipher::array::{Array, ArraySize};
use cipher::common::BlockSizeUser;
use cipher::typenum::Unsigned;
use cipher::{BlockCipherEncBackend, BlockCipherEncClosure};

use super::backend::{Backend, Encrypting, STRETCH, xor_into};
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
            let mut empty = &mut work[..n];
            while !empty.is_empty() {
                if left == 0 {
                    left = blocks_of_unit;
                    if let Some(iv) = ivs.next() {
                        let mut bytes = [0; 16];
                        bytes[16 - N::USIZE..].copy_from_slice(&iv[..N::USIZE]);
                        counter = u128::from_be_bytes(bytes);
                    }
                }
                let (counters, later) = empty.split_at_mut(left.min(empty.len()));
                count(counter, counters);
                counter = counter.wrapping_add(counters.len() as u128);
                left -= counters.len();
                empty = later;
            }
            backend.run(&mut work, n);
            let work = &mut Array::slice_as_flattened_mut(&mut work[..n])[..len];
            xor_into(work, now.get_in());
            now.get_out().copy_from_slice(work);
        }
    }
}

/// Writes `first` and what follows it. The halves of the counter are told apart, so that several are made at once; the low
/// one overflows within few units if any.
#[inline(always)]
fn count<N: ArraySize>(first: u128, counters: &mut [Array<u8, N>]) {
    let low = first as u64;
    if low.checked_add(counters.len() as u64).is_some() {
        let high = ((first >> 64) as u64).to_be_bytes();
        for (i, counter) in counters.iter_mut().enumerate() {
            counter[..N::USIZE - 8].copy_from_slice(&high[..N::USIZE - 8]);
            counter[N::USIZE - 8..].copy_from_slice(&(low + i as u64).to_be_bytes());
        }
    } else {
        for (i, counter) in counters.iter_mut().enumerate() {
            let number = first.wrapping_add(i as u128).to_be_bytes();
            counter.copy_from_slice(&number[16 - N::USIZE..]);
        }
    }
}
