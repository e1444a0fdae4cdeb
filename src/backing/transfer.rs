//! System calls carried to their end: after signals, after short transfers, over many pieces.

use std::io::{IoSlice, IoSliceMut};
use std::os::fd::BorrowedFd;

use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::{ReadWriteFlags, pread, preadv, preadv2, pwrite, pwritev, pwritev2};

use crate::io::{Errno, ReadBuf, WriteBuf};
use crate::unit::Bytes;

/// Repeats a system call that a signal interrupted.
pub(super) fn retry<T>(mut call: impl FnMut() -> Result<T, Errno>) -> Result<T, Errno> {
    loop {
        match call() {
            Err(Errno::INTR) => {}
            done => return done,
        }
    }
}

/// Fills `buffer` from `at`; EIO where the file ends before.
pub(super) fn read_all(
    fd: BorrowedFd<'_>,
    at: Bytes,
    mut buffer: ReadBuf<'_>,
) -> Result<(), Errno> {
    let mut offset = at.0;
    if let Some(mut rest) = buffer.as_contiguous() {
        while !rest.is_empty() {
            let n = at_least_one(retry(|| pread(fd, &mut *rest, offset)))?;
            rest = rest.get_mut(n..).unwrap_or_default();
            offset += n as u64;
        }
        return Ok(());
    }
    let mut slices = buffer.io_slices();
    let mut rest = slices.as_mut_slice();
    IoSliceMut::advance_slices(&mut rest, 0);
    while !rest.is_empty() {
        let n = at_least_one(retry(|| preadv(fd, rest, offset)))?;
        IoSliceMut::advance_slices(&mut rest, n);
        offset += n as u64;
    }
    Ok(())
}

/// Fills `buffer` from `at` with what the page cache holds; EAGAIN where it does not hold all of it, EOPNOTSUPP where
/// the file system cannot tell.
pub(super) fn read_cached(
    fd: BorrowedFd<'_>,
    at: Bytes,
    mut buffer: ReadBuf<'_>,
) -> Result<(), Errno> {
    let flags = ReadWriteFlags::NOWAIT;
    let len = buffer.len().0;
    let n = retry(|| match buffer.as_contiguous() {
        Some(bytes) => preadv2(fd, &mut [IoSliceMut::new(bytes)], at.0, flags),
        None => preadv2(fd, &mut buffer.io_slices(), at.0, flags),
    })?;
    // Also where the file ends early: who may wait finds out.
    if n as u64 == len {
        Ok(())
    } else {
        Err(Errno::AGAIN)
    }
}

/// Stores `buffer` at `at`, durably if asked to.
pub(super) fn write_all(
    fd: BorrowedFd<'_>,
    at: Bytes,
    buffer: WriteBuf<'_>,
    durable: bool,
) -> Result<(), Errno> {
    let mut offset = at.0;
    if let (Some(mut rest), false) = (buffer.as_contiguous(), durable) {
        while !rest.is_empty() {
            let n = at_least_one(retry(|| pwrite(fd, rest, offset)))?;
            rest = rest.get(n..).unwrap_or_default();
            offset += n as u64;
        }
        return Ok(());
    }
    let mut slices = buffer.io_slices();
    let mut rest = slices.as_mut_slice();
    IoSlice::advance_slices(&mut rest, 0);
    while !rest.is_empty() {
        let n = at_least_one(retry(|| match durable {
            false => pwritev(fd, rest, offset),
            true => pwritev2(fd, rest, offset, ReadWriteFlags::DSYNC),
        }))?;
        IoSlice::advance_slices(&mut rest, n);
        offset += n as u64;
    }
    Ok(())
}

/// A transfer of nothing means that the file ended early.
fn at_least_one(moved: Result<usize, Errno>) -> Result<usize, Errno> {
    match moved {
        Ok(0) => Err(Errno::IO),
        moved => moved,
    }
}

/// Gives the space of a range back; it reads as zeroes afterwards.
pub(super) fn punch_hole(fd: BorrowedFd<'_>, at: Bytes, len: Bytes) -> Result<(), Errno> {
    let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    retry(|| fallocate(fd, flags, at.0, len.0))
}
