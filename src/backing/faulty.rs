//! A device that fails when told to, in place of a real one in tests of what stands above it.

use crate::io::{BlockDev, Errno, Extent, IoError, IoResult, Limits, OpKind, Request};
use crate::sync::{Arc, Mutex};
use crate::unit::{Sector, Sectors};

/// Which operations fail, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Only operations of this kind count and fail; of every kind where `None`.
    pub op: Option<OpKind>,
    /// The first one to fail, counted from 1 after the fault was set.
    pub nth: u64,
    /// How many fail from there on; `u64::MAX` for all.
    pub times: u64,
    /// What they fail with.
    pub errno: Errno,
}

/// A device that hands everything to the one below, counts it, and fails what it was told to fail. What fails does
/// not reach the device below.
pub struct Faulty {
    below: Arc<dyn BlockDev>,
    /// Not held while the device below works.
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    done: Vec<(OpKind, u64)>,
    faults: Vec<(Fault, u64)>,
    n_failed: u64,
}

impl Fault {
    /// The `nth` operation (from 1) fails with EIO, whatever it is.
    pub fn at(nth: u64) -> Fault {
        Fault {
            op: None,
            nth,
            times: 1,
            errno: Errno::IO,
        }
    }

    /// The `nth` operation of the kind `op` (from 1) fails with EIO.
    pub fn at_op(op: OpKind, nth: u64) -> Fault {
        Fault {
            op: Some(op),
            ..Fault::at(nth)
        }
    }

    /// Every operation from the `nth` on fails with EIO: the device has died.
    pub fn from(nth: u64) -> Fault {
        Fault {
            times: u64::MAX,
            ..Fault::at(nth)
        }
    }

    /// The same with another errno.
    #[must_use]
    pub fn with_errno(self, errno: Errno) -> Fault {
        Fault { errno, ..self }
    }
}

impl Faulty {
    /// `below`, which does not fail yet.
    pub fn new(below: Arc<dyn BlockDev>) -> Faulty {
        Faulty {
            below,
            state: Mutex::new(State::default()),
        }
    }

    /// Adds a fault to those that were set before.
    pub fn fail(&self, fault: Fault) {
        self.state.lock().faults.push((fault, 0));
    }

    /// Takes all faults away.
    pub fn heal(&self) {
        self.state.lock().faults.clear();
    }

    /// How many operations of the kind `op` have come, failed ones included.
    pub fn count(&self, op: OpKind) -> u64 {
        let state = self.state.lock();
        state
            .done
            .iter()
            .find(|(kind, _)| *kind == op)
            .map_or(0, |(_, n)| *n)
    }

    /// How many operations have come, failed ones included.
    pub fn total(&self) -> u64 {
        self.state.lock().done.iter().map(|(_, n)| n).sum()
    }

    /// How many operations were failed.
    pub fn n_failed(&self) -> u64 {
        self.state.lock().n_failed
    }
}

impl State {
    fn count_and_judge(&mut self, op: OpKind) -> Option<Errno> {
        match self.done.iter_mut().find(|(kind, _)| *kind == op) {
            Some((_, n)) => *n += 1,
            None => self.done.push((op, 1)),
        }
        let mut errno = None;
        for (fault, seen) in &mut self.faults {
            if fault.op.is_none_or(|kind| kind == op) {
                *seen += 1;
                if *seen >= fault.nth && *seen - fault.nth < fault.times {
                    errno = errno.or(Some(fault.errno));
                }
            }
        }
        self.n_failed += u64::from(errno.is_some());
        errno
    }
}

impl BlockDev for Faulty {
    fn capacity(&self) -> Sectors {
        self.below.capacity()
    }

    fn limits(&self) -> Limits {
        self.below.limits()
    }

    fn submit(&self, request: Request<'_>) -> IoResult {
        let judged = self.state.lock().count_and_judge(request.op.kind());
        match judged {
            Some(errno) => Err(IoError::from(errno)),
            None => self.below.submit(request),
        }
    }

    fn extent_at(&self, at: Sector) -> Extent {
        self.below.extent_at(at)
    }
}

#[cfg(test)]
mod tests {
    use super::{Fault, Faulty};
    use crate::backing::Crashing;
    use crate::io::{BlockDev, Errno, IoResult, OpKind, Request, WriteBuf};
    use crate::sync::Arc;
    use crate::unit::Sector;

    fn faulty() -> (Arc<Crashing>, Faulty) {
        let below = Arc::new(Crashing::new(vec![0; 4096]));
        (Arc::clone(&below), Faulty::new(below))
    }

    fn write(dev: &Faulty, byte: u8) -> IoResult {
        dev.submit(Request::write(Sector(0), WriteBuf::new(&[byte; 512])))
    }

    #[test]
    fn the_nth_of_a_kind_fails_and_changes_nothing() {
        let (below, dev) = faulty();
        dev.fail(Fault::at_op(OpKind::Write, 2).with_errno(Errno::NOSPC));
        assert!(write(&dev, 1).is_ok());
        assert!(dev.submit(Request::flush()).is_ok());
        assert_eq!(
            write(&dev, 2).map_err(|error| error.errno()),
            Err(Errno::NOSPC)
        );
        assert_eq!(below.contents().first(), Some(&1));
        assert!(write(&dev, 3).is_ok());
        assert_eq!(below.contents().first(), Some(&3));
        assert_eq!((dev.count(OpKind::Write), dev.count(OpKind::Flush)), (3, 1));
        assert_eq!(
            (dev.count(OpKind::Read), dev.total(), dev.n_failed()),
            (0, 4, 1)
        );
    }

    #[test]
    fn a_dead_device_stays_dead_until_healed() {
        let (_, dev) = faulty();
        dev.fail(Fault::from(2));
        assert!(write(&dev, 1).is_ok());
        for _ in 0..3 {
            assert!(dev.submit(Request::flush()).is_err());
        }
        dev.heal();
        assert!(write(&dev, 1).is_ok());
    }

    #[test]
    fn a_fault_counts_from_when_it_was_set() {
        let (_, dev) = faulty();
        assert!(write(&dev, 1).is_ok());
        dev.fail(Fault::at(1));
        assert!(write(&dev, 1).is_err());
        assert!(write(&dev, 1).is_ok());
    }
}
