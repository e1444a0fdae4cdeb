//! Finds the device behind a device argument of a table.
//!
//! A path, `major:minor` or `mem:SIZE`. What leads back into our own mount (by path, by the number of a
//! mapped device, or through a loop device over a file in it) is linked to that device directly: a request
//! through our own mount would wait for the worker that carries it. One resolver serves one table and opens
//! each device once.

use std::cell::RefCell;
use std::collections::HashMap;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use super::Registry;
use super::state::DeviceUse;
use rustix::fs::{major, minor};

use crate::backing::loop_device::{LoopInfo, loop_backing};
use crate::backing::{Backing, MEMORY_PREFIX, OpenOptions};
use crate::device::{Device, Directory};
use crate::io::{
    BlockDev, DevRef, DeviceNumber, Errno, Extent, IoResult, Limits, OpenDevice, Part, Plan,
    Request, Stretches, Trail, Unplanned,
};
use crate::sync::Arc;
use crate::target::{Access, DeviceOpener, OpenError};
use crate::unit::{Bytes, Sector, Sectors};

/// Opens devices for one table.
pub struct Resolver {
    registry: Arc<Registry>,
    folder: PathBuf,
    options: OpenOptions,
    opened: RefCell<Opened>,
}

#[derive(Default)]
struct Opened {
    by_spec: HashMap<String, Arc<OpenDevice>>,
    by_number: HashMap<DeviceNumber, Arc<OpenDevice>>,
}

impl Resolver {
    /// A resolver for a table whose relative paths start from `folder`.
    pub fn new(registry: Arc<Registry>, folder: PathBuf, options: OpenOptions) -> Resolver {
        Resolver {
            registry,
            folder,
            options,
            opened: RefCell::default(),
        }
    }

    fn resolve(&self, spec: &str, access: Access) -> Result<OpenDevice, OpenError> {
        if let Some(number) = parse_number(spec) {
            return match self.registry.by_number(number) {
                Some(device) => self.mapped(device),
                None => self.below(
                    self.registry
                        .store()
                        .by_number(number, access, self.options),
                ),
            };
        }
        if spec.starts_with(MEMORY_PREFIX) {
            return self.below(self.registry.store().memory(spec, access));
        }
        let path = self.folder.join(spec);
        if let Some(device) = self.mapped_at(&path) {
            return self.mapped(device);
        }
        if let Some(device) = self.with_number_of(&path) {
            return self.mapped(device);
        }
        match self.behind_loop(&path) {
            Some((device, number, info)) => self.window(device, path, number, &info),
            None => self.below(self.registry.store().open(&path, access, self.options)),
        }
    }

    /// The mapped device whose file in our mount `path` is, or which it names under `/dev/mapper`.
    fn mapped_at(&self, path: &Path) -> Option<Arc<Device>> {
        let named = |path: &Path, folder: &Path| {
            let rest = path.strip_prefix(folder).ok()?;
            self.registry.by_name(rest.to_str()?)
        };
        let in_mount = self.registry.mount().and_then(|mount| {
            named(path, &mount.path).or_else(|| named(&path.canonicalize().ok()?, &mount.path))
        });
        in_mount.or_else(|| named(path, Path::new("/dev/mapper")).filter(|_| !path.exists()))
    }

    /// The mapped device whose number the block device at `path` has.
    fn with_number_of(&self, path: &Path) -> Option<Arc<Device>> {
        let about = path.metadata().ok()?;
        let number = DeviceNumber {
            major: major(about.rdev()),
            minor: minor(about.rdev()),
        };
        let is_block = about.file_type().is_block_device();
        is_block.then(|| self.registry.by_number(number)).flatten()
    }

    /// The mapped device under the loop device at `path`, if there is one, and the loop device's number.
    fn behind_loop(&self, path: &Path) -> Option<(Arc<Device>, DeviceNumber, LoopInfo)> {
        let mount = self.registry.mount()?;
        let rdev = path.metadata().ok()?.rdev();
        let info = loop_backing(rdev).filter(|info| info.dev == mount.st_dev)?;
        let number = DeviceNumber {
            major: major(rdev),
            minor: minor(rdev),
        };
        Some((self.registry.by_id(info.ino)?, number, info))
    }

    fn mapped(&self, device: Arc<Device>) -> Result<OpenDevice, OpenError> {
        let name = device.name();
        let path = self
            .registry
            .mount()
            .map_or_else(|| PathBuf::from(&name), |mount| mount.path.join(&name));
        let (number, id) = (device.number(), device.id());
        let dev = Arc::new(Held::open(device, self.registry.clone())?);
        Ok(OpenDevice {
            number,
            path,
            name: format!("dm-{}", number.minor),
            dev,
            direct: false,
            mapped: Some(id),
            part: None,
        })
    }

    /// The part of a mapped device that the loop device at `path` shows.
    fn window(
        &self,
        device: Arc<Device>,
        path: PathBuf,
        number: DeviceNumber,
        info: &LoopInfo,
    ) -> Result<OpenDevice, OpenError> {
        let whole = Arc::new(self.mapped(device)?);
        let start = Bytes(info.offset).whole_sectors();
        let rest = Sectors(whole.dev.capacity().0.saturating_sub(start.0));
        let len = match Bytes(info.size_limit).whole_sectors() {
            Sectors(0) => rest,
            limit => limit.min(rest),
        };
        Ok(part_of(whole, path, number, (Sector(start.0), len)))
    }

