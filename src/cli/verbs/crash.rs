//! `log-writes` and `crash-states`: the program hands the functions in that do the work.

use std::path::PathBuf;

use crate::cli::session::{Failure, Outcome, Session};
use crate::control::protocol::crash::{CrashOptions, Every, LogOptions, LogTask, Span};

use super::serve::prefixed;

/// Random states for each cut, unless `--samples` says otherwise.
const SAMPLES: u32 = 2;
/// States, unless `--states` says otherwise.
const STATES: u32 = 1000;
/// The seed, unless `--seed` says otherwise.
const SEED: u32 = 1;

/// `log-writes list LOG`, `log-writes find LOG`, `log-writes replay LOG DEVICE`
pub fn log_writes(session: &mut Session<'_>, words: &[String]) -> Outcome {
    let (log, task) = match words {
        [verb, log] if verb == "list" => (log, LogTask::List),
        [verb, log] if verb == "find" => (log, LogTask::Find),
        [verb, log, onto] if verb == "replay" => {
            let onto = PathBuf::from(onto);
            (log, LogTask::Replay { onto })
        }
        _ => {
            return Err(Failure::new(
                "dmfs: log-writes: expected list LOG, find LOG or replay LOG DEVICE",
            ));
        }
    };
    let options = &session.options;
    let every = options.every.as_deref().map(every).transpose()?;
    let check = match (&options.check, every) {
        (Some(command), every) => Some((command.clone(), every.unwrap_or(Every::Flush))),
        (None, None) => None,
        (None, Some(_)) => {
            return Err(Failure::new("dmfs: --every: expected with --check COMMAND"));
        }
    };
    let options = LogOptions {
        log: PathBuf::from(log),
        task,
        span: span(session),
        no_discard: options.no_discard,
        sectors: (
            options.start_sector.map(u64::from),
            options.end_sector.map(u64::from),
        ),
        check,
    };
    let work = session.daemon.log_writes;
    work(options, session.out).map_err(|why| prefixed(&why))
}

/// `crash-states BASE LOG [MOUNTPOINT]`
pub fn crash_states(session: &mut Session<'_>, words: &[String]) -> Outcome {
    let (base, log, mountpoint) = match words {
        [base, log] => (base, log, None),
        [base, log, mountpoint] => (base, log, Some(PathBuf::from(mountpoint))),
        _ => {
            return Err(Failure::new(
                "dmfs: crash-states: expected BASE LOG [MOUNTPOINT]",
            ));
        }
    };
    let options = &session.options;
    if mountpoint.is_none() && options.check.is_none() {
        return Err(Failure::new(
            "dmfs: crash-states: expected a MOUNTPOINT to show the states, or --check COMMAND",
        ));
    }
    let amount = |number: Option<u32>, otherwise: u32| number.unwrap_or(otherwise) as usize;
    let options = CrashOptions {
        base: PathBuf::from(base),
        log: PathBuf::from(log),
        mountpoint,
        check: options.check.clone(),
        jobs: options.jobs.map(|jobs| jobs as usize),
        keep_going: options.keep_going,
        seed: options.seed.unwrap_or(SEED).into(),
        samples: amount(options.samples, SAMPLES),
        states: amount(options.states, STATES),
        state: options.state.clone(),
        span: span(session),
        ignore_flushes: options.ignore_flushes,
        atomic: options.atomic.map(u64::from),
        readonly: options.readonly,
    };
    let work = session.daemon.crash_states;
    work(options, session.out).map_err(|why| prefixed(&why))
}

fn span(session: &Session<'_>) -> Span {
    let options = &session.options;
    Span {
        start_entry: options.start_entry.map(u64::from),
        start_mark: options.start_mark.clone(),
        limit: options.limit.map(u64::from),
        end_mark: options.end_mark.clone(),
        next_flush: options.next_flush,
        next_fua: options.next_fua,
    }
}

fn every(word: &str) -> Outcome<Every> {
    match word {
        "flush" => Ok(Every::Flush),
        "fua" => Ok(Every::Fua),
        number => number
            .parse()
            .ok()
            .filter(|&number| number > 0)
            .map(Every::Entries)
            .ok_or_else(|| {
                Failure::new(format!(
                    "dmfs: --every: expected a number of entries, flush or fua, found '{word}'"
                ))
            }),
    }
}
