//! Who holds a device open, and what that means for its removal.

use crate::io::Errno;
use crate::sync::Mutex;

/// Counts openers: open files, and tables of other devices.
#[derive(Default)]
pub struct Openers(Mutex<Count>);

#[derive(Default)]
struct Count {
    open: u32,
    deferred_remove: bool,
    removing: bool,
}

/// What became of a wish to remove a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removal {
    /// Nobody holds it open, and nobody can open it any more.
    Go,
    /// Somebody holds it open: it is removed at the last close.
    Deferred,
    /// Somebody holds it open.
    Busy,
}

impl Openers {
    /// Counts one more.
    ///
    /// # Errors
    /// ENXIO where the device is being removed.
    pub fn open(&self) -> Result<(), Errno> {
        let mut count = self.0.lock();
        if count.removing {
            return Err(Errno::NXIO);
        }
        count.open = count.open.saturating_add(1);
        Ok(())
    }

    /// Counts one less; true where a removal was waiting for this and is now to be carried out.
    #[must_use = "a deferred removal is to be carried out"]
    pub fn close(&self) -> bool {
        let mut count = self.0.lock();
        count.open = count.open.saturating_sub(1);
        let remove = count.open == 0 && count.deferred_remove && !count.removing;
        count.removing |= remove;
        remove
    }

    /// Counts `open` openers that an earlier daemon of the mount has let in; true where a removal was waiting for
    /// the last close, which has been.
    #[must_use = "a deferred removal is to be carried out"]
    pub fn restore(&self, open: u32, deferred_remove: bool) -> bool {
        let mut count = self.0.lock();
        count.open = count.open.saturating_add(open);
        count.deferred_remove = deferred_remove;
        let remove = count.open == 0 && deferred_remove;
        count.removing |= remove;
        remove
    }

    /// How many hold it open, and whether the last of them removes it.
    pub fn count(&self) -> (u32, bool) {
        let count = self.0.lock();
        (count.open, count.deferred_remove)
    }

    /// Wishes to remove the device, at the last close where `deferred` says so.
    pub fn remove(&self, deferred: bool) -> Removal {
        let mut count = self.0.lock();
        if count.removing {
            return Removal::Busy;
        }
        if count.open == 0 {
            count.removing = true;
            return Removal::Go;
        }
        if deferred {
            count.deferred_remove = true;
            return Removal::Deferred;
        }
        Removal::Busy
    }

    /// Takes back the wish to remove the device at the last close.
    ///
    /// # Errors
    /// EBUSY where it is being removed already.
    pub fn cancel_deferred_remove(&self) -> Result<(), Errno> {
        let mut count = self.0.lock();
        if count.removing {
            return Err(Errno::BUSY);
        }
        count.deferred_remove = false;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{Openers, Removal};

    #[test]
    fn the_last_close_carries_out_a_deferred_removal() {
        let openers = Openers::default();
        openers.open().expect("not being removed");
        openers.open().expect("not being removed");
        assert_eq!(openers.remove(false), Removal::Busy);
        assert_eq!(openers.remove(true), Removal::Deferred);
        assert!(!openers.close());
        assert!(openers.close());
        assert!(openers.open().is_err());
        assert!(openers.cancel_deferred_remove().is_err());
    }

    #[test]
    fn a_deferred_removal_can_be_taken_back() {
        let openers = Openers::default();
        openers.open().expect("not being removed");
        assert_eq!(openers.remove(true), Removal::Deferred);
        openers.cancel_deferred_remove().expect("still open");
        assert!(!openers.close());
        assert_eq!(openers.remove(false), Removal::Go);
    }
}
