//! The header of LUKS1 (LUKS On-Disk Format Specification 1.2.3): one kilobyte, big-endian, eight key slots.

use super::Malformed;
use super::bytes::{array_at, be16_at, be32_at, put_text, text_in};
use crate::unit::{Sector, Sectors};

/// First bytes of every LUKS header, of either version.
pub const MAGIC: [u8; 6] = *b"LUKS\xba\xbe";
/// Bytes of the header.
pub const HEADER_BYTES: usize = 1024;
/// Key slots that a header has.
pub const N_SLOTS: usize = 8;
/// Anti-forensic stripes of a key slot.
pub const STRIPES: u32 = 4000;
/// Bytes of a salt.
pub const SALT_BYTES: usize = 32;
/// Bytes of the volume key's digest.
pub const DIGEST_BYTES: usize = 20;
/// Key material begins at multiples of this.
pub const MATERIAL_ALIGNMENT: Sectors = Sectors(8);
/// Longest volume key, bytes: more than any cipher has.
pub const MAX_KEY_BYTES: u32 = 512;

const VERSION: u16 = 1;
const SLOTS_AT: usize = 208;
const SLOT_BYTES: usize = 48;
const ACTIVE: u32 = 0x00AC_71F3;
const INACTIVE: u32 = 0x0000_DEAD;

/// A LUKS1 header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Luks1 {
    /// Cipher, as `aes`.
    pub cipher_name: String,
    /// Mode and IV, as `xts-plain64`.
    pub cipher_mode: String,
    /// Hash of the key derivation and the splitter, as `sha256`.
    pub hash: String,
    /// Where the data begins; zero where the header is detached.
    pub payload: Sector,
    /// Bytes of the volume key.
    pub key_bytes: u32,
    /// PBKDF2 of the volume key.
    pub digest: [u8; DIGEST_BYTES],
    /// Its salt.
    pub digest_salt: [u8; SALT_BYTES],
    /// Its iterations.
    pub digest_iterations: u32,
    /// UUID, as text.
    pub uuid: String,
    /// The key slots.
    pub slots: [Slot; N_SLOTS],
}

/// A key slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slot {
    /// Whether it holds a key.
    pub is_active: bool,
    /// Iterations of its PBKDF2.
    pub iterations: u32,
    /// Salt of its PBKDF2.
    pub salt: [u8; SALT_BYTES],
    /// Where its key material lies.
    pub material: Sector,
    /// Anti-forensic stripes.
    pub stripes: u32,
}

impl Slot {
    /// A slot without a key, its material at `material`.
    pub fn empty(material: Sector) -> Slot {
        Slot {
            is_active: false,
            iterations: 0,
            salt: [0; SALT_BYTES],
            material,
            stripes: STRIPES,
        }
    }
}

impl Luks1 {
    /// Reads a header.
    ///
    /// # Errors
    /// The field that makes no sense: a header that this returns can be worked with.
    pub fn read(bytes: &[u8]) -> Result<Luks1, Malformed> {
        let short = || Malformed::new("header", "it ends early");
        let header = bytes.get(..HEADER_BYTES).ok_or_else(short)?;
        if array_at(header, 0) != Some(MAGIC) {
            return Err(Malformed::new("magic", "this is no LUKS header"));
        }
        let version = be16_at(header, 6).ok_or_else(short)?;
        if version != VERSION {
            return Err(Malformed::new(
                "version",
                format!("expected {VERSION}, found {version}"),
            ));
        }
        let text = |at: usize, len: usize, name: &str| {
            text_in(header.get(at..at + len).unwrap_or_default(), name)
        };
        let number = |at: usize| be32_at(header, at).ok_or_else(short);
        let key_bytes = number(108)?;
        let slots = (0..N_SLOTS).map(|index| slot(header, index));
        let slots: Vec<Slot> = slots.collect::<Result<_, _>>()?;
        let read = Luks1 {
            cipher_name: text(8, 32, "cipher-name")?,
            cipher_mode: text(40, 32, "cipher-mode")?,
            hash: text(72, 32, "hash-spec")?,
            payload: Sector(number(104)?.into()),
            key_bytes,
            digest: array_at(header, 112).ok_or_else(short)?,
            digest_salt: array_at(header, 132).ok_or_else(short)?,
            digest_iterations: number(164)?,
            uuid: text(168, 40, "uuid")?,
            slots: slots.try_into().map_err(|_| short())?,
        };
        read.validate()?;
        Ok(read)
    }

