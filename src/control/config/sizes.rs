//! Devices of which only the length is known: enough to check tables without opening anything.
//!
//! A table is built over them exactly as over real ones. What is missing or of the wrong kind is refused as
//! the real devices would refuse it.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
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
    stacking: Stacking,
    opened: RefCell<HashMap<String, Arc<OpenDevice>>>,
    /// Lengths of memory devices by name.
    memory: RefCell<HashMap<String, Bytes>>,
}

#[derive(Clone, Copy)]
struct Known {
    number: Option<DeviceNumber>,
    dev: OfLength,
    /// How many devices lie on one another here, with this one.
    depth: usize,
}

/// The devices of the file, and those that each names in its table.
#[derive(Default)]
pub(super) struct Stacking(pub HashMap<String, HashSet<String>>);

impl Stacking {
    /// Why the device `name` is not there yet.
    fn why_missing(&self, name: &str) -> String {
        if !self.0.contains_key(name) {
            return "no device of this mount has this name".into();
        }
        match self.cycle(name) {
            Some(cycle) => format!("it would lie on itself: {cycle}"),
            None => "it is defined further down".into(),
        }
    }

    /// The way from `name` down to itself, where there is one.
    fn cycle(&self, name: &str) -> Option<String> {
        let mut came_from: HashMap<&str, &str> = HashMap::new();
        let mut open = vec![name];
        while let Some(at) = open.pop() {
            for next in self.0.get(at).into_iter().flatten() {
                if next == name {
                    let mut way = vec![name];
                    let mut step = at;
                    while step != name {
                        way.push(step);
                        step = came_from.get(step).copied().unwrap_or(name);
                    }
                    way.push(name);
                    way.reverse();
                    return Some(way.join(" on "));
                }
                if !came_from.contains_key(next.as_str()) {
                    came_from.insert(next, at);
                    open.push(next);
                }
            }
        }
        None
    }
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
    pub(super) fn new(
        folder: &'a Path,
        planned: HashMap<PathBuf, Bytes>,
        stacking: Stacking,
    ) -> Sizes<'a> {
        Sizes {
            folder,
            planned,
            devices: HashMap::new(),
            stacking,
            opened: RefCell::default(),
            memory: RefCell::default(),
        }
    }

    /// From now on there is the device `name`, with `table`. A device without one has no length, and so fits
    /// every use. Gives how many devices lie on one another now, with this one.
    pub(super) fn add(
        &mut self,
        name: &str,
        number: Option<DeviceNumber>,
        table: Option<&Table>,
    ) -> usize {
        let dev = match table {
            Some(table) => OfLength {
                len: table.len(),
                limits: table.limits(),
            },
            None => OfLength::new(Sectors::ZERO),
        };
        let below = self.stacking.0.get(name).into_iter().flatten();
        let depths = below.filter_map(|below| Some(self.devices.get(below)?.depth));
        let depth = depths.max().unwrap_or(0) + 1;
        let known = Known { number, dev, depth };
        self.devices.insert(name.to_owned(), known);
        depth
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
                let reason = "there is one of this name here and another one on this system";
                Err(refuse(Errno::BUSY, reason))
            }
            Some(known) => Ok(opened(known.number.unwrap_or(NO_NUMBER), name, known.dev)),
            None if theirs => self.file(spec, access),
            None => Err(refuse(Errno::NODEV, &self.stacking.why_missing(name))),
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
                    &format!("this memory has {before} bytes elsewhere"),
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
            return Err(refuse(
                Errno::NOTBLK,
                "it is neither a regular file nor a block device",
            ));
        }
        let len = Bytes(metadata.len()).whole_sectors();
        if len.is_zero() {
            return Err(refuse(
                Errno::INVAL,
                "it is shorter than a sector of 512 bytes",
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
        direct: false,
        mapped: None,
        part: None,
    }
}

fn refuse(errno: Errno, reason: &str) -> OpenError {
    OpenError {
        errno,
        reason: reason.to_owned(),
    }
}

fn missing(error: &std::io::Error) -> OpenError {
    use std::io::ErrorKind::{NotADirectory, NotFound};
    match error.kind() {
        NotFound | NotADirectory => refuse(
            Errno::NODEV,
            "it does not exist, and no [[file]] section makes it",
        ),
        _ => refuse(Errno::ACCESS, &error.to_string()),
    }
}

fn check_permission(path: &Path, access: Access) -> Result<(), OpenError> {
    if permitted(path, Permission::READ_OK).is_err() {
        return Err(refuse(Errno::ACCESS, "it may not be read"));
    }
    if access == Access::ReadWrite && permitted(path, Permission::WRITE_OK).is_err() {
        return Err(refuse(
            Errno::ACCESS,
            "it may not be written; a table that only reads it needs readonly = true",
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
    let len = read("size").ok_or_else(|| refuse(Errno::NXIO, "there is no such block device"))?;
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
