//! What `dmfs run` costs calls that are none of its own: an open, which is trapped and goes on in the kernel, and a
//! read, which is not trapped.
//!
//! `cargo bench --bench run`; about fifteen seconds. Each is timed alone, under `dmfs run --user` and, as root, under
//! `dmfs run --root`, in turn, so that what drifts weighs the same on all.

#![allow(missing_docs)]

use std::env;
use std::fs::File;
use std::io::{self, Error, Read};
use std::process::Command;
use std::time::Instant;

/// Set for the process that is timed.
const TIMED: &str = "DMFS_BENCH_RUN_TIMED";
const ROUNDS: usize = 20;
const CALLS: usize = 20_000;
/// Where a call is timed: its name, and the words of `dmfs` before it.
type Way = (&'static str, Option<&'static str>);

fn main() -> io::Result<()> {
    if env::var_os(TIMED).is_some() {
        return time();
    }
    let mut ways: Vec<Way> = vec![("alone", None), ("--user", Some("--user"))];
    if rustix::process::geteuid().is_root() {
        ways.push(("--root", Some("--root")));
    }
    let mut times = vec![(Vec::new(), Vec::new()); ways.len()];
    for round in 0..ROUNDS {
        // Forwards and backwards.
        let order: Vec<usize> = match round % 2 {
            0 => (0..ways.len()).collect(),
            _ => (0..ways.len()).rev().collect(),
        };
        for way in order {
            let (open, read) = timed(ways[way].1)?;
            times[way].0.push(open);
            times[way].1.push(read);
        }
    }
    println!("| | open and close, us | read, us |\n|---|---|---|");
    for ((name, _), (opens, reads)) in ways.iter().zip(&mut times) {
        println!("| {name} | {} | {} |", shown(opens), shown(reads));
    }
    Ok(())
}

/// Median, and the fastest and the slowest round.
fn shown(times: &mut [f64]) -> String {
    times.sort_by(f64::total_cmp);
    let (first, last) = (times[0], times[times.len() - 1]);
    format!("{:.2} ({first:.2} to {last:.2})", times[times.len() / 2])
}

/// Has a process of its own time the calls: microseconds of an open and a read.
fn timed(mode: Option<&str>) -> io::Result<(f64, f64)> {
    let this = env::current_exe()?;
    let mut command = match mode {
        None => Command::new(this),
        Some(mode) => {
            let mut command = Command::new(env!("CARGO_BIN_EXE_dmfs"));
            command.args(["run", mode, "--"]).arg(this);
            command
        }
    };
    let output = command
        .env(TIMED, "1")
        .env_remove("DMFS_MOUNT")
        .stderr(std::process::Stdio::inherit())
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let mut numbers = text.split_whitespace().map_while(|word| word.parse().ok());
    match (numbers.next(), numbers.next()) {
        (Some(open), Some(read)) => Ok((open, read)),
        _ => Err(Error::other(format!("{mode:?}: {}: {text}", output.status))),
    }
}

/// Times the calls and prints the median of each, microseconds.
fn time() -> io::Result<()> {
    let mut zero = File::open("/dev/zero")?;
    let mut byte = [0; 1];
    let open = median(|| File::open("/dev/null").map(drop))?;
    let read = median(|| zero.read_exact(&mut byte))?;
    println!("{open} {read}");
    Ok(())
}

/// The median of so many hundreds of calls, a hundred timed at a time as the clock itself takes its time.
fn median(mut call: impl FnMut() -> io::Result<()>) -> io::Result<f64> {
    const AT_A_TIME: usize = 100;
    let mut times = Vec::with_capacity(CALLS / AT_A_TIME);
    for _ in 0..CALLS / AT_A_TIME {
        let begun = Instant::now();
        for _ in 0..AT_A_TIME {
            call()?;
        }
        times.push(begun.elapsed().as_secs_f64() * 1e6 / AT_A_TIME as f64);
    }
    times.sort_by(f64::total_cmp);
    Ok(times[times.len() / 2])
}
