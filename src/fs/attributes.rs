//! What `stat` shows of a file.

use std::time::SystemTime;

/// What `stat` shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attributes {
    /// Inode number.
    pub inode: u64,
    /// Length in bytes.
    pub size: u64,
    /// Length in sectors.
    pub blocks: u64,
    /// Last access.
    pub atime: SystemTime,
    /// Last change of the data.
    pub mtime: SystemTime,
    /// Last change of the attributes.
    pub ctime: SystemTime,
    /// File or directory.
    pub kind: Kind,
    /// Permission bits.
    pub permissions: u16,
    /// Hard links.
    pub links: u32,
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Bytes that one request best has.
    pub block_size: u32,
}

/// What a mount shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A device.
    File,
    /// The directory that holds them.
    Directory,
}

impl Kind {
    /// S_IF*
    pub fn mode(self) -> u32 {
        match self {
            Kind::File => libc::S_IFREG,
            Kind::Directory => libc::S_IFDIR,
        }
    }
}
