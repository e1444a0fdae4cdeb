//! Answers: what follows struct fuse_out_header, by operation.

use std::time::{Duration, SystemTime};

use super::TTL;
use crate::fs::attributes::{Attributes, Kind};
use crate::fs::front::Usage;

/// Bytes of struct fuse_attr.
const ATTR: usize = 88;
/// Bytes of struct fuse_entry_out before its attributes.
const ENTRY_HEAD: usize = 40;
/// Bytes of struct fuse_attr_out before its attributes.
const ATTR_HEAD: usize = 16;
/// Bytes of struct fuse_dirent before its name.
const DIRENT: usize = 24;
const LONGEST_NAME: u32 = 127;
const STATFS_BLOCK: u32 = 4096;

/// A structure that is filled in from its start.
struct Writer<const LEN: usize> {
    bytes: [u8; LEN],
    len: usize,
}

impl<const LEN: usize> Writer<LEN> {
    fn new() -> Writer<LEN> {
        Writer {
            bytes: [0; LEN],
            len: 0,
        }
    }

    fn put(mut self, field: &[u8]) -> Self {
        let end = self.len + field.len();
        if let Some(place) = self.bytes.get_mut(self.len..end) {
            place.copy_from_slice(field);
        }
        self.len = end;
        self
    }

    fn u32(self, value: u32) -> Self {
        self.put(&value.to_ne_bytes())
    }

    fn u64(self, value: u64) -> Self {
        self.put(&value.to_ne_bytes())
    }

    fn end(self) -> [u8; LEN] {
        debug_assert_eq!(self.len, LEN);
        self.bytes
    }
}

/// Seconds and nanoseconds since 1970.
fn since_epoch(time: SystemTime) -> (i64, u32) {
    match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(after) => (after.as_secs() as i64, after.subsec_nanos()),
        Err(error) => {
            let before = error.duration();
            let round = before + Duration::from_nanos(999_999_999);
            let seconds = -(round.as_secs() as i64);
            let nanoseconds = (Duration::from_secs(round.as_secs()) - before).subsec_nanos();
            (seconds, nanoseconds)
        }
    }
}

fn attr(of: &Attributes) -> [u8; ATTR] {
    let [atime, mtime, ctime] = [of.atime, of.mtime, of.ctime].map(since_epoch);
    Writer::new()
        .u64(of.inode)
        .u64(of.size)
        .u64(of.blocks)
        .u64(atime.0 as u64)
        .u64(mtime.0 as u64)
        .u64(ctime.0 as u64)
        .u32(atime.1)
        .u32(mtime.1)
        .u32(ctime.1)
        .u32(of.kind.mode() | u32::from(of.permissions))
        .u32(of.links)
        .u32(of.uid)
        .u32(of.gid)
        .u32(0)
        .u32(of.block_size)
        .u32(0)
        .end()
}

/// struct fuse_attr_out
pub fn attributes(of: &Attributes) -> [u8; ATTR_HEAD + ATTR] {
    Writer::new()
        .u64(TTL.as_secs())
        .u32(0)
        .u32(0)
        .put(&attr(of))
        .end()
}

/// struct fuse_entry_out
pub fn entry(of: &Attributes) -> [u8; ENTRY_HEAD + ATTR] {
    Writer::new()
        .u64(of.inode)
        .u64(0)
        .u64(TTL.as_secs())
        .u64(TTL.as_secs())
        .u32(0)
        .u32(0)
        .put(&attr(of))
        .end()
}

/// struct fuse_open_out: `flags` are FOPEN_*.
pub fn opened(handle: u64, flags: u32, backing: i32) -> [u8; 16] {
    Writer::new()
        .u64(handle)
        .u32(flags)
        .u32(backing as u32)
        .end()
}

/// struct fuse_write_out
pub fn written(len: usize) -> [u8; 8] {
    Writer::new().u32(len as u32).u32(0).end()
}

/// struct fuse_lseek_out
pub fn sought(place: i64) -> [u8; 8] {
    place.to_ne_bytes()
}

/// struct fuse_statfs_out
pub fn usage(of: &Usage) -> [u8; 80] {
    Writer::new()
        .u64(of.bytes / u64::from(STATFS_BLOCK))
        .u64(0)
        .u64(0)
        .u64(of.files)
        .u64(0)
        .u32(STATFS_BLOCK)
        .u32(LONGEST_NAME)
        .u32(STATFS_BLOCK)
        .put(&[0; 28])
        .end()
}

