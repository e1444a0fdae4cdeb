//! Medians, and how far they can be trusted.

use crate::workload::Random;

/// How often the samples are drawn again to find an interval.
const DRAWS: usize = 2000;

/// A median and the 95 % confidence interval around it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Interval {
    /// Lower end.
    pub low: f64,
    /// The median of the samples.
    pub median: f64,
    /// Upper end.
    pub high: f64,
}

impl Interval {
    /// The larger distance from the median to an end, as a part of the median.
    pub fn error(&self) -> f64 {
        (self.high - self.median).max(self.median - self.low) / self.median
    }
}

/// The middle value, or the mean of the middle two; NaN without values.
pub fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    median_in_place(&mut values)
}

fn median_in_place(values: &mut [f64]) -> f64 {
    let middle = values.len() / 2;
    if values.is_empty() {
        return f64::NAN;
    }
    let is_odd = values.len() % 2 == 1;
    let (below, upper, _) = values.select_nth_unstable_by(middle, f64::total_cmp);
    if is_odd {
        return *upper;
    }
    let lower = below.iter().copied().fold(f64::MIN, f64::max);
    f64::midpoint(lower, *upper)
}

/// The median of `values` with its bootstrap interval (percentiles of the medians of samples drawn again, with
/// replacement). `None` with fewer than three values.
pub fn interval(values: &[f64]) -> Option<Interval> {
    if values.len() < 3 {
        return None;
    }
    let mut random = Random(values.len() as u64);
    let mut drawn = values.to_vec();
    let mut medians: Vec<f64> = (0..DRAWS)
        .map(|_| {
            for value in &mut drawn {
                *value = values[random.below(values.len() as u64) as usize];
            }
            median_in_place(&mut drawn)
        })
        .collect();
    medians.sort_by(f64::total_cmp);
    Some(Interval {
        low: medians[DRAWS * 25 / 1000],
        median: median(values),
        high: medians[DRAWS * 975 / 1000 - 1],
    })
}

/// The quotient of two medians, of samples that were not taken in pairs.
pub fn interval_of_quotient(of: &[f64], to: &[f64]) -> Option<Interval> {
    let (of, to) = (interval(of)?, interval(to)?);
    // Independent relative errors add in squares; the ends need not be as far from the middle.
    let part = |a: f64, b: f64| (a * a + b * b).sqrt();
    let median = of.median / to.median;
    let below = part(1.0 - of.low / of.median, to.high / to.median - 1.0);
    let above = part(of.high / of.median - 1.0, 1.0 - to.low / to.median);
    Some(Interval {
        low: median * (1.0 - below),
        median,
        high: median * (1.0 + above),
    })
}
