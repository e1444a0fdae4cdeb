//! `load`, `clear`, `suspend`, `resume`, `wipe_table`: the two table slots and what runs.

use super::create::read_table;
use super::info::when_verbose;
use super::rows::rows_of;
use crate::cli::session::{Failure, Outcome, Session};
use crate::cli::task::{Kind, Task};
use crate::control::protocol::dm_ioctl::Flags;
use crate::control::protocol::dm_ioctl::payload::TargetSpec;

/// Runs one task about `device` and, with `-v`, prints the device's state.
pub fn simple(session: &mut Session<'_>, kind: Kind, device: Option<&str>) -> Outcome {
    let (noflush, nolockfs) = (session.options.noflush, session.options.nolockfs);
    let task = session
        .task(kind, device)?
        .with(Flags::NOFLUSH, noflush)
        .with(Flags::SKIP_LOCKFS, nolockfs);
    let answer = session.run(&task)?;
    when_verbose(session, &answer)
}

/// `suspend DEVICE...`
pub fn suspend(session: &mut Session<'_>, device: Option<&str>, _several: bool) -> Outcome {
    simple(session, Kind::Suspend, device)
}

/// `resume DEVICE...`
pub fn resume(session: &mut Session<'_>, device: Option<&str>, _several: bool) -> Outcome {
    simple(session, Kind::Resume, device)
}

/// `clear DEVICE...`
pub fn clear(session: &mut Session<'_>, device: Option<&str>, _several: bool) -> Outcome {
    simple(session, Kind::Clear, device)
}

/// `load DEVICE [FILE]`
pub fn load(session: &mut Session<'_>, words: &[String]) -> Outcome {
    if session.options.notable {
        return Err(Failure::new(
            "--notable only available when creating new device.",
        ));
    }
    let by_option = session.options.uuid.is_some() || session.options.major.is_some();
    let (device, file) = match (by_option, words) {
        (false, []) => return Err(Failure::new("Please specify device.")),
        (false, [device]) => (Some(device.as_str()), None),
        (false, [device, file]) => (Some(device.as_str()), Some(file.as_str())),
        (true, []) => (None, None),
        (true, [file]) => (None, Some(file.as_str())),
        _ => return Err(Failure::new("Too many command line arguments.")),
    };
    let task = session.task(Kind::Reload, device)?;
    let rows = read_table(session, file)?;
    let task = task
        .with(Flags::READONLY, session.options.readonly)
        .with_rows(&rows)
        .map_err(Failure::new)?;
    let answer = session.run(&task)?;
    when_verbose(session, &answer)
}

/// `wipe_table DEVICE...`: an `error` row as long as the device takes the table's place.
pub fn wipe_table(session: &mut Session<'_>, device: Option<&str>, _several: bool) -> Outcome {
    let table = session.task(Kind::Table, device)?;
    let length = match rows_of(session, &table) {
        Ok((_, rows)) => rows
            .iter()
            .fold(0_u64, |sum, row| sum.saturating_add(row.length)),
        // As in dmsetup, what cannot be asked has no length, and loading says what is wrong.
        Err(failure) => {
            session.tell(&failure);
            0
        }
    };
    let row = TargetSpec {
        start: 0,
        length,
        target: "error".to_string(),
        params: String::new(),
    };
    let load = session
        .task(Kind::Reload, device)?
        .with(Flags::READONLY, session.options.readonly)
        .with_rows(&[row])
        .map_err(Failure::new)?;
    session.run(&load)?;
    let (noflush, nolockfs) = (session.options.noflush, session.options.nolockfs);
    let resume = session
        .task(Kind::Resume, device)?
        .with(Flags::NOFLUSH, noflush)
        .with(Flags::SKIP_LOCKFS, nolockfs);
    if let Err(mut failure) = session.run(&resume) {
        let clear: Task = session.task(Kind::Clear, device)?;
        if let Err(second) = session.run(&clear) {
            failure.lines.extend(second.lines);
        }
        return Err(failure);
    }
    Ok(())
}
