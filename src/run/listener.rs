//! What hears of trapped calls, and answers them (seccomp_unotify(2)).

#![allow(unsafe_code)]

use std::os::fd::{AsRawFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::{Errno, Result};
use rustix::ioctl::{IntegerSetter, Opcode, Setter, Updater, ioctl};

const RECV: Opcode = libc::SECCOMP_IOCTL_NOTIF_RECV as Opcode;
const SEND: Opcode = libc::SECCOMP_IOCTL_NOTIF_SEND as Opcode;
const ID_VALID: Opcode = libc::SECCOMP_IOCTL_NOTIF_ID_VALID as Opcode;
const ADDFD: Opcode = libc::SECCOMP_IOCTL_NOTIF_ADDFD as Opcode;
const SET_FLAGS: Opcode = libc::SECCOMP_IOCTL_NOTIF_SET_FLAGS as Opcode;

/// SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP: the caller is woken on our processor, as we are about to sleep.
const SYNC_WAKE_UP: usize = 1;

/// The listening end of a filter.
pub(super) struct Listener(OwnedFd);

/// A call that waits for an answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Trapped {
    /// Names it towards the kernel.
    pub id: u64,
    /// The calling thread.
    pub pid: u32,
    /// Number of the call.
    pub nr: libc::c_long,
    /// Its arguments.
    pub args: [u64; 6],
}

/// What becomes of a call.
pub(super) enum Answer {
    /// It goes on in the kernel.
    Continue,
    /// It has been carried out, and returns this.
    Value(i64),
    /// It fails.
    Fails(Errno),
    /// It returns this descriptor.
    Descriptor {
        /// The descriptor.
        fd: OwnedFd,
        /// Closed when the caller becomes another program.
        close_on_exec: bool,
    },
}

impl Listener {
    /// Listens at what [`super::filter::Filter::install`] gave.
    pub(super) fn new(fd: OwnedFd) -> Listener {
        // SAFETY: SET_FLAGS takes a number. Older kernels refuse it, and do without.
        let _ = unsafe { ioctl(&fd, IntegerSetter::<SET_FLAGS>::new_usize(SYNC_WAKE_UP)) };
        Listener(fd)
    }

    /// Waits for the next call; `None` when nobody is left who could make one.
    ///
    /// # Errors
    /// Where the kernel says something else.
    pub(super) fn next(&self) -> Result<Option<Trapped>> {
        loop {
            let mut polled = [PollFd::new(&self.0, PollFlags::IN)];
            match poll(&mut polled, None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(errno) => return Err(errno),
            }
            let seen = polled[0].revents();
            if seen.contains(PollFlags::IN) {
                match self.receive() {
                    // The caller has died meanwhile.
                    Err(Errno::NOENT | Errno::INTR) => {}
                    received => return received.map(Some),
                }
            } else if seen.intersects(PollFlags::HUP | PollFlags::ERR) {
                return Ok(None);
            }
        }
    }

    fn receive(&self) -> Result<Trapped> {
        // SAFETY: every bit pattern is a `struct seccomp_notif`, and the kernel wants zeroes.
        let mut notice: libc::seccomp_notif = unsafe { std::mem::zeroed() };
        // SAFETY: RECV fills in a `struct seccomp_notif`.
        unsafe {
            ioctl(
                &self.0,
                Updater::<RECV, libc::seccomp_notif>::new(&mut notice),
            )?
        };
        Ok(Trapped {
            id: notice.id,
            pid: notice.pid,
            nr: libc::c_long::from(notice.data.nr),
            args: notice.data.args,
        })
    }

    /// True while the call waits: what was read of its caller before is the caller's.
    pub(super) fn is_valid(&self, id: u64) -> bool {
        // SAFETY: ID_VALID reads a u64.
        unsafe { ioctl(&self.0, Setter::<ID_VALID, u64>::new(id)) }.is_ok()
    }

    /// Answers a call.
    ///
    /// # Errors
    /// ENOENT where the caller has died; what a descriptor may meet (EMFILE).
    pub(super) fn answer(&self, id: u64, answer: &Answer) -> Result<()> {
        let (val, error, flags) = match answer {
            Answer::Continue => (0, 0, libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE as u32),
            Answer::Value(value) => (*value, 0, 0),
            Answer::Fails(errno) => (0, -errno.raw_os_error(), 0),
            Answer::Descriptor { fd, close_on_exec } => {
                return self
                    .add(id, fd.as_raw_fd(), *close_on_exec)
                    .or_else(|errno| self.answer(id, &Answer::Fails(errno)));
            }
        };
        let mut response = libc::seccomp_notif_resp {
            id,
            val,
            error,
            flags,
        };
        // SAFETY: SEND reads a `struct seccomp_notif_resp`.
        unsafe {
            ioctl(
                &self.0,
                Updater::<SEND, libc::seccomp_notif_resp>::new(&mut response),
            )
        }
    }

    /// Gives the caller a descriptor, which its call returns.
    fn add(&self, id: u64, fd: i32, close_on_exec: bool) -> Result<()> {
        let addition = libc::seccomp_notif_addfd {
            id,
            flags: libc::SECCOMP_ADDFD_FLAG_SEND as u32,
            srcfd: fd.unsigned_abs(),
            newfd: 0,
            newfd_flags: match close_on_exec {
                true => libc::O_CLOEXEC as u32,
                false => 0,
            },
        };
        // SAFETY: ADDFD reads a `struct seccomp_notif_addfd`.
        unsafe {
            ioctl(
                &self.0,
                Setter::<ADDFD, libc::seccomp_notif_addfd>::new(addition),
            )
        }
    }
}
