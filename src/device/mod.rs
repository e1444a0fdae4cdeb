//! A mapped device: two table slots, the gate in front of them, and the state machine that moves tables.
//!
//! A request passes the gate, finds the active table and is carried out by it. Control loads a table into the
//! inactive slot, suspends (closes the gate and waits until nobody is inside) and resumes (swaps the slots and
//! opens the gate), as the kernel's dm.c and dm-ioctl.c do.
//!
//! Lock order: `moves` (one suspend or resume at a time), gate, `slots` (held for a moment only).

mod bypass;
mod cache;
mod directory;
mod events;
pub mod gate;
mod live;
mod openers;
mod passing;
mod stats;

pub use bypass::Bypass;
pub use cache::CachePolicy;
pub use directory::{Change, Directory};
pub use events::Events;
pub use openers::Removal;
pub use stats::{Region, StatsError};

use std::time::Duration;

use bypass::Bypasses;
use cache::PolicyCell;
use gate::Gate;
use live::Live;
use openers::Openers;
use passing::Passing;
use stats::Stats;

use crate::io::{
    BlockDev, Blocked, Closed, Counters, DeviceNumber, Errno, Extent, IoError, IoResult, Limits,
    OpKind, Part, Plan, Request, Shortcut, Trail, Unplanned, Waypoint,
};
use crate::sync::{Arc, AtomicBool, AtomicU32, AtomicU64, Mutex, OnceLock, Ordering, RwLock, Weak};
use crate::table::Table;
use crate::target::Access;
use crate::unit::{Sector, Sectors};

/// A mapped device. What every request needs comes first, to lie in one cache line.
#[repr(C)]
pub struct Device {
    /// Length of the active table in sectors; stays when the table goes.
    capacity: AtomicU64,
    /// The active table's, bytes.
    logical_block_size: AtomicU32,
    /// The active table's: requests are better planned than carried out at once.
    waits: AtomicBool,
    /// Around the gates from here on down, once a request has gone through them.
    shortcut: OnceLock<Arc<Shortcut>>,
    active: Live<Table>,
    gate: Gate,
    /// Where shortcuts pass, this device's and those of devices above.
    waypoint: Arc<Waypoint>,
    stats: Stats,
    id: u64,
    number: DeviceNumber,
    /// Changes of data that the last suspend has made durable.
    made_durable: AtomicU64,
    /// Guards suspend, resume and removal against each other; held while requests drain.
    moves: Mutex<()>,
    slots: Mutex<Slots>,
    identity: RwLock<Identity>,
    events: Arc<Events>,
    openers: Openers,
    cache: PolicyCell,
    bypasses: Bypasses,
    above: OnceLock<Weak<dyn Above>>,
}

/// Whoever keeps data of a device that has not reached it yet.
pub trait Above: Send + Sync {
    /// Sends what was written to the device, and forgets what was read. Called before requests are held back.
    fn write_back(&self, device: &Device);
}

#[derive(Default)]
struct Slots {
    inactive: Option<Arc<Table>>,
    suspended: bool,
    geometry: Option<String>,
}

/// Name and uuid, as stored (mangled by whoever gave them).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The name.
    pub name: String,
    /// The uuid; empty where there is none.
    pub uuid: String,
}

/// How a device is suspended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SuspendOptions {
    /// Requests in flight may be given back and wait; nothing is made durable.
    pub noflush: bool,
    /// What is cached above the device stays there.
    pub nolockfs: bool,
}

/// What `dmsetup info` shows of a device.
#[derive(Clone)]
pub struct State {
    /// The live table.
    pub active: Option<Arc<Table>>,
    /// The table that the next resume makes live.
    pub inactive: Option<Arc<Table>>,
    /// Requests are held back.
    pub suspended: bool,
    /// Removed at the last close.
    pub deferred_remove: bool,
    /// How many hold it open.
    pub open_count: u32,
    /// Events so far.
    pub event_number: u32,
}

/// What a device takes over from an earlier daemon of its mount.
#[derive(Clone, Default)]
pub struct Restored {
    /// The live table.
    pub active: Option<Arc<Table>>,
    /// Length where there is no live table.
    pub capacity: Sectors,
    /// Requests are held back.
    pub suspended: bool,
    /// The geometry that somebody set.
    pub geometry: Option<String>,
    /// Events so far.
    pub event_number: u32,
}

