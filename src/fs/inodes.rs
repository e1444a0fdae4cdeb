//! The files of a mount: what the front keeps of each device besides the device itself.
//!
//! An inode's number is the device's permanent number, so that numbers stay the same for as long as the mount's
//! devices exist. What is kept here (owner, mode, times) lasts as long as the device.

use std::cell::RefCell;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::time::{Duration, SystemTime};

use rustix::fs::Timespec;
use rustix::time::{ClockId, clock_gettime};

use super::attributes::{Attributes, Kind};
use super::opens::Opens;
use super::recall::{Note, Recalled, Recorder, is_sent_again};
use crate::device::{Device, Directory};
use crate::io::{BlockDev, Edges};
use crate::sync::{Arc, AtomicI64, AtomicU64, Mutex, Numbers, OnceLock, Ordering, RwLock};

/// Permission bits that a file can have; set-id bits mean nothing for a device and are not kept.
const PERMISSIONS: u32 = 0o777;
const SMALLEST_IO_SIZE: u32 = 4096;
const LARGEST_IO_SIZE: u32 = 1 << 20;

/// Who a file belongs to, and its times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Permission bits.
    pub mode: u16,
    /// Last access, as somebody set it.
    pub atime: SystemTime,
    /// Last change of the data, as somebody set it; a later write counts as well.
    pub mtime: SystemTime,
    /// Last change of what is kept here.
    pub ctime: SystemTime,
}

/// What `setattr` may change of an [`Owner`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OwnerChange {
    /// User.
    pub uid: Option<u32>,
    /// Group.
    pub gid: Option<u32>,
    /// Mode; only the permission bits count.
    pub mode: Option<u32>,
    /// Last access.
    pub atime: Option<SystemTime>,
    /// Last change of the data.
    pub mtime: Option<SystemTime>,
}

impl OwnerChange {
    /// True where nothing is to change.
    pub fn is_empty(&self) -> bool {
        *self == OwnerChange::default()
    }
}

/// One file.
pub struct Inode {
    device: Arc<Device>,
    /// Keeps writes apart that share a block.
    pub edges: Arc<Edges>,
    /// The open files.
    pub opens: Opens,
    /// How long a flush takes on average; where it takes long, the next one must not hold up a worker.
    pub flush_nanos: AtomicU64,
    /// Wall clock of the last write, nanoseconds since 1970; 0 before the first.
    written_at: AtomicI64,
    /// The size that the kernel was told last, bytes.
    pub told_size: AtomicU64,
    /// A leaf in the lock order.
    owner: Mutex<Owner>,
}

impl Inode {
    fn new(device: Arc<Device>, owner: Owner) -> Inode {
        Inode {
            device,
            edges: Arc::new(Edges::new()),
            opens: Opens::default(),
            flush_nanos: AtomicU64::new(0),
            written_at: AtomicI64::new(0),
            told_size: AtomicU64::new(0),
            owner: Mutex::new(owner),
        }
    }

    /// The device behind the file.
    pub fn device(&self) -> &Arc<Device> {
        &self.device
    }

    /// Notes that data changed now, to within a tick of the system's clock.
    #[inline]
    pub fn touch(&self) {
        let now = to_nanos(clock_gettime(ClockId::RealtimeCoarse));
        if self.written_at.load(Ordering::Relaxed) != now {
            self.written_at.store(now, Ordering::Relaxed);
        }
    }

    /// Notes how long a flush took. Of the last eight or so the average counts: one during which a busy machine did
    /// something else says nothing of the device.
    pub fn note_flush(&self, took: Duration) {
        let before = self.flush_nanos.load(Ordering::Relaxed);
        let took = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        let average = before - before / 8 + took / 8;
        self.flush_nanos.store(average, Ordering::Relaxed);
    }

