//! Measures servers side by side: short slices in turn, until their ratios are known well enough.
//!
//! A round gives every server two slices, in an order that is the same read backwards (A B C C B A), so that what
//! drifts during the round weighs the same on all. A sample is what a server did in both. Ratios are taken within
//! a round, and so do not see what the machine does in other rounds.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use crate::fio;
use crate::kind::Kind;
use crate::load::{Load, Slice};
use crate::options::{Engine, Options};
use crate::scaling::Scaling;
use crate::servers::Server;
use crate::statistics::{Interval, interval, interval_of_quotient, median};
use crate::target::Target;
use crate::workload::{Metric, Mode, Workload};

/// Rounds before an interval means anything.
const LEAST_ROUNDS: usize = 6;

/// What one server did in one round.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// Samples of one group were taken in turn.
    pub group: usize,
    /// The round within the group.
    pub round: usize,
    /// In the workload's metric.
    pub rate: f64,
    /// CPU seconds of the server for each GiB.
    pub cpu_per_gib: f64,
}

/// Which samples belong together.
pub type Place = (&'static str, &'static str, Kind);

/// Samples by layer, workload and kind; the most memory a server had, by layer and kind.
#[derive(Default)]
pub struct Results {
    samples: BTreeMap<Place, Vec<Sample>>,
    /// MiB.
    pub peak: BTreeMap<(&'static str, Kind), f64>,
    /// What many devices cost.
    pub scaling: Vec<Scaling>,
    /// What could not be measured, and why.
    pub failures: Vec<String>,
}

impl Results {
    /// All samples of a place.
    pub fn samples(&self, layer: &'static str, workload: &Workload, kind: Kind) -> &[Sample] {
        let place = (layer, workload.name, kind);
        self.samples.get(&place).map_or(&[], Vec::as_slice)
    }

    /// All places with their samples.
    pub fn all(&self) -> impl Iterator<Item = (&Place, &Vec<Sample>)> {
        self.samples.iter()
    }

    /// The median rate.
    pub fn rate(&self, layer: &'static str, workload: &Workload, kind: Kind) -> Option<f64> {
        let samples = self.samples(layer, workload, kind);
        let rates: Vec<f64> = samples.iter().map(|sample| sample.rate).collect();
        (!rates.is_empty()).then(|| median(&rates))
    }

    /// The rate of `of` in units of the rate of `to`: from rounds with both; where there are none, because they
    /// cannot be up together, by way of what plain fuser did beside each.
    pub fn ratio(
        &self,
        layer: &'static str,
        workload: &Workload,
        of: Kind,
        to: Kind,
    ) -> Option<Interval> {
        self.quotient(layer, workload, of, to, |sample| sample.rate)
    }

    /// The CPU seconds for each GiB of `of` in units of those of `to`.
    pub fn cpu_ratio(
        &self,
        layer: &'static str,
        workload: &Workload,
        of: Kind,
        to: Kind,
    ) -> Option<Interval> {
        self.quotient(layer, workload, of, to, |sample| sample.cpu_per_gib)
    }

    fn quotient(
        &self,
        layer: &'static str,
        workload: &Workload,
        of: Kind,
        to: Kind,
        figure: impl Fn(&Sample) -> f64,
    ) -> Option<Interval> {
        let paired = |of, to| {
            let of = self.samples(layer, workload, of);
            let to = self.samples(layer, workload, to);
            paired(of, to, &figure)
        };
        let both = paired(of, to);
        if both.is_empty() {
            return interval_of_quotient(&paired(of, Kind::Plain), &paired(to, Kind::Plain));
        }
        interval(&both)
    }
}

/// The ratios of what two servers did in the rounds that both had a part in.
fn paired(of: &[Sample], to: &[Sample], figure: impl Fn(&Sample) -> f64) -> Vec<f64> {
    let key = |sample: &Sample| (sample.group, sample.round);
    let to: BTreeMap<_, _> = to
        .iter()
        .map(|sample| (key(sample), figure(sample)))
        .collect();
    of.iter()
        .filter_map(|sample| Some(figure(sample) / to.get(&key(sample))?))
        .collect()
}

/// A server and the open file that is measured.
struct Runner<'a> {
    server: &'a Server,
    target: &'a Target,
    /// How much of the file is used.
    bytes: u64,
    load: Option<Load>,
}

impl Runner<'_> {
    fn slice(&mut self, workload: &Workload, options: &Options) -> Result<(Slice, f64), String> {
        let before = self.server.cpu_seconds()?;
        let slice = match &mut self.load {
            Some(load) => load
                .slice(options.slice)
                .map_err(|error| error.to_string())?,
            None => fio::run(workload, self.target.path(), self.bytes, options.slice)?,
        };
        Ok((slice, self.server.cpu_seconds()? - before))
    }
}

