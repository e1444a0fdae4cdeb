//! The descriptor of a mount: requests are read from it, answers and notices written to it, each in one call.

use std::io::IoSlice;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::{read, writev};

use super::clone::clone;
use crate::fs::protocol::{MAX_REQUEST, Notice, WRITE_PREFIX};
use crate::io::Errno;

/// Bytes of struct fuse_out_header.
const OUT_HEADER: usize = 16;
const PAGE: usize = 4096;

/// One descriptor of a mount's connection to the kernel.
#[derive(Debug)]
pub struct Connection(OwnedFd);

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// struct fuse_out_header; `error` is a negative errno, 0, or the number of a notice.
fn out_header(len: usize, error: i32, unique: u64) -> [u8; OUT_HEADER] {
    let mut header = [0; OUT_HEADER];
    header[..4].copy_from_slice(&((OUT_HEADER + len) as u32).to_ne_bytes());
    header[4..8].copy_from_slice(&error.to_ne_bytes());
    header[8..].copy_from_slice(&unique.to_ne_bytes());
    header
}

impl Connection {
    /// The connection behind `descriptor`.
    pub fn new(descriptor: OwnedFd) -> Connection {
        Connection(descriptor)
    }

    /// Another descriptor of the same connection, which waits for requests beside this one.
    ///
    /// # Errors
    /// What the system says.
    pub fn for_another_worker(&self) -> Result<Connection, Errno> {
        clone(&self.0).map(Connection)
    }

    /// Waits for the next request.
    ///
    /// # Errors
    /// ENODEV where the mount is gone, ECONNABORTED where it was cut off.
    pub fn receive<'a>(&self, into: &'a mut Incoming) -> Result<&'a [u8], Errno> {
        loop {
            match read(&self.0, into.room()) {
                Ok(len) => return into.room().get(..len).ok_or(Errno::IO),
                // ENOENT: it was taken back before it was handed over.
                Err(Errno::INTR | Errno::AGAIN | Errno::NOENT) => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// True where a request waits to be taken.
    pub fn has_request(&self) -> bool {
        let now = Timespec::default();
        poll(&mut [PollFd::new(&self.0, PollFlags::IN)], Some(&now)).is_ok_and(|ready| ready > 0)
    }

    /// Takes the next request if there is one; for a descriptor that [does not wait](Connection::set_waiting).
    ///
    /// # Errors
    /// As for [`Connection::receive`].
    pub fn try_receive<'a>(&self, into: &'a mut Incoming) -> Result<Option<&'a [u8]>, Errno> {
        match read(&self.0, into.room()) {
            Ok(len) => into.room().get(..len).map(Some).ok_or(Errno::IO),
            Err(Errno::INTR | Errno::AGAIN | Errno::NOENT) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Whether taking a request from this descriptor waits for one.
    ///
    /// # Errors
    /// What the system says.
    pub fn set_waiting(&self, waits: bool) -> Result<(), Errno> {
        let flags = fcntl_getfl(&self.0)?;
        let wanted = match waits {
            true => flags - OFlags::NONBLOCK,
            false => flags | OFlags::NONBLOCK,
        };
        if wanted == flags {
            return Ok(());
        }
        fcntl_setfl(&self.0, wanted)
    }

    /// Answers request `unique`.
    ///
    /// # Errors
    /// ENOENT where nobody waits for it any more.
    #[inline]
    pub fn answer(&self, unique: u64, result: Result<&[u8], Errno>) -> Result<(), Errno> {
        let (error, body) = match result {
            Ok(body) => (0, body),
            Err(error) => (-error.raw_os_error(), &[][..]),
        };
        let header = out_header(body.len(), error, unique);
        writev(&self.0, &[IoSlice::new(&header), IoSlice::new(body)]).map(drop)
    }

    /// Tells the kernel something.
    ///
    /// # Errors
    /// ENOENT where the kernel knows nothing of it; what else the kernel says.
    pub fn tell(&self, notice: &Notice<'_>) -> Result<(), Errno> {
        notice.encode(|number, parts| {
            let len = parts.iter().map(|part| part.len()).sum();
            let header = out_header(len, number, 0);
            let mut all = vec![IoSlice::new(&header)];
            all.extend_from_slice(parts);
            writev(&self.0, &all).map(drop)
        })
    }
}

/// Memory for one request. What a write carries begins at a page in it, so that it can go on to a device that is
/// used around the page cache as it is.
pub struct Incoming {
    memory: Vec<u8>,
    start: usize,
}

impl Incoming {
    /// Memory for the largest request, touched.
    pub fn new() -> Incoming {
        // Not zeroes: memory that is asked for as zeroes is not touched until it is used.
        let memory = vec![1; MAX_REQUEST + 3 * PAGE];
        let to_page = memory.as_ptr().align_offset(PAGE).min(PAGE);
        Incoming {
            start: to_page + PAGE - WRITE_PREFIX,
            memory,
        }
    }

    fn room(&mut self) -> &mut [u8] {
        self.memory.get_mut(self.start..).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::{Incoming, PAGE, out_header};
    use crate::fs::protocol::{MAX_REQUEST, WRITE_PREFIX};

    #[test]
    fn the_data_of_a_write_begins_at_a_page() {
        let mut incoming = Incoming::new();
        let room = incoming.room();
        // The kernel wants room for the largest write and its header.
        assert!(room.len() >= WRITE_PREFIX + MAX_REQUEST);
        assert_eq!(room[WRITE_PREFIX..].as_ptr().align_offset(PAGE), 0);
    }

    #[test]
    fn an_answer_begins_with_its_length() {
        let header = out_header(5, -2, 9);
        assert_eq!(header[..4], 21u32.to_ne_bytes());
        assert_eq!(header[4..8], (-2i32).to_ne_bytes());
        assert_eq!(header[8..], 9u64.to_ne_bytes());
    }
}
