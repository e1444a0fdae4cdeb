//! What lies around the registry.

use crate::backing::loop_device::Reserved;
use crate::control::Refusal;
use crate::control::state::AttachedRecord;
use crate::device::{CachePolicy, Change, Device};
use crate::io::Errno;

/// What lies around the registry and has to keep up with it: the mount and its loop devices.
pub trait Surroundings: Send + Sync {
    /// The set of devices has changed so. Called without any lock held.
    fn changed(&self, change: &Change);

    /// Waits until openers that have gone are counted as gone: the kernel tells of a close only after the process
    /// that closed has gone on.
    fn settle(&self);

    /// Lets go of a device that is to be removed, as far as nobody else uses what holds it.
    fn let_go(&self, device: &Device);

    /// Takes the number that a device which is to be made has on this machine; `None` where the registry counts by
    /// itself.
    ///
    /// # Errors
    /// Where there is none, or `wanted` is taken.
    fn reserve(&self, _wanted: Option<u32>) -> Result<Option<Reserved>, Refusal> {
        Ok(None)
    }

    /// Shows a device that was just made to the machine. It is not made where that fails.
    ///
    /// # Errors
    /// EAGAIN where it is to be tried with another number; what stands in the way.
    fn appear(&self, _device: &Device, _reserved: Reserved) -> Result<(), Refusal> {
        Ok(())
    }

    /// A table lies on the device from now on.
    ///
    /// # Errors
    /// EBUSY where somebody has the device for himself.
    fn hold(&self, _device: &Device) -> Result<(), Errno> {
        Ok(())
    }

    /// A table that lay on the device is gone.
    fn unhold(&self, _device: &Device) {}

    /// How many have the device open, `counted` of them its file or as tables; `look`: whatever it takes to know.
    fn open_count(&self, _device: &Device, counted: u32, _look: bool) -> u32 {
        counted
    }

    /// The device is to be removed when its last user lets go of it, or not any more where `not` is set.
    fn leave(&self, _device: &Device, _not: bool) {}

    /// Sends what was written to the device's file and is cached to the device, and forgets what was read.
    fn write_back(&self, device: &Device);

    /// Whether files can be opened with this policy.
    ///
    /// # Errors
    /// Why not.
    fn offers(&self, policy: CachePolicy) -> Result<(), String>;

    /// Notes what a device is like now, for a daemon that may have to go on where this one dies. What is not noted
    /// has not happened; no caller is answered before.
    fn note(&self, _device: &Device) {}

    /// Notes which loop devices are attached now, likewise.
    fn note_loops(&self, _loops: Vec<AttachedRecord>) {}
}
