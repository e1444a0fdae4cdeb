//! XTS (IEEE 1619) and LRW: every block is masked before and after the cipher. They differ in the masks.

use cipher::array::Array;
use cipher::common::BlockSizeUser;
use cipher::consts::U16;
use cipher::{
    BlockCipherDecBackend, BlockCipherDecClosure, BlockCipherEncBackend, BlockCipherEncClosure,
};

use zeroize::Zeroize;

use super::backend::{Backend, Decrypting, Encrypting, STRETCH, xor_to};
use super::{BothWays, Data, Direction, IvBlock, Mode};

/// XTS: the masks are the enciphered vector times the powers of x.
pub(in crate::crypto) struct Xts<C> {
    data: C,
    tweak: C,
}

impl<C> Xts<C> {
    /// `data` from the first half of the key, `tweak` from the second.
    pub(in crate::crypto) fn new(data: C, tweak: C) -> Xts<C> {
        Xts { data, tweak }
    }
}

impl<C: BothWays + BlockSizeUser<BlockSize = U16>> Mode for Xts<C> {
    fn block_size(&self) -> usize {
        16
    }

    fn iv_size(&self) -> usize {
        16
    }

    fn transform(
        &self,
        direction: Direction,
        ivs: &mut [IvBlock],
        data: Data<'_, '_>,
        unit: usize,
    ) {
        self.tweak.encrypt_blocks(ivs);
        let masks = Powers::new(ivs, unit / 16);
        let job = Masked { data, masks };
        match direction {
            Direction::Encrypt => self.data.encrypt_with_backend(job),
            Direction::Decrypt => self.data.decrypt_with_backend(job),
        }
    }
}

/// LRW: the masks are the second key times the block's number, which the vector is for the first block of a unit.
pub(in crate::crypto) struct Lrw<C> {
    data: C,
    steps: Steps,
}

impl<C> Lrw<C> {
    pub(in crate::crypto) fn new(data: C, tweak_key: &[u8; 16]) -> Lrw<C> {
        let steps = Steps::new(tweak_key);
        Lrw { data, steps }
    }
}

impl<C: BothWays + BlockSizeUser<BlockSize = U16>> Mode for Lrw<C> {
    fn block_size(&self) -> usize {
        16
    }

    fn iv_size(&self) -> usize {
        16
    }

    fn transform(
        &self,
        direction: Direction,
        ivs: &mut [IvBlock],
        data: Data<'_, '_>,
        unit: usize,
    ) {
        let masks = Multiples {
            steps: &self.steps,
            ivs,
            unit: unit / 16,
            left: 0,
            number: 0,
            mask: 0,
        };
        let job = Masked { data, masks };
        match direction {
            Direction::Encrypt => self.data.encrypt_with_backend(job),
            Direction::Decrypt => self.data.decrypt_with_backend(job),
        }
    }
}

/// Gives the masks of one block after the other.
trait Masks {
    fn fill(&mut self, masks: &mut [IvBlock]);
}

struct Masked<'i, 'o, M> {
    data: Data<'i, 'o>,
    masks: M,
}

impl<M> BlockSizeUser for Masked<'_, '_, M> {
    type BlockSize = U16;
}

impl<M: Masks> Masked<'_, '_, M> {
    #[inline(always)]
    fn run<B: Backend<Size = U16>>(mut self, backend: &B) {
        let mut masks = [IvBlock::default(); STRETCH];
        let mut work = [IvBlock::default(); STRETCH];
        let mut rest = self.data;
        while !rest.is_empty() {
            let len = rest.len().min(16 * B::stretch());
            let (mut now, after) = rest.split_at(len);
            rest = after;
            let n = now.len() / 16;
            self.masks.fill(&mut masks[..n]);
            let flat = Array::slice_as_flattened(&masks[..n]);
            let into = Array::slice_as_flattened_mut(&mut work[..n]);
            xor_to(into, now.get_in(), flat);
            backend.run(&mut work, n);
            xor_to(
                now.get_out(),
                Array::slice_as_flattened(&work[..n]),
                Array::slice_as_flattened(&masks[..n]),
            );
        }
    }
}

impl<M: Masks> BlockCipherEncClosure for Masked<'_, '_, M> {
    #[inline(always)]
    fn call<B: BlockCipherEncBackend<BlockSize = U16>>(self, backend: &B) {
        self.run(&Encrypting(backend));
    }
}

