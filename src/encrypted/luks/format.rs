//! New volumes.

use std::collections::BTreeMap;

use super::super::bytes::{flush, wipe, write_bytes};
use super::super::keyslot::cipher_named;
use super::super::secret::fill_random;
use super::super::{Kind, Refused, Secret};
use super::{DIGEST_SHARE_1, Luks, Sealing, one, store, two};
use crate::crypto::{SectorCipher, SectorSize};
use crate::format::luks1::{self, Luks1, Slot};
use crate::format::luks2::{Config, Decimal, HEADER_BYTES, Header, Id, Luks2, Metadata, SIZES};
use crate::io::BlockDev;
use crate::unit::{Bytes, Sector, Sectors};

/// What data is aligned to where nobody says.
const ALIGNMENT: Sectors = Sectors(2048);
/// Where the data of LUKS2 begins where nobody says, bytes.
const DATA_OFFSET_2: u64 = 16 << 20;
/// Least and most room for key slots that may be asked for, bytes.
const MAX_KEYSLOTS_SIZE: u64 = 128 << 20;
/// Room for key slots below which few fit, bytes.
const SMALL_KEYSLOTS_SIZE: u64 = 4 << 20;

/// Which version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// LUKS1.
    One,
    /// LUKS2.
    Two,
}

/// What a new volume shall be.
#[derive(Clone, Debug)]
pub struct Format {
    /// Version.
    pub version: Version,
    /// Cipher as dm-crypt names it.
    pub cipher: String,
    /// Volume key.
    pub key: Secret,
    /// Bytes of an encrypted unit.
    pub sector_size: u32,
    /// UUID.
    pub uuid: String,
    /// Label (LUKS2).
    pub label: String,
    /// Subsystem (LUKS2).
    pub subsystem: String,
    /// Bytes of header and JSON area (LUKS2); 16 KiB where it is not said.
    pub metadata_size: Option<u64>,
    /// Bytes for key slots (LUKS2); what there is before the data where it is not said.
    pub keyslots_size: Option<u64>,
    /// Where the data begins.
    pub data_offset: Option<Sector>,
    /// What the data's beginning is aligned to.
    pub alignment: Option<Sectors>,
    /// The data lies on another device.
    pub is_detached: bool,
    /// The first key slot.
    pub slot: Option<u32>,
}

/// What a format made, and what its maker should be told.
pub struct Made {
    /// The header.
    pub luks: Luks,
    /// Warnings.
    pub warnings: Vec<String>,
}

/// How long the header's device must be for `format`, bytes, before it can be made.
///
/// # Errors
/// As [`format()`].
pub fn needed_bytes(format: &Format) -> Result<u64, Refused> {
    match format.version {
        Version::One => Ok(layout_1(format)?.end().to_bytes().0),
        Version::Two => {
            let layout = Layout::of(format)?;
            Ok(2 * layout.metadata_size + layout.keyslots_size)
        }
    }
}

/// Makes a volume with one key slot.
///
/// # Errors
/// What cannot be had, before anything is written; what the device answers.
pub fn format(
    device: &dyn BlockDev,
    format: &Format,
    sealing: Sealing<'_>,
) -> Result<Made, Refused> {
    let size = SectorSize {
        bytes: format.sector_size,
        counts_large: false,
    };
    if !matches!(format.sector_size, 512 | 1024 | 2048 | 4096) {
        return Err(Refused::invalid("Unsupported encryption sector size."));
    }
    SectorCipher::new(&format.cipher, &format.key, size).map_err(|error| {
        Refused::invalid(format!(
            "Cipher {} with a key of {} bits is not available ({error}).",
            format.cipher,
            8 * format.key.len()
        ))
    })?;
    sealing.pbkdf.check()?;
    let needed = needed_bytes(format)?;
    if device.capacity().to_bytes().0 < needed {
        return Err(Refused::new(
            Kind::Device,
            format!("Device is too small: the header needs {needed} bytes."),
        ));
    }
    match format.version {
        Version::One => format_1(device, format, sealing),
        Version::Two => format_2(device, format, sealing),
    }
}

fn layout_1(format: &Format) -> Result<Luks1, Refused> {
    let (name, mode) = format
        .cipher
        .split_once('-')
        .unwrap_or((&format.cipher, "cbc-plain"));
    let key_bytes = u32::try_from(format.key.len())
        .ok()
        .filter(|bytes| (1..=luks1::MAX_KEY_BYTES).contains(bytes))
        .ok_or_else(|| Refused::invalid("Invalid key size."))?;
    let places = luks1::material_places(key_bytes);
    let mut luks = Luks1 {
        cipher_name: name.to_owned(),
        cipher_mode: mode.to_owned(),
        hash: String::new(),
        payload: Sector(0),
        key_bytes,
        digest: [0; luks1::DIGEST_BYTES],
        digest_salt: [0; luks1::SALT_BYTES],
        digest_iterations: 1,
        uuid: format.uuid.clone(),
        slots: places.map(Slot::empty),
    };
    luks.payload = match (format.data_offset, format.is_detached) {
        (Some(offset), true) => offset,
        (Some(offset), false) if offset < luks.end() => {
            return Err(Refused::invalid(format!(
                "Data offset is too small: the header needs {} sectors.",
                luks.end()
            )));
        }
        (Some(offset), false) => offset,
        (None, true) => Sector(0),
        (None, false) => aligned(luks.end().to_bytes(), format.alignment)?,
    };
    Ok(luks)
}

fn aligned(end: Bytes, alignment: Option<Sectors>) -> Result<Sector, Refused> {
    let alignment = alignment.filter(|to| !to.is_zero()).unwrap_or(ALIGNMENT);
    end.0
        .div_ceil(512)
        .checked_next_multiple_of(alignment.0)
        .map(Sector)
        .ok_or_else(|| Refused::invalid("The alignment is too large."))
}

