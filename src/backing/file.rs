//! A regular file, block device or anonymous file, read and written through descriptors that all openers in
//! this process share.
//!
//! Requests are carried out at once by the caller's thread. The descriptor used for flushing is used for
//! nothing else: the kernel tells a failed writeback once to every descriptor, and a durable write that fails
//! must not use up what the next flush has to report.

use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{
    FallocateFlags, FlockOperation, Mode, OFlags, SeekFrom, fallocate, fdatasync, flock, fstat,
    fstatfs, open, seek,
};
use rustix::io::{ReadWriteFlags, pread, preadv, pwrite, pwritev, pwritev2};

use super::direct::DirectFile;
use super::lock::{FileId, device_holder, lock_file};
use super::{Access, BackingError, ioctl};
use crate::io::{Errno, Extent, IoError, IoResult, Limits, Op, ReadBuf, Request, WriteBuf};
use crate::sync::{AtomicBool, AtomicU32, AtomicU64, Mutex, OnceLock, Ordering, RwLock};
use crate::unit::{Bytes, SECTOR_SIZE, Sector, Sectors};

/// Most sectors of one discard or write-zeroes: 2 GiB, a multiple of every block size, and near the most that
/// the kernel's loop driver takes.
const MAX_UNMAP: Sectors = Sectors(1 << 22);
/// How much is written at a time where the file system cannot zero a range.
const ZEROES: &[u8] = &[0; 1 << 18];
/// Major number of the kernel's RAM disk.
const RAMDISK_MAJOR: u32 = 1;
/// File systems that live in memory (statfs f_type): tmpfs, ramfs, hugetlbfs.
const MEMORY_FILE_SYSTEMS: [u32; 3] = [0x0102_1994, 0x8584_58f6, 0x9584_58f6];

/// What kind of thing is behind the descriptors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A regular file.
    Regular(FileId),
    /// A block device and its number (st_rdev).
    Block(u64),
    /// An anonymous file in memory: nothing survives it, so nothing needs flushing.
    Memory,
}

/// One way into the file (through the page cache or around it): a descriptor for reading, and one for writing
/// as soon as somebody writes.
pub(super) struct Channel {
    first: OwnedFd,
    first_writes: bool,
    writer: OnceLock<OwnedFd>,
}

/// The file, shared by its openers.
pub(super) struct FileDevice {
    kind: Kind,
    buffered: Channel,
    direct: OnceLock<DirectFile>,
    flusher: OwnedFd,
    /// Bytes; whole sectors.
    size: AtomicU64,
    limits: RwLock<Limits>,
    /// False once the file system has refused to zero a range.
    zeroes_ranges: AtomicBool,
    /// The errno of the first flush that failed, 0 before. Stands alone: orders nothing else.
    failed_flush: AtomicU32,
    n_errors: AtomicU64,
    /// Strongest access granted so far; guards opening further descriptors. Taken after the store's lock.
    granted: Mutex<Access>,
}

impl Channel {
    fn new(first: OwnedFd, access: Access) -> Channel {
        Channel {
            first,
            first_writes: access == Access::ReadWrite,
            writer: OnceLock::new(),
        }
    }

    /// Opens what `place` stands for with `flags`, besides those that `access` means.
    pub(super) fn open(
        place: BorrowedFd<'_>,
        access: Access,
        flags: OFlags,
    ) -> Result<Channel, Errno> {
        reopen(place, access, flags).map(|fd| Channel::new(fd, access))
    }

    pub(super) fn reader(&self) -> BorrowedFd<'_> {
        self.first.as_fd()
    }

    pub(super) fn writer(&self) -> Option<BorrowedFd<'_>> {
        if self.first_writes {
            return Some(self.first.as_fd());
        }
        self.writer.get().map(|fd| fd.as_fd())
    }

    /// Makes the channel writable, if it is not yet.
    pub(super) fn allow_writing(&self, flags: OFlags) -> Result<(), Errno> {
        if self.writer().is_none() {
            let fd = reopen(self.reader(), Access::ReadWrite, flags)?;
            // Callers hold `granted`: nobody else can have set it.
            let _ = self.writer.set(fd);
        }
        Ok(())
    }
}

/// Opens anew what `place` stands for, whatever its path means by now.
fn reopen(place: BorrowedFd<'_>, access: Access, flags: OFlags) -> Result<OwnedFd, Errno> {
    let mode = match access {
        Access::ReadOnly => OFlags::RDONLY,
        Access::ReadWrite => OFlags::RDWR,
    };
    let path = format!("/proc/self/fd/{}", place.as_raw_fd());
    open(
        path,
        mode | flags | OFlags::CLOEXEC | OFlags::NOCTTY,
        Mode::empty(),
    )
}

