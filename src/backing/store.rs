//! Who has what open: one backing for each file, device and stretch of memory, however many tables name it.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags, Stat, fstat, major, minor, open};

use super::file::{FileDevice, Kind};
use super::keeping::{Descriptors, Keeper, Key, Numbered};
use super::lock::FileId;
use super::memory::{self, MEMORY_PREFIX, MemorySpec};
use super::{Access, BackingError, OpenOptions, queued};
use crate::io::{
    BlockDev, DeviceNumber, Errno, Extent, IoError, IoResult, Limits, Part, Plan, Request,
    Unplanned,
};
use crate::sync::{Arc, Mutex, OnceLock};
use crate::unit::{Sector, Sectors};

/// Largest major number the kernel has, plus one.
const N_MAJORS: u32 = 1 << 12;
/// Largest minor number the kernel has, plus one.
const N_MINORS: u32 = 1 << 20;

/// Opens backings, shares them and gives them numbers. Cloned, it is the same store.
#[derive(Clone)]
pub struct BackingStore(Arc<Shared>);

struct Shared {
    file_major: u32,
    /// Guards opening, closing and numbering. A leaf: nothing else is locked under it but a file's own.
    known: Mutex<Known>,
    keeper: OnceLock<Arc<dyn Keeper>>,
}

impl Shared {
    fn forget(&self, key: &Key) {
        if let (Some(keeper), Some(name)) = (self.keeper.get(), key.kept_name()) {
            keeper.forget(&name);
        }
    }
}

#[derive(Default)]
struct Known {
    open: HashMap<Key, Entry>,
    numbers: HashMap<Key, u32>,
    paths: Vec<(Key, PathBuf)>,
    /// Open descriptors of an earlier process that no table uses yet.
    kept: Descriptors,
    n_unnamed: u64,
}

struct Entry {
    device: Arc<FileDevice>,
    path: PathBuf,
    n_openers: usize,
}

/// One opener's hold on a backing. Dropping it closes it; the file is closed with its last opener.
pub struct Backing {
    device: Arc<FileDevice>,
    access: Access,
    path: PathBuf,
    name: String,
    number: DeviceNumber,
    // After `device`: the store's own reference must be the last one, so that closing happens under its lock
    // and a file opened again at once does not find the lock of its former self.
    _hold: Hold,
}

struct Hold {
    store: Arc<Shared>,
    key: Key,
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut known = self.store.known.lock();
        if let Some(entry) = known.open.get_mut(&self.key) {
            entry.n_openers -= 1;
            if entry.n_openers == 0 {
                known.open.remove(&self.key);
                self.store.forget(&self.key);
            }
        }
    }
}

impl BackingStore {
    /// A store that numbers files and memory `file_major:0` and upward.
    pub fn new(file_major: u32) -> BackingStore {
        BackingStore(Arc::new(Shared {
            file_major,
            known: Mutex::new(Known::default()),
            keeper: OnceLock::new(),
        }))
    }

    /// Has `keeper` keep what is opened from now on. The first one stays.
    pub fn set_keeper(&self, keeper: Arc<dyn Keeper>) {
        if self.0.keeper.set(keeper).is_err() {
            log::error!("the store has its keeper already");
        }
    }

    /// What the numbers from `first` on stand for.
    pub fn numbers(&self, first: usize) -> Vec<Numbered> {
        let known = self.0.known.lock();
        let paths = known.paths.get(first..).unwrap_or_default();
        let numbered = |(key, path): &(Key, PathBuf)| Numbered::new(key.clone(), path.clone());
        paths.iter().map(numbered).collect()
    }

    /// Goes on with the numbers and the kept descriptors of an earlier process; for a store that is new.
    pub fn restore(&self, numbers: Vec<Numbered>, kept: Descriptors) {
        let mut known = self.0.known.lock();
        for (minor, numbered) in (0..).zip(numbers) {
            let (key, path) = numbered.into_parts();
            known.numbers.insert(key.clone(), minor);
            known.paths.push((key, path));
        }
        known.kept = kept;
    }

    /// Lets go of kept descriptors that no table uses.
    pub fn forget_unused(&self) {
        let mut known = self.0.known.lock();
        for (name, _) in known.kept.drain() {
            if let Some(keeper) = self.0.keeper.get() {
                keeper.forget(&name);
            }
        }
    }

