//! Loop-AES, multi-key modes 2 and 3: the vector is a digest of the sector's plaintext but its first block.

use zeroize::Zeroize;

const SECTOR: usize = 512;
const SEED: usize = 64;
const BLOCK: usize = 16;
/// Version of the mode, hashed with every sector.
const VERSION: u32 = 4024;
/// What an MD5 begins with (RFC 1321).
const MD5_START: [u32; 4] = [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476];

/// The digest, with the seed that mode 3 puts before the data.
pub(in crate::crypto) struct LoopAes {
    seed: Option<Box<[u8; SEED]>>,
}

impl LoopAes {
    /// `seed` is the start of the extra key, where there is one.
    pub(in crate::crypto) fn new(seed: Option<&[u8]>) -> LoopAes {
        LoopAes {
            seed: seed.map(|bytes| {
                let mut seed = Box::new([0; SEED]);
                for (into, byte) in seed.iter_mut().zip(&bytes[..bytes.len().min(BLOCK)]) {
                    *into = *byte;
                }
                seed
            }),
        }
    }

    /// The vector of sector `number`, of which `data` is the plaintext; its first block does not count.
    pub(in crate::crypto) fn vector(&self, number: u64, data: &[u8]) -> [u8; BLOCK] {
        let mut message = [0; SEED + SECTOR];
        if let Some(seed) = &self.seed {
            message[..SEED].copy_from_slice(&seed[..]);
        }
        message[SEED..SEED + SECTOR - BLOCK].copy_from_slice(&data[BLOCK..SECTOR]);
        let high = (number >> 32) as u32 & 0x00ff_ffff | 0x8000_0000;
        let words = [number as u32, high, VERSION, 0];
        let (into, _) = message[SEED + SECTOR - BLOCK..].as_chunks_mut::<4>();
        for (into, word) in into.iter_mut().zip(words) {
            *into = word.to_le_bytes();
        }
        let hashed = match self.seed {
            Some(_) => &message[..],
            None => &message[SEED..],
        };
        let mut state = MD5_START;
        md5::block_api::compress(&mut state, hashed.as_chunks().0);
        message.zeroize();
        let mut iv = [0; BLOCK];
        for (into, word) in iv.as_chunks_mut().0.iter_mut().zip(state) {
            *into = word.to_le_bytes();
        }
        iv
    }
}

impl Drop for LoopAes {
    fn drop(&mut self) {
        if let Some(seed) = &mut self.seed {
            seed[..].zeroize();
        }
    }
}
