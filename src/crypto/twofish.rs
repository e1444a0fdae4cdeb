//! Twofish (Schneier and others 1998) with a table for each byte of a word, made of the key: the crate that would do
//! instead makes the tables' entries anew for every byte, and is a hundred times as slow.

use cipher::common::{BlockSizeUser, InvalidLength, Key, KeyInit, KeySizeUser, ParBlocksSizeUser};
use cipher::consts::{U1, U16, U32};
use cipher::inout::InOut;
use cipher::{
    Block, BlockCipherDecBackend, BlockCipherDecClosure, BlockCipherDecrypt, BlockCipherEncBackend,
    BlockCipherEncClosure, BlockCipherEncrypt,
};
use zeroize::Zeroize;

const ROUNDS: usize = 16;
const N_SUBKEYS: usize = 8 + 2 * ROUNDS;

/// The four permutations of nibbles that q0 and q1 are each made of.
const NIBBLES: [[[u8; 16]; 4]; 2] = [
    [
        [8, 1, 7, 13, 6, 15, 3, 2, 0, 11, 5, 9, 14, 12, 10, 4],
        [14, 12, 11, 8, 1, 2, 3, 5, 15, 4, 10, 6, 7, 0, 9, 13],
        [11, 10, 5, 14, 6, 13, 9, 0, 12, 8, 15, 3, 2, 4, 7, 1],
        [13, 7, 15, 4, 1, 2, 6, 14, 9, 11, 3, 0, 8, 5, 12, 10],
    ],
    [
        [2, 8, 11, 13, 15, 7, 6, 14, 3, 1, 9, 4, 0, 10, 12, 5],
        [1, 14, 2, 11, 4, 12, 3, 7, 6, 13, 10, 5, 15, 9, 0, 8],
        [4, 12, 7, 5, 1, 6, 9, 10, 0, 14, 13, 8, 2, 11, 3, 15],
        [11, 9, 5, 1, 12, 3, 13, 14, 6, 4, 7, 15, 2, 0, 8, 10],
    ],
];

const MDS: [[u8; 4]; 4] = [
    [0x01, 0xef, 0x5b, 0x5b],
    [0x5b, 0xef, 0xef, 0x01],
    [0xef, 0x5b, 0x01, 0xef],
    [0xef, 0x01, 0xef, 0x5b],
];
const MDS_POLYNOMIAL: u16 = 0x169;

const RS: [[u8; 8]; 4] = [
    [0x01, 0xa4, 0x55, 0x87, 0x5a, 0x58, 0xdb, 0x9e],
    [0xa4, 0x56, 0x82, 0xf3, 0x1e, 0xc6, 0x68, 0xe5],
    [0x02, 0xa1, 0xfc, 0xc1, 0x47, 0xae, 0x3d, 0x19],
    [0xa4, 0x55, 0x87, 0x5a, 0x58, 0xdb, 0x9e, 0x03],
];
const RS_POLYNOMIAL: u16 = 0x14d;

/// Which of q0 and q1 each byte of a word goes through: the stage of each key word from the first on, then the last.
const STAGES: [[usize; 4]; 5] = [
    [1, 0, 1, 0],
    [0, 0, 1, 1],
    [0, 1, 0, 1],
    [1, 1, 0, 0],
    [1, 0, 0, 1],
];

/// Twofish under a key of 16, 24 or 32 bytes.
pub(super) struct Twofish {
    subkeys: [u32; N_SUBKEYS],
    tables: [[u32; 256]; 4],
}

fn times(mut a: u8, mut b: u8, polynomial: u16) -> u8 {
    let mut product = 0;
    while b != 0 {
        if b & 1 == 1 {
            product ^= a;
        }
        let over = a >> 7;
        a <<= 1;
        if over == 1 {
            a ^= polynomial as u8;
        }
        b >>= 1;
    }
    product
}

/// q0 or q1.
fn q(which: usize, x: u8) -> u8 {
    let nibbles = &NIBBLES[which];
    let mix = |a: u8, b: u8| {
        let turned = (b >> 1) | (b << 3 & 0xf);
        (a ^ b, a ^ turned ^ (a << 3 & 0xf))
    };
    let (a, b) = mix(x >> 4, x & 0xf);
    let (a, b) = mix(nibbles[0][usize::from(a)], nibbles[1][usize::from(b)]);
    let (a, b) = (nibbles[2][usize::from(a)], nibbles[3][usize::from(b)]);
    b << 4 | a
}

/// What byte `j` of a word adds to h under the words of `list`.
fn h_byte(x: u8, j: usize, list: &[[u8; 4]]) -> u32 {
    let mut y = x;
    for (stage, word) in list.iter().enumerate().rev() {
        y = q(STAGES[stage + 1][j], y) ^ word[j];
    }
    y = q(STAGES[0][j], y);
    u32::from_le_bytes(std::array::from_fn(|i| times(MDS[i][j], y, MDS_POLYNOMIAL)))
}

fn h(x: u8, list: &[[u8; 4]]) -> u32 {
    (0..4).fold(0, |sum, j| sum ^ h_byte(x, j, list))
}

