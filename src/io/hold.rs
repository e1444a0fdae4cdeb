//! Holds requests back for a time, or until it is opened.
//!
//! A request on a thread that may wait sleeps here. One that is [planned](super::Plan) is held without a thread: one
//! timer for the whole process lets those go whose time has come, in the order of their times.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use super::agenda::Agenda;
use super::clock::{Clock, Reading, Wait};
use crate::sync::{Arc, Condvar, Mutex, OnceLock, Weak, spawn_thread};

/// As the waiting room's: an answer may be given on the timer's thread.
const STACK: usize = 1 << 20;

/// What is done with a request when it is let go. Must not wait.
type Job = Box<dyn FnOnce() + Send>;

/// A place where requests are held back.
pub struct Hold {
    clock: Arc<Clock>,
    /// Before the timer's in the lock order, else a leaf.
    state: Mutex<State>,
    /// It was opened, or its clock has ticked.
    changed: Condvar,
}

#[derive(Default)]
struct State {
    open: bool,
    /// Threads that wait.
    sleepers: usize,
    /// Requests without a thread.
    jobs: Agenda<Reading, Job>,
    /// The timer calls at this time.
    call: Option<Reading>,
}

impl Hold {
    /// Holds requests back by `clock`.
    ///
    /// # Errors
    /// What the system says where it cannot start the timer's thread.
    pub fn new(clock: Arc<Clock>) -> io::Result<Arc<Hold>> {
        if clock.is_system() {
            Timer::shared().start()?;
        }
        Ok(Arc::new(Hold {
            clock,
            state: Mutex::new(State::default()),
            changed: Condvar::new(),
        }))
    }

    /// How many are held.
    pub fn n_held(&self) -> usize {
        let state = self.state.lock();
        state.sleepers + state.jobs.len()
    }

    /// True where nobody is held back.
    pub fn is_open(&self) -> bool {
        self.state.lock().open
    }

    /// Waits for `milliseconds`, or until it is opened.
    pub fn wait(&self, milliseconds: u32) {
        let then = self.clock.after(milliseconds);
        let mut state = self.state.lock();
        state.sleepers += 1;
        while !state.open {
            match self.clock.until(then) {
                None => break,
                Some(Wait::For(time)) => {
                    self.changed.wait_for(&mut state, time);
                }
                Some(Wait::Unknown) => self.changed.wait(&mut state),
            }
        }
        state.sleepers -= 1;
    }

    /// Does `job` in `milliseconds`, or when it is opened; at once where it is open. Does not wait.
    pub fn later(self: &Arc<Self>, milliseconds: u32, job: Job) {
        let then = self.clock.after(milliseconds);
        let mut state = self.state.lock();
        if state.open {
            drop(state);
            return carry_out(job);
        }
        state.jobs.enter(then, job);
        self.call_timer(&mut state);
    }

    /// Lets everybody go, and holds nobody back from now on.
    pub fn open(&self) {
        let mut jobs = {
            let mut state = self.state.lock();
            state.open = true;
            self.changed.notify_all();
            std::mem::take(&mut state.jobs)
        };
        while let Some(job) = jobs.take_if(|_| true) {
            carry_out(job);
        }
    }

    /// Holds back who comes from now on.
    pub fn close(&self) {
        self.state.lock().open = false;
    }

    /// Lets those go whose time has come: the clock has ticked.
    pub fn ticked(self: &Arc<Self>) {
        // Behind whoever has looked at the clock and is about to sleep.
        drop(self.state.lock());
        self.changed.notify_all();
        self.let_go();
    }

    /// Does the jobs whose time has come.
    fn let_go(self: &Arc<Self>) {
        let mut due = Vec::new();
        {
            let mut state = self.state.lock();
            state.call = None;
            let has_come = |then| self.clock.until(then).is_none();
            while let Some(job) = state.jobs.take_if(has_come) {
                due.push(job);
            }
            self.call_timer(&mut state);
        }
        due.into_iter().for_each(carry_out);
    }

    /// Has the timer call for the first of those held, unless it does so anyway.
    fn call_timer(self: &Arc<Self>, state: &mut State) {
        let Some(first) = state.jobs.first().filter(|_| self.clock.is_system()) else {
            return;
        };
        if state.call.is_none_or(|call| first < call) {
            state.call = Some(first);
            let time = match self.clock.until(first) {
                Some(Wait::For(time)) => time,
                Some(Wait::Unknown) | None => Duration::ZERO,
            };
            Timer::shared().call(time, Arc::downgrade(self));
        }
    }
}

fn carry_out(job: Job) {
    if catch_unwind(AssertUnwindSafe(job)).is_err() {
        log::error!("a request that was held back panicked");
    }
}

/// One thread that calls holds when they asked for it.
struct Timer {
    /// A leaf in the lock order.
    state: Mutex<Calls>,
    changed: Condvar,
}

#[derive(Default)]
struct Calls {
    is_started: bool,
    calls: Agenda<Instant, Weak<Hold>>,
}

impl Timer {
    /// The one that all holds share.
    fn shared() -> &'static Timer {
        static TIMER: OnceLock<Timer> = OnceLock::new();
        TIMER.get_or_init(|| Timer {
            state: Mutex::new(Calls::default()),
            changed: Condvar::new(),
        })
    }

    fn start(&'static self) -> io::Result<()> {
        let mut state = self.state.lock();
        if !state.is_started {
            spawn_thread("timer", STACK, || self.run())?;
            state.is_started = true;
        }
        Ok(())
    }

    fn call(&self, after: Duration, hold: Weak<Hold>) {
        let then = Instant::now() + after;
        let mut state = self.state.lock();
        let is_first = state.calls.first().is_none_or(|first| then < first);
        state.calls.enter(then, hold);
        if is_first {
            self.changed.notify_one();
        }
    }

    fn run(&self) {
        let mut state = self.state.lock();
        loop {
            let now = Instant::now();
            if let Some(hold) = state.calls.take_if(|then| then <= now) {
                drop(state);
                if let Some(hold) = hold.upgrade() {
                    hold.let_go();
                }
                state = self.state.lock();
                continue;
            }
            match state.calls.first() {
                None => self.changed.wait(&mut state),
                Some(then) => {
                    self.changed.wait_for(&mut state, then - now);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
