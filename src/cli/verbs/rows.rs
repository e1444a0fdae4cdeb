//! `status`, `table`, `measure`, and what else concerns a table's rows: `message`, `wait`,
//! `setgeometry`.

use std::fmt::Write as _;
use std::process::Command;

use serde_json::{Value, json};

use super::info::{info_block, when_verbose};
use super::slots::simple;
use crate::cli::arguments::{Style, atoi};
use crate::cli::names::{Subject, to_stored};
use crate::cli::session::{Failure, Outcome, Session};
use crate::cli::task::{Answer, Kind, Task};
use crate::control::protocol::concise;
use crate::control::protocol::dm_ioctl::Flags;
use crate::control::protocol::dm_ioctl::payload::{
    TargetSpec, message as message_payload, read_reply, read_rows, text,
};
use crate::terminal::Paint;

/// Runs a task that is answered with rows.
pub fn rows_of(session: &mut Session<'_>, task: &Task) -> Outcome<(Answer, Vec<TargetSpec>)> {
    let answer = session.run(task)?;
    if !answer.exists {
        return Ok((answer, Vec::new()));
    }
    let rows = read_rows(&answer.header, &answer.buffer).map_err(Failure::new)?;
    Ok((answer, rows))
}

/// `status [DEVICE...]`
pub fn status(session: &mut Session<'_>, device: Option<&str>, several: bool) -> Outcome {
    each_or_all(session, Kind::Status, device, several)
}

/// `table [DEVICE...]`
pub fn table(session: &mut Session<'_>, device: Option<&str>, several: bool) -> Outcome {
    each_or_all(session, Kind::Table, device, several)
}

/// `measure [DEVICE...]`
pub fn measure(session: &mut Session<'_>, device: Option<&str>, several: bool) -> Outcome {
    each_or_all(session, Kind::Measure, device, several)
}

fn each_or_all(
    session: &mut Session<'_>,
    kind: Kind,
    device: Option<&str>,
    several: bool,
) -> Outcome {
    if !session.means_all(device) {
        return one(session, kind, device, several);
    }
    if session.options.json {
        session.begin_list();
    }
    session.for_all(session.options.json, |session, name| {
        one(session, kind, Some(name), true)
    })
}

fn one(session: &mut Session<'_>, kind: Kind, device: Option<&str>, several: bool) -> Outcome {
    let paths = session.style == Style::Dmfs && kind == Kind::Table;
    let noflush = session.options.noflush;
    let task = session
        .task(kind, device)?
        .with(Flags::PATHS, paths)
        .with(Flags::NOFLUSH, noflush && kind == Kind::Status);
    let (answer, rows) = rows_of(session, &task)?;
    if !answer.exists {
        return Err(Failure::new("Device does not exist."));
    }
    let name = match device {
        Some(word) => word.to_string(),
        None => session.shown(&answer.header.name)?,
    };
    let is_empty = rows.is_empty();
    let wanted = session.options.target.clone();
    let rows: Vec<TargetSpec> = rows
        .into_iter()
        .filter(|row| wanted.as_ref().is_none_or(|wanted| *wanted == row.target))
        .map(|row| hide_keys(session, kind, row))
        .collect();
    if rows.is_empty() && wanted.is_some() {
        return Ok(());
    }
    if session.options.json {
        return session.list_json(rows_json(&answer, &name, &rows, kind));
    }
    if session.options.concise && kind == Kind::Table {
        return print_concise(session, &answer, &rows);
    }
    let mut lines: Vec<String> = rows.iter().map(|row| painted_line(session, row)).collect();
    if is_empty {
        lines.push(String::new());
    }
    print_lines(session, &answer, &name, several, &lines)
}

/// A row as it is printed: a blank follows the target, also where nothing else does.
fn line(row: &TargetSpec) -> String {
    format!("{} {} {} {}", row.start, row.length, row.target, row.params)
}

/// The same line, coloured where standard output has colours.
fn painted_line(session: &Session<'_>, row: &TargetSpec) -> String {
    if !session.look.colour {
        return line(row);
    }
    let place = format!("{} {}", row.start, row.length);
    let (place, target) = (
        session.paint(Paint::Faint, &place),
        session.paint(Paint::Kind, &row.target),
    );
    format!("{place} {target} {}", row.params)
}

/// Keys become zeroes, unless they are asked for.
fn hide_keys(session: &Session<'_>, kind: Kind, mut row: TargetSpec) -> TargetSpec {
    if kind == Kind::Table && !session.options.showkeys && row.target == "crypt" {
        let words: Vec<&str> = row.params.split(' ').collect();
        if let Some(key) = words.get(1).filter(|key| !key.starts_with(':')) {
            let mut words = words.clone();
            let zeroes = "0".repeat(key.len());
            words[1] = &zeroes;
            row.params = words.join(" ");
        }
    }
    row
}