/// A table that a device refuses to load, with the kernel's text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadError {
    /// The errno the kernel gives.
    pub errno: Errno,
    /// The kernel's text.
    pub text: String,
}

impl Device {
    /// A device without a table: active, of length 0.
    pub fn new(id: u64, number: DeviceNumber, identity: Identity, events: Arc<Events>) -> Device {
        Device {
            capacity: AtomicU64::new(0),
            logical_block_size: AtomicU32::new(Limits::default().logical_block_size),
            waits: AtomicBool::new(false),
            shortcut: OnceLock::new(),
            active: Live::empty(),
            gate: Gate::new(),
            waypoint: Arc::default(),
            stats: Stats::default(),
            id,
            number,
            made_durable: AtomicU64::new(0),
            moves: Mutex::new(()),
            slots: Mutex::new(Slots::default()),
            identity: RwLock::new(identity),
            events,
            openers: Openers::default(),
            cache: PolicyCell::default(),
            bypasses: Bypasses::default(),
            above: OnceLock::new(),
        }
    }

    /// The permanent number, never used again in this mount; the inode number of the file.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Major and minor number.
    pub fn number(&self) -> DeviceNumber {
        self.number
    }

    /// The name.
    pub fn name(&self) -> String {
        self.identity.read().name.clone()
    }

    /// Name and uuid.
    pub fn identity(&self) -> Identity {
        self.identity.read().clone()
    }

    /// Gives the device another name or a uuid. Only its owner, who keeps names unique, calls this.
    pub fn set_identity(&self, identity: Identity) {
        *self.identity.write() = identity;
    }

    /// Its events.
    pub fn events(&self) -> &Arc<Events> {
        &self.events
    }

    /// Who holds it open.
    pub fn openers(&self) -> &Openers {
        &self.openers
    }

    /// What the kernel may do by itself with the data of its file.
    pub fn cache_policy(&self) -> CachePolicy {
        self.cache.get()
    }

    /// Sets what the kernel may do with files that are opened from now on.
    pub fn set_cache_policy(&self, policy: CachePolicy) {
        self.cache.set(policy);
    }

    /// True while requests are held back for good.
    pub fn is_suspended(&self) -> bool {
        self.slots.lock().suspended
    }

    /// True while the kernel carries out requests around it ([`Bypass`]).
    pub fn is_bypassed(&self) -> bool {
        !self.bypasses.is_empty()
    }

    /// Says who may keep data of the device. The first answer stays.
    pub fn set_above(&self, above: Weak<dyn Above>) {
        if self.above.set(above).is_err() {
            log::error!("{}: has somebody above it already", self.name());
        }
    }

    /// What has been asked of it.
    pub fn counters(&self) -> Counters {
        self.gate.counters().plus(&self.waypoint.counters())
    }

    /// Measures how long requests take, for `time` from now on.
    pub fn look(&self, time: Duration) {
        self.gate.look(time);
        self.waypoint.look(time);
    }

    /// Has every request that comes to the device pass its gate, for whoever has to see each, until what is given back is
    /// dropped.
    pub fn see_every_request(&self) -> Blocked {
        self.waypoint.blocked()
    }

    /// Answers a message about statistics; `None` where it is about something else. Whoever asks has `room` bytes for
    /// the answer.
    ///
    /// # Errors
    /// Within: the kernel's errno.
    pub fn stats_message(&self, words: &[&str], room: usize) -> Option<Result<String, StatsError>> {
        self.stats
            .message(words, (&self.gate, &self.waypoint), self.capacity(), room)
    }

    /// The regions of which statistics are kept.
    pub fn regions(&self) -> Vec<Arc<Region>> {
        self.stats.regions()
    }

    /// The live table.
    pub fn active(&self) -> Option<Arc<Table>> {
        self.active.load_full()
    }

    /// True where the live table's devices make the caller wait: requests are then better [planned](Plan) than
    /// carried out on a thread that has other things to do.
    #[inline]
    pub fn waits(&self) -> bool {
        self.waits.load(Ordering::Relaxed)
    }

    /// True where writes are refused: the live table is read-only.
    pub fn is_read_only(&self) -> bool {
        self.active()
            .is_some_and(|table| table.access() == Access::ReadOnly)
    }