    /// Opens the regular file or block device `path`, or shares the one already open.
    ///
    /// # Errors
    /// ENODEV where there is nothing at `path`; ENOTBLK where it is neither a regular file nor a block device;
    /// EACCES where it may not be used as `access` says; EBUSY where somebody else uses it; EINVAL for a file
    /// shorter than a sector and for direct I/O where the file system has none.
    pub fn open(
        &self,
        path: &Path,
        access: Access,
        options: OpenOptions,
    ) -> Result<Arc<Backing>, BackingError> {
        let (place, key) = find(path)?;
        let mut known = self.0.known.lock();
        self.share(&mut known, (place.as_fd(), key), path, access, options)
    }

    /// Opens memory: `SIZE` makes a new device with a name of its own, `SIZE:NAME` the device of that name
    /// (made where no table uses it). `text` may begin with `mem:`.
    ///
    /// # Errors
    /// EINVAL for a bad size or name, and where the named device is there with another size.
    pub fn memory(&self, text: &str, access: Access) -> Result<Arc<Backing>, BackingError> {
        let spec = MemorySpec::parse(text.strip_prefix(MEMORY_PREFIX).unwrap_or(text))?;
        let mut known = self.0.known.lock();
        let name = match spec.name {
            Some(name) => name.to_owned(),
            None => known.unused_name(),
        };
        let path = PathBuf::from(format!("{MEMORY_PREFIX}{}:{name}", spec.size_text));
        let key = Key::Memory(name);
        if let Key::Memory(name) = &key
            && !known.open.contains_key(&key)
        {
            let device = FileDevice::memory(memory::create(&spec, name)?, &path)?;
            return self.hold(&mut known, Arc::new(device), key, &path, access);
        }
        let entry = known.open.get(&key).map(|entry| Arc::clone(&entry.device));
        let Some(device) = entry else {
            return Err(gone(&path));
        };
        if device.capacity().to_bytes() != spec.size {
            let size = device.capacity().to_bytes();
            return Err(BackingError::new(
                Errno::INVAL,
                format!(
                    "{}: the memory device of this name has {size} bytes",
                    path.display()
                ),
            ));
        }
        self.hold(&mut known, device, key, &path, access)
    }

    /// Opens what has `number`: a file or memory that this process knows, or a block device of the system.
    ///
    /// # Errors
    /// ENXIO for a number nobody has; EOVERFLOW for one that cannot be; else as for [`BackingStore::open`].
    pub fn by_number(
        &self,
        number: DeviceNumber,
        access: Access,
        options: OpenOptions,
    ) -> Result<Arc<Backing>, BackingError> {
        if number.major >= N_MAJORS || number.minor >= N_MINORS {
            return Err(BackingError::new(
                Errno::OVERFLOW,
                format!("{number}: a major number is below {N_MAJORS}, a minor below {N_MINORS}"),
            ));
        }
        if number.major == self.0.file_major {
            return self.known_by_minor(number, access, options);
        }
        let path = device_node(number)?;
        let (place, key) = find(&path)?;
        if key != Key::Block(rustix::fs::makedev(number.major, number.minor)) {
            return Err(BackingError::new(
                Errno::NXIO,
                format!("{number}: {} is not this device", path.display()),
            ));
        }
        let mut known = self.0.known.lock();
        self.share(&mut known, (place.as_fd(), key), &path, access, options)
    }

    fn known_by_minor(
        &self,
        number: DeviceNumber,
        access: Access,
        options: OpenOptions,
    ) -> Result<Arc<Backing>, BackingError> {
        let unknown =
            || BackingError::new(Errno::NXIO, format!("{number}: no file has this number"));
        let mut known = self.0.known.lock();
        let (key, path) = known
            .paths
            .get(number.minor as usize)
            .cloned()
            .ok_or_else(unknown)?;
        if let Some(entry) = known.open.get(&key) {
            let (device, path) = (Arc::clone(&entry.device), entry.path.clone());
            device.admit(access, options.direct, &path)?;
            return self.hold(&mut known, device, key, &path, access);
        }
        if let Some(device) = known.take_kept(&key, options.direct, &path)? {
            let device = Arc::new(device);
            device.admit(access, options.direct, &path)?;
            return self.hold(&mut known, device, key, &path, access);
        }
        if matches!(key, Key::Memory(_)) {
            return Err(gone(&path));
        }
        let (place, found) = find(&path)?;
        if found != key {
            return Err(BackingError::new(
                Errno::NXIO,
                format!(
                    "{number}: the file it stood for is no longer at {}",
                    path.display()
                ),
            ));
        }
        self.share(&mut known, (place.as_fd(), key), &path, access, options)
    }

