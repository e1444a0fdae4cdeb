//! The owner of all devices of a mount: names, uuids and numbers are unique here, and tables are loaded,
//! devices renamed and removed by the kernel's rules (dm-ioctl.c).
//!
//! Its lock is held for moments only, never while a table is built, requests drain or somebody is told of a
//! change. Tables are dropped outside of it, because a table that goes closes the devices it held.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use super::Refusal;
use super::state::{AttachedRecord, DeviceRecord};
use crate::backing::BackingStore;
use crate::backing::loop_device::Reserved;
use crate::device::{
    Above, CachePolicy, Change, Device, Directory, Events, Identity, Removal, ResumeError,
    SuspendOptions,
};
use crate::io::{DeviceNumber, Errno};
use crate::sync::{Arc, Mutex, OnceLock, RwLock, Weak};
use crate::table::Table;
use crate::target::{EventSink, TargetKind};

/// Minor numbers are 20 bits wide, as the kernel's.
const MAX_MINOR: u32 = (1 << 20) - 1;
/// The most devices stacked on one another: a request descends them by recursion.
pub(super) const MAX_STACK_DEPTH: usize = 128;
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

/// What lies around the registry and has to keep up with it: the mount and its loop devices.
pub trait Surroundings: Send + Sync {
    /// The set of devices has changed so. Called without any lock held.
    fn changed(&self, change: &Change);

    /// Waits until openers that have gone are counted as gone: the kernel tells of a close only after the process
    /// that closed has gone on.
    fn settle(&self);

    /// Lets go of a device that is to be removed, as far as nobody else uses what holds it.
    fn let_go(&self, device: &Device);

    /// Takes the number that a device which is to be made has on this machine; `None` where the registry counts by
    /// itself.
    ///
    /// # Errors
    /// Where there is none, or `wanted` is taken.
    fn reserve(&self, _wanted: Option<u32>) -> Result<Option<Reserved>, Refusal> {
        Ok(None)
    }

    /// Shows a device that was just made to the machine. It is not made where that fails.
    ///
    /// # Errors
    /// EAGAIN where it is to be tried with another number; what stands in the way.
    fn appear(&self, _device: &Device, _reserved: Reserved) -> Result<(), Refusal> {
        Ok(())
    }

    /// A table lies on the device from now on.
    ///
    /// # Errors
    /// EBUSY where somebody has the device for himself.
    fn hold(&self, _device: &Device) -> Result<(), Errno> {
        Ok(())
    }

    /// A table that lay on the device is gone.
    fn unhold(&self, _device: &Device) {}

    /// How many have the device open, `counted` of them its file or as tables; `look`: whatever it takes to know.
    fn open_count(&self, _device: &Device, counted: u32, _look: bool) -> u32 {
        counted
    }

    /// The device is to be removed when its last user lets go of it, or not any more where `not` is set.
    fn leave(&self, _device: &Device, _not: bool) {}

    /// Sends what was written to the device's file and is cached to the device, and forgets what was read.
    fn write_back(&self, device: &Device);

    /// Whether files can be opened with this policy.
    ///
    /// # Errors
    /// Why not.
    fn offers(&self, policy: CachePolicy) -> Result<(), String>;

    /// Notes what a device is like now, for a daemon that may have to go on where this one dies. What is not noted
    /// has not happened; no caller is answered before.
    fn note(&self, _device: &Device) {}

    /// Notes which loop devices are attached now, likewise.
    fn note_loops(&self, _loops: Vec<AttachedRecord>) {}
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

