//! A mount whose devices are block devices: each has a loop device over its file from its creation to its removal,
//! and is called by that one's number.
//!
//! The kernel counts who has a loop device open and tells nobody, so we look for them; whether it can go, the kernel
//! decides. A device that a table lies on is claimed, as the kernel's device mapper claims it.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use super::loops::{make_link, refuse, remove_link, self_serving};
use super::{Refusal, Registry, openers};
use crate::backing::loop_device::{
    self, AttachOptions, Detached, Reserved, Shown, adapt, attach_to, detach_unless_open, reserve,
    stay,
};
use crate::device::{Change, Device, Directory};
use crate::io::{BlockDev, Errno, Limits};
use crate::sync::{Arc, Mutex};

/// What the kernel reads ahead of a device at least, KiB (VM_READAHEAD_PAGES).
const LEAST_READ_AHEAD_KIB: u32 = 128;

/// The loop devices of all devices of a mount.
pub struct Nodes {
    registry: Arc<Registry>,
    /// Not held while the kernel is asked for anything.
    shown: Mutex<HashMap<u64, Node>>,
}

#[derive(Debug, Default)]
struct Node {
    /// The loop device.
    path: PathBuf,
    /// `/dev/mapper/NAME`; from the first table on.
    link: Option<PathBuf>,
    /// Tables that lie on it.
    holds: u32,
    /// Claims it for them.
    claim: Option<File>,
}

impl Nodes {
    /// None yet, of devices of `registry`.
    pub fn new(registry: Arc<Registry>) -> Nodes {
        Nodes {
            registry,
            shown: Mutex::default(),
        }
    }

    /// Takes a free loop device for a device that is to be made.
    ///
    /// # Errors
    /// ENXIO where `wanted` is not free, as the kernel's dm_create(); else what loop devices meet.
    pub fn reserve(&self, wanted: Option<u32>) -> Result<Reserved, Refusal> {
        reserve(wanted).map_err(|error| match (wanted, error.errno) {
            (Some(minor), Errno::BUSY | Errno::EXIST) => Refusal::of(
                Errno::NXIO,
                "a minor number that is not in use",
                &minor.to_string(),
            ),
            _ => refuse(error),
        })
    }

    /// Attaches a new device's loop device.
    ///
    /// # Errors
    /// EAGAIN where another process was faster to take it, or took it away; the loop driver's.
    pub fn appear(&self, device: &Device, reserved: Reserved) -> Result<(), Refusal> {
        let path = self.attach(device, reserved)?;
        let node = Node {
            path,
            ..Node::default()
        };
        self.shown.lock().insert(device.id(), node);
        Ok(())
    }

    fn attach(&self, device: &Device, reserved: Reserved) -> Result<PathBuf, Refusal> {
        let mount = self.registry.mount();
        let mount = mount.ok_or_else(|| Refusal::errno(Errno::NODEV))?;
        let file = mount.path.join(device.name());
        let options = AttachOptions {
            read_only: false,
            direct: true,
            autoclear: false,
            block_size: device.limits().logical_block_size,
        };
        // Who asks about our files has no descriptors of ours: what holds it free is let go of before.
        let path = reserved.release();
        let attached = self_serving(move || attach_to(&path, &file, &options).map(|()| path));
        attached.map_err(|error| match error.errno {
            Errno::BUSY | Errno::NXIO | Errno::NODEV | Errno::NOENT => Refusal::errno(Errno::AGAIN),
            _ => refuse(error),
        })
    }

    fn path(&self, id: u64) -> Option<PathBuf> {
        self.shown.lock().get(&id).map(|node| node.path.clone())
    }

    /// Keeps up with a change.
    pub fn follow(&self, change: &Change) {
        match change {
            Change::Added { .. } => {}
            Change::Removed { id, .. } => {
                let node = self.shown.lock().remove(id);
                if let Some(node) = node {
                    remove_link_of(&node);
                    loop_device::forget(&node.path);
                }
            }
            Change::Renamed { id, to, .. } => self.link(*id, to, true),
            Change::Changed { id } => {
                let Some(device) = self.registry.by_id(*id) else {
                    return;
                };
                if let Some(path) = self.path(*id) {
                    let shown = shown(device.limits(), device.is_read_only());
                    if let Err(error) = self_serving(move || adapt(&path, shown)) {
                        log::warn!("{}: {}", device.name(), error.message);
                    }
                }
                self.link(*id, &device.name(), false);
            }
        }
    }

    /// Makes the link `/dev/mapper/NAME`; where there is one already, only to follow a new name.
    fn link(&self, id: u64, name: &str, again: bool) {
        let mut shown = self.shown.lock();
        let Some(node) = shown
            .get_mut(&id)
            .filter(|node| node.link.is_some() == again)
        else {
            return;
        };
        remove_link_of(node);
        node.link = make_link(name, &node.path)
            .inspect_err(|refusal| log::warn!("{refusal}"))
            .ok();
    }

    /// Frees the loop device of a device that is to be removed, unless somebody has it open.
    pub fn let_go(&self, device: &Device) {
        if self.holds(device.id()) > 0 || self.users(device.id()) > 0 {
            return;
        }
        if let Some(path) = self.path(device.id())
            && let Err(error) = self_serving(move || detach_unless_open(&path))
        {
            log::debug!("{}: {}", device.name(), error.message);
        }
    }

    /// Has the loop device go when its last user does.
    pub fn leave(&self, device: &Device) {
        if let Some(path) = self.path(device.id())
            && let Err(error) = self_serving(move || loop_device::detach(&path))
        {
            log::debug!("{}: {}", device.name(), error.message);
        }
    }

