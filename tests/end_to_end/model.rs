//! A plain file as the model of a device: the same operations on both, then the same bytes.

use std::fs::File;
use std::os::unix::fs::FileExt;

/// Pseudo-random numbers from a fixed seed (xorshift), so that a failure repeats.
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Dice {
        println!("seed {seed}");
        Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// A number below `limit`.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }

    /// `len` bytes that no two places share.
    pub fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.below(256) as u8).collect()
    }
}

/// The whole file.
pub fn contents(file: &File) -> Vec<u8> {
    let len = file.metadata().unwrap().len();
    read(file, 0, len as usize)
}

/// `len` bytes at `at`.
pub fn read(file: &File, at: u64, len: usize) -> Vec<u8> {
    let mut data = vec![0; len];
    file.read_exact_at(&mut data, at).unwrap();
    data
}

/// Says where two equally long runs of bytes first differ.
pub fn assert_equal(ours: &[u8], model: &[u8], what: &str) {
    assert_eq!(ours.len(), model.len(), "{what}: lengths");
    let first = ours
        .iter()
        .zip(model)
        .position(|(ours, model)| ours != model);
    assert_eq!(first, None, "{what}: first differing byte");
}
