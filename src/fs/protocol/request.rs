//! Requests: struct fuse_in_header, and what follows it by operation.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::time::{Duration, SystemTime};

use crate::io::Errno;

/// Bytes of struct fuse_in_header.
pub const HEADER_LEN: usize = 40;
/// What comes before the data of a write: header and struct fuse_write_in, bytes.
pub const WRITE_PREFIX: usize = HEADER_LEN + 40;

const LOOKUP: u32 = 1;
const FORGET: u32 = 2;
const GETATTR: u32 = 3;
const SETATTR: u32 = 4;
const READLINK: u32 = 5;
const SYMLINK: u32 = 6;
const MKNOD: u32 = 8;
const MKDIR: u32 = 9;
const UNLINK: u32 = 10;
const RMDIR: u32 = 11;
const RENAME: u32 = 12;
const LINK: u32 = 13;
const OPEN: u32 = 14;
const READ: u32 = 15;
const WRITE: u32 = 16;
const STATFS: u32 = 17;
const RELEASE: u32 = 18;
const FSYNC: u32 = 20;
const SETXATTR: u32 = 21;
const GETXATTR: u32 = 22;
const LISTXATTR: u32 = 23;
const REMOVEXATTR: u32 = 24;
const FLUSH: u32 = 25;
const OPENDIR: u32 = 27;
const READDIR: u32 = 28;
const RELEASEDIR: u32 = 29;
const FSYNCDIR: u32 = 30;
const ACCESS: u32 = 34;
const CREATE: u32 = 35;
const BMAP: u32 = 37;
const DESTROY: u32 = 38;
const IOCTL: u32 = 39;
const POLL: u32 = 40;
const BATCH_FORGET: u32 = 42;
const FALLOCATE: u32 = 43;
const READDIRPLUS: u32 = 44;
const RENAME2: u32 = 45;
const LSEEK: u32 = 46;
const COPY_FILE_RANGE: u32 = 47;
const COPY_FILE_RANGE_64: u32 = 53;

/// What of struct fuse_in_header is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// FUSE_*
    pub opcode: u32,
    /// The request's number, which the answer bears.
    pub unique: u64,
    /// The inode that it is about.
    pub inode: u64,
}

/// What is asked for.
#[derive(Debug, PartialEq, Eq)]
pub enum Operation<'a> {
    /// A name in the directory.
    Lookup(&'a OsStr),
    /// The kernel forgets inodes. Is not answered.
    Forget,
    /// stat
    Attributes,
    /// chmod, chown, utimes, truncate
    SetAttributes(SetAttributes),
    /// open
    Open,
    /// read
    Read {
        /// First byte.
        at: u64,
        /// Bytes, [`super::MAX_REQUEST`] at most.
        len: usize,
    },
    /// write
    Write {
        /// First byte.
        at: u64,
        /// What to write.
        data: &'a [u8],
        /// O_SYNC or O_DSYNC is among the flags of the file.
        durable: bool,
    },
    /// statfs
    Usage,
    /// The last close of an open file.
    Close,
    /// fsync, fdatasync
    Sync,
    /// opendir
    OpenDirectory,
    /// getdents
    List {
        /// What `opendir` was answered.
        handle: u64,
        /// Cookie of the last entry that the kernel has.
        after: u64,
        /// Room for entries, bytes.
        len: usize,
        /// With attributes.
        plus: bool,
    },
    /// closedir
    CloseDirectory {
        /// What `opendir` was answered.
        handle: u64,
    },
    /// fallocate
    Allocate {
        /// First byte.
        at: u64,
        /// Bytes.
        len: u64,
        /// FALLOC_FL_*
        mode: i32,
    },
    /// lseek
    Seek {
        /// Where to begin.
        at: i64,
        /// SEEK_*
        whence: i32,
    },
    /// The mount is gone.
    Destroy,
    /// Nothing to do: close(2) of one of several descriptors, access(2), fsync of the directory.
    Nothing,
    /// Never done here.
    Refused(Errno),
}

