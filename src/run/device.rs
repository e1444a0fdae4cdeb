//! Mapped devices without root: their files are told to be block devices, and answer block devices' ioctls.

#![allow(unsafe_code)]

use rustix::fs::{FallocateFlags, Mode, OFlags, fallocate, fsync, lstat, open};
use rustix::io::Errno;

use super::caller::Caller;
use super::control_node::Mapped;
use super::listener::Answer;
use super::paths::Place;
use super::supervisor::{CONTROL_NUMBER, Supervisor, Work, errno};
use super::sysfs::{SysPlace, link_of};
use crate::control::protocol::dm_ioctl::DevNo;
use crate::control::protocol::json::{DeviceLimits, JsonReply, JsonRequest};
use crate::control::protocol::stack::{Stack, StackDevice};
use crate::unit::SECTOR_SIZE;

/// Permissions of a device, and of the control node.
const DEVICE_MODE: u32 = 0o660;
const CONTROL_MODE: u32 = 0o600;
/// What the kernel reads ahead of a device, sectors.
const READ_AHEAD: u64 = 256;

/// Where a neighbour of a device is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// Among the devices that lie on it.
    Above,
    /// Among those that it lies on.
    Below,
}

/// What a call asks about a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Question {
    /// `struct stat` at this address.
    Stat(u64),
    /// `struct statx` at this address.
    Statx(u64),
    /// Whether it can be used so (R_OK, W_OK, X_OK).
    Access(u32),
    /// Where it leads, into this much room at this address.
    Link(u64, u64),
}

impl Supervisor {
    /// A call that asks about a file.
    pub(super) fn look_at_stat(
        &self,
        caller: Caller<'_>,
        nr: libc::c_long,
        [first, second, third, fourth]: [u64; 4],
        fifth: u64,
    ) -> Option<Work> {
        let fd = first as i32;
        let follows = |flags: u64| flags & libc::AT_SYMLINK_NOFOLLOW as u64 == 0;
        let here = libc::AT_FDCWD;
        let (place, question) = match nr {
            libc::SYS_fstat => (self.device_at(caller, fd), Question::Stat(second)),
            libc::SYS_newfstatat => {
                let place = self.place(caller, fd, second, follows(fourth));
                (place, Question::Stat(third))
            }
            libc::SYS_statx => {
                let place = self.place(caller, fd, second, follows(third));
                (place, Question::Statx(fifth))
            }
            libc::SYS_faccessat => (
                self.place(caller, fd, second, true),
                Question::Access(third as u32),
            ),
            libc::SYS_faccessat2 => (
                self.place(caller, fd, second, follows(fourth)),
                Question::Access(third as u32),
            ),
            libc::SYS_readlinkat => {
                let room = Question::Link(third, fourth);
                (self.place(caller, fd, second, false), room)
            }
            #[cfg(target_arch = "x86_64")]
            libc::SYS_stat => (
                self.place(caller, here, first, true),
                Question::Stat(second),
            ),
            #[cfg(target_arch = "x86_64")]
            libc::SYS_lstat => (
                self.place(caller, here, first, false),
                Question::Stat(second),
            ),
            #[cfg(target_arch = "x86_64")]
            libc::SYS_access => (
                self.place(caller, here, first, true),
                Question::Access(second as u32),
            ),
            #[cfg(target_arch = "x86_64")]
            libc::SYS_readlink => {
                let room = Question::Link(second, third);
                (self.place(caller, here, first, false), room)
            }
            _ => return None,
        };
        let is_link = matches!(question, Question::Link(..));
        match &place {
            Place::Control | Place::Device(_) | Place::Lock(_) => {
                Some(Work::Ask { place, question })
            }
            Place::Sys(there) if is_link && there.attribute.is_empty() => {
                Some(Work::Ask { place, question })
            }
            Place::Sys(_) | Place::ProcDevices | Place::Other => None,
        }
    }

