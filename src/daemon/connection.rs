//! The kernel's side of a mount, which can be cut (Documentation/filesystems/fuse.rst, "FUSE control filesystem").

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{Mode, OFlags, major, minor, open, openat};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsmount, fsopen};

use crate::fs::as_in_mountinfo;

/// Where the control file system is mounted, if it is.
pub const FOLDER: &str = "/sys/fs/fuse/connections";

/// The kernel's side of one mount, held open: nothing has to be found or opened when it is needed.
#[derive(Debug)]
pub struct Connection {
    number: u32,
    abort: File,
}

impl Connection {
    /// The connection of the FUSE mount whose files have the device number `st_dev`.
    ///
    /// # Errors
    /// Where the control file system is not mounted and cannot be, or belongs to somebody else.
    pub fn of(st_dev: u64) -> io::Result<Connection> {
        let number = number(st_dev);
        let inside = |folder: &OwnedFd, file: &str, how: OFlags| {
            let path = format!("{number}/{file}");
            openat(folder, path, how | OFlags::CLOEXEC, Mode::empty()).map(File::from)
        };
        let open_both = |folder: &OwnedFd| -> io::Result<Connection> {
            Ok(Connection {
                number,
                abort: inside(folder, "abort", OFlags::WRONLY)?,
            })
        };
        let folder = open(FOLDER, OFlags::PATH | OFlags::CLOEXEC, Mode::empty());
        let found = folder
            .map_err(io::Error::from)
            .and_then(|folder| open_both(&folder));
        found.or_else(|error| match mount_control() {
            Ok(folder) => open_both(&folder),
            Err(_) => Err(error),
        })
    }

    /// Its number below `/sys/fs/fuse/connections`.
    pub fn number(&self) -> u32 {
        self.number
    }

    /// Cuts the connection: the daemon is told that it is over, and whoever waits for an answer gets an error.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn cut(&self) -> io::Result<()> {
        (&self.abort).write_all(b"1")
    }
}

/// The number of the connection of the FUSE mount whose files have the device number `st_dev`.
pub fn number(st_dev: u64) -> u32 {
    // Device numbers of file systems without a disk have major 0.
    minor(st_dev)
}

/// Whether the file system whose files have the device number `st_dev` is mounted on `mountpoint`, alive or dead. By
/// the number alone it could be another one: numbers are used again at once.
pub fn is_mounted(st_dev: u64, mountpoint: &Path) -> bool {
    let wanted = format!("{}:{}", major(st_dev), minor(st_dev));
    let mountpoint = as_in_mountinfo(&mountpoint.to_string_lossy());
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    mounts.lines().any(|line| {
        let mut words = line.split(' ').skip(2);
        words.next() == Some(wanted.as_str()) && words.nth(1) == Some(mountpoint.as_str())
    })
}

/// A mount of the control file system that nobody else sees and that goes with its last open file.
fn mount_control() -> rustix::io::Result<OwnedFd> {
    let context = fsopen("fusectl", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_create(&context)?;
    fsmount(
        &context,
        FsMountFlags::FSMOUNT_CLOEXEC,
        MountAttrFlags::empty(),
    )
}
