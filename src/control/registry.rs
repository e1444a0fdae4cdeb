//! The owner of all devices of a mount: names, uuids and numbers are unique here, and tables are loaded,
//! devices renamed and removed by the kernel's rules (dm-ioctl.c).
//!
//! Its lock is held for moments only, never while a table is built, requests drain or somebody is told of a
//! change. Tables are dropped outside of it, because a table that goes closes the devices it held.

mod names;
mod surroundings;
mod tables;

use std::collections::BTreeMap;
use std::time::Duration;

use super::Refusal;
use super::state::{AttachedRecord, DeviceRecord};
use crate::backing::BackingStore;
use crate::device::{Above, CachePolicy, Change, Device, Directory, Events, Identity, Removal};
use crate::io::{DeviceNumber, Errno};
use crate::sync::{Arc, Mutex, OnceLock, RwLock, Weak};
use crate::target::{EventSink, TargetKind};

pub(super) use names::check_name;
pub use surroundings::Surroundings;
pub(super) use tables::MAX_STACK_DEPTH;

/// Minor numbers are 20 bits wide, as the kernel's.
const MAX_MINOR: u32 = (1 << 20) - 1;
/// How often a number is tried that other processes then take.
const N_TRIES: u32 = 16;
/// The first permanent number: 1 is the mount's own folder.
const FIRST_ID: u64 = 2;

/// All devices of a mount.
pub struct Registry {
    kinds: &'static [&'static TargetKind],
    major: u32,
    store: BackingStore,
    devices: RwLock<Devices>,
    /// Serialises "is it a cycle?" with putting a table into its slot.
    loads: Mutex<()>,
    /// Serialises taking a number of the machine's with having it.
    numbering: Mutex<()>,
    any_event: Arc<Events>,
    surroundings: OnceLock<Arc<dyn Surroundings>>,
    mount: OnceLock<MountIdentity>,
    /// Of devices that are made from now on.
    default_cache: OnceLock<CachePolicy>,
    /// Itself, for its devices.
    me: Weak<Registry>,
}

/// How the mount is recognised in a device argument.
#[derive(Clone, Debug)]
pub struct MountIdentity {
    /// The mount point, canonical.
    pub path: std::path::PathBuf,
    /// The file system's device number, as stat shows it for every file in the mount.
    pub st_dev: u64,
}

#[derive(Default)]
struct Devices {
    by_id: BTreeMap<u64, Arc<Device>>,
    by_name: BTreeMap<String, Arc<Device>>,
    by_uuid: BTreeMap<String, Arc<Device>>,
    by_minor: BTreeMap<u32, Arc<Device>>,
    last_id: u64,
    /// No free minor number is below this one.
    free_minor: u32,
}

