//! Planned requests on their way through io_uring: as many under way as there is memory for, without a thread for
//! each.
//!
//! A thread with an [`OwnRing`] carries out itself what it submits, and answers it: nobody else has to be woken, which
//! would cost more than all the rest. For all others there is one thread with a ring: who submits puts the request
//! into its inbox and rings the bell (an eventfd that the ring waits for) if it sleeps. Either way one system call
//! hands over everything that has come in meanwhile and fetches everything that is done. Answers must not wait.

mod own;
mod ring;

use std::io;
use std::mem;
use std::os::fd::{AsFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::sync_channel;

use rustix::event::{EventfdFlags, eventfd};
use rustix::io::{read, write};

use super::memory::{Memory, Stock};
use super::{IoError, IoResult, Plan};
use crate::sync::{Arc, Mutex, spawn_thread};
use ring::Ring;

pub use own::OwnRing;

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
            let (ring, said) = match Ring::new() {
                Ok(ring) => (Some(ring), Ok(())),
                Err(error) => (None, Err(error)),
            };
            // Where nobody waits for it any more there is nothing to do either.
            let _ = started.send(said);
            if let Some(ring) = ring {
                inner.run(ring);
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
        let left = plan.n_pieces();
        self.shared.begin(Job {
            plan,
            data,
            done,
            left,
        });
    }
}

impl Drop for DiskQueue {
    fn drop(&mut self) {
        self.shared.inbox.lock().closed = true;
        self.shared.ring_bell();
    }
}

impl Shared {
    /// Begins with a job when nothing holds it back any more.
    fn begin(self: &Arc<Self>, mut job: Job) {
        if let Some((hold, milliseconds)) = job.plan.next_hold() {
            let shared = self.clone();
            return hold.later(milliseconds, Box::new(move || shared.begin(job)));
        }
        job.plan.start();
        if job.left == 0 {
            return job.end();
        }
        if let Some(job) = own::start(job)
            && self.inbox.lock().bring(job)
        {
            self.ring_bell();
        }
    }

    /// Carries out what is brought, until the queue is closed and everything has ended.
    fn run(&self, mut ring: Ring) {
        while self.take_in(&mut ring) {
            let ended = ring.turn(Some(self.bell.as_fd()));
            // Nobody needs to wake us now.
            self.inbox.lock().asleep = false;
            if !ring.listens() {
                // Silent until it is rung again; before anybody is told to ring it again.
                let _ = read(&self.bell, &mut [0; 8]);
            }
            ended.into_iter().for_each(Job::end);
        }
    }

    /// Takes what has been brought. Where there was nothing, whoever brings something from now on wakes us. False
    /// where nothing is under way and nothing will come.
    fn take_in(&self, ring: &mut Ring) -> bool {
        loop {
            let brought = {
                let mut inbox = self.inbox.lock();
                inbox.asleep = inbox.jobs.is_empty();
                if inbox.asleep {
                    return !(inbox.closed && ring.is_idle());
                }
                mem::take(&mut inbox.jobs)
            };
            brought.into_iter().for_each(|job| ring.start(job));
        }
    }

    fn ring_bell(&self) {
        // It fails only where the bell has been rung 2^64 times without an answer.
        if let Err(error) = write(&self.bell, &1u64.to_ne_bytes()) {
            log::error!("waking the disk queue: {error}");
        }
    }
}

impl Inbox {
    /// Takes a job in; true where the thread is to be woken.
    fn bring(&mut self, job: Job) -> bool {
        self.jobs.push(job);
        mem::take(&mut self.asleep)
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
