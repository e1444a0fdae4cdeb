//! `dmfs crash-states`: shows the states, or runs a command over each, several at the same time, and tells of the first
//! that is bad.

use std::fs::File;
use std::io::{Write, stderr};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::available_parallelism;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::log::{Log, describe};
use super::plan::{Choice, StateSpec, all};
use super::show::Show;
use super::state::{History, base_len};
use crate::backing::Kept;
use crate::control::protocol::crash::CrashOptions;
use crate::sync::{Arc, AtomicBool, AtomicUsize, Mutex, Ordering};
use crate::target::Access;
use crate::terminal::{Look, Progress};
use crate::unit::{Bytes, Sectors};

/// What a command printed is told up to here, bytes.
const MOST_TOLD: usize = 4096;

/// Carries out `dmfs crash-states`.
///
/// # Errors
/// The first bad state, with its entry and how to see it; what stands in the way.
pub fn crash_states(options: CrashOptions, out: &mut dyn Write) -> Result<(), String> {
    let log = Log::open(&options.log)?;
    let range = log.select(&options.span)?;
    let (base, len) = File::open(&options.base)
        .and_then(|base| base_len(&base).map(|len| (base, len)))
        .map_err(|error| format!("{}: {error}", options.base.display()))?;
    let choice = Choice {
        samples: options.samples,
        most: match options.state {
            Some(_) => usize::MAX,
            None => options.states,
        },
        seed: options.seed,
        ignore_flushes: options.ignore_flushes,
        atomic: atomic(&options, &log)?,
    };
    let mut states = all(&log.entries, range.clone(), choice);
    if let Some(name) = &options.state {
        states.retain(|state| state.to_string() == *name);
        if states.is_empty() {
            return Err(format!(
                "--state: there is no state '{name}' of these entries"
            ));
        }
    }
    let history = History::new(log, base, len)
        .map_err(|error| format!("{}: {error}", options.base.display()))?;
    let history = Arc::new(history);
    let access = match options.readonly {
        true => Access::ReadOnly,
        false => Access::ReadWrite,
    };
    let show = Show::begin(
        history.clone(),
        choice,
        options.mountpoint.as_deref(),
        access,
    )?;
    let span = format!(
        "entries {} to {}, seed {}",
        range.start, range.end, options.seed
    );
    match &options.check {
        None => serve(&show, &states, &span, out),
        Some(command) => {
            let checks = Checks {
                show: &show,
                history: &history,
                states: &states,
                command,
                options: &options,
                next: AtomicUsize::new(0),
                stop: Arc::new(AtomicBool::new(false)),
                found: Mutex::default(),
            };
            checks.run(&span, out)
        }
    }
}

/// What is never torn, as the options or else the log's sectors say.
fn atomic(options: &CrashOptions, log: &Log) -> Result<Sectors, String> {
    let least = u64::from(log.superblock.sector_size);
    let bytes = options.atomic.unwrap_or(least);
    match bytes.is_power_of_two() && bytes >= least {
        true => Ok(Bytes(bytes).whole_sectors()),
        false => Err(format!(
            "--atomic: expected a power of two of at least {least} bytes, the log's sector, found {bytes}"
        )),
    }
}

/// Shows the states until somebody unmounts or sends a signal.
fn serve(show: &Show, states: &[StateSpec], span: &str, out: &mut dyn Write) -> Result<(), String> {
    for state in states {
        show.add(*state)?;
    }
    let mountpoint = show.mounted().mountpoint().display().to_string();
    writeln!(out, "{mountpoint} shows {} states ({span})", states.len())
        .and_then(|()| out.flush())
        .map_err(|error| format!("standard output: {error}"))?;
    let mounted = show.mounted().clone();
    on_signal(move || {
        if let Err(error) = mounted.unmount(false) {
            eprintln!("dmfs: {error}");
        }
    })?;
    show.mounted().wait().map_err(|error| error.to_string())
}

/// Has `act` done at each signal that ends programs.
fn on_signal(act: impl Fn() + Send + 'static) -> Result<(), String> {
    let mut signals =
        Signals::new([SIGINT, SIGTERM, SIGHUP]).map_err(|error| format!("signals: {error}"))?;
    std::thread::Builder::new()
        .name("signals".into())
        .spawn(move || signals.forever().for_each(|_| act()))
        .map(|_| ())
        .map_err(|error| format!("signals: {error}"))
}

/// A command for each state.
struct Checks<'a> {
    show: &'a Show,
    history: &'a History,
    states: &'a [StateSpec],
    command: &'a str,
    options: &'a CrashOptions,
    /// The next state that nobody has taken.
    next: AtomicUsize,
    stop: Arc<AtomicBool>,
    /// A leaf in the lock order.
    found: Mutex<Found>,
}

/// What came of the checks.
#[derive(Default)]
struct Found {
    good: usize,
    bad: usize,
    /// The bad state that comes first in the log, by its place in the list, and what there is to say.
    first: Option<(usize, String)>,
    /// What stood in the way of a check.
    failed: Option<String>,
}

