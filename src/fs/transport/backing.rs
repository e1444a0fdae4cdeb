//! FUSE_DEV_IOC_BACKING_OPEN and _CLOSE (linux/fuse.h): files that the kernel reads and writes by itself for files
//! of the mount.

#![allow(unsafe_code)]

use std::ffi::c_void;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use rustix::fs::{MemfdFlags, memfd_create};
use rustix::io::Result;
use rustix::ioctl::{Ioctl, IoctlOutput, Opcode, Setter, ioctl, opcode};

use super::connection::Connection;
use crate::sync::Arc;

const BACKING_OPEN: Opcode = opcode::write::<BackingMap>(229, 1);
const BACKING_CLOSE: Opcode = opcode::write::<u32>(229, 2);

/// struct fuse_backing_map
#[repr(C)]
struct BackingMap {
    fd: i32,
    flags: u32,
    padding: u64,
}

const _: () = assert!(size_of::<BackingMap>() == 16);

// SAFETY: the command reads one struct fuse_backing_map, which the pointer leads to, and answers with a number.
unsafe impl Ioctl for BackingMap {
    type Output = i32;

    const IS_MUTATING: bool = false;

    fn opcode(&self) -> Opcode {
        BACKING_OPEN
    }

    fn as_ptr(&mut self) -> *mut c_void {
        (&raw mut *self).cast()
    }

    unsafe fn output_from_ptr(answer: IoctlOutput, _: *mut c_void) -> Result<i32> {
        Ok(answer)
    }
}

/// A file that the kernel knows by a number, until this is dropped. Files that are open over it keep it.
#[derive(Debug)]
pub struct Backing {
    connection: Arc<Connection>,
    number: i32,
}

impl Backing {
    /// Hands `file` to the kernel.
    ///
    /// # Errors
    /// EPERM without CAP_SYS_ADMIN in the first user namespace or where the mount did not agree on it; ELOOP where
    /// the file lies on too many file systems over one another; EINVAL for what is no regular file.
    pub fn open(connection: &Arc<Connection>, file: BorrowedFd<'_>) -> Result<Backing> {
        let map = BackingMap {
            fd: file.as_raw_fd(),
            flags: 0,
            padding: 0,
        };
        // SAFETY: the command reads the structure and touches no other memory; the descriptor is open.
        let number = unsafe { ioctl(connection.as_fd(), map)? };
        Ok(Backing {
            connection: connection.clone(),
            number,
        })
    }

    /// Whether the kernel takes files from us.
    ///
    /// # Errors
    /// As for [`Backing::open`].
    pub fn try_out(connection: &Arc<Connection>) -> Result<()> {
        let file = memfd_create("dmfs-probe", MemfdFlags::CLOEXEC)?;
        Backing::open(connection, file.as_fd()).map(drop)
    }

    /// The number, as the answer to an open bears it.
    pub fn number(&self) -> i32 {
        self.number
    }
}

impl Drop for Backing {
    fn drop(&mut self) {
        let number = self.number.unsigned_abs();
        // SAFETY: the command reads one 32-bit number through the pointer and touches no other memory.
        let closed = unsafe {
            let close = Setter::<BACKING_CLOSE, u32>::new(number);
            ioctl(self.connection.as_fd(), close)
        };
        if let Err(error) = closed {
            log::debug!("backing file {number}: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::Backing;
    use crate::fs::transport::Connection;
    use crate::sync::Arc;

    #[test]
    fn what_is_no_mount_takes_no_file() -> std::io::Result<()> {
        let connection = Arc::new(Connection::new(File::open("/dev/null")?.into()));
        assert!(Backing::try_out(&connection).is_err());
        Ok(())
    }
}
