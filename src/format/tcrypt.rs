//! The header of TrueCrypt and VeraCrypt volumes, once it is decrypted: 512 bytes, big-endian, the first 64 of which are
//! a salt in the clear.

use super::Malformed;
use super::bytes::{array_at, be16_at, be32_at, be64_at};
use crate::unit::SECTOR_SIZE;

/// Bytes of a header.
pub const HEADER_BYTES: usize = 512;
/// Bytes of its salt.
pub const SALT_BYTES: usize = 64;
/// Bytes of its keys.
pub const KEYS_BYTES: usize = 256;

const KEYS_AT: usize = 256;
const CRC_AT: usize = 252;

/// Whose header it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Maker {
    /// TrueCrypt.
    TrueCrypt,
    /// VeraCrypt.
    VeraCrypt,
}

/// A decrypted header without its keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tcrypt {
    /// Whose it is.
    pub maker: Maker,
    /// Version of the header.
    pub version: u16,
    /// Oldest program that reads it.
    pub needs: u16,
    /// Bytes of a hidden volume; 0 in others.
    pub hidden_size: u64,
    /// Bytes of the volume.
    pub volume_size: u64,
    /// Byte where the encrypted data begins.
    pub data_offset: u64,
    /// Bytes of the encrypted data.
    pub data_size: u64,
    /// Flags: 1 for a system's volume, 2 for one that was encrypted in place.
    pub flags: u32,
    /// Bytes of a sector.
    pub sector_size: u32,
}

impl Maker {
    fn magic(self) -> [u8; 4] {
        match self {
            Maker::TrueCrypt => *b"TRUE",
            Maker::VeraCrypt => *b"VERA",
        }
    }
}

/// Whether `header` begins, behind its salt, as one that is decrypted rightly: cheaper than [`Tcrypt::read`].
pub fn is_decrypted(header: &[u8]) -> Option<Maker> {
    let magic: [u8; 4] = array_at(header, SALT_BYTES)?;
    [Maker::TrueCrypt, Maker::VeraCrypt]
        .into_iter()
        .find(|maker| maker.magic() == magic)
}

impl Tcrypt {
    /// Reads a decrypted header.
    ///
    /// # Errors
    /// The field that makes no sense: a checksum, a version, a size.
    pub fn read(header: &[u8]) -> Result<Tcrypt, Malformed> {
        let short = || Malformed::new("header", "it ends early");
        let header = header.get(..HEADER_BYTES).ok_or_else(short)?;
        let maker = is_decrypted(header)
            .ok_or_else(|| Malformed::new("magic", "this is no TCRYPT header"))?;
        let half = |at| be16_at(header, at).ok_or_else(short);
        let word = |at| be32_at(header, at).ok_or_else(short);
        let long = |at| be64_at(header, at).ok_or_else(short);
        let version = half(68)?;
        let crc = crc32fast::hash(header.get(SALT_BYTES..CRC_AT).unwrap_or_default());
        if version > 3 && crc != word(CRC_AT)? {
            return Err(Malformed::new("header_crc32", "the checksum is wrong"));
        }
        let crc = crc32fast::hash(header.get(KEYS_AT..).unwrap_or_default());
        if crc != word(72)? {
            return Err(Malformed::new("keys_crc32", "the checksum is wrong"));
        }
        let read = Tcrypt {
            maker,
            version,
            needs: half(70)?,
            hidden_size: long(92)?,
            volume_size: long(100)?,
            data_offset: long(108)?,
            data_size: long(116)?,
            flags: word(124)?,
            sector_size: word(128)?,
        };
        read.validate()?;
        Ok(read)
    }