impl Operation<'_> {
    /// Bytes of data that it moves.
    pub fn data_len(&self) -> usize {
        match self {
            Operation::Read { len, .. } => *len,
            Operation::Write { data, .. } => data.len(),
            _ => 0,
        }
    }
}

/// What setattr is to change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SetAttributes {
    /// Mode, the file's type among it.
    pub mode: Option<u32>,
    /// User.
    pub uid: Option<u32>,
    /// Group.
    pub gid: Option<u32>,
    /// Length, bytes.
    pub size: Option<u64>,
    /// Last access.
    pub atime: Option<SystemTime>,
    /// Last change of the data.
    pub mtime: Option<SystemTime>,
    /// Asked for through an open file.
    pub through_open_file: bool,
}

/// Fields of a structure by their place, bytes from its start.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn u32(&self, place: usize) -> Result<u32, Errno> {
        let bytes = self.0.get(place..).and_then(<[u8]>::first_chunk);
        bytes
            .map(|bytes| u32::from_ne_bytes(*bytes))
            .ok_or(Errno::IO)
    }

    fn u64(&self, place: usize) -> Result<u64, Errno> {
        let bytes = self.0.get(place..).and_then(<[u8]>::first_chunk);
        bytes
            .map(|bytes| u64::from_ne_bytes(*bytes))
            .ok_or(Errno::IO)
    }

    fn time(&self, seconds: usize, nanoseconds: usize) -> Result<SystemTime, Errno> {
        let seconds = self.u64(seconds)? as i64;
        let after = Duration::new(seconds.unsigned_abs(), 0);
        let whole = if seconds < 0 {
            SystemTime::UNIX_EPOCH.checked_sub(after)
        } else {
            SystemTime::UNIX_EPOCH.checked_add(after)
        };
        let nanoseconds = Duration::from_nanos(u64::from(self.u32(nanoseconds)?));
        whole
            .and_then(|whole| whole.checked_add(nanoseconds))
            .ok_or(Errno::INVAL)
    }
}

/// Reads a header off the start of a request.
///
/// # Errors
/// EIO where it is cut short.
pub fn split(request: &[u8]) -> Result<(Header, &[u8]), Errno> {
    let fields = Fields(request);
    let header = Header {
        opcode: fields.u32(4)?,
        unique: fields.u64(8)?,
        inode: fields.u64(16)?,
    };
    let body = request.get(HEADER_LEN..).ok_or(Errno::IO)?;
    Ok((header, body))
}

/// Bytes of the structure that comes before names or data.
fn structure_len(opcode: u32) -> usize {
    match opcode {
        WRITE => WRITE_PREFIX - HEADER_LEN,
        LOOKUP => 0,
        _ => usize::MAX,
    }
}