fn print_lines(
    session: &mut Session<'_>,
    answer: &Answer,
    name: &str,
    several: bool,
    lines: &[String],
) -> Outcome {
    let verbose = session.options.verbose > 0;
    let quiet = session.options.exec.is_some() && !verbose;
    let mut text = String::new();
    if !quiet {
        if verbose {
            text += &info_block(session, answer)?;
        }
        for line in lines {
            let prefix = if several && !verbose {
                format!("{}: ", session.paint(Paint::Name, name))
            } else {
                String::new()
            };
            let _ = writeln!(text, "{prefix}{line}");
        }
        if several && verbose {
            text.push('\n');
        }
    }
    session.print(&text)?;
    execute(session, name)
}

fn print_concise(session: &mut Session<'_>, answer: &Answer, rows: &[TargetSpec]) -> Outcome {
    let lines: Vec<String> = rows.iter().map(line).collect();
    let header = &answer.header;
    let readonly = header.flags.has(Flags::READONLY);
    let name = session.shown(&header.name)?;
    let text = concise::print(&name, &header.uuid, header.dev.minor, readonly, &lines);
    session.list_concise(&text)
}

fn rows_json(answer: &Answer, name: &str, rows: &[TargetSpec], kind: Kind) -> Value {
    let key = if kind == Kind::Table {
        "args"
    } else {
        "status"
    };
    let rows: Vec<Value> = rows
        .iter()
        .map(|row| json!({"start": row.start, "length": row.length, "target": row.target, key: row.params}))
        .collect();
    json!({"name": name, "uuid": answer.header.uuid, "rows": rows})
}

/// The path of a device's file: it is called as the device is stored.
pub fn file_of(session: &mut Session<'_>, name: &str) -> Outcome<String> {
    let stored = to_stored(name, Subject::Name, session.options.mangling).map_err(Failure::new)?;
    Ok(format!("{}/{stored}", session.mount()?.mountpoint))
}

/// Runs the `--exec` command, if there is one, with the device's path.
pub fn execute(session: &mut Session<'_>, name: &str) -> Outcome {
    let Some(command) = session.options.exec.clone() else {
        return Ok(());
    };
    let mut words = command.split_whitespace();
    let Some(program) = words.next() else {
        return Ok(());
    };
    let path = file_of(session, name)?;
    session.flush();
    // As dmsetup has it, what the command returns is its own affair.
    let mut command = Command::new(program);
    command.args(words).arg(path);
    match session.aside(|| command.status()) {
        Err(error) if session.is_dmfs() => {
            Err(Failure::new(format!("dmfs: --exec {program}: {error}")))
        }
        _ => Ok(()),
    }
}

/// `message DEVICE SECTOR WORDS...`
pub fn message(session: &mut Session<'_>, words: &[String]) -> Outcome {
    let by_option = session.options.uuid.is_some() || session.options.major.is_some();
    let (device, words) = match (by_option, words.split_first()) {
        (true, _) => (None, words),
        (false, Some((device, rest))) => (Some(device.as_str()), rest),
        (false, None) => return Err(Failure::new("No device specified.")),
    };
    let task = session.task(Kind::Message, device)?;
    let Some((sector, words)) = words.split_first() else {
        return Err(Failure::new("Invalid sector."));
    };
    let sector: u64 = sector
        .parse()
        .map_err(|_| Failure::new("Invalid sector."))?;
    if words.is_empty() {
        let failure = Failure::new("No message supplied.");
        if session.is_dmfs() {
            return Err(failure);
        }
        // dmsetup says so and sends what it has: nothing.
        session.tell(&failure);
        return session.run(&task).map(drop);
    }
    let task = task.carrying(message_payload(sector, &words.join(" ")));
    let answer = session.run(&task)?;
    if let Some(mut reply) = read_reply(&answer.header, &answer.buffer).map_err(Failure::new)? {
        if !reply.is_empty() && !reply.ends_with('\n') {
            reply.push('\n');
        }
        session.print(&reply)?;
    }
    Ok(())
}

/// `wait DEVICE [EVENT_NR]`
pub fn wait(session: &mut Session<'_>, words: &[String]) -> Outcome {
    let by_option = session.options.uuid.is_some() || session.options.major.is_some();
    let (device, words) = match (by_option, words.split_first()) {
        (true, _) => (None, words),
        (false, Some((device, rest))) => (Some(device.as_str()), rest),
        (false, None) => return Err(Failure::new("No device specified.")),
    };
    let noflush = session.options.noflush;
    let mut task = session
        .task(Kind::Wait, device)?
        .with(Flags::NOFLUSH, noflush);
    task.event_nr = match words.last() {
        Some(word) if session.is_dmfs() => word
            .parse()
            .map_err(|_| Failure::new(format!("dmfs: expected an event number, found '{word}'")))?,
        Some(word) => atoi(word),
        None => 0,
    };
    session.flush();
    let answer = session.run(&task)?;
    when_verbose(session, &answer)
}

/// `setgeometry DEVICE CYLINDERS HEADS SECTORS START`
pub fn setgeometry(session: &mut Session<'_>, words: &[String]) -> Outcome {
    let [device, numbers @ ..] = words else {
        return simple(session, Kind::SetGeometry, None);
    };
    let task = session
        .task(Kind::SetGeometry, Some(device))?
        .carrying(text(&numbers.join(" ")));
    let answer = session.run(&task)?;
    when_verbose(session, &answer)
}
