//! Chance and time of a target, so that what happened by them can happen again: `dmfs:seed=N,clock=requests`.
//!
//! The word stands before a target's first argument, where no kernel accepts it: a line with it is ours alone.
//!
//! | part | makes |
//! |---|---|
//! | `seed=N` | all random choices follow from N (0 to 2^64 - 1) and from how many there were before |
//! | `clock=requests` | each request is a tick: the unit in which the target counts time (a second, a millisecond) |
//! | `clock=messages` | time goes on by messages alone: `dmfs:tick`, or `dmfs:tick N` for N ticks |
//!
//! Time starts with the table; messages make ticks with `clock=requests`, too. With either part every request is
//! carried out once and whole by one thread, none is tried and put off: requests that come one after the other, with
//! the same word, have the same fate.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};

use super::{BuildArgs, BuildError, MessageError};
use crate::io::{Clock, Errno};
use crate::sync::{Arc, AtomicU64, Ordering};

/// How the word begins.
const PREFIX: &str = "dmfs:";
/// The message that makes ticks.
const TICK: &str = "dmfs:tick";
/// 2^64 over the golden ratio: steps of this visit every number once, far from one another.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// What a target uses of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Uses {
    /// Time alone.
    Time,
    /// Time and chance.
    TimeAndChance,
}

/// Where a target gets time and chance from.
pub struct Repeat {
    seed: Option<u64>,
    ticks: Option<Ticks>,
    clock: Arc<Clock>,
    /// The state of the random numbers.
    dice: AtomicU64,
}

/// What makes ticks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ticks {
    Requests,
    Messages,
}

impl Repeat {
    /// Reads the word, if it is the next one.
    ///
    /// # Errors
    /// EINVAL where a part is none, stands twice, or is nothing that the target uses.
    pub fn read(args: &mut BuildArgs<'_>, uses: Uses) -> Result<Repeat, BuildError> {
        let (mut seed, mut ticks) = (None, None);
        if let Some(parts) = args.peek().and_then(|word| word.strip_prefix(PREFIX)) {
            args.skip(1);
            let expected = match uses {
                Uses::Time => "dmfs:clock=requests or dmfs:clock=messages",
                Uses::TimeAndChance => {
                    "dmfs: with seed=<number>, clock=requests or clock=messages, or one of each and a comma between"
                }
            };
            let refuse = || args.refuse_last("Invalid dmfs argument", expected);
            for part in parts.split(',') {
                match part.split_once('=') {
                    Some(("seed", number)) if uses == Uses::TimeAndChance && seed.is_none() => {
                        seed = Some(number.parse().map_err(|_| refuse())?);
                    }
                    Some(("clock", "requests")) if ticks.is_none() => {
                        ticks = Some(Ticks::Requests);
                    }
                    Some(("clock", "messages")) if ticks.is_none() => {
                        ticks = Some(Ticks::Messages);
                    }
                    _ => return Err(refuse()),
                }
            }
        }
        let clock = match ticks {
            Some(_) => Clock::ticking(),
            None => Clock::system(),
        };
        let start = seed.unwrap_or_else(|| RandomState::new().build_hasher().finish());
        Ok(Repeat {
            seed,
            ticks,
            clock: Arc::new(clock),
            dice: AtomicU64::new(start),
        })
    }

    /// True where requests are to be carried out one time each, by one thread.
    #[inline]
    pub fn is_exact(&self) -> bool {
        self.seed.is_some() || self.ticks.is_some()
    }

    /// The word as it was read, and a blank; nothing where there was none.
    pub fn prefix(&self) -> String {
        let seed = self.seed.map(|seed| format!("seed={seed}"));
        let ticks = self.ticks.map(|ticks| match ticks {
            Ticks::Requests => "clock=requests".to_owned(),
            Ticks::Messages => "clock=messages".to_owned(),
        });
        let parts: Vec<String> = seed.into_iter().chain(ticks).collect();
        match parts.is_empty() {
            true => String::new(),
            false => format!("{PREFIX}{} ", parts.join(",")),
        }
    }

    /// The target's time.
    pub fn clock(&self) -> &Arc<Clock> {
        &self.clock
    }

    /// A request has been carried out, or has come to a wait: true where that is a tick.
    pub fn count_request(&self) -> bool {
        let ticks = self.ticks == Some(Ticks::Requests);
        if ticks {
            self.clock.tick(1);
        }
        ticks
    }

    /// The message that brings a new clock to where this one is.
    pub fn recall(&self) -> Vec<String> {
        let ticks = match self.ticks {
            Some(_) => self.clock.seconds(),
            None => 0,
        };
        let message = (ticks > 0).then(|| format!("{TICK} {ticks}"));
        message.into_iter().collect()
    }

    /// A random number: which one follows from the seed and from how many were asked for before.
    pub fn roll(&self) -> u64 {
        mix(self
            .dice
            .fetch_add(STEP, Ordering::Relaxed)
            .wrapping_add(STEP))
    }

    /// Answers the message that makes ticks.
    ///
    /// # Errors
    /// EINVAL for another one, and where time passes by itself.
    pub fn tick(&self, words: &[&str]) -> Result<(), MessageError> {
        let (word, count) = match *words {
            [word] => (word, Some(1)),
            [word, count] => (word, count.parse::<u64>().ok().filter(|count| *count > 0)),
            _ => return Err(MessageError::unsupported()),
        };
        if self.ticks.is_none() || word != TICK {
            return Err(MessageError::unsupported());
        }
        let count = count.ok_or_else(|| {
            MessageError::silent(Errno::INVAL, "dmfs:tick and a number of ticks from 1")
        })?;
        self.clock.tick(count);
        Ok(())
    }
}

/// Spreads a number over all 64 bits, one to one (splitmix64's finish).
fn mix(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}
