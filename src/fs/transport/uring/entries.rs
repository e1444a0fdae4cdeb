//! Memory that the kernel and one ring thread share: entries, each with room for one request and its answer.
//!
//! An entry belongs to the kernel from the moment in which its command is handed over until the command completes,
//! then to us until it is answered. Ours is split in two: what the request says can be read by the ring thread
//! ([`Request`]), and the right to answer ([`Slot`]) goes wherever the answer is made. Both never write what the
//! other reads: a payload that came with a request is only read until the ring thread takes the answer back
//! ([`Entries::answer`]), which nobody can reach while a [`Request`] is still looked at.

#![allow(unsafe_code)]

use std::ops::{Deref, Range};
use std::ptr;
use std::slice;

use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, munmap};

use super::exchange::{Body, Exchange, Finished, STRUCTURE};
use crate::fs::bytes::WIDEST;
use crate::fs::protocol::{HEADER_LEN, MAX_REQUEST};
use crate::io::Errno;
use crate::sync::Arc;

const PAGE: usize = 4096;
/// Bytes of struct fuse_uring_req_header, in which these parts lie: struct fuse_in_header or fuse_out_header at the
/// start, the first structure of the operation, struct fuse_uring_ent_in_out.
pub const HEADERS: usize = 288;
const OPERATION: usize = 128;
const ENTRY: usize = 256;
/// In struct fuse_uring_ent_in_out.
const COMMIT_ID: usize = ENTRY + 8;
const PAYLOAD_LEN: usize = ENTRY + 16;
/// From one entry's headers to the next's.
const HEADERS_ROOM: usize = 320;
/// Room for data: the longest request, and what a read may get longer by being widened to whole blocks.
pub const PAYLOAD: usize = MAX_REQUEST + WIDEST;

/// Pages of our own.
struct Mapping {
    start: *mut u8,
    len: usize,
}

// SAFETY: nothing in it belongs to a thread; who may touch which part is said at the top.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Memory that is not touched yet.
    fn new(len: usize) -> Result<Mapping, Errno> {
        let access = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping wherever the kernel likes touches nobody's memory.
        let start = unsafe {
            mmap_anonymous(
                ptr::null_mut(),
                len,
                access,
                MapFlags::PRIVATE | MapFlags::NORESERVE,
            )?
        };
        Ok(Mapping {
            start: start.cast(),
            len,
        })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: it is ours, and whoever could look into it held a reference to us.
        if let Err(error) = unsafe { munmap(self.start.cast(), self.len) } {
            log::error!("munmap: {error}");
        }
    }
}

/// Entries that were made together, one behind the other.
struct Group {
    mapping: Mapping,
    /// The number of the first.
    first: usize,
    count: usize,
    exchange: Arc<Exchange>,
}

impl Group {
    fn new(first: usize, count: usize, exchange: Arc<Exchange>) -> Result<Group, Errno> {
        let headers = (count * HEADERS_ROOM).next_multiple_of(PAGE);
        Ok(Group {
            mapping: Mapping::new(headers + count * PAYLOAD)?,
            first,
            count,
            exchange,
        })
    }

    fn end(&self) -> usize {
        self.first + self.count
    }

    /// Which of the group's entries number `index` is.
    fn place_of(&self, index: usize) -> usize {
        assert!((self.first..self.end()).contains(&index));
        index - self.first
    }

    fn headers(&self, index: usize) -> *mut u8 {
        // SAFETY: inside the mapping, see `new`.
        unsafe { self.mapping.start.add(self.place_of(index) * HEADERS_ROOM) }
    }

    fn payload(&self, index: usize) -> *mut u8 {
        let before = (self.count * HEADERS_ROOM).next_multiple_of(PAGE);
        // SAFETY: inside the mapping, see `new`.
        unsafe {
            self.mapping
                .start
                .add(before + self.place_of(index) * PAYLOAD)
        }
    }
}

