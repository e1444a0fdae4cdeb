//! From the operations of a request to the [`Front`], and from what that says to the answer.
//!
//! A request is served on the worker that took it. What would have to wait for a disk goes to the disk queue, what would
//! have to wait for anything else to the waiting room, each with a copy of its data, and is answered from there. Nothing is answered with ENOSYS where the kernel would take it for
//! "this file system never can" and stop asking.

use std::collections::HashMap;

use super::attributes::{Attributes, Kind};
use super::bytes::WIDEST;
use super::front::{AttributeChange, Entry, Front, Listing};
use super::inodes::OwnerChange;
use super::protocol::{Entries, Operation, ROOT, SetAttributes};
use super::protocol::{attributes, entry, opened, sought, usage, written};
use super::queued::{Queued, When};
use super::transport::{Connection, Reply};
use crate::io::{Errno, Flags, IoError, WaitingRoom};
use crate::sync::{Arc, AtomicBool, AtomicU64, Mutex, Ordering};

/// From this length on, zeroing may take longer than a worker should be busy.
const LONG_ALLOCATION: u64 = 4 << 20;

const WORKER: Flags = Flags {
    fua: false,
    nowait: true,
};
const WAITING: Flags = Flags {
    fua: false,
    nowait: false,
};

/// Serves a [`Front`].
pub struct Dispatch {
    front: Arc<Front>,
    room: Arc<WaitingRoom>,
    queued: Queued,
    /// The way to hand over backing files.
    around: Option<Arc<Connection>>,
    /// Listings that open directories go through. A leaf in the lock order.
    listings: Mutex<HashMap<u64, Arc<Listing>>>,
    next_listing: AtomicU64,
    /// Another process is to go on.
    retired: AtomicBool,
}

impl Dispatch {
    /// Serves `front`; what waits for a disk is `queued`, what has to wait for anything else does so in `room`.
    /// Backing files are handed to the kernel by `around`, where it takes any.
    pub fn new(
        front: Arc<Front>,
        room: Arc<WaitingRoom>,
        queued: Queued,
        around: Option<Arc<Connection>>,
    ) -> Dispatch {
        Dispatch {
            front,
            room,
            queued,
            around,
            listings: Mutex::new(HashMap::new()),
            next_listing: AtomicU64::new(1),
            retired: AtomicBool::new(false),
        }
    }

    /// True where requests may be handed to a [`crate::io::DiskQueue`].
    pub fn queues(&self) -> bool {
        self.queued.is_there()
    }

    /// True where workers are to take no further requests.
    #[inline]
    pub fn is_retired(&self) -> bool {
        self.retired.load(Ordering::Relaxed)
    }

    /// Has each worker end after the request that it serves or waits for.
    pub fn retire(&self) {
        self.retired.store(true, Ordering::Relaxed);
    }

    /// Carries out `operation` on `inode` and answers it, now or later.
    #[inline]
    pub fn serve(&self, inode: u64, operation: Operation<'_>, reply: Reply<'_>) {
        match operation {
            Operation::Read { at, len } => self.read(inode, at, len, reply),
            Operation::Write { at, data, durable } => self.write(inode, at, data, durable, reply),
            Operation::Sync => self.sync(inode, reply),
            other => self.serve_rare(inode, other, reply),
        }
    }

    fn serve_rare(&self, inode: u64, operation: Operation<'_>, reply: Reply<'_>) {
        match operation {
            Operation::Lookup(_) if inode != ROOT => reply.error(Errno::NOTDIR),
            Operation::Lookup(name) => {
                answer(reply, self.front.lookup(name), |found| entry(&found))
            }
            Operation::Attributes => answer_attributes(reply, self.front.attributes(inode)),
            Operation::SetAttributes(asked) => {
                let change = attribute_change(&asked);
                answer_attributes(reply, self.front.change_attributes(inode, &change));
            }
            Operation::Open => {
                let result = self.front.open(inode, reply.unique(), self.around.as_ref());
                answer(reply, result, |file| opened(0, file.flags, file.backing));
            }
            Operation::Close => self.close(inode, reply),
            Operation::Usage => reply.body(&usage(&self.front.usage())),
            Operation::OpenDirectory => {
                let handle = self.next_listing.fetch_add(1, Ordering::Relaxed);
                reply.body(&opened(handle, 0, 0));
            }
            Operation::List { .. } if inode != ROOT => reply.error(Errno::NOTDIR),
            Operation::List {
                handle,
                after,
                len,
                plus,
            } => self.list(handle, after, len, plus, reply),
            Operation::CloseDirectory { handle } => {
                let listing = self.listings.lock().remove(&handle);
                drop(listing);
                reply.body(&[]);
            }
            Operation::Allocate { at, len, mode } => self.allocate(inode, at, len, mode, reply),
            Operation::Seek { at, whence } => {
                let result = self.front.seek(inode, at, whence);
                answer(reply, result, sought);
            }
            Operation::Nothing | Operation::Destroy => reply.body(&[]),
            Operation::Refused(errno) => reply.error(errno),
            Operation::Forget => reply.none(),
            Operation::Read { .. } | Operation::Write { .. } | Operation::Sync => {
                reply.error(Errno::INVAL);
            }
        }
    }

    /// Has `work` done where waiting is no harm.
    #[cold]
    fn later(&self, work: impl FnOnce(&Front) + Send + 'static) {
        let front = self.front.clone();
        self.room.submit(Box::new(move || work(&front)));
    }