    /// Answers a question about a file.
    pub(super) fn ask(
        &self,
        caller: Caller<'_>,
        place: &Place,
        question: &Question,
    ) -> Result<Answer, Errno> {
        let shown = match place {
            Place::Device(name) => match self.node.device(name) {
                Ok(mapped) => self.shown(name, &mapped)?,
                // It may be a file of another kind.
                Err(_) => return Ok(Answer::Continue),
            },
            Place::Lock(name) => {
                let lock = lstat(self.folders.lock(name).map_err(errno)?)?;
                let mut shown = shown_file(&lock);
                (shown.st_mode, shown.st_size) = (lock.st_mode, lock.st_size);
                shown
            }
            Place::Sys(there) => return self.link(caller, there, question),
            _ => shown_control(),
        };
        match question {
            Question::Stat(at) => caller.write(*at, bytes_of(&shown))?,
            Question::Statx(at) => caller.write(*at, bytes_of(&extended(&shown)))?,
            Question::Access(mode) if mode & libc::X_OK as u32 != 0 => return Err(Errno::ACCESS),
            Question::Access(_) => {}
            // It is no link.
            Question::Link(..) => return Err(Errno::INVAL),
        }
        Ok(Answer::Value(0))
    }

    /// Where the link to a mapped device's folder in `/sys` leads.
    fn link(
        &self,
        caller: Caller<'_>,
        there: &SysPlace,
        question: &Question,
    ) -> Result<Answer, Errno> {
        let Question::Link(at, room) = question else {
            return Ok(Answer::Continue);
        };
        if self.mapped(there.number).is_err() {
            return Ok(Answer::Continue);
        }
        let target = link_of(there.number);
        let room = usize::try_from(*room).unwrap_or(0);
        if room == 0 {
            return Err(Errno::INVAL);
        }
        let fits = target.as_bytes().get(..room).unwrap_or(target.as_bytes());
        caller.write(*at, fits)?;
        Ok(Answer::Value(i64::try_from(fits.len()).unwrap_or(0)))
    }

    /// The `struct stat` of a mapped device: its file's, as a block device's.
    fn shown(&self, name: &str, mapped: &Mapped) -> Result<libc::stat, Errno> {
        let file = lstat(self.file(name))?;
        let mut shown = shown_file(&file);
        shown.st_mode = libc::S_IFBLK | DEVICE_MODE;
        shown.st_rdev = libc::makedev(mapped.number.major, mapped.number.minor);
        Ok(shown)
    }

    /// True where a table lies on the device.
    pub(super) fn lies_below(&self, name: &str) -> Result<bool, Errno> {
        let number = self.node.device(name)?.number;
        Ok(!self.neighbours(number, Side::Above)?.is_empty())
    }

    /// The mapped devices right above or below a device.
    pub(super) fn neighbours(&self, number: DevNo, side: Side) -> Result<Vec<String>, Errno> {
        let stack = self.stack()?;
        let number = number.to_string();
        let uses = |device: &StackDevice, number: &String| {
            let mut rows = device.rows.iter();
            rows.any(|row| row.uses.contains(number))
        };
        let this = stack.devices.iter().find(|device| device.number == number);
        let is_near = |device: &&StackDevice| match side {
            Side::Above => uses(device, &number),
            Side::Below => this.is_some_and(|this| uses(this, &device.number)),
        };
        let near = stack.devices.iter().filter(is_near);
        Ok(near.map(|device| device.name.clone()).collect())
    }

    /// The mapped device of this number. With block devices, others are told of by number, too.
    ///
    /// # Errors
    /// ENXIO where there is none.
    pub(super) fn mapped(&self, number: DevNo) -> Result<Mapped, Errno> {
        let shown = number.to_string();
        let mut devices = self.stack()?.devices.into_iter();
        match devices.any(|device| device.number == shown) {
            true => self.node.device_numbered(number),
            false => Err(Errno::NXIO),
        }
    }

    fn stack(&self) -> Result<Stack, Errno> {
        match self.node.json(&JsonRequest::Stack {})? {
            JsonReply::Stack(stack) => Ok(stack),
            _ => Err(Errno::IO),
        }
    }

    fn limits(&self, name: &str) -> Result<DeviceLimits, Errno> {
        let name = name.to_owned();
        match self.node.json(&JsonRequest::Limits { name })? {
            JsonReply::Limits(limits) => Ok(limits),
            _ => Err(Errno::IO),
        }
    }

