//! The mount under test, its devices, and what happened so far.

use crate::device::Device;
use crate::dice::Dice;
use crate::stack::Maker;
use crate::support::mount::{Mount, is_mounted};
use crate::support::tools::word;
use crate::verbs;
use rustix::process::Signal;
use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, RwLock};
use std::time::{Duration, Instant};

/// The last verbs that are shown when something goes wrong.
const REMEMBERED: usize = 40;

/// What killing the daemon leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kills {
    /// It is not killed.
    None,
    /// Users get ENOTCONN; the mount is made again from what `dmfs dump` said.
    ByMountingAgain,
    /// The mount has a supervisor: users notice nothing.
    Survived,
}

/// Everything that threads share.
pub struct World {
    /// The mount; held for writing while its daemon is replaced.
    pub mount: RwLock<Mount>,
    /// The devices that are worked on.
    pub devices: RwLock<Vec<Arc<Device>>>,
    /// Makes new ones.
    pub maker: Mutex<Maker>,
    /// What killing leads to.
    pub kills: Kills,
    deaths: AtomicU64,
    disturbances: AtomicU64,
    begun: Instant,
    history: Mutex<VecDeque<String>>,
    counts: Mutex<BTreeMap<&'static str, u64>>,
    wrote: AtomicU64,
    verified: AtomicU64,
    /// Grows with everything that is done.
    pub progress: AtomicU64,
    over: AtomicBool,
    failure: Mutex<Option<String>>,
}

impl World {
    /// An empty mount.
    pub fn new(kills: Kills) -> World {
        let mount = mount(kills);
        let maker = Maker::new(mount.folder());
        World {
            mount: RwLock::new(mount),
            devices: RwLock::default(),
            maker: Mutex::new(maker),
            kills,
            deaths: AtomicU64::new(0),
            disturbances: AtomicU64::new(0),
            begun: Instant::now(),
            history: Mutex::default(),
            counts: Mutex::default(),
            wrote: AtomicU64::new(0),
            verified: AtomicU64::new(0),
            progress: AtomicU64::new(0),
            over: AtomicBool::new(false),
            failure: Mutex::default(),
        }
    }

    /// One of the devices.
    pub fn any(&self, dice: &mut Dice) -> Option<Arc<Device>> {
        let devices = self.devices.read().unwrap();
        let index = dice.below(devices.len() as u64) as usize;
        devices.get(index).cloned()
    }

    /// Odd while the daemon is dead; every change is seen.
    pub fn deaths(&self) -> u64 {
        self.deaths.load(Ordering::SeqCst)
    }

    /// The counter behind [`World::deaths`].
    pub fn death_count(&self) -> &AtomicU64 {
        &self.deaths
    }

    /// A device appears, vanishes or changes its name, or the daemon is replaced: called before and after.
    pub fn disturb_commands(&self) {
        self.disturbances.fetch_add(1, Ordering::SeqCst);
    }

    /// Odd while commands may fail for it; every change is seen.
    pub fn disturbances(&self) -> u64 {
        self.disturbances.load(Ordering::SeqCst)
    }

    /// Remembers that a verb begins.
    pub fn tell(&self, verb: &str) {
        let mut history = self.history.lock().unwrap();
        if history.len() == REMEMBERED {
            history.pop_front();
        }
        history.push_back(format!("{:.3} {verb}", self.begun.elapsed().as_secs_f64()));
    }

