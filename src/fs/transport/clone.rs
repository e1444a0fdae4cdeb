//! FUSE_DEV_IOC_CLONE (linux/fuse.h): a second descriptor of a connection, with requests of its own in flight.

#![allow(unsafe_code)]

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::fs::{Mode, OFlags, open};
use rustix::io::Result;
use rustix::ioctl::{Opcode, Setter, ioctl, opcode};

const FUSE_DEV_IOC_CLONE: Opcode = opcode::read::<u32>(229, 0);

/// Opens /dev/fuse once more, for the same connection as `connection`.
///
/// # Errors
/// What the system says: the device may be closed to us by now.
pub fn clone(connection: impl AsFd) -> Result<OwnedFd> {
    let new = open("/dev/fuse", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    let of = connection.as_fd().as_raw_fd() as u32;
    // SAFETY: the command reads one 32-bit descriptor number through the pointer and touches no other memory.
    unsafe { ioctl(&new, Setter::<FUSE_DEV_IOC_CLONE, u32>::new(of))? };
    Ok(new)
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::clone;

    #[test]
    fn what_is_no_connection_is_not_cloned() -> std::io::Result<()> {
        let null = File::open("/dev/null")?;
        assert!(clone(null).is_err());
        Ok(())
    }
}
