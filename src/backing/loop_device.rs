//! The kernel's loop driver: a file as a block device, where somebody needs one. Root's business.
//!
//! Attaching and asking about a loop device make the kernel ask the file system of the file. Where that is a mount
//! of this process, no lock that serving it needs may be held meanwhile.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, OFlags, major, makedev, minor, mknodat};

use super::ioctl::{
    LO_FLAGS_AUTOCLEAR, LO_FLAGS_DIRECT_IO, LO_FLAGS_READ_ONLY, LoopConfig, loop_add, loop_clear,
    loop_configure, loop_free_device, loop_remove, loop_set_block_size, loop_set_capacity,
    loop_set_status, loop_status, set_read_only,
};
use super::{BackingError, lock};
use crate::io::{DeviceNumber, Errno};

/// Major number of loop devices.
pub const LOOP_MAJOR: u32 = 7;
/// The first number that [`reserve`] chooses, and how many it tries.
const FIRST_RESERVED: u32 = 256;
const MOST_RESERVED: u32 = 16384;
/// How often a free device is looked for when others take them from under us.
const N_TRIES: usize = 64;

/// How a file becomes a loop device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttachOptions {
    /// Nothing is written to the file.
    pub read_only: bool,
    /// Logical block size of the device, bytes: 512 to a page, a power of two.
    pub block_size: u32,
    /// The file is used around the page cache, so that its data is not kept twice.
    pub direct: bool,
    /// The file is let go of when the last opener closes the device; [`LoopDevice`] is one.
    pub autoclear: bool,
}

/// A loop device set up by [`attach`], held open as long as this lives.
#[derive(Debug)]
pub struct LoopDevice {
    path: PathBuf,
    number: DeviceNumber,
    device: File,
}

/// A free loop device that nobody else can set up or claim as long as this lives.
#[derive(Debug)]
pub struct Reserved(LoopDevice);

/// What a loop device holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoopInfo {
    /// st_dev of the file.
    pub dev: u64,
    /// st_ino of the file.
    pub ino: u64,
    /// Where in the file the device begins, bytes.
    pub offset: u64,
    /// How much of the file is used, bytes; 0 for all.
    pub size_limit: u64,
    /// Nothing is written to the file.
    pub read_only: bool,
    /// The file is used around the page cache.
    pub direct: bool,
    /// The file is let go of when the last opener closes the device.
    pub autoclear: bool,
    /// The file's path as the kernel shows it; `None` where it does not.
    pub path: Option<PathBuf>,
}

/// What became of a loop device that was told to let go of its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detached {
    /// It is free.
    Now,
    /// Somebody (a mount, a process) has it open; it is free when they are done.
    WhenClosed,
}

/// Makes the file at `file` a loop device.
///
/// # Errors
/// EACCES or EPERM for whoever may not use loop devices; ENODEV where the kernel has none; EBUSY where others keep
/// taking the free ones; else what is wrong with the file.
pub fn attach(file: &Path, options: &AttachOptions) -> Result<LoopDevice, BackingError> {
    let (control, _) = open_device(Path::new("/dev/loop-control"), true)?;
    let opened = OpenOptions::new()
        .read(true)
        .write(!options.read_only)
        .open(file);
    let opened = opened.map_err(|error| refusal(&error, file, "cannot be opened"))?;
    let config = config(&opened, file, options);
    for _ in 0..N_TRIES {
        let index = loop_free_device(&control)
            .map_err(|errno| BackingError::new(errno, format!("no free loop device: {errno}")))?;
        let path = PathBuf::from(format!("/dev/loop{index}"));
        let (device, number) = open_device(&path, !options.read_only)?;
        match loop_configure(&device, config) {
            Ok(()) => {
                warn_of_second_cache(number, file, options);
                return Ok(LoopDevice {
                    path,
                    number,
                    device,
                });
            }
            // Taken by another process between the question and the answer.
            Err(Errno::BUSY) => {}
            Err(errno) => {
                let what = format!(
                    "{} does not become {}: {errno}",
                    file.display(),
                    path.display()
                );
                return Err(BackingError::new(errno, what));
            }
        }
    }
    Err(BackingError::new(
        Errno::BUSY,
        format!(
            "{}: other processes took {N_TRIES} free loop devices first",
            file.display()
        ),
    ))
}

