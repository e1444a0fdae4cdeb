//! What the benchmark calculates with: its medians and intervals, and its order of steps.
#![allow(missing_docs, dead_code, clippy::unwrap_used)]

#[path = "../benches/compare/statistics.rs"]
mod statistics;
#[path = "../benches/compare/workload.rs"]
mod workload;

use std::collections::HashSet;

use statistics::{interval, interval_of_quotient, median};
use workload::{Random, Steps, WORKLOADS, Workload};

fn named(name: &str) -> Workload {
    *WORKLOADS.iter().find(|row| row.name == name).unwrap()
}

/// `len` values around `middle`, up to `spread` of it away.
fn noisy(middle: f64, spread: f64, len: usize, seed: u64) -> Vec<f64> {
    let mut random = Random(seed);
    (0..len)
        .map(|_| middle * (1.0 + spread * (random.below(2001) as f64 / 1000.0 - 1.0)))
        .collect()
}

#[test]
fn a_median_lies_in_the_middle() {
    assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
    assert_eq!(median(&[4.0, 1.0, 3.0, 2.0]), 2.5);
    assert!(median(&[]).is_nan());
}

#[test]
fn intervals_hold_the_truth_about_as_often_as_they_say() {
    let rounds = 150;
    let holds = |seed: &u64| {
        let known = interval(&noisy(0.97, 0.3, 30, *seed)).unwrap();
        (known.low..=known.high).contains(&0.97)
    };
    let right = (0..rounds).filter(holds).count() as f64 / rounds as f64;
    assert!((0.91..=0.99).contains(&right), "{right}");
}

#[test]
fn more_samples_narrow_an_interval() {
    let few = interval(&noisy(1.0, 0.3, 12, 1)).unwrap();
    let many = interval(&noisy(1.0, 0.3, 400, 1)).unwrap();
    assert!(many.error() < few.error() / 2.0, "{few:?} {many:?}");
    assert_eq!(interval(&[1.0, 1.0]), None);
}

#[test]
fn a_quotient_knows_less_than_either_part() {
    let (of, to) = (noisy(0.5, 0.2, 60, 1), noisy(2.0, 0.2, 60, 2));
    let quotient = interval_of_quotient(&of, &to).unwrap();
    assert!((quotient.low..=quotient.high).contains(&0.25));
    assert!(quotient.error() > interval(&of).unwrap().error());
    assert!(quotient.error() > interval(&to).unwrap().error());
}

#[test]
fn steps_stay_within_the_file_and_cover_it() {
    for workload in WORKLOADS {
        let blocks = 64;
        let bytes = blocks * workload.block as u64 + 100;
        let steps: Vec<_> = Steps::new(*workload, bytes, 7).take(2000).collect();
        assert!(
            steps
                .iter()
                .all(|step| step.at % workload.block as u64 == 0)
        );
        let places: HashSet<u64> = steps.iter().map(|step| step.at).collect();
        assert_eq!(places.len() as u64, blocks, "{}", workload.name);
        assert!(places.iter().all(|at| at + workload.block as u64 <= bytes));
    }
}

#[test]
fn a_pass_that_caches_would_remember_ends_with_the_file() {
    let bytes = 16 << 20;
    assert_eq!(Steps::new(named("buf-seqread-1m"), bytes, 1).count(), 16);
    let mut direct = Steps::new(named("seqread-1m-qd1"), bytes, 1);
    assert_eq!(direct.nth(16).unwrap().at, 0);
}

#[test]
fn a_mix_reads_as_often_as_it_says() {
    let steps = Steps::new(named("randrw70-4k-qd1"), 1 << 30, 3).take(20_000);
    let reads = steps.filter(|step| step.is_read).count();
    assert!((13_700..14_300).contains(&reads), "{reads}");
}
