//! Direct I/O (O_DIRECT): around the page cache, in whole blocks, from memory aligned as the file wants it.
//!
//! What is aligned goes straight through. Memory that is not is copied through a buffer of the thread's own. A
//! request that covers blocks in part reads and writes the whole block, alone in the file while it does; where
//! the last block of the file is cut short by its end, that part goes through the page cache, as a whole block
//! would make the file longer.

use std::cell::RefCell;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{AtFlags, FileType, OFlags, StatxFlags, fstat, fstatfs, statx};
use rustix::io::{ReadWriteFlags, pread, preadv, pwritev, pwritev2};

use super::Access;
use super::channel::Channel;
use super::transfer::{retry, write_all};
use crate::io::{Errno, InFlight, Inside, OpKind, Pass, ReadBuf, WriteBuf};
use crate::sync::Mutex;
use crate::unit::{Bytes, SECTOR_SIZE};

/// Most that is copied at a time, and what a thread keeps for it.
const BOUNCE: usize = 1 << 20;
/// Where the kernel does not say what it wants: enough for every file system.
const CAUTIOUS: Alignment = Alignment {
    memory: 4096,
    block: 4096,
};
const TMPFS: u32 = 0x0102_1994;

thread_local! {
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// What the file wants of a direct request, bytes; powers of two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Alignment {
    /// Of the memory's address.
    memory: usize,
    /// Of the place in the file and of the length.
    block: u64,
}

/// A file open for direct I/O.
pub(super) struct DirectFile {
    channel: Channel,
    align: Alignment,
    /// Writes of whole blocks are inside; one that reads a block, changes a part and writes it back closes it.
    whole: InFlight,
    /// One write in part at a time. Held while the others leave, and over its system calls.
    parts: Mutex<()>,
}

impl DirectFile {
    /// Opens what `place` stands for.
    ///
    /// # Errors
    /// EINVAL where the file system has no direct I/O.
    pub(super) fn open(place: BorrowedFd<'_>, access: Access) -> Result<DirectFile, Errno> {
        let channel = Channel::open(place, access, OFlags::DIRECT)?;
        let align = alignment(channel.reader())?;
        Ok(DirectFile::new(channel, align))
    }

    fn new(channel: Channel, align: Alignment) -> DirectFile {
        DirectFile {
            channel,
            align,
            whole: InFlight::new(),
            parts: Mutex::new(()),
        }
    }

