//! Header bodies under a chain of ciphers. A body is one unit of encryption, of 448 bytes: as much as the start of a sector
//! whose rest does not matter.

use std::ops::Range;

use zeroize::Zeroizing;

use crate::crypto::{CipherError, SectorCipher, SectorSize};
use crate::format::tcrypt::{BODY_BYTES, Chain, Mode};

const SECTOR: usize = 512;
/// Where in a key the whitening of headers lies.
const WHITENING: Range<usize> = 8..16;

type Body = Zeroizing<[u8; BODY_BYTES]>;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    Encipher,
    Decipher,
}

/// Deciphers `body` with the header key `key`.
///
/// # Errors
/// A cipher that is not there.
pub fn decipher(chain: &Chain, key: &[u8], body: &[u8; BODY_BYTES]) -> Result<Body, CipherError> {
    run(Direction::Decipher, chain, key, body)
}

/// Enciphers `body` with the header key `key`.
///
/// # Errors
/// A cipher that is not there.
pub fn encipher(chain: &Chain, key: &[u8], body: &[u8; BODY_BYTES]) -> Result<Body, CipherError> {
    run(Direction::Encipher, chain, key, body)
}

fn run(
    direction: Direction,
    chain: &Chain,
    key: &[u8],
    body: &[u8; BODY_BYTES],
) -> Result<Body, CipherError> {
    let mut sector = Zeroizing::new([0; SECTOR]);
    sector[..BODY_BYTES].copy_from_slice(body);
    let count = chain.ciphers.len();
    match chain.mode {
        Mode::Xts | Mode::Lrw => {
            for index in order(direction, 0..count) {
                let mode = chain.mode.name();
                one(direction, chain, index, mode, key, &mut sector)?;
            }
        }
        Mode::InnerCbc => {
            for index in order(direction, 0..count) {
                cbc(direction, chain, index..index + 1, key, &mut sector)?;
            }
        }
        Mode::Cbc | Mode::OuterCbc => cbc(direction, chain, 0..count, key, &mut sector)?,
    }
    let mut done = Zeroizing::new([0; BODY_BYTES]);
    done.copy_from_slice(&sector[..BODY_BYTES]);
    Ok(done)
}

/// Data go down the chain, and come up it.
fn order(direction: Direction, ciphers: Range<usize>) -> Box<dyn Iterator<Item = usize>> {
    match direction {
        Direction::Encipher => Box::new(ciphers),
        Direction::Decipher => Box::new(ciphers.rev()),
    }
}

fn one(
    direction: Direction,
    chain: &Chain,
    index: usize,
    mode: &str,
    key: &[u8],
    data: &mut [u8; SECTOR],
) -> Result<(), CipherError> {
    let name = chain.ciphers.get(index).copied().unwrap_or_default();
    // Blowfish as its author's code takes bytes, in words of the other order than the kernel's.
    let swaps = name == "blowfish_le";
    let name = if swaps { "blowfish" } else { name };
    let cipher = SectorCipher::new(
        &format!("{name}-{mode}"),
        &chain.key(index, key),
        SectorSize::SMALL,
    )?;
    if swaps {
        swap_words(data);
    }
    match direction {
        Direction::Encipher => cipher.encrypt(0, data),
        Direction::Decipher => cipher.decrypt(0, data),
    }
    if swaps {
        swap_words(data);
    }
    Ok(())
}

fn swap_words(data: &mut [u8; SECTOR]) {
    for word in data.as_chunks_mut::<4>().0 {
        word.reverse();
    }
}

/// One CBC over all of `ciphers`, and the whitening over it. IV and whitening are at the key's start.
fn cbc(
    direction: Direction,
    chain: &Chain,
    ciphers: Range<usize>,
    key: &[u8],
    data: &mut [u8; SECTOR],
) -> Result<(), CipherError> {
    let block = chain.block_bytes(ciphers.start);
    let iv = key.get(..block).unwrap_or_default();
    let whitening = key.get(WHITENING).unwrap_or_default();
    match direction {
        Direction::Decipher => {
            whiten(data, whitening);
            let before = Zeroizing::new(*data);
            for index in order(direction, ciphers) {
                one(direction, chain, index, "ecb", key, data)?;
            }
            let chained = iv.iter().chain(before.iter());
            data.iter_mut()
                .zip(chained)
                .for_each(|(byte, with)| *byte ^= with);
        }
        Direction::Encipher => {
            let mut last = Zeroizing::new(iv.to_vec());
            for at in (0..SECTOR).step_by(block) {
                // One block at a time: what it becomes goes into the next.
                let mut work = Zeroizing::new([0; SECTOR]);
                for (index, byte) in last.iter().enumerate() {
                    work[index] = data[at + index] ^ byte;
                }
                for index in order(direction, ciphers.clone()) {
                    one(direction, chain, index, "ecb", key, &mut work)?;
                }
                last.copy_from_slice(&work[..block]);
                data[at..at + block].copy_from_slice(&last);
            }
            whiten(data, whitening);
        }
    }
    Ok(())
}

fn whiten(data: &mut [u8; SECTOR], whitening: &[u8]) {
    for (byte, white) in data.iter_mut().zip(whitening.iter().cycle()) {
        *byte ^= white;
    }
}
