//! Who has a block device open: the descriptors of all processes, counted as the kernel counts, by open files.

#![allow(unsafe_code)]

use std::ffi::OsStr;
use std::fs;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, FileType, StatxFlags, statx};

use crate::io::DeviceNumber;

/// KCMP_FILE
const FILE: i32 = 0;

/// A descriptor of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Descriptor {
    pid: i32,
    fd: i32,
}

/// How many open files of other processes are the block device `number`, and whether a file system on it is mounted
/// where we can see that.
pub(super) fn count(number: DeviceNumber) -> u32 {
    let own = i32::try_from(std::process::id()).unwrap_or(0);
    let mut files: Vec<Descriptor> = Vec::new();
    for pid in numbers(Path::new("/proc")).filter(|pid| *pid != own) {
        let folder = format!("/proc/{pid}/fd");
        for fd in numbers(Path::new(&folder)) {
            let descriptor = Descriptor { pid, fd };
            if is_device(&format!("{folder}/{fd}"), number)
                && !files.iter().any(|known| is_same(*known, descriptor))
            {
                files.push(descriptor);
            }
        }
    }
    let mounted = u32::from(is_mounted(number));
    u32::try_from(files.len())
        .unwrap_or(u32::MAX)
        .saturating_add(mounted)
}

/// The names in a folder that are numbers.
fn numbers(folder: &Path) -> impl Iterator<Item = i32> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| OsStr::to_str(&entry.file_name())?.parse().ok())
}

fn is_device(descriptor: &str, number: DeviceNumber) -> bool {
    // Who has a file of a hanging file system open must not make us hang.
    let asked = statx(CWD, descriptor, AtFlags::STATX_DONT_SYNC, StatxFlags::TYPE);
    asked.is_ok_and(|about| {
        FileType::from_raw_mode(about.stx_mode.into()) == FileType::BlockDevice
            && (about.stx_rdev_major, about.stx_rdev_minor) == (number.major, number.minor)
    })
}

/// Whether both are the same open file, inherited or duplicated; false where the kernel does not tell.
fn is_same(one: Descriptor, other: Descriptor) -> bool {
    // SAFETY: kcmp(2) takes numbers only.
    let order =
        unsafe { libc::syscall(libc::SYS_kcmp, one.pid, other.pid, FILE, one.fd, other.fd) };
    order == 0
}

fn is_mounted(number: DeviceNumber) -> bool {
    let number = number.to_string();
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    mounts
        .lines()
        .any(|line| line.split(' ').nth(2) == Some(number.as_str()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::fs::File;
    use std::os::fd::AsRawFd;

    use super::{Descriptor, count, is_same};
    use crate::io::DeviceNumber;

    #[test]
    fn a_duplicate_is_the_same_open_file() {
        let pid = i32::try_from(std::process::id()).unwrap();
        let of = |file: &File| Descriptor {
            pid,
            fd: file.as_raw_fd(),
        };
        let (file, other) = (
            File::open("/dev/null").unwrap(),
            File::open("/dev/null").unwrap(),
        );
        assert!(is_same(of(&file), of(&file.try_clone().unwrap())));
        assert!(!is_same(of(&file), of(&other)));
    }

    #[test]
    fn nobody_has_a_device_that_is_not_there() {
        let number = DeviceNumber {
            major: 4000,
            minor: 7,
        };
        assert_eq!(count(number), 0);
    }
}
