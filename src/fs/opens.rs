//! How a file is opened: who caches its data, and whether the kernel goes around the daemon.
//!
//! The kernel lets an inode be open either around the daemon or not: all files that are open of it at one time are
//! of the same sort, with the same backing file. So the first one decides.

use super::transport::{Backing, Connection};
use crate::device::{Bypass, CachePolicy, Device};
use crate::sync::{Arc, Mutex};

const FOPEN_DIRECT_IO: u32 = 1;
const FOPEN_KEEP_CACHE: u32 = 1 << 1;
const FOPEN_NOFLUSH: u32 = 1 << 5;
const FOPEN_PARALLEL_DIRECT_WRITES: u32 = 1 << 6;
const FOPEN_PASSTHROUGH: u32 = 1 << 7;

const UNCACHED: u32 = FOPEN_DIRECT_IO | FOPEN_PARALLEL_DIRECT_WRITES | FOPEN_NOFLUSH;
const CACHED: u32 = FOPEN_KEEP_CACHE | FOPEN_NOFLUSH;

/// What an open is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opened {
    /// FOPEN_*
    pub flags: u32,
    /// Number of the backing file, where the kernel goes around the daemon.
    pub backing: i32,
}

/// The open files of one inode.
#[derive(Default)]
pub struct Opens(Mutex<Open>);

/// Locked for moments; a device's `moves` may be tried meanwhile, never waited for.
#[derive(Default)]
struct Open {
    files: u32,
    around: Option<Around>,
}

/// The kernel goes around the daemon. The backing file goes first: then the device can be suspended.
struct Around {
    backing: Backing,
    _bypass: Bypass,
}

impl Opens {
    /// Counts one more, which `device` counts already. `around` is the way to hand over backing files, where there
    /// is one.
    pub fn open(&self, device: &Arc<Device>, around: Option<&Arc<Connection>>) -> Opened {
        let mut open = self.0.lock();
        let policy = device.cache_policy();
        // Files that another daemon of this mount has opened are counted by the device alone.
        let is_only = open.files == 0 && device.openers().count().0 == 1;
        if is_only && policy == CachePolicy::Passthrough {
            open.around = around.and_then(|connection| Around::begin(device, connection));
        }
        open.files = open.files.saturating_add(1);
        let (flags, backing) = match &open.around {
            Some(around) => (FOPEN_PASSTHROUGH, around.backing.number()),
            None if policy.caches() => (CACHED, 0),
            None => (UNCACHED, 0),
        };
        Opened { flags, backing }
    }

    /// What one that is counted already is answered again.
    pub fn again(&self, device: &Device) -> Opened {
        let flags = match device.cache_policy().caches() {
            true => CACHED,
            false => UNCACHED,
        };
        Opened { flags, backing: 0 }
    }

    /// Counts `files` that an earlier daemon has opened.
    pub fn restore(&self, files: u32) {
        self.0.lock().files = files;
    }

    /// Counts one less.
    pub fn close(&self) {
        let mut open = self.0.lock();
        open.files = open.files.saturating_sub(1);
        if open.files == 0 {
            open.around = None;
        }
    }

    /// True where the kernel may hold data of the device's file: it is open, not around the daemon.
    pub fn may_be_cached(&self, device: &Device) -> bool {
        self.0.lock().around.is_none() && device.openers().count().0 > 0
    }
}

impl Around {
    fn begin(device: &Arc<Device>, connection: &Arc<Connection>) -> Option<Around> {
        let tell = |file: std::os::fd::BorrowedFd<'_>| {
            Backing::open(connection, file)
                .inspect_err(|error| log::info!("{}: no passthrough: {error}", device.name()))
                .ok()
        };
        let (bypass, backing) = Bypass::begin(device, tell)?;
        Some(Around {
            backing,
            _bypass: bypass,
        })
    }
}