    /// An ioctl of the block layer (linux/fs.h), all of type 0x12.
    pub(super) fn block_ioctl(
        &self,
        caller: Caller<'_>,
        name: &str,
        fd: i32,
        command: u32,
        at: u64,
    ) -> Result<Answer, Errno> {
        let number = |value: u64, bytes: usize| -> Result<Answer, Errno> {
            let value = value.to_le_bytes();
            caller.write(at, value.get(..bytes).unwrap_or_default())?;
            Ok(Answer::Value(0))
        };
        let limits = || self.limits(name);
        match command & 0xff {
            // BLKROSET, BLKRRPART, BLKPG: what only the kernel's own devices can.
            93 => Err(Errno::ACCESS),
            94 => number(u64::from(self.node.device(name)?.read_only), 4),
            95 | 105 => Err(Errno::INVAL),
            // BLKGETSIZE, BLKGETSIZE64
            96 => number(limits()?.sectors, size_of::<libc::c_ulong>()),
            114 => number(limits()?.sectors.saturating_mul(SECTOR_SIZE), 8),
            // BLKFLSBUF
            97 => {
                fsync(self.open_for(caller, name, fd, false)?)?;
                Ok(Answer::Value(0))
            }
            // BLKRASET, BLKFRASET, BLKBSZSET: hints to a cache that is not there.
            98 | 100 | 113 => Ok(Answer::Value(0)),
            // BLKRAGET, BLKFRAGET
            99 | 101 => number(READ_AHEAD, size_of::<libc::c_long>()),
            // BLKSECTGET: 1 MiB
            103 => number(2048, 2),
            // BLKSSZGET, BLKPBSZGET, BLKIOMIN, BLKIOOPT
            104 => number(limits()?.logical_block_size.into(), 4),
            123 => number(limits()?.physical_block_size.into(), 4),
            120 => number(limits()?.io_min.into(), 4),
            121 => number(limits()?.io_opt.into(), 4),
            // BLKBSZGET
            112 => number(4096, 4),
            // BLKALIGNOFF, BLKDISCARDZEROES
            122 | 124 => number(0, 4),
            // BLKROTATIONAL
            126 => number(limits()?.rotational.into(), 2),
            // BLKDISCARD, BLKZEROOUT
            119 => self.punch(caller, (name, fd), at, FallocateFlags::PUNCH_HOLE),
            127 => self.punch(caller, (name, fd), at, FallocateFlags::ZERO_RANGE),
            // BLKSECDISCARD
            125 => Err(Errno::OPNOTSUPP),
            // BLKGETDISKSEQ
            128 => number(u64::from(self.node.device(name)?.number.minor) + 1, 8),
            _ => Err(Errno::NOTTY),
        }
    }

    /// Discards or zeroes the range of bytes, start and length, at `at`.
    fn punch(
        &self,
        caller: Caller<'_>,
        (name, fd): (&str, i32),
        at: u64,
        how: FallocateFlags,
    ) -> Result<Answer, Errno> {
        let range = caller.read(at, 16)?;
        let word = |at: usize| {
            crate::control::protocol::dm_ioctl::payload::u64_at(&range, at).ok_or(Errno::FAULT)
        };
        let (start, len) = (word(0)?, word(8)?);
        let limits = self.limits(name)?;
        let block = u64::from(limits.logical_block_size).max(1);
        let end = start.checked_add(len).ok_or(Errno::INVAL)?;
        let size = limits.sectors.saturating_mul(SECTOR_SIZE);
        if !start.is_multiple_of(block) || !len.is_multiple_of(block) || len == 0 || end > size {
            return Err(Errno::INVAL);
        }
        if how == FallocateFlags::PUNCH_HOLE && limits.max_discard_sectors == 0 {
            return Err(Errno::OPNOTSUPP);
        }
        let file = self.open_for(caller, name, fd, true)?;
        fallocate(file, how | FallocateFlags::KEEP_SIZE, start, len)?;
        Ok(Answer::Value(0))
    }

