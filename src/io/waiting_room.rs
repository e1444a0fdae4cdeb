//! Threads for work that may wait on time or on a person, so that nobody else waits with it.
//!
//! As many threads as there is work, up to a bound; beyond it, work queues. A thread that finds nothing to do
//! for a while ends, but for one that stays: work is then carried out even when the system has no thread left.

use std::collections::VecDeque;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use crate::sync::{Arc, Condvar, Mutex, MutexGuard, spawn_thread};

/// Enough for a request through 128 devices on one another, in a build without optimisation too (256 KiB are not).
const STACK: usize = 1 << 20;

/// Work for the room.
pub type Job = Box<dyn FnOnce() + Send>;

/// A pool of threads that grows with its work.
pub struct WaitingRoom(Arc<Shared>);

struct Shared {
    name: String,
    max_threads: usize,
    idle_time: Duration,
    /// A leaf in the lock order.
    state: Mutex<State>,
    /// There is a job, or the room is closing.
    called: Condvar,
    /// More threads are called for, or the room is closing.
    more: Condvar,
    /// A thread ended while the room is closing.
    ended: Condvar,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Job>,
    threads: usize,
    /// Threads that stay without work.
    kept: usize,
    /// A thread starts the others.
    has_starter: bool,
    /// More threads are called for.
    more: bool,
    idle: usize,
    closing: bool,
}

impl WaitingRoom {
    /// At most `max_threads` threads called `name`; they end when they found nothing to do for `idle_time`.
    ///
    /// # Errors
    /// What the system says where it cannot start the one thread that stays.
    pub fn new(name: &str, max_threads: usize, idle_time: Duration) -> io::Result<WaitingRoom> {
        let room = WaitingRoom(Arc::new(Shared {
            name: name.to_owned(),
            max_threads: max_threads.max(1),
            idle_time,
            state: Mutex::new(State {
                threads: 1,
                kept: 1,
                ..State::default()
            }),
            called: Condvar::new(),
            more: Condvar::new(),
            ended: Condvar::new(),
        }));
        room.0.clone().spawn()?;
        Ok(room)
    }

    /// Has `job` carried out on a thread of its own, or as soon as a thread is free. Does not wait.
    pub fn submit(&self, job: Job) {
        let shared = &self.0;
        {
            let mut state = shared.state.lock();
            state.queue.push_back(job);
            if state.queue.len() <= state.idle || state.threads >= shared.max_threads {
                shared.called.notify_one();
                return;
            }
            if state.has_starter && !state.closing {
                state.more = true;
                shared.more.notify_one();
                return;
            }
            state.threads += 1;
        }
        if let Err(error) = shared.clone().spawn() {
            log::warn!("{}: no new thread, work queues: {error}", shared.name);
            let mut state = shared.state.lock();
            state.threads -= 1;
            if state.threads > 0 {
                shared.called.notify_one();
                return;
            }
            // The room is closing and its last thread has ended.
            while let Some(job) = state.queue.pop_front() {
                drop(state);
                shared.carry_out(job);
                state = shared.state.lock();
            }
            shared.ended.notify_all();
        }
    }

    /// Has at least `count` threads from now on, with or without work, and further ones started by a thread of its
    /// own: whoever brings work then needs no memory for a thread, nor waits for it.
    ///
    /// # Errors
    /// What the system says where it cannot start them all; those that there are stay.
    pub fn keep(&self, count: usize) -> io::Result<()> {
        let count = count.min(self.0.max_threads);
        loop {
            {
                let mut state = self.0.state.lock();
                state.kept = state.kept.max(count);
                if state.closing || state.threads >= count {
                    break;
                }
                state.threads += 1;
            }
            if let Err(error) = self.0.clone().spawn() {
                self.0.state.lock().threads -= 1;
                return Err(error);
            }
        }
        let mut state = self.0.state.lock();
        if state.has_starter || state.closing {
            return Ok(());
        }
        let shared = self.0.clone();
        spawn_thread(&self.0.name, STACK, move || shared.start_threads())?;
        state.has_starter = true;
        Ok(())
    }

    /// Waits until all work is done and all threads have ended; false where that takes longer than `patience`.
    /// Work that comes in later is carried out all the same.
    pub fn shut_down(&self, patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        let mut state = self.0.close();
        while state.threads > 0 || !state.queue.is_empty() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            self.0.ended.wait_for(&mut state, left);
        }
        true
    }

    /// Threads that there are at present.
    pub fn threads(&self) -> usize {
        self.0.state.lock().threads
    }
}

impl Drop for WaitingRoom {
    fn drop(&mut self) {
        drop(self.0.close());
    }
}

impl Shared {
    fn spawn(self: Arc<Shared>) -> io::Result<()> {
        let shared = self.clone();
        spawn_thread(&self.name, STACK, move || shared.run())
    }

    /// Starts threads as they are called for, until the room closes.
    fn start_threads(self: Arc<Shared>) {
        let mut state = self.state.lock();
        loop {
            // Work that came in while the last one was started calls for another.
            let is_called = state.more || state.queue.len() > state.idle;
            state.more = false;
            if !is_called || state.queue.is_empty() || state.threads >= self.max_threads {
                if state.closing {
                    return;
                }
                self.more.wait(&mut state);
                continue;
            }
            state.threads += 1;
            drop(state);
            let started = self.clone().spawn();
            state = self.state.lock();
            if let Err(error) = started {
                log::warn!("{}: no new thread, work queues: {error}", self.name);
                state.threads -= 1;
                self.ended.notify_all();
                self.more.wait(&mut state);
            }
        }
    }

    fn close(&self) -> MutexGuard<'_, State> {
        let mut state = self.state.lock();
        state.closing = true;
        self.called.notify_all();
        self.more.notify_all();
        state
    }

    fn run(&self) {
        while let Some(job) = self.next_job() {
            self.carry_out(job);
        }
    }

    /// Waits for a job; `None` where the thread is to end, which is then counted off.
    fn next_job(&self) -> Option<Job> {
        let mut state = self.state.lock();
        let mut timed_out = false;
        loop {
            if let Some(job) = state.queue.pop_front() {
                return Some(job);
            }
            if state.closing || (timed_out && state.threads > state.kept) {
                state.threads -= 1;
                self.ended.notify_all();
                return None;
            }
            state.idle += 1;
            timed_out = self.called.wait_for(&mut state, self.idle_time).timed_out();
            state.idle -= 1;
        }
    }

    fn carry_out(&self, job: Job) {
        if catch_unwind(AssertUnwindSafe(job)).is_err() {
            log::error!("{}: a job panicked", self.name);
        }
    }
}

#[cfg(all(test, schedules))]
mod schedules;
#[cfg(test)]
mod tests;