/// Takes the free loop device `wanted`, or any whose number is out of the way of other users of loop devices; makes
/// it, and its node, where there is none.
///
/// # Errors
/// EBUSY where `wanted` is not free, or none is; else as for [`attach`].
pub fn reserve(wanted: Option<u32>) -> Result<Reserved, BackingError> {
    let (control, _) = open_device(Path::new("/dev/loop-control"), true)?;
    let candidates = match wanted {
        Some(index) => index..index.saturating_add(1),
        None => FIRST_RESERVED..FIRST_RESERVED + MOST_RESERVED,
    };
    for index in candidates {
        let number = DeviceNumber {
            major: LOOP_MAJOR,
            minor: index,
        };
        if shown_path(number).is_some() {
            continue;
        }
        let path = node(number);
        match loop_add(&control, index) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => {
                let what = format!("{} cannot be made: {errno}", path.display());
                return Err(BackingError::new(errno, what));
            }
        }
        make_node(&path, index)?;
        let claimed = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(OFlags::EXCL.bits().cast_signed())
            .open(&path);
        match claimed {
            Ok(device) if matches!(loop_status(&device), Err(Errno::NXIO)) => {
                return Ok(Reserved(LoopDevice {
                    path,
                    number,
                    device,
                }));
            }
            Ok(_) => {}
            // Somebody else has it, or has taken it away meanwhile.
            Err(error)
                if matches!(
                    Errno::from_io_error(&error),
                    Some(Errno::BUSY | Errno::NXIO | Errno::NODEV | Errno::NOENT)
                ) => {}
            Err(error) => return Err(refusal(&error, &path, "cannot be opened")),
        }
    }
    let what = match wanted {
        Some(index) => format!("/dev/loop{index} is not free"),
        None => format!("none of {MOST_RESERVED} loop devices is free"),
    };
    Err(BackingError::new(Errno::BUSY, what))
}

/// Takes the loop device `path` away if it is free and its number one that [`reserve`] chooses.
pub fn forget(path: &Path) {
    let Some(number) = number_of(path).filter(|number| number.minor >= FIRST_RESERVED) else {
        return;
    };
    let forgotten = open_device(Path::new("/dev/loop-control"), true).and_then(|(control, _)| {
        loop_remove(&control, number.minor).map_err(|errno| no_file(errno, path))
    });
    if let Err(error) = forgotten {
        log::debug!("{}", error.message);
    }
}

/// Makes the node of a loop device where nothing else does.
fn make_node(path: &Path, index: u32) -> Result<(), BackingError> {
    if path.exists() {
        return Ok(());
    }
    let mode = Mode::from_raw_mode(0o660);
    let made = mknodat(
        CWD,
        path,
        FileType::BlockDevice,
        mode,
        makedev(LOOP_MAJOR, index),
    );
    match made {
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(errno) => Err(BackingError::new(
            errno,
            format!("{} cannot be made: {errno}", path.display()),
        )),
    }
}

impl Reserved {
    /// The device's number.
    pub fn number(&self) -> DeviceNumber {
        self.0.number
    }

    /// Lets go of it; gives its path, for [`attach_to`].
    pub fn release(self) -> PathBuf {
        self.0.path
    }
}

/// Makes the file at `file` the loop device `path`, which is free.
///
/// # Errors
/// EBUSY where it is not free any more; else as for [`attach`].
pub fn attach_to(path: &Path, file: &Path, options: &AttachOptions) -> Result<(), BackingError> {
    let opened = OpenOptions::new()
        .read(true)
        .write(!options.read_only)
        .open(file)
        .map_err(|error| refusal(&error, file, "cannot be opened"))?;
    let (device, number) = open_device(path, !options.read_only)?;
    loop_configure(&device, config(&opened, file, options)).map_err(|errno| {
        let (file, path) = (file.display(), path.display());
        BackingError::new(errno, format!("{file} does not become {path}: {errno}"))
    })?;
    warn_of_second_cache(number, file, options);
    Ok(())
}

/// The driver drops direct I/O in silence where the file cannot do it (a block size below the file's).
fn warn_of_second_cache(number: DeviceNumber, file: &Path, options: &AttachOptions) {
    let direct = fs::read_to_string(format!("/sys/dev/block/{number}/loop/dio"));
    if options.direct && direct.is_ok_and(|direct| direct.trim() == "0") {
        log::warn!(
            "{}: no direct I/O: the loop device goes through the page cache",
            file.display()
        );
    }
}

fn config(opened: &File, file: &Path, options: &AttachOptions) -> LoopConfig {
    let wanted = [
        (options.read_only, LO_FLAGS_READ_ONLY),
        (options.autoclear, LO_FLAGS_AUTOCLEAR),
        (options.direct, LO_FLAGS_DIRECT_IO),
    ];
    let flags = wanted
        .iter()
        .filter(|(want, _)| *want)
        .fold(0, |flags, (_, flag)| flags | flag);
    let fd = opened.as_raw_fd().unsigned_abs();
    let mut config = LoopConfig::new(fd, options.block_size, flags);
    let name = file.as_os_str().as_bytes();
    // One byte stays zero: the kernel wants an end.
    let (room, _) = config.info.file_name.split_at_mut(63);
    for (to, from) in room.iter_mut().zip(name) {
        *to = *from;
    }
    config
}