    /// Takes [`Nodes::leave`] and [`Nodes::let_go`] back.
    pub fn stay(&self, device: &Device) {
        let Some(path) = self.path(device.id()) else {
            return;
        };
        if matches!(self_serving(move || stay(&path)), Ok(false)) {
            return;
        }
        let minor = device.number().minor;
        let attached = self
            .reserve(Some(minor))
            .and_then(|reserved| self.attach(device, reserved));
        match attached {
            Ok(_) => self.follow(&Change::Changed { id: device.id() }),
            Err(refusal) => log::error!("{} has lost its loop device: {refusal}", device.name()),
        }
    }

    /// A table lies on the device.
    ///
    /// # Errors
    /// EBUSY where somebody else has claimed it: it is mounted, say.
    pub fn hold(&self, device: &Device) -> Result<(), Errno> {
        let path = {
            let mut shown = self.shown.lock();
            let Some(node) = shown.get_mut(&device.id()) else {
                return Ok(());
            };
            node.holds += 1;
            if node.holds > 1 {
                return Ok(());
            }
            node.path.clone()
        };
        let claimed = claim(&path);
        let mut shown = self.shown.lock();
        let Some(node) = shown.get_mut(&device.id()) else {
            return Ok(());
        };
        match claimed {
            Ok(claimed) => node.claim = Some(claimed),
            Err(Errno::BUSY) => {
                node.holds -= 1;
                return Err(Errno::BUSY);
            }
            Err(errno) => log::debug!("{}: {errno}", path.display()),
        }
        Ok(())
    }

    /// A table that lay on the device is gone.
    pub fn unhold(&self, device: &Device) {
        let mut shown = self.shown.lock();
        let claim = shown.get_mut(&device.id()).and_then(|node| {
            node.holds = node.holds.saturating_sub(1);
            node.claim.take_if(|_| node.holds == 0)
        });
        // What is closed last is written back first.
        drop(shown);
        drop(claim);
    }

    fn holds(&self, id: u64) -> u32 {
        self.shown.lock().get(&id).map_or(0, |node| node.holds)
    }

    /// How many use the device, of whom `counted` are its file's openers and tables; `look`: also those of the loop
    /// device, which takes a look at every process.
    pub fn open_count(&self, device: &Device, counted: u32, look: bool) -> u32 {
        let Some(path) = self.path(device.id()) else {
            return counted;
        };
        let attached = u32::from(loop_device::is_attached(&path));
        let users = if look { self.users(device.id()) } else { 0 };
        counted.saturating_sub(attached).saturating_add(users)
    }

    /// How many have the loop device open, beside ourselves.
    fn users(&self, id: u64) -> u32 {
        let Some(path) = self.path(id) else {
            return 0;
        };
        let is_claimed_by_us = self.holds(id) > 0;
        let Some(number) = loop_device::number_of(&path) else {
            return 0;
        };
        match openers::count(number) {
            0 if !is_claimed_by_us => u32::from(matches!(claim(&path), Err(Errno::BUSY))),
            open => open,
        }
    }

    /// The loop devices that somebody uses.
    pub fn in_use(&self) -> Vec<PathBuf> {
        let ids: Vec<u64> = self.shown.lock().keys().copied().collect();
        let used = ids.into_iter().filter(|id| self.users(*id) > 0);
        used.filter_map(|id| self.path(id)).collect()
    }

    /// Frees every loop device; one in use goes when its last user does.
    pub fn release_all(&self) {
        let nodes: Vec<Node> = self.shown.lock().drain().map(|(_, node)| node).collect();
        for mut node in nodes {
            drop(node.claim.take());
            remove_link_of(&node);
            let path = node.path.clone();
            match self_serving(move || loop_device::detach(&path)) {
                Ok(Detached::Now) => loop_device::forget(&node.path),
                Ok(Detached::WhenClosed) => {
                    log::info!("{} goes when its last user does", node.path.display());
                }
                Err(error) if error.errno == Errno::NXIO => {}
                Err(error) => log::warn!("{}", error.message),
            }
        }
    }

    /// Sends what was written to the loop device and is cached to the device.
    pub fn write_back(&self, device: &Device) {
        let Some(path) = self.path(device.id()) else {
            return;
        };
        let sync = move || {
            File::open(&path)
                .and_then(|node| node.sync_data())
                .map_err(|error| log::debug!("{}: {error}", path.display()))
                .ok();
            Ok(())
        };
        let _ = self_serving(sync);
    }
}

fn shown(limits: Limits, read_only: bool) -> Shown {
    Shown {
        block_size: limits.logical_block_size,
        read_only,
        read_ahead_kib: (limits.io_opt.saturating_mul(2) / 1024).max(LEAST_READ_AHEAD_KIB),
    }
}

fn remove_link_of(node: &Node) {
    if let Some(link) = &node.link {
        remove_link(link, &node.path);
    }
}

fn claim(device: &Path) -> Result<File, Errno> {
    let mut options = OpenOptions::new();
    options.read(true);
    options.custom_flags(OFlags::EXCL.bits().cast_signed());
    options
        .open(device)
        .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))
}

#[cfg(test)]
mod tests {
    use super::{LEAST_READ_AHEAD_KIB, shown};
    use crate::io::Limits;

    #[test]
    fn reading_ahead_covers_two_stripes() {
        let mut limits = Limits::default();
        assert_eq!(shown(limits, true).read_ahead_kib, LEAST_READ_AHEAD_KIB);
        limits.io_opt = 256 << 10;
        assert_eq!(shown(limits, false).read_ahead_kib, 512);
    }
}