    /// Opens anew what a table of an earlier daemon of this mount had open: the same device, whatever its path
    /// means by now.
    ///
    /// # Errors
    /// As for [`DeviceOpener::open`].
    pub(super) fn reopen(&self, was: &DeviceUse, access: Access) -> Result<OpenDevice, OpenError> {
        let Some(id) = was.mapped else {
            let store = self.registry.store();
            let below = self.below(store.by_number(was.number(), access, self.options))?;
            return Ok(OpenDevice {
                path: was.path.clone().into(),
                ..below
            });
        };
        let device = self.registry.by_id(id);
        let device = device.ok_or_else(|| refuse(Errno::NXIO, "there is no such device"))?;
        let whole = self.mapped(device)?;
        let path = PathBuf::from(&was.path);
        Ok(match was.part {
            None => OpenDevice { path, ..whole },
            Some((start, len)) => part_of(
                Arc::new(whole),
                path,
                was.number(),
                (Sector(start), Sectors(len)),
            ),
        })
    }

    fn below<E: Into<OpenError>>(
        &self,
        backing: Result<Arc<Backing>, E>,
    ) -> Result<OpenDevice, OpenError> {
        let backing = backing.map_err(Into::into)?;
        Ok(OpenDevice {
            number: backing.number(),
            path: backing.path().to_path_buf(),
            name: backing.name().to_owned(),
            direct: backing.is_direct(),
            dev: backing,
            mapped: None,
            part: None,
        })
    }
}

/// The stretch `part` of a mapped device that the loop device at `path` shows.
fn part_of(
    whole: Arc<OpenDevice>,
    path: PathBuf,
    number: DeviceNumber,
    part: (Sector, Sectors),
) -> OpenDevice {
    OpenDevice {
        number,
        path,
        name: format!("loop{}", number.minor),
        mapped: whole.mapped,
        part: Some(part),
        direct: false,
        dev: Arc::new(Window(DevRef::new(whole, part.0, part.1))),
    }
}

fn refuse(errno: Errno, reason: &str) -> OpenError {
    OpenError {
        errno,
        reason: reason.to_owned(),
    }
}

impl DeviceOpener for Resolver {
    fn open(&self, spec: &str, access: Access) -> Result<Arc<OpenDevice>, OpenError> {
        if let Some(device) = self.opened.borrow().by_spec.get(spec) {
            return Ok(device.clone());
        }
        let device = self.resolve(spec, access)?;
        let mut opened = self.opened.borrow_mut();
        let device = opened
            .by_number
            .entry(device.number)
            .or_insert_with(|| Arc::new(device))
            .clone();
        // A memory device without a name is a new one each time.
        if !spec.starts_with(MEMORY_PREFIX) {
            opened.by_spec.insert(spec.to_owned(), device.clone());
        }
        Ok(device)
    }
}

/// `major:minor`, two plain numbers.
pub(in crate::control) fn parse_number(spec: &str) -> Option<DeviceNumber> {
    let (major, minor) = spec.split_once(':')?;
    let digits = |text: &str| {
        text.bytes()
            .all(|byte| byte.is_ascii_digit())
            .then(|| text.parse().ok())
            .flatten()
    };
    Some(DeviceNumber {
        major: digits(major)?,
        minor: digits(minor)?,
    })
}

/// A mapped device that a table holds open.
struct Held {
    device: Arc<Device>,
    registry: Arc<Registry>,
}

impl Held {
    fn open(device: Arc<Device>, registry: Arc<Registry>) -> Result<Held, OpenError> {
        registry.hold(&device).map_err(|errno| match errno {
            Errno::BUSY => refuse(errno, "it is mounted, or somebody else has claimed it"),
            errno => refuse(errno, "it is being removed"),
        })?;
        Ok(Held { device, registry })
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.registry.unhold(&self.device);
    }
}

impl BlockDev for Held {
    fn capacity(&self) -> Sectors {
        self.device.capacity()
    }

    fn limits(&self) -> Limits {
        self.device.limits()
    }

    #[inline]
    fn submit(&self, request: Request<'_>) -> IoResult {
        self.device.submit(request)
    }

    fn plan(self: Arc<Self>, part: Part, plan: &mut Plan) -> Result<(), Unplanned> {
        self.device.clone().plan(part, plan)
    }

    fn trace(&self, trail: &mut Trail<'_>) -> bool {
        self.device.trace(trail)
    }

    fn extent_at(&self, at: Sector) -> Extent {
        self.device.extent_at(at)
    }
}

/// A stretch of a device as a device of its own.
struct Window(DevRef);

impl BlockDev for Window {
    fn capacity(&self) -> Sectors {
        self.0.len()
    }

    fn limits(&self) -> Limits {
        self.0.limits()
    }

    fn submit(&self, request: Request<'_>) -> IoResult {
        self.0.submit(request)
    }

    fn plan(self: Arc<Self>, part: Part, plan: &mut Plan) -> Result<(), Unplanned> {
        self.0.plan(part, plan)
    }

    fn trace(&self, trail: &mut Trail<'_>) -> bool {
        let mut shown = Stretches::default();
        shown.push(self.0.len(), &self.0.device().dev, self.0.start());
        trail.pass_freely(shown)
    }

    fn extent_at(&self, at: Sector) -> Extent {
        self.0.extent_at(at)
    }
}

#[cfg(test)]
mod tests {
    use super::parse_number;
    use crate::io::DeviceNumber;

    #[test]
    fn only_two_plain_numbers_are_a_device_number() {
        assert_eq!(
            parse_number("253:7"),
            Some(DeviceNumber {
                major: 253,
                minor: 7
            })
        );
        for path in [
            "253",
            "253:",
            ":7",
            "25x:7",
            "+1:2",
            "1:2:3",
            "4294967296:0",
            "mem:64",
        ] {
            assert_eq!(parse_number(path), None, "{path}");
        }
    }
}
