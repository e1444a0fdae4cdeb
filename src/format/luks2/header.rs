//! The binary header of a copy.

use sha2::{Digest, Sha256};

use super::Malformed;
use crate::format::bytes::{array_at, be16_at, be64_at, put_text, text_in};
use crate::format::luks1::MAGIC;

/// Bytes of the binary header.
pub const HEADER_BYTES: usize = 4096;
/// Bytes of a copy's salt.
pub const SALT_BYTES: usize = 64;
/// The one checksum that the specification names.
pub const CHECKSUM: &str = "sha256";
/// Sizes that a header with its JSON area may have, which are also the places of the second copy.
pub const SIZES: [u64; 9] = [
    0x4000, 0x8000, 0x1_0000, 0x2_0000, 0x4_0000, 0x8_0000, 0x10_0000, 0x20_0000, 0x40_0000,
];

const SECONDARY_MAGIC: [u8; 6] = *b"SKUL\xba\xbe";
const VERSION: u16 = 2;
const CHECKSUM_AT: usize = 448;
const CHECKSUM_BYTES: usize = 64;
const SHA256_BYTES: usize = 32;

/// Which of the two copies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Copy {
    /// The one at the device's start.
    Primary,
    /// The one after it.
    Secondary,
}

/// The binary header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Bytes of header and JSON area.
    pub size: u64,
    /// Grows with every change.
    pub sequence: u64,
    /// Label; may be empty.
    pub label: String,
    /// Makes the copies' checksums differ.
    pub salt: [u8; SALT_BYTES],
    /// UUID, as text.
    pub uuid: String,
    /// Subsystem; may be empty.
    pub subsystem: String,
    /// As stored.
    pub checksum: [u8; SHA256_BYTES],
}

impl Header {
    /// Reads the header of `copy`, without looking at its checksum.
    ///
    /// # Errors
    /// The field that makes no sense.
    pub fn read(bytes: &[u8], copy: Copy) -> Result<Header, Malformed> {
        let short = || Malformed::new("header", "it ends early");
        let header = bytes.get(..HEADER_BYTES).ok_or_else(short)?;
        if array_at(header, 0) != Some(copy.magic()) {
            return Err(Malformed::new("magic", "this is no LUKS2 header"));
        }
        let version = be16_at(header, 6).ok_or_else(short)?;
        if version != VERSION {
            let message = format!("expected {VERSION}, found {version}");
            return Err(Malformed::new("version", message));
        }
        let size = be64_at(header, 8).ok_or_else(short)?;
        if !SIZES.contains(&size) {
            let message = format!("expected 16 KiB to 4 MiB, a power of two, found {size} bytes");
            return Err(Malformed::new("hdr_size", message));
        }
        let offset = be64_at(header, 256).ok_or_else(short)?;
        if offset != copy.offset(size) {
            let message = format!("expected {}, found {offset}", copy.offset(size));
            return Err(Malformed::new("hdr_offset", message));
        }
        let text = |at: usize, len: usize, name: &str| {
            text_in(header.get(at..at + len).unwrap_or_default(), name)
        };
        let algorithm = text(72, 32, "csum_alg")?;
        if algorithm != CHECKSUM {
            let message = format!("expected {CHECKSUM}, found {algorithm:?}");
            return Err(Malformed::new("csum_alg", message));
        }
        Ok(Header {
            size,
            sequence: be64_at(header, 16).ok_or_else(short)?,
            label: text(24, 48, "label")?,
            salt: array_at(header, 104).ok_or_else(short)?,
            uuid: text(168, 40, "uuid")?,
            subsystem: text(208, 48, "subsystem")?,
            checksum: array_at(header, CHECKSUM_AT).ok_or_else(short)?,
        })
    }

    /// The header's bytes, their checksum zero.
    ///
    /// # Errors
    /// A text that does not fit its field.
    pub(super) fn write(&self, copy: Copy) -> Result<Vec<u8>, Malformed> {
        let mut bytes = vec![0; HEADER_BYTES];
        let mut put = |at: usize, data: &[u8]| bytes[at..at + data.len()].copy_from_slice(data);
        put(0, &copy.magic());
        put(6, &VERSION.to_be_bytes());
        put(8, &self.size.to_be_bytes());
        put(16, &self.sequence.to_be_bytes());
        put(104, &self.salt);
        put(256, &copy.offset(self.size).to_be_bytes());
        put_text(&mut bytes[24..72], &self.label, "label")?;
        put_text(&mut bytes[72..104], CHECKSUM, "csum_alg")?;
        put_text(&mut bytes[168..208], &self.uuid, "uuid")?;
        put_text(&mut bytes[208..256], &self.subsystem, "subsystem")?;
        Ok(bytes)
    }

    pub(super) fn put_checksum(bytes: &mut [u8], sum: &[u8; SHA256_BYTES]) {
        if let Some(field) = bytes.get_mut(CHECKSUM_AT..CHECKSUM_AT + SHA256_BYTES) {
            field.copy_from_slice(sum);
        }
    }

    /// Bytes of the JSON area.
    pub fn json_size(&self) -> u64 {
        self.size - HEADER_BYTES as u64
    }

    /// Where both copies end, and key slots may begin.
    pub fn end(&self) -> u64 {
        2 * self.size
    }
}

impl Copy {
    /// Where the copy lies, of headers of this size.
    pub fn offset(self, size: u64) -> u64 {
        match self {
            Copy::Primary => 0,
            Copy::Secondary => size,
        }
    }

    fn magic(self) -> [u8; 6] {
        match self {
            Copy::Primary => MAGIC,
            Copy::Secondary => SECONDARY_MAGIC,
        }
    }
}

/// The checksum of header and JSON area, with its own field taken for zeroes.
pub fn checksum(all: &[u8]) -> [u8; SHA256_BYTES] {
    let (before, rest) = all.split_at(CHECKSUM_AT.min(all.len()));
    let after = rest.get(CHECKSUM_BYTES..).unwrap_or_default();
    let mut sum = Sha256::new();
    sum.update(before);
    sum.update([0; CHECKSUM_BYTES]);
    sum.update(after);
    sum.finalize().into()
}
