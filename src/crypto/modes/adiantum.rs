//! Adiantum (Crowley and Biggers 2018): XChaCha over the whole unit but its last block, which AES and a hash of
//! the rest make the nonce. Its vector is the tweak, 32 bytes.

use aes::Aes256;
use chacha20::{XChaCha12, XChaCha20};
use cipher::{BlockCipherDecrypt, BlockCipherEncrypt, KeyInit, KeyIvInit, StreamCipher};
use poly1305::Poly1305;
use poly1305::universal_hash::UniversalHash;
use zeroize::{Zeroize, Zeroizing};

use super::{Data, Direction, IvBlock, Mode};

/// Bytes hashed by NH at once.
const NH_MESSAGE: usize = 1024;
/// NH sums of one message, each with its own place in the key.
const NH_PASSES: usize = 4;
/// Words that a pass is further on in the key than the one before.
const NH_STRIDE: usize = 4;
const NH_KEY_WORDS: usize = NH_MESSAGE / 4 + (NH_PASSES - 1) * NH_STRIDE;
const KEY_LEN: usize = 32;
/// Length of the vector.
const TWEAK: usize = 32;

/// Rounds of the stream cipher.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::crypto) enum Rounds {
    Twelve,
    Twenty,
}

pub(in crate::crypto) struct Adiantum {
    rounds: Rounds,
    stream_key: [u8; KEY_LEN],
    block: Aes256,
    header_key: [u8; 32],
    message_key: [u8; 32],
    nh_key: [u32; NH_KEY_WORDS],
}

impl Adiantum {
    /// The kernel derives all keys from the stream cipher under the one given.
    pub(in crate::crypto) fn new(rounds: Rounds, key: &[u8; KEY_LEN]) -> Adiantum {
        let mut derived = Zeroizing::new([0; KEY_LEN + 16 + 16 + NH_KEY_WORDS * 4]);
        let mut nonce = [0; 24];
        nonce[0] = 1;
        apply_stream(rounds, key, &nonce, (&mut derived[..]).into());
        let (block_key, hash_keys) = derived.split_at(KEY_LEN);
        let poly_key = |from: usize| {
            // The second half, which would be added to the result, is not used.
            let mut key = [0; 32];
            key[..16].copy_from_slice(&hash_keys[from..from + 16]);
            key
        };
        let (header_key, message_key) = (poly_key(0), poly_key(16));
        let mut nh_key = [0; NH_KEY_WORDS];
        for (word, bytes) in nh_key.iter_mut().zip(hash_keys[32..].as_chunks().0) {
            *word = u32::from_le_bytes(*bytes);
        }
        let mut aes_key = Zeroizing::new([0; KEY_LEN]);
        aes_key.copy_from_slice(block_key);
        Adiantum {
            rounds,
            stream_key: *key,
            block: Aes256::new((&*aes_key).into()),
            header_key,
            message_key,
            nh_key,
        }
    }

    /// The hash of the tweak and the length, the same for both sides of a unit.
    fn hash_header(&self, tweak: &[u8], len: usize) -> u128 {
        let mut blocks = [poly1305::Block::default(); 1 + TWEAK / 16];
        blocks[0][..8].copy_from_slice(&(8 * len as u64).to_le_bytes());
        for (block, half) in blocks[1..].iter_mut().zip(tweak.chunks_exact(16)) {
            block.copy_from_slice(half);
        }
        poly(&self.header_key, &blocks)
    }

    /// NHPoly1305 of the message.
    fn hash_message(&self, message: &[u8]) -> u128 {
        let mut sums = [poly1305::Block::default(); 2 * (4096 / NH_MESSAGE)];
        let mut n = 0;
        for part in message.chunks(NH_MESSAGE) {
            let mut padded = [0; NH_MESSAGE];
            let words = if part.len() == NH_MESSAGE {
                part
            } else {
                padded[..part.len()].copy_from_slice(part);
                &padded[..part.len().next_multiple_of(16)]
            };
            let sum = nh(&self.nh_key, words);
            let (blocks, _) = sum.as_chunks::<16>();
            for (into, block) in sums[n..].iter_mut().zip(blocks) {
                into.0 = *block;
            }
            n += 2;
        }
        poly(&self.message_key, &sums[..n])
    }

