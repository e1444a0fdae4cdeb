//! Errors of the data path: small and `Copy`.

use std::fmt;

pub use rustix::io::Errno;

/// What a request ends with.
pub type IoResult = Result<(), IoError>;

/// Why a request failed, as the errno that a block device would give.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct IoError(Cause);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Cause {
    Errno(Errno),
    WouldWait,
    Requeue,
}

impl IoError {
    /// The device failed the request (EIO).
    pub const IO: IoError = IoError(Cause::Errno(Errno::IO));
    /// The device does not do this kind of request (EOPNOTSUPP).
    pub const UNSUPPORTED: IoError = IoError(Cause::Errno(Errno::OPNOTSUPP));
    /// A write to a device that is read-only (EPERM, as a write to a read-only block device gives).
    pub const READ_ONLY: IoError = IoError(Cause::Errno(Errno::PERM));
    /// The request said `nowait` and would have to wait; submit it again where waiting is no harm.
    pub const WOULD_WAIT: IoError = IoError(Cause::WouldWait);
    /// The target gives the request back: the device holds it until it is resumed, then submits it again.
    pub const REQUEUE: IoError = IoError(Cause::Requeue);

    /// The errno for whoever asked; EAGAIN for a request that was put off.
    pub fn errno(self) -> Errno {
        match self.0 {
            Cause::Errno(errno) => errno,
            Cause::WouldWait | Cause::Requeue => Errno::AGAIN,
        }
    }

    /// True where the request was not tried for good but put off ([`Self::WOULD_WAIT`], [`Self::REQUEUE`]).
    pub fn is_put_off(self) -> bool {
        matches!(self.0, Cause::WouldWait | Cause::Requeue)
    }
}

impl From<Errno> for IoError {
    fn from(errno: Errno) -> IoError {
        IoError(Cause::Errno(errno))
    }
}

impl From<std::io::Error> for IoError {
    fn from(error: std::io::Error) -> IoError {
        IoError(Cause::Errno(
            Errno::from_io_error(&error).unwrap_or(Errno::IO),
        ))
    }
}

impl fmt::Debug for IoError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Cause::Errno(errno) => write!(f, "IoError({errno:?})"),
            Cause::WouldWait => f.write_str("IoError(would wait)"),
            Cause::Requeue => f.write_str("IoError(requeue)"),
        }
    }
}

impl fmt::Display for IoError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.errno().fmt(f)
    }
}

impl std::error::Error for IoError {}
