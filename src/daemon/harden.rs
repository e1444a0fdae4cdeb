//! Hardening: a loop device over one of our files, or a shared mapping of one, must not deadlock when memory is short.
//!
//! The kernel writes back pages through us, and we need memory for that: none of it may have to be found by waiting
//! for those very pages. So the daemon leaves a group whose memory is limited, locks what it has and will have, works
//! around the page cache below, tells the kernel what it is, and has a watchdog ([`super::watchdog`]) for what is left.
//! A mount is hardened from the start (`--harden`, `harden = true`), or as far as that goes later, when root attaches a
//! loop device. Nothing here is a reason not to serve: what cannot be had is told.

use rustix::mm::{MlockAllFlags, mlockall};
use rustix::process::configure_io_flusher_behavior;
use rustix::process::getuid;

use super::cgroup::Group;
use super::connection::Connection;
use super::heap;
use super::watchdog::Watchdog;
use crate::fs::Mounted;
use crate::sync::{Mutex, OnceLock};

/// Threads for requests that wait (long zeroing, slow flushes, suspended devices) that are there from the start.
const READY_THREADS: usize = 8;

/// What was done so far.
#[derive(Default)]
pub struct Hardening {
    process: OnceLock<()>,
    /// Guards starting it; a leaf in the lock order.
    watchdog: Mutex<Option<Watchdog>>,
}

impl Hardening {
    /// Hardens this process. Threads that are started later profit fully, others in part.
    pub fn harden_process(&self) {
        self.process.get_or_init(|| {
            leave_limited_group();
            if let Err(error) = configure_io_flusher_behavior(true) {
                log::info!(
                    "harden: the kernel is not told what we are (PR_SET_IO_FLUSHER): {error}"
                );
            }
            heap::settle();
            // Not on fault: the first touch of a page is what must not have to wait.
            if let Err(error) = mlockall(MlockAllFlags::CURRENT | MlockAllFlags::FUTURE) {
                log::warn!(
                    "harden: memory is not locked: {error}; root may, others up to `ulimit -l`"
                );
            }
        });
    }

    /// Has ready what serves `mounted`, and watches over it: the mount whose files have the device number `st_dev`.
    pub fn watch(&self, mounted: &Mounted, st_dev: u64) {
        if let Err(error) = mounted.keep_ready(READY_THREADS) {
            log::warn!("harden: not all threads are ready: {error}");
        }
        let mut watchdog = self.watchdog.lock();
        if watchdog.is_none() {
            match Connection::of(st_dev).and_then(Watchdog::start) {
                Ok(started) => *watchdog = Some(started),
                Err(error) => log::warn!("harden: no watchdog: {error}"),
            }
        }
    }

    /// What is done when a loop device is attached: everything that can be, for root.
    pub fn at_attach(&self, mounted: &Mounted, st_dev: u64) {
        if getuid().is_root() {
            self.harden_process();
            self.watch(mounted, st_dev);
        }
    }

    /// What the watchdog did, if it did something.
    pub fn report(&self) -> Option<String> {
        self.watchdog.lock().as_ref().and_then(Watchdog::report)
    }
}

fn leave_limited_group() {
    let Some(group) = Group::current() else {
        return;
    };
    let Some((limited, bytes)) = group.limited_by() else {
        return;
    };
    let mib = bytes >> 20;
    match group.leave(&limited) {
        Ok(own) => log::info!(
            "harden: moved from {} ({mib} MiB) to {}",
            limited.display(),
            own.display()
        ),
        Err(error) => log::warn!(
            "harden: memory stays limited to {mib} MiB by {}: {error}",
            limited.display()
        ),
    }
}