    /// Puts a new device, which nobody has used yet, into the state that a device was in under an earlier daemon
    /// of its mount. What was written then counts as not yet durable.
    pub fn restore(&self, was: Restored) {
        let mut slots = self.slots.lock();
        // No count of changes is that large: the next suspend flushes.
        self.made_durable.store(u64::MAX, Ordering::Relaxed);
        if let Some(table) = &was.active {
            self.capacity.store(table.len().0, Ordering::Relaxed);
            let block_size = table.limits().logical_block_size;
            self.logical_block_size.store(block_size, Ordering::Relaxed);
        } else {
            self.capacity.store(was.capacity.0, Ordering::Relaxed);
        }
        if was.suspended {
            let _nobody = self.hold_back();
        }
        let replaced = self.active.replace(was.active, true);
        slots.suspended = was.suspended;
        slots.geometry = was.geometry;
        drop(slots);
        drop(replaced);
        self.events.restore(was.event_number);
    }

    /// Everything `info` shows, taken at one moment.
    pub fn state(&self) -> State {
        let (open_count, deferred_remove) = self.openers.count();
        let slots = self.slots.lock();
        State {
            active: self.active.load_full(),
            inactive: slots.inactive.clone(),
            suspended: slots.suspended,
            deferred_remove,
            open_count,
            event_number: self.events.number(),
        }
    }

    /// Puts `table` into the inactive slot; the one it replaces is dropped.
    ///
    /// # Errors
    /// EINVAL where the live table's kind may not be replaced by another.
    pub fn load(&self, table: Arc<Table>) -> Result<(), LoadError> {
        let replaced = {
            let mut slots = self.slots.lock();
            let immutable = self.active().and_then(|active| active.immutable_kind());
            if let Some(kind) = immutable {
                let same = table
                    .immutable_kind()
                    .is_some_and(|new| new.name == kind.name);
                if !same && !table.is_wildcard() {
                    let text = format!("can't replace immutable target type {}", kind.name);
                    return Err(LoadError {
                        errno: Errno::INVAL,
                        text,
                    });
                }
            }
            slots.inactive.replace(table)
        };
        drop(replaced);
        Ok(())
    }

    /// Empties the inactive slot.
    pub fn clear(&self) {
        let dropped = self.slots.lock().inactive.take();
        drop(dropped);
    }

    /// Holds back new requests and waits until those inside have left. A device that is suspended stays so.
    ///
    /// `keep_waiting` is asked now and then while requests drain.
    ///
    /// # Errors
    /// EINTR where `keep_waiting` said no, EBUSY where it is [bypassed](Bypass): the device then runs on.
    pub fn suspend(
        &self,
        options: SuspendOptions,
        keep_waiting: &mut dyn FnMut() -> bool,
    ) -> Result<(), Errno> {
        let _move = self.moves.lock();
        self.suspend_locked(options, keep_waiting)
    }

    fn suspend_locked(
        &self,
        options: SuspendOptions,
        keep_waiting: &mut dyn FnMut() -> bool,
    ) -> Result<(), Errno> {
        if self.slots.lock().suspended {
            return Ok(());
        }
        if self.is_bypassed() {
            return Err(Errno::BUSY);
        }
        let table = self.active.load_full();
        let lifecycles = || table.iter().flat_map(|table| table.lifecycles());
        lifecycles().for_each(|target| target.presuspend(options.noflush));
        if !options.noflush
            && !options.nolockfs
            && let Some(above) = self.above.get().and_then(Weak::upgrade)
        {
            above.write_back(self);
        }
        let closed = self.hold_back();
        if !self.gate.drain(keep_waiting) || !closed.drain(keep_waiting) {
            self.let_in();
            lifecycles().for_each(|target| target.presuspend_undo());
            return Err(Errno::INTR);
        }
        if let Some(table) = table.as_ref().filter(|_| !options.noflush) {
            self.make_durable(table);
        }
        lifecycles().for_each(|target| target.postsuspend());
        self.slots.lock().suspended = true;
        Ok(())
    }

    /// Closes every way in. Those who came by a shortcut are to be waited for beside those inside the gate.
    fn hold_back(&self) -> Closed {
        self.gate.close();
        self.waypoint.block()
    }

    fn let_in(&self) {
        self.waypoint.unblock();
        self.gate.open();
    }

