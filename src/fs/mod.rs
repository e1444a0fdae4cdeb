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
mod recall;
mod space;
mod transport;

pub use mount::{FsOptions, MountError, as_in_mountinfo};
pub use recall::{Known, Note, OwnerNote, Recalled, Recorder};
pub use transport::Transport;

use std::fs::OpenOptions;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::thread::{self, available_parallelism};
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, CWD, StatxFlags, statx};

use crate::device::{CachePolicy, Change, Device, Directory};
use crate::io::{DiskQueue, Errno, WaitingRoom, aside};
use crate::sync::{Arc, Condvar, Mutex, Ordering};
use dispatch::Dispatch;
use front::Front;
use inodes::Inodes;
use protocol::{Notice, ROOT};
use queued::Queued;
use transport::{Agreed, Backing, Connection, Offer};

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
    connections: Vec<Arc<Connection>>,
    dispatch: Arc<Dispatch>,
    room: Arc<WaitingRoom>,
    mountpoint: PathBuf,
    agreed: Agreed,
    /// The mount is to outlive this process.
    outlives: bool,
    transport: Transport,
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
    let offer = transport::prepare(options.transport, options.outlives).map_err(MountError::new)?;
    let room = WaitingRoom::new("waiting", MOST_WAITING, IDLE)
        .map_err(|error| failed("starting a thread", &error))?;
    let inodes = Inodes::new(directory, options.uid, options.gid, options.mode);
    let front = Arc::new(Front::new(inodes, options.uid, options.gid));
    let (connection, mountpoint) = mount::mount_fuse(mountpoint, options)?;
    let greeted = greet(connection, options, offer.as_ref(), &mountpoint);
    let mounted = greeted.and_then(|(connections, agreed)| {
        let queue = match options.outlives {
            true => None,
            false => start_queue(),
        };
        start(
            (front, room, queue),
            connections,
            (agreed, options.outlives),
            offer.filter(|_| agreed.rings),
            &mountpoint,
        )
    });
    if mounted.is_err() {
        // Whatever is left of it would answer nobody.
        let _ = mount::unmount_fuse(&mountpoint, true);
    }
    mounted
}

/// A mount whose daemon has died, as its successor finds it.
pub struct Orphan {
    /// Every descriptor of the connection that the daemon had. One that is closed takes requests with it.
    pub connections: Vec<OwnedFd>,
    /// Absolute path of the mountpoint.
    pub mountpoint: PathBuf,
    /// What the daemon noted of its files.
    pub recalled: Recalled,
}

/// Serves `orphan`'s devices, those of `directory`, from now on: first what was asked and not answered. Openers
/// count for the devices from now on.
///
/// # Errors
/// What stands in the way; the mount is left as it is.
pub fn adopt(
    directory: Arc<dyn Directory>,
    orphan: Orphan,
    options: &FsOptions,
    recorder: Arc<dyn Recorder>,
) -> Result<Mounted, MountError> {
    let mountpoint = orphan.mountpoint;
    let failed = |what: &str, error: &dyn std::fmt::Display| {
        MountError::new(format!("{}: {what}: {error}", mountpoint.display()))
    };
    let room = WaitingRoom::new("waiting", MOST_WAITING, IDLE)
        .map_err(|error| failed("starting a thread", &error))?;
    let inodes = Inodes::new(directory, options.uid, options.gid, options.mode);
    inodes.recall(orphan.recalled);
    inodes.set_recorder(recorder);
    let front = Arc::new(Front::new(inodes, options.uid, options.gid));
    let connections = orphan.connections.into_iter().map(Connection::new);
    let connections: Vec<_> = connections.map(Arc::new).collect();
    let first = connections
        .first()
        .ok_or_else(|| failed("the connection", &"no descriptor of it was kept"))?;
    match first.tell(&Notice::Resend) {
        // The mount is gone: the workers are told so as well, and end.
        Ok(()) | Err(Errno::NODEV | Errno::NOTCONN | Errno::PERM) => {}
        Err(error) => return Err(failed("asking for unanswered requests", &error)),
    }
    let agreed = Agreed {
        writeback: options.writeback,
        resend: true,
        passthrough: false,
        rings: false,
    };
    start(
        (front, room, None),
        connections,
        (agreed, true),
        None,
        &mountpoint,
    )
}

/// Comes to terms with the kernel, and opens a descriptor for each worker.
fn greet(
    descriptor: OwnedFd,
    options: &FsOptions,
    offer: Option<&Offer>,
    mountpoint: &Path,
) -> Result<(Vec<Arc<Connection>>, Agreed), MountError> {
    let failed = |what: &str, error: &dyn std::fmt::Display| {
        MountError::new(format!("{}: {what}: {error}", mountpoint.display()))
    };
    let descriptor_too = descriptor.try_clone();
    let greet = |fd| transport::greet(fd, options.writeback, offer.is_some());
    let greeted = descriptor_too.and_then(greet);
    let mut agreed = greeted.map_err(|error| failed("the kernel's greeting", &error))?;
    if options.outlives && !agreed.resend {
        let text = "this kernel cannot hand over again what a daemon has not answered (FUSE_HAS_RESEND, Linux 6.9): \
                    mount without --supervised";
        return Err(failed("a supervised mount", &text));
    }
    if options.transport == Transport::IoUring && !agreed.rings {
        let why = "the kernel does not offer it";
        return Err(failed("transport io_uring", &why));
    }
    let connection = Arc::new(Connection::new(descriptor));
    // The kernel agrees with everybody, and says only then who may not. A process that goes on could not tell which
    // files are open around it.
    agreed.passthrough =
        agreed.passthrough && !options.outlives && Backing::try_out(&connection).is_ok();
    let processors = available_parallelism().map_or(1, usize::from);
    let count = options
        .threads
        .unwrap_or(processors)
        .clamp(1, transport::MOST_WORKERS);
    let connections = transport::spread(connection, count)
        .map_err(|error| failed("opening a worker's descriptor", &error))?;
    Ok((connections, agreed))
}

