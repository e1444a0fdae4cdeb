//! Keeps two writers off one file, and finds out who the other one is.
//!
//! Regular files are locked with flock, shared by readers and exclusive to a writer; a loop device on the file
//! counts as if it held such a lock. Block devices are claimed with O_EXCL, as a mount or the kernel's device
//! mapper claims them.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock, major, minor};
use serde::{Deserialize, Serialize};

use super::{Access, BackingError};
use crate::io::Errno;

/// A file, by what tells it from all others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct FileId {
    /// st_dev
    pub dev: u64,
    /// st_ino
    pub ino: u64,
}

/// Locks a regular file against other processes: shared for reading, exclusive for writing. Called again on
/// the same descriptor it turns a shared lock into an exclusive one.
///
/// # Errors
/// EBUSY, naming the holder, where another process or a loop device uses the file in a way that does not go with
/// `access`. The lock held before, if any, is held still.
pub(super) fn lock_file(
    fd: BorrowedFd<'_>,
    id: FileId,
    access: Access,
    path: &Path,
    held: Option<Access>,
) -> Result<(), BackingError> {
    if let Err(error) = try_lock(fd, id, access, path) {
        // A failed conversion has dropped the old lock (flock(2)).
        if held.is_some() && flock(fd, FlockOperation::NonBlockingLockShared).is_err() {
            log::error!(
                "{}: the lock on it was lost to another process",
                path.display()
            );
        }
        return Err(error);
    }
    if let Some(device) = loop_user(fd, id, access) {
        if held.is_some() {
            // Nobody else can have taken it meanwhile: going from exclusive to shared finds no conflict.
            let _ = flock(fd, FlockOperation::NonBlockingLockShared);
        }
        return Err(busy(path, access, &format!("the loop device {device}")));
    }
    Ok(())
}

fn try_lock(
    fd: BorrowedFd<'_>,
    id: FileId,
    access: Access,
    path: &Path,
) -> Result<(), BackingError> {
    let operation = match access {
        Access::ReadOnly => FlockOperation::NonBlockingLockShared,
        Access::ReadWrite => FlockOperation::NonBlockingLockExclusive,
    };
    match flock(fd, operation) {
        Ok(()) => Ok(()),
        Err(Errno::WOULDBLOCK) => {
            let holder = lock_holder(id).unwrap_or_else(|| "another process".into());
            Err(busy(path, access, &holder))
        }
        Err(error) => {
            // A file system without locks (some network ones) protects nobody else's file either.
            log::warn!(
                "{}: not locked against other writers: {error}",
                path.display()
            );
            Ok(())
        }
    }
}

fn busy(path: &Path, access: Access, holder: &str) -> BackingError {
    let wanted = match access {
        Access::ReadOnly => "read",
        Access::ReadWrite => "written",
    };
    BackingError::new(
        Errno::BUSY,
        format!("{} cannot be {wanted}: {holder} uses it", path.display()),
    )
}

/// Who holds a flock on the file, as `process PID (COMMAND)`.
fn lock_holder(id: FileId) -> Option<String> {
    let place = format!("{:02x}:{:02x}:{}", major(id.dev), minor(id.dev), id.ino);
    let locks = fs::read_to_string("/proc/locks").ok()?;
    // 1: FLOCK  ADVISORY  WRITE 4711 fe:00:1234 0 EOF
    locks.lines().find_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let at = words.iter().position(|word| *word == "FLOCK")?;
        (words.get(at + 4).copied() == Some(place.as_str())).then(|| {
            words
                .get(at + 3)
                .and_then(|pid| pid.parse().ok())
                .map(process_name)
        })?
    })
}

fn process_name(pid: u32) -> String {
    match fs::read_to_string(format!("/proc/{pid}/comm")) {
        Ok(command) => format!("process {pid} ({})", command.trim_end()),
        Err(_) => format!("process {pid}"),
    }
}

/// The loop device on the file whose use does not go with `access`: one that can write, or any where we write.
fn loop_user(file: BorrowedFd<'_>, id: FileId, access: Access) -> Option<String> {
    let devices = fs::read_dir("/sys/block").ok()?;
    let mut on_it = None;
    devices.flatten().find_map(|device| {
        let name = device.file_name();
        let name = name.to_str().filter(|name| name.starts_with("loop"))?;
        let below = loop_file(&device.path())?;
        let read_only =
            fs::read_to_string(device.path().join("ro")).is_ok_and(|ro| ro.trim() == "1");
        if read_only && access == Access::ReadOnly {
            return None;
        }
        // Another file system is not asked: it may be a mount of our own, waiting for this very call to end.
        let mounts = on_it.get_or_insert_with(|| Mounts::around(file));
        let same = mounts.holds(&below)
            && fs::metadata(&below).is_ok_and(|below| {
                id == FileId {
                    dev: below.dev(),
                    ino: below.ino(),
                }
            });
        same.then(|| format!("/dev/{name}"))
    })
}

