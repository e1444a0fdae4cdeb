//! A week in an hour: random stacks of all targets under random verbs and kills, everything that is read compared.
//!
//! `tests/soak --minutes 60 --seed 7`; without a seed one is chosen and printed. Ends in time whatever happens, and
//! with status 1 where a byte was wrong, a request failed that should not have, something hung, or the daemon keeps
//! descriptors of devices that are gone.
#![allow(clippy::unwrap_used, reason = "what fails here fails the run")]

mod device;
mod dice;
mod stack;
#[path = "../support/mod.rs"]
mod support;
mod verbs;
mod world;

use device::Did;
use dice::Dice;
use dmfs::daemon::connection::Connection;
use std::process::{Command, ExitCode};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant, SystemTime};
use world::{Kills, SUPERVISED, Usage, World};

/// Threads that read and write.
const WORKERS: u64 = 3;
/// After so long without anything done, something hangs.
const PATIENCE: Duration = Duration::from_secs(90);
/// How often everything is taken away, to see what stays.
const CLEARING: Duration = Duration::from_secs(60);
/// Descriptors that may come and go on their own: callers, a thread's own.
const LOOSE_FILES: usize = 8;

struct Options {
    minutes: f64,
    seed: u64,
    kills: Kills,
}

fn main() -> ExitCode {
    let options = match read_options() {
        Ok(options) => options,
        Err(error) => {
            eprintln!("soak: {error}");
            eprintln!(
                "usage: tests/soak [--release] [--minutes N] [--seed N] [--no-kills | --unsupervised]"
            );
            return ExitCode::from(2);
        }
    };
    println!(
        "soak: --minutes {} --seed {}, kills: {:?}",
        options.minutes, options.seed, options.kills
    );
    match soak(&options) {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

fn read_options() -> Result<Options, String> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let mut options = Options {
        minutes: 5.0,
        seed: now.map_or(1, |now| now.as_secs()),
        kills: match is_supervision_there() {
            true => Kills::Survived,
            false => Kills::ByMountingAgain,
        },
    };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut number = || {
            let value = words.next().unwrap_or_default();
            value
                .parse::<f64>()
                .map_err(|_| format!("{word}: expected a number, found '{value}'"))
        };
        match word.as_str() {
            "--minutes" => options.minutes = number()?,
            "--seed" => options.seed = number()? as u64,
            "--no-kills" => options.kills = Kills::None,
            "--unsupervised" => options.kills = Kills::ByMountingAgain,
            other => return Err(format!("{other}: no such option")),
        }
    }
    Ok(options)
}

/// Whether `dmfs mount` can outlive its daemon.
fn is_supervision_there() -> bool {
    let help = Command::new(env!("CARGO_BIN_EXE_dmfs"))
        .args(["mount", "--help"])
        .output();
    help.is_ok_and(|help| String::from_utf8_lossy(&help.stdout).contains(SUPERVISED))
}

/// Runs; true where everything went well.
fn soak(options: &Options) -> bool {
    let world = Arc::new(World::new(options.kills));
    let is_done = Arc::new(AtomicBool::new(false));
    let watchdog = {
        let (world, is_done) = (world.clone(), is_done.clone());
        thread::spawn(move || watch(&world, &is_done))
    };
    let at = world.mount.read().unwrap().at().to_owned();
    let end = Instant::now() + Duration::from_secs_f64(options.minutes * 60.0);
    let mut seeds = Dice::new(options.seed);
    let mut dice = || Dice::new(seeds.below(u64::MAX));
    thread::scope(|scope| {
        for worker in 0..WORKERS {
            let (world, mut dice) = (&world, dice());
            scope.spawn(move || work(world, &mut dice, worker));
        }
        let (world, mut asking, mut doing) = (&world, dice(), dice());
        scope.spawn(move || {
            while !world.is_over() {
                match verbs::ask(world, &mut asking) {
                    Ok(()) => world.count("ask"),
                    Err(error) => world.fail(error),
                }
                thread::sleep(Duration::from_millis(20));
            }
        });
        act(world, &mut doing, end);
        world.end();
    });
    if !world.has_failed() {
        finish(&world);
    }
    is_done.store(true, Ordering::SeqCst);
    watchdog.join().unwrap();
    println!("soak: {}", world.report());
    let went_well = !world.has_failed();
    if !went_well {
        println!("{}", world.post_mortem());
        println!("soak: FAILED; again with --seed {}", options.seed);
        return false;
    }
    let Some(world) = Arc::into_inner(world) else {
        return false;
    };
    world.mount.into_inner().unwrap().stop();
    let went_well = World::is_unmounted(&at);
    println!(
        "soak: {}",
        if went_well { "passed" } else { "still mounted" }
    );
    went_well
}

