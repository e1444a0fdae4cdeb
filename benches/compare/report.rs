//! What was measured, as tables in Markdown and as JSON.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::bars::BARS;
use crate::kind::{KINDS, Kind};
use crate::measure::Results;
use crate::options::Options;
use crate::scaling;
use crate::statistics::{Interval, median};
use crate::workload::{Metric, Workload};

/// What rates are given in units of, besides operations and MiB.
const UNIT: Kind = Kind::Plain;

/// All tables.
pub fn markdown(options: &Options, results: &Results) -> String {
    let mut text = String::new();
    for layer in options.layers.iter().map(|layer| layer.name()) {
        let kinds: Vec<Kind> = KINDS
            .iter()
            .copied()
            .filter(|kind| {
                results
                    .all()
                    .any(|(place, _)| (place.0, place.2) == (layer, *kind))
            })
            .collect();
        if kinds.is_empty() {
            continue;
        }
        let _ = writeln!(
            text,
            "\n### {layer}: rate, and ratio to {} with its 95 % interval\n",
            UNIT.name()
        );
        text += &table(options, &kinds, |workload, kind| {
            rate_cell(results, layer, workload, kind)
        });
        let _ = writeln!(
            text,
            "\n### {layer}: CPU seconds of the server for each GiB\n"
        );
        text += &table(options, &kinds, |workload, kind| {
            cpu_cell(results, layer, workload, kind)
        });
        text += &memory_row(results, layer, &kinds);
        text += &bars(options, results, layer);
    }
    if !results.scaling.is_empty() {
        text += &scaling::markdown(&results.scaling);
    }
    if !results.failures.is_empty() {
        text += "\n### Not measured\n\n";
        for failure in &results.failures {
            let _ = writeln!(text, "- {failure}");
        }
    }
    text
}

fn table(
    options: &Options,
    kinds: &[Kind],
    cell: impl Fn(&Workload, Kind) -> Option<String>,
) -> String {
    let mut text = "| workload |".to_owned();
    for kind in kinds {
        let _ = write!(text, " {} |", kind.name());
    }
    let _ = write!(text, "\n|---|{}\n", "---:|".repeat(kinds.len()));
    for workload in &options.workloads {
        let cells: Vec<_> = kinds.iter().map(|&kind| cell(workload, kind)).collect();
        if cells.iter().all(Option::is_none) {
            continue;
        }
        let unit = match workload.metric() {
            Metric::Operations => "op/s",
            Metric::Bandwidth => "MiB/s",
        };
        let _ = write!(text, "| {} [{unit}] |", workload.name);
        for cell in cells {
            let _ = write!(text, " {} |", cell.as_deref().unwrap_or("-"));
        }
        text.push('\n');
    }
    text
}

fn rate_cell(
    results: &Results,
    layer: &'static str,
    workload: &Workload,
    kind: Kind,
) -> Option<String> {
    let rate = results.rate(layer, workload, kind)?;
    let ratio = results
        .ratio(layer, workload, kind, UNIT)
        .filter(|_| kind != UNIT);
    Some(ratio.map_or_else(
        || format!("{rate:.0}"),
        |ratio| format!("{rate:.0} ({})", with_interval(ratio)),
    ))
}

fn with_interval(ratio: Interval) -> String {
    let decimals = if ratio.median < 0.2 { 3 } else { 2 };
    let Interval { low, median, high } = ratio;
    format!("{median:.decimals$}, {low:.decimals$}-{high:.decimals$}")
}

fn cpu_cell(
    results: &Results,
    layer: &'static str,
    workload: &Workload,
    kind: Kind,
) -> Option<String> {
    let samples = results.samples(layer, workload, kind);
    let figures: Vec<f64> = samples.iter().map(|sample| sample.cpu_per_gib).collect();
    (!figures.is_empty() && kind != Kind::Backing).then(|| format!("{:.2}", median(&figures)))
}

fn memory_row(results: &Results, layer: &'static str, kinds: &[Kind]) -> String {
    let mut text = "| most memory resident [MiB] |".to_owned();
    for &kind in kinds {
        let peak = results.peak.get(&(layer, kind)).filter(|peak| **peak > 0.0);
        let peak = peak.map_or_else(|| "-".to_owned(), |peak| format!("{peak:.1}"));
        let _ = write!(text, " {peak} |");
    }
    text.push('\n');
    text
}

fn bars(options: &Options, results: &Results, layer: &'static str) -> String {
    let mut text = String::new();
    for bar in BARS {
        let rows = options.workloads.iter().filter(|row| bar.is_about(row));
        for workload in rows {
            if let Some(ratio) = bar.ratio(results, layer, workload) {
                let _ = writeln!(
                    text,
                    "| {} | {} | {:.3} | {:.3}-{:.3} | {} |",
                    bar.text(),
                    workload.name,
                    ratio.median,
                    ratio.low,
                    ratio.high,
                    bar.verdict(ratio).name()
                );
            }
        }
    }
    if text.is_empty() {
        return text;
    }
    format!(
        "\n### {layer}: bars\n\n| bar | workload | measured | 95 % interval | |\n|---|---|---:|---:|---|\n{text}"
    )
}

/// All samples.
pub fn to_json(results: &Results) -> Value {
    let samples: Vec<Value> = results
        .all()
        .map(|((layer, workload, kind), samples)| {
            let figures: Vec<Value> = samples
                .iter()
                .map(|s| json!([s.group, s.round, s.rate, s.cpu_per_gib]))
                .collect();
            json!({
                "layer": layer,
                "workload": workload,
                "server": kind.name(),
                "group_round_rate_cpu": figures,
            })
        })
        .collect();
    let peak: Vec<Value> = results
        .peak
        .iter()
        .map(|((layer, kind), mib)| json!({"layer": layer, "server": kind.name(), "mib": mib}))
        .collect();
    json!({"samples": samples, "peak": peak, "scaling": scaling::to_json(&results.scaling), "failures": results.failures})
}
