//! The pattern that fixtures are filled with, and hashes of what was read back.

use sha2::{Digest, Sha256};

/// Bytes of a sector, whatever the logical block size.
pub const SECTOR: usize = 512;
/// The seed of every trace.
const SEED: &str = "open-1";

/// Sectors `first..first + count` of the pattern: each is one line with the sector's number and a
/// hash of it, repeated and cut at 512 bytes.
pub fn sectors(first: u64, count: u64) -> Vec<u8> {
    let mut data = Vec::with_capacity(count as usize * SECTOR);
    for index in first..first + count {
        let hash = sha256(format!("{SEED}:{index}").as_bytes());
        let line = format!("{SEED}:{index:010}:{}\n", &hash[..16]);
        data.extend(line.bytes().cycle().take(SECTOR));
    }
    data
}

/// The sha256 of `data` in lower-case hex.
pub fn sha256(data: &[u8]) -> String {
    Sha256::digest(data)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}
