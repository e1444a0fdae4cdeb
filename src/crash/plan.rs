//! Which states there are: for each place in the log at which power could have failed, all that was written so far, only
//! what was durable, and random parts of the rest.

use std::fmt;
use std::ops::Range;

use crate::backing::{Kept, Random};
use crate::format::log_writes::{Entry, EntryFlags};
use crate::unit::Sectors;

/// A state that a power cut could have left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct StateSpec {
    /// Entries that are in the log before the cut.
    pub cut: usize,
    /// The first entry that is not durable, unless it says so itself.
    pub epoch: usize,
    /// Which of those that are not durable are there.
    pub kept: Kept,
}

impl fmt::Display for StateSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kept {
            Kept::All => write!(f, "{:06}-all", self.cut),
            Kept::None => write!(f, "{:06}-none", self.cut),
            Kept::Sample(number) => write!(f, "{:06}-some{number}", self.cut),
        }
    }
}

/// How states are chosen.
#[derive(Clone, Copy, Debug)]
pub(super) struct Choice {
    /// Random states for each cut at which something was not durable.
    pub samples: usize,
    /// At most so many states; more are thinned out at random.
    pub most: usize,
    pub seed: u64,
    pub ignore_flushes: bool,
    /// What the disk writes as a whole or not at all, beginning at multiples of it.
    pub atomic: Sectors,
}

/// True where `entry` is there for good once it is in the log.
pub(super) fn is_durable(entry: &Entry, ignore_flushes: bool) -> bool {
    entry.header.flags.has(EntryFlags::FUA) && !ignore_flushes
}

/// Every state with a cut in `range`, from the earliest to the latest. What lies before the range is durable.
pub(super) fn all(entries: &[Entry], range: Range<usize>, choice: Choice) -> Vec<StateSpec> {
    let mut states = vec![StateSpec {
        cut: range.start,
        epoch: range.start,
        kept: Kept::All,
    }];
    let mut epoch = range.start;
    let mut lossy = false;
    // What is durable, or what is to be expected of it, has changed since it was shown alone.
    let mut none_is_new = true;
    for number in range {
        let Some(entry) = entries.get(number) else {
            break;
        };
        let is = |flag| entry.header.flags.has(flag);
        if is(EntryFlags::FLUSH) && !choice.ignore_flushes {
            (epoch, lossy, none_is_new) = (number, false, true);
        }
        let changes = entry.header.n_sectors > 0;
        if !changes && entry.mark.is_none() {
            continue;
        }
        let durable = is_durable(entry, choice.ignore_flushes);
        lossy |= changes && !durable;
        none_is_new |= durable || entry.mark.is_some();
        let cut = number + 1;
        let state = |kept| StateSpec { cut, epoch, kept };
        states.push(state(Kept::All));
        if lossy {
            if std::mem::take(&mut none_is_new) {
                states.push(state(Kept::None));
            }
            states.extend((0..choice.samples).map(|number| state(Kept::Sample(number))));
        }
    }
    thin_out(states, choice)
}

/// `choice.most` of the states, in their order.
fn thin_out(states: Vec<StateSpec>, choice: Choice) -> Vec<StateSpec> {
    let mut random = Random::new(choice.seed);
    let mut wanted = choice.most;
    let mut left = states.len();
    let mut is_chosen = |_: &StateSpec| {
        let chosen = random.below(left as u64) < wanted as u64;
        left -= 1;
        wanted -= usize::from(chosen);
        chosen
    };
    states
        .into_iter()
        .filter(|state| is_chosen(state))
        .collect()
}

/// How much of an entry is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Nothing,
    Whole,
    /// Some of what is written as a whole, as this seed decides.
    Torn(u64),
}

impl Part {
    /// Whether the stretch `index` of the disk is there of what is written as a whole.
    pub fn has(self, index: u64) -> bool {
        match self {
            Part::Nothing => false,
            Part::Whole => true,
            Part::Torn(seed) => Random::new(seed.wrapping_add(index)).below(2) == 0,
        }
    }
}

/// How much of each entry from the state's epoch to its cut is there.
pub(super) fn parts(entries: &[Entry], state: StateSpec, choice: Choice) -> Vec<Part> {
    let number = match state.kept {
        Kept::All | Kept::None => 0,
        Kept::Sample(number) => number as u64,
    };
    // Each state has its own: it is the same whatever other states there are.
    let mut seeds = Random::new(choice.seed);
    let mut random = Random::new(seeds.below(u64::MAX) ^ ((state.cut as u64) << 20) ^ number);
    let pending = entries.get(state.epoch..state.cut).unwrap_or_default();
    let part = |entry: &Entry| match state.kept {
        _ if is_durable(entry, choice.ignore_flushes) => Part::Whole,
        Kept::All => Part::Whole,
        Kept::None => Part::Nothing,
        Kept::Sample(_) => match random.below(3) {
            0 => Part::Nothing,
            1 => Part::Whole,
            _ => Part::Torn(random.below(u64::MAX)),
        },
    };
    pending.iter().map(part).collect()
}