fn start(
    (front, room, queue): (Arc<Front>, WaitingRoom, Option<DiskQueue>),
    connections: Vec<Arc<Connection>>,
    (agreed, outlives): (Agreed, bool),
    offer: Option<Offer>,
    mountpoint: &Path,
) -> Result<Mounted, MountError> {
    let failed = |what: &str, error: &dyn std::fmt::Display| {
        MountError::new(format!("{}: {what}: {error}", mountpoint.display()))
    };
    let connection = connections
        .first()
        .cloned()
        .ok_or_else(|| failed("the connection", &"no descriptor"))?;
    let around = agreed.passthrough.then(|| connection.clone());
    let queued = Queued::new(front.clone(), queue);
    let room = Arc::new(room);
    let dispatch = Arc::new(Dispatch::new(front.clone(), room.clone(), queued, around));
    let serving = transport::start(&connections, &dispatch, offer)
        .map_err(|error| failed("starting a worker", &error))?;
    let transport = serving.transport();
    let end = Arc::new(End::default());
    let reached = end.clone();
    thread::Builder::new()
        .name("fuse".to_owned())
        .spawn(move || {
            let result = serving.wait().map_err(|error| error.to_string());
            *reached.result.lock() = Some(result);
            reached.reached.notify_all();
        })
        .map_err(|error| failed("starting a thread", &error))?;
    Ok(Mounted {
        front,
        connection,
        connections,
        dispatch,
        room,
        mountpoint: mountpoint.to_owned(),
        agreed,
        outlives,
        transport,
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

    /// Every descriptor of the connection. As long as one of them is open somewhere the mount lives; requests that
    /// were read from one that is closed fail.
    pub fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.connections.iter().map(|connection| connection.as_fd())
    }

    /// Takes no further requests: they wait for the process that goes on. Returns when every worker has ended,
    /// having answered what it had begun. For a thread that nothing else depends on, as it may wait in vain where a
    /// worker fails.
    pub fn retire(&self) {
        self.dispatch.retire();
        while !self.has_ended() {
            // A worker that waits for a request gets one.
            self.settle();
        }
    }

    /// Has `recorder` write down what a successor needs to know of the files.
    pub fn set_recorder(&self, recorder: Arc<dyn Recorder>) {
        self.front.inodes().set_recorder(recorder);
    }

    /// Has it written down when files were written that were written after `since`, nanoseconds since 1970; gives
    /// when the last one was.
    pub fn note_written(&self, since: i64) -> i64 {
        self.front.inodes().note_written(since)
    }

    /// Tells the kernel to forget what it believes: a daemon that died may not have come to telling it what had
    /// changed.
    pub fn notify_all(&self) {
        let directory = self.front.inodes().directory();
        for device in directory.list() {
            let id = device.id();
            let told = match device.openers().count() {
                (0, _) => self.connection.tell(&Notice::Contents { inode: id }),
                _ => self.tell_contents_changed(id),
            };
            if let Err(error) = told {
                log::debug!("telling the kernel of inode {id}: {error}");
            }
        }
        self.front.directory_changed();
        let _ = self.connection.tell(&Notice::Attributes { inode: ROOT });
    }

    /// How requests come in.
    pub fn transport(&self) -> Transport {
        self.transport
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
        let (file, tells) = (self.mountpoint.join(name), self.agreed.writeback);
        let seen = file.clone();
        let tell = move || {
            let told = OpenOptions::new().write(true).open(&file);
            if let Err(error) = told.and_then(|file| file.set_len(size)) {
                log::debug!("{}: length of {size} bytes: {error}", file.display());
            }
        };
        if tells && let Err(error) = aside(tell) {
            log::debug!("{}: no thread to tell its length: {error}", seen.display());
        }
        ask_kernel(seen, StatxFlags::SIZE);
    }

    /// Has the kernel send what was written to the device's file and is cached, and forget what was read.
    pub fn write_back(&self, device: &Device) {
        let inode = self.front.inodes().get(device.id());
        if self.has_ended() || inode.is_none_or(|inode| !inode.opens.may_be_cached(device)) {
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
            ..
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
            CachePolicy::Passthrough if self.outlives => {
                "a supervised mount does not have it: the next daemon could not tell which files are open around it"
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
            ask_kernel(self.mountpoint.clone(), StatxFlags::MTIME);
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

    /// Has `count` threads ready for requests that wait, so that none has to be made when there is no memory for it.
    ///
    /// # Errors
    /// Where they cannot all be started.
    pub fn keep_ready(&self, count: usize) -> std::io::Result<()> {
        self.room.keep(count)
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

/// Has the kernel ask us for an attribute of a file of ours.
fn ask_kernel(path: PathBuf, what: StatxFlags) {
    let ask = move || statx(CWD, &path, AtFlags::STATX_FORCE_SYNC, what).map(|_| ());
    // Whatever it is, the kernel has asked, or nobody is there to be asked.
    let _ = aside(ask);
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