impl Registry {
    /// A registry without devices, whose devices have the major number `major`.
    pub fn new(
        kinds: &'static [&'static TargetKind],
        major: u32,
        store: BackingStore,
    ) -> Arc<Registry> {
        Arc::new_cyclic(|me| Registry {
            kinds,
            major,
            store,
            devices: RwLock::new(Devices {
                last_id: FIRST_ID - 1,
                ..Devices::default()
            }),
            loads: Mutex::new(()),
            numbering: Mutex::new(()),
            any_event: Arc::new(Events::default()),
            surroundings: OnceLock::new(),
            mount: OnceLock::new(),
            default_cache: OnceLock::new(),
            me: me.clone(),
        })
    }

    /// The kinds of targets that tables may name.
    pub fn kinds(&self) -> &'static [&'static TargetKind] {
        self.kinds
    }

    /// The major number of mapped devices.
    pub fn major(&self) -> u32 {
        self.major
    }

    /// Files and block devices below.
    pub fn store(&self) -> &BackingStore {
        &self.store
    }

    /// Counts the events of all devices.
    pub fn any_event(&self) -> &Arc<Events> {
        &self.any_event
    }

    /// Says what has to keep up with the registry. The first answer stays.
    pub fn set_surroundings(&self, surroundings: Arc<dyn Surroundings>) {
        if self.surroundings.set(surroundings).is_err() {
            log::error!("the registry has its surroundings already");
        }
    }

    /// Says where the devices are shown. The first answer stays.
    pub fn set_mount(&self, mount: MountIdentity) {
        if self.mount.set(mount).is_err() {
            log::error!("the registry is mounted already");
        }
    }

    /// Where the devices are shown, once they are.
    pub fn mount(&self) -> Option<&MountIdentity> {
        self.mount.get()
    }

    /// The cache policy of devices that are made from now on. The first answer stays.
    pub fn set_default_cache(&self, policy: CachePolicy) {
        if self.default_cache.set(policy).is_err() {
            log::error!("the registry has a cache policy already");
        }
    }

    /// Sets a device's cache policy.
    ///
    /// # Errors
    /// EOPNOTSUPP where the mount cannot have it, with the reason.
    pub fn set_cache(&self, device: &Device, policy: CachePolicy) -> Result<(), Refusal> {
        if let Some(surroundings) = self.surroundings.get() {
            surroundings.offers(policy).map_err(|why| {
                let text = format!("cache policy {policy}: {why}");
                Refusal::message(Errno::OPNOTSUPP, text)
            })?;
        }
        if device.cache_policy() != policy {
            device.set_cache_policy(policy);
            self.note(device);
            // What was cached by the old policy may not be what the new one would have.
            self.tell(&Change::Changed { id: device.id() });
        }
        Ok(())
    }

    fn tell(&self, change: &Change) {
        if let Some(surroundings) = self.surroundings.get() {
            surroundings.changed(change);
        }
    }

    /// Has it noted what `device` is like now. To be called after each change of it.
    pub fn note(&self, device: &Device) {
        if let Some(surroundings) = self.surroundings.get() {
            surroundings.note(device);
        }
    }

    /// Has it noted which loop devices are attached now.
    pub fn note_loops(&self, loops: Vec<AttachedRecord>) {
        if let Some(surroundings) = self.surroundings.get() {
            surroundings.note_loops(loops);
        }
    }

    /// Waits until openers of the device that have gone are counted as gone.
    pub fn settle(&self, device: &Device) {
        if device.openers().count().0 > 0
            && let Some(surroundings) = self.surroundings.get()
        {
            surroundings.settle();
        }
    }

    /// The device with this uuid.
    pub fn by_uuid(&self, uuid: &str) -> Option<Arc<Device>> {
        self.devices.read().by_uuid.get(uuid).cloned()
    }

    /// The device with this number.
    pub fn by_number(&self, number: DeviceNumber) -> Option<Arc<Device>> {
        if number.major != self.major {
            return None;
        }
        self.devices.read().by_minor.get(&number.minor).cloned()
    }

    /// Makes a device without a table, with the minor number `minor` or else the first free one.
    ///
    /// # Errors
    /// EINVAL for a name that cannot be a file's; EBUSY where name or uuid is taken, ENXIO where the number is.
    pub fn create(&self, identity: Identity, minor: Option<u32>) -> Result<Arc<Device>, Refusal> {
        check_name(&identity.name)?;
        let _numbering = self.numbering.lock();
        let mut tries = 0;
        loop {
            tries += 1;
            match self.try_create(&identity, minor) {
                Err(refusal) if refusal.errno == Errno::AGAIN && tries < N_TRIES => {}
                created => return created,
            }
        }
    }

    /// EAGAIN where another number has to be tried.
    fn try_create(&self, identity: &Identity, minor: Option<u32>) -> Result<Arc<Device>, Refusal> {
        let reserved = match self.surroundings.get() {
            Some(surroundings) => surroundings.reserve(minor)?,
            None => None,
        };
        let minor = reserved.as_ref().map(|own| own.number().minor).or(minor);
        let device = {
            let mut devices = self.devices.write();
            // The number comes first, as in the kernel's dev_create().
            let minor = devices.claim_minor(minor)?;
            if devices.by_name.contains_key(&identity.name) {
                return Err(Refusal::of(
                    Errno::BUSY,
                    "a name that is not in use",
                    &identity.name,
                ));
            }
            if devices.by_uuid.contains_key(&identity.uuid) {
                return Err(Refusal::of(
                    Errno::BUSY,
                    "a uuid that is not in use",
                    &identity.uuid,
                ));
            }
            devices.last_id += 1;
            let number = DeviceNumber {
                major: self.major,
                minor,
            };
            let events = Arc::new(Events::under(self.any_event.clone()));
            let device = Arc::new(Device::new(
                devices.last_id,
                number,
                identity.clone(),
                events,
            ));
            device.set_above(self.me.clone());
            device.set_cache_policy(self.default_cache.get().copied().unwrap_or_default());
            devices.insert(&device, identity);
            device
        };
        self.tell(&Change::Added {
            id: device.id(),
            name: identity.name.clone(),
        });
        if let (Some(reserved), Some(surroundings)) = (reserved, self.surroundings.get()) {
            surroundings
                .appear(&device, reserved)
                .inspect_err(|_| self.finish_removal(&device))?;
        }
        self.note(&device);
        Ok(device)
    }

    /// Makes a device that an earlier daemon of the mount had, with its numbers and without tables.
    ///
    /// # Errors
    /// EBUSY where another device has one of its names or numbers.
    pub(super) fn readmit(&self, record: &DeviceRecord) -> Result<Arc<Device>, Refusal> {
        let mut devices = self.devices.write();
        let identity = Identity {
            name: record.name.clone(),
            uuid: record.uuid.clone(),
        };
        let taken = devices.by_id.contains_key(&record.id)
            || devices.by_name.contains_key(&record.name)
            || devices.by_uuid.contains_key(&record.uuid)
            || devices.by_minor.contains_key(&record.minor);
        if taken {
            return Err(Refusal::of(
                Errno::BUSY,
                "a device that is there once",
                &record.name,
            ));
        }
        let number = DeviceNumber {
            major: self.major,
            minor: record.minor,
        };
        let events = Arc::new(Events::under(self.any_event.clone()));
        let device = Arc::new(Device::new(record.id, number, identity.clone(), events));
        if let Ok(policy) = record.cache.parse() {
            device.set_cache_policy(policy);
        }
        devices.insert(&device, &identity);
        Ok(device)
    }

    /// Goes on numbering after `last_id` and counting events from `events`.
    pub(super) fn go_on_from(&self, last_id: u64, events: u32) {
        let mut devices = self.devices.write();
        devices.last_id = devices.last_id.max(last_id);
        drop(devices);
        self.any_event.restore(events);
    }

    /// The largest permanent number that a device of this mount has had.
    pub fn last_id(&self) -> u64 {
        self.devices.read().last_id
    }

    /// Gives a close that is on its way some time, while the device `is_held`: whoever closed has gone on, and the
    /// thread that was told of it may not have come to it yet.
    fn await_closes(&self, device: &Device, is_held: impl Fn() -> bool) {
        const PAUSES: [u64; 9] = [0, 1, 1, 2, 2, 4, 8, 16, 16];
        for pause in PAUSES {
            if !is_held() {
                return;
            }
            std::thread::sleep(Duration::from_millis(pause));
            self.settle(device);
        }
    }

    /// Removes a device; true where that waits for its last close.
    ///
    /// # Errors
    /// EBUSY where somebody holds it open and `deferred` is not set.
    pub fn remove(&self, device: &Arc<Device>, deferred: bool) -> Result<bool, Refusal> {
        if device.openers().count().0 > 0
            && let Some(surroundings) = self.surroundings.get()
        {
            surroundings.let_go(device);
            self.await_closes(device, || device.openers().count().0 > 0);
        }
        match device.openers().remove(deferred) {
            Removal::Go => {
                self.finish_removal(device);
                Ok(false)
            }
            Removal::Deferred => {
                self.note(device);
                self.leave(device, false);
                Ok(true)
            }
            Removal::Busy => Err(Refusal::message(
                Errno::BUSY,
                format!("ioctl: unable to remove open device {}", device.name()),
            )),
        }
    }

    /// The device is to be removed when its last user lets go of it, or not any more where `not` is set.
    pub fn leave(&self, device: &Device, not: bool) {
        if let Some(surroundings) = self.surroundings.get() {
            surroundings.leave(device, not);
        }
    }

    /// How many have the device open; `look`: whatever it takes to know.
    pub fn open_count(&self, device: &Device, counted: u32, look: bool) -> u32 {
        match self.surroundings.get() {
            Some(surroundings) => surroundings.open_count(device, counted, look),
            None => counted,
        }
    }

    /// A table lies on the device from now on.
    ///
    /// # Errors
    /// EBUSY where somebody has the device for himself, ENXIO where it is being removed.
    pub fn hold(&self, device: &Device) -> Result<(), Errno> {
        device.openers().open()?;
        let held = self
            .surroundings
            .get()
            .map_or(Ok(()), |surroundings| surroundings.hold(device));
        if held.is_err() && device.openers().close() {
            self.remove_closed(device);
        }
        held
    }

    /// A table that lay on the device is gone.
    pub fn unhold(&self, device: &Device) {
        if let Some(surroundings) = self.surroundings.get() {
            surroundings.unhold(device);
        }
        if device.openers().close() {
            self.remove_closed(device);
        }
    }

    /// Takes a device that nobody can open any more out of the registry, and ends it.
    fn finish_removal(&self, device: &Arc<Device>) {
        let identity = device.identity();
        self.devices.write().take(device, &identity);
        device.shut_down();
        device.events().raise();
        self.tell(&Change::Removed {
            id: device.id(),
            name: identity.name,
        });
    }

    /// Removes every device that nobody holds open, again and again while that frees others; with `deferred` the
    /// rest at their last close. Gives the number of devices that stay.
    pub fn remove_all(&self, deferred: bool) -> usize {
        loop {
            let before = self.list();
            let removed = before
                .iter()
                .filter(|device| matches!(self.remove(device, deferred), Ok(false)));
            if removed.count() == 0 {
                return self.list().len();
            }
        }
    }

    /// Ends every device, whoever holds it open: waiting requests fail, what was written is flushed. For the end
    /// of the mount.
    pub fn shut_down(&self) {
        self.remove_all(false);
        for device in self.list() {
            device.shut_down();
            device.events().raise();
        }
    }
}

