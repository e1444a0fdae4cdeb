//! Devices of which only the length is known: enough to check tables without opening anything.
//!
//! A table is built over them exactly as over real ones. What is missing or of the wrong kind is refused as
//! the real devices would refuse it.

use std::cell::RefCell;
use std::collections::HashMap;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{Access as Permission, access as permitted};

use super::MAPPER_FOLDER;
use crate::backing::{MEMORY_PREFIX, memory_size};
use crate::control::resolver::parse_number;
use crate::io::{
    BlockDev, DeviceNumber, Errno, Extent, IoError, IoResult, Limits, OpenDevice, Request,
};
use crate::sync::Arc;
use crate::table::Table;
use crate::target::{Access, DeviceOpener, EventSink, OpenError};
use crate::unit::{Bytes, Sector, Sectors};

/// What devices above may find.
pub(super) struct Sizes<'a> {
    folder: &'a Path,
    /// Lengths of the files that will be made, by [`tidy`] path.
    planned: HashMap<PathBuf, Bytes>,
    /// The devices before the one that is being checked.
    devices: HashMap<String, Known>,
    /// Why a device further down, or the one that is being checked, cannot be used: what is expected instead.
    pub later: HashMap<String, String>,
    opened: RefCell<HashMap<String, Arc<OpenDevice>>>,
    /// Lengths of memory devices by name.
    memory: RefCell<HashMap<String, Bytes>>,
}

#[derive(Clone, Copy)]
struct Known {
    number: Option<DeviceNumber>,
    dev: OfLength,
}

/// A device of a length, and nothing else.
#[derive(Clone, Copy, Debug)]
struct OfLength {
    len: Sectors,
    limits: Limits,
}

/// Nothing happens to a device that is only checked.
pub(super) struct NoEvents;

impl EventSink for NoEvents {
    fn raise(&self) {}
}

/// `path` from `folder`, without detours through `.`.
pub(super) fn tidy(folder: &Path, path: &Path) -> PathBuf {
    folder.join(path).components().collect()
}

impl<'a> Sizes<'a> {
    pub(super) fn new(folder: &'a Path, planned: HashMap<PathBuf, Bytes>) -> Sizes<'a> {
        Sizes {
            folder,
            planned,
            devices: HashMap::new(),
            later: HashMap::new(),
            opened: RefCell::default(),
            memory: RefCell::default(),
        }
    }

    /// From now on there is the device `name`, with `table`. A device without one has no length, and so fits
    /// every use.
    pub(super) fn add(&mut self, name: &str, number: Option<DeviceNumber>, table: Option<&Table>) {
        let dev = match table {
            Some(table) => OfLength {
                len: table.len(),
                limits: table.limits(),
            },
            None => OfLength::new(Sectors::ZERO),
        };
        self.later.remove(name);
        self.devices.insert(name.to_owned(), Known { number, dev });
    }

    fn find(&self, spec: &str, access: Access) -> Result<OpenDevice, OpenError> {
        if let Some(number) = parse_number(spec) {
            let known = self
                .devices
                .iter()
                .find(|(_, known)| known.number == Some(number));
            return match known {
                Some((name, known)) => Ok(opened(number, name, known.dev)),
                None => block_device(number, spec),
            };
        }
        if let Some(memory) = spec.strip_prefix(MEMORY_PREFIX) {
            return self.memory(spec, memory);
        }
        match spec.strip_prefix(MAPPER_FOLDER) {
            Some(name) => self.mapped(name, spec, access),
            None => self.file(spec, access),
        }
    }

    fn mapped(&self, name: &str, spec: &str, access: Access) -> Result<OpenDevice, OpenError> {
        let theirs = Path::new(spec).exists();
        match self.devices.get(name) {
            Some(_) if theirs => {
                let expected =
                    "one device of this name, not one here and another one on this system";
                Err(refuse(Errno::BUSY, expected))
            }
            Some(known) => Ok(opened(known.number.unwrap_or(NO_NUMBER), name, known.dev)),
            None if theirs => self.file(spec, access),
            None => Err(match self.later.get(name) {
                Some(expected) => refuse(Errno::NODEV, expected),
                None => refuse(Errno::NODEV, "the name of a device of this mount"),
            }),
        }
    }

    fn memory(&self, spec: &str, text: &str) -> Result<OpenDevice, OpenError> {
        let size = memory_size(spec).map_err(|error| refuse(error.errno, &error.message))?;
        if let Some((_, name)) = text.split_once(':') {
            let before = *self
                .memory
                .borrow_mut()
                .entry(name.to_owned())
                .or_insert(size);
            if before != size {
                return Err(refuse(
                    Errno::INVAL,
                    &format!("the {before} bytes this memory has elsewhere"),
                ));
            }
        }
        Ok(opened(NO_NUMBER, spec, OfLength::new(size.whole_sectors())))
    }

    fn file(&self, spec: &str, access: Access) -> Result<OpenDevice, OpenError> {
        let path = tidy(self.folder, Path::new(spec));
        let planned = self.planned.get(&path);
        let metadata = match (path.metadata(), planned) {
            (Ok(metadata), _) => metadata,
            (Err(_), Some(size)) => {
                return Ok(opened(
                    NO_NUMBER,
                    &short_name(&path),
                    OfLength::new(size.whole_sectors()),
                ));
            }
            (Err(error), None) => return Err(missing(&error)),
        };
        check_permission(&path, access)?;
        let kind = metadata.file_type();
        if kind.is_block_device() {
            return block_device(number_of(metadata.rdev()), spec);
        }
        if !kind.is_file() {
            return Err(refuse(Errno::NOTBLK, "a regular file or a block device"));
        }
        let len = Bytes(metadata.len()).whole_sectors();
        if len.is_zero() {
            return Err(refuse(
                Errno::INVAL,
                "a file of at least one sector (512 bytes)",
            ));
        }
        Ok(opened(NO_NUMBER, &short_name(&path), OfLength::new(len)))
    }
}

impl DeviceOpener for Sizes<'_> {
    fn open(&self, spec: &str, access: Access) -> Result<Arc<OpenDevice>, OpenError> {
        // A file that may be read need not be writable.
        let key = format!("{access:?} {spec}");
        if let Some(device) = self.opened.borrow().get(&key) {
            return Ok(device.clone());
        }
        let device = Arc::new(self.find(spec, access)?);
        self.opened.borrow_mut().insert(key, device.clone());
        Ok(device)
    }
}

