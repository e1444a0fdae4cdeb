//! Groups of paths, which one is in use, and what becomes of a request that finds none.

use super::selectors::Selector;
use crate::io::{DevRef, IoError, IoResult, Request};
use crate::sync::{Arc, AtomicUsize, Condvar, Mutex, Ordering};
use crate::target::{EventSink, Lifecycle};
use crate::unit::Bytes;

/// All paths of a device.
pub struct Map {
    groups: Vec<Group>,
    /// One more than the group in use; 0 where the next request has to choose one. Changes under `state`.
    current: AtomicUsize,
    state: Mutex<State>,
    /// Something changed that a request without a path may wait for.
    changed: Condvar,
    events: Arc<dyn EventSink>,
}

/// Paths that are used together.
pub struct Group {
    /// The kind of its selector.
    pub selector_name: &'static str,
    selector: Box<dyn Selector>,
    paths: Vec<Path>,
}

/// A way to the device.
pub struct Path(DevRef);

/// Where a path is: its group, and its number in it, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PathPlace {
    /// The group.
    pub group: usize,
    /// The path.
    pub path: usize,
}

/// A path that was chosen for a request.
pub struct Chosen<'m> {
    group: &'m Group,
    path: &'m Path,
    place: PathPlace,
}

/// What people and errors change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// The group in use.
    pub current: Option<usize>,
    /// The group to use from the next request on.
    pub next: Option<usize>,
    /// Requests would be held until a group is ready: so it is until the first one has chosen.
    pub queue_io: bool,
    /// Requests that find no path wait for one.
    pub queue_if_no_path: bool,
    /// Of each group.
    pub groups: Vec<GroupState>,
    usable: usize,
    suspending: Suspending,
}

/// What can change of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupState {
    /// Avoided while another group has a path.
    pub bypassed: bool,
    /// Of each path.
    pub paths: Vec<PathState>,
}

/// What can change of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PathState {
    /// Not failed.
    pub usable: bool,
    /// How often it has failed.
    pub fail_count: u32,
}

/// What a suspend asks of requests that find no path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Suspending {
    No,
    /// To end, with an error.
    Flushing,
    /// To be given back.
    Noflush,
    /// There are none any more.
    Suspended,
}

impl Group {
    /// `paths`, dealt out by `selector`, which knows as many.
    pub fn new(
        selector_name: &'static str,
        selector: Box<dyn Selector>,
        paths: Vec<DevRef>,
    ) -> Group {
        Group {
            selector_name,
            selector,
            paths: paths.into_iter().map(Path).collect(),
        }
    }

    /// What deals out its paths.
    pub fn selector(&self) -> &dyn Selector {
        &*self.selector
    }

    /// Its paths, in the order of the table.
    pub fn paths(&self) -> &[Path] {
        &self.paths
    }
}

impl Path {
    /// The device.
    pub fn range(&self) -> &DevRef {
        &self.0
    }
}

impl Chosen<'_> {
    /// Where it is.
    pub fn place(&self) -> PathPlace {
        self.place
    }

    /// Carries out `request` on it.
    ///
    /// # Errors
    /// What the path's device answers.
    pub fn submit(&self, request: Request<'_>) -> IoResult {
        let len = request.len.to_bytes();
        let _under_way = UnderWay {
            selector: self.group.selector(),
            path: self.place.path,
            len,
            begun: self.group.selector.begin(self.place.path, len),
        };
        self.path.0.submit(request)
    }
}

/// A request that its selector counts as under way; ends however it ends.
struct UnderWay<'m> {
    selector: &'m dyn Selector,
    path: usize,
    len: Bytes,
    begun: u64,
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.selector.end(self.path, self.len, self.begun);
    }
}

