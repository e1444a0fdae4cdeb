//! The classic transport: `fuser` reads requests from /dev/fuse, this translates them for the [`Front`].
//!
//! A request is served on the worker that read it. What would have to wait goes to the waiting room, with a copy
//! of its data, and is answered from there. Nothing is answered with ENOSYS where the kernel would take it for
//! "this file system never can" and stop asking.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::time::{Duration, SystemTime};

use fuser::{
    AccessFlags, BsdFileFlags, CopyFileRangeFlags, Errno, FileAttr, FileHandle, FileType,
    Filesystem, FopenFlags, Generation, INodeNo, InitFlags, IoctlFlags, KernelConfig, LockOwner,
    OpenFlags, PollEvents, PollFlags, PollNotifier, RenameFlags, ReplyAttr, ReplyBmap, ReplyCreate,
    ReplyData, ReplyDirectory, ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyIoctl, ReplyLseek,
    ReplyOpen, ReplyPoll, ReplyStatfs, ReplyWrite, ReplyXattr, Request, TimeOrNow, WriteFlags,
};

use super::bytes::WIDEST;
use super::front::{AttributeChange, Entry, Front, LONGEST_NAME, Listing};
use super::inodes::OwnerChange;
use super::scratch::{self, MAX_REQUEST};
use crate::io::{Flags, IoError, IoResult, WaitingRoom};
use crate::sync::{Arc, AtomicU64, Mutex, Ordering, become_worker};

/// How long the kernel may believe what it was told; it is told when that changes.
const TTL: Duration = Duration::from_secs(3600);
/// Requests that the kernel sends without waiting for each other's answers.
const MAX_BACKGROUND: u16 = 128;
/// From this length on, zeroing may take longer than a worker should be busy.
const LONG_ALLOCATION: u64 = 4 << 20;
const STATFS_BLOCK: u32 = 4096;

const WORKER: Flags = Flags {
    fua: false,
    nowait: true,
};
const WAITING: Flags = Flags {
    fua: false,
    nowait: false,
};

const DEVICE_FILE: FopenFlags = FopenFlags::FOPEN_DIRECT_IO
    .union(FopenFlags::FOPEN_PARALLEL_DIRECT_WRITES)
    .union(FopenFlags::FOPEN_NOFLUSH);

/// Asked for where the kernel offers it.
const CAPABILITIES: InitFlags = InitFlags::FUSE_ASYNC_DIO
    .union(InitFlags::FUSE_PARALLEL_DIROPS)
    .union(InitFlags::FUSE_DIRECT_IO_ALLOW_MMAP)
    .union(InitFlags::FUSE_HAS_RESEND)
    .union(InitFlags::FUSE_DO_READDIRPLUS)
    .union(InitFlags::FUSE_READDIRPLUS_AUTO)
    .union(InitFlags::FUSE_HANDLE_KILLPRIV_V2);

/// Serves a [`Front`] over `fuser`.
pub struct Dispatch {
    front: Arc<Front>,
    room: Arc<WaitingRoom>,
    /// Listings that open directories go through. A leaf in the lock order.
    listings: Mutex<HashMap<u64, Arc<Listing>>>,
    next_listing: AtomicU64,
}

fn errno(error: IoError) -> Errno {
    Errno::from_i32(error.errno().raw_os_error())
}

fn answer_empty(reply: ReplyEmpty, result: IoResult) {
    match result {
        Ok(()) => reply.ok(),
        Err(error) => reply.error(errno(error)),
    }
}

fn answer_data(reply: ReplyData, result: Result<Range<usize>, IoError>, scratch: &[u8]) {
    match result {
        Ok(range) => reply.data(&scratch[range]),
        Err(error) => reply.error(errno(error)),
    }
}

fn answer_written(reply: ReplyWrite, result: Result<usize, IoError>) {
    match result {
        Ok(len) => reply.written(len as u32),
        Err(error) => reply.error(errno(error)),
    }
}

fn answer_attributes(reply: ReplyAttr, result: Result<FileAttr, IoError>) {
    match result {
        Ok(attributes) => reply.attr(&TTL, &attributes),
        Err(error) => reply.error(errno(error)),
    }
}

/// The kernel sends no FSYNC after a direct write: the flags of the file say that it is to be durable.
fn write_flags(open: OpenFlags, base: Flags) -> Flags {
    Flags {
        fua: open.0 & (libc::O_SYNC | libc::O_DSYNC) != 0,
        ..base
    }
}

fn time(time: TimeOrNow) -> SystemTime {
    match time {
        TimeOrNow::SpecificTime(time) => time,
        TimeOrNow::Now => SystemTime::now(),
    }
}

