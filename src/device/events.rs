//! Events of a device: numbered, so that nobody who waits can miss one.

use std::time::Duration;

use crate::sync::{Arc, AtomicU32, Condvar, Mutex, Ordering};
use crate::target::EventSink;

/// How often somebody who waits is asked whether to go on waiting.
const ASK_EVERY: Duration = Duration::from_millis(50);

/// Counts events and wakes who waits for them.
#[derive(Default)]
pub struct Events {
    number: AtomicU32,
    /// Guards nothing but the moment between looking at `number` and falling asleep.
    waiters: Mutex<()>,
    raised: Condvar,
    /// Events here are events there as well.
    parent: Option<Arc<Events>>,
}

impl Events {
    /// Events that `parent` counts as well.
    pub fn under(parent: Arc<Events>) -> Events {
        Events {
            parent: Some(parent),
            ..Events::default()
        }
    }

    /// How many events there have been.
    pub fn number(&self) -> u32 {
        self.number.load(Ordering::Acquire)
    }

    /// Goes on counting from `number`, which an earlier daemon had reached.
    pub fn restore(&self, number: u32) {
        self.number.store(number, Ordering::Release);
    }

    /// Waits until the number of events is not `known`; false where `keep_waiting`, asked now and then, said no.
    pub fn wait(&self, known: u32, keep_waiting: &mut dyn FnMut() -> bool) -> bool {
        let mut waiters = self.waiters.lock();
        while self.number() == known {
            let timed_out = self.raised.wait_for(&mut waiters, ASK_EVERY).timed_out();
            if timed_out && !keep_waiting() {
                return false;
            }
        }
        true
    }
}

impl EventSink for Events {
    fn raise(&self) {
        self.number.fetch_add(1, Ordering::Release);
        {
            let _waiters = self.waiters.lock();
            self.raised.notify_all();
        }
        if let Some(parent) = &self.parent {
            parent.raise();
        }
    }
}
