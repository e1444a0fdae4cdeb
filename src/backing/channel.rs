//! Descriptors of one file: opened for reading, and for writing as soon as somebody writes.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::thread;
use std::time::Duration;

use rustix::fs::{Mode, OFlags, open};

use super::{Access, ioctl};
use crate::io::Errno;
use crate::sync::OnceLock;

/// How often a claimed block device is tried again, and how long after.
const N_CLAIMS: u32 = 5;
const CLAIM_PAUSE: Duration = Duration::from_millis(10);

/// One way into the file (through the page cache or around it): a descriptor for reading, and one for writing
/// as soon as somebody writes.
pub(super) struct Channel {
    first: OwnedFd,
    first_writes: bool,
    writer: OnceLock<OwnedFd>,
}

impl Channel {
    pub(super) fn new(first: OwnedFd, access: Access) -> Channel {
        Channel {
            first,
            first_writes: access == Access::ReadWrite,
            writer: OnceLock::new(),
        }
    }

    /// Opens what `place` stands for with `flags`, besides those that `access` means.
    pub(super) fn open(
        place: BorrowedFd<'_>,
        access: Access,
        flags: OFlags,
    ) -> Result<Channel, Errno> {
        reopen(place, access, flags).map(|fd| Channel::new(fd, access))
    }

    pub(super) fn reader(&self) -> BorrowedFd<'_> {
        self.first.as_fd()
    }

    pub(super) fn writer(&self) -> Option<BorrowedFd<'_>> {
        if self.first_writes {
            return Some(self.first.as_fd());
        }
        self.writer.get().map(|fd| fd.as_fd())
    }

    /// Makes the channel writable, if it is not yet.
    pub(super) fn allow_writing(&self, flags: OFlags) -> Result<(), Errno> {
        if self.writer().is_none() {
            let fd = reopen(self.reader(), Access::ReadWrite, flags)?;
            // The file's own lock is held: nobody else can have set it.
            let _ = self.writer.set(fd);
        }
        Ok(())
    }
}

/// Opens anew what `place` stands for, whatever its path means by now.
pub(super) fn reopen(
    place: BorrowedFd<'_>,
    access: Access,
    flags: OFlags,
) -> Result<OwnedFd, Errno> {
    let mode = match access {
        Access::ReadOnly => OFlags::RDONLY,
        Access::ReadWrite => OFlags::RDWR,
    };
    let path = format!("/proc/self/fd/{}", place.as_raw_fd());
    open(
        path,
        mode | flags | OFlags::CLOEXEC | OFlags::NOCTTY,
        Mode::empty(),
    )
}

/// Opens a block device and claims it, for writing where that is possible: the claim belongs to the descriptor, a
/// discard wants both in one, and the claim cannot pass from a first opener's to a later one's.
pub(super) fn claim(place: BorrowedFd<'_>, access: Access) -> Result<(Channel, Access), Errno> {
    let writable = claim_as(place, Access::ReadWrite).and_then(|channel| {
        // The kernel opens such a device for writing and refuses the writes.
        match ioctl::is_read_only(channel.reader())? {
            true => Err(Errno::ACCESS),
            false => Ok((channel, Access::ReadWrite)),
        }
    });
    match (writable, access) {
        (Err(errno), Access::ReadOnly) if errno != Errno::BUSY => {
            claim_as(place, access).map(|channel| (channel, access))
        }
        (opened, _) => opened,
    }
}

/// A child that another thread has forked keeps claims of ours that were given up meanwhile, until it calls exec:
/// somebody who holds the device for that short a time is waited for.
fn claim_as(place: BorrowedFd<'_>, access: Access) -> Result<Channel, Errno> {
    for _ in 0..N_CLAIMS {
        match Channel::open(place, access, OFlags::EXCL) {
            Err(Errno::BUSY) => thread::sleep(CLAIM_PAUSE),
            claimed => return claimed,
        }
    }
    Channel::open(place, access, OFlags::EXCL)
}