    fn unit(&self, direction: Direction, tweak: &[u8], data: Data<'_, '_>) {
        let len = data.len() - 16;
        let (mut left, mut right) = data.split_at(len);
        let header = self.hash_header(tweak, len);
        let mut middle = block_of(right.get_in())
            .wrapping_add(header)
            .wrapping_add(self.hash_message(left.get_in()));
        let mut nonce = [0; 24];
        nonce[16] = 1;
        match direction {
            Direction::Encrypt => {
                middle = self.encrypt_block(middle);
                nonce[..16].copy_from_slice(&middle.to_le_bytes());
            }
            Direction::Decrypt => {
                nonce[..16].copy_from_slice(&middle.to_le_bytes());
                middle = self.decrypt_block(middle);
            }
        }
        apply_stream(self.rounds, &self.stream_key, &nonce, left.reborrow());
        middle = middle
            .wrapping_sub(header)
            .wrapping_sub(self.hash_message(left.get_out()));
        right.get_out().copy_from_slice(&middle.to_le_bytes());
    }

    fn encrypt_block(&self, block: u128) -> u128 {
        let mut bytes = aes::Block::from(block.to_le_bytes());
        self.block.encrypt_block(&mut bytes);
        u128::from_le_bytes(bytes.0)
    }

    fn decrypt_block(&self, block: u128) -> u128 {
        let mut bytes = aes::Block::from(block.to_le_bytes());
        self.block.decrypt_block(&mut bytes);
        u128::from_le_bytes(bytes.0)
    }
}

impl Drop for Adiantum {
    fn drop(&mut self) {
        self.stream_key.zeroize();
        self.header_key.zeroize();
        self.message_key.zeroize();
        self.nh_key.zeroize();
    }
}

impl Mode for Adiantum {
    fn block_size(&self) -> usize {
        16
    }

    fn iv_size(&self) -> usize {
        TWEAK
    }

    fn speed(&self) -> usize {
        1000
    }

    fn transform(
        &self,
        direction: Direction,
        ivs: &mut [IvBlock],
        data: Data<'_, '_>,
        unit: usize,
    ) {
        let mut rest = data;
        for tweak in IvBlock::slice_as_flattened(ivs).chunks_exact(TWEAK) {
            let (now, after) = rest.split_at(unit);
            rest = after;
            self.unit(direction, tweak, now);
        }
    }
}

fn block_of(bytes: &[u8]) -> u128 {
    let mut block = [0; 16];
    block.copy_from_slice(&bytes[..16]);
    u128::from_le_bytes(block)
}

fn poly(key: &[u8; 32], blocks: &[poly1305::Block]) -> u128 {
    let mut hash = Poly1305::new(key.into());
    hash.update(blocks);
    u128::from_le_bytes(hash.finalize().0)
}

fn apply_stream(rounds: Rounds, key: &[u8; KEY_LEN], nonce: &[u8; 24], data: Data<'_, '_>) {
    match rounds {
        Rounds::Twelve => XChaCha12::new(key.into(), nonce.into()).apply_keystream_inout(data),
        Rounds::Twenty => XChaCha20::new(key.into(), nonce.into()).apply_keystream_inout(data),
    }
}

/// The four NH sums of a message of whole 16-byte strides.
fn nh(key: &[u32; NH_KEY_WORDS], message: &[u8]) -> [u8; 8 * NH_PASSES] {
    let mut sums = [0_u64; NH_PASSES];
    for (stride, bytes) in message.as_chunks::<16>().0.iter().enumerate() {
        let word = |i: usize| {
            u32::from_le_bytes([
                bytes[4 * i],
                bytes[4 * i + 1],
                bytes[4 * i + 2],
                bytes[4 * i + 3],
            ])
        };
        let words = [word(0), word(1), word(2), word(3)];
        let keys = &key[stride * NH_STRIDE..][..NH_STRIDE * NH_PASSES];
        for (sum, key) in sums.iter_mut().zip(keys.as_chunks::<NH_STRIDE>().0) {
            let added = |i: usize| u64::from(words[i].wrapping_add(key[i]));
            *sum = sum
                .wrapping_add(added(0) * added(2))
                .wrapping_add(added(1) * added(3));
        }
    }
    let mut bytes = [0; 8 * NH_PASSES];
    for (into, sum) in bytes.as_chunks_mut().0.iter_mut().zip(sums) {
        *into = sum.to_le_bytes();
    }
    bytes
}
