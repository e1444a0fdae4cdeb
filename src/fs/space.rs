//! Space: what `fallocate`, `lseek` and `statfs` mean for a device.
//!
//! Modes of `fallocate` are those of a block device (block/fops.c, blkdev_fallocate) where it has them. A punched
//! hole reads as zeroes afterwards: that is what callers of a regular file rely on.

use rustix::fs::FallocateFlags;

use super::bytes;
use crate::io::{BlockDev, Edges, Errno, Flags, IoError, IoResult, Op};

/// Carries out `fallocate`.
///
/// # Errors
/// ENOSPC for space beyond the end; EOPNOTSUPP for modes that a device does not have, and for a hole in one
/// that can neither zero nor discard by itself (callers then write zeroes); else what the device answers.
pub fn allocate(
    device: &dyn BlockDev,
    edges: &Edges,
    at: u64,
    len: u64,
    mode: i32,
    flags: Flags,
) -> IoResult {
    let mode = FallocateFlags::from_bits_retain(mode as u32);
    let size = bytes::size(device);
    let fits = at.checked_add(len).is_some_and(|end| end <= size);
    let without_keep = mode & !FallocateFlags::KEEP_SIZE;
    if mode == FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE {
        let limits = device.limits();
        // Where both are there, zeroing gives the space back as well, and says what is read afterwards.
        let hole: fn() -> Op<'static> = match (limits.writes_zeroes(), limits.discards()) {
            (true, _) => || Op::WriteZeroes { may_unmap: true },
            (false, true) => || Op::Discard,
            (false, false) => return Err(IoError::UNSUPPORTED),
        };
        return bytes::zero(device, edges, at, len, hole, flags);
    }
    if without_keep == FallocateFlags::ZERO_RANGE {
        if !fits && !mode.contains(FallocateFlags::KEEP_SIZE) {
            return Err(Errno::NOSPC.into());
        }
        let zeroes = || Op::WriteZeroes { may_unmap: false };
        return bytes::zero(device, edges, at, len, zeroes, flags);
    }
    if without_keep.is_empty() {
        // All of a device's space is there already.
        return if fits {
            Ok(())
        } else {
            Err(Errno::NOSPC.into())
        };
    }
    Err(IoError::UNSUPPORTED)
}

/// Carries out `lseek` with SEEK_DATA or SEEK_HOLE; the kernel does the other kinds by itself.
///
/// # Errors
/// ENXIO beyond the end, or where no data follows; EINVAL for another kind.
pub fn seek(device: &dyn BlockDev, at: i64, whence: i32) -> Result<i64, IoError> {
    let holes = match whence {
        libc::SEEK_DATA => false,
        libc::SEEK_HOLE => true,
        _ => return Err(Errno::INVAL.into()),
    };
    let at = u64::try_from(at).map_err(|_| IoError::from(Errno::NXIO))?;
    let place = bytes::seek(device, at, holes)?;
    i64::try_from(place).map_err(|_| Errno::OVERFLOW.into())
}