impl Dispatch {
    /// Serves `front`; what has to wait does so in `room`.
    pub fn new(front: Arc<Front>, room: Arc<WaitingRoom>) -> Dispatch {
        Dispatch {
            front,
            room,
            listings: Mutex::new(HashMap::new()),
            next_listing: AtomicU64::new(1),
        }
    }

    /// Has `work` done where waiting is no harm.
    #[cold]
    fn later(&self, work: impl FnOnce(&Front) + Send + 'static) {
        let front = self.front.clone();
        self.room.submit(Box::new(move || work(&front)));
    }

    #[cold]
    fn read_later(&self, id: u64, at: u64, len: usize, reply: ReplyData) {
        self.later(move |front| {
            scratch::with(len + WIDEST, |scratch| {
                let result = front.read(id, at, len, scratch, WAITING);
                answer_data(reply, result, scratch);
            });
        });
    }

    fn flush_later(&self, id: u64, reply: ReplyEmpty) {
        self.later(move |front| answer_empty(reply, front.flush(id, WAITING)));
    }

    /// The listing that `handle` goes through. One from the start is taken anew; so is one of a directory that was
    /// opened before this process served it.
    fn listing(&self, handle: FileHandle, from_start: bool) -> Arc<Listing> {
        if !from_start && let Some(listing) = self.listings.lock().get(&handle.0) {
            return listing.clone();
        }
        let listing = Arc::new(self.front.listing());
        self.listings.lock().insert(handle.0, listing.clone());
        listing
    }
}

impl Filesystem for Dispatch {
    fn init(&mut self, _request: &Request, config: &mut KernelConfig) -> io::Result<()> {
        let refused = |what: &str| io::Error::other(format!("the kernel refuses {what}"));
        let offered = config.capabilities() & CAPABILITIES;
        config
            .add_capabilities(offered)
            .map_err(|_| refused("capabilities"))?;
        config
            .set_max_write(MAX_REQUEST as u32)
            .map_err(|_| refused("requests of 1 MiB"))?;
        config
            .set_max_background(MAX_BACKGROUND)
            .map_err(|_| refused("parallel requests"))?;
        Ok(())
    }

    fn lookup(&self, _request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        if parent != INodeNo::ROOT {
            return reply.error(Errno::ENOTDIR);
        }
        match self.front.lookup(name) {
            Ok(attributes) => reply.entry(&TTL, &attributes, Generation(0)),
            Err(error) => reply.error(errno(error)),
        }
    }

    fn getattr(
        &self,
        _request: &Request,
        inode: INodeNo,
        _handle: Option<FileHandle>,
        reply: ReplyAttr,
    ) {
        answer_attributes(reply, self.front.attributes(inode.0));
    }

    fn setattr(
        &self,
        _request: &Request,
        inode: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        atime: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        handle: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let change = AttributeChange {
            owner: OwnerChange {
                uid,
                gid,
                mode,
                atime: atime.map(time),
                mtime: mtime.map(time),
            },
            size,
            through_open_file: handle.is_some(),
        };
        answer_attributes(reply, self.front.change_attributes(inode.0, &change));
    }

    fn open(&self, _request: &Request, inode: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        match self.front.open(inode.0) {
            Ok(()) => reply.opened(FileHandle(0), DEVICE_FILE),
            Err(error) => reply.error(errno(error)),
        }
    }

    fn read(
        &self,
        _request: &Request,
        inode: INodeNo,
        _handle: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        become_worker();
        let len = size as usize;
        scratch::with(len + WIDEST, |scratch| {
            match self.front.read(inode.0, offset, len, scratch, WORKER) {
                Err(IoError::WOULD_WAIT) => self.read_later(inode.0, offset, len, reply),
                result => answer_data(reply, result, scratch),
            }
        });
    }

    fn write(
        &self,
        _request: &Request,
        inode: INodeNo,
        _handle: FileHandle,
        offset: u64,
        data: &[u8],
        _write_flags: WriteFlags,
        flags: OpenFlags,
        _owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let id = inode.0;
        match self
            .front
            .write(id, offset, data, write_flags(flags, WORKER))
        {
            Err(IoError::WOULD_WAIT) => {
                let data = data.to_vec();
                self.later(move |front| {
                    let result = front.write(id, offset, &data, write_flags(flags, WAITING));
                    answer_written(reply, result);
                });
            }
            result => answer_written(reply, result),
        }
    }

    fn flush(
        &self,
        _request: &Request,
        _inode: INodeNo,
        _handle: FileHandle,
        _owner: LockOwner,
        reply: ReplyEmpty,
    ) {
        reply.ok();
    }

