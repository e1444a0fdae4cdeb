//! AES round keys (FIPS 197), made by the processor's own instructions: no table is looked up.
#![allow(unsafe_code)]

use std::arch::x86_64::{
    __m128i, _mm_aesimc_si128, _mm_aeskeygenassist_si128, _mm_cvtsi128_si32, _mm_loadu_si128,
    _mm_set1_epi32, _mm_storeu_si128,
};

use zeroize::Zeroize;

/// Round keys of the longest key.
pub(super) const MOST_KEYS: usize = 15;

/// Round keys for both ways, in the order of their use.
#[repr(C, align(64))]
pub(super) struct Schedule {
    pub(super) encrypt: [[u8; 16]; MOST_KEYS],
    pub(super) decrypt: [[u8; 16]; MOST_KEYS],
    pub(super) rounds: usize,
}

impl Schedule {
    /// Of a key of 16, 24 or 32 bytes; `None` for any other, and where the processor has no AES.
    pub(super) fn new(key: &[u8]) -> Option<Schedule> {
        let rounds = match key.len() {
            16 => 10,
            24 => 12,
            32 => 14,
            _ => return None,
        };
        if !is_x86_feature_detected!("aes") {
            return None;
        }
        let mut schedule = Schedule {
            encrypt: [[0; 16]; MOST_KEYS],
            decrypt: [[0; 16]; MOST_KEYS],
            rounds,
        };
        // SAFETY: the processor has AES, as was just asked.
        unsafe { schedule.expand(key) };
        Some(schedule)
    }

    /// # Safety
    /// The processor has AES.
    #[target_feature(enable = "aes,sse2")]
    unsafe fn expand(&mut self, key: &[u8]) {
        let words_of_key = key.len() / 4;
        let mut words = [0_u32; 4 * MOST_KEYS];
        for (word, bytes) in words.iter_mut().zip(key.as_chunks().0) {
            *word = u32::from_le_bytes(*bytes);
        }
        let mut constant = 1_u32;
        for i in words_of_key..4 * (self.rounds + 1) {
            let mut word = words[i - 1];
            if i % words_of_key == 0 {
                word = substitute(word).rotate_right(8) ^ constant;
                constant = (constant << 1) ^ (0x11b * (constant >> 7));
            } else if words_of_key == 8 && i % 8 == 4 {
                word = substitute(word);
            }
            words[i] = words[i - words_of_key] ^ word;
        }
        let (quads, _) = words.as_chunks::<4>();
        for (round_key, quad) in self.encrypt.iter_mut().zip(quads) {
            for (bytes, word) in round_key.as_chunks_mut().0.iter_mut().zip(quad) {
                *bytes = word.to_le_bytes();
            }
        }
        words.zeroize();
        for i in 0..=self.rounds {
            let round_key = self.encrypt[self.rounds - i];
            self.decrypt[i] = match i {
                0 => round_key,
                i if i == self.rounds => round_key,
                _ => inverse(round_key),
            };
        }
    }
}

/// The S-box on each byte.
///
/// # Safety
/// The processor has AES.
#[target_feature(enable = "aes,sse2")]
fn substitute(word: u32) -> u32 {
    let words = _mm_set1_epi32(word.cast_signed());
    _mm_cvtsi128_si32(_mm_aeskeygenassist_si128::<0>(words)).cast_unsigned()
}

/// A round key for deciphering.
#[target_feature(enable = "aes,sse2")]
fn inverse(round_key: [u8; 16]) -> [u8; 16] {
    let mut inverse = [0; 16];
    // SAFETY: 16 bytes are read.
    let key: __m128i = unsafe { _mm_loadu_si128(round_key.as_ptr().cast()) };
    // SAFETY: 16 bytes are written.
    unsafe { _mm_storeu_si128(inverse.as_mut_ptr().cast(), _mm_aesimc_si128(key)) };
    inverse
}

impl Drop for Schedule {
    fn drop(&mut self) {
        self.encrypt.as_flattened_mut().zeroize();
        self.decrypt.as_flattened_mut().zeroize();
    }
}