    /// The descriptor for reading or for writing.
    pub(super) fn descriptor(&self, writes: bool) -> Option<BorrowedFd<'_>> {
        match writes {
            false => Some(self.channel.reader()),
            true => self.channel.writer(),
        }
    }

    /// True where the kernel takes a transfer of `len` bytes at `at` from memory at `memory` bytes past a page.
    pub(super) fn takes(&self, at: Bytes, len: Bytes, memory: Bytes) -> bool {
        self.fits(at.0, len.0) && memory.0.is_multiple_of(self.align.memory as u64)
    }

    /// True where a write of whole blocks has to hold a place among them.
    pub(super) fn guards_writes(&self) -> bool {
        self.align.block > SECTOR_SIZE
    }

    /// Takes that place; `None` while a block is written in part.
    pub(super) fn try_enter(&self, len: Bytes) -> Option<Inside<'_>> {
        self.whole.try_enter(OpKind::Write, len.whole_sectors())
    }

    /// A place that was handed over.
    pub(super) fn take_over(&self, pass: Pass) -> Inside<'_> {
        self.whole.take_over(pass)
    }

    fn enter(&self, len: Bytes) -> Inside<'_> {
        loop {
            if let Some(inside) = self.try_enter(len) {
                return inside;
            }
            self.whole.wait_open();
        }
    }

    /// Carries out `work` while nobody else writes.
    fn alone<T>(&self, work: impl FnOnce() -> T) -> T {
        let _parts = self.parts.lock();
        self.whole.close();
        self.whole.drain(&mut || true);
        let _open = OpenAgain(&self.whole);
        work()
    }

    /// Makes it writable, if it is not yet.
    ///
    /// # Errors
    /// EACCES and the like.
    pub(super) fn allow_writing(&self) -> Result<(), Errno> {
        self.channel.allow_writing(OFlags::DIRECT)
    }

    /// The unit in which it is read and written.
    pub(super) fn block(&self) -> Bytes {
        Bytes(self.align.block)
    }

    /// Fills `buffer` from `at`; EIO where the file ends before.
    pub(super) fn read(&self, at: Bytes, mut buffer: ReadBuf<'_>) -> Result<(), Errno> {
        let fd = self.channel.reader();
        let len = buffer.len().0;
        let mut done = 0;
        if self.fits(at.0, len)
            && self.pieces_fit(|visit| buffer.for_each_piece(|piece| visit(piece)))
        {
            done = retry(|| preadv(fd, &mut buffer.io_slices(), at.0))? as u64;
        }
        let (_, mut rest) = buffer.split_at(Bytes(done));
        let mut at = at.0 + done;
        while !rest.is_empty() {
            let span = Span::of(at, rest.len().0, self.align.block);
            let n = with_buffer(span.whole_len, self.align.memory, |block| {
                let got = read_up_to(fd, block, span.start, span.skip + span.len)?;
                let got = got.get(span.skip..span.skip + span.len).ok_or(Errno::IO)?;
                let (mut first, _) = rest.reborrow().split_at(Bytes(got.len() as u64));
                let mut from = got;
                first.for_each_piece(|piece| {
                    let (now, later) = from.split_at(piece.len().min(from.len()));
                    piece.copy_from_slice(now);
                    from = later;
                });
                Ok::<_, Errno>(got.len() as u64)
            })?;
            (_, rest) = rest.split_at(Bytes(n));
            at += n;
        }
        Ok(())
    }

    /// Stores `buffer` at `at`, durably if asked to. The file is `size` long; `buffered` is its descriptor
    /// through the page cache.
    pub(super) fn write(
        &self,
        at: Bytes,
        buffer: WriteBuf<'_>,
        durable: bool,
        size: Bytes,
        buffered: BorrowedFd<'_>,
    ) -> Result<(), Errno> {
        let fd = self.channel.writer().ok_or(Errno::PERM)?;
        let len = buffer.len().0;
        if !self.fits(at.0, len) {
            return self.alone(|| {
                let whole = size.0 - size.0 % self.align.block;
                let (first, cut_off) = buffer.split_at(Bytes(whole.saturating_sub(at.0)));
                let first_len = first.len().0;
                self.copy_in(fd, at.0, first, durable)?;
                write_all(buffered, Bytes(at.0 + first_len), cut_off, durable)
            });
        }
        // Blocks no larger than a sector are never written in part.
        let _inside = self.guards_writes().then(|| self.enter(buffer.len()));
        let mut done = 0;
        if self.pieces_fit(|visit| buffer.for_each_piece(visit)) {
            let slices = buffer.io_slices();
            done = retry(|| match durable {
                false => pwritev(fd, &slices, at.0),
                true => pwritev2(fd, &slices, at.0, ReadWriteFlags::DSYNC),
            })? as u64;
            done -= done % self.align.block;
        }
        let (_, rest) = buffer.split_at(Bytes(done));
        self.copy_in(fd, at.0 + done, rest, durable)
    }

    /// Writes through the thread's buffer; blocks covered in part are read first.
    fn copy_in(
        &self,
        fd: BorrowedFd<'_>,
        mut at: u64,
        mut rest: WriteBuf<'_>,
        durable: bool,
    ) -> Result<(), Errno> {
        while !rest.is_empty() {
            let span = Span::of(at, rest.len().0, self.align.block);
            let (first, later) = rest.split_at(Bytes(span.len as u64));
            with_buffer(span.whole_len, self.align.memory, |block| {
                if span.is_cut() {
                    let got = read_up_to(fd, block, span.start, span.whole_len)?;
                    if got.len() < span.whole_len {
                        return Err(Errno::IO);
                    }
                }
                let mut to = block.get_mut(span.skip..).unwrap_or_default();
                first.for_each_piece(|piece| {
                    let (now, later) = std::mem::take(&mut to).split_at_mut(piece.len());
                    now.copy_from_slice(piece);
                    to = later;
                });
                self.write_blocks(fd, block, span.start, durable)
            })?;
            rest = later;
            at += span.len as u64;
        }
        Ok(())
    }

    /// Writes aligned memory to whole blocks.
    fn write_blocks(
        &self,
        fd: BorrowedFd<'_>,
        mut rest: &[u8],
        mut at: u64,
        durable: bool,
    ) -> Result<(), Errno> {
        while !rest.is_empty() {
            let slices = [std::io::IoSlice::new(rest)];
            let n = retry(|| match durable {
                false => pwritev(fd, &slices, at),
                true => pwritev2(fd, &slices, at, ReadWriteFlags::DSYNC),
            })? as u64;
            // A short write may end inside a block; that block is written again.
            let n = n - n % self.align.block;
            if n == 0 {
                return Err(Errno::IO);
            }
            rest = rest.get(n as usize..).unwrap_or_default();
            at += n;
        }
        Ok(())
    }

    fn fits(&self, at: u64, len: u64) -> bool {
        at.is_multiple_of(self.align.block) && len.is_multiple_of(self.align.block)
    }

    fn pieces_fit(&self, for_each: impl FnOnce(&mut dyn FnMut(&[u8]))) -> bool {
        let mut fit = true;
        for_each(&mut |piece| {
            fit &= piece.as_ptr().addr().is_multiple_of(self.align.memory)
                && (piece.len() as u64).is_multiple_of(self.align.block);
        });
        fit
    }
}