/// Entries of a directory, as many as there is room for: struct fuse_dirent or, with attributes, struct
/// fuse_direntplus.
pub struct Entries<'a> {
    room: &'a mut [u8],
    len: usize,
}

/// The attributes that go with an entry.
pub type Plus<'a> = Option<&'a Attributes>;

impl Entries<'_> {
    /// Fills `room`.
    pub fn new(room: &mut [u8]) -> Entries<'_> {
        Entries { room, len: 0 }
    }

    /// Adds an entry; false where it did not fit any more.
    pub fn add(
        &mut self,
        inode: u64,
        cookie: u64,
        kind: Kind,
        name: &[u8],
        plus: Plus<'_>,
    ) -> bool {
        let head = plus.map(entry);
        let head = head.as_ref().map_or(&[][..], |head| head);
        let len = (head.len() + DIRENT + name.len()).next_multiple_of(8);
        let Some(place) = self.room.get_mut(self.len..self.len + len) else {
            return false;
        };
        let dirent: [u8; DIRENT] = Writer::new()
            .u64(inode)
            .u64(cookie)
            .u32(name.len() as u32)
            .u32(kind.mode() >> 12)
            .end();
        let mut left = place;
        for part in [head, &dirent, name] {
            let (place, after) = left.split_at_mut(part.len());
            place.copy_from_slice(part);
            left = after;
        }
        left.fill(0);
        self.len += len;
        true
    }

    /// How many bytes were filled.
    pub fn len(&self) -> usize {
        self.len
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::{Entries, attributes, entry, since_epoch};
    use crate::fs::attributes::{Attributes, Kind};

    fn some() -> Attributes {
        Attributes {
            inode: 5,
            size: 1 << 40,
            blocks: 1 << 31,
            atime: SystemTime::UNIX_EPOCH,
            mtime: SystemTime::UNIX_EPOCH + Duration::new(3, 4),
            ctime: SystemTime::UNIX_EPOCH,
            kind: Kind::File,
            permissions: 0o640,
            links: 1,
            uid: 6,
            gid: 7,
            block_size: 4096,
        }
    }

    #[test]
    fn times_before_1970_round_down() {
        let time = |seconds, nanoseconds| {
            SystemTime::UNIX_EPOCH - Duration::new(seconds, 0) + Duration::new(0, nanoseconds)
        };
        assert_eq!(since_epoch(time(1, 5)), (-1, 5));
        assert_eq!(since_epoch(time(2, 0)), (-2, 0));
        assert_eq!(since_epoch(SystemTime::UNIX_EPOCH), (0, 0));
    }

    #[test]
    fn attributes_lie_where_the_kernel_looks() {
        let bytes = attributes(&some());
        assert_eq!(bytes.len(), 104);
        assert_eq!(bytes[16..24], 5u64.to_ne_bytes());
        assert_eq!(bytes[48..56], 3u64.to_ne_bytes());
        assert_eq!(bytes[68..72], 4u32.to_ne_bytes());
        assert_eq!(bytes[76..80], 0o100_640u32.to_ne_bytes());
        assert_eq!(
            bytes[84..92],
            [6u32.to_ne_bytes(), 7u32.to_ne_bytes()].concat()
        );
        assert_eq!(entry(&some())[40..], bytes[16..]);
    }

    #[test]
    fn entries_stop_where_the_room_ends() {
        let mut room = [9; 95];
        let mut entries = Entries::new(&mut room);
        assert!(entries.add(1, 1, Kind::Directory, b".", None));
        assert!(entries.add(5, 3, Kind::File, b"disk-one", None));
        assert!(!entries.add(6, 4, Kind::File, b"disk-two", None));
        assert_eq!(entries.len(), 64);
        assert_eq!(
            room[16..24],
            [1u32.to_ne_bytes(), 4u32.to_ne_bytes()].concat()
        );
        assert_eq!(&room[24..33], b".\0\0\0\0\0\0\0\x05");
        assert_eq!(&room[56..64], b"disk-one");
        let mut entries = Entries::new(&mut room);
        assert!(!entries.add(5, 3, Kind::File, b"disk", Some(&some())));
    }
}