/// The entries of one ring thread.
pub struct Entries {
    groups: Vec<Arc<Group>>,
    exchange: Arc<Exchange>,
}

/// What the kernel asks for, as it lies in an entry.
pub struct Request<'a> {
    /// struct fuse_in_header
    pub header: &'a [u8],
    /// The operation's first structure.
    pub body: &'a [u8],
    /// What follows it: names, data.
    pub payload: &'a [u8],
}

impl Entries {
    /// None yet; answers come back through `exchange`.
    pub fn new(exchange: Arc<Exchange>) -> Entries {
        Entries {
            groups: Vec::new(),
            exchange,
        }
    }

    /// Adds `count` entries, whose memory is touched when it is used.
    ///
    /// # Errors
    /// What the system says.
    pub fn add(&mut self, count: usize) -> Result<(), Errno> {
        let group = Group::new(self.len(), count, self.exchange.clone())?;
        self.groups.push(Arc::new(group));
        Ok(())
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.groups.last().map_or(0, |group| group.end())
    }

    fn group(&self, index: usize) -> &Arc<Group> {
        let after = self.groups.partition_point(|group| group.end() <= index);
        &self.groups[after]
    }

    /// Where entry `index` lies: struct iovec of its headers and of its payload.
    pub fn places(&self, index: usize) -> [libc::iovec; 2] {
        let place = |start: *mut u8, len| libc::iovec {
            iov_base: start.cast(),
            iov_len: len,
        };
        [
            place(self.group(index).headers(index), HEADERS),
            place(self.group(index).payload(index), PAYLOAD),
        ]
    }

    /// The request in entry `index`, and the right to answer it.
    ///
    /// # Safety
    /// The kernel has just completed the entry's command with success: there is no other `Slot` of it.
    pub unsafe fn arrived(&self, index: usize) -> (Request<'_>, Slot) {
        let group = self.group(index);
        let headers = group.headers(index);
        // SAFETY: the kernel is done with it, and we write to it in `answer` only, which needs us for itself.
        let headers = unsafe { slice::from_raw_parts(headers, HEADERS) };
        let len = number(headers, PAYLOAD_LEN, u32::from_ne_bytes) as usize;
        let len = len.min(PAYLOAD);
        // SAFETY: likewise; `Slot::memory` gives nothing where the request has a payload.
        let payload = unsafe { slice::from_raw_parts(group.payload(index), len) };
        let request = Request {
            header: &headers[..HEADER_LEN],
            body: &headers[OPERATION..ENTRY],
            payload,
        };
        let slot = Slot {
            group: Some(group.clone()),
            index,
            unique: number(headers, COMMIT_ID, u64::from_ne_bytes),
            payload: len,
        };
        (request, slot)
    }

    /// Puts an answer where the kernel looks for it; gives the number by which the kernel knows the request.
    pub fn answer(&mut self, finished: &Finished) -> u64 {
        let index = finished.index;
        let (error, len) = match &finished.answer {
            Ok(body) => (0, self.put(index, body)),
            Err(error) => (-error.raw_os_error(), 0),
        };
        // SAFETY: whoever had the right to answer gave it up, and what was read from it is not looked at any more.
        let headers =
            unsafe { slice::from_raw_parts_mut(self.group(index).headers(index), HEADERS) };
        let id = number(headers, COMMIT_ID, u64::from_ne_bytes);
        headers[..4].copy_from_slice(&((16 + len) as u32).to_ne_bytes());
        headers[4..8].copy_from_slice(&error.to_ne_bytes());
        headers[8..16].copy_from_slice(&id.to_ne_bytes());
        headers[PAYLOAD_LEN..][..4].copy_from_slice(&(len as u32).to_ne_bytes());
        id
    }

