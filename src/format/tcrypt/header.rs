//! A deciphered header.

use std::fmt;

use crc32fast::hash as crc32;
use zeroize::Zeroizing;

use crate::format::Malformed;
use crate::format::bytes::{array_at, be16_at, be32_at, be64_at};

/// Bytes of a header with its salt.
pub const HEADER_BYTES: usize = 512;
/// Bytes of the salt, which alone is in clear.
pub const SALT_BYTES: usize = 64;
/// Bytes of the header that are enciphered.
pub const BODY_BYTES: usize = HEADER_BYTES - SALT_BYTES;

const HEADER_CRC_AT: usize = 188;
const KEYS_AT: usize = 192;
const KEYS_BYTES: usize = 256;
/// The header has a checksum of its own since this version.
const CHECKED_SINCE: u16 = 4;
const DEFAULT_SECTOR: u32 = 512;

/// Whose volume it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// TrueCrypt.
    TrueCrypt,
    /// VeraCrypt.
    VeraCrypt,
}

/// Keys of the volume: wiped when dropped, and never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Keys(pub Zeroizing<[u8; KEYS_BYTES]>);

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keys({KEYS_BYTES} bytes)")
    }
}

/// What a header says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Whose it is.
    pub family: Family,
    /// Version of the format.
    pub version: u16,
    /// Version of the program that is needed, as `0x0500`.
    pub needs: u16,
    /// Bytes of the hidden volume; 0 in the header of another.
    pub hidden_bytes: u64,
    /// Bytes of the volume.
    pub volume_bytes: u64,
    /// First byte of the data, from the start of the device.
    pub data_at: u64,
    /// Bytes of the data.
    pub data_bytes: u64,
    /// Flags.
    pub flags: u32,
    /// Bytes of a sector.
    pub sector_bytes: u32,
    /// Keys of the volume; their places are for [`super::Chain`] to tell.
    pub keys: Keys,
}

impl Family {
    const ALL: [Family; 2] = [Family::TrueCrypt, Family::VeraCrypt];

    fn magic(self) -> [u8; 4] {
        match self {
            Family::TrueCrypt => *b"TRUE",
            Family::VeraCrypt => *b"VERA",
        }
    }
}

impl Header {
    /// Whose header `body` is, if it was deciphered with the right key: about one wrong key in 2 billion passes, too.
    pub fn family_of(body: &[u8]) -> Option<Family> {
        let found: [u8; 4] = array_at(body, 0)?;
        Family::ALL
            .into_iter()
            .find(|family| family.magic() == found)
    }

    /// Reads the deciphered part of a header.
    ///
    /// # Errors
    /// The field that makes no sense, or a checksum that is wrong.
    pub fn read(body: &[u8]) -> Result<Header, Malformed> {
        let short = || Malformed::new("header", "it ends early");
        let body = body.get(..BODY_BYTES).ok_or_else(short)?;
        let family = Header::family_of(body)
            .ok_or_else(|| Malformed::new("magic", "expected TRUE or VERA"))?;
        let version = be16_at(body, 4).ok_or_else(short)?;
        if version == 0 {
            return Err(Malformed::new("version", "expected more than 0"));
        }
        let checksum = |field: &str, at: usize, of: &[u8]| match be32_at(body, at) {
            Some(stored) if stored == crc32(of) => Ok(()),
            _ => Err(Malformed::new(field, "the checksum is wrong")),
        };
        let (fields, keys) = body.split_at(KEYS_AT);
        if version >= CHECKED_SINCE {
            checksum(
                "header CRC-32",
                HEADER_CRC_AT,
                fields.get(..HEADER_CRC_AT).unwrap_or_default(),
            )?;
        }
        checksum("key CRC-32", 8, keys)?;
        let number = |at: usize| be64_at(body, at).ok_or_else(short);
        // Zero stands for what older versions could not say otherwise.
        let data_at = match number(44)? {
            0 => HEADER_BYTES as u64,
            at => at,
        };
        let sector_bytes = match be32_at(body, 64).ok_or_else(short)? {
            0 => DEFAULT_SECTOR,
            bytes => bytes,
        };
        Ok(Header {
            family,
            version,
            needs: be16_at(body, 6).ok_or_else(short)?,
            hidden_bytes: number(28)?,
            volume_bytes: number(36)?,
            data_at,
            data_bytes: number(52)?,
            flags: be32_at(body, 60).ok_or_else(short)?,
            sector_bytes,
            keys: Keys(Zeroizing::new(array_at(keys, 0).ok_or_else(short)?)),
        })
    }

    /// The header's bytes, to be enciphered.
    pub fn write(&self) -> Zeroizing<[u8; BODY_BYTES]> {
        let mut body = Zeroizing::new([0; BODY_BYTES]);
        let mut put = |at: usize, data: &[u8]| body[at..at + data.len()].copy_from_slice(data);
        put(0, &self.family.magic());
        put(4, &self.version.to_be_bytes());
        put(6, &self.needs.to_be_bytes());
        put(8, &crc32(&self.keys.0[..]).to_be_bytes());
        put(28, &self.hidden_bytes.to_be_bytes());
        put(36, &self.volume_bytes.to_be_bytes());
        put(44, &self.data_at.to_be_bytes());
        put(52, &self.data_bytes.to_be_bytes());
        put(60, &self.flags.to_be_bytes());
        put(64, &self.sector_bytes.to_be_bytes());
        put(KEYS_AT, &self.keys.0[..]);
        let sum = crc32(&body[..HEADER_CRC_AT]);
        body[HEADER_CRC_AT..KEYS_AT].copy_from_slice(&sum.to_be_bytes());
        body
    }
}
