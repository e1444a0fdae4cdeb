//! What has been counted of requests.

use super::{Durations, OpKind};
use crate::unit::Sectors;

/// The operations, in the order of their numbers.
pub(super) const KINDS: [OpKind; 5] = [
    OpKind::Read,
    OpKind::Write,
    OpKind::Flush,
    OpKind::Discard,
    OpKind::WriteZeroes,
];

/// What has been counted since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    pub(super) kinds: [Tally; KINDS.len()],
    /// Requests that failed.
    pub errors: u64,
}

/// What has been counted of one operation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Requests that ended, well or not.
    pub requests: u64,
    /// Sectors of these requests.
    pub sectors: Sectors,
    /// Requests that have not ended yet.
    pub in_flight: u64,
    /// How long requests took while somebody looked ([`super::InFlight::look`]).
    pub took: Durations,
}

impl Counters {
    /// What has been counted of `kind`.
    pub fn of(&self, kind: OpKind) -> Tally {
        self.kinds[kind as usize]
    }

    /// Requests of all kinds that have not ended yet.
    pub fn in_flight(&self) -> u64 {
        self.kinds.iter().map(|tally| tally.in_flight).sum()
    }

    /// The same but for requests that have not ended.
    #[must_use]
    pub fn ended(mut self) -> Counters {
        self.kinds.iter_mut().for_each(|tally| tally.in_flight = 0);
        self
    }

    /// Both together.
    pub fn plus(&self, other: &Counters) -> Counters {
        self.with(other, u64::saturating_add)
    }

    /// What has been counted since `earlier`.
    pub fn since(&self, earlier: &Counters) -> Counters {
        self.with(earlier, u64::saturating_sub)
    }

    fn with(&self, other: &Counters, combine: fn(u64, u64) -> u64) -> Counters {
        let kinds = std::array::from_fn(|kind| {
            let (one, two) = (&self.kinds[kind], &other.kinds[kind]);
            Tally {
                requests: combine(one.requests, two.requests),
                sectors: Sectors(combine(one.sectors.0, two.sectors.0)),
                in_flight: combine(one.in_flight, two.in_flight),
                took: Durations {
                    requests: combine(one.took.requests, two.took.requests),
                    nanoseconds: combine(one.took.nanoseconds, two.took.nanoseconds),
                },
            }
        });
        Counters {
            kinds,
            errors: combine(self.errors, other.errors),
        }
    }
}