    #[inline]
    fn read(&self, inode: u64, at: u64, len: usize, mut reply: Reply<'_>) {
        if self.queued.comes_first(inode) {
            match self.queued.read(inode, at, len, When::Busy, reply) {
                Ok(()) => return,
                Err(back) => reply = back,
            }
        }
        let done = reply.data(len + WIDEST, |memory| {
            self.front.read(inode, at, len, memory, WORKER)
        });
        if let Err(reply) = done {
            self.read_later(inode, at, len, reply);
        }
    }

    #[cold]
    fn read_later(&self, inode: u64, at: u64, len: usize, reply: Reply<'_>) {
        if let Err(reply) = self.queued.read(inode, at, len, When::Always, reply) {
            let reply = reply.detached();
            self.later(move |front| {
                // Nothing is put off that may wait: no reply comes back.
                let _ = reply.data(len + WIDEST, |memory| {
                    front.read(inode, at, len, memory, WAITING)
                });
            });
        }
    }

    #[inline]
    fn write(&self, inode: u64, at: u64, data: &[u8], durable: bool, mut reply: Reply<'_>) {
        let flags = Flags {
            fua: durable,
            ..WORKER
        };
        if self.queued.comes_first(inode) {
            match self.queued.write(inode, at, data, flags, When::Busy, reply) {
                Ok(()) => return,
                Err(back) => reply = back,
            }
        }
        match self.front.write(inode, at, data, flags) {
            Err(IoError::WOULD_WAIT) => self.write_later(inode, at, data, flags, reply),
            result => answer(reply, result, written),
        }
    }

    #[cold]
    fn write_later(&self, inode: u64, at: u64, data: &[u8], flags: Flags, reply: Reply<'_>) {
        let queued = self
            .queued
            .write(inode, at, data, flags, When::Always, reply);
        if let Err(reply) = queued {
            let (kept, fua) = (reply.keep(data), flags.fua);
            self.later(move |front| {
                let result = front.write(inode, at, &kept, Flags { fua, ..WAITING });
                answer(kept.into_reply(), result, written);
            });
        }
    }

    fn sync(&self, inode: u64, reply: Reply<'_>) {
        let result = if self.front.flush_is_slow(inode) {
            Err(IoError::WOULD_WAIT)
        } else {
            self.front.flush(inode, WORKER)
        };
        match result {
            Err(IoError::WOULD_WAIT) => {
                if let Err(reply) = self.queued.flush(inode, reply) {
                    let reply = reply.detached();
                    self.later(move |front| reply.result(front.flush(inode, WAITING)));
                }
            }
            result => reply.result(result),
        }
    }

    fn allocate(&self, inode: u64, at: u64, len: u64, mode: i32, reply: Reply<'_>) {
        let result = if len >= LONG_ALLOCATION {
            Err(IoError::WOULD_WAIT)
        } else {
            self.front.allocate(inode, at, len, mode, WORKER)
        };
        match result {
            Err(IoError::WOULD_WAIT) => {
                let reply = reply.detached();
                self.later(move |front| {
                    reply.result(front.allocate(inode, at, len, mode, WAITING));
                });
            }
            result => reply.result(result),
        }
    }

    fn close(&self, inode: u64, reply: Reply<'_>) {
        if self.front.close(inode, reply.unique()) {
            self.later(move |front| front.remove_closed(inode));
        }
        reply.body(&[]);
    }

    /// The listing that `handle` goes through. One from the start is taken anew; so is one of a directory that was
    /// opened before this process served it.
    fn listing(&self, handle: u64, from_start: bool) -> Arc<Listing> {
        if !from_start && let Some(listing) = self.listings.lock().get(&handle) {
            return listing.clone();
        }
        let listing = Arc::new(self.front.listing());
        self.listings.lock().insert(handle, listing.clone());
        listing
    }

    fn list(&self, handle: u64, after: u64, len: usize, plus: bool, reply: Reply<'_>) {
        let listing = self.listing(handle, after == 0);
        // Listing never waits: no reply comes back.
        let _ = reply.data(len, |memory| {
            let mut entries = Entries::new(memory);
            for (cookie, entry) in listing.after(after) {
                let (inode, kind, name) = match entry {
                    Entry::Dots(name) => (ROOT, Kind::Directory, name.to_owned()),
                    Entry::Device(device) => (device.id(), Kind::File, device.name()),
                };
                let attributes = plus.then(|| self.front.attributes(inode)).transpose();
                // One that went since the listing was taken is not listed.
                let Ok(attributes) = attributes else {
                    continue;
                };
                if !entries.add(inode, cookie, kind, name.as_bytes(), attributes.as_ref()) {
                    break;
                }
            }
            Ok(0..entries.len())
        });
    }
}

fn answer<T, B: AsRef<[u8]>>(
    reply: Reply<'_>,
    result: Result<T, IoError>,
    encode: impl FnOnce(T) -> B,
) {
    match result {
        Ok(value) => reply.body(encode(value).as_ref()),
        Err(error) => reply.error(error),
    }
}

fn answer_attributes(reply: Reply<'_>, result: Result<Attributes, IoError>) {
    answer(reply, result, |found| attributes(&found));
}

fn attribute_change(asked: &SetAttributes) -> AttributeChange {
    AttributeChange {
        owner: OwnerChange {
            uid: asked.uid,
            gid: asked.gid,
            mode: asked.mode,
            atime: asked.atime,
            mtime: asked.mtime,
        },
        size: asked.size,
        through_open_file: asked.through_open_file,
    }
}