    fn validate(&self) -> Result<(), Malformed> {
        // Older headers are of volumes in modes that are not read here.
        if !(3..=5).contains(&self.version) {
            let message = format!("expected 3, 4 or 5, found {}", self.version);
            return Err(Malformed::new("version", message));
        }
        if !matches!(self.sector_size, 512 | 1024 | 2048 | 4096) {
            let message = format!("expected 512 to 4096, found {}", self.sector_size);
            return Err(Malformed::new("sector_size", message));
        }
        for (name, bytes) in [
            ("hidden_volume_size", self.hidden_size),
            ("volume_size", self.volume_size),
            ("mk_offset", self.data_offset),
            ("mk_size", self.data_size),
        ] {
            if !bytes.is_multiple_of(SECTOR_SIZE) || bytes > i64::MAX as u64 {
                let message = format!("expected a multiple of {SECTOR_SIZE}, found {bytes}");
                return Err(Malformed::new(name, message));
            }
        }
        Ok(())
    }

    /// The header's bytes before they are encrypted.
    pub fn write(&self, salt: &[u8; SALT_BYTES], keys: &[u8; KEYS_BYTES]) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        let mut put = |at: usize, data: &[u8]| bytes[at..at + data.len()].copy_from_slice(data);
        put(0, salt);
        put(64, &self.maker.magic());
        put(68, &self.version.to_be_bytes());
        put(70, &self.needs.to_be_bytes());
        put(72, &crc32fast::hash(keys).to_be_bytes());
        put(92, &self.hidden_size.to_be_bytes());
        put(100, &self.volume_size.to_be_bytes());
        put(108, &self.data_offset.to_be_bytes());
        put(116, &self.data_size.to_be_bytes());
        put(124, &self.flags.to_be_bytes());
        put(128, &self.sector_size.to_be_bytes());
        put(KEYS_AT, keys);
        let crc = crc32fast::hash(&bytes[SALT_BYTES..CRC_AT]);
        bytes[CRC_AT..KEYS_AT].copy_from_slice(&crc.to_be_bytes());
        bytes
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::{HEADER_BYTES, KEYS_BYTES, Maker, SALT_BYTES, Tcrypt};
    use proptest::prelude::*;

    fn sample() -> Tcrypt {
        Tcrypt {
            maker: Maker::VeraCrypt,
            version: 5,
            needs: 0x010b,
            hidden_size: 0,
            volume_size: 1 << 20,
            data_offset: 131_072,
            data_size: 1 << 20,
            flags: 0,
            sector_size: 512,
        }
    }

    fn bytes(header: &Tcrypt) -> [u8; HEADER_BYTES] {
        header.write(&[1; SALT_BYTES], &[2; KEYS_BYTES])
    }

    #[test]
    fn a_header_is_read_as_it_was_written() {
        assert_eq!(Tcrypt::read(&bytes(&sample())), Ok(sample()));
    }

    #[test]
    fn every_damaged_byte_is_noticed() {
        for at in SALT_BYTES..HEADER_BYTES {
            let mut bytes = bytes(&sample());
            bytes[at] ^= 0x10;
            assert!(Tcrypt::read(&bytes).is_err(), "byte {at}");
            assert!(Tcrypt::read(&bytes[..at]).is_err());
        }
    }

    #[test]
    fn fields_that_make_no_sense_are_named() {
        for (header, field) in [
            (
                Tcrypt {
                    version: 2,
                    ..sample()
                },
                "version",
            ),
            (
                Tcrypt {
                    version: 6,
                    ..sample()
                },
                "version",
            ),
            (
                Tcrypt {
                    sector_size: 0,
                    ..sample()
                },
                "sector_size",
            ),
            (
                Tcrypt {
                    data_offset: 1,
                    ..sample()
                },
                "mk_offset",
            ),
            (
                Tcrypt {
                    volume_size: u64::MAX - 511,
                    ..sample()
                },
                "volume_size",
            ),
        ] {
            assert_eq!(Tcrypt::read(&bytes(&header)).unwrap_err().field, field);
        }
    }

    proptest! {
        #[test]
        fn any_bytes_do_no_harm(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            let mut bytes = bytes;
            if let Some(magic) = bytes.get_mut(64..68) {
                magic.copy_from_slice(b"TRUE");
            }
            let _ = Tcrypt::read(&bytes);
        }
    }
}
