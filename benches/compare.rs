//! Interleaved comparison of dmfs with a plain `fuser` passthrough of one file and with other servers.
//!
//! `cargo bench --bench compare -- [--runtime S] [--reps N] [--size MIB] [--dir DIR] [--servers A,B]
//! [--workloads A,B] [--json FILE]`. See `benches/README.md`.

#![allow(missing_docs)]

mod fio;
mod plain_fuser;
mod servers;

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use rustix::fs::statfs;
use serde_json::{Value, json};

use fio::{Metric, WORKLOADS, Workload};
use servers::{KINDS, Kind, Server};

const TMPFS_MAGIC: u64 = 0x0102_1994;
const USAGE: &str =
    "cargo bench --bench compare -- [--runtime SECONDS] [--reps N] [--size MIB] [--dir DIR]
    [--servers NAME,NAME] [--workloads NAME,NAME] [--json FILE]";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let outcome = match arguments.as_slice() {
        [verb, backing, mountpoint] if verb == "--serve-plain" => {
            plain_fuser::serve(Path::new(backing), Path::new(mountpoint))
                .map_err(|error| format!("plain fuser: {error}"))
        }
        // cargo gives `--bench` to a benchmark and nothing to a test run of the same program.
        _ if !arguments.iter().any(|word| word == "--bench") => {
            println!("a benchmark, not a test: {USAGE}");
            Ok(())
        }
        _ => Options::parse(&arguments).and_then(|options| compare(&options)),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("compare: {message}");
            ExitCode::FAILURE
        }
    }
}

struct Options {
    runtime: f64,
    reps: usize,
    size_mib: u64,
    dir: PathBuf,
    servers: Vec<Kind>,
    workloads: Vec<Workload>,
    json: Option<PathBuf>,
}

impl Options {
    fn parse(arguments: &[String]) -> Result<Options, String> {
        let mut options = Options {
            runtime: 2.0,
            reps: 4,
            size_mib: 512,
            dir: PathBuf::from("/dev/shm"),
            servers: KINDS.to_vec(),
            workloads: WORKLOADS.to_vec(),
            json: None,
        };
        let mut words = arguments.iter().filter(|word| *word != "--bench");
        while let Some(option) = words.next() {
            let value = words
                .next()
                .ok_or_else(|| format!("{option}: a value is expected\n{USAGE}"))?;
            let bad = |what: &str| format!("{option} {value}: {what} is expected\n{USAGE}");
            match option.as_str() {
                "--runtime" => options.runtime = value.parse().map_err(|_| bad("seconds"))?,
                "--reps" => options.reps = value.parse().map_err(|_| bad("a number"))?,
                "--size" => options.size_mib = value.parse().map_err(|_| bad("MiB"))?,
                "--dir" => options.dir = PathBuf::from(value),
                "--json" => options.json = Some(PathBuf::from(value)),
                "--servers" => options.servers = pick(value, KINDS, |kind| kind.name())?,
                "--workloads" => options.workloads = pick(value, WORKLOADS, |load| load.name)?,
                _ => return Err(format!("{option}: no such option\n{USAGE}")),
            }
        }
        if options.reps == 0 || options.size_mib == 0 || options.runtime <= 0.0 {
            return Err(format!("numbers above zero are expected\n{USAGE}"));
        }
        Ok(options)
    }
}

fn pick<T: Copy>(
    names: &str,
    all: &[T],
    name_of: impl Fn(&T) -> &'static str,
) -> Result<Vec<T>, String> {
    names
        .split(',')
        .map(|name| {
            all.iter()
                .find(|item| name_of(item) == name)
                .copied()
                .ok_or_else(|| {
                    let known: Vec<_> = all.iter().map(&name_of).collect();
                    format!("{name}: expected one of {}", known.join(", "))
                })
        })
        .collect()
}

/// Samples of one workload on one server, in the order of the repetitions.
#[derive(Default)]
struct Samples {
    rate: Vec<f64>,
    cpu_per_gib: Vec<f64>,
}

type Results = BTreeMap<(&'static str, &'static str), Samples>;

fn compare(options: &Options) -> Result<(), String> {
    let folder = tempfile::Builder::new()
        .prefix("dmfs-compare-")
        .tempdir_in(&options.dir)
        .map_err(|error| format!("{}: {error}", options.dir.display()))?;
    let backing = folder.path().join("backing");
    fill(&backing, options.size_mib).map_err(|error| format!("{}: {error}", backing.display()))?;
    let kinds = installed(&options.servers);
    let mut results = Results::new();
    for rep in 0..options.reps {
        let up = servers::start(&kinds, &backing, folder.path())?;
        for workload in &options.workloads {
            // A B C, then C B A: what drifts during a round falls on all alike.
            let mut order: Vec<&Server> = up.iter().collect();
            if rep % 2 == 1 {
                order.reverse();
            }
            for server in order {
                measure(options, workload, server, &mut results)?;
            }
        }
        eprintln!("repetition {} of {} done", rep + 1, options.reps);
    }
    print_table(options, &kinds, &results).map_err(|error| error.to_string())?;
    match &options.json {
        Some(path) => fs::write(path, to_json(&results).to_string())
            .map_err(|error| format!("{}: {error}", path.display())),
        None => Ok(()),
    }
}

