//! The workloads run by fio, to check our own client with.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::load::Slice;
use crate::workload::{Mode, Pattern, Workload};

/// Runs `workload` on the first `bytes` of `file` for `length`.
///
/// # Errors
/// A sentence where fio cannot be started, fails, or says something that cannot be read.
pub fn run(
    workload: &Workload,
    file: &Path,
    bytes: u64,
    length: Duration,
) -> Result<Slice, String> {
    let output = Command::new("fio")
        .arg("--name=compare")
        .arg(format!("--filename={}", file.display()))
        .arg(format!("--size={bytes}"))
        .arg(format!("--runtime={}ms", length.as_millis()))
        .arg(format!("--bs={}", workload.block))
        .arg(format!("--iodepth={}", workload.depth))
        .args([
            "--thread=1",
            "--randrepeat=0",
            "--norandommap=1",
            "--fallocate=none",
            "--allow_file_create=0",
            "--output-format=json",
        ])
        .args(arguments(workload))
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
    slice(&report).ok_or_else(|| "fio's report lacks the job's figures".to_owned())
}

fn arguments(workload: &Workload) -> Vec<String> {
    let pattern = match workload.pattern {
        Pattern::Random => "rand",
        Pattern::Sequential => "",
    };
    let mix = match workload.read_percent {
        100 => "read",
        0 => "write",
        _ => "rw",
    };
    let engine = match (workload.mode, workload.depth) {
        (Mode::Mapped, _) => "mmap",
        (_, 1) => "psync",
        _ => "libaio",
    };
    let writes = workload.read_percent < 100;
    let is_direct = workload.mode == Mode::Direct;
    let options = [
        (true, format!("--rw={pattern}{mix}")),
        (
            mix == "rw",
            format!("--rwmixread={}", workload.read_percent),
        ),
        (true, format!("--ioengine={engine}")),
        (true, format!("--direct={}", u32::from(is_direct))),
        (workload.synced, "--fdatasync=1".to_owned()),
        (writes && !is_direct, "--end_fsync=1".to_owned()),
        (!workload.ends_with_the_file(), "--time_based".to_owned()),
    ];
    let given = options.into_iter().filter(|(is_given, _)| *is_given);
    given.map(|(_, option)| option).collect()
}

fn slice(report: &Value) -> Option<Slice> {
    let job = report.get("jobs")?.get(0)?;
    let sum = |field: &str| {
        Some(job.get("read")?.get(field)?.as_f64()? + job.get("write")?.get(field)?.as_f64()?)
    };
    let bytes = sum("io_bytes")?;
    Some(Slice {
        operations: sum("total_ios")? as u64,
        bytes: bytes as u64,
        seconds: job.get("job_runtime")?.as_f64()? / 1000.0,
    })
}