    fn release(
        &self,
        _request: &Request,
        inode: INodeNo,
        _handle: FileHandle,
        _flags: OpenFlags,
        _owner: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        if self.front.close(inode.0) {
            self.later(move |front| front.remove_closed(inode.0));
        }
        reply.ok();
    }

    fn fsync(
        &self,
        _request: &Request,
        inode: INodeNo,
        _handle: FileHandle,
        _datasync: bool,
        reply: ReplyEmpty,
    ) {
        if self.front.flush_is_slow(inode.0) {
            return self.flush_later(inode.0, reply);
        }
        match self.front.flush(inode.0, WORKER) {
            Err(IoError::WOULD_WAIT) => self.flush_later(inode.0, reply),
            result => answer_empty(reply, result),
        }
    }

    fn opendir(&self, _request: &Request, _inode: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        let handle = self.next_listing.fetch_add(1, Ordering::Relaxed);
        reply.opened(FileHandle(handle), FopenFlags::empty());
    }

    fn readdir(
        &self,
        _request: &Request,
        inode: INodeNo,
        handle: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        if inode != INodeNo::ROOT {
            return reply.error(Errno::ENOTDIR);
        }
        for (cookie, entry) in self.listing(handle, offset == 0).after(offset) {
            let full = match entry {
                Entry::Dots(name) => reply.add(INodeNo::ROOT, cookie, FileType::Directory, name),
                Entry::Device(device) => {
                    let inode = INodeNo(device.id());
                    reply.add(inode, cookie, FileType::RegularFile, device.name())
                }
            };
            if full {
                break;
            }
        }
        reply.ok();
    }

    fn readdirplus(
        &self,
        _request: &Request,
        inode: INodeNo,
        handle: FileHandle,
        offset: u64,
        mut reply: ReplyDirectoryPlus,
    ) {
        if inode != INodeNo::ROOT {
            return reply.error(Errno::ENOTDIR);
        }
        for (cookie, entry) in self.listing(handle, offset == 0).after(offset) {
            let full = match entry {
                Entry::Dots(name) => {
                    let Ok(attributes) = self.front.attributes(INodeNo::ROOT.0) else {
                        continue;
                    };
                    reply.add(
                        INodeNo::ROOT,
                        cookie,
                        name,
                        &TTL,
                        &attributes,
                        Generation(0),
                    )
                }
                Entry::Device(device) => {
                    // One that went since the listing was taken is not listed.
                    let Some(inode) = self.front.inodes().get(device.id()) else {
                        continue;
                    };
                    let attributes = inode.attributes();
                    reply.add(
                        attributes.ino,
                        cookie,
                        device.name(),
                        &TTL,
                        &attributes,
                        Generation(0),
                    )
                }
            };
            if full {
                break;
            }
        }
        reply.ok();
    }

    fn releasedir(
        &self,
        _request: &Request,
        _inode: INodeNo,
        handle: FileHandle,
        _flags: OpenFlags,
        reply: ReplyEmpty,
    ) {
        let listing = self.listings.lock().remove(&handle.0);
        drop(listing);
        reply.ok();
    }

    fn fsyncdir(
        &self,
        _request: &Request,
        _inode: INodeNo,
        _handle: FileHandle,
        _datasync: bool,
        reply: ReplyEmpty,
    ) {
        reply.ok();
    }

    fn statfs(&self, _request: &Request, _inode: INodeNo, reply: ReplyStatfs) {
        let usage = self.front.usage();
        let blocks = usage.bytes / u64::from(STATFS_BLOCK);
        reply.statfs(
            blocks,
            0,
            0,
            usage.files,
            0,
            STATFS_BLOCK,
            LONGEST_NAME,
            STATFS_BLOCK,
        );
    }

    fn fallocate(
        &self,
        _request: &Request,
        inode: INodeNo,
        _handle: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        let id = inode.0;
        let result = if length >= LONG_ALLOCATION {
            Err(IoError::WOULD_WAIT)
        } else {
            self.front.allocate(id, offset, length, mode, WORKER)
        };
        match result {
            Err(IoError::WOULD_WAIT) => self.later(move |front| {
                answer_empty(reply, front.allocate(id, offset, length, mode, WAITING));
            }),
            result => answer_empty(reply, result),
        }
    }

    fn lseek(
        &self,
        _request: &Request,
        inode: INodeNo,
        _handle: FileHandle,
        offset: i64,
        whence: i32,
        reply: ReplyLseek,
    ) {
        match self.front.seek(inode.0, offset, whence) {
            Ok(place) => reply.offset(place),
            Err(error) => reply.error(errno(error)),
        }
    }

