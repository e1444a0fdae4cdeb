//! What has to hold: a bar names two columns, the rows it is about, and the least their ratio may be.

use crate::kind::{COUNTED, Device, Kind, LINEAR, PASSTHROUGH, Transport};
use crate::measure::Results;
use crate::statistics::Interval;
use crate::workload::{Mode, Workload};

/// What a bar is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Figure {
    /// The rate must be at least so many times the other's.
    Rate,
    /// The server's CPU seconds for each GiB must be at most so many times the other's.
    Cpu,
}

/// One thing that has to hold.
pub struct Bar {
    /// What is held to it.
    pub of: Kind,
    /// What it is compared with.
    pub to: Kind,
    /// What of them.
    pub figure: Figure,
    /// The bar.
    pub limit: f64,
    rows: fn(&Workload) -> bool,
}

/// How a bar was met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The whole interval is on the right side.
    Met,
    /// The median is, a part of the interval is not.
    Likely,
    /// The median is not, a part of the interval is.
    Unlikely,
    /// The whole interval is on the wrong side.
    Missed,
}

impl Verdict {
    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Verdict::Met => "met",
            Verdict::Likely => "met?",
            Verdict::Unlikely => "missed?",
            Verdict::Missed => "missed",
        }
    }
}

const RING: Kind = Kind::Dmfs(Device::Linear, Transport::Ring);
const CRYPT: Kind = Kind::Dmfs(Device::Crypt, Transport::Classic);

fn every(_: &Workload) -> bool {
    true
}

fn small_at_depth(workload: &Workload) -> bool {
    workload.block == 4096 && workload.depth == 32
}

fn streams(workload: &Workload) -> bool {
    workload.block == 1 << 20 && workload.mode == Mode::Direct
}

const fn rate(of: Kind, to: Kind, limit: f64, rows: fn(&Workload) -> bool) -> Bar {
    Bar {
        of,
        to,
        figure: Figure::Rate,
        limit,
        rows,
    }
}

/// All bars.
pub const BARS: &[Bar] = &[
    rate(LINEAR, Kind::Plain, 0.97, every),
    rate(LINEAR, Kind::Bare, 0.93, every),
    rate(
        Kind::Dmfs(Device::Stack, Transport::Classic),
        LINEAR,
        0.97,
        every,
    ),
    rate(
        Kind::Dmfs(Device::Rows, Transport::Classic),
        LINEAR,
        0.97,
        every,
    ),
    rate(COUNTED, LINEAR, 0.97, every),
    rate(CRYPT, LINEAR, 0.7, streams),
    rate(CRYPT, LINEAR, 0.9, small_at_depth),
    rate(PASSTHROUGH, Kind::Backing, 0.95, every),
    rate(LINEAR, Kind::Qemu, 4.0, small_at_depth),
    rate(LINEAR, Kind::Nbd, 9.0, small_at_depth),
    rate(LINEAR, Kind::Qemu, 2.0, streams),
    rate(LINEAR, Kind::Nbd, 2.0, streams),
    rate(RING, LINEAR, 1.0, small_at_depth),
    Bar {
        figure: Figure::Cpu,
        ..rate(RING, LINEAR, 0.6, small_at_depth)
    },
];

impl Bar {
    /// True if the bar is about this row.
    pub fn is_about(&self, workload: &Workload) -> bool {
        (self.rows)(workload)
    }

    /// What was measured, if both columns were.
    pub fn ratio(
        &self,
        results: &Results,
        layer: &'static str,
        workload: &Workload,
    ) -> Option<Interval> {
        match self.figure {
            Figure::Rate => results.ratio(layer, workload, self.of, self.to),
            Figure::Cpu => results.cpu_ratio(layer, workload, self.of, self.to),
        }
    }

    /// What a ratio says of the bar.
    pub fn verdict(&self, ratio: Interval) -> Verdict {
        let holds = |figure: f64| match self.figure {
            Figure::Rate => figure >= self.limit,
            Figure::Cpu => figure <= self.limit,
        };
        match (holds(ratio.low), holds(ratio.median), holds(ratio.high)) {
            (true, _, true) => Verdict::Met,
            (false, _, false) => Verdict::Missed,
            (_, true, _) => Verdict::Likely,
            (_, false, _) => Verdict::Unlikely,
        }
    }

    /// The bar in words.
    pub fn text(&self) -> String {
        let (of, to) = (self.of.name(), self.to.name());
        match self.figure {
            Figure::Rate => format!("{of} at least {} of {to}", self.limit),
            Figure::Cpu => format!("{of} at most {} of the CPU of {to}", self.limit),
        }
    }
}