    /// The open backing of `key` for one more opener, opened where it is not.
    fn share(
        &self,
        known: &mut Known,
        (place, key): (BorrowedFd<'_>, Key),
        path: &Path,
        access: Access,
        options: OpenOptions,
    ) -> Result<Arc<Backing>, BackingError> {
        let device = match (known.open.get(&key), &key) {
            (Some(entry), _) => Arc::clone(&entry.device),
            (None, Key::File(id)) => Arc::new(FileDevice::open(
                place,
                Kind::Regular(*id),
                access,
                options.direct,
                path,
            )?),
            (None, Key::Block(rdev)) => Arc::new(FileDevice::open(
                place,
                Kind::Block(*rdev),
                access,
                options.direct,
                path,
            )?),
            (None, Key::Memory(_)) => return Err(gone(path)),
        };
        device.admit(access, options.direct, path)?;
        self.hold(known, device, key, path, access)
    }

    fn hold(
        &self,
        known: &mut Known,
        device: Arc<FileDevice>,
        key: Key,
        path: &Path,
        access: Access,
    ) -> Result<Arc<Backing>, BackingError> {
        let number = match &key {
            Key::Block(rdev) => DeviceNumber {
                major: major(*rdev),
                minor: minor(*rdev),
            },
            Key::File(_) | Key::Memory(_) => DeviceNumber {
                major: self.0.file_major,
                minor: known.minor_of(&key, path)?,
            },
        };
        let entry = known.open.entry(key.clone()).or_insert_with(|| {
            if let (Some(keeper), Some(name)) = (self.0.keeper.get(), key.kept_name()) {
                keeper.keep(&name, device.first());
            }
            Entry {
                device: Arc::clone(&device),
                path: path.to_owned(),
                n_openers: 0,
            }
        });
        entry.n_openers += 1;
        Ok(Arc::new(Backing {
            device,
            access,
            path: path.to_owned(),
            name: short_name(&key, path),
            number,
            _hold: Hold {
                store: Arc::clone(&self.0),
                key,
            },
        }))
    }
}

impl Known {
    /// The minor number of a file or memory: the same as long as this process lives.
    fn minor_of(&mut self, key: &Key, path: &Path) -> Result<u32, BackingError> {
        if let Some(minor) = self.numbers.get(key) {
            if let Some(last) = self.paths.get_mut(*minor as usize) {
                path.clone_into(&mut last.1);
            }
            return Ok(*minor);
        }
        let minor = u32::try_from(self.paths.len())
            .ok()
            .filter(|minor| *minor < N_MINORS);
        let Some(minor) = minor else {
            return Err(BackingError::new(
                Errno::NOSPC,
                format!("{}: no number is left for one more file", path.display()),
            ));
        };
        self.numbers.insert(key.clone(), minor);
        self.paths.push((key.clone(), path.to_owned()));
        Ok(minor)
    }

    /// The open file that an earlier process has kept for `key`, if it has.
    fn take_kept(
        &mut self,
        key: &Key,
        direct: bool,
        path: &Path,
    ) -> Result<Option<FileDevice>, BackingError> {
        let kind = match key {
            Key::File(id) => Kind::Regular(*id),
            Key::Memory(_) => Kind::Memory,
            Key::Block(_) => return Ok(None),
        };
        let name = key.kept_name().unwrap_or_default();
        let Some(descriptor) = self.kept.remove(&name) else {
            return Ok(None);
        };
        let direct = direct && kind != Kind::Memory;
        FileDevice::kept(descriptor, kind, direct, path).map(Some)
    }

    fn unused_name(&mut self) -> String {
        loop {
            self.n_unnamed += 1;
            let name = format!("auto-{}", self.n_unnamed);
            if !self.numbers.contains_key(&Key::Memory(name.clone())) {
                return name;
            }
        }
    }
}

/// What `path` leads to, held by a descriptor that has opened nothing yet: a pipe or a tape is not touched.
fn find(path: &Path) -> Result<(OwnedFd, Key), BackingError> {
    let found = open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
        .and_then(|place| fstat(&place).map(|stat| (place, stat)));
    let (place, stat) = found.map_err(|errno| match errno {
        Errno::NOENT | Errno::NOTDIR => BackingError::new(
            Errno::NODEV,
            format!("{}: there is no such file or device", path.display()),
        ),
        errno => BackingError::new(
            errno,
            format!("{} cannot be opened: {errno}", path.display()),
        ),
    })?;
    let key = key_of(&stat).ok_or_else(|| {
        let what = type_name(FileType::from_raw_mode(stat.st_mode));
        BackingError::new(
            Errno::NOTBLK,
            format!(
                "{} is {what}: expected a regular file or a block device",
                path.display()
            ),
        )
    })?;
    Ok((place, key))
}

fn key_of(stat: &Stat) -> Option<Key> {
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => Some(Key::File(FileId {
            dev: stat.st_dev,
            ino: stat.st_ino,
        })),
        FileType::BlockDevice => Some(Key::Block(stat.st_rdev)),
        _ => None,
    }
}

