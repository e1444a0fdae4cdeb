//! The FUSE front: the devices of a mount as regular files.
//!
//! ```text
//! kernel -> transport (protocol) -> dispatch -> front (operations) -> bytes (whole blocks) -> device
//! ```
//!
//! A file is called as its device, is as long as the device and has the device's permanent number as inode. What
//! holds for a block device holds for the file: its length cannot be changed through it, opening with O_TRUNC
//! changes nothing, a write past the end gets ENOSPC, a write to a read-only device EPERM. Files are neither made
//! nor removed nor renamed here; that is control's.
//!
//! A request is served on the worker that the kernel gave it to, without waiting; one that would have to wait
//! moves to the waiting room, so that a suspended device never holds up another.

mod attributes;
mod bytes;
mod dispatch;
mod front;
mod inodes;
mod mount;
mod opens;
mod protocol;
mod queued;
mod read_ahead;
mod scratch;
mod space;
mod transport;

pub use mount::{FsOptions, MountError};

use std::fs::OpenOptions;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::thread::{self, available_parallelism};
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, CWD, StatxFlags, statx};

use crate::device::{CachePolicy, Change, Device, Directory};
use crate::io::{DiskQueue, Errno, WaitingRoom};
use crate::sync::{Arc, Condvar, Mutex, Ordering};
use dispatch::Dispatch;
use front::Front;
use inodes::Inodes;
use protocol::{Notice, ROOT};
use queued::Queued;
use transport::{Agreed, Backing, Connection};

/// More requests than this that wait at the same time queue.
const MOST_WAITING: usize = 4096;
/// Bytes of requests that wait for disks at the same time; those beyond wait in the room.
const QUEUE_MEMORY: usize = 40 << 20;
/// How long a thread of the waiting room stays without work.
const IDLE: Duration = Duration::from_secs(10);

/// A mount that is being served. Dropping it unmounts, lazily where it is in use.
pub struct Mounted {
    front: Arc<Front>,
    connection: Arc<Connection>,
    mountpoint: PathBuf,
    agreed: Agreed,
    end: Arc<End>,
}

/// How serving ended.
#[derive(Default)]
struct End {
    /// A leaf in the lock order.
    result: Mutex<Option<Result<(), String>>>,
    reached: Condvar,
}

/// Mounts the devices of `directory` on `mountpoint` and serves them on threads of their own until unmounted.
///
/// # Errors
/// What stands in the way, and what to do about it.
pub fn serve(
    directory: Arc<dyn Directory>,
    mountpoint: &Path,
    options: &FsOptions,
) -> Result<Mounted, MountError> {
    let failed = |what: &str, error: &dyn std::fmt::Display| {
        MountError::new(format!("{}: {what}: {error}", mountpoint.display()))
    };
    let room = WaitingRoom::new("waiting", MOST_WAITING, IDLE)
        .map_err(|error| failed("starting a thread", &error))?;
    let inodes = Inodes::new(directory, options.uid, options.gid, options.mode);
    let front = Arc::new(Front::new(inodes, options.uid, options.gid));
    let (connection, mountpoint) = mount::mount_fuse(mountpoint, options)?;
    let mounted = start(front, room, connection, &mountpoint, options);
    if mounted.is_err() {
        // Whatever is left of it would answer nobody.
        let _ = mount::unmount_fuse(&mountpoint, true);
    }
    mounted
}