    /// Changes owner, mode or times, and gives what they are now.
    pub fn change_owner(&self, change: &OwnerChange) -> Owner {
        let mut owner = self.owner.lock();
        owner.uid = change.uid.unwrap_or(owner.uid);
        owner.gid = change.gid.unwrap_or(owner.gid);
        if let Some(mode) = change.mode {
            owner.mode = (mode & PERMISSIONS) as u16;
        }
        owner.atime = change.atime.unwrap_or(owner.atime);
        if let Some(mtime) = change.mtime {
            owner.mtime = mtime;
            self.written_at.store(0, Ordering::Relaxed);
        }
        owner.ctime = SystemTime::now();
        *owner
    }

    /// Owner, mode and times, and when data was written last (nanoseconds since 1970; 0 for never).
    pub fn owner(&self) -> (Owner, i64) {
        let owner = *self.owner.lock();
        (owner, self.written_at.load(Ordering::Relaxed))
    }

    /// What `stat` shows.
    pub fn attributes(&self) -> Attributes {
        let owner = *self.owner.lock();
        let written = from_nanos(self.written_at.load(Ordering::Relaxed));
        let sectors = self.device.capacity();
        let size = sectors.checked_bytes().map_or(u64::MAX, |bytes| bytes.0);
        self.told_size.store(size, Ordering::Relaxed);
        Attributes {
            inode: self.device.id(),
            size,
            blocks: sectors.0,
            atime: owner.atime,
            mtime: written.map_or(owner.mtime, |written| written.max(owner.mtime)),
            ctime: written.map_or(owner.ctime, |written| written.max(owner.ctime)),
            kind: Kind::File,
            permissions: owner.mode,
            links: 1,
            uid: owner.uid,
            gid: owner.gid,
            block_size: self
                .device
                .limits()
                .io_opt
                .clamp(SMALLEST_IO_SIZE, LARGEST_IO_SIZE),
        }
    }
}

fn to_nanos(time: Timespec) -> i64 {
    time.tv_sec
        .saturating_mul(1_000_000_000)
        .saturating_add(time.tv_nsec)
}

fn from_nanos(nanos: i64) -> Option<SystemTime> {
    let since = u64::try_from(nanos).ok().filter(|nanos| *nanos > 0)?;
    Some(SystemTime::UNIX_EPOCH + Duration::from_nanos(since))
}

/// The inodes of one mount.
pub struct Inodes {
    directory: Arc<dyn Directory>,
    first_owner: Owner,
    /// A leaf in the lock order.
    known: RwLock<HashMap<u64, Arc<Inode>>>,
    /// Another number, of all that this process ever has, after each removal: what threads remember by it is
    /// then forgotten.
    generation: AtomicU64,
    recorder: OnceLock<Arc<dyn Recorder>>,
    /// What an earlier daemon of this mount has noted.
    recalled: OnceLock<Recalled>,
}

/// What a thread remembers of the inode it used last.
struct Remembered {
    generation: u64,
    id: u64,
    inode: Arc<Inode>,
}

thread_local! {
    static LAST: RefCell<Option<Remembered>> = const { RefCell::new(None) };
}

fn next_generation() -> u64 {
    static GENERATIONS: Numbers = Numbers::starting_at(1);
    GENERATIONS.take()
}

impl Inodes {
    /// No files yet; those that come belong to `uid` and `gid` with mode `mode`.
    pub fn new(directory: Arc<dyn Directory>, uid: u32, gid: u32, mode: u16) -> Inodes {
        let now = SystemTime::now();
        Inodes {
            directory,
            first_owner: Owner {
                uid,
                gid,
                mode,
                atime: now,
                mtime: now,
                ctime: now,
            },
            known: RwLock::new(HashMap::new()),
            generation: AtomicU64::new(next_generation()),
            recorder: OnceLock::new(),
            recalled: OnceLock::new(),
        }
    }

    /// Has `recorder` told from now on. The first one stays.
    pub fn set_recorder(&self, recorder: Arc<dyn Recorder>) {
        if self.recorder.set(recorder).is_err() {
            log::error!("the files have their recorder already");
        }
    }

