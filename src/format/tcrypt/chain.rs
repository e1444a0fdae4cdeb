//! Ciphers over ciphers, and where their keys lie.

use zeroize::Zeroizing;

use super::place::OLD_HIDDEN_FROM_END;
use super::{Header, Which};
use crate::format::Malformed;

/// Bytes of the key of a header: that of the longest chain.
pub const HEADER_KEY_BYTES: usize = 192;

const SECTOR: u64 = 512;
/// Bytes that come before the keys of LRW and CBC: the second key of LRW; IV and whitening of CBC.
const PREFIX_BYTES: usize = 32;
const LRW_TWEAK_BYTES: usize = 16;
const WHITENING_BYTES: usize = 16;

/// A mode of operation of a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// XTS, one over the other. Since TrueCrypt 5.
    Xts,
    /// LRW, one over the other. TrueCrypt 4.1 to 4.3.
    Lrw,
    /// CBC of one cipher, with whitening. TrueCrypt 1 to 4.0.
    Cbc,
    /// CBC with whitening, one over the other, of ciphers whose blocks differ in size; also that of Blowfish alone.
    InnerCbc,
    /// One CBC over all ciphers, with whitening.
    OuterCbc,
}

/// Ciphers of which each enciphers what the one before has made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chain {
    /// Ciphers. The last one is next to the disk.
    pub ciphers: &'static [&'static str],
    /// Their mode.
    pub mode: Mode,
}

const fn chain(mode: Mode, ciphers: &'static [&'static str]) -> Chain {
    Chain { ciphers, mode }
}

/// All of them, in the order in which they are tried.
pub const CHAINS: &[Chain] = &[
    chain(Mode::Xts, &["aes"]),
    chain(Mode::Xts, &["serpent"]),
    chain(Mode::Xts, &["twofish"]),
    chain(Mode::Xts, &["twofish", "aes"]),
    chain(Mode::Xts, &["serpent", "twofish", "aes"]),
    chain(Mode::Xts, &["aes", "serpent"]),
    chain(Mode::Xts, &["aes", "twofish", "serpent"]),
    chain(Mode::Xts, &["serpent", "twofish"]),
    chain(Mode::Xts, &["camellia"]),
    chain(Mode::Xts, &["kuznyechik"]),
    chain(Mode::Xts, &["kuznyechik", "camellia"]),
    chain(Mode::Xts, &["twofish", "kuznyechik"]),
    chain(Mode::Xts, &["serpent", "camellia"]),
    chain(Mode::Xts, &["aes", "kuznyechik"]),
    chain(Mode::Xts, &["camellia", "serpent", "kuznyechik"]),
    chain(Mode::Lrw, &["aes"]),
    chain(Mode::Lrw, &["serpent"]),
    chain(Mode::Lrw, &["twofish"]),
    chain(Mode::Lrw, &["twofish", "aes"]),
    chain(Mode::Lrw, &["serpent", "twofish", "aes"]),
    chain(Mode::Lrw, &["aes", "serpent"]),
    chain(Mode::Lrw, &["aes", "twofish", "serpent"]),
    chain(Mode::Lrw, &["serpent", "twofish"]),
    chain(Mode::Cbc, &["aes"]),
    chain(Mode::Cbc, &["serpent"]),
    chain(Mode::Cbc, &["twofish"]),
    chain(Mode::OuterCbc, &["twofish", "aes"]),
    chain(Mode::OuterCbc, &["serpent", "twofish", "aes"]),
    chain(Mode::OuterCbc, &["aes", "serpent"]),
    chain(Mode::OuterCbc, &["aes", "twofish", "serpent"]),
    chain(Mode::OuterCbc, &["serpent", "twofish"]),
    chain(Mode::Cbc, &["cast5"]),
    chain(Mode::Cbc, &["des3_ede"]),
    chain(Mode::InnerCbc, &["blowfish_le"]),
    chain(Mode::InnerCbc, &["blowfish_le", "aes"]),
    chain(Mode::InnerCbc, &["serpent", "blowfish_le", "aes"]),
];

impl Mode {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Mode::Xts => "xts-plain64",
            Mode::Lrw => "lrw-benbi",
            Mode::Cbc => "cbc-tcw",
            Mode::InnerCbc => "cbc-tcrypt",
            Mode::OuterCbc => "cbci-tcrypt",
        }
    }

    /// Whether dm-crypt knows it.
    pub fn can_be_mapped(self) -> bool {
        matches!(self, Mode::Xts | Mode::Lrw | Mode::Cbc)
    }

    fn is_cbc(self) -> bool {
        matches!(self, Mode::Cbc | Mode::InnerCbc | Mode::OuterCbc)
    }
}

