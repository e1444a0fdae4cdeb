//! `dmfs log-writes`: lists a log, finds a place in it, writes what it wrote to another device.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;

use rustix::fs::{FallocateFlags, fallocate};

use super::log::{Log, describe, length};
use crate::control::protocol::crash::{Every, LogOptions, LogTask};
use crate::format::log_writes::{Entry, EntryFlags};
use crate::io::Errno;
use crate::terminal::{Look, Progress};
use crate::unit::{Bytes, SECTOR_SIZE, Sector};

/// Bytes copied at once.
const CHUNK: u64 = 1 << 20;

/// Carries out `dmfs log-writes`.
///
/// # Errors
/// What is wrong with the log, the options or the device, for people; a check that failed, with its entry.
pub fn log_writes(options: LogOptions, out: &mut dyn Write) -> Result<(), String> {
    let log = Log::open(&options.log)?;
    let range = log.select(&options.span)?;
    let entries = log.entries.get(range.clone()).unwrap_or_default();
    let printed =
        |done: std::io::Result<()>| done.map_err(|error| format!("standard output: {error}"));
    match &options.task {
        LogTask::List => printed(list(&log, entries, out)),
        LogTask::Find => {
            let last = entries.last().ok_or("there is no such entry")?;
            let sector = u64::from(log.superblock.sector_size);
            printed(writeln!(
                out,
                "{}@{}",
                last.number,
                last.data_at.0.saturating_add(last.data_len.0) / sector
            ))
        }
        LogTask::Replay { onto } => {
            let replay = Replay::onto(onto, &log, &options)?;
            replay.run(entries)?;
            let done = replay.to.sync_all();
            done.map_err(|error| replay.failed(&error))
        }
    }
}

fn list(log: &Log, entries: &[Entry], out: &mut dyn Write) -> std::io::Result<()> {
    writeln!(out, "entry     sector  sectors  what")?;
    for entry in entries {
        let (at, len) = log.range(entry);
        let what = describe(entry);
        writeln!(out, "{:5} {at:10} {len:8}  {what}", entry.number)?;
    }
    Ok(())
}

/// A replay onto a file or block device.
struct Replay<'a> {
    log: &'a Log,
    options: &'a LogOptions,
    path: &'a Path,
    to: File,
    /// What may be written to, in bytes.
    window: std::ops::Range<u64>,
    len: Bytes,
}

impl<'a> Replay<'a> {
    fn onto(path: &'a Path, log: &'a Log, options: &'a LogOptions) -> Result<Replay<'a>, String> {
        let told = |error: std::io::Error| format!("{}: {error}", path.display());
        let to = OpenOptions::new()
            .read(true)
            .write(true)
            .open(path)
            .map_err(told)?;
        let len = length(&to).map_err(told)?;
        let (from, up_to) = options.sectors;
        let byte = |sector: u64| sector.saturating_mul(SECTOR_SIZE);
        Ok(Replay {
            log,
            options,
            path,
            to,
            window: byte(from.unwrap_or(0))..byte(up_to.unwrap_or(u64::MAX)),
            len,
        })
    }

    fn failed(&self, error: &dyn std::fmt::Display) -> String {
        format!("{}: {error}", self.path.display())
    }

    fn run(&self, entries: &[Entry]) -> Result<(), String> {
        let progress = Progress::begin("log-writes replay", Look::of(std::io::stderr()));
        progress.expect(entries.len() as u64);
        for (count, entry) in entries.iter().enumerate() {
            self.apply(entry)?;
            progress.step();
            if let Some((command, every)) = &self.options.check
                && is_due(*every, entry, count as u64 + 1)
            {
                self.check(command, entry)?;
            }
        }
        Ok(())
    }

    /// Does what an entry did, as far as it lies in the window.
    fn apply(&self, entry: &Entry) -> Result<(), String> {
        let (at, len) = self.log.range(entry);
        let (start, end) = (at.to_bytes().0, (at + len).to_bytes().0);
        let (first, last) = (start.max(self.window.start), end.min(self.window.end));
        if first >= last {
            return Ok(());
        }
        if last > self.len.0 {
            return Err(format!(
                "{}: entry {} writes up to sector {}, and it has {}",
                self.path.display(),
                entry.number,
                Sector(last / SECTOR_SIZE),
                self.len.whole_sectors()
            ));
        }
        let failed = |error: std::io::Error| {
            self.failed(&format!(
                "entry {} ({}): {error}",
                entry.number,
                describe(entry)
            ))
        };
        if entry.header.flags.has(EntryFlags::DISCARD) {
            return match self.options.no_discard {
                true => Ok(()),
                false => self.discard(first, last).map_err(failed),
            };
        }
        let from = entry.data_at.0.saturating_add(first - start);
        self.copy(from, first, last - first).map_err(failed)
    }

    fn copy(&self, from: u64, to: u64, len: u64) -> std::io::Result<()> {
        let mut buffer = vec![0; len.min(CHUNK) as usize];
        let mut done = 0;
        while done < len {
            let part = buffer.get_mut(..(len - done).min(CHUNK) as usize);
            let part = part.unwrap_or_default();
            self.log.file.read_exact_at(part, from + done)?;
            self.to.write_all_at(part, to + done)?;
            done += part.len() as u64;
        }
        Ok(())
    }

    /// What was discarded reads as zeroes, so that a replay always leads to the same.
    fn discard(&self, first: u64, last: u64) -> std::io::Result<()> {
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        match fallocate(&self.to, flags, first, last - first) {
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => {}
            done => return done.map_err(Into::into),
        }
        let zeroes = vec![0; (last - first).min(CHUNK) as usize];
        let mut at = first;
        while at < last {
            let part = zeroes.get(..(last - at).min(CHUNK) as usize);
            let part = part.unwrap_or_default();
            self.to.write_all_at(part, at)?;
            at += part.len() as u64;
        }
        Ok(())
    }

    fn check(&self, command: &str, entry: &Entry) -> Result<(), String> {
        self.to.sync_all().map_err(|error| self.failed(&error))?;
        let status = Command::new("sh")
            .args(["-c", command])
            .env("DMFS_STATE", self.path)
            .env("DMFS_ENTRY", (entry.number + 1).to_string())
            .env(
                "DMFS_MARK",
                self.log
                    .mark_before(entry.number as usize + 1)
                    .unwrap_or_default(),
            )
            .status()
            .map_err(|error| format!("--check: sh: {error}"))?;
        match status.success() {
            true => Ok(()),
            false => Err(format!(
                "the check failed after entry {} ({}): {status}",
                entry.number,
                describe(entry)
            )),
        }
    }
}

/// Whether a check comes behind `entry`, the `count`th that was replayed.
fn is_due(every: Every, entry: &Entry, count: u64) -> bool {
    match every {
        Every::Entries(number) => number > 0 && count.is_multiple_of(number),
        Every::Flush => entry.header.flags.has(EntryFlags::FLUSH),
        Every::Fua => entry.header.flags.has(EntryFlags::FUA),
    }
}
