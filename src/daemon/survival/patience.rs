//! How often a daemon may die before its supervisor gives up.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// A daemon that dies before it has served this long has not got over what killed the one before.
const SHORT_LIFE: Duration = Duration::from_millis(100);
/// So many short lives in a row are the end.
const SHORT_LIVES: usize = 5;
/// So many deaths within [`WHILE`] are the end.
const DEATHS: usize = 60;
const WHILE: Duration = Duration::from_secs(60);
/// How long the next daemon waits after the second short life; twice that after the third, and so on.
const FIRST_PAUSE: Duration = Duration::from_millis(50);

/// Counts deaths.
#[derive(Debug, Default)]
pub struct Patience {
    deaths: VecDeque<Instant>,
    short_lives: usize,
}

impl Patience {
    /// A daemon has died at `now`, which was ready to serve at `ready`, if ever. Gives how long to wait before the
    /// next one.
    ///
    /// # Errors
    /// Why there shall be no next one.
    pub fn death(&mut self, ready: Option<Instant>, now: Instant) -> Result<Duration, String> {
        self.deaths.push_back(now);
        while self
            .deaths
            .front()
            .is_some_and(|first| now - *first > WHILE)
        {
            self.deaths.pop_front();
        }
        let short = ready.is_none_or(|ready| now - ready < SHORT_LIFE);
        self.short_lives = if short { self.short_lives + 1 } else { 0 };
        if self.short_lives >= SHORT_LIVES {
            return Err(format!(
                "{SHORT_LIVES} daemons in a row have died within {} ms",
                SHORT_LIFE.as_millis()
            ));
        }
        if self.deaths.len() >= DEATHS {
            return Err(format!(
                "{DEATHS} daemons have died within {} seconds",
                WHILE.as_secs()
            ));
        }
        Ok(match self.short_lives {
            0 | 1 => Duration::ZERO,
            n => FIRST_PAUSE * 2_u32.pow(n.min(8) as u32 - 2),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{DEATHS, Patience, SHORT_LIVES};

    #[test]
    fn short_lives_in_a_row_are_the_end() {
        let mut patience = Patience::default();
        let now = Instant::now();
        let mut pauses = Vec::new();
        for _ in 1..SHORT_LIVES {
            pauses.push(patience.death(None, now));
        }
        let millis = |n| Ok(Duration::from_millis(n));
        assert_eq!(pauses, [millis(0), millis(50), millis(100), millis(200)]);
        let end = patience.death(Some(now), now + Duration::from_millis(99));
        assert!(end.is_err());
    }

    #[test]
    fn a_life_that_was_long_enough_begins_anew() {
        let mut patience = Patience::default();
        let start = Instant::now();
        for n in 1..40_u32 {
            let now = start + n * Duration::from_millis(100);
            // Every fourth lives long enough.
            let ready = (n % 4 == 0).then_some(now - Duration::from_millis(100));
            assert!(patience.death(ready, now).is_ok(), "death {n}");
        }
    }

    #[test]
    fn too_many_deaths_in_a_minute_are_the_end_too() {
        let mut patience = Patience::default();
        let start = Instant::now();
        let mut died = 0;
        for n in 0.. {
            let now = start + n * Duration::from_millis(500);
            died += 1;
            if patience.death(Some(start), now).is_err() {
                break;
            }
        }
        assert_eq!(died, DEATHS);
        let mut patience = Patience::default();
        for n in 0..500 {
            let now = start + n * Duration::from_secs(2);
            assert!(patience.death(Some(start), now).is_ok());
        }
    }
}
