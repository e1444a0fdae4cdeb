//! The ioctls of block devices that have no safe wrapper elsewhere.

#![allow(unsafe_code)]

use std::os::fd::AsFd;

use rustix::io::Result;
use rustix::ioctl::{Getter, Opcode, Setter, ioctl, opcode};

const BLKGETSIZE64: Opcode = opcode::read::<usize>(0x12, 114);
const BLKDISCARD: Opcode = opcode::none(0x12, 119);
const BLKIOMIN: Opcode = opcode::none(0x12, 120);
const BLKIOOPT: Opcode = opcode::none(0x12, 121);

/// Length of a block device, bytes.
///
/// # Errors
/// ENOTTY where it is none.
pub(super) fn device_size(fd: impl AsFd) -> Result<u64> {
    // SAFETY: BLKGETSIZE64 stores one u64 (its size_t is part of the number only).
    unsafe { ioctl(fd, Getter::<BLKGETSIZE64, u64>::new()) }
}

/// Smallest preferred request of a block device, bytes.
///
/// # Errors
/// ENOTTY where it is none.
pub(super) fn io_min(fd: impl AsFd) -> Result<u32> {
    // SAFETY: BLKIOMIN stores one unsigned int.
    unsafe { ioctl(fd, Getter::<BLKIOMIN, u32>::new()) }
}

/// Preferred request of a block device for streaming, bytes; 0 where it has none.
///
/// # Errors
/// ENOTTY where it is none.
pub(super) fn io_opt(fd: impl AsFd) -> Result<u32> {
    // SAFETY: BLKIOOPT stores one unsigned int.
    unsafe { ioctl(fd, Getter::<BLKIOOPT, u32>::new()) }
}

/// Discards `len` bytes of a block device from `offset`.
///
/// # Errors
/// EOPNOTSUPP where it does not discard, EINVAL for a range that is not whole logical blocks.
pub(super) fn discard(fd: impl AsFd, offset: u64, len: u64) -> Result<()> {
    // SAFETY: BLKDISCARD reads an array of two u64, offset and length.
    unsafe { ioctl(fd, Setter::<BLKDISCARD, [u64; 2]>::new([offset, len])) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::{device_size, discard, io_min, io_opt};
    use crate::io::Errno;

    #[test]
    fn a_regular_file_is_told_from_a_block_device() {
        let file = tempfile::tempfile().unwrap();
        assert_eq!(device_size(&file).unwrap_err(), Errno::NOTTY);
        assert_eq!(io_min(&file).unwrap_err(), Errno::NOTTY);
        assert_eq!(io_opt(&file).unwrap_err(), Errno::NOTTY);
        assert_eq!(discard(&file, 0, 512).unwrap_err(), Errno::NOTTY);
    }
}