    fn put(&mut self, index: usize, body: &Body) -> usize {
        let bytes = match body {
            Body::InPlace(len) => return (*len).min(PAYLOAD),
            body => body.bytes(),
        };
        let len = bytes.len().min(PAYLOAD);
        // SAFETY: as in `answer`.
        let payload = unsafe { slice::from_raw_parts_mut(self.group(index).payload(index), len) };
        payload.copy_from_slice(&bytes[..len]);
        len
    }
}

/// The field of `N` bytes at `place`.
fn number<const N: usize, T>(from: &[u8], place: usize, read: impl FnOnce([u8; N]) -> T) -> T {
    let mut bytes = [0; N];
    bytes.copy_from_slice(&from[place..][..N]);
    read(bytes)
}

/// The right to answer the request in one entry.
pub struct Slot {
    /// `None` where it was answered.
    group: Option<Arc<Group>>,
    index: usize,
    unique: u64,
    /// Bytes that the request came with.
    payload: usize,
}

impl Slot {
    /// The request's number.
    pub fn unique(&self) -> u64 {
        self.unique
    }

    /// `len` bytes of the entry's payload, for an answer to be made in; page-aligned. `None` where the request
    /// itself lies there, and where so much does not fit.
    pub fn memory(&mut self, len: usize) -> Option<&mut [u8]> {
        if self.payload != 0 || len > PAYLOAD {
            return None;
        }
        let group = self.group.as_ref()?;
        // SAFETY: the request has no payload, so nobody reads it; who answers is one, and borrowed meanwhile.
        Some(unsafe { slice::from_raw_parts_mut(group.payload(self.index), len) })
    }

    /// Answers with `range` of [`Slot::memory`].
    pub fn answer_in_place(mut self, range: Range<usize>) {
        let len = range.len();
        let answer = match self.memory(PAYLOAD) {
            Some(memory) if range.start <= range.end && range.end <= memory.len() => {
                if range.start != 0 {
                    memory.copy_within(range, 0);
                }
                Ok(Body::InPlace(len))
            }
            _ => Err(Errno::IO),
        };
        self.finish(answer);
    }

    /// Answers with a copy of `body`, or with an error.
    pub fn answer(mut self, result: Result<&[u8], Errno>) {
        if let Ok(body) = result
            && body.len() > STRUCTURE
            && let Some(memory) = self.memory(body.len())
        {
            memory.copy_from_slice(body);
            return self.answer_in_place(0..body.len());
        }
        self.finish(result.map(Body::copy_of));
    }

    fn finish(&mut self, answer: Result<Body, Errno>) {
        if let Some(group) = self.group.take() {
            group.exchange.put(Finished {
                index: self.index,
                answer,
            });
        }
    }

    /// Keeps `data`, with which the request came, as long as the answer is owed.
    ///
    /// # Errors
    /// Itself, where `data` lies elsewhere.
    pub fn keep(self, data: &[u8]) -> Result<Kept, Slot> {
        let Some(group) = &self.group else {
            return Err(self);
        };
        let start = group.payload(self.index).cast_const();
        let payload = start..start.wrapping_add(self.payload);
        let ends = data.as_ptr_range();
        if payload.start <= ends.start && ends.end <= payload.end {
            let from = ends.start as usize - start as usize;
            let range = from..from + data.len();
            Ok(Kept { slot: self, range })
        } else {
            Err(self)
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.finish(Err(Errno::IO));
    }
}

/// Data of a request in its entry, and the right to answer it.
pub struct Kept {
    slot: Slot,
    range: Range<usize>,
}

impl Kept {
    /// The data is not needed any more.
    pub fn into_slot(self) -> Slot {
        self.slot
    }
}

impl Deref for Kept {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        let Some(group) = &self.slot.group else {
            return &[];
        };
        // SAFETY: the range is of the payload that the request came with, which is only read until it is answered.
        unsafe {
            let start = group.payload(self.slot.index).add(self.range.start);
            slice::from_raw_parts(start, self.range.len())
        }
    }
}