fn format_1(device: &dyn BlockDev, format: &Format, sealing: Sealing<'_>) -> Result<Made, Refused> {
    let mut luks = layout_1(format)?;
    let pbkdf = sealing.pbkdf;
    if format.sector_size != 512 {
        return Err(Refused::invalid("Sectors of LUKS1 have 512 bytes."));
    }
    luks.hash = pbkdf.hash.clone();
    luks.digest_iterations =
        pbkdf.digest_iterations(pbkdf.time / DIGEST_SHARE_1, luks1::DIGEST_BYTES)?;
    fill_random(&mut luks.digest_salt).map_err(|_| Refused::invalid("No randomness."))?;
    let digest = one::digest(&luks, &format.key)?;
    luks.digest.copy_from_slice(&digest);
    let slot = one::free_slot(&luks, format.slot)?;
    // Nothing of an older header may be taken for this one's.
    wipe(device, 0, Bytes(luks.end().to_bytes().0).0, false)?;
    one::save(device, &luks)?;
    one::put_key(device, &mut luks, slot, &format.key, sealing)?;
    Ok(Made {
        luks: Luks::One(Box::new(luks)),
        warnings: Vec::new(),
    })
}

/// Where the parts of a LUKS2 volume lie.
struct Layout {
    metadata_size: u64,
    keyslots_size: u64,
    /// Byte where the data begins.
    data: u64,
}

impl Layout {
    fn of(format: &Format) -> Result<Layout, Refused> {
        let metadata_size = format.metadata_size.unwrap_or(SIZES[0]);
        if !SIZES.contains(&metadata_size) {
            return Err(Refused::invalid("Unsupported LUKS2 metadata size."));
        }
        let headers = 2 * metadata_size;
        let said = format.data_offset.map(|offset| offset.to_bytes().0);
        // A detached header has the room that one before the data would have.
        let before_data = match said {
            Some(offset) if !format.is_detached => offset,
            _ => DATA_OFFSET_2,
        };
        let keyslots_size = match format.keyslots_size {
            Some(size) => size,
            None => {
                let room = before_data.saturating_sub(headers).min(MAX_KEYSLOTS_SIZE);
                room - room % 4096
            }
        };
        if keyslots_size > MAX_KEYSLOTS_SIZE || !keyslots_size.is_multiple_of(4096) {
            return Err(Refused::invalid("Unsupported LUKS2 keyslots size."));
        }
        let end = headers + keyslots_size;
        let data = match (said, format.is_detached) {
            (Some(offset), true) => offset,
            (Some(offset), false) if offset < end => {
                return Err(Refused::invalid(
                    "Requested data offset is too small for this LUKS2 header.",
                ));
            }
            (Some(offset), false) => offset,
            (None, true) => 0,
            (None, false) => aligned(Bytes(end), format.alignment)?.to_bytes().0,
        };
        Ok(Layout {
            metadata_size,
            keyslots_size,
            data,
        })
    }
}

fn format_2(device: &dyn BlockDev, format: &Format, sealing: Sealing<'_>) -> Result<Made, Refused> {
    let layout = Layout::of(format)?;
    let rest = serde_json::Map::new;
    let digest = two::new_digest(&format.key, vec![Id(0)], sealing.pbkdf)?;
    let mut luks = Luks2 {
        header: Header {
            size: layout.metadata_size,
            sequence: 1,
            label: format.label.clone(),
            salt: [0; 64],
            uuid: format.uuid.clone(),
            subsystem: format.subsystem.clone(),
            checksum: [0; 32],
        },
        metadata: Metadata {
            keyslots: BTreeMap::new(),
            tokens: BTreeMap::new(),
            segments: two::new_segment(layout.data, &format.cipher, format.sector_size),
            digests: BTreeMap::from([(Id(0), digest)]),
            config: Config {
                json_size: Decimal(layout.metadata_size - HEADER_BYTES as u64),
                keyslots_size: Decimal(layout.keyslots_size),
                flags: None,
                requirements: None,
                rest: rest(),
            },
            rest: rest(),
        },
    };
    let slot = two::free_slot(&luks, format.slot)?;
    let mut warnings = Vec::new();
    if layout.keyslots_size < SMALL_KEYSLOTS_SIZE {
        warnings.push(format!(
            "WARNING: keyslots area ({} bytes) is very small, available LUKS2 keyslot count is very limited.",
            layout.keyslots_size
        ));
    }
    // Nothing of an older header may be taken for this one's, wherever its second copy lay.
    wipe(device, 0, 2 * layout.metadata_size, false)?;
    for place in SIZES
        .into_iter()
        .filter(|place| *place < device.capacity().to_bytes().0)
    {
        if place < 2 * layout.metadata_size + layout.keyslots_size {
            write_bytes(device, place, &[0; HEADER_BYTES])?;
        }
    }
    wipe(device, 2 * layout.metadata_size, layout.keyslots_size, true)?;
    flush(device)?;
    store::save(device, &mut luks)?;
    two::put_key(device, &mut luks, slot, &format.key, sealing)?;
    Ok(Made {
        luks: Luks::Two(Box::new(luks)),
        warnings,
    })
}

/// The default key of a cipher, bits: 256, twice that where there are two keys.
pub fn default_key_bits(cipher: &str) -> u32 {
    match cipher.contains("-xts-") || cipher.contains("xts(") {
        true => 512,
        false => 256,
    }
}

/// Whether `cipher` can be had with a key of so many bytes.
///
/// # Errors
/// What of it there is not.
pub fn check_cipher(cipher: &str, key_bytes: u32) -> Result<(), Refused> {
    cipher_named(cipher, &vec![0x55; key_bytes as usize]).map(drop)
}