/// Lets writes of whole blocks in again, when dropped.
struct OpenAgain<'a>(&'a InFlight);

impl Drop for OpenAgain<'_> {
    fn drop(&mut self) {
        self.0.open();
    }
}

/// The next stretch of a request that goes through the thread's buffer, and the whole blocks around it.
struct Span {
    start: u64,
    whole_len: usize,
    skip: usize,
    len: usize,
}

impl Span {
    fn of(at: u64, len: u64, block: u64) -> Span {
        let start = at - at % block;
        let skip = at - start;
        let len = len.min((BOUNCE as u64).max(block) - skip);
        Span {
            start,
            whole_len: (skip + len).next_multiple_of(block) as usize,
            skip: skip as usize,
            len: len as usize,
        }
    }

    /// True where a block at either end is covered in part.
    fn is_cut(&self) -> bool {
        self.skip != 0 || self.len != self.whole_len
    }
}

/// Reads whole blocks into aligned memory until `enough` bytes are there, or the file ends.
fn read_up_to<'b>(
    fd: BorrowedFd<'_>,
    block: &'b mut [u8],
    at: u64,
    enough: usize,
) -> Result<&'b [u8], Errno> {
    let mut got = retry(|| pread(fd, &mut *block, at))?;
    while got < enough {
        // A direct read stops short at the end of the file only, or for a reason that the next one tells; it
        // is repeated as a whole, as the place where it stopped need not be a block's.
        let again = retry(|| pread(fd, &mut *block, at))?;
        if again <= got {
            break;
        }
        got = again;
    }
    Ok(block.get(..got).unwrap_or_default())
}

/// Hands out `len` bytes of the thread's buffer, aligned to `align`.
fn with_buffer<T>(len: usize, align: usize, work: impl FnOnce(&mut [u8]) -> T) -> T {
    BUFFER.with_borrow_mut(|buffer| {
        if buffer.len() < len + align {
            buffer.resize(len + align, 0);
        }
        let skip = buffer.as_ptr().addr().wrapping_neg() % align;
        work(buffer.get_mut(skip..skip + len).unwrap_or_default())
    })
}

/// What the file wants, as statx tells it (Linux 6.1 and later).
fn alignment(fd: BorrowedFd<'_>) -> Result<Alignment, Errno> {
    // A block device's node may be on a tmpfs, which then says nothing about the device.
    let regular = FileType::from_raw_mode(fstat(fd)?.st_mode).is_file();
    if regular && fstatfs(fd)?.f_type as u32 == TMPFS {
        // There is no cache to go around, and no block.
        return Ok(Alignment {
            memory: 1,
            block: SECTOR_SIZE,
        });
    }
    let told = statx(fd.as_fd(), c"", AtFlags::EMPTY_PATH, StatxFlags::DIOALIGN)?;
    if told.stx_mask & StatxFlags::DIOALIGN.bits() == 0 {
        return Ok(CAUTIOUS);
    }
    if told.stx_dio_offset_align == 0 {
        return Err(Errno::OPNOTSUPP);
    }
    let align = Alignment {
        memory: told.stx_dio_mem_align.max(1) as usize,
        block: u64::from(told.stx_dio_offset_align).max(SECTOR_SIZE),
    };
    let sane = align.memory.is_power_of_two() && align.block.is_power_of_two();
    Ok(if sane { align } else { CAUTIOUS })
}

#[cfg(test)]
mod tests;