/// Verbs until the end, and now and then a clean slate.
fn act(world: &World, dice: &mut Dice, end: Instant) {
    let mut clearing = Instant::now() + CLEARING;
    let mut reported = Instant::now();
    while Instant::now() < end && !world.is_over() {
        match verbs::one(world, dice) {
            Ok(verb) => world.count(verb),
            Err(error) => world.fail(error),
        }
        if Instant::now() > clearing && !world.has_failed() {
            if let Err(error) = clear(world) {
                world.fail(error);
            }
            clearing = Instant::now() + CLEARING;
        }
        if reported.elapsed() > Duration::from_secs(30) {
            println!("soak: {}", world.report());
            reported = Instant::now();
        }
    }
}

fn work(world: &World, dice: &mut Dice, worker: u64) {
    while !world.is_over() {
        let Some(device) = world.any(dice) else {
            thread::sleep(Duration::from_millis(5));
            continue;
        };
        match device.work(dice, worker, WORKERS, world.death_count()) {
            Ok(Did::Wrote(bytes)) => world.wrote(bytes),
            Ok(Did::Verified(bytes)) => world.verified(bytes),
            Ok(Did::Other) => thread::yield_now(),
            Err(error) => world.fail(error),
        }
    }
}

/// Everything is compared once more and taken away; what the daemon then still holds has leaked.
fn clear(world: &World) -> Result<(), String> {
    let devices = world.devices.read().unwrap().clone();
    for device in &devices {
        if let Some(file) = device.open.read().unwrap().as_ref() {
            world.verified(device.verify_all(file)?);
        }
        verbs::remove_device(world, device)?;
    }
    let mount = world.mount.read().unwrap();
    let listed = mount.dmfs(&["ls"]).out;
    if listed != "No devices found\n" {
        return Err(format!("devices stay: {listed}"));
    }
    // Callers hang up in their own time.
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let usage = Usage::of_mount(&mount)?;
        if usage.files <= baseline_files(world.kills) + LOOSE_FILES {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(format!("files stay open without a device: {usage}"));
        }
        thread::sleep(Duration::from_millis(10));
    }
}

/// Open files of a daemon without devices.
fn baseline_files(kills: Kills) -> usize {
    static BASELINE: OnceLock<usize> = OnceLock::new();
    *BASELINE.get_or_init(|| {
        let mount = world::mount(kills);
        let files = Usage::of_mount(&mount).unwrap().files;
        mount.stop();
        files
    })
}

fn finish(world: &World) {
    if let Err(error) = clear(world) {
        world.fail(error);
    }
}

/// Ends the run where nothing happens any more, or where it does not come to its end.
fn watch(world: &World, is_done: &AtomicBool) {
    let mut last = (0, Instant::now());
    while !is_done.load(Ordering::SeqCst) {
        let now = world.progress.load(Ordering::Relaxed);
        if now != last.0 {
            last = (now, Instant::now());
        } else if last.1.elapsed() > PATIENCE {
            world.fail(format!("nothing has happened for {PATIENCE:?}"));
            println!("{}", world.post_mortem());
            rescue(world);
            thread::sleep(Duration::from_secs(20));
            // Even that may not have helped.
            std::process::exit(1);
        }
        thread::sleep(Duration::from_millis(100));
    }
}

/// Frees whoever waits for the mount.
fn rescue(world: &World) {
    let Ok(mount) = world.mount.try_read() else {
        return;
    };
    // The number is in the kernel's table: the mount itself may answer nobody.
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let at = mount.at().display().to_string();
    let minor = mounts.lines().find_map(|line| {
        let words: Vec<&str> = line.split(' ').collect();
        (words.get(4).copied() == Some(at.as_str()))
            .then(|| words.get(2)?.strip_prefix("0:")?.parse().ok())?
    });
    let cut = minor.map(|minor| {
        let st_dev = rustix::fs::makedev(0, minor);
        Connection::of(st_dev).and_then(|connection| connection.cut())
    });
    eprintln!("soak: cut the connection: {cut:?}");
    mount.signal(rustix::process::Signal::KILL);
}