/// Bytes of a cipher's key, of those that it can have.
fn key_bytes(cipher: &str) -> usize {
    match cipher {
        "blowfish_le" => 56,
        "cast5" => 16,
        "des3_ede" => 24,
        _ => 32,
    }
}

/// Bytes of a cipher's block.
fn block_bytes(cipher: &str) -> usize {
    match cipher {
        "blowfish_le" | "cast5" | "des3_ede" => 8,
        _ => 16,
    }
}

impl Chain {
    /// Its name, as `serpent-twofish-aes`.
    pub fn name(&self) -> String {
        self.ciphers.join("-")
    }

    /// Bytes of the block of one of its ciphers.
    pub fn block_bytes(&self, index: usize) -> usize {
        self.ciphers
            .get(index)
            .map_or(16, |cipher| block_bytes(cipher))
    }

    /// Where the key of cipher `index` begins.
    fn key_at(&self, index: usize) -> usize {
        let before = self
            .ciphers
            .iter()
            .take(index)
            .map(|cipher| key_bytes(cipher));
        let prefix = if self.mode == Mode::Xts {
            0
        } else {
            PREFIX_BYTES
        };
        prefix + before.sum::<usize>()
    }

    /// Key of cipher `index` of the chain as its mode takes it, out of a header key or of the volume's; without what CBC
    /// has besides.
    pub fn key(&self, index: usize, keys: &[u8]) -> Zeroizing<Vec<u8>> {
        let len = self
            .ciphers
            .get(index)
            .map_or(0, |cipher| key_bytes(cipher));
        let at = self.key_at(index);
        let mut key = Zeroizing::new(Vec::with_capacity(2 * len + PREFIX_BYTES));
        let mut add = |at: usize, len: usize| {
            key.extend_from_slice(keys.get(at..at + len).unwrap_or_default());
        };
        add(at, len);
        match self.mode {
            Mode::Xts => add(self.key_at(self.ciphers.len()) + at, len),
            Mode::Lrw => add(0, LRW_TWEAK_BYTES),
            Mode::Cbc | Mode::InnerCbc | Mode::OuterCbc => {}
        }
        key
    }

    /// Key of cipher `index` of the volume as dm-crypt takes it: with IV and whitening where there are such.
    pub fn volume_key(&self, index: usize, keys: &[u8]) -> Zeroizing<Vec<u8>> {
        let mut key = self.key(index, keys);
        if self.mode.is_cbc() && index + 1 == self.ciphers.len() {
            let extra = self.block_bytes(index) + WHITENING_BYTES;
            key.extend_from_slice(keys.get(..extra).unwrap_or_default());
        }
        key
    }

    /// Bytes of the keys of all ciphers.
    pub fn all_key_bytes(&self) -> usize {
        let keys = [0; HEADER_KEY_BYTES];
        let lengths = (0..self.ciphers.len()).map(|index| self.volume_key(index, &keys).len());
        lengths.sum()
    }

    /// First sector of the data on a device of `size` bytes with the header `which`.
    ///
    /// # Errors
    /// A place that does not fit the device.
    pub fn data_sector(&self, header: &Header, which: Which, size: u64) -> Result<u64, Malformed> {
        let is_old = !(self.mode == Mode::Xts && header.version > 3);
        if which.system {
            return Ok(header.data_at / SECTOR);
        }
        if self.mode == Mode::Xts && header.version < 3 {
            return Ok(1);
        }
        if which.hidden && is_old {
            let from_end = header.hidden_bytes.checked_add(OLD_HIDDEN_FROM_END);
            let at = from_end.and_then(|bytes| size.checked_sub(bytes));
            let wrong = || Malformed::new("hidden volume size", "the device is smaller");
            return Ok(at.ok_or_else(wrong)? / SECTOR);
        }
        Ok(header.data_at / SECTOR)
    }

    /// What vectors count from.
    ///
    /// # Errors
    /// As [`Chain::data_sector`].
    pub fn iv_sector(&self, header: &Header, which: Which, size: u64) -> Result<u64, Malformed> {
        match self.mode {
            Mode::Xts => self.data_sector(header, which, size),
            Mode::Lrw => Ok(0),
            Mode::Cbc | Mode::InnerCbc | Mode::OuterCbc => Ok(header.data_at / SECTOR),
        }
    }
}
