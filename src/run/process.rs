//! Starting processes in ways that the standard library has no word for.

#![allow(unsafe_code)]

use std::ffi::OsString;
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use rustix::process::Pid;

use super::filter::Filter;

/// What a child says who goes on to run the command; another one is followed by an errno.
const INSTALLED: u8 = 1;
const REFUSED: u8 = 0;

/// Why a command does not run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NotStarted {
    /// The kernel refuses the filter.
    NoFilter(Errno),
    /// The command itself.
    Command(Errno),
}

/// Which of two processes this is after [`fork`].
pub(super) enum Side {
    /// The one that was.
    Parent,
    /// The new one.
    Child,
}

/// Makes a second process of this one.
///
/// # Errors
/// EAGAIN, ENOMEM; EBUSY where there is more than one thread, as the others would be missing in the new process.
pub(super) fn fork() -> Result<Side, Errno> {
    let threads = std::fs::read_dir("/proc/self/task").map_or(1, Iterator::count);
    if threads > 1 {
        return Err(Errno::BUSY);
    }
    // SAFETY: there is one thread, so nothing is left half done in the child.
    match unsafe { libc::fork() } {
        -1 => Err(last_errno()),
        0 => Ok(Side::Child),
        _ => Ok(Side::Parent),
    }
}

/// Starts a command under `filter`; gives its process and what hears of its calls.
///
/// # Errors
/// See [`NotStarted`].
pub(super) fn start(
    words: &[OsString],
    mountpoint: &str,
    filter: Filter,
) -> Result<(Pid, OwnedFd), NotStarted> {
    let failed = |error: std::io::Error| {
        NotStarted::Command(Errno::from_io_error(&error).unwrap_or(Errno::IO))
    };
    let Some((program, arguments)) = words.split_first() else {
        return Err(NotStarted::Command(Errno::NOENT));
    };
    let (ours, theirs) = UnixStream::pair().map_err(failed)?;
    let mut command = Command::new(program);
    command.args(arguments).env("DMFS_MOUNT", mountpoint);
    let enter = move || match filter.install() {
        Ok(listener) => Ok(hand_over(&theirs, &listener)?),
        Err(errno) => {
            let [a, b, c, d] = errno.raw_os_error().to_le_bytes();
            rustix::io::write(&theirs, &[REFUSED, a, b, c, d])?;
            Err(errno.into())
        }
    };
    // SAFETY: between fork and exec `enter` only makes system calls, and this process has one thread.
    unsafe { command.pre_exec(enter) };
    let started = command.spawn();
    // With the command goes the child's end of the socket.
    drop(command);
    let listener = take_over(&ours);
    match (started, listener) {
        (Ok(child), Ok(listener)) => {
            let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
            Ok((pid.ok_or(NotStarted::Command(Errno::SRCH))?, listener))
        }
        (Err(error), Ok(_)) => Err(failed(error)),
        (_, Err(errno)) => Err(NotStarted::NoFilter(errno)),
    }
}

fn hand_over(to: &UnixStream, listener: &OwnedFd) -> Result<(), Errno> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let descriptors = [listener.as_fd()];
    control.push(SendAncillaryMessage::ScmRights(&descriptors));
    let said = [IoSlice::new(&[INSTALLED])];
    sendmsg(to, &said, &mut control, SendFlags::empty()).map(drop)
}

/// The listener that the child has handed over, or why there is none.
fn take_over(from: &UnixStream) -> Result<OwnedFd, Errno> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut said = [0; 5];
    let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
    recvmsg(from, &mut [IoSliceMut::new(&mut said)], &mut control, flags)?;
    let listener = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    });
    let [_, a, b, c, d] = said;
    listener.ok_or_else(|| Errno::from_raw_os_error(i32::from_le_bytes([a, b, c, d])))
}

/// What this process does from now on at some signals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reaction {
    /// What is usual.
    Default,
    /// Nothing.
    Ignore,
}

/// Has this process react so to `signals`.
pub(super) fn react(signals: &[i32], reaction: Reaction) {
    let handler = match reaction {
        Reaction::Default => libc::SIG_DFL,
        Reaction::Ignore => libc::SIG_IGN,
    };
    for signal in signals {
        // SAFETY: neither of the two is a function.
        unsafe { libc::signal(*signal, handler) };
    }
}

fn last_errno() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
}