fn start(
    front: Arc<Front>,
    room: WaitingRoom,
    descriptor: OwnedFd,
    mountpoint: &Path,
    options: &FsOptions,
) -> Result<Mounted, MountError> {
    let failed = |what: &str, error: &dyn std::fmt::Display| {
        MountError::new(format!("{}: {what}: {error}", mountpoint.display()))
    };
    let descriptor_too = descriptor.try_clone();
    let greeted = descriptor_too.and_then(|fd| transport::greet(fd, options.writeback));
    let mut agreed = greeted.map_err(|error| failed("the kernel's greeting", &error))?;
    let connection = Arc::new(Connection::new(descriptor));
    // The kernel agrees with everybody, and says only then who may not.
    agreed.passthrough = agreed.passthrough && Backing::try_out(&connection).is_ok();
    let around = agreed.passthrough.then(|| connection.clone());
    let queued = Queued::new(front.clone(), start_queue());
    let room = Arc::new(room);
    let dispatch = Arc::new(Dispatch::new(front.clone(), room, queued, around));
    let processors = available_parallelism().map_or(1, usize::from);
    let count = options
        .threads
        .unwrap_or(processors)
        .clamp(1, transport::MOST_WORKERS);
    let workers = transport::start(&connection, &dispatch, count)
        .map_err(|error| failed("starting a worker", &error))?;
    let end = Arc::new(End::default());
    let reached = end.clone();
    thread::Builder::new()
        .name("fuse".to_owned())
        .spawn(move || {
            let result = workers.wait().map_err(|error| error.to_string());
            *reached.result.lock() = Some(result);
            reached.reached.notify_all();
        })
        .map_err(|error| failed("starting a thread", &error))?;
    Ok(Mounted {
        front,
        connection,
        mountpoint: mountpoint.to_owned(),
        agreed,
        end,
    })
}

/// The queue for requests that wait for disks, where the kernel has io_uring for us.
fn start_queue() -> Option<DiskQueue> {
    match DiskQueue::start("disk-queue", QUEUE_MEMORY) {
        Ok(queue) => Some(queue),
        Err(error) => {
            log::warn!("no io_uring ({error}): requests that wait for a disk take a thread each");
            None
        }
    }
}

impl Mounted {
    /// Absolute path of the mountpoint.
    pub fn mountpoint(&self) -> &Path {
        &self.mountpoint
    }

    /// Tells the kernel what changed, so that it forgets what it believes. For control's threads, with no lock
    /// held: the kernel may have to write back pages first, through the very device that changed.
    pub fn notify(&self, change: &Change) {
        if self.has_ended() {
            return;
        }
        let told = match change {
            Change::Added { .. } => Ok(()),
            Change::Removed { id, name } => {
                self.front.inodes().forget(*id);
                let name = name.as_bytes();
                let removed = Notice::Removed { inode: *id, name };
                // Something may be mounted on the file: then the kernel keeps the name and only asks again.
                self.connection
                    .tell(&removed)
                    .or_else(|_| self.connection.tell(&Notice::Name(name)))
            }
            Change::Renamed { from, to, .. } => {
                let old = self.connection.tell(&Notice::Name(from.as_bytes()));
                old.and(self.connection.tell(&Notice::Name(to.as_bytes())))
            }
            Change::Changed { id } => self.tell_contents_changed(*id),
        };
        let directory = match change {
            Change::Changed { .. } => Ok(()),
            Change::Added { .. } | Change::Removed { .. } | Change::Renamed { .. } => {
                self.front.directory_changed();
                self.connection.tell(&Notice::Attributes { inode: ROOT })
            }
        };
        if let Err(error) = told.and(directory) {
            log::debug!("telling the kernel of {change:?}: {error}");
        }
    }

    fn tell_contents_changed(&self, id: u64) -> Result<(), Errno> {
        let told = self.connection.tell(&Notice::Contents { inode: id });
        if let Some(inode) = self.front.inodes().get(id) {
            let size = bytes::size(&**inode.device());
            if size != inode.told_size.load(Ordering::Relaxed) {
                self.have_size_seen(&inode.device().name(), size);
            }
        }
        told
    }

    /// The kernel asks for the new length when somebody wants to know it. A file that is open for direct
    /// asynchronous I/O does not, so we want to know it. Where the kernel holds back writes it takes the length for
    /// its own, and does not ask at all: it has to be told, and gets the device's length for an answer.
    fn have_size_seen(&self, name: &str, size: u64) {
        let file = self.mountpoint.join(name);
        if self.agreed.writeback {
            let told = OpenOptions::new().write(true).open(&file);
            if let Err(error) = told.and_then(|file| file.set_len(size)) {
                log::debug!("{name}: length of {size} bytes: {error}");
            }
        }
        let _ = statx(CWD, &file, AtFlags::STATX_FORCE_SYNC, StatxFlags::SIZE);
    }

