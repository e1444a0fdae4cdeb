//! Where the data of a file lies on the device of its file system (FS_IOC_FIEMAP, linux/fiemap.h).

#![allow(unsafe_code)]

use std::os::fd::AsFd;

use rustix::io::Errno;
use rustix::ioctl::{Opcode, Updater, ioctl, opcode};

use crate::unit::Bytes;

const FS_IOC_FIEMAP: Opcode = opcode::read_write::<[u64; 4]>(b'f', 11);
/// What is not written yet gets its place first.
const FIEMAP_FLAG_SYNC: u32 = 1;
const FIEMAP_EXTENT_LAST: u32 = 1;
/// UNKNOWN, DELALLOC, ENCODED, DATA_ENCRYPTED, NOT_ALIGNED, DATA_INLINE, DATA_TAIL: not, or not as they are, on the device
/// in whole blocks.
const NOT_PLACED: u32 = 2 | 4 | 8 | 0x80 | 0x100 | 0x200 | 0x400;
/// Extents asked for at a time.
const AT_A_TIME: usize = 64;

/// struct fiemap_extent
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Extent {
    logical: u64,
    physical: u64,
    length: u64,
    reserved64: [u64; 2],
    flags: u32,
    reserved: [u32; 3],
}

/// struct fiemap, with room for its extents
#[repr(C)]
struct Map {
    start: u64,
    length: u64,
    flags: u32,
    mapped_extents: u32,
    extent_count: u32,
    reserved: u32,
    extents: [Extent; AT_A_TIME],
}

const _: () = assert!(size_of::<Extent>() == 56 && size_of::<Map>() == 32 + 56 * AT_A_TIME);

/// A stretch of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stretch {
    /// Where it begins.
    pub at: Bytes,
    /// How long it is.
    pub len: Bytes,
}

/// The stretches in which the data of `file` lies, in the file's order; what follows one another on the device is one.
///
/// # Errors
/// EOPNOTSUPP where the file system cannot tell.
pub fn file_stretches(file: impl AsFd) -> Result<Vec<Stretch>, Errno> {
    let mut stretches: Vec<Stretch> = Vec::new();
    let mut start = 0;
    loop {
        let mut map = Map {
            start,
            length: u64::MAX - start,
            flags: FIEMAP_FLAG_SYNC,
            mapped_extents: 0,
            extent_count: AT_A_TIME as u32,
            reserved: 0,
            extents: [Extent::default(); AT_A_TIME],
        };
        // SAFETY: FS_IOC_FIEMAP reads and writes a struct fiemap with the `extent_count` extents that follow it, in which
        // every bit pattern is a value.
        unsafe { ioctl(&file, Updater::<FS_IOC_FIEMAP, Map>::new(&mut map))? };
        let found = map.extents.iter().take(map.mapped_extents as usize);
        for extent in found
            .clone()
            .filter(|extent| extent.flags & NOT_PLACED == 0)
        {
            let (at, len) = (Bytes(extent.physical), Bytes(extent.length));
            match stretches.last_mut() {
                Some(last) if last.at.0.checked_add(last.len.0) == Some(at.0) => {
                    last.len.0 += len.0
                }
                _ => stretches.push(Stretch { at, len }),
            }
        }
        let Some(last) = found.clone().next_back() else {
            break;
        };
        let next = last.logical.saturating_add(last.length);
        if last.flags & FIEMAP_EXTENT_LAST != 0 || next <= start {
            break;
        }
        start = next;
    }
    Ok(stretches)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use rustix::io::Errno;

    use super::file_stretches;

    #[test]
    fn holes_lie_nowhere_and_pipes_neither() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(1 << 20).unwrap();
        match file_stretches(&file) {
            Ok(stretches) => assert_eq!(stretches, []),
            // tmpfs
            Err(error) => assert_eq!(error, Errno::OPNOTSUPP),
        }
        let (reader, _writer) = std::io::pipe().unwrap();
        assert!(file_stretches(&reader).is_err());
    }
}
