//! Interleaved comparison of dmfs with the file below it, with the least that FUSE servers can be, and with other
//! servers.
//!
//! `cargo bench --bench compare -- [OPTION VALUE]...`. See `benches/README.md`.

#![allow(missing_docs)]

mod bare;
mod bars;
mod chart;
mod fio;
mod kind;
mod load;
mod map;
mod measure;
mod options;
mod plain_fuser;
mod process;
mod report;
mod ring;
mod scaling;
mod servers;
mod statistics;
mod target;
mod workload;

use std::fs;
use std::io::{self, Write as _};
use std::path::Path;
use std::process::ExitCode;
use std::thread;

use rustix::fs::statfs;
use rustix::process::geteuid;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;

use kind::{Kind, Transport};
use measure::{Results, measure};
use options::{Options, USAGE};
use process::{be_nice, bind_this_thread};
use servers::{Server, Setup, disable_ring, is_ring_enabled, start, transport_option};
use target::{Layer, Target};
use workload::Random;

const TMPFS_MAGIC: u64 = 0x0102_1994;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let outcome = match arguments.as_slice() {
        [verb, kind, direct, backing, mountpoint] if verb == "--serve" => serve(
            kind,
            direct == "on",
            Path::new(backing),
            Path::new(mountpoint),
        ),
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

fn serve(kind: &str, direct: bool, backing: &Path, mountpoint: &Path) -> Result<(), String> {
    if kind == Kind::Bare.name() {
        bare::serve(backing, mountpoint, direct)
    } else {
        plain_fuser::serve(backing, mountpoint, direct)
    }
    .map_err(|error| format!("{kind}: {error}"))
}

fn compare(options: &Options) -> Result<(), String> {
    let folder = tempfile::Builder::new()
        .prefix("dmfs-compare-")
        .tempdir_in(&options.dir)
        .map_err(|error| format!("{}: {error}", options.dir.display()))?;
    let is_tmpfs = statfs(&options.dir).is_ok_and(|found| found.f_type as u64 == TMPFS_MAGIC);
    let setup = Setup {
        backing: folder.path().join("backing"),
        bytes: options.size_mib << 20,
        direct: options.direct.unwrap_or(!is_tmpfs),
        folder: folder.path().to_owned(),
        dmfs: options.dmfs.clone(),
    };
    fill(&setup.backing, options.size_mib)
        .map_err(|error| format!("{}: {error}", setup.backing.display()))?;
    options.nice.map_or(Ok(()), be_nice)?;
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        flag::register(signal, options.stopped.clone()).map_err(|error| error.to_string())?;
    }
    let was_ring_enabled = is_ring_enabled();
    let kinds = available(options, &setup);
    let mut results = Results::default();
    let outcome = groups(&kinds)
        .iter()
        .enumerate()
        .try_for_each(|(group, kinds)| measure_group(options, &setup, group, kinds, &mut results));
    if !was_ring_enabled && is_ring_enabled() {
        disable_ring();
    }
    if options.scaling && !options.is_stopped() {
        match scaling::measure(&setup) {
            Ok(rounds) => results.scaling = rounds,
            Err(error) => results.failures.push(error),
        }
    }
    let about = format!(
        "{} MiB on {}{}, servers {} the page cache below; slices of {} s.\n",
        options.size_mib,
        options.dir.display(),
        if is_tmpfs { " (tmpfs)" } else { "" },
        if setup.direct { "around" } else { "through" },
        options.slice.as_secs_f64(),
    );
    let text = about + &report::markdown(options, &results);
    println!("{text}");
    if let Some(path) = &options.markdown {
        write_to(path, &text)?;
    }
    if let Some(path) = &options.json {
        write_to(path, &report::to_json(&results).to_string())?;
    }
    if let Some(path) = &options.svg {
        chart::draw(path, options, &results)
            .map_err(|error| format!("{}: {error}", path.display()))?;
    }
    outcome
}

fn write_to(path: &Path, text: &str) -> Result<(), String> {
    fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))
}

/// What can be up together: a backing file serves one dmfs at a time. What each dmfs is compared with is in both.
fn groups(kinds: &[Kind]) -> Vec<Vec<Kind>> {
    let is_ring = |kind: &Kind| matches!(kind, Kind::Dmfs(_, Transport::Ring));
    let (ring, others): (Vec<Kind>, Vec<Kind>) = kinds.iter().partition(|kind| is_ring(kind));
    let beside = others
        .iter()
        .filter(|kind| matches!(kind, Kind::Plain | Kind::Bare));
    let with_ring: Vec<Kind> = beside.chain(&ring).copied().collect();
    let groups = [others, if ring.is_empty() { ring } else { with_ring }];
    groups
        .into_iter()
        .filter(|kinds| !kinds.is_empty())
        .collect()
}

fn measure_group(
    options: &Options,
    setup: &Setup,
    group: usize,
    kinds: &[Kind],
    results: &mut Results,
) -> Result<(), String> {
    for &layer in &options.layers {
        if layer == Layer::Loop && !geteuid().is_root() {
            println!("loop: left out, only root attaches loop devices");
            continue;
        }
        let up = start(kinds, setup)?;
        up.iter()
            .try_for_each(|server| server.bind(&options.server_cpus))?;
        let mut targets: Vec<(Server, Target)> = Vec::new();
        for server in up {
            match Target::new(layer, &server.file) {
                Ok(target) => targets.push((server, target)),
                Err(error) => {
                    let text = format!("{} ({}): {error}", server.kind.name(), layer.name());
                    results.failures.push(text);
                }
            }
        }
        // Dropped the other way round than made: a loop device goes before the server below it.
        let of_layer = |workload: &&workload::Workload| {
            layer == Layer::File || workload.mode == workload::Mode::Direct
        };
        // The client is a thread of its own, so that what is started later is not bound with it.
        let client = || {
            bind_this_thread(&options.client_cpus)?;
            for workload in options.workloads.iter().filter(of_layer) {
                measure(workload, &targets, group, options, results);
            }
            Ok(())
        };
        let outcome: Result<(), String> = thread::scope(|scope| scope.spawn(client).join())
            .unwrap_or_else(|_| Err("the client ended early".to_owned()));
        targets.into_iter().for_each(|(server, target)| {
            drop(target);
            drop(server);
        });
        outcome?;
    }
    Ok(())
}

/// The wanted kinds that this machine, this user and this dmfs can start; the others are named.
fn available(options: &Options, setup: &Setup) -> Vec<Kind> {
    let is_installed = |program: &&str| {
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
    };
    let missing = |kind: &Kind| -> Option<String> {
        if let Some(program) = kind.programs().iter().find(|name| !is_installed(name)) {
            return Some(format!("{program} is not installed"));
        }
        if kind.needs_root() && !geteuid().is_root() {
            return Some("only root can mount it".to_owned());
        }
        match kind {
            Kind::Dmfs(_, transport) => transport_option(setup, *transport).err(),
            _ => None,
        }
    };
    let is_there = |kind: &Kind| {
        let why = missing(kind);
        if let Some(why) = &why {
            println!("{}: left out, {why}", kind.name());
        }
        why.is_none()
    };
    options.kinds.iter().copied().filter(is_there).collect()
}

fn fill(path: &Path, mib: u64) -> io::Result<()> {
    let mut file = fs::File::create(path)?;
    let mut random = Random(1);
    let block: Vec<u8> = (0..1 << 17)
        .flat_map(|_| random.bits().to_le_bytes())
        .collect();
    (0..mib).try_for_each(|_| file.write_all(&block))?;
    file.sync_all()
}
