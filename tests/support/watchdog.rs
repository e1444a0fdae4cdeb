//! Sees to it that a test fails where it would hang.
//!
//! When its time is over it cuts the connections of the mounts it minds and kills their daemons, so that whatever
//! waits for them gets an error; a test that hangs even then takes the whole test program along.

use super::mount::Mount;
use dmfs::daemon::connection::Connection;
use rustix::process::{Pid, Signal, kill_process};
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// How long a test may take to fail once it was helped to.
const LAST_CHANCE: Duration = Duration::from_secs(20);

/// A mount's connection, where it can be had, and its daemon.
type Minded = (Option<Connection>, Pid);

/// Minds a test until it is dropped.
pub struct Watchdog {
    bitten: Arc<AtomicBool>,
    mounts: Arc<Mutex<Vec<Minded>>>,
    _alive: Sender<()>,
}

impl Watchdog {
    /// The test may take `seconds`.
    pub fn of_seconds(seconds: u64) -> Watchdog {
        let (alive, gone) = channel::<()>();
        let (bitten, mounts) = (Arc::new(AtomicBool::new(false)), Arc::default());
        let watchdog = Watchdog {
            bitten: Arc::clone(&bitten),
            mounts: Arc::clone(&mounts),
            _alive: alive,
        };
        let test = thread::current().name().unwrap_or("a test").to_owned();
        thread::spawn(move || {
            let patience = Duration::from_secs(seconds);
            if gone.recv_timeout(patience) == Err(RecvTimeoutError::Disconnected) {
                return;
            }
            eprintln!("{test}: not over after {seconds} seconds");
            bitten.store(true, Ordering::SeqCst);
            for (connection, pid) in mounts.lock().unwrap().iter() {
                let cut = connection.as_ref().map(Connection::cut);
                let killed = kill_process(*pid, Signal::KILL);
                eprintln!("{test}: cut its connection: {cut:?}; killed {pid:?}: {killed:?}");
            }
            if gone.recv_timeout(LAST_CHANCE) == Err(RecvTimeoutError::Timeout) {
                eprintln!("{test}: hangs for good");
                std::process::abort();
            }
        });
        watchdog
    }

    /// Takes this mount and its daemon into account.
    pub fn mind(&self, mount: &Mount) {
        let about = mount.at().metadata().unwrap();
        let pid = Pid::from_raw(mount.pid().try_into().unwrap()).unwrap();
        let connection = Connection::of(about.dev()).ok();
        self.mounts.lock().unwrap().push((connection, pid));
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        if self.bitten.load(Ordering::SeqCst) && !thread::panicking() {
            panic!("it took too long");
        }
    }
}