impl LoopDevice {
    /// The device's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The device's number.
    pub fn number(&self) -> DeviceNumber {
        self.number
    }

    /// Makes the device as long as its file is by now.
    ///
    /// # Errors
    /// ENXIO where it has let go of the file.
    pub fn set_capacity(&self) -> Result<(), BackingError> {
        set_capacity_of(&self.device, &self.path)
    }

    /// What the device holds.
    ///
    /// # Errors
    /// ENXIO where it has let go of the file.
    pub fn status(&self) -> Result<LoopInfo, BackingError> {
        status_of(&self.device, &self.path, self.number)
    }

    /// Lets go of the file.
    ///
    /// # Errors
    /// ENXIO where it already has.
    pub fn detach(self) -> Result<Detached, BackingError> {
        detach_from(self.device, &self.path, self.number)
    }
}

/// Makes the loop device `path` let go of its file.
///
/// # Errors
/// ENXIO where it holds none, ENOTTY or ENOTBLK where it is no loop device, EACCES for whoever may not.
pub fn detach(path: &Path) -> Result<Detached, BackingError> {
    let (device, number) = open_device(path, false)?;
    detach_from(device, path, number)
}

/// Makes the loop device `path` let go of its file unless somebody has it open; false where somebody has, and it is
/// as it was.
///
/// # Errors
/// As for [`detach`].
pub fn detach_unless_open(path: &Path) -> Result<bool, BackingError> {
    if detach(path)? == Detached::Now {
        return Ok(true);
    }
    stay(path)
}

/// Has the loop device `path` keep its file at its last close; true where that has been.
///
/// # Errors
/// As for [`detach`].
pub fn stay(path: &Path) -> Result<bool, BackingError> {
    let (device, _) = open_device(path, false)?;
    let stays = loop_status(&device).and_then(|mut info| {
        info.flags &= !LO_FLAGS_AUTOCLEAR;
        loop_set_status(&device, info)
    });
    match stays {
        Ok(()) => Ok(false),
        Err(Errno::NXIO) => Ok(true),
        Err(errno) => Err(no_file(errno, path)),
    }
}

/// What the loop device `path` shows of its file's limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shown {
    /// Logical block size, bytes.
    pub block_size: u32,
    /// Nobody may write.
    pub read_only: bool,
    /// How far the kernel reads ahead, KiB.
    pub read_ahead_kib: u32,
}

/// Makes the loop device `path` as long as its file is by now, and show it like `shown`.
///
/// # Errors
/// As for [`detach`]; EBUSY where somebody has claimed a device whose block size would have to change.
pub fn adapt(path: &Path, shown: Shown) -> Result<(), BackingError> {
    let (device, number) = open_device(path, false)?;
    set_capacity_of(&device, path)?;
    let queue = PathBuf::from(format!("/sys/dev/block/{number}/queue"));
    let block_size = fs::read_to_string(queue.join("logical_block_size"));
    if block_size.is_ok_and(|is| is.trim() != shown.block_size.to_string()) {
        loop_set_block_size(&device, shown.block_size).map_err(|errno| {
            let what = format!("{}: a block size of {}", path.display(), shown.block_size);
            BackingError::new(errno, format!("{what}: {errno}"))
        })?;
    }
    set_read_only(&device, shown.read_only).map_err(|errno| no_file(errno, path))?;
    let read_ahead = queue.join("read_ahead_kb");
    fs::write(&read_ahead, shown.read_ahead_kib.to_string())
        .map_err(|error| refusal(&error, &read_ahead, "cannot be written"))
}

/// Makes the loop device `path` as long as its file is by now.
///
/// # Errors
/// As for [`detach`].
pub fn set_capacity(path: &Path) -> Result<(), BackingError> {
    let (device, _) = open_device(path, false)?;
    set_capacity_of(&device, path)
}

/// Whether the loop device `path` holds a file.
pub fn is_attached(path: &Path) -> bool {
    number_of(path).is_some_and(|number| shown_path(number).is_some())
}

/// The number of the loop device `path`; `None` where it is none.
pub fn number_of(path: &Path) -> Option<DeviceNumber> {
    loop_number(fs::metadata(path).ok()?.rdev())
}

/// What the loop device `path` holds.
///
/// # Errors
/// As for [`detach`].
pub fn status(path: &Path) -> Result<LoopInfo, BackingError> {
    let (device, number) = open_device(path, false)?;
    status_of(&device, path, number)
}

