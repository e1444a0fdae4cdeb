//! Whether one worker or two should wait for requests that come one after the other, found out by trying.
//!
//! With one, nobody is ever cold, and the processor that a lone reader runs on does less. With two, the reader and whoever
//! serves it come to run on one processor more often, and a processor that sleeps need not be woken for each request:
//! several times as fast where that takes long, as in virtual machines. Neither is better everywhere, and what
//! is depends on what else runs.

use std::time::Duration;

/// Periods in a stretch; stretches are compared.
const PERIODS: u32 = 4;
/// Stretches until the first trial, and until one after a change; twice as many after each that changes nothing.
const FIRST_WAIT: u32 = 30;
const LONGEST_WAIT: u32 = 1000;
/// Beside a request that takes longer, on average, it matters little whether a worker is cold: two wait.
const LONG_REQUEST: Duration = Duration::from_micros(100);
/// How many wait at first.
const TWO: usize = 2;

/// The trials of one crew.
pub(super) struct Trial {
    /// How many wait while nothing is tried.
    settled: usize,
    /// Stretches until the next trial.
    wait: u32,
    next_wait: u32,
    /// Periods that the stretch has lasted.
    periods: u32,
    stretch: Stretch,
    /// What the better stretch of the last trial came to.
    usual: Stretch,
    /// What the stretch before the trial came to, during one.
    before: Option<Stretch>,
}

#[derive(Clone, Copy, Default)]
struct Stretch {
    requests: u64,
    nanoseconds: u64,
}

impl Stretch {
    /// True where it is faster than `other` by more than one in `part`.
    fn beats(self, other: Stretch, part: u128) -> bool {
        let (requests, nanoseconds) = (u128::from(self.requests), u128::from(self.nanoseconds));
        let (others, time) = (u128::from(other.requests), u128::from(other.nanoseconds));
        part * requests * time > (part + 1) * others * nanoseconds
    }
}

impl Trial {
    /// Begins with two.
    pub(super) fn new() -> Trial {
        Trial {
            settled: TWO,
            wait: FIRST_WAIT,
            next_wait: FIRST_WAIT,
            periods: 0,
            stretch: Stretch::default(),
            usual: Stretch::default(),
            before: None,
        }
    }

    /// A period is over, in which so many requests were served in that time. Gives how many are to wait from now on.
    pub(super) fn period(&mut self, requests: u64, took: Duration) -> usize {
        let nanoseconds = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        if nanoseconds / requests.max(1) > LONG_REQUEST.as_nanos() as u64 {
            (self.periods, self.stretch, self.before) = (0, Stretch::default(), None);
            return TWO;
        }
        self.periods += 1;
        self.stretch.requests += requests;
        self.stretch.nanoseconds = self.stretch.nanoseconds.saturating_add(nanoseconds);
        if self.periods == PERIODS {
            self.periods = 0;
            let stretch = std::mem::take(&mut self.stretch);
            self.end_stretch(stretch);
        }
        match self.before {
            None => self.settled,
            Some(_) => other(self.settled),
        }
    }

    fn end_stretch(&mut self, stretch: Stretch) {
        let Some(before) = self.before.take() else {
            self.wait = self.wait.saturating_sub(1);
            // Half as fast as it was: what is better may have changed.
            if self.wait == 0 || self.usual.beats(stretch, 1) {
                self.before = Some(stretch);
            }
            return;
        };
        if stretch.beats(before, 20) {
            self.settled = other(self.settled);
            self.next_wait = FIRST_WAIT;
            self.usual = stretch;
        } else {
            self.next_wait = (2 * self.next_wait).min(LONGEST_WAIT);
            self.usual = before;
        }
        self.wait = self.next_wait;
    }
}

impl Default for Trial {
    fn default() -> Trial {
        Trial::new()
    }
}

fn other(waiting: usize) -> usize {
    3 - waiting
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::Trial;

    /// Lets `periods` pass in which a request takes so many microseconds with one who waits, and with two; gives how many
    /// periods had one and how many had two.
    fn pass(trial: &mut Trial, waiting: &mut usize, periods: u32, micros: [u64; 2]) -> [u32; 2] {
        let mut seen = [0; 2];
        for _ in 0..periods {
            seen[*waiting - 1] += 1;
            let took = Duration::from_micros(64 * micros[*waiting - 1]);
            *waiting = trial.period(64, took);
        }
        seen
    }

    #[test]
    fn what_is_faster_is_found_and_kept() {
        let (mut trial, mut waiting) = (Trial::new(), 2);
        pass(&mut trial, &mut waiting, 130, [5, 9]);
        let [one, two] = pass(&mut trial, &mut waiting, 10_000, [5, 9]);
        assert!(one > 9_900 && two > 0, "{one} {two}");
        // The other one is faster now, by little: the next trial finds that.
        pass(&mut trial, &mut waiting, 4_100, [9, 8]);
        let [one, two] = pass(&mut trial, &mut waiting, 10_000, [9, 8]);
        assert!(two > 9_900 && one > 0, "{one} {two}");
    }

    #[test]
    fn what_has_become_slow_is_left_at_once() {
        let (mut trial, mut waiting) = (Trial::new(), 2);
        pass(&mut trial, &mut waiting, 10_000, [5, 9]);
        let [one, two] = pass(&mut trial, &mut waiting, 100, [60, 20]);
        assert!(one < 12, "{one} {two}");
        // Where both have, there is an end of trials.
        let [one, two] = pass(&mut trial, &mut waiting, 1_000, [90, 50]);
        assert!(one < 100, "{one} {two}");
    }

    #[test]
    fn a_small_difference_changes_nothing() {
        let (mut trial, mut waiting) = (Trial::new(), 2);
        let [one, two] = pass(&mut trial, &mut waiting, 10_000, [60, 62]);
        assert!(two > 9_900 && one > 0, "{one} {two}");
    }

    #[test]
    fn two_wait_for_requests_that_take_long() {
        let (mut trial, mut waiting) = (Trial::new(), 2);
        pass(&mut trial, &mut waiting, 1_000, [5, 9]);
        assert_eq!(waiting, 1);
        pass(&mut trial, &mut waiting, 1, [600, 600]);
        let seen = pass(&mut trial, &mut waiting, 1_000, [600, 600]);
        assert_eq!(seen, [0, 1_000]);
    }
}
