//! What the front does, as plain functions: no transport, no replies. The transport says with `flags.nowait`
//! whether it can wait, and asks again where it can when it is told [`IoError::WOULD_WAIT`].

use std::ffi::OsStr;
use std::ops::Range;
use std::time::{Duration, Instant, SystemTime};

use super::attributes::{Attributes, Kind};
use super::bytes;
use super::inodes::{Inode, Inodes, OwnerChange};
use super::opens::Opened;
use super::protocol::ROOT;
use super::recall::Note;
use super::space;
use super::transport::Connection;
use crate::device::Device;
use crate::io::{BlockDev, Errno, Flags, IoError, IoResult, Request};
use crate::sync::{Arc, Mutex, Ordering};

/// Longest name of a device (DM_NAME_LEN without its final zero).
pub const LONGEST_NAME: u32 = 127;
/// From here on a flush counts as slow.
const SLOW_FLUSH: Duration = Duration::from_millis(1);
/// Device files are listed under cookies after those of `.` and `..`.
const FIRST_COOKIE: u64 = 2;

/// The mount's files and what can be done with them.
pub struct Front {
    inodes: Inodes,
    uid: u32,
    gid: u32,
    /// When a file last appeared, vanished or changed its name. A leaf in the lock order.
    changed: Mutex<SystemTime>,
}

/// A change of attributes that somebody asks for.
#[derive(Clone, Copy, Debug, Default)]
pub struct AttributeChange {
    /// Owner, mode and times.
    pub owner: OwnerChange,
    /// Length in bytes.
    pub size: Option<u64>,
    /// The length is changed through an open file (`ftruncate`) and not by path or by opening.
    pub through_open_file: bool,
}

/// What `statfs` tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Bytes of all devices.
    pub bytes: u64,
    /// Files, the directory among them.
    pub files: u64,
}

impl Front {
    /// A front over `inodes`, whose directory belongs to `uid` and `gid`.
    pub fn new(inodes: Inodes, uid: u32, gid: u32) -> Front {
        Front {
            inodes,
            uid,
            gid,
            changed: Mutex::new(SystemTime::now()),
        }
    }

    /// The files.
    pub fn inodes(&self) -> &Inodes {
        &self.inodes
    }

    /// Notes that the directory has changed now.
    pub fn directory_changed(&self) {
        *self.changed.lock() = SystemTime::now();
    }

    #[inline]
    fn with<R>(
        &self,
        id: u64,
        work: impl FnOnce(&Arc<Inode>) -> Result<R, IoError>,
    ) -> Result<R, IoError> {
        if id == ROOT {
            return Err(Errno::ISDIR.into());
        }
        // The file is gone, as a block device is whose disk was pulled out.
        let gone = || Err(Errno::NXIO.into());
        self.inodes.with(id, work).unwrap_or_else(gone)
    }

    /// The file called `name`.
    ///
    /// # Errors
    /// ENOENT where there is none.
    pub fn lookup(&self, name: &OsStr) -> Result<Attributes, IoError> {
        let device = name
            .to_str()
            .and_then(|name| self.inodes.directory().by_name(name));
        match device {
            Some(device) => Ok(self.inodes.of(device).attributes()),
            None if name.len() > LONGEST_NAME as usize => Err(Errno::NAMETOOLONG.into()),
            None => Err(Errno::NOENT.into()),
        }
    }

    /// What `stat` shows of a file or of the directory.
    ///
    /// # Errors
    /// ENXIO for a device that is gone.
    pub fn attributes(&self, id: u64) -> Result<Attributes, IoError> {
        if id == ROOT {
            return Ok(self.directory_attributes());
        }
        self.with(id, |inode| Ok(inode.attributes()))
    }

    fn directory_attributes(&self) -> Attributes {
        let changed = *self.changed.lock();
        Attributes {
            inode: ROOT,
            size: 0,
            blocks: 0,
            atime: changed,
            mtime: changed,
            ctime: changed,
            kind: Kind::Directory,
            permissions: 0o755,
            links: 2,
            uid: self.uid,
            gid: self.gid,
            block_size: 4096,
        }
    }

    /// Changes attributes. A device keeps its length: opening with O_TRUNC (which reaches us as length 0, not
    /// through an open file) is accepted and ignored, as a block device ignores it.
    ///
    /// # Errors
    /// EINVAL for another length, as a block device answers; EPERM for the directory.
    pub fn change_attributes(
        &self,
        id: u64,
        change: &AttributeChange,
    ) -> Result<Attributes, IoError> {
        if id == ROOT {
            return Err(Errno::PERM.into());
        }
        self.with(id, |inode| {
            if let Some(size) = change.size {
                let is_open_truncating = size == 0 && !change.through_open_file;
                if !is_open_truncating && size != bytes::size(&**inode.device()) {
                    return Err(Errno::INVAL.into());
                }
            } else if !change.owner.is_empty() {
                let owner = inode.change_owner(&change.owner).into();
                self.inodes.note(|| Note::Owned { inode: id, owner });
            }
            Ok(inode.attributes())
        })
    }

    /// Counts an opener, unless `request` is sent again and was counted, and says how the kernel shall treat the file.
    /// `around` is the way to hand over backing files, where there is one.
    ///
    /// # Errors
    /// ENXIO where the device is gone or being removed.
    pub fn open(
        &self,
        id: u64,
        request: u64,
        around: Option<&Arc<Connection>>,
    ) -> Result<Opened, IoError> {
        self.with(id, |inode| {
            if self.inodes.has_noted(request) {
                return Ok(inode.opens.again(inode.device()));
            }
            inode.device().openers().open()?;
            let opened = inode.opens.open(inode.device(), around);
            self.inodes.note(|| Note::Opened { inode: id, request });
            Ok(opened)
        })
    }

