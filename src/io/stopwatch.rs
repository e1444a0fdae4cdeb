//! How long requests take, measured only while somebody looks: a request that nobody looks at reads no clock.
//!
//! Who looks says for how long, and asks again before that is over; nobody has to say that they have gone. Who counts
//! requests has the watch run always, and says so when they have gone.

use std::time::{Duration, Instant};

use crate::sync::{AtomicU64, OnceLock, Ordering};

/// The longest that one question keeps the watch going.
const LONGEST: Duration = Duration::from_secs(3600);

/// The watch of one device.
pub struct Stopwatch<const KINDS: usize> {
    /// The moment up to which requests are measured; 0 while nobody looks, the end of time while somebody counts.
    until: AtomicU64,
    measured: [Measured; KINDS],
}

#[derive(Default)]
struct Measured {
    requests: AtomicU64,
    nanoseconds: AtomicU64,
}

/// When a request that is measured began; 0 for one that is not.
#[derive(Clone, Copy, Debug)]
pub struct Begun(u64);

/// What has been measured of one operation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Durations {
    /// Requests that were measured.
    pub requests: u64,
    /// How long all of these took, one after the other.
    pub nanoseconds: u64,
}

impl Begun {
    /// The moment; 0 where the request is not measured.
    #[inline]
    pub fn nanoseconds(self) -> u64 {
        self.0
    }
}

/// Nanoseconds since the first question of this process, never 0.
pub fn now() -> u64 {
    static START: OnceLock<Instant> = OnceLock::new();
    let elapsed = START.get_or_init(Instant::now).elapsed().as_nanos();
    u64::try_from(elapsed).unwrap_or(u64::MAX - 1) + 1
}

impl<const KINDS: usize> Stopwatch<KINDS> {
    /// A watch that stands.
    pub fn new() -> Stopwatch<KINDS> {
        Stopwatch {
            until: AtomicU64::new(0),
            measured: std::array::from_fn(|_| Measured::default()),
        }
    }

    /// Somebody looks: measures for a while, an hour at most.
    pub fn look(&self, time: Duration) {
        let until = now().saturating_add(time.min(LONGEST).as_nanos() as u64);
        // Somebody else may look for longer.
        self.until.fetch_max(until, Ordering::Relaxed);
    }

    /// Measures until told otherwise.
    pub fn look_always(&self, always: bool) {
        // Who looks meanwhile, for a while, asks again.
        let until = if always { u64::MAX } else { 0 };
        if always || self.until.load(Ordering::Relaxed) == u64::MAX {
            self.until.store(until, Ordering::Relaxed);
        }
    }

    /// A request begins.
    #[inline]
    pub fn begin(&self) -> Begun {
        match self.until.load(Ordering::Relaxed) {
            0 => Begun(0),
            until => self.begin_measured(until),
        }
    }

    #[cold]
    fn begin_measured(&self, until: u64) -> Begun {
        let now = now();
        if now > until {
            // Somebody who looks just now is measured for from the next question on.
            self.until.store(0, Ordering::Relaxed);
            return Begun(0);
        }
        Begun(now)
    }

    /// The request has its answer.
    #[inline]
    pub fn end(&self, kind: usize, begun: Begun) {
        if begun.0 != 0 {
            self.end_measured(kind, begun);
        }
    }

    #[cold]
    fn end_measured(&self, kind: usize, begun: Begun) {
        if let Some(measured) = self.measured.get(kind) {
            let took = now().saturating_sub(begun.0);
            measured.requests.fetch_add(1, Ordering::Relaxed);
            measured.nanoseconds.fetch_add(took, Ordering::Relaxed);
        }
    }

    /// What has been measured of each operation since the start.
    pub fn durations(&self) -> [Durations; KINDS] {
        std::array::from_fn(|kind| {
            self.measured
                .get(kind)
                .map_or_else(Durations::default, |measured| Durations {
                    requests: measured.requests.load(Ordering::Relaxed),
                    nanoseconds: measured.nanoseconds.load(Ordering::Relaxed),
                })
        })
    }
}

impl<const KINDS: usize> Default for Stopwatch<KINDS> {
    fn default() -> Stopwatch<KINDS> {
        Stopwatch::new()
    }
}

#[cfg(all(test, not(schedules)))]
mod tests {
    use std::thread::sleep;
    use std::time::Duration;

    use super::{Durations, Ordering, Stopwatch, now};

    #[test]
    fn nothing_is_measured_while_nobody_looks() {
        let watch: Stopwatch<2> = Stopwatch::new();
        let begun = watch.begin();
        watch.end(0, begun);
        assert_eq!(watch.durations(), [Durations::default(); 2]);
    }

    #[test]
    fn who_counts_has_everything_measured() {
        let watch: Stopwatch<1> = Stopwatch::new();
        watch.look(Duration::from_secs(9));
        watch.look_always(false);
        assert_ne!(watch.begin().nanoseconds(), 0);
        watch.look_always(true);
        watch.look(Duration::ZERO);
        sleep(Duration::from_millis(1));
        assert_ne!(watch.begin().nanoseconds(), 0);
        watch.look_always(false);
        assert_eq!(watch.begin().nanoseconds(), 0);
    }

    #[test]
    fn what_takes_long_is_measured_long() {
        let watch: Stopwatch<2> = Stopwatch::new();
        watch.look(Duration::from_secs(9));
        let begun = watch.begin();
        sleep(Duration::from_millis(20));
        watch.end(1, begun);
        let [first, second] = watch.durations();
        assert_eq!((first.requests, second.requests), (0, 1));
        assert!((20_000_000..10_000_000_000).contains(&second.nanoseconds));
    }

    #[test]
    fn who_no_longer_asks_is_forgotten() {
        let watch: Stopwatch<1> = Stopwatch::new();
        watch.look(Duration::from_secs(9));
        let _ = now();
        watch.until.store(1, Ordering::Relaxed);
        sleep(Duration::from_millis(1));
        watch.end(0, watch.begin());
        assert_eq!(watch.until.load(Ordering::Relaxed), 0);
        assert_eq!(watch.durations()[0].requests, 0);
    }
}