impl Checks<'_> {
    fn run(&self, span: &str, out: &mut dyn Write) -> Result<(), String> {
        let progress = Progress::begin("crash-states", Look::of(stderr()));
        progress.expect(self.states.len() as u64);
        let interrupted = Arc::new(AtomicBool::new(false));
        let (told, stop) = (interrupted.clone(), self.stop.clone());
        on_signal(move || {
            told.store(true, Ordering::Relaxed);
            stop.store(true, Ordering::Relaxed);
        })?;
        let jobs = self
            .options
            .jobs
            .unwrap_or(available_parallelism().map_or(1, usize::from));
        std::thread::scope(|scope| {
            for _ in 0..jobs.clamp(1, self.states.len().max(1)) {
                scope.spawn(|| self.work(&progress));
            }
        });
        drop(progress);
        let found = std::mem::take(&mut *self.found.lock());
        let done = found.good + found.bad;
        let of = self.states.len();
        if let Some((_, text)) = found.first {
            return Err(format!(
                "{} of {done} states checked are bad ({of} in all, {span}); the first:\n{text}",
                found.bad
            ));
        }
        if let Some(failed) = found.failed {
            return Err(failed);
        }
        if interrupted.load(Ordering::Relaxed) {
            return Err(format!(
                "interrupted: {done} of {of} states checked, all good"
            ));
        }
        writeln!(out, "{done} states, all good ({span})")
            .map_err(|error| format!("standard output: {error}"))
    }

    /// Checks one state after the other that nobody else has taken.
    fn work(&self, progress: &Progress) {
        while !self.stop.load(Ordering::Relaxed) {
            let place = self.next.fetch_add(1, Ordering::Relaxed);
            let Some(state) = self.states.get(place) else {
                return;
            };
            let outcome = self.check(*state);
            progress.step();
            let mut found = self.found.lock();
            match outcome {
                Ok(None) => found.good += 1,
                Ok(Some(text)) => {
                    found.bad += 1;
                    if found.first.as_ref().is_none_or(|(first, _)| place < *first) {
                        found.first = Some((place, text));
                    }
                    if !self.options.keep_going {
                        self.stop.store(true, Ordering::Relaxed);
                    }
                }
                Err(error) => {
                    found.failed = Some(error);
                    self.stop.store(true, Ordering::Relaxed);
                }
            }
        }
    }

    /// Checks a state; gives what there is to say where it is bad.
    fn check(&self, state: StateSpec) -> Result<Option<String>, String> {
        let (device, path) = self.show.add(state)?;
        let mark = self.history.log.mark_before(state.cut).unwrap_or_default();
        let output = Command::new("sh")
            .args(["-c", &filled(self.command, &path)])
            .env("DMFS_STATE", &path)
            .env("DMFS_ENTRY", state.cut.to_string())
            .env("DMFS_MARK", mark)
            .stdin(Stdio::null())
            .output()
            .map_err(|error| format!("--check: sh: {error}"));
        self.show.remove(&device);
        let output = output?;
        if output.status.success() {
            return Ok(None);
        }
        let mut text = self.describe(state, mark);
        text += &format!("  the check ended with {}\n", output.status);
        for printed in [&output.stdout, &output.stderr] {
            let printed = printed.get(..MOST_TOLD).unwrap_or(printed);
            for line in String::from_utf8_lossy(printed).lines() {
                text += &format!("  | {line}\n");
            }
        }
        text += &format!("  to see it: {}", self.again(state));
        Ok(Some(text))
    }

    fn describe(&self, state: StateSpec, mark: &str) -> String {
        let entries = &self.history.log.entries;
        let pending = state.cut.saturating_sub(state.epoch);
        let kept = match state.kept {
            Kept::All => "all that was written".to_owned(),
            Kept::None => format!("nothing of the last {pending} entries that was not durable"),
            Kept::Sample(_) => {
                format!("some of the last {pending} entries, which no flush follows")
            }
        };
        let last = state.cut.checked_sub(1).and_then(|last| entries.get(last));
        let last = last.map_or("before the first entry".to_owned(), |entry| {
            let (at, len) = self.history.log.range(entry);
            let place = match len.is_zero() {
                true => String::new(),
                false => format!(", {len} sectors from {at}"),
            };
            format!("after entry {} ({}{place})", entry.number, describe(entry))
        });
        let mark = match mark {
            "" => "no mark before it".to_owned(),
            mark => format!("last mark {mark}"),
        };
        format!("state {state}: power fails {last}; {mark}\n  there is {kept}\n")
    }

    /// The command that shows a state.
    fn again(&self, state: StateSpec) -> String {
        let options = self.options;
        let mut command = format!(
            "dmfs crash-states {} {} MOUNTPOINT --state {state} --seed {}",
            options.base.display(),
            options.log.display(),
            options.seed
        );
        if matches!(state.kept, Kept::Sample(_)) {
            command += &format!(" --samples {}", options.samples);
        }
        if let Some(bytes) = options.atomic {
            command += &format!(" --atomic {bytes}");
        }
        if options.ignore_flushes {
            command += " --ignore-flushes";
        }
        if let Some(mark) = &options.span.start_mark {
            command += &format!(" --start-mark {mark}");
        }
        command
    }
}

/// `command` with the path of the state for each `{}`.
fn filled(command: &str, path: &Path) -> String {
    let path = path.display().to_string().replace('\'', r"'\''");
    command.replace("{}", &format!("'{path}'"))
}