    /// The device's file, opened for what the caller's descriptor is open for.
    fn open_for(
        &self,
        caller: Caller<'_>,
        name: &str,
        fd: i32,
        write: bool,
    ) -> Result<std::os::fd::OwnedFd, Errno> {
        // The link's mode says how the descriptor was opened.
        let mode = lstat(caller.descriptor(fd))?.st_mode;
        let can_write = mode & libc::S_IWUSR != 0;
        if write && !can_write {
            return Err(Errno::BADF);
        }
        let access = match can_write {
            true => OFlags::RDWR,
            false => OFlags::RDONLY,
        };
        open(self.file(name), access | OFlags::CLOEXEC, Mode::empty())
    }
}

/// The control node, as a kernel with a device mapper shows it.
fn shown_control() -> libc::stat {
    let mut shown = empty_stat();
    shown.st_nlink = 1;
    shown.st_mode = libc::S_IFCHR | CONTROL_MODE;
    shown.st_uid = rustix::process::geteuid().as_raw();
    shown.st_gid = rustix::process::getegid().as_raw();
    let (major, minor) = CONTROL_NUMBER;
    shown.st_rdev = libc::makedev(major, minor);
    shown.st_blksize = 4096;
    shown
}

/// What is told of a file whatever it is.
fn shown_file(file: &rustix::fs::Stat) -> libc::stat {
    let mut shown = empty_stat();
    shown.st_dev = file.st_dev;
    shown.st_ino = file.st_ino;
    shown.st_nlink = 1;
    (shown.st_uid, shown.st_gid) = (file.st_uid, file.st_gid);
    shown.st_blksize = file.st_blksize;
    (shown.st_atime, shown.st_mtime, shown.st_ctime) =
        (file.st_atime, file.st_mtime, file.st_ctime);
    shown
}

fn empty_stat() -> libc::stat {
    // SAFETY: zeroes are a `struct stat`.
    unsafe { std::mem::zeroed() }
}

/// The same as `struct statx`.
fn extended(shown: &libc::stat) -> libc::statx {
    // SAFETY: zeroes are a `struct statx`.
    let mut extended: libc::statx = unsafe { std::mem::zeroed() };
    extended.stx_mask = libc::STATX_BASIC_STATS;
    extended.stx_blksize = u32::try_from(shown.st_blksize).unwrap_or(4096);
    extended.stx_nlink = 1;
    (extended.stx_uid, extended.stx_gid) = (shown.st_uid, shown.st_gid);
    extended.stx_mode = u16::try_from(shown.st_mode).unwrap_or(0);
    extended.stx_ino = shown.st_ino;
    extended.stx_rdev_major = libc::major(shown.st_rdev);
    extended.stx_rdev_minor = libc::minor(shown.st_rdev);
    extended.stx_dev_major = libc::major(shown.st_dev);
    extended.stx_dev_minor = libc::minor(shown.st_dev);
    extended.stx_atime.tv_sec = shown.st_atime;
    extended.stx_mtime.tv_sec = shown.st_mtime;
    extended.stx_ctime.tv_sec = shown.st_ctime;
    extended
}

/// A C structure as the bytes that the kernel would store.
fn bytes_of<T>(structure: &T) -> &[u8] {
    // SAFETY: both structures were made of zeroes, their padding with them; the slice lives as long as they do.
    unsafe { std::slice::from_raw_parts(std::ptr::from_ref(structure).cast(), size_of::<T>()) }
}

#[cfg(test)]
mod tests {
    use super::{bytes_of, extended, shown_control};

    #[test]
    fn the_control_node_is_what_libdm_insists_on() {
        let shown = shown_control();
        assert_eq!(shown.st_mode, libc::S_IFCHR | 0o600);
        assert_eq!(
            (libc::major(shown.st_rdev), libc::minor(shown.st_rdev)),
            (10, 236)
        );
        let extended = extended(&shown);
        assert_eq!(
            (extended.stx_rdev_major, extended.stx_rdev_minor),
            (10, 236)
        );
        assert_eq!(u32::from(extended.stx_mode), shown.st_mode);
        assert_eq!(bytes_of(&extended).len(), 256);
    }
}
