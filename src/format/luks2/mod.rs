//! LUKS2 (LUKS2 On-Disk Format Specification 1.1): two copies of a binary [`Header`] and a JSON area, then key slots.
//!
//! [`read`] takes one copy apart and checks all of it: what it returns can be worked with. [`write()`] is its other
//! direction. Which copy counts is for whoever reads both to decide, by [`Header::sequence`].

mod header;
mod json;
mod validate;
mod values;

pub use header::{CHECKSUM, Copy, HEADER_BYTES, Header, SALT_BYTES, SIZES, checksum};
pub use json::{
    Af, Area, Config, Digest, Integrity, Kdf, Keyslot, Metadata, Requirements, Segment, Token,
};
pub use validate::{MAX_KEYSLOTS, MAX_TOKENS};
pub use values::{Base64, Decimal, Id};

use super::Malformed;

/// A copy of the metadata: its header and what its JSON area says.
#[derive(Clone, Debug, PartialEq)]
pub struct Luks2 {
    /// The binary header.
    pub header: Header,
    /// The JSON area.
    pub metadata: Metadata,
}

/// Reads the copy whose binary header and JSON area are `bytes`; more than [`Header::size`] is not looked at.
///
/// # Errors
/// What makes no sense: a wrong checksum, a field, an object of the JSON area.
pub fn read(bytes: &[u8], copy: Copy) -> Result<Luks2, Malformed> {
    let header = Header::read(bytes, copy)?;
    let end = usize::try_from(header.size).unwrap_or(usize::MAX);
    let all = bytes
        .get(..end)
        .ok_or_else(|| Malformed::new("JSON area", "it ends early"))?;
    if checksum(all) != header.checksum {
        return Err(Malformed::new(
            "csum",
            "the checksum of header and JSON area is wrong",
        ));
    }
    let area = all.get(HEADER_BYTES..).unwrap_or_default();
    let metadata = Metadata::read(area)?;
    metadata.validate(header.size)?;
    Ok(Luks2 { header, metadata })
}

/// The bytes of one copy, its checksum made anew.
///
/// # Errors
/// What does not fit, or makes no sense: nothing that [`read`] would refuse is ever written.
pub fn write(luks: &Luks2, copy: Copy) -> Result<Vec<u8>, Malformed> {
    luks.metadata.validate(luks.header.size)?;
    let mut bytes = luks.header.write(copy)?;
    let text = luks.metadata.write()?;
    let size = usize::try_from(luks.header.size).unwrap_or(usize::MAX);
    let room = size.saturating_sub(HEADER_BYTES);
    // One byte ends the text.
    if text.len() >= room {
        return Err(Malformed::new(
            "JSON area",
            format!(
                "no space left: {} bytes are needed, {room} are there",
                text.len() + 1
            ),
        ));
    }
    bytes.extend_from_slice(text.as_bytes());
    bytes.resize(size, 0);
    let sum = checksum(&bytes);
    Header::put_checksum(&mut bytes, &sum);
    Ok(bytes)
}

#[cfg(test)]
mod tests;
