//! How dmfs bears many devices: made, listed and removed by its own command line.

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use serde_json::{Value, json};

use crate::process::memory_mib;
use crate::servers::{Running, Setup};

/// How many devices.
const DEVICES: u64 = 10_000;
/// How often it is all done, in one and the same dmfs.
const ROUNDS: usize = 3;
/// Sectors of a device.
const SECTORS: u64 = 2048;
/// What has to hold: seconds for making, listing and removing them, and KiB for each.
const BAR: (f64, f64) = (10.0, 16.0);

/// One round.
#[derive(Clone, Copy, Debug)]
pub struct Scaling {
    /// `dmfs create --concise`, in seconds.
    pub create: f64,
    /// `dmfs ls`.
    pub list: f64,
    /// readdir of the mount and stat of each file.
    pub walk: f64,
    /// `dmfs remove_all`.
    pub remove: f64,
    /// KiB that the daemon grew by for each device.
    pub kib_each: f64,
}

/// Makes, lists and removes devices, several times.
///
/// # Errors
/// A sentence where a command fails or not all devices are there.
pub fn measure(setup: &Setup) -> Result<Vec<Scaling>, String> {
    let folder = setup.folder.join("scaling");
    fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let running = Running::empty_dmfs(setup, &folder)?;
    (0..ROUNDS).map(|_| round(setup, &running)).collect()
}

fn round(setup: &Setup, running: &Running) -> Result<Scaling, String> {
    let pid = running.pid().ok_or("dmfs is not running")?;
    let mount = running.mounted();
    let resident = || memory_mib(pid, "VmRSS");
    let before = resident()?;
    let (create, _) = dmfs(setup, mount, &["create", "--concise"], &concise(setup))?;
    let kib_each = (resident()? - before) * 1024.0 / DEVICES as f64;
    let (list, names) = dmfs(setup, mount, &["ls"], "")?;
    expect(names.lines().count(), "dmfs ls")?;
    let begun = Instant::now();
    let files = walk(mount).map_err(|error| format!("{}: {error}", mount.display()))?;
    let walk = begun.elapsed().as_secs_f64();
    expect(files, "the mount's folder")?;
    let (remove, _) = dmfs(setup, mount, &["remove_all"], "")?;
    Ok(Scaling {
        create,
        list,
        walk,
        remove,
        kib_each,
    })
}

fn concise(setup: &Setup) -> String {
    let mut text = String::new();
    let places = setup.bytes / 512 / SECTORS;
    for device in 0..DEVICES {
        let _ = write!(
            text,
            "device{device},,,rw,0 {SECTORS} linear {} {};",
            setup.backing.display(),
            device % places * SECTORS
        );
    }
    text.pop();
    text
}

fn dmfs(setup: &Setup, mount: &Path, words: &[&str], input: &str) -> Result<(f64, String), String> {
    let begun = Instant::now();
    let failed = |error: std::io::Error| format!("dmfs {}: {error}", words.join(" "));
    let mut child = Command::new(&setup.dmfs)
        .args(words)
        .env("DMFS_MOUNT", mount)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    if let Some(mut to) = child.stdin.take() {
        to.write_all(input.as_bytes()).map_err(failed)?;
    }
    let output = child.wait_with_output().map_err(failed)?;
    let seconds = begun.elapsed().as_secs_f64();
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        return Err(format!("dmfs {}: {}", words.join(" "), text.trim()));
    }
    Ok((
        seconds,
        String::from_utf8_lossy(&output.stdout).into_owned(),
    ))
}

fn walk(mount: &Path) -> std::io::Result<usize> {
    let mut files = 0;
    for entry in fs::read_dir(mount)? {
        files += usize::from(entry?.metadata()?.is_file());
    }
    Ok(files)
}

fn expect(found: usize, place: &str) -> Result<(), String> {
    if found as u64 == DEVICES {
        return Ok(());
    }
    Err(format!("{place}: {found} devices, {DEVICES} are expected"))
}

/// The rounds as a table, with the bars.
pub fn markdown(rounds: &[Scaling]) -> String {
    let mut text = format!(
        "\n### {DEVICES} devices\n\n| round | created | listed (`dmfs ls`) | listed (readdir and stat) | removed | all [s] | memory each |\n|---:|---:|---:|---:|---:|---:|---:|\n"
    );
    for (number, round) in rounds.iter().enumerate() {
        let all = round.create + round.list + round.walk + round.remove;
        let _ = writeln!(
            text,
            "| {} | {:.2} s | {:.2} s | {:.2} s | {:.2} s | {all:.2} of at most {} s | {:.1} of at most {} KiB |",
            number + 1,
            round.create,
            round.list,
            round.walk,
            round.remove,
            BAR.0,
            round.kib_each,
            BAR.1
        );
    }
    text
}

/// The rounds as JSON.
pub fn to_json(rounds: &[Scaling]) -> Value {
    rounds
        .iter()
        .map(|round| {
            json!({
                "create_s": round.create,
                "list_s": round.list,
                "walk_s": round.walk,
                "remove_s": round.remove,
                "kib_each": round.kib_each,
            })
        })
        .collect()
}