    /// Counts a verb that went well.
    pub fn count(&self, verb: &'static str) {
        *self.counts.lock().unwrap().entry(verb).or_default() += 1;
        self.progress.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts bytes that were compared.
    pub fn verified(&self, bytes: u64) {
        self.verified.fetch_add(bytes, Ordering::Relaxed);
        self.progress.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts bytes that were written.
    pub fn wrote(&self, bytes: u64) {
        self.wrote.fetch_add(bytes, Ordering::Relaxed);
        self.progress.fetch_add(1, Ordering::Relaxed);
    }

    /// Notes the first failure, and ends the run.
    pub fn fail(&self, why: String) {
        let mut failure = self.failure.lock().unwrap();
        if failure.is_none() {
            eprintln!(
                "soak: FAILED after {:.1} s: {why}",
                self.begun.elapsed().as_secs_f64()
            );
            *failure = Some(why);
        }
        self.end();
    }

    /// Whether something went wrong.
    pub fn has_failed(&self) -> bool {
        self.failure.lock().unwrap().is_some()
    }

    /// Has every thread end.
    pub fn end(&self) {
        self.over.store(true, Ordering::SeqCst);
    }

    /// Whether every thread is to end.
    pub fn is_over(&self) -> bool {
        self.over.load(Ordering::SeqCst)
    }

    /// Kills the daemon under load and mounts the same devices again: what writes had returned for is there.
    ///
    /// # Errors
    /// What went wrong.
    pub fn kill_and_mount_again(&self) -> Result<(), String> {
        let file = {
            let mount = self.mount.read().unwrap();
            let said = mount.dmfs(&["dump"]);
            let file = mount.folder().join("again.toml");
            fs::write(&file, &said.out).map_err(|error| error.to_string())?;
            self.deaths.fetch_add(1, Ordering::SeqCst);
            mount.signal(Signal::KILL);
            file
        };
        let devices = self.devices.read().unwrap();
        // Whoever works on them has got his error by now, or soon.
        let mut held: Vec<_> = devices
            .iter()
            .map(|device| device.open.write().unwrap())
            .collect();
        held.iter_mut().for_each(|open| **open = None);
        let mut mount = self.mount.write().unwrap();
        mount.wait();
        let words = ["mount", word(&file), word(mount.at())].map(str::to_owned);
        mount.run_daemon(&words);
        for (device, open) in devices.iter().zip(&mut held) {
            let file = verbs::open(&mount, device)?;
            self.verified(device.verify_all(&file)?);
            **open = Some(file);
        }
        self.deaths.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }

    /// Kills the serving process of a supervised mount: nobody may notice, but for commands that were under way.
    ///
    /// # Errors
    /// Where the mount does not answer soon.
    pub fn kill_and_see_it_survive(&self) -> Result<(), String> {
        self.disturb_commands();
        let survived = self.kill_and_wait();
        self.disturb_commands();
        survived
    }

    fn kill_and_wait(&self) -> Result<(), String> {
        let mount = self.mount.read().unwrap();
        let pid = serving_process(&mount)?;
        rustix::process::kill_process(pid, Signal::KILL).map_err(|error| error.to_string())?;
        let deadline = Instant::now() + Duration::from_secs(30);
        while serving_process(&mount).is_ok_and(|new| new == pid)
            || !mount.dmfs(&["ls"]).status.success()
        {
            if Instant::now() > deadline {
                return Err(format!("nobody took the place of process {pid:?}"));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// One line about the run so far.
    pub fn report(&self) -> String {
        let mib = |bytes: &AtomicU64| bytes.load(Ordering::Relaxed) >> 20;
        let counts = self.counts.lock().unwrap();
        let counts: Vec<_> = counts
            .iter()
            .map(|(verb, n)| format!("{verb} {n}"))
            .collect();
        let usage = self.mount.try_read().ok();
        let usage = usage.and_then(|mount| Usage::of_mount(&mount).ok());
        format!(
            "{:>6.0} s: wrote {} MiB, verified {} MiB; {}; {}",
            self.begun.elapsed().as_secs_f64(),
            mib(&self.wrote),
            mib(&self.verified),
            counts.join(", "),
            usage.map_or_else(|| "between daemons".to_owned(), |usage| usage.to_string()),
        )
    }

    /// The last verbs, and what the daemon printed.
    pub fn post_mortem(&self) -> String {
        let history = self.history.lock().unwrap();
        let verbs: Vec<_> = history.iter().cloned().collect();
        let log = match self.mount.try_read() {
            Ok(mount) => mount.log(),
            Err(_) => "(between daemons)".to_owned(),
        };
        format!(
            "the last verbs:\n{}\nthe daemon printed:\n{log}",
            verbs.join("\n")
        )
    }

    /// Whether the mount is gone.
    pub fn is_unmounted(at: &Path) -> bool {
        !is_mounted(at)
    }
}

/// The option that gives a mount a supervisor.
pub const SUPERVISED: &str = "--supervised";

/// An empty mount that can be killed so.
pub fn mount(kills: Kills) -> Mount {
    match kills {
        Kills::Survived => Mount::start_with(&[SUPERVISED]),
        Kills::None | Kills::ByMountingAgain => Mount::start(),
    }
}

/// The process that serves the mount now.
///
/// # Errors
/// Where it does not say.
pub fn serving_process(mount: &Mount) -> Result<rustix::process::Pid, String> {
    let said = mount.dmfs(&["mounts", "--json"]);
    let mounts: serde_json::Value =
        serde_json::from_str(&said.out).map_err(|error| format!("mounts: {error}"))?;
    let pid = mounts[0]["pid"]
        .as_i64()
        .and_then(|pid| i32::try_from(pid).ok());
    pid.and_then(rustix::process::Pid::from_raw)
        .ok_or_else(|| format!("mounts: no process in {}", said.out))
}

/// What a process takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Resident memory, KiB.
    pub resident: u64,
    /// Open files.
    pub files: usize,
    /// Threads.
    pub threads: u64,
}

impl Usage {
    /// Of the process that serves `mount` now.
    ///
    /// # Errors
    /// Where it does not say which that is.
    pub fn of_mount(mount: &Mount) -> Result<Usage, String> {
        let pid = serving_process(mount)?.as_raw_nonzero().get();
        Ok(Usage::of(pid.unsigned_abs()))
    }

    /// Of process `pid`; nothing where it is gone.
    pub fn of(pid: u32) -> Usage {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let figure = |name: &str| {
            let line = status.lines().find(|line| line.starts_with(name));
            line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok())
                .unwrap_or(0)
        };
        Usage {
            resident: figure("VmRSS"),
            files: fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count),
            threads: figure("Threads"),
        }
    }
}

impl std::fmt::Display for Usage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Usage {
            resident,
            files,
            threads,
        } = self;
        write!(f, "{resident} KiB, {files} files, {threads} threads")
    }
}
