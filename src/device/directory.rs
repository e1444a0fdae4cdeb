//! The set of devices as the FUSE front sees it. The owner of all devices implements it.

use super::Device;
use crate::sync::Arc;

/// What changed in the set of devices, told after the change is visible.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A device file appeared.
    Added {
        /// Its permanent number.
        id: u64,
        /// Its name.
        name: String,
    },
    /// A device file went away.
    Removed {
        /// Its permanent number.
        id: u64,
        /// The name it had.
        name: String,
    },
    /// A device has another name.
    Renamed {
        /// Its permanent number.
        id: u64,
        /// The name before.
        from: String,
        /// The name now.
        to: String,
    },
    /// A device was resumed with another table: length, limits, mode or contents may differ.
    Changed {
        /// Its permanent number.
        id: u64,
    },
}

/// The devices of a mount, by name and by permanent number.
pub trait Directory: Send + Sync + 'static {
    /// The device called `name` (unmangled or mangled alike: the name as stored).
    fn by_name(&self, name: &str) -> Option<Arc<Device>>;

    /// The device with the permanent number `id`; numbers are never used again within a mount.
    fn by_id(&self, id: u64) -> Option<Arc<Device>>;

    /// All devices in order of their names.
    fn list(&self) -> Vec<Arc<Device>>;

    /// Carries out the removal of a device that was to wait for its last close (its openers say when
    /// that was). Not for a worker of the front: it tells the kernel, which may be waiting for that worker.
    fn remove_closed(&self, device: &Device);
}
