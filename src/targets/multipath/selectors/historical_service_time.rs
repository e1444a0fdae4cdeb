//! `historical-service-time`: the path that is likely to answer first, as told by how long requests took on it before
//! (dm-ps-historical-service-time.c).
//!
//! Each path has a moving average of its service time: nanoseconds with ten binary places. How much of the old average
//! stays depends on how long the new request took. A path that has not finished a request for as long as it should
//! have taken is stale: it is tried with one request where it has none, and gets no more than others where it has.

use std::time::Instant;

use super::valid_paths::ValidPaths;
use super::{Selector, SelectorKind, repeat_count};
use crate::sync::{AtomicU64, OnceLock, Ordering};
use crate::target::{BuildArgs, BuildError};
use crate::unit::Bytes;

/// The registry's entry. `[<base_weight> [<threshold_multiplier>]]`, and for each path `[<repeat_count>]`.
pub static KIND: SelectorKind = SelectorKind {
    name: "historical-service-time",
    path_arguments: 1,
    path_status: 3,
    create,
};

/// Binary places of averages and weights.
const PLACES: u32 = 10;
const ONE: u64 = 1 << PLACES;
const MOST_NANOSECONDS: u64 = u64::MAX >> PLACES;
/// 0.95.
const DEFAULT_WEIGHT: u64 = 972;
/// A weight stands for durations of 2^24 ns, about 16 ms; those that are longer than all leave nothing of the old average.
const WEIGHT_SHIFT: u32 = 24;
const WEIGHTS: usize = 64;
/// From so many requests under way on, averages are compared without their binary places.
const MANY_UNDER_WAY: u64 = ONE;

struct HistoricalServiceTime {
    valid: ValidPaths,
    paths: Vec<Path>,
    weights: [u64; WEIGHTS],
    threshold_multiplier: u32,
}

struct Path {
    average: AtomicU64,
    under_way: AtomicU64,
    last_finish: AtomicU64,
    stale_after: AtomicU64,
}

/// A path at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Standing {
    average: u64,
    under_way: i64,
    stale_after: i64,
}

fn create(args: &mut BuildArgs<'_>, count: usize) -> Result<Box<dyn Selector>, BuildError> {
    let text = "path selector constructor failed";
    if count > 2 {
        return Err(args.refuse(text, "a base weight and a threshold multiplier at most"));
    }
    let mut argument = |index: usize, most: u32, otherwise: u32, what: &str| match count > index {
        true => args.number(0..=most, text, what),
        false => Ok(otherwise),
    };
    let base = argument(0, ONE as u32 - 1, DEFAULT_WEIGHT as u32, "a base weight")?;
    let threshold_multiplier = argument(1, u32::MAX, 0, "a threshold multiplier")?;
    Ok(Box::new(HistoricalServiceTime {
        valid: ValidPaths::default(),
        paths: Vec::new(),
        weights: weights(u64::from(base)),
        threshold_multiplier,
    }))
}

/// The powers of `base` from the first on; the last one is 0.
fn weights(base: u64) -> [u64; WEIGHTS] {
    std::array::from_fn(|index| match index + 1 {
        WEIGHTS => 0,
        exponent => power(base, exponent as u32),
    })
}

fn rounded(product: u64) -> u64 {
    (product + ONE / 2) >> PLACES
}

/// `base` to the power of `exponent`, by squaring: rounded after each step, as the kernel does.
fn power(mut base: u64, mut exponent: u32) -> u64 {
    let mut result = ONE;
    while exponent > 0 {
        if exponent & 1 == 1 {
            result = rounded(result * base);
        }
        exponent >>= 1;
        base = rounded(base * base);
    }
    result
}

/// The average of `old`, which weighs `weight`, and `new`.
fn average(old: u64, new: u64, weight: u64) -> u64 {
    let sum = u128::from(old) * u128::from(weight) + u128::from(new) * u128::from(ONE - weight);
    ((sum + u128::from(ONE / 2)) >> PLACES) as u64
}

/// Nanoseconds since the first question of this process.
fn now() -> u64 {
    static START: OnceLock<Instant> = OnceLock::new();
    let elapsed = START.get_or_init(Instant::now).elapsed().as_nanos();
    u64::try_from(elapsed).unwrap_or(u64::MAX)
}

/// True where a path as `this` is better for the next request than one as `that`.
fn is_better(this: Standing, that: Standing, now: i64, multiplier: u32) -> bool {
    let (high, low) = (
        this.average.max(that.average),
        this.average.min(that.average),
    );
    let fewer = this.under_way < that.under_way;
    if u128::from(high) <= u128::from(multiplier) * u128::from(low) {
        return fewer;
    }
    let idle = |standing: Standing| standing.under_way == 0;
    let is_stale = |standing: Standing| standing.stale_after < now;
    if (idle(this) && is_stale(this))
        || (idle(that) && is_stale(that))
        || (idle(this) && idle(that))
    {
        let counts = |when: bool, stale: i64| if when { stale } else { 0 };
        return counts(idle(that), this.stale_after) < counts(idle(this), that.stale_after);
    }
    let expected = |standing: Standing| {
        let under_way = standing.under_way.max(0).unsigned_abs();
        u128::from(under_way + 1) * u128::from(standing.average)
    };
    let many = |standing: Standing| standing.under_way >= MANY_UNDER_WAY as i64;
    let shift = if many(this) || many(that) { PLACES } else { 0 };
    let that_is_better = expected(this) >> shift > expected(that) >> shift;
    // Where the better one is stale, both get the same.
    match (that_is_better, is_stale(that), is_stale(this)) {
        (true, false, _) => false,
        (false, _, false) => true,
        (true, true, _) | (false, _, true) => fewer,
    }
}