/// The path of the file that a loop device holds, `device` being its folder in sysfs.
pub(super) fn loop_file(device: &Path) -> Option<PathBuf> {
    let shown = fs::read(device.join("loop/backing_file")).ok()?;
    let path = shown.strip_suffix(b"\n").unwrap_or(&shown);
    (!path.is_empty()).then(|| PathBuf::from(OsStr::from_bytes(path)))
}

/// The mounts, and which file system among them an open file is on.
struct Mounts {
    points: Vec<(PathBuf, String)>,
    number: Option<String>,
}

impl Mounts {
    fn around(file: BorrowedFd<'_>) -> Mounts {
        let points = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        // 36 35 98:0 /root /mount/point ...
        let points = points.lines().filter_map(|line| {
            let mut words = line.split(' ').skip(2);
            let number = words.next()?.to_owned();
            Some((unescape(words.nth(1)?), number))
        });
        let mut mounts = Mounts {
            points: points.collect(),
            number: None,
        };
        let path = fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()));
        mounts.number = path.ok().and_then(|path| mounts.number_of(&path));
        mounts
    }

    fn holds(&self, path: &Path) -> bool {
        self.number.is_some() && self.number_of(path) == self.number
    }

    /// The number of the file system that `path` is on: that of the longest mount point above it, and of
    /// several on the same point the last.
    fn number_of(&self, path: &Path) -> Option<String> {
        let above = self
            .points
            .iter()
            .filter(|(point, _)| path.starts_with(point));
        let nearest = above.max_by_key(|(point, _)| point.components().count())?;
        Some(nearest.1.clone())
    }
}

/// A path as mountinfo writes it: blanks, backslashes and line ends are `\\` and three octal digits.
fn unescape(text: &str) -> PathBuf {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let code = tail
            .get(..3)
            .and_then(|digits| std::str::from_utf8(digits).ok());
        let code = code.and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match code.filter(|_| first == b'\\') {
            Some(byte) => {
                bytes.push(byte);
                rest = tail.get(3..).unwrap_or_default();
            }
            None => {
                bytes.push(first);
                rest = tail;
            }
        }
    }
    PathBuf::from(OsString::from_vec(bytes))
}

/// Who has claimed the block device `rdev`: a mount, the kernel's device mapper or md, swap, a process.
pub(super) fn device_holder(rdev: u64) -> String {
    let number = format!("{}:{}", major(rdev), minor(rdev));
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let mut numbers = partitions(&number);
    numbers.push(number.clone());
    mounted_on(&mounts, &numbers)
        .or_else(|| stacked_device(&number))
        .or_else(|| opened_by(rdev))
        .unwrap_or_else(|| "somebody else (a mount, swap, another process)".into())
}

/// The mount of one of the devices `numbers`, in a text of /proc/self/mountinfo's form.
fn mounted_on(mounts: &str, numbers: &[String]) -> Option<String> {
    mounts.lines().find_map(|line| {
        let mut words = line.split(' ').skip(2);
        let mounted = words.next()?;
        let point = words.nth(1)?;
        numbers
            .iter()
            .any(|number| number == mounted)
            .then(|| format!("the mount on {}", unescape(point).display()))
    })
}

fn partitions(number: &str) -> Vec<String> {
    let Ok(entries) = fs::read_dir(format!("/sys/dev/block/{number}")) else {
        return Vec::new();
    };
    let entries = entries
        .flatten()
        .filter(|entry| entry.path().join("partition").exists());
    let numbers = entries.filter_map(|entry| fs::read_to_string(entry.path().join("dev")).ok());
    numbers.map(|number| number.trim_end().to_owned()).collect()
}

fn stacked_device(number: &str) -> Option<String> {
    let holder = fs::read_dir(format!("/sys/dev/block/{number}/holders"))
        .ok()?
        .flatten()
        .next()?;
    Some(format!("the device {}", holder.file_name().display()))
}

fn opened_by(rdev: u64) -> Option<String> {
    fs::read_dir("/proc").ok()?.flatten().find_map(|process| {
        let pid: u32 = process.file_name().to_str()?.parse().ok()?;
        let opens = fs::read_dir(process.path().join("fd"))
            .ok()?
            .flatten()
            .any(|fd| {
                // A link elsewhere (a pipe, a regular file) is not followed: that could hang on a dead mount.
                fs::read_link(fd.path()).is_ok_and(|target| target.starts_with("/dev"))
                    && fs::metadata(fd.path()).is_ok_and(|open| open.rdev() == rdev)
            });
        opens.then(|| process_name(pid))
    })
}

#[cfg(test)]
mod tests;
