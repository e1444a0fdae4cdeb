//! Where answers come back to their ring thread, from whatever thread made them; a bell wakes it where it sleeps.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{EventfdFlags, eventfd};
use rustix::io::write;

use crate::io::Errno;
use crate::sync::Mutex;

/// The longest answer that is a structure (struct fuse_entry_out), bytes.
pub const STRUCTURE: usize = 128;

/// What follows the header of an answer.
pub enum Body {
    /// So many bytes from the start of the entry's payload.
    InPlace(usize),
    /// A structure, and its length.
    Structure([u8; STRUCTURE], usize),
    /// What was made elsewhere.
    Elsewhere(Box<[u8]>),
}

impl Body {
    /// A copy of `bytes`.
    #[inline]
    pub fn copy_of(bytes: &[u8]) -> Body {
        let mut copy = [0; STRUCTURE];
        match copy.get_mut(..bytes.len()) {
            Some(place) => {
                place.copy_from_slice(bytes);
                Body::Structure(copy, bytes.len())
            }
            None => Body::Elsewhere(bytes.into()),
        }
    }

    /// What was copied.
    pub fn bytes(&self) -> &[u8] {
        match self {
            Body::InPlace(_) => &[],
            Body::Structure(copy, len) => copy.get(..*len).unwrap_or_default(),
            Body::Elsewhere(bytes) => bytes,
        }
    }
}

/// The answer to the request in an entry.
pub struct Finished {
    /// The entry.
    pub index: usize,
    /// What is answered.
    pub answer: Result<Body, Errno>,
}

/// The answers of one ring thread's entries.
pub struct Exchange {
    /// A leaf in the lock order.
    state: Mutex<State>,
    bell: OwnedFd,
}

#[derive(Default)]
struct State {
    finished: Vec<Finished>,
    /// The thread has looked here for the last time before it sleeps.
    asleep: bool,
    stopped: bool,
}

impl Exchange {
    /// An empty one.
    ///
    /// # Errors
    /// What the system says where it has no descriptor left.
    pub fn new() -> Result<Exchange, Errno> {
        Ok(Exchange {
            state: Mutex::default(),
            bell: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
        })
    }

    /// What becomes readable, anew each time, where the thread is to wake up.
    pub fn bell(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }

    /// Takes an answer to the thread.
    pub fn put(&self, finished: Finished) {
        self.change(|state| state.finished.push(finished));
    }

    /// Has the thread end.
    pub fn stop(&self) {
        self.change(|state| state.stopped = true);
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.state.lock();
        change(&mut state);
        let asleep = std::mem::take(&mut state.asleep);
        drop(state);
        // A full counter rings as well.
        if asleep && let Err(error) = write(&self.bell, &1u64.to_ne_bytes()) {
            log::warn!("waking a ring thread: {error}");
        }
    }

    /// Moves the answers so far to `into`, which is empty; false where the thread is to end. With `sleeping` the
    /// bell rings from now on until [`Exchange::wake_up`].
    pub fn take(&self, into: &mut Vec<Finished>, sleeping: bool) -> bool {
        let mut state = self.state.lock();
        std::mem::swap(&mut state.finished, into);
        state.asleep = sleeping;
        !state.stopped
    }

    /// The thread is awake: what comes now it will see without a bell.
    pub fn wake_up(&self) {
        self.state.lock().asleep = false;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use rustix::io::read;

    use super::{Body, Exchange, Finished};
    use crate::io::Errno;

    fn rings(exchange: &Exchange) -> bool {
        read(exchange.bell(), &mut [0; 8]).is_ok()
    }

    fn failed(index: usize) -> Finished {
        Finished {
            index,
            answer: Err(Errno::IO),
        }
    }

    #[test]
    fn the_bell_rings_once_for_who_sleeps_and_not_for_who_does_not() {
        let exchange = Exchange::new().unwrap();
        exchange.put(failed(1));
        assert!(!rings(&exchange));
        let mut taken = Vec::new();
        assert!(exchange.take(&mut taken, true));
        assert_eq!(taken.len(), 1);
        exchange.put(failed(2));
        assert!(rings(&exchange));
        exchange.put(failed(3));
        assert!(!rings(&exchange));
        taken.clear();
        assert!(exchange.take(&mut taken, true));
        let indices: Vec<_> = taken.iter().map(|finished| finished.index).collect();
        assert_eq!(indices, [2, 3]);
        exchange.wake_up();
        exchange.stop();
        assert!(!rings(&exchange));
        taken.clear();
        assert!(!exchange.take(&mut taken, true));
    }

    #[test]
    fn a_body_of_any_length_is_copied_whole() {
        for len in [0, 1, 128, 129, 5000] {
            let bytes: Vec<u8> = (0..len).map(|number: u32| number as u8).collect();
            assert_eq!(Body::copy_of(&bytes).bytes(), bytes);
        }
    }
}