impl Path {
    fn standing(&self) -> Standing {
        let load = |value: &AtomicU64| value.load(Ordering::Relaxed);
        Standing {
            average: load(&self.average),
            under_way: load(&self.under_way) as i64,
            stale_after: load(&self.stale_after) as i64,
        }
    }
}

impl Selector for HistoricalServiceTime {
    fn kind(&self) -> &'static SelectorKind {
        &KIND
    }

    fn add_path(&mut self, args: &mut BuildArgs<'_>, count: usize) -> Result<(), BuildError> {
        // Read and never used, neither by the kernel.
        repeat_count(args, &KIND, (count, 1))?;
        self.paths.push(Path {
            average: AtomicU64::new(ONE),
            under_way: AtomicU64::new(0),
            last_finish: AtomicU64::new(0),
            stale_after: AtomicU64::new(0),
        });
        self.valid.add();
        Ok(())
    }

    fn select(&self, _len: Bytes) -> Option<usize> {
        let now = now() as i64;
        let mut best: Option<(usize, Standing)> = None;
        for path in self.valid.all_in_turn() {
            let this = self.paths[path].standing();
            if best.is_none_or(|(_, best)| is_better(this, best, now, self.threshold_multiplier)) {
                best = Some((path, this));
            }
        }
        best.map(|(path, _)| path)
    }

    fn begin(&self, path: usize, _len: Bytes) -> u64 {
        self.paths[path].under_way.fetch_add(1, Ordering::Relaxed);
        now()
    }

    fn end(&self, path: usize, _len: Bytes, begun: u64) {
        let path = &self.paths[path];
        let now = now();
        // Requests that were under way at the same time count as if each had waited for the one before.
        let before = path.last_finish.fetch_max(now, Ordering::Relaxed);
        let took = now.saturating_sub(begun.max(before));
        path.under_way.fetch_sub(1, Ordering::Relaxed);
        let weight = self.weights[((took >> WEIGHT_SHIFT) as usize).min(WEIGHTS - 1)];
        let new = took.min(MOST_NANOSECONDS >> PLACES) << PLACES;
        let next = |old| average(old, new, weight);
        let old = path.average.load(Ordering::Relaxed);
        // Of two that end at the same moment one may not count.
        path.average.store(next(old), Ordering::Relaxed);
        let fresh_for = (next(old) >> PLACES).saturating_mul(self.valid.count() as u64);
        path.stale_after
            .store(now.saturating_add(fresh_for), Ordering::Relaxed);
    }

    fn fail(&self, path: usize) {
        self.valid.remove(path);
    }

    fn reinstate(&self, path: usize) {
        self.valid.insert_last(path);
    }

    fn arguments(&self) -> String {
        format!("2 {} {}", self.weights[0], self.threshold_multiplier)
    }

    fn path_arguments(&self, _path: usize) -> String {
        "0".to_owned()
    }

    fn path_status(&self, path: usize) -> String {
        let Standing {
            average,
            under_way,
            stale_after,
        } = self.paths[path].standing();
        format!("{average} {under_way} {stale_after}")
    }
}

#[cfg(test)]
mod tests {
    use super::{DEFAULT_WEIGHT, ONE, Standing, WEIGHTS, average, is_better, weights};

    fn standing(average: u64, under_way: i64, stale_after: i64) -> Standing {
        Standing {
            average,
            under_way,
            stale_after,
        }
    }

    #[test]
    fn weights_fall_to_nothing() {
        let weights = weights(DEFAULT_WEIGHT);
        assert_eq!(weights[..3], [972, 923, 876]);
        assert!(weights.is_sorted_by(|a, b| a >= b));
        assert_eq!(weights[WEIGHTS - 1], 0);
        assert_eq!(super::weights(0), [0; WEIGHTS]);
    }

    #[test]
    fn an_average_lies_between() {
        assert_eq!(average(100, 200, 0), 200);
        assert_eq!(average(100, 200, ONE), 100);
        assert_eq!(average(100, 200, ONE / 2), 150);
        assert_eq!(average(u64::MAX, u64::MAX, 972), u64::MAX);
    }

    #[test]
    fn the_path_that_answers_first_is_better() {
        let fresh = 1000;
        let better = |this, that| is_better(this, that, 10, 0);
        // Both busy: by what is to be expected.
        assert!(better(standing(100, 1, fresh), standing(200, 1, fresh)));
        assert!(!better(standing(200, 1, fresh), standing(100, 1, fresh)));
        assert!(better(standing(100, 2, fresh), standing(200, 1, fresh)));
        assert!(!better(standing(100, 5, fresh), standing(200, 1, fresh)));
        // Idle and stale: to be tried.
        assert!(better(standing(900, 0, 3), standing(200, 1, fresh)));
        // Both idle: the one that was not used for longer.
        assert!(better(standing(900, 0, 3), standing(200, 0, 4)));
        // Busy and stale: no more than the other has.
        assert!(!better(standing(100, 2, 3), standing(200, 2, fresh)));
        assert!(better(standing(100, 1, 3), standing(200, 2, fresh)));
    }

    #[test]
    fn paths_that_hardly_differ_get_as_much() {
        let better = |this, that| is_better(this, that, 10, 3);
        assert!(!better(standing(100, 2, 1000), standing(250, 1, 1000)));
        assert!(better(standing(100, 2, 1000), standing(350, 1, 1000)));
    }
}