impl Above for Registry {
    /// A device over one that is suspended keeps what is cached: sending it would wait for that one to be resumed.
    fn write_back(&self, device: &Device) {
        if let Some(surroundings) = self.surroundings.get()
            && !self.lies_on_suspended(device)
        {
            surroundings.write_back(device);
        }
    }
}

impl Devices {
    fn claim_minor(&mut self, wanted: Option<u32>) -> Result<u32, Refusal> {
        if let Some(minor) = wanted {
            if minor > MAX_MINOR {
                return Err(Refusal::of(
                    Errno::INVAL,
                    &format!("a minor number of at most {MAX_MINOR}"),
                    &minor.to_string(),
                ));
            }
            if self.by_minor.contains_key(&minor) {
                // The kernel's dm_create() has this for every minor number that cannot be had.
                return Err(Refusal::of(
                    Errno::NXIO,
                    "a minor number that is not in use",
                    &minor.to_string(),
                ));
            }
            return Ok(minor);
        }
        while self.by_minor.contains_key(&self.free_minor) {
            self.free_minor += 1;
        }
        if self.free_minor > MAX_MINOR {
            return Err(Refusal::message(
                Errno::NXIO,
                "core: no free minor number".into(),
            ));
        }
        Ok(self.free_minor)
    }

    fn insert(&mut self, device: &Arc<Device>, identity: &Identity) {
        self.by_id.insert(device.id(), device.clone());
        self.by_name.insert(identity.name.clone(), device.clone());
        if !identity.uuid.is_empty() {
            self.by_uuid.insert(identity.uuid.clone(), device.clone());
        }
        self.by_minor.insert(device.number().minor, device.clone());
    }

    fn take(&mut self, device: &Device, identity: &Identity) {
        self.by_id.remove(&device.id());
        self.by_name.remove(&identity.name);
        self.by_uuid.remove(&identity.uuid);
        self.by_minor.remove(&device.number().minor);
        self.free_minor = self.free_minor.min(device.number().minor);
    }
}

impl Directory for Registry {
    fn by_name(&self, name: &str) -> Option<Arc<Device>> {
        self.devices.read().by_name.get(name).cloned()
    }

    fn by_id(&self, id: u64) -> Option<Arc<Device>> {
        self.devices.read().by_id.get(&id).cloned()
    }

    fn list(&self) -> Vec<Arc<Device>> {
        self.devices.read().by_name.values().cloned().collect()
    }

    fn remove_closed(&self, device: &Device) {
        if let Some(device) = self.by_id(device.id()) {
            self.finish_removal(&device);
        }
    }
}

#[cfg(test)]
mod tests;