    /// Has the kernel send what was written to the device's file and is cached, and forget what was read.
    pub fn write_back(&self, device: &Device) {
        let inode = self.front.inodes().get(device.id());
        if self.has_ended() || inode.is_none_or(|inode| !inode.opens.may_be_cached()) {
            return;
        }
        let contents = Notice::Contents { inode: device.id() };
        if let Err(error) = self.connection.tell(&contents) {
            log::debug!("{}: writing back: {error}", device.name());
        }
    }

    /// Whether files can be opened with this policy. The page cache is made fit for it.
    ///
    /// # Errors
    /// Why not.
    pub fn offers(&self, policy: CachePolicy) -> Result<(), String> {
        let Agreed {
            writeback,
            passthrough,
        } = self.agreed;
        let why_not = match policy {
            CachePolicy::Keep if writeback => {
                "the kernel holds back the writes to every cached file of a mount that was made for writeback: choose writeback or none"
            }
            CachePolicy::Writeback if !writeback => {
                "has to be agreed on when mounting: name it in the mount file or with `dmfs mount --cache writeback`"
            }
            CachePolicy::Passthrough if writeback => {
                "the kernel does not go around the daemon in a mount that was made for writeback"
            }
            CachePolicy::Passthrough if !passthrough => {
                "needs Linux 6.9 and CAP_SYS_ADMIN in the first user namespace (root)"
            }
            _ => "",
        };
        if !why_not.is_empty() {
            return Err(why_not.to_owned());
        }
        if policy.caches() {
            read_ahead::tune(&self.mountpoint, writeback);
        }
        Ok(())
    }

    /// Waits until the kernel has handed over what processes did before now with the files, closing them above
    /// all: the kernel tells of a close only after the process has gone on.
    pub fn settle(&self) {
        if !self.has_ended() {
            let _ = statx(
                CWD,
                &self.mountpoint,
                AtFlags::STATX_FORCE_SYNC,
                StatxFlags::MTIME,
            );
        }
    }

    /// Takes the mount away; `lazy`: at once from the tree of files, for good when nobody uses it any more.
    ///
    /// # Errors
    /// Where it is in use, with how to find out by whom.
    pub fn unmount(&self, lazy: bool) -> Result<(), MountError> {
        if self.has_ended() {
            return Ok(());
        }
        mount::unmount_fuse(&self.mountpoint, lazy)
    }

    /// Takes the mount out of the tree of files after its connection was cut: serving has ended, and what is left
    /// answers nobody.
    ///
    /// # Errors
    /// What the kernel or fusermount3 say.
    pub fn take_away_dead(&self) -> Result<(), MountError> {
        mount::unmount_fuse(&self.mountpoint, true)
    }

    /// True where serving has ended: unmounted by us or by somebody else, or the connection was cut.
    pub fn has_ended(&self) -> bool {
        self.end.result.lock().is_some()
    }

    /// Waits until serving has ended.
    ///
    /// # Errors
    /// What ended it, where it was not an unmount.
    pub fn wait(&self) -> Result<(), MountError> {
        let mut result = self.end.result.lock();
        loop {
            match &*result {
                Some(result) => return result.clone().map_err(MountError::new),
                None => self.end.reached.wait(&mut result),
            }
        }
    }

    /// Waits until serving has ended, `patience` at most; true where it has.
    pub fn wait_for(&self, patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        let mut result = self.end.result.lock();
        while result.is_none() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            self.end.reached.wait_for(&mut result, left);
        }
        true
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if !self.has_ended()
            && let Err(error) = mount::unmount_fuse(&self.mountpoint, true)
        {
            log::warn!("{error}");
        }
    }
}

#[cfg(test)]
mod tests;
