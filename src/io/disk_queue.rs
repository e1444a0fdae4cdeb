//! Planned requests on their way through io_uring: as many under way as there is memory for, with one thread for all
//! of them.
//!
//! The thread owns the ring. Who submits puts a request into the inbox and rings the bell (an eventfd on which the
//! ring waits) if the thread sleeps; so one system call hands over everything that has come in meanwhile and fetches
//! everything that is done. Answers are given on that thread, which therefore must not wait.

mod ring;

use std::io;
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::sync_channel;

use rustix::event::{EventfdFlags, eventfd};

use super::memory::{Memory, Stock};
use super::{IoError, IoResult, Plan};
use crate::sync::{Arc, Mutex, spawn_thread};
use ring::Ring;

/// Answers of the front are the deepest that is called here.
const STACK: usize = 1 << 20;

/// Is told how a request ended, with its data. Called on the queue's thread; must not wait.
pub type Done = Box<dyn FnOnce(IoResult, &mut [u8]) + Send>;

/// Carries out plans. Dropped, it still ends those that it was given.
pub struct DiskQueue {
    shared: Arc<Shared>,
    stock: Arc<Stock>,
}

struct Shared {
    /// A leaf in the lock order.
    inbox: Mutex<Inbox>,
    bell: OwnedFd,
}

#[derive(Default)]
struct Inbox {
    jobs: Vec<Job>,
    /// The thread sleeps, or is about to: who brings something wakes it.
    asleep: bool,
    closed: bool,
}

/// A request that is under way or about to be.
struct Job {
    plan: Plan,
    data: Memory,
    done: Done,
    /// Pieces that have not ended.
    left: usize,
}

impl DiskQueue {
    /// A queue whose requests have at most `memory` bytes of data together.
    ///
    /// # Errors
    /// What the system says where it has no io_uring for us (none in the kernel, switched off, or filtered), or no
    /// thread.
    pub fn start(name: &str, memory: usize) -> io::Result<DiskQueue> {
        let shared = Arc::new(Shared {
            inbox: Mutex::default(),
            bell: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
        });
        let (started, answer) = sync_channel(1);
        let inner = shared.clone();
        // The kernel ties a ring to the thread that makes it.
        spawn_thread(name, STACK, move || {
            let made = Ring::new(inner.clone());
            let (ring, said) = match made {
                Ok(ring) => (Some(ring), Ok(())),
                Err(error) => (None, Err(error)),
            };
            // Where nobody waits for it any more there is nothing to do either.
            let _ = started.send(said);
            if let Some(ring) = ring {
                ring.run();
            }
        })?;
        let ended = |_| Err(io::Error::other("the thread has ended"));
        answer.recv().unwrap_or_else(ended)?;
        Ok(DiskQueue {
            shared,
            stock: Stock::new(memory),
        })
    }

    /// Memory for the data of a request: `len` bytes, left over from before. `None` where too much is under way.
    pub fn memory(&self, len: usize) -> Option<Memory> {
        self.stock.lend(len)
    }

    /// Carries out `plan` on `data` and calls `done` when it has ended. Does not wait.
    pub fn submit(&self, plan: Plan, mut data: Memory, done: Done) {
        if plan.data_end() > data.len() {
            drop(plan);
            return done(Err(IoError::IO), &mut data);
        }
        plan.start();
        let job = Job {
            left: plan.n_pieces(),
            plan,
            data,
            done,
        };
        if job.left == 0 {
            return job.end();
        }
        if self.shared.inbox.lock().bring(job) {
            self.shared.ring_bell();
        }
    }
}

impl Drop for DiskQueue {
    fn drop(&mut self) {
        self.shared.inbox.lock().closed = true;
        self.shared.ring_bell();
    }
}

impl Shared {
    fn ring_bell(&self) {
        // It fails only where the bell has been rung 2^64 times without an answer.
        if let Err(error) = rustix::io::write(&self.bell, &1u64.to_ne_bytes()) {
            log::error!("waking the disk queue: {error}");
        }
    }
}

impl Inbox {
    /// Takes a job in; true where the thread is to be woken.
    fn bring(&mut self, job: Job) -> bool {
        self.jobs.push(job);
        std::mem::take(&mut self.asleep)
    }
}

impl Job {
    /// Tells everybody that all pieces have ended.
    fn end(self) {
        let Job {
            plan,
            mut data,
            done,
            ..
        } = self;
        let told = catch_unwind(AssertUnwindSafe(|| done(plan.end(), &mut data)));
        if told.is_err() {
            log::error!("disk queue: an answer panicked");
        }
    }
}

#[cfg(test)]
mod tests;