/// Opens a block device and claims it, for writing where that is possible: the claim belongs to the descriptor, a
/// discard wants both in one, and the claim cannot pass from a first opener's to a later one's.
fn claim(place: BorrowedFd<'_>, access: Access) -> Result<(Channel, Access), Errno> {
    let writable = Channel::open(place, Access::ReadWrite, OFlags::EXCL).and_then(|channel| {
        // The kernel opens such a device for writing and refuses the writes.
        match ioctl::is_read_only(channel.reader())? {
            true => Err(Errno::ACCESS),
            false => Ok((channel, Access::ReadWrite)),
        }
    });
    match (writable, access) {
        (Err(errno), Access::ReadOnly) if errno != Errno::BUSY => {
            Channel::open(place, access, OFlags::EXCL).map(|channel| (channel, access))
        }
        (opened, _) => opened,
    }
}

impl FileDevice {
    /// Opens the file or block device that `place` (an O_PATH descriptor) stands for.
    ///
    /// # Errors
    /// EBUSY where somebody else uses it, EACCES where it may not be used so, else the kernel's errno.
    pub(super) fn open(
        place: BorrowedFd<'_>,
        kind: Kind,
        access: Access,
        path: &Path,
    ) -> Result<FileDevice, BackingError> {
        let opened = match kind {
            Kind::Block(_) => claim(place, access),
            Kind::Regular(_) | Kind::Memory => {
                Channel::open(place, access, OFlags::empty()).map(|channel| (channel, access))
            }
        };
        let (buffered, access) = opened.map_err(|errno| open_error(errno, kind, access, path))?;
        if let Kind::Regular(id) = kind {
            lock_file(buffered.reader(), id, access, path, None)?;
        }
        FileDevice::new(buffered, kind, access, path)
    }

    /// The anonymous file `fd`.
    pub(super) fn memory(fd: OwnedFd, path: &Path) -> Result<FileDevice, BackingError> {
        FileDevice::new(
            Channel::new(fd, Access::ReadWrite),
            Kind::Memory,
            Access::ReadWrite,
            path,
        )
    }

    fn new(
        buffered: Channel,
        kind: Kind,
        access: Access,
        path: &Path,
    ) -> Result<FileDevice, BackingError> {
        let flusher = reopen(buffered.reader(), Access::ReadOnly, OFlags::empty())
            .map_err(|errno| open_error(errno, kind, Access::ReadOnly, path))?;
        let device = FileDevice {
            kind,
            buffered,
            direct: OnceLock::new(),
            flusher,
            size: AtomicU64::new(0),
            limits: RwLock::new(Limits::default()),
            zeroes_ranges: AtomicBool::new(true),
            failed_flush: AtomicU32::new(0),
            n_errors: AtomicU64::new(0),
            granted: Mutex::new(access),
        };
        device.refresh().map_err(|error| {
            BackingError::new(
                error.errno(),
                format!("{}: no size: {error}", path.display()),
            )
        })?;
        device.check_size(path)?;
        Ok(device)
    }

    fn check_size(&self, path: &Path) -> Result<(), BackingError> {
        if !matches!(self.kind, Kind::Regular(_)) {
            return Ok(());
        }
        let len = fstat(self.buffered.reader())
            .map(|stat| stat.st_size.unsigned_abs())
            .unwrap_or_default();
        if len < SECTOR_SIZE {
            return Err(BackingError::new(
                Errno::INVAL,
                format!(
                    "{} has {len} bytes: a device has at least one sector (512 bytes)",
                    path.display()
                ),
            ));
        }
        if !Bytes(len).is_whole_sectors() {
            log::warn!(
                "{}: its length is not a multiple of 512: the last {} bytes are not used",
                path.display(),
                len % SECTOR_SIZE
            );
        }
        Ok(())
    }

    /// Makes the file fit for one more opener, who uses it as `access` says.
    ///
    /// # Errors
    /// As for [`FileDevice::open`]; what was allowed before stays so.
    pub(super) fn admit(
        &self,
        access: Access,
        direct: bool,
        path: &Path,
    ) -> Result<(), BackingError> {
        let mut granted = self.granted.lock();
        if access == Access::ReadWrite && *granted == Access::ReadOnly {
            // The descriptor comes first: a file that may not be written is not locked for writing.
            let writable = match self.kind {
                // Tried when it was opened.
                Kind::Block(_) => Err(Errno::ACCESS),
                Kind::Regular(_) | Kind::Memory => self.buffered.allow_writing(OFlags::empty()),
            };
            writable.map_err(|errno| open_error(errno, self.kind, access, path))?;
            if let Kind::Regular(id) = self.kind {
                lock_file(self.buffered.reader(), id, access, path, Some(*granted))?;
            }
            *granted = Access::ReadWrite;
            *self.limits.write() = self.probe_limits();
        }
        if direct {
            self.admit_direct(access, path)?;
        }
        Ok(())
    }

