//! Loom's types in the shape of those that they stand for.
#![allow(missing_docs, reason = "each stands for an item documented elsewhere")]

use std::io;
use std::ops::{Deref, DerefMut};
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use loom::sync::atomic::{Ordering, fence};
use loom::thread;

pub use loom::sync::atomic::{AtomicBool, AtomicI64, AtomicPtr, AtomicU32, AtomicU64, AtomicUsize};

/// parking_lot's mutex.
#[derive(Debug, Default)]
pub struct Mutex<T>(loom::sync::Mutex<T>);

/// parking_lot's guard, which a [`Condvar`] borrows rather than takes.
pub struct MutexGuard<'a, T>(&'a Mutex<T>, Option<loom::sync::MutexGuard<'a, T>>);

/// parking_lot's condition variable.
#[derive(Debug, Default)]
pub struct Condvar(loom::sync::Condvar);

/// parking_lot's lock for many readers.
#[derive(Debug, Default)]
pub struct RwLock<T>(loom::sync::RwLock<T>);

/// Whether a wait ended by itself.
pub struct WaitTimeoutResult(bool);

impl<T> Mutex<T> {
    pub fn new(value: T) -> Mutex<T> {
        Mutex(loom::sync::Mutex::new(value))
    }

    pub fn lock(&self) -> MutexGuard<'_, T> {
        MutexGuard(
            self,
            Some(self.0.lock().unwrap_or_else(PoisonError::into_inner)),
        )
    }

    pub fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        Some(MutexGuard(self, Some(self.0.try_lock().ok()?)))
    }

    pub fn get_mut(&mut self) -> &mut T {
        self.0.get_mut().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn into_inner(self) -> T {
        self.0.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        self.1
            .as_ref()
            .expect("a guard is without its lock only while it waits")
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.1
            .as_mut()
            .expect("a guard is without its lock only while it waits")
    }
}

impl Condvar {
    pub fn new() -> Condvar {
        Condvar::default()
    }

    pub fn wait<T>(&self, guard: &mut MutexGuard<'_, T>) {
        let held = guard
            .1
            .take()
            .expect("a guard is without its lock only while it waits");
        guard.1 = Some(self.0.wait(held).unwrap_or_else(PoisonError::into_inner));
    }

    pub fn wait_for<T>(&self, guard: &mut MutexGuard<'_, T>, time: Duration) -> WaitTimeoutResult {
        if time.is_zero() {
            drop(guard.1.take());
            thread::yield_now();
            guard.1 = Some(guard.0.0.lock().unwrap_or_else(PoisonError::into_inner));
            return WaitTimeoutResult(true);
        }
        self.wait(guard);
        WaitTimeoutResult(false)
    }

    pub fn wait_until<T>(
        &self,
        guard: &mut MutexGuard<'_, T>,
        deadline: Instant,
    ) -> WaitTimeoutResult {
        self.wait_for(guard, deadline.saturating_duration_since(Instant::now()))
    }

    pub fn notify_one(&self) {
        self.0.notify_one();
    }

    pub fn notify_all(&self) {
        self.0.notify_all();
    }
}

impl WaitTimeoutResult {
    pub fn timed_out(&self) -> bool {
        self.0
    }
}

impl<T> RwLock<T> {
    pub fn new(value: T) -> RwLock<T> {
        RwLock(loom::sync::RwLock::new(value))
    }

    pub fn read(&self) -> loom::sync::RwLockReadGuard<'_, T> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn write(&self) -> loom::sync::RwLockWriteGuard<'_, T> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The number of the calling thread in this run of the test.
pub fn thread_number() -> usize {
    let id = format!("{:?}", thread::current().id());
    id.chars()
        .filter_map(|digit| digit.to_digit(10))
        .fold(0, |n, digit| n * 10 + digit as usize)
}

pub fn spawn_thread(
    _name: &str,
    _stack: usize,
    work: impl FnOnce() + Send + 'static,
) -> io::Result<()> {
    drop(thread::spawn(work));
    Ok(())
}

/// The second thread of a test (the first it starts) is a worker, no other.
pub fn worker_number() -> usize {
    thread_number().checked_sub(1).unwrap_or(usize::MAX)
}

pub fn become_worker() {}

pub fn prepare_barriers() {}

pub fn light_barrier() {
    // Loom changes threads before an access, but not before a fence.
    AtomicBool::new(false).load(Ordering::Relaxed);
    fence(Ordering::SeqCst);
}

pub fn heavy_barrier() {
    light_barrier();
}

/// Runs `test` under every schedule in which threads are preempted at most `preemptions` times.
#[cfg(test)]
pub fn explore(preemptions: usize, test: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.max_branches = 20_000;
    builder.check(test);
}