    /// Whether all fields make sense together.
    ///
    /// # Errors
    /// The first field that does not.
    pub fn validate(&self) -> Result<(), Malformed> {
        for (name, text) in [
            ("cipher-name", &self.cipher_name),
            ("cipher-mode", &self.cipher_mode),
            ("hash-spec", &self.hash),
        ] {
            if text.is_empty() {
                return Err(Malformed::new(name, "it is empty"));
            }
        }
        if self.key_bytes == 0 || self.key_bytes > MAX_KEY_BYTES {
            let message = format!("expected 1 to {MAX_KEY_BYTES}, found {}", self.key_bytes);
            return Err(Malformed::new("key-bytes", message));
        }
        if self.digest_iterations == 0 {
            return Err(Malformed::new("mk-digest-iter", "expected more than 0"));
        }
        let mut areas = Vec::new();
        for (index, slot) in self.slots.iter().enumerate() {
            let wrong = |field: &str, message: String| {
                Malformed::new(format!("key slot {index}, {field}"), message)
            };
            if slot.is_active && slot.iterations == 0 {
                return Err(wrong("iterations", "expected more than 0".into()));
            }
            if slot.stripes != STRIPES {
                let message = format!("expected {STRIPES}, found {}", slot.stripes);
                return Err(wrong("stripes", message));
            }
            let begin = slot.material.to_bytes().0;
            let end = begin + self.material_bytes() as u64;
            let has_end = self.payload != Sector(0);
            if begin < HEADER_BYTES as u64 || (has_end && end > self.payload.to_bytes().0) {
                let message = "its key material lies outside the header's area".into();
                return Err(wrong("key-material-offset", message));
            }
            areas.push((begin, end, index));
        }
        areas.sort_unstable();
        for pair in areas.windows(2) {
            if let [(_, end, one), (begin, _, other)] = pair
                && begin < end
            {
                return Err(Malformed::new(
                    format!("key slot {other}, key-material-offset"),
                    format!("its key material overlaps that of key slot {one}"),
                ));
            }
        }
        Ok(())
    }

    /// The header's bytes.
    ///
    /// # Errors
    /// A text that does not fit its field, or a place beyond 32 bits.
    pub fn write(&self) -> Result<Vec<u8>, Malformed> {
        let mut bytes = vec![0; HEADER_BYTES];
        let mut put = |at: usize, data: &[u8]| bytes[at..at + data.len()].copy_from_slice(data);
        put(0, &MAGIC);
        put(6, &VERSION.to_be_bytes());
        put(104, &narrow(self.payload, "payload-offset")?);
        put(108, &self.key_bytes.to_be_bytes());
        put(112, &self.digest);
        put(132, &self.digest_salt);
        put(164, &self.digest_iterations.to_be_bytes());
        for (index, slot) in self.slots.iter().enumerate() {
            let at = SLOTS_AT + index * SLOT_BYTES;
            let state = if slot.is_active { ACTIVE } else { INACTIVE };
            put(at, &state.to_be_bytes());
            put(at + 4, &slot.iterations.to_be_bytes());
            put(at + 8, &slot.salt);
            put(at + 40, &narrow(slot.material, "key-material-offset")?);
            put(at + 44, &slot.stripes.to_be_bytes());
        }
        put_text(&mut bytes[8..40], &self.cipher_name, "cipher-name")?;
        put_text(&mut bytes[40..72], &self.cipher_mode, "cipher-mode")?;
        put_text(&mut bytes[72..104], &self.hash, "hash-spec")?;
        put_text(&mut bytes[168..208], &self.uuid, "uuid")?;
        Ok(bytes)
    }

    /// The cipher as dm-crypt names it.
    pub fn cipher(&self) -> String {
        format!("{}-{}", self.cipher_name, self.cipher_mode)
    }

    /// Bytes of a slot's key material, less what fills its last sector.
    pub fn material_bytes(&self) -> usize {
        self.key_bytes as usize * STRIPES as usize
    }

    /// How far the header and its key material reach.
    pub fn end(&self) -> Sector {
        let last = self.slots.iter().map(|slot| slot.material).max();
        let end = last.unwrap_or_default() + material_sectors(self.key_bytes);
        Sector(end.0.next_multiple_of(MATERIAL_ALIGNMENT.0))
    }
}

/// Sectors of a slot's key material, to where the next may begin.
pub fn material_sectors(key_bytes: u32) -> Sectors {
    let bytes = u64::from(key_bytes) * u64::from(STRIPES);
    let alignment = MATERIAL_ALIGNMENT.to_bytes().0;
    crate::unit::Bytes(bytes.next_multiple_of(alignment)).whole_sectors()
}

/// Where the key material of each slot of a new header lies: after four kilobytes, aligned to as many.
pub fn material_places(key_bytes: u32) -> [Sector; N_SLOTS] {
    let each = material_sectors(key_bytes).0;
    std::array::from_fn(|index| Sector(MATERIAL_ALIGNMENT.0 + index as u64 * each))
}

fn slot(header: &[u8], index: usize) -> Result<Slot, Malformed> {
    let at = SLOTS_AT + index * SLOT_BYTES;
    let short = || Malformed::new("header", "it ends early");
    let state = be32_at(header, at).ok_or_else(short)?;
    let is_active = match state {
        ACTIVE => true,
        INACTIVE => false,
        _ => {
            return Err(Malformed::new(
                format!("key slot {index}, active"),
                format!("expected {ACTIVE:#x} or {INACTIVE:#x}, found {state:#x}"),
            ));
        }
    };
    Ok(Slot {
        is_active,
        iterations: be32_at(header, at + 4).ok_or_else(short)?,
        salt: array_at(header, at + 8).ok_or_else(short)?,
        material: Sector(be32_at(header, at + 40).ok_or_else(short)?.into()),
        stripes: be32_at(header, at + 44).ok_or_else(short)?,
    })
}

fn narrow(place: Sector, field: &str) -> Result<[u8; 4], Malformed> {
    u32::try_from(place.0)
        .map(u32::to_be_bytes)
        .map_err(|_| Malformed::new(field, format!("sector {place} does not fit 32 bits")))
}

#[cfg(test)]
mod tests;