    fn copy_file_range(
        &self,
        _request: &Request,
        _inode_in: INodeNo,
        _handle_in: FileHandle,
        _offset_in: u64,
        _inode_out: INodeNo,
        _handle_out: FileHandle,
        _offset_out: u64,
        _len: u64,
        _flags: CopyFileRangeFlags,
        reply: ReplyWrite,
    ) {
        reply.error(Errno::EOPNOTSUPP);
    }

    fn ioctl(
        &self,
        _request: &Request,
        _inode: INodeNo,
        _handle: FileHandle,
        _flags: IoctlFlags,
        _command: u32,
        _in_data: &[u8],
        _out_size: u32,
        reply: ReplyIoctl,
    ) {
        reply.error(Errno::ENOTTY);
    }

    fn poll(
        &self,
        _request: &Request,
        _inode: INodeNo,
        _handle: FileHandle,
        _notifier: PollNotifier,
        events: PollEvents,
        _flags: PollFlags,
        reply: ReplyPoll,
    ) {
        let always = PollEvents::POLLIN
            | PollEvents::POLLOUT
            | PollEvents::POLLRDNORM
            | PollEvents::POLLWRNORM;
        reply.poll(events & always);
    }

    fn access(&self, _request: &Request, _inode: INodeNo, _mask: AccessFlags, reply: ReplyEmpty) {
        // The kernel checks permissions itself (default_permissions).
        reply.ok();
    }

    fn bmap(
        &self,
        _request: &Request,
        _inode: INodeNo,
        _block_size: u32,
        _index: u64,
        reply: ReplyBmap,
    ) {
        reply.error(Errno::EOPNOTSUPP);
    }

    fn getxattr(
        &self,
        _request: &Request,
        _inode: INodeNo,
        _name: &OsStr,
        _size: u32,
        reply: ReplyXattr,
    ) {
        reply.error(Errno::EOPNOTSUPP);
    }

    fn listxattr(&self, _request: &Request, _inode: INodeNo, _size: u32, reply: ReplyXattr) {
        reply.error(Errno::EOPNOTSUPP);
    }

    fn setxattr(
        &self,
        _request: &Request,
        _inode: INodeNo,
        _name: &OsStr,
        _value: &[u8],
        _flags: i32,
        _position: u32,
        reply: ReplyEmpty,
    ) {
        reply.error(Errno::EOPNOTSUPP);
    }

    fn removexattr(&self, _request: &Request, _inode: INodeNo, _name: &OsStr, reply: ReplyEmpty) {
        reply.error(Errno::EOPNOTSUPP);
    }

    // Devices come, go and change their names through the control socket only.

    fn create(
        &self,
        _request: &Request,
        _parent: INodeNo,
        _name: &OsStr,
        _mode: u32,
        _umask: u32,
        _flags: i32,
        reply: ReplyCreate,
    ) {
        reply.error(Errno::EPERM);
    }

    fn mknod(
        &self,
        _request: &Request,
        _parent: INodeNo,
        _name: &OsStr,
        _mode: u32,
        _umask: u32,
        _number: u32,
        reply: ReplyEntry,
    ) {
        reply.error(Errno::EPERM);
    }

    fn mkdir(
        &self,
        _request: &Request,
        _parent: INodeNo,
        _name: &OsStr,
        _mode: u32,
        _umask: u32,
        reply: ReplyEntry,
    ) {
        reply.error(Errno::EPERM);
    }

    fn symlink(
        &self,
        _request: &Request,
        _parent: INodeNo,
        _name: &OsStr,
        _target: &Path,
        reply: ReplyEntry,
    ) {
        reply.error(Errno::EPERM);
    }

    fn link(
        &self,
        _request: &Request,
        _inode: INodeNo,
        _parent: INodeNo,
        _name: &OsStr,
        reply: ReplyEntry,
    ) {
        reply.error(Errno::EPERM);
    }

    fn unlink(&self, _request: &Request, _parent: INodeNo, _name: &OsStr, reply: ReplyEmpty) {
        reply.error(Errno::EPERM);
    }

    fn rmdir(&self, _request: &Request, _parent: INodeNo, _name: &OsStr, reply: ReplyEmpty) {
        reply.error(Errno::EPERM);
    }

    fn rename(
        &self,
        _request: &Request,
        _parent: INodeNo,
        _name: &OsStr,
        _new_parent: INodeNo,
        _new_name: &OsStr,
        _flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        reply.error(Errno::EPERM);
    }

    fn readlink(&self, _request: &Request, _inode: INodeNo, reply: ReplyData) {
        reply.error(Errno::EINVAL);
    }
}
