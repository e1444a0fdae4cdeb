//! TrueCrypt before 4.1: vectors from a seed, and a word over the whole ciphertext of a sector.

use zeroize::Zeroize;

/// Bytes of key that make the word.
pub(in crate::crypto) const WHITENING: usize = 16;

/// The seed of the vectors and of the words.
pub(in crate::crypto) struct Whitening {
    seed: [u8; 16],
    whitening: [u8; WHITENING],
}

impl Whitening {
    /// Bytes of key beyond the cipher's, for vectors of `iv_size`.
    pub(in crate::crypto) fn key_len(iv_size: usize) -> usize {
        iv_size + WHITENING
    }

    /// `key` is [`Self::key_len`] bytes of it.
    pub(in crate::crypto) fn new(key: &[u8], iv_size: usize) -> Whitening {
        let (mut seed, mut whitening) = ([0; 16], [0; WHITENING]);
        seed[..iv_size].copy_from_slice(&key[..iv_size]);
        whitening.copy_from_slice(&key[iv_size..iv_size + WHITENING]);
        Whitening { seed, whitening }
    }

    /// The vector of sector `number`.
    pub(in crate::crypto) fn vector(&self, number: u64, iv: &mut [u8]) {
        let number = number.to_le_bytes();
        for (i, byte) in iv.iter_mut().enumerate() {
            *byte = self.seed[i % 16] ^ number[i % 8];
        }
    }

    /// Puts the word of sector `number` over its ciphertext, or takes it away.
    pub(in crate::crypto) fn apply(&self, number: u64, data: &mut [u8]) {
        let number = number.to_le_bytes();
        let mut sums = [0; 4];
        for (i, sum) in sums.iter_mut().enumerate() {
            let part: [u8; 4] = std::array::from_fn(|j| {
                let at = 4 * i + j;
                self.whitening[at] ^ number[at % 8]
            });
            *sum = bare_crc32(&part);
        }
        let word = u64::from(sums[0] ^ sums[3]) | u64::from(sums[1] ^ sums[2]) << 32;
        for bytes in data.as_chunks_mut::<8>().0 {
            *bytes = (u64::from_le_bytes(*bytes) ^ word).to_le_bytes();
        }
    }
}

/// The kernel's `crc32`: neither begun with ones nor inverted at the end.
fn bare_crc32(bytes: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new_with_initial(u32::MAX);
    hasher.update(bytes);
    !hasher.finalize()
}

impl Drop for Whitening {
    fn drop(&mut self) {
        self.seed.zeroize();
        self.whitening.zeroize();
    }
}
