//! Descriptors kept back for the control socket: where tables have used up all others, the mount still listens.

use std::fs::File;

use crate::sync::Mutex;

/// Callers who can be served at the same time when there are no descriptors left.
const N_SPARES: usize = 4;

/// Descriptors that stand for nothing until they are given up. Its lock is a leaf in the lock order.
pub(super) struct Spares(Mutex<Vec<File>>);

impl Spares {
    pub(super) fn new() -> Spares {
        let spares = Spares(Mutex::default());
        spares.refill();
        spares
    }

    /// Closes one, so that something else can be opened; false where there is none.
    pub(super) fn give_up_one(&self) -> bool {
        self.0.lock().pop().is_some()
    }

    /// Closes all.
    pub(super) fn give_up_all(&self) {
        self.0.lock().clear();
    }

    /// Takes back what was given up, as far as there are descriptors again.
    pub(super) fn refill(&self) {
        let mut spares = self.0.lock();
        while spares.len() < N_SPARES {
            match File::open("/dev/null") {
                Ok(spare) => spares.push(spare),
                Err(_) => return,
            }
        }
    }
}