impl Map {
    /// `groups`, all of whose paths are usable; requests go to the group `initial` first.
    pub fn new(
        groups: Vec<Group>,
        initial: Option<usize>,
        queue_if_no_path: bool,
        events: Arc<dyn EventSink>,
    ) -> Map {
        let usable = PathState {
            usable: true,
            fail_count: 0,
        };
        let of_group = |group: &Group| GroupState {
            bypassed: false,
            paths: vec![usable; group.paths.len()],
        };
        let state = State {
            current: None,
            next: initial.filter(|&group| group < groups.len()),
            queue_io: true,
            queue_if_no_path,
            groups: groups.iter().map(of_group).collect(),
            usable: groups.iter().map(|group| group.paths.len()).sum(),
            suspending: Suspending::No,
        };
        Map {
            groups,
            current: AtomicUsize::new(0),
            state: Mutex::new(state),
            changed: Condvar::new(),
            events,
        }
    }

    /// The groups, in the order of the table.
    pub fn groups(&self) -> &[Group] {
        &self.groups
    }

    /// Every path, in the order of the table.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.groups.iter().flat_map(|group| &group.paths)
    }

    /// The path at a place.
    pub fn path(&self, at: PathPlace) -> Option<&Path> {
        self.groups.get(at.group)?.paths.get(at.path)
    }

    /// Every path that has failed.
    pub fn failed(&self) -> Vec<PathPlace> {
        let state = self.state.lock();
        let mut failed = Vec::new();
        for (group, of_group) in state.groups.iter().enumerate() {
            let paths = of_group.paths.iter().enumerate();
            let paths = paths.filter(|(_, path)| !path.usable);
            failed.extend(paths.map(|(path, _)| PathPlace { group, path }));
        }
        failed
    }

    /// How everything is at present.
    pub fn state(&self) -> State {
        self.state.lock().clone()
    }

    /// The path for a request of `len` bytes, if the group in use has one.
    #[inline]
    pub fn select(&self, len: Bytes) -> Option<Chosen<'_>> {
        let group = self.current.load(Ordering::Acquire).checked_sub(1)?;
        self.select_in(group, len)
    }

    #[inline]
    fn select_in(&self, index: usize, len: Bytes) -> Option<Chosen<'_>> {
        let group = self.groups.get(index)?;
        let path = group.selector.select(len)?;
        Some(Chosen {
            group,
            path: group.paths.get(path)?,
            place: PathPlace { group: index, path },
        })
    }

    /// The path for a request of `len` bytes, from whatever group has one; waits for one where that is wanted.
    ///
    /// # Errors
    /// `without` where there is none; WOULD_WAIT where it would wait and `nowait` is set; REQUEUE where the device is
    /// being suspended without a flush.
    #[cold]
    pub fn choose(
        &self,
        len: Bytes,
        nowait: bool,
        without: IoError,
    ) -> Result<Chosen<'_>, IoError> {
        let mut state = self.state.lock();
        loop {
            if let Some(chosen) = self.choose_group(&mut state, len) {
                return Ok(chosen);
            }
            match state.suspending {
                Suspending::Noflush => return Err(IoError::REQUEUE),
                Suspending::Flushing | Suspending::Suspended => return Err(without),
                Suspending::No if !state.queue_if_no_path => return Err(without),
                Suspending::No if nowait => return Err(IoError::WOULD_WAIT),
                Suspending::No => self.changed.wait(&mut state),
            }
        }
    }

    /// The group that was asked for, else the one in use, else the first that has a path; those that are bypassed last.
    fn choose_group(&self, state: &mut State, len: Bytes) -> Option<Chosen<'_>> {
        if state.usable == 0 {
            state.queue_io = false;
            self.set_current(state, None);
            return None;
        }
        let groups = &state.groups;
        let bypassed = |wanted: bool| {
            let indices = 0..groups.len();
            indices.filter(move |&index| groups[index].bypassed == wanted)
        };
        let candidates: Vec<usize> = state
            .next
            .into_iter()
            .chain(state.current)
            .chain(bypassed(false))
            .chain(bypassed(true))
            .collect();
        state.next = None;
        let chosen = candidates
            .into_iter()
            .find_map(|index| self.select_in(index, len));
        match &chosen {
            Some(chosen) if state.current != Some(chosen.place.group) => {
                state.queue_io = false;
                self.set_current(state, Some(chosen.place.group));
            }
            Some(_) => {}
            None => self.set_current(state, None),
        }
        chosen
    }

    fn set_current(&self, state: &mut State, group: Option<usize>) {
        state.current = group;
        let number = group.map_or(0, |group| group + 1);
        self.current.store(number, Ordering::Release);
    }

    /// A path that a request may go to now, for whoever asks where data lies.
    pub fn likely_path(&self) -> Option<&Path> {
        let state = self.state.lock();
        let groups = state
            .current
            .into_iter()
            .chain(state.next)
            .chain(0..self.groups.len());
        let mut paths = groups.flat_map(|group| {
            let usable = state.groups[group].paths.iter();
            self.groups[group].paths.iter().zip(usable)
        });
        paths.find(|(_, state)| state.usable).map(|(path, _)| path)
    }

    fn name(&self, at: PathPlace) -> String {
        let device = self.groups[at.group].paths[at.path].range().device();
        format!("{} ({})", device.number, device.path.display())
    }

    /// Takes a path out of use.
    #[cold]
    pub fn fail(&self, at: PathPlace) {
        {
            let mut state = self.state.lock();
            let path = &mut state.groups[at.group].paths[at.path];
            if !path.usable {
                return;
            }
            path.usable = false;
            path.fail_count = path.fail_count.wrapping_add(1);
            state.usable -= 1;
            self.groups[at.group].selector.fail(at.path);
        }
        log::warn!("multipath: failing path {}", self.name(at));
        self.events.raise();
    }

    /// Takes a path into use again.
    pub fn reinstate(&self, at: PathPlace) {
        {
            let mut state = self.state.lock();
            let path = &mut state.groups[at.group].paths[at.path];
            if path.usable {
                return;
            }
            path.usable = true;
            state.usable += 1;
            self.groups[at.group].selector.reinstate(at.path);
            self.changed.notify_all();
        }
        log::warn!("multipath: reinstating path {}", self.name(at));
        self.events.raise();
    }

    /// Has the next request go to `group`, and no group bypassed any more.
    pub fn switch_to(&self, group: usize) {
        self.change_groups(|state| {
            let groups = state.groups.iter_mut();
            groups.for_each(|group| group.bypassed = false);
            state.next = Some(group);
        });
    }

    /// Has `group` avoided, or not any more; the next request chooses anew.
    pub fn bypass(&self, group: usize, bypassed: bool) {
        self.change_groups(|state| state.groups[group].bypassed = bypassed);
    }

    fn change_groups(&self, change: impl FnOnce(&mut State)) {
        {
            let mut state = self.state.lock();
            change(&mut state);
            self.set_current(&mut state, None);
        }
        self.events.raise();
    }

    /// Whether requests that find no path wait for one.
    pub fn set_queue_if_no_path(&self, queue: bool) {
        self.state.lock().queue_if_no_path = queue;
        self.changed.notify_all();
    }

    /// True while the device is suspended.
    pub fn is_suspended(&self) -> bool {
        self.state.lock().suspending == Suspending::Suspended
    }

    fn set_suspending(&self, suspending: Suspending) {
        self.state.lock().suspending = suspending;
        self.changed.notify_all();
    }
}

impl Lifecycle for Map {
    fn presuspend(&self, noflush: bool) {
        self.set_suspending(match noflush {
            true => Suspending::Noflush,
            false => Suspending::Flushing,
        });
    }

    fn presuspend_undo(&self) {
        self.set_suspending(Suspending::No);
    }

    fn postsuspend(&self) {
        self.set_suspending(Suspending::Suspended);
    }

    fn resume(&self) {
        self.set_suspending(Suspending::No);
    }
}