fn installed(wanted: &[Kind]) -> Vec<Kind> {
    let is_installed = |program: &&str| {
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
    };
    wanted
        .iter()
        .copied()
        .filter(|kind| {
            let missing = kind.programs().iter().find(|name| !is_installed(name));
            if let Some(program) = missing {
                println!("{}: left out, {program} is not installed", kind.name());
            }
            missing.is_none()
        })
        .collect()
}

fn measure(
    options: &Options,
    workload: &Workload,
    server: &Server,
    results: &mut Results,
) -> Result<(), String> {
    let named = |message: String| format!("{} on {}: {message}", workload.name, server.kind.name());
    let before = server.cpu_seconds().map_err(named)?;
    let outcome = fio::run(workload, &server.file, server.bytes, options.runtime).map_err(named)?;
    let after = server.cpu_seconds().map_err(named)?;
    let samples = results
        .entry((workload.name, server.kind.name()))
        .or_default();
    samples.rate.push(outcome.rate);
    samples.cpu_per_gib.push((after - before) / outcome.gib);
    Ok(())
}

fn fill(path: &Path, mib: u64) -> io::Result<()> {
    let mut file = fs::File::create(path)?;
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut block = Vec::with_capacity(1 << 20);
    while block.len() < 1 << 20 {
        state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
        block.extend_from_slice(&state.to_le_bytes());
    }
    (0..mib).try_for_each(|_| file.write_all(&block))
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => f64::NAN,
        len if len % 2 == 1 => sorted[middle],
        _ => f64::midpoint(sorted[middle - 1], sorted[middle]),
    }
}

/// (largest - smallest) / median.
fn spread(values: &[f64]) -> f64 {
    let largest = values.iter().copied().fold(f64::MIN, f64::max);
    let smallest = values.iter().copied().fold(f64::MAX, f64::min);
    (largest - smallest) / median(values)
}

/// Median of the ratios within each repetition, which what else the machine did disturbs least.
fn ratio(of: &Samples, to: &Samples) -> f64 {
    let ratios: Vec<f64> = of.rate.iter().zip(&to.rate).map(|(a, b)| a / b).collect();
    median(&ratios)
}

fn print_table(options: &Options, kinds: &[Kind], results: &Results) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let is_tmpfs = statfs(&options.dir).is_ok_and(|found| found.f_type as u64 == TMPFS_MAGIC);
    writeln!(
        out,
        "\n{} repetitions of {} s, interleaved; {} MiB on {}{}. Median, (ratio to {}), +- spread, server CPU seconds per GiB.\n",
        options.reps,
        options.runtime,
        options.size_mib,
        options.dir.display(),
        if is_tmpfs { " (tmpfs)" } else { "" },
        Kind::Plain.name(),
    )?;
    write!(out, "| workload |")?;
    kinds
        .iter()
        .try_for_each(|kind| write!(out, " {} |", kind.name()))?;
    writeln!(out, "\n|---|{}", "---|".repeat(kinds.len()))?;
    for workload in &options.workloads {
        let unit = match workload.metric {
            Metric::Operations => "op/s",
            Metric::Bandwidth => "MiB/s",
        };
        write!(out, "| {} [{unit}] |", workload.name)?;
        let plain = results.get(&(workload.name, Kind::Plain.name()));
        for kind in kinds {
            let Some(samples) = results.get(&(workload.name, kind.name())) else {
                write!(out, " - |")?;
                continue;
            };
            write!(out, " {:.0}", median(&samples.rate))?;
            if let (Some(plain), false) = (plain, *kind == Kind::Plain) {
                write!(out, " ({:.3})", ratio(samples, plain))?;
            }
            write!(
                out,
                " +-{:.2}, {:.2} s |",
                spread(&samples.rate),
                median(&samples.cpu_per_gib)
            )?;
        }
        writeln!(out)?;
    }
    Ok(())
}

fn to_json(results: &Results) -> Value {
    results
        .iter()
        .map(|((workload, server), samples)| {
            json!({
                "workload": workload,
                "server": server,
                "rate": samples.rate,
                "cpu_seconds_per_gib": samples.cpu_per_gib,
            })
        })
        .collect()
}
