//! Finds out what a file or block device can do.

use std::fs;
use std::io::IoSliceMut;
use std::os::fd::BorrowedFd;

use rustix::fs::{
    FallocateFlags, fallocate, fstat, fstatfs, ioctl_blkpbszget, ioctl_blksszget, major, minor,
};
use rustix::io::{ReadWriteFlags, preadv2};

use super::ioctl;
use crate::io::{Errno, Limits};
use crate::unit::{Bytes, Sectors};

/// Most sectors of one discard or write-zeroes: 2 GiB, a multiple of every block size, and near the most that
/// the kernel's loop driver takes.
const MAX_UNMAP: Sectors = Sectors(1 << 22);
/// Major number of the kernel's RAM disk.
const RAMDISK_MAJOR: u32 = 1;
/// File systems that live in memory (statfs f_type): tmpfs, ramfs, hugetlbfs.
const MEMORY_FILE_SYSTEMS: [u32; 3] = [0x0102_1994, 0x8584_58f6, 0x9584_58f6];

/// Limits of a file used around the page cache by its `writer`, who may be nobody.
pub(super) fn file_limits(fd: BorrowedFd<'_>, writer: Option<BorrowedFd<'_>>) -> Limits {
    let system = fstatfs(fd).ok();
    let in_memory = system
        .as_ref()
        .is_some_and(|system| MEMORY_FILE_SYSTEMS.contains(&(system.f_type as u32)));
    let block = system.and_then(|system| u32::try_from(system.f_bsize).ok());
    let block = block.filter(|block| block.is_power_of_two() && *block >= 512);
    let punches = writer.is_some_and(punches_holes);
    Limits {
        io_min: 512,
        max_discard: if punches { MAX_UNMAP } else { Sectors::ZERO },
        discard_granularity: if punches { block.unwrap_or(4096) } else { 0 },
        max_write_zeroes: MAX_UNMAP,
        waits: !in_memory,
        ..Limits::default()
    }
}

/// Asks the file system for a hole where the file has already ended: nothing changes.
fn punches_holes(fd: BorrowedFd<'_>) -> bool {
    let Ok(stat) = fstat(fd) else { return false };
    let end = stat.st_size.unsigned_abs().checked_next_multiple_of(4096);
    let Some(end) = end.filter(|end| *end < (i64::MAX as u64) - 4096) else {
        return true;
    };
    let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    fallocate(fd, flags, end, 4096) != Err(Errno::OPNOTSUPP)
}

/// Whether the page cache can be asked for what it holds without waiting for the rest.
pub(super) fn reads_cached(fd: BorrowedFd<'_>) -> bool {
    let mut byte = [0];
    let asked = preadv2(
        fd,
        &mut [IoSliceMut::new(&mut byte)],
        0,
        ReadWriteFlags::NOWAIT,
    );
    matches!(asked, Ok(_) | Err(Errno::AGAIN))
}

/// Limits of the block device `rdev`.
pub(super) fn block_limits(fd: BorrowedFd<'_>, rdev: u64) -> Limits {
    let logical = ioctl_blksszget(fd).unwrap_or(512);
    let granularity = queue_number(rdev, "discard_granularity");
    Limits {
        logical_block_size: logical,
        physical_block_size: ioctl_blkpbszget(fd).unwrap_or(logical),
        io_min: ioctl::io_min(fd).unwrap_or(logical),
        io_opt: ioctl::io_opt(fd).unwrap_or(0),
        max_discard: Bytes(queue_number(rdev, "discard_max_bytes")).whole_sectors(),
        discard_granularity: u32::try_from(granularity).unwrap_or(0),
        max_write_zeroes: MAX_UNMAP,
        waits: major(rdev) != RAMDISK_MAJOR,
    }
}

fn queue_number(rdev: u64, what: &str) -> u64 {
    let device = format!("/sys/dev/block/{}:{}", major(rdev), minor(rdev));
    // A partition has no queue of its own but stands in its disk's folder.
    let text = fs::read_to_string(format!("{device}/queue/{what}"))
        .or_else(|_| fs::read_to_string(format!("{device}/../queue/{what}")));
    let number = text.ok().and_then(|text| text.trim().parse().ok());
    number.unwrap_or(0)
}