impl Twofish {
    fn expand(key: &[u8]) -> Twofish {
        let (words, _) = key.as_chunks::<4>();
        let n = words.len() / 2;
        let mut lists = [[[0; 4]; 4]; 3];
        for i in 0..n {
            lists[0][i] = words[2 * i];
            lists[1][i] = words[2 * i + 1];
            // The last eight bytes of the key make the first word.
            lists[2][n - 1 - i] = std::array::from_fn(|row| {
                let bytes = RS[row].iter().zip(&key[8 * i..8 * i + 8]);
                bytes.fold(0, |sum, (a, b)| sum ^ times(*a, *b, RS_POLYNOMIAL))
            });
        }
        let mut subkeys = [0; N_SUBKEYS];
        for (i, pair) in subkeys.as_chunks_mut::<2>().0.iter_mut().enumerate() {
            let a = h(2 * i as u8, &lists[0][..n]);
            let b = h(2 * i as u8 + 1, &lists[1][..n]).rotate_left(8);
            pair[0] = a.wrapping_add(b);
            pair[1] = a.wrapping_add(b).wrapping_add(b).rotate_left(9);
        }
        let tables =
            std::array::from_fn(|j| std::array::from_fn(|x| h_byte(x as u8, j, &lists[2][..n])));
        lists.as_flattened_mut().as_flattened_mut().zeroize();
        Twofish { subkeys, tables }
    }

    #[inline(always)]
    fn g(&self, x: u32) -> u32 {
        let [a, b, c, d] = x.to_le_bytes().map(usize::from);
        self.tables[0][a] ^ self.tables[1][b] ^ self.tables[2][c] ^ self.tables[3][d]
    }

    /// What a round adds to the other half.
    #[inline(always)]
    fn round(&self, a: u32, b: u32, round: usize) -> (u32, u32) {
        let (x, y) = (self.g(a), self.g(b.rotate_left(8)));
        let sum = x.wrapping_add(y);
        (
            sum.wrapping_add(self.subkeys[8 + 2 * round]),
            sum.wrapping_add(y)
                .wrapping_add(self.subkeys[9 + 2 * round]),
        )
    }

    /// The words of a block, under subkeys from `first` on.
    fn whitened(&self, words: [u32; 4], first: usize) -> [u32; 4] {
        std::array::from_fn(|i| words[i] ^ self.subkeys[first + i])
    }
}

fn words(block: &[u8; 16]) -> [u32; 4] {
    let (bytes, _) = block.as_chunks::<4>();
    std::array::from_fn(|i| u32::from_le_bytes(bytes[i]))
}

fn block(words: [u32; 4]) -> Block<Twofish> {
    let mut block = Block::<Twofish>::default();
    for (bytes, word) in block.as_chunks_mut::<4>().0.iter_mut().zip(words) {
        *bytes = word.to_le_bytes();
    }
    block
}

impl Drop for Twofish {
    fn drop(&mut self) {
        self.subkeys.zeroize();
        self.tables.as_flattened_mut().zeroize();
    }
}

impl KeySizeUser for Twofish {
    type KeySize = U32;
}

impl KeyInit for Twofish {
    fn new(key: &Key<Twofish>) -> Twofish {
        Twofish::expand(key)
    }

    fn new_from_slice(key: &[u8]) -> Result<Twofish, InvalidLength> {
        match key.len() {
            16 | 24 | 32 => Ok(Twofish::expand(key)),
            _ => Err(InvalidLength),
        }
    }
}

impl BlockSizeUser for Twofish {
    type BlockSize = U16;
}

impl ParBlocksSizeUser for Twofish {
    type ParBlocksSize = U1;
}

impl BlockCipherEncBackend for Twofish {
    #[inline(always)]
    fn encrypt_block(&self, mut data: InOut<'_, '_, Block<Twofish>>) {
        let [mut a, mut b, mut c, mut d] = self.whitened(words(&data.get_in().0), 0);
        for round in 0..ROUNDS {
            let (x, y) = self.round(a, b, round);
            (a, b, c, d) = ((c ^ x).rotate_right(1), d.rotate_left(1) ^ y, a, b);
        }
        *data.get_out() = block(self.whitened([c, d, a, b], 4));
    }
}

impl BlockCipherDecBackend for Twofish {
    #[inline(always)]
    fn decrypt_block(&self, mut data: InOut<'_, '_, Block<Twofish>>) {
        let [mut c, mut d, mut a, mut b] = self.whitened(words(&data.get_in().0), 4);
        for round in (0..ROUNDS).rev() {
            let (x, y) = self.round(c, d, round);
            (a, b, c, d) = (c, d, a.rotate_left(1) ^ x, (b ^ y).rotate_right(1));
        }
        *data.get_out() = block(self.whitened([a, b, c, d], 0));
    }
}

impl BlockCipherEncrypt for Twofish {
    fn encrypt_with_backend(&self, f: impl BlockCipherEncClosure<BlockSize = U16>) {
        f.call(self);
    }
}

impl BlockCipherDecrypt for Twofish {
    fn decrypt_with_backend(&self, f: impl BlockCipherDecClosure<BlockSize = U16>) {
        f.call(self);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use cipher::{BlockCipherDecrypt, BlockCipherEncrypt, KeyInit};
    use proptest::prelude::{any, prop, proptest};

    use super::Twofish;

    proptest! {
        #[test]
        fn it_is_the_same_cipher_as_the_slow_one(
            key in prop::collection::vec(any::<u8>(), 32),
            len in prop::sample::select(&[16, 24, 32][..]),
            plain in any::<[u8; 16]>(),
        ) {
            let ours = Twofish::new_from_slice(&key[..len]).unwrap();
            let slow = twofish::Twofish::new_from_slice(&key[..len]).unwrap();
            let (mut a, mut b) = (plain.into(), plain.into());
            ours.encrypt_block(&mut a);
            slow.encrypt_block(&mut b);
            assert_eq!(a, b);
            ours.decrypt_block(&mut a);
            assert_eq!(a.0, plain);
        }
    }
}
