//! Work on files that this very process serves, such as asking for the attributes of one, or attaching a loop device
//! to it.
//!
//! The kernel answers such work through a worker of ours. Killed in between, the process could not end: the thread
//! waits, beyond any signal, for an answer that only the end of the connection would bring; the connection ends when
//! its last descriptor is closed; and that is not closed while a thread that shares it lives. So this work is done by
//! threads that share no descriptors with the others: they have none but the standard three, which lead to /dev/null,
//! as whoever started us may wait for the end of what it reads from us.
#![allow(unsafe_code)]

use std::cell::Cell;
use std::sync::mpsc::channel;
use std::time::Duration;

use rustix::fs::{Mode, OFlags, open};
use rustix::stdio::{dup2_stderr, dup2_stdin, dup2_stdout};

use super::{Errno, WaitingRoom};
use crate::sync::OnceLock;

/// Threads that may be at such work at the same time.
const MOST: usize = 16;
/// How long a thread stays without work.
const IDLE: Duration = Duration::from_secs(10);
/// The first descriptor after the standard three.
const FIRST: libc::c_uint = 3;

thread_local! {
    static IS_ALONE: Cell<bool> = const { Cell::new(false) };
}

/// Has `work` done aside, and waits for it. No descriptor may go in, nor come out: numbers mean other files there.
///
/// # Errors
/// What the system says where it has no thread for it; EIO where the work panicked.
pub fn aside<R: Send + 'static>(work: impl FnOnce() -> R + Send + 'static) -> Result<R, Errno> {
    static ROOM: OnceLock<Option<WaitingRoom>> = OnceLock::new();
    let room = ROOM.get_or_init(|| WaitingRoom::new("aside", MOST, IDLE).ok());
    let room = room.as_ref().ok_or(Errno::AGAIN)?;
    let (done, result) = channel();
    room.submit(Box::new(move || {
        let result = be_alone().map(|()| work());
        // Whoever asked waits.
        let _ = done.send(result);
    }));
    result.recv().unwrap_or(Err(Errno::IO))
}

/// Gives the calling thread a table of descriptors of its own, with the standard three.
fn be_alone() -> Result<(), Errno> {
    if IS_ALONE.get() {
        return Ok(());
    }
    let flags = libc::CLOSE_RANGE_UNSHARE as libc::c_int;
    // SAFETY: close_range(2) takes no pointers. With CLOSE_RANGE_UNSHARE it closes descriptors of this thread's own
    // new table alone, and no value of this thread owns any: the room's jobs come and go without.
    if unsafe { libc::close_range(FIRST, libc::c_uint::MAX, flags) } != 0 {
        return Err(last_errno());
    }
    let null = open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    dup2_stdin(&null)?;
    dup2_stdout(&null)?;
    dup2_stderr(&null)?;
    IS_ALONE.set(true);
    Ok(())
}

/// Has programs that this process starts inherit no descriptor but the standard three, whatever it was started with
/// itself.
///
/// # Errors
/// What the system says.
pub fn bequeath_nothing() -> Result<(), Errno> {
    let flags = libc::CLOSE_RANGE_CLOEXEC as libc::c_int;
    // SAFETY: close_range(2) takes no pointers, and with CLOSE_RANGE_CLOEXEC closes nothing in this process.
    match unsafe { libc::close_range(FIRST, libc::c_uint::MAX, flags) } {
        0 => Ok(()),
        _ => Err(last_errno()),
    }
}

fn last_errno() -> Errno {
    std::io::Error::last_os_error()
        .raw_os_error()
        .map_or(Errno::IO, Errno::from_raw_os_error)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::fs::{self, File};
    use std::os::fd::AsRawFd;

    use super::aside;

    #[test]
    fn work_aside_has_no_descriptor_of_ours_and_takes_none_away() {
        let file = File::open("/proc/self/status").unwrap();
        let number = file.as_raw_fd();
        let seen = move || fs::exists(format!("/proc/thread-self/fd/{number}")).unwrap();
        assert!(seen());
        assert!(!aside(seen).unwrap());
        assert!(!aside(seen).unwrap());
        assert!(seen() && file.metadata().is_ok());
    }

    #[test]
    fn work_aside_keeps_nobody_waiting_who_reads_from_us() {
        let standard = || {
            [0, 1, 2].map(|number| fs::read_link(format!("/proc/thread-self/fd/{number}")).unwrap())
        };
        let ours = standard();
        let theirs = aside(standard).unwrap();
        assert!(theirs.iter().all(|path| path.as_os_str() == "/dev/null"));
        assert_eq!(standard(), ours);
    }

    #[test]
    fn what_panics_aside_is_an_error_here() {
        assert!(aside(|| panic!("on purpose")).is_err());
        assert_eq!(aside(|| 7).unwrap(), 7);
    }
}
