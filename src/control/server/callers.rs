//! Who is connected, and who has to go when room is short: whoever keeps us waiting longest, strangers first.
//!
//! A caller keeps us waiting who is silent, has sent half a request, or does not read an answer. Nobody is cut off
//! for that alone, only where somebody else needs the place, or the memory, that he holds.

use std::collections::HashMap;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::time::Instant;

use crate::sync::{Arc, Mutex};

/// More connections at once than this are not kept.
const MOST_CALLERS: usize = 1024;
/// More bytes than this of requests that arrive and answers that leave are not held.
const MOST_BYTES: usize = 256 << 20;

/// The connections of a mount.
pub(super) struct Callers {
    most: usize,
    most_bytes: usize,
    /// A leaf in the lock order.
    there: Mutex<There>,
}

#[derive(Default)]
struct There {
    next: u64,
    by_number: HashMap<u64, Connected>,
    sent_away: u64,
}

struct Connected {
    stream: Arc<UnixStream>,
    /// Has been answered before.
    is_known: bool,
    /// Since when we wait for him; `None` while he waits for us.
    awaited: Option<Instant>,
    /// What he makes us hold.
    bytes: usize,
}

/// A connection's place, given up when dropped.
pub(super) struct Caller {
    callers: Arc<Callers>,
    number: u64,
}

impl Default for Callers {
    fn default() -> Callers {
        Callers::of(MOST_CALLERS, MOST_BYTES)
    }
}

impl Callers {
    fn of(most: usize, most_bytes: usize) -> Callers {
        Callers {
            most,
            most_bytes,
            there: Mutex::default(),
        }
    }

    /// Takes a connection in; `None` where there is no place and nobody who could go.
    pub(super) fn admit(self: &Arc<Self>, stream: &Arc<UnixStream>) -> Option<Caller> {
        let mut there = self.there.lock();
        if there.by_number.len() >= self.most && !there.send_away(|_| true, None) {
            return None;
        }
        let number = there.next;
        there.next += 1;
        let connected = Connected {
            stream: stream.clone(),
            is_known: false,
            awaited: Some(Instant::now()),
            bytes: 0,
        };
        there.by_number.insert(number, connected);
        let callers = self.clone();
        Some(Caller { callers, number })
    }

    /// Ends the connection of whoever keeps us waiting longest; false where nobody does.
    pub(super) fn send_one_away(&self) -> bool {
        self.there.lock().send_away(|_| true, None)
    }
}

impl There {
    /// Ends the connection of the one to whom `applies` who keeps us waiting longest, but for `spared`.
    fn send_away(&mut self, applies: impl Fn(&Connected) -> bool, spared: Option<u64>) -> bool {
        let awaited = self.by_number.iter().filter_map(|(number, connected)| {
            let since = connected.awaited?;
            (Some(*number) != spared && applies(connected)).then_some((
                connected.is_known,
                since,
                *number,
            ))
        });
        let Some((_, _, number)) = awaited.min() else {
            return false;
        };
        if let Some(connected) = self.by_number.remove(&number) {
            self.sent_away += 1;
            if self.sent_away.is_power_of_two() {
                log::warn!(
                    "control socket: callers who keep us waiting make room for others ({} so far)",
                    self.sent_away
                );
            }
            // His thread finds the connection closed and ends.
            let _ = connected.stream.shutdown(Shutdown::Both);
        }
        true
    }
}

impl Caller {
    /// We wait for him from now on, holding `bytes` for it; false where there is no room for them.
    pub(super) fn is_awaited(&self, bytes: usize) -> bool {
        let mut there = self.callers.there.lock();
        let Some(own) = there.by_number.get_mut(&self.number) else {
            return false;
        };
        own.awaited = Some(Instant::now());
        own.bytes = bytes;
        loop {
            let held: usize = there.by_number.values().map(|one| one.bytes).sum();
            if bytes == 0 || held <= self.callers.most_bytes {
                return true;
            }
            if !there.send_away(|one| one.bytes > 0, Some(self.number)) {
                return false;
            }
        }
    }

    /// He waits for us from now on; his request stays with us.
    pub(super) fn waits(&self) {
        if let Some(own) = self.callers.there.lock().by_number.get_mut(&self.number) {
            own.awaited = None;
        }
    }

    /// He has been answered.
    pub(super) fn is_known(&self) {
        if let Some(own) = self.callers.there.lock().by_number.get_mut(&self.number) {
            own.is_known = true;
        }
    }
}

impl Drop for Caller {
    fn drop(&mut self) {
        self.callers.there.lock().by_number.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::io::Read;
    use std::os::unix::net::UnixStream;

    use super::{Caller, Callers};
    use crate::sync::Arc;

    /// Room for three callers and ten bytes.
    fn few() -> Arc<Callers> {
        Arc::new(Callers::of(3, 10))
    }

    fn call(callers: &Arc<Callers>) -> (Option<Caller>, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        theirs.set_nonblocking(true).unwrap();
        (callers.admit(&Arc::new(ours)), theirs)
    }

    /// Whether the other end has been closed.
    fn was_cut(theirs: &mut UnixStream) -> bool {
        matches!(theirs.read(&mut [0]), Ok(0))
    }

    #[test]
    fn the_longest_silent_stranger_goes_first() {
        let callers = few();
        let (known, mut of_known) = call(&callers);
        let known = known.unwrap();
        known.is_known();
        let (first, mut of_first) = call(&callers);
        let (second, mut of_second) = call(&callers);
        let (third, _of_third) = call(&callers);
        assert!(first.is_some() && second.is_some() && third.is_some());
        assert!(was_cut(&mut of_first));
        assert!(!was_cut(&mut of_second) && !was_cut(&mut of_known));
        drop(first);
        let (fourth, _of_fourth) = call(&callers);
        assert!(fourth.is_some() && was_cut(&mut of_second) && !was_cut(&mut of_known));
    }

    #[test]
    fn who_is_being_answered_stays() {
        let callers = few();
        let placed: Vec<_> = (0..3).map(|_| call(&callers)).collect();
        for (caller, _) in &placed {
            caller.as_ref().unwrap().waits();
        }
        assert!(call(&callers).0.is_none());
        assert!(!callers.send_one_away());
        drop(placed);
        assert!(call(&callers).0.is_some());
    }

    #[test]
    fn memory_goes_from_who_keeps_us_waiting_to_who_needs_it() {
        let callers = few();
        let (slow, mut of_slow) = call(&callers);
        let (idle, mut of_idle) = call(&callers);
        let (new, mut of_new) = call(&callers);
        let (slow, idle, new) = (slow.unwrap(), idle.unwrap(), new.unwrap());
        assert!(slow.is_awaited(8));
        assert!(new.is_awaited(2));
        assert!(!was_cut(&mut of_slow));
        assert!(new.is_awaited(9));
        assert!(was_cut(&mut of_slow) && !was_cut(&mut of_idle) && !was_cut(&mut of_new));
        new.waits();
        // Nobody else holds anything that could be taken.
        assert!(!idle.is_awaited(2));
    }
}