    fn admit_direct(&self, access: Access, path: &Path) -> Result<(), BackingError> {
        let refuse = |errno| match errno {
            Errno::INVAL | Errno::OPNOTSUPP => BackingError::new(
                Errno::INVAL,
                format!("{}: its file system has no direct I/O", path.display()),
            ),
            errno => open_error(errno, self.kind, access, path),
        };
        match self.direct.get() {
            Some(direct) if access == Access::ReadWrite => direct.allow_writing().map_err(refuse),
            Some(_) => Ok(()),
            None => {
                let direct = DirectFile::open(self.buffered.reader(), access).map_err(refuse)?;
                // Callers hold `granted`: nobody else can have set it.
                let _ = self.direct.set(direct);
                Ok(())
            }
        }
    }

    /// What is behind the descriptors.
    pub(super) fn kind(&self) -> Kind {
        self.kind
    }

    /// A descriptor for an opener to whom `access` was granted.
    pub(super) fn descriptor(&self, access: Access) -> BorrowedFd<'_> {
        let writer = self.buffered.writer();
        writer
            .filter(|_| access == Access::ReadWrite)
            .unwrap_or(self.buffered.reader())
    }

    /// Length as of the last [`FileDevice::refresh`].
    pub(super) fn capacity(&self) -> Sectors {
        // Relaxed: a length stands alone; a request beyond the real end fails there.
        Bytes(self.size.load(Ordering::Relaxed)).whole_sectors()
    }

    /// Reads length and limits again.
    ///
    /// # Errors
    /// The errno of fstat or of the block device.
    pub(super) fn refresh(&self) -> Result<Sectors, IoError> {
        let fd = self.buffered.reader();
        let len = match self.kind {
            Kind::Block(_) => ioctl::device_size(fd)?,
            Kind::Regular(_) | Kind::Memory => fstat(fd)?.st_size.unsigned_abs(),
        };
        let len = Bytes(len).whole_sectors();
        self.size.store(len.to_bytes().0, Ordering::Relaxed);
        *self.limits.write() = self.probe_limits();
        Ok(len)
    }

    /// Limits for an opener.
    pub(super) fn limits(&self, access: Access, direct: bool) -> Limits {
        let mut limits = *self.limits.read();
        if access == Access::ReadOnly {
            limits.max_discard = Sectors::ZERO;
            limits.discard_granularity = 0;
            limits.max_write_zeroes = Sectors::ZERO;
        }
        match self.direct.get().filter(|_| direct) {
            Some(direct) => {
                let block = u32::try_from(direct.block().0).unwrap_or(u32::MAX);
                limits.physical_block_size = limits.physical_block_size.max(block);
                limits.io_min = limits.io_min.max(limits.physical_block_size);
            }
            // Through the page cache a write only copies, and a long read is fetched ahead while its first
            // piece is copied: handing the pieces to other threads costs more than it gains.
            None => limits.waits = false,
        }
        limits
    }

    fn probe_limits(&self) -> Limits {
        match self.kind {
            Kind::Block(rdev) => self.probe_block_limits(rdev),
            Kind::Regular(_) | Kind::Memory => self.probe_file_limits(),
        }
    }

    fn probe_file_limits(&self) -> Limits {
        let system = fstatfs(self.buffered.reader()).ok();
        let in_memory = system
            .as_ref()
            .is_some_and(|system| MEMORY_FILE_SYSTEMS.contains(&(system.f_type as u32)));
        let block = system.and_then(|system| u32::try_from(system.f_bsize).ok());
        let block = block.filter(|block| block.is_power_of_two() && *block >= 512);
        let punches = self.punches_holes();
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
    fn punches_holes(&self) -> bool {
        let Some(fd) = self.buffered.writer() else {
            return false;
        };
        let Ok(stat) = fstat(fd) else { return false };
        let end = stat.st_size.unsigned_abs().checked_next_multiple_of(4096);
        let Some(end) = end.filter(|end| *end < (i64::MAX as u64) - 4096) else {
            return true;
        };
        let probed = fallocate(
            fd,
            FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE,
            end,
            4096,
        );
        probed != Err(Errno::OPNOTSUPP)
    }

    fn probe_block_limits(&self, rdev: u64) -> Limits {
        let fd = self.buffered.reader();
        let logical = rustix::fs::ioctl_blksszget(fd).unwrap_or(512);
        let major = rustix::fs::major(rdev);
        let discard = Bytes(queue_number(rdev, "discard_max_bytes")).whole_sectors();
        let granularity = queue_number(rdev, "discard_granularity");
        Limits {
            logical_block_size: logical,
            physical_block_size: rustix::fs::ioctl_blkpbszget(fd).unwrap_or(logical),
            io_min: ioctl::io_min(fd).unwrap_or(logical),
            io_opt: ioctl::io_opt(fd).unwrap_or(0),
            max_discard: discard,
            discard_granularity: u32::try_from(granularity).unwrap_or(0),
            max_write_zeroes: MAX_UNMAP,
            waits: major != RAMDISK_MAJOR,
        }
    }

    /// What lies at `at`, and up to where.
    pub(super) fn extent_at(&self, at: Sector) -> Extent {
        let end = Sector(self.capacity().0.max(at.0.saturating_add(1)));
        let Some(offset) = at.checked_bytes() else {
            return Extent::data(end);
        };
        let fd = self.buffered.reader();
        match seek(fd, SeekFrom::Data(offset.0)) {
            // No data from here to the end of the file.
            Err(Errno::NXIO) => Extent::hole(end),
            // A block device, or a file system that does not tell.
            Err(_) => Extent::data(end),
            Ok(data) if data >= offset.0 + SECTOR_SIZE => Extent::hole(Sector(data >> 9).min(end)),
            Ok(_) => match seek(fd, SeekFrom::Hole(offset.0)) {
                Ok(hole) if hole > offset.0 => {
                    Extent::data(Sector(hole.div_ceil(SECTOR_SIZE)).min(end))
                }
                // The data that was found lies further on in the same sector, or is gone again.
                Ok(_) => Extent::data(Sector(at.0 + 1)),
                Err(_) => Extent::data(end),
            },
        }
    }

    /// Carries out `request` for an opener.
    pub(super) fn submit(&self, request: Request<'_>, direct: bool) -> IoResult {
        let (kind, at, len) = (request.op.kind(), request.at, request.len);
        self.carry_out(request, direct).map_err(|errno| {
            let n_errors = self.n_errors.fetch_add(1, Ordering::Relaxed) + 1;
            if n_errors.is_power_of_two() && errno != Errno::OPNOTSUPP {
                log::error!(
                    "{:?}: {kind:?} of {len} sectors at {at}: {errno} (error {n_errors})",
                    self.kind
                );
            }
            IoError::from(as_block_device(errno))
        })
    }

    fn carry_out(&self, request: Request<'_>, direct: bool) -> Result<(), Errno> {
        let end = request
            .at
            .checked_add(request.len)
            .and_then(|end| end.checked_bytes());
        if end.is_none_or(|end| end.0 > self.size.load(Ordering::Relaxed)) {
            return Err(Errno::IO);
        }
        let (at, len) = (request.at.to_bytes(), request.len.to_bytes());
        let durable = request.flags.fua;
        let direct = self.direct.get().filter(|_| direct);
        match request.op {
            Op::Read(buffer) => match direct {
                None => read_all(self.buffered.reader(), at, buffer),
                Some(direct) => direct.read(at, buffer),
            },
            Op::Write(buffer) => {
                let writer = self.buffered.writer().ok_or(Errno::PERM)?;
                let durable = durable && self.kind != Kind::Memory;
                match direct {
                    None => write_all(writer, at, buffer, durable),
                    Some(direct) => {
                        let whole = Bytes(self.size.load(Ordering::Relaxed));
                        direct.write(at, buffer, durable, whole, writer)
                    }
                }
            }
            Op::Flush => self.flush(),
            Op::Discard => self.discard(at, len).and_then(|()| self.flush_if(durable)),
            Op::WriteZeroes { may_unmap } => self
                .write_zeroes(at, len, may_unmap)
                .and_then(|()| self.flush_if(durable)),
        }
    }

    fn flush_if(&self, durable: bool) -> Result<(), Errno> {
        if durable { self.flush() } else { Ok(()) }
    }

    /// Makes completed writes durable. Once this has failed it fails for good: the kernel tells a lost write
    /// once and calls the page clean, so a later success would promise what is not on the disk.
    fn flush(&self) -> Result<(), Errno> {
        if self.kind == Kind::Memory {
            return Ok(());
        }
        let failed = self.failed_flush.load(Ordering::Relaxed);
        if failed != 0 {
            return Err(Errno::from_raw_os_error(failed as i32));
        }
        retry(|| fdatasync(&self.flusher)).inspect_err(|errno| {
            self.failed_flush
                .store(errno.raw_os_error().unsigned_abs(), Ordering::Relaxed);
        })
    }

    fn discard(&self, at: Bytes, len: Bytes) -> Result<(), Errno> {
        let fd = self.buffered.writer().ok_or(Errno::PERM)?;
        match self.kind {
            Kind::Block(_) => retry(|| ioctl::discard(fd, at.0, len.0)),
            Kind::Regular(_) | Kind::Memory => punch_hole(fd, at, len),
        }
    }

    fn write_zeroes(&self, at: Bytes, len: Bytes, may_unmap: bool) -> Result<(), Errno> {
        let fd = self.buffered.writer().ok_or(Errno::PERM)?;
        if may_unmap {
            match punch_hole(fd, at, len) {
                Err(Errno::OPNOTSUPP) => {}
                done => return done,
            }
        }
        if self.zeroes_ranges.load(Ordering::Relaxed) {
            let flags = FallocateFlags::ZERO_RANGE | FallocateFlags::KEEP_SIZE;
            match retry(|| fallocate(fd, flags, at.0, len.0)) {
                Err(Errno::OPNOTSUPP) => self.zeroes_ranges.store(false, Ordering::Relaxed),
                done => return done,
            }
        }
        let (mut at, mut left) = (at.0, len.0);
        while left > 0 {
            let n = left.min(ZEROES.len() as u64);
            let zeroes = ZEROES.get(..n as usize).unwrap_or(ZEROES);
            write_all(fd, Bytes(at), WriteBuf::new(zeroes), false)?;
            (at, left) = (at + n, left - n);
        }
        Ok(())
    }
}

