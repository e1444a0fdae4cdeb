//! The time that a device goes by: the system's, or one that stands still until it is told to go on.

use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

use crate::sync::{AtomicU64, Ordering};

const NANOS: u64 = 1_000_000_000;

/// A clock that starts at zero.
#[derive(Debug)]
pub struct Clock(Kind);

#[derive(Debug)]
enum Kind {
    /// The system's, which began at this time by its coarse clock, nanoseconds, and by its precise one.
    System { coarse: u64, precise: Instant },
    /// Ticks so far.
    Ticks(AtomicU64),
}

impl Clock {
    /// The system's time from now on.
    pub fn system() -> Clock {
        Clock(Kind::System {
            coarse: coarse(),
            precise: Instant::now(),
        })
    }

    /// A clock that goes on by [`Clock::tick`] alone. A tick stands for whatever unit is asked for.
    pub fn ticking() -> Clock {
        Clock(Kind::Ticks(AtomicU64::new(0)))
    }

    /// True where time passes by itself.
    pub fn is_system(&self) -> bool {
        matches!(self.0, Kind::System { .. })
    }

    /// Whole seconds, or ticks. Cheap, and a few milliseconds late, as the kernel's jiffies are.
    #[inline]
    pub fn seconds(&self) -> u64 {
        match &self.0 {
            Kind::System { coarse: start, .. } => coarse().saturating_sub(*start) / NANOS,
            Kind::Ticks(ticks) => ticks.load(Ordering::Relaxed),
        }
    }

    /// The reading `milliseconds`, or ticks, from now on.
    pub fn after(&self, milliseconds: u32) -> Reading {
        let milliseconds = u64::from(milliseconds);
        Reading(match &self.0 {
            Kind::System { precise, .. } => {
                nanos(precise.elapsed()).saturating_add(milliseconds * (NANOS / 1000))
            }
            Kind::Ticks(ticks) => ticks.load(Ordering::Relaxed).saturating_add(milliseconds),
        })
    }

    /// How long it is until `then`; `None` where it has come. Of ticks it is not known how long they take.
    pub fn until(&self, then: Reading) -> Option<Wait> {
        match &self.0 {
            Kind::System { precise, .. } => {
                let left = then.0.saturating_sub(nanos(precise.elapsed()));
                (left > 0).then_some(Wait::For(Duration::from_nanos(left)))
            }
            Kind::Ticks(ticks) => (ticks.load(Ordering::Relaxed) < then.0).then_some(Wait::Unknown),
        }
    }

    /// Goes on by `count` ticks; the system's time does not.
    pub fn tick(&self, count: u64) {
        if let Kind::Ticks(ticks) = &self.0 {
            ticks.fetch_add(count, Ordering::Relaxed);
        }
    }
}

/// What a clock shows at some time; readings of different clocks have nothing to do with one another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reading(u64);

/// How long a wait is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// This long.
    For(Duration),
    /// As long as somebody lets it be.
    Unknown,
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// The system's coarse clock, nanoseconds: a read of memory.
pub fn coarse() -> u64 {
    let now = clock_gettime(ClockId::MonotonicCoarse);
    let (seconds, nanos) = (now.tv_sec.unsigned_abs(), now.tv_nsec.unsigned_abs());
    seconds.saturating_mul(NANOS).saturating_add(nanos)
}

#[cfg(test)]
mod tests {
    use super::{Clock, Wait};

    #[test]
    fn ticks_are_all_that_passes() {
        let clock = Clock::ticking();
        let then = clock.after(3);
        clock.tick(2);
        assert_eq!(
            (clock.seconds(), clock.until(then)),
            (2, Some(Wait::Unknown))
        );
        clock.tick(1);
        assert_eq!((clock.seconds(), clock.until(then)), (3, None));
    }

    #[test]
    fn the_systems_time_passes_by_itself() {
        let clock = Clock::system();
        clock.tick(1000);
        assert_eq!(clock.seconds(), 0);
        assert_eq!(clock.until(clock.after(0)), None);
        assert!(matches!(
            clock.until(clock.after(u32::MAX)),
            Some(Wait::For(_))
        ));
    }
}