    /// Counts an opener less; true where [`Self::remove_closed`] is due. Nothing is counted where `request` is sent
    /// again and was counted.
    pub fn close(&self, id: u64, request: u64) -> bool {
        let Some(inode) = self.inodes.get(id) else {
            return false;
        };
        if self.inodes.has_noted(request) {
            return false;
        }
        inode.edges.reset_if_idle();
        inode.opens.close();
        let remove = inode.device().openers().close();
        self.inodes.note(|| Note::Closed { inode: id, request });
        remove
    }

    /// Carries out the removal that waited for the last close of the device. Not for a worker: the kernel is told,
    /// which may be waiting for that worker.
    pub fn remove_closed(&self, id: u64) {
        if let Some(inode) = self.inodes.get(id) {
            self.inodes.directory().remove_closed(inode.device());
        }
    }

    /// Reads into `scratch`, see [`bytes::read`].
    ///
    /// # Errors
    /// What the device answers.
    #[inline]
    pub fn read(
        &self,
        id: u64,
        at: u64,
        len: usize,
        scratch: &mut [u8],
        flags: Flags,
    ) -> Result<Range<usize>, IoError> {
        self.with(id, |inode| {
            bytes::read(&**inode.device(), at, len, scratch, flags)
        })
    }

    /// Writes, see [`bytes::write`].
    ///
    /// # Errors
    /// EPERM for a read-only device; else what the device answers.
    #[inline]
    pub fn write(&self, id: u64, at: u64, data: &[u8], flags: Flags) -> Result<usize, IoError> {
        self.with(id, |inode| {
            let device = &**inode.device();
            inode.touch();
            bytes::write(device, &inode.edges, at, data, flags)
        })
    }

    /// True where the disks below this file make the caller wait.
    #[inline]
    pub fn waits(&self, id: u64) -> bool {
        self.with(id, |inode| Ok(inode.device().waits()))
            .unwrap_or(false)
    }

    /// True where the last flushes of this file took long, on average.
    pub fn flush_is_slow(&self, id: u64) -> bool {
        let nanos = self.with(id, |inode| Ok(inode.flush_nanos.load(Ordering::Relaxed)));
        nanos.is_ok_and(|nanos| u128::from(nanos) >= SLOW_FLUSH.as_nanos())
    }

    /// Makes durable what was written; notes how long it took.
    ///
    /// # Errors
    /// What the device answers.
    pub fn flush(&self, id: u64, flags: Flags) -> IoResult {
        self.with(id, |inode| {
            let start = Instant::now();
            inode.device().submit(Request::flush().with_flags(flags))?;
            inode.note_flush(start.elapsed());
            Ok(())
        })
    }

    /// `fallocate`, see [`space::allocate`].
    ///
    /// # Errors
    /// EPERM for a read-only device; else as there.
    pub fn allocate(&self, id: u64, at: u64, len: u64, mode: i32, flags: Flags) -> IoResult {
        self.with(id, |inode| {
            let device = &**inode.device();
            if device.is_read_only() {
                return Err(IoError::READ_ONLY);
            }
            inode.touch();
            space::allocate(device, &inode.edges, at, len, mode, flags)
        })
    }

    /// `lseek`, see [`space::seek`].
    ///
    /// # Errors
    /// As there.
    pub fn seek(&self, id: u64, at: i64, whence: i32) -> Result<i64, IoError> {
        self.with(id, |inode| space::seek(&**inode.device(), at, whence))
    }

    /// What `statfs` tells.
    pub fn usage(&self) -> Usage {
        let devices = self.inodes.directory().list();
        let bytes = devices.iter().map(|device| bytes::size(&**device));
        Usage {
            bytes: bytes.fold(0, u64::saturating_add),
            files: devices.len() as u64 + 1,
        }
    }

    /// What the directory holds now.
    pub fn listing(&self) -> Listing {
        let mut devices = self.inodes.directory().list();
        devices.sort_by_key(|device| device.id());
        Listing(devices)
    }
}

/// What the directory held at one moment, in the order of inode numbers: a place in it stays valid, whatever
/// comes and goes, because numbers are not used again.
pub struct Listing(Vec<Arc<Device>>);

/// One line of a listing.
pub enum Entry<'a> {
    /// `.` or `..`.
    Dots(&'static str),
    /// A device file.
    Device(&'a Arc<Device>),
}

impl Listing {
    /// The lines after the one with cookie `after` (0: from the start), each with its own cookie.
    pub fn after(&self, after: u64) -> impl Iterator<Item = (u64, Entry<'_>)> {
        let dots = (1..=FIRST_COOKIE).zip([".", ".."]);
        let dots = dots.map(|(cookie, name)| (cookie, Entry::Dots(name)));
        let cookie = |device: &Device| device.id().saturating_add(FIRST_COOKIE);
        let first = self.0.partition_point(|device| cookie(device) <= after);
        let devices = self.0[first..].iter();
        dots.filter(move |(cookie, _)| *cookie > after)
            .chain(devices.map(move |device| (cookie(device), Entry::Device(device))))
    }
}