/// What the loop device with the number `rdev` (st_rdev) holds; `None` where it is no loop device, holds nothing or
/// may not be asked.
pub fn loop_backing(rdev: u64) -> Option<LoopInfo> {
    let number = loop_number(rdev)?;
    let (device, opened) = open_device(&node(number), false).ok()?;
    (opened == number).then(|| status_of(&device, &node(number), number).ok())?
}

/// The path of the file that the loop device with the number `rdev` (st_rdev) holds, as the kernel shows it. Asks
/// neither the device nor the file's file system, and needs no rights.
pub fn loop_path(rdev: u64) -> Option<PathBuf> {
    shown_path(loop_number(rdev)?)
}

fn loop_number(rdev: u64) -> Option<DeviceNumber> {
    let number = DeviceNumber {
        major: major(rdev),
        minor: minor(rdev),
    };
    (number.major == LOOP_MAJOR).then_some(number)
}

/// Without partitions, which have minors of another major, a loop device's minor is its name's number.
fn node(number: DeviceNumber) -> PathBuf {
    PathBuf::from(format!("/dev/loop{}", number.minor))
}

fn shown_path(number: DeviceNumber) -> Option<PathBuf> {
    lock::loop_file(&PathBuf::from(format!("/sys/dev/block/{number}")))
}

fn open_device(path: &Path, write: bool) -> Result<(File, DeviceNumber), BackingError> {
    let opened = OpenOptions::new().read(true).write(write).open(path);
    let device = opened.map_err(|error| refusal(&error, path, "cannot be opened"))?;
    let about = device
        .metadata()
        .map_err(|error| refusal(&error, path, "cannot be asked"))?;
    if !about.file_type().is_block_device() && !about.file_type().is_char_device() {
        return Err(BackingError::new(
            Errno::NOTBLK,
            format!("{} is no loop device", path.display()),
        ));
    }
    let rdev = about.rdev();
    Ok((
        device,
        DeviceNumber {
            major: major(rdev),
            minor: minor(rdev),
        },
    ))
}

fn refusal(error: &io::Error, path: &Path, what: &str) -> BackingError {
    let errno = match Errno::from_io_error(error) {
        Some(Errno::NOENT) if path.starts_with("/dev") => Errno::NODEV,
        errno => errno.unwrap_or(Errno::IO),
    };
    let hint = match errno {
        Errno::ACCESS | Errno::PERM => " (loop devices need root)",
        Errno::NODEV => " (has the kernel the loop driver?)",
        _ => "",
    };
    BackingError::new(errno, format!("{} {what}: {errno}{hint}", path.display()))
}

fn set_capacity_of(device: &File, path: &Path) -> Result<(), BackingError> {
    loop_set_capacity(device).map_err(|errno| no_file(errno, path))
}

fn status_of(device: &File, path: &Path, number: DeviceNumber) -> Result<LoopInfo, BackingError> {
    let info = loop_status(device).map_err(|errno| no_file(errno, path))?;
    Ok(LoopInfo {
        dev: info.device,
        ino: info.inode,
        offset: info.offset,
        size_limit: info.size_limit,
        read_only: info.flags & LO_FLAGS_READ_ONLY != 0,
        direct: info.flags & LO_FLAGS_DIRECT_IO != 0,
        autoclear: info.flags & LO_FLAGS_AUTOCLEAR != 0,
        path: shown_path(number),
    })
}

fn detach_from(device: File, path: &Path, number: DeviceNumber) -> Result<Detached, BackingError> {
    loop_clear(&device).map_err(|errno| no_file(errno, path))?;
    // Since Linux 6.11 the file is let go of at the last close, which may be this one.
    drop(device);
    Ok(match shown_path(number) {
        None => Detached::Now,
        Some(_) => Detached::WhenClosed,
    })
}

fn no_file(errno: Errno, path: &Path) -> BackingError {
    let what = match errno {
        Errno::NXIO => "holds no file".to_owned(),
        Errno::NOTTY | Errno::INVAL => "is no loop device".to_owned(),
        errno => errno.to_string(),
    };
    BackingError::new(errno, format!("{}: {what}", path.display()))
}

/// The loop devices that hold a file, for whoever looks for those over a mount.
pub fn attached() -> Vec<(DeviceNumber, PathBuf)> {
    let Ok(entries) = fs::read_dir("/sys/dev/block") else {
        return Vec::new();
    };
    let numbers = entries.flatten().filter_map(|entry| {
        let name = entry.file_name();
        let (major, minor) = name.to_str()?.split_once(':')?;
        loop_number(makedev(major.parse().ok()?, minor.parse().ok()?))
    });
    numbers
        .filter_map(|number| Some((number, shown_path(number)?)))
        .collect()
}

#[cfg(test)]
mod tests;
