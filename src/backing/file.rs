//! A regular file, block device or anonymous file, read and written through descriptors that all openers in
//! this process share.
//!
//! Requests are carried out at once by the caller's thread. The descriptor used for flushing is used for
//! nothing else: the kernel tells a failed writeback once to every descriptor, and a durable write that fails
//! must not use up what the next flush has to report.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{
    FallocateFlags, FlockOperation, OFlags, SeekFrom, fallocate, fcntl_getfl, fdatasync, flock,
    fstat, seek,
};

use super::channel::{Channel, claim, reopen};
use super::direct::DirectFile;
use super::lock::{FileId, device_holder, lock_file};
use super::transfer::{punch_hole, read_all, read_cached, retry, write_all};
use super::{Access, BackingError, ioctl, probe};
use crate::io::{Errno, Extent, IoError, IoResult, Limits, Op, OpKind, Request, WriteBuf};
use crate::sync::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Mutex, Ordering, RwLock};
use crate::unit::{Bytes, SECTOR_SIZE, Sector, Sectors};

/// How much is written at a time where the file system cannot zero a range.
const ZEROES: &[u8] = &[0; 1 << 18];

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

/// The file, shared by its openers. What every request needs comes first, to lie in one cache line.
#[repr(C, align(64))]
pub(super) struct FileDevice {
    /// Bytes; whole sectors.
    size: AtomicU64,
    buffered: Channel,
    direct: Option<Box<DirectFile>>,
    /// Requests may have to wait for a disk, as the limits say.
    waits: AtomicBool,
    /// The page cache can be asked for what it holds.
    reads_cached: AtomicBool,
    /// False once the file system has refused to zero a range.
    zeroes_ranges: AtomicBool,
    kind: Kind,
    flusher: OwnedFd,
    limits: RwLock<Limits>,
    /// Requests that wait for the disk at present. Stands alone.
    n_waiting: AtomicUsize,
    /// The errno of the first flush that failed, 0 before. Stands alone: orders nothing else.
    failed_flush: AtomicU32,
    n_errors: AtomicU64,
    /// Strongest access granted so far; guards opening further descriptors. Taken after the store's lock.
    granted: Mutex<Access>,
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
        direct: bool,
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
        let direct = match direct {
            true => Some(open_direct(&buffered, kind, access, path)?),
            false => None,
        };
        FileDevice::new(buffered, direct, kind, access, path)
    }

    /// The anonymous file `fd`.
    pub(super) fn memory(fd: OwnedFd, path: &Path) -> Result<FileDevice, BackingError> {
        FileDevice::new(
            Channel::new(fd, Access::ReadWrite),
            None,
            Kind::Memory,
            Access::ReadWrite,
            path,
        )
    }

    /// The file that an earlier process had open as `descriptor`, with its lock, whatever has become of it since.
    pub(super) fn kept(
        descriptor: OwnedFd,
        kind: Kind,
        direct: bool,
        path: &Path,
    ) -> Result<FileDevice, BackingError> {
        let mode = fcntl_getfl(&descriptor).map(|flags| flags & OFlags::RWMODE);
        let access = match mode {
            Ok(OFlags::RDWR) => Access::ReadWrite,
            _ => Access::ReadOnly,
        };
        let buffered = Channel::new(descriptor, access);
        let direct = match direct {
            true => Some(open_direct(&buffered, kind, access, path)?),
            false => None,
        };
        FileDevice::unchecked(buffered, direct, kind, access, path)
    }

    /// The descriptor that was opened first, which has the lock.
    pub(super) fn first(&self) -> BorrowedFd<'_> {
        self.buffered.reader()
    }

    fn new(
        buffered: Channel,
        direct: Option<Box<DirectFile>>,
        kind: Kind,
        access: Access,
        path: &Path,
    ) -> Result<FileDevice, BackingError> {
        let device = FileDevice::unchecked(buffered, direct, kind, access, path)?;
        device.check_size(path)?;
        Ok(device)
    }

    fn unchecked(
        buffered: Channel,
        direct: Option<Box<DirectFile>>,
        kind: Kind,
        access: Access,
        path: &Path,
    ) -> Result<FileDevice, BackingError> {
        let flusher = reopen(buffered.reader(), Access::ReadOnly, OFlags::empty())
            .map_err(|errno| open_error(errno, kind, Access::ReadOnly, path))?;
        let device = FileDevice {
            kind,
            buffered,
            direct,
            flusher,
            size: AtomicU64::new(0),
            limits: RwLock::new(Limits::default()),
            zeroes_ranges: AtomicBool::new(true),
            waits: AtomicBool::new(false),
            reads_cached: AtomicBool::new(false),
            n_waiting: AtomicUsize::new(0),
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
        if device.waits() && device.direct.is_none() {
            let told = probe::reads_cached(device.buffered.reader());
            device.reads_cached.store(told, Ordering::Relaxed);
        }
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
        // A table is checked against what is there now, not against what the table before it found.
        if let Err(error) = self.refresh() {
            let text = format!("{}: no size: {error}", path.display());
            return Err(BackingError::new(error.errno(), text));
        }
        let mut granted = self.granted.lock();
        if access == Access::ReadWrite && *granted == Access::ReadOnly {
            // The descriptor comes first: a file that may not be written is not locked for writing.
            let writable = match self.kind {
                // Tried when it was opened.
                Kind::Block(_) => Err(Errno::ACCESS),
                Kind::Regular(_) | Kind::Memory => self.buffered.allow_writing(OFlags::empty()),
            };
            writable.map_err(|errno| open_error(errno, self.kind, access, path))?;
            if let Some(direct) = &self.direct {
                let writable = direct.allow_writing();
                writable.map_err(|errno| open_error(errno, self.kind, access, path))?;
            }
            if let Kind::Regular(id) = self.kind {
                lock_file(self.buffered.reader(), id, access, path, Some(*granted))?;
            }
            *granted = Access::ReadWrite;
            self.note_limits();
        }
        if direct != self.is_direct() && self.kind != Kind::Memory {
            // Both ways at once lose data: a page written back carries along what went around the cache.
            log::warn!(
                "{}: stays {} while other tables use it so",
                path.display(),
                if direct {
                    "in the page cache"
                } else {
                    "in direct I/O"
                }
            );
        }
        Ok(())
    }

    /// True where the page cache is gone around.
    pub(super) fn is_direct(&self) -> bool {
        self.direct.is_some()
    }

    /// What is behind the descriptors.
    pub(super) fn kind(&self) -> Kind {
        self.kind
    }

    /// The file itself as opened for direct I/O, where it is.
    pub(super) fn direct(&self) -> Option<&DirectFile> {
        self.direct.as_deref()
    }

    /// The descriptor that an operation uses.
    pub(super) fn descriptor_for(&self, kind: OpKind) -> Option<BorrowedFd<'_>> {
        match (kind, &self.direct) {
            (OpKind::Flush, _) => Some(self.flusher.as_fd()),
            (OpKind::Read, None) => Some(self.buffered.reader()),
            (OpKind::Read, Some(direct)) => direct.descriptor(false),
            (OpKind::Write, Some(direct)) => direct.descriptor(true),
            (OpKind::Write | OpKind::Discard | OpKind::WriteZeroes, _) => self.buffered.writer(),
        }
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
        self.note_limits();
        Ok(len)
    }

    fn note_limits(&self) {
        let limits = self.probe_limits();
        let waits = limits.waits && self.kind != Kind::Memory;
        self.waits.store(waits, Ordering::Relaxed);
        *self.limits.write() = limits;
    }

    /// True where requests may have to wait for a disk.
    pub(super) fn waits(&self) -> bool {
        self.waits.load(Ordering::Relaxed)
    }

    /// Limits for an opener.
    pub(super) fn limits(&self, access: Access) -> Limits {
        let mut limits = *self.limits.read();
        if access == Access::ReadOnly {
            limits.max_discard = Sectors::ZERO;
            limits.discard_granularity = 0;
            limits.max_write_zeroes = Sectors::ZERO;
        }
        match &self.direct {
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
        let fd = self.buffered.reader();
        match self.kind {
            Kind::Block(rdev) => probe::block_limits(fd, rdev),
            Kind::Regular(_) | Kind::Memory => probe::file_limits(fd, self.buffered.writer()),
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
    #[inline]
    pub(super) fn submit(&self, request: Request<'_>) -> IoResult {
        if !self.waits() || !self.waits_for_disk(&request) {
            return self.carry_out_or_tell(request);
        }
        // A thread that nobody else competes with for the disk is the fastest way; a second one would only wait.
        let alone = self.start_waiting() == 0;
        let result = match alone || !request.flags.nowait {
            true => self.carry_out_or_tell(request),
            false => Err(IoError::WOULD_WAIT),
        };
        self.end_waiting();
        result
    }

    /// Counts one more that waits for the disk; gives how many there were.
    pub(super) fn start_waiting(&self) -> usize {
        self.n_waiting.fetch_add(1, Ordering::Relaxed)
    }

    pub(super) fn end_waiting(&self) {
        self.n_waiting.fetch_sub(1, Ordering::Relaxed);
    }

    /// How many wait for the disk.
    pub(super) fn n_waiting(&self) -> usize {
        self.n_waiting.load(Ordering::Relaxed)
    }

    /// Whether `request` is one that always waits, on a file that may have to.
    fn waits_for_disk(&self, request: &Request<'_>) -> bool {
        match request.op {
            Op::Read(_) => self.direct.is_some(),
            Op::Write(_) => self.direct.is_some() || request.flags.fua,
            Op::Flush => true,
            Op::Discard | Op::WriteZeroes { .. } => false,
        }
    }

    fn carry_out_or_tell(&self, request: Request<'_>) -> IoResult {
        let (kind, at, len) = (request.op.kind(), request.at, request.len);
        let nowait = request.flags.nowait;
        self.carry_out(request).map_err(|errno| match errno {
            Errno::AGAIN if nowait => IoError::WOULD_WAIT,
            errno => self.tell(kind, at, len, errno),
        })
    }

    /// Counts an error and logs it now and then; gives what a block device would say.
    pub(super) fn tell(&self, kind: OpKind, at: Sector, len: Sectors, errno: Errno) -> IoError {
        let n_errors = self.n_errors.fetch_add(1, Ordering::Relaxed) + 1;
        if n_errors.is_power_of_two() && errno != Errno::OPNOTSUPP {
            log::error!(
                "{:?}: {kind:?} of {len} sectors at {at}: {errno} (error {n_errors})",
                self.kind
            );
        }
        IoError::from(as_block_device(errno))
    }

    fn carry_out(&self, request: Request<'_>) -> Result<(), Errno> {
        let end = request
            .at
            .checked_add(request.len)
            .and_then(|end| end.checked_bytes());
        if end.is_none_or(|end| end.0 > self.size.load(Ordering::Relaxed)) {
            return Err(Errno::IO);
        }
        let (at, len) = (request.at.to_bytes(), request.len.to_bytes());
        let durable = request.flags.fua;
        match request.op {
            Op::Read(buffer) => match &self.direct {
                None if request.flags.nowait && self.reads_cached.load(Ordering::Relaxed) => {
                    read_cached(self.buffered.reader(), at, buffer)
                }
                None => read_all(self.buffered.reader(), at, buffer),
                Some(direct) => direct.read(at, buffer),
            },
            Op::Write(buffer) => {
                let writer = self.buffered.writer().ok_or(Errno::PERM)?;
                let durable = durable && self.kind != Kind::Memory;
                match &self.direct {
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
        self.check_flushes()?;
        retry(|| fdatasync(&self.flusher)).inspect_err(|&errno| self.note_failed_flush(errno))
    }

    /// What every flush fails with since the first one that did.
    pub(super) fn check_flushes(&self) -> Result<(), Errno> {
        match self.failed_flush.load(Ordering::Relaxed) {
            0 => Ok(()),
            failed => Err(Errno::from_raw_os_error(failed as i32)),
        }
    }

    /// Notes that a flush has failed, for those that follow.
    pub(super) fn note_failed_flush(&self, errno: Errno) {
        let raw = errno.raw_os_error().unsigned_abs();
        self.failed_flush.store(raw, Ordering::Relaxed);
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

fn open_direct(
    buffered: &Channel,
    kind: Kind,
    access: Access,
    path: &Path,
) -> Result<Box<DirectFile>, BackingError> {
    let opened = DirectFile::open(buffered.reader(), access);
    opened.map(Box::new).map_err(|errno| match errno {
        Errno::INVAL | Errno::OPNOTSUPP => BackingError::new(
            Errno::INVAL,
            format!("{}: its file system has no direct I/O", path.display()),
        ),
        errno => open_error(errno, kind, access, path),
    })
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

#[cfg(test)]
mod tests;