/// Reads what follows the header of `header`: `body`, and `payload` where the transport hands over the last part
/// (names, data) apart from it.
///
/// # Errors
/// EIO where something is cut short, EINVAL for a time that cannot be.
pub fn decode<'a>(
    header: &Header,
    body: &'a [u8],
    payload: Option<&'a [u8]>,
) -> Result<Operation<'a>, Errno> {
    let fields = Fields(body);
    let rest = || {
        let apart = payload.or_else(|| body.get(structure_len(header.opcode)..));
        apart.ok_or(Errno::IO)
    };
    Ok(match header.opcode {
        READ => Operation::Read {
            at: fields.u64(8)?,
            len: len(fields.u32(16)?),
        },
        WRITE => Operation::Write {
            at: fields.u64(8)?,
            data: rest()?.get(..fields.u32(16)? as usize).ok_or(Errno::IO)?,
            durable: fields.u32(32)? as i32 & (libc::O_SYNC | libc::O_DSYNC) != 0,
        },
        FSYNC => Operation::Sync,
        LOOKUP => Operation::Lookup(name(rest()?)?),
        FORGET | BATCH_FORGET => Operation::Forget,
        GETATTR => Operation::Attributes,
        SETATTR => Operation::SetAttributes(set_attributes(&fields)?),
        OPEN => Operation::Open,
        STATFS => Operation::Usage,
        RELEASE => Operation::Close,
        OPENDIR => Operation::OpenDirectory,
        READDIR | READDIRPLUS => Operation::List {
            handle: fields.u64(0)?,
            after: fields.u64(8)?,
            len: len(fields.u32(16)?),
            plus: header.opcode == READDIRPLUS,
        },
        RELEASEDIR => Operation::CloseDirectory {
            handle: fields.u64(0)?,
        },
        FALLOCATE => Operation::Allocate {
            at: fields.u64(8)?,
            len: fields.u64(16)?,
            mode: fields.u32(24)? as i32,
        },
        LSEEK => Operation::Seek {
            at: fields.u64(8)? as i64,
            whence: fields.u32(16)? as i32,
        },
        // The kernel remembers this and from then on takes files as always ready, which devices are. Answered any
        // other way, each request of an io_uring is preceded by a poll of its own.
        POLL => Operation::Refused(Errno::NOSYS),
        // The kernel checks permissions itself (default_permissions).
        FLUSH | FSYNCDIR | ACCESS => Operation::Nothing,
        DESTROY => Operation::Destroy,
        // Devices come, go and change their names through the control socket only.
        SYMLINK | MKNOD | MKDIR | UNLINK | RMDIR | RENAME | RENAME2 | LINK | CREATE => {
            Operation::Refused(Errno::PERM)
        }
        READLINK => Operation::Refused(Errno::INVAL),
        IOCTL => Operation::Refused(Errno::NOTTY),
        SETXATTR | GETXATTR | LISTXATTR | REMOVEXATTR | BMAP | COPY_FILE_RANGE
        | COPY_FILE_RANGE_64 => Operation::Refused(Errno::OPNOTSUPP),
        // The kernel takes this for "never can" and stops asking: right for what is not in the list above.
        _ => Operation::Refused(Errno::NOSYS),
    })
}

fn len(asked: u32) -> usize {
    (asked as usize).min(super::MAX_REQUEST)
}

fn name(bytes: &[u8]) -> Result<&OsStr, Errno> {
    let end = bytes.iter().position(|byte| *byte == 0).ok_or(Errno::IO)?;
    bytes.get(..end).map(OsStr::from_bytes).ok_or(Errno::IO)
}

