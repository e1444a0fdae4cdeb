//! The rival: the fastest plain `fuser` passthrough of one file that we know how to write.
//!
//! It does nothing but what the transport asks for: one `pread` into a page-aligned, pre-touched buffer of the
//! worker thread and one reply from it; one `pwrite` from the buffer that the request arrived in, or from a page-aligned
//! copy of it where the backing file is used around the page cache. Threads,
//! capabilities and open flags are those that dmfs uses, so that the difference between the two is what the
//! mapper costs.

use std::cell::RefCell;
use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::thread::available_parallelism;
use std::time::{Duration, SystemTime};

use fuser::{
    Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo,
    InitFlags, KernelConfig, LockOwner, MountOption, OpenFlags, ReplyAttr, ReplyData,
    ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyWrite, Request, Session, SessionACL,
    WriteFlags,
};

/// The name of the one file.
pub const FILE_NAME: &str = "disk";
const FILE_INODE: INodeNo = INodeNo(2);
const MAX_REQUEST: usize = 1 << 20;
const PAGE: usize = 4096;
const TTL: Duration = Duration::from_secs(3600);

/// Serves `backing` as `mountpoint/disk` until it is unmounted.
///
/// # Errors
/// Where the file cannot be opened or the mount fails.
pub fn serve(backing: &Path, mountpoint: &Path, direct: bool) -> io::Result<()> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(if direct { libc::O_DIRECT } else { 0 })
        .open(backing)?;
    let size = file.metadata()?.len();
    let mut config = Config::default();
    config.mount_options = vec![MountOption::FSName("plain-fuser".to_owned())];
    config.acl = if rustix::process::geteuid().is_root() {
        SessionACL::All
    } else {
        SessionACL::Owner
    };
    config.n_threads = Some(available_parallelism().map_or(1, usize::from).min(4));
    config.clone_fd = true;
    let served = OneFile { file, size, direct };
    Session::new(served, mountpoint, &config)?.run()
}

struct OneFile {
    file: File,
    size: u64,
    direct: bool,
}

thread_local! {
    static SCRATCH: RefCell<Vec<u8>> = RefCell::new(vec![1; MAX_REQUEST + PAGE]);
}

/// Hands the worker's page-aligned buffer, `len` bytes of it, to `work`.
fn with_scratch<R>(len: usize, work: impl FnOnce(&mut [u8]) -> R) -> R {
    SCRATCH.with_borrow_mut(|buffer| {
        let start = buffer.as_ptr().align_offset(PAGE);
        let end = start + len.min(MAX_REQUEST);
        work(&mut buffer[start..end])
    })
}

fn errno(error: &io::Error) -> Errno {
    Errno::from_i32(error.raw_os_error().unwrap_or(libc::EIO))
}

impl OneFile {
    fn attributes(&self, inode: INodeNo) -> FileAttr {
        let is_root = inode == INodeNo::ROOT;
        FileAttr {
            ino: inode,
            size: if is_root { 0 } else { self.size },
            blocks: if is_root { 0 } else { self.size / 512 },
            atime: SystemTime::UNIX_EPOCH,
            mtime: SystemTime::UNIX_EPOCH,
            ctime: SystemTime::UNIX_EPOCH,
            crtime: SystemTime::UNIX_EPOCH,
            kind: if is_root {
                FileType::Directory
            } else {
                FileType::RegularFile
            },
            perm: if is_root { 0o755 } else { 0o600 },
            nlink: 1,
            uid: rustix::process::getuid().as_raw(),
            gid: rustix::process::getgid().as_raw(),
            rdev: 0,
            blksize: 4096,
            flags: 0,
        }
    }
}

impl Filesystem for OneFile {
    fn init(&mut self, _request: &Request, config: &mut KernelConfig) -> io::Result<()> {
        let wanted = InitFlags::FUSE_ASYNC_DIO
            | InitFlags::FUSE_PARALLEL_DIROPS
            | InitFlags::FUSE_DIRECT_IO_ALLOW_MMAP
            | InitFlags::FUSE_HAS_RESEND;
        let offered = config.capabilities();
        config
            .add_capabilities(wanted & offered)
            .map_err(|_| io::Error::other("capabilities"))?;
        config
            .set_max_write(MAX_REQUEST as u32)
            .map_err(|_| io::Error::other("max_write"))?;
        config
            .set_max_background(128)
            .map_err(|_| io::Error::other("max_background"))?;
        Ok(())
    }

    fn lookup(&self, _request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        if parent == INodeNo::ROOT && name == FILE_NAME {
            reply.entry(&TTL, &self.attributes(FILE_INODE), Generation(0));
        } else {
            reply.error(Errno::ENOENT);
        }
    }

    fn getattr(
        &self,
        _request: &Request,
        inode: INodeNo,
        _handle: Option<FileHandle>,
        reply: ReplyAttr,
    ) {
        reply.attr(&TTL, &self.attributes(inode));
    }

    fn open(&self, _request: &Request, _inode: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        reply.opened(
            FileHandle(0),
            FopenFlags::FOPEN_DIRECT_IO
                | FopenFlags::FOPEN_PARALLEL_DIRECT_WRITES
                | FopenFlags::FOPEN_NOFLUSH,
        );
    }

    fn read(
        &self,
        _request: &Request,
        _inode: INodeNo,
        _handle: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        with_scratch(size as usize, |buffer| {
            match self.file.read_at(buffer, offset) {
                Ok(len) => reply.data(&buffer[..len]),
                Err(error) => reply.error(errno(&error)),
            }
        });
    }

    fn write(
        &self,
        _request: &Request,
        _inode: INodeNo,
        _handle: FileHandle,
        offset: u64,
        data: &[u8],
        _write_flags: WriteFlags,
        _flags: OpenFlags,
        _owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let written = if self.direct {
            // Data that arrived with its request never begins a page.
            with_scratch(data.len(), |buffer| {
                buffer.copy_from_slice(data);
                self.file.write_at(buffer, offset)
            })
        } else {
            self.file.write_at(data, offset)
        };
        match written {
            Ok(len) => reply.written(len as u32),
            Err(error) => reply.error(errno(&error)),
        }
    }

    fn fsync(
        &self,
        _request: &Request,
        _inode: INodeNo,
        _handle: FileHandle,
        _datasync: bool,
        reply: ReplyEmpty,
    ) {
        match self.file.sync_data() {
            Ok(()) => reply.ok(),
            Err(error) => reply.error(errno(&error)),
        }
    }

    fn readdir(
        &self,
        _request: &Request,
        _inode: INodeNo,
        _handle: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        let entries = [
            (INodeNo::ROOT, FileType::Directory, "."),
            (INodeNo::ROOT, FileType::Directory, ".."),
            (FILE_INODE, FileType::RegularFile, FILE_NAME),
        ];
        for (at, (inode, kind, name)) in (0u64..).zip(entries) {
            if at >= offset && reply.add(inode, at + 1, kind, name) {
                break;
            }
        }
        reply.ok();
    }
}
