//! BitLocker's Elephant diffuser (Ferguson 2006): mixes a sector's plaintext with a key of its own.

use zeroize::Zeroizing;

use super::super::Hidden;
use super::super::modes::{Direction, IvBlock, Mode};

const KEY: usize = 32;
/// The most words of a sector.
const MOST_WORDS: usize = 1024;

/// The diffuser: the cipher that makes each sector's key.
pub(in crate::crypto) struct Diffuser {
    cipher: Hidden<dyn Mode>,
}

impl Diffuser {
    /// `cipher` is AES in ECB.
    pub(in crate::crypto) fn new(cipher: Hidden<dyn Mode>) -> Diffuser {
        Diffuser { cipher }
    }

    /// Mixes the plaintext of the sector at `place`, bytes; or undoes it.
    pub(in crate::crypto) fn apply(&self, direction: Direction, place: u64, data: &mut [u8]) {
        let key = self.sector_key(place);
        let mut words = [0_u32; MOST_WORDS];
        let words = &mut words[..data.len() / 4];
        match direction {
            Direction::Encrypt => {
                put_over(&key, data);
                load(words, data);
                encrypt::<A>(words);
                encrypt::<B>(words);
                store(words, data);
            }
            Direction::Decrypt => {
                load(words, data);
                decrypt::<B>(words);
                decrypt::<A>(words);
                store(words, data);
                put_over(&key, data);
            }
        }
    }

    fn sector_key(&self, place: u64) -> Zeroizing<[u8; KEY]> {
        let mut key = Zeroizing::new([0; KEY]);
        for half in key.as_chunks_mut::<16>().0 {
            half[..8].copy_from_slice(&place.to_le_bytes());
        }
        key[KEY - 1] = 0x80;
        let mut none: [IvBlock; 0] = [];
        let data = (&mut key[..]).into();
        self.cipher
            .transform(Direction::Encrypt, &mut none, data, KEY);
        key
    }
}

fn put_over(key: &[u8; KEY], data: &mut [u8]) {
    for bytes in data.as_chunks_mut::<KEY>().0 {
        for (byte, key) in bytes.iter_mut().zip(key) {
            *byte ^= key;
        }
    }
}

fn load(words: &mut [u32], data: &[u8]) {
    for (word, bytes) in words.iter_mut().zip(data.as_chunks().0) {
        *word = u32::from_le_bytes(*bytes);
    }
}

fn store(words: &[u32], data: &mut [u8]) {
    for (word, bytes) in words.iter().zip(data.as_chunks_mut().0) {
        *bytes = word.to_le_bytes();
    }
}

/// One of the two diffusers: each word takes in two others, on a ring.
trait Mixing {
    const CYCLES: usize;
    const ROTATIONS: [u32; 4];
    /// How far the two others are, backwards, on a ring of `n`.
    fn distances(n: usize) -> [usize; 2];
}

struct A;

impl Mixing for A {
    const CYCLES: usize = 5;
    const ROTATIONS: [u32; 4] = [9, 0, 13, 0];

    fn distances(_: usize) -> [usize; 2] {
        [2, 5]
    }
}

struct B;

impl Mixing for B {
    const CYCLES: usize = 3;
    const ROTATIONS: [u32; 4] = [0, 10, 0, 25];

    fn distances(n: usize) -> [usize; 2] {
        [n - 2, n - 5]
    }
}

fn mixed_in<M: Mixing>(words: &[u32], i: usize) -> u32 {
    let [near, far] =
        M::distances(words.len()).map(|back| words[(i + words.len() - back) % words.len()]);
    near ^ far.rotate_left(M::ROTATIONS[i % 4])
}

fn decrypt<M: Mixing>(words: &mut [u32]) {
    for _ in 0..M::CYCLES {
        for i in 0..words.len() {
            words[i] = words[i].wrapping_add(mixed_in::<M>(words, i));
        }
    }
}

fn encrypt<M: Mixing>(words: &mut [u32]) {
    for _ in 0..M::CYCLES {
        for i in (0..words.len()).rev() {
            words[i] = words[i].wrapping_sub(mixed_in::<M>(words, i));
        }
    }
}
