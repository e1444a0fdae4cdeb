//! Headers as bytes of a device, whose requests are whole sectors.

use super::secret::fill_random;
use super::{Kind, Refused};
use crate::io::{BlockDev, ReadBuf, Request, WriteBuf};
use crate::unit::{Bytes, SECTOR_SIZE, Sector};

/// Longest write at once when much is wiped, bytes.
const CHUNK: u64 = 1 << 20;

/// `len` bytes from byte `at`, of which there may be fewer on the device: no more than there are.
///
/// # Errors
/// What the device answers.
pub fn read_bytes(device: &dyn BlockDev, at: u64, len: u64) -> Result<Vec<u8>, Refused> {
    let end = at.saturating_add(len).min(device.capacity().to_bytes().0);
    if end <= at {
        return Ok(Vec::new());
    }
    let block = block_of(device);
    let first = at - at % block;
    let whole = end
        .next_multiple_of(block)
        .min(device.capacity().to_bytes().0)
        - first;
    let mut bytes = vec![0; size(whole)?];
    let sector = Sector(first / SECTOR_SIZE);
    device.submit(Request::read(sector, ReadBuf::new(&mut bytes)))?;
    bytes.truncate(size(end - first)?);
    Ok(bytes.split_off(size(at - first)?))
}

/// Writes `data` from byte `at`, filling the last sector with what is there.
///
/// # Errors
/// A device too small, and what the device answers.
pub fn write_bytes(device: &dyn BlockDev, at: u64, data: &[u8]) -> Result<(), Refused> {
    let block = block_of(device);
    let end = at.saturating_add(data.len() as u64);
    if end > device.capacity().to_bytes().0 {
        return Err(Refused::new(Kind::Device, "The device is too small."));
    }
    let first = at - at % block;
    let whole = end.next_multiple_of(block);
    let sector = Sector(first / SECTOR_SIZE);
    if first == at && whole == end {
        return Ok(device.submit(Request::write(sector, WriteBuf::new(data)))?);
    }
    let mut bytes = read_bytes(device, first, whole - first)?;
    let begin = size(at - first)?;
    let place = bytes.get_mut(begin..begin + data.len());
    place
        .ok_or_else(|| Refused::new(Kind::Device, "The device is too small."))?
        .copy_from_slice(data);
    Ok(device.submit(Request::write(sector, WriteBuf::new(&bytes)))?)
}

/// Makes all that was written durable.
///
/// # Errors
/// What the device answers.
pub fn flush(device: &dyn BlockDev) -> Result<(), Refused> {
    Ok(device.submit(Request::flush())?)
}

/// Overwrites `len` bytes from byte `at`, as far as the device goes, with randomness or with zeroes.
///
/// # Errors
/// What the device answers; no randomness.
pub fn wipe(device: &dyn BlockDev, at: u64, len: u64, is_random: bool) -> Result<(), Refused> {
    let end = at.saturating_add(len).min(device.capacity().to_bytes().0);
    let mut next = at;
    let mut chunk = vec![0; size(CHUNK.min(end.saturating_sub(at)))?];
    while next < end {
        let n = CHUNK.min(end - next);
        let part = chunk.get_mut(..size(n)?).unwrap_or_default();
        if is_random {
            fill_random(part)
                .map_err(|error| Refused::invalid(format!("No randomness: {error}.")))?;
        }
        write_bytes(device, next, part)?;
        next += n;
    }
    Ok(())
}

fn block_of(device: &dyn BlockDev) -> u64 {
    u64::from(device.logical_block_size()).max(SECTOR_SIZE)
}

fn size(bytes: u64) -> Result<usize, Refused> {
    usize::try_from(bytes).map_err(|_| {
        Refused::new(
            Kind::Memory,
            format!("{} bytes are too many.", Bytes(bytes)),
        )
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::{read_bytes, wipe, write_bytes};
    use crate::backing::Crashing;
    use crate::io::Limits;

    #[test]
    fn bytes_need_not_be_whole_blocks() {
        for block in [512, 4096] {
            let limits = Limits {
                logical_block_size: block,
                ..Limits::default()
            };
            let mut expected: Vec<u8> = (0..16384_u32).map(|n| n as u8).collect();
            let device = Crashing::with_limits(expected.clone(), limits);
            write_bytes(&device, 1000, &[7; 3500]).unwrap();
            expected[1000..4500].fill(7);
            assert_eq!(device.contents(), expected);
            assert_eq!(read_bytes(&device, 999, 5).unwrap(), expected[999..1004]);
            assert_eq!(read_bytes(&device, 16000, 9999).unwrap(), expected[16000..]);
            assert!(read_bytes(&device, 20000, 1).unwrap().is_empty());
            assert!(write_bytes(&device, 16000, &[0; 400]).is_err());
            wipe(&device, 512, 99999, false).unwrap();
            expected[512..].fill(0);
            assert_eq!(device.contents(), expected);
            wipe(&device, 0, 4096, true).unwrap();
            assert_ne!(device.contents(), expected);
        }
    }
}