    /// Flushes what was written since the last time, so that a table that goes takes no unflushed data with
    /// it: a later flush reaches only the devices of the table that came.
    fn make_durable(&self, table: &Table) {
        let counters = self.counters();
        let changes = [OpKind::Write, OpKind::Discard, OpKind::WriteZeroes]
            .into_iter()
            .map(|kind| counters.of(kind).requests)
            .sum::<u64>()
            .saturating_add(self.bypasses.ever());
        if self.made_durable.swap(changes, Ordering::Relaxed) != changes
            && let Err(error) = table.settle()
        {
            log::warn!("{}: flush while suspending failed: {error}", self.name());
        }
    }

    /// Makes the inactive table live, if there is one, and lets requests in.
    ///
    /// # Errors
    /// EINVAL for a suspended device without any table; EINTR and EBUSY as for [`Self::suspend`]; a target's own errno
    /// where it refuses: the new table is then live, and the device stays suspended.
    pub fn resume(
        &self,
        options: SuspendOptions,
        keep_waiting: &mut dyn FnMut() -> bool,
    ) -> Result<Resumed, ResumeError> {
        self.resume_noting(options, keep_waiting, &mut || {})
    }

    /// As [`Self::resume`]; calls `note` when everything is as it will be but no request is in yet.
    ///
    /// # Errors
    /// As for [`Self::resume`].
    pub fn resume_noting(
        &self,
        options: SuspendOptions,
        keep_waiting: &mut dyn FnMut() -> bool,
        note: &mut dyn FnMut(),
    ) -> Result<Resumed, ResumeError> {
        let _move = self.moves.lock();
        let coming = self.slots.lock().inactive.clone();
        let swapped = coming.is_some();
        let mut replaced = None;
        if let Some(coming) = coming {
            self.suspend_locked(options, keep_waiting)
                .map_err(|errno| ResumeError {
                    errno,
                    swapped: false,
                })?;
            let mut slots = self.slots.lock();
            // Loaded or cleared while requests drained: what the slot holds now is what counts.
            let table = slots.inactive.take().unwrap_or(coming);
            if self.capacity.swap(table.len().0, Ordering::Relaxed) != table.len().0 {
                slots.geometry = None;
            }
            let block_size = table.limits().logical_block_size;
            self.logical_block_size.store(block_size, Ordering::Relaxed);
            self.waits.store(table.limits().waits, Ordering::Relaxed);
            replaced = self.active.replace(Some(table), true);
        }
        if self.slots.lock().suspended {
            self.resume_locked(note)
                .map_err(|errno| ResumeError { errno, swapped })?;
        }
        drop(replaced);
        Ok(Resumed { swapped })
    }

    fn resume_locked(&self, note: &mut dyn FnMut()) -> Result<(), Errno> {
        let table = self.active.load_full().ok_or(Errno::INVAL)?;
        for target in table.lifecycles() {
            target.preresume()?;
        }
        table.lifecycles().for_each(|target| target.resume());
        self.slots.lock().suspended = false;
        note();
        self.let_in();
        Ok(())
    }

    /// The geometry that somebody set, as text.
    pub fn geometry(&self) -> Option<String> {
        self.slots.lock().geometry.clone()
    }

    /// Remembers a geometry.
    pub fn set_geometry(&self, geometry: String) {
        self.slots.lock().geometry = Some(geometry);
    }

    /// Takes both tables away and lets every waiting request fail: the end of the device.
    pub fn shut_down(&self) {
        let inactive = self.slots.lock().inactive.take();
        // Targets that hold requests back let go of them.
        if let Some(table) = self.active() {
            let lifecycles = table.lifecycles();
            lifecycles.for_each(|target| target.presuspend(false));
        }
        // Closed first, because requests that were given back wait for the next opening.
        let closed = self.hold_back();
        let is_empty = self.gate.drain(&mut || false);
        if !is_empty || !closed.drain(&mut || false) {
            log::warn!("{}: ended while requests are still inside", self.name());
        }
        let active = self.active.replace(None, is_empty);
        self.let_in();
        if let Some(table) = &active {
            let written = self.counters();
            let earlier = self.made_durable.load(Ordering::Relaxed) == u64::MAX;
            let bypassed = self.bypasses.ever() > 0;
            if (earlier
                || bypassed
                || OpKind::CHANGES
                    .iter()
                    .any(|&kind| written.of(kind).requests > 0))
                && let Err(error) = table.settle()
            {
                log::warn!("{}: flush while removing failed: {error}", self.name());
            }
        }
        drop((inactive, active));
    }