fn type_name(file_type: FileType) -> &'static str {
    match file_type {
        FileType::Directory => "a folder",
        FileType::CharacterDevice => "a character device",
        FileType::Socket => "a socket",
        FileType::Fifo => "a pipe",
        _ => "of another kind",
    }
}

fn gone(path: &Path) -> BackingError {
    BackingError::new(
        Errno::NXIO,
        format!(
            "{}: this memory was given back with its last table",
            path.display()
        ),
    )
}

/// The node in /dev of a block device.
fn device_node(number: DeviceNumber) -> Result<PathBuf, BackingError> {
    let unknown = || {
        BackingError::new(
            Errno::NXIO,
            format!("{number}: no block device has this number"),
        )
    };
    let uevent = fs::read(format!("/sys/dev/block/{number}/uevent")).map_err(|_| unknown())?;
    let name = uevent
        .split(|byte| *byte == b'\n')
        .find_map(|line| line.strip_prefix(b"DEVNAME="))
        .ok_or_else(unknown)?;
    Ok(Path::new("/dev").join(OsStr::from_bytes(name)))
}

fn short_name(key: &Key, path: &Path) -> String {
    match key {
        Key::Block(rdev) => {
            let link = fs::read_link(format!("/sys/dev/block/{}:{}", major(*rdev), minor(*rdev)));
            link.ok()
                .as_deref()
                .unwrap_or(path)
                .file_name()
                .unwrap_or_default()
                .display()
                .to_string()
        }
        Key::File(_) => path.file_name().unwrap_or_default().display().to_string(),
        Key::Memory(name) => format!("{MEMORY_PREFIX}{name}"),
    }
}

impl Backing {
    /// Its number: a block device's own, one of the store's for anything else.
    pub fn number(&self) -> DeviceNumber {
        self.number
    }

    /// The path it was opened by; for memory `mem:SIZE:NAME`, which leads back to the same memory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A short name, as the kernel's messages use it: `loop0`, or the last part of the path.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The file, shared with the other openers.
    pub(super) fn file(&self) -> &FileDevice {
        &self.device
    }

    /// What this opener may do.
    pub fn access(&self) -> Access {
        self.access
    }

    /// True where the page cache is gone around.
    pub fn is_direct(&self) -> bool {
        self.device.is_direct()
    }

    /// True for a block device.
    pub fn is_block_device(&self) -> bool {
        matches!(self.device.kind(), Kind::Block(_))
    }

    /// Looks at length and limits again, which are otherwise remembered, and says the length.
    ///
    /// # Errors
    /// The errno of fstat or of the block device; what was known before stays.
    pub fn refresh(&self) -> Result<Sectors, IoError> {
        self.device.refresh()
    }

    /// The open file itself, through the page cache, fit for what this opener may do.
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.device.descriptor(self.access)
    }
}

impl BlockDev for Backing {
    fn capacity(&self) -> Sectors {
        self.device.capacity()
    }

    fn limits(&self) -> Limits {
        self.device.limits(self.access)
    }

    #[inline]
    fn submit(&self, request: Request<'_>) -> IoResult {
        if self.access == Access::ReadOnly && request.op.kind().changes_data() {
            return Err(IoError::READ_ONLY);
        }
        self.device.submit(request)
    }

    fn plan(self: Arc<Self>, part: Part, plan: &mut Plan) -> Result<(), Unplanned> {
        queued::plan(self, part, plan)
    }

    fn file(&self) -> Option<BorrowedFd<'_>> {
        (self.access == Access::ReadWrite).then(|| self.device.descriptor(self.access))
    }

    fn extent_at(&self, at: Sector) -> Extent {
        self.device.extent_at(at)
    }
}

#[cfg(test)]
mod tests;
