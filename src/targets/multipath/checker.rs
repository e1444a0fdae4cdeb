//! The path checker: looks now and then whether a path that has failed answers again, and takes it into use then.
//!
//! One thread keeps the time; a path is looked at on another one, as a device below may keep it waiting.

use std::io;
use std::time::{Duration, Instant};

use super::is_path_error;
use super::map::{Map, PathPlace};
use crate::io::{ReadBuf, Request, WaitingRoom};
use crate::sync::{Arc, Condvar, Mutex, spawn_thread};
use crate::unit::Sector;

/// Paths that are looked at at the same time.
const MOST: usize = 16;
/// How long a thread that looks at paths stays without work.
const IDLE: Duration = Duration::from_secs(1);
const STACK: usize = 256 << 10;

/// A checker, until it is dropped.
pub struct Checker {
    every: Duration,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    /// A leaf in the lock order.
    now: Mutex<Now>,
    changed: Condvar,
}

#[derive(Default)]
struct Now {
    ended: bool,
    /// Being looked at.
    looked_at: Vec<PathPlace>,
}

impl Checker {
    /// Looks at paths of `map` that have failed, every so often.
    ///
    /// # Errors
    /// What the system says where it has no threads for it.
    pub fn start(map: Arc<Map>, every: Duration) -> io::Result<Checker> {
        let state = Arc::new(State::default());
        let room = WaitingRoom::new("multipath", MOST, IDLE)?;
        let of_thread = state.clone();
        spawn_thread("multipath-time", STACK, move || {
            while of_thread.wait(every) {
                of_thread.look(&map, &room);
            }
        })?;
        Ok(Checker { every, state })
    }

    /// Time between two looks.
    pub fn every(&self) -> Duration {
        self.every
    }
}

impl Drop for Checker {
    fn drop(&mut self) {
        self.state.now.lock().ended = true;
        self.state.changed.notify_all();
    }
}

impl State {
    /// Waits; false where the checker has ended.
    fn wait(&self, time: Duration) -> bool {
        let until = Instant::now() + time;
        let mut now = self.now.lock();
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if now.ended || left.is_zero() {
                return !now.ended;
            }
            self.changed.wait_for(&mut now, left);
        }
    }

    fn look(self: &Arc<Self>, map: &Arc<Map>, room: &WaitingRoom) {
        for place in map.failed() {
            {
                let mut now = self.now.lock();
                if now.looked_at.contains(&place) {
                    continue;
                }
                now.looked_at.push(place);
            }
            let (state, map) = (self.clone(), map.clone());
            room.submit(Box::new(move || {
                if answers(&map, place) && !state.now.lock().ended {
                    map.reinstate(place);
                }
                let mut now = state.now.lock();
                now.looked_at.retain(|&looked_at| looked_at != place);
            }));
        }
    }
}

/// Whether the first block of a path can be read, or the device itself says why not.
fn answers(map: &Map, place: PathPlace) -> bool {
    let Some(path) = map.path(place) else {
        return false;
    };
    let mut block = vec![0; path.range().limits().logical_block_size as usize];
    let read = Request::read(Sector(0), ReadBuf::new(&mut block));
    match path.range().submit(read) {
        Ok(()) => true,
        Err(error) => !error.is_put_off() && !is_path_error(error),
    }
}