/// Measures `workload` on all `servers`, which are up, until every ratio is known within what `options` ask for or
/// the time for it is over. `group` tells these samples from those taken with other servers.
pub fn measure(
    workload: &Workload,
    servers: &[(Server, Target)],
    group: usize,
    options: &Options,
    results: &mut Results,
) {
    let mut runners: Vec<Runner<'_>> = Vec::new();
    // A longer file costs the client's page cache more, which is no server's doing.
    let least = servers.iter().map(|(server, _)| server.bytes).min();
    for (server, target) in servers {
        let bytes = match workload.mode {
            Mode::Direct => server.bytes,
            Mode::Buffered | Mode::Mapped => least.unwrap_or(server.bytes),
        };
        let load = match options.engine {
            Engine::Fio => Ok(None),
            Engine::Own => Load::open(*workload, target.path(), bytes).map(Some),
        };
        match load {
            Ok(load) => runners.push(Runner {
                server,
                target,
                bytes,
                load,
            }),
            Err(error) => fail(workload, server, target, &error.to_string(), results),
        }
    }
    let begun = Instant::now();
    for round in 0.. {
        let wanted = unsettled(workload, &runners, group, options, results);
        let is_over = round > 0 && begun.elapsed() >= options.limit;
        if wanted.is_empty() || is_over || options.is_stopped() {
            break;
        }
        let failed = run_round(&mut runners, &wanted, workload, options, |runner, sums| {
            let layer = runner.target.layer();
            let sample = sample(workload, group, round, sums);
            let place = (layer, workload.name, runner.server.kind);
            results.samples.entry(place).or_default().push(sample);
        });
        if let Some((index, error)) = failed {
            let runner = runners.remove(index);
            fail(workload, runner.server, runner.target, &error, results);
        }
    }
    for (server, target) in servers {
        if let Ok(peak) = server.peak_mib() {
            let known = results
                .peak
                .entry((target.layer(), server.kind))
                .or_default();
            *known = known.max(peak);
        }
    }
    progress(workload, servers, begun.elapsed(), results);
}

fn fail(workload: &Workload, server: &Server, target: &Target, error: &str, results: &mut Results) {
    let text = format!(
        "{} on {} ({}): {error}",
        workload.name,
        server.kind.name(),
        target.layer()
    );
    eprintln!("{text}");
    results.failures.push(text);
}

/// Gives each of the `wanted` two slices; `Err`-like, the index of the first that failed and why.
fn run_round(
    runners: &mut [Runner<'_>],
    wanted: &BTreeSet<Kind>,
    workload: &Workload,
    options: &Options,
    mut done: impl FnMut(&Runner<'_>, (Slice, f64)),
) -> Option<(usize, String)> {
    let forth: Vec<usize> = (0..runners.len())
        .filter(|&index| wanted.contains(&runners[index].server.kind))
        .collect();
    let mut sums = vec![(Slice::default(), 0.0); runners.len()];
    for &index in forth.iter().chain(forth.iter().rev()) {
        match runners[index].slice(workload, options) {
            Ok((slice, cpu)) => {
                let sum = &mut sums[index];
                *sum = (sum.0.and(slice), sum.1 + cpu);
            }
            Err(error) => return Some((index, error)),
        }
    }
    forth
        .iter()
        .for_each(|&index| done(&runners[index], sums[index]));
    None
}

fn sample(workload: &Workload, group: usize, round: usize, (slice, cpu): (Slice, f64)) -> Sample {
    Sample {
        group,
        round,
        rate: match workload.metric() {
            Metric::Operations => slice.operations as f64 / slice.seconds,
            Metric::Bandwidth => slice.bytes as f64 / f64::from(1 << 20) / slice.seconds,
        },
        cpu_per_gib: cpu / (slice.bytes as f64 / f64::from(1 << 30)),
    }
}

/// Which kinds the next round needs: those whose ratios are not known well enough, with what they are compared with.
fn unsettled(
    workload: &Workload,
    runners: &[Runner<'_>],
    group: usize,
    options: &Options,
    results: &Results,
) -> BTreeSet<Kind> {
    let present: BTreeSet<Kind> = runners.iter().map(|runner| runner.server.kind).collect();
    let mut wanted = BTreeSet::new();
    for runner in runners {
        let kind = runner.server.kind;
        let layer = runner.target.layer();
        let samples = results.samples(layer, workload, kind).iter();
        if samples.filter(|sample| sample.group == group).count() < LEAST_ROUNDS {
            return present;
        }
        let with = kind.compared_with().iter();
        for &other in with.filter(|other| present.contains(other)) {
            let known = results.ratio(layer, workload, kind, other);
            if known.is_none_or(|known| known.error() > options.within * kind.tolerance()) {
                wanted.extend([kind, other]);
            }
        }
    }
    wanted
}

fn progress(workload: &Workload, servers: &[(Server, Target)], time: Duration, results: &Results) {
    let told: Vec<String> = servers
        .iter()
        .filter_map(|(server, target)| {
            let kind = server.kind;
            let rate = results.rate(target.layer(), workload, kind)?;
            let rounds = results.samples(target.layer(), workload, kind).len();
            let mut text = format!("{} {rate:.0} ({rounds})", kind.name());
            for &other in kind.compared_with() {
                if let Some(ratio) = results.ratio(target.layer(), workload, kind, other) {
                    text += &format!(
                        " {:.3} [{:.3}, {:.3}] of {}",
                        ratio.median,
                        ratio.low,
                        ratio.high,
                        other.name()
                    );
                }
            }
            Some(text)
        })
        .collect();
    eprintln!(
        "{:.0} s, {}: {}",
        time.as_secs_f64(),
        workload.name,
        told.join("; ")
    );
}
