//! Threads that help a caller with work that it could do alone.
//!
//! The work is borrowed from the caller's stack: [`Pool::help`] lends it to the pool's threads and does not
//! return before the last of them has given it back. The caller always works too, and takes back what no
//! thread has begun, so a busy pool delays nobody, and work that asks the pool for help itself cannot
//! deadlock. This is the only place where a lifetime is stretched.
#![allow(unsafe_code)]

use std::collections::VecDeque;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::sync::{Arc, Condvar, Mutex, OnceLock, spawn_thread};

/// Requests wait for devices on these threads and compute little, so there are more of them than processors.
const THREADS: usize = 16;

/// As the waiting room's: a piece may have many devices below.
const STACK: usize = 1 << 20;

/// Work that several threads do at the same time, each until there is nothing left to do.
type Work<'a> = &'a (dyn Fn() + Sync);

/// A few threads, started when first wanted, which stay.
pub struct Pool {
    shared: Arc<Shared>,
    threads: usize,
}

struct Shared {
    /// A leaf in the lock order.
    state: Mutex<State>,
    /// There is a loan to take, or the pool ends.
    lent: Condvar,
    /// A loan was given back.
    given_back: Condvar,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Loan>,
    /// Of each loan that a thread works on, the call it belongs to.
    working: Vec<u64>,
    /// Calls whose work panicked on a thread.
    panicked: Vec<u64>,
    next_call: u64,
    threads: usize,
    idle: usize,
    ending: bool,
}

struct Loan {
    call: u64,
    work: Work<'static>,
}

/// Takes back, when dropped, everything that a call has lent.
struct Recall<'a> {
    shared: &'a Shared,
    call: u64,
}

impl Pool {
    /// At most `threads` threads, of which none is started yet.
    pub fn new(threads: usize) -> Pool {
        Pool {
            shared: Arc::new(Shared {
                state: Mutex::new(State::default()),
                lent: Condvar::new(),
                given_back: Condvar::new(),
            }),
            threads,
        }
    }

    /// The pool that all requests of the process share.
    pub fn shared() -> &'static Pool {
        static POOL: OnceLock<Pool> = OnceLock::new();
        POOL.get_or_init(|| Pool::new(THREADS))
    }

    /// Does `work` on the calling thread and, as far as they are free, on up to `helpers` others; returns when
    /// all have returned. The caller's own call is to be enough to do everything.
    ///
    /// # Panics
    /// Where `work` panics, on whichever thread, after all have returned.
    pub fn help(&self, helpers: usize, work: Work<'_>) {
        // SAFETY: the reference is used by nobody after this function has ended, be it by return or by panic.
        // Copies of it are in loans only. `recall` lives in this frame from before anything can panic, and its
        // drop removes the loans that wait and blocks until none is worked on; a thread is listed in `working`
        // from the moment it takes a loan (under the same lock) until it has returned from the work.
        let lent: Work<'static> = unsafe { mem::transmute::<Work<'_>, Work<'static>>(work) };
        let recall = self.lend(helpers, lent);
        work();
        assert!(!recall.finish(), "work lent to the pool panicked");
    }

    fn lend(&self, helpers: usize, work: Work<'static>) -> Recall<'_> {
        let mut state = self.shared.state.lock();
        let call = state.next_call;
        state.next_call += 1;
        let recall = Recall {
            shared: &self.shared,
            call,
        };
        for _ in 0..helpers.min(self.threads) {
            state.waiting.push_back(Loan { call, work });
            self.shared.lent.notify_one();
        }
        let missing = state.waiting.len().saturating_sub(state.idle);
        let new_threads = missing.min(self.threads - state.threads);
        state.threads += new_threads;
        drop(state);
        for _ in 0..new_threads {
            let shared = self.shared.clone();
            if let Err(error) = spawn_thread("dmfs-pool", STACK, move || shared.run()) {
                // The caller does the work alone.
                log::debug!("no thread for the pool: {error}");
                self.shared.state.lock().threads -= 1;
            }
        }
        recall
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.state.lock().ending = true;
        self.shared.lent.notify_all();
    }
}

impl Shared {
    fn run(&self) {
        let mut state = self.state.lock();
        while !state.ending {
            let Some(loan) = state.waiting.pop_front() else {
                state.idle += 1;
                self.lent.wait(&mut state);
                state.idle -= 1;
                continue;
            };
            let call = loan.call;
            state.working.push(call);
            drop(state);
            let result = catch_unwind(AssertUnwindSafe(loan.work));
            state = self.state.lock();
            if let Some(at) = state.working.iter().position(|&working| working == call) {
                state.working.swap_remove(at);
            }
            if result.is_err() && !state.panicked.contains(&call) {
                state.panicked.push(call);
            }
            self.given_back.notify_all();
        }
        state.threads -= 1;
    }
}

impl Recall<'_> {
    /// Takes back what no thread has begun, waits for those that have; true where one of them panicked.
    fn finish(&self) -> bool {
        let mut state = self.shared.state.lock();
        state.waiting.retain(|loan| loan.call != self.call);
        while state.working.contains(&self.call) {
            self.shared.given_back.wait(&mut state);
        }
        let panicked = state.panicked.iter().position(|&call| call == self.call);
        panicked.map(|at| state.panicked.swap_remove(at)).is_some()
    }
}

impl Drop for Recall<'_> {
    fn drop(&mut self) {
        self.finish();
    }
}

#[cfg(all(test, schedules))]
mod schedules;
#[cfg(test)]
mod tests;