/// struct fuse_setattr_in
fn set_attributes(fields: &Fields<'_>) -> Result<SetAttributes, Errno> {
    let valid = fields.u32(0)?;
    let is_valid = |bit: u32| valid & 1 << bit != 0;
    let u32_if = |bit: u32, place: usize| is_valid(bit).then(|| fields.u32(place)).transpose();
    let time_if = |bit: u32, now: u32, places: (usize, usize)| match is_valid(bit) {
        true if is_valid(now) => Ok(Some(SystemTime::now())),
        true => fields.time(places.0, places.1).map(Some),
        false => Ok(None),
    };
    Ok(SetAttributes {
        mode: u32_if(0, 68)?,
        uid: u32_if(1, 76)?,
        gid: u32_if(2, 80)?,
        size: is_valid(3).then(|| fields.u64(16)).transpose()?,
        atime: time_if(4, 7, (32, 56))?,
        mtime: time_if(5, 8, (40, 60))?,
        through_open_file: is_valid(6),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::time::{Duration, SystemTime};

    use super::{Header, Operation, SetAttributes, decode, split};
    use crate::io::Errno;

    /// A request with `fields` at their places (bytes after the header, little pieces of any width).
    fn request(opcode: u32, len: usize, fields: &[(usize, &[u8])]) -> Vec<u8> {
        let mut bytes = vec![0; 40 + len];
        bytes[4..8].copy_from_slice(&opcode.to_ne_bytes());
        bytes[8..16].copy_from_slice(&7u64.to_ne_bytes());
        bytes[16..24].copy_from_slice(&9u64.to_ne_bytes());
        for (place, field) in fields {
            bytes[40 + place..][..field.len()].copy_from_slice(field);
        }
        bytes
    }

    fn decoded(bytes: &[u8]) -> Result<Operation<'_>, Errno> {
        let (header, body) = split(bytes)?;
        decode(&header, body, None)
    }

    #[test]
    fn a_header_is_split_off() {
        let bytes = request(15, 3, &[]);
        let (header, body) = split(&bytes).unwrap();
        let expected = Header {
            opcode: 15,
            unique: 7,
            inode: 9,
        };
        assert_eq!((header, body.len()), (expected, 3));
        assert_eq!(split(&bytes[..39]), Err(Errno::IO));
    }

    #[test]
    fn reads_and_writes_are_understood() {
        let at = 4096u64.to_ne_bytes();
        let read = request(15, 40, &[(8, &at), (16, &512u32.to_ne_bytes())]);
        assert_eq!(decoded(&read), Ok(Operation::Read { at: 4096, len: 512 }));
        let flags = (libc::O_DSYNC as u32).to_ne_bytes();
        let fields: [(usize, &[u8]); 4] = [
            (8, &at),
            (16, &3u32.to_ne_bytes()),
            (32, &flags),
            (40, b"abcd"),
        ];
        let write = request(16, 44, &fields);
        let expected = Operation::Write {
            at: 4096,
            data: b"abc",
            durable: true,
        };
        assert_eq!(decoded(&write), Ok(expected));
        let short = request(16, 42, &fields[..3]);
        assert_eq!(decoded(&short), Err(Errno::IO));
    }

    #[test]
    fn data_may_come_apart() {
        let fields: [(usize, &[u8]); 1] = [(16, &2u32.to_ne_bytes())];
        let write = request(16, 40, &fields);
        let (header, body) = split(&write).unwrap();
        let Ok(Operation::Write { data, .. }) = decode(&header, body, Some(b"xyz")) else {
            panic!("not a write");
        };
        assert_eq!(data, b"xy");
    }

    #[test]
    fn names_end_with_a_zero() {
        let fields: [(usize, &[u8]); 1] = [(0, b"disk\0")];
        assert_eq!(
            decoded(&request(1, 5, &fields)),
            Ok(Operation::Lookup("disk".as_ref()))
        );
        assert_eq!(decoded(&request(1, 4, &[(0, b"disk")])), Err(Errno::IO));
    }

    #[test]
    fn only_valid_attributes_count() {
        let valid = (1u32 << 0 | 1 << 5 | 1 << 6).to_ne_bytes();
        let fields: [(usize, &[u8]); 5] = [
            (0, &valid),
            (40, &(-1i64).to_ne_bytes()),
            (60, &5u32.to_ne_bytes()),
            (68, &0o640u32.to_ne_bytes()),
            (76, &[1; 4]),
        ];
        let before = SystemTime::UNIX_EPOCH - Duration::from_nanos(999_999_995);
        let expected = SetAttributes {
            mode: Some(0o640),
            mtime: Some(before),
            through_open_file: true,
            ..SetAttributes::default()
        };
        assert_eq!(
            decoded(&request(4, 88, &fields)),
            Ok(Operation::SetAttributes(expected))
        );
    }

    #[test]
    fn a_poll_is_refused_once_and_for_all() {
        assert_eq!(
            decoded(&request(super::POLL, 24, &[])),
            Ok(Operation::Refused(Errno::NOSYS))
        );
    }

    #[test]
    fn nothing_cut_short_is_believed() {
        for opcode in 1..60 {
            for len in 0..48 {
                let bytes = request(opcode, len, &[]);
                let _ = decoded(&bytes);
            }
        }
        assert_eq!(decoded(&request(15, 19, &[])), Err(Errno::IO));
        assert_eq!(
            decoded(&request(4000, 0, &[])),
            Ok(Operation::Refused(Errno::NOSYS))
        );
    }
}
