//! The workloads, run by fio, and what one run of fio tells.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

/// What a workload is measured in; larger is better for both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Metric {
    /// Operations a second.
    Operations,
    /// MiB a second.
    Bandwidth,
}

/// One row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Workload {
    /// The row's name.
    pub name: &'static str,
    /// What distinguishes this fio job from the others.
    arguments: &'static [&'static str],
    /// What is measured.
    pub metric: Metric,
}

const DEPTH_1: &str = "--ioengine=psync";

/// All rows, in the table's order.
pub const WORKLOADS: &[Workload] = &[
    Workload {
        name: "randread-4k-qd1",
        arguments: &["--rw=randread", "--bs=4k", DEPTH_1, "--direct=1"],
        metric: Metric::Operations,
    },
    Workload {
        name: "randread-4k-qd32",
        arguments: &[
            "--rw=randread",
            "--bs=4k",
            "--ioengine=libaio",
            "--iodepth=32",
            "--direct=1",
        ],
        metric: Metric::Operations,
    },
    Workload {
        name: "randwrite-4k-qd1",
        arguments: &["--rw=randwrite", "--bs=4k", DEPTH_1, "--direct=1"],
        metric: Metric::Operations,
    },
    Workload {
        name: "randwrite-4k-qd32",
        arguments: &[
            "--rw=randwrite",
            "--bs=4k",
            "--ioengine=libaio",
            "--iodepth=32",
            "--direct=1",
        ],
        metric: Metric::Operations,
    },
    Workload {
        name: "seqread-1m-qd1",
        arguments: &["--rw=read", "--bs=1m", DEPTH_1, "--direct=1"],
        metric: Metric::Bandwidth,
    },
    Workload {
        name: "seqread-1m-qd8",
        arguments: &[
            "--rw=read",
            "--bs=1m",
            "--ioengine=libaio",
            "--iodepth=8",
            "--direct=1",
        ],
        metric: Metric::Bandwidth,
    },
    Workload {
        name: "seqwrite-1m-qd1",
        arguments: &["--rw=write", "--bs=1m", DEPTH_1, "--direct=1"],
        metric: Metric::Bandwidth,
    },
    Workload {
        name: "seqwrite-1m-qd8",
        arguments: &[
            "--rw=write",
            "--bs=1m",
            "--ioengine=libaio",
            "--iodepth=8",
            "--direct=1",
        ],
        metric: Metric::Bandwidth,
    },
    Workload {
        name: "fsync-4k",
        arguments: &[
            "--rw=randwrite",
            "--bs=4k",
            DEPTH_1,
            "--direct=0",
            "--fsync=1",
        ],
        metric: Metric::Operations,
    },
];

/// What one run gave.
#[derive(Clone, Copy, Debug)]
pub struct Outcome {
    /// In the workload's metric.
    pub rate: f64,
    /// GiB read and written.
    pub gib: f64,
}

/// Runs `workload` on the first `bytes` of `file` for `seconds`.
///
/// # Errors
/// A sentence where fio cannot be started, fails, or says something that cannot be read.
pub fn run(workload: &Workload, file: &Path, bytes: u64, seconds: f64) -> Result<Outcome, String> {
    let output = Command::new("fio")
        .arg("--name=compare")
        .arg(format!("--filename={}", file.display()))
        .arg(format!("--size={bytes}"))
        .arg(format!("--runtime={}ms", (seconds * 1000.0).round()))
        .args([
            "--time_based",
            "--thread=1",
            "--randrepeat=0",
            "--norandommap=1",
            "--fallocate=none",
            "--allow_file_create=0",
            "--output-format=json",
        ])
        .args(workload.arguments)
        .output()
        .map_err(|error| format!("fio cannot be started: {error} (apt-get install fio)"))?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        return Err(format!("fio ended with {}: {}", output.status, text.trim()));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let report = text.find('{').map_or("", |start| &text[start..]);
    let report: Value =
        serde_json::from_str(report).map_err(|error| format!("fio's report: {error}"))?;
    outcome(workload, &report).ok_or_else(|| "fio's report lacks the job's figures".to_owned())
}

fn outcome(workload: &Workload, report: &Value) -> Option<Outcome> {
    let job = report.get("jobs")?.get(0)?;
    let sum = |field: &str| {
        Some(job.get("read")?.get(field)?.as_f64()? + job.get("write")?.get(field)?.as_f64()?)
    };
    Some(Outcome {
        rate: match workload.metric {
            Metric::Operations => sum("iops")?,
            Metric::Bandwidth => sum("bw_bytes")? / f64::from(1 << 20),
        },
        gib: sum("io_bytes")? / f64::from(1 << 30),
    })
}
