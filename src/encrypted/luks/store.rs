//! The two copies of a LUKS2 header on their device.
//!
//! A change writes the first copy, makes it durable, and only then the second, both with the next sequence number: at
//! any moment one of them is whole, and the whole one with the higher number is what holds.

use super::super::Refused;
use super::super::bytes::{flush, read_bytes, write_bytes};
use super::super::secret::fill_random;
use crate::format::luks2::{Copy, Luks2, SIZES, read, write};
use crate::io::BlockDev;

/// What the copies are like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// Both are whole and the same.
    Both,
    /// The second is damaged or older.
    PrimaryOnly,
    /// The first is damaged or older.
    SecondaryOnly,
}

/// Reads the copy that holds.
///
/// # Errors
/// Where none is whole: what is wrong with the first.
pub fn load(device: &dyn BlockDev) -> Result<(Luks2, Health), Refused> {
    let primary = copy_at(device, 0, Copy::Primary);
    let places = match &primary {
        Ok(luks) => vec![luks.header.size],
        Err(_) => SIZES.to_vec(),
    };
    let secondary = places
        .into_iter()
        .filter_map(|place| copy_at(device, place, Copy::Secondary).ok())
        .max_by_key(|luks| luks.header.sequence);
    match (primary, secondary) {
        (Ok(one), Some(two)) if two.header.sequence > one.header.sequence => {
            Ok((two, Health::SecondaryOnly))
        }
        (Ok(one), Some(two)) if two.header.sequence == one.header.sequence => {
            Ok((one, Health::Both))
        }
        (Ok(one), _) => Ok((one, Health::PrimaryOnly)),
        (Err(_), Some(two)) => Ok((two, Health::SecondaryOnly)),
        (Err(why), None) => Err(why),
    }
}

fn copy_at(device: &dyn BlockDev, place: u64, copy: Copy) -> Result<Luks2, Refused> {
    // The smallest copy tells how long it is.
    let first = read_bytes(device, place, SIZES[0])?;
    let bytes = match read(&first, copy) {
        Ok(luks) => return Ok(luks),
        Err(why) => match first.get(8..16).and_then(|size| size.try_into().ok()) {
            Some(size) if SIZES[1..].contains(&u64::from_be_bytes(size)) => {
                read_bytes(device, place, u64::from_be_bytes(size))?
            }
            _ => return Err(why.into()),
        },
    };
    Ok(read(&bytes, copy)?)
}

/// Writes both copies with the next sequence number and fresh salts.
///
/// # Errors
/// Metadata that makes no sense or does not fit, before anything is written; what the device answers.
pub fn save(device: &dyn BlockDev, luks: &mut Luks2) -> Result<(), Refused> {
    let mut next = luks.clone();
    next.header.sequence =
        next.header.sequence.checked_add(1).ok_or_else(|| {
            Refused::invalid("The header's sequence number cannot grow any more.")
        })?;
    for copy in [Copy::Primary, Copy::Secondary] {
        fill_random(&mut next.header.salt)
            .map_err(|error| Refused::invalid(format!("No randomness: {error}.")))?;
        let bytes = write(&next, copy)?;
        write_bytes(device, copy.offset(next.header.size), &bytes)?;
        flush(device)?;
    }
    *luks = next;
    Ok(())
}
