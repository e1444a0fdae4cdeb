//! The types that stand for themselves, and what the system adds to them.

use std::cell::Cell;
use std::io;
use std::sync::Once;
use std::sync::atomic::{Ordering, compiler_fence, fence};
use std::thread::Builder;

use rustix::thread::{MembarrierCommand, membarrier};

pub use parking_lot::{Condvar, Mutex, MutexGuard, RwLock};
pub use std::sync::atomic::{AtomicBool, AtomicI64, AtomicPtr, AtomicU32, AtomicU64, AtomicUsize};

use super::{Numbers, WORKERS};

const NO_NUMBER: usize = usize::MAX;
const NOT_ASKED: usize = usize::MAX - 1;

/// Worker numbers in use, a bit each.
static TAKEN: AtomicU32 = AtomicU32::new(0);
/// The kernel carries out the barrier for both sides.
static ASYMMETRIC: AtomicBool = AtomicBool::new(false);

thread_local! {
    static WORKER: Cell<usize> = const { Cell::new(NOT_ASKED) };
    static CLAIM: Cell<Option<Claim>> = const { Cell::new(None) };
}

/// A worker's number, given back when its thread ends.
struct Claim(usize);

impl Drop for Claim {
    fn drop(&mut self) {
        // Whatever else this thread does while it ends, it does as no worker.
        let _ = WORKER.try_with(|worker| worker.set(NO_NUMBER));
        TAKEN.fetch_and(!(1 << self.0), Ordering::Release);
    }
}

/// A small number of the calling thread, in the order in which threads first ask.
#[inline]
pub fn thread_number() -> usize {
    thread_local! {
        static NUMBER: Cell<usize> = const { Cell::new(usize::MAX) };
    }
    let number = NUMBER.get();
    if number == usize::MAX {
        NUMBER.set(next_thread_number());
        return NUMBER.get();
    }
    number
}

#[cold]
fn next_thread_number() -> usize {
    static NUMBERS: Numbers = Numbers::starting_at(0);
    NUMBERS.take() as usize
}

/// A number below [`WORKERS`] that no other thread has, where the calling thread is a worker; else a larger one.
#[inline]
pub fn worker_number() -> usize {
    WORKER.get()
}

/// Gives the calling thread a worker's number, if one is left; does so once for a thread.
#[inline]
pub fn become_worker() {
    if WORKER.get() == NOT_ASKED {
        claim_number();
    }
}

#[cold]
fn claim_number() {
    let lowest_free = |taken: u32| {
        let number = taken.trailing_ones() as usize;
        (number < WORKERS).then(|| taken | 1 << number)
    };
    let claimed = TAKEN.fetch_update(Ordering::Acquire, Ordering::Relaxed, lowest_free);
    match claimed {
        Ok(taken) => {
            let number = taken.trailing_ones() as usize;
            CLAIM.set(Some(Claim(number)));
            WORKER.set(number);
        }
        Err(_) => WORKER.set(NO_NUMBER),
    }
}

/// Starts a thread that nobody joins, with `stack` bytes of stack.
///
/// # Errors
/// What the system says where it has no thread left.
pub fn spawn_thread(
    name: &str,
    stack: usize,
    work: impl FnOnce() + Send + 'static,
) -> io::Result<()> {
    let thread = Builder::new().name(name.to_owned()).stack_size(stack);
    thread.spawn(work).map(drop)
}

/// To be called before either barrier is used.
pub fn prepare_barriers() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let registered = membarrier(MembarrierCommand::RegisterPrivateExpedited);
        ASYMMETRIC.store(registered.is_ok(), Ordering::Relaxed);
    });
}

/// Stands between a store and a later load that must not come before it, on the side that is in a hurry. Of two
/// threads, one with this and one with [`heavy_barrier`] between its store and its load, at least one sees the
/// other's store. Costs nothing where the kernel has membarrier(2).
#[inline]
pub fn light_barrier() {
    if ASYMMETRIC.load(Ordering::Relaxed) {
        compiler_fence(Ordering::SeqCst);
    } else {
        fence(Ordering::SeqCst);
    }
}

/// The other side of [`light_barrier`]: has every running thread of this process pass a barrier.
pub fn heavy_barrier() {
    fence(Ordering::SeqCst);
    if ASYMMETRIC.load(Ordering::Relaxed) {
        // Cannot fail once it is registered; were it to, those in a hurry would have to be told.
        if let Err(error) = membarrier(MembarrierCommand::PrivateExpedited) {
            log::error!("membarrier: {error}");
        }
    }
    fence(Ordering::SeqCst);
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::super::WORKERS;
    use super::{become_worker, worker_number};

    #[test]
    fn workers_have_numbers_of_their_own_and_give_them_back() {
        for _ in 0..3 * WORKERS {
            let threads: Vec<_> = (0..2)
                .map(|_| {
                    thread::spawn(|| {
                        assert!(worker_number() >= WORKERS);
                        become_worker();
                        become_worker();
                        worker_number()
                    })
                })
                .collect();
            for thread in threads {
                let number = thread.join().unwrap_or(usize::MAX);
                assert_ne!(number, usize::MAX - 1, "asked, and answered");
            }
        }
        assert!(worker_number() >= WORKERS);
    }
}
