//! A thread's own way to the disks: what it submits is carried out through a ring of its own, without another thread.

use std::cell::RefCell;
use std::marker::PhantomData;
use std::os::fd::BorrowedFd;

use super::Job;
use super::ring::Ring;

thread_local! {
    static RING: RefCell<Option<Ring>> = const { RefCell::new(None) };
}

/// The calling thread carries out what it submits to a [`super::DiskQueue`] by itself, as long as it has this: it has
/// to take turns until nothing is under way. Dropping it waits for that.
pub struct OwnRing(PhantomData<*const ()>);

impl OwnRing {
    /// A ring for the calling thread; `None` where the kernel has none for us.
    pub fn new() -> Option<OwnRing> {
        let ring = Ring::new().ok()?;
        RING.set(Some(ring));
        Some(OwnRing(PhantomData))
    }

    /// True where nothing is under way.
    pub fn is_idle(&self) -> bool {
        RING.with_borrow(|ring| ring.as_ref().is_none_or(Ring::is_idle))
    }

    /// Hands over what was submitted, waits until something has ended or `call` can be read, and answers what has
    /// ended.
    pub fn turn(&self, call: Option<BorrowedFd<'_>>) {
        let ended = RING.with_borrow_mut(|ring| ring.as_mut().map(|ring| ring.turn(call)));
        ended.into_iter().flatten().for_each(Job::end);
    }
}

impl Drop for OwnRing {
    fn drop(&mut self) {
        while !self.is_idle() {
            self.turn(None);
        }
        RING.set(None);
    }
}

/// Gives `job` to the calling thread's ring, or back where it has none.
pub(super) fn start(job: Job) -> Option<Job> {
    RING.with(|ring| match ring.try_borrow_mut() {
        Ok(mut ring) => match &mut *ring {
            Some(ring) => {
                ring.start(job);
                None
            }
            None => Some(job),
        },
        Err(_) => Some(job),
    })
}
