//! How long requests take, measured only while somebody looks: a request that nobody looks at reads no clock.
//!
//! Who looks says for how long, and asks again before that is over; nobody has to say that they have gone. Who counts
//! requests by themselves has the watch tell each that it is counted, which costs no reading of a clock, and says so when
//! they have gone.

use std::time::{Duration, Instant};

use crate::sync::{AtomicU64, OnceLock, Ordering};

/// The longest that one question keeps the watch going.
const LONGEST: Duration = Duration::from_secs(3600);

/// The bit, of `until` and of what a request carries, that says that somebody counts requests. Moments are even.
const COUNTED: u64 = 1;

/// The watch of one device.
pub struct Stopwatch<const KINDS: usize> {
    /// The moment up to which requests are measured, 0 while nobody looks; and [`COUNTED`].
    until: AtomicU64,
    measured: [Measured; KINDS],
}

#[derive(Default)]
struct Measured {
    requests: AtomicU64,
    nanoseconds: AtomicU64,
}

/// When a request that is measured began, 0 for one that is not; and [`COUNTED`].
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
    /// True where somebody counts requests.
    #[inline]
    pub fn is_counted(self) -> bool {
        self.0 & COUNTED != 0
    }

    /// The moment; 0 where the request is not measured.
    #[inline]
    fn nanoseconds(self) -> u64 {
        self.0 & !COUNTED
    }
}

/// Nanoseconds since shortly before the first question of this process, never 0 or 1.
pub fn now() -> u64 {
    static START: OnceLock<Instant> = OnceLock::new();
    let elapsed = START.get_or_init(Instant::now).elapsed().as_nanos();
    u64::try_from(elapsed).unwrap_or(u64::MAX - 2) + 2
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
        let until = now().saturating_add(time.min(LONGEST).as_nanos() as u64) & !COUNTED;
        // Somebody else may look for longer.
        let raise = |was: u64| Some((was & !COUNTED).max(until) | was & COUNTED);
        let _ = self
            .until
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, raise);
    }

    /// From now on each request is told whether somebody counts it.
    pub fn count(&self, is_counted: bool) {
        match is_counted {
            true => self.until.fetch_or(COUNTED, Ordering::Relaxed),
            false => self.until.fetch_and(!COUNTED, Ordering::Relaxed),
        };
    }

    /// A request begins.
    #[inline]
    pub fn begin(&self) -> Begun {
        match self.until.load(Ordering::Relaxed) {
            until if until <= COUNTED => Begun(until),
            until => self.begin_measured(until),
        }
    }

    #[cold]
    fn begin_measured(&self, until: u64) -> Begun {
        let (now, counted) = (now() & !COUNTED, until & COUNTED);
        if now > until {
            // Somebody who looks just now is measured for from the next question on.
            self.until.fetch_and(COUNTED, Ordering::Relaxed);
            return Begun(counted);
        }
        Begun(now | counted)
    }

    /// The request has its answer.
    #[inline]
    pub fn end(&self, kind: usize, begun: Begun) {
        if begun.nanoseconds() != 0 {
            self.end_measured(kind, begun);
        }
    }

    #[cold]
    fn end_measured(&self, kind: usize, begun: Begun) {
        if let Some(measured) = self.measured.get(kind) {
            let took = now().saturating_sub(begun.nanoseconds());
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
    fn who_counts_is_told_without_a_clock() {
        let watch: Stopwatch<1> = Stopwatch::new();
        watch.count(true);
        let begun = watch.begin();
        assert_eq!((begun.is_counted(), begun.nanoseconds()), (true, 0));
        watch.look(Duration::from_secs(9));
        let begun = watch.begin();
        assert!(begun.is_counted() && begun.nanoseconds() != 0);
        watch.count(false);
        let begun = watch.begin();
        assert!(!begun.is_counted() && begun.nanoseconds() != 0);
        watch.count(true);
        watch.until.store(3, Ordering::Relaxed);
        sleep(Duration::from_millis(1));
        let begun = watch.begin();
        assert_eq!((begun.is_counted(), begun.nanoseconds()), (true, 0));
        assert!(watch.begin().is_counted(), "who looked is forgotten alone");
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
        watch.until.store(2, Ordering::Relaxed);
        sleep(Duration::from_millis(1));
        watch.end(0, watch.begin());
        assert_eq!(watch.until.load(Ordering::Relaxed), 0);
        assert_eq!(watch.durations()[0].requests, 0);
    }
}