impl<M: Masks> BlockCipherDecClosure for Masked<'_, '_, M> {
    #[inline(always)]
    fn call<B: BlockCipherDecBackend<BlockSize = U16>>(self, backend: &B) {
        self.run(&Decrypting(backend));
    }
}

/// Masks at once.
const GROUP: usize = 8;

/// Successive multiples by x of each unit's enciphered vector, eight at a time.
struct Powers<'v> {
    ivs: &'v [IvBlock],
    /// Blocks of a unit, and those of the present one still to come.
    unit: usize,
    left: usize,
    low: [u64; GROUP],
    high: [u64; GROUP],
}

impl<'v> Powers<'v> {
    fn new(ivs: &'v [IvBlock], unit: usize) -> Powers<'v> {
        Powers {
            ivs,
            unit,
            left: 0,
            low: [0; GROUP],
            high: [0; GROUP],
        }
    }

    /// The first eight of the next unit.
    #[inline(always)]
    fn next_unit(&mut self) {
        let Some((iv, rest)) = self.ivs.split_first() else {
            return;
        };
        self.ivs = rest;
        self.left = self.unit;
        let mut mask = u128::from_le_bytes(iv.0);
        for (low, high) in self.low.iter_mut().zip(&mut self.high) {
            (*low, *high) = (mask as u64, (mask >> 64) as u64);
            mask = (mask << 1) ^ (0x87 * (mask >> 127));
        }
    }

    /// The next eight: times x^8.
    #[inline(always)]
    fn advance(&mut self) {
        for (low, high) in self.low.iter_mut().zip(&mut self.high) {
            let over = *high >> 56;
            *high = *high << 8 | *low >> 56;
            *low = *low << 8 ^ over ^ over << 1 ^ over << 2 ^ over << 7;
        }
    }
}

impl Masks for Powers<'_> {
    #[inline(always)]
    fn fill(&mut self, masks: &mut [IvBlock]) {
        let mut rest = masks;
        while !rest.is_empty() {
            if self.left == 0 {
                self.next_unit();
            } else {
                self.advance();
            }
            let n = rest.len().min(GROUP).min(self.left);
            if n == 0 {
                return;
            }
            let (group, after) = rest.split_at_mut(n);
            for (i, mask) in group.iter_mut().enumerate() {
                mask[..8].copy_from_slice(&self.low[i].to_le_bytes());
                mask[8..].copy_from_slice(&self.high[i].to_le_bytes());
            }
            self.left -= n;
            rest = after;
        }
    }
}

/// The tweak key times 2^(i + 1) - 1: what the mask changes by when the lowest i bits of a number are all set and it
/// is counted up. Big-endian: the last bit of the last byte is the one.
struct Steps([u128; 128]);

impl Steps {
    fn new(tweak_key: &[u8; 16]) -> Steps {
        let mut times = u128::from_be_bytes(*tweak_key);
        let mut sum = 0;
        let mut steps = [0; 128];
        for step in steps.iter_mut() {
            sum ^= times;
            *step = sum;
            times = (times << 1) ^ (0x87 * (times >> 127));
        }
        Steps(steps)
    }

    /// The tweak key times `number`.
    fn times(&self, number: u128) -> u128 {
        let mut product = 0;
        let mut before = 0;
        for (bit, &sum) in self.0.iter().enumerate() {
            if number >> bit & 1 == 1 {
                product ^= sum ^ before;
            }
            before = sum;
        }
        product
    }
}

impl Drop for Steps {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

struct Multiples<'v> {
    steps: &'v Steps,
    ivs: &'v [IvBlock],
    unit: usize,
    left: usize,
    number: u128,
    mask: u128,
}

impl Masks for Multiples<'_> {
    #[inline(always)]
    fn fill(&mut self, masks: &mut [IvBlock]) {
        for mask in masks {
            if self.left > 0 {
                self.mask ^= self.steps.0[(self.number.trailing_ones() as usize).min(127)];
                self.number = self.number.wrapping_add(1);
            } else if let Some((iv, rest)) = self.ivs.split_first() {
                self.ivs = rest;
                self.left = self.unit;
                self.number = u128::from_be_bytes(iv.0);
                self.mask = self.steps.times(self.number);
            }
            self.left = self.left.saturating_sub(1);
            mask.0 = self.mask.to_be_bytes();
        }
    }
}
