//! Open files whose reads and writes the kernel carries out on the backing file, around the gate.
//!
//! Such a file cannot be held back, nor moved to another table, before it is closed. So a device with one refuses
//! to be suspended, and one that is being suspended or resumed, or is suspended, lets none begin. That is decided
//! under the device's `moves`, which an opener only tries to take: it must not wait.

use std::os::fd::BorrowedFd;

use super::Device;
use crate::sync::{Arc, AtomicU64, Ordering};
use crate::target::Access;

/// How many files go around the gate. Both change under the device's `moves`, or go down.
#[derive(Default)]
pub(super) struct Bypasses {
    present: AtomicU64,
    ever: AtomicU64,
}

impl Bypasses {
    pub(super) fn is_empty(&self) -> bool {
        self.present.load(Ordering::Acquire) == 0
    }

    /// How many there have been: what they wrote is in no counter.
    pub(super) fn ever(&self) -> u64 {
        self.ever.load(Ordering::Relaxed)
    }
}

/// The right of the kernel to go around the gate, until it is dropped.
pub struct Bypass(Arc<Device>);

impl Bypass {
    /// Lets the kernel go around the gate of `device` and hands the backing file to `tell`, which tells the kernel.
    /// `None` where the device is not exactly one whole regular file that may be written, where it is suspended or
    /// about to be, or where `tell` fails.
    pub fn begin<T>(
        device: &Arc<Device>,
        tell: impl FnOnce(BorrowedFd<'_>) -> Option<T>,
    ) -> Option<(Bypass, T)> {
        let _move = device.moves.try_lock()?;
        if device.slots.lock().suspended {
            return None;
        }
        let table = device.active()?;
        if table.access() == Access::ReadOnly {
            return None;
        }
        let told = tell(table.whole_file()?)?;
        device.bypasses.present.fetch_add(1, Ordering::Relaxed);
        device.bypasses.ever.fetch_add(1, Ordering::Relaxed);
        Some((Bypass(device.clone()), told))
    }
}

impl Drop for Bypass {
    fn drop(&mut self) {
        // Pairs with the load of a suspend: what the kernel wrote is there to be flushed.
        self.0.bypasses.present.fetch_sub(1, Ordering::Release);
    }
}
