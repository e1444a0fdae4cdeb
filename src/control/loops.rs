//! Loop devices over device files: attached on request, detached at the latest with the device or the mount.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

use super::state::AttachedRecord;
use super::{Refusal, Registry};
use crate::backing::BackingError;
use crate::backing::loop_device::{self, AttachOptions, Detached};
use crate::device::{Change, Device, Directory};
use crate::io::{BlockDev, Errno, aside};
use crate::sync::{Arc, Mutex, OnceLock};

/// Where a link to an attached loop device is made.
const LINK_FOLDER: &str = "/dev/mapper";

/// The loop devices of a mount.
pub struct Loops {
    registry: Arc<Registry>,
    attached: Mutex<Vec<Attached>>,
    before_attach: OnceLock<Box<dyn Fn() + Send + Sync>>,
}

/// A loop device over a device's file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attached {
    id: u64,
    /// The loop device.
    pub device: PathBuf,
    /// The link to it, where one was asked for.
    pub link: Option<PathBuf>,
}

impl Loops {
    /// No loop devices yet, over devices of `registry`.
    pub fn new(registry: Arc<Registry>) -> Loops {
        Loops {
            registry,
            attached: Mutex::new(Vec::new()),
            before_attach: OnceLock::new(),
        }
    }

    /// Goes on with the loop devices of an earlier daemon of the mount.
    pub fn restore(&self, records: &[AttachedRecord]) {
        let restored = records.iter().map(|record| Attached {
            id: record.id,
            device: record.device.clone().into(),
            link: record.link.clone().map(PathBuf::from),
        });
        self.attached.lock().extend(restored);
    }

    fn note(&self, attached: &[Attached]) {
        let record = |attached: &Attached| AttachedRecord {
            id: attached.id,
            device: attached.device.clone().into(),
            link: attached.link.clone().map(PathBuf::into_os_string),
        };
        self.registry
            .note_loops(attached.iter().map(record).collect());
    }

    /// What is done before a loop device is attached: the kernel writes back through us from then on.
    pub fn before_attach(&self, prepare: impl Fn() + Send + Sync + 'static) {
        let _ = self.before_attach.set(Box::new(prepare));
    }

    /// Attaches a loop device with direct I/O and the device's own block size.
    ///
    /// # Errors
    /// EBUSY where the device has one; EPERM or EACCES without the right; else the loop driver's errno.
    pub fn attach(
        &self,
        device: &Device,
        link: bool,
        read_only: bool,
    ) -> Result<Attached, Refusal> {
        let mut attached = self.attached.lock();
        if let Some(there) = attached.iter().find(|attached| attached.id == device.id()) {
            let path = there.device.display().to_string();
            return Err(Refusal::of(
                Errno::BUSY,
                "a device that is not attached yet",
                &path,
            ));
        }
        let Some(mount) = self.registry.mount() else {
            return Err(Refusal::errno(Errno::NODEV));
        };
        let options = AttachOptions {
            read_only: read_only || device.is_read_only(),
            direct: true,
            autoclear: false,
            block_size: device.limits().logical_block_size,
        };
        if let Some(prepare) = self.before_attach.get() {
            prepare();
        }
        let file = mount.path.join(device.name());
        // What the kernel does with a loop device asks us about our file.
        let path = self_serving(move || {
            loop_device::attach(&file, &options).map(|attached| attached.path().to_path_buf())
        })
        .map_err(refuse)?;
        let link = match link {
            true => match make_link(&device.name(), &path) {
                Ok(link) => Some(link),
                Err(refusal) => {
                    self.let_go(&path);
                    return Err(refusal);
                }
            },
            false => None,
        };
        let new = Attached {
            id: device.id(),
            device: path,
            link,
        };
        attached.push(new.clone());
        self.note(&attached);
        Ok(new)
    }

    /// Detaches the device's loop device.
    ///
    /// # Errors
    /// ENXIO where it has none, EBUSY where that is in use.
    pub fn detach(&self, device: &Device) -> Result<(), Refusal> {
        let mut attached = self.attached.lock();
        let Some(index) = attached
            .iter()
            .position(|attached| attached.id == device.id())
        else {
            return Err(Refusal::of(
                Errno::NXIO,
                "a device that is attached",
                &device.name(),
            ));
        };
        if is_claimed(&attached[index].device) {
            let path = attached[index].device.display().to_string();
            return Err(Refusal::of(
                Errno::BUSY,
                "a loop device that is not in use",
                &path,
            ));
        }
        detach(&attached[index].device).map_err(refuse)?;
        attached.swap_remove(index).remove_link();
        self.note(&attached);
        Ok(())
    }