    /// Makes the files that `recalled` knows what they were. For a front that serves nobody yet.
    pub fn recall(&self, recalled: Recalled) {
        for (id, known) in recalled.files() {
            let Some(inode) = self.get(id) else {
                continue;
            };
            inode.opens.restore(known.openers);
            if let Some(owner) = known.owner {
                *inode.owner.lock() = owner.into();
            }
            inode.written_at.store(known.written_at, Ordering::Relaxed);
        }
        let _ = self.recalled.set(recalled);
    }

    /// True where an earlier daemon has noted `request`, which is sent again.
    pub fn has_noted(&self, request: u64) -> bool {
        is_sent_again(request)
            && self
                .recalled
                .get()
                .is_some_and(|recalled| recalled.has_noted(request))
    }

    /// Has it written down what `note` says.
    pub fn note(&self, note: impl FnOnce() -> Note) {
        if let Some(recorder) = self.recorder.get() {
            recorder.record(note());
        }
    }

    /// Notes when files were written that were written after `since`, nanoseconds since 1970; gives when the last
    /// one was.
    pub fn note_written(&self, since: i64) -> i64 {
        let inodes: Vec<_> = self.known.read().values().cloned().collect();
        let mut last = since;
        for inode in inodes {
            let (_, at) = inode.owner();
            if at > since {
                let inode = inode.device().id();
                self.note(|| Note::Written { inode, at });
                last = last.max(at);
            }
        }
        last
    }

    /// The devices.
    pub fn directory(&self) -> &dyn Directory {
        &*self.directory
    }

    /// Calls `work` with inode `id`; `None` where there is no such device. The inode that a thread used last costs
    /// it neither a lock nor a count that other threads share.
    #[inline]
    pub fn with<R>(&self, id: u64, work: impl FnOnce(&Arc<Inode>) -> R) -> Option<R> {
        let generation = self.generation.load(Ordering::Acquire);
        LAST.with(|last| {
            let Ok(mut last) = last.try_borrow_mut() else {
                return self.get(id).map(|inode| work(&inode));
            };
            match &*last {
                Some(known) if known.id == id && known.generation == generation => {
                    Some(work(&known.inode))
                }
                _ => {
                    let inode = self.get(id)?;
                    let known = last.insert(Remembered {
                        generation,
                        id,
                        inode,
                    });
                    Some(work(&known.inode))
                }
            }
        })
    }

    /// Inode `id`; `None` where there is no such device.
    pub fn get(&self, id: u64) -> Option<Arc<Inode>> {
        if let Some(inode) = self.known.read().get(&id) {
            return Some(inode.clone());
        }
        Some(self.of(self.directory.by_id(id)?))
    }

    /// The inode of `device`.
    pub fn of(&self, device: Arc<Device>) -> Arc<Inode> {
        let id = device.id();
        if let Some(inode) = self.known.read().get(&id) {
            return inode.clone();
        }
        let now = SystemTime::now();
        let owner = Owner {
            atime: now,
            mtime: now,
            ctime: now,
            ..self.first_owner
        };
        let new = Arc::new(Inode::new(device, owner));
        let inode = match self.known.write().entry(id) {
            Entry::Occupied(there) => there.get().clone(),
            Entry::Vacant(free) => {
                let owner = owner.into();
                self.note(|| Note::Owned { inode: id, owner });
                free.insert(new).clone()
            }
        };
        // Removed between being looked up and being noted here: nobody would take it away any more.
        if self.directory.by_id(id).is_none() {
            self.forget(id);
        }
        inode
    }

    /// Forgets a device that was removed.
    pub fn forget(&self, id: u64) {
        let forgotten = self.known.write().remove(&id);
        if forgotten.is_some() {
            self.note(|| Note::Gone { inode: id });
        }
        self.generation.store(next_generation(), Ordering::Release);
        drop(forgotten);
    }
}