impl Drop for FileDevice {
    fn drop(&mut self) {
        if let Kind::Regular(_) = self.kind {
            // Closing alone would leave the lock to a child that was forked and has not yet called exec.
            let _ = flock(self.buffered.reader(), FlockOperation::Unlock);
        }
    }
}

fn punch_hole(fd: BorrowedFd<'_>, at: Bytes, len: Bytes) -> Result<(), Errno> {
    let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    retry(|| fallocate(fd, flags, at.0, len.0))
}

fn queue_number(rdev: u64, what: &str) -> u64 {
    let device = format!(
        "/sys/dev/block/{}:{}",
        rustix::fs::major(rdev),
        rustix::fs::minor(rdev)
    );
    // A partition has no queue of its own but stands in its disk's folder.
    let text = std::fs::read_to_string(format!("{device}/queue/{what}"))
        .or_else(|_| std::fs::read_to_string(format!("{device}/../queue/{what}")));
    text.ok()
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(0)
}

/// Why opening failed, in dm's terms.
fn open_error(errno: Errno, kind: Kind, access: Access, path: &Path) -> BackingError {
    let path = path.display();
    match (errno, access) {
        (Errno::BUSY, _) => {
            let holder = match kind {
                Kind::Block(rdev) => device_holder(rdev),
                Kind::Regular(_) | Kind::Memory => "somebody else".into(),
            };
            BackingError::new(Errno::BUSY, format!("{path} is in use: {holder} holds it"))
        }
        (Errno::ACCESS | Errno::PERM | Errno::ROFS | Errno::TXTBSY, Access::ReadWrite) => {
            BackingError::new(
                Errno::ACCESS,
                format!(
                    "{path} cannot be written ({errno}): a table that only reads it needs --readonly"
                ),
            )
        }
        (Errno::ACCESS | Errno::PERM, Access::ReadOnly) => {
            BackingError::new(Errno::ACCESS, format!("{path} cannot be read: {errno}"))
        }
        (errno, _) => BackingError::new(errno, format!("{path} cannot be opened: {errno}")),
    }
}

/// What a block device would answer where a file says `errno`.
fn as_block_device(errno: Errno) -> Errno {
    match errno {
        Errno::NOSPC | Errno::DQUOT | Errno::FBIG => Errno::NOSPC,
        Errno::OPNOTSUPP
        | Errno::PERM
        | Errno::TIMEDOUT
        | Errno::ILSEQ
        | Errno::NOLINK
        | Errno::NOMEM => errno,
        _ => Errno::IO,
    }
}

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

#[cfg(test)]
mod tests;