    /// Removes a device; true where that waits for its last close.
    ///
    /// # Errors
    /// EBUSY where somebody holds it open and `deferred` is not set.
    pub fn remove(&self, device: &Arc<Device>, deferred: bool) -> Result<bool, Refusal> {
        if device.openers().count().0 > 0
            && let Some(surroundings) = self.surroundings.get()
        {
            surroundings.let_go(device);
            self.settle(device);
            // The thread that was told of a close may not have come to it yet: some milliseconds are for it.
            for _ in 0..9 {
                if device.openers().count().0 > 0 {
                    std::thread::sleep(Duration::from_millis(1));
                    self.settle(device);
                }
            }
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

    /// Gives a device another name.
    ///
    /// # Errors
    /// EINVAL for a bad name, EBUSY for one that is taken, even by this device.
    pub fn rename(&self, device: &Arc<Device>, to: &str) -> Result<(), Refusal> {
        check_name(to)?;
        let from = {
            let mut devices = self.devices.write();
            let identity = device.identity();
            if devices.by_name.contains_key(to) {
                let text = format!(
                    "ioctl: Unable to change name on mapped device {} to one that already exists: {to}",
                    identity.name
                );
                return Err(Refusal::message(Errno::BUSY, text));
            }
            devices.by_name.remove(&identity.name);
            devices.by_name.insert(to.to_owned(), device.clone());
            device.set_identity(Identity {
                name: to.to_owned(),
                uuid: identity.uuid,
            });
            identity.name
        };
        if device.active().is_some() {
            device.events().raise();
        }
        self.tell(&Change::Renamed {
            id: device.id(),
            from,
            to: to.to_owned(),
        });
        self.note(device);
        Ok(())
    }

    /// Gives a device its uuid, once.
    ///
    /// # Errors
    /// EINVAL where it has one, EBUSY where another device has this one.
    pub fn set_uuid(&self, device: &Arc<Device>, uuid: &str) -> Result<(), Refusal> {
        let mut devices = self.devices.write();
        let identity = device.identity();
        if devices.by_uuid.contains_key(uuid) {
            let text = format!(
                "ioctl: Unable to change uuid on mapped device {} to one that already exists: {uuid}",
                identity.name
            );
            return Err(Refusal::message(Errno::BUSY, text));
        }
        if !identity.uuid.is_empty() {
            let text = format!(
                "ioctl: Unable to change uuid of mapped device {} to {uuid} because uuid is already set to {}",
                identity.name, identity.uuid
            );
            return Err(Refusal::message(Errno::INVAL, text));
        }
        devices.by_uuid.insert(uuid.to_owned(), device.clone());
        device.set_identity(Identity {
            uuid: uuid.to_owned(),
            ..identity
        });
        drop(devices);
        if device.active().is_some() {
            device.events().raise();
        }
        self.note(device);
        Ok(())
    }

    /// Puts a table into a device's inactive slot.
    ///
    /// # Errors
    /// ELOOP where the device would lie below itself or the stack grow too deep; EINVAL where its live table's
    /// kind may not be replaced.
    pub fn load(&self, device: &Arc<Device>, table: Table) -> Result<(), Refusal> {
        let table = Arc::new(table);
        let _load = self.loads.lock();
        let below = self.depth_below(&table, device.id(), &mut HashMap::new())?;
        if below > 1 && below + self.depth_above(device.id()) > MAX_STACK_DEPTH {
            return Err(Refusal::of(
                Errno::LOOP,
                &format!("at most {MAX_STACK_DEPTH} devices on one another"),
                &device.name(),
            ));
        }
        device
            .load(table)
            .map_err(|error| Refusal::message(error.errno, format!("ioctl: {}", error.text)))?;
        self.note(device);
        Ok(())
    }

    /// How many devices lie on one another below `table`, with its own; ELOOP where `id` is among them. `known`
    /// remembers the depths found on the way.
    fn depth_below(
        &self,
        table: &Table,
        id: u64,
        known: &mut HashMap<u64, usize>,
    ) -> Result<usize, Refusal> {
        let mut deepest = 0;
        for below in table.devices().iter().filter_map(|device| device.mapped) {
            if below == id {
                let name = self
                    .by_id(id)
                    .map(|device| device.name())
                    .unwrap_or_default();
                return Err(Refusal::of(
                    Errno::LOOP,
                    "a device that does not lie on this one",
                    &name,
                ));
            }
            if let Some(&depth) = known.get(&below) {
                deepest = deepest.max(depth);
                continue;
            }
            let Some(device) = self.by_id(below) else {
                continue;
            };
            let state = device.state();
            let mut depth = 1;
            for table in [state.active, state.inactive].into_iter().flatten() {
                depth = depth.max(self.depth_below(&table, id, known)?);
            }
            known.insert(below, depth);
            deepest = deepest.max(depth);
        }
        Ok(deepest + 1)
    }

    /// How many devices lie on one another above the device `id`.
    fn depth_above(&self, id: u64) -> usize {
        let mut level = HashSet::from([id]);
        for depth in 0..MAX_STACK_DEPTH {
            let uses_level = |table: &Arc<Table>| {
                table
                    .devices()
                    .iter()
                    .any(|device| device.mapped.is_some_and(|id| level.contains(&id)))
            };
            let above = self.list().into_iter().filter(|device| {
                let state = device.state();
                [state.active, state.inactive]
                    .iter()
                    .flatten()
                    .any(uses_level)
            });
            let above: HashSet<u64> = above.map(|device| device.id()).collect();
            if above.is_empty() {
                return depth;
            }
            level = above;
        }
        MAX_STACK_DEPTH
    }

    /// Resumes a device, with its inactive table if there is one, and tells of the change.
    ///
    /// # Errors
    /// As for [`Device::resume`].
    pub fn resume(
        &self,
        device: &Arc<Device>,
        options: SuspendOptions,
        keep_waiting: &mut dyn FnMut() -> bool,
    ) -> Result<(), ResumeError> {
        // Noted before a request can meet the new table: what is written then must be found again.
        let result = device.resume_noting(options, keep_waiting, &mut || self.note(device));
        if result.is_err() {
            self.note(device);
        }
        let swapped = match &result {
            Ok(resumed) => resumed.swapped,
            Err(error) => error.swapped,
        };
        if swapped {
            self.tell(&Change::Changed { id: device.id() });
        }
        result.map(|_| ())
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

impl Registry {
    /// True where a device below `device` is suspended.
    fn lies_on_suspended(&self, device: &Device) -> bool {
        let below = |table: Arc<Table>| -> Vec<u64> {
            let mapped = table.devices().iter().filter_map(|device| device.mapped);
            mapped.collect()
        };
        let mut left: Vec<u64> = device.active().map(below).unwrap_or_default();
        let mut seen = HashSet::new();
        while let Some(id) = left.pop() {
            let Some(device) = self.by_id(id).filter(|_| seen.insert(id)) else {
                continue;
            };
            if device.is_suspended() {
                return true;
            }
            left.extend(device.active().map(below).unwrap_or_default());
        }
        false
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

/// The kernel's rules for a name (dm-ioctl.c: check_name).
pub(super) fn check_name(name: &str) -> Result<(), Refusal> {
    let text = match name {
        "" => "ioctl: device name cannot be empty",
        "control" | "." | ".." => r#"ioctl: device name cannot be "control", ".", or "..""#,
        name if name.contains('/') => "ioctl: device name cannot contain '/'",
        _ => return Ok(()),
    };
    Err(Refusal::message(Errno::INVAL, text.into()))
}

#[cfg(test)]
mod tests;