    /// The long way: through the gate, and through those of the devices below.
    fn submit_through_gate(&self, mut request: Request<'_>) -> IoResult {
        let (kind, nowait) = (request.op.kind(), request.flags.nowait);
        loop {
            let inside = self.gate.enter(kind, request.len, nowait)?;
            let counted = self.stats.enter(&inside, kind, request.at, request.len);
            let table = self.active.for_request(&inside);
            let result = match table {
                Some(table) if kind.changes_data() && table.access() == Access::ReadOnly => {
                    Err(IoError::READ_ONLY)
                }
                Some(table) => table.submit(request.reborrow()),
                None => Err(IoError::IO),
            };
            match result {
                Ok(()) => {
                    let only_shows = table.is_some_and(Table::only_shows);
                    drop(counted);
                    drop(inside);
                    if only_shows {
                        self.shorten();
                    }
                    return Ok(());
                }
                Err(IoError::REQUEUE) => {
                    counted.put_off();
                    let opening = inside.put_off();
                    if nowait {
                        return Err(IoError::WOULD_WAIT);
                    }
                    self.gate.wait_reopened(opening);
                }
                Err(error) => {
                    if error.is_put_off() {
                        counted.put_off();
                        inside.put_off();
                    } else {
                        drop(counted);
                        inside.fail();
                    }
                    return Err(error);
                }
            }
        }
    }

    /// Spares requests to come the long way.
    #[inline]
    fn shorten(&self) {
        let shortcut = self.shortcut.get_or_init(Arc::default);
        if !shortcut.is_open() && !self.waypoint.is_blocked() {
            shortcut.make(self);
        }
    }
}

/// What a resume did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resumed {
    /// A table became live.
    pub swapped: bool,
}

/// Why a device was not resumed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResumeError {
    /// The errno the kernel gives.
    pub errno: Errno,
    /// The new table is live all the same, and the device suspended.
    pub swapped: bool,
}

impl BlockDev for Device {
    fn capacity(&self) -> Sectors {
        Sectors(self.capacity.load(Ordering::Relaxed))
    }

    fn limits(&self) -> Limits {
        self.active()
            .map_or_else(Limits::default, |table| table.limits())
    }

    #[inline]
    fn logical_block_size(&self) -> u32 {
        self.logical_block_size.load(Ordering::Relaxed)
    }

    #[inline]
    fn submit(&self, mut request: Request<'_>) -> IoResult {
        if let Some(shortcut) = self.shortcut.get()
            && let Some(result) = shortcut.submit(&mut request)
        {
            return result;
        }
        self.submit_through_gate(request)
    }

    fn plan(self: Arc<Self>, part: Part, plan: &mut Plan) -> Result<(), Unplanned> {
        let kind = plan.kind();
        let first = plan.n_pieces();
        let inside = self.gate.enter(kind, part.len, true);
        let inside = inside.map_err(|_closed| Unplanned)?;
        let counted = self.stats.enter_planned(&inside, kind, part.at, part.len);
        let planned = match self.active.for_request(&inside) {
            Some(table) if kind.changes_data() && table.access() == Access::ReadOnly => {
                Err(Unplanned)
            }
            Some(table) => table.plan(part, plan),
            None => Err(Unplanned),
        };
        match planned {
            Ok(()) => {
                let pass = inside.hand_over();
                plan.watch(first, Box::new(Passing::new(self, pass, counted)));
            }
            Err(Unplanned) => {
                counted.put_off();
                inside.put_off();
            }
        }
        planned
    }

    fn trace(&self, trail: &mut Trail<'_>) -> bool {
        trail.pass(&self.waypoint, || self.active()?.stretches())
    }

    fn extent_at(&self, at: Sector) -> Extent {
        match self.active() {
            Some(table) => table.extent_at(at),
            None => Extent::hole(Sector(at.0.saturating_add(1))),
        }
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        // What it holds on its way would hold it in turn.
        if let Some(shortcut) = self.shortcut.get() {
            shortcut.end();
        }
    }
}

#[cfg(test)]
mod tests;