    /// Detaches the device's loop device if it has one that nobody uses, so that it does not keep the device open.
    pub fn release(&self, device: &Device) {
        if let Err(refusal) = self.detach(device)
            && refusal.errno != Errno::NXIO
        {
            log::debug!("{}: {refusal}", device.name());
        }
    }

    /// Detaches every loop device that nobody uses.
    pub fn release_unused(&self) {
        let ids: Vec<u64> = self
            .attached
            .lock()
            .iter()
            .map(|attached| attached.id)
            .collect();
        for device in ids.into_iter().filter_map(|id| self.registry.by_id(id)) {
            self.release(&device);
        }
    }

    /// Keeps up with a change: the loop device of a device that has another table gets its length, a link the
    /// new name.
    pub fn follow(&self, change: &Change) {
        let mut attached = self.attached.lock();
        let (Change::Changed { id } | Change::Renamed { id, .. }) = change else {
            return;
        };
        let Some(found) = attached.iter_mut().find(|attached| attached.id == *id) else {
            return;
        };
        match change {
            Change::Renamed { to, .. } if found.link.is_some() => {
                found.remove_link();
                found.link = make_link(to, &found.device)
                    .inspect_err(|refusal| log::warn!("{refusal}"))
                    .ok();
            }
            Change::Changed { .. } => {
                let path = found.device.clone();
                if let Err(error) = self_serving(move || loop_device::set_capacity(&path)) {
                    log::warn!("cannot resize {}: {error}", found.device.display());
                }
            }
            Change::Renamed { .. } | Change::Added { .. } | Change::Removed { .. } => {}
        }
        self.note(&attached);
    }

    /// Detaches every loop device; one in use goes when its last user does.
    pub fn release_all(&self) {
        let mut attached = self.attached.lock();
        for attached in attached.drain(..) {
            self.let_go(&attached.device);
            attached.remove_link();
        }
        self.note(&attached);
    }

    fn let_go(&self, path: &Path) {
        match detach(path) {
            Ok(Detached::Now) => {}
            Ok(Detached::WhenClosed) => {
                log::info!("{} goes when its last user does", path.display())
            }
            Err(error) => log::warn!("cannot detach {}: {error}", path.display()),
        }
    }
}

impl Attached {
    fn remove_link(&self) {
        if let Some(link) = &self.link {
            remove_link(link, &self.device);
        }
    }
}

/// Does what the kernel answers through this process.
pub(super) fn self_serving<R: Send + 'static>(
    work: impl FnOnce() -> Result<R, BackingError> + Send + 'static,
) -> Result<R, BackingError> {
    aside(work).unwrap_or_else(|errno| {
        let message = format!("no thread for it: {errno}");
        Err(BackingError { errno, message })
    })
}

fn detach(path: &Path) -> Result<Detached, BackingError> {
    let path = path.to_owned();
    self_serving(move || loop_device::detach(&path))
}

pub(super) fn refuse(error: BackingError) -> Refusal {
    Refusal::message(error.errno, format!("loop: {}", error.message))
}

/// True where a file system is mounted on the device, or something else has claimed it for itself.
fn is_claimed(device: &Path) -> bool {
    let opened = rustix::fs::open(
        device,
        OFlags::RDONLY | OFlags::EXCL | OFlags::CLOEXEC,
        Mode::empty(),
    );
    matches!(opened, Err(Errno::BUSY))
}

pub(super) fn make_link(name: &str, device: &Path) -> Result<PathBuf, Refusal> {
    let link = Path::new(LINK_FOLDER).join(name);
    fs::create_dir_all(LINK_FOLDER)
        .and_then(|()| symlink(device, &link))
        .map_err(|error| {
            let errno = Errno::from_io_error(&error).unwrap_or(Errno::IO);
            Refusal::message(
                errno,
                format!("loop: cannot make the link {}: {error}", link.display()),
            )
        })?;
    Ok(link)
}

/// Removes `link` where it leads to `device`.
pub(super) fn remove_link(link: &Path, device: &Path) {
    // Somebody may have put something else there meanwhile.
    if fs::read_link(link).is_ok_and(|target| target == device)
        && let Err(error) = fs::remove_file(link)
    {
        log::warn!("cannot remove the link {}: {error}", link.display());
    }
}