/// Numbers matter for nothing that is checked.
const NO_NUMBER: DeviceNumber = DeviceNumber { major: 0, minor: 0 };

fn opened(number: DeviceNumber, name: &str, dev: OfLength) -> OpenDevice {
    OpenDevice {
        number,
        path: name.into(),
        name: name.to_owned(),
        dev: Arc::new(dev),
        mapped: None,
    }
}

fn refuse(errno: Errno, expected: &str) -> OpenError {
    OpenError {
        errno,
        reason: expected.to_owned(),
    }
}

fn missing(error: &std::io::Error) -> OpenError {
    use std::io::ErrorKind::{NotADirectory, NotFound};
    match error.kind() {
        NotFound | NotADirectory => refuse(
            Errno::NODEV,
            "a file or device that exists, or that a [[file]] section makes",
        ),
        _ => refuse(
            Errno::ACCESS,
            &format!("a file or device that can be opened ({error})"),
        ),
    }
}

fn check_permission(path: &Path, access: Access) -> Result<(), OpenError> {
    if permitted(path, Permission::READ_OK).is_err() {
        return Err(refuse(Errno::ACCESS, "a file or device that you may read"));
    }
    if access == Access::ReadWrite && permitted(path, Permission::WRITE_OK).is_err() {
        return Err(refuse(
            Errno::ACCESS,
            "a file or device that you may write, or readonly = true",
        ));
    }
    Ok(())
}

fn short_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().display().to_string()
}

fn number_of(rdev: u64) -> DeviceNumber {
    DeviceNumber {
        major: rustix::fs::major(rdev),
        minor: rustix::fs::minor(rdev),
    }
}

/// A block device of the system, by what sysfs says of it.
fn block_device(number: DeviceNumber, spec: &str) -> Result<OpenDevice, OpenError> {
    let folder = PathBuf::from(format!("/sys/dev/block/{number}"));
    let read = |name: &str| -> Option<u64> {
        std::fs::read_to_string(folder.join(name))
            .ok()?
            .trim()
            .parse()
            .ok()
    };
    let len = read("size").ok_or_else(|| refuse(Errno::NXIO, "a block device that exists"))?;
    // A partition's queue is its disk's.
    let block = read("queue/logical_block_size").or_else(|| read("../queue/logical_block_size"));
    let mut dev = OfLength::new(Sectors(len));
    if let Some(block) = block
        .and_then(|block| u32::try_from(block).ok())
        .filter(|block| block.is_power_of_two())
    {
        dev.limits.logical_block_size = block;
    }
    Ok(opened(number, spec, dev))
}

impl OfLength {
    fn new(len: Sectors) -> OfLength {
        OfLength {
            len,
            limits: Limits::default(),
        }
    }
}

impl BlockDev for OfLength {
    fn capacity(&self) -> Sectors {
        self.len
    }

    fn limits(&self) -> Limits {
        self.limits
    }

    fn submit(&self, _request: Request<'_>) -> IoResult {
        Err(IoError::IO)
    }

    fn extent_at(&self, at: Sector) -> Extent {
        Extent::hole(Sector(self.len.0.max(at.0.saturating_add(1))))
    }
}
